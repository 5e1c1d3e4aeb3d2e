"""Sparse constants: a tree of dense and compressed levels, expanded when read and compressed when written.

Source: schema.fbs, SparsityParameters. The levels are the tensor's n dimensions and k block dimensions in
traversal order; block dimension n + i splits dimension block_map[i]. A dense level has all of its indices,
a compressed (CSR) level lists them: segments[p] .. segments[p + 1] are those under parent p.

    read, write         the schema's record
    expand, compress    stored values <-> dense elements
    compressed, smallest   a structure for a constant, and the one that takes the fewest bytes; DENSIFIED: who takes it
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.types import Shape

RECORD_BYTES = 256  # about what the structure of a tensor takes beside its vectors
# Of indices, the narrowest first.
_WIDTHS: dict[str, Any] = {"Uint8Vector": np.uint8, "Uint16Vector": np.uint16, "Int32Vector": np.int32}


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

    @property
    def block(self) -> int:
        """How many neighbouring elements are stored as a whole."""
        return math.prod(level.size for level in self.levels[len(self.levels) - len(self.block_map) :])


# Operators, with the types of their values and weights, that the official runtime computes with weights from a DENSIFY,
# as quickly as with dense ones. Others it refuses. Its own products of sparse weights are slower than dense ones with
# fewer than 80 to 90 % of zeros (float32: up to 3 times, int8: 4 to 25 times), and wrong for int8 weights beside float
# values. Found by running LiteRT 2.3, with its delegate for processors.
DENSIFIED = frozenset({
    ("FULLY_CONNECTED", "float32", "float32"),
    ("CONV_2D", "float32", "float32"),
    ("CONV_2D", "int8", "int8"),
    ("DEPTHWISE_CONV_2D", "float32", "float32"),
    ("DEPTHWISE_CONV_2D", "int8", "int8"),
})  # fmt: skip


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


# Choosing a structure.


def compressed(dense: np.ndarray, block: int = 1, axis: int = -1, inner: int = -1) -> Sparsity:
    """The structure that lists, along dimension `inner`, the blocks of `block` neighbours along `axis` with a value.

    Blocks must divide the axis. The other dimensions are dense levels before the list; the block is one behind it.

    >>> compressed(np.eye(2)).levels[1].indices
    array([0, 1])
    """
    rank = dense.ndim
    axis, inner = axis % rank, inner % rank
    split = [*dense.shape[: axis + 1], block, *dense.shape[axis + 1 :]]
    split[axis] //= block
    filled = (dense != 0).reshape(split).any(axis=axis + 1)
    outer = [d for d in range(rank) if d != inner]
    rows = filled.transpose(*outer, inner).reshape(-1, filled.shape[inner])
    segments = np.concatenate([[0], np.count_nonzero(rows, axis=1).cumsum()])
    indices = np.nonzero(rows)[1]
    record = {"format": "SPARSE_CSR", "dense_size": 0, "array_segments": _narrowest(segments),
              "array_indices": _narrowest(indices)}  # fmt: skip
    levels = (*(Level(filled.shape[d]) for d in outer), Level(0, segments, indices, record))
    if block == 1:
        return Sparsity((*outer, inner), (), levels)
    return Sparsity((*outer, inner, rank), (axis,), (*levels, Level(block)))


def _narrowest(values: np.ndarray) -> tuple[str, dict[str, Any]]:
    largest = int(values.max(initial=0))
    name = next(name for name, width in _WIDTHS.items() if largest <= np.iinfo(width).max)
    return name, {"values": values.astype(_WIDTHS[name])}


def stored_bytes(s: Sparsity, itemsize: int) -> int:
    """The size in a file of a constant of this structure that `compressed` made, records and all."""
    (record,) = (level.record for level in s.levels if level.record is not None)
    vectors = sum(record[key][1]["values"].nbytes for key in ("array_segments", "array_indices"))
    return len(record["array_indices"][1]["values"]) * s.block * itemsize + vectors + RECORD_BYTES


def smallest(dense: np.ndarray) -> Sparsity | None:
    """The structure with which a constant takes the fewest bytes; None where none is smaller than all elements are."""
    if not dense.ndim or not dense.size:
        return None
    longest = int(np.argmax(dense.shape))
    ways = {(1, -1, -1), (4, -1, -1), (16, -1, -1), (4, 0, -1), (1, -1, longest - dense.ndim)}
    fitting = sorted(way for way in ways if dense.shape[way[1]] % way[0] == 0)
    made = [compressed(dense, *way) for way in fitting]
    found = min(made, key=lambda s: stored_bytes(s, dense.itemsize))
    return found if stored_bytes(found, dense.itemsize) < dense.nbytes else None


def bytes_at(shape: Shape, itemsize: int, block: int, sparsity: float) -> float:
    """About what a constant takes, of which a share of the blocks along the last axis is left out."""
    size, depth = math.prod(shape), shape[-1] // block
    left = (1 - sparsity) * size / block
    rows = size // shape[-1]
    widths = [next(np.dtype(w).itemsize for w in _WIDTHS.values() if most <= np.iinfo(w).max) for most in (depth, left)]
    return left * (block * itemsize + widths[0]) + (rows + 1) * widths[1] + RECORD_BYTES


def pays_from(shape: Shape, itemsize: int, block: int) -> float:
    """The share of blocks that must be zero for fewer bytes than all elements take; over 1 where none suffices."""
    if not shape or shape[-1] % block or not math.prod(shape):
        return math.inf
    dense = math.prod(shape) * itemsize
    shares = np.arange(1, 100) / 100
    return next((float(s) for s in shares if bytes_at(shape, itemsize, block, s) < dense), math.inf)
