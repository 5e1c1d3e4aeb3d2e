"""Parts, ends, places and axes of tensors in the terms that all frameworks share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, INT32


def pad(b: Builder, x: Tensor, padding: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """The tensor with (before, after) more elements of this value in each dimension; negative numbers cut off."""
    if any(a < 0 or z < 0 for a, z in padding):
        begin = [max(-a, 0) for a, _ in padding]
        size = [n - s + min(z, 0) for n, s, (_, z) in zip(x.type.shape, begin, padding, strict=True)]
        b.require(all(is_open(m) == is_open(n) for m, n in zip(size, x.type.shape, strict=True)))
        x = cut(b, x, begin, size)
        padding = [(max(a, 0), max(z, 0)) for a, z in padding]
    if not any(a or z for a, z in padding):
        return x
    pairs = b.constant([list(p) for p in padding])
    if value == 0:
        return b("PAD", x, pairs)
    return b("PADV2", x, pairs, b.constant(value, x.type.dtype))


def cut(b: Builder, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
    """x[begin : begin + size]; the end counts from the back where the dimension is open."""
    if all(not is_open(n) or s + n == have for s, n, have in zip(begin, size, x.type.shape, strict=True)):
        return b.slice(x, begin, size)
    end = [s + n - have if is_open(have) else s + n for s, n, have in zip(begin, size, x.type.shape, strict=True)]
    mask = sum(1 << i for i, (e, have) in enumerate(zip(end, x.type.shape, strict=True)) if is_open(have) and e == 0)
    operands = [x, b.constant([int(s) for s in begin]), b.constant(end), b.constant([1] * len(end))]
    return b.sized("STRIDED_SLICE", operands, size, end_mask=mask)


def split(b: Builder, x: Tensor, parts: int, axis: int = -1) -> list[Tensor]:
    """Equal parts of a tensor along an axis."""
    axis %= x.type.rank
    if x.data is not None:
        return [b.constant(np.ascontiguousarray(p), x.type.dtype) for p in np.split(x.data, parts, axis)]
    return b.several("SPLIT", b.constant(axis), x, dtypes=[x.type.dtype] * parts, num_splits=parts)


def sliced(b: Builder, x: Tensor, axis: int, start: int | None, end: int | None, step: int = 1) -> Tensor:
    """x[start:end:step] along an axis, with Python's meaning of negative and large numbers."""
    n = x.type.shape[axis]
    first, last = (_inside(v, n, default) for v, default in ((start, 0), (end, n)))
    last = max(last, first)
    if first == 0 and last == n and step == 1:
        return x
    begin, shape = [0] * x.type.rank, list(x.type.shape)
    b.require(not is_open(first), "a slice that begins where an open dimension says")
    begin[axis], shape[axis] = first, -(-(last - first) // step)
    if step == 1 and (not is_open(n) or n - last < n // 2 or last < n // 2):
        return cut(b, x, begin, shape)
    b.require(not is_open(last) or last == n, "a slice that ends where an open dimension says")
    mask = sum(1 << i for i in range(x.type.rank) if i != axis or last == n)
    ends = [last if i == axis and last != n else 0 for i in range(x.type.rank)]
    steps = [step if i == axis else 1 for i in range(x.type.rank)]
    operands = [x, b.constant(begin), b.constant(ends), b.constant(steps)]
    return b.sized("STRIDED_SLICE", operands, shape, begin_mask=0, end_mask=mask)


def _inside(value: int | None, n: int, default: int) -> int:
    if value is None:
        return default
    value = int(value)
    return max(0, min(value + n if value < 0 else value, n))


def line(b: Builder, n: int) -> Tensor:
    """0, 1, ... n - 1 as int32."""
    if not is_open(n):
        return b.constant(np.arange(n))
    return b.sized("RANGE", [b.constant(0), b.reshape(b.size(n), ()), b.constant(1)], (n,))


def non_negative(b: Builder, index: Tensor, n: int) -> Tensor:
    """Places counted from the front, as int32; negative ones count from the end."""
    index = b.int32(index)
    if index.data is not None and not is_open(n):
        return b.constant(np.where(index.data < 0, index.data + n, index.data))
    size = b.reshape(b.size(n), ()) if is_open(n) else b.constant(n)
    negative = b("LESS", index, b.constant(0), dtype=BOOL)
    return b("SELECT_V2", negative, b("ADD", index, size), index, dtype=INT32)


def channels_last(b: Builder, x: Tensor) -> Tensor:
    return b.transpose(x, [0, *range(2, x.type.rank), 1])


def channels_first(b: Builder, x: Tensor) -> Tensor:
    return b.transpose(x, [0, x.type.rank - 1, *range(1, x.type.rank - 1)])


def along_channels(b: Builder, vector: Tensor, rank: int) -> Tensor:
    """A number for each channel, to be combined with [batch, channels, *places]."""
    return b.reshape(vector, (vector.type.size, *[1] * (rank - 2)))
