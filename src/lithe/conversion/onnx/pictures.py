"""What ONNX's operators are in builtins: convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lithe.conversion import windows
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.onnx.reductions import reduced
from lithe.conversion.parts import channels_first, channels_last, pad, split
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value
from lithe.types import FLOAT32, INT64


def window_of(c: Call, size: Sequence[int], places: Sequence[int]) -> Window:
    """The window of a convolution or pooling, as the attributes describe it."""
    n = len(size)
    strides, dilations = c.attr("strides", [1] * n), c.attr("dilations", [1] * n)
    kind, pads = c.attr("auto_pad", "NOTSET"), c.attr("pads", [0] * (2 * n))
    pairs = list(zip(pads[:n], pads[n:], strict=True))
    plain = Window.of(size, strides, pairs, dilations)
    if kind in ("NOTSET", ""):
        return plain
    if kind == "VALID":
        return Window.of(size, strides, (), dilations)
    same = plain.same_padding(places)
    if kind == "SAME_LOWER":
        same = tuple((hi, lo) for lo, hi in same)
    return Window.of(size, strides, same, dilations)


@rule("Conv")
def convolution(b: Builder, c: Call) -> Tensor:
    x, weights = b.cast(c[0], FLOAT32), b.cast(c[1], FLOAT32)
    window = window_of(c, weights.type.shape[2:], x.type.shape[2:])
    y = windows.convolution(b, channels_last(b, x), channels_last(b, weights), window, c.attr("group", 1))
    if c.has(2):
        y = b("ADD", y, b.cast(c[2], FLOAT32))
    return b.cast(channels_first(b, y), c[0].type.dtype)


@rule("ConvTranspose")
def transposed_convolution(b: Builder, c: Call) -> Tensor:
    """`output_shape` says how much of the full result is cut off."""
    x, weights = b.cast(c[0], FLOAT32), b.cast(c[1], FLOAT32)
    n, groups = weights.type.rank - 2, c.attr("group", 1)
    size, places = weights.type.shape[2:], x.type.shape[2:]
    strides, dilations = c.attr("strides", [1] * n), c.attr("dilations", [1] * n)
    more = c.attr("output_padding", [0] * n)
    extent = Window.of(size, strides, (), dilations).extent
    full = [(p - 1) * s + e for p, s, e in zip(places, strides, extent, strict=True)]
    kind, wanted = c.attr("auto_pad", "NOTSET"), c.attr("output_shape")
    if wanted is not None:
        wanted = wanted[-n:]
    elif kind.startswith("SAME"):
        wanted = [p * s for p, s in zip(places, strides, strict=True)]
    if wanted is None:
        pads = c.attr("pads", [0] * (2 * n))
        pairs = list(zip(pads[:n], pads[n:], strict=True))
    else:
        totals = [max(f + m - w, 0) for f, m, w in zip(full, more, wanted, strict=True)]
        low_first = kind != "SAME_UPPER"
        pairs = [(t - t // 2, t // 2) if low_first else (t // 2, t - t // 2) for t in totals]
        if kind == "NOTSET":
            pairs = [(t - t // 2, t // 2) for t in totals]
        more = [max(w - f + t, 0) for f, w, t in zip(full, wanted, totals, strict=True)]
    window = Window.of(size, strides, pairs, dilations)
    parts = split(b, weights, groups, axis=0) if groups > 1 else [weights]
    turned = [b.transpose(p, [1, *range(2, p.type.rank), 0]) for p in parts]
    joined = turned[0] if len(turned) == 1 else b("CONCATENATION", *turned, axis=0)
    if joined.data is None and set(dilations) != {1}:
        joined, window = _spread(b, joined, window)
    if n == 3:
        y = _transposed_volume(b, channels_last(b, x), joined, window, groups, more)
    else:
        y = windows.transposed_convolution(b, channels_last(b, x), joined, window, groups, more)
    if c.has(2):
        y = b("ADD", y, b.cast(c[2], FLOAT32))
    return b.cast(channels_first(b, y), c[0].type.dtype)


def _spread(b: Builder, weights: Tensor, window: Window) -> tuple[Tensor, Window]:
    """A dilated window of computed weights as a larger one with zeros in it."""
    gaps = b.constant([1, *window.dilations, 1])
    wide = b("DILATE", weights, gaps, b.constant(0.0, FLOAT32))
    return wide, Window.of(window.extent, window.strides, window.padding)


def _transposed_volume(
    b: Builder, x: Tensor, weights: Tensor, window: Window, groups: int, more: Sequence[int]
) -> Tensor:
    """CONV_3D_TRANSPOSE of the full result, of which the ends are cut off."""
    b.require(groups == 1 and set(window.dilations) == {1}, "a transposed convolution of volumes with groups")
    batch, *places, _ = x.type.shape
    full = [(n - 1) * s + k for n, s, k in zip(places, window.strides, window.size, strict=True)]
    shape = (batch, *full, weights.type.shape[0])
    depth, height, width = window.strides
    filters = b.transpose(weights, (1, 2, 3, 0, 4))
    y = b.sized("CONV_3D_TRANSPOSE", [b.vector(shape), filters, x], shape, padding="VALID", stride_d=depth,
                stride_h=height, stride_w=width)  # fmt: skip
    y.type = type(x.type)(x.type.dtype, shape)
    ends = [(-lo, m - hi) for (lo, hi), m in zip(window.padding, more, strict=True)]
    return pad(b, y, [(0, 0), *ends, (0, 0)])


def _pool_window(c: Call, places: Sequence[int]) -> Window:
    """With the padding that rounding up the number of windows takes; none begins behind the picture."""
    size = c.attr("kernel_shape")
    window = window_of(c, size, places)
    if not c.attr("ceil_mode", 0) or c.attr("auto_pad", "NOTSET") not in ("NOTSET", ""):
        return window
    pairs = []
    for n, extent, s, (lo, hi) in zip(places, window.extent, window.strides, window.padding, strict=True):
        more = 0
        if not is_open(n):
            steps = -(-(n + lo + hi - extent) // s)
            if steps * s >= n + lo:
                steps -= 1
            more = max(steps * s + extent - n - lo - hi, 0)
        pairs.append((lo, hi + more))
    return Window.of(size, window.strides, pairs, window.dilations)


@rule("MaxPool")
def max_pool(b: Builder, c: Call) -> Sequence[Tensor]:
    x = b.cast(c[0], FLOAT32)
    places = x.type.shape[2:]
    window = _pool_window(c, places)
    y = windows.max_pool(b, channels_last(b, x), window)
    made = [b.cast(channels_first(b, y), c[0].type.dtype)]
    if len(c.results) > 1 and c.results[1] and c.scope.uses[c.results[1]]:
        made.append(_largest_places(b, c, x, made[0], window))
    return made + [made[0]] * (len(c.results) - len(made))


def _largest_places(b: Builder, c: Call, x: Tensor, y: Tensor, window: Window) -> Tensor:
    """The flat place of each window's largest element: the first of the elements gathered from under the window."""
    shape = x.type.shape
    b.require(is_fixed(shape), "places of the largest elements of an open dimension")
    count, places = shape[0] * shape[1], shape[2:]
    positions = y.type.shape[2:]
    grid = np.zeros((*positions, math.prod(window.size)), np.int64)
    inside = np.zeros_like(grid, bool)
    for at in np.ndindex(*positions):
        for k, q in enumerate(np.ndindex(*window.size)):
            spot = [p * s + d * i - lo for p, s, d, i, (lo, _) in
                    zip(at, window.strides, window.dilations, q, window.padding, strict=True)]  # fmt: skip
            if all(0 <= v < n for v, n in zip(spot, places, strict=True)):
                inside[(*at, k)] = True
                grid[(*at, k)] = np.ravel_multi_index(spot, places)
    grid = np.where(inside, grid, np.where(inside.any(-1, keepdims=True), np.take_along_axis(
        grid, inside.argmax(-1)[..., None], -1), 0))  # fmt: skip
    flat = b.reshape(x, (count, math.prod(places)))
    under = b("GATHER", flat, b.constant(grid.reshape(-1, grid.shape[-1])), axis=1)
    best = b("ARG_MAX", under, b.constant(2), dtype=INT64, output_type=INT64)
    numbers = np.tile(grid.reshape(1, *grid.shape[:-1], -1).reshape(1, -1, grid.shape[-1]), (count, 1, 1))
    own = b("GATHER", b.constant(numbers, INT64), b.int32(best), axis=2, batch_dims=2)
    first = b.constant((np.arange(count) * math.prod(places))[:, None], INT64)
    whole = b.reshape(b("ADD", own, first), y.type.shape)
    if not c.attr("storage_order", 0):
        return whole
    return _column_major(b, whole, places)


