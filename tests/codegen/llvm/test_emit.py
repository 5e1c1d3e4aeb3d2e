"""LLVM text: failures as return codes, and a refusal for every node without a rule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lithe.codegen.llvm.emit import KernelWriter, print_entry, print_kernel
from lithe.codegen.llvm.expressions import Value
from lithe.ir.build import Builder
from lithe.ir.loops import Binary, Buffer, Call, Const, Expr, For, If, Intrinsic, Stmt, Store, Var, constant, kernel
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


def test_the_entry_ends_at_the_first_failure() -> None:
    program = single(checked(), [X], [Y])
    text = print_entry(program, {program.steps[0].kernel: "checked"})
    assert "br i1 %ok0, label %next0, label %bad0\nbad0:\n  ret i32 %r0\nnext0:\n  ret i32 0" in text


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
