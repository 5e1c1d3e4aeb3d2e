"""What JAX's primitives are in builtins: products, convolutions, pooling, look-ups."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lithe.conversion import matrices, windows
from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, rule
from lithe.conversion.sizes import is_open
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor
from lithe.types import BOOL, COMPLEX64, FLOAT32, INT32

MOST_COUNTED = 1 << 24  # elements of a constant that is pooled here


@rule("dot_general")
def dot_general(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    summed, shared = e["dimension_numbers"]
    if x.type.dtype != FLOAT32:
        b.require(x.type.dtype.is_integer or x.type.dtype.is_float, f"a product of {x.type.dtype}")
    return matrices.product(b, x, y, summed, shared)


@rule("conv_general_dilated")
def convolution(b: Builder, e: Equation, x: Tensor, weights: Tensor) -> Tensor:
    numbers = e["dimension_numbers"]
    x = b.transpose(x, [numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1]])
    weights = b.transpose(weights, [numbers.rhs_spec[0], *numbers.rhs_spec[2:], numbers.rhs_spec[1]])
    b.require(e["batch_group_count"] == 1, "a convolution with groups of batches")
    size, groups = weights.type.shape[1:-1], e["feature_group_count"]
    dilated = e["lhs_dilation"]
    if all(d == 1 for d in dilated):
        window = Window.of(size, e["window_strides"], e["padding"], e["rhs_dilation"])
        y = windows.convolution(b, x, weights, window, groups)
    else:
        y = _transposed(b, e, x, weights, dilated, groups)
    order = [0, y.type.rank - 1, *range(1, y.type.rank - 1)]  # where batch, channels and places are
    out = numbers.out_spec
    return b.transpose(y, [order[out.index(i)] for i in range(len(out))])


def _transposed(b: Builder, e: Equation, x: Tensor, weights: Tensor, strides: Sequence[int], groups: int) -> Tensor:
    """A convolution of a picture with zeros between its elements: a transposed one with the window turned round."""
    b.require(all(s == 1 for s in e["window_strides"]), "a convolution with strides of a dilated picture")
    for axis in range(1, weights.type.rank - 1):
        weights = b("REVERSE_V2", weights, b.constant([axis]))
    size = weights.type.shape[1:-1]
    plain = Window.of(size, strides, (), e["rhs_dilation"])
    ends = [(k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(plain.extent, e["padding"], strict=True)]
    return windows.transposed_convolution(b, x, weights, Window.of(size, strides, ends, e["rhs_dilation"]), groups)


def _pooling(b: Builder, e: Equation, x: Tensor) -> tuple[Window, Tensor, list[int]]:
    """The window over the places, the picture with places between batch and channels, and how it was turned."""
    size, strides, padding = e["window_dimensions"], e["window_strides"], e["padding"]
    b.require(all(d == 1 for d in e["base_dilation"]), "pooling of a dilated picture")
    over = [i for i, k in enumerate(size) if k > 1 or strides[i] > 1 or padding[i] != (0, 0)]
    rest = [i for i in range(x.type.rank) if i not in over]
    if len(over) < x.type.rank - 2:  # windows of one element stand for missing places
        over = sorted([*over, *rest[1 : x.type.rank - 1 - len(over)]])
        rest = [i for i in range(x.type.rank) if i not in over]
    b.require(len(rest) == 2, "pooling over batch or channels")
    order = [rest[0], *over, rest[1]]
    window = Window.of(*([values[i] for i in over] for values in (size, strides, padding, e["window_dilation"])))
    return window, b.transpose(x, order), order


def _turned_back(b: Builder, y: Tensor, order: Sequence[int]) -> Tensor:
    return b.transpose(y, [order.index(i) for i in range(len(order))])


@rule("reduce_window_max")
def max_pool(b: Builder, e: Equation, x: Tensor) -> Tensor:
    window, turned, order = _pooling(b, e, x)
    return _turned_back(b, windows.max_pool(b, turned, window), order)


@rule("reduce_window_min")
def min_pool(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b("NEG", max_pool(b, e, b("NEG", x)))


@rule("reduce_window_sum")
def sum_pool(b: Builder, e: Equation, x: Tensor) -> Tensor:
    """The mean under the window times the number of its elements."""
    value = b.known(x)
    if value is not None and all(n == 1 for n, m in zip(value.shape, x.type.shape, strict=True) if is_open(m)):
        return _constant_sums(b, e, x, value)
    window, turned, order = _pooling(b, e, x)
    mean = windows.average_pool(b, turned, window, padding_counts=True)
    total = b("MUL", mean, b.constant(np.prod(window.size), FLOAT32))
    return _turned_back(b, total, order)


def _constant_sums(b: Builder, e: Equation, x: Tensor, value: np.ndarray) -> Tensor:
    """Sums over windows of a constant, by which JAX divides where padding does not count. The same for each batch."""
    shape = tuple(1 if is_open(n) else n for n in x.type.shape)
    b.require(math.prod(shape) <= MOST_COUNTED, "a pooling of such a large constant")
    data = np.pad(np.broadcast_to(value, shape), [(max(lo, 0), max(hi, 0)) for lo, hi in e["padding"]])
    for axis, (size, stride) in enumerate(zip(e["window_dimensions"], e["window_strides"], strict=True)):
        sums = np.lib.stride_tricks.sliding_window_view(data, size, axis).sum(-1)
        data = sums[(slice(None),) * axis + (slice(None, None, stride),)]
    if np.ptp(data, axis=(0, -1)).max() == 0:  # the same for all channels
        data = data[:1, ..., :1]
    return b.broadcast(b.constant(data, x.type.dtype), e.result.shape)


@rule("gather")
def gather(b: Builder, e: Equation, x: Tensor, indices: Tensor) -> Tensor:
    """Look-ups along one axis (GATHER) and of single places (GATHER_ND); places are clamped where JAX does that."""
    numbers, sizes = e["dimension_numbers"], [int(n) for n in e["slice_sizes"]]
    b.require(not numbers.operand_batching_dims, "a gather with batches")
    indices = _inside(b, e, x, indices, numbers.start_index_map, sizes)
    along = list(numbers.start_index_map)
    whole = [i for i in range(x.type.rank) if i not in along]
    b.require(all(sizes[i] == x.type.shape[i] for i in whole), "a gather of parts")
    b.require(all(sizes[i] == 1 for i in along), "a gather of parts")
    batch = [i for i in range(len(e.result.shape)) if i not in numbers.offset_dims]
    if len(along) == 1:
        flat = b.reshape(indices, indices.type.shape[:-1])
        made = b("GATHER", x, flat, axis=along[0], batch_dims=0)
        order = [*range(along[0]), *([None] * flat.type.rank), *range(along[0] + 1, x.type.rank)]
    else:
        turned = b.transpose(x, [*along, *whole])
        made = b("GATHER_ND", turned, indices)
        order = [*([None] * (indices.type.rank - 1)), *whole]
    kept = [i for i in range(x.type.rank) if i not in numbers.collapsed_slice_dims]
    made = b.reshape(made, [n for n in made.type.shape])
    return _arranged(b, e, made, order, batch, kept, numbers.offset_dims)


def _arranged(b: Builder, e: Equation, made: Tensor, order: Sequence[int | None], batch: Sequence[int],
              kept: Sequence[int], offsets: Sequence[int]) -> Tensor:  # fmt: skip
    """The axes of a look-up in the order that is asked for; kept axes of one element are put in."""
    batches = iter(batch)
    places = []
    for axis in order:
        places.append(next(batches) if axis is None else offsets[kept.index(axis)])
    turned = b.transpose(made, sorted(range(len(places)), key=places.__getitem__))
    return b.reshape(turned, e.result.shape)


def _inside(b: Builder, e: Equation, x: Tensor, indices: Tensor, along: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Places as JAX's mode has them; where it promises that they are inside, they are taken as they are."""
    mode = str(e["mode"])
    if indices.type.dtype != INT32:
        indices = b.cast(indices, INT32)
    if "CLIP" not in mode and "FILL_OR_DROP" not in mode:
        return indices
    most = b.constant([x.type.shape[a] - sizes[a] for a in along])
    if any(is_open(x.type.shape[a]) for a in along):
        return indices
    return b("MAXIMUM", b("MINIMUM", indices, most), b.constant([0] * len(along)))


