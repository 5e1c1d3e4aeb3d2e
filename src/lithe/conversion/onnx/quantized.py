"""Quantized models of ONNX."""

from __future__ import annotations

import numpy as np

from lithe.conversion import windows
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, dtype_of_number, rule
from lithe.conversion.onnx.pictures import window_of
from lithe.conversion.onnx.products import product
from lithe.conversion.parts import channels_first, channels_last
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value
from lithe.types import FLOAT32, INT32, UINT8, DType


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
    whole = Value(b, b("DIV", b.cast(x, FLOAT32), along(b, b.cast(scale, FLOAT32), axis % max(rank, 1), rank, x,
                                                        block))).apply("ROUND")  # fmt: skip
    if zero is not None:
        whole = whole + Value(b, along(b, b.cast(zero, FLOAT32), axis % max(rank, 1), rank, x, block))
    kept = whole.apply("MINIMUM", float(dtype.maximum)).apply("MAXIMUM", float(dtype.minimum)).tensor
    if dtype.stored_bits < 8:
        return b.cast(kept, dtype)
    return b.cast(b.cast(kept, INT32), dtype)


@rule("DequantizeLinear")
def dequantize(b: Builder, c: Call) -> Tensor:
    axis = c.attr("axis", 1)
    b.require(c[0].type.dtype.is_integer, f"dequantizing {c[0].type.dtype}")
    made = dequantized(b, c[0], c[1], c.get(2), axis, c.attr("block_size", 0))
    wanted = dtype_of_number(c.attr("output_dtype")) if c.attr("output_dtype") else c[1].type.dtype
    return b.cast(made, wanted)


@rule("QuantizeLinear")
def quantize(b: Builder, c: Call) -> Tensor:
    zero = c.get(2)
    dtype = zero.type.dtype if zero is not None else UINT8
    if zero is None and c.attr("output_dtype"):
        dtype = dtype_of_number(c.attr("output_dtype"))
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
    point = Value(b, b("DIV", b("NEG", low), scale)).apply("MAXIMUM", 0.0).apply("MINIMUM", 255.0).apply("ROUND")
    zero = b.cast(b.cast(point.tensor, INT32), UINT8)
    return [quantized(b, x, scale, zero, UINT8), scale, zero]


def _centred(b: Builder, x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    """x - zero as float32, in which sums of products of bytes are exact up to 2**24."""
    whole = b.cast(x, FLOAT32)
    if zero is None:
        return whole
    return b("SUB", whole, along(b, b.cast(zero, FLOAT32), axis % x.type.rank, x.type.rank, x))


@rule("MatMulInteger")
def integer_product(b: Builder, c: Call) -> Tensor:
    left, right = _centred(b, c[0], c.get(2), -2), _centred(b, c[1], c.get(3), -1)
    b.require(not is_open(left.type.shape[-1]) and left.type.shape[-1] <= 1 << 8, "an integer product of long rows")
    return b.cast(product(b, left, right), INT32)


@rule("ConvInteger")
def integer_convolution(b: Builder, c: Call) -> Tensor:
    x, weights = _centred(b, c[0], c.get(2), 1), _centred(b, c[1], c.get(3), 0)
    window = window_of(c, weights.type.shape[2:], x.type.shape[2:])
    b.require(int(np.prod(weights.type.shape[1:])) <= 1 << 8, "an integer convolution with large windows")
    y = windows.convolution(b, channels_last(b, x), channels_last(b, weights), window, c.attr("group", 1))
    return b.cast(channels_first(b, y), INT32)


@rule("QLinearMatMul")
def quantized_product(b: Builder, c: Call) -> Tensor:
    left = dequantized(b, c[0], c[1], c[2], -2)
    right = dequantized(b, c[3], c[4], c[5], -1)
    return quantized(b, product(b, left, right), c[6], c[7], c[7].type.dtype)


@rule("QLinearConv")
def quantized_convolution(b: Builder, c: Call) -> Tensor:
    x, weights = dequantized(b, c[0], c[1], c[2]), dequantized(b, c[3], c[4], c[5], 0)
    window = window_of(c, weights.type.shape[2:], x.type.shape[2:])
    y = windows.convolution(b, channels_last(b, x), channels_last(b, weights), window, c.attr("group", 1))
    if c.has(8):
        scale = b("MUL", b.reshape(b.cast(c[1], FLOAT32), ()), b.cast(c[4], FLOAT32))
        y = b("ADD", y, b("MUL", b.cast(c[8], FLOAT32), scale))
    return quantized(b, channels_first(b, y), c[6], c[7], c[7].type.dtype)
