"""Dynamic range: float activations meet integer weights, so the input is quantized while the model runs.

Every row of a batch gets a scale and a zero point from its own extremes, the product is summed in integers,
and the sum is scaled back to float. The official kernels differ in details that can flip a rounding:

    XNNPACK ("qd8")     factor 255 / (max - min), halves to even; fully connected layers, and weights with one scale
    TensorFlow Lite's   factor 1 / ((max - min) / 255), halves away from zero; convolutions with scales for each
    own                 channel, for which XNNPACK has no kernel (depthwise) or quantizes each pixel alone (pointwise)

A flipped rounding is a step of the input, so following the same details layer by layer is what keeps whole models
together: with those of TensorFlow Lite, deep convolutional models stay equal to it where pixel by pixel they drift.
Sources: XNNPACK, asymmetric quantization parameters; TensorFlow Lite, AsymmetricQuantizeFloats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.arithmetic import activate, clamp, maximum, minimum, round_to_int, trunc, where
from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import Buffer, Const, Expr, constant
from lithe.ops.contraction import convolve, weight_scales, zero_point
from lithe.ops.op import Site
from lithe.ops.padding import Window
from lithe.types import FLOAT32, INT2, INT4, INT8, INT16, INT32, UINT8, Shape

Finish = Callable[[Expr, Expr, Pixel], Expr]  # as `Convolution.epilogue`
LANES = 64  # partial extremes, so that the search for them runs on vectors
TOGETHER = 8  # rows that are worked on together
PARTS, LEAST_PART = 16, 1024  # of a row, where there are few: how many at most, elements of one at least
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


def away(site: Site) -> bool:
    """Whether TensorFlow Lite's own arithmetic is followed (see the module's text)."""
    w = site.inputs[1]
    return symmetric(site) or (w.rank == 4 and len(set(w.quantization.scale)) > 1)


def symmetric(site: Site) -> bool:
    """Whether rows have no zero point: with weights that XNNPACK does not take, unless a zero point is asked for.

    Those are uint8; int2 with one scale for float32; filters of convolutions of int4 with one scale.
    """
    x, w = site.inputs[:2]
    left = w.dtype == UINT8
    if len(w.quantization.scale) == 1:
        left |= (w.dtype == INT2 and x.dtype == FLOAT32) or (w.dtype == INT4 and w.rank == 4)
    return left and not getattr(site.attrs, "asymmetric_quantize_inputs", False)


def row_parameters(site: Site, low: np.ndarray | Expr, high: np.ndarray | Expr) -> tuple:
    """`parameters` as the site needs them; low <= 0 <= high."""
    if not symmetric(site):
        return parameters(low, high, away(site))
    most = Const(127.0, FLOAT32) if isinstance(low, Expr) else np.float32(127)
    span = maximum(-low, high)
    span = where(span <= most - most, most, span)
    return most / span, span / most, low - low


def parameters(low: np.ndarray | Expr, high: np.ndarray | Expr, own: bool) -> tuple:
    """(factor, scale, zero point) of rows whose values lie in low..high, as floats; 0 is always representable.

    own  True for TensorFlow Lite's own arithmetic, False for XNNPACK's.
    """
    zero, one = (Const(0.0, FLOAT32), Const(1.0, FLOAT32)) if isinstance(low, Expr) else (np.float32(0), np.float32(1))
    low, high = minimum(low, zero), maximum(high, zero)
    span = high - low
    none, steps = span <= zero, zero + np.float32(255.0)
    span = where(none, steps, span)
    if own:
        scale = span / steps
        factor = one / scale
    else:
        factor = steps / span
        scale = one / factor
    from_low, from_high = low * factor, high * factor
    nearer = (from_low + np.float32(-128.0)) + (from_high + np.float32(127.0)) > zero
    point = where(nearer, -from_low + np.float32(-128.0), -from_high + np.float32(127.0))
    return factor, scale, clamp(point, zero + np.float32(-128.0), zero + np.float32(127.0))


def nearest(x: np.ndarray | Expr, own: bool) -> np.ndarray | Expr:
    """The nearest int32 of a value in its range.

    Halves go away from zero in TensorFlow Lite's own arithmetic, to even in XNNPACK's.
    """
    if not own:
        return round_to_int(x)
    half = Const(0.5, FLOAT32) if isinstance(x, Expr) else np.float32(0.5)
    return round_to_int(trunc(x + where(x < half - half, -half, half)))


def signed(w: np.ndarray) -> np.ndarray:
    """Integer weights as they are meant: with float activations, old writers stored the bits of int8 as uint8."""
    return w.view(np.int8) if w.dtype == np.uint8 else w


def row_extremes(x: np.ndarray, axis: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The least and greatest value along axes, and 0; a NaN counts for nothing."""
    zero = np.float32(0)
    return np.fmin.reduce(x, axis=axis, initial=zero), np.fmax.reduce(x, axis=axis, initial=zero)


