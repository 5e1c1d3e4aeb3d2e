"""The verifier finds every planted mistake, names the statement, and accepts what it cannot decide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lithe.errors import CompileError
from lithe.ir.build import Builder, kernel
from lithe.ir.loops import (
    FMA,
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    constant,
    minimum,
)
from lithe.ir.program import Program, Step
from lithe.ir.verify import verify_kernel, verify_program
from lithe.types import BOOL, COMPLEX64, FLOAT32, INT8, INT32
from tests.programs import single

X, Y = Buffer("x", FLOAT32, (8,)), Buffer("y", FLOAT32, (8,))
TABLE = Buffer("table", FLOAT32, (2,), np.zeros(2, np.float32))
LOCAL = Buffer("local", FLOAT32, (4,))
I, J = Var("i"), Var("j")
ONE, TWO = Const(1.0, FLOAT32), Const(2, INT32)
TRUE = Const(True, BOOL)
ZERO = constant(0)


class Strange(Expr, Stmt):
    dtype = FLOAT32


def to(index: Expr, value: Expr = ONE, buffer: Buffer = Y) -> Store:
    return Store(buffer, (index,), value)


def value(x: Expr) -> Store:
    return Store(Buffer("out", x.dtype, (1,)), (ZERO,), x)


def grid(*body: Stmt, var: Var = I, part: tuple[int, int, int] = (0, 1, 1)) -> For:
    return For(var, 8, body, "grid", part)


MISTAKES: dict[str, tuple[str, tuple[Stmt, ...]]] = {
    "threads store to one place": ("grid loop i store to the same place", (grid(to(ZERO)),)),
    "every thread stores": ("every thread would store to y", (grid(to(I)), to(ZERO))),
    "one thread's local": (
        "only one thread would store to its x",
        (Alloc(X), grid(to(I, buffer=X))),
    ),
    "grid in grid": ("For inside of a grid loop", (grid(grid(to(J), var=J)),)),
    "grid in parallel": ("For inside of a parallel loop", (For(J, 8, (grid(to(I)),), "parallel"),)),
    "grid in a branch": ("For inside of an If", (If(TRUE, (grid(to(I)),)),)),
    "barrier in grid": ("Barrier inside of a grid loop", (grid(to(I), Barrier()),)),
    "barrier in a branch": ("Barrier inside of an If", (If(TRUE, (Barrier(),)),)),
    "part": ("a part from 3 to 3 of 9", (grid(to(I), part=(3, 3, 9)),)),
    "part of less": ("a part from 0 to 10 of 9", (grid(to(I), part=(0, 10, 9)),)),
    "barrier behind a check": (
        "a barrier in a kernel that may fail",
        (grid(Call("fail_unless", (TRUE,), "no"), to(I)), Barrier()),
    ),
    "free variable": ("variable i is not bound here", (to(I),)),
    "bound twice": ("variable i is bound twice", (For(I, 8, (to(I),)), For(I, 8, (to(I),)))),
    "bound twice by name": ("variable i is bound twice", (For(I, 8, (For(Var("i"), 2, (to(I),)),)),)),
    "rank": ("takes 1 indices, got 2", (Store(Y, (ZERO, ZERO), ONE),)),
    "load rank": ("takes 1 indices, got 0", (to(ZERO, Load(X, ())),)),
    "index type": ("an index of y: float32[8] has type int32", (to(TWO),)),
    "stored type": ("y: float32[8] cannot hold a value of type int32", (to(ZERO, TWO),)),
    "operand types": ("add of float32 and int32", (value(Binary("add", ONE, TWO)),)),
    "unknown binary": ("unknown operation pow", (value(Binary("pow", ONE, ONE)),)),
    "unknown unary": ("unknown operation sin", (value(Unary("sin", ONE)),)),
    "root of an integer": ("sqrt of int32", (value(Unary("sqrt", TWO)),)),
    "not of a float": ("not of float32", (value(Unary("not", ONE)),)),
    "negative of a truth": ("neg of bool", (value(Unary("neg", TRUE)),)),
    "sum of truths": ("add of bool", (value(Binary("add", TRUE, TRUE)),)),
    "and of floats": ("and of float32", (value(Binary("and", ONE, ONE)),)),
    "shifted float": ("shl of float32", (value(Binary("shl", ONE, ONE)),)),
    "select by a number": ("select by a condition of type int32", (value(Select(TWO, ONE, ONE)),)),
    "select of two types": ("select of float32 and int32", (value(Select(TRUE, ONE, TWO)),)),
    "condition": ("a condition of type float32", (If(ONE, (to(ZERO),)),)),
    "instruction": ("fma takes (float32, float32, float32), got (float32)", (value(Intrinsic(FMA, (ONE,))),)),
    "complex": ("complex64 is no type of numbers", (value(Cast(ONE, COMPLEX64)),)),
    "strange expression": ("unknown expression Strange", (value(Strange()),)),
    "strange statement": ("unknown statement Strange", (Strange(),)),
    "call": ("print of 0 arguments is not a known call", (Call("print", ()),)),
    "check of a number": ("fail_unless of 1 arguments is not a known call", (Call("fail_unless", (TWO,), "text"),)),
    "kind": ("unknown kind of loop 'random'", (For(I, 8, (to(I),), "random"),)),  # type: ignore[arg-type]
    "extent": ("extent -1", (For(I, -1, (to(I),)),)),
    "if in vector": ("If inside of a vector loop", (For(I, 8, (If(I < 3, (to(I),)),), "vector"),)),
    "call in vector": ("Call inside of a vector loop", (For(I, 8, (Call("fail_unless", (TRUE,)),), "vector"),)),
    "alloc twice": ("is allocated twice", (Alloc(LOCAL), Alloc(LOCAL))),
    "alloc of a view": ("is a view or a constant", (Alloc(LOCAL.viewed((2, 2))),)),
    "out of scope": ("neither a parameter nor allocated here",
                     (For(I, 2, (Alloc(LOCAL),)), to(ZERO, buffer=LOCAL))),
    "large view": ("is larger than its storage", (to(ZERO, Load(Buffer("v", FLOAT32, (9,), base=X), (ZERO,))),)),
    "constant written": ("constant table: float32[2] is written", (to(ZERO, buffer=TABLE),)),
    "above": ("index 0 of y: float32[8] lies in 0..8, outside of 0..7", (For(I, 9, (to(I),)),)),
    "below": ("index 0 of x: float32[8] lies in -1..6", (For(I, 8, (to(I, Load(X, (I - 1,))),)),)),
    "sum above": ("lies in 0..8", (For(I, 4, (For(J, 3, (to(I * 2 + J),)),)),)),
    "always outside": ("lies in 9..9", (to(minimum(Load(X, (ZERO,)).to(INDEX), 99) * 0 + 9),)),
    "clamped outside": ("outside of 0..7",
                        (If(Load(X, (ZERO,)) > 0.0, (to(minimum(Load(X, (ZERO,)).to(INDEX), 5) - 6),)),)),
    "guard on another": ("lies in 0..8", (For(I, 9, (For(J, 3, (If(J < 2, (to(I),)),)),)),)),
    "guard too weak": ("lies in 8..8", (For(I, 9, (If(Binary("le", constant(8), I), (to(I),)),)),)),
    "parallel to one place": ("iterations of parallel loop i store to the same place",
                              (For(I, 8, (For(J, 8, (to(J),)),), "parallel"),)),
    "vector to one place": ("iterations of vector loop i store to the same place",
                            (For(I, 8, (to(ZERO),), "vector"),)),
    "shared local": ("iterations of grid loop i", (Alloc(LOCAL), For(I, 8, (to(ZERO, buffer=LOCAL),), "grid"))),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_planted_mistake_is_found(case: str) -> None:
    text, body = MISTAKES[case]
    with pytest.raises((CompileError, TypeError)) as caught:
        verify_kernel(kernel("planted", body, "op #1 TEST"))
    assert text in str(caught.value)


def test_the_message_names_kernel_source_and_statement() -> None:
    with pytest.raises(CompileError) as caught:
        verify_kernel(kernel("planted", (For(I, 9, (to(I, Load(X, (I,)) * 2.0),)),), "op #1 TEST"))
    assert caught.value.where == "kernel planted (op #1 TEST): y[i] = x[i] * 2.0"


def _accepted(*body: Stmt) -> None:
    verify_kernel(kernel("fine", body))


def test_what_cannot_be_decided_is_accepted() -> None:
    at = Load(X, (ZERO,)).to(INDEX)
    _accepted(to(at))
    _accepted(For(I, 9, (If(I < 8, (to(I),)),)))
    _accepted(For(I, 9, (If(Binary("ne", I, constant(8)), (to(I),)),)))
    _accepted(For(I, 9, (If(Load(X, (ZERO,)) > 0.0, (to(I),)),)))
    _accepted(For(I, 8, (to(at),), "parallel"), Barrier())
    _accepted(For(I, 8, (If(I.equals(3), (to(ZERO),)),), "parallel"))
    _accepted(For(I, 8, (If(Load(X, (I,)) > 0.0, (to(ZERO),)),), "parallel"))
    _accepted(For(I, 0, (to(constant(99)),)))
    _accepted(For(I, 4, (Alloc(LOCAL), to(ZERO, buffer=LOCAL)), "vector"))


def test_a_place_that_is_never_reached_is_accepted() -> None:
    _accepted(For(I, 4, (If(I > 9, (to(I + 100),)),)))
    _accepted(For(I, 4, (If((I > 2) & (I < 1), (to(I * 0 + I + 5),)),)))


def test_guards_of_a_border_are_understood() -> None:
    b = Builder("border")
    with b.loop(8, "parallel") as i, b.loop(3, "serial", "k") as k:
        at = i + k - 1
        with b.when(at >= 0, at < 8):
            b.store(Y, i, X[at])
    verify_kernel(b.kernel())


KERNELS: dict[str, tuple[str, Kernel]] = {
    "marks": ("1 parameters, but 0 marks", Kernel("k", (X,), (), ())),
    "twice": ("listed twice", Kernel("k", (X, X), (False, False), ())),
    "view": ("is a view: only storages are passed", Kernel("k", (X.viewed((2, 4)),), (False,), ())),
    "constant": ("constant table: float32[2] is written", Kernel("k", (TABLE,), (True,), ())),
    "not written": ("not marked as written", Kernel("k", (Y,), (False,), (to(ZERO),))),
    "missing": ("neither a parameter", Kernel("k", (), (), (to(ZERO),))),
    "alloc parameter": ("is a parameter", Kernel("k", (Y,), (True,), (Alloc(Y),))),
}


@pytest.mark.parametrize("case", KERNELS)
def test_a_wrong_parameter_list_is_found(case: str) -> None:
    text, k = KERNELS[case]
    with pytest.raises(CompileError, match=text.replace("[", r"\[")):
        verify_kernel(k)


def _program() -> Program:
    b = Builder("scale")
    b.compute(Y, lambda i: X[i] * TABLE[0])
    return single(b, [X], [Y])


def _without(p: Program, b: Buffer) -> None:
    p.arena.pop(b, None)
    p.constants.pop(b, None)


def _arguments(p: Program, old: Buffer, new: Buffer) -> None:
    step = p.steps[0]
    p.steps[0] = Step(step.kernel, tuple(new if a is old else a for a in step.arguments))


def _set(places: dict[Buffer, int], b: Buffer, offset: int) -> None:
    places[b] = offset


OTHER = Buffer("other", FLOAT32, (1,), np.zeros(1, np.float32))
WRONG = Buffer("wrong", FLOAT32, (2,), np.zeros(1, np.float32))
PROGRAMS: dict[str, tuple[str, Callable[[Program], object]]] = {
    "argument count": ("2 arguments for 3", lambda p: p.steps.__setitem__(0, Step(p.steps[0].kernel, (X, Y)))),
    "argument size": ("argument other: float32[1] for parameter", lambda p: _arguments(p, X, OTHER)),
    "argument place": ("argument x: float32[8] has no place", lambda p: _without(p, X)),
    "written constant": ("is written", lambda p: (_without(p, Y), _set(p.constants, Y, 0))),
    "input place": ("input local: float32[4] has no place in the arena", lambda p: p.inputs.append(LOCAL)),
    "output place": ("output local: float32[4] has no place", lambda p: p.outputs.append(LOCAL)),
    "view in the arena": ("is a view and cannot be placed", lambda p: _set(p.arena, X.viewed((4, 2)), 0)),
    "alignment": ("lies at 32, which is no multiple of 64", lambda p: _set(p.arena, X, 32)),
    "beyond": ("leaves the arena of 128 bytes", lambda p: _set(p.arena, X, 128)),
    "before": ("leaves the arena of 128 bytes", lambda p: _set(p.arena, X, -64)),
    "constant data": ("has no data of its size", lambda p: _set(p.constants, WRONG, 0)),
    "overlap": ("overlaps table", lambda p: _set(p.constants, OTHER, 4)),
    "constants end": ("leaves the constants", lambda p: _set(p.constants, OTHER, 64)),
    "kernel": ("not marked as written", lambda p: p.steps.append(Step(KERNELS["not written"][1], (Y,)))),
}


def test_a_right_program_is_accepted() -> None:
    verify_program(_program())


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_wrong_program_is_found(case: str) -> None:
    text, spoil = PROGRAMS[case]
    program = _program()
    spoil(program)
    with pytest.raises(CompileError) as caught:
        verify_program(program)
    assert text in str(caught.value)


def test_int8_locals_are_checked_as_well() -> None:
    small = Buffer("small", INT8, (2,))
    with pytest.raises(CompileError, match="cannot hold a value of type float32"):
        verify_kernel(kernel("k", (Alloc(small), Store(small, (ZERO,), ONE))))
