"""What statements touch: bounds of the places, and how much of it lies at another core when threads share a loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lithe.ir.intervals import Interval, Scope
from lithe.ir.loops import Buffer, Call, Expr, For, If, Load, Stmt, Store, Var, expressions, nodes
from lithe.types import DType, Shape

Terms = tuple[tuple[Expr, int, Interval], ...]  # term, factor, bounds of the term


@dataclass(frozen=True)
class Access:
    """Places of a storage. An access without a storage is a check that may fail: their order matters, too.

    axes  for each axis of the view, the index as (constant, terms).
    """

    storage: Buffer | None
    stores: bool
    shape: Shape = ()
    dtype: DType | None = None
    axes: tuple[tuple[int, Terms], ...] = ()

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return self.dtype.bytes if self.dtype is not None else 0

    def bounds(self, var: Var | None = None, of: Interval = (0, 0)) -> list[Interval]:
        """Bounds along each axis, while a variable has some of its values."""
        result = []
        for (constant, terms), size in zip(self.axes, self.shape, strict=True):
            low = high = constant
            for term, factor, (least, most) in terms:
                first, last = of if term is var else (least, most)
                low += factor * (first if factor > 0 else last)
                high += factor * (last if factor > 0 else first)
            result.append((max(low, 0), min(high, size - 1)))
        return result

    def bytes(self, bounds: list[Interval]) -> Interval:
        """From the first byte to the last."""
        step, low, high = self.width, 0, self.width - 1
        for (first, last), size in zip(reversed(bounds), reversed(self.shape), strict=True):
            low, high, step = low + first * step, high + last * step, step * size
        return low, high

    def meets(self, other: Access) -> bool:
        """Whether the order of the two matters."""
        if self.storage is not other.storage or not (self.stores or other.stores):
            return False
        if self.storage is None:
            return True
        a, b = self.bounds(), other.bounds()
        pairs = [(self.bytes(a), other.bytes(b))]
        if (self.shape, self.dtype) == (other.shape, other.dtype):
            pairs += zip(a, b, strict=True)
        return all(x[0] <= y[1] and y[0] <= x[1] for x, y in pairs)


def accesses(s: Stmt, scope: Scope, local: set[Buffer]) -> Iterator[Access]:
    """What a statement touches, beside constants and some locals."""
    for x in nodes(expressions(s)):
        if isinstance(x, Load) and x.buffer.storage not in local and x.buffer.storage.data is None:
            yield access(x.buffer, x.index, scope, False)
    match s:
        case Store(buffer, index, _) if buffer.storage not in local:
            yield access(buffer, index, scope, True)
        case For(var, extent, body, _):
            inside = scope.loop(var, extent)
            for inner in body:
                yield from accesses(inner, inside, local)
        case If(_, then, otherwise):
            for inner in (*then, *otherwise):
                yield from accesses(inner, scope, local)
        case Call():
            yield Access(None, True)


def access(buffer: Buffer, index: tuple[Expr, ...], scope: Scope, stores: bool) -> Access:
    axes = []
    for i in index:
        form = scope.linear(i)
        terms = tuple((term, factor, scope.interval(term)) for term, factor in form.terms.items())
        axes.append((form.constant, terms))
    return Access(buffer.storage, stores, buffer.shape, buffer.dtype, tuple(axes))


def fetched(found: Iterable[Access], threads: int, var: Var | None, extent: int) -> float:
    """Bytes that a thread touches and another one has, at worst.

    A thread is taken to have its share of every storage, from front to back: what it stored there before, if all
    steps were shared out in that way.

    var, extent  the loop that is shared out; None where thread 0 does it all.
    """
    grouped: dict[Buffer, list[Access]] = {}
    for a in found:
        if a.storage is not None:
            grouped.setdefault(a.storage, []).append(a)
    worst = 0.0
    for thread in {0, threads - 1} if var is not None else {0}:
        share = -(-extent * thread // threads), max(-(-extent * (thread + 1) // threads) - 1, 0)
        total = 0.0
        for storage, group in grouped.items():
            low, high, count = storage.nbytes, 0, 0
            for a in group:
                bounds = a.bounds(var, share)
                first, last = a.bytes(bounds)
                low, high = min(low, first), max(high, last)
                elements = 1
                for least, most in bounds:
                    elements *= max(most - least + 1, 0)
                count = max(count, elements * a.width)
            home = storage.nbytes * thread / threads, storage.nbytes * (thread + 1) / threads
            own = max(0.0, min(high + 1, home[1]) - max(low, home[0]))
            total += count * (1 - own / max(high + 1 - low, 1))
        worst = max(worst, total)
    return worst
