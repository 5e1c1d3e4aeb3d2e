"""Binary arithmetic."""

from __future__ import annotations

import numpy as np

from lithe.types import BFLOAT16, COMPLEX64, FLOAT16, INT8, INT16, INT32, INT64, UINT8, UINT32, DType, TensorType
from tests.ops.cases import Case, f32, i8, i16, i32, tensor, u8

LEAST = -(2**31)
NO_KERNEL = "the installed official runtime has no kernel for these types"


def floats(op: str, **more: object) -> list[Case]:
    """The same shape, each way of broadcasting, rank 6, one element."""
    shapes = [
        ("same shape", (2, 3, 37), (2, 3, 37)), ("channel", (2, 5, 19), (19,)), ("channel first", (19,), (2, 5, 19)),
        ("scalar", (3, 11), ()), ("scalar first", (), (3, 11)), ("both ways", (4, 1, 3), (1, 5, 1)),
        ("one", (1,), (1,)),
        ("middle", (2, 3, 5), (2, 1, 5)),
    ]  # fmt: skip
    return [Case(op, name, (f32(*a), f32(*b)), (f32(*np.broadcast_shapes(a, b)),), **more) for name, a, b in shapes]


def ranks(op: str) -> Case:
    return Case(op, "rank 6", (f32(2, 1, 3, 1, 2, 3), f32(2, 2, 1, 2, 1, 3)), (f32(2, 2, 3, 2, 2, 3),))


def whole(op: str, *dtypes: DType, low: int = 1) -> list[Case]:
    low = -100 if low < 0 else low
    return [Case(op, str(d), (tensor(d, 3, 7), tensor(d, 7)), (tensor(d, 3, 7),), low=low, high=100) for d in dtypes]


def signs(op: str, dtype: DType) -> Case:
    """Every pair of signs, and the least integer."""
    least, t = dtype.minimum, tensor(dtype, 11)
    a = np.array([7, -7, 7, -7, 6, -6, 0, 0, least, least + 1, -1])
    b = np.array([3, 3, -3, -3, 3, -3, 5, -5, 3, -1, least])
    return Case(op, f"signs {dtype}", (t, t), (t,), values={0: a, 1: b})


def overflow(op: str) -> Case:
    x = np.array([LEAST, LEAST, 5])
    return Case(op, "least by minus one", (i32(3), i32(3)), (i32(3),), values={0: x, 1: np.array([-1, 1, -1])},
                official=False, reason="undefined there: the division traps")  # fmt: skip


def quantized(op: str, steps: int = 1, signed: bool = True, **more: object) -> list[Case]:
    make = i8 if signed else u8
    z = -5 if signed else 110
    shape, name = (2, 9, 33), "int8" if signed else "uint8"
    return [
        Case(op, f"{name} same shape", (make(*shape, scale=0.03, zero_point=z), make(*shape, scale=0.05)),
             (make(*shape, scale=0.07, zero_point=z + 9),), steps=steps, **more),
        Case(op, f"{name} channel", (make(*shape, scale=0.03, zero_point=z), make(33, scale=0.005)),
             (make(*shape, scale=0.02, zero_point=z - 9),), steps=steps, **more),
        Case(op, f"{name} scalar first", (make(scale=0.03, zero_point=z), make(65, scale=0.05)),
             (make(65, scale=0.04, zero_point=z),), steps=steps, **more),
    ]  # fmt: skip


def halves(op: str, official: tuple[DType, ...]) -> list[Case]:
    low = 0.5 if op in ("DIV", "FLOOR_DIV", "FLOOR_MOD", "POW") else -5
    return [
        Case(op, str(d), (tensor(d, 3, 37), tensor(d, 37)), (tensor(d, 3, 37),), low=low, high=5, tolerance=tolerance,
             official=d in official, reason=NO_KERNEL)
        for d, tolerance in ((FLOAT16, 2e-3), (BFLOAT16, 1.6e-2))
    ]  # fmt: skip


def sixteen(op: str, *, out: float = 0.003, **more: object) -> list[Case]:
    """Quantized int16, and the fused activations on it."""
    return [
        Case(op, f"quantized int16 {a}", (i16(65), i16(65, scale=0.002)), (i16(65, scale=out),),
             {"fused_activation_function": a, **more}, low=100, high=30000)
        for a in ("NONE", "RELU_N1_TO_1")
    ]  # fmt: skip


def scaled_int32(scale: float) -> TensorType:
    """The official kernels pay no heed to a scale of int32."""
    return tensor(INT32, 21, scale=scale)


SPECIAL = (0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, 2, -2, 3)


