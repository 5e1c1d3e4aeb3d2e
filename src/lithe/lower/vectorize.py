"""Innermost independent loops to vector loops.

    for i in parallel(100): y[i] = x[i] + 1
->
    for q in parallel(6): for l in vector(16): y[16 q + l] = x[16 q + l] + 1
    for l in vector(4): y[96 + l] = x[96 + l] + 1

A loop stays as it is when its body branches, can fail, or would mostly touch memory with a stride.
"""

from __future__ import annotations

from operator import is_

from lithe.ir.affine import Sum, affine_place, computed, same_for_all, sum_of
from lithe.ir.loops import (
    CORE_INSTRUCTIONS,
    INDEX,
    Alloc,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Load,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    binary,
    operands,
    statements,
)

TOGETHER = 4  # vectors that are worked on in turns, or of 32-bit lanes that are narrowed to one of bytes
LARGEST_PRIVATE = 1 << 10  # bytes of locals that each lane may have
LONG = 20  # operations that depend on each other, from which on several vectors are worked on in turns


def vectorize(body: tuple[Stmt, ...], vector_bytes: int) -> tuple[Stmt, ...]:
    """The statements with their innermost `parallel` loops split into vectors of at most `vector_bytes`."""
    return _Vectorizer(vector_bytes).block(body)


def _only_stores_bytes(body: tuple[Stmt, ...]) -> bool:
    return all(isinstance(s, Store) and s.buffer.dtype.bytes == 1 for s in body)


def is_long(body: tuple[Stmt, ...]) -> bool:
    """Whether an element takes so many operations that a processor does not see the next one's in time."""
    found = [x for s in statements(body) for x in computed(s)]
    if any(isinstance(x, Intrinsic) and x.instruction not in CORE_INSTRUCTIONS for x in found):
        return False  # a target's own instruction has widths of its own
    operations = sum(x.dtype is not INDEX and not isinstance(x, Const | Load) for x in found)
    # sums of products load as much as they compute, and have code for many taps: once is enough
    return operations >= LONG and operations > 2 * sum(isinstance(x, Load) for x in found)


class _Vectorizer:
    def __init__(self, vector_bytes: int) -> None:
        self.vector_bytes, self.count = vector_bytes, 0

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        result: list[Stmt] = []
        for s in body:
            match s:
                case For(var, extent, inner, "parallel") if self.fits(s):
                    result += self.split(var, extent, inner)
                case For(var, extent, inner, kind):
                    result.append(For(var, extent, self.block(inner), kind))
                case If(condition, then, otherwise):
                    result.append(If(condition, self.block(then), self.block(otherwise)))
                case _:
                    result.append(s)
        return tuple(result)

    def fits(self, loop: For) -> bool:
        inner = list(statements(loop.body))
        if any(isinstance(s, (If, Call)) or (isinstance(s, For) and s.kind in ("parallel", "vector")) for s in inner):
            return False
        local = {s.buffer for s in inner if isinstance(s, Alloc)}
        if sum(b.nbytes for b in local) > LARGEST_PRIVATE:
            return False
        good = bad = 0
        opaque = same_for_all(loop.var, local)
        known: dict[int, Sum | None] = {}
        for s in inner:
            places = [(x.buffer, x.index) for x in computed(s) if isinstance(x, Load)]
            places += [(s.buffer, s.index)] if isinstance(s, Store) else []
            for buffer, index in places:
                if buffer.storage in local:
                    continue
                found = affine_place(buffer.shape, index, opaque, known)
                step = None if found is None else found[0].get(loop.var, 0)
                good, bad = good + (step == 1), bad + (step not in (0, 1))
        return good > 0 and bad <= good

    def lanes(self, body: tuple[Stmt, ...]) -> int:
        """As many as the widest value computed (indices apart) allows."""
        width = 1
        for s in statements(body):
            for dtype in [x.dtype for x in computed(s)]:
                if dtype is not INDEX and dtype.bits > 8 * width:
                    width = dtype.bytes
            if isinstance(s, Store):
                width = max(width, s.buffer.dtype.bytes)
        return self.vector_bytes // width

    def turns(self, lanes: int, extent: int, body: tuple[Stmt, ...]) -> list[tuple[int, int]]:
        """Lanes of a vector and how many of them are written one after the other, the largest first."""
        if lanes < self.vector_bytes and _only_stores_bytes(body):
            left = extent // lanes % TOGETHER
            return [(lanes, TOGETHER), *([(lanes, left)] if left else [])]
        return [(lanes * TOGETHER, 1), (lanes, 1)] if is_long(body) else [(lanes, 1)]

    def split(self, var: Var, extent: int, body: tuple[Stmt, ...]) -> list[Stmt]:
        lanes, done = self.lanes(body), 0
        result: list[Stmt] = []
        for size, count in self.turns(lanes, extent, body):
            blocks = (extent - done) // (size * count)
            if blocks:
                block, part, lane = self.variable(var), self.variable(var), self.variable(var)
                number = block * count + part if count > 1 else block
                vectors: Stmt = For(lane, size, self.copy(body, {var: number * size + (lane + done)}), "vector")
                vectors = vectors if count == 1 else For(part, count, (vectors,), "unrolled")
                result.append(For(block, blocks, (vectors,), "parallel"))
                done += blocks * count * size
        if extent > done:
            lane = self.variable(var)
            result.append(For(lane, extent - done, self.copy(body, {var: lane + done}), "vector"))
        return result

    def variable(self, like: Var) -> Var:
        self.count += 1
        return Var(f"{like.name}_{self.count}v")

    def copy(self, body: tuple[Stmt, ...], values: dict[Var, Expr]) -> tuple[Stmt, ...]:
        """The statements with variables replaced, and with loop variables and locals of their own."""
        buffers: dict[Buffer, Buffer] = {}
        fresh: dict[Var, Expr] = dict(values)
        for s in statements(body):
            self.count += 1
            match s:
                case Alloc(b):
                    buffers[b] = Buffer(f"{b.name}_{self.count}v", b.dtype, b.shape)
                case For(var, _, _, _):
                    fresh[var] = self.variable(var)
        return Copy(fresh, buffers).block(body)


