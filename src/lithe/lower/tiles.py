"""Dense contractions on a unit that multiplies tiles: pointwise and k x k convolutions, fully connected layers.

Weights are packed when the program is made, and the input is read where it lies, as in `contraction.py`. A tile of the
left matrix is a strip: neighbouring pixels of one row, or of one column where rows have one pixel, at a constant
distance in memory; its rows are elements of a run of the window (see `window.py`). A block of strips times a panel
of output channels is summed in tiles, stored, and finished pixel by pixel:

    for band of output rows whose input stays in cache:
      for panel of output channels:
        for block of strips:
          sums = bias
          for run of the window:  for step in it:  sums[strip][v] += left[strip] * right[v]
          memory = sums
          for pixel:  store epilogue(memory[pixel])

What does not fill a tile is not a tile of another shape. The last strip of a row begins early enough to be whole, and
its first pixels, which the strip before has, are summed in vain: what is stored, is stored once. Likewise the last step
of a run begins early, and meets weights of zero where the step before has been.

Bytes are multiplied as they are, signed or not, by signed weights. The sum of a pixel, which a zero point of weights
needs, comes from a panel of ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import Buffer, Expr, Intrinsic, constant
from lithe.lower.depthwise import fold_byte_weights
from lithe.lower.panels import Panel, equal_bands, flattened, heights, panels
from lithe.lower.window import Window
from lithe.targets.cpu import Dot, Target, Tiles
from lithe.types import BFLOAT16, FLOAT32, INT8, INT32

# What the unit is for. A tile's product takes as long for fewer rows, and for shorter ones, as for whole ones.
LEAST_PIXELS = 8  # of an output: fewer share too little of the weights that are loaded
LEAST_STRIP = 4  # pixels
LEAST_RUN = 24  # bytes of a run: of shorter ones, vectors make as much
MOST_SUMS = 4  # tiles: as many products are under way at once
LARGEST_UNROLLED = 2  # steps of a run that are written out


def dot_of(c: Convolution, tiles: Tiles) -> Dot | None:
    """The product that a contraction takes."""
    return tiles.dot(BFLOAT16, BFLOAT16) if c.accumulator == FLOAT32 else tiles.dot(c.x.dtype, INT8)


def pays(c: Convolution, target: Target) -> bool:
    """Whether a dense contraction gains by tiles."""
    tiles = target.tiles
    dot = None if tiles is None else dot_of(c, tiles)
    if tiles is None or dot is None:
        return False
    n, oh, ow, _ = flattened(c).out.shape
    _, _, kw, channels = c.w.shape
    run = channels * kw * dot.left.bytes if c.dilation[1] == 1 else channels * dot.left.bytes
    strip = min(tiles.rows, oh if ow == 1 else ow)
    return n * oh * ow >= LEAST_PIXELS and strip >= LEAST_STRIP and run >= LEAST_RUN


@dataclass(frozen=True)
class Part:
    """Panels of one width: `used` columns each, in `across` tiles.

    weights  words [count, runs, steps, across, depth of a step, columns of a tile].
    bias     [count, across * columns of a tile].
    """

    panel: Panel
    across: int
    weights: Buffer
    bias: Buffer


@dataclass(frozen=True)
class Strip:
    """Where a strip begins, counted from its block, and which of its pixels it is to finish."""

    y: int
    x: int
    first: int
    count: int


class Tiled:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        assert target.tiles is not None
        dot = dot_of(c, target.tiles)
        assert dot is not None
        self.b, self.c, self.dot, self.tiles, self.lanes = b, c, dot, target.tiles, target.lanes
        self.window = Window(b, c, dot.left, dot.group, target.cache_bytes)
        _, oh, ow, self.columns = c.out.shape
        self.down = ow == 1  # strips are parts of a column
        self.strip = min(self.tiles.rows, oh if self.down else ow)
        run, steps = self.window.run, -(-self.window.run // (self.tiles.words * dot.group))
        self.depth = -(-run // (steps * dot.group))  # words of a step
        self.width = self.depth * dot.group  # elements of it
        whole, rest = divmod(run, self.width)
        self.starts = [*(i * self.width for i in range(whole)), *([max(0, run - self.width)] if rest else [])]
        self.room = self.tiles.registers - MOST_SUMS
        strips = -(-oh // self.strip) if self.down else oh * -(-ow // self.strip)
        wide = -(-self.columns // self.tiles.words)
        self.tall, self.across = (1, min(wide, 4)) if strips == 1 else (4, 1) if wide == 1 else (2, 2)
        self.fold()

    # weights

    def fold(self) -> None:
        """Folds everything constant into weights and bias."""
        c = self.c
        assert c.w.values is not None
        self.zero = 0
        if c.accumulator == FLOAT32:
            self.weights = c.w.values.astype(self.dot.right.numpy)
            self.bias = np.zeros(self.columns, np.float32) if c.bias is None else np.asarray(c.bias.values)
        else:
            self.weights, self.bias, self.zero = fold_byte_weights(c, 0)
        self.weights = self.weights.reshape(self.columns, self.window.runs, self.window.run)

    def part(self, panel: Panel, weights: np.ndarray, bias: np.ndarray) -> Part:
        """A panel's constants, of weights [columns, runs, elements of a run] and bias [columns]."""
        words = self.tiles.words
        across = -(-panel.used // words)
        shape = (panel.count, across * words, self.window.runs, len(self.starts), self.width)
        packed, sums = np.zeros(shape, weights.dtype), np.zeros(shape[:2], bias.dtype)
        chosen = slice(panel.first, panel.first + panel.count * panel.used)
        taken = weights[chosen].reshape(panel.count, panel.used, self.window.runs, -1)
        done = 0
        for step, start in enumerate(self.starts):
            end = min(start + self.width, self.window.run)
            packed[:, : panel.used, :, step, done - start : end - start] = taken[..., done:end]
            done = end
        sums[:, : panel.used] = bias[chosen].reshape(panel.count, panel.used)
        whole = packed.view(np.int32).reshape(panel.count, across, words, *shape[2:4], self.depth)
        turned = np.ascontiguousarray(whole.transpose(0, 3, 4, 1, 5, 2))
        return Part(panel, across, self.b.constant(turned, "weights"), self.b.constant(sums, "bias"))

    # loops

    def emit(self) -> None:
        b, words = self.b, self.tiles.words
        cut = panels(self.columns, self.across * words, self.lanes)
        self.parts = [self.part(p, self.weights, self.bias) for p in cut]
        n, oh, ow, _ = self.c.out.shape
        if self.zero:
            (one,) = panels(words, words, self.lanes)
            ones = np.ones((words, *self.weights.shape[1:]), np.int8)
            self.ones = self.part(one, ones, np.zeros(words, np.int32))
            self.pixel_sums = b.scratch(INT32, (n * oh * ow,), "pixel_sums")
        with b.loop(n, "parallel", "batch") as batch:
            done = 0
            for tall, count in self.bands(oh):
                with b.loop(count, "parallel", "band") as band:
                    self.band(batch, band * tall + done, tall)
                done += tall * count

    def bands(self, rows: int) -> list[tuple[int, int]]:
        """[(rows of a band, how many)]: in a column of pixels, none is smaller than a strip."""
        if not self.down:
            tall = equal_bands(rows, self.window.band(self.tall))
            return [(high, count) for high, count in ((tall, rows // tall), (rows % tall, 1)) if high]
        most = self.window.band(self.tall * self.strip)
        whole, rest = divmod(rows, most)
        if 0 < rest < self.strip:
            return heights(rows, most)
        return [(most, whole), (rest, 1)] if rest else [(most, whole)]

    def band(self, batch: Expr, top: Expr, rows: int) -> None:
        elements = self.window.elements(batch, top, rows)

        def pixel(y: Expr, x: Expr) -> Pixel:
            _, oh, ow, _ = self.c.out.shape
            return Pixel(batch, top + y, x, (batch * oh + top + y) * ow + x)

        for part in (self.ones, *self.parts) if self.zero else self.parts:
            with self.b.loop(part.panel.count, "parallel", "panel") as panel:
                for strips, y, x in self.blocks(rows):
                    memory = self.sums(part, panel, strips, elements, y, x)
                    for number, s in enumerate(strips):
                        with self.b.loop(s.count, "serial", "pixel") as i:
                            at = i + s.first
                            place = pixel(y + s.y + at, x + s.x) if self.down else pixel(y + s.y, x + s.x + at)
                            self.finish(part, panel, memory, at + number * self.strip, place)

    def blocks(self, rows: int) -> Iterator[tuple[list[Strip], Expr, Expr]]:
        """(strips, first row, first column) of every block of a band, inside of the loops that run over them."""
        b, ow, strip, tall = self.b, self.c.out.shape[2], self.strip, self.tall
        if not self.down and ow == strip:  # a strip is a row
            for first, count, high in ((0, rows // tall, tall), (rows - rows % tall, 1, rows % tall)):
                if high:
                    with b.loop(count, "parallel", "block") as i:
                        yield [Strip(y, 0, 0, strip) for y in range(high)], i * tall + first, constant(0)
            return
        length = rows if self.down else ow
        whole, rest = divmod(length, tall * strip)
        with b.loop(1 if self.down else rows, "parallel", "row") as row:
            for first, count, pixels in ((0, whole, tall * strip), (length - rest, 1, rest)):
                if not pixels or not count:
                    continue
                strips = []
                for at in range(0, pixels, strip):
                    early = max(0, at + strip - pixels)  # so many pixels the strip begins before those that are left
                    begin = at - early
                    place = (begin, 0) if self.down else (0, begin)
                    strips.append(Strip(*place, early, strip - early))
                with b.loop(count, "parallel", "block") as i:
                    start = i * (tall * strip) + first
                    yield (strips, start, constant(0)) if self.down else (strips, row, start)

    # one block

    def sums(self, part: Part, panel: Expr, strips: list[Strip], elements: Buffer, y: Expr, x: Expr) -> Buffer:
        """The sums of a block in memory, [pixels of its strips, columns of the panel]."""
        b, words, kind = self.b, self.tiles.words, self.dot.instruction.result
        places = [(number, v) for number in range(len(strips)) for v in range(part.across)]
        totals = [b.local(kind, (self.strip, words), "sums") for _ in places]
        held = min(part.across, self.room - 1)
        kept = min(len(strips), self.room - held)
        left = [b.local(self.dot.left, (self.strip, self.width), "left") for _ in range(kept)]
        right = [b.local(INT32, (self.depth, words), "right") for _ in range(held)]
        for (_, v), total in zip(places, totals, strict=True):
            with self.tile(total) as (r, l):
                b.store(total, (r, l), part.bias[panel, l + v * words])
        for run, tap in self.window.taps():
            for first, count in self.steps():
                with b.loop(count, "unrolled" if count <= LARGEST_UNROLLED else "serial", "k") as k:
                    for (number, v), total in zip(places, totals, strict=True):
                        own, other, s = left[number % kept], right[v % held], strips[number]
                        if v == 0:
                            with self.tile(own) as (r, l):
                                at = l + (k * self.width + self.starts[first])
                                b.store(own, (r, l), self.element(elements, y + s.y, x + s.x, tap, r, at))
                        if number == 0:
                            with self.tile(other) as (r, l):
                                b.store(other, (r, l), part.weights[panel, run, k + first, v, r, l])
                        self.multiply(total, own, other)
        memory = b.local(kind, (len(strips) * self.strip, part.across * words), "finished")
        for (number, v), total in zip(places, totals, strict=True):
            with self.tile(total) as (r, l):
                b.store(memory, (r + number * self.strip, l + v * words), total[r, l])
        return memory

    def steps(self) -> list[tuple[int, int]]:
        """[(first step, how many)] of a run: those that lie side by side, and one that begins early."""
        whole = self.window.run // self.width
        return [(first, n) for first, n in ((0, whole), (whole, len(self.starts) - whole)) if n]

    def element(self, elements: Buffer, y: Expr, x: Expr, tap: tuple[Expr, Expr], r: Expr, i: Expr) -> Expr:
        """Element i of a run that pixel r of a strip reads, which begins at output pixel (y, x) of the band."""
        (sy, sx), (dy, dx) = self.c.strides, self.c.dilation
        *batch, start = self.window.at
        row, column = start + y * sy + tap[0] * dy, x * sx + tap[1] * dx
        row, column = (row + r * sy, column) if self.down else (row, column + r * sx)
        return elements[(*batch, row, column * self.window.channels + i)]

    @contextmanager
    def tile(self, tile: Buffer) -> Iterator[tuple[Expr, Expr]]:
        """The rows and elements of a tile that is loaded or stored at once."""
        rows, elements = tile.shape
        with self.b.loop(rows, "tile", "r") as r, self.b.loop(elements, "vector", "l") as l:
            yield r, l

    def multiply(self, total: Buffer, left: Buffer, right: Buffer) -> None:
        """total += left * right."""
        words = left.viewed((self.strip, self.depth), INT32)
        with self.tile(total) as (r, l), self.b.loop(self.depth, "serial", "d") as d:
            product = Intrinsic(self.dot.instruction, (total[r, l], words[r, d], right[d, l]))
            self.b.store(total, (r, l), product)

    def finish(self, part: Part, panel: Expr, memory: Buffer, row: Expr, pixel: Pixel) -> None:
        """Stores the outputs of a pixel in the columns of a panel; of the panel of ones, the sum of the pixel."""
        b, c, p = self.b, self.c, part.panel
        if self.zero and part is self.ones:
            b.store(self.pixel_sums, pixel.row, memory[row, 0] * self.zero)
            return
        for at, lanes in p.vectors():
            with b.loop(min(lanes, p.used - at), "vector", "l") as l:
                total: Expr = memory[row, at + l]
                total = total - self.pixel_sums[pixel.row] if self.zero else total
                channel = panel * p.used + (p.first + at) + l
                b.store(c.out, (*pixel[:3], channel), c.epilogue(total, channel, pixel))
