"""The file from which an interrupted search goes on: what was tried, and of which search it is.

It is written anew after each trial, beside its place, and then moved there: the file is whole at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lithe.errors import FileMissing, InputError

SCHEMA = "lithe.search/1"


class State:
    """The trials that a file holds. Without a path nothing is kept.

    settings  what a search is of: {name: value that JSON knows}.
    trials    those that the file had.

    Raises InputError where the file is none of a search, is of another one, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._settings = json.loads(json.dumps(settings))
        self.trials: list[dict[str, Any]] = []
        if self._path is not None and self._path.exists():
            self.trials = self._read(self._path)
        self._write()

    def add(self, trial: dict[str, Any]) -> None:
        self.trials.append(trial)
        self._write()

    def damaged(self) -> InputError:
        return InputError(f"'{self._path}' is not the state of a search, or is damaged", hint=REMOVE)

    def _read(self, path: Path) -> list[dict[str, Any]]:
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            schema, settings, trials = held["schema"], held["settings"], held["trials"]
            whole = schema == SCHEMA and isinstance(settings, dict) and all(isinstance(t, dict) for t in trials)
        except OSError as cause:
            raise FileMissing(f"'{path}' cannot be opened: {cause.strerror}", hint="name another file") from cause
        except (ValueError, KeyError, TypeError) as cause:
            raise self.damaged() from cause
        if not whole:
            raise self.damaged()
        other = [name for name, value in self._settings.items() if settings.get(name) != value]
        if other:
            raise InputError(f"'{path}' is the state of another search: of other {', '.join(other)}", hint=REMOVE)
        return trials

    def _write(self) -> None:
        if self._path is None:
            return
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        held = {"schema": SCHEMA, "settings": self._settings, "trials": self.trials}
        try:
            partial.write_text(json.dumps(held, indent=1), encoding="utf-8")
            os.replace(partial, self._path)
        except OSError as cause:
            raise InputError(
                f"'{self._path}' cannot be written: {cause.strerror}", hint="name a folder that exists"
            ) from cause
        finally:
            with suppress(OSError):
                partial.unlink()


REMOVE = "remove it to begin anew, or name another file"
