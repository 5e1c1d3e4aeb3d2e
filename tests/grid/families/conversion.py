"""Operators between element types."""

from __future__ import annotations

import numpy as np

from lithe.ops.op import dtype_named
from lithe.types import FLOAT32, TensorType
from tests.grid.draw import Draw, Trial
from tests.grid.families.registry import generates


@generates("CAST", "STABLEHLO_CONVERT")
def cast(d: Draw) -> Trial:
    """What the output's type holds: the results of other numbers are undefined in the official kernels (C)."""
    source, target = dtype_named(d.inputs[0]), dtype_named(d.outputs[0])
    x = TensorType(source, d.shape())
    low, high = -1e9, 1e9
    for t in (source, target):
        if t.is_integer:
            low, high = max(low, t.minimum), min(high, t.maximum)
        elif t.name in ("float16", "float8_e4m3fn", "float8_e5m2"):
            low, high = max(low, -400.0), min(high, 400.0)
    values = (
        d.values(x, low, high, special=target.is_float)
        if d.chance(0.6)
        else d.values(x, max(low, -100), min(high, 100))
    )
    if source.is_integer and target.is_integer and d.chance(0.3):
        values = d.any_values(x)
    attrs = {"in_data_type": source, "out_data_type": target} if d.op == "CAST" else {}
    return d.trial([d.operand(x, values)], [TensorType(target, x.shape)], attrs, each=True, tolerance=1e-6)


@generates("QUANTIZE", "DEQUANTIZE")
def quantize(d: Draw) -> Trial:
    shape = d.shape()
    word, out = d.inputs[0], d.outputs[0]
    axis = d.integer(0, max(len(shape) - 1, 0))
    by_channel = shape and shape[axis] > 1 and d.chance(0.25) and dtype_named(word).bits <= 32

    def typed(name: str) -> TensorType:
        if by_channel and name == "int8q" and "float32" in (word, out):
            return d.channels(name, shape, axis, 0.2)
        return d.type(name, shape)

    x = typed(word)
    y = typed(out)
    low, high = -5.0, 5.0
    if x.quantization is not None and x.dtype.bits == 32:
        values = d.random.integers(-200000, 200000, shape)
    else:
        if y.quantization is not None:
            high = y.quantization.scale[0] * y.dtype.maximum * 1.2
            low = -high
        values = d.values(x, low, high, special=d.op == "DEQUANTIZE")
    if x.dtype.is_float and d.op == "QUANTIZE":
        values = np.nan_to_num(values, posinf=1e30, neginf=-1e30)
    return d.trial([d.operand(x, values)], [y], each=True)


@generates("FAKE_QUANT")
def fake(d: Draw) -> Trial:
    x = d.data("float32", d.shape(), low=-8, high=8)
    attrs = {"min": -d.uniform(0, 6), "max": d.uniform(0.1, 6), "num_bits": d.choice((8, 8, 4, 16, 2)),
             "narrow_range": d.chance(0.2)}  # fmt: skip
    return d.trial([x], [TensorType(FLOAT32, x.type.shape)], attrs)


@generates("REAL", "IMAG", "COMPLEX_ABS")
def part(d: Draw) -> Trial:
    x = d.data(d.inputs[0], d.shape())
    return d.trial([x], [d.type(d.outputs[0], x.type.shape)], each=True)


@generates("DENSIFY")
def densify(d: Draw) -> Trial:
    x = d.moved(d.inputs[0], d.shape(least=1))
    return d.trial([x], [x.type], tolerance=0, official=False, reason="it takes sparse constants only")
