"""Quantized models of ONNX."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.conversion import windows
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, Value, dtype_of_number, rule
from lithe.conversion.onnx.elementwise import FLOATS_OF_8_BITS, from_byte, to_byte
from lithe.conversion.onnx.integers import INTEGERS, SHIFT, as_int8, made, parameters, quantization, requantized
from lithe.conversion.onnx.pictures import window_of
from lithe.conversion.onnx.products import product
from lithe.conversion.parts import channels_first, channels_last, sliced
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.passes.writer import Value as Number
from lithe.types import FLOAT32, INT8, INT32, UINT8, DType


def along(b: Builder, t: Tensor, axis: int, rank: int, like: Tensor, block: int = 0) -> Tensor:
    """Scales or zero points for a tensor: one for all, one for each slice of an axis, or one for each block of it."""
    if t.type.rank == 0 or t.type.size == 1:
        return b.reshape(t, ())
    if block:
        n = like.type.shape[axis]
        wide = b.reshape(t, (*t.type.shape[: axis + 1], 1, *t.type.shape[axis + 1 :]))
        shape = [*t.type.shape[: axis + 1], block, *t.type.shape[axis + 1 :]]
        merged = [*t.type.shape[:axis], t.type.shape[axis] * block, *t.type.shape[axis + 1 :]]
        b.require(merged[axis] == n, "blocks that do not fill an axis")
        return b.reshape(b.broadcast(wide, shape), merged)
    if t.type.rank > 1:
        return t
    return b.reshape(t, [t.type.size if i == axis % rank else 1 for i in range(rank)])


def dequantized(b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1, block: int = 0) -> Tensor:
    """(x - zero) scale"""
    rank = x.type.rank
    whole = b.cast(x, FLOAT32)
    if zero is not None:
        whole = b("SUB", whole, along(b, b.cast(zero, FLOAT32), axis % max(rank, 1), rank, x, block))
    return b("MUL", whole, along(b, b.cast(scale, FLOAT32), axis % max(rank, 1), rank, x, block))


def quantized(
    b: Builder, x: Tensor, scale: Tensor, zero: Tensor | None, dtype: DType, axis: int = 1, block: int = 0
) -> Tensor:
    """round(x / scale) + zero, kept in the type's range; halves to even."""
    rank = x.type.rank
    whole = Number(b, b("DIV", b.cast(x, FLOAT32), along(b, b.cast(scale, FLOAT32), axis % max(rank, 1), rank, x,
                                                        block))).apply("ROUND")  # fmt: skip
    if zero is not None:
        whole = whole + Number(b, along(b, b.cast(zero, FLOAT32), axis % max(rank, 1), rank, x, block))
    kept = whole.apply("MINIMUM", float(dtype.maximum)).apply("MAXIMUM", float(dtype.minimum)).tensor
    if dtype.stored_bits < 8:
        return b.cast(kept, dtype)
    return b.cast(b.cast(kept, INT32), dtype)


@rule("DequantizeLinear")
def dequantize(b: Builder, c: Call) -> Tensor:
    """By DEQUANTIZE where the scale is known, with the integers beside the floats; see `integers`."""
    axis = c.attr("axis", 1)
    known = parameters(c, 1, 2, axis, c[0].type.dtype)
    if known is not None:
        name = c.origin["node"].input[0]
        x = c.scope.stored.get(name)
        if x is None or x.type.quantization != quantization(known, x.type.rank):
            x = as_int8(b, c[0], known)
        c.scope.integers[c.results[0]] = x
        if x.data is None and known.whole and c[1].type.dtype == FLOAT32:
            return made(b, "DEQUANTIZE", [x], None, FLOAT32)
    x, zero = c[0], c.get(2)
    if x.type.dtype in FLOATS_OF_8_BITS:
        x, zero = from_byte(b, x), None  # their zero point is 0
    whole = dequantized(b, x, c[1], zero, axis, c.attr("block_size", 0))
    wanted = dtype_of_number(c.attr("output_dtype")) if c.attr("output_dtype") else c[1].type.dtype
    return b.cast(whole, wanted)


@rule("QuantizeLinear")
def quantize(b: Builder, c: Call) -> Tensor:
    """By QUANTIZE where the scale is known and only DequantizeLinear reads the integers: the builtin rounds halves away
    from zero, ONNX to even."""
    zero = c.get(2)
    name = c.origin["node"].input[0]
    readers = c.scope.readers.get(c.results[0], [])
    paired = bool(readers) and all(n.op_type == "DequantizeLinear" for n in readers)
    known = parameters(c, 1, 2, c.attr("axis", 1), zero.type.dtype if zero is not None else UINT8)
    if known is not None and known.whole and (paired or name in c.scope.integers):
        kind = quantization(known, c[0].type.rank)
        x = c.scope.integers.get(name)
        stored = requantized(b, x, kind) if x is not None and x.data is None else None
        if stored is None and c[0].type.dtype == FLOAT32 and c[0].data is None:
            stored = made(b, "QUANTIZE", [c[0]], kind)
        if stored is not None:
            c.scope.stored[c.results[0]] = stored
            if zero is not None and zero.type.dtype == INT8:
                return stored
            outside = replace(kind, zero_point=tuple(z + SHIFT for z in kind.zero_point))
            return made(b, "QUANTIZE", [stored], outside, UINT8)
    dtype = zero.type.dtype if zero is not None else UINT8
    if zero is None and c.attr("output_dtype"):
        dtype = dtype_of_number(c.attr("output_dtype"))
    if dtype in FLOATS_OF_8_BITS:
        factor = along(b, b.cast(c[1], FLOAT32), c.attr("axis", 1) % max(c[0].type.rank, 1), c[0].type.rank, c[0])
        return to_byte(b, b("DIV", b.cast(c[0], FLOAT32), factor), dtype, bool(c.attr("saturate", 1)))
    b.require(dtype.is_integer, f"quantizing to {dtype}")
    return quantized(b, c[0], c[1], zero, dtype, c.attr("axis", 1), c.attr("block_size", 0))


