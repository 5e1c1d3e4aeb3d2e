"""Loops that several threads share: `parallel` loops with enough work become `grid` loops.

    for panel in parallel(6): for tile in parallel(20): ...
->
    for panel in serial(6): for tile in grid(20): ...           six panels would be unequal shares for four threads

Of nested independent loops that one is taken whose shares are the most equal, for two threads and for four. Where
no loop around them is independent, loops inside of a serial one are shared out each time it goes round. What is
left of a kernel that all threads run, one of them does: as a `grid` loop of one iteration. A barrier stands between
two parts if one of them stores to what the other one touches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from lithe.ir.intervals import Interval, Scope
from lithe.ir.loops import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Buffer,
    Call,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Load,
    Stmt,
    Store,
    Unary,
    Var,
    expressions,
    nodes,
    statements,
)

TEAMS = (2, 4)  # numbers of threads for which the loops are chosen
MEETING = 300.0  # nanoseconds: a barrier, and cache lines that change the core
LEAST = 10_000.0  # nanoseconds of work below which a kernel is one thread's
LEAST_INSIDE = 2_000.0  # the same for one iteration of a serial loop
NODE = 0.1  # nanoseconds for one operation of a vector
SLOW = {"div": 10, "mod": 10, "sqrt": 10}


def share_out(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements of a kernel with the loops that are worth it shared out; the very same ones if none is."""
    chooser = _Chooser()
    if sum(map(chooser.work, body)) < LEAST:
        return body
    way = chooser.sequence(body)
    if way is None:
        return body
    arranged = arrange(way.body)
    kinds = {type(s) for s in statements(arranged)}
    # whoever fails leaves, and could not meet the others inside
    return body if {Call, Barrier} <= kinds else arranged


@dataclass(frozen=True)
class Way:
    """Statements with loops chosen, and what they take: nanoseconds for each of TEAMS."""

    times: tuple[float, ...]
    body: tuple[Stmt, ...]

    @property
    def cost(self) -> float:
        return sum(self.times)


