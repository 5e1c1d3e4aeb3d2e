"""Operators that look at the bits of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp, is_expr
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.binary import binary
from lithe.ops.layout import NOT_IN_LOOPS, copy
from lithe.ops.op import Op, Site, register
from lithe.types import UINT8, Shape

INTEGERS = "T T -> T: int8 uint8 int16 uint16 int32 uint32"
CASTABLE = (
    "float32 float16 bfloat16 float64 float8_e4m3fn float8_e5m2 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool "
    "complex64 complex128"
)


def shifted(a: Any, b: Any) -> Any:
    """a >> b, with b brought into 0 ... bits - 1."""
    bits = a.dtype.bits if is_expr(a) else a.dtype.itemsize * 8
    return a >> clamp(b, 0, bits - 1)


BitwiseXor = binary("BITWISE_XOR", 160, lambda a, b: a ^ b, "the bits in which a and b differ", INTEGERS)
RightShift = binary("RIGHT_SHIFT", 161, shifted, "a >> b, arithmetic for signed types; b is clamped", INTEGERS)


@register
class Bitcast(Op):
    """The bytes of x as another type; a last axis appears or vanishes where the sizes of the types differ."""

    name, code = "BITCAST", 159
    types = f"T -> U: T= {CASTABLE}; U= {CASTABLE}"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        size, wanted = x.dtype.bytes, site.outputs[0].dtype.bytes
        if size > wanted:
            return [(*x.shape, size // wanted)]
        if size == wanted:
            return [x.shape]
        parts = wanted // size
        site.require(x.rank > 0 and x.shape[-1] == parts, f"the last axis must have size {parts}, is {x}", 0)
        return [x.shape[:-1]]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        (shape,) = Bitcast.infer(site)
        return [np.frombuffer(np.ascontiguousarray(x).tobytes(), site.outputs[0].dtype.numpy).reshape(shape).copy()]

    def lowers(site: Site) -> bool:
        return not any(t.dtype.name in NOT_IN_LOOPS for t in (site.input(0), site.outputs[0]))

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = xs[0], ys[0]
        count = (x.nbytes,)  # bytes, because only those may alias any type in C
        copy(b, x.viewed(count, UINT8), y.viewed(count, UINT8))
