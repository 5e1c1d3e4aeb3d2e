"""Products of matrices: fully connected layers."""

from __future__ import annotations

import numpy as np

from lithe.types import INT4, INT8, INT16, INT32, INT64, UINT8, DType, Quantization, TensorType
from tests.ops.cases import Case, f32, tensor
from tests.ops.cases_convolution import drawn, scales

STORED = {"int8": INT8, "uint8": UINT8, "int16": INT16, "int4": INT8}


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
    **attrs: object,
) -> Case:
    """A row; kind is float, int8, int4, uint8, int16, or dynamic (float activations, int8 weights)."""
    outputs, depth = w
    floating = kind in ("float", "dynamic", "dynamic4")
    filters, bias = f32(*w), f32(outputs)
    if kind != "float":
        stored = UINT8 if kind == "uint8" else INT4 if kind.endswith("4") else INT8
        found = scales(outputs) if channelwise else (0.011,)
        found = tuple(s * 16 for s in found) if stored == INT4 else found
        zero = weight_zero if weight_zero is not None else 133 if kind == "uint8" else 0
        filters = TensorType(stored, w, Quantization(found, (zero,) * len(found), 0))
    if floating:
        given, out = f32(*x), f32(*y)
    else:
        dtype, zero = STORED[kind], {"uint8": 120, "int16": 0}.get(kind, 5)
        unit = 0.05 if dtype != INT16 else 0.0003
        given = tensor(dtype, *x, scale=unit, zero_point=zero)
        out = tensor(dtype, *y, scale=unit * 0.9 * depth**0.5, zero_point=zero)
        found = tuple(float(np.float32(s * unit)) for s in filters.quantization.scale)
        bias = _bias(INT64 if kind == "int16" else INT32, outputs, found)
    constants = {1: drawn(filters.dtype, *w)} if constant else {}
    if with_bias:
        constants[2] = drawn(bias.dtype, outputs, spread=3000)
    inputs = (given, filters, bias if with_bias else None)
    return Case("FULLY_CONNECTED", f"{kind} {name}", inputs, (out,), dict(attrs), constants, low=low, high=high)


def _bias(dtype: DType, size: int, found: tuple[float, ...]) -> TensorType:
    return TensorType(dtype, (size,), Quantization(found, (0,) * len(found), 0))


CASES = [
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
    connected("channel scales", "int8", (3, 21), (7, 21), (3, 7), channelwise=True),
    connected("int4 weights", "int4", (3, 20), (7, 20), (3, 7), channelwise=True),
    connected("channel scales", "dynamic", (3, 21), (7, 21), (3, 7), channelwise=True),
    connected("asymmetric", "dynamic", (3, 20), (7, 20), (3, 7), asymmetric_quantize_inputs=True),
    connected("positive", "dynamic", (3, 20), (7, 20), (3, 7), low=1.0, high=9.0),
    connected("negative", "dynamic", (3, 20), (7, 20), (3, 7), low=-9.0, high=-1.0),
    connected("zeros", "dynamic", (3, 20), (7, 20), (3, 7), low=0.0, high=0.0),
    connected("int4 weights", "dynamic4", (3, 20), (7, 20), (3, 7), channelwise=True),
    connected("computed weights", "float", (3, 21), (7, 21), (3, 7), constant=False),
    connected("computed weights", "int8", (3, 21), (7, 21), (3, 7), constant=False),
]