@rule("scatter", "scatter-add", "scatter_add")
def scatter(b: Builder, e: Equation, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Sums or values put at single places of the leading axes."""
    numbers = e["dimension_numbers"]
    along = list(numbers.scatter_dims_to_operand_dims)
    leading = along == list(range(len(along))) and list(numbers.inserted_window_dims) == along
    b.require(leading and not numbers.operand_batching_dims, "a scatter of parts")
    indices = b.cast(indices, INT32)
    shape = b.vector(x.type.shape)
    made = b.sized("SCATTER_ND", [indices, updates, shape], x.type.shape)
    made.type = x.type
    if e.primitive != "scatter":
        return b("ADD", x, made)
    ones = b.broadcast(b.constant(np.ones([1] * updates.type.rank), FLOAT32), updates.type.shape)
    hit = b.sized("SCATTER_ND", [indices, ones, shape], x.type.shape)
    hit.type = x.type
    return b("SELECT_V2", b("GREATER", hit, b.constant(0, FLOAT32), dtype=BOOL), made, x, dtype=x.type.dtype)


@rule("fft")
def fft(b: Builder, e: Equation, x: Tensor) -> Tensor:
    """The real transform along the last axis, as RFFT2D of one row."""
    from jax.lax import FftType

    kind = FftType(e["fft_type"]).name
    b.require(kind == "RFFT" and len(e["fft_lengths"]) == 1, f"an fft of kind {kind}")
    (n,) = e["fft_lengths"]
    *outer, _ = x.type.shape
    row = b.reshape(x, (*outer, 1, n))
    y = b("RFFT2D", row, b.constant([1, n]), dtype=COMPLEX64)
    return b.reshape(y, e.result.shape)