@rule("DynamicQuantizeLinear")
def dynamic_quantize(b: Builder, c: Call) -> list[Tensor]:
    """The range of the elements, widened to hold 0, on 0..255."""
    x = c[0]
    axes = b.constant(list(range(x.type.rank)))
    zero_number = b.constant(0.0, FLOAT32)
    high = b("MAXIMUM", b("REDUCE_MAX", x, axes, keep_dims=False), zero_number)
    low = b("MINIMUM", b("REDUCE_MIN", x, axes, keep_dims=False), zero_number)
    scale = b("DIV", b("SUB", high, low), b.constant(255.0, FLOAT32))
    point = Number(b, b("DIV", b("NEG", low), scale)).apply("MAXIMUM", 0.0).apply("MINIMUM", 255.0).apply("ROUND")
    zero = b.cast(b.cast(point.tensor, INT32), UINT8)
    return [quantized(b, x, scale, zero, UINT8), scale, zero]


def _centred(b: Builder, x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """x - zero as float32, in which sums of products of bytes are exact up to 2**24."""
    whole = b.cast(x, FLOAT32)
    if zero is None:
        return whole
    return b("SUB", whole, along(b, b.cast(zero, FLOAT32), axis % x.type.rank, x.type.rank, x))


EXACT = 256  # products of two bytes whose sum float32 holds exactly


@rule("MatMulInteger")
def integer_product(b: Builder, c: Call) -> Tensor:
    """Long rows in parts, whose sums are added as integers."""
    left, right = _centred(b, c[0], c.get(2), -2), _centred(b, c[1], c.get(3), -1)
    n = left.type.shape[-1]
    b.require(not is_open(n), "an integer product of rows of open length")
    total: Tensor | None = None
    for start in range(0, n, EXACT):
        end = min(start + EXACT, n)
        x = sliced(b, left, left.type.rank - 1, start, end)
        y = sliced(b, right, max(right.type.rank - 2, 0), start, end)
        part = b.cast(product(b, x, y), INT32)
        total = part if total is None else b("ADD", total, part)
    assert total is not None
    return total


@rule("ConvInteger")
def integer_convolution(b: Builder, c: Call) -> Tensor:
    x, weights = _centred(b, c[0], c.get(2), 1), _centred(b, c[1], c.get(3), 0)
    window = window_of(c, weights.type.shape[2:], x.type.shape[2:])
    b.require(int(np.prod(weights.type.shape[1:])) <= EXACT, "an integer convolution with large windows")
    y = windows.convolution(b, channels_last(b, x), channels_last(b, weights), window, c.attr("group", 1))
    return b.cast(channels_first(b, y), INT32)


def _inside(b: Builder, c: Call, op: str, operands: list[Value | None], at: tuple[int, int]) -> Tensor | None:
    """A QLinear operator as the one between DequantizeLinear and QuantizeLinear, on integers; None where it is not."""
    first, second = (parameters(c, i + 1, i + 2, a, c.dtype(i)) for i, a in zip((0, 3), at, strict=True))
    wanted = parameters(c, 6, 7, 1, c.dtype(7))
    if first is None or second is None or wanted is None or not first.whole or not wanted.whole:
        return None
    xs = [as_int8(b, c[0], first), as_int8(b, c[3], second)]
    kind = quantization(wanted, 1)
    try:
        with b.trial():
            y = INTEGERS[op](b, replace(c, op=op, operands=operands), xs, kind, "NONE")
    except Inexpressible:
        return None
    if c.dtype(7) == INT8:
        return y
    return made(b, "QUANTIZE", [y], replace(kind, zero_point=tuple(z + SHIFT for z in kind.zero_point)), UINT8)


@rule("QLinearMatMul")
def quantized_product(b: Builder, c: Call) -> Tensor:
    whole = _inside(b, c, "MatMul", [None, None], (-2, -1))
    if whole is not None:
        return whole
    left = dequantized(b, c[0], c[1], c[2], -2)
    right = dequantized(b, c[3], c[4], c[5], -1)
    return quantized(b, product(b, left, right), c[6], c[7], c[7].type.dtype)


@rule("QLinearConv")
def quantized_convolution(b: Builder, c: Call) -> Tensor:
    bias = None
    if c.has(8) and all(c.known(i) is not None for i in (1, 4, 8)):
        bias = c.array(8).astype(np.float64) * (c.array(1).astype(np.float64).reshape(-1)
                                                * c.array(4).astype(np.float64).reshape(-1))  # fmt: skip
    if bias is not None or not c.has(8):
        whole = _inside(b, c, "Conv", [None, None, bias], (1, 0))
        if whole is not None:
            return whole
    x, weights = dequantized(b, c[0], c[1], c[2]), dequantized(b, c[3], c[4], c[5], 0)
    window = window_of(c, weights.type.shape[2:], x.type.shape[2:])
    y = windows.convolution(b, channels_last(b, x), channels_last(b, weights), window, c.attr("group", 1))
    if c.has(8):
        scale = b("MUL", b.reshape(b.cast(c[1], FLOAT32), ()), b.cast(c[4], FLOAT32))
        y = b("ADD", y, b("MUL", b.cast(c[8], FLOAT32), scale))
    return quantized(b, channels_first(b, y), c[6], c[7], c[7].type.dtype)
