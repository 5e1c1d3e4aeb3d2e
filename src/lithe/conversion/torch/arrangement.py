"""What ATen's operators are in builtins: the same elements in another arrangement, parts, and new tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.parts import line, pad, sliced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.torch.rules import Call, cast, operand, rule, sequence
from lithe.ir.graph import Tensor
from lithe.types import BOOL, INT32


@rule("view", "_unsafe_view", "squeeze", "unsqueeze")
def another_shape(b: Builder, c: Call, x: Tensor) -> Tensor:
    b.require(x.type.dtype == c.result.dtype, "a view of the bits as another type")
    return b.reshape(x, c.result.shape)


@rule("permute")
def permute(b: Builder, c: Call, x: Tensor, dims: Sequence[int]) -> Tensor:
    return b.transpose(x, [int(d) % x.type.rank for d in dims])


@rule("transpose", "t")
def exchange(b: Builder, c: Call, x: Tensor, dim0: int | None, dim1: int | None) -> Tensor:
    order = list(range(x.type.rank))
    if not order or (c.name.startswith("t.") and len(order) < 2):
        return x
    first, second = (0 if dim0 is None else dim0), (1 if dim1 is None else dim1)
    order[first], order[second] = order[second], order[first]
    return b.transpose(x, order)


@rule("expand")
def expand(b: Builder, c: Call, x: Tensor) -> Tensor:
    shape = c.result.shape
    return b.broadcast(b.reshape(x, (*[1] * (len(shape) - x.type.rank), *x.type.shape)), shape)


@rule("repeat", "tile")
def repeat(b: Builder, c: Call, x: Tensor) -> Tensor:
    shape = c.result.shape
    x = b.reshape(x, (*[1] * (len(shape) - x.type.rank), *x.type.shape))
    if all(n == 1 or n == m for n, m in zip(x.type.shape, shape, strict=True)):
        return b.broadcast(x, shape)
    counts = [m // max(n, 1) for m, n in zip(shape, x.type.shape, strict=True)]
    return b.sized("TILE", [x, b.vector(counts)], shape)


@rule("repeat_interleave.self_int")
def repeat_each(b: Builder, c: Call, x: Tensor, repeats: int, dim: int | None) -> Tensor:
    if dim is None:
        x, dim = b.reshape(x, (x.type.size,)), 0
    axis = dim % x.type.rank
    shape = list(x.type.shape)
    wide = b.broadcast(b.reshape(x, [*shape[: axis + 1], 1, *shape[axis + 1 :]]),
                       [*shape[: axis + 1], int(repeats), *shape[axis + 1 :]])  # fmt: skip
    return b.reshape(wide, c.result.shape)


@rule("slice")
def part(b: Builder, c: Call, x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Tensor:
    return sliced(b, x, dim % x.type.rank, start, end, step)


@rule("select")
def select(b: Builder, c: Call, x: Tensor, dim: int, index: int) -> Tensor:
    axis = dim % x.type.rank
    n = x.type.shape[axis]
    at = index if index >= 0 else index + n
    if is_open(at):  # the last ones of an open dimension
        begin = [index if i == axis else 0 for i in range(x.type.rank)]
        end = [index + 1 if i == axis else 0 for i in range(x.type.rank)]
        mask = sum(1 << i for i in range(x.type.rank) if i != axis or index == -1)
        ones = b.constant([1] * x.type.rank)
        shape = [1 if i == axis else m for i, m in enumerate(x.type.shape)]
        return b.reshape(
            b.sized("STRIDED_SLICE", [x, b.constant(begin), b.constant(end), ones], shape, end_mask=mask),
            c.result.shape,
        )
    return b.reshape(sliced(b, x, axis, at, at + 1), c.result.shape)


@rule("cat")
def concatenate(b: Builder, c: Call, tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Empty vectors are left out, as torch does."""
    parts = [cast(b, t, c.result.dtype) for t in tensors if t.type.rank == len(c.result.shape) and t.type.size]
    axis = dim % len(c.result.shape)
    return parts[0] if len(parts) == 1 else b("CONCATENATION", *parts, axis=axis)


@rule("stack")
def stack(b: Builder, c: Call, tensors: Sequence[Tensor], dim: int) -> Tensor:
    parts = [cast(b, t, c.result.dtype) for t in tensors]
    axis = dim % len(c.result.shape)
    return b("PACK", *parts, values_count=len(parts), axis=axis)


@rule("split", "split_with_sizes")
def split(b: Builder, c: Call, x: Tensor, dim: int) -> Sequence[Tensor]:
    """Several parts that are all read come from one operator."""
    axis = dim % x.type.rank
    sizes = [r.shape[axis] for r in c.results]
    if len(sizes) == 1:
        return [x]
    if not is_fixed(sizes):
        b.require(False, "a split of an open dimension")
    if len(set(sizes)) == 1:
        return b.several("SPLIT", b.constant(axis), x, dtypes=[x.type.dtype] * len(sizes), num_splits=len(sizes))
    return b.several("SPLIT_V", x, b.constant(sizes), b.constant(axis), dtypes=[None] * len(sizes),
                     num_splits=len(sizes))  # fmt: skip


