"""3 x 3 convolutions of floats with 16 products where the definition has 36.

Four outputs, a square of two rows and columns, are made of a square of 4 x 4 inputs:

    V = B' d B    U = G g G'    M = U * V (for each of 16 places, sums over channels)    Y = A' M A

V is made once for all output channels, U when the program is made; the sums over channels are 16 products of
matrices [squares, channels] x [channels, outputs], which take nearly all of the time.

    for band of rows of squares whose V stays in cache:
      V of the band
      for panel of output channels:
        for place of 16:  for tile of squares:  sums over channels in registers, stored as M
        for square:  Y, and its epilogue

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: F(2 x 2, 3 x 3). Its matrices hold
0, 1 and 1/2 only. Against float64, on normal inputs and 16 to 512 channels, the errors' root mean square is 0.6 to 0.7
of that of direct sums in order, which are nine times as long. What is not finite, in an input, reaches all outputs of
the squares that hold it, where the definition reaches those of its windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import FMA, Buffer, Expr, Intrinsic, constant
from lithe.lower.costs import FAR_WEIGHTS, FEWEST_SQUARES, LEAST_CHANNELS, MANY_SQUARES, WIDE
from lithe.lower.panels import Panel, heights, panels, tile_shape
from lithe.lower.window import Window
from lithe.targets.cpu import Target
from lithe.types import FLOAT32

PLACES = 16
FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # G


def pays(c: Convolution, target: Target) -> bool:
    """Whether a convolution of one group has this form, and enough channels and squares to gain by it."""
    floats = c.accumulator == c.x.dtype == c.w.dtype == FLOAT32 and target.fma and target.float_dot is None
    plain = c.strides == c.dilation == (1, 1) and c.w.shape[1:3] == (3, 3) and min(c.out.shape[1:3]) >= 4
    if not (floats and plain and min(c.x.shape[3], c.out.shape[3]) >= LEAST_CHANNELS):
        return False
    n, oh, ow, outputs = c.out.shape
    weights = PLACES * c.x.shape[3] * outputs * FLOAT32.bytes
    return weights <= FAR_WEIGHTS or n * -(-oh // 2) * -(-ow // 2) >= MANY_SQUARES


def _squared(rows: Sequence[Expr]) -> list[Expr]:
    """One step of B': four values of four."""
    a, b, c, d = rows
    return [a - c, b + c, c - b, b - d]


def _halved(rows: Sequence[Expr]) -> list[Expr]:
    """One step of A': two values of four."""
    a, b, c, d = rows
    return [a + b + c, b - c - d]


