"""Transposed convolution: every input pixel is spread over the output by the filter."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import Buffer, Expr, constant
from lithe.ops import dynamic
from lithe.ops.contraction import (
    Epilogue,
    accumulator,
    centred,
    finished,
    multiplied,
    require_arithmetic,
    wide_bias,
    zero_point,
)
from lithe.ops.op import Op, RuleViolation, Site, register
from lithe.ops.padding import actual, placed, require_window, taps, upsampled
from lithe.types import FLOAT32, INT32, DType, Shape

MOST_PHASES = 16  # more would make more code than they save time


def spread(x: np.ndarray, w: np.ndarray, size: tuple[int, int], strides: tuple[int, int], cut: tuple[int, int]) -> Any:
    """sum[n, r, c, o] of x[n, i, j, k] * w[o, r - i*sh + top, c - j*sw + left, k]: exact integers, or float64."""
    exact = x.dtype.kind in "iu"
    x, w = x.astype(np.float64), w.astype(np.float64)  # exact below 2**53
    total = np.zeros((x.shape[0], *size, w.shape[0]))
    for ky in range(w.shape[1]):
        rows = taps(x.shape[1], size[0], ky - cut[0], strides[0])
        for kx in range(w.shape[2]):
            columns = taps(x.shape[2], size[1], kx - cut[1], strides[1])
            if rows is not None and columns is not None:
                total[:, rows[1], columns[1]] += x[:, rows[0], columns[0]] @ w[:, ky, kx].T
    return total.astype(np.int64) if exact else total


@dataclass(frozen=True)
class Phase:
    """The outputs first, first + stride, ... of one axis: an ordinary convolution with every stride-th tap."""

    first: int
    count: int
    tap: int  # the first tap
    taps: int
    before: int  # padding, when the taps are reversed


def phases(size: int, window: int, stride: int, cut: int) -> list[Phase]:
    """The phases of one axis that have outputs.

    >>> phases(4, 3, 2, 0)
    [Phase(first=0, count=2, tap=0, taps=2, before=1), Phase(first=1, count=2, tap=1, taps=1, before=0)]
    """
    found = []
    for first in range(min(stride, size)):
        above, tap = divmod(first + cut, stride)
        number = max(0, -(-(window - tap) // stride))
        found.append(Phase(first, -(-(size - first) // stride), tap, number, number - 1 - above))
    return found


def lower_transposed(
    b: Builder,
    site: Site,
    x: Buffer,
    w: Buffer,
    bias: Buffer | None,
    y: Buffer,
    strides: tuple[int, int],
    cut: tuple[int, int],
) -> None:
    """Loops for x [N, H, W, I], w [O, KH, KW, I]; the site's operands are (input, filter, bias).

    Where strides are small: a convolution for each phase of the output's rows and columns, which is then copied to
    its places. Else the sum is gathered directly.
    """
    outputs, w = y.shape[3], multiplied(b, w)
    x_zero, w_zero = (zero_point(t) if site.quantized else 0 for t in site.inputs[:2])
    if dynamic.used(site):
        x, epilogue = dynamic.centred_rows(b, site, x, bias)
        bias, wide, w_zero = None, INT32, zero_point(site.inputs[1])
    else:
        wide = accumulator(site)
        bias, epilogue = wide_bias(b, bias, wide), Epilogue(b, site, outputs)
    rows, columns = (phases(y.shape[a + 1], w.shape[a + 1], strides[a], cut[a]) for a in (0, 1))
    direct = len(rows) * len(columns) > MOST_PHASES or any(p.taps == 0 or p.before < 0 for p in (*rows, *columns))
    if direct:
        _gather(b, x, w, bias, y, strides, cut, (x_zero, w_zero), wide, epilogue)
        return
    for row, column in ((r, c) for r in rows for c in columns):
        part = b.local(y.dtype, (y.shape[0], row.count, column.count, outputs), "phase")
        own = _own_taps(b, w, row, column, strides)
        before = (row.before, column.before)
        b.convolution(
            Convolution(x, own, bias, part, (1, 1), (1, 1), before, 1, wide, epilogue, x_zero, w_zero)
        )  # fmt: skip
        with b.nest(part.shape, "parallel") as (n, i, j, o):
            place = (n, i * strides[0] + row.first, j * strides[1] + column.first, o)
            b.store(y, place, part[n, i, j, o])


def _own_taps(b: Builder, w: Buffer, row: Phase, column: Phase, strides: tuple[int, int]) -> Buffer:
    """The filter's taps of one phase, last ones first."""
    if w.values is not None:
        taps = w.values[:, row.tap :: strides[0], column.tap :: strides[1]]
        return b.constant(taps[:, ::-1, ::-1], "filter")
    own = b.local(w.dtype, (w.shape[0], row.taps, column.taps, w.shape[3]), "filter")
    last_row, last_column = (row.tap + (row.taps - 1) * strides[0], column.tap + (column.taps - 1) * strides[1])
    b.compute(own, lambda o, i, j, k: w[o, last_row - i * strides[0], last_column - j * strides[1], k])
    return own