@rule("unbind")
def unbind(b: Builder, c: Call, x: Tensor, dim: int) -> Sequence[Tensor]:
    axis = dim % x.type.rank
    n = x.type.shape[axis]
    return b.several("UNPACK", x, dtypes=[None] * n, num=n, axis=axis)


@rule("flip")
def flip(b: Builder, c: Call, x: Tensor, dims: Sequence[int]) -> Tensor:
    for d in dims:
        x = b("REVERSE_V2", x, b.constant([d % x.type.rank]))
    return x


@rule("roll")
def roll(b: Builder, c: Call, x: Tensor, shifts: Any, dims: Any) -> Tensor:
    """The end of an axis comes to its beginning."""
    whole = x.type.shape
    axes = list(dims)
    if not axes:
        x, axes = b.reshape(x, (x.type.size,)), [0]
    for shift, dim in zip(sequence(shifts, len(axes)), axes, strict=True):
        axis = dim % x.type.rank
        n = x.type.shape[axis]
        b.require(not is_open(n), "a roll along an open dimension")
        cut_at = -shift % n
        if cut_at:
            x = b("CONCATENATION", sliced(b, x, axis, cut_at, n), sliced(b, x, axis, 0, cut_at), axis=axis)
    return b.reshape(x, whole)


def paddings(rank: int, flat: Sequence[int]) -> list[tuple[int, int]]:
    """torch's list, the last axis first, as pairs for all axes."""
    pairs = [(int(lo), int(hi)) for lo, hi in zip(flat[::2], flat[1::2], strict=True)]
    return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]


@rule("constant_pad_nd")
def constant_pad(b: Builder, c: Call, x: Tensor, pad: Sequence[int], value: Any) -> Tensor:
    return _pad(b, x, paddings(x.type.rank, pad), value or 0)


def _pad(b: Builder, x: Tensor, pairs: Sequence[tuple[int, int]], value: Any) -> Tensor:
    if x.type.dtype == BOOL:
        return cast(b, pad(b, b.cast(x, INT32), pairs, int(value)), BOOL)
    return pad(b, x, pairs, value)


@rule("pad")
def pad_by_mode(b: Builder, c: Call, x: Tensor, pad: Sequence[int], mode: str, value: Any) -> Tensor:
    if mode == "constant":
        return constant_pad(b, c, x, pad, value)
    if mode == "reflect":
        return reflect_pad(b, c, x, pad)
    if mode == "replicate":
        return replicate_pad(b, c, x, pad)
    for axis, (lo, hi) in enumerate(paddings(x.type.rank, pad)):  # circular
        n = x.type.shape[axis]
        if lo or hi:
            parts = [sliced(b, x, axis, n - lo, n)] * (lo > 0) + [x] + [sliced(b, x, axis, 0, hi)] * (hi > 0)
            x = b("CONCATENATION", *parts, axis=axis)
    return x


def reflect_pad(b: Builder, c: Call, x: Tensor, padding: Sequence[int]) -> Tensor:
    return b("MIRROR_PAD", x, b.constant([list(p) for p in paddings(x.type.rank, padding)]), mode="REFLECT")


def replicate_pad(b: Builder, c: Call, x: Tensor, padding: Sequence[int]) -> Tensor:
    """The outermost places again and again."""
    for axis, (lo, hi) in enumerate(paddings(x.type.rank, padding)):
        n = x.type.shape[axis]
        if lo or hi:
            b.require(not is_open(n), "a repetition of the ends of an open dimension")
            places = np.clip(np.arange(-lo, n + hi), 0, n - 1)
            x = b("GATHER", x, b.constant(places), axis=axis, batch_dims=0)
    return x