def special(op: str, divisors: bool = False) -> Case:
    """Every pair of special values; zero is no divisor for the official kernels of some operators."""
    pairs = [(a, b) for a in SPECIAL for b in SPECIAL if b != 0 or not divisors]
    n = len(pairs)
    return Case(op, "special values", (f32(n), f32(n)), (f32(n),), values=dict(enumerate(np.array(pairs).T)))


ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1", "TANH", "SIGN_BIT")
HALF_KERNELS = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE"), (FLOAT16,)),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), (FLOAT16, BFLOAT16)),
    **dict.fromkeys(("FLOOR_DIV", "FLOOR_MOD", "POW"), ()),
}
UNIT = i16(65, scale=2**-15)
CASES = [
    *[case for op in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE") for case in floats(op)],
    *floats("DIV", low=0.5),
    *floats("FLOOR_DIV", low=0.5, high=20),
    *floats("FLOOR_MOD", low=0.5, high=20),
    Case(
        "FLOOR_MOD",
        "quotients beyond what float32 counts",
        (f32(6), f32(6)),
        (f32(6),),
        values={
            0: np.array([1e30, -1e30, 5.0, -5.0, 1e9, -7.5], np.float32),
            1: np.array([7.3, 7.3, -np.inf, 3e-9, 7, -2], np.float32),
        },
    ),
    *[ranks(op) for op in ("ADD", "MUL", "SUB")],
    *[
        Case(op, f"float {a}", (f32(5, 7), f32(5, 7)), (f32(5, 7),), {"fused_activation_function": a}, low=-9, high=9)
        for op in ("ADD", "SUB", "MUL", "DIV")
        for a in ACTIVATIONS
    ],
    *[
        Case(op, f"int8 {a}", (i8(65), i8(65)), (i8(65, scale=0.1),), {"fused_activation_function": a})
        for op in ("ADD", "SUB", "MUL")
        for a in ACTIVATIONS
    ],
    *[case for op, known in HALF_KERNELS.items() for case in halves(op, known)],
    *whole("ADD", INT16, INT32, INT64, low=-1),
    *[
        Case(op, f"{d} {a}", (tensor(d, 21), tensor(d, 21)), (tensor(d, 21),), {"fused_activation_function": a},
             low=low, high=9, tolerance=2e-3)
        for op, d, low in (
            ("ADD", INT16, -9), ("ADD", INT32, -9), ("ADD", INT64, -9), ("SUB", INT64, -9), ("MUL", INT16, -9),
            ("MUL", INT64, -9), ("MUL", UINT32, 0), ("DIV", INT32, 1), ("ADD", FLOAT16, -9), ("DIV", FLOAT16, 1),
        )
        for a in ACTIVATIONS
        if d != FLOAT16 or a not in ("TANH", "SIGN_BIT")
    ],
    *[Case(op, "scaled int32", (scaled_int32(0.1),) * 2, (scaled_int32(0.3),), low=1)
      for op in ("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "MAXIMUM")],
    *sixteen("ADD", pot_scale_int16=False),
    *sixteen("SUB", pot_scale_int16=False),
    *sixteen("MUL", out=0.05),
    *sixteen("DIV"),
    Case("SQUARED_DIFFERENCE", "quantized int16", (i16(65), i16(65, scale=0.002)), (i16(65, scale=0.3),),
         official=False, reason=NO_KERNEL),
    Case("ADD", "int16 powers of two", (i16(65, scale=2**-12), i16(65, scale=2**-13)), (i16(65, scale=2**-12),)),
    Case("MUL", "int16 to int8", (UNIT, UNIT), (i8(65, scale=2**-7, zero_point=-9),)),
    Case("MUL", "int16 to uint8", (UNIT, UNIT), (u8(65, scale=2**-7),)),
    Case("MUL", "complex64", (tensor(COMPLEX64, 3, 5), tensor(COMPLEX64, 5)), (tensor(COMPLEX64, 3, 5),)),
    *[Case(op, "rank 7", (f32(2, 1, 2, 1, 2, 1, 2), f32(1, 2, 1, 2, 1, 2, 1)), (f32(*(2,) * 7),), official=False,
           reason="six axes at most there") for op in ("ADD", "MAXIMUM", "FLOOR_MOD")],
    *whole("SUB", INT32, INT64, low=-1),
    *whole("MUL", INT16, INT32, INT64, low=-1),
    *whole("MUL", UINT32, low=0),
    *whole("MAXIMUM", INT8, UINT8, INT16, INT32, INT64, low=-1),
    *whole("MINIMUM", INT8, UINT8, INT16, INT32, INT64, low=-1),
    *[Case(op, "other scales", (i8(65), i8(65, scale=0.2)), (i8(65, scale=0.1),)) for op in ("MAXIMUM", "MINIMUM")],
    Case("FLOOR_DIV", "int64", (tensor(INT64, 21),) * 2, (tensor(INT64, 21),), low=1, official=False, reason=NO_KERNEL),
    *whole("SQUARED_DIFFERENCE", INT32, low=-1),
    *whole("DIV", INT32),
    signs("DIV", INT32),
    overflow("DIV"),
    *[signs("FLOOR_DIV", d) for d in (INT8, INT16, INT32)],
    overflow("FLOOR_DIV"),
    *[signs("FLOOR_MOD", d) for d in (INT8, INT16, INT32, INT64)],
    overflow("FLOOR_MOD"),
    Case("FLOOR_MOD", "signs", (f32(6), f32(6)), (f32(6),),
         values={0: np.array([7, -7, 7, -7, 6, -6]), 1: np.array([3, 3, -3, -3, 3, -3])}),
    Case("FLOOR_DIV", "quotients that round up", (f32(6), f32(6)), (f32(6),),
         values={0: np.array([1, -1e-30, 1e-30, -1e-30, 6, -1], np.float32),
                 1: np.array([0.1, 3e38, 3e38, -3e38, 0.1, 0.1], np.float32)}),
    Case("FLOOR_DIV", "signs", (f32(6), f32(6)), (f32(6),),
         values={0: np.array([7, -7, 7, -7, 6, -6]), 1: np.array([3, 3, -3, -3, 3, -3])}),
    Case("DIV", "by zero", (f32(3), f32(3)), (f32(3),), values={0: np.array([1, -1, 0]), 1: np.zeros(3)}),
    *[case for op in ("ADD", "SUB", "MUL") for signed in (True, False) for case in quantized(op, signed=signed)],
    *quantized("SQUARED_DIFFERENCE"),
    *quantized("SQUARED_DIFFERENCE", signed=False, official=False, reason=NO_KERNEL),
    Case("ADD", "int8 far scales", (i8(65, scale=5.0), i8(65, scale=0.0001)), (i8(65, scale=0.01),)),
    Case("ADD", "int8 tiny against output", (i8(65, scale=1e-5), i8(65, scale=1e-6)), (i8(65, scale=0.1),)),
    Case("DIV", "uint8", (u8(65, scale=0.05, zero_point=10), u8(65, scale=0.02, zero_point=0)),
         (u8(65, scale=0.1, zero_point=4),),
         values={0: np.linspace(150, 255, 65).astype(int), 1: np.linspace(100, 200, 65).astype(int)}),
    Case("DIV", "int8", (i8(65, scale=0.05), i8(65, scale=0.02, zero_point=-128)),
         (i8(65, scale=0.1, zero_point=4),),
         low=12, high=127),  # a quotient of small numbers is undefined there: a shift by more than 31
    *[Case(op, "quantized int8", (i8(3, 33), i8(33)), (i8(3, 33),)) for op in ("MAXIMUM", "MINIMUM")],
    *[Case(op, "quantized uint8", (u8(3, 33), u8(33)), (u8(3, 33),)) for op in ("MAXIMUM", "MINIMUM")],
    *[Case(op, "quantized int16", (i16(3, 33), i16(33)), (i16(3, 33),)) for op in ("MAXIMUM", "MINIMUM")],
    Case("POW", "float", (f32(5, 7), f32(7)), (f32(5, 7),), low=0.1, high=9, tolerance=2e-5),
    *[special(op) for op in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW")],
    *[special(op, True) for op in ("FLOOR_DIV", "FLOOR_MOD")],
    *[Case(op, f"not a number {a}", (f32(4), f32(4)), (f32(4),), {"fused_activation_function": a},
           values={0: np.array([np.nan, 1, np.nan, -np.inf]), 1: np.array([1, np.nan, np.nan, 2])})
      for op in ("ADD", "MUL") for a in ACTIVATIONS[:3]],
    Case("POW", "negative base", (f32(6), f32(6)), (f32(6),), tolerance=2e-5,
         values={0: np.array([-2, -2, 0, 0, -3, 4]), 1: np.array([3, 2, 0, 2, -1, 0.5])}),
    Case("POW", "int32", (i32(8), i32(8)), (i32(8),), values={0: np.array([2, -3, 0, 0, 1, -1, 7, 10]),
         1: np.array([10, 3, 0, 5, 31, 7, 1, 9])}),
]  # fmt: skip