def _column_major(b: Builder, places: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers that count along the first axis first."""
    total = math.prod(shape)
    turned = np.arange(total).reshape(shape[::-1]).transpose(range(len(shape))[::-1]).reshape(-1)
    inner = b("FLOOR_MOD", places, b.constant(total, INT64))
    looked = b("GATHER", b.constant(turned, INT64), b.int32(inner), axis=0)
    return b("ADD", b("SUB", places, inner), looked)


@rule("AveragePool")
def average_pool(b: Builder, c: Call) -> Tensor:
    """Sums under the window over the number of elements that count."""
    x = b.cast(c[0], FLOAT32)
    places = x.type.shape[2:]
    window = _pool_window(c, places)
    counted = bool(c.attr("count_include_pad", 0))
    pads = window_of(c, window.size, places).padding
    uneven = window.padding != pads
    last = channels_last(b, x)
    if set(window.dilations) == {1} and not uneven and len(places) < 3:
        y = windows.average_pool(b, last, window, padding_counts=counted)
        return b.cast(channels_first(b, y), c[0].type.dtype)
    b.require(is_fixed(places), "such an average over an open dimension")
    share = _share(window, places, pads if counted else ((0, 0),) * len(places))
    whole = pad(b, last, [(0, 0), *window.padding, (0, 0)])
    plain = Window.of(window.size, window.strides, (), window.dilations)
    if set(window.dilations) == {1}:
        y = windows.average_pool(b, whole, plain, padding_counts=True)
    else:
        channels = x.type.shape[1]
        weights = np.full((channels, *window.size, 1), 1 / math.prod(window.size))
        y = windows.convolution(b, whole, b.constant(weights, FLOAT32), plain, channels)
    y = b("MUL", y, b.constant(share, FLOAT32))
    return b.cast(channels_first(b, y), c[0].type.dtype)


def _share(window: Window, places: Sequence[int], counted: Sequence[tuple[int, int]]) -> np.ndarray:
    """Elements of the window over those that count, for each position: [1, *positions, 1]."""
    counts = []
    for n, k, s, d, (lo, hi), (low, high) in zip(places, window.size, window.strides, window.dilations,
                                                 window.padding, counted, strict=True):  # fmt: skip
        inside = np.pad(np.ones(n + low + high), (lo - low, hi - high))
        reach = (k - 1) * d + 1
        counts.append(np.array([inside[i : i + reach : d].sum() for i in range(0, len(inside) - reach + 1, s)]))
    total = counts[0]
    for other in counts[1:]:
        total = np.multiply.outer(total, other)
    return np.asarray(math.prod(window.size) / np.maximum(total, 1), np.float32)[None, ..., None]


@rule("LpPool")
def norm_pool(b: Builder, c: Call) -> Tensor:
    """(sum |x|**p)**(1/p) under the window: a convolution with ones."""
    x = b.cast(c[0], FLOAT32)
    p, places, channels = c.attr("p", 2), x.type.shape[2:], x.type.shape[1]
    window = _pool_window(c, places)
    size = b("SQUARE", x) if p == 2 else b("ABS", x)
    if p > 2:
        size = b("POW", size, b.constant(p, FLOAT32))
    weights = b.constant(np.ones((channels, *window.size, 1)), FLOAT32)
    total = windows.convolution(b, channels_last(b, size), weights, window, channels)
    root = total if p == 1 else b("SQRT", total) if p == 2 else b("POW", total, b.constant(1 / p, FLOAT32))
    return b.cast(channels_first(b, root), c[0].type.dtype)


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(b: Builder, c: Call) -> Tensor:
    x = b.cast(c[0], FLOAT32)
    builtin = "MEAN" if c.op == "GlobalAveragePool" else "REDUCE_MAX"
    return b.cast(reduced(b, builtin, x, list(range(2, x.type.rank)), True), c[0].type.dtype)


@rule("GlobalLpPool")
def global_norm(b: Builder, c: Call) -> Tensor:
    x = Value(b, b.cast(c[0], FLOAT32))
    p, axes = float(c.attr("p", 2)), list(range(2, len(c.shape(0))))
    total = Value(b, reduced(b, "SUM", abs(x).apply("POW", p).tensor, axes, True))
    return b.cast(total.apply("POW", 1 / p).tensor, c[0].type.dtype)


@rule("MaxUnpool")
def unpooled(b: Builder, c: Call) -> Tensor:
    """Elements put back in their flat places of a picture of the smaller size, then padded to what is asked for."""
    x, places = c[0], c[1]
    n = x.type.rank - 2
    size, strides = c.attr("kernel_shape"), c.attr("strides", [1] * n)
    pads = c.attr("pads", [0] * (2 * n))
    inner = [(m - 1) * s - pads[i] - pads[i + n] + k
             for i, (m, s, k) in enumerate(zip(x.type.shape[2:], strides, size, strict=True))]  # fmt: skip
    shape = [*x.type.shape[:2], *inner]
    b.require(is_fixed(shape), "unpooling of an open dimension")
    total = math.prod(shape)
    flat = b.reshape(b.int32(places), (x.type.size, 1))
    made = b.sized("SCATTER_ND", [flat, b.reshape(x, (x.type.size,)), b.constant([total])], (total,))
    made.type = type(x.type)(x.type.dtype, (total,))
    picture = b.reshape(made, shape)
    if not c.has(2):
        return picture
    wanted = c.declared(0) if c.known(2) is None else c.ints(2)
    b.require(is_fixed(wanted), "unpooling to a size that is computed")
    return pad(b, picture, [(0, m - k) for m, k in zip(wanted, shape, strict=True)])
