"""What ATen's operators are in builtins: places of tensors that indices name, read and written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.parts import non_negative, sliced
from lithe.conversion.sizes import is_fixed
from lithe.conversion.torch.rules import Call, cast, operand, rule
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32, INT32


@rule("embedding")
def embedding(b: Builder, c: Call, weight: Tensor, indices: Tensor) -> Tensor:
    return b("GATHER", weight, b.int32(indices), axis=0, batch_dims=0)


@rule("index_select")
def index_select(b: Builder, c: Call, x: Tensor, dim: int, index: Tensor) -> Tensor:
    flat = b.reshape(index, (index.type.size,))
    return b("GATHER", x, b.int32(flat), axis=dim % x.type.rank, batch_dims=0)


@rule("gather")
def gather(b: Builder, c: Call, x: Tensor, dim: int, index: Tensor) -> Tensor:
    """y[i.., p, j..] = x[i.., index[i.., p, j..], j..]: along the last axis with all others as batches."""
    rank = x.type.rank
    axis = dim % rank
    for i in range(rank):
        if i != axis and x.type.shape[i] != index.type.shape[i]:
            x = sliced(b, x, i, 0, index.type.shape[i])
    order = [*(i for i in range(rank) if i != axis), axis]
    back = [order.index(i) for i in range(rank)]
    places = b.transpose(b.int32(index), order)
    return b.transpose(b("GATHER", b.transpose(x, order), places, axis=rank - 1, batch_dims=rank - 1), back)


@rule("index")
def index(b: Builder, c: Call, x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Tensors of places for some axes: one is a GATHER, several are looked up together."""
    along = [i for i, t in enumerate(indices) if t is not None]
    given = [t for t in indices if t is not None]
    b.require(all(t.type.dtype != BOOL for t in given), "the places where a mask is true: their number depends on data")
    places = [non_negative(b, t, x.type.shape[i]) for i, t in zip(along, given, strict=True)]
    if len(along) == 1:
        return b("GATHER", x, places[0], axis=along[0], batch_dims=0)
    common = np.broadcast_shapes(*(p.type.shape for p in places))
    wide = [b.broadcast(b.reshape(p, (*[1] * (len(common) - p.type.rank), *p.type.shape)), common) for p in places]
    stacked = b("PACK", *wide, values_count=len(wide), axis=len(common))
    rest = [i for i in range(x.type.rank) if i not in along]
    made = b("GATHER_ND", b.transpose(x, [*along, *rest]), stacked)
    if along != list(range(along[0], along[-1] + 1)):
        return made  # indices that are apart come first
    before = along[0]
    count = len(common)
    order = [*range(count, count + before), *range(count), *range(count + before, made.type.rank)]
    return b.transpose(made, order)


def written(b: Builder, x: Tensor, places: Tensor, values: Tensor, accumulate: bool) -> Tensor:
    """x with values at places of its first axes: [..., axes] and [..., *rest]."""
    shape = b.vector(x.type.shape)

    def scattered(updates: Tensor) -> Tensor:
        made = b.sized("SCATTER_ND", [places, updates, shape], x.type.shape)
        made.type = type(made.type)(updates.type.dtype, made.type.shape)
        return made

    if accumulate:
        return b("ADD", x, scattered(values))
    ones = b.filled(1, INT32, values.type.shape)
    hit = b("GREATER", scattered(ones), b.constant(0), dtype=BOOL)
    if x.type.dtype == BOOL:
        return cast(b, b("SELECT_V2", hit, scattered(b.cast(values, INT32)), b.cast(x, INT32), dtype=INT32), BOOL)
    return b("SELECT_V2", hit, scattered(values), x, dtype=x.type.dtype)


@rule("index_put")
def index_put(b: Builder, c: Call, x: Tensor, indices: Sequence[Tensor | None], values: Tensor,
              accumulate: bool) -> Tensor:  # fmt: skip
    along = [i for i, t in enumerate(indices) if t is not None]
    given = [t for t in indices if t is not None]
    values = cast(b, values, x.type.dtype)
    if len(given) == 1 and given[0].type.dtype == BOOL and values.type.size == 1 and not accumulate:
        mask = given[0]
        mask = b.reshape(mask, (*mask.type.shape, *[1] * (x.type.rank - along[0] - mask.type.rank)))
        return b("SELECT_V2", mask, b.reshape(values, ()), x, dtype=x.type.dtype)
    b.require(all(t.type.dtype != BOOL for t in given), "writing where a mask is true: their number depends on data")
    places = [non_negative(b, t, x.type.shape[i]) for i, t in zip(along, given, strict=True)]
    common = np.broadcast_shapes(*(p.type.shape for p in places))
    rest = [i for i in range(x.type.rank) if i not in along]
    if math.prod(common) == 1 and len(along) == 1 and not accumulate:
        return _updated(b, x, values, along[0], places[0])
    wide = [b.broadcast(b.reshape(p, (*[1] * (len(common) - p.type.rank), *p.type.shape)), common) for p in places]
    stacked = b("PACK", *wide, values_count=len(wide), axis=len(common))
    # values have the shape of the look-up: [*before, *common, *after] where the indices are neighbours
    neighbours = along == list(range(along[0], along[-1] + 1))
    before = along[0] if neighbours else 0
    wanted = [*(x.type.shape[i] for i in rest[:before]), *common, *(x.type.shape[i] for i in rest[before:])]
    values = b.broadcast(b.reshape(values, (*[1] * (len(wanted) - values.type.rank), *values.type.shape)), wanted)
    count = len(common)
    values = b.transpose(values, [*range(before, before + count), *range(before), *range(before + count, len(wanted))])
    turned = written(b, b.transpose(x, [*along, *rest]), stacked, values, accumulate)
    order = [*along, *rest]
    return b.transpose(turned, [order.index(i) for i in range(x.type.rank)])


