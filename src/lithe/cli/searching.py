"""The options of `lithe quantize --keep`: what the search is told, and the picture of what it found."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from lithe.cli.output import bytes_text

if TYPE_CHECKING:
    from lithe.optimize.search import Outcome
    from lithe.runtime.model import Model

PICTURES = (".svg", ".html")


class Share(click.ParamType[tuple[str, float]]):
    """accuracy=0.99"""

    name = "accuracy=SHARE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        name, _, share = value.partition("=")
        try:
            return name, float(share)
        except ValueError:
            self.fail(f"{value!r} is not like accuracy=0.99", param, ctx)


OPTIONS = (
    click.option("--keep", type=Share(), help="Find the cheapest recipe that keeps this share of accuracy."),
    click.option("--labels", type=click.Path(path_type=Path), metavar="LABELS",
                 help="With --keep: the number of the right class of each sample, .npy or text with one a line."),
    click.option("--labelled", type=click.Path(path_type=Path), metavar="DATA",
                 help="With --keep: the samples that the labels belong to, if not those of --calibrate."),
    click.option("--cost", type=click.Choice(("size", "latency", "both")), default="size", show_default=True,
                 help="With --keep: what is to be small."),
    click.option("--seconds", type=click.FloatRange(0, min_open=True), help="With --keep: the time that it may take."),
    click.option("--state", type=click.Path(path_type=Path), metavar="FILE",
                 help="With --keep: written after each trial; an interrupted search goes on from there."),
    click.option("--picture", type=click.Path(path_type=Path), metavar="FILE",
                 help="With --keep: a picture of size, latency and accuracy of what was tried, .svg or .html."),
    click.option("--workers", metavar="WORKERS", help="dask, dask://host:port, ray or ray://host:port."),
)  # fmt: skip


def options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def refuse(given: Mapping[str, Any]) -> None:
    """Options that mean nothing without --keep."""
    for name, value in given.items():
        if value is not None:
            raise click.UsageError(f"{name} belongs to a search: say what to --keep")


@dataclass(frozen=True)
class Again:
    """Samples that can be run through again."""

    begin: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.begin()


def find(
    model: Model, calibrate: Iterator[Any] | None, samples: Callable[[Path], Iterator[Any]], data: Path | None,
    keep: tuple[str, float], labels: Path | None, labelled: Path | None, picture: Path | None, state: Path | None,
    **how: Any,
) -> Outcome:  # fmt: skip
    """What the search finds; the picture is not drawn yet."""
    from lithe.errors import InputError
    from lithe.optimize.search import search

    source = labelled or data
    if labels is None or source is None:
        raise click.UsageError("--keep needs --labels, and the samples that they belong to")
    if picture is not None and picture.suffix not in PICTURES:
        raise InputError(
            f"'{picture}' is no picture that can be drawn", hint=f"its name ends in {' or '.join(PICTURES)}"
        )
    judged = Again(lambda: samples(source)), _numbers(labels)
    with _bar() as progress:
        return search(model, calibrate, keep=dict([keep]), labelled=judged, resume=state, progress=progress, **how)


def _numbers(labels: Path) -> Any:
    import io

    import numpy as np

    from lithe.cli.files import read_bytes
    from lithe.errors import InputError

    content = read_bytes(labels)
    try:
        if content.startswith(b"\x93NUMPY"):
            return np.load(io.BytesIO(content), allow_pickle=False)
        return np.array([int(line) for line in content.decode().split()])
    except ValueError as cause:
        raise InputError(
            f"'{labels}' holds no labels: {cause}", hint="one number a line, or .npy of integers"
        ) from cause


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """On a terminal, how many trials were made of how many."""
    if not sys.stderr.isatty() or os.environ.get("LITHE_NO_PROGRESS"):
        yield lambda done, expected: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("searching"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("searching")
        yield lambda done, expected: progress.update(task, completed=done, total=expected)


def facts(outcome: Outcome) -> dict[str, Any]:
    """For --json."""
    return {
        "accuracy": outcome.chosen.accuracy, "accuracy_float": outcome.exact.accuracy, "answers": outcome.answers,
        "gain_between": outcome.gain, "complete": outcome.complete, "choice": outcome.chosen.as_json()["choice"],
        "uniform": outcome.uniform.as_json()["choice"], "uniform_bytes": outcome.uniform.bytes,
        "trials": [t.as_json() for t in outcome.trials],
    }  # fmt: skip


# the picture


def draw(outcome: Outcome, path: Path, title: str) -> None:
    """Writes the picture: a page, or a drawing that can be put on one."""
    from lithe.cli.files import write_whole

    text = _page(outcome, title) if path.suffix == ".html" else _drawing(outcome)

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_whole(path, write)


def _charts(outcome: Outcome) -> list[str]:
    """Accuracy over size, and over latency."""
    from lithe.bench.charts import Point, front, number

    least = 100 * outcome.share * (outcome.exact.accuracy or 0.0)

    def chart(x: Callable[[Any], float], across: tuple[str, Callable[[float], str]]) -> str:
        known = [t for t in outcome.evaluated if x(t)]
        points = []
        for t in known:
            kind = "orange" if t is outcome.chosen else "green" if t in outcome.kept else "grey"
            title = f"{t.choice}: {bytes_text(t.bytes)}, accuracy {100 * (t.accuracy or 0):.2f} %"
            name = "chosen" if t is outcome.chosen else t.choice.rest if t.is_uniform else ""
            points.append(Point(x(t), 100 * (t.accuracy or 0), 6 if t is outcome.chosen else 4, kind, title, name))
        stairs: list[tuple[float, float]] = []
        for p in sorted(points, key=lambda p: (p.x, -p.y)):
            if not stairs or p.y > stairs[-1][1]:
                stairs.append((p.x, p.y))
        return front(points, stairs, least, across, "accuracy, %")

    return [
        chart(lambda t: t.bytes, ("size of the file", lambda v: bytes_text(round(v)))),
        chart(lambda t: t.latency or 0.0, ("time of an inference, the float model's being 1", number)),
    ]


def _drawing(outcome: Outcome) -> str:
    from lithe.bench.charts import WIDTH
    from lithe.bench.page import STYLE

    height = 360
    inner = "".join(
        c.replace("<svg ", f'<svg y="{n * height}" width="{WIDTH}" height="{height}" ', 1)
        for n, c in enumerate(_charts(outcome))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * height}"><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" style="fill: var(--card)"/>{inner}</svg>\n'
    )


def _page(outcome: Outcome, title: str) -> str:
    from html import escape

    from lithe.bench.page import page

    size, latency = _charts(outcome)
    about = "".join(f"<dt></dt><dd>{escape(line)}</dd>" for line in str(outcome).splitlines())
    head = "<tr><th>choice</th><th class=n>bytes</th><th class=n>accuracy</th><th class=n>time</th></tr>"
    rows = "".join(
        f"<tr><td class=quiet>{escape(str(t.choice))}</td><td class=n>{t.bytes}</td>"
        f"<td class=n>{100 * (t.accuracy or 0):.2f} %</td><td class=n>{t.latency or 0:.2f}</td></tr>"
        for t in sorted(outcome.evaluated, key=lambda t: t.bytes)
    )
    sections = [
        ("Size and accuracy", size),
        ("Latency and accuracy", latency),
        ("What was tried", f"<table>{head}{rows}</table>"),
    ]
    return page(f"What keeps the accuracy of {title}", about, sections)
