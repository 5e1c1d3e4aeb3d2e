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

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, groupby, repeat

from lithe.ir.affine import computed
from lithe.ir.intervals import Scope
from lithe.ir.loops import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Buffer,
    Call,
    Const,
    For,
    If,
    Stmt,
    Store,
    Unary,
    Var,
    statements,
)
from lithe.lower.access import Access, accesses, fetched

Times = tuple[float, ...]

TEAMS = (2, 4)  # numbers of threads for which the loops are chosen
MEETING = 300.0  # nanoseconds of a barrier
AWAY = 0.25  # nanoseconds to fetch a byte from another core
LEAST_RUN = 10_000.0  # nanoseconds of work below which a program is one thread's
LEAST = 300.0  # nanoseconds of work below which a kernel is one thread's
LEAST_INSIDE = {"parallel": 1_000.0, "serial": 8_000.0}  # the same for one iteration of a loop
IDEAL = 1.02  # more than equal shares would take, and no other way is looked for
NODE = 0.1  # nanoseconds for one operation of a vector
VECTOR = 64  # bytes of a vector; where they are shorter, more of them are in a loop of their own
SLOW = {"div": 10, "mod": 10, "sqrt": 10}


def share_out(
    kernels: Iterable[tuple[Stmt, ...]],
    largest_local: int,
    away: Iterable[float | None] = repeat(None),
    times: Iterable[int] = repeat(1),
) -> Iterator[tuple[Stmt, ...]]:
    """The statements of a program's kernels with the loops that are worth it shared out.

    Kernels without such loops stay the very same, and so do all where there is so little to do that starting
    other threads takes as long. So the first ones come only when enough has been seen; each other one comes at once.

    largest_local  bytes of a local that fits a stack; a larger one is each thread's own in a grid loop only.
    away           for each kernel, what stands in the place of AWAY; None: AWAY.
    times          how often the program runs each.
    """
    waiting: list[tuple[_Chooser, float]] = []
    total = 0.0
    for body, cost, often in zip(kernels, away, times, strict=False):
        chooser = _Chooser(body, AWAY if cost is None else cost)
        waiting.append((chooser, sum(map(chooser.work, body))))
        total += waiting[-1][1] * often
        if total >= LEAST_RUN:
            yield from (_shared(c, largest_local) if work >= LEAST else c.body for c, work in waiting)
            waiting.clear()
    yield from (c.body for c, _ in waiting)


