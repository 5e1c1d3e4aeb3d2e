"""Conversion between element types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import cast, clamp
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Const, Expr, select
from lithe.ops.op import Op, Site, register
from lithe.ops.precision import is_half
from lithe.types import BOOL, FLOAT32, DType, Shape

NUMBERS = "float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"


def converted(x: Any, dtype: DType) -> Any:
    """x as `dtype`: from bool 0 and 1, to bool whether it is not 0, float to integer truncated and saturated.

    NaN becomes the greatest integer. Complex numbers lose their imaginary part. Floats of 16 bits are converted from
    and to float32.
    """
    if isinstance(x, Expr):
        if dtype == x.dtype:
            return x
        if is_half(x.dtype):
            return converted(x.to(FLOAT32), dtype)
        if is_half(dtype):
            return converted(x, FLOAT32).to(dtype)
        if dtype == BOOL:
            return x.differs(Const(0.0 if x.dtype.is_float else 0, x.dtype))
        if x.dtype == BOOL:
            one, zero = (1.0, 0.0) if dtype.is_float else (1, 0)
            return select(x, Const(one, dtype), Const(zero, dtype))
        if x.dtype.is_float and dtype.is_integer:
            inside = clamp(x, dtype.minimum, dtype.maximum) if dtype.stored_bits < 8 else x
            return select(x.equals(x), inside.to(dtype), Const(dtype.maximum, dtype))
        return x.to(dtype)
    x = x if dtype.kind == "complex" else np.real(x)
    if dtype == BOOL:
        return x != 0
    y = cast(x, dtype)
    return np.where(np.isnan(x), dtype.numpy.type(dtype.maximum), y) if dtype.is_integer and x.dtype.kind == "f" else y


@register
class Cast(Op):
    """y = x in another element type. Stored values are converted; quantization is not looked at."""

    name, code = "CAST", 53
    elementwise = True
    types = f"""
        X -> Y: X= {NUMBERS} complex64; Y= {NUMBERS} complex64
        float32 -> Y: Y= int4 int2 uint4
        X -> float32: X= int4 int2 uint4
    """

    @dataclass(frozen=True)
    class Attrs:
        in_data_type: DType | None = None
        out_data_type: DType | None = None

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        dtype = site.outputs[0].dtype
        if is_half(dtype) or is_half(site.input(0).dtype):
            with np.errstate(over="ignore"):
                x = np.real(x).astype(np.float32)
        return [np.asarray(converted(x, dtype), dtype.numpy)]

    def lowers(site: Site) -> bool:
        return "complex" not in (site.input(0).dtype.kind, site.outputs[0].dtype.kind)

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], lambda x: converted(x, site.outputs[0].dtype), xs[0])