def _updated(b: Builder, x: Tensor, values: Tensor, axis: int, place: Tensor) -> Tensor:
    """One place of one axis written: as a cache of keys and values is."""
    shape = [1 if i == axis else n for i, n in enumerate(x.type.shape)]
    if values.type.rank > x.type.rank:
        values = b.reshape(values, values.type.shape[-x.type.rank :])
    if values.type.size == math.prod(shape):
        values = b.reshape(values, shape)
    else:
        values = b.broadcast(b.reshape(values, (*[1] * (x.type.rank - values.type.rank), *values.type.shape)), shape)
    return put_at(b, x, values, axis, b.reshape(place, (1,)))


def put_at(b: Builder, x: Tensor, part: Tensor, axis: int, start: Tensor) -> Tensor:
    """x with a part of it replaced, from `start` (int32[1]) along an axis."""
    zero = b.constant([0])
    starts = [start if i == axis else zero for i in range(x.type.rank)]
    vector = starts[0] if len(starts) == 1 else b("CONCATENATION", *starts, axis=0)
    return b("DYNAMIC_UPDATE_SLICE", x, part, vector)


@rule("slice_scatter", "select_scatter")
def slice_scatter(b: Builder, c: Call, x: Tensor, src: Tensor, dim: int, start: int | None, end: int | None,
                  step: int | None, index: int | None) -> Tensor:  # fmt: skip
    """The parts before and after, and between them what is new."""
    axis = dim % x.type.rank
    n = x.type.shape[axis]
    if index is not None:
        start, src = index, b.reshape(src, [1 if i == axis else m for i, m in enumerate(x.type.shape)])
    if step not in (None, 1):
        b.require(is_fixed((n,)), "writing with steps into an open dimension")
        places = np.arange(n)
        places[slice(start, end, step)] = n + np.arange(src.type.shape[axis])
        both = b("CONCATENATION", x, cast(b, src, x.type.dtype), axis=axis)
        return b("GATHER", both, b.constant(places), axis=axis, batch_dims=0)
    first = 0 if start is None else start + n if start < 0 else start
    count = src.type.shape[axis]
    if count == n:
        return src
    b.require(is_fixed((n, count, first)), "writing into an open dimension")
    src = cast(b, src, x.type.dtype)
    parts = [sliced(b, x, axis, 0, first)] * (first > 0) + [src]
    parts += [sliced(b, x, axis, first + count, n)] * (first + count < n)
    return b("CONCATENATION", *parts, axis=axis)


@rule("index_copy", "index_add")
def index_copy(b: Builder, c: Call, x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    axis = dim % x.type.rank
    if index.type.size == 1 and c.name.startswith("index_copy"):
        return put_at(b, x, cast(b, source, x.type.dtype), axis, b.reshape(b.int32(index), (1,)))
    order = [axis, *(i for i in range(x.type.rank) if i != axis)]
    places = b.reshape(b.int32(index), (index.type.size, 1))
    made = written(b, b.transpose(x, order), places, b.transpose(source, order), c.name.startswith("index_add"))
    return b.transpose(made, [order.index(i) for i in range(x.type.rank)])


@rule("scatter_add", "scatter.src", "scatter.value")
def scatter(b: Builder, c: Call, x: Tensor, dim: int, index: Tensor, src: Any, value: Any) -> Tensor:
    """x[.., index[.., p, ..], ..] = src[.., p, ..], with a place for each element."""
    axis, shape = dim % x.type.rank, index.type.shape
    b.require(is_fixed(shape), "a scatter of an open dimension")
    if value is not None or not isinstance(src, Tensor):
        src = b.filled(src if value is None else value, x.type.dtype, shape)
    elif src.type.shape != shape:
        for i, n in enumerate(shape):
            src = sliced(b, src, i, 0, n)
    grids = np.indices(shape)
    places = [b.int32(index) if i == axis else b.constant(grids[i]) for i in range(x.type.rank)]
    stacked = b("PACK", *places, values_count=len(places), axis=len(shape))
    return written(b, x, stacked, operand(b, src, x.type.dtype), c.name.startswith("scatter_add"))


@rule("one_hot")
def one_hot(b: Builder, c: Call, x: Tensor, num_classes: int) -> Tensor:
    made = b("ONE_HOT", b.int32(x), b.constant(c.result.shape[-1]), b.constant(1.0, FLOAT32),
             b.constant(0.0, FLOAT32), dtype=FLOAT32, axis=-1)  # fmt: skip
    return cast(b, made, c.result.dtype)


@rule("nonzero", "masked_select", "item", "_local_scalar_dense")
def of_data(b: Builder, c: Call) -> Tensor:
    b.require(False, "the size of its result depends on data")
    raise AssertionError