class Copy:
    """Rebuilds statements with other variables and buffers; shared expressions stay shared."""

    def __init__(self, variables: dict[Var, Expr], buffers: dict[Buffer, Buffer]) -> None:
        self.variables, self.buffers = variables, buffers
        self.memo: dict[Expr, Expr] = {}

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(self.stmt(s) for s in body)

    def stmt(self, s: Stmt) -> Stmt:
        match s:
            case Alloc(buffer):
                return Alloc(self.buffer(buffer))
            case Store(buffer, index, value):
                return Store(self.buffer(buffer), tuple(map(self.index, index)), self.expr(value))
            case For(var, extent, inner, kind):
                fresh = self.variables.get(var, var)
                assert isinstance(fresh, Var)
                return For(fresh, extent, self.block(inner), kind)
            case If(condition, then, otherwise):
                return If(self.expr(condition), self.block(then), self.block(otherwise))
            case Call(name, args, text):
                return Call(name, tuple(map(self.expr, args)), text)
        return s

    def buffer(self, b: Buffer) -> Buffer:
        if b.base is not None and b.storage in self.buffers:
            return self.buffers[b.storage].viewed(b.shape, b.dtype)
        return self.buffers.get(b, b)

    def expr(self, x: Expr) -> Expr:
        known = self.memo.get(x)
        if known is None:
            known = self.memo[x] = self.rebuilt(x)
        return known

    def index(self, x: Expr) -> Expr:
        """The same of an index; in most of them nothing changes."""
        found = sum_of(x)
        return x if found is not None and found[0].keys().isdisjoint(self.variables) else self.expr(x)

    def rebuilt(self, x: Expr) -> Expr:
        match x:
            case Load(buffer, index):
                to, fresh = self.buffer(buffer), tuple(map(self.index, index))
                return x if to is buffer and all(map(is_, index, fresh)) else Load(to, fresh)
            case Binary(op, a, b):
                left, right = self.expr(a), self.expr(b)
                return x if left is a and right is b else binary(op, left, right)
            case Const():
                return x
            case Var():
                return self.variables.get(x, x)
        parts = operands(x)
        fresh = tuple(map(self.expr, parts))
        if all(map(is_, parts, fresh)):
            return x
        match x:
            case Intrinsic(instruction, _):
                return Intrinsic(instruction, fresh)
            case Cast(_, dtype):
                return Cast(fresh[0], dtype)
            case Unary(op, _):
                return Unary(op, fresh[0])
        return Select(*fresh)  # `operands` has refused any other node
