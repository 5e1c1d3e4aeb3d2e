"""Dense contractions on a unit that multiplies tiles: pointwise and k x k convolutions, fully connected layers.

Weights are packed when the program is made, and the input is read where it lies, as in `contraction.py`. A tile of the
left matrix is a strip: neighbouring pixels of one row, or of one column where rows have one pixel, at a constant
distance in memory; its rows are elements of a run of the window (see `window.py`). A block of strips times a panel
of output channels is summed in tiles, stored to memory, and finished from there, pixel by pixel. The unit works beside
the vectors, so a block is finished while the next one is summed:

    for band of output rows whose input stays in cache:
      for panel of output channels:
        for block of strips:
          sums = bias
          for step in the runs of the window:
            sums[strip][v] += left[strip] * right[v]
            for some pixels of the block before:  store epilogue(memory[pixel])
          memory = sums

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

# What the unit is for: counted, not timed. A product is taken to last as long for tiles that are not full.
LEAST_PIXELS = 8  # of an output: fewer share too little of the weights that are loaded
LEAST_STRIP = 4  # pixels
LEAST_RUN = 24  # bytes of a run: of shorter ones, vectors make as much
MOST_SUMS = 4  # tiles: as many products are under way at once
MOST_TOGETHER = 8  # blocks that one thread finishes one behind the other
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


@dataclass(frozen=True)
class Blocks:
    """Equal blocks of a band, one behind the other: the first begins at (y, x), each `step` after the one before."""

    strips: tuple[Strip, ...]
    count: int
    y: Expr
    x: Expr
    step: tuple[int, int]

    def begin(self, number: Expr) -> tuple[Expr, Expr]:
        return self.y + number * self.step[0], self.x + number * self.step[1]


@dataclass(frozen=True)
class Registers:
    """sums: by number of a strip and tile of a panel. Tiles of weights and input are loaded in turns."""

    sums: dict[tuple[int, int], Buffer]
    left: list[Buffer]
    right: list[Buffer]


class Tiled:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        assert target.tiles is not None
        dot = dot_of(c, target.tiles)
        assert dot is not None
        self.b, self.c, self.dot, self.tiles, self.lanes = b, c, dot, target.tiles, target.lanes
        self.window = Window(b, c, dot.left, dot.group, target.cache_bytes)
        n, oh, ow, self.columns = c.out.shape
        self.down = ow == 1  # strips are parts of a column
        self.strip = min(self.tiles.rows, oh if self.down else ow)
        run, steps = self.window.run, -(-self.window.run // (self.tiles.words * dot.group))
        self.depth = -(-run // (steps * dot.group))  # words of a step
        self.width = self.depth * dot.group  # elements of it
        whole, rest = divmod(run, self.width)
        self.starts = [*(i * self.width for i in range(whole)), *([max(0, run - self.width)] if rest else [])]
        self.out = c.out.viewed((n * oh * ow, self.columns))
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
        n, oh, _, _ = self.c.out.shape
        if self.zero:
            (one,) = panels(words, words, self.lanes)
            ones = np.ones((words, *self.weights.shape[1:]), np.int8)
            self.ones = self.part(one, ones, np.zeros(words, np.int32))
            self.pixel_sums = b.scratch(INT32, self.out.shape[:1], "pixel_sums")
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
        self.corner = batch, top
        self.elements = self.window.elements(batch, top, rows)
        for part in (self.ones, *self.parts) if self.zero else self.parts:
            with self.b.loop(part.panel.count, "parallel", "panel") as panel:
                for blocks in self.blocks(rows):
                    size = equal_bands(blocks.count, MOST_TOGETHER)
                    whole, rest = divmod(blocks.count, size)
                    for first, count, together in ((0, whole, size), (whole * size, 1, rest)):
                        if count and together:
                            with self.b.loop(count, "parallel", "blocks") as i, self.b.scope():
                                self.together(part, panel, blocks, i * size + first, together)

    def blocks(self, rows: int) -> Iterator[Blocks]:
        """The blocks of a band, inside of the loops over its rows."""
        b, ow, strip, tall = self.b, self.c.out.shape[2], self.strip, self.tall
        zero = constant(0)
        if not self.down and ow == strip:  # a strip is a row
            for first, count, high in ((0, rows // tall, tall), (rows - rows % tall, 1, rows % tall)):
                if count and high:
                    strips = tuple(Strip(y, 0, 0, strip) for y in range(high))
                    yield Blocks(strips, count, constant(first), zero, (tall, 0))
            return
        length = rows if self.down else ow
        whole, rest = divmod(length, tall * strip)
        with b.loop(1 if self.down else rows, "parallel", "row") as row:
            for first, count, pixels in ((0, whole, tall * strip), (length - rest, 1, rest)):
                strips = ()
                for at in range(0, pixels, strip):
                    early = max(0, at + strip - pixels)  # so many pixels the strip begins before those that are left
                    place = (at - early, 0) if self.down else (0, at - early)
                    strips += (Strip(*place, early, strip - early),)
                if count and strips:
                    step = (pixels, 0) if self.down else (0, pixels)
                    start = (constant(first), zero) if self.down else (row, constant(first))
                    yield Blocks(strips, count, *start, step)

    def together(self, part: Part, panel: Expr, blocks: Blocks, first: Expr, count: int) -> None:
        """`count` blocks, each finished while the next one is summed."""
        b, words, strips = self.b, self.tiles.words, blocks.strips
        kind, pixels = self.dot.instruction.result, len(strips) * self.strip
        tiles = self.registers(part, strips)
        memory = b.local(kind, (pixels, part.across * words), "finished")

        def keep() -> None:
            for (number, v), total in tiles.sums.items():
                with self.tile(total) as (r, l):
                    b.store(memory, (r + number * self.strip, l + v * words), total[r, l])

        for _ in self.sums(part, panel, strips, tiles, blocks.begin(first)):
            pass
        keep()
        steps = self.window.runs * len(self.starts)
        each = -(-pixels // steps)
        with b.loop(count - 1, "serial", "block") as i:
            for step in self.sums(part, panel, strips, tiles, blocks.begin(first + (i + 1))):
                with b.loop(each, "serial", "pixel") as n:
                    pixel = step * each + n
                    with b.when(*[pixel < pixels] if steps * each > pixels else []):
                        self.finish(part, panel, memory, pixel, self.pixel(blocks.begin(first + i), pixel))
            keep()
        y, x = blocks.begin(first + (count - 1))
        together = (Strip(0, 0, 0, pixels),) if not any(s.first for s in strips) else strips
        for number, s in enumerate(together):
            with b.loop(s.count, "serial", "pixel") as i:
                at = i + s.first
                self.finish(part, panel, memory, at + number * self.strip, self.pixel((y + s.y, x + s.x), at))

    def pixel(self, begin: tuple[Expr, Expr], number: Expr) -> Pixel:
        """A pixel, counted from one of the band in the direction of strips, or row by row where a strip is a row."""
        (batch, top), (y, x), (_, oh, ow, _) = self.corner, begin, self.c.out.shape
        row = (batch * oh + top + y) * ow + x + number
        if self.down:
            return Pixel(batch, top + y + number, x, row)
        if ow == self.strip:
            return Pixel(batch, top + y + number // ow, number % ow, row)
        return Pixel(batch, top + y, x + number, row)

    def registers(self, part: Part, strips: tuple[Strip, ...]) -> Registers:
        words = self.tiles.words
        places = [(number, v) for number in range(len(strips)) for v in range(part.across)]
        sums = {place: self.b.local(self.dot.instruction.result, (self.strip, words), "sums") for place in places}
        held = min(part.across, self.tiles.registers - MOST_SUMS - 1)
        kept = min(len(strips), self.tiles.registers - MOST_SUMS - held)
        left = [self.b.local(self.dot.left, (self.strip, self.width), "left") for _ in range(kept)]
        return Registers(sums, left, [self.b.local(INT32, (self.depth, words), "right") for _ in range(held)])

    def sums(
        self, part: Part, panel: Expr, strips: tuple[Strip, ...], tiles: Registers, begin: tuple[Expr, Expr]
    ) -> Iterator[Expr]:
        """Sums a block in registers. Gives the number of each step, inside of the loops over them."""
        b, words, (y, x) = self.b, self.tiles.words, begin
        for (_, v), total in tiles.sums.items():
            with self.tile(total) as (r, l):
                b.store(total, (r, l), part.bias[panel, l + v * words])
        whole = self.window.run // self.width  # steps that lie side by side; the last one begins early
        for run, tap in self.window.taps():
            for first, count in ((0, whole), (whole, len(self.starts) - whole)):
                with b.loop(count, "unrolled" if count <= LARGEST_UNROLLED else "serial", "k") as k:
                    for (number, v), total in tiles.sums.items() if count else ():
                        left, right = tiles.left[number % len(tiles.left)], tiles.right[v % len(tiles.right)]
                        if v == 0:
                            place, at = (y + strips[number].y, x + strips[number].x), k * self.width
                            with self.tile(left) as (r, l):
                                b.store(left, (r, l), self.element(place, tap, r, l + (at + self.starts[first])))
                        if number == 0:
                            with self.tile(right) as (r, l):
                                b.store(right, (r, l), part.weights[panel, run, k + first, v, r, l])
                        self.multiply(total, left, right)
                    if count:
                        yield run * len(self.starts) + first + k

    def element(self, place: tuple[Expr, Expr], tap: tuple[Expr, Expr], r: Expr, i: Expr) -> Expr:
        """Element i of a run of the window, which pixel r of a strip reads that begins at a place in the band."""
        (sy, sx), (dy, dx), (y, x) = self.c.strides, self.c.dilation, place
        *batch, start = self.window.at
        row, column = start + y * sy + tap[0] * dy, x * sx + tap[1] * dx
        row, column = (row + r * sy, column) if self.down else (row, column + r * sx)
        return self.elements[(*batch, row, column * self.window.channels + i)]

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
                b.store(self.out, (pixel.row, channel), c.epilogue(total, channel, pixel))