class _Chooser:
    def __init__(self) -> None:
        self.known: dict[int, float] = {}

    def work(self, s: Stmt) -> float:
        """Nanoseconds of one thread, roughly: operations times iterations."""
        if id(s) not in self.known:
            self.known[id(s)] = self._work(s)
        return self.known[id(s)]

    def _work(self, s: Stmt) -> float:
        match s:
            case For(_, extent, body, kind):
                return (1 if kind == "vector" else extent) * sum(map(self.work, body))
            case If(condition, then, otherwise):
                return operations((condition,)) * NODE + max(sum(map(self.work, part)) for part in (then, otherwise))
        return (operations(expressions(s)) + isinstance(s, Store)) * NODE

    def loop(self, s: Stmt) -> Way | None:
        """The best way to share out a statement, None if there is none."""
        if not isinstance(s, For) or s.kind not in ("serial", "parallel") or s.extent < 1:
            return None
        work, ways = self.work(s), []
        if s.kind == "parallel" and s.extent > 1:
            times = tuple(work * -(-s.extent // n) / s.extent + MEETING for n in TEAMS)
            ways.append(Way(times, (replace(s, kind="grid"),)))
        if work / s.extent >= LEAST_INSIDE and (inner := self.sequence(s.body)) is not None:
            ways.append(Way(tuple(t * s.extent for t in inner.times), (replace(s, body=inner.body),)))
        best = min(ways, key=lambda way: way.cost, default=None)
        return best if best is not None and best.cost < work * len(TEAMS) else None

    def sequence(self, body: tuple[Stmt, ...]) -> Way | None:
        ways = [self.loop(s) for s in body]
        if not any(ways):
            return None
        parts = [way or Way((self.work(s),) * len(TEAMS), (s,)) for way, s in zip(ways, body, strict=True)]
        times = tuple(map(sum, zip(*(way.times for way in parts), strict=True)))
        return Way(times, tuple(s for way in parts for s in way.body))


def operations(roots: tuple[Expr, ...]) -> int:
    """Operations on data; indices are mostly computed outside of the loops."""
    return sum(
        SLOW.get(x.op, 1) if isinstance(x, Binary | Unary) else 1
        for x in nodes(roots)
        if x.dtype is not INDEX and not isinstance(x, Const | Var)
    )


def arrange(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements of a kernel with chosen loops as all threads may run them: parts for one thread, barriers."""
    uniform = {s.buffer for s in _outside(body) if isinstance(s, Alloc)}
    lifted: set[Buffer] = set()  # locals around the parts that a part stores to: memory of all threads
    while True:
        arranged = _parts(body, uniform - lifted, count(1))
        found = {b for part in _outside(arranged) if _is_part(part) for b in _stored((part,)) & uniform}
        if found <= lifted:
            break
        lifted |= found
    return tuple(_Meetings(lifted, uniform - lifted).block(arranged, Scope()))


def _is_part(s: Stmt) -> bool:
    return isinstance(s, For) and s.kind == "grid"


def _surrounds_parts(s: Stmt) -> bool:
    return isinstance(s, For) and s.kind != "grid" and any(map(_is_part, statements(s.body)))


def _outside(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """The statements that every thread runs, and the parts as wholes."""
    for s in body:
        yield s
        if isinstance(s, For) and _surrounds_parts(s):
            yield from _outside(s.body)


def _stored(body: tuple[Stmt, ...]) -> set[Buffer]:
    inner = list(statements(body))
    return {s.buffer.storage for s in inner if isinstance(s, Store)} - {s.buffer for s in inner if isinstance(s, Alloc)}


def _parts(body: tuple[Stmt, ...], own: set[Buffer], names: Iterator[int]) -> tuple[Stmt, ...]:
    """What each thread may do for itself stays; what only one may do becomes a loop of one iteration.

    own  locals that each thread has.
    """
    result: list[Stmt] = []
    alone: list[Stmt] = []

    def flush() -> None:
        if alone:
            result.append(For(Var(f"once_{next(names)}"), 1, tuple(alone), "grid"))
            alone.clear()

    for s in body:
        if not (isinstance(s, Alloc) or _surrounds_parts(s) or _is_part(s) or _is_harmless(s, own)):
            alone.append(s)
            continue
        flush()
        if isinstance(s, For) and _surrounds_parts(s):
            s = replace(s, body=_parts(s.body, own, names))
        if not isinstance(s, Alloc) or s.buffer in own:
            result.append(s)
    flush()
    return tuple(result)


def _is_harmless(s: Stmt, own: set[Buffer]) -> bool:
    """Whether a statement changes nothing but locals of its thread."""
    return _stored((s,)) <= own and not any(isinstance(x, Call) for x in statements((s,)))


@dataclass(frozen=True)
class Access:
    """Places that a part touches: bounds along each axis of a view, and of the bytes. No storage: it may fail."""

    storage: Buffer | None
    stores: bool
    view: tuple[object, ...] = ()
    axes: tuple[Interval, ...] = ()
    bytes: Interval = (0, 0)

    def meets(self, other: Access) -> bool:
        """Whether the order of the two matters."""
        if self.storage is not other.storage or not (self.stores or other.stores):
            return False
        pairs = list(zip(self.axes, other.axes, strict=True)) if self.view == other.view else []
        return all(a[0] <= b[1] and b[0] <= a[1] for a, b in [*pairs, (self.bytes, other.bytes)])


@dataclass
class _Meetings:
    """Puts barriers between parts. `pending`: what was touched since the last one."""

    lifted: set[Buffer]
    own: set[Buffer]
    pending: list[Access] = field(default_factory=list)

    def block(self, body: tuple[Stmt, ...], scope: Scope) -> Iterator[Stmt]:
        for s in body:
            if isinstance(s, For) and _surrounds_parts(s):
                inside = scope.loop(s.var, s.extent)
                before = (a for inner in s.body for a in self.accesses(inner, inside))  # in the iteration before
                self.pending += [a for a in before if s.kind == "serial" or a.storage in self.lifted]
                yield replace(s, body=tuple(self.block(s.body, inside)), kind="serial")
                continue
            own = list(self.accesses(s, scope))
            if any(a.meets(b) for a in own for b in self.pending):
                yield Barrier()
                self.pending = []
            self.pending += own
            yield s

    def accesses(self, s: Stmt, scope: Scope) -> Iterator[Access]:
        """What a statement touches beside the locals of a thread."""
        local = {x.buffer for x in statements((s,)) if isinstance(x, Alloc)} | self.own
        return self._accesses(s, scope, local)

    def _accesses(self, s: Stmt, scope: Scope, local: set[Buffer]) -> Iterator[Access]:
        for x in nodes(expressions(s)):
            if isinstance(x, Load) and x.buffer.storage not in local and x.buffer.storage.data is None:
                yield access(x.buffer, x.index, scope, False)
        match s:
            case Store(buffer, index, _) if buffer.storage not in local:
                yield access(buffer, index, scope, True)
            case For(var, extent, body, _):
                inside = scope.loop(var, extent)
                for inner in body:
                    yield from self._accesses(inner, inside, local)
            case If(condition, then, otherwise):
                for holds, part in ((True, then), (False, otherwise)):
                    inside = scope.assume(condition, holds)
                    for inner in part:
                        yield from self._accesses(inner, inside, local)
            case Call():
                yield Access(None, True)


def access(buffer: Buffer, index: tuple[Expr, ...], scope: Scope, stores: bool) -> Access:
    axes = []
    for i, size in zip(index, buffer.shape, strict=True):
        low, high = scope.interval(i)
        axes.append((max(low, 0), min(high, size - 1)))
    step, low, high = buffer.dtype.bytes, 0, buffer.dtype.bytes - 1
    for (first, last), size in zip(reversed(axes), reversed(buffer.shape), strict=True):
        low, high, step = low + first * step, high + last * step, step * size
    return Access(buffer.storage, stores, (buffer.shape, buffer.dtype), tuple(axes), (low, high))
