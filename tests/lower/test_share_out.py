"""Which loops threads share, what one of them does alone, and where they meet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lithe.ir.build import Builder, kernel
from lithe.ir.interpret import run, run_kernel
from lithe.ir.loops import Alloc, Barrier, Buffer, For, Kernel, Stmt, Store, Var, statements
from lithe.ir.text import print_kernel
from lithe.ir.verify import verify_kernel, verify_program
from lithe.lower import access
from lithe.lower.share_out import share_out
from lithe.types import FLOAT32, INT32
from tests.llvm_backend import run as run_compiled
from tests.programs import single

ROOM = 1 << 13
WIDE = 4096


def shared(b: Builder) -> Kernel:
    """What a builder wrote, shared out and verified; a lone thread must find the same results."""
    before = b.kernel()
    after = kernel(before.name, next(share_out([before.body], ROOM)), before.source)
    verify_kernel(after)
    random = np.random.default_rng(1)
    results = []
    values = {p: random.integers(0, 9, p.shape).astype(p.dtype.numpy) for p in before.params if p.data is None}
    for k in (before, after):
        arrays = {p: values[p].copy() if p in values else np.zeros(p.shape, p.dtype.numpy) for p in k.params}
        run_kernel(k, arrays)
        results.append([arrays[p].tobytes() for p in before.params if p.data is None])
    assert results[0] == results[1]
    return after


def outline(k: Kernel) -> str:
    """The statements: p(arallel), s(erial), g(rid) loops with what they hold, = stores, | barriers, ! checks."""

    def text(body: tuple[Stmt, ...]) -> str:
        return "".join(
            f"{s.kind[0]}{s.extent}({text(s.body)})"
            if isinstance(s, For)
            else {"Store": "=", "Barrier": "|", "Alloc": "", "If": "?", "Call": "!"}[type(s).__name__]
            for s in body
        )

    return text(k.body)


def table(name: str, *shape: int) -> Buffer:
    return Buffer(name, FLOAT32, shape)


def test_the_outermost_independent_loop_is_shared_out() -> None:
    x, y = table("x", 64, WIDE), table("y", 64, WIDE)
    b = Builder()
    b.compute(y, lambda i, k: x[i, k] + 1.0)
    assert outline(shared(b)) == "g64(p4096(=))"


def test_little_work_is_one_threads() -> None:
    x, y = table("x", 8, 8), table("y", 8, 8)
    b = Builder()
    b.compute(y, lambda i, k: x[i, k] + 1.0)
    assert outline(shared(b)) == "p8(p8(=))"


def test_shares_are_equal_where_an_inner_loop_can_make_them_so() -> None:
    x, y = table("x", 64), table("y", 3, 64)
    b = Builder()
    with b.loop(3, "parallel") as i, b.loop(64, "parallel") as j, b.loop(WIDE):
        b.store(y, (i, j), y[i, j] + x[j])
    assert outline(shared(b)) == "s3(g64(s4096(=)))"


def test_rows_that_lie_together_are_preferred_to_columns() -> None:
    x, y = table("x", 8192, 64), table("y", 8192, 64)
    b = Builder()
    with b.loop(64, "parallel") as column, b.loop(8192, "parallel") as row:
        b.store(y, (row, column), x[row, column] + 1.0)
    assert outline(shared(b)) == "s64(g8192(=))"


def test_steps_of_a_recurrence_are_shared_out_one_by_one() -> None:
    x, state = table("x", 20, 64, 1024), table("state", 64, 1024)
    b = Builder()
    with b.loop(20) as t, b.loop(64, "parallel") as i, b.loop(1024, "parallel") as k:
        b.store(state, (i, k), state[i, k] * 0.5 + x[t, i, k])
    assert outline(shared(b)) == "s20(|g64(p1024(=)))"


def test_threads_meet_between_what_depends_on_each_other() -> None:
    x, y, z = table("x", 64, WIDE), table("y", 64, WIDE), table("z", 64, WIDE)
    b = Builder()
    b.compute(y, lambda i, k: x[i, k] + 1.0)
    b.compute(z, lambda i, k: y[63 - i, k] + 1.0)
    assert outline(shared(b)) == "g64(p4096(=))|g64(p4096(=))"


def test_threads_do_not_meet_between_disjoint_halves_which_are_one_work() -> None:
    x, y = table("x", 64, WIDE), table("y", 64, WIDE)
    b = Builder()
    for first in (0, 48):
        with b.loop(48 if first == 0 else 16, "parallel") as i, b.loop(WIDE, "parallel") as k:
            b.store(y, (i + first, k), x[i + first, k] + 1.0)
    after = shared(b)
    assert outline(after) == "g48(p4096(=))g16(p4096(=))"
    parts = [s.part for s in after.body if isinstance(s, For)]
    assert [round(4 * begin / whole) for begin, _, whole in parts] == [0, 3]
    assert [round(4 * end / whole) for _, end, whole in parts] == [3, 4]


def test_what_is_left_one_thread_does() -> None:
    x, y, z = table("x", 64, WIDE), table("y", 64, WIDE), table("z", 64)
    b = Builder()
    b.compute(y, lambda i, k: x[i, k] + 1.0)
    with b.loop(64) as i:
        b.store(z, 0, z[0] + y[i, 5])
    assert outline(shared(b)) == "g64(p4096(=))|g1(s64(=))"


def test_each_thread_computes_its_own_scalars() -> None:
    x, y = table("x", 64, WIDE), table("y", 64, WIDE)
    b = Builder()
    factor = b.variable(x[0, 0] * 2.0, "factor")
    b.compute(y, lambda i, k: x[i, k] * factor[()])
    assert outline(shared(b)) == "=g64(p4096(=))"


def test_a_local_that_several_threads_fill_is_memory_of_all() -> None:
    x, y = table("x", 64, WIDE), table("y", 64, WIDE)
    b = Builder()
    copied = b.local(FLOAT32, (64, WIDE), "copied")
    b.compute(copied, lambda i, k: x[i, k] + 1.0)
    b.compute(y, lambda i, k: copied[63 - i, k] + 1.0)
    after = shared(b)
    assert outline(after) == "g64(p4096(=))|g64(p4096(=))"
    assert not any(isinstance(s, Alloc) for s in statements(after.body))
    assert copied in after.params


def test_a_kernel_that_can_fail_never_meets_inside() -> None:
    x, y, z = table("x", 64, WIDE), table("y", 64, WIDE), table("z", 64, WIDE)
    for meets in (False, True):
        b = Builder()
        with b.loop(64, "parallel") as i, b.loop(WIDE, "parallel") as k:
            b.fail_unless(x[i, k] < 100.0, "too large")
            b.store(y, (i, k), x[i, k])
        if meets:
            b.compute(z, lambda i, k: y[63 - i, k] + 1.0)
        after = shared(b)
        assert after.is_shared != meets
        assert not any(isinstance(s, Barrier) for s in statements(after.body))


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_failures_are_those_of_one_thread(threads: int) -> None:
    x, y = Buffer("x", INT32, (64, WIDE)), Buffer("y", INT32, (64, WIDE))
    b = Builder()
    with b.loop(64, "parallel") as i, b.loop(WIDE, "parallel") as k:
        b.fail_unless(x[i, k] < 100, "too large")
        b.fail_unless(x[i, k] > -100, "too small")
        b.store(y, (i, k), x[i, k])
    (body,) = share_out([b.kernel().body], ROOM)
    made = Builder()
    for s in body:
        made.emit(s)
    program = single(made, [x], [y])
    verify_program(program)
    values = np.zeros((64, WIDE), np.int32)
    assert run_compiled(program, [values], threads=(1, threads))[0].tobytes() == values.tobytes()
    values[30, 5], values[20, 7] = 100, -100
    with pytest.raises(Exception, match="too small"):
        run_compiled(program, [values], threads=(1, threads))
    values[1, 7] = 100
    with pytest.raises(Exception, match="too large"):
        run_compiled(program, [values], threads=(1, threads))


@pytest.mark.parametrize("extents", [(1, 1, 1), (7, 1, 3), (2, 40, 1), (1, 5, 64), (33, 32, 31)])
@pytest.mark.parametrize("threads", [2, 3, 4, 7])
def test_every_iteration_of_a_work_is_done_once_and_in_one_run(extents: tuple[int, ...], threads: int) -> None:
    """The parts of one work: the loops add one to each place, and store in which order a thread came by."""
    total = sum(extents)
    y = Buffer("y", INT32, (total,))
    made, first = Builder(), 0
    weights = (5, 1, 2)
    whole = sum(w * n for w, n in zip(weights, extents, strict=True))
    begin = 0
    for extent, weight in zip(extents, weights, strict=True):
        inner = Builder()
        inner._names = made._names
        with inner.loop(extent + (extent == 1), "grid") as i:
            inner.store(y, i + first, y[i + first] + 1)
        (loop,) = inner.kernel().body
        assert isinstance(loop, For)
        end = begin + weight * extent
        made.emit(For(loop.var, extent, loop.body, "grid", (begin, end, whole)))
        first, begin = first + extent, end
    program = single(made, [y], [y])
    verify_program(program)
    given = np.arange(total, dtype=np.int32)
    assert run(program, [given])[0].tolist() == (given + 1).tolist()
    assert run_compiled(program, [given], threads=(1, threads))[0].tolist() == (given + 1).tolist()


def test_bytes_of_other_threads_are_counted() -> None:
    x = table("x", 64, 100)
    b = Builder()
    with b.loop(64, "parallel") as i, b.loop(100, "parallel") as k:
        b.store(x, (i, k), 1.0)
    (rows,) = b.kernel().body
    assert isinstance(rows, For)
    (columns,) = rows.body
    assert isinstance(columns, For)
    found = list(access.accesses(rows, access.Scope(), set()))
    assert access.fetched(found, (2,), rows.var, 64) == [0]
    assert access.fetched(found, (2,), columns.var, 100) == pytest.approx([x.nbytes / 4], rel=0.05)
    assert access.fetched(found, (2, 4), None, 0) == [x.nbytes / 2, x.nbytes * 3 / 4]


def test_the_text_shows_parts() -> None:
    y = table("y", 8)
    body = (For(var := Var("i"), 8, (Store(y, (var,), y[var] + 1.0),), "grid", (3, 9, 12)),)
    assert "  grid i < 8 from 3 to 9 of 12:\n" in print_kernel(kernel("parts", body))


def test_kernels_come_as_soon_as_there_is_work_for_several_threads() -> None:
    def body(rows: int) -> tuple[Stmt, ...]:
        x, y = table("x", rows, WIDE), table("y", rows, WIDE)
        b = Builder()
        with b.loop(rows, "parallel") as i, b.loop(WIDE, "parallel") as k:
            b.store(y, (i, k), x[i, k] + 1.0)
        return b.kernel().body

    small, large, last = body(2), body(64), body(3)
    taken = []

    def given() -> Iterator[tuple[Stmt, ...]]:
        for n, one in enumerate((small, large, last)):
            taken.append(n)
            yield one

    found = share_out(given(), ROOM)
    first = next(found)
    assert taken == [0, 1]  # the second tells that threads are worth it
    assert [s.kind for s in first if isinstance(s, For)] == ["grid"]
    assert len([*found]) == 2
    assert taken == [0, 1, 2]
    assert [*share_out([small, small], ROOM)] == [small, small]  # too little in all
    often = share_out([small, small], ROOM, times=[1, 64])
    assert all(s.kind == "grid" for body in often for s in body if isinstance(s, For))
