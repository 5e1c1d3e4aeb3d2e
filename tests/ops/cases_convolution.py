"""Convolutions, dense, grouped, depthwise, dilated, in every type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.types import FLOAT16, FLOAT32, INT2, INT4, INT8, INT16, INT32, INT64, UINT8, DType, Quantization, TensorType
from tests.ops.cases import Case, i8, i16, u8

DEPTHWISE = "DEPTHWISE_CONV_2D"
RANDOM = np.random.default_rng(7)
# what a row is called: its activations, weights and bias
KINDS = {
    "float": (FLOAT32, FLOAT32, FLOAT32), "float16": (FLOAT16, FLOAT16, FLOAT16),
    "float by float16": (FLOAT32, FLOAT16, FLOAT32), "float16, float32 bias": (FLOAT16, FLOAT16, FLOAT32),
    "dynamic": (FLOAT32, INT8, FLOAT32), "dynamic4": (FLOAT32, INT4, FLOAT32), "dynamic2": (FLOAT32, INT2, FLOAT32),
    "dynamic by uint8": (FLOAT32, UINT8, FLOAT32), "float16 by int8": (FLOAT16, INT8, FLOAT32),
    "float16 by int4": (FLOAT16, INT4, FLOAT32), "float16 by int2": (FLOAT16, INT2, FLOAT32),
    "int8": (INT8, INT8, INT32), "int4": (INT8, INT4, INT32), "int2": (INT8, INT2, INT32),
    "uint8": (UINT8, UINT8, INT32), "int16": (INT16, INT8, INT64), "int16, int32 bias": (INT16, INT8, INT32),
    "int16 by int4": (INT16, INT4, INT64), "int16 by int2": (INT16, INT2, INT64),
    "int16 by int16": (INT16, INT16, INT64),
}  # fmt: skip
MISREAD = ("float by float16", "dynamic2", "int2", "int16 by int2")
MISREAD_BY_DEPTHWISE = ("dynamic4", "dynamic by uint8", "int16, int32 bias", "int16 by int4")
WIDER = {INT4: 16, INT2: 64, INT16: 1 / 256}  # scales of weights that have fewer values, or more
INT8_INPUT, UINT8_INPUT = {"scale": 0.05, "zero_point": 3}, {"scale": 0.05, "zero_point": 121}


def drawn(dtype: DType, *shape: int, spread: int = 0) -> np.ndarray:
    """Random constants: floats in -1..1, integers over the type's range or within +-spread."""
    if dtype.is_float:
        return RANDOM.uniform(-1, 1, shape).astype(dtype.numpy)
    low, high = (-spread, spread) if spread else (dtype.minimum + (dtype == INT8), dtype.maximum)
    return RANDOM.integers(low, high + 1, shape).astype(dtype.numpy)


def weights(kind: str, *shape: int) -> np.ndarray:
    """Random weights; none is -128 as int8, for which the official kernels have no negative."""
    values = drawn(KINDS[kind][1], *shape)
    return np.where(values == 128, np.uint8(129), values) if kind == "dynamic by uint8" else values


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
    """A row; kind is one of KINDS."""
    activations, stored, sums = KINDS[kind]
    axis = 3 if op == DEPTHWISE else 0
    outputs = w[axis]
    depth = int(np.prod(w)) // outputs
    y_scale = y_scale or 0.05 * 0.011 * 75 * 75 * depth**0.5 / 60  # results fill the range and some saturate
    found = scales(outputs) if channelwise and activations != UINT8 else (0.011,)
    found = tuple(s * WIDER.get(stored, 1) for s in found)
    zero = 140 if stored == UINT8 and activations == UINT8 else 0
    filters, bias = TensorType(stored, w), TensorType(sums, (outputs,))
    if not stored.is_float:
        filters = TensorType(stored, w, Quantization(found, (zero,) * len(found), axis))
    if activations.is_float:
        given, out = TensorType(activations, x), TensorType(activations, y)
    elif activations == INT16:
        given, out = i16(*x), i16(*y, scale=y_scale / 20)
    elif activations == UINT8:
        given, out = u8(*x, **UINT8_INPUT), u8(*y, scale=y_scale, zero_point=111)
    else:
        given, out = i8(*x, **INT8_INPUT), i8(*y, scale=y_scale, zero_point=-7)
    if not sums.is_float:  # XNNPACK takes no bias without scales
        found = tuple(float(np.float32(s * given.quantization.scale[0])) for s in filters.quantization.scale)
        bias = TensorType(sums, bias.shape, Quantization(found, (0,) * len(found), 0))
    constants = {1: weights(kind, *w)} if constant else {}
    if with_bias:
        constants[2] = drawn(bias.dtype, outputs, spread=2000)
    inputs = (given, filters, bias) if with_bias else (given, filters)
    reason = "" if with_bias else "the official kernels refuse an absent bias, or crash without one"
    if kind in MISREAD or (op == DEPTHWISE and kind in MISREAD_BY_DEPTHWISE):
        reason = "the official kernels refuse these types, or take the bits for another one"
    if sums == INT32 and activations == INT16 and op != DEPTHWISE:
        attrs["quantized_bias_type"] = INT32
    tolerance = 2e-3 if activations == FLOAT16 else 1e-5
    return Case(op, f"{kind} {name}", inputs, (out,), dict(attrs), constants, official=not reason, reason=reason,
                tolerance=tolerance)  # fmt: skip


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
        found.append(row("groups", (1, 5, 5, 6), (9, 3, 3, 2), (1, 5, 5, 9)))
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


CONNECTED_ONLY = ("float16 by int8", "float16 by int4", "float16 by int2", "int16 by int16")
RARE = tuple(k for k in KINDS if k not in ("float", "int8", "uint8", "int16", "dynamic", *CONNECTED_ONLY))
CASES = [
    *(
        convolution(
            "valid",
            k,
            (2, 5, 4, 6),
            (8, 3, 2, 6),
            (2, 3, 3, 8),
            padding="VALID",
            channelwise=k != "dynamic by uint8",
            fused_activation_function="RELU6",
        )
        for k in RARE
    ),
    *(convolution("groups", k, (2, 5, 4, 6), (9, 3, 2, 2), (2, 5, 4, 9)) for k in RARE if k != "dynamic by uint8"),
    *(
        convolution("multiplier 2", k, (1, 5, 5, 4), (1, 3, 3, 8), (1, 5, 5, 8), DEPTHWISE, depth_multiplier=2)
        for k in RARE
    ),
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
