"""What ONNX's operators are in builtins: convolutions, pooling, products, normalisation.

ONNX has channels before places; the operators here have them last. The turning between the two is written out, and
`lithe.passes.layout` takes away what was turned in vain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lithe.conversion import matrices, windows
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.arrangement import constant_pad
from lithe.conversion.onnx.call import Call, computed, rule, widened
from lithe.conversion.onnx.reductions import reduced
from lithe.conversion.parts import along_channels, channels_first, channels_last, pad, split
from lithe.conversion.reductions import affine, integer_product, moments
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
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
    if n == 3:
        y = _transposed_volume(b, channels_last(b, x), joined, window, groups, more)
    else:
        y = windows.transposed_convolution(b, channels_last(b, x), joined, window, groups, more)
    if c.has(2):
        y = b("ADD", y, b.cast(c[2], FLOAT32))
    return b.cast(channels_first(b, y), c[0].type.dtype)


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


# pooling


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
    if c.has(2):
        shape = [int(v) for v in c.declared(0)]
    total = math.prod(shape)
    flat = b.reshape(b.int32(places), (x.type.size, 1))
    made = b.sized("SCATTER_ND", [flat, b.reshape(x, (x.type.size,)), b.constant([total])], (total,))
    made.type = type(x.type)(x.type.dtype, (total,))
    return b.reshape(made, shape)


# products


@rule("MatMul")
def matrix_product(b: Builder, c: Call) -> Tensor:
    return product(b, c[0], c[1])


def product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """Vectors are matrices with one row or column, batches are repeated."""
    dtype = x.type.dtype
    left = b.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    right = b.reshape(y, (*y.type.shape, 1)) if y.type.rank == 1 else y
    batch = _broadcast(left.type.shape[:-2], right.type.shape[:-2])
    rows = [left.type.shape[-2]] if x.type.rank > 1 else []
    columns = [right.type.shape[-1]] if y.type.rank > 1 else []
    b.require(left.type.shape[-1] == right.type.shape[-2], f"{list(x.type.shape)} times {list(y.type.shape)}")
    shape = [*batch, *rows, *columns]
    if dtype.is_integer:
        return b.cast(integer_product(b, widened(b, left), widened(b, right), shape), dtype)
    left, right = b.cast(left, FLOAT32), b.cast(right, FLOAT32)
    if right.type.rank == 2 and right.data is not None:
        return b.cast(b.reshape(matrices.dense(b, left, b.transpose(right, (1, 0))), shape), dtype)
    rank = max(left.type.rank, right.type.rank)
    left, right = (b.reshape(t, (*[1] * (rank - t.type.rank), *t.type.shape)) for t in (left, right))
    made = b("BATCH_MATMUL", left, right, adj_x=False, adj_y=False)
    return b.cast(b.reshape(made, shape), dtype)


def _broadcast(x: Sequence[int], y: Sequence[int]) -> list[int]:
    rank = max(len(x), len(y))
    pairs = zip([1] * (rank - len(x)) + list(x), [1] * (rank - len(y)) + list(y), strict=True)
    return [m if n == 1 else n for n, m in pairs]


@rule("Gemm")
def general_product(b: Builder, c: Call) -> Tensor:
    """alpha A B + beta C"""
    x, y = (b.transpose(t, (1, 0)) if c.attr(name, 0) else t for t, name in ((c[0], "transA"), (c[1], "transB")))
    alpha, beta = c.attr("alpha", 1.0), c.attr("beta", 1.0)
    if alpha != 1:
        factor = b.constant(alpha, y.type.dtype)
        x, y = (x, computed(b, "MUL", y, factor)) if y.data is not None else (computed(b, "MUL", x, factor), y)
    if x.type.dtype == FLOAT32 and y.type.rank == 2 and x.type.rank == 2:
        made = matrices.dense(b, x, b.transpose(y, (1, 0)))
    else:
        made = product(b, x, y)
    if c.has(2) and beta:
        more = c[2] if beta == 1 else computed(b, "MUL", c[2], b.constant(beta, c[2].type.dtype))
        made = computed(b, "ADD", made, more)
    return made


@rule("Einsum")
def einsum(b: Builder, c: Call) -> Tensor:
    """ "..." is written out, and a letter that comes twice is a diagonal."""
    equation = c.attr("equation").replace(" ", "")
    tensors = [b.cast(t, FLOAT32) for t in c.tensors()]
    given, _, wanted = equation.partition("->")
    labels = given.split(",")
    free = [s for s in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if s not in equation]
    count = max((t.type.rank - len(o.replace("...", "")) for t, o in zip(tensors, labels, strict=True)), default=0)
    dots = "".join(free[:count])
    labels = [o.replace("...", dots[count - (t.type.rank - len(o.replace("...", ""))) :]) if "..." in o else o
              for t, o in zip(tensors, labels, strict=True)]  # fmt: skip
    if "->" not in equation:
        letters = "".join(labels)
        once = sorted({s for s in letters if letters.count(s) == 1 and s not in dots})
        wanted = (dots if "..." in given else "") + "".join(once)
    pairs = [_without_diagonals(b, t, o) for t, o in zip(tensors, labels, strict=True)]
    text = ",".join(o for _, o in pairs) + "->" + wanted.replace("...", dots)
    return b.cast(matrices.einsum(b, text, *(t for t, _ in pairs)), c[0].type.dtype)


def _without_diagonals(b: Builder, x: Tensor, labels: str) -> tuple[Tensor, str]:
    for letter in dict.fromkeys(labels):
        if labels.count(letter) > 1:
            axes = [i for i, s in enumerate(labels) if s == letter][:2]
            rest = [i for i in range(x.type.rank) if i not in axes]
            n = x.type.shape[axes[0]]
            b.require(not is_open(n), "a diagonal of an open dimension")
            turned = b.transpose(x, [*axes, *rest])
            x = b("GATHER_ND", turned, b.constant(np.stack([np.arange(n)] * 2, -1)))
            return _without_diagonals(b, x, letter + "".join(labels[i] for i in rest))
    return x, labels


# normalisation


@rule("BatchNormalization")
def batch_normalization(b: Builder, c: Call) -> Sequence[Tensor]:
    """A factor and an offset for each channel, which the convolution before takes in."""
    x = b.cast(c[0], FLOAT32)
    eps, rank = c.attr("epsilon", 1e-5), x.type.rank
    scale, bias, mean, variance = (b.cast(c[i], FLOAT32) for i in range(1, 5))
    if c.attr("training_mode", 0) or (c.version < 14 and len([r for r in c.results if r]) > 1):
        return _in_training(b, c, x, (scale, bias, mean, variance))
    parts = [t.data for t in (scale, bias, mean, variance)]
    if all(p is not None for p in parts):
        s, o, m, v = (np.asarray(p, np.float64) for p in parts)
        factor = s / np.sqrt(v + eps)
        y = b("MUL", x, along_channels(b, b.constant(factor, FLOAT32), rank))
        y = b("ADD", y, along_channels(b, b.constant(o - m * factor, FLOAT32), rank))
        return [b.cast(y, c[0].type.dtype)]
    root = (Value(b, variance) + eps).apply("RSQRT")
    factor_now = Value(b, scale) * root
    offset = Value(b, bias) - Value(b, mean) * factor_now
    y = affine(b, x, factor_now.tensor, offset.tensor, lambda v: along_channels(b, v, rank))
    return [b.cast(y, c[0].type.dtype)]


def _in_training(b: Builder, c: Call, x: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
    """By the batch's own moments; running ones go along."""
    scale, bias, mean, variance = given
    eps, momentum, rank = c.attr("epsilon", 1e-5), c.attr("momentum", 0.9), x.type.rank
    axes = [i for i in range(rank) if i != 1]
    centred, square = moments(b, x, axes)
    y = affine(b, (centred / formulas.sqrt(square + eps)).tensor, scale, bias, lambda v: along_channels(b, v, rank))
    now = Value(b, reduced(b, "MEAN", x, axes, False)), Value(b, b.reshape(square.tensor, (x.type.shape[1],)))
    running = [(Value(b, old) * momentum + new * (1 - momentum)).tensor
               for old, new in zip((mean, variance), now, strict=True)]  # fmt: skip
    return [b.cast(y, c[0].type.dtype), *running][: len(c.results)]