def _gather(
    b: Builder,
    x: Buffer,
    w: Buffer,
    bias: Buffer | None,
    y: Buffer,
    strides: tuple[int, int],
    cut: tuple[int, int],
    zeros: tuple[int, int],
    wide: DType,
    epilogue: Epilogue,
) -> None:
    """Every output sums the taps that some input pixel meets."""
    with b.nest(y.shape, "parallel") as (n, r, c, o):
        total = b.variable(bias[o] if bias is not None else constant(0, wide), "total")
        with b.nest(w.shape[1:3]) as (ky, kx):
            up, over = r + cut[0] - ky, c + cut[1] - kx
            i, j = up // strides[0], over // strides[1]
            conditions = [up >= 0, (up % strides[0]).equals(0), i < x.shape[1]]
            conditions += [over >= 0, (over % strides[1]).equals(0), j < x.shape[2]]
            with b.when(*(k for k in conditions if isinstance(k, Expr))), b.loop(x.shape[3]) as k:
                term = (x[n, i, j, k].to(wide) - zeros[0]) * (w[o, ky, kx, k].to(wide) - zeros[1])
                b.store(total, (), total[()] + term)
        b.store(y, (n, r, c, o), epilogue(total[()], o, Pixel(n, r, c, (n * y.shape[1] + r) * y.shape[2] + c)))


def require_filter(site: Site, strides: tuple[int, int], padding: str) -> None:
    """The rules for (input, filter, bias) of a transposed convolution."""
    x, w = site.rank(0, 4), site.rank(1, 4)
    require_window(site, strides, (1, 1), padding)
    site.require(max(strides) < 1 << 15, f"strides must be below 32768, are {strides}")
    site.require(min(x.shape) >= 1, f"must not be empty, is {x}", 0)
    site.require(min(w.shape) >= 1, f"must not be empty, is {w}", 1)
    site.require(w.shape[3] == x.shape[3], f"{w} must have the depth of the input {x}", 1)
    require_arithmetic(site, 0, w.shape[0])


