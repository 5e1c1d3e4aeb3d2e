"""Sparse constants: a tree of dense and compressed levels, expanded when read and compressed when written.

Source: schema.fbs, SparsityParameters. The levels are the tensor's n dimensions and k block dimensions in
traversal order; block dimension n + i splits dimension block_map[i]. A dense level has all of its indices,
a compressed (CSR) level lists them: segments[p] .. segments[p + 1] are those under parent p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.types import Shape

_VECTORS = {"Int32Vector": np.int32, "Uint16Vector": np.uint16, "Uint8Vector": np.uint8}


@dataclass(frozen=True)
class Level:
    """One level: `size` indices for every parent, or those that (segments, indices) list."""

    size: int
    segments: np.ndarray | None = field(default=None, hash=False, compare=False)
    indices: np.ndarray | None = field(default=None, hash=False, compare=False)
    record: dict[str, Any] | None = field(default=None, hash=False, compare=False, repr=False)


@dataclass(frozen=True)
class Sparsity:
    """How a constant's elements are stored; `levels` are in traversal order."""

    traversal_order: tuple[int, ...]
    block_map: tuple[int, ...]
    levels: tuple[Level, ...]


def _vector(union: tuple[str, dict[str, Any]] | None) -> np.ndarray:
    values = None if union is None else union[1]["values"]
    if values is None:
        raise ModelError("a compressed level must list its segments and indices")
    return values.astype(np.int64)


def read(record: dict[str, Any], shape: Shape) -> Sparsity:
    """The structure of one sparse tensor, checked against its shape."""
    order = tuple(int(v) for v in (record["traversal_order"] if record["traversal_order"] is not None else ()))
    blocks = tuple(int(v) for v in (record["block_map"] if record["block_map"] is not None else ()))
    levels = record["dim_metadata"] or []
    n = len(shape)
    if len(order) != n + len(blocks) or len(levels) != len(order) or sorted(order) != list(range(len(order))):
        raise ModelError(f"traversal order {order} must be a permutation of {n} dimensions and {len(blocks)} blocks")
    if any(not 0 <= b < n for b in blocks) or len(set(blocks)) != len(blocks):
        raise ModelError(f"block map {blocks} must name dimensions of a tensor of rank {n}, each once")
    parsed = []
    for level in levels:
        if level["format"] == "DENSE":
            parsed.append(Level(level["dense_size"]))
        elif level["format"] == "SPARSE_CSR":
            segments, indices = _vector(level["array_segments"]), _vector(level["array_indices"])
            parsed.append(Level(0, segments, indices, level))
        else:
            raise ModelError(f"there is no sparse dimension format {level['format']}")
    return Sparsity(order, blocks, tuple(parsed))


def _sizes(s: Sparsity, shape: Shape) -> list[int]:
    """The extent of every dimension and block dimension."""
    sizes = [*shape, *(s.levels[s.traversal_order.index(len(shape) + i)].size for i in range(len(s.block_map)))]
    for i, d in enumerate(s.block_map):
        block = sizes[len(shape) + i]
        if block <= 0 or shape[d] % block:
            raise ModelError(f"dimension {d} of size {shape[d]} cannot be split into blocks of {block}")
        sizes[d] //= block
    return sizes


def positions(s: Sparsity, shape: Shape) -> np.ndarray:
    """The flat position in the dense tensor of every stored value, in the order of storage."""
    sizes = _sizes(s, shape)
    limit = math.prod(shape)
    coordinates: list[np.ndarray] = [np.zeros(1, np.int64)] * len(sizes)
    count = 1
    for level, d in zip(s.levels, s.traversal_order, strict=True):
        if level.segments is None or level.indices is None:
            if level.size != sizes[d]:
                raise ModelError(f"a dense level of dimension {d} has size {level.size}, the shape says {sizes[d]}")
            if count * level.size > limit:
                raise ModelError(f"a sparse tensor lists {count * level.size} values, its shape has room for {limit}")
            repeats, own = np.full(count, level.size), np.tile(np.arange(level.size), count)
        else:
            segments, own = level.segments, level.indices
            if (
                len(segments) != count + 1
                or segments[0] != 0
                or (np.diff(segments) < 0).any()
                or segments[-1] != len(own)
            ):
                raise ModelError(f"segments of dimension {d} must rise from 0 to {len(own)} in {count + 1} steps")
            if len(own) and (own.min() < 0 or own.max() >= sizes[d]):
                raise ModelError(f"indices of dimension {d} must be in [0, {sizes[d]})")
            repeats = np.diff(segments)
        if len(own) > limit:
            raise ModelError(f"a sparse tensor lists {len(own)} values, its shape has room for {limit}")
        coordinates = [np.repeat(c, repeats) if len(c) == count else c for c in coordinates]
        coordinates[d] = own
        count = len(own)
    full = [np.broadcast_to(c, (count,)) for c in coordinates]
    for i, d in enumerate(s.block_map):
        full[d] = full[d] * sizes[len(shape) + i] + full[len(shape) + i]
    flat = np.zeros(count, np.int64)
    for extent, c in zip(shape, full[: len(shape)], strict=True):
        flat = flat * extent + c
    return flat


def expand(s: Sparsity, shape: Shape, values: np.ndarray) -> np.ndarray:
    """The dense tensor."""
    at = positions(s, shape)
    if len(at) != values.size:
        raise ModelError(f"the sparse structure lists {len(at)} values, the buffer holds {values.size}")
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[at] = values
    return dense.reshape(shape)


def compress(s: Sparsity, dense: np.ndarray) -> np.ndarray | None:
    """The stored values, or None when the dense tensor has a value where the structure has no place."""
    at = positions(s, dense.shape)
    values = dense.reshape(-1)[at]
    rest = dense.reshape(-1).copy()
    rest[at] = 0
    return None if rest.any() else values


def write(s: Sparsity) -> dict[str, Any]:
    """The schema's record."""
    levels = [
        {"format": "DENSE", "dense_size": level.size} if level.record is None else level.record for level in s.levels
    ]
    return {"traversal_order": s.traversal_order, "block_map": s.block_map, "dim_metadata": levels}
