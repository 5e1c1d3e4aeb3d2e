"""Operators without a generator of their own: the rows of the operator tests, with other data."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from lithe.types import TensorType
from tests.grid.cells import Cell
from tests.grid.draw import Draw, Trial
from tests.ops.cases import Case, every_case


@functools.cache
def rows() -> dict[str, list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in every_case():
        found.setdefault(case.op, []).append(case)
    return found


def fitting(cell: Cell) -> list[Case]:
    """The rows of the operator whose operands have the element types of one of the cell's combinations."""
    words = cell.combinations
    return [c for c in rows().get(cell.op, []) if not words or any(_fits(c, *pair) for pair in words)]


def _fits(case: Case, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> bool:
    return _side(case.inputs, inputs) and _side(case.outputs, outputs)


def _side(types: tuple[TensorType | None, ...], words: tuple[str, ...]) -> bool:
    if len(types) > len(words) and not (words and words[-1].endswith("*")):
        return False
    padded = [words[min(i, len(words) - 1)] for i in range(len(types))]
    return all(t is None or t.dtype.name == w.rstrip("?*q") for t, w in zip(types, padded, strict=True))


def from_rows(d: Draw) -> Trial:
    """A row of these types; data that the row leaves to chance, and float constants, are drawn anew."""
    found = fitting(d.cell)
    if not found:
        raise LookupError("the operator has no generator, and no row of the operator tests has these types")
    return Trial(redrawn(d, d.choice(found)))


def redrawn(d: Draw, case: Case) -> Case:
    """The case under the draw's name, with other data where the case leaves it to chance, and other float constants."""
    low, high = (-3.0 if case.low is None else case.low), (3.0 if case.high is None else case.high)
    values = dict(case.values)
    constants = dict(case.constants)
    for i, t in enumerate(case.inputs):
        if t is None or i in values:
            continue
        if i not in constants:
            integer = t.dtype.is_integer and t.quantization is None
            reach = (low, high) if not integer else (case.low or -100, case.high or 100)
            values[i] = d.values(t, *reach)
        elif t.dtype.is_float and t.size > 1:
            constants[i] = np.asarray(d.random.permutation(np.asarray(constants[i]).reshape(-1))).reshape(t.shape)
    return replace(case, name=f"{d.cell.types}#{d.number}", values=values, constants=constants)