@register
class TransposeConv(Op):
    """y[n, r, c, o] = activation(bias[o] + sum of x[n, i, j, k] * w[o, r - i*sh + top, c - j*sw + left, k])

    output_shape: int32 [4]; w: [O, KH, KW, I]; x: [N, H, W, I]; the padding is that of a convolution of
    y's size. Source: schema.fbs, TransposeConvOptions.
    """

    name, code = "TRANSPOSE_CONV", 67
    weights_axis = 0
    operands = (("output_shape", "weights", "input", "bias?"), ("output",))
    types = """
    int32 W float32 B? -> float32: W= float32 float16 int8q; B= float32 float16
    int32 int8q int8q int32? -> int8q
    int32 uint8q uint8q int32? -> uint8q
    int32 int8q int16q B? -> int16q: B= int64 int32
    """

    @dataclass(frozen=True)
    class Attrs:
        padding: str = "SAME"
        stride_w: int = 1
        stride_h: int = 1
        fused_activation_function: str = "NONE"
        quantized_bias_type: DType = FLOAT32

    def infer(site: Site) -> list[Shape]:
        inner = TransposeConv.ordered(site)
        require_filter(inner, (site.attrs.stride_h, site.attrs.stride_w), site.attrs.padding)
        given = site.rank(0, 1)
        site.require(given.shape == (4,), f"must hold 4 sizes, is {given}", 0)
        outputs, batches = inner.inputs[1].shape[0], inner.inputs[0].shape[0]
        shape = site.known(0)
        if shape is None:
            return [(batches, None, None, outputs)]
        return [TransposeConv.checked(shape, batches, outputs)]

    def checked(shape: np.ndarray, batches: int, outputs: int) -> Shape:
        """The output's shape as ints, which must fit the input and the weights."""
        n, h, w, c = (int(v) for v in shape.reshape(-1))
        if (n, c) != (batches, outputs) or h < 1 or w < 1:
            rule = f"must be [{batches}, height, width, {outputs}], is {[n, h, w, c]}"
            raise RuleViolation(rule, "output_shape")
        return (n, h, w, c)

    def ordered(site: Site) -> Site:
        """The site with its operands as (input, weights, bias)."""
        pick = (2, 1, 3) if len(site.inputs) > 3 else (2, 1)
        names = ("input", "weights", "bias?")
        constants = tuple(site.known(i) for i in pick)
        return replace(site, inputs=tuple(site.inputs[i] for i in pick), constants=constants, operands=names)

    def cut(site: Site, shape: Shape) -> tuple[int, int]:
        """Rows and columns that are cut before the first output."""
        a, w = site.attrs, site.inputs[1].shape
        return (
            placed(shape[1], w[1], a.stride_h, 1, a.padding)[1],
            placed(shape[2], w[2], a.stride_w, 1, a.padding)[1],
        )

    def evaluate(
        site: Site, shape: np.ndarray, w: np.ndarray, x: np.ndarray, bias: np.ndarray | None = None
    ) -> list[np.ndarray]:
        try:
            size = TransposeConv.checked(shape, x.shape[0], w.shape[0])
        except RuleViolation as violation:
            raise ExecutionError(f"output_shape {violation.rule}", where="TRANSPOSE_CONV") from None
        inner = TransposeConv.ordered(site)
        strides, cut = (site.attrs.stride_h, site.attrs.stride_w), TransposeConv.cut(site, size)
        if dynamic.used(inner):
            return [dynamic.scaled(inner, x, bias, lambda stored: spread(stored, w, size[1:3], strides, cut))]
        x, w = centred(x, inner.inputs[0]), centred(w, inner.inputs[1])
        return [finished(inner, spread(x, w, size[1:3], strides, cut), bias)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        inner, y = TransposeConv.ordered(site), ys[0]
        strides, cut = (site.attrs.stride_h, site.attrs.stride_w), TransposeConv.cut(site, y.shape)
        lower_transposed(b, inner, xs[2], xs[1], xs[3] if len(xs) > 3 else None, y, strides, cut)


STRUCT_PADDINGS = ("UNKNOWN", "SAME", "VALID")  # TfLitePadding, lite/core/c/builtin_op_data.h


@register
class Convolution2DTransposeBias(Op):
    """y[n, r, c, o] = bias[o] + sum of x[n, i, j, k] * w[o, r - i*sh + top, c - j*sw + left, k]

    x: [N, H, W, I]; w: [O, KH, KW, I]; bias: [O]; y's size follows from the input's.
    The options are the bytes of a TfLiteTransposeConvParams.
    Source: MediaPipe, util/tflite/operations/transpose_conv_bias.cc.
    """

    name, code = "Convolution2DTransposeBias", None
    operands = (("input", "weights", "bias"), ("output",))
    types = "float32 float32 float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        padding: str = "SAME"
        stride_w: int = 1
        stride_h: int = 1
        fused_activation_function: str = "NONE"

    def parse_options(data: bytes) -> Any:
        """padding, stride_width, stride_height and perhaps activation: little-endian int32 each."""
        if len(data) < 12:
            raise RuleViolation(f"options must have at least 12 bytes, have {len(data)}")
        padding, stride_w, stride_h = struct.unpack_from("<3i", data)
        if not 0 <= padding < len(STRUCT_PADDINGS):
            raise RuleViolation(f"padding must be 1 (SAME) or 2 (VALID), is {padding}")
        return Convolution2DTransposeBias.Attrs(STRUCT_PADDINGS[padding], stride_w, stride_h)

    def infer(site: Site) -> list[Shape]:
        require_filter(site, (site.attrs.stride_h, site.attrs.stride_w), site.attrs.padding)
        site.input(2)
        x, w = site.inputs[0].shape, site.inputs[1].shape
        return [(x[0], *(size for size, _ in Convolution2DTransposeBias.axes(site)), w[0])]

    def axes(site: Site) -> Iterator[tuple[int, int]]:
        """(size, cut) of the output's rows and columns."""
        a, x, w = site.attrs, site.inputs[0].shape, site.inputs[1].shape
        yield upsampled(x[1], w[1], a.stride_h, a.padding)
        yield upsampled(x[2], w[2], a.stride_w, a.padding)

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        (h, top), (width, left) = Convolution2DTransposeBias.axes(actual(site, x, w))
        strides = (site.attrs.stride_h, site.attrs.stride_w)
        return [finished(site, spread(x, w, (h, width), strides, (top, left)), bias)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (_, top), (_, left) = Convolution2DTransposeBias.axes(site)
        strides = (site.attrs.stride_h, site.attrs.stride_w)
        lower_transposed(b, site, xs[0], xs[1], xs[2], ys[0], strides, (top, left))