def vectors(lanes: int, body: tuple[Stmt, ...]) -> int:
    """How many vectors of VECTOR bytes the lanes of a vector loop are, by what is stored."""
    width = max((s.buffer.dtype.bytes for s in body if isinstance(s, Store)), default=1)
    return max(1, lanes * width // VECTOR)


def work_of(body: tuple[Stmt, ...]) -> float:
    """Nanoseconds that one thread takes, roughly."""
    return sum(map(_Chooser(body).work, body))


def _shared(chooser: _Chooser, largest_local: int) -> tuple[Stmt, ...]:
    body = chooser.body
    way = chooser.sequence(body, Scope())
    if way is None:
        return body
    arranged = arrange(way.body, chooser, largest_local)
    kinds = {type(s) for s in statements(arranged)}
    # whoever fails leaves, and could not meet the others inside
    return body if {Call, Barrier} <= kinds else arranged


@dataclass(frozen=True)
class Way:
    """Statements with loops chosen, and what they take: nanoseconds for each of TEAMS.

    work      of each iteration of the loops around.
    away      to fetch what lies at other cores, in all iterations.
    meetings  barriers, at most.
    """

    work: Times
    away: Times
    body: tuple[Stmt, ...]
    meetings: int = 0

    @property
    def cost(self) -> float:
        return sum(self.work) + sum(self.away) + self.meetings * MEETING * len(TEAMS)


class _Chooser:
    """Looks at every statement of a kernel once; what it finds is known by the identity of statements and bodies."""

    def __init__(self, body: tuple[Stmt, ...], from_away: float = AWAY) -> None:
        self.from_away = from_away
        self.body = body  # stays alive, and its identities with it
        self.local = {s.buffer for s in statements(body) if isinstance(s, Alloc)}
        self.works: dict[Stmt, float] = {}
        self.touches: dict[int, list[Access]] = {}

    def work(self, s: Stmt) -> float:
        """Nanoseconds of one thread, roughly: operations times iterations."""
        if s not in self.works:
            self.works[s] = self._work(s)
        return self.works[s]

    def _work(self, s: Stmt) -> float:
        match s:
            case For(_, extent, _, "tile"):  # about a row of a tile at once
                return extent * NODE
            case For(_, extent, body, kind):
                return (vectors(extent, body) if kind == "vector" else extent) * sum(map(self.work, body))
            case If(_, then, otherwise):
                return operations(s) * NODE + max(sum(map(self.work, part)) for part in (then, otherwise))
        return (operations(s) + isinstance(s, Store)) * NODE

    def touched(self, s: Stmt, scope: Scope) -> list[Access]:
        """What a statement touches beside locals."""
        key = id(s.body) if isinstance(s, For) else id(s)
        if key not in self.touches:
            if isinstance(s, For):
                within = scope.loop(s.var, s.extent)
                self.touches[key] = [a for inner in s.body for a in self.touched(inner, within)]
            else:
                self.touches[key] = list(accesses(s, scope, self.local))
        return self.touches[key]

    def away(self, s: Stmt, scope: Scope, of: For | None) -> Times:
        found = self.touched(s, scope)
        var, extent = (None, 0) if of is None else (of.var, of.extent)
        return tuple([size * self.from_away for size in fetched(found, TEAMS, var, extent)])

    def best(self, s: Stmt, scope: Scope) -> Way:
        """The best way to run a statement."""
        work = self.work(s)
        ways = list(self.shared(s, work, scope))
        if not ways or min(way.cost for way in ways) >= work * len(TEAMS):
            ways.append(Way((work,) * len(TEAMS), self.away(s, scope, None), (s,)))  # thread 0 does it
        return min(ways, key=lambda way: way.cost)

    def shared(self, s: Stmt, work: float, scope: Scope) -> Iterator[Way]:
        """The ways to share it out; none beside one that leaves nothing to wish for."""
        if not isinstance(s, For) or s.kind not in ("serial", "parallel") or s.extent < 2:
            return
        if s.kind == "parallel":
            times = tuple(work * -(-s.extent // n) / s.extent for n in TEAMS)
            way = Way(times, self.away(s, scope, s), (replace(s, kind="grid"),), 1)
            yield way
            if way.cost <= IDEAL * sum(work / n for n in TEAMS) + MEETING * len(TEAMS):
                return
        within = scope.loop(s.var, s.extent)
        if work / s.extent >= LEAST_INSIDE[s.kind] and (inner := self.sequence(s.body, within)) is not None:
            again = 1 if s.kind == "parallel" and inner.meetings == 1 else s.extent
            times = tuple(t * s.extent for t in inner.work)
            yield Way(times, inner.away, (replace(s, body=inner.body),), inner.meetings * again)

    def sequence(self, body: tuple[Stmt, ...], scope: Scope) -> Way | None:
        """The best way to run statements; None where that is one thread alone."""
        ways = [self.best(s, scope) for s in body]
        if all(way.body == (s,) for way, s in zip(ways, body, strict=True)):
            return None
        work = tuple(map(sum, zip(*(way.work for way in ways), strict=True)))
        away = tuple(map(sum, zip(*(way.away for way in ways), strict=True)))
        return Way(work, away, tuple(s for way in ways for s in way.body), sum(way.meetings for way in ways))


def operations(s: Stmt) -> int:
    """Operations on data in one statement; indices are mostly computed outside of the loops."""
    found = 0
    for x in computed(s):
        kind = type(x)
        if kind is not Const and kind is not Var and x.dtype is not INDEX:
            found += SLOW.get(x.op, 1) if isinstance(x, Binary | Unary) else 1
    return found


def arrange(body: tuple[Stmt, ...], chooser: _Chooser, largest_local: int) -> tuple[Stmt, ...]:
    """The statements of a kernel with chosen loops as all threads may run them: parts for one thread, barriers."""
    uniform = {s.buffer for s in _outside(body) if isinstance(s, Alloc)}
    # locals around the parts that are memory of all threads: large ones, and those that a part stores to
    lifted = {b for b in uniform if b.nbytes > largest_local}
    while True:
        arranged = _parts(body, uniform - lifted, count(1))
        found = {b for part in _outside(arranged) if _is_part(part) for b in _stored((part,)) & uniform}
        if found <= lifted:
            break
        lifted |= found
    meetings = _Meetings(lifted, uniform - lifted, None if lifted else chooser)
    return with_parts(tuple(meetings.block(arranged, Scope())), chooser.work)


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


@dataclass
class _Meetings:
    """Puts barriers between parts. `pending`: what was touched since the last one."""

    lifted: set[Buffer]
    own: set[Buffer]
    known: _Chooser | None  # where it has seen all that matters here
    pending: list[Access] = field(default_factory=list)

    def block(self, body: tuple[Stmt, ...], scope: Scope) -> Iterator[Stmt]:
        for s in body:
            if isinstance(s, For) and _surrounds_parts(s):
                within = scope.loop(s.var, s.extent)
                all_of_it = [a for inner in s.body for a in self.touched(inner, within)]
                if self.must_meet(all_of_it):
                    yield Barrier()
                self.pending += [a for a in all_of_it if s.kind == "serial" or a.storage in self.lifted]
                yield replace(s, body=tuple(self.block(s.body, within)), kind="serial")
                continue
            touched = self.touched(s, scope)
            if self.must_meet(touched):
                yield Barrier()
            self.pending += touched
            yield s

    def must_meet(self, touched: list[Access]) -> bool:
        """Whether a barrier is needed before these; then nothing is pending any more."""
        found = any(a.meets(b) for a in touched for b in self.pending)
        self.pending = [] if found else self.pending
        return found

    def touched(self, s: Stmt, scope: Scope) -> list[Access]:
        if self.known is not None:
            return self.known.touched(s, scope)
        local = {x.buffer for x in statements((s,)) if isinstance(x, Alloc)} | self.own
        return list(accesses(s, scope, local))


def with_parts(body: tuple[Stmt, ...], work: Callable[[Stmt], float]) -> tuple[Stmt, ...]:
    """Neighbouring grid loops become parts of one work, so that a thread's share is one run of all iterations."""
    result: list[Stmt] = []
    for together, group in groupby(body, lambda s: _is_part(s) or isinstance(s, Alloc)):
        members = list(group)
        if not together:
            result += [replace(s, body=with_parts(s.body, work)) if isinstance(s, For) else s for s in members]
            continue
        sizes = [max(1, round(work(s))) if isinstance(s, For) else 0 for s in members]
        for n, (s, size) in enumerate(zip(members, sizes, strict=True)):
            before = sum(sizes[:n])
            result.append(replace(s, part=(before, before + size, sum(sizes))) if isinstance(s, For) else s)
    return tuple(result)
