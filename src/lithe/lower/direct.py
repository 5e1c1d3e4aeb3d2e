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

Where few pixels meet weights of 4 bits, reading the weights is what takes time, so they stay packed: a word holds those
of two steps. A nibble is multiplied where it lies in its byte's upper half, as 16 times its value. Likewise floats
that are halves stay halves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import Buffer, Expr, Kind, constant
from lithe.lower.costs import FEW_PIXELS
from lithe.lower.depthwise import UNSIGNED_SHIFT, fold_byte_weights
from lithe.lower.dots import byte_arithmetic, float_arithmetic, word_arithmetic
from lithe.lower.panels import Panel, flattened, heights, is_heavy, panels, tile_shape
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT16, INT32, INT64

KINDS = (
    ("float32", "float32", "float32"), ("int8", "int8", "int32"), ("uint8", "uint8", "int32"),
    ("uint8", "int8", "int32"), ("int16", "int8", "int64"), ("int16", "int8", "int32"),
)  # fmt: skip
LOWER, UPPER = 0x0F0F0F0F, 0xF0F0F0F0 - (1 << 32)  # the halves of four bytes
LARGEST_SUM = (1 << 31) - 1
LARGEST_WORD = 1 << 15  # of 16-bit activations, less no zero point


def is_direct(c: Convolution) -> bool:
    """Whether `Direct` can write it: its weights and bias are constants of a kind that it knows."""
    if c.w.values is None or (c.bias is not None and c.bias.values is None):
        return False
    kinds = (c.x.dtype.name, c.w.dtype.name, c.accumulator.name)
    if c.block:
        return kinds == ("uint8", "int8", "float32") and c.block % 4 == 0
    return kinds in KINDS and (c.x_zero == 0 or kinds[0] != "int16")


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


def in_nibbles(c: Convolution, target: Target) -> bool:
    """Whether weights are to be read as nibbles: they fit, and too few pixels meet them to make up for unpacking."""
    n, oh, ow, _ = c.out.shape
    kernel, values = c.w.shape[1:], c.w.values
    if values is None or byte_arithmetic(target) is None or c.x.dtype.name not in UNSIGNED_SHIFT or c.w_zero:
        return False
    if n * oh * ow > FEW_PIXELS or kernel[:2] != (1, 1) or (c.block or kernel[2]) % 8 or c.w.dtype.name != "int8":
        return False
    exact = 16 * 8 * 255 * kernel[2] <= LARGEST_SUM  # 16 times the sum fits
    return exact and c.groups == 1 and int(values.min()) >= -8 and int(values.max()) < 8


def in_halves(c: Convolution, target: Target) -> bool:
    """Whether weights are to be read as float16: all of them are, and few pixels meet them."""
    n, oh, ow, _ = c.out.shape
    few = n * oh * ow <= FEW_PIXELS and c.w.shape[1:3] == (1, 1) and c.groups == 1
    if not few or not target.halves or c.w.values is None or c.w.dtype != FLOAT32:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(c.w.values.astype(np.float16).astype(np.float32), c.w.values))


