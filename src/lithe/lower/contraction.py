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
from dataclasses import dataclass, replace

import numpy as np

from lithe.ir.build import Builder, Convolution, MatrixProduct, Pixel, Schedule, plain
from lithe.ir.loops import FMA, Buffer, Expr, Intrinsic, Kind, constant, nodes
from lithe.lower.depthwise import UNSIGNED_SHIFT, by_regions, fold_byte_weights, interleaved, is_depthwise
from lithe.lower.window import Window
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT16, INT32, INT64, UINT8, DType

LARGEST_WINDOW = 7  # depthwise windows above this would unroll into too much code
LARGEST_EPILOGUE = 40  # expressions of an epilogue that is written out for every pixel of a tile
LARGEST_UNROLLED = 4  # steps of a row of a window that are written out
FEW = 4  # lanes of a sum that is the same in all of them


def schedule(target: Target) -> Schedule:
    """How contractions are written for a target."""

    from lithe.lower.direct import Direct, is_direct, narrowed  # here, because it is made of what this file holds
    from lithe.lower.matrix import Matrices, as_convolution, as_product, fits
    from lithe.lower.sparse import Sparse, pays

    def write(b: Builder, c: Convolution | MatrixProduct) -> None:
        c = c if isinstance(c, Convolution) else as_convolution(b, c) or c
        product = as_product(c) if isinstance(c, Convolution) else c
        if product is not None and fits(product):
            Matrices(b, product, target).emit()
        elif isinstance(c, Convolution) and is_direct(c):
            convolve(b, c)
        else:
            plain(b, c)

    def convolve(b: Builder, c: Convolution) -> None:
        if c.accumulator == INT64 and is_depthwise(c) and narrowed(b, c) is not c:
            by_regions(b, narrowed(b, c), target)
        elif not _dtypes_fit(c):
            Direct(b, c, target).emit()
        elif is_depthwise(c) and max(c.w.shape[1:3]) <= LARGEST_WINDOW:
            byte = c.x.dtype.name in UNSIGNED_SHIFT
            dots = target.dot is not None and target.dot.left == UINT8
            (interleaved if byte and dots else by_regions)(b, c, target)
        elif pays(c, target):
            Sparse(b, c, target).emit()
        elif c.groups == 1:
            Product(b, flattened(c), target).emit()
        else:
            Direct(b, c, target).emit()

    return write


def _dtypes_fit(c: Convolution) -> bool:
    kinds = (c.x.dtype.name, c.w.dtype.name, c.accumulator.name)
    return kinds in (
        ("float32", "float32", "float32"), ("int8", "int8", "int32"), ("uint8", "uint8", "int32"),
        ("uint8", "int8", "int32"),
    )  # fmt: skip


