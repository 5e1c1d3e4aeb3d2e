"""Sums of products: what convolutions and matrix products share, in numpy and as facts for the loops."""

from __future__ import annotations

import math

import numpy as np

from lithe.ir.arithmetic import ACTIVATION_BOUNDS, activate, activation_range, requantize
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr
from lithe.ops.op import Site
from lithe.ops.padding import Window, taps
from lithe.types import FLOAT32, INT16, INT32, INT64, DType, TensorType

ROOM = 1 << 23  # elements of the matrix of windows that `convolve` builds at a time


def convolve(x: np.ndarray, w: np.ndarray, p: Window, groups: int) -> np.ndarray:
    """sum[n, y, x, o] of x[N, H, W, C] and w[O, KH, KW, C / groups]; outside of x the term is zero.

    Integers (zero points already subtracted) give the exact sum as int64, floats a float64 sum.
    """
    exact = x.dtype.kind in "iu"
    wide = _sufficient(x, w) if exact else np.dtype(np.float64)
    x, w = x.astype(wide), w.astype(wide)
    n, h, width, channels = x.shape
    outputs, kh, kw, depth = w.shape
    oh, ow = p.size
    (sy, sx), (dy, dx), (above, left) = p.strides, p.dilation, p.before
    total = np.zeros((n, oh, ow, outputs), wide)
    columns = [taps(ow, width, kx * dx - left, sx) for kx in range(kw)]
    rows = max(1, ROOM // max(1, n * ow * kh * kw * channels))
    for top in range(0, oh, rows):
        part = total[:, top : top + rows]
        size = part.shape[1]
        lines = [taps(size, h, top * sy + ky * dy - above, sy) for ky in range(kh)]
        places = [
            (ky, kx, line, column)
            for ky, line in enumerate(lines)
            for kx, column in enumerate(columns)
            if line is not None and column is not None
        ]
        if depth == 1 and groups > 1:
            spread = np.repeat(x, outputs // groups, axis=3) if outputs > groups else x
            for ky, kx, line, column in places:
                part[:, line[0], column[0]] += spread[:, line[1], column[1]] * w[:, ky, kx, 0]
            continue
        windows = np.zeros((n, size, ow, kh, kw, channels), wide)
        for ky, kx, line, column in places:
            windows[:, line[0], column[0], ky, kx] = x[:, line[1], column[1]]
        for g in range(groups):
            block = windows[..., g * depth : (g + 1) * depth].reshape(n * size * ow, kh * kw * depth)
            own = slice(g * (outputs // groups), (g + 1) * (outputs // groups))
            kernel = w[own].reshape(-1, kh * kw * depth)
            part[..., own] = (block @ kernel.T).reshape(n, size, ow, -1)
    return total.astype(np.int64) if exact else total


def _sufficient(x: np.ndarray, w: np.ndarray) -> np.dtype:
    """The type in which every partial sum of integer products is exact; floats, where they do, for their speed."""
    most = math.prod(w.shape[1:]) * float(np.abs(x).max(initial=0)) * float(np.abs(w).max(initial=0))
    return np.dtype(np.float32 if most < 2**24 else np.float64 if most < 2**53 else np.int64)


def centred(x: np.ndarray, t: TensorType) -> np.ndarray:
    """Stored integers less their zero point; floats as they are."""
    return x if t.dtype.is_float else x.astype(np.int32) - np.int32(zero_point(t))


def zero_point(t: TensorType) -> int:
    """The one zero point of a tensor (per-channel ones are all 0, see `require_weights`)."""
    return t.quantization.zero_point[0] if t.quantization is not None and t.quantization.zero_point else 0


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
        if q.per_channel:
            site.require(q.axis == axis, f"scales must belong to axis {axis}, belong to axis {q.axis}", 1)
            site.require(len(q.scale) == w.shape[axis], f"{len(q.scale)} scales for {w.shape[axis]} output channels", 1)
            site.require(not any(q.zero_point), "zero points for each channel must be 0", 1)
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
    """float32 [outputs]: the scale of each output channel's weights."""
    return np.broadcast_to(np.asarray(t.quantization.scale, np.float32), (outputs,)).copy()


def multipliers(site: Site, outputs: int) -> np.ndarray:
    """float32 [outputs]: input scale * weight scale / output scale, rounded after each step as XNNPACK does."""
    (x_scale, _), (y_scale, _) = site.quantization(site.inputs[0]), site.quantization(site.outputs[0])
    return np.float32(x_scale) * weight_scales(site.inputs[1], outputs) / np.float32(y_scale)


def finished(site: Site, total: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """The output of exact (int64) or float64 sums: bias, scale, activation. The last axis holds output channels."""
    y = site.outputs[0]
    activation = site.attrs.fused_activation_function
    if not site.quantized:
        real = total if bias is None else total + bias.astype(np.float64)
        return np.asarray(activate(real.astype(np.float32), activation))
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
        self.factor: Buffer | None = None
        if site.quantized:
            self.dtype = site.outputs[0].dtype
            scale, self.zero = site.quantization(site.outputs[0])
            self.low, self.high = activation_range(self.activation, scale, self.zero, self.dtype)
            self.factor = b.constant(multipliers(site, outputs), "multiplier")

    def __call__(self, total: Expr, o: Expr, pixel: tuple[Expr, ...]) -> Expr:
        if self.factor is None:
            return activate(total, self.activation)
        return requantize(total, self.factor[o], self.zero, self.low, self.high, self.dtype)


def wide_bias(b: Builder, bias: Buffer | None, wide: DType) -> Buffer | None:
    """The bias in the accumulator's type."""
    if bias is None or bias.dtype == wide:
        return bias
    if bias.data is not None:
        return b.constant(bias.data.reshape(bias.shape).astype(wide.numpy), "bias")
    copy = b.local(wide, bias.shape, "bias")
    b.compute(copy, lambda o: bias[o].to(wide))
    return copy
