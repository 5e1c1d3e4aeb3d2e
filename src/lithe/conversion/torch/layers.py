"""What ATen's operators are in builtins: convolutions, pooling, products, normalisation, attention, resizing.

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
from lithe.conversion.parts import along_channels, channels_first, channels_last, sliced, split
from lithe.conversion.reductions import affine, integer_product, moments, reduced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.torch.rules import Call, cast, rule, sequence
from lithe.conversion.windows import Window
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value
from lithe.types import BOOL, FLOAT32


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


# products


@rule("linear", "addmm", "mm", "matmul", "bmm", "mv", "dot", "baddbmm")
def product(b: Builder, c: Call, x: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, mat2: Tensor,
            mat1: Tensor, other: Tensor, vec: Tensor, tensor: Tensor, batch1: Tensor, batch2: Tensor, beta: Any,
            alpha: Any) -> Tensor:  # fmt: skip
    """Products of matrices; a constant right one becomes weights of FULLY_CONNECTED."""
    word = c.name.split(".")[0]
    if word == "linear":
        if weight.data is not None and weight.type.rank == 2:
            shape = c.result.shape
            plain = bias if bias is not None and bias.data is not None else None
            y = b.reshape(matrices.dense(b, input, weight, plain), shape)
            return y if bias is plain else b("ADD", y, bias)
        turned = weight if weight.type.rank == 1 else b.transpose(weight, (1, 0))
        y = matrix_product(b, input, turned, c.result.shape)
        return y if bias is None else b("ADD", y, bias)
    if word in ("addmm", "baddbmm"):
        left, right = (mat1, mat2) if word == "addmm" else (batch1, batch2)
        if (
            word == "addmm"
            and right.data is not None
            and x.data is not None
            and x.type.rank == 1
            and beta == alpha == 1
        ):
            return matrices.dense(b, left, b.transpose(right, (1, 0)), x)
        y = matrix_product(b, left, right, c.result.shape)
        y = y if alpha == 1 else b("MUL", y, b.constant(alpha, c.result.dtype))
        return b("ADD", y, x if beta == 1 else b("MUL", x, b.constant(beta, c.result.dtype)))
    right = next(t for t in (mat2, other, vec, tensor) if t is not None)
    return matrix_product(b, x, right, c.result.shape)


def matrix_product(b: Builder, x: Tensor, y: Tensor, shape: Sequence[int]) -> Tensor:
    """torch.matmul: vectors are matrices with one row or column, batches are repeated."""
    left = b.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    right = b.reshape(y, (*y.type.shape, 1)) if y.type.rank == 1 else y
    if right.type.rank == 2 and right.data is not None and right.type.dtype == FLOAT32:
        return b.reshape(matrices.dense(b, left, b.transpose(right, (1, 0))), shape)
    if left.type.dtype.is_integer:
        return integer_product(b, left, right, shape)
    rank = max(left.type.rank, right.type.rank)
    left, right = (b.reshape(t, (*[1] * (rank - t.type.rank), *t.type.shape)) for t in (left, right))
    made = b("BATCH_MATMUL", left, right, adj_x=False, adj_y=False)
    return b.reshape(made, shape)


@rule("einsum")
def einsum(b: Builder, c: Call, equation: str, tensors: Sequence[Tensor]) -> Tensor:
    if "->" not in equation:
        letters = equation.replace(",", "").replace(" ", "")
        equation += "->" + "".join(sorted(set(filter(lambda s: letters.count(s) == 1, letters))))
    return matrices.einsum(b, equation, *tensors)


@rule("_trilinear")
def product_of_three(b: Builder, c: Call, i1: Tensor, i2: Tensor, i3: Tensor, expand1: Sequence[int],
                     expand2: Sequence[int], expand3: Sequence[int], sumdim: Sequence[int]) -> Tensor:  # fmt: skip
    """sum(i1 * i2 * i3) over some axes, where each has axes of one element put in."""
    rank = i1.type.rank + len(expand1)
    wide = []
    for x, new in ((i1, expand1), (i2, expand2), (i3, expand3)):
        sizes = iter(x.type.shape)
        wide.append(b.reshape(x, [1 if a in new else next(sizes) for a in range(rank)]))
    return reduced(b, "SUM", b("MUL", b("MUL", wide[0], wide[1]), wide[2]), list(sumdim), False)


@rule("outer")
def outer(b: Builder, c: Call, x: Tensor, vec2: Tensor) -> Tensor:
    return b("MUL", b.reshape(x, (x.type.size, 1)), b.reshape(vec2, (1, vec2.type.size)))


@rule("bilinear")
def bilinear(b: Builder, c: Call, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    n = input1.type.rank - 1
    outer_axes = "abcdefgh"[:n]
    y = matrices.einsum(b, f"{outer_axes}x,zxy,{outer_axes}y->{outer_axes}z", input1, weight, input2)
    return y if bias is None else b("ADD", y, bias)


# normalisation


@rule("_native_batch_norm_legit_no_training", "_native_batch_norm_legit.no_stats")
def batch_norm(b: Builder, c: Call, input: Tensor, weight: Tensor | None, bias: Tensor | None,
               running_mean: Tensor | None, running_var: Tensor | None, training: Any, eps: float) -> Any:  # fmt: skip
    """A factor and an offset for each channel, which the convolution before takes in."""
    rank = input.type.rank
    if running_mean is None or running_var is None or training:
        axes = [i for i in range(rank) if i != 1]
        centred, square = moments(b, input, axes)
        y = centred * (square + eps).apply("RSQRT")
    else:
        mean, variance = b.array(running_mean).astype(np.float64), b.array(running_var).astype(np.float64)
        factor = (1.0 if weight is None else b.array(weight)) / np.sqrt(variance + eps)
        offset = (0.0 if bias is None else b.array(bias)) - mean * factor
        scaled = b("MUL", input, along_channels(b, b.constant(factor, FLOAT32), rank))
        made = b("ADD", scaled, along_channels(b, b.constant(offset, FLOAT32), rank))
        return [made] * len(c.results) if len(c.results) > 1 else made
    made = affine(b, y.tensor, weight, bias, lambda v: along_channels(b, v, rank))
    return [made] * len(c.results) if len(c.results) > 1 else made


@rule("layer_norm", "native_layer_norm")
def layer_norm(b: Builder, c: Call, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None,
               bias: Tensor | None, eps: float) -> Any:  # fmt: skip
    rank = input.type.rank
    axes = list(range(rank - len(normalized_shape), rank))
    centred, square = moments(b, input, axes)
    y = (centred * (square + eps).apply("RSQRT")).tensor
    y = affine(b, y, weight, bias, lambda v: v)
    return [y, y, y] if c.name.startswith("native") else y


@rule("rms_norm")
def rms_norm(b: Builder, c: Call, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None,
             eps: float | None) -> Any:  # fmt: skip
    rank = input.type.rank
    axes = list(range(rank - len(normalized_shape), rank))
    square = Value(b, reduced(b, "MEAN", b("SQUARE", input), axes, True))
    root = (square + (1.1920928955078125e-07 if eps is None else eps)).apply("RSQRT")
    y = affine(b, (Value(b, input) * root).tensor, weight, None, lambda v: v)
    return y


@rule("group_norm", "native_group_norm")
def group_norm(b: Builder, c: Call, input: Tensor, num_groups: int, group: int, weight: Tensor | None,
               bias: Tensor | None, eps: float) -> Any:  # fmt: skip
    """Means over a group's channels and all places, of the picture with groups as an axis."""
    groups = int(num_groups or group)
    batch, channels, *places = input.type.shape
    rank = input.type.rank
    parted = b.reshape(input, (batch, groups, channels // groups, *places))
    centred, square = moments(b, parted, list(range(2, rank + 1)))
    y = b.reshape((centred * (square + eps).apply("RSQRT")).tensor, input.type.shape)
    y = affine(b, y, weight, bias, lambda v: along_channels(b, v, rank))
    return [y, y, y] if c.name.startswith("native") else y


@rule("instance_norm")
def instance_norm(b: Builder, c: Call, input: Tensor, weight: Tensor | None, bias: Tensor | None,
                  running_mean: Tensor | None, running_var: Tensor | None, use_input_stats: bool,
                  eps: float) -> Tensor:  # fmt: skip
    if not use_input_stats:
        made: Tensor = batch_norm(b, c, input, weight, bias, running_mean, running_var, False, eps)
        return made
    rank = input.type.rank
    centred, square = moments(b, input, list(range(2, rank)))
    y = (centred * (square + eps).apply("RSQRT")).tensor
    return affine(b, y, weight, bias, lambda v: along_channels(b, v, rank))


# attention


@rule("scaled_dot_product_attention")
def attention(b: Builder, c: Call, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
              is_causal: bool, scale: float | None, enable_gqa: bool) -> Any:  # fmt: skip
    """softmax(scale q kT + mask) v"""
    if enable_gqa and query.type.shape[-3] != key.type.shape[-3]:
        times = query.type.shape[-3] // key.type.shape[-3]
        key, value = _repeated_heads(b, key, times), _repeated_heads(b, value, times)
    factor = 1 / math.sqrt(query.type.shape[-1]) if scale is None else scale
    scaled = b("MUL", query, b.constant(factor, FLOAT32)) if factor != 1 else query
    rank = max(t.type.rank for t in (query, key, value))
    scaled, key, value = (b.reshape(t, (*[1] * (rank - t.type.rank), *t.type.shape)) for t in (scaled, key, value))
    scores = b("BATCH_MATMUL", scaled, key, adj_x=False, adj_y=True)
    rows, columns = scores.type.shape[-2:]
    if is_causal:
        b.require(is_fixed((rows, columns)), "a causal mask of an open dimension")
        mask = np.triu(np.full((rows, columns), -math.inf, np.float32), 1)
        scores = b("ADD", scores, b.constant(mask, FLOAT32))
    if attn_mask is not None:
        if attn_mask.type.dtype == BOOL:
            low = b.constant(-math.inf, FLOAT32)
            scores = b("SELECT_V2", attn_mask, scores, low, dtype=FLOAT32)
        else:
            scores = b("ADD", scores, cast(b, attn_mask, FLOAT32))
    made = b("BATCH_MATMUL", b("SOFTMAX", scores), value, adj_x=False, adj_y=False)
    return b.reshape(made, c.result.shape)


def _repeated_heads(b: Builder, x: Tensor, times: int) -> Tensor:
    *batch, heads, length, size = x.type.shape
    wide = b.broadcast(b.reshape(x, (*batch, heads, 1, length, size)), (*batch, heads, times, length, size))
    return b.reshape(wide, (*batch, heads * times, length, size))


# resizing


def _sizes(b: Builder, shape: Sequence[int]) -> Tensor:
    return b.vector([int(n) for n in shape])


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
