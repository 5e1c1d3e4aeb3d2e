"""What every verb prints with: results to stdout, remarks and progress to stderr."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

PATIENCE_S = 1.0  # work shorter than this shows no progress


def print_json(verb: str, fields: dict[str, Any]) -> None:
    """One object, which names its own schema."""
    click.echo(json.dumps({"schema": f"lithe.{verb}/1", **fields}, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays as JSON knows them; bytes as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def remark(text: str) -> None:
    """A line for the person, not for the pipe."""
    click.echo(text, err=True)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows that something goes on, from the first second, on a terminal only."""
    if not sys.stderr.isatty() or os.environ.get("LITHE_NO_PROGRESS"):
        yield
        return
    finished = threading.Event()

    def show() -> None:
        if finished.wait(PATIENCE_S):
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            finished.wait()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of text in aligned columns; the columns in `right` stand at their right edge."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def bytes_text(count: int) -> str:
    """A size for people: 812 B, 3.4 kB, 4.1 MB (powers of ten)."""
    if count < 1000:
        return f"{count} B"
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"
