"""In which numbers an operator computes: 16-bit floats in float32, and which integers stand for real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lithe.ir.arithmetic import cast
from lithe.ops.op import Site
from lithe.types import BOOL, FLOAT32, DType

HALVES = "float16 bfloat16"
FLOATS = f"float32 {HALVES}"


def is_half(dtype: DType) -> bool:
    return dtype.is_float and dtype.bits == 16


def in_float32(rule: Callable[..., Any], dtype: DType, result: DType | None = None) -> Callable[..., Any]:
    """The rule for elements of `dtype`: those of 16-bit floats are widened, and the result is rounded once.

    result  the type of the rule's result; that of the elements when it is not given.
    """
    if not is_half(dtype):
        return rule
    narrow = result or dtype

    def widened(*xs: Any) -> Any:
        y = rule(*(cast(x, FLOAT32) for x in xs))
        return y if narrow == BOOL else cast(y, narrow)

    return widened


def is_rescaled(site: Site, types: str) -> bool:
    """Whether output 0 holds real numbers as integers, by the operator's own list of types ("int8q").

    Integers of other types are numbers of their own, whatever scale a model gives them.
    """
    return site.quantized and f"{site.outputs[0].dtype.name}q" in types.split()
