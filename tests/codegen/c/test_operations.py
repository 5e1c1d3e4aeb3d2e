"""Every operation on every type, with hard values: C, the interpreter by lanes and one by one agree in every bit."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ir import interpret
from lithe.ir.program import Program
from lithe.ir.verify import verify_program
from lithe.types import DType
from tests import c_backend
from tests.codegen.c.operations import HALVES, TYPES, casts, halves, instructions, operations

needs_compiler = pytest.mark.skipif(c_backend.compiler() is None, reason="no C compiler")
needs_sanitizers = pytest.mark.skipif(not c_backend.has_sanitizers(), reason="the C compiler has no sanitizers")


def assert_same(got: list[np.ndarray], expected: list[np.ndarray], names: list[str]) -> None:
    assert len(got) == len(expected) == len(names)
    for name, a, b in zip(names, got, expected, strict=True):
        assert a.dtype == b.dtype
        same = (a == b) | ((a != a) & (b != b))
        assert same.all(), f"{name} differs at {np.argmin(same)}: {a[~same][:3]} and {b[~same][:3]}"


def outputs_of(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    verify_program(program)
    return interpret.run(program, inputs)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_lanes_and_single_steps_give_the_same(dtype: DType) -> None:
    program, inputs, names = operations(dtype, "parallel")
    serial, _, _ = operations(dtype, "serial")
    assert_same(outputs_of(program, inputs), outputs_of(serial, inputs), names)


@needs_compiler
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_c_computes_as_the_interpreter(dtype: DType) -> None:
    program, inputs, names = operations(dtype, "parallel")
    assert_same(c_backend.run(program, inputs), outputs_of(program, inputs), names)


@needs_compiler
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_c_casts_as_the_interpreter(dtype: DType) -> None:
    program, inputs, names = casts(dtype)
    assert_same(c_backend.run(program, inputs), outputs_of(program, inputs), names)


@needs_compiler
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_c_converts_every_16_bit_float(dtype: DType) -> None:
    program, inputs = halves(dtype)
    assert_same(c_backend.run(program, inputs), outputs_of(program, inputs), ["wide", "back", "small"])


@needs_compiler
def test_c_has_the_common_instructions() -> None:
    program, inputs = instructions()
    names = ["rounded", "bits", "from_bits", "fused", "twice"]
    assert_same(c_backend.run(program, inputs), outputs_of(program, inputs), names)


@needs_sanitizers
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_c_has_no_undefined_behaviour(dtype: DType) -> None:
    for program, inputs, names in (operations(dtype, "serial"), casts(dtype)):
        assert_same(c_backend.run_sanitized(program, inputs), outputs_of(program, inputs), names)
