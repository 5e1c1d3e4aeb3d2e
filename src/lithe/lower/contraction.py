"""Dense contractions as packed, tiled loops: pointwise and k x k convolutions, fully connected layers.

The M output pixels, N output channels and K taps of a convolution form a matrix product. The weights are
packed when the program is made, panel by panel in the order in which they are read. Rows of the left
matrix are read where they lie (pointwise), or gathered into a block of patches first. One tile of sums
lives in registers:

    for block of rows that stays in cache:
      [gather the block's patches]
      for panel of output channels:
        for tile of rows:
          sums = bias;  for k: sums[r][n] += a[r][k] * w[k][n];  store epilogue(sums)

Tails are tiles and panels of their own, of exactly the size that is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder, Convolution, Schedule, plain_convolution
from lithe.ir.loops import FMA, Buffer, Expr, Intrinsic, constant
from lithe.lower.depthwise import UNSIGNED_SHIFT, by_regions, fold_byte_weights, interleaved, is_depthwise
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT16, INT32, UINT8, DType

LARGEST_WINDOW = 7  # depthwise windows above this would unroll into too much code


def schedule(target: Target) -> Schedule:
    """How contractions are written for a target."""

    def convolve(b: Builder, c: Convolution) -> None:
        if c.w.values is None or (c.bias is not None and c.bias.values is None) or not _dtypes_fit(c):
            plain_convolution(b, c)
        elif is_depthwise(c) and max(c.w.shape[1:3]) <= LARGEST_WINDOW:
            byte = c.x.dtype.name in UNSIGNED_SHIFT
            dots = target.dot is not None and target.dot.left == UINT8
            (interleaved if byte and dots else by_regions)(b, c, target)
        elif c.groups == 1:
            Product(b, c, target).emit()
        else:
            plain_convolution(b, c)

    return convolve


def _dtypes_fit(c: Convolution) -> bool:
    kinds = (c.x.dtype.name, c.w.dtype.name, c.accumulator.name)
    return kinds in (
        ("float32", "float32", "float32"), ("int8", "int8", "int32"), ("uint8", "uint8", "int32"),
    )  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """Neighbouring panels of one width: `count` panels of `used` columns in `vectors` vectors."""

    first: int
    count: int
    used: int
    vectors: int


def panels(columns: int, width: int, lanes: int) -> list[Panel]:
    """Output channels cut into panels.

    >>> panels(100, 32, 16)
    [Panel(first=0, count=3, used=32, vectors=2), Panel(first=96, count=1, used=4, vectors=1)]
    """
    whole, rest = divmod(columns, width)
    result = [Panel(0, whole, width, width // lanes)] if whole else []
    if rest:
        result.append(Panel(whole * width, 1, rest, -(-rest // lanes)))
    return result


def heights(rows: int, most: int) -> list[tuple[int, int]]:
    """Rows shared out to tiles of at most two neighbouring heights: [(height, how many)].

    >>> heights(49, 12)
    [(10, 4), (9, 1)]
    """
    tiles = -(-rows // most)
    low, extra = divmod(rows, tiles)
    return [(h, n) for h, n in ((low + 1, extra), (low, tiles - extra)) if n]


def tile_shape(m: int, n: int, lanes: int, registers: int, sums_a_row: int) -> tuple[int, int]:
    """(rows, columns) of the tile with the least padded work whose sums fit the registers.

    sums_a_row  1 when each row needs one more sum for the weights' zero point.
    """
    best, least = (1, lanes), float("inf")
    for vectors in (1, 2, 3, 4) if m > 1 else (1, 2, 4, 8):
        rows = min((registers - vectors - 2) // (vectors + sums_a_row), 24)
        if rows < 1:
            continue
        cost = 0.0
        for p in panels(n, vectors * lanes, lanes):
            for h, count in heights(m, rows):
                cost += count * p.count * (h * (p.vectors + sums_a_row) + 0.55 * (h + p.vectors))
        if cost < least:
            best, least = (rows, vectors * lanes), cost
    return best


class Product:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        self.b, self.c, self.target = b, c, target
        n, oh, ow, self.columns = c.out.shape
        _, h, w, channels = c.x.shape
        _, kh, kw, _ = c.w.shape
        self.rows, self.k = n * oh * ow, kh * kw * channels
        self.floating = c.accumulator == FLOAT32
        self.dot = None if self.floating else target.dot
        self.group = self.dot.group if self.dot else 1
        self.steps = -(-self.k // self.group)
        # what one element of the gathered left matrix is
        self.left: DType = FLOAT32 if self.floating else self.dot.left if self.dot else INT16
        pointwise = (kh, kw) == (1, 1) and c.strides == (1, 1) and (oh, ow) == (h, w)
        same = c.x.dtype == self.left or (self.left == UINT8 and c.x.dtype.name == "int8")
        self.direct = pointwise and same and self.k % self.group == 0
        self.flip = self.direct and self.left == UINT8 and c.x.dtype.name == "int8"
        self.lanes = target.lanes
        self.pack()
        self.height, self.width = tile_shape(
            self.rows, self.columns, self.lanes, target.registers - (1 if self.flip else 0), 1 if self.zero else 0
        )

    # weights

    def pack(self) -> None:
        """Folds everything constant into weights and bias."""
        c = self.c
        assert c.w.values is not None
        self.zero = 0
        if self.floating:
            self.weights = c.w.values.reshape(self.columns, -1)
            self.bias = np.zeros(self.columns, np.float32) if c.bias is None else np.asarray(c.bias.values)
            return
        if self.left == UINT8:
            weights, self.bias, self.zero = fold_byte_weights(c, UNSIGNED_SHIFT[c.x.dtype.name])
            self.weights = weights.reshape(self.columns, -1)
        else:
            self.weights = (c.w.values.astype(np.int16) - c.w_zero).astype(np.int16).reshape(self.columns, -1)
            self.bias = np.zeros(self.columns, np.int32) if c.bias is None else np.asarray(c.bias.values)

    def panel_constants(self, p: Panel) -> tuple[Buffer, Buffer]:
        """(weights [count, steps, vectors * lanes] as words, bias [count, vectors * lanes])."""
        room = p.vectors * self.lanes
        word = np.float32 if self.floating else np.int32 if self.dot else np.int16
        rows = np.zeros((p.count, room, self.steps * self.group), self.weights.dtype)
        bias = np.zeros((p.count, room), self.bias.dtype)
        stop = p.first + p.count * p.used
        rows[:, : p.used, : self.k] = self.weights[p.first : stop].reshape(p.count, p.used, self.k)
        bias[:, : p.used] = self.bias[p.first : stop].reshape(p.count, p.used)
        packed = rows.reshape(p.count, room, self.steps, self.group).transpose(0, 2, 1, 3)
        words = np.ascontiguousarray(packed).view(word)[..., 0]
        return self.b.constant(words, "weights"), self.b.constant(bias, "bias")

    # the left matrix

    def emit(self) -> None:
        self.constants = [(p, *self.panel_constants(p)) for p in panels(self.columns, self.width, self.lanes)]
        self.out = self.c.out.viewed((self.rows, self.columns))
        row_bytes = self.steps * self.group * self.left.bytes
        share = self.target.cache_bytes if self.direct else self.target.cache_bytes // 4
        tall = max(self.height, share // max(1, row_bytes) // self.height * self.height)
        tall = min(tall, self.rows)
        whole, rest = divmod(self.rows, tall)
        if self.direct:
            self.matrix = self.words(self.c.x, self.rows)
        else:
            self.patches = self.b.scratch(self.left, (tall, self.steps * self.group), "patches")
            self.matrix = self.words(self.patches, tall)
        for first, count, rows in ((0, whole, tall), (whole * tall, 1, rest)):
            if rows and count:
                with self.b.loop(count, "serial", "block") as block:
                    self.block(block * tall + first, rows)

    def words(self, buffer: Buffer, rows: int) -> Buffer:
        """The matrix as [rows, steps] of what one step reads."""
        return buffer.viewed((rows, self.steps), INT32 if self.dot else buffer.dtype)

    def block(self, first: Expr, rows: int) -> None:
        b = self.b
        if not self.direct:
            self.gather(first, rows)
        offset = first if self.direct else constant(0)
        for p, weights, bias in self.constants:
            with b.loop(p.count, "serial", "panel") as panel:
                done = 0
                for height, count in heights(rows, self.height):
                    with b.loop(count, "serial", "tile") as tile:
                        within = tile * height + done
                        self.tile(height, p, panel, weights, bias, offset + within, first + within)
                    done += height * count

    def gather(self, first: Expr, rows: int) -> None:
        """Copies the patches of some output pixels into rows; taps outside the input become its zero point."""
        b, c = self.b, self.c
        _, oh, ow, _ = c.out.shape
        _, h, w, channels = c.x.shape
        _, kh, kw, _ = c.w.shape
        (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
        border_y = top > 0 or (oh - 1) * sy + (kh - 1) * dy >= h
        border_x = left > 0 or (ow - 1) * sx + (kw - 1) * dx >= w
        run = kw * channels if dx == 1 else channels  # elements that lie side by side in the input
        runs = 1 if dx == 1 else kw
        source = c.x.viewed((c.x.shape[0], h, w * channels))
        with b.loop(rows, "serial", "row") as r:
            pixel = first + r  # divided once a row, not once a tap
            batch = b.variable(pixel // (oh * ow), "batch")[()]
            y = b.variable(pixel // ow % oh, "y")[()]
            x = b.variable(pixel % ow, "x")[()]
            with b.loop(kh, "serial", "ky") as ky:
                row = y * sy + ky * dy - top
                start = x * sx - left
                inside = [row >= 0, row < h] if border_y else []
                whole = [*inside, start >= 0, start + (kw - 1) * dx < w] if border_x else inside
                with b.when(*whole):
                    with b.loop(runs, "serial", "kx") as kx, b.loop(run, "parallel") as i:
                        value = self.element(source[batch, row, (start + kx * dx) * channels + i])
                        b.store(self.patches, (r, (ky * runs + kx) * run + i), value)
                if whole:
                    with b.otherwise(), b.loop(kw, "serial", "kx") as kx:
                        self.gather_tap(r, ky, kx, batch, row, start + kx * dx, inside)
            with b.loop(self.steps * self.group - self.k, "parallel") as i:
                b.store(self.patches, (r, i + self.k), constant(0, self.left))

    def gather_tap(
        self, r: Expr, ky: Expr, kx: Expr, batch: Expr, row: Expr, column: Expr, row_inside: list[Expr]
    ) -> None:
        """One tap of one patch, which may lie outside the input."""
        b, c = self.b, self.c
        _, h, w, channels = c.x.shape
        source = c.x.viewed((c.x.shape[0], h, w * channels))
        at = (ky * c.w.shape[2] + kx) * channels
        with b.when(*row_inside, column >= 0, column < w), b.loop(channels, "parallel") as i:
            b.store(self.patches, (r, at + i), self.element(source[batch, row, column * channels + i]))
        with b.otherwise(), b.loop(channels, "parallel") as i:
            b.store(self.patches, (r, at + i), self.padding_value())

    def element(self, x: Expr) -> Expr:
        """An input element as the left matrix holds it."""
        if self.left == UINT8 and x.dtype.name == "int8":
            return x.to(UINT8) ^ 128
        if self.left == INT16:
            return x.to(INT16) - self.c.x_zero if self.c.x_zero else x.to(INT16)
        return x

    def padding_value(self) -> Expr:
        if self.left == UINT8:
            return constant(self.c.x_zero + UNSIGNED_SHIFT[self.c.x.dtype.name], UINT8)
        return constant(0, self.left)

    # one tile

    def tile(self, height: int, p: Panel, panel: Expr, weights: Buffer, bias: Buffer, row: Expr, out_row: Expr) -> None:
        """`height` rows and one panel: sums in registers, then the epilogue."""
        b, c, lanes = self.b, self.c, self.lanes
        sums = b.local(c.accumulator, (height, p.vectors * lanes), "sums")
        extra = b.local(INT32, (height, lanes), "row_sums") if self.zero else None
        for r, v, l in self.unrolled(height, p.vectors):
            b.store(sums, (r, v * lanes + l), bias[panel, v * lanes + l])
        if extra is not None:
            for r, _, l in self.unrolled(height, 1):
                b.store(extra, (r, l), constant(0, INT32))
        with b.loop(self.steps, "serial", "k") as k:
            for r, v, l in self.unrolled(height, p.vectors):
                a, w = self.matrix[row + r, k], weights[panel, k, v * lanes + l]
                b.store(sums, (r, v * lanes + l), self.step(sums[r, v * lanes + l], self.flipped(a), w))
            if extra is not None:
                for r, _, l in self.unrolled(height, 1):
                    b.store(extra, (r, l), self.step(extra[r, l], self.flipped(self.matrix[row + r, k]), self.ones()))
        for number in range(p.vectors):
            used = min(lanes, p.used - number * lanes)
            with b.loop(height, "unrolled", "r") as r, b.loop(used, "vector", "l") as l:
                total: Expr = sums[r, number * lanes + l]
                if extra is not None:
                    total = total - extra[r, l] * self.zero
                channel = panel * p.used + (p.first + number * lanes) + l
                _, oh, ow, _ = c.out.shape
                at = out_row + r
                pixel = (at // (oh * ow), at // ow % oh, at % ow)
                b.store(self.out, (at, channel), c.epilogue(total, channel, pixel))

    def unrolled(self, height: int, vectors: int) -> Iterator[tuple[Expr, Expr, Expr]]:
        """One pass whose statements are copied for each row and vector."""
        b = self.b
        with b.loop(height, "unrolled", "r") as r, b.loop(vectors, "unrolled", "v") as v:
            with b.loop(self.lanes, "vector", "l") as l:
                yield r, v, l

    def flipped(self, word: Expr) -> Expr:
        """Four signed bytes as unsigned ones, 128 more each."""
        return word ^ constant(-0x7F7F7F80, INT32) if self.flip else word

    def ones(self) -> Expr:
        return constant(0x01010101, INT32)

    def step(self, total: Expr, a: Expr, w: Expr) -> Expr:
        if self.floating:
            return Intrinsic(FMA, (a, w, total)) if self.target.fma else total + a * w
        if self.dot is None:
            return total + a.to(INT32) * w.to(INT32)
        if self.dot.group == 2:
            return total + Intrinsic(self.dot.instruction, (a, w))
        return Intrinsic(self.dot.instruction, (total, a, w))
