"""Sums of products: what convolutions and matrix products share, in numpy and as facts for the loops."""

from __future__ import annotations

import math

import numpy as np

from lithe.ir.arithmetic import ACTIVATION_BOUNDS, activate, activation_range, requantize
from lithe.ir.build import Builder, Pixel
from lithe.ir.loops import Buffer, Expr
from lithe.ops.op import Site
from lithe.ops.padding import Window, taps
from lithe.ops.quick import padded, quick_sums, windows
from lithe.types import DTYPES, FLOAT32, INT16, INT32, INT64, UINT8, DType, TensorType

ROOM = 1 << 17  # sums that `convolve` works on at a time: they stay in the processor's cache


def convolve(x: np.ndarray, w: np.ndarray, p: Window, groups: int) -> np.ndarray:
    """sum[n, y, x, o] of x[N, H, W, C] and w[O, KH, KW, C / groups]; outside of x the term is zero.

    Integers (zero points already subtracted) give the exact sum as int64, floats a float64 sum.
    """
    exact = x.dtype.kind in "iu"
    wide = _sufficient(x, w) if exact else np.dtype(np.float64)
    x, w = x.astype(wide), w.astype(wide)
    n, h, width, _ = x.shape
    outputs, kh, kw, depth = w.shape
    oh, ow = p.size
    (sy, sx), (dy, dx), (above, left) = p.strides, p.dilation, p.before
    total = np.zeros((n, oh, ow, outputs), wide)
    spread = np.repeat(x, outputs // groups, axis=3) if depth == 1 and outputs > groups > 1 else x
    columns = [taps(ow, width, kx * dx - left, sx) for kx in range(kw)]
    rows = max(1, ROOM // max(1, n * ow * outputs))
    for top in range(0, oh, rows):
        part = total[:, top : top + rows]
        for ky in range(kh):
            line = taps(part.shape[1], h, top * sy + ky * dy - above, sy)
            for kx, column in enumerate(columns):
                if line is not None and column is not None:
                    block = spread[:, line[1], column[1]]
                    part[:, line[0], column[0]] += _products(block, w[:, ky, kx], groups)
    return total.astype(np.int64) if exact else total


def sums(site: Site, x: np.ndarray, w: np.ndarray, p: Window, groups: int) -> np.ndarray:
    """What `convolve` gives for the stored elements of x and w; reals in float32 where a site asks for haste."""
    if site.quick and x.dtype == w.dtype == np.float32:
        return quick_sums(x, w, p, groups)
    x, w = centred(x, site.inputs[0]), centred(w, site.inputs[1])
    if site.quick and x.dtype.kind == "i" and _sufficient(x, w).kind == "f":
        wide = _sufficient(x, w)
        return quick_sums(x.astype(wide), w.astype(wide), p, groups).astype(np.int64)
    return convolve(x, w, p, groups)


def patches(x: np.ndarray, kernel: tuple[int, int], p: Window, groups: int, step: int = 1) -> np.ndarray:
    """What a filter of `kernel` rows and columns meets: [groups, N * outputs of an image, KH * KW * C / groups].

    Outside of x[N, H, W, C] it meets zeros. step: of the outputs of each image, every step-th.
    """
    rows, columns = np.divmod(np.arange(0, p.size[0] * p.size[1], step), p.size[1])
    found = windows(padded(x, kernel, p), kernel, p)[:, rows, columns]
    n, count, depth = len(x), len(rows), x.shape[3] // groups
    parted = found.reshape(n * count, *kernel, groups, depth).transpose(3, 0, 1, 2, 4)
    return parted.reshape(groups, n * count, kernel[0] * kernel[1] * depth)


def _products(x: np.ndarray, w: np.ndarray, groups: int) -> np.ndarray:
    """x [N, H, W, C] times w [O, C / groups] at every pixel, group by group."""
    outputs, depth = w.shape
    if depth == 1 and groups > 1:
        return x * w[:, 0]
    left = np.ascontiguousarray(x).reshape(-1, groups, depth).swapaxes(0, 1)
    product = left @ w.reshape(groups, outputs // groups, depth).swapaxes(1, 2)
    return product.swapaxes(0, 1).reshape(*x.shape[:3], outputs)


def _sufficient(x: np.ndarray, w: np.ndarray) -> np.dtype:
    """The type in which every partial sum of integer products is exact; floats, where they do, for their speed."""
    largest = (max(float(t.max(initial=0)), -float(t.min(initial=0))) for t in (x, w))  # abs of the least one wraps
    most = math.prod((*w.shape[1:], *largest))
    return np.dtype(np.float32 if most < 2**24 else np.float64 if most < 2**53 else np.int64)


def centred(x: np.ndarray, t: TensorType) -> np.ndarray:
    """Stored integers less their zero point; floats as they are."""
    return x if t.dtype.is_float else x.astype(np.int32) - np.int32(zero_point(t))


def zero_point(t: TensorType) -> int:
    """The one zero point of a tensor (per-channel ones are all 0, see `require_weights`)."""
    return t.quantization.zero_point[0] if t.quantization is not None and t.quantization.zero_point else 0


def multiplied(b: Builder, t: Buffer) -> Buffer:
    """The operand in a type that schedules multiply: halves as float32, packed integers as bytes."""
    if t.dtype.is_integer:
        return t.viewed(t.shape, DTYPES[f"{t.dtype.kind}{t.dtype.bits}"])
    if t.dtype == FLOAT32:
        return t
    if t.values is not None:
        return b.constant(t.values.astype(np.float32), t.name)
    wide = b.local(FLOAT32, t.shape, t.name)
    b.compute(wide, lambda *i: t[i].to(FLOAT32))
    return wide


def accumulator(site: Site) -> DType:
    x = site.inputs[0].dtype
    return FLOAT32 if x.is_float else INT64 if x == INT16 else INT32


def require_arithmetic(site: Site, axis: int, outputs: int) -> None:
    """The rules for weights (input 1), bias (input 2) and activation of every contraction.

    axis     the weights' axis that may have a scale for each slice.
    outputs  the number of output channels, which is the bias' length.
    """
    activation = site.attrs.fused_activation_function
    site.require(
        activation in ACTIVATION_BOUNDS, f"fused activation must be {', '.join(ACTIVATION_BOUNDS)}, is {activation}"
    )
    w = site.input(1)
    if not w.dtype.is_float:
        q = w.quantization
        site.require(q is not None, "integer weights must have a scale", 1)
        if q.block:
            site.require(site.input(0).dtype.is_float, "weights with a scale for each block need float activations", 1)
            site.require(not any(q.zero_point), "zero points of blocks must be 0", 1)
        elif q.per_channel:
            site.require(q.axis == axis, f"scales must belong to axis {axis}, belong to axis {q.axis}", 1)
            site.require(len(q.scale) == w.shape[axis], f"{len(q.scale)} scales for {w.shape[axis]} output channels", 1)
            site.require(not any(q.zero_point), "zero points for each channel must be 0", 1)
        legacy = w.dtype == UINT8 and site.input(0).dtype.is_float
        site.require(not legacy or zero_point(w) == 0, "uint8 weights of float activations hold int8: no zero point", 1)
        low, high = w.dtype.minimum, w.dtype.maximum
        site.require(low <= zero_point(w) <= high, f"zero point {zero_point(w)} is outside of {w.dtype}", 1)
    if site.has(2):
        bias = site.rank(2, 1)
        site.require(bias.shape[0] == outputs, f"must have {outputs} elements, one an output channel, has {bias}", 2)
    if site.quantized:
        for t, name in ((site.input(0), "input"), (site.outputs[0], "output")):
            scale, zero = site.quantization(t, name)
            site.require(scale > 0 and math.isfinite(scale), f"scale must be positive and finite, is {scale}", name)
            site.require(t.dtype.minimum <= zero <= t.dtype.maximum, f"zero point {zero} is outside of {t.dtype}", name)


def weight_scales(t: TensorType, outputs: int) -> np.ndarray:
    """float32 [outputs]: the scale of each output channel's weights; 1 where sums have met those of their blocks."""
    if t.quantization.block:
        return np.ones(outputs, np.float32)
    return np.broadcast_to(np.asarray(t.quantization.scale, np.float32), (outputs,)).copy()


def multipliers(site: Site, outputs: int) -> np.ndarray:
    """float32 [outputs]: input scale * weight scale / output scale, rounded after each step as XNNPACK does."""
    (x_scale, _), (y_scale, _) = site.quantization(site.inputs[0]), site.quantization(site.outputs[0])
    return np.float32(x_scale) * weight_scales(site.inputs[1], outputs) / np.float32(y_scale)


def finished(site: Site, total: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """The output of exact (int64), float64 or quick sums: bias, scale, activation. The last axis holds output channels.

    Quick sums are written over.
    """
    y = site.outputs[0]
    activation = site.attrs.fused_activation_function
    if total.dtype == np.float32:
        if bias is not None:
            total += bias
        bounds = ACTIVATION_BOUNDS[activation]
        if bounds != (None, None):
            total.clip(*bounds, out=total)
        return total.astype(y.dtype.numpy, copy=False)
    if not site.quantized:
        real = total if bias is None else total + bias.astype(np.float64)
        return np.asarray(activate(real.astype(np.float32), activation)).astype(y.dtype.numpy)
    if bias is not None:
        total = total + bias
    total = total.astype(accumulator(site).numpy)
    scale, zero = site.quantization(y)
    low, high = activation_range(activation, scale, zero, y.dtype)
    return requantize(total, multipliers(site, total.shape[-1]), zero, low, high, y.dtype)


class Epilogue:
    """What happens to a finished sum (bias included), as a callable for `Convolution.epilogue`."""

    def __init__(self, b: Builder, site: Site, outputs: int) -> None:
        self.activation = site.attrs.fused_activation_function
        self.dtype = site.outputs[0].dtype
        self.factor: Buffer | None = None
        if site.quantized:
            scale, self.zero = site.quantization(site.outputs[0])
            self.low, self.high = activation_range(self.activation, scale, self.zero, self.dtype)
            self.factor = b.constant(multipliers(site, outputs), "multiplier")

    def __call__(self, total: Expr, o: Expr, pixel: Pixel) -> Expr:
        if self.factor is None:
            return activate(total, self.activation).to(self.dtype)
        return requantize(total, self.factor[o], self.zero, self.low, self.high, self.dtype)


def wide_bias(b: Builder, bias: Buffer | None, wide: DType) -> Buffer | None:
    """The bias in the accumulator's type."""
    if bias is None or bias.dtype == wide:
        return bias
    if bias.values is not None:
        return b.constant(bias.values.astype(wide.numpy), "bias")
    copy = b.local(wide, bias.shape, "bias")
    b.compute(copy, lambda o: bias[o].to(wide))
    return copy
