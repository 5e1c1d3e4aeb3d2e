"""Which loops become vectors, how wide, and that their tails and locals are their own."""

from __future__ import annotations

import pytest

from lithe.ir.build import Builder
from lithe.ir.loops import Alloc, Buffer, Expr, For, statements
from lithe.ir.verify import verify_kernel
from lithe.lower.vectorize import LONG, TOGETHER, vectorize
from lithe.types import FLOAT32, INT8, INT32

WIDE = 64


def vectors(b: Builder) -> list[int]:
    return [s.extent for s in statements(vectorize(b.kernel().body, WIDE)) if isinstance(s, For) and s.kind == "vector"]


@pytest.mark.parametrize(
    ("size", "dtype", "lanes"),
    [(64, FLOAT32, [16]), (100, FLOAT32, [16, 4]), (5, FLOAT32, [5]), (130, INT8, [64, 2])],
)
def test_the_widest_value_decides_the_lanes_and_the_tail_is_exact(size: int, dtype, lanes: list[int]) -> None:
    x, y = Buffer("x", dtype, (size,)), Buffer("y", dtype, (size,))
    b = Builder()
    b.compute(y, lambda i: x[i])
    assert vectors(b) == lanes


def test_long_chains_of_operations_are_worked_on_several_vectors_at_a_time() -> None:
    x, b = Buffer("x", FLOAT32, (181,)), Builder()
    with b.loop(181, "parallel") as i:
        value: Expr = x[i]
        for _ in range(LONG):
            value = value * value
        b.store(x, i, value)
    assert vectors(b) == [TOGETHER * 16, 16, 5]


def test_sums_of_products_are_worked_on_one_vector_at_a_time() -> None:
    x, w, y, b = *(Buffer(name, FLOAT32, (LONG, 181)) for name in "xw"), Buffer("y", FLOAT32, (181,)), Builder()
    with b.loop(181, "parallel") as i:
        value: Expr = x[0, i] * w[0, i]
        for n in range(1, LONG):
            value = value + x[n, i] * w[n, i]
        b.store(y, i, value)
    assert vectors(b) == [16, 5]


def test_a_loop_that_branches_stays() -> None:
    x, y = Buffer("x", INT32, (64,)), Buffer("y", INT32, (64,))
    b = Builder()
    with b.loop(64, "parallel") as i, b.when(x[i] > 0):
        b.store(y, i, x[i])
    assert vectors(b) == []


def test_a_loop_that_can_fail_stays() -> None:
    x, y = Buffer("x", INT32, (64,)), Buffer("y", INT32, (64,))
    b = Builder()
    with b.loop(64, "parallel") as i:
        b.fail_unless(x[i] > 0, "must be positive")
        b.store(y, i, x[i])
    assert vectors(b) == []


def test_mostly_strided_memory_stays() -> None:
    x, y = Buffer("x", INT32, (64, 64)), Buffer("y", INT32, (64, 64))
    b = Builder()
    with b.loop(64, "parallel") as i:
        b.store(y, (i, 0), x[i, 0])
    assert vectors(b) == []


def test_main_part_and_tail_have_locals_of_their_own() -> None:
    x, y = Buffer("x", FLOAT32, (4, 20)), Buffer("y", FLOAT32, (20,))
    b = Builder()
    with b.loop(20, "parallel") as i:

        def step(total: Expr, k: Expr) -> Expr:
            return total + x[k, i]

        b.store(y, i, b.reduce(0.0, (4,), step))
    body = vectorize(b.kernel().body, WIDE)
    locals_ = [s.buffer for s in statements(body) if isinstance(s, Alloc)]
    assert len(locals_) == len({l.name for l in locals_}) == 2
    from lithe.ir.build import kernel

    verify_kernel(kernel("sums", body))
