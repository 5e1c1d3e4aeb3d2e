"""Dense contractions as packed, tiled loops: pointwise and k x k convolutions, fully connected layers.

The output pixels, output channels and taps of a convolution form a matrix product. The weights are packed when the
program is made, panel by panel in the order in which they are read. The left matrix is never made: neighbouring
taps of a window lie side by side in the input (all columns and channels of one row of the window), so a tile reads
them where they are. Where padding, another type or the alignment of words stands in the way, a band of input rows
is copied first, once, not once a tap. One tile of sums lives in registers:

    for band of output rows whose input stays in cache:
      [copy the band's input rows, with padding]
      for panel of output channels:
        for tile of output pixels, a rectangle of rows and columns:
          sums = bias
          for row of the window:  for k in its columns and channels:  sums[pixel][n] += a[pixel][k] * w[k][n]
          store epilogue(sums)

Tails are tiles, panels and vectors of their own, of exactly the size that is left. A pointwise convolution of M
pixels is taken as one of M x 1 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import Buffer, Expr, Kind, constant
from lithe.lower.depthwise import UNSIGNED_SHIFT, fold_byte_weights
from lithe.lower.dots import product_arithmetic
from lithe.lower.panels import Panel, equal_bands, heights, is_heavy, panels, tile_shape
from lithe.lower.window import Window
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT32, UINT8

LARGEST_UNROLLED = 4  # steps of a row of a window that are written out
FEW = 4  # lanes of a sum that is the same in all of them


class Product:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        self.b, self.c, self.target = b, c, target
        self.columns = c.out.shape[3]
        self.floating = c.accumulator == FLOAT32
        self.arithmetic = product_arithmetic(target, self.floating)
        self.left = self.arithmetic.left  # what one element of the left matrix is
        self.window = Window(b, c, self.left, self.arithmetic.group, target.cache_bytes)
        self.lanes = target.lanes
        self.heavy = is_heavy(c)
        self.pack()
        sums = 1 if self.zero else 0
        registers = target.registers - (1 if self.window.flip else 0) - sums
        _, oh, ow, _ = c.out.shape
        self.most, self.width = tile_shape(oh, ow, self.columns, self.lanes, registers, target.across)
        if self.zero:  # each pixel of the first panel has one more sum
            self.most = max(1, (registers - self.width // self.lanes - 2) // (self.width // self.lanes + 1))
            ones = np.zeros((self.window.steps * self.window.group,), np.int8)
            ones[: self.window.run] = 1
            self.ones = b.constant(ones.view(np.int32), "ones")
            self.pixel_sums = b.scratch(INT32, (c.out.shape[0] * c.out.shape[1] * c.out.shape[2],), "pixel_sums")

    # weights

    def pack(self) -> None:
        """Folds everything constant into weights and bias."""
        c = self.c
        assert c.w.values is not None
        self.zero = 0
        if self.floating:
            self.weights = c.w.values.astype(self.arithmetic.right)
            self.bias = np.zeros(self.columns, np.float32) if c.bias is None else np.asarray(c.bias.values)
        elif self.left == UINT8:
            self.weights, self.bias, self.zero = fold_byte_weights(c, UNSIGNED_SHIFT[c.x.dtype.name])
        else:
            self.weights = (c.w.values.astype(np.int16) - c.w_zero).astype(np.int16)
            self.bias = np.zeros(self.columns, np.int32) if c.bias is None else np.asarray(c.bias.values)

    def panel_constants(self, p: Panel) -> tuple[Buffer, Buffer]:
        """(weights [count, runs, steps, room] as words, bias [count, room])."""
        runs, steps = self.window.runs, self.window.steps
        rows = np.zeros((p.count, p.room, runs, steps * self.arithmetic.group), self.weights.dtype)
        bias = np.zeros((p.count, p.room), self.bias.dtype)
        stop = p.first + p.count * p.used
        rows[:, : p.used, :, : self.window.run] = self.weights[p.first : stop].reshape(p.count, p.used, runs, -1)
        bias[:, : p.used] = self.bias[p.first : stop].reshape(p.count, p.used)
        words = np.ascontiguousarray(self.arithmetic.packed(rows).transpose(0, 2, 3, 1))
        return self.b.constant(words, "weights"), self.b.constant(bias, "bias")

    # loops

    def emit(self) -> None:
        self.constants: list[tuple[Panel, Buffer, Buffer]] = []
        for p in panels(self.columns, self.width, self.lanes):
            first = [replace(p, count=1)] if self.zero and not self.constants else []
            rest = replace(p, first=p.first + p.used * len(first), count=p.count - len(first))
            self.constants += [(q, *self.panel_constants(q)) for q in (*first, rest) if q.count]
        n, oh, ow, _ = self.c.out.shape
        tall = equal_bands(oh, self.window.band(self.most // ow if ow <= self.most else 1))
        whole, rest_rows = divmod(oh, tall)
        with self.b.loop(n, "parallel", "batch") as batch:
            for first_row, count, rows in ((0, whole, tall), (whole * tall, 1, rest_rows)):
                if rows and count:
                    with self.b.loop(count, "parallel", "band") as band:
                        self.band(batch, band * tall + first_row, rows)

    def band(self, batch: Expr, top: Expr, rows: int) -> None:
        self.window.open(batch, top, rows)
        ow = self.c.out.shape[2]
        for number, (p, weights, bias) in enumerate(self.constants):
            with self.b.loop(p.count, "parallel", "panel") as panel:
                for y, x, height, width in self.tiles(rows, ow):
                    self.tile(height, width, p, panel, weights, bias, (batch, top, y, x), number == 0)

    def tiles(self, rows: int, columns: int) -> Iterator[tuple[Expr, Expr, int, int]]:
        """(first row, first column, rows, columns) of every tile, inside of the loops that run over them."""
        b = self.b
        y_done = 0
        for h, y_count in heights(rows, max(1, self.most // columns)) if columns <= self.most else [(1, rows)]:
            with b.loop(y_count, "parallel", "tile") as i:
                x_done = 0
                for w, x_count in heights(columns, self.most):
                    with b.loop(x_count, "parallel", "tile") as j:
                        yield i * h + y_done, j * w + x_done, h, w
                    x_done += w * x_count
            y_done += h * y_count

    # one tile

    def tile(
        self, height: int, width: int, p: Panel, panel: Expr, weights: Buffer, bias: Buffer,
        corner: tuple[Expr, Expr, Expr, Expr], is_first: bool,
    ) -> None:  # fmt: skip
        """height x width pixels and one panel: sums in registers, then the epilogue.

        corner  (batch, row where the band begins, row in the band, column) of the tile's first pixel.
        """
        b, c, window = self.b, self.c, self.window
        _, oh, ow, _ = c.out.shape
        batch, top, row, column = corner
        sums = b.local(c.accumulator, (height, width, p.room), "sums")
        extra = b.local(INT32, (height, width, FEW), "pixel_sums") if self.zero and is_first else None
        for y, x in self.pixels(height, width):
            for at, lanes in p.vectors():
                with b.loop(lanes, "vector", "l") as l:
                    b.store(sums, (y, x, at + l), bias[panel, at + l])
            if extra is not None:
                with b.loop(FEW, "vector", "l") as l:
                    b.store(extra, (y, x, l), constant(0, INT32))
        for run, tap in window.taps():
            with b.loop(window.steps, "unrolled" if window.steps <= LARGEST_UNROLLED else "serial", "k") as k:
                for y, x in self.pixels(height, width):
                    a = window.element(row + y, column + x, tap, k)
                    for at, lanes in p.vectors():
                        with b.loop(lanes, "vector", "l") as l:
                            total = sums[y, x, at + l]
                            b.store(
                                sums, (y, x, at + l), self.arithmetic.step(total, a, weights[panel, run, k, at + l])
                            )
                    if extra is not None:
                        with b.loop(FEW, "vector", "l") as l:
                            b.store(extra, (y, x, l), self.arithmetic.step(extra[y, x, l], a, self.ones[k]))
        if extra is not None:
            for y, x in self.pixels(height, width):
                row_number = (batch * oh + top + row + y) * ow + column + x
                b.store(self.pixel_sums, row_number, extra[y, x, 0] * self.zero)
        if self.heavy:  # once in a loop, from memory, not a copy of it for every pixel
            memory = b.local(c.accumulator, (height, width, p.room), "finished")
            for y, x in self.pixels(height, width):
                for at, lanes in p.vectors():
                    with b.loop(lanes, "vector", "l") as l:
                        b.store(memory, (y, x, at + l), sums[y, x, at + l])
            sums = memory
        for y, x in self.pixels(height, width, "serial" if self.heavy else "unrolled"):
            out_y, out_x = top + row + y, column + x
            pixel = Pixel(batch, out_y, out_x, (batch * oh + out_y) * ow + out_x)
            for at, lanes in [(0, p.room)] if self.heavy else p.vectors():
                with b.loop(min(lanes, p.used - at), "vector", "l") as l:
                    whole: Expr = sums[y, x, at + l]
                    if self.zero:
                        whole = whole - self.pixel_sums[pixel.row]
                    channel = panel * p.used + (p.first + at) + l
                    b.store(c.out, (*pixel[:3], channel), c.epilogue(whole, channel, pixel))

    def pixels(self, height: int, width: int, kind: Kind = "unrolled") -> Iterator[tuple[Expr, Expr]]:
        """One pass over the pixels of a tile, whose statements are copied for each of them, unless `kind` says else."""
        with self.b.loop(height, kind, "r") as y, self.b.loop(width, kind, "r") as x:
            yield y, x