def convolved(
    site: Site,
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    p: Window,
    groups: int,
) -> np.ndarray:
    """The output for x [N, H, W, C] and integer w [O, KH, KW, I]."""
    less = signed(w).astype(np.int32) - zero_point(site.inputs[1])
    return scaled(site, x, bias, lambda stored: convolve(stored, less, p, groups))


def scaled(
    site: Site, x: np.ndarray, bias: np.ndarray | None, product: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The output for x [N, H, W, C]; `product` makes sums [N, OH, OW, O] of the quantized x: int64, or float32."""
    row, x = (x.shape[0], 1, 1, 1), x.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        own = away(site)
        values = row_parameters(site, *row_extremes(x, (1, 2, 3)))
        factor, scale, point = (np.asarray(v, np.float32).reshape(row) for v in values)
        zero = nearest(point, own)
        inside = clamp(x * factor, (-128 - zero).astype(np.float32), (127 - zero).astype(np.float32))
        stored = nearest(inside, own)  # less the zero point
        total = product(stored)
        total = total if total.dtype.kind == "f" else total.astype(np.int32)  # sums of blocks have got their scales
        real = total.astype(np.float32) * scale
        real = real * weight_scales(site.inputs[1], real.shape[-1])
        real = real if bias is None else real + bias.astype(np.float32)
        return np.asarray(activate(real, site.attrs.fused_activation_function)).astype(site.outputs[0].dtype.numpy)


def lower(b: Builder, site: Site, x: Buffer, w: Buffer, bias: Buffer | None, y: Buffer, p: Window, groups: int) -> None:
    """Quantizes x into a padded scratch (padding holds the zero point), convolves integers, scales back.

    The zero point is known only while the model runs, so its share, zero point * sum of an output's weights,
    is subtracted from the finished sum.
    """
    w = w.viewed(w.shape, INT8)
    stored, scale, zero = quantized_rows(b, site, x, padded(x.shape, w.shape[1:3], p), p.before)
    sums, scales = _weight_sums(b, site, w), b.constant(weight_scales(site.inputs[1], w.shape[0]), "scale")

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        n = pixel[0]
        return _real(site, (total - zero[n] * sums[o]).to(FLOAT32) * scale[n] * scales[o], bias, o)

    b.convolution(
        Convolution(
            stored, w, None, y, p.strides, p.dilation, (0, 0), groups, INT32, epilogue,
            w_zero=zero_point(site.inputs[1]),
        )
    )  # fmt: skip


def lower_blocks(b: Builder, site: Site, x: Buffer, w: Buffer, bias: Buffer | None, y: Buffer) -> None:
    """The product of rows x [N, 1, 1, I] with w [O, 1, 1, I] that has a scale for each block of I.

    The share of the zero point is zero point * sum of an output's weights times the scales of their blocks.
    """
    q = site.inputs[1].quantization
    outputs, depth = w.shape[0], w.shape[3]
    scales = np.asarray(q.scale, np.float32).reshape(outputs, depth // q.block)
    w = w.viewed(w.shape, INT8)
    stored, scale, zero = quantized_rows(b, site, x, x.shape, (0, 0))
    sums = _block_sums(b, w, scales, q.block)

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        n = pixel[0]
        return _real(site, (total - zero[n].to(FLOAT32) * sums[o]) * scale[n], bias, o)

    b.convolution(
        Convolution(
            stored, w, None, y, (1, 1), (1, 1), (0, 0), 1, FLOAT32, epilogue,
            block=q.block, scales=b.constant(scales, "block_scale"),
        )
    )  # fmt: skip


def quantized_rows(
    b: Builder, site: Site, x: Buffer, shape: Shape, before: tuple[int, int]
) -> tuple[Buffer, Buffer, Buffer]:
    """(uint8 x with padding up to a shape, scale, zero point of each batch); padding holds the zero point.

    Unsigned, so 128 more than the official kernels store: that is what byte dot products take.
    """
    batches, (top, left) = x.shape[0], before
    stored = b.local(UINT8, shape, "quantized")
    rows = _Rows(b, site, x)
    point = b.local(INT32, (batches,), "unsigned_zero")

    def quantize(
        source: Buffer, target: Buffer, n: Expr, at: tuple[Expr, ...], to: tuple[Expr, ...], first: int
    ) -> None:
        """target[to, first + i] = source[at, i], which belong to batch n, for every i."""
        less, zero = rows.less_zero(n), b.variable(point[n], "point")
        with b.loop(source.shape[-1], "parallel") as i:
            b.store(target, (*to, i + first), (less(source[(*at, i)]) + zero[()]).to(UINT8))

    if shape == x.shape:
        flat, target = (t.viewed((batches, x.size // max(batches, 1))) for t in (x, stored))

        def finish(first: Expr, count: int) -> None:
            with b.loop(count, "parallel") as r:
                b.store(point, first + r, rows.zero[first + r] + 128)
            with b.loop(count, "serial", "row") as r:
                quantize(flat, target, first + r, (first + r,), (first + r,), 0)

        rows.find(finish)
        return stored, rows.scale, point
    rows.find()
    fill = b.local(UINT8, (batches,), "fill")
    b.compute(point, lambda n: rows.zero[n] + 128)
    b.compute(fill, lambda n: point[n].to(UINT8))
    b.compute(stored, lambda n, *_: fill[n])
    height, depth = x.shape[1], x.shape[3]
    source, target = (t.viewed((*t.shape[:2], t.shape[2] * depth)) for t in (x, stored))
    with b.nest((batches, height), "parallel") as (n, r):
        quantize(source, target, n, (n, r), (n, r + top), left * depth)
    return stored, rows.scale, point


def centred_rows(b: Builder, site: Site, x: Buffer, bias: Buffer | None) -> tuple[Buffer, Finish]:
    """(quantized x less its zero points, what makes an output of a sum of it and weights)."""
    y, rows = site.outputs[0], _Rows(b, site, x)
    rows.find()
    stored = b.local(INT16, x.shape, "quantized")
    flat, target = (t.viewed((x.shape[0], x.size // max(x.shape[0], 1))) for t in (x, stored))
    with b.loop(x.shape[0], "parallel", "row") as n:
        less = rows.less_zero(n)
        with b.loop(flat.shape[1], "parallel") as i:
            b.store(target, (n, i), less(flat[n, i]).to(INT16))
    scales = b.constant(weight_scales(site.inputs[1], y.shape[-1]), "scale")

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        return _real(site, total.to(FLOAT32) * rows.scale[pixel[0]] * scales[o], bias, o)

    return stored, epilogue


class _Rows:
    """The batches of x as rows; once they are found, the factor, scale and zero point of each."""

    def __init__(self, b: Builder, site: Site, x: Buffer) -> None:
        self.b, self.site, self.own = b, site, away(site)
        self.count = x.shape[0]
        self.x = x.viewed((self.count, x.size // self.count)) if self.count else x
        self.factor, self.scale = (b.local(FLOAT32, (self.count,), name) for name in ("factor", "row_scale"))
        self.zero = b.local(INT32, (self.count,), "zero_point")

    def find(self, finish: Callable[[Expr, int], None] = lambda first, count: None) -> None:
        """Writes what finds them; `finish(first, count)` is called where neighbouring rows have just got theirs."""
        whole, rest = divmod(self.count, TOGETHER)
        if not whole and self.count:
            self.few(finish)
            return
        with self.b.loop(whole, "parallel", "block") as block:
            self.several(block * TOGETHER, TOGETHER, finish)
        if rest:
            self.several(constant(whole * TOGETHER), rest, finish)

    def several(self, first: Expr, count: int, finish: Callable[[Expr, int], None]) -> None:
        """Rows that lie in cache together: one step for all of them, then the next."""
        b = self.b
        lows, highs = (b.local(FLOAT32, (count,), name) for name in ("low", "high"))
        with b.loop(count, "serial", "row") as r:
            low, high = extremes(b, self.x, first + r)
            b.store(lows, r, low)
            b.store(highs, r, high)
        with b.loop(count, "parallel", "row") as r:
            self.store(first + r, lows[r], highs[r])
        finish(first, count)

    def few(self, finish: Callable[[Expr, int], None]) -> None:
        """A few long rows, whose parts are independent."""
        b, size = self.b, self.x.shape[1]
        equal = (size // n for n in range(PARTS, PARTS // 2, -1) if size % (n * LANES) == 0 and size // n >= LEAST_PART)
        length = next(equal, -(-max(size // PARTS, LEAST_PART) // LANES) * LANES)  # equal parts are one loop
        whole, rest = divmod(size, length)
        parts = whole + (rest > 0)
        lows, highs = (b.local(FLOAT32, (self.count, max(parts, 1)), name) for name in ("low", "high"))
        with b.loop(self.count, "parallel", "row") as n:
            for first, count, width in ((0, whole, length), (whole, 1, rest)):
                with b.loop(count if width or not parts else 0, "parallel", "part") as part:
                    low, high = extremes(b, self.x, n, (part + first) * length, width)
                    b.store(lows, (n, part + first), low)
                    b.store(highs, (n, part + first), high)
        with b.loop(self.count, "serial", "row") as n:
            low = b.reduce(0.0, (max(parts, 1),), lambda t, i: minimum(lows[n, i], t), FLOAT32)
            high = b.reduce(0.0, (max(parts, 1),), lambda t, i: maximum(highs[n, i], t), FLOAT32)
            self.store(n, low, high)
        finish(constant(0), self.count)

    def store(self, n: Expr, low: Expr, high: Expr) -> None:
        up, down, point = row_parameters(self.site, low, high)
        self.b.store(self.factor, n, up)
        self.b.store(self.scale, n, down)
        self.b.store(self.zero, n, nearest(point, self.own))

    def less_zero(self, n: Expr) -> Callable[[Expr], Any]:
        """What quantizes an element of row n, less the zero point."""
        b, point = self.b, self.zero[n].to(FLOAT32)
        factor = b.variable(self.factor[n], "up")
        least, most = b.variable(-point + np.float32(-128.0), "least"), b.variable(-point + np.float32(127.0), "most")
        return lambda x: nearest(clamp(x * factor[()], least[()], most[()]), self.own)


def _real(site: Site, real: Expr, bias: Buffer | None, o: Expr) -> Expr:
    real = real if bias is None else real + bias[o].to(FLOAT32)
    return activate(real, site.attrs.fused_activation_function).to(site.outputs[0].dtype)


def extremes(b: Builder, rows: Buffer, n: Expr, start: Expr | int = 0, size: int | None = None) -> tuple[Expr, Expr]:
    """The least and greatest value of a row, and 0; of `size` elements of it from `start` on, or of all."""
    size = rows.shape[1] if size is None else size
    lanes = min(LANES, max(1, size))
    lows, highs = b.local(FLOAT32, (lanes,), "lows"), b.local(FLOAT32, (lanes,), "highs")
    with b.loop(lanes, "vector", "lane") as lane:
        b.store(lows, lane, 0.0)
        b.store(highs, lane, 0.0)
    whole = size // lanes
    for first, count, width in ((0, whole, lanes), (whole * lanes, 1, size - whole * lanes)):
        with b.loop(count if width else 0) as i, b.loop(width, "vector", "lane") as lane:
            value = rows[n, start + (i * width + first + lane)]
            b.store(lows, lane, minimum(value, lows[lane]))
            b.store(highs, lane, maximum(value, highs[lane]))
    while lanes > 1:  # every index is a number, so that the partial extremes stay in registers
        half = lanes // 2
        lanes -= half
        with b.loop(half, "vector", "lane") as lane:
            b.store(lows, lane, minimum(lows[lane + lanes], lows[lane]))
            b.store(highs, lane, maximum(highs[lane + lanes], highs[lane]))
    return lows[0], highs[0]


def _weight_sums(b: Builder, site: Site, w: Buffer) -> Buffer:
    """int32 [O]: the sum of each output's weights less their zero point."""
    outputs, *rest = w.shape
    offset, data = zero_point(site.inputs[1]), w.values
    if data is not None:
        total = (data.reshape(outputs, -1).astype(np.int64) - offset).sum(axis=1)
        return b.constant(total.astype(np.int32), "weight_sum")
    sums = b.local(INT32, (outputs,), "weight_sum")
    with b.loop(outputs, "parallel", "o") as o:
        total = b.reduce(0, tuple(rest), lambda t, *i: t + (w[(o, *i)].to(INT32) - offset), INT32)
        b.store(sums, o, total)
    return sums


def _block_sums(b: Builder, w: Buffer, scales: np.ndarray, block: int) -> Buffer:
    """float32 [O]: the sum of each output's weights, each times the scale of its block."""
    outputs, depth = w.shape[0], w.shape[3]
    if w.values is not None:
        parts = w.values.reshape(outputs, depth // block, block).sum(axis=2, dtype=np.float64)
        return b.constant((parts * scales).sum(axis=1).astype(np.float32), "block_sum")
    sums, factors = b.local(FLOAT32, (outputs,), "block_sum"), b.constant(scales, "block_scale")
    with b.loop(outputs, "parallel", "o") as o:
        total = b.reduce(0.0, (depth,), lambda t, i: t + w[o, 0, 0, i].to(FLOAT32) * factors[o, i // block], FLOAT32)
        b.store(sums, o, total)
    return sums
