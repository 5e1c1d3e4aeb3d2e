"""Reductions."""

from __future__ import annotations

import numpy as np

from lithe.types import BFLOAT16, BOOL, FLOAT16, INT8, INT16, INT32, INT64, UINT8, DType, TensorType
from tests.ops.cases import Case, f32, i8, i16, i32, tensor, u8

ORDER = ("REDUCE_MAX", "REDUCE_MIN")
NO_KERNEL = "the installed official runtime has no kernel for this type"


def reduced(op: str, name: str, x: TensorType, axes: tuple[int, ...], keep: bool = False, y: TensorType | None = None,
            **more: object) -> Case:  # fmt: skip
    """The output's shape follows from the axes; its type is that of x, or of y."""
    gone = {a % max(x.rank, 1) for a in axes}
    shape = tuple(1 if a in gone else s for a, s in enumerate(x.shape) if keep or a not in gone)
    like = y or x
    return Case(op, name, (x, i32(len(axes))), (TensorType(like.dtype, shape, like.quantization),), {"keep_dims": keep},
                constants={1: np.array(axes)}, **more)  # fmt: skip


def shapes(op: str, **more: object) -> list[Case]:
    return [
        reduced(op, "picture", f32(2, 5, 3, 19), (1, 2), **more),
        reduced(op, "picture kept", f32(1, 5, 3, 19), (1, 2), True, **more),
        reduced(op, "last", f32(3, 37), (-1,), **more),
        reduced(op, "first", f32(3, 37), (0,), True, **more),
        reduced(op, "all", f32(2, 3, 5), (0, 1, 2), **more),
        reduced(op, "twice the same", f32(2, 3, 5), (1, -2), **more),
        reduced(op, "alternating", f32(2, 3, 2, 5), (0, 2), **more),
        reduced(op, "rank 1", f32(7), (0,), **more),
        reduced(op, "size 1", f32(1, 1, 1, 5), (1, 2), True, **more),
    ]


def whole(op: str, *types: TensorType, **more: object) -> list[Case]:
    return [reduced(op, f"{t.dtype}{'q' if t.quantization else ''}", t, (1,), **more) for t in types]


def places(op: str) -> list[Case]:
    extra = [tensor(d, 3, 17) for d in (FLOAT16, BFLOAT16, INT16, INT64)]
    special = {0: np.array([[np.nan, 1, 2], [1, np.nan, 0], [-np.inf, np.nan, -np.inf], [np.nan] * 3])}
    plain = (tensor(INT32, 3, 17), tensor(INT8, 3, 17), tensor(UINT8, 3, 17), tensor(BOOL, 3, 17))
    typed = [f32(3, 17), *plain, i8(3, 17), u8(3, 17)]
    cases = [
        Case(op, f"{x.dtype}{'q' if x.quantization else ''} to {out}", (x, i32()), (tensor(out, 3),),
             {"output_type": out}, constants={1: np.array(-1)})
        for x in typed
        for out in (INT32, INT64)
    ]  # fmt: skip
    return [
        *cases,
        *[Case(op, str(x.dtype), (x, i32()), (tensor(INT32, 3),), {"output_type": INT32}, constants={1: np.array(1)},
               official=False, reason=NO_KERNEL) for x in extra],
        Case(op, "not numbers", (f32(4, 3), i32()), (tensor(INT64, 4),), constants={1: np.array(1)}, values=special,
             steps=0),
        Case(op, "middle", (f32(2, 5, 3), i32(1)), (tensor(INT64, 2, 3),), constants={1: np.array([1])}),
        Case(op, "first", (f32(5, 19), tensor(INT64)), (tensor(INT64, 19),), constants={1: np.array(0)}),
        Case(op, "ties", (f32(6), i32()), (tensor(INT64),), values={0: np.array([1, 5, 5, -2, -2, 5])},
             constants={1: np.array(0)}),
    ]  # fmt: skip


def products(dtype: DType, scale: float, zero: int, out: float) -> list[Case]:
    """Quantized products of numbers around 1."""
    x = tensor(dtype, 2, 5, 3, scale=scale, zero_point=zero)
    y = tensor(dtype, scale=out, zero_point=zero)
    near = (zero + round(0.5 / scale), min(zero + round(1.5 / scale), dtype.maximum))
    return [
        reduced("REDUCE_PROD", f"{dtype} quantized {axes}", x, axes, len(axes) == 1, y, low=near[0], high=near[1])
        for axes in ((1,), (2,), (1, 2), (0, 2))
    ]


