"""Where buffers lie in the arena: greedy by size, the largest first, each at the lowest place that is free
while it lives.

Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

ALIGNMENT = 64
SLACK = 64  # readable bytes behind the last buffer: vectors may read past an end


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `size` bytes that holds a value from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def plan(lifetimes: list[Lifetime]) -> tuple[list[int], int]:
    """(an offset for each lifetime, the bytes needed).

    >>> plan([Lifetime(100, 0, 1), Lifetime(50, 1, 2), Lifetime(100, 2, 3)])
    ([0, 128, 0], 256)
    """
    order = sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size, lifetimes[i].first))
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    total = 0
    for i in order:
        own = lifetimes[i]
        size = -(-own.size // ALIGNMENT) * ALIGNMENT
        busy = sorted(
            (offsets[j], offsets[j] + lifetimes[j].size)
            for j in placed
            if lifetimes[j].first <= own.last and own.first <= lifetimes[j].last
        )
        at = 0
        for start, stop in busy:
            if start - at >= size:
                break
            at = max(at, -(-stop // ALIGNMENT) * ALIGNMENT)
        offsets[i] = at
        placed.append(i)
        total = max(total, at + size)
    return offsets, total


def lower_bound(lifetimes: list[Lifetime]) -> int:
    """Bytes alive at the worst step: no plan can do with less."""
    steps = range(max((l.last for l in lifetimes), default=0) + 1)
    return max((sum(l.size for l in lifetimes if l.first <= s <= l.last) for s in steps), default=0)