class Direct:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        self.b, self.c, self.target, self.lanes = b, in_one_row(narrowed(b, c)), target, target.lanes
        self.fold()
        c, a = self.c, self.arithmetic
        _, kh, kw, depth = c.w.shape
        _, oh, ow, outputs = c.out.shape
        (sy, sx), (dy, dx) = c.strides, c.dilation
        self.columns = outputs // c.groups
        self.depth = -(-depth // a.group)  # words of one pixel that one group reads
        self.pixel = self.depth * c.groups
        joined = dx == 1 and c.groups == 1  # taps of a row lie side by side
        self.taps = (kh, 1 if joined else kw)
        self.run = self.depth * kw if joined else self.depth
        self.reach = ((oh - 1) * sy + (kh - 1) * dy + 1, (ow - 1) * sx + (kw - 1) * dx + 1)
        same = self.depth * a.group == depth and c.x.dtype == a.left
        fits = c.padding == (0, 0) and self.reach[0] <= c.x.shape[1] and self.reach[1] <= c.x.shape[2]
        self.in_place = same and fits
        self.halves = in_halves(self.c, target)
        self.steps = 2 if in_nibbles(self.c, target) else 1  # of a word of weights
        self.most = self.part()
        kept = 0 if self.most is None else 1 if c.block else 0
        registers = target.registers // (1 + kept)
        self.height, self.width = tile_shape(1, ow, self.columns, self.lanes, registers, target.across)

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
            self.arithmetic = dots
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
            return self.run if self.steps > 1 else None
        run = np.abs(self.filters().astype(np.int64)).reshape(c.out.shape[3], *self.taps, self.run, group).sum(-1)

        def holds(words: int) -> bool:
            sums = np.add.reduceat(run, np.arange(0, self.run, words), axis=3)
            return int(sums.max()) * LARGEST_WORD <= LARGEST_SUM

        cuts = (-(-self.run // parts) for parts in range(1, self.run + 1))
        return next(words for words in cuts if holds(words))  # a single word of 8-bit weights always does

    def filters(self) -> np.ndarray:
        """[O, KH, KW, depth * group]: the weights with whole words."""
        missing = self.depth * self.arithmetic.group - self.weights.shape[3]
        return np.pad(self.weights, ((0, 0), (0, 0), (0, 0), (0, missing)))

    def panel_constants(self, p: Panel) -> tuple[Buffer, Buffer]:
        """(words [groups, count, *taps, run / steps, room], bias [groups, count, room])."""
        words = self.arithmetic.packed(self.filters()).reshape(self.c.out.shape[3], *self.taps, self.run)
        if self.steps > 1:
            words = words[..., ::2] & LOWER | (words[..., 1::2] & LOWER) << 4
        words = words.astype(np.float16) if self.halves else words
        packed, bias = self.in_panels(p, words), self.in_panels(p, self.bias)
        return self.b.constant(packed, "weights"), self.b.constant(bias, "bias")

    def in_panels(self, p: Panel, values: np.ndarray) -> np.ndarray:
        """[groups, count, ..., room] of values [O, ...]."""
        part = values.reshape(self.c.groups, self.columns, *values.shape[1:])[:, p.first : p.first + p.count * p.used]
        part = np.moveaxis(part.reshape(self.c.groups, p.count, p.used, *values.shape[1:]), 2, -1)
        result = np.zeros((*part.shape[:-1], p.room), values.dtype)
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
            return a.read(c.x, n * h)
        (height, width), (top, left), room = self.reach, c.padding, self.pixel * a.group
        copy = b.scratch(a.left, (n * height, width * room), "padded")
        taken = max(0, min(w, width - left))
        blank = constant(0 if a.left.name != "uint8" else c.x_zero - self.shift, a.left)
        with b.nest((n, height), "parallel", "row") as (batch, row):
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
        return a.read(copy, n * height)

    def spread(self, copy: Buffer, line: Expr, batch: Expr, y: Expr, taken: int) -> None:
        """Copies a row of pixels whose groups do not fill words; the rest of a word meets weights of zero."""
        b, c, wide = self.b, self.c, self.depth * self.arithmetic.group
        depth = c.w.shape[3]
        with b.nest((taken, c.groups), "parallel", "column") as (x, group):
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
        if c.scales is not None:
            scales = np.asarray(c.scales.values, np.float32)
            self.scales = {p: b.constant(self.in_panels(p, scales), "block_scale") for p in cut}
        self.source = self.words()
        words = self.target.cache_bytes // 2 // self.arithmetic.word.bytes
        pixels = max(self.height, words // self.pixel // self.height * self.height)
        rows = max(1, words // (self.source.shape[1] * c.strides[0]))
        with b.loop(n, "parallel", "batch") as batch:
            for (y, bands, tall), (x, blocks, wide) in product(_cut(oh, rows), _cut(ow, pixels)):
                with b.nest((bands, blocks), "parallel", "block") as (band, block):
                    self.block(batch, band * tall + y, tall, block * wide + x, wide)

    def block(self, batch: Expr, first: Expr, rows: int, start: Expr, pixels: int) -> None:
        """Output rows first, first + 1, ... of a batch, `pixels` pixels of each."""
        b = self.b
        for p in self.constants:
            with b.nest((self.c.groups, p.count), "parallel", "panel") as at, b.loop(rows, "parallel", "y") as y:
                done = 0
                for height, count in heights(pixels, self.height):
                    with b.loop(count, "parallel", "tile") as tile:
                        Tile(self, height, p, at, (batch, first + y, start + tile * height + done)).write()
                    done += height * count


class Tile:
    """The outputs of `height` neighbouring pixels of a row, from `pixel` on, and one panel.

    at  (group, panel).
    """

    def __init__(
        self, of: Direct, height: int, p: Panel, at: tuple[Expr, ...], pixel: tuple[Expr, Expr, Expr]
    ) -> None:  # fmt: skip
        self.of, self.height, self.p, self.at, self.pixel = of, height, p, at, pixel
        self.b, self.c = of.b, of.c
        self.weights, self.bias = of.constants[p]
        self.sums = self.b.local(of.arithmetic.sums, (height, p.room), "sums")

    def write(self) -> None:
        b, of = self.b, self.of
        totals = self.sums if of.most is None else b.local(self.c.accumulator, self.sums.shape, "totals")
        self.each(lambda r, n: b.store(totals, (r, n), self.bias[(*self.at, n)]))
        with b.nest(of.taps, name="tap") as tap:
            for first, count, words in _cut(of.run // of.steps, (of.most or of.run) // of.steps):
                with b.loop(count, "serial", "part") as part:
                    if totals is not self.sums:
                        self.each(lambda r, n: b.store(self.sums, (r, n), constant(0, self.sums.dtype)))
                    with b.loop(words, "serial", "k") as k:
                        self.step(tap, part * words + (k + first))
                    if totals is not self.sums:
                        self.collect(totals, part)
        self.finish(totals)

    def step(self, tap: tuple[Expr, ...], k: Expr) -> None:
        """What one word of weights meets: a word of every pixel times all vectors of the panel, once or twice."""
        b, c, of = self.b, self.c, self.of
        (batch, y, x), (group, _), (ky, kx) = self.pixel, self.at, tap
        (sy, sx), (dy, dx) = c.strides, c.dilation
        row = batch * (of.source.shape[0] // c.x.shape[0]) + y * sy + ky * dy
        column = (x * sx + kx * dx) * of.pixel + group * of.depth + k * of.steps

        def one(r: Expr, n: Expr) -> None:
            word: Expr = self.weights[(*self.at, ky, kx, k, n)]
            word = word.to(FLOAT32) if of.halves else word
            packed = of.steps > 1
            for number, w in enumerate((word << 4 & UPPER, word & UPPER) if packed else (word,)):
                a = of.source[row, column + r * (sx * of.pixel) + number]
                b.store(self.sums, (r, n), of.arithmetic.step(self.sums[r, n], a, w))

        self.each(one)

    def collect(self, totals: Buffer, part: Expr) -> None:
        """Adds the sums of a part to the totals."""

        def one(r: Expr, n: Expr) -> None:
            whole: Expr = self.sums[r, n]
            value = (whole >> 4 if self.of.steps > 1 else whole).to(totals.dtype)
            value = value * self.of.scales[self.p][(*self.at, part, n)] if self.c.block else value
            self.b.store(totals, (r, n), totals[r, n] + value)

        self.each(one)

    def each(
        self, write: Callable[[Expr, Expr], None], used: int | None = None, rows: Kind = "unrolled"
    ) -> None:  # fmt: skip
        """write(row, column) for every sum: a copy for each row and vector. `used`: columns that count."""
        b, first = self.b, 0
        with b.loop(self.height, rows, "r") as r:
            for lanes in self.p.widths:
                with b.loop(lanes if used is None else min(lanes, used - first), "vector", "l") as l:
                    write(r, l + first)
                first += lanes

    def finish(self, totals: Buffer) -> None:
        c, p = self.c, self.p
        _, oh, ow, _ = c.out.shape
        batch, y, x = self.pixel
        heavy, sums = is_heavy(c), totals
        if heavy:  # once in a loop, from memory, not a copy of it for every pixel
            totals = self.b.local(c.accumulator, sums.shape, "finished")
            self.each(lambda r, n: self.b.store(totals, (r, n), sums[r, n]))

        def one(r: Expr, n: Expr) -> None:
            place = Pixel(batch, y, x + r, (batch * oh + y) * ow + x + r)
            channel = self.at[0] * self.of.columns + self.at[1] * p.used + (n + p.first)
            self.b.store(c.out, (*place[:3], channel), c.epilogue(totals[r, n], channel, place))

        self.each(one, p.used, "serial" if heavy else "unrolled")


def in_one_row(c: Convolution) -> Convolution:
    """A pointwise convolution as one of a single row of pixels; any other as it is."""
    column = flattened(c)
    if column is c:
        return c
    x, out = (t.viewed((1, 1, t.shape[1], t.shape[3])) for t in (column.x, column.out))
    return replace(column, x=x, out=out)  # its epilogue looks at the number of a pixel only


def _cut(size: int, most: int) -> list[tuple[int, int, int]]:
    """[(first, how many, size)]: `size` in parts of at most `most`."""
    whole, rest = divmod(size, most)
    return [(first, n, part) for first, n, part in ((0, whole, most), (whole * most, 1, rest)) if n and part]
