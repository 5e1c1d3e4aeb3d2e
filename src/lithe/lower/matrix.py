"""Products of computed matrices: attention, and layers whose weights are computed.

What cannot be read as vectors (turned matrices, other types) is packed while the program runs, once a batch, into the
layout that constant weights have. Integers of 8 bits lose their zero points on the way and become 16-bit words.

    for batch:
      [copy the left matrix]  [pack the right one, panel by panel]
      for panel of columns:
        for tile of rows:
          sums = 0;  for k: sums[r][n] += left[r][k] * right[k][n];  store epilogue(sums)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from lithe.ir.build import Builder, Convolution, MatrixProduct, Pixel
from lithe.ir.loops import Buffer, Expr, Kind, constant, nodes
from lithe.lower.dots import float_arithmetic, word_arithmetic
from lithe.lower.panels import LARGEST_EPILOGUE, Panel, flattened, heights, panels, tile_shape
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT16, INT32


def fits(p: MatrixProduct) -> bool:
    """Whether `Matrices` can write it: floats, or integers whose differences to zero points have 16 bits."""
    if 0 in p.out.shape:
        return False
    kinds = [t.dtype for t in (p.x, p.y)]
    if p.accumulator == FLOAT32:
        return all(k.is_float and k.bits <= 32 for k in kinds)
    bytes_ = [k.is_integer and k.bits == 8 for k in kinds]
    words = kinds[0] == INT16 and p.zeros[0] == 0
    return p.accumulator == INT32 and bytes_[1] and (bytes_[0] or words)


def as_product(c: Convolution) -> MatrixProduct | None:
    """A pointwise convolution as a product of matrices, where its weights are computed."""
    column = flattened(c)
    if column is c or c.w.values is not None or c.groups != 1 or c.block:
        return None
    (_, rows, _, depth), outputs = column.x.shape, c.out.shape[3]

    def epilogue(total: Expr, o: Expr, place: tuple[Expr, ...]) -> Expr:
        total = total if c.bias is None else total + c.bias[o]
        return column.epilogue(total, o, Pixel(constant(0), place[0], constant(0), place[0]))

    return MatrixProduct(
        c.x.viewed((rows, depth)), c.w.viewed((outputs, depth)), c.out.viewed((rows, outputs)), (False, True),
        c.accumulator, epilogue, (c.x_zero, c.w_zero),
    )  # fmt: skip


def as_convolution(b: Builder, p: MatrixProduct) -> Convolution | None:
    """A product with one constant matrix on the right as a pointwise convolution, whose weights are packed already."""
    *batch, m, outputs = p.out.shape
    values, count = p.y.values, math.prod((*batch, m))
    if values is None or p.turned[0] or values.size != p.depth * outputs or p.x.size != count * p.depth:
        return None
    w = values.reshape(p.y.shape[-2:]) if p.turned[1] else values.reshape(p.y.shape[-2:]).T

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        place, rest = [], pixel.row
        for size in reversed((*batch, m)):
            place.append(rest % size)
            rest = rest // size
        return p.epilogue(total, o, tuple(reversed(place)))

    return Convolution(
        p.x.viewed((count, 1, 1, p.depth)), b.constant(w.reshape(outputs, 1, 1, p.depth), "weights"), None,
        p.out.viewed((count, 1, 1, outputs)), (1, 1), (1, 1), (0, 0), 1, p.accumulator, epilogue, *p.zeros,
    )  # fmt: skip


def exact(columns: int, lanes: int) -> tuple[int, ...]:
    """Vectors that hold so many columns and no more.

    >>> exact(45, 16)
    (16, 16, 8, 4, 1)
    """
    found = []
    while columns:
        while lanes > columns:
            lanes //= 2
        found.append(lanes)
        columns -= lanes
    return tuple(found)


class Matrices:
    """Writes one product."""

    def __init__(self, b: Builder, p: MatrixProduct, target: Target) -> None:
        self.b, self.p = b, p
        self.arithmetic = float_arithmetic(target) if p.accumulator == FLOAT32 else word_arithmetic(target)
        *self.batch, self.rows, self.columns = p.out.shape
        self.steps = -(-p.depth // self.arithmetic.group)
        most, width = tile_shape(1, self.rows, self.columns, target.lanes, target.registers, target.across)
        self.most = most
        cut = panels(self.columns, width, target.lanes)
        self.panels = [replace(part, widths=exact(part.used, target.lanes)) for part in cut]
        self.in_place = [t.dtype == FLOAT32 and not turned for t, turned in zip((p.x, p.y), p.turned, strict=True)]

    def emit(self) -> None:
        b = self.b
        with b.nest(tuple(self.batch), "parallel", "batch") as batch:
            left = self.left_rows(batch)
            for panel in self.panels:
                right = self.right_panels(batch, panel)
                with b.loop(panel.count, "parallel", "panel") as number:
                    done = 0
                    for height, count in heights(self.rows, self.most):
                        with b.loop(count, "parallel", "tile") as tile:
                            self.tile(height, panel, number, batch, tile * height + done, left, right)
                        done += height * count

    def left_rows(self, batch: tuple[Expr, ...]) -> Callable[[Expr, Expr], Expr]:
        """(row, step) -> what the step reads."""
        b, p, a = self.b, self.p, self.arithmetic
        if self.in_place[0]:
            return lambda m, k: p.left(batch, m, k)
        copy = b.local(a.left, (self.rows, self.steps * a.group), "left")
        with b.loop(self.rows, "parallel", "row") as m:
            with b.loop(p.depth, "parallel", "k") as k:
                b.store(copy, (m, k), p.left(batch, m, k).to(a.left))
            with b.loop(self.steps * a.group - p.depth) as k:
                b.store(copy, (m, k + p.depth), constant(0, a.left))
        words = a.read(copy, self.rows)
        return lambda m, k: words[m, k]

    def right_panels(self, batch: tuple[Expr, ...], panel: Panel) -> Callable[[Expr, Expr, Expr], Expr]:
        """(panel, step, column in the panel) -> the lanes of the step."""
        b, p, a = self.b, self.p, self.arithmetic
        if self.in_place[1]:
            return lambda number, k, n: p.right(batch, k, number * panel.used + panel.first + n)
        packed = b.local(a.word, (panel.count, self.steps, panel.used), "right")
        whole = p.depth // a.group
        with b.loop(panel.count, "parallel", "panel") as number:
            for first, count, real in ((0, whole, a.group), (whole, 1, p.depth - whole * a.group)):
                if not real:
                    continue
                with b.loop(count, "parallel", "k") as step:
                    self.pack(packed, batch, panel, number, step + first, real)
        return lambda number, k, n: packed[number, k, n]

    def pack(self, packed: Buffer, batch: tuple[Expr, ...], panel: Panel, number: Expr, step: Expr, real: int) -> None:
        """One word of every column of a panel, of which `real` elements are in the matrix."""
        b, p, a = self.b, self.p, self.arithmetic
        at = 0
        for lanes in panel.widths:
            with b.loop(lanes, "vector", "l") as l:
                column = number * panel.used + (panel.first + at) + l
                parts = [p.right(batch, step * a.group + j, column).to(a.word) for j in range(real)]
                word = parts[0]
                if a.group > 1:
                    word = word & ((1 << 16) - 1)
                    word = word | parts[1] << 16 if real > 1 else word
                b.store(packed, (number, step, l + at), word)
            at += lanes

    def tile(
        self, height: int, panel: Panel, number: Expr, batch: tuple[Expr, ...], row: Expr,
        left: Callable[[Expr, Expr], Expr], right: Callable[[Expr, Expr, Expr], Expr],
    ) -> None:  # fmt: skip
        b, p, a = self.b, self.p, self.arithmetic
        sums = b.local(a.sums, (height, panel.used), "sums")

        def each(write: Callable[[Expr, Expr], None], kind: Kind = "unrolled") -> None:
            with b.loop(height, kind, "r") as r:
                at = 0
                for lanes in panel.widths:
                    with b.loop(lanes, "vector", "l") as l:
                        write(r, l + at)
                    at += lanes

        each(lambda r, n: b.store(sums, (r, n), constant(0, a.sums)))
        with b.loop(self.steps, "serial", "k") as k:
            each(lambda r, n: b.store(sums, (r, n), a.step(sums[r, n], left(row + r, k), right(number, k, n))))

        heavy, totals = self.is_heavy(), sums
        if heavy:  # once in a loop, from memory, not a copy of it for every row
            totals = b.local(a.sums, sums.shape, "finished")
            each(lambda r, n: b.store(totals, (r, n), sums[r, n]))

        def finish(r: Expr, n: Expr) -> None:
            column = number * panel.used + panel.first + n
            b.store(p.out, (*batch, row + r, column), p.epilogue(totals[r, n], column, (*batch, row + r)))

        each(finish, "serial" if heavy else "unrolled")

    def is_heavy(self) -> bool:
        """Whether the epilogue is too much to be written out for every row of a tile."""
        origin = [constant(0)] * (len(self.batch) + 1)
        value = self.p.epilogue(constant(0, self.arithmetic.sums), constant(0), tuple(origin))
        return len([*nodes((value,))]) > LARGEST_EPILOGUE
