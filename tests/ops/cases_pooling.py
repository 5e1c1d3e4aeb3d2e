"""Pooling windows, inside and over the border."""

from __future__ import annotations

import numpy as np

from lithe.types import FLOAT16, TensorType
from tests.ops.cases import Case, f32, i8, i16, tensor, u8


def f16(*shape: int) -> TensorType:
    return tensor(FLOAT16, *shape)


XNNPACK_LEAVES = ("uneven", "stride beyond window")
TYPES = {"float": f32, "float16": f16, "int8": i8, "uint8": u8, "int16": i16}


def pool(op: str, kind: str, name: str, x: tuple[int, ...], y: tuple[int, ...], **attrs: object) -> Case:
    t = TYPES[kind]
    taken = (
        kind == "float"
        or (op != "L2_POOL_2D" and kind != "float16")
        or (op == "AVERAGE_POOL_2D" and name not in XNNPACK_LEAVES)
    )
    return Case(op, f"{kind} {name}", (t(*x),), (t(*y),), attrs, official=taken,
                reason="" if taken else "the official kernel does not take this type",
                tolerance=2e-3 if kind == "float16" else 1e-5)  # fmt: skip


def rows(op: str, kind: str) -> list[Case]:
    def row(
        name: str, x: tuple[int, ...], y: tuple[int, ...], window: tuple[int, int], step: int = 1, **more: object
    ) -> Case:
        sizes = {"filter_height": window[0], "filter_width": window[1], "stride_h": step, "stride_w": step}
        return pool(op, kind, name, x, y, **sizes, **more)

    return [
        row("valid", (1, 6, 7, 17), (1, 3, 3, 17), (2, 2), 2, fused_activation_function="RELU"),
        row("same", (2, 5, 7, 3), (2, 3, 4, 3), (3, 3), 2, padding="SAME"),
        row("whole", (1, 7, 7, 64), (1, 1, 1, 64), (7, 7), 7),
        row("uneven", (1, 9, 4, 1), (1, 3, 2, 1), (2, 5), 3, padding="SAME", fused_activation_function="RELU_N1_TO_1"),
        row("a window of many elements", (1, 17, 18, 2), (1, 1, 2, 2), (17, 17)),
        row("every window another part", (1, 8, 9, 2), (1, 8, 9, 2), (6, 7), padding="SAME"),
        row("window beyond the input", (1, 3, 4, 5), (1, 3, 4, 5), (9, 11), padding="SAME"),
        row("stride beyond window", (1, 7, 7, 3), (1, 3, 3, 3), (1, 1), 3, padding="SAME",
            fused_activation_function="RELU6"),
    ]  # fmt: skip


CASES = [
    *(case for kind in TYPES for op in ("AVERAGE_POOL_2D", "MAX_POOL_2D") for case in rows(op, kind)),
    *(case for kind in TYPES for case in rows("L2_POOL_2D", kind)),
    Case("AVERAGE_POOL_2D", "halves", (i8(1, 1, 8, 1),), (i8(1, 1, 4, 1),), {"filter_width": 2, "stride_w": 2},
         values={0: np.array([1, 2, -1, -2, 0, 1, -127, -128])}),
    Case("MAX_POOL_2D", "infinite", (f32(1, 1, 4, 1),), (f32(1, 1, 2, 1),), {"filter_width": 2, "stride_w": 2},
         values={0: np.array([-np.inf, -np.inf, np.inf, 1])}),
]  # fmt: skip
