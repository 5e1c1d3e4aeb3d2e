"""Transposed convolutions: by phases and by gathering."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from lithe.ops.transposed import STRUCT_PADDINGS
from lithe.types import FLOAT32
from tests.ops.cases import Case, f32, i32
from tests.ops.cases_convolution import convolution, drawn

REASON = "the official Python package has no such custom kernel"


Sizes = tuple[int, ...]


def transposed(
    name: str,
    kind: str,
    x: Sizes,
    w: Sizes,
    y: Sizes,
    step: int = 1,
    padding: str = "SAME",
    with_bias: bool = True,
    constant: bool = True,
    **attrs: object,
) -> Case:
    """A row with the operands of a convolution, in the order of TRANSPOSE_CONV."""
    base = convolution(name, kind, x, w, y, with_bias=with_bias, constant=constant, **attrs)
    inputs = (i32(4), base.inputs[1], base.inputs[0], *base.inputs[2:])
    constants = {0: np.array(y), **{(1 if i == 1 else 3): v for i, v in base.constants.items()}}
    attrs = {"stride_h": step, "stride_w": step, "padding": padding, **base.attrs}
    return replace(base, op="TRANSPOSE_CONV", inputs=inputs, constants=constants, attrs=attrs, official=True, reason="")


def rows(kind: str) -> list[Case]:
    return [
        transposed("2x2 stride 2", kind, (1, 4, 3, 8), (5, 2, 2, 8), (1, 8, 6, 5), 2),
        transposed("3x3 stride 2", kind, (2, 4, 5, 3), (6, 3, 3, 3), (2, 8, 10, 6), 2),
        transposed("3x3 valid", kind, (1, 4, 5, 3), (6, 3, 3, 3), (1, 9, 11, 6), 2, "VALID"),
        transposed("stride 1", kind, (1, 5, 5, 2), (3, 3, 3, 2), (1, 5, 5, 3)),
        transposed("4x4 stride 2", kind, (1, 3, 3, 4), (2, 4, 4, 4), (1, 6, 6, 2), 2, with_bias=False),
        transposed("stride beyond filter", kind, (1, 3, 3, 4), (2, 2, 2, 4), (1, 8, 8, 2), 3, "VALID"),
        transposed("many phases", kind, (1, 2, 2, 3), (2, 5, 5, 3), (1, 10, 10, 2), 5),
    ]


def with_options(
    name: str, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], step: int, padding: str
) -> Case:
    options = struct.pack("<3i", STRUCT_PADDINGS.index(padding), step, step)
    attrs = {"padding": padding, "stride_w": step, "stride_h": step}
    constants = {1: drawn(FLOAT32, *w), 2: drawn(FLOAT32, w[0])}
    inputs = (f32(*x), f32(*w), f32(w[0]))
    return Case(
        "Convolution2DTransposeBias",
        name,
        inputs,
        (f32(*y),),
        attrs,
        constants,
        custom_options=options,
        official=False,
        reason=REASON,
    )


CASES = [
    *(case for kind in ("float", "int8", "uint8", "int16", "dynamic") for case in rows(kind)),
    transposed("few", "int16, int32 bias", (1, 3, 3, 4), (2, 4, 4, 4), (1, 6, 6, 2), 2),
    transposed("few", "float by float16", (1, 3, 3, 4), (2, 4, 4, 4), (1, 6, 6, 2), 2),
    transposed("computed filter", "float", (1, 4, 5, 3), (6, 3, 3, 3), (1, 8, 10, 6), 2, constant=False),
    transposed("relu", "float", (1, 4, 3, 8), (5, 2, 2, 8), (1, 8, 6, 5), 2, fused_activation_function="RELU"),
    with_options("2x2", (1, 4, 3, 8), (1, 2, 2, 8), (1, 8, 5, 1), 2, "SAME"),
    with_options("3x3", (2, 3, 4, 2), (3, 3, 3, 2), (2, 5, 8, 3), 2, "SAME"),
    with_options("valid", (2, 3, 4, 2), (3, 3, 3, 2), (2, 7, 9, 3), 2, "VALID"),
]
