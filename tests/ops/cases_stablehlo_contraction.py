"""StableHLO convolutions and products, with axes in every order."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.cases import Case
from tests.ops.cases_shape import kind
from tests.ops.cases_stablehlo import NO_KERNEL, PAIRS, near


def product(name: str, x: tuple, y: tuple, z: tuple, batch: tuple, summed: tuple, types: tuple[str, ...] = ("float32",),
            **more: Any) -> Case:  # fmt: skip
    """Types: that of the operands, and that of the result where it is another."""
    attrs = {
        "lhs_batching_dimensions": batch[0], "rhs_batching_dimensions": batch[1],
        "lhs_contracting_dimensions": summed[0], "rhs_contracting_dimensions": summed[1],
    }  # fmt: skip
    operands = kind(types[0], *x), kind(types[0], *y)
    return Case("STABLEHLO_DOT_GENERAL", name, operands, (kind(types[-1], *z),), attrs, low=0 if "uint" in name else -9,
                high=9, tolerance=near(types[0]) if "float32" not in types else 1e-5, **NO_KERNEL, **more)  # fmt: skip


NONE = ((), ())


def convolution(
    name: str,
    orders: str,
    x: tuple,
    w: tuple,
    y: tuple,
    types: tuple[str, ...] = ("float32",),
    constants: Any = None,
    **attrs: Any,
) -> Case:
    """`orders` names the axes of input, filter and output: "b01f 01io b01f"."""
    ours, filters, out = orders.split()
    axes = [str(n) for n in range(len(x) - 2)]
    one = (1,) * len(axes)
    given = {
        "window_strides": one, "padding": (0, 0) * len(axes), "lhs_dilation": one, "rhs_dilation": one,
        "window_reversal": (False,) * len(axes),
        "input_batch_dimension": ours.index("b"), "input_feature_dimension": ours.index("f"),
        "input_spatial_dimensions": tuple(map(ours.index, axes)),
        "kernel_input_feature_dimension": filters.index("i"), "kernel_output_feature_dimension": filters.index("o"),
        "kernel_spatial_dimensions": tuple(map(filters.index, axes)),
        "output_batch_dimension": out.index("b"), "output_feature_dimension": out.index("f"),
        "output_spatial_dimensions": tuple(map(out.index, axes)),
    } | attrs  # fmt: skip
    operands, fixed = (kind(types[0], *x), kind(types[0], *w)), {}
    if constants:
        fixed = {1: np.random.default_rng(7).uniform(-1, 1, w)}
    return Case("STABLEHLO_CONVOLUTION", name, operands, (kind(types[-1], *y),), given, fixed, low=-3, high=3,
                tolerance=near(types[0]) if "float32" not in types else 1e-5, **NO_KERNEL)  # fmt: skip


USUAL = "b01f 01io b01f"
CASES = [
    *(product(n, (2, 3, 4), (2, 4, 5), (2, 3, 5), ((0,), (0,)), ((2,), (1,)), (n,)) for n in PAIRS),
    *(product(f"{a} to {b}", (3, 4), (4, 5), (3, 5), NONE, ((1,), (0,)), (a, b))
      for a, b in (("float16", "float32"), ("bfloat16", "float32"), ("int8", "int32"), ("int16", "int32"),
                   ("float32", "float64"))),
    product("matrix and vector", (7, 33), (33,), (7,), NONE, ((1,), (0,))),
    product("weights", (7, 33), (33, 20), (7, 20), NONE, ((1,), (0,)),
            constants={1: np.random.default_rng(1).uniform(-1, 1, (33, 20))}),
    product("outer", (2, 2), (2, 3), (2, 2, 2, 3), NONE, NONE),
    product("several axes", (2, 3, 4, 5), (5, 2, 6, 3), (3, 4, 6), ((1,), (3,)), ((0, 3), (1, 0))),
    product("nothing to sum", (3, 0), (0, 2), (3, 2), NONE, ((1,), (0,))),
    product("no rows", (0, 4), (4, 2), (0, 2), NONE, ((1,), (0,))),
    *(convolution(n, USUAL, (1, 5, 5, 2), (3, 3, 2, 3), (1, 3, 3, 3), (n,)) for n in PAIRS),
    *(convolution(f"{a} to {b}", USUAL, (1, 5, 5, 2), (3, 3, 2, 3), (1, 3, 3, 3), (a, b))
      for a, b in (("float16", "float32"), ("bfloat16", "float32"), ("int8", "int32"), ("int16", "int32"))),
    convolution("weights", USUAL, (1, 9, 9, 4), (3, 3, 4, 20), (1, 9, 9, 20), constants=True, padding=(1, 1, 1, 1)),
    convolution("channels first", "bf01 oi01 bf01", (2, 4, 6, 7), (8, 4, 3, 2), (2, 8, 3, 7), constants=True,
                window_strides=(2, 1), padding=(1, 0, 0, 1)),
    convolution("mixed orders", "0bf1 1o0i fb10", (6, 2, 4, 7), (2, 8, 3, 4), (8, 2, 6, 4)),
    convolution("spread", USUAL, (1, 4, 4, 1), (3, 3, 1, 1), (1, 2, 2, 1), lhs_dilation=(2, 2), window_strides=(4, 4)),
    convolution("wide windows", USUAL, (1, 9, 9, 2), (3, 2, 2, 3), (1, 5, 6, 3), rhs_dilation=(2, 3)),
    convolution("cut", USUAL, (1, 9, 9, 2), (3, 3, 2, 3), (1, 4, 7, 3), padding=(-1, -2, 1, -1)),
    convolution("turned round", USUAL, (1, 5, 5, 2), (3, 2, 2, 3), (1, 3, 4, 3), window_reversal=(True, True)),
    convolution("turned weights", USUAL, (1, 5, 5, 2), (3, 2, 2, 3), (1, 3, 4, 3), constants=True,
                window_reversal=(False, True)),
    convolution("groups", USUAL, (1, 5, 5, 6), (3, 3, 2, 9), (1, 3, 3, 9), feature_group_count=3),
    convolution("each channel alone", USUAL, (1, 9, 9, 16), (3, 3, 1, 16), (1, 7, 7, 16), constants=True,
                feature_group_count=16),
    convolution("groups of the batch", USUAL, (4, 5, 5, 2), (3, 3, 2, 6), (2, 3, 3, 6), batch_group_count=2),
    convolution("groups of the batch crossed", "0bf1 0i1o b01f", (4, 4, 1, 4), (1, 1, 2, 4), (1, 1, 1, 4),
                batch_group_count=4, window_strides=(4, 4)),
    convolution("line", "b0f 0io b0f", (2, 12, 3), (5, 3, 4), (2, 6, 4), window_strides=(2,), padding=(2, 2)),
    convolution("no axes", "bf io bf", (3, 4), (4, 5), (3, 5)),
    convolution("without options", USUAL, (1, 5, 5, 2), (3, 3, 2, 3), (1, 3, 3, 3), window_strides=(), padding=(),
                lhs_dilation=(), rhs_dilation=(), window_reversal=()),
    convolution("volume", "b012f 012io b012f", (1, 4, 5, 6, 2), (2, 3, 2, 2, 3), (1, 4, 2, 3, 3),
                padding=(1, 0, 0, 0, 1, 0), window_strides=(1, 2, 2)),
    convolution("volume of everything", "bf012 oi012 bf012", (4, 2, 3, 4, 3), (4, 2, 2, 2, 2), (2, 4, 4, 5, 2),
                batch_group_count=2, lhs_dilation=(2, 1, 1), rhs_dilation=(1, 2, 1), padding=(0, 0, 1, 2, 0, 0),
                window_reversal=(True, False, True)),
    convolution("no windows", USUAL, (1, 2, 2, 1), (3, 3, 1, 1), (1, 0, 0, 1)),
    convolution("only border", USUAL, (1, 0, 2, 1), (1, 1, 1, 1), (1, 2, 2, 1), padding=(1, 1, 0, 0)),
]  # fmt: skip
