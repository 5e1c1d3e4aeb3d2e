"""Contractions that read their input where it lies: groups of channels, 16-bit activations, scales for each block.

No patches are gathered. Where windows reach over the border, or channels do not fill words, the input is copied once
with all the padding that it needs; then every tap is at a constant distance from the first one:

    for block of output rows that stays in cache:
      for group, panel of its output channels:
        for row, tile of neighbouring pixels:
          for part of the taps:
            sums = 0;  for tap, k: sums[r][n] += x[pixel r + tap][k] * w[tap][k][n];  totals += sums

One part is the rule. There are more where sums of 32 bits could overflow, which the weights tell, and where each block
of weights has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import Buffer, Expr, constant
from lithe.lower.contraction import Panel, heights, panels, tile_shape
from lithe.lower.depthwise import UNSIGNED_SHIFT, fold_byte_weights
from lithe.lower.dots import byte_arithmetic, float_arithmetic, word_arithmetic
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT16, INT32, INT64

LARGEST_SUM = (1 << 31) - 1
LARGEST_WORD = 1 << 15  # of 16-bit activations, less no zero point


def is_direct(c: Convolution) -> bool:
    """Whether `Direct` can write it: its weights and bias are constants of a kind that it knows."""
    if c.w.values is None or (c.bias is not None and c.bias.values is None):
        return False
    kinds = (c.x.dtype.name, c.w.dtype.name, c.accumulator.name)
    if c.block % 4:
        return False
    return kinds in (
        ("float32", "float32", "float32"), ("int8", "int8", "int32"), ("uint8", "uint8", "int32"),
    ) or (kinds == ("int8", "int8", "float32") and c.block > 0) or (
        kinds == ("int16", "int8", "int64") and c.x_zero == 0
    )  # fmt: skip


def narrowed(b: Builder, c: Convolution) -> Convolution:
    """A contraction with sums of 64 bits as one with sums of 32 bits, where its weights keep them in range."""
    assert c.w.values is not None
    if c.accumulator != INT64:
        return c
    weights = np.abs(c.w.values.astype(np.int64) - c.w_zero).sum((1, 2, 3))
    bias = np.zeros(len(weights), np.int64) if c.bias is None else np.asarray(c.bias.values, np.int64)
    if int((weights * LARGEST_WORD + np.abs(bias)).max()) > LARGEST_SUM:
        return c
    return replace(
        c,
        accumulator=INT32,
        bias=b.constant(bias.astype(np.int32), "bias"),
        epilogue=lambda total, o, pixel: c.epilogue(total.to(INT64), o, pixel),
    )


class Direct:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        self.b, self.c, self.target, self.lanes = b, narrowed(b, c), target, target.lanes
        self.fold()
        a = self.arithmetic
        _, kh, kw, depth = c.w.shape
        n, oh, ow, outputs = c.out.shape
        (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
        self.columns = outputs // c.groups
        self.depth = -(-depth // a.group)  # words of one pixel that one group reads
        self.pixel = self.depth * c.groups
        joined = dx == 1 and c.groups == 1  # taps of a row lie side by side
        self.taps = (kh, 1 if joined else kw)
        self.run = self.depth * kw if joined else self.depth
        self.reach = ((oh - 1) * sy + (kh - 1) * dy + 1, (ow - 1) * sx + (kw - 1) * dx + 1)
        whole = (top, left) == (0, 0) and self.depth * a.group == depth and c.x.dtype == a.left
        self.in_place = whole and self.reach[0] <= c.x.shape[1] and self.reach[1] <= c.x.shape[2]
        self.merged = (kh, kw) == (1, 1) and c.strides == (1, 1) and (oh, ow) == c.x.shape[1:3] and not (top or left)
        self.most = self.part()
        rows = n * oh * ow if self.merged else ow
        kept = 0 if self.most is None else 1 if c.block else 0
        self.height, self.width = tile_shape(rows, self.columns, self.lanes, target.registers // (1 + kept), 0)

    # weights

    def fold(self) -> None:
        """Chooses the arithmetic, and folds everything constant into weights and bias."""
        c = self.c
        assert c.w.values is not None
        zeros = np.zeros(c.out.shape[3], c.accumulator.numpy)
        self.bias = zeros if c.bias is None else np.asarray(c.bias.values)
        self.weights, self.shift = c.w.values, c.x_zero
        if c.x.dtype == FLOAT32:
            self.arithmetic = float_arithmetic(self.target)
            return
        self.arithmetic = word_arithmetic(self.target)
        dots = byte_arithmetic(self.target)
        if c.block and dots is not None:
            self.arithmetic, self.shift = dots, -UNSIGNED_SHIFT[c.x.dtype.name]
            self.bias = self.bias + (self.shift * block_sums(c)).astype(np.float32)
            return
        if c.x.dtype.name in UNSIGNED_SHIFT and dots is not None:
            weights, bias, zero = fold_byte_weights(c, UNSIGNED_SHIFT[c.x.dtype.name])
            if zero == 0:
                self.weights, self.bias, self.arithmetic = weights, bias, dots
                self.shift = -UNSIGNED_SHIFT[c.x.dtype.name]
                return
        self.weights = (c.w.values.astype(np.int16) - c.w_zero).astype(np.int16)

    def part(self) -> int | None:
        """Words of a run that are summed at a time, None where all taps are one sum."""
        c, group = self.c, self.arithmetic.group
        if c.block:
            return c.block // group
        if c.accumulator != INT64:
            return None
        run = np.abs(self.filters().astype(np.int64)).reshape(c.out.shape[3], *self.taps, self.run, group).sum(-1)
        for parts in range(1, self.run + 1):
            words = -(-self.run // parts)
            sums = np.add.reduceat(run, np.arange(0, self.run, words), axis=3)
            if int(sums.max()) * LARGEST_WORD <= LARGEST_SUM:
                return words
        raise AssertionError("a word of 8-bit weights cannot overflow")

    def filters(self) -> np.ndarray:
        """[O, KH, KW, depth * group]: the weights with whole words."""
        missing = self.depth * self.arithmetic.group - self.weights.shape[3]
        return np.pad(self.weights, ((0, 0), (0, 0), (0, 0), (0, missing)))

    def panel_constants(self, p: Panel) -> tuple[Buffer, Buffer]:
        """(words [groups, count, *taps, run, vectors * lanes], bias [groups, count, vectors * lanes])."""
        groups, room = self.c.groups, p.vectors * self.lanes
        part = slice(p.first, p.first + p.count * p.used)
        words = self.arithmetic.packed(self.filters()).reshape(groups, self.columns, *self.taps, self.run)[:, part]
        words = words.reshape(groups, p.count, p.used, *self.taps, self.run)
        packed = np.zeros((groups, p.count, *self.taps, self.run, room), words.dtype)
        packed[..., : p.used] = np.moveaxis(words, 2, -1)
        return self.b.constant(packed, "weights"), self.b.constant(self.in_panels(p, self.bias), "bias")

    def in_panels(self, p: Panel, values: np.ndarray) -> np.ndarray:
        """[groups, count, ..., vectors * lanes] of values [O, ...]."""
        part = values.reshape(self.c.groups, self.columns, *values.shape[1:])[:, p.first : p.first + p.count * p.used]
        part = np.moveaxis(part.reshape(self.c.groups, p.count, p.used, *values.shape[1:]), 2, -1)
        result = np.zeros((*part.shape[:-1], p.vectors * self.lanes), values.dtype)
        result[..., : p.used] = part
        return result

    # the input

    def element(self, x: Expr) -> Expr:
        """An input element as the steps read it."""
        left = self.arithmetic.left
        if left == FLOAT32:
            return x
        if left == INT16:
            return x.to(INT16) - self.shift if self.shift else x.to(INT16)
        return x.to(left) ^ 128 if x.dtype.name == "int8" else x

    def words(self) -> Buffer:
        """The input as [rows, words of a row]: itself, or a copy with padding."""
        b, c, a = self.b, self.c, self.arithmetic
        n, h, w, channels = c.x.shape
        if self.in_place:
            return a.read(c.x, 1 if self.merged else n * h)
        height, width = (h, w) if self.merged else self.reach
        (top, left), room = c.padding, self.pixel * a.group
        copy = b.scratch(a.left, (n * height, width * room), "padded")
        taken = max(0, min(w, width - left))
        blank = constant(0 if a.left.name != "uint8" else c.x_zero - self.shift, a.left)
        with b.nest((n, height), name="row") as (batch, row):
            line, y = batch * height + row, row - top
            inside = [y >= 0, y < h] if top or height - top > h else []
            with b.when(*inside):
                for first, count in ((0, min(left, width)), (left + taken, max(0, width - left - taken))):
                    with b.loop(count * room, "parallel") as i:
                        b.store(copy, (line, i + first * room), blank)
                if room == channels:
                    source = c.x.viewed((n * h, w * channels))
                    with b.loop(taken * room, "parallel") as i:
                        b.store(copy, (line, i + left * room), self.element(source[batch * h + y, i]))
                else:
                    self.spread(copy, line, batch, y, taken)
            if inside:
                with b.otherwise(), b.loop(width * room, "parallel") as i:
                    b.store(copy, (line, i), blank)
        return a.read(copy, 1 if self.merged else n * height)

    def spread(self, copy: Buffer, line: Expr, batch: Expr, y: Expr, taken: int) -> None:
        """Copies a row of pixels whose groups do not fill words; the rest of a word meets weights of zero."""
        b, c, wide = self.b, self.c, self.depth * self.arithmetic.group
        depth = c.w.shape[3]
        with b.nest((taken, c.groups), name="column") as (x, group):
            at = ((x + c.padding[1]) * c.groups + group) * wide
            with b.loop(depth, "parallel") as i:
                b.store(copy, (line, at + i), self.element(c.x[batch, y, x, group * depth + i]))
            with b.loop(wide - depth, "parallel") as i:
                b.store(copy, (line, at + depth + i), constant(0, self.arithmetic.left))

    # tiles

    def emit(self) -> None:
        b, c = self.b, self.c
        n, oh, ow, _ = c.out.shape
        cut = panels(self.columns, self.width, self.lanes)
        self.constants = {p: self.panel_constants(p) for p in cut}
        if c.block:
            scales = np.asarray(c.scales.values if c.scales is not None else None, np.float32)
            self.scales = {p: b.constant(self.in_panels(p, scales), "block_scale") for p in cut}
        self.source = self.words()
        share = self.target.cache_bytes // 2
        if self.merged:
            pixels, row_bytes = n * oh * ow, self.pixel * self.arithmetic.word.bytes
            tall = max(self.height, share // max(1, row_bytes) // self.height * self.height)
            for first, count, size in _cut(pixels, tall):
                with b.loop(count, "serial", "block") as block:
                    self.block(constant(0), constant(0), 1, block * size + first, size)
            return
        row_bytes = self.source.shape[1] * self.arithmetic.word.bytes * c.strides[0]
        with b.loop(n, "serial", "batch") as batch:
            for first, count, size in _cut(oh, max(1, share // max(1, row_bytes))):
                with b.loop(count, "serial", "block") as block:
                    self.block(batch, block * size + first, size, constant(0), ow)

    def block(self, batch: Expr, first: Expr, rows: int, start: Expr, pixels: int) -> None:
        """Output rows first, first + 1, ... of a batch, `pixels` pixels of each."""
        b = self.b
        for p in self.constants:
            with b.nest((self.c.groups, p.count), name="panel") as (group, panel):
                with b.loop(rows, "serial", "y") as y:
                    done = 0
                    for height, count in heights(pixels, self.height):
                        with b.loop(count, "serial", "tile") as tile:
                            at = start + tile * height + done
                            self.tile(height, p, group, panel, (batch, first + y, at))
                        done += height * count

    def tile(self, height: int, p: Panel, group: Expr, panel: Expr, pixel: tuple[Expr, Expr, Expr]) -> None:
        """The outputs of `height` neighbouring pixels and one panel."""
        b, c, lanes = self.b, self.c, self.lanes
        weights, bias = self.constants[p]
        shape = (height, p.vectors * lanes)
        sums = b.local(self.arithmetic.sums, shape, "sums")
        result = sums
        if self.most is None:
            self.each(height, p, lambda r, n: b.store(sums, (r, n), bias[group, panel, n]))
            with b.nest((*self.taps, self.run), name="k") as (ky, kx, k):
                self.steps(height, p, sums, weights, group, panel, pixel, ky, kx, k)
        else:
            result = b.local(c.accumulator, shape, "totals")
            self.each(height, p, lambda r, n: b.store(result, (r, n), bias[group, panel, n]))
            with b.nest(self.taps, name="tap") as (ky, kx):
                for first, count, words in _cut(self.run, self.most):
                    with b.loop(count, "serial", "part") as part:
                        self.each(height, p, lambda r, n: b.store(sums, (r, n), constant(0, sums.dtype)))
                        with b.loop(words, "serial", "k") as k:
                            at = part * words + (k + first)
                            self.steps(height, p, sums, weights, group, panel, pixel, ky, kx, at)
                        self.collect(height, p, sums, result, group, panel, part)
        self.finish(height, p, result, group, panel, pixel)

    def steps(
        self, height: int, p: Panel, sums: Buffer, weights: Buffer, group: Expr, panel: Expr,
        pixel: tuple[Expr, Expr, Expr], ky: Expr, kx: Expr, k: Expr,
    ) -> None:  # fmt: skip
        """One word of every pixel of the tile times all vectors of the panel."""
        b, c = self.b, self.c
        batch, y, x = pixel
        (sy, sx), (dy, dx) = c.strides, c.dilation
        row = constant(0) if self.merged else batch * (self.source.shape[0] // c.x.shape[0]) + y * sy + ky * dy
        column = (x * sx + kx * dx) * self.pixel + group * self.depth + k

        def one(r: Expr, n: Expr) -> None:
            a, w = self.source[row, column + r * (sx * self.pixel)], weights[group, panel, ky, kx, k, n]
            b.store(sums, (r, n), self.arithmetic.step(sums[r, n], a, w))

        self.each(height, p, one)

    def collect(
        self, height: int, p: Panel, sums: Buffer, totals: Buffer, group: Expr, panel: Expr, part: Expr
    ) -> None:
        """Adds the sums of a part to the totals."""
        b = self.b

        def one(r: Expr, n: Expr) -> None:
            value = sums[r, n].to(totals.dtype)
            value = value * self.scales[p][group, panel, part, n] if self.c.block else value
            b.store(totals, (r, n), totals[r, n] + value)

        self.each(height, p, one)

    def each(self, height: int, p: Panel, write: Callable[[Expr, Expr], None]) -> None:
        """write(row, column) for every sum of a tile: a copy for each row and vector."""
        for r, n in self.unrolled(height, p.vectors):
            write(r, n)

    def unrolled(self, height: int, vectors: int) -> Iterator[tuple[Expr, Expr]]:
        b = self.b
        with b.loop(height, "unrolled", "r") as r, b.loop(vectors, "unrolled", "v") as v:
            with b.loop(self.lanes, "vector", "l") as l:
                yield r, v * self.lanes + l

    def finish(
        self, height: int, p: Panel, totals: Buffer, group: Expr, panel: Expr, pixel: tuple[Expr, Expr, Expr]
    ) -> None:
        b, c = self.b, self.c
        _, oh, ow, _ = c.out.shape
        batch, y, x = pixel
        for number in range(p.vectors):
            used = min(self.lanes, p.used - number * self.lanes)
            with b.loop(height, "unrolled", "r") as r, b.loop(used, "vector", "l") as l:
                channel = group * self.columns + panel * p.used + (p.first + number * self.lanes) + l
                at = x + r
                place = (at // (oh * ow), at // ow % oh, at % ow) if self.merged else (batch, y, at)
                value = c.epilogue(totals[r, number * self.lanes + l], channel, place)
                out = c.out.viewed((c.out.size // c.out.shape[3], c.out.shape[3])) if self.merged else c.out
                b.store(out, (at, channel) if self.merged else (*place, channel), value)


def block_sums(c: Convolution) -> np.ndarray:
    """float64 [O]: the sum of each output's weights times the scales of their blocks."""
    assert c.w.values is not None
    assert c.scales is not None
    parts = c.w.values.reshape(c.w.shape[0], -1, c.block).astype(np.float64).sum(2)
    return (parts * np.asarray(c.scales.values, np.float64)).sum(1)


def _cut(size: int, most: int) -> list[tuple[int, int, int]]:
    """[(first, how many, size)]: `size` in parts of at most `most`."""
    whole, rest = divmod(size, most)
    return [(first, n, part) for first, n, part in ((0, whole, most), (whole * most, 1, rest)) if n and part]
