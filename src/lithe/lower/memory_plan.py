"""Where buffers lie in the arena: one after the other, each at the lowest place that is free while it lives.

Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ALIGNMENT = 64
SLACK = 64  # readable bytes behind the last buffer: vectors may read past an end


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `size` bytes that holds a value from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


Order = Callable[[Lifetime], tuple[int, ...]]

# Orders in which buffers take their places; none is the best for every model.
ORDERS: tuple[Order, ...] = (
    lambda l: (-l.size, l.first),
    lambda l: (-l.size * (l.last - l.first + 1), l.first),
    lambda l: (-(l.last - l.first), -l.size, l.first),
    lambda l: (l.first, -l.size),
    lambda l: (-l.last, -l.size),
)


def plan(lifetimes: list[Lifetime]) -> tuple[list[int], int]:
    """(an offset for each lifetime, the bytes needed): the least of what several orders give.

    >>> plan([Lifetime(100, 0, 1), Lifetime(50, 1, 2), Lifetime(100, 2, 3)])
    ([0, 128, 0], 256)
    """
    least, best = lower_bound(lifetimes), None
    for order in ORDERS:
        found = placed(lifetimes, sorted(range(len(lifetimes)), key=lambda i: order(lifetimes[i])))
        best = found if best is None or found[1] < best[1] else best
        if best[1] <= least:
            break
    assert best is not None
    return best


def placed(lifetimes: list[Lifetime], order: list[int]) -> tuple[list[int], int]:
    """A plan in which buffers, in this order, each take the lowest place that is free while they live."""
    offsets = [0] * len(lifetimes)
    done: list[int] = []
    total = 0
    for i in order:
        own = lifetimes[i]
        size = _aligned(own.size)
        busy = sorted(
            (offsets[j], offsets[j] + lifetimes[j].size)
            for j in done
            if lifetimes[j].first <= own.last and own.first <= lifetimes[j].last
        )
        at = 0
        for start, stop in busy:
            if start - at >= size:
                break
            at = max(at, _aligned(stop))
        offsets[i] = at
        done.append(i)
        total = max(total, at + size)
    return offsets, total


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def lower_bound(lifetimes: list[Lifetime]) -> int:
    """Bytes alive at the worst step, in whole units of ALIGNMENT: no plan can do with less."""
    changes: dict[int, int] = {}
    for l in lifetimes:
        changes[l.first] = changes.get(l.first, 0) + _aligned(l.size)
        changes[l.last + 1] = changes.get(l.last + 1, 0) - _aligned(l.size)
    alive = most = 0
    for step in sorted(changes):
        alive += changes[step]
        most = max(most, alive)
    return most
