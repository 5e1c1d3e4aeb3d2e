"""The interpreter refuses what a program must not do, and runs statements as the language says."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.errors import ExecutionError, InputError
from lithe.ir import interpret
from lithe.ir.build import Builder, kernel
from lithe.ir.interpret import run_kernel
from lithe.ir.loops import (
    INDEX,
    Binary,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    Kernel,
    Kind,
    Load,
    Stmt,
    Store,
    Var,
    constant,
    select,
)
from lithe.types import BOOL, FLOAT32, INT8, INT16, INT32, INT64, UINT8, DType
from tests.programs import single

KINDS: tuple[Kind, ...] = ("serial", "parallel", "vector", "unrolled", "grid", "tile")
X = np.array([3, 1, 4, 1, 5, 9], np.int32)


def buffers(*names: str, dtype: DType = INT32, size: int = 6) -> list[Buffer]:
    return [Buffer(n, dtype, (size,)) for n in names]


def test_parallel_iterations_have_their_own_locals() -> None:
    x, y = buffers("x", "y")
    b = Builder()
    with b.loop(6, "parallel") as i:
        total = b.variable(0, "total", INT32)
        counts = b.local(INT32, (2, 3), "counts")
        with b.nest((2, 3)) as (j, k):
            b.store(counts, (j, k), x[i] + (j * 3 + k).to(INT32))
        with b.nest((2, 3), "parallel") as (j, k):
            b.store(counts, (j, k), counts[j, k] * 2)
        with b.nest((2, 3)) as (j, k):
            b.store(total, (), total[()] + counts[j, k])
        b.store(y, i, total[()])
    out = np.zeros(6, np.int32)
    run_kernel(b.kernel(), {x: X, y: out})
    assert out.tolist() == [2 * (6 * v + 15) for v in X]


def test_masks_nest_and_do_not_leak() -> None:
    x, y = buffers("x", "y")
    b = Builder()
    with b.loop(6, "parallel") as i:
        value = b.variable(0, "value", INT32)
        with b.when(x[i] > 1):
            b.store(value, (), 1)
            with b.when(x[i] > 4):
                b.store(value, (), 2)
            with b.otherwise():
                b.store(y, i, -1)
            b.store(value, (), value[()] + 10)
        b.store(y, i, select(value[()].equals(11), y[i], value[()]))
    out = np.zeros(6, np.int32)
    run_kernel(b.kernel(), {x: X, y: out})
    assert out.tolist() == [-1, 0, -1, 0, 12, 12]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_loop_runs(kind: Kind) -> None:
    x, y = buffers("x", "y")
    b = Builder()
    with b.loop(6, kind) as i:
        b.store(y, Const(5, INDEX) - i, x[i] + 1)
    out = np.zeros(6, np.int32)
    run_kernel(b.kernel(), {x: X, y: out})
    assert out.tolist() == (X[::-1] + 1).tolist()


def test_many_lanes_are_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpret, "MOST_LANES", 8)
    x, y = Buffer("x", INT32, (5, 6)), Buffer("y", INT32, (5, 6))
    b = Builder()
    b.compute(y, lambda i, j: x[i, j] * 2)
    out, data = np.zeros((5, 6), np.int32), np.arange(30, dtype=np.int32).reshape(5, 6)
    run_kernel(b.kernel(), {x: data, y: out})
    assert (out == 2 * data).all()


def test_views_share_bytes() -> None:
    x, y = Buffer("x", FLOAT32, (2, 2)), Buffer("y", UINT8, (16,))
    b = Builder()
    b.compute(y, lambda i: x.viewed((16,), UINT8)[i])
    data, out = np.array([[1, 2], [3, 4]], np.float32), np.zeros(16, np.uint8)
    run_kernel(b.kernel(), {x: data, y: out})
    assert out.tobytes() == data.tobytes()


def test_unwritten_memory_holds_the_pattern() -> None:
    y, z = buffers("y", "z", dtype=INT8, size=2)
    b = Builder()
    b.store(y, 0, b.local(INT8, (3,), "local")[2])
    b.store(y, 1, z[1])
    out = single(b, [], [y])
    got = interpret.run(out, [], pattern=0x5A)[0]
    assert got.tolist() == [0x5A, 0x5A]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("bad", [6, -1])
def test_an_index_out_of_range_is_an_error(kind: Kind, store: bool, bad: int) -> None:
    x, at, y = buffers("x", "at", "y")
    b = Builder("gather")
    with b.loop(6, kind) as i:
        j = at[i].to(INDEX)
        b.store(y, j if store else i, x[i if store else j])
    positions = np.array([0, 1, 2, 3, 4, bad], np.int32)
    with pytest.raises(ExecutionError, match=rf"index {bad} on axis 0, outside of 0\.\.5"):
        run_kernel(b.kernel(), {x: X, at: positions, y: np.zeros(6, np.int32)})


def test_sleeping_lanes_may_have_wild_indices() -> None:
    x, at, y = buffers("x", "at", "y")
    b = Builder()
    with b.loop(6, "parallel") as i:
        b.store(y, i, 0)
        with b.when(at[i] >= 0, at[i] < 6):
            b.store(y, at[i].to(INDEX), x[at[i].to(INDEX)] // at[i])
    out = np.zeros(6, np.int32)
    run_kernel(b.kernel(), {x: X, at: np.array([1, -7, 99, 2, 3, 5], np.int32), y: out})
    assert out.tolist() == [0, 1, 2, 0, 0, 1]


@pytest.mark.parametrize("kind", ["serial", "parallel"])
@pytest.mark.parametrize(
    ("op", "left", "right", "text"),
    [
        ("div", 5, 0, "divided by zero"),
        ("mod", 5, 0, "divided by zero"),
        ("div", -(2**31), -1, "does not fit"),
        ("mod", -(2**31), -1, "does not fit"),
        ("shl", 5, 32, r"shift count is outside of 0\.\.31"),
        ("shr", 5, -1, r"shift count is outside of 0\.\.31"),
    ],
)
def test_undefined_arithmetic_is_an_error(kind: Kind, op: str, left: int, right: int, text: str) -> None:
    a, c, y = buffers("a", "c", "y", size=2)
    b = Builder()
    with b.loop(2, kind) as i:
        b.store(y, i, Binary(op, a[i], c[i]))
    arrays = {a: np.array([1, left], np.int32), c: np.array([1, right], np.int32), y: np.zeros(2, np.int32)}
    with pytest.raises(ExecutionError, match=text):
        run_kernel(b.kernel(), arrays)


def test_a_failed_check_says_its_text_and_source() -> None:
    (x,) = buffers("x")
    b = Builder()
    with b.loop(6, "parallel") as i:
        b.fail_unless(x[i] < 9, "a value is too large")
    with pytest.raises(ExecutionError, match="a value is too large\n  at: op #3 GATHER"):
        run_kernel(b.kernel("op #3 GATHER"), {x: X})
    run_kernel(b.kernel(), {x: X % 9})


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (3.99, INT8, 3), (-3.99, INT8, -3), (1e9, INT8, 127), (-np.inf, INT16, -(2**15)), (np.nan, INT32, 0),
        (2147483648.0, INT32, 2**31 - 1), (1e30, INT64, 2**63 - 1), (-5.0, UINT8, 0), (0.5, BOOL, True),
    ],
)  # fmt: skip
def test_casts_of_floats_saturate(value: float, dtype: DType, expected: int) -> None:
    x, y = Buffer("x", FLOAT32, (2,)), Buffer("y", dtype, (2,))
    b = Builder()
    b.compute(y, lambda i: x[i].to(dtype))
    out = np.zeros(2, dtype.numpy)
    run_kernel(b.kernel(), {x: np.full(2, value, np.float32), y: out})
    assert out.tolist() == [expected] * 2


def test_minimum_and_maximum_give_the_second_for_nan() -> None:
    x, y = Buffer("x", FLOAT32, (2,)), Buffer("y", FLOAT32, (4,))
    b = Builder()
    for k, (op, first) in enumerate([("min", 0), ("min", 1), ("max", 0), ("max", 1)]):
        b.store(y, k, Binary(op, x[first], x[1 - first]))
    out = np.zeros(4, np.float32)
    run_kernel(b.kernel(), {x: np.array([np.nan, 2.0], np.float32), y: out})
    np.testing.assert_array_equal(out, [2.0, np.nan, 2.0, np.nan])


def test_a_store_that_all_lanes_share_keeps_the_last() -> None:
    x, y = buffers("x", "y")
    b = Builder()
    with b.loop(6, "parallel") as i:
        b.store(y, 0, x[i])
    out = np.zeros(6, np.int32)
    run_kernel(b.kernel(), {x: X, y: out})
    assert out[0] == X[-1]


def test_arrays_that_do_not_fit_are_refused() -> None:
    x, y = buffers("x", "y")
    b = Builder()
    b.compute(y, lambda i: x[i])
    k = b.kernel()
    with pytest.raises(InputError, match="no array for x"):
        run_kernel(k, {y: X.copy()})
    with pytest.raises(InputError, match=r"cannot be an array int32\[3\]"):
        run_kernel(k, {x: X[:3], y: X.copy()})
    with pytest.raises(InputError, match="cannot be an array"):
        run_kernel(k, {x: np.zeros(12, np.int32)[::2], y: X.copy()})


def test_programs_check_their_inputs() -> None:
    x, y = buffers("x", "y")
    b = Builder()
    b.compute(y, lambda i: x[i] + 1)
    program = single(b, [x], [y], "plus")
    assert interpret.run(program, [X])[0].tolist() == (X + 1).tolist()
    with pytest.raises(InputError, match="plus takes 1 inputs, got 0"):
        interpret.run(program, [])
    with pytest.raises(InputError, match=r"input x expects x: int32\[6\], got float32\[6\]"):
        interpret.run(program, [X.astype(np.float32)])
    del program.arena[y]
    with pytest.raises(InputError, match="has no place in program plus"):
        interpret.run(program, [X])


class Strange(Expr, Stmt):
    dtype = INT32


def _body(s: Stmt) -> Kernel:
    return Kernel("odd", (), (), (s,))


def test_unknown_nodes_have_no_rule() -> None:
    y = Buffer("y", INT32, (1,))
    with pytest.raises(TypeError, match="no rule for Strange"):
        run_kernel(_body(Strange()), {})
    with pytest.raises(TypeError, match="no rule for a call of print"):
        run_kernel(_body(Call("print", ())), {})
    with pytest.raises(TypeError, match="Strange"):
        run_kernel(Kernel("odd", (y,), (True,), (Store(y, (constant(0),), Strange()),)), {y: np.zeros(1, np.int32)})
    with pytest.raises(TypeError, match="index of rank 2"):
        run_kernel(
            kernel("odd", (Store(y, (constant(0),), Load(y, (constant(0), constant(0)))),)), {y: np.zeros(1, np.int32)}
        )


def test_a_loop_of_no_passes_does_nothing() -> None:
    y = Buffer("y", INT32, (1,))
    loop = For(Var("i"), 0, (Store(y, (constant(5),), Const(1, INT32)),), "parallel")
    run_kernel(kernel("none", (loop,)), {y: np.zeros(1, np.int32)})
