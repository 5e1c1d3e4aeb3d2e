"""Checks of the loop language: what every kernel and program must hold before code is made from it.

`verify_kernel` checks that names are bound once, types agree, indices stay inside where that can be decided,
that the iterations of parallel loops store to different places, and that threads do not get in each other's way.
What cannot be decided is accepted: generated code checks or clamps indices that come from data.

A broken rule is a mistake of ours, not of the user's model; it raises CompileError with kernel and statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import get_args

from lithe.errors import CompileError
from lithe.ir.intervals import Scope
from lithe.ir.loops import (
    BINARY,
    COMPARISONS,
    INDEX,
    UNARY,
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
    Kind,
    Load,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    expressions,
    nodes,
    statements,
)
from lithe.ir.program import ALIGNMENT, Program
from lithe.ir.text import print_statement
from lithe.types import BOOL

LANES = ("parallel", "vector", "grid", "tile")
FLOAT_ONLY = frozenset({"sqrt", "floor", "ceil", "round", "trunc"})
LOGIC = frozenset({"and", "or", "xor"})
SHIFTS = frozenset({"shl", "shr"})


@dataclass(frozen=True)
class _Place:
    """Where a statement stands: enclosing loops, conditions, and memory that may be used."""

    scope: Scope
    loops: tuple[For, ...] = ()
    guards: tuple[tuple[int, Expr], ...] = ()  # (number of loops around the If, its condition)
    depth: tuple[tuple[Buffer, int], ...] = ()  # local -> number of loops around its Alloc

    def bound(self) -> set[Var]:
        return {f.var for f in self.loops}


def verify_kernel(kernel: Kernel) -> None:
    """Raises CompileError naming the kernel and the statement when a rule of the language is broken."""
    _Verifier(kernel).run()


class _Verifier:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.names: set[str] = set()
        self.allocated: set[Buffer] = set()
        self.written = {b for b, w in zip(kernel.params, kernel.writes, strict=False) if w}

    def refuse(self, problem: str, s: Stmt | None = None) -> CompileError:
        where = f"kernel {self.kernel.name}"
        if self.kernel.source:
            where += f" ({self.kernel.source})"
        return CompileError(problem, where=where if s is None else f"{where}: {print_statement(s).strip()}")

    def require(self, condition: bool, problem: str, s: Stmt | None = None) -> None:
        if not condition:
            raise self.refuse(problem, s)

    def run(self) -> None:
        k = self.kernel
        self.require(
            len(k.params) == len(k.writes), f"{len(k.params)} parameters, but {len(k.writes)} marks of writing"
        )
        self.require(len(set(k.params)) == len(k.params), "a parameter is listed twice")
        for b, written in zip(k.params, k.writes, strict=True):
            self.require(b.base is None, f"parameter {b!r} is a view: only storages are passed")
            self.require(not (written and b.data is not None), f"constant {b!r} is written")
        self.block(k.body, _Place(Scope()))

    def block(self, body: tuple[Stmt, ...], place: _Place) -> None:
        for s in body:
            self.expressions(s, place)
            match s:
                case Alloc(b):
                    self.require(b.base is None and b.data is None, f"{b!r} is a view or a constant", s)
                    self.require(b not in self.allocated, f"{b!r} is allocated twice", s)
                    self.require(b not in self.kernel.params, f"{b!r} is a parameter", s)
                    self.allocated.add(b)
                    place = replace(place, depth=(*place.depth, (b, len(place.loops))))
                case Store():
                    self.store(s, place)
                case For():
                    self.loop(s, place)
                case If(condition, then, otherwise):
                    self.outside_vector(s, place)
                    self.require(condition.dtype == BOOL, f"a condition of type {condition.dtype}", s)
                    guarded = replace(place, guards=(*place.guards, (len(place.loops), condition)))
                    self.block(then, replace(guarded, scope=place.scope.assume(condition)))
                    self.block(otherwise, replace(guarded, scope=place.scope.assume(condition, False)))
                case Call(name, args, _):
                    self.outside_vector(s, place)
                    known = name == "fail_unless" and len(args) == 1 and args[0].dtype == BOOL
                    self.require(known, f"{name} of {len(args)} arguments is not a known call", s)
                case Barrier():
                    self.for_all_threads(s, place)
                    fails = any(isinstance(x, Call) for x in statements(self.kernel.body))
                    self.require(not fails, "a barrier in a kernel that may fail: who fails leaves", s)

    def for_all_threads(self, s: Stmt, place: _Place) -> None:
        """A statement must be where every thread comes by, each as often."""
        around = next((f.kind for f in place.loops if f.kind != "serial"), None)
        self.require(around is None, f"{type(s).__name__} inside of a {around} loop", s)
        self.require(not place.guards, f"{type(s).__name__} inside of an If", s)

    def outside_vector(self, s: Stmt, place: _Place) -> None:
        lanes = any(f.kind == "vector" for f in place.loops)
        self.require(not lanes, f"{type(s).__name__} inside of a vector loop", s)

    def loop(self, s: For, place: _Place) -> None:
        self.require(
            s.kind in get_args(Kind), f"unknown kind of loop {s.kind!r}", s if s.kind in get_args(Kind) else None
        )
        self.require(s.extent >= 0, f"extent {s.extent}", s)
        self.require(s.var.name not in self.names, f"variable {s.var.name} is bound twice", s)
        self.names.add(s.var.name)
        if s.kind == "grid":
            self.for_all_threads(s, place)
            begin, end, whole = s.part
            self.require(0 <= begin < end <= whole, f"a part from {begin} to {end} of {whole}", s)
        if s.extent:
            self.block(s.body, replace(place, scope=place.scope.loop(s.var, s.extent), loops=(*place.loops, s)))

    def store(self, s: Store, place: _Place) -> None:
        b = s.buffer
        self.access(s, b, s.index, place)
        self.require(b.dtype == s.value.dtype, f"{b!r} cannot hold a value of type {s.value.dtype}", s)
        local = b.storage in self.allocated
        self.require(local or b.storage in self.written, f"{b!r} is stored to, but not marked as written", s)
        self.disjoint(s, place)
        grid = next((k for k, f in enumerate(place.loops) if f.kind == "grid"), None)
        if local and grid is not None:
            inside = dict(place.depth).get(b.storage, 0) > grid
            self.require(inside, f"only one thread would store to its {b!r}", s)
        elif self.kernel.is_shared and not local:
            self.require(grid is not None, f"every thread would store to {b!r}", s)

    def disjoint(self, s: Store, place: _Place) -> None:
        """Parallel iterations must not store to one place: their variable must decide the index."""
        outer = dict(place.depth).get(s.buffer.storage, 0)
        deciding = {x for i in s.index for x in nodes((i,))}
        if any(isinstance(x, Load) for x in deciding):
            return
        for k in range(outer, len(place.loops)):
            f = place.loops[k]
            if f.kind not in LANES or f.extent < 2 or f.var in deciding:
                continue
            if f.kind == "grid" and s.buffer.storage in self.kernel.private:
                continue
            guarded = any(at > k and f.var in set(nodes((c,))) for at, c in place.guards)
            loads = any(at > k and any(isinstance(x, Load) for x in nodes((c,))) for at, c in place.guards)
            self.require(guarded or loads, f"iterations of {f.kind} loop {f.var.name} store to the same place", s)

    # expressions

    def expressions(self, s: Stmt, place: _Place) -> None:
        for x in nodes(expressions(s)):
            match x:
                case Var(name, _):
                    self.require(x in place.bound(), f"variable {name} is not bound here", s)
                case Load(b, index):
                    self.access(s, b, index, place)
                case Unary(op, a):
                    self.unary(op, a, s)
                case Binary(op, a, b):
                    self.binary(op, a, b, s)
                case Select(c, a, b):
                    self.require(c.dtype == BOOL, f"select by a condition of type {c.dtype}", s)
                    self.require(a.dtype == b.dtype, f"select of {a.dtype} and {b.dtype}", s)
                case Intrinsic(instruction, args):
                    got = tuple(a.dtype for a in args)
                    self.require(
                        got == instruction.operands,
                        f"{instruction.name} takes {_types(instruction.operands)}, got {_types(got)}", s,
                    )  # fmt: skip
                case Const() | Cast():
                    numeric = x.dtype.is_float or x.dtype.is_integer or x.dtype == BOOL
                    self.require(numeric, f"{x.dtype} is no type of numbers", s)

    def unary(self, op: str, a: Expr, s: Stmt) -> None:
        self.require(op in UNARY, f"unknown operation {op}", s)
        if op == "not":
            fits = not a.dtype.is_float
        elif op in FLOAT_ONLY:
            fits = a.dtype.is_float
        else:
            fits = a.dtype != BOOL
        self.require(fits, f"{op} of {a.dtype}", s)

    def binary(self, op: str, a: Expr, b: Expr, s: Stmt) -> None:
        self.require(op in BINARY, f"unknown operation {op}", s)
        self.require(a.dtype == b.dtype, f"{op} of {a.dtype} and {b.dtype}", s)
        if op in LOGIC:
            fits = a.dtype == BOOL or a.dtype.is_integer
        elif op in SHIFTS:
            fits = a.dtype.is_integer
        else:
            fits = op in COMPARISONS or a.dtype != BOOL
        self.require(fits, f"{op} of {a.dtype}", s)

    def access(self, s: Stmt, b: Buffer, index: tuple[Expr, ...], place: _Place) -> None:
        visible = b.storage in self.kernel.params or b.storage in dict(place.depth)
        self.require(visible, f"{b!r} is neither a parameter nor allocated here", s)
        self.require(b.nbytes <= b.storage.nbytes, f"view {b!r} is larger than its storage {b.storage!r}", s)
        self.require(len(index) == len(b.shape), f"{b!r} takes {len(b.shape)} indices, got {len(index)}", s)
        for axis, (i, size) in enumerate(zip(index, b.shape, strict=True)):
            self.require(i.dtype == INDEX, f"an index of {b!r} has type {i.dtype}", s)
            low, high = place.scope.interval(i)
            if (low < 0 or high >= size) and self.certain(i, size, place):
                raise self.refuse(f"index {axis} of {b!r} lies in {low}..{high}, outside of 0..{size - 1}", s)

    def certain(self, i: Expr, size: int, place: _Place) -> bool:
        """Whether an index that may leave 0..size-1 really does, for some iteration."""
        form = place.scope.linear(i)
        low, high = place.scope.span(form)
        if low > high or self.unreachable(place):
            return False
        if high < 0 or low >= size:
            return True
        if not all(isinstance(x, Var) for x in form.terms):
            return False
        conditions = {x for _, c in place.guards for x in nodes((c,))}
        return not any(x in conditions for x in form.terms) and not any(isinstance(x, Load) for x in conditions)

    def unreachable(self, place: _Place) -> bool:
        """Whether the conditions around a place contradict the loops' ranges."""
        terms = (dict(t) for t in place.scope.facts)
        plain = Scope(place.scope.ranges)
        for sum_terms, least in zip(terms, place.scope.facts.values(), strict=True):
            total = sum(f * plain.interval(x)[f > 0] for x, f in sum_terms.items())
            if total < least:
                return True
        return False


