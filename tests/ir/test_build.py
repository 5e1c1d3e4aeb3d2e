"""What the builder and the operators of expressions refuse: types that differ, and an `else` without its `if`."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ir.build import Builder
from lithe.ir.interpret import run_kernel
from lithe.ir.loops import Binary, Buffer, Const, If, Store, Var, maximum, select
from lithe.ir.verify import verify_kernel
from lithe.types import BOOL, FLOAT32, INT8, INT32

A, B, HALF = Var("a", INT32), Var("b", INT8), Const(0.5, FLOAT32)
Y = Buffer("y", INT32, (4,))


def test_two_types_in_one_operation_are_refused() -> None:
    with pytest.raises(TypeError, match="add of int32 and int8: cast one of them"):
        A + B
    with pytest.raises(TypeError, match="lt of int8 and float32: cast one of them"):
        B < HALF  # noqa: B015
    with pytest.raises(TypeError, match="select of int32 and float32: cast one of them"):
        select(Const(True, BOOL), A, HALF)


def test_numbers_take_the_type_of_the_other_operand() -> None:
    match A + 1:
        case Binary("add", a, Const(1, dtype)):
            assert (a, dtype) == (A, INT32)
        case other:
            pytest.fail(repr(other))
    assert select(Const(True, BOOL), 2, HALF).dtype == FLOAT32


def test_a_buffer_takes_values_of_its_type_only() -> None:
    b = Builder()
    with pytest.raises(TypeError, match=r"y: int32\[4\] cannot take a value of type float32: cast it"):
        b.store(Y, 0, HALF)
    assert b.kernel().body == ()
    b.store(Y, 0, HALF.to(INT32))
    b.store(Y, 1, 7)
    assert [s.value.dtype for s in b.kernel().body if isinstance(s, Store)] == [INT32, INT32]


def test_otherwise_comes_directly_after_when_and_once() -> None:
    b = Builder()
    b.store(Y, 0, 1)
    with pytest.raises(TypeError, match=r"otherwise\(\) follows when\(\)"):
        with b.otherwise():
            b.store(Y, 1, 2)
    b = Builder()
    with b.when(A > 0):
        b.store(Y, 0, 1)
    with b.otherwise():
        b.store(Y, 0, 2)
    (branch,) = b.kernel().body
    assert isinstance(branch, If)
    assert (len(branch.then), len(branch.otherwise)) == (1, 1)
    with pytest.raises(TypeError, match=r"otherwise\(\) follows when\(\)"):
        with b.otherwise():
            b.store(Y, 0, 3)


def test_otherwise_at_the_start_is_refused() -> None:
    b = Builder()
    with pytest.raises(TypeError, match=r"otherwise\(\) follows when\(\)"):
        with b.otherwise():
            b.store(Y, 0, 1)


@pytest.mark.parametrize("shape", [(1,), (15,), (16,), (17,), (64,), (100,), (3, 37), (2, 3, 5)])
def test_values_are_joined_whatever_their_number(shape: tuple[int, ...]) -> None:
    x, total, most = Buffer("x", INT32, shape), Buffer("total", INT32, (1,)), Buffer("most", INT32, (1,))
    b = Builder()
    b.store(total, 0, b.combined(0, shape, lambda *i: x[i], lambda t, v: t + v, INT32))
    b.store(most, 0, b.combined(INT32.minimum, shape, lambda *i: x[i], maximum, INT32))
    kernel = b.kernel()
    verify_kernel(kernel)
    values = np.random.default_rng(0).integers(-1000, -1, shape).astype(np.int32)
    results = {total: np.zeros(1, np.int32), most: np.zeros(1, np.int32)}
    run_kernel(kernel, {x: values, **results})
    assert (results[total][0], results[most][0]) == (values.sum(), values.max())


def test_joined_sums_of_floats_round_seldom() -> None:
    x, total = Buffer("x", FLOAT32, (4096,)), Buffer("total", FLOAT32, (1,))
    b = Builder()
    b.store(total, 0, b.combined(0, x.shape, lambda i: x[i], lambda t, v: t + v, FLOAT32))
    values, result = np.random.default_rng(1).uniform(0, 1, 4096).astype(np.float32), np.zeros(1, np.float32)
    run_kernel(b.kernel(), {x: values, total: result})
    exact = values.astype(np.float64).sum()
    assert abs(result[0] - exact) / exact < 8 * 2**-24
