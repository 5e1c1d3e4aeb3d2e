"""Kernels that use every operation of the loop language on one type, and values that are hard for them."""

from __future__ import annotations

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import (
    BITS_FLOAT,
    COMPARISONS,
    FLOAT_BITS,
    FMA,
    INDEX,
    MULTIPLY_ADD,
    ROUND_INT,
    Binary,
    Buffer,
    Const,
    Expr,
    Intrinsic,
    Kind,
    Unary,
    binary,
    constant,
    select,
)
from lithe.ir.program import Program
from lithe.types import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT4,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from tests.programs import single

INTEGERS = (INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, INT4)
FLOATS = (FLOAT32, FLOAT64)
HALVES = (FLOAT16, BFLOAT16)
TYPES = (*INTEGERS, *FLOATS, BOOL)
CAST_TARGETS = (*INTEGERS, *FLOATS, BOOL, INDEX)


def hostile(dtype: DType) -> np.ndarray:
    """Values at the ends of a type, around them, and around zero."""
    if dtype == BOOL:
        return np.array([False, True])
    if dtype in FLOATS:
        kinds = [0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1.0, -1.0, 3.7, -3.7, 126.99, 127.5, -128.5, 255.5, 256.0, 3.3e4]
        large = [2147483520.0, 2147483648.0, -2147483648.0, 4294967040.0, 9.2e18, -9.3e18, 1.9e19, 1e30, -1e30]
        ends = [float(np.finfo(dtype.numpy).max), float(np.finfo(dtype.numpy).tiny), np.inf, -np.inf, np.nan, 1e-45]
        return np.array(kinds + large + ends, dtype.numpy)
    low, high = dtype.minimum, dtype.maximum
    near = [0, 1, 2, 3, 5, 7, low, low + 1, low + 2, high, high - 1, high // 2, high // 2 + 1, high // 3]
    if dtype.kind == "int":
        near += [-1, -2, -3, -7, low // 2, low // 3]
    return np.array(sorted(set(near)), object).astype(dtype.numpy)


def pairs(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    values = hostile(dtype)
    a, b = np.meshgrid(values, values)
    return np.ascontiguousarray(a.reshape(-1)), np.ascontiguousarray(b.reshape(-1))


def results(a: Expr, b: Expr) -> dict[str, Expr]:
    """Every operation that the operands' type has, guarded where the language asks for it."""
    dtype = a.dtype
    found: dict[str, Expr] = {op: Binary(op, a, b) for op in sorted(COMPARISONS)}
    found["select"] = select(a.equals(b) | (a < b), a, b)
    if dtype == BOOL:
        return found | {op: Binary(op, a, b) for op in ("and", "or", "xor")} | {"not": Unary("not", a)}
    found |= {op: binary(op, a, b) for op in ("add", "sub", "mul", "min", "max")}
    found |= {"neg": -a, "abs": Unary("abs", a), "small": a * Const(1, dtype) + Const(3, dtype)}
    if dtype.is_float:
        found |= {op: binary(op, a, b) for op in ("div", "mod")}
        found |= {op: Unary(op, a) for op in ("floor", "ceil", "round", "trunc", "sqrt")}
        found["tree"] = (a - (b - a)) * (a + b) - a / (b / Const(3.0, dtype))
        return found
    found |= {op: Binary(op, a, b) for op in ("and", "or", "xor")} | {"not": Unary("not", a)}
    divisor = select(b.equals(0), 1, b)
    if dtype.kind == "int":
        divisor = select(a.equals(int(np.iinfo(dtype.numpy).min)) & divisor.equals(-1), 1, divisor)
    found |= {"div": binary("div", a, divisor), "mod": binary("mod", a, divisor)}
    found |= {"third": a // 3, "rest": a % 3, "twice": a + a, "square": a * a}
    count = b & (dtype.bits - 1)
    found |= {"shl": a << count, "shr": a >> count, "shr_2": a >> 2, "shl_3": a << 3}
    found["tree"] = a - (b - (a - (b + a))) * (a + b)
    found["wide"] = (a.to(INT64) * b.to(INT64) - 7).to(dtype)
    return found


def operations(dtype: DType, kind: Kind) -> tuple[Program, list[np.ndarray], list[str]]:
    """(program, inputs, names of the outputs) for every operation on one type."""
    left, right = pairs(dtype)
    x, y = Buffer("x", dtype, left.shape), Buffer("y", dtype, left.shape)
    b, outputs = Builder("operations"), {}
    with b.loop(left.size, kind) as i:
        for name, value in results(x[i], y[i]).items():
            outputs[name] = Buffer(f"{name}_out", value.dtype, left.shape)
            b.store(outputs[name], i, value)
    return single(b, [x, y], list(outputs.values())), [left, right], list(outputs)


def casts(dtype: DType) -> tuple[Program, list[np.ndarray], list[str]]:
    """The same for a cast to every type."""
    values = hostile(dtype)
    x = Buffer("x", dtype, values.shape)
    b, outputs = Builder("casts"), {}
    with b.loop(values.size, "parallel") as i:
        for target in CAST_TARGETS:
            name = "index" if target is INDEX else target.name
            outputs[name] = Buffer(f"to_{name}", INT64 if target is INDEX else target, values.shape)
            b.store(outputs[name], i, x[i].to(target))
    return single(b, [x], list(outputs.values())), [values], list(outputs)


def halves(dtype: DType) -> tuple[Program, list[np.ndarray]]:
    """Every 16-bit float to float32 and back, and hard float32 values to it."""
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    edges = np.arange(1 << 16, dtype=np.uint32) << 16
    singles = np.concatenate(
        [edges + k for k in (0, 1, 0x0FFF, 0x1000, 0x1001, 0x3000, 0x7FFF, 0x8000, 0x8001, 0x18000)]
    )
    singles = singles.astype(np.uint32).view(np.float32)
    x, y = Buffer("x", dtype, every.shape), Buffer("y", FLOAT32, singles.shape)
    wide, back, small = Buffer("wide", FLOAT32, every.shape), Buffer("back", dtype, every.shape), None
    small = Buffer("small", dtype, singles.shape)
    b = Builder("halves")
    b.compute(wide, lambda i: x[i].to(FLOAT32))
    b.compute(back, lambda i: select(x[i].to(FLOAT32) < 1.0, x[i], (x[i].to(FLOAT32) + 1.0).to(dtype)))
    b.compute(small, lambda i: y[i].to(dtype))
    return single(b, [x, y], [wide, back, small]), [every, singles]


def instructions() -> tuple[Program, list[np.ndarray]]:
    """The instructions that every generator has."""
    values = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -2.5, 1e6, -123456.78, 8388607.5, 2147483520.0], np.float32)
    x = Buffer("x", FLOAT32, values.shape)
    ints = [Buffer(n, INT32, values.shape) for n in ("rounded", "bits")]
    floats = [Buffer(n, FLOAT32, values.shape) for n in ("from_bits", "fused", "twice")]
    b = Builder("instructions")
    with b.loop(values.size, "vector") as i:
        bits = Intrinsic(FLOAT_BITS, (x[i],))
        b.store(ints[0], i, Intrinsic(ROUND_INT, (x[i],)))
        b.store(ints[1], i, bits)
        b.store(floats[0], i, Intrinsic(BITS_FLOAT, (bits ^ constant(1, INT32),)))
        b.store(floats[1], i, Intrinsic(FMA, (x[i], constant(2.0), constant(0.25))))
        b.store(floats[2], i, Intrinsic(MULTIPLY_ADD, (x[i], constant(-2.0), x[i])))
    return single(b, [x], ints + floats), [values]
