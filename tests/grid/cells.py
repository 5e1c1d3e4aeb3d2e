"""The cells of the grid: one operator with one combination of element types that its class declares."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from lithe.ops import REGISTRY, Op

CASES_A_CELL = 200
CASES_A_COMBINATION = 20

# Variables of signatures that stand for indices, axes, counts and widths of biases: a cell has all of their values.
CYCLED = {"I", "A", "K", "B"}
ANY = "any"
MOST_CELLS_A_LINE = 32  # a line with more (CAST, BITCAST) has a cell for each value of its first variable

Words = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Cell:
    """types names the element types; combinations are the signatures that its cases take in turn."""

    op: str
    types: str
    combinations: tuple[Words, ...]

    def __str__(self) -> str:
        return f"{self.op}/{self.types}"

    @property
    def size(self) -> int:
        return max(CASES_A_CELL, CASES_A_COMBINATION * len(self.combinations))

    def seed(self, number: int) -> int:
        return zlib.crc32(f"{self}#{number}".encode())


def cells(keep: set[str] | None = None) -> list[Cell]:
    """The cells of all registered operators, or of those named, by code, the custom ones last."""
    ops = sorted(REGISTRY.by_name.values(), key=lambda op: (op.code is None, op.code or 0, op.name))
    return [cell for op in ops if keep is None or op.name in keep for cell in cells_of(op)]


def cells_of(op: type[Op]) -> list[Cell]:
    """The cells of an operator; one that takes any types has one cell of that name."""
    found: dict[str, list[Words]] = {} if op.signatures else {ANY: []}
    for signature in op.signatures:
        variables = [v for v in signature.variables if v not in CYCLED]
        kept = variables if len(signature.expanded()) <= MOST_CELLS_A_LINE else variables[:1]
        kept = kept or list(signature.variables)
        names = [tuple(signature.inputs), tuple(signature.outputs)]
        for words in signature.expanded():
            found.setdefault(label(names, words, kept), []).append(words)
    return [Cell(op.name, types, tuple(words)) for types, words in found.items()]


INDICES = {"int32", "bool"}  # fixed types of operands that choose or place, not computed with


def label(names: list[tuple[str, ...]], words: Words, kept: list[str]) -> str:
    """The distinct element types of the operands that the name of a cell tells: those that vary, and fixed data."""
    sides = []
    for side_names, side_words in zip(names, words, strict=True):
        pairs = [(n.rstrip("?*"), w.rstrip("?*")) for n, w in zip(side_names, side_words, strict=True)]
        sides.append({w: n != w for n, w in pairs if n in kept or n == w})  # type: whether it varies
    inputs, outputs = sides
    told = [w for w, varies in inputs.items() if varies or w not in INDICES] or list(inputs)
    new = [w for w, varies in outputs.items() if w not in told and (varies or not told or w.endswith("q"))]
    return "-to-".join("+".join(side) for side in (told, new) if side)
