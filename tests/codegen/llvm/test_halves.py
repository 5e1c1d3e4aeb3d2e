"""Floats of 16 bits as machine code: all of them widened, and float32 rounded to them, as the interpreter does."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.codegen.llvm.expressions import ExpressionWriter
from lithe.ir import interpret
from lithe.ir.loops import Const, Unary
from lithe.types import BFLOAT16, DType
from tests.codegen.c.operations import HALVES, halves
from tests.llvm_backend import run, smaller_targets


@pytest.mark.parametrize("target", smaller_targets())
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_16_bit_float_is_converted_as_the_interpreter_does(dtype: DType, target: str) -> None:
    program, inputs = halves(dtype)
    features = smaller_targets()[target].features
    for got, expected in zip(run(program, inputs, features), interpret.run(program, inputs), strict=True):
        same = (got == expected) | ((got != got) & (expected != expected))
        assert same.all(), f"{np.argmin(same)}: {got[~same][:3]} and {expected[~same][:3]}"


@pytest.mark.parametrize("x", [Const(1.0, BFLOAT16) + Const(2.0, BFLOAT16), Unary("neg", Const(1.0, BFLOAT16))])
def test_nothing_is_computed_in_bfloat16(x: object) -> None:
    with pytest.raises(TypeError, match=r"no rule for (add|neg) of bfloat16"):
        ExpressionWriter().value(x)
