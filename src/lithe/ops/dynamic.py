"""Dynamic range: float activations meet integer weights, so the input is quantized while the model runs.

Every row of a batch gets a scale and a zero point from its own extremes, the product is summed in integers,
and the sum is scaled back to float. Source: XNNPACK, asymmetric 8-bit dynamic quantization ("qd8"): the factor is
255 / (max - min), and the zero point is the one of the two candidates (from min, from max) that is nearer to its end.
"""

from __future__ import annotations

import math

import numpy as np

from lithe.ir.arithmetic import activate, clamp, maximum, minimum, round_to_int, where
from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import Buffer, Const, Expr
from lithe.ops.contraction import convolve, weight_scales, zero_point
from lithe.ops.op import Site
from lithe.ops.padding import Window
from lithe.types import FLOAT32, INT8, INT32, Shape

LANES = 64  # partial extremes, so that the search for them runs on vectors
MOST_PADDED = 1 << 28  # elements of the quantized input with its padding


def used(site: Site) -> bool:
    """Whether activations are float and weights are integers."""
    return site.inputs[0].dtype.is_float and not site.inputs[1].dtype.is_float


def padded(x: Shape, kernel: Shape, p: Window) -> Shape:
    """The shape of the input with all the padding that the windows reach."""
    rows = max(x[1] + p.before[0], (p.size[0] - 1) * p.strides[0] + (kernel[0] - 1) * p.dilation[0] + 1)
    columns = max(x[2] + p.before[1], (p.size[1] - 1) * p.strides[1] + (kernel[1] - 1) * p.dilation[1] + 1)
    return (x[0], rows, columns, x[3])


def require(site: Site, kernel: Shape, p: Window) -> None:
    """The rule that dynamic range adds: the padded input is stored, so its size has a limit."""
    size = math.prod(padded(site.input(0).shape, kernel, p))
    site.require(size <= MOST_PADDED, f"the input with its padding has {size} elements, more than {MOST_PADDED}", 0)


def parameters(low: np.ndarray | Expr, high: np.ndarray | Expr) -> tuple:
    """(factor, zero point as a whole float) for rows whose values lie in low..high; 0 is always representable."""
    zero, one = (Const(0.0, FLOAT32), Const(1.0, FLOAT32)) if isinstance(low, Expr) else (np.float32(0), np.float32(1))
    low, high = minimum(low, zero), maximum(high, zero)
    span = high - low
    none = span <= zero
    factor = where(none, one, (zero + np.float32(255.0)) / where(none, one, span))
    from_low, from_high = low * factor, high * factor
    nearer = (from_low + np.float32(-128.0)) + (from_high + np.float32(127.0)) > zero
    point = where(nearer, -from_low + np.float32(-128.0), -from_high + np.float32(127.0))
    return factor, clamp(point, zero + np.float32(-128.0), zero + np.float32(127.0))


