"""What JAX's primitives are in builtins: products, convolutions, pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion import matrices, windows
from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, rule
from lithe.conversion.sizes import is_open
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32

MOST_COUNTED = 1 << 24  # elements of a constant that is pooled here


@rule("dot_general")
def dot_general(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    summed, shared = e["dimension_numbers"]
    if x.type.dtype.is_integer:
        return _sum_of_products(b, x, y, summed, shared)
    b.require(x.type.dtype.is_float, f"a product of {x.type.dtype}")
    made = matrices.product(b, b.cast(x, FLOAT32), b.cast(y, FLOAT32), summed, shared)
    return b.cast(made, e.result.dtype)


def _sum_of_products(b: Builder, x: Tensor, y: Tensor, summed: Any, shared: Any) -> Tensor:
    """Of integers, for which the builtins of products are quantized: each with each, and their sums."""
    rest = [[i for i in range(t.type.rank) if i not in (*s, *both)]
            for t, s, both in zip((x, y), summed, shared, strict=True)]  # fmt: skip
    turned = [b.transpose(t, [*both, *r, *s]) for t, s, both, r in zip((x, y), summed, shared, rest, strict=True)]
    count, (left, right), sums = len(shared[0]), map(len, rest), len(summed[0])
    x_shape, y_shape = turned[0].type.shape, turned[1].type.shape
    wide = b.reshape(turned[0], (*x_shape[: count + left], *[1] * right, *x_shape[count + left :]))
    high = b.reshape(turned[1], (*y_shape[:count], *[1] * left, *y_shape[count:]))
    total = b("MUL", wide, high)
    return b("SUM", total, b.constant(list(range(total.type.rank - sums, total.type.rank))), keep_dims=False)


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
