"""Convolutions, transposed convolutions, fully connected layers, products of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ops.op import dtype_named
from lithe.types import FLOAT32, Quantization, Shape, TensorType
from tests.grid.draw import Draw, Operand, Trial
from tests.grid.families.registry import generates

ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")
HALF_STEP = 2.0**-11  # of 16-bit floats; the official depthwise kernel rounds after each product
DYNAMIC = 0.03  # activations quantized while running: kernel sets round differently, with or without a zero point


def layer(
    d: Draw, x_word: str, w_word: str, b_word: str, shape: Shape, filters: Shape, axis: int, depth: int
) -> tuple[Operand, Operand, Operand | None, TensorType]:
    """Input, filter, bias and the output's type without shape, of a contraction with sums of `depth` products."""
    x = d.data(x_word, shape, low=-3, high=3)
    stored = dtype_named(w_word)
    per_channel = w_word.endswith("q") and stored.name != "uint8" and d.chance(0.7)
    scale = 0.02 * 2.0 ** (8 - min(stored.stored_bits, 8)) / (256 if stored.bits == 16 else 1)
    w = d.channels(w_word, filters, axis, scale) if per_channel else d.type(
        w_word, filters, scale=scale, zero=d.integer(90, 160) if stored.name == "uint8" and x.type.quantization else 0
    )  # fmt: skip
    weights = d.values(w, -1, 1)
    if stored.kind == "int":
        weights = np.maximum(weights, stored.minimum + 1)  # symmetric, as the specification wants it
    constant = w.quantization is not None or d.chance(0.85)
    bias = None
    outputs = filters[axis]
    if x.type.quantization is not None and w.quantization is not None:
        sums = tuple(float(np.float32(s * x.type.quantization.scale[0])) for s in w.quantization.scale)
        t = TensorType(dtype_named(b_word), (outputs,), Quantization(sums, (0,) * len(sums), 0))
        bias = d.operand(t, d.random.integers(-3000, 3000, outputs), True)
        typical = max(sums) * 75 * 75 * math.sqrt(depth) / 60 * (1 if x.type.dtype.bits == 8 else 100)
        y = d.type(
            d.outputs[0], (), scale=typical * d.log_uniform(0.4, 2) * (1 if "int16" not in d.outputs[0] else 1 / 128)
        )
    else:
        bias = d.operand(TensorType(dtype_named(b_word), (outputs,)), d.random.uniform(-1, 1, outputs), True)
        y = d.type(d.outputs[0], ())
    if d.chance(0.15):
        bias = None
    return x, d.operand(w, weights, constant), bias, y


def spread(d: Draw, size: int, padding: str) -> tuple[int, int, int, int]:
    """(input, filter, stride, dilation) of one axis, so that there is an output."""
    filter_size, stride = d.choice((1, 1, 2, 3, 3, 5)), d.choice((1, 1, 2, 3))
    dilation = d.choice((1, 1, 2, 3)) if stride == 1 and filter_size > 1 else 1
    reach = (filter_size - 1) * dilation + 1
    return (max(size, reach) if padding == "VALID" else size), filter_size, stride, dilation


def extra(d: Draw, x: TensorType, bias: Operand | None) -> dict[str, Any]:
    if d.has_attribute("quantized_bias_type") and bias is not None and x.dtype.name == "int16":
        return {"quantized_bias_type": bias.type.dtype}
    return {}


def tolerance(x: TensorType, w: TensorType) -> float:
    return DYNAMIC if x.dtype.is_float and w.quantization is not None else 1e-5