REAL = ("MEAN", "SUM", "REDUCE_PROD", *ORDER)
PLAIN = (tensor(INT32, 3, 5, 7), tensor(INT64, 3, 5, 7))
CASES = [
    *[
        Case(
            op,
            f"axis at run time {keep}",
            (f32(2, 3, 5), i32(1)),
            (f32(*((2, 1, 5) if keep else (2, 5))),),
            {"keep_dims": keep},
            values={1: np.array([-2])},
        )
        for op in REAL
        for keep in (False, True)
    ],
    *[
        Case(op, "all axes at run time", (i8(2, 3), i32(2)), (i8(),), values={1: np.array([0, 1])})
        for op in ("MEAN", "SUM")
    ],
    Case(
        "REDUCE_PROD",
        "axis at run time int8",
        (i8(2, 3, scale=0.01), i32(1)),
        (i8(2, scale=0.02),),
        low=90,
        high=110,
        values={1: np.array([1])},
    ),
    *[
        Case(op, "axis at run time", (f32(2, 3, 5), i32()), (tensor(INT64, 2, 5),), values={1: np.array(1)})
        for op in ("ARG_MAX", "ARG_MIN")
    ],
    *[
        reduced(
            op,
            f"{d} {axes}",
            tensor(d, 2, 5, 7),
            axes,
            low=0.5,
            high=1.5,
            tolerance=tolerance,
            official=d == FLOAT16 and op != "REDUCE_PROD",
            reason=NO_KERNEL,
        )
        for op in REAL
        for d, tolerance in ((FLOAT16, 3e-3), (BFLOAT16, 2e-2))
        for axes in ((1, 2), (2,))
    ],
    *products(INT8, 0.01, -5, 0.03),
    *products(INT16, 0.0001, 0, 0.0003),
    *whole("REDUCE_PROD", tensor(INT8, 3, 5, 7), tensor(UINT8, 3, 5, 7), tensor(INT16, 3, 5, 7), low=1, high=2),
    *[reduced(op, "bool", tensor(BOOL, 3, 5, 7), (1,)) for op in ("SUM", "REDUCE_PROD", *ORDER)],
    *[
        reduced(op, "scaled int32", tensor(INT32, 3, 5, scale=0.1), (1,), False, tensor(INT32, scale=0.3))
        for op in ("MEAN", "SUM", *ORDER)
    ],
    *[
        reduced(
            op,
            "not numbers",
            f32(4, 3),
            (1,),
            official=False,
            reason="its kernel sets do not agree",
            values={0: np.array([np.nan, 1, 2, 1, np.nan, 0, np.nan, np.nan, np.nan, -np.inf, np.inf, np.nan])},
        )
        for op in ORDER
    ],
    *[case for op in ("MEAN", "SUM", *ORDER) for case in shapes(op)],
    *shapes("REDUCE_PROD", low=0.5, high=1.5),
    *whole("MEAN", *PLAIN),
    *whole("SUM", *PLAIN),
    *whole("REDUCE_PROD", *PLAIN, low=-3, high=3),
    *[case for op in ORDER for case in whole(op, *PLAIN, tensor(INT8, 3, 5, 7), tensor(UINT8, 3, 5, 7))],
    *[case for op in ORDER for case in whole(op, i8(3, 5, 7), u8(3, 5, 7), tensor(INT16, 3, 5, 7), i16(3, 5, 7))],
    *[
        reduced(op, f"{x.dtype} {len(axes)} axes{' kept' if keep else ''}", x, axes, keep, y)
        for op, out in (("MEAN", 0.03), ("SUM", 0.9))
        for axes in ((1, 2), (3,), (0, 1, 2, 3))
        for keep in (False, True)
        for x, y in (
            (i8(2, 7, 3, 33), i8(scale=out, zero_point=-9)),
            (u8(2, 7, 3, 33), u8(scale=out, zero_point=100)),
        )
    ],
    reduced("MEAN", "int8 same scales", i8(1, 7, 7, 40), (1, 2)),
    reduced("MEAN", "int16", i16(2, 5, 9), (1,), False, i16(scale=0.0007)),
    reduced("SUM", "int16", i16(2, 5, 9), (1,), False, i16(scale=0.006)),
    *[reduced(op, "long rows", f32(3, 4, 5, 53), (1, 3)) for op in ("MEAN", "SUM", *ORDER)],
    *[reduced(op, "long rows int8", i8(3, 85), (1,), False, i8(scale=0.9)) for op in ("MEAN", "SUM")],
    reduced("REDUCE_MAX", "not a number", f32(2, 19), (1,), values={0: np.array(([np.nan] * 11 + [1.0] * 8) * 2)}),
    reduced("MEAN", "int64 least", TensorType(INT64, (2, 5)), (1,), values={0: np.full((2, 5), -(2**63))}),
    reduced("MEAN", "int32 negative", i32(2, 3), (1,), values={0: np.array([-1, -1, -3, 5, 5, 1])}),
    *[reduced(op, "bool", tensor(BOOL, 3, 5, 7), (1,)) for op in ("REDUCE_ANY", "REDUCE_ALL")],
    *[reduced(op, "bool all", tensor(BOOL, 3, 5), (0, 1), True) for op in ("REDUCE_ANY", "REDUCE_ALL")],
    *[case for op in ("ARG_MAX", "ARG_MIN") for case in places(op)],
]
