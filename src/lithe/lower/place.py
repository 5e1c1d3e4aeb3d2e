"""Where the bytes of one storage lie inside another one, and kernels that find them there.

A `Place` splits the number of a byte into digits, outermost first, and each digit moves it by its pitch:

    for y[r, 40 + k] = x[r, k], k < 24, y 64 wide, of bytes:   digits r, k    pitches 64, 1    offset 40

`moved` rewrites the accesses of a kernel. An index that runs over several digits is taken apart, as a sum of loop
variables; a loop that runs over them becomes two. What cannot be taken apart stays as it was: then there is no such
kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lithe.ir.intervals import Scope
from lithe.ir.loops import Buffer, Call, Expr, For, If, Load, Stmt, Store, Var, constant, nodes
from lithe.lower.vectorize import Copy

LEAST_RUN = 16  # bytes side by side; shorter rows would be written element by element
MOST_SPLITS = 4  # times that the loops of a kernel are split
AT_ONCE = ("vector", "tile")  # loops that become one instruction: what they touch lies at one distance


@dataclass(frozen=True)
class Place:
    """extents, pitches  of the digits, outermost first; the last digit counts bytes side by side."""

    extents: tuple[int, ...]
    pitches: tuple[int, ...]
    offset: int

    @property
    def run(self) -> int:
        """Bytes that stay side by side."""
        return self.extents[-1]

    @property
    def blocks(self) -> tuple[int, ...]:
        """Bytes of one step of each digit, before the move."""
        return tuple(math.prod(self.extents[k + 1 :]) for k in range(len(self.extents)))


def moved(body: tuple[Stmt, ...], inner: Buffer, outer: Buffer, place: Place) -> tuple[Stmt, ...] | None:
    """The statements with `inner` inside of `outer`; None where an access cannot be expressed."""
    for _ in range(MOST_SPLITS):
        writer = _Mover(inner, outer, place)
        result = writer.block(body)
        if not writer.possible:
            return None
        if not writer.splits:
            return result
        body = _Splitter(writer.splits).block(body)
    return None


class _Splitter(Copy):
    """Makes two loops of one: sizes says how far the inner one of each runs."""

    def __init__(self, sizes: dict[Var, int]) -> None:
        self.sizes = sizes
        self.pairs = {v: (Var(f"{v.name}_o"), Var(f"{v.name}_q")) for v in sizes}
        super().__init__({v: o * sizes[v] + q for v, (o, q) in self.pairs.items()}, {})

    def stmt(self, s: Stmt) -> Stmt:
        if isinstance(s, For):
            if s.var not in self.pairs:
                return For(s.var, s.extent, self.block(s.body), s.kind)
            (o, q), size = self.pairs[s.var], self.sizes[s.var]
            return For(o, s.extent // size, (For(q, size, self.block(s.body), s.kind),), s.kind)
        return s if not isinstance(s, Store | If | Call) else super().stmt(s)


class _Mover(Copy):
    """Rewrites accesses. splits: loops that must be split first; possible: whether it can be done at all."""

    def __init__(self, inner: Buffer, outer: Buffer, place: Place) -> None:
        super().__init__({}, {})
        self.inner, self.outer, self.place = inner, outer, place
        self.blocks = place.blocks
        self.scope, self.loops = Scope(), dict[Var, For]()
        self.splits: dict[Var, int] = {}
        self.possible = True

    # statements

    def stmt(self, s: Stmt) -> Stmt:
        self.memo = {}  # what holds for an index here need not hold elsewhere
        before = self.scope
        match s:
            case For(var, extent, body, kind):
                self.scope = before.loop(var, extent)
                self.loops[var] = s
                s = For(var, extent, self.block(body), kind)
            case If(condition, then, otherwise):
                fresh = self.expr(condition)
                self.scope = before.assume(condition)
                then = self.block(then)
                self.scope = before.assume(condition, False)
                s = If(fresh, then, self.block(otherwise))
            case Store(buffer, index, value):
                fresh_index, fresh_value = tuple(map(self.expr, index)), self.expr(value)
                if buffer.storage is self.inner:
                    view, at = self.found(buffer, index, fresh_index)
                    s = Store(view, (at,), fresh_value)
                else:
                    s = Store(buffer, fresh_index, fresh_value)
            case Call(name, args, text):
                s = Call(name, tuple(map(self.expr, args)), text)
        self.scope = before
        return s

    def rebuilt(self, x: Expr) -> Expr:
        if isinstance(x, Load) and x.buffer.storage is self.inner:
            view, at = self.found(x.buffer, x.index, tuple(map(self.expr, x.index)))
            return Load(view, (at,))
        return super().rebuilt(x)

    # addresses

    def found(self, buffer: Buffer, index: tuple[Expr, ...], fresh: tuple[Expr, ...]) -> tuple[Buffer, Expr]:
        """(view of the outer storage, index of the same element there). `fresh` is the index, rewritten."""
        width = buffer.dtype.bytes
        total = self.scaled(constant(1), self.place.offset, width)
        unit = buffer.nbytes
        for i, new, size in zip(index, fresh, buffer.shape, strict=True):
            unit //= max(size, 1)
            if size > 1:
                total = total + self.digits(i, new, size, unit, width)
        return self.outer.viewed((self.outer.nbytes // width,), buffer.dtype), total

    def scaled(self, x: Expr, by: int, width: int) -> Expr:
        """x times so many bytes, in elements."""
        if by % width:
            self.possible = False
        return x * (by // width)

    def digits(self, i: Expr, new: Expr, size: int, unit: int, width: int) -> Expr:
        """What an index of an axis, `unit` bytes a step, adds to the number of the element."""
        blocks, extents, pitches = self.blocks, self.place.extents, self.place.pitches
        low = next(k for k, block in enumerate(blocks) if block <= unit)
        if unit % blocks[low]:
            self.possible = False
            return constant(0)
        if unit * size <= blocks[low] * extents[low] or low == 0:
            return self.scaled(new, unit // blocks[low] * pitches[low], width)
        if i is not new:  # an index that is read from what moves
            self.possible = False
            return constant(0)
        return self.taken_apart(i, low, unit, width)

    def taken_apart(self, i: Expr, low: int, unit: int, width: int) -> Expr:
        """The same of an index that runs over the digits up to `low`: a sum whose terms are of one digit each."""
        blocks, pitches = self.blocks, self.place.pitches
        form = self.scope.linear(i)
        rest, fixed, bounds = form.constant * unit, 0, []
        for k in range(low + 1):
            digit, rest = divmod(rest, blocks[k])
            fixed += digit * pitches[k]
            bounds.append([digit, digit])
        total = self.scaled(constant(1), fixed, width)
        asks = False  # for a loop to be split
        for atom, factor in form.terms.items():
            step = factor * unit
            k = next((k for k in range(low + 1) if step % blocks[k] == 0), low)
            least, most = sorted(step // blocks[k] * end for end in self.scope.interval(atom))
            if k and most * blocks[k] + unit > blocks[k - 1] and self.split(atom, step, blocks[k - 1]):
                asks = True
                continue
            bounds[k][0] += least
            bounds[k][1] += most
            total = total + self.scaled(atom, step // blocks[k] * pitches[k], width)
        fits = all(
            least >= 0 and most * blocks[k] + unit <= blocks[k - 1] for k, (least, most) in enumerate(bounds) if k
        )
        return total if asks or (fits and not rest) else self.divided(i, low, unit, width)

    def divided(self, i: Expr, low: int, unit: int, width: int) -> Expr:
        """The same by divisions, where one serves many bytes."""
        blocks, extents, pitches = self.blocks, self.place.extents, self.place.pitches
        lanes = any(x in self.loops and self.loops[x].kind in AT_ONCE for x in nodes((i,)) if isinstance(x, Var))
        if lanes or unit < LEAST_RUN or any(block % unit for block in blocks[:low]):
            self.possible = False
            return constant(0)
        total = self.scaled(i % (blocks[low - 1] // unit), unit // blocks[low] * pitches[low], width)
        for k in range(low):
            digit = i // (blocks[k] // unit)
            total = total + self.scaled(digit % extents[k] if k else digit, pitches[k], width)
        return total

    def split(self, atom: Expr, step: int, block: int) -> bool:
        """Asks for a loop whose variable counts up to a block of bytes only."""
        loop = self.loops.get(atom) if isinstance(atom, Var) else None
        if loop is None or loop.kind in AT_ONCE or step <= 0 or block % step or loop.extent % (block // step):
            return False
        assert isinstance(atom, Var)
        if self.splits.setdefault(atom, block // step) != block // step:
            self.possible = False
        return True