@generates("CONV_2D", "DEPTHWISE_CONV_2D")
def convolution(d: Draw) -> Trial:
    padding, depthwise = d.choice(("SAME", "VALID")), d.op == "DEPTHWISE_CONV_2D"
    height, kernel_h, stride_h, dilation_h = spread(d, d.choice((1, 3, 5, 8)), padding)
    width, kernel_w, stride_w, dilation_w = spread(d, d.choice((1, 2, 4, 7, 9)), padding)
    if depthwise:
        stride_w = stride_h  # XNNPACK and the optimized kernels have the same stride both ways
    batch, channels = d.choice((1, 1, 2)), d.choice((1, 2, 3, 4, 8, 16, 17))
    attrs: dict[str, Any] = {"padding": padding, "fused_activation_function": d.choice(ACTIVATIONS)}
    attrs |= {"stride_h": stride_h, "stride_w": stride_w}
    attrs |= {"dilation_h_factor": dilation_h, "dilation_w_factor": dilation_w}
    if depthwise:
        multiplier = d.choice((1, 1, 1, 2, 3))
        filters: Shape = (1, kernel_h, kernel_w, channels * multiplier)
        attrs["depth_multiplier"] = multiplier
        axis, depth = 3, kernel_h * kernel_w
    else:
        groups = d.choice((1, 1, 1, 1, 2)) if channels % 2 == 0 else 1
        outputs = d.choice((1, 2, 3, 5, 8, 16, 17)) * groups
        filters = (outputs, kernel_h, kernel_w, channels // groups)
        axis, depth = 0, kernel_h * kernel_w * channels // groups
    x_word, w_word, b_word = d.inputs
    x, w, bias, y = layer(d, x_word, w_word, b_word, (batch, height, width, channels), filters, axis, depth)
    attrs |= extra(d, x.type, bias)
    allowed = tolerance(x.type, w.type)
    if depthwise and y.dtype.name == "float16":
        allowed = max(allowed, depth * HALF_STEP)
    return d.trial([x, w, bias], [y], attrs, tolerance=allowed, inferred=True)


@generates("TRANSPOSE_CONV")
def transposed(d: Draw) -> Trial:
    padding = d.choice(("SAME", "VALID"))
    kernel_h, kernel_w, stride = d.choice((1, 2, 3, 4)), d.choice((1, 2, 3, 5)), d.choice((1, 2, 2, 3))
    batch, height, width = d.choice((1, 1, 2)), d.choice((1, 2, 4, 5)), d.choice((1, 3, 4))
    channels, outputs = d.choice((1, 2, 3, 8, 17)), d.choice((1, 2, 3, 5, 16))
    sizes = [
        s * stride if padding == "SAME" else (s - 1) * stride + k for s, k in ((height, kernel_h), (width, kernel_w))
    ]
    filters = (outputs, kernel_h, kernel_w, channels)
    _, w_word, x_word, b_word = d.inputs
    x, w, bias, y = layer(
        d, x_word, w_word, b_word, (batch, height, width, channels), filters, 0, kernel_h * kernel_w * channels
    )
    attrs = {"padding": padding, "stride_h": stride, "stride_w": stride, **extra(d, x.type, bias)}
    attrs["fused_activation_function"] = d.choice(ACTIVATIONS)
    shape = d.index("int32", np.array([batch, *sizes, outputs]))
    return d.trial([shape, w, x, bias], [y], attrs, tolerance=tolerance(x.type, w.type), inferred=True)


@generates("CONV_3D", "CONV_3D_TRANSPOSE")
def volume(d: Draw) -> Trial:
    padding = d.choice(("SAME", "VALID"))
    axes = [spread(d, d.choice((1, 2, 3, 4)), padding) for _ in range(3)]
    kernels, strides = [min(a[1], 3) for a in axes], [min(a[2], 2) for a in axes]
    batch, channels, outputs = d.choice((1, 2)), d.choice((1, 2, 3)), d.choice((1, 3, 4))
    attrs = dict(zip(("stride_d", "stride_h", "stride_w"), strides, strict=True))
    attrs |= {"padding": padding, "fused_activation_function": d.choice(ACTIVATIONS)}
    bias = None if d.chance(0.2) else d.data("float32", (outputs,), True)
    if d.op == "CONV_3D":
        attrs |= dict(
            zip(("dilation_d_factor", "dilation_h_factor", "dilation_w_factor"), [a[3] for a in axes], strict=True)
        )
        x = d.data("float32", (batch, *(a[0] for a in axes), channels))
        w = d.data("float32", (*kernels, channels, outputs), 0.7)
        return d.trial([x, w, bias], [TensorType(FLOAT32, ())], attrs, inferred=True)
    sizes = [d.choice((1, 2, 3)) for _ in range(3)]
    grown = [s * t if padding == "SAME" else (s - 1) * t + k for s, t, k in zip(sizes, strides, kernels, strict=True)]
    shape = d.index("int32", np.array([batch, *grown, outputs]))
    x, w = d.data("float32", (batch, *sizes, channels)), d.data("float32", (*kernels, outputs, channels), 0.7)
    return d.trial([shape, w, x, bias], [TensorType(FLOAT32, ())], attrs, inferred=True)


@generates("FULLY_CONNECTED")
def connected(d: Draw) -> Trial:
    depth, outputs = d.choice((1, 3, 4, 8, 16, 17, 33, 64, 65)), d.choice((1, 2, 3, 7, 8, 16, 17, 33))
    if dtype_named(d.inputs[1]).stored_bits < 8 and depth % 4:
        depth = -(-depth // 4) * 4
    outer = d.shape(least=1, most=3, elements=12, empty=False)
    keep = d.chance(0.3)
    x_word, w_word, b_word = d.inputs
    x, w, bias, y = layer(d, x_word, w_word, b_word, (*outer, depth), (outputs, depth), 0, depth)
    attrs = {"keep_num_dims": keep, "fused_activation_function": d.choice(ACTIVATIONS), **extra(d, x.type, bias)}
    if x.type.dtype.is_float and w.type.quantization is not None:
        attrs["asymmetric_quantize_inputs"] = d.chance(0.3)
    return d.trial([x, w, bias], [y], attrs, tolerance=tolerance(x.type, w.type), inferred=True)


@generates("BATCH_MATMUL")
def matrices(d: Draw) -> Trial:
    rows, depth, columns = (d.choice((1, 2, 3, 5, 8, 16, 17, 33)) for _ in range(3))
    batch = d.shape(most=3, elements=6, empty=False)
    sides = [batch, d.broadcast(batch)]
    if d.chance(0.3):
        sides.reverse()
    adjoint = (d.chance(0.3), d.chance(0.3))
    a = (*sides[0], depth, rows) if adjoint[0] else (*sides[0], rows, depth)
    b = (*sides[1], columns, depth) if adjoint[1] else (*sides[1], depth, columns)
    x = d.data(d.inputs[0], a)
    y = d.data(d.inputs[1], b, 0.4)
    scale = None
    if x.type.quantization is not None and y.type.quantization is not None:
        scale = x.type.quantization.scale[0] * y.type.quantization.scale[0] * 75 * math.sqrt(depth)
        scale *= d.log_uniform(0.5, 2)
    out = d.type(d.outputs[0], (), scale=scale)
    attrs = {"adj_x": adjoint[0], "adj_y": adjoint[1]}
    return d.trial([x, y], [out], attrs, tolerance=tolerance(x.type, y.type), inferred=True)
