"""What a random case of each operator looks like: one function for each kind of operator, a file a family."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.grid.cells import Cell
from tests.grid.families.registry import GENERATORS, Generator
from tests.grid.families.rows import fitting, from_rows

for _path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    importlib.import_module(f"{__name__}.{_path.stem}")

# Builtin operators of which no random case alone says anything, and what holds them instead.
CALLS = "it runs other graphs of the model: held by the tests of control flow on whole models"
SHARED = "its value is a resource that other operators share: held by the tests of resources on whole models"
RANDOM = "its results are random numbers: held by the tests of the streams and their distribution"
WITHOUT: dict[str, str] = {
    **dict.fromkeys(("IF", "WHILE", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE"), CALLS),
    **dict.fromkeys(("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE"), SHARED),
    **dict.fromkeys(("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"), SHARED),
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL"), RANDOM),
}


def generator(op: str) -> Generator:
    """What draws cases of the operator; without a function of its own, its rows with other data."""
    return GENERATORS.get(op, from_rows)


def has_cases(cell: Cell) -> bool:
    """Whether cases of the cell can be drawn: by a function, or from rows of the operator tests with these types."""
    return cell.op not in WITHOUT and (cell.op in GENERATORS or bool(fitting(cell)))


__all__ = ["GENERATORS", "WITHOUT", "Generator", "generator", "has_cases"]