def flattened(c: Convolution) -> Convolution:
    """A pointwise convolution as one of M x 1 pixels of one picture; any other as it is."""
    n, oh, ow, columns = c.out.shape
    _, h, w, channels = c.x.shape
    if c.w.shape[1:3] != (1, 1) or c.strides != (1, 1) or (oh, ow) != (h, w) or c.padding != (0, 0):
        return c
    rows = n * oh * ow

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        row = pixel.row
        return c.epilogue(total, o, Pixel(row // (oh * ow), row // ow % oh, row % ow, row))

    return replace(c, x=c.x.viewed((1, rows, 1, channels)), out=c.out.viewed((1, rows, 1, columns)), epilogue=epilogue)


@dataclass(frozen=True)
class Panel:
    """Neighbouring panels of one width: `count` panels of `used` columns, in vectors of these `widths`."""

    first: int
    count: int
    used: int
    widths: tuple[int, ...]

    @property
    def room(self) -> int:
        return sum(self.widths)


def widths(columns: int, lanes: int) -> tuple[int, ...]:
    """Vectors that hold so many columns; the last one may be narrower.

    >>> widths(40, 16), widths(3, 16)
    ((16, 16, 8), (4,))
    """
    whole, rest = divmod(columns, lanes)
    narrow = next((n for n in (4, 8) if rest <= n < lanes), lanes)
    return (lanes,) * whole + ((narrow,) if rest else ())


def panels(columns: int, width: int, lanes: int) -> list[Panel]:
    """Output channels cut into panels.

    >>> panels(100, 32, 16)
    [Panel(first=0, count=3, used=32, widths=(16, 16)), Panel(first=96, count=1, used=4, widths=(4,))]
    """
    whole, rest = divmod(columns, width)
    result = [Panel(0, whole, width, widths(width, lanes))] if whole else []
    if rest:
        result.append(Panel(whole * width, 1, rest, widths(rest, lanes)))
    return result


def heights(rows: int, most: int) -> list[tuple[int, int]]:
    """Rows shared out to tiles of at most two neighbouring heights: [(height, how many)].

    >>> heights(49, 12)
    [(10, 4), (9, 1)]
    """
    tiles = -(-rows // most)
    low, extra = divmod(rows, tiles)
    return [(h, n) for h, n in ((low + 1, extra), (low, tiles - extra)) if n]


def equal_bands(rows: int, most: int) -> int:
    """Rows of a band: at most so many, and where there are several bands, such that threads have equal shares of them.

    >>> equal_bands(112, 40), equal_bands(112, 112), equal_bands(113, 40)
    (28, 112, 40)
    """
    least = -(-rows // most)
    equal = (n for n in range(least, 2 * least + 4) if n % 4 == 0 and rows % n == 0)
    count = next(equal, 1) if least > 1 else 1
    return rows // count if count > 1 else most


def rectangles(rows: int, columns: int, most: int) -> list[tuple[int, int, int]]:
    """Tiles of at most so many pixels that cover rows x columns of them: [(rows, columns, how many)].

    >>> rectangles(7, 7, 14), rectangles(4, 28, 12)
    ([(2, 7, 3), (1, 7, 1)], [(1, 10, 4), (1, 9, 8)])
    """
    if columns > most:
        return [(1, w, n * rows) for w, n in heights(columns, most)]
    return [(h, columns, n) for h, n in heights(rows, most // columns)]


def tile_shape(rows: int, columns: int, n: int, lanes: int, registers: int) -> tuple[int, int]:
    """(pixels, output channels) of the tile with the least padded work whose sums fit the registers."""
    best, least = (1, lanes), float("inf")
    for vectors in (1, 2, 3, 4) if rows * columns > 1 else (1, 2, 4, 8):
        most = min((registers - vectors - 2) // vectors, 24)
        if most < 1:
            continue
        cost = 0.0
        for p in panels(n, vectors * lanes, lanes):
            across = sum(max(w / lanes, 0.5) for w in p.widths)
            for h, w, count in rectangles(rows, columns, most):
                cost += count * p.count * (h * w * across + 0.55 * (h * w + len(p.widths)))
        if cost < least:
            best, least = (most, vectors * lanes), cost
    return best


class Product:
    """Writes one contraction."""

    def __init__(self, b: Builder, c: Convolution, target: Target) -> None:
        self.b, self.c, self.target = b, c, target
        self.columns = c.out.shape[3]
        self.floating = c.accumulator == FLOAT32
        self.dot = target.float_dot if self.floating else target.dot
        # what one element of the left matrix is
        self.left: DType = self.dot.left if self.dot else FLOAT32 if self.floating else INT16
        self.window = Window(b, c, self.left, self.dot.group if self.dot else 1, target.cache_bytes)
        self.lanes = target.lanes
        origin = Pixel(*[constant(0)] * 4)
        self.heavy = len([*nodes((c.epilogue(constant(0, c.accumulator), constant(0), origin),))]) > LARGEST_EPILOGUE
        self.pack()
        sums = 1 if self.zero else 0
        registers = target.registers - (1 if self.window.flip else 0) - sums
        self.most, self.width = tile_shape(c.out.shape[1], c.out.shape[2], self.columns, self.lanes, registers)
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
            self.weights = c.w.values.astype(self.left.numpy)
            self.bias = np.zeros(self.columns, np.float32) if c.bias is None else np.asarray(c.bias.values)
        elif self.left == UINT8:
            self.weights, self.bias, self.zero = fold_byte_weights(c, UNSIGNED_SHIFT[c.x.dtype.name])
        else:
            self.weights = (c.w.values.astype(np.int16) - c.w_zero).astype(np.int16)
            self.bias = np.zeros(self.columns, np.int32) if c.bias is None else np.asarray(c.bias.values)

    def panel_constants(self, p: Panel) -> tuple[Buffer, Buffer]:
        """(weights [count, runs, steps, room] as words, bias [count, room])."""
        word = np.int32 if self.dot else np.float32 if self.floating else np.int16
        group, runs, steps = self.window.group, self.window.runs, self.window.steps
        rows = np.zeros((p.count, p.room, runs, steps * group), self.weights.dtype)
        bias = np.zeros((p.count, p.room), self.bias.dtype)
        stop = p.first + p.count * p.used
        rows[:, : p.used, :, : self.window.run] = self.weights[p.first : stop].reshape(p.count, p.used, runs, -1)
        bias[:, : p.used] = self.bias[p.first : stop].reshape(p.count, p.used)
        packed = rows.reshape(p.count, p.room, runs, steps, group).transpose(0, 2, 3, 1, 4)
        words = np.ascontiguousarray(packed).view(word)[..., 0]
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
            for at, lanes in self.vectors(p):
                with b.loop(lanes, "vector", "l") as l:
                    b.store(sums, (y, x, at + l), bias[panel, at + l])
            if extra is not None:
                with b.loop(FEW, "vector", "l") as l:
                    b.store(extra, (y, x, l), constant(0, INT32))
        for run, tap in window.taps():
            with b.loop(window.steps, "unrolled" if window.steps <= LARGEST_UNROLLED else "serial", "k") as k:
                for y, x in self.pixels(height, width):
                    a = window.element(row + y, column + x, tap, k)
                    for at, lanes in self.vectors(p):
                        with b.loop(lanes, "vector", "l") as l:
                            total = sums[y, x, at + l]
                            b.store(sums, (y, x, at + l), self.step(total, a, weights[panel, run, k, at + l]))
                    if extra is not None:
                        with b.loop(FEW, "vector", "l") as l:
                            b.store(extra, (y, x, l), self.step(extra[y, x, l], a, self.ones[k]))
        if extra is not None:
            for y, x in self.pixels(height, width):
                row_number = (batch * oh + top + row + y) * ow + column + x
                b.store(self.pixel_sums, row_number, extra[y, x, 0] * self.zero)
        if self.heavy:  # once in a loop, from memory, not a copy of it for every pixel
            memory = b.local(c.accumulator, (height, width, p.room), "finished")
            for y, x in self.pixels(height, width):
                for at, lanes in self.vectors(p):
                    with b.loop(lanes, "vector", "l") as l:
                        b.store(memory, (y, x, at + l), sums[y, x, at + l])
            sums = memory
        for y, x in self.pixels(height, width, "serial" if self.heavy else "unrolled"):
            out_y, out_x = top + row + y, column + x
            pixel = Pixel(batch, out_y, out_x, (batch * oh + out_y) * ow + out_x)
            for at, lanes in self.vectors(p):
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

    @staticmethod
    def vectors(p: Panel) -> Iterator[tuple[int, int]]:
        """(first column, lanes) of each vector of a panel."""
        at = 0
        for lanes in p.widths:
            yield at, lanes
            at += lanes

    def step(self, total: Expr, a: Expr, w: Expr) -> Expr:
        if self.dot is not None:
            if not self.dot.accumulates:
                return total + Intrinsic(self.dot.instruction, (a, w))
            return Intrinsic(self.dot.instruction, (total, a, w))
        if self.floating:
            return Intrinsic(FMA, (a, w, total)) if self.target.fma else total + a * w
        return total + a.to(INT32) * w.to(INT32)
