"""What ATen's operators are in builtins: convolutions, pooling, resizing.

torch has channels before places; the operators here have them last. The turning between the two is written out, and
`lithe.passes.layout` takes away what was turned in vain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion import matrices, windows
from lithe.conversion.builder import Builder
from lithe.conversion.parts import channels_first, channels_last, sliced, split
from lithe.conversion.reductions import reduced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.torch.rules import Call, rule, sequence
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32


def with_batch(b: Builder, x: Tensor, rank: int) -> tuple[Tensor, bool]:
    """torch takes pictures without a batch."""
    return (x, False) if x.type.rank == rank else (b.reshape(x, (1, *x.type.shape)), True)


CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d")  # fmt: skip


@rule(*CONVOLUTIONS)
def convolution(b: Builder, c: Call, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                dilation: Any, groups: int, transposed: bool, output_padding: Any) -> Tensor:  # fmt: skip
    dimensions = weight.type.rank - 2
    x, alone = with_batch(b, input, weight.type.rank)
    strides, dilations = sequence(stride, dimensions), sequence(dilation, dimensions)
    size = weight.type.shape[2:]
    if isinstance(padding, str):
        totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilations, size, strict=True)]
        pairs = [(t // 2, t - t // 2) for t in totals]
    else:
        pairs = [(p, p) for p in sequence(padding, dimensions)]
    window = Window.of(size, strides, pairs, dilations)
    if transposed or "transpose" in c.name:
        parts = split(b, weight, groups, axis=0) if groups > 1 else [weight]
        # [inputs, outputs / groups, *window] of each group as [outputs / groups, *window, inputs]
        turned = [b.transpose(p, [1, *range(2, p.type.rank), 0]) for p in parts]
        weights = turned[0] if len(turned) == 1 else b("CONCATENATION", *turned, axis=0)
        more = sequence(output_padding, dimensions)
        y = windows.transposed_convolution(b, channels_last(b, x), weights, window, groups, more)
    else:
        y = windows.convolution(b, channels_last(b, x), channels_last(b, weight), window, groups)
    if bias is not None:
        y = b("ADD", y, bias)
    y = channels_first(b, y)
    return b.reshape(y, y.type.shape[1:]) if alone else y


def pool_window(places: Sequence[int], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool) -> Window:
    """The window of a pooling; where sizes are rounded up, with the padding that this takes."""
    n = len(places)
    size = sequence(kernel, n)
    strides = sequence(stride, n) or size
    lows = sequence(padding, n) or [0] * n
    dilations = sequence(dilation, n) or [1] * n
    plain = Window.of(size, strides, (), dilations)
    pairs = []
    for have, extent, s, p in zip(places, plain.extent, strides, lows, strict=True):
        more = 0
        if ceil and not is_open(have):
            steps = -(-(have + 2 * p - extent) // s)
            if steps * s >= have + p:  # a window that begins behind the picture is none
                steps -= 1
            more = max(steps * s + extent - have - 2 * p, 0)
        pairs.append((p, p + more))
    return Window.of(size, strides, pairs, dilations)


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
def max_pool(b: Builder, c: Call, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
             ceil_mode: bool) -> Any:  # fmt: skip
    b.require(1 not in c.used, "the places of the largest elements of a pooling")
    dimensions = int(c.name[c.name.index("d") - 1]) if "mkldnn" not in c.name else 2
    x, alone = with_batch(b, x, dimensions + 2)
    window = pool_window(x.type.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    y = channels_first(b, windows.max_pool(b, channels_last(b, x), window))
    y = b.reshape(y, y.type.shape[1:]) if alone else y
    return [y, y] if "indices" in c.name else y


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(b: Builder, c: Call, x: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
                 count_include_pad: bool, divisor_override: int | None) -> Tensor:  # fmt: skip
    """A divisor of the caller's own, and a last window that reaches beyond the padding, count as torch counts them."""
    dimensions = int(c.name[8])
    x, alone = with_batch(b, x, dimensions + 2)
    places = x.type.shape[2:]
    window = pool_window(places, kernel_size, stride, padding, None, ceil_mode)
    counted = count_include_pad or divisor_override is not None

    def pool(b: Builder, x: Tensor, window: Window) -> Tensor:
        return windows.average_pool(b, x, window, padding_counts=counted)

    turned = channels_last(b, x)
    y = pool(b, turned, window) if dimensions < 3 else windows.in_volumes(b, turned, window, pool)
    uneven = [hi - lo for lo, hi in window.padding]
    if divisor_override is not None:
        y = b("MUL", y, b.constant(math.prod(window.size) / divisor_override, FLOAT32))
    elif counted and any(uneven):
        b.require(is_fixed(places), "an average whose last window reaches beyond an open dimension")
        b.require(dimensions < 3, "an average over volumes whose last window reaches beyond them")
        inner = [n + 2 * lo for n, (lo, _) in zip(places, window.padding, strict=True)]
        reach = Window.of(window.size, window.strides, [(0, u) for u in uneven])
        if dimensions == 1:
            inner, reach = [1, *inner], reach.with_two_dimensions()
        share = windows.share_of_window(reach, inner)
        y = b("MUL", y, b.constant(share if dimensions == 2 else share[:, 0], FLOAT32))
    y = channels_first(b, y)
    return b.reshape(y, y.type.shape[1:]) if alone else y