def convolved(
    site: Site,
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    p: Window,
    groups: int,
) -> np.ndarray:
    """The output for x [N, H, W, C] and integer w [O, KH, KW, I]."""
    row = (x.shape[0], 1, 1, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        factor, point = parameters(x.min(axis=(1, 2, 3)), x.max(axis=(1, 2, 3)))
        factor, zero = np.asarray(factor, np.float32).reshape(row), np.rint(point).astype(np.int32).reshape(row)
        inside = clamp(x * factor, (-128 - zero).astype(np.float32), (127 - zero).astype(np.float32))
        stored = np.rint(inside).astype(np.int32)  # less the zero point
        total = convolve(stored, w.astype(np.int32) - zero_point(site.inputs[1]), p, groups)
        real = total.astype(np.int32).astype(np.float32) * (np.float32(1) / factor)
        real = real * weight_scales(site.inputs[1], w.shape[0])
        real = real if bias is None else real + bias
        return np.asarray(activate(real, site.attrs.fused_activation_function), np.float32)


def lower(b: Builder, site: Site, x: Buffer, w: Buffer, bias: Buffer | None, y: Buffer, p: Window, groups: int) -> None:
    """Quantizes x into a padded scratch (padding holds the zero point), convolves integers, scales back.

    The zero point is known only while the model runs, so its share, zero point * sum of an output's weights,
    is subtracted from the finished sum.
    """
    batches = x.shape[0]
    factor, inverse = b.local(FLOAT32, (batches,), "factor"), b.local(FLOAT32, (batches,), "inverse")
    zero = b.local(INT32, (batches,), "zero_point")
    with b.loop(batches, "parallel", "row") as n:
        low, high = _extremes(b, x.viewed((batches, x.size // batches)) if batches else x, n)
        scale, point = parameters(low, high)
        b.store(factor, n, scale)
        b.store(inverse, n, Const(1.0, FLOAT32) / scale)
        b.store(zero, n, round_to_int(point))
    shape = padded(x.shape, w.shape[1:3], p)
    stored = b.local(INT8, shape, "quantized")
    if shape != x.shape:
        b.compute(stored, lambda n, *_: zero[n].to(INT8))
    top, left = p.before
    with b.nest(x.shape, "parallel") as (n, r, c, i):
        point = zero[n].to(FLOAT32)
        inside = clamp(x[n, r, c, i] * factor[n], -point + np.float32(-128.0), -point + np.float32(127.0))
        b.store(stored, (n, r + top, c + left, i), (round_to_int(inside) + zero[n]).to(INT8))
    sums, scales = _weight_sums(b, site, w), b.constant(weight_scales(site.inputs[1], w.shape[0]), "scale")

    def epilogue(total: Expr, o: Expr, pixel: tuple[Expr, ...]) -> Expr:
        n = pixel[0]
        real = (total - zero[n] * sums[o]).to(FLOAT32) * inverse[n] * scales[o]
        return activate(real if bias is None else real + bias[o], site.attrs.fused_activation_function)

    b.convolution(
        Convolution(
            stored, w, None, y, p.strides, p.dilation, (0, 0), groups, INT32, epilogue,
            w_zero=zero_point(site.inputs[1]),
        )
    )  # fmt: skip


def _extremes(b: Builder, rows: Buffer, n: Expr) -> tuple[Expr, Expr]:
    """The least and greatest value of a row, and 0."""
    size = rows.shape[1]
    lanes = min(LANES, size)
    lows, highs = b.local(FLOAT32, (lanes,), "lows"), b.local(FLOAT32, (lanes,), "highs")
    with b.loop(lanes, "vector", "lane") as lane:
        b.store(lows, lane, 0.0)
        b.store(highs, lane, 0.0)
    with b.loop(size // lanes) as i, b.loop(lanes, "vector", "lane") as lane:
        value = rows[n, i * lanes + lane]
        b.store(lows, lane, minimum(value, lows[lane]))
        b.store(highs, lane, maximum(value, highs[lane]))
    low, high = b.variable(0.0, "low"), b.variable(0.0, "high")
    with b.loop(lanes) as lane:
        b.store(low, (), minimum(lows[lane], low[()]))
        b.store(high, (), maximum(highs[lane], high[()]))
    done = size // lanes * lanes
    with b.loop(size - done) as i:
        value = rows[n, i + done]
        b.store(low, (), minimum(value, low[()]))
        b.store(high, (), maximum(value, high[()]))
    return low[()], high[()]


def _weight_sums(b: Builder, site: Site, w: Buffer) -> Buffer:
    """int32 [O]: the sum of each output's weights less their zero point."""
    outputs, *rest = w.shape
    offset, data = zero_point(site.inputs[1]), w.storage.data
    if data is not None:
        total = (data.reshape(outputs, -1).astype(np.int64) - offset).sum(axis=1)
        return b.constant(total.astype(np.int32), "weight_sum")
    sums = b.local(INT32, (outputs,), "weight_sum")
    with b.loop(outputs, "parallel", "o") as o:
        total = b.reduce(0, tuple(rest), lambda t, *i: t + (w[(o, *i)].to(INT32) - offset), INT32)
        b.store(sums, o, total)
    return sums