def _types(dtypes: tuple) -> str:
    return "(" + ", ".join(map(str, dtypes)) + ")"


def verify_program(program: Program) -> None:
    """Verifies each kernel, the arguments of each step, and where the buffers lie. Raises CompileError."""
    where = f"program {program.name}"

    def require(condition: bool, problem: str, step: str = "") -> None:
        if not condition:
            raise CompileError(problem, where=where + step)

    for kernel in program.kernels():
        verify_kernel(kernel)
    for number, s in enumerate(program.steps):
        step = f", step {number} {s.kernel.name}"
        require(
            len(s.arguments) == len(s.kernel.params), f"{len(s.arguments)} arguments for {len(s.kernel.params)}", step
        )
        for b, p, written in zip(s.arguments, s.kernel.params, s.kernel.writes, strict=True):
            require(b.nbytes == p.nbytes, f"argument {b!r} for parameter {p!r}", step)
            placed = b.storage in program.arena or b.storage in program.constants
            require(placed, f"argument {b!r} has no place", step)
            require(not written or b.storage in program.arena, f"constant {b!r} is written", step)
    for b in program.inputs:
        require(b.storage in program.arena, f"input {b!r} has no place in the arena")
    for b in program.outputs:
        require(b.storage in program.arena or b.storage in program.constants, f"output {b!r} has no place")
    for b, offset in program.arena.items():
        require(b.base is None, f"{b!r} is a view and cannot be placed")
        require(offset % ALIGNMENT == 0, f"{b!r} lies at {offset}, which is no multiple of {ALIGNMENT}")
        inside = offset >= 0 and offset + b.nbytes <= program.arena_bytes
        require(inside, f"{b!r} at {offset} leaves the arena of {program.arena_bytes} bytes")
    for a, b in _overlapping(program):
        require(False, f"{a!r} and {b!r} share bytes of the arena while both live")
    end, last = 0, ""
    for b, offset in sorted(program.constants.items(), key=lambda item: item[1]):
        require(b.data is not None and b.data.nbytes == b.nbytes, f"constant {b!r} has no data of its size")
        require(offset >= end or not b.nbytes, f"constant {b!r} at {offset} overlaps {last}")
        require(offset + b.nbytes <= program.constant_bytes, f"constant {b!r} at {offset} leaves the constants")
        end, last = offset + b.nbytes, b.name


def _overlapping(program: Program) -> Iterator[tuple[Buffer, Buffer]]:
    """Storages with a byte and a step in common."""
    spans = program.lifetimes()
    placed = sorted(((o, b) for b, o in program.arena.items() if b in spans), key=itemgetter(0))
    for n, (start, a) in enumerate(placed):
        for offset, b in placed[n + 1 :]:
            if offset >= start + a.nbytes:
                break
            if b.nbytes and spans[a][0] <= spans[b][1] and spans[b][0] <= spans[a][1]:
                yield a, b
