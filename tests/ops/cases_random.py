"""Random numbers. Both seeds are 32-bit numbers: the official runtime keeps no more of them."""

from __future__ import annotations

import numpy as np

from lithe.types import DTYPES, TensorType
from tests.ops.cases import Case, f32, i32

SEEDS = {"seed": 7, "seed2": -3}
NAN, INF = float("nan"), float("inf")


def row(op: str, name: str, *shape: int, constant: bool = True, **attrs: int) -> Case:
    given = {0: np.array(shape)}
    return Case(op, name, (i32(len(shape)),), (f32(*shape),), attrs or SEEDS, tolerance=1e-6,
                constants=given if constant else {}, values={} if constant else given)  # fmt: skip


def choices(name: str, dtype: str, rows: int, classes: int, samples: int, **more: object) -> Case:
    output = TensorType(DTYPES[dtype], (rows, samples))
    return Case("MULTINOMIAL", name, (f32(rows, classes), i32()), (output,), SEEDS, {1: np.array(samples)}, steps=0,
                **more)  # type: ignore[arg-type]  # fmt: skip


CASES = [
    *(
        case
        for op in ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL")
        for case in (
            row(op, "matrix", 5, 7),
            row(op, "shape given later", 3, 8, constant=False),
            row(op, "one seed", 21, seed=0, seed2=9),
            row(op, "seed of more bits", 6, seed=(1 << 40) + 5, seed2=1 << 31),
            row(op, "empty", 3, 0),
        )
    ),
    *(choices(n, n, 3, 9, 11) for n in ("int32", "int64")),
    choices("no samples", "int32", 2, 3, 0, official=False, reason="the official runtime makes no empty results here"),
    choices("not finite", "int64", 2, 4, 50, values={0: np.array([[1, NAN, 2, -INF], [-INF] * 4])}),
]