@rule("InstanceNormalization")
def instance_normalization(b: Builder, c: Call) -> Tensor:
    x = b.cast(c[0], FLOAT32)
    centred, square = moments(b, x, list(range(2, x.type.rank)))
    y = (centred * (square + c.attr("epsilon", 1e-5)).apply("RSQRT")).tensor
    y = affine(b, y, b.cast(c[1], FLOAT32), b.cast(c[2], FLOAT32), lambda v: along_channels(b, v, x.type.rank))
    return b.cast(y, c[0].type.dtype)


@rule("GroupNormalization")
def group_normalization(b: Builder, c: Call) -> Tensor:
    """Before operator set 21 scale and bias are numbers of each group."""
    x, groups = b.cast(c[0], FLOAT32), c.attr("num_groups")
    batch, channels, *places = x.type.shape
    parted = b.reshape(x, (batch, groups, channels // groups, *places))
    centred, square = moments(b, parted, list(range(2, parted.type.rank)))
    y = (centred * (square + c.attr("epsilon", 1e-5)).apply("RSQRT")).tensor
    scale, bias = b.cast(c[1], FLOAT32), b.cast(c[2], FLOAT32)
    if scale.type.size == groups and groups != channels:
        y = affine(b, y, scale, bias, lambda v: along_channels(b, v, parted.type.rank))
        return b.cast(b.reshape(y, x.type.shape), c[0].type.dtype)
    y = affine(b, b.reshape(y, x.type.shape), scale, bias, lambda v: along_channels(b, v, x.type.rank))
    return b.cast(y, c[0].type.dtype)


@rule("LayerNormalization")
def layer_normalization(b: Builder, c: Call) -> Sequence[Tensor]:
    x = b.cast(c[0], FLOAT32)
    first = c.attr("axis", -1) % x.type.rank
    axes = list(range(first, x.type.rank))
    mean = reduced(b, "MEAN", x, axes, True)
    centred = Value(b, b("SUB", x, mean))
    square = Value(b, reduced(b, "MEAN", b("SQUARE", centred.tensor), axes, True))
    root = (square + c.attr("epsilon", 1e-5)).apply("RSQRT")
    scale, bias = (None if not c.has(i) else b.cast(c[i], FLOAT32) for i in (1, 2))
    y = affine(b, (centred * root).tensor, scale, bias, lambda v: v)
    return [b.cast(y, c[0].type.dtype), mean, root.tensor][: len(c.results)]


@rule("RMSNormalization")
def rms_normalization(b: Builder, c: Call) -> Tensor:
    x = b.cast(c[0], FLOAT32)
    axes = list(range(c.attr("axis", -1) % x.type.rank, x.type.rank))
    square = Value(b, reduced(b, "MEAN", b("SQUARE", x), axes, True))
    root = (square + c.attr("epsilon", 1e-5)).apply("RSQRT")
    return b.cast(affine(b, (Value(b, x) * root).tensor, b.cast(c[1], FLOAT32), None, lambda v: v), c[0].type.dtype)


@rule("LRN")
def local_response(b: Builder, c: Call) -> Tensor:
    """x / (bias + alpha / size * the sum of squares of `size` channels)**beta"""
    x, size = c[0], c.attr("size")
    alpha, beta, bias = c.attr("alpha", 1e-4) / size, c.attr("beta", 0.75), c.attr("bias", 1.0)
    if size % 2 and x.type.rank == 4:
        last = channels_last(b, x)
        y = b("LOCAL_RESPONSE_NORMALIZATION", last, radius=size // 2, bias=float(bias), alpha=float(alpha),
              beta=float(beta))  # fmt: skip
        return channels_first(b, y)
    square = b("SQUARE", x)
    pairs = [(0, 0)] * x.type.rank
    pairs[1] = ((size - 1) // 2, size // 2)
    wide = constant_pad(b, square, pairs, None)
    channels = x.type.shape[1]
    parts = [b.slice(wide, [i if a == 1 else 0 for a in range(x.type.rank)],
                     [channels if a == 1 else n for a, n in enumerate(x.type.shape)]) for i in range(size)]  # fmt: skip
    total = Value(b, parts[0])
    for part in parts[1:]:
        total = total + Value(b, part)
    return (Value(b, x) / (total * alpha + bias).apply("POW", float(beta))).tensor
