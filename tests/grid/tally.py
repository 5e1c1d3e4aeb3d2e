"""What the cases of each cell showed, added up as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Error = tuple[int, float]  # steps of integers, relative difference of real numbers


@dataclass
class Sum:
    """Cases, and the worst difference seen in them."""

    cases: int = 0
    steps: int = 0
    relative: float = 0.0

    def add(self, difference: dict[str, Any]) -> None:
        self.cases += 1
        self.steps = max(self.steps, difference["steps"])
        self.relative = max(self.relative, difference["relative"])


@dataclass
class CellTally:
    """One cell. closest  of each case the kernel set that agrees best. silent  cases without an official answer."""

    cases: int = 0
    official: dict[str, Sum] = field(default_factory=dict)
    closest: Sum = field(default_factory=Sum)
    targets: dict[str, Sum] = field(default_factory=dict)
    silent: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, list[str]]] = field(default_factory=list)

    def add(self, record: dict[str, Any]) -> None:
        self.cases += 1
        for name, d in record["official"].items():
            self.official.setdefault(name, Sum()).add(d)
        for name, d in record["targets"].items():
            self.targets.setdefault(name, Sum()).add(d)
        if record["official"]:
            self.closest.add(
                min(record["official"].values(), key=lambda d: (bool(d["problem"]), d["steps"], d["relative"]))
            )
        else:
            self.silent += 1
            self.reasons.update(set(record["refused"].values()))
        if record["raised"]:
            self.refused += 1
        if record["problems"]:
            self.failed.append((record["number"], record["problems"]))


def _badness(difference: dict[str, Any]) -> tuple[bool, int, float]:
    return bool(difference["problem"]), difference["steps"], difference["relative"]


def tally(records: Iterable[dict[str, Any]]) -> dict[str, CellTally]:
    """The sums by cell."""
    cells: dict[str, CellTally] = {}
    for record in records:
        cells.setdefault(record["cell"], CellTally()).add(record)
    return cells
