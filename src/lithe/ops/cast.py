"""Conversion between element types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import cast
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Const, Expr, select
from lithe.ops.op import Op, Site, register
from lithe.types import BOOL, FLOAT32, DType, Shape

NUMBERS = "float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"


def converted(x: Any, dtype: DType) -> Any:
    """x as `dtype`: from bool 0 and 1, to bool whether it is not 0, float to integer truncated and saturated.

    Floats of 16 bits are converted from and to float32.
    """
    if isinstance(x, Expr):
        if dtype == x.dtype:
            return x
        if _is_half(x.dtype):
            return converted(x.to(FLOAT32), dtype)
        if _is_half(dtype):
            return converted(x, FLOAT32).to(dtype)
        if dtype == BOOL:
            return x.differs(Const(0.0 if x.dtype.is_float else 0, x.dtype))
        if x.dtype == BOOL:
            one, zero = (1.0, 0.0) if dtype.is_float else (1, 0)
            return select(x, Const(one, dtype), Const(zero, dtype))
        return x.to(dtype)
    return x != 0 if dtype == BOOL else cast(x, dtype)


def _is_half(dtype: DType) -> bool:
    return dtype.is_float and dtype.bits == 16


@register
class Cast(Op):
    """y = x in another element type. Stored values are converted; quantization is not looked at."""

    name, code = "CAST", 53
    elementwise = True
    types = f"X -> Y: X= {NUMBERS}; Y= {NUMBERS}"

    @dataclass(frozen=True)
    class Attrs:
        in_data_type: DType | None = None
        out_data_type: DType | None = None

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        dtype = site.outputs[0].dtype
        if _is_half(dtype) or _is_half(site.input(0).dtype):
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
        return [np.asarray(converted(x, dtype), dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], lambda x: converted(x, site.outputs[0].dtype), xs[0])
