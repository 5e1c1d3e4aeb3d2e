"""Convolutions, dense, grouped, depthwise, dilated, in every type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.types import FLOAT32, INT4, INT8, INT64, DType, Quantization, TensorType
from tests.ops.cases import Case, f32, i8, i16, i32, u8

DEPTHWISE = "DEPTHWISE_CONV_2D"
RANDOM = np.random.default_rng(7)
INT8_INPUT, UINT8_INPUT = {"scale": 0.05, "zero_point": 3}, {"scale": 0.05, "zero_point": 121}


def drawn(dtype: DType, *shape: int, spread: int = 0) -> np.ndarray:
    """Random constants: floats in -1..1, integers over the type's range or within +-spread."""
    if dtype == FLOAT32:
        return RANDOM.uniform(-1, 1, shape).astype(np.float32)
    low, high = (-spread, spread) if spread else (dtype.minimum + (dtype == INT8), dtype.maximum)
    return RANDOM.integers(low, high + 1, shape).astype(dtype.numpy)


def scales(count: int) -> tuple[float, ...]:
    """Different scales, as 32-bit floats."""
    return tuple(float(np.float32(s)) for s in RANDOM.uniform(0.002, 0.02, count))


def convolution(
    name: str,
    kind: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    y: tuple[int, ...],
    op: str = "CONV_2D",
    channelwise: bool = True,
    with_bias: bool = True,
    constant: bool = True,
    y_scale: float = 0.0,
    **attrs: object,
) -> Case:
    """A row; kind is float, int8, int4, uint8, int16, or dynamic (float activations, int8 weights)."""
    axis = 3 if op == DEPTHWISE else 0
    outputs = w[axis]
    depth = int(np.prod(w)) // outputs
    y_scale = y_scale or 0.05 * 0.011 * 75 * 75 * depth**0.5 / 60  # results fill the range and some saturate
    bias = f32(outputs)
    filters = f32(*w)
    match kind:
        case "float":
            given, out = f32(*x), f32(*y)
        case "uint8":
            given, out = u8(*x, **UINT8_INPUT), u8(*y, scale=y_scale, zero_point=111)
            filters, bias = u8(*w, scale=0.011, zero_point=140), i32(outputs)
        case "int16":
            given, out, bias = i16(*x), i16(*y, scale=y_scale / 20), TensorType(INT64, (outputs,))
        case "dynamic" | "dynamic4":
            given, out = f32(*x), f32(*y)
        case _:
            given, out, bias = i8(*x, **INT8_INPUT), i8(*y, scale=y_scale, zero_point=-7), i32(outputs)
    if kind in ("int8", "int16", "dynamic", "int4", "dynamic4"):
        found = scales(outputs) if channelwise else (0.011,)
        stored = INT4 if kind.endswith("4") else INT8
        found = tuple(s * 16 for s in found) if stored == INT4 else found
        filters = TensorType(stored, w, Quantization(found, (0,) * len(found), axis))
    if bias.dtype != FLOAT32:  # XNNPACK takes no bias without scales
        found = tuple(float(np.float32(s * given.quantization.scale[0])) for s in filters.quantization.scale)
        bias = TensorType(bias.dtype, bias.shape, Quantization(found, (0,) * len(found), 0))
    constants = {1: drawn(filters.dtype, *w)} if constant else {}
    if with_bias:
        constants[2] = drawn(bias.dtype, outputs, spread=2000)
    inputs = (given, filters, bias) if with_bias else (given, filters)
    reason = "" if with_bias else "the official kernels refuse an absent bias, or crash without one"
    return Case(op, f"{kind} {name}", inputs, (out,), dict(attrs), constants, official=with_bias, reason=reason)


