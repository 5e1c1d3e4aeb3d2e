"""What statements touch: bounds of the places, and how much of it lies at another core when threads share a loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lithe.ir.affine import computed
from lithe.ir.intervals import Interval, Scope
from lithe.ir.loops import Buffer, Call, Expr, For, If, Load, Stmt, Store, Var
from lithe.types import DType, Shape

Terms = tuple[tuple[Expr, int, Interval], ...]  # term, factor, bounds of the term
Axis = tuple[int, int, Terms]  # least and greatest index, and the terms that it is the sum of
Reach = tuple[int, int, int, int]  # least and greatest index where a variable is 0, what 1 of it adds, size of the axis


class Access(NamedTuple):
    """Places of a storage. An access without a storage is a check that may fail: their order matters, too.

    axes  for each axis of the view.
    """

    storage: Buffer | None
    stores: bool
    shape: Shape = ()
    dtype: DType | None = None
    axes: tuple[Axis, ...] = ()

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return self.dtype.bytes if self.dtype is not None else 0

    def reach(self, var: Var | None = None) -> tuple[Reach, ...]:
        """Along each axis, with the part of a variable apart."""
        result = []
        for (low, high, terms), size in zip(self.axes, self.shape, strict=True):
            step = 0
            for term, factor, ends in terms:
                if term is var:
                    step, (least, most) = factor, ends if factor > 0 else ends[::-1]
                    low, high = low - factor * least, high - factor * most
            result.append((low, high, step, size))
        return tuple(result)

    def meets(self, other: Access) -> bool:
        """Whether the order of the two matters."""
        if self.storage is not other.storage or not (self.stores or other.stores):
            return False
        if self.storage is None:
            return True
        a, b = bounds(self.reach()), bounds(other.reach())
        pairs = [(in_bytes(a, self.shape, self.width), in_bytes(b, other.shape, other.width))]
        if (self.shape, self.dtype) == (other.shape, other.dtype):
            pairs += zip(a, b, strict=True)
        return all(x[0] <= y[1] and y[0] <= x[1] for x, y in pairs)


def bounds(reach: Iterable[Reach], first: int = 0, last: int = 0) -> list[Interval]:
    """Bounds along each axis, while the variable goes from its first value to its last."""
    return [
        (max(low + step * (first if step > 0 else last), 0), min(high + step * (last if step > 0 else first), size - 1))
        for low, high, step, size in reach
    ]


def in_bytes(along: Sequence[Interval], shape: Sequence[int], width: int) -> Interval:
    """From the first byte to the last of places with these bounds."""
    step, low, high = width, 0, width - 1
    for (first, last), size in zip(reversed(along), reversed(shape), strict=True):
        low, high, step = low + first * step, high + last * step, step * size
    return low, high


def accesses(s: Stmt, scope: Scope, local: set[Buffer]) -> Iterator[Access]:
    """What a statement touches, beside constants and some locals."""
    for x in computed(s):
        if type(x) is Load and (storage := x.buffer.storage) not in local and storage.data is None:
            yield access(x.buffer, x.index, scope, False)
    match s:
        case Store(buffer, index, _) if buffer.storage not in local:
            yield access(buffer, index, scope, True)
        case For(var, extent, body, _):
            within = scope.loop(var, extent)
            for inner in body:
                yield from accesses(inner, within, local)
        case If(_, then, otherwise):
            for inner in (*then, *otherwise):
                yield from accesses(inner, scope, local)
        case Call():
            yield Access(None, True)


def access(buffer: Buffer, index: tuple[Expr, ...], scope: Scope, stores: bool) -> Access:
    axes = []
    for i in index:
        form = scope.linear(i)
        low = high = form.constant
        terms = []
        for term, factor in form.terms.items():
            ends = scope.interval(term)
            low += factor * ends[factor < 0]
            high += factor * ends[factor > 0]
            terms.append((term, factor, ends))
        axes.append((low, high, tuple(terms)))
    return Access(buffer.storage, stores, buffer.shape, buffer.dtype, tuple(axes))


def fetched(found: Iterable[Access], teams: Sequence[int], var: Var | None, extent: int) -> list[float]:
    """Bytes that a thread touches and another one has, at worst, for each number of threads.

    A thread is taken to have its share of every storage, from front to back: what it stored there before, if all
    steps were shared out in that way.

    var, extent  the loop that is shared out; None where thread 0 does it all.
    """
    grouped: dict[Buffer, dict[tuple[int, tuple[Reach, ...]], None]] = {}
    for a in found:
        if a.storage is not None:
            grouped.setdefault(a.storage, {})[a.width, a.reach(var)] = None
    result = []
    for threads in teams:
        worst = 0.0
        for thread in {0, threads - 1} if var is not None else {0}:
            first, last = -(-extent * thread // threads), max(-(-extent * (thread + 1) // threads) - 1, 0)
            total = 0.0
            for storage, group in grouped.items():
                low, high, count = _touched(group, storage.nbytes, first, last)
                home = storage.nbytes * thread / threads, storage.nbytes * (thread + 1) / threads
                own = max(0.0, min(high + 1, home[1]) - max(low, home[0]))
                total += count * (1 - own / max(high + 1 - low, 1))
            worst = max(worst, total)
        result.append(worst)
    return result


def _touched(group: Iterable[tuple[int, tuple[Reach, ...]]], size: int, first: int, last: int) -> tuple[int, int, int]:
    """From the first byte to the last of several accesses to a storage of this size, and the bytes of the largest."""
    low, high, count = size, 0, 0
    for width, reach in group:
        step, start, end, elements = width, 0, width - 1, width
        for least, most, moved, length in reversed(reach):
            if moved:
                least += moved * (first if moved > 0 else last)
                most += moved * (last if moved > 0 else first)
            least, most = max(least, 0), min(most, length - 1)
            start, end, step = start + least * step, end + most * step, step * length
            elements *= max(most - least + 1, 0)
        low, high, count = min(low, start), max(high, end), max(count, elements)
    return low, high, count