@rule("pixel_shuffle", "channel_shuffle")
def pixel_shuffle(b: Builder, c: Call, x: Tensor, upscale_factor: int, groups: int) -> Tensor:
    """[.., C r r, H, W] to [.., C, H r, W r], by DEPTH_TO_SPACE where there is one channel."""
    if c.name.startswith(("channel", "native")):
        batch, channels, *places = x.type.shape
        parted = b.reshape(x, (batch, groups, channels // groups, *places))
        return b.reshape(b.transpose(parted, [0, 2, 1, *range(3, parted.type.rank)]), x.type.shape)
    r = int(upscale_factor)
    b.require(x.type.rank == 4, "a shuffle of pixels of such a rank")
    batch, channels, height, width = x.type.shape
    last = b.transpose(x, (0, 2, 3, 1))
    if channels != r * r:  # the builtin has the channel innermost, torch outermost
        parted = b.reshape(last, (batch, height, width, channels // (r * r), r * r))
        last = b.reshape(b.transpose(parted, (0, 1, 2, 4, 3)), last.type.shape)
    return b.transpose(b("DEPTH_TO_SPACE", last, block_size=r), (0, 3, 1, 2))


@rule("pixel_unshuffle")
def pixel_unshuffle(b: Builder, c: Call, x: Tensor, downscale_factor: int) -> Tensor:
    r = int(downscale_factor)
    b.require(x.type.rank == 4, "a shuffle of pixels of such a rank")
    batch, channels, height, width = x.type.shape
    last = b("SPACE_TO_DEPTH", b.transpose(x, (0, 2, 3, 1)), block_size=r)
    if channels != 1:
        parted = b.reshape(last, (batch, height // r, width // r, r * r, channels))
        last = b.reshape(b.transpose(parted, (0, 1, 2, 4, 3)), last.type.shape)
    return b.transpose(last, (0, 3, 1, 2))


# tensors that are made


@rule("full", "full_like", "new_full")
def full(b: Builder, c: Call, fill_value: Any) -> Tensor:
    if isinstance(fill_value, Tensor) or (isinstance(fill_value, int) and is_open(fill_value)):
        one = operand(b, fill_value, c.result.dtype)
        return b.broadcast(b.reshape(one, [1] * len(c.result.shape)), c.result.shape)
    return filled(b, fill_value, c)


@rule("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "zero", "empty_permuted")
def zeros(b: Builder, c: Call) -> Tensor:
    return filled(b, 0, c)


@rule("ones", "ones_like", "new_ones")
def ones(b: Builder, c: Call) -> Tensor:
    return filled(b, 1, c)


@rule("fill")
def fill(b: Builder, c: Call, value: Any) -> Tensor:
    return full(b, c, value)


@rule("scalar_tensor")
def scalar(b: Builder, c: Call, s: Any) -> Tensor:
    return operand(b, s, c.result.dtype)


SMALL = 1 << 10


def filled(b: Builder, value: Any, c: Call) -> Tensor:
    if is_fixed(c.result.shape) and c.result.size <= SMALL:
        return b.constant(np.full(c.result.shape, value), c.result.dtype)
    return b.filled(value, c.result.dtype, c.result.shape)


@rule("arange", "arange.start_step")
def count(b: Builder, c: Call, start: Any, end: Any, step: Any) -> Tensor:
    start, step = start or 0, 1 if step is None else step
    (n,) = c.result.shape
    if not is_open(n):
        return b.constant(start + np.arange(n) * step, c.result.dtype)
    b.require(step == 1 and not is_open(start), "such a range over an open dimension")
    last = b.reshape(b.size(n + start), ())
    return cast(b, b.sized("RANGE", [b.constant(int(start)), last, b.constant(1)], (n,)), c.result.dtype)


@rule("linspace")
def linspace(b: Builder, c: Call, start: float, end: float, steps: int) -> Tensor:
    b.require(is_fixed(c.result.shape), "such a range over an open dimension")
    return b.constant(np.linspace(start, end, steps), c.result.dtype)


@rule("eye")
def eye(b: Builder, c: Call) -> Tensor:
    b.require(is_fixed(c.result.shape), "a unit matrix of an open dimension")
    return b.constant(np.eye(c.result.shape[0], c.result.shape[1]), c.result.dtype)


@rule("tril", "triu")
def triangle(b: Builder, c: Call, x: Tensor, diagonal: int) -> Tensor:
    rows, columns = x.type.shape[-2:]
    lower = c.name.startswith("tril")
    if is_fixed((rows, columns)):
        ones = np.ones((rows, columns), bool)
        mask = b.constant(np.tril(ones, diagonal) if lower else np.triu(ones, diagonal), BOOL)
    else:
        down = b.reshape(line(b, rows), (rows, 1))
        shifted = b("ADD", down, b.constant(int(diagonal))) if diagonal else down
        across = b.reshape(line(b, columns), (1, columns))
        mask = b("LESS_EQUAL" if lower else "GREATER_EQUAL", across, shifted, dtype=BOOL)
    value = b.known(x)
    zero = b.constant(0, x.type.dtype)
    if x.type.dtype == BOOL and value is not None and np.all(value):
        return b.broadcast(b.reshape(mask, (*[1] * (x.type.rank - 2), rows, columns)), x.type.shape)
    return b("SELECT_V2", mask, x, operand(b, zero, x.type.dtype), dtype=x.type.dtype)


@rule("diagonal", "diag")
def diagonal(b: Builder, c: Call, x: Tensor, offset: int, dim1: int | None, dim2: int | None) -> Tensor:
    b.require(x.type.rank == 2 and is_fixed(x.type.shape), "such a diagonal")
    rows = np.arange(c.result.shape[0])
    places = np.stack([rows + max(-(offset or 0), 0), rows + max(offset or 0, 0)], -1)
    return b("GATHER_ND", x, b.constant(places))


@rule("unfold")
def windows_along(b: Builder, c: Call, x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Overlapping parts of an axis, as a look-up."""
    axis = dimension % x.type.rank
    n = x.type.shape[axis]
    b.require(not is_open(n), "windows over an open dimension")
    starts = np.arange(0, n - size + 1, step)
    parts = b("GATHER", x, b.constant(starts[:, None] + np.arange(size)), axis=axis, batch_dims=0)
    order = [i for i in range(parts.type.rank) if i != axis + 1]
    return b.transpose(parts, [*order, axis + 1])
