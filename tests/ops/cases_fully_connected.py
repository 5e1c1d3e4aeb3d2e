"""Products of matrices: fully connected layers."""

from __future__ import annotations

import numpy as np

from lithe.types import FLOAT16, INT2, INT4, INT8, INT16, INT32, UINT8, DType, Quantization, TensorType
from tests.ops.cases import Case, f32, tensor
from tests.ops.cases_convolution import KINDS, WIDER, drawn, scales, weights


def connected(
    name: str,
    kind: str,
    x: tuple[int, ...],
    w: tuple[int, int],
    y: tuple[int, ...],
    channelwise: bool = False,
    with_bias: bool = True,
    constant: bool = True,
    weight_zero: int | None = None,
    low: float | None = None,
    high: float | None = None,
    to: DType | None = None,
    **attrs: object,
) -> Case:
    """A row; kind is one of KINDS; `to` is the output's type, where it is not the input's."""
    activations, stored, sums = KINDS[kind]
    outputs, depth = w
    filters, bias = TensorType(stored, w), TensorType(sums, (outputs,))
    if not stored.is_float:
        found = scales(outputs) if channelwise else (0.011,)
        found = tuple(s * WIDER.get(stored, 1) for s in found)
        zero = weight_zero if weight_zero is not None else 133 if kind == "uint8" else 0
        filters = TensorType(stored, w, Quantization(found, (zero,) * len(found), 0))
    if activations.is_float:
        given, out = TensorType(activations, x), TensorType(activations, y)
    else:
        to, zero = to or activations, {UINT8: 120, INT16: 0}.get(activations, 5)
        unit = 0.05 if activations != INT16 else 0.0003
        given = tensor(activations, *x, scale=unit, zero_point=zero)
        unit = unit * 0.9 * depth**0.5 / (1 if to == activations else 100)
        out = tensor(to, *y, scale=unit, zero_point=zero if to == activations else 0)
        found = tuple(float(np.float32(s * given.quantization.scale[0])) for s in filters.quantization.scale)
        bias = TensorType(sums, (outputs,), Quantization(found, (0,) * len(found), 0))
    constants = {1: weights(kind, *w)} if constant else {}
    if with_bias:
        constants[2] = drawn(bias.dtype, outputs, spread=3000)
    inputs = (given, filters, bias if with_bias else None)
    if sums == INT32 and activations == INT16:
        attrs["quantized_bias_type"] = INT32
    refused = kind == "float by float16" or (kind == "float16 by int2" and not channelwise and outputs > 1)
    reason = "the official kernels refuse these types" if refused else ""
    if to == INT16 and activations == INT8:
        reason = "the official kernel knows no bounds for these types and gives 32767"
    tolerance = 2e-3 if activations == FLOAT16 else 1e-5
    return Case("FULLY_CONNECTED", f"{kind} {name}", inputs, (out,), dict(attrs), constants, low=low, high=high,
                official=not reason, reason=reason, tolerance=tolerance)  # fmt: skip


def in_blocks(dtype: DType, block: int, **attrs: object) -> Case:
    """A row whose weights have a scale for each block."""
    found = tuple(float(s) for s in np.random.default_rng(block).uniform(0.01, 0.1, 3 * 64 // block).astype(np.float16))
    w = TensorType(dtype, (3, 64), Quantization(found, (0,) * len(found), 0, block))
    inputs = (f32(5, 64), w, f32(3))
    constants = {1: drawn(dtype, 3, 64), 2: drawn(inputs[2].dtype, 3)}
    return Case("FULLY_CONNECTED", f"{dtype} in blocks of {block}", inputs, (f32(5, 3),), {**attrs}, constants,
                official=dtype == INT4,
                tolerance=2.0**-8 if dtype == INT4 else 1e-5,  # its kernel rounds the scales to bfloat16
                reason="" if dtype == INT4 else "the official kernels take int4")  # fmt: skip


def in_tiles(rows: int, constant: bool = True) -> Case:
    """A row whose weights are shuffled."""
    x, y = tensor(UINT8, rows, 32, scale=0.05, zero_point=128), tensor(INT16, rows, 8, scale=0.0005)
    w = tensor(UINT8, 8, 32, scale=0.01, zero_point=128)
    bias = TensorType(INT32, (8,), Quantization((0.0005,), (0,)))
    constants = {1: drawn(UINT8, 8, 32), 2: drawn(INT32, 8, spread=3000)}
    return Case("FULLY_CONNECTED", f"{rows} rows with shuffled weights {constant}", (x, w, bias),
                (y, TensorType(UINT8, (rows, 32))), {"weights_format": "SHUFFLED4x16INT8"},
                constants if constant else {2: constants[2]},
                official=constant and rows in (1, 4),
                reason="the official kernel takes constants, and 1 or 4 rows")  # fmt: skip


CASES = [
    *(in_tiles(rows) for rows in (1, 3, 4)),
    in_tiles(4, False),
    in_blocks(INT4, 32),
    in_blocks(INT4, 64, fused_activation_function="RELU"),
    in_blocks(INT8, 32),
    in_blocks(INT2, 32, asymmetric_quantize_inputs=True),
    *(
        case
        for kind in ("float", "int8", "uint8", "int16", "dynamic")
        for case in (
            connected("one row", kind, (1, 64), (17, 64), (1, 17)),
            connected("rows", kind, (5, 19), (3, 19), (5, 3), fused_activation_function="RELU6"),
            connected("flattened", kind, (2, 3, 2, 4), (10, 24), (2, 10), fused_activation_function="RELU"),
            connected("no bias", kind, (2, 33), (1, 33), (2, 1), with_bias=False),
            connected("kept dimensions", kind, (2, 3, 8), (5, 8), (2, 3, 5), keep_num_dims=True),
        )
    ),
    *(connected("few", k, (3, 20), (7, 20), (3, 7), fused_activation_function="RELU6") for k in KINDS),
    *(
        connected("channel scales, few", k, (3, 20), (7, 20), (3, 7), channelwise=True)
        for k in KINDS
        if k not in ("float", "float16", "uint8", "dynamic by uint8")
    ),
    *(connected("to int16", k, (3, 20), (7, 20), (3, 7), to=INT16) for k in ("int8", "int4", "int2", "uint8")),
    connected("channel scales", "int8", (3, 21), (7, 21), (3, 7), channelwise=True),
    connected("int4 weights", "int4", (3, 20), (7, 20), (3, 7), channelwise=True),
    connected("channel scales", "dynamic", (3, 21), (7, 21), (3, 7), channelwise=True),
    connected("asymmetric", "dynamic", (3, 20), (7, 20), (3, 7), asymmetric_quantize_inputs=True),
    connected("positive", "dynamic", (3, 20), (7, 20), (3, 7), low=1.0, high=9.0),
    connected("negative", "dynamic", (3, 20), (7, 20), (3, 7), low=-9.0, high=-1.0),
    connected("zeros", "dynamic", (3, 20), (7, 20), (3, 7), low=0.0, high=0.0),
    connected("many rows", "dynamic", (19, 70), (7, 70), (19, 7), channelwise=True),  # blocks of rows, and some left
    connected("long rows", "dynamic", (2, 2100), (5, 2100), (2, 5)),  # whose extremes are those of parts
    connected("int4 weights", "dynamic4", (3, 20), (7, 20), (3, 7), channelwise=True),
    connected("computed weights", "float", (3, 21), (7, 21), (3, 7), constant=False),
    connected("computed weights", "int8", (3, 21), (7, 21), (3, 7), constant=False),
]
