"""LLVM text: failures as return codes, and a refusal for every node without a rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lithe.codegen.llvm.emit import KernelWriter, print_entry, print_kernel
from lithe.codegen.llvm.expressions import Value
from lithe.codegen.llvm.threads import print_flushes
from lithe.ir.build import Builder, kernel
from lithe.ir.loops import (
    Barrier,
    Binary,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Stmt,
    Store,
    Var,
    constant,
)
from lithe.ir.program import Program
from lithe.targets.cpu import VPDPBUSD
from lithe.types import FLOAT32, INT32
from tests.programs import single

X, Y = Buffer("x", INT32, (64,)), Buffer("y", INT32, (64,))
I, J = Var("i"), Var("j")
ONE, HALF = Const(1, INT32), Const(0.5, FLOAT32)


class Strange(Expr, Stmt):
    """A node that no rule knows."""

    dtype = INT32


def checked() -> Builder:
    b = Builder("checked")
    with b.loop(4) as i:
        b.fail_unless(X[i] > 0, "must be positive")
        b.fail_unless(X[i] < 9, "must be small")
        b.store(Y, i, X[i])
    return b


def test_a_failed_check_returns_its_number() -> None:
    text = print_kernel(checked().kernel(), "checked", {"must be small": 7, "must be positive": 3})
    assert "fail3:\n  ret i32 3\nfail7:\n  ret i32 7\n}" in text
    assert text.index("label %fail3") < text.index("label %fail7")


def test_the_entry_tells_a_failure_and_ends_where_all_threads_meet() -> None:
    program = single(checked(), [X], [Y])
    text = print_entry(program, {program.steps[0].kernel: "checked"})
    assert "label %next0, label %bad0\nbad0:\n  call void @lithe_fail(i32 %thread, i32 %r0, ptr %sync)" in text
    assert "  br label %leave\nnext0:\n  br label %leave\nleave:\n  call void @lithe_barrier" in text
    assert text.index("leave:") < text.index("%code = call i32 @lithe_failure(ptr %sync)\n  ret i32 %code")


def shared() -> Program:
    """Two steps that all threads run, and two between them that one does."""
    b = Builder("shared")
    with b.loop(64, "grid") as i:
        b.store(Y, i, X[i])
    alone = Builder("alone")
    alone.store(Y, 0, X[0])
    program = single(b, [X], [Y])
    step, other = program.steps[0], single(alone, [X], [Y]).steps[0]
    program.steps = [step, other, other, step]
    return program


def test_threads_meet_where_steps_of_one_and_of_all_follow_each_other() -> None:
    program = shared()
    text = print_entry(program, {k: k.name for k in program.kernels()})
    blocks = text.split("call void @lithe_barrier")
    assert [b.count("call i32 @") for b in blocks[:4]] == [1, 2, 1, 0]
    assert "phase1:\n  br i1 %first, label %alone1, label %met1" in text
    assert "ret i32 0" in blocks[3]  # nothing here can fail


def test_small_results_are_zero_where_there_are_floats() -> None:
    for dtype in (FLOAT32, INT32):
        x, y = (Buffer(name, dtype, (4,)) for name in "xy")
        b = Builder("copy")
        b.store(y, 0, x[0])
        program = single(b, [x], [y])
        text = print_entry(program, {program.steps[0].kernel: "copy"})
        (calls,) = {text.count("  call void @lithe_unflush(i32 %mode)"), text.count("= call i32 @lithe_flush()")}
        assert calls == dtype.is_float
    for architecture in ("x86_64", "aarch64"):
        text = print_flushes(architecture)
        assert ("ldmxcsr" in text) == (architecture == "x86_64")
        assert "define i32 @lithe_flush()" in text
        assert "define void @lithe_unflush(i32 %mode)" in text


def test_a_thread_runs_its_share_of_a_grid_loop() -> None:
    text = print_kernel(shared().steps[0].kernel, "shared", {})
    assert "i32 %thread, i32 %threads, ptr %sync) nounwind" in text
    assert "= phi i64 [%first0, %body0]" in text
    assert "icmp ult i64 %first0, %stop0" in text  # no iterations may be left for a thread


def test_memory_that_others_write_is_not_called_private() -> None:
    b = Builder("meeting")
    with b.loop(64, "grid") as i:
        b.store(Y, i, X[i])
    assert "ptr noalias %p0" in print_kernel(b.kernel(), "meeting", {})
    b.emit(Barrier())
    b.emit(Store(Buffer("own", INT32, ()), (), Y[0]))
    text = print_kernel(b.kernel(), "meeting", {})
    assert "noalias" not in text
    assert "call void @lithe_barrier(i32 %threads, ptr %sync)" in text
    assert "declare void @lithe_barrier(i32, ptr)" in text


def printed(*body: Stmt) -> str:
    return print_kernel(kernel("refused", body), "refused", {})


def to(index: Expr, value: Expr) -> Store:
    return Store(Buffer("out", value.dtype, (64,)), (index,), value)


def vector(*body: Stmt, lanes: int = 16, var: Var = I) -> For:
    return For(var, lanes, body, "vector")


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a call": (lambda: printed(Call("print", (ONE,))), "the LLVM writer has no rule for Call"),
    "an expression": (lambda: writer().value(Strange()), "the LLVM writer has no rule for Strange"),
    "bits of a float": (lambda: printed(to(constant(0), Binary("xor", HALF, HALF))), "no rule for xor of float32"),
    "an operation": (lambda: printed(to(constant(0), Binary("pow", ONE, ONE))), "no rule for pow of int32"),
    "vectors in vectors": (
        lambda: printed(vector(vector(to(J, X[J]), var=J))),
        "vector loops do not nest",
    ),
    "a branch in a vector": (
        lambda: printed(vector(If(X[I] > 0, (to(I, ONE),)))),
        "a condition inside a vector loop cannot branch",
    ),
    "too many lanes": (
        lambda: printed(vector(to(I, Intrinsic(VPDPBUSD.instruction, (X[I], X[I], X[I]))), lanes=32)),
        "vpdpbusd has no form with 32 lanes",
    ),
    "unequal lanes": (
        lambda: writer().level(Value("%a", INT32, 4), Value("%b", INT32, 16)),
        "4 lanes where 16 are wanted",
    ),
}


def writer() -> KernelWriter:
    return KernelWriter(kernel("none", ()), "none", {})


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_rule_is_refused(case: str) -> None:
    write, words = REFUSED[case]
    with pytest.raises(TypeError, match=words):
        write()