@rule(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "_adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "adaptive_max_pool1d",
    "adaptive_avg_pool3d",
)
def adaptive_pool(b: Builder, c: Call, x: Tensor, output_size: Any) -> Any:
    """Windows that share a picture out evenly; where they are of several sizes, each axis by products with a matrix
    (means) or by parts (extremes)."""
    largest = "max" in c.name
    dimensions = int(c.name.split("pool")[1][0])
    first = x.type.rank - dimensions
    axes = range(first, x.type.rank)
    wanted = c.result.shape[first:]
    b.require(not largest or 1 not in c.used, "the places of the largest elements of a pooling")
    if all(n == 1 for n in wanted):
        y = reduced(b, "REDUCE_MAX" if largest else "MEAN", x, list(axes), True)
        return [y, y] if largest else y
    have = x.type.shape[first:]
    b.require(is_fixed(have), "an adaptive pooling of an open dimension")
    if dimensions == 2 and all(n % m == 0 for n, m in zip(have, wanted, strict=True)):
        size = [n // m for n, m in zip(have, wanted, strict=True)]
        batched, alone = with_batch(b, x, 4)
        window, last = Window.of(size, size), channels_last(b, batched)
        pooled = windows.max_pool(b, last, window) if largest else windows.average_pool(
            b, last, window, padding_counts=True)  # fmt: skip
        y = channels_first(b, pooled)
        y = b.reshape(y, y.type.shape[1:]) if alone else y
        return [y, y] if largest else y
    for axis, n, m in zip(axes, have, wanted, strict=True):
        bounds = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        if largest:
            parts = [reduced(b, "REDUCE_MAX", sliced(b, x, axis, lo, hi), [axis], True) for lo, hi in bounds]
            x = b("CONCATENATION", *parts, axis=axis)
            continue
        weights = np.zeros((m, n), np.float32)
        for i, (lo, hi) in enumerate(bounds):
            weights[i, lo:hi] = 1 / (hi - lo)
        x = weighted(b, x, axis, weights)
    return [x, x] if largest else x


def weighted(b: Builder, x: Tensor, axis: int, weights: np.ndarray) -> Tensor:
    """Sums along one axis with weights [outputs, inputs]."""
    turn = [*(i for i in range(x.type.rank) if i != axis), axis]
    made = matrices.dense(b, b.transpose(x, turn), b.constant(weights, FLOAT32))
    return b.transpose(made, [turn.index(i) for i in range(x.type.rank)])


@rule(
    "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_linear1d", "_upsample_nearest_exact2d"
)
def resize(b: Builder, c: Call, x: Tensor, input: Tensor, align_corners: bool) -> Tensor:
    """The nearest place downwards, or a mean of the two (four) nearest ones."""
    x = input if x is None else x
    b.require("_aa" not in c.name and x.type.rank < 5, "a resizing of such a kind")
    flat = x.type.rank == 3
    picture = b.reshape(x, (*x.type.shape[:2], 1, x.type.shape[2])) if flat else x
    last = channels_last(b, picture)
    places = (1, c.result.shape[2]) if flat else c.result.shape[2:]
    shape = (x.type.shape[0], *places, x.type.shape[1])
    if "nearest" in c.name:
        exact = "exact" in c.name
        made = b.sized("RESIZE_NEAREST_NEIGHBOR", [last, _sizes(b, places)], shape, half_pixel_centers=exact)
    else:
        corners = bool(align_corners)
        made = b.sized("RESIZE_BILINEAR", [last, _sizes(b, places)], shape, align_corners=corners,
                       half_pixel_centers=not corners)  # fmt: skip
    return b.reshape(channels_first(b, made), c.result.shape)


CUBIC = -0.75  # the curve's parameter, as torch has it


@rule("upsample_bicubic2d")
def resize_by_cubes(b: Builder, c: Call, x: Tensor, input: Tensor, align_corners: bool) -> Tensor:
    """Sums of four neighbours along each axis, as products with a matrix."""
    x = input if x is None else x
    for axis in (2, 3):
        n, m = x.type.shape[axis], c.result.shape[axis]
        b.require(is_fixed((n, m)), "a cubic resizing of an open dimension")
        if n != m:
            x = weighted(b, x, axis, cubic_weights(n, m, bool(align_corners)))
    return x


def cubic_weights(n: int, m: int, align_corners: bool) -> np.ndarray:
    """[m, n]: what each place of the result takes of the places of an axis. Source: Keys, Cubic convolution (1981)."""
    weights = np.zeros((m, n))
    for i in range(m):
        at = i * (n - 1) / max(m - 1, 1) if align_corners else (i + 0.5) * n / m - 0.5
        first = math.floor(at)
        for k in range(-1, 3):
            d = abs(at - first - k)
            near = (CUBIC + 2) * d**3 - (CUBIC + 3) * d**2 + 1
            far = CUBIC * d**3 - 5 * CUBIC * d**2 + 8 * CUBIC * d - 4 * CUBIC
            weights[i, min(max(first + k, 0), n - 1)] += near if d <= 1 else far
    return weights.astype(np.float32)


def _sizes(b: Builder, shape: Sequence[int]) -> Tensor:
    return b.vector([int(n) for n in shape])