def rows(kind: str) -> list[Case]:
    """The shapes that matter, for one type."""

    def row(name: str, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], **more: object) -> Case:
        return convolution(name, kind, x, w, y, **more)

    found = [
        row("pointwise", (1, 4, 5, 17), (9, 1, 1, 17), (1, 4, 5, 9)),
        row("pointwise 64", (1, 3, 3, 64), (64, 1, 1, 64), (1, 3, 3, 64), fused_activation_function="RELU6"),
        row("same odd stride 2", (2, 7, 9, 3), (8, 3, 3, 3), (2, 4, 5, 8), stride_w=2, stride_h=2),
        row("valid", (1, 8, 7, 3), (5, 3, 2, 3), (1, 6, 6, 5), padding="VALID", fused_activation_function="RELU"),
        row("stride 3 and 1", (1, 9, 5, 2), (3, 3, 5, 2), (1, 3, 5, 3), stride_h=3,
            fused_activation_function="RELU_N1_TO_1"),
        row("dilated", (1, 9, 9, 4), (4, 3, 3, 4), (1, 9, 9, 4), dilation_h_factor=2, dilation_w_factor=3),
        row("dilated valid", (1, 9, 9, 4), (4, 3, 3, 4), (1, 5, 3, 4), padding="VALID", dilation_h_factor=2,
            dilation_w_factor=3),
        row("stride beyond filter", (1, 7, 7, 3), (4, 1, 1, 3), (1, 3, 3, 4), stride_h=3, stride_w=3),
        row("no bias", (1, 5, 5, 1), (1, 3, 3, 1), (1, 5, 5, 1), with_bias=False),
    ]  # fmt: skip
    if kind != "uint8":
        found += [
            row("groups", (1, 5, 5, 6), (9, 3, 3, 2), (1, 5, 5, 9)),
        ]
    return found


def depthwise_rows(kind: str) -> list[Case]:
    def row(name: str, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], **more: object) -> Case:
        return convolution(name, kind, x, w, y, op=DEPTHWISE, **more)

    return [
        row("same", (1, 6, 7, 17), (1, 3, 3, 17), (1, 6, 7, 17), fused_activation_function="RELU6"),
        row("stride 2", (2, 7, 7, 8), (1, 3, 3, 8), (2, 4, 4, 8), stride_h=2, stride_w=2),
        row("valid 5x5", (1, 7, 6, 3), (1, 5, 5, 3), (1, 3, 2, 3), padding="VALID", fused_activation_function="RELU"),
        row("multiplier 2", (1, 5, 5, 3), (1, 3, 3, 6), (1, 5, 5, 6), depth_multiplier=2),
        row("one channel in", (1, 6, 6, 1), (1, 3, 3, 8), (1, 3, 3, 8), depth_multiplier=8, stride_h=2, stride_w=2),
        row("dilated", (1, 8, 8, 4), (1, 3, 3, 4), (1, 8, 8, 4), dilation_h_factor=2, dilation_w_factor=2),
        row("no bias", (1, 5, 5, 64), (1, 3, 3, 64), (1, 5, 5, 64), with_bias=False),
    ]  # fmt: skip


CASES = [
    *(case for kind in ("float", "int8", "uint8", "int16", "dynamic") for case in rows(kind)),
    *(case for kind in ("float", "int8", "uint8", "int16", "dynamic") for case in depthwise_rows(kind)),
    convolution("one scale", "int8", (1, 5, 5, 3), (4, 3, 3, 3), (1, 5, 5, 4), channelwise=False),
    convolution("saturating", "int8", (1, 5, 5, 3), (4, 3, 3, 3), (1, 5, 5, 4), y_scale=0.05),
    convolution("saturating", "uint8", (1, 5, 5, 3), (4, 3, 3, 3), (1, 5, 5, 4), y_scale=0.05),
    convolution("one scale", "dynamic", (2, 5, 5, 3), (4, 3, 3, 3), (2, 5, 5, 4), channelwise=False),
    convolution("pointwise groups", "dynamic", (2, 3, 3, 6), (9, 1, 1, 2), (2, 3, 3, 9)),
    convolution("pointwise stride 2", "dynamic", (2, 4, 3, 6), (9, 1, 1, 6), (2, 2, 2, 9), stride_h=2, stride_w=2),
    replace(
        convolution("one scale", "dynamic", (2, 5, 5, 3), (1, 3, 3, 3), (2, 5, 5, 3), DEPTHWISE, channelwise=False),
        official=False,
        reason="the official kernel wants a scale for each channel",
    ),
    convolution("computed filter", "float", (1, 5, 5, 3), (4, 3, 3, 3), (1, 5, 5, 4), constant=False),
]
