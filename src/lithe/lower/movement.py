"""Copies that need not be made: one storage becomes a part of another one.

    for r: for k: y[r, 40 + k] = x[r, k]        whoever writes x writes into y at once, and this loop is gone
    for r: for k: y[r, k] = x[r, 40 + k]        whoever reads y reads x, and this loop is gone

A loop nest is such a copy when it does nothing but store what it loads, all places of one of the two storages have
their turn, and their numbers are sums of the loop variables; that no operator is asked, nor which one wrote it. A
concatenation, a slice, the middle of a padding, heads that are split: each is found by its loops. A change of
quantization computes, and therefore is none.

When it is allowed: the smaller storage is neither an input, an output, a constant nor a variable; it and the larger one
would not have to differ at any time (see `_Plan.written_early`, `_Plan.read_late`); every kernel that touches the
smaller one can find its elements in the larger one (`lithe.lower.place`); rows stay long enough for vectors; and the
bytes that live together at the worst step do not grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lithe.ir.affine import computed
from lithe.ir.intervals import Linear, Scope
from lithe.ir.loops import (
    Alloc,
    Buffer,
    Expr,
    For,
    If,
    Load,
    Stmt,
    Store,
    constant,
    statements,
)
from lithe.lower.memory_plan import Lifetime, lower_bound
from lithe.lower.place import LEAST_RUN, Place, moved

Body = tuple[Stmt, ...]


@dataclass(frozen=True)
class Image:
    """Bytes of a storage: numbers of the first byte of each element, as a sum over loop variables."""

    form: Linear
    extents: dict[Expr, int]
    width: int

    def bounds(self) -> tuple[int, int]:
        ends = [(0, f * (self.extents[v] - 1)) for v, f in self.form.terms.items()]
        low, high = sum(min(e) for e in ends), sum(max(e) for e in ends)
        return low + self.form.constant, high + self.form.constant + self.width - 1

    def column(self, pitch: int) -> tuple[int, int] | None:
        """Bounds within rows of so many bytes; None where it crosses from one row into another."""
        kept = {v: f for v, f in self.form.terms.items() if f % pitch}
        low, high = Image(Linear(kept, self.form.constant), self.extents, self.width).bounds()
        return (low % pitch, high % pitch) if low // pitch == high // pitch else None

    def misses(self, other: Image) -> bool:
        """Whether the two certainly have no byte in common: seen as a whole, or in rows of a common length."""
        pairs = [(self.bounds(), other.bounds())]
        for pitch in {abs(f) for image in (self, other) for f in image.form.terms.values()}:
            a, b = self.column(pitch), other.column(pitch)
            pairs += [(a, b)] if a is not None and b is not None else []
        return any(a[1] < b[0] or b[1] < a[0] for a, b in pairs)


@dataclass(frozen=True)
class Move:
    """A statement of a kernel that copies elements of `source` to `target`."""

    statement: Stmt
    source: Buffer
    target: Buffer
    reads: Image
    writes: Image


def move_of(s: Stmt) -> Move | None:
    """The statement as a copy between two storages, if it is nothing else."""
    loops: list[For] = []
    inner = s
    while isinstance(inner, For) and len(inner.body) == 1:
        loops.append(inner)
        (inner,) = inner.body
    if not isinstance(inner, Store) or not isinstance(inner.value, Load):
        return None
    load = inner.value
    source, target = load.buffer.storage, inner.buffer.storage
    if source is target or source.data is not None or load.dtype != inner.buffer.dtype:
        return None
    scope, extents = Scope(), dict[Expr, int]()
    for loop in loops:
        scope, extents[loop.var] = scope.loop(loop.var, loop.extent), loop.extent
    reads, writes = image(load.buffer, load.index, scope, extents), image(inner.buffer, inner.index, scope, extents)
    return None if reads is None or writes is None else Move(s, source, target, reads, writes)


def image(buffer: Buffer, index: tuple[Expr, ...], scope: Scope, extents: dict[Expr, int]) -> Image | None:
    """The bytes at an index; None where it is no sum of loop variables."""
    total: Expr = constant(0)
    for i, size in zip(index, buffer.shape, strict=True):
        total = total * size + i
    form = scope.linear(total).times(buffer.dtype.bytes)
    return Image(form, extents, buffer.dtype.bytes) if form.terms.keys() <= extents.keys() else None


def place(inner: Image, outer: Image, size: int) -> Place | None:
    """Where in the outer storage the bytes of the inner one lie, if all `size` of them are copied, each once."""
    width, unit = inner.width, inner.width
    order = sorted(inner.extents, key=lambda v: -inner.form.terms.get(v, 0))
    levels = [(width, 1)]
    for v in reversed(order):
        if inner.form.terms.get(v, 0) != unit:
            return None
        extent, pitch = inner.extents[v], outer.form.terms.get(v, 0)
        unit *= extent
        last = levels[-1]
        if pitch == last[0] * last[1]:
            levels[-1] = (last[0] * extent, last[1])
        else:
            levels.append((extent, pitch))
    span = 0
    for extent, pitch in sorted(levels, key=lambda level: abs(level[1])):
        if abs(pitch) <= span:
            return None  # two elements would share a place
        span += abs(pitch) * (extent - 1)
    if inner.form.constant or unit != size:
        return None
    extents, pitches = zip(*reversed(levels), strict=True)
    return Place(extents, pitches, outer.form.constant)


def without_copies(
    bodies: Sequence[Body],
    others: Sequence[tuple[int, Body]] = (),
    *,
    inputs: Iterable[Buffer],
    outputs: Iterable[Buffer],
    variables: Iterable[Buffer],
) -> tuple[list[Body], list[Body | None]]:
    """The kernels of a program without the copies that need not be made; a kernel may have nothing left.

    others  (number of a kernel, another way to write it): the same becomes of them, None where it cannot.
    inputs, outputs, variables  storages that somebody else sees before or after a run.
    """
    before, after = {*inputs, *variables}, {*outputs, *variables}
    plan = _Plan(list(bodies), before, after)
    most = plan.bytes_alive()
    plan.absorb_all()
    if plan.bytes_alive() > most:  # not all together, then: one after the other, as long as none costs memory
        plan = _Plan(list(bodies), before, after, most)
        plan.absorb_all()
    return plan.bodies, [plan.followed(*other) for other in others]


Touches = dict[int, tuple[bool, bool]]  # kernel -> (reads, writes)


def touches(body: Iterable[Stmt]) -> dict[Buffer, tuple[bool, bool]]:
    """What statements read and write of storages that they do not allocate."""
    found: dict[Buffer, tuple[bool, bool]] = {}
    inner = list(statements(tuple(body)))
    local = {s.buffer for s in inner if isinstance(s, Alloc)}

    def add(storage: Buffer, reads: bool, writes: bool) -> None:
        if storage not in local and storage.data is None:
            before = found.get(storage, (False, False))
            found[storage] = before[0] or reads, before[1] or writes

    for storage in {x.buffer.storage: None for s in inner for x in computed(s) if type(x) is Load}:
        add(storage, True, False)
    for s in inner:
        if isinstance(s, Store):
            add(s.buffer.storage, False, True)
    return found


@dataclass
class _Storage:
    """own   kernels that touch it, copies that are gone included.
    all    likewise, of everything that lies in it.
    parts  what came to lie in it: (kernel whose copy is gone, last kernel that touched it, bytes written).
    """

    own: Touches = field(default_factory=dict)
    all: Touches = field(default_factory=dict)
    parts: list[tuple[int, int, Image]] = field(default_factory=list)


class _Plan:
    def __init__(self, bodies: list[Body], before: set[Buffer], after: set[Buffer], most: int | None = None) -> None:
        self.bodies, self.before, self.after, self.most = bodies, before, after, most
        self.storages: dict[Buffer, _Storage] = {}
        self.done: list[tuple[set[int], Buffer, Buffer, Place]] = []  # kernels that touched a storage, which lies where
        for n, body in enumerate(bodies):
            for storage, how in touches(body).items():
                known = self.storages.setdefault(storage, _Storage())
                known.own[n] = known.all[n] = how

    def absorb_all(self) -> None:
        for number in range(len(self.bodies)):
            while any(self.absorb(number, move) for move in self.moves(number)):
                pass

    def moves(self, number: int) -> Iterator[Move]:
        found = [move for s in self.bodies[number] if (move := move_of(s)) is not None]
        yield from [move for move in found if {move.source, move.target} <= self.storages.keys()]  # others are local

    def bytes_alive(self, changed: dict[Buffer, Touches] | None = None, without: Buffer | None = None) -> int:
        """Bytes that live together at the worst kernel, with some storages touched by other kernels."""
        last = len(self.bodies)
        found = {s: known.all for s, known in self.storages.items() if s is not without} | (changed or {})
        spans = (
            (s.nbytes, -1 if s in self.before else min(t), last if s in self.before | self.after else max(t))
            for s, t in found.items()
        )
        return lower_bound([Lifetime(size, first + 1, end + 1) for size, first, end in spans])

    def absorb(self, number: int, move: Move) -> bool:
        """Does without a copy of a kernel, if that is allowed."""
        others = [s for s in self.bodies[number] if s is not move.statement]
        for inner, outer, allowed, at in (
            (move.source, move.target, self.written_early, place(move.reads, move.writes, move.source.nbytes)),
            (move.target, move.source, self.read_late, place(move.writes, move.reads, move.target.nbytes)),
        ):
            if at is None or at.run < LEAST_RUN or inner in self.before | self.after:
                continue
            if allowed(number, move, others) and self.put(number, inner, outer, at, move, others):
                return True
        return False

    def written_early(self, number: int, move: Move, others: list[Stmt]) -> bool:
        """Whether the source may lie in the target from its first element on: nobody uses what it overwrites there,
        and nothing is written over it while it is used."""
        source, target = self.storages[move.source], self.storages[move.target]
        first, last = min(source.all), max(source.all)
        if move.target in self.before or first >= number or any(w for t, (_, w) in source.all.items() if t >= number):
            return False
        if any(first <= t < number for t in target.own) or any(
            number < t <= last and w for t, (_, w) in target.all.items()
        ):
            return False
        for when, end, written in target.parts:
            if (when != number and end >= first) or not written.misses(move.writes):
                return False
        return self.keeps_apart(number, move, others, last)

    def keeps_apart(self, number: int, move: Move, others: list[Stmt], last: int) -> bool:
        """Whether the other statements of the kernel may find the copy made, and write what they write."""
        body = self.bodies[number]
        behind = False
        for s in body:
            if s is move.statement:
                behind = True
                continue
            found = touches((s,))
            reads, writes = found.get(move.target, (False, False))
            if reads:
                return False
            if writes and not all(w is not None and w.misses(move.writes) for w in stored(s, move.target)):
                unused = last <= number and not any(touches((x,)).get(move.source) for x in others)
                if not (behind and unused):
                    return False
        return True

    def read_late(self, number: int, move: Move, others: list[Stmt]) -> bool:
        """Whether the target may lie in the source to its last reader: it is only read, and the source stays."""
        source, target = self.storages[move.source], self.storages[move.target]
        last = max(target.all)
        if min(target.all) < number or any(w for t, (_, w) in target.all.items() if t > number):
            return False
        if any(touches((s,)).get(move.target) for s in others):
            return False
        return not any(w for t, (_, w) in source.all.items() if number <= t <= last)

    def put(self, number: int, inner: Buffer, outer: Buffer, at: Place, move: Move, others: list[Stmt]) -> bool:
        """Lets the inner storage lie in the outer one; False where a kernel cannot, or more memory would be needed."""
        own, into = self.storages[inner], self.storages[outer]
        together = dict(into.all)
        for t, (reads, writes) in own.all.items():
            before = together.get(t, (False, False))
            together[t] = before[0] or reads, before[1] or writes
        if self.most is not None and self.bytes_alive({outer: together}, inner) > self.most:
            return False
        fresh: dict[int, Body] = {}
        for t in own.all:
            body = moved(tuple(others) if t == number else self.bodies[t], inner, outer, at)
            if body is None:
                return False
            fresh[t] = body
        for t, body in fresh.items():
            self.bodies[t] = body
        into.all = together
        into.parts.append((number, max(own.all), move.writes if inner is move.source else move.reads))
        del self.storages[inner]
        self.done.append((set(own.all), inner, outer, at))
        return True

    def followed(self, number: int, body: Body) -> Body | None:
        """Another way to write a kernel, after all that was done."""
        for kernels, inner, outer, at in self.done:
            if number in kernels:
                fresh = moved(body, inner, outer, at)
                if fresh is None:
                    return None
                body = fresh
        return body


def stored(
    s: Stmt, storage: Buffer, scope: Scope | None = None, extents: dict[Expr, int] | None = None
) -> Iterator[Image | None]:
    """The bytes of each store to a storage; None where that cannot be told."""
    scope, extents = scope or Scope(), extents or {}
    match s:
        case Store(buffer, index, _) if buffer.storage is storage:
            yield image(buffer, index, scope, extents)
        case For(var, extent, body):
            for inner in body:
                yield from stored(inner, storage, scope.loop(var, extent), {**extents, var: extent})
        case If(_, then, otherwise):
            for inner in (*then, *otherwise):
                yield from stored(inner, storage, scope, extents)
