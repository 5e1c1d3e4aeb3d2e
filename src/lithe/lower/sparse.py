"""Pointwise float layers most of whose weights are zero: only what is not zero is multiplied.

Lanes are pixels, so that one weight meets a vector. A block of T pixels is turned into columns; the channels of the
output are taken in bunches whose weights are lists of (input channel, value) of one length, filled up with zeros;
finished sums are turned back:

    for block of T pixels:
      columns[k][t] = x[t][k]
      for part of the input channels whose columns stay in the first-level cache:
        for group of bunches that have lists of one length:
          for bunch:  for i in the lists:  for channel of the bunch: sums[o][t] += value[o][i] * columns[at[o][i]][t]
      y[t][o] = epilogue(sums[o][t] + bias[o])

Bunches are sorted by the length of their lists, so there is little to fill up. Where there are few blocks, threads
would get unequal shares of them: there the columns of all blocks are made first, and each block's outputs are two
shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.ir.arithmetic import bits_float
from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import FMA, INDEX, Buffer, Expr, Intrinsic, constant
from lithe.lower.costs import A_WEIGHT, AN_ELEMENT, FEWEST_PIXELS
from lithe.lower.panels import flattened
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT32, INT64

LEVEL_1 = 1 << 15  # bytes of a first-level cache
CROWDED = 1 << 10  # bytes between rows that share few places of a first-level cache
MOST_GROUPS = 4  # loops over bunches: code for each
MANY_BLOCKS = 8  # are nearly equal shares
VECTORS, SUMS = 4, 8  # of pixels in a block; that are summed at once, which is more than the latency of an addition


def pays(c: Convolution, target: Target) -> bool:
    """Whether so many weights are zero that this schedule beats a dense one."""
    return c.w.values is not None and int(np.count_nonzero(c.w.values)) < most_weights(c, target)


def most_weights(c: Convolution, target: Target) -> float:
    """With fewer weights left than this the schedule beats a dense one; 0 where it never does."""
    if c.x.dtype != FLOAT32 or c.w.values is None or c.groups != 1 or not target.fma or flattened(c) is c:
        return 0.0
    _, rows, _, _ = flattened(c).x.shape
    outputs, _, _, depth = c.w.shape
    if rows < FEWEST_PIXELS:
        return 0.0
    return max((outputs * depth - (outputs + depth) * AN_ELEMENT * target.lanes) / A_WEIGHT, 0.0)


def _halves(pair: Expr) -> tuple[Expr, Expr]:
    """The bits of the two float32 that lie in 64, the first one first."""
    return pair.to(INT32), (pair >> 32).to(INT32)


@dataclass(frozen=True)
class Lists:
    """Bunches whose lists have one length, for each share of the outputs and each part of the input channels.

    at, value  [shares, parts, bunches, length, channels a bunch].
    channels   [shares, parts, bunches, channels a bunch]: their output channels, of those of the share.
    """

    at: np.ndarray
    value: np.ndarray
    channels: np.ndarray


def lists(weights: np.ndarray, many: int, deep: int, shares: int = 1) -> list[Lists]:
    """The weights [O, K] that are not zero, in equal shares of the outputs, bunches of `many` outputs and parts of
    `deep` inputs.

    The first bunch is filled up with the output behind the last one of the share, which has no weights.
    """
    outputs, depth = weights.shape[0] // shares, weights.shape[1]
    room = ((0, 0), (0, 1), (0, -depth % deep))
    padded = np.pad(weights.reshape(shares, outputs, depth), room).reshape(shares, outputs + 1, -1, deep)
    counts = np.moveaxis(np.count_nonzero(padded, axis=3), 1, 2)  # [shares, parts, outputs + 1]
    order = np.argsort(counts[..., :-1], axis=2, kind="stable")
    order = np.pad(order, ((0, 0), (0, 0), (-outputs % many, 0)), constant_values=outputs)
    bunches = order.reshape(*counts.shape[:2], -1, many)
    longest = np.take_along_axis(counts, order, 2).reshape(bunches.shape).max(axis=(0, 1, 3))
    found, low = [], -1
    for length in groups(*np.unique(longest, return_counts=True)):
        channels = bunches[:, :, (longest > low) & (longest <= length)]
        at = np.zeros((*channels.shape[:3], length, many), np.int32)
        value = np.zeros(at.shape, np.float32)
        for share, part, bunch, o in np.ndindex(channels.shape):
            row = padded[share, channels[share, part, bunch, o], part]
            places = np.flatnonzero(row)
            at[share, part, bunch, : len(places), o] = places + part * deep
            value[share, part, bunch, : len(places), o] = row[places]
        at[value == 0] = 0
        found.append(Lists(at, value, channels.astype(np.int32)))
        low = length
    return found


def groups(lengths: np.ndarray, many: np.ndarray) -> list[int]:
    """Which of the ascending lengths end a group, so that lists filled up to the end of their group grow least.

    >>> import numpy as np
    >>> groups(np.array([1, 2, 4, 5, 9]), np.array([1, 1, 3, 9, 1]))
    [2, 4, 5, 9]
    """
    size = len(lengths)
    best = [[np.inf] * size for _ in range(MOST_GROUPS)]  # elements of the lists up to a length, by groups
    before = [[-1] * size for _ in range(MOST_GROUPS)]
    for n in range(MOST_GROUPS):
        for end in range(size):
            for start in range(end + 1):
                rest = 0.0 if start == 0 else best[n - 1][start - 1] if n else np.inf
                cost = rest + int(lengths[end]) * int(many[start : end + 1].sum())
                if cost < best[n][end]:
                    best[n][end], before[n][end] = cost, start - 1
    ends, n, end = [], MOST_GROUPS - 1, size - 1
    while end >= 0:
        ends.append(int(lengths[end]))
        n, end = n - 1, before[n][end]
    return ends[::-1]


class Sparse:
    """Writes one layer."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        self.b, self.c, self.lanes = b, flattened(c), target.lanes
        assert c.w.values is not None
        _, self.rows, _, self.depth = self.c.x.shape
        self.outputs = c.out.shape[3]
        self.block = VECTORS * self.lanes
        few = self.rows < MANY_BLOCKS * self.block and self.outputs % (2 * self.lanes) == 0
        self.shares = 2 if few else 1
        self.share = self.outputs // self.shares  # outputs of each
        weights = c.w.values.reshape(self.outputs, self.depth)
        deep = min(self.depth, LEVEL_1 // (4 * self.block))
        self.parts = -(-self.depth // deep)
        self.lists = [
            (b.constant(g.at, "at"), b.constant(g.value, "value"), b.constant(g.channels, "channel"))
            for g in lists(weights, SUMS // VECTORS, -(-self.depth // self.parts), self.shares)
        ]

    def emit(self) -> None:
        size, rest = self.block, self.rows % self.block
        whole = self.rows // size
        if whole and rest <= self.lanes // 2:  # the last block takes a few pixels more
            whole, rest = whole - 1, rest + size
        for first, count, pixels in ((0, whole, size), (whole * size, 1, rest)):
            if count and pixels:
                self.blocks(first, count, pixels)

    def blocks(self, first: int, count: int, pixels: int) -> None:
        """The outputs of `count` blocks of so many pixels."""
        b = self.b
        room = -(-pixels // self.lanes) * self.lanes  # vectors that no border of a cache line divides
        if self.shares == 1:
            with b.loop(count, "parallel", "block") as block:
                columns = b.local(FLOAT32, (1, self.depth, room), "columns")
                self.turned(columns, constant(0), block * pixels + first, pixels)
                self.outputs_of(columns, constant(0), constant(0), block * pixels + first, pixels)
            return
        columns = b.scratch(FLOAT32, (count, self.depth, room), "columns")
        with b.loop(count, "parallel", "block") as block:
            self.turned(columns, block, block * pixels + first, pixels)
        with b.nest((count, self.shares), "parallel", "share") as (block, share):
            self.outputs_of(columns, block, share, block * pixels + first, pixels)

    def turned(self, columns: Buffer, block: Expr, first: Expr, count: int) -> None:
        """The columns of a block, which is that of `count` pixels from `first` on."""
        whole = count // self.lanes
        for start, many, lanes in ((0, whole, self.lanes), (whole * self.lanes, 1, count % self.lanes)):
            with self.b.loop(many if lanes else 0, "parallel", "vector") as v:
                self.turn(columns, block, first, v * lanes + start, lanes)

    def outputs_of(self, columns: Buffer, block: Expr, share: Expr, first: Expr, count: int) -> None:
        """A share of the outputs of a block's pixels."""
        b, out = self.b, self.c.out.viewed((self.rows, self.outputs))
        room = columns.shape[2]
        finished = b.local(FLOAT32, (self.share + 1, room), "finished")  # the last row is of no use
        vectors = [(at, min(self.lanes, count - at)) for at in range(0, count, self.lanes)]
        with b.loop(self.share + 1 if self.parts > 1 else 0, "parallel", "o") as o:
            for at, lanes in vectors:
                with b.loop(lanes, "vector", "t") as t:
                    b.store(finished, (o, t + at), 0.0)
        with b.loop(self.parts, "serial", "part") as part:
            for group in self.lists:
                self.bunches((columns, block), finished, (share, part), group, vectors)
        whole = self.share // self.lanes
        pairs = finished.viewed((self.share + 1, room // 2), INT64)
        for start, many, lanes in ((0, whole, self.lanes), (whole * self.lanes, 1, self.share % self.lanes)):
            with b.loop(many if lanes else 0, "parallel", "o") as o:
                row, channel = o * lanes + start, share * self.share + o * lanes + start
                with b.loop(count // 2, "parallel", "t") as t, b.loop(lanes, "vector", "l") as l:
                    for i, total in enumerate(_halves(pairs[row + l, t])):
                        self.finish(out, channel + l, first + t * 2 + i, bits_float(total))
                with b.loop(lanes if count % 2 else 0, "vector", "l") as l:
                    self.finish(out, channel + l, first + (count - 1), finished[row + l, count - 1])

    def finish(self, out: Buffer, channel: Expr, row: Expr, total: Expr) -> None:
        total = total if self.c.bias is None else total + self.c.bias[channel]
        self.b.store(out, (row, channel), self.c.epilogue(total, channel, Pixel(constant(0), row, constant(0), row)))

    def turn(self, columns: Buffer, block: Expr, first: Expr, at: Expr, lanes: int) -> None:
        """Columns of a vector of pixels, whose rows are copied first if they would push each other out of the cache.

        Two neighbours of a row are loaded at once, as one word of 64 bits.
        """
        b, x = self.b, self.c.x.viewed((self.rows, self.depth))
        rows, start = x, first + at
        if self.depth * FLOAT32.bytes % CROWDED == 0:
            rows, start = b.local(FLOAT32, (lanes, self.depth + self.lanes), "rows"), constant(0)
            with b.loop(lanes, "serial", "t") as t, b.loop(self.depth, "parallel", "k") as k:
                b.store(rows, (t, k), x[first + at + t, k])
        paired = self.depth % 2 == 0
        pairs, bits = rows.viewed((rows.size // 2,), INT64), columns.viewed(columns.shape, INT32)
        with b.loop(self.depth // 2 if paired else 0, "parallel", "k") as k, b.loop(lanes, "vector", "t") as t:
            for i, value in enumerate(_halves(pairs[(start + t) * (rows.shape[1] // 2) + k])):
                b.store(bits, (block, k * 2 + i, t + at), value)
        with b.loop(0 if paired else self.depth, "parallel", "k") as k, b.loop(lanes, "vector", "t") as t:
            b.store(columns, (block, k, t + at), rows[start + t, k])

    def bunches(
        self, columns: tuple[Buffer, Expr], finished: Buffer, part: tuple[Expr, Expr],
        group: tuple[Buffer, Buffer, Buffer], vectors: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Adds what one part of the inputs gives to the outputs of all bunches that have lists of one length."""
        b, (places, values, channels), (all_columns, block) = self.b, group, columns
        _, _, many, length, each = places.shape
        with b.loop(many, "parallel", "bunch") as bunch:
            sums = b.local(FLOAT32, (each, finished.shape[1]), "sums")
            with b.loop(each, "unrolled", "c") as o:
                for at, lanes in vectors:
                    with b.loop(lanes, "vector", "t") as t:
                        row = channels[(*part, bunch, o)].to(INDEX)
                        b.store(sums, (o, at + t), finished[row, at + t] if self.parts > 1 else 0.0)
            with b.loop(length, "serial", "i") as i, b.loop(each, "unrolled", "c") as o:
                k, w = places[(*part, bunch, i, o)].to(INDEX), values[(*part, bunch, i, o)]
                for at, lanes in vectors:
                    with b.loop(lanes, "vector", "t") as t:
                        total = Intrinsic(FMA, (w, all_columns[block, k, at + t], sums[o, at + t]))
                        b.store(sums, (o, at + t), total)
            with b.loop(each, "unrolled", "c") as o:
                for at, lanes in vectors:
                    with b.loop(lanes, "vector", "t") as t:
                        b.store(finished, (channels[(*part, bunch, o)].to(INDEX), at + t), sums[o, at + t])