class Winograd:
    """Writes one convolution."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        assert c.w.values is not None
        self.b, self.c, self.lanes = b, c, target.lanes
        n, oh, ow, self.columns = c.out.shape
        self.channels = c.x.shape[3]
        self.down, self.across = -(-oh // 2), -(-ow // 2)  # squares
        whole = Buffer("squares", FLOAT32, (n, 2 * self.down, 2 * self.across, self.columns))
        self.window = Window(b, replace(c, out=whole), FLOAT32, 1, target.cache_bytes)
        held = self.channels + min(self.columns, WIDE)  # V, and M of one panel
        fits = target.cache_bytes // 2 // (PLACES * held * FLOAT32.bytes * self.across)
        bands = -(-self.down // max(fits, -(-FEWEST_SQUARES // self.across)))
        self.tall = -(-self.down // bands)
        squares = self.tall * self.across
        self.most, self.width = tile_shape(squares, 1, self.columns, self.lanes, target.registers, target.across)
        spread = np.kron(FILTER, FILTER)  # both steps at once
        self.weights = np.empty((self.columns, PLACES, self.channels), np.float32)
        for o, taps in enumerate(c.w.values.reshape(self.columns, 9, self.channels)):  # one stays in cache
            self.weights[o] = spread @ taps.astype(np.float64)
        self.bias = np.zeros(self.columns, np.float32) if c.bias is None else np.asarray(c.bias.values)

    def panel_constants(self, p: Panel) -> tuple[Buffer, Buffer]:
        """(weights [count, places, channels, room], bias [count, room])."""
        rows = np.zeros((p.count, p.room, PLACES, self.channels), np.float32)
        bias = np.zeros((p.count, p.room), np.float32)
        stop = p.first + p.count * p.used
        rows[:, : p.used] = self.weights[p.first : stop].reshape(p.count, p.used, PLACES, -1)
        bias[:, : p.used] = self.bias[p.first : stop].reshape(p.count, p.used)
        packed = np.ascontiguousarray(rows.transpose(0, 2, 3, 1))
        return self.b.constant(packed, "weights"), self.b.constant(bias, "bias")

    def emit(self) -> None:
        b = self.b
        constants = [(p, *self.panel_constants(p)) for p in panels(self.columns, self.width, self.lanes)]
        whole, rest = divmod(self.down, self.tall)
        with b.loop(self.c.out.shape[0], "parallel", "batch") as batch:
            for first, count, rows in ((0, whole, self.tall), (whole * self.tall, 1, rest)):
                if not (rows and count):
                    continue
                with b.loop(count, "parallel", "band") as band:
                    top = band * self.tall + first
                    squares = self.squares(batch, top, rows)
                    for p, weights, bias in constants:
                        with b.loop(p.count, "parallel", "panel") as panel:
                            sums = self.sums(p, panel, weights, squares, rows * self.across)
                            self.results(p, panel, bias, sums, batch, top, rows)

    def squares(self, batch: Expr, top: Expr, rows: int) -> Buffer:
        """V [places, squares of the band, channels]."""
        b, size = self.b, self.channels
        self.window.open(batch, top * 2, 2 * rows)
        v = b.local(FLOAT32, (PLACES, rows * self.across, size), "squares")
        with b.loop(rows, "parallel", "y") as y, b.loop(self.across, "parallel", "x") as x:
            with b.loop(size, "parallel", "c") as ch:
                taken = [
                    [self.window.element(y * 2, x * 2, (constant(i), constant(0)), ch + j * size) for j in range(4)]
                    for i in range(4)
                ]
                columns = [_squared(column) for column in zip(*taken, strict=True)]
                for i, row in enumerate(zip(*columns, strict=True)):
                    for j, value in enumerate(_squared(row)):
                        b.store(v, (4 * i + j, y * self.across + x, ch), value)
        return v

    def sums(self, p: Panel, panel: Expr, weights: Buffer, squares: Buffer, count: int) -> Buffer:
        """M [places, squares, room]: sums over channels."""
        b = self.b
        m = b.local(FLOAT32, (PLACES, count, p.room), "products")
        with b.loop(PLACES, "parallel", "place") as place:
            done = 0
            for height, times in heights(count, self.most):
                with b.loop(times, "serial", "tile") as tile:
                    first = tile * height + done
                    total = b.local(FLOAT32, (height, p.room), "sums")
                    with b.loop(height, "unrolled", "r") as r:
                        for at, lanes in p.vectors():
                            with b.loop(lanes, "vector", "l") as l:
                                b.store(total, (r, at + l), 0.0)
                    with b.loop(self.channels, "serial", "k") as k, b.loop(height, "unrolled", "r") as r:
                        for at, lanes in p.vectors():
                            with b.loop(lanes, "vector", "l") as l:
                                a, w = squares[place, first + r, k], weights[panel, place, k, at + l]
                                b.store(total, (r, at + l), Intrinsic(FMA, (a, w, total[r, at + l])))
                    with b.loop(height, "unrolled", "r") as r:
                        for at, lanes in p.vectors():
                            with b.loop(lanes, "vector", "l") as l:
                                b.store(m, (place, first + r, at + l), total[r, at + l])
                done += height * times
        return m

    def results(self, p: Panel, panel: Expr, bias: Buffer, m: Buffer, batch: Expr, top: Expr, rows: int) -> None:
        """Y, and what becomes of it."""
        b, c = self.b, self.c
        _, oh, ow, _ = c.out.shape
        with b.loop(rows, "parallel", "y") as y, b.loop(self.across, "serial", "x") as x:
            for i in range(2):
                for j in range(2):
                    out_y, out_x = (top + y) * 2 + i, x * 2 + j
                    edges = [
                        place < size for place, size, last in ((out_y, oh, i), (out_x, ow, j)) if last and size % 2
                    ]
                    pixel = Pixel(batch, out_y, out_x, (batch * oh + out_y) * ow + out_x)
                    with b.when(*edges):
                        for at, lanes in p.vectors():
                            with b.loop(min(lanes, p.used - at), "vector", "l") as l:
                                taken = [m[place, y * self.across + x, at + l] for place in range(PLACES)]
                                columns = [_halved(taken[k::4])[i] for k in range(4)]
                                channel = panel * p.used + (p.first + at) + l
                                total = _halved(columns)[j] + bias[panel, at + l]
                                b.store(c.out, (*pixel[:3], channel), c.epilogue(total, channel, pixel))
