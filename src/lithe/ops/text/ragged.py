"""Ragged tensors: rows of different lengths, kept as their elements and a partition of these."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.fill import MOST_ELEMENTS
from lithe.ops.layout import PLAIN, integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

FIRST, ROW_IDS, SPLITS = "FIRST_DIM_SIZE", "VALUE_ROWIDS", "ROW_SPLITS"


@register
class RaggedTensorToTensor(Op):
    """A ragged tensor with its rows filled up, or cut, to one length.

    shape      the wanted one; where it is negative (or a scalar) the longest row decides.
    values     the elements; their own axes behind the first stay as they are.
    partition  from the outermost axis inwards, of the kinds that row_partition_types names: FIRST_DIM_SIZE, the
               number of rows, only first; ROW_SPLITS, where rows begin and the last ends; VALUE_ROWIDS, each
               element's row.
    The longest of rows given by ROW_SPLITS counts at least 1, as in the official kernel.
    Source: TensorFlow Text, core/kernels/ragged_tensor_to_tensor_tflite.cc (behaviour).
    """

    name = "RaggedTensorToTensor"
    operands = (("shape", "values", "default_value", "partition*"), ("output",))
    types = f"S T T P* -> T: S= int32 int64; T= {PLAIN}; P= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        row_partition_types: tuple[str, ...]

    def infer(site: Site) -> list[Shape]:
        kinds = site.attrs.row_partition_types
        allowed = all(kind in (SPLITS, ROW_IDS) for kind in kinds[1:]) and kinds[:1] in ((SPLITS,), (FIRST,))
        site.require(allowed, f"row_partition_types are {SPLITS} and {ROW_IDS} after {FIRST}, not {', '.join(kinds)}")
        site.require(
            len(site.inputs) == len(kinds) + 3, f"must have {len(kinds)} partitions, has {len(site.inputs) - 3}"
        )
        for i, kind in enumerate(kinds):
            if kind == FIRST:
                site.require(site.input(i + 3).size == 1, f"must have one element, is {site.input(i + 3)}", i + 3)
            else:
                site.rank(i + 3, 1)
        site.require(site.input(2).size == 1, f"must have one element, is {site.input(2)}", 2)
        values, depth = site.input(1), len(kinds) - (kinds[0] == FIRST)
        site.require(values.rank > 0, f"must have rows, is {values}", 1)
        rank = depth + values.rank
        shape = site.rank(0, 0, 1)
        site.require(shape.rank == 0 or shape.size == rank, f"must have {rank} elements, is {shape}", 0)
        wanted = known_integers(site, 0) if shape.rank else None
        outer = [None if n < 0 else n for n in wanted[: depth + 1]] if wanted else [None] * (depth + 1)
        return [(*outer, *values.shape[1:])]

    def evaluate(
        site: Site, shape: np.ndarray, values: np.ndarray, default: np.ndarray, *partition: np.ndarray
    ) -> list[np.ndarray]:
        kinds = site.attrs.row_partition_types
        first = kinds[0] == FIRST
        rows = int(partition[0].reshape(-1)[0]) if first else len(partition[0]) - 1
        if not 0 <= rows <= MOST_ELEMENTS:
            raise ExecutionError(f"a ragged tensor cannot have {rows} rows")
        levels = list(zip(kinds[first:], partition[first:], strict=True))
        wanted = integers(shape) if shape.ndim else [-1] * (len(levels) + 1)
        sizes = [rows if wanted[0] < 0 else wanted[0]]
        target = np.where(np.arange(rows) < sizes[0], np.arange(rows), -1)  # of each row, then of each element of it
        for (kind, part), size in zip(levels, wanted[1:], strict=False):
            owner, place, longest = _members(kind, part.astype(np.int64), len(target))
            sizes.append(longest if size < 0 else size)
            if math.prod((*sizes, *values.shape[1:])) > MOST_ELEMENTS:
                raise ExecutionError(f"a result of shape {[*sizes, *values.shape[1:]]} is too large")
            inside = (target[owner] >= 0) & (place < sizes[-1])
            target = np.where(inside, target[owner] * sizes[-1] + place, -1)
        if len(target) != len(values):
            raise ExecutionError(f"the partition is of {len(target)} elements, there are {len(values)}")
        result = np.full((math.prod(sizes), *values.shape[1:]), default.reshape(-1)[0], values.dtype)
        result[target[target >= 0]] = values[target >= 0]
        return [result.reshape(*sizes, *values.shape[1:])]


def _members(kind: str, part: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, int]:
    """For each element of a partition its row and its place in the row; and the length of the longest row."""
    if kind == SPLITS:
        if len(part) != rows + 1 or part[0] != 0 or (np.diff(part) < 0).any() or part[-1] > MOST_ELEMENTS:
            raise ExecutionError(f"row splits of {rows} rows must rise from 0, are {integers(part[:8])}")
        owner = np.repeat(np.arange(rows), np.diff(part))
        return owner, np.arange(len(owner)) - part[owner], int(np.diff(part).max(initial=1)) if rows else 0
    if ((part < 0) | (part >= rows)).any():
        raise ExecutionError(f"row ids must lie in [0, {rows}), are {integers(part[:8])}")
    begins = np.diff(part, prepend=-1) != 0
    place = np.arange(len(part)) - np.flatnonzero(begins)[np.cumsum(begins) - 1] if len(part) else part
    return part, place, int(place.max(initial=-1)) + 1
