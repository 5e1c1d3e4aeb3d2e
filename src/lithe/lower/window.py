"""The left matrix of a contraction: which input element a pixel meets at a step of its sum.

A window's taps come in runs of elements that lie side by side in memory: one run for each row of the window when its
columns are neighbours, else one for each tap. A dot product takes `group` elements at a step.

The input is read where it lies when nothing speaks against it. Otherwise rows of it are copied into a band first:
with padding around them, in the type that the products take. Words of several elements that begin anywhere (few
channels, such as 3) are made of neighbouring elements once, so that a step is one load still.
"""

from __future__ import annotations

from collections.abc import Iterator

from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import Buffer, Expr, constant
from lithe.lower.depthwise import FLIPPED, UNSIGNED_SHIFT
from lithe.types import INT8, INT16, INT32, UINT8, UINT16, DType

FLIP = FLIPPED - (1 << 32)  # as the int32 that it is


class Window:
    """What a contraction reads of its input, as elements (or words of `group`) of the type `left`.

    runs, run, steps  how many runs, elements in one, steps in one.
    flip              whether words are read as signed bytes and turned into unsigned ones, 128 more each.
    """

    def __init__(self, b: Builder, c: Convolution, left: DType, group: int, cache_bytes: int) -> None:
        self.b, self.c, self.left, self.group, self.cache_bytes = b, c, left, group, cache_bytes
        _, self.h, self.w, self.channels = c.x.shape
        _, oh, ow, _ = c.out.shape
        _, kh, kw, _ = c.w.shape
        (sy, sx), (dy, dx), (top, left_pad) = c.strides, c.dilation, c.padding
        joined = dx == 1 or kw == 1
        self.runs, self.run = (kh, kw * self.channels) if joined else (kh * kw, self.channels)
        self.across = 1 if joined else kw  # runs in a row of the window
        self.steps = -(-self.run // group)
        self.tall = (kh - 1) * dy + 1  # input rows that an output row meets
        self.needed = (ow - 1) * sx + (kw - 1) * dx + 1  # columns, with padding
        padded = top > 0 or left_pad > 0 or (oh - 1) * sy + self.tall > self.h or self.needed > self.w
        flips = left == UINT8 and c.x.dtype.name == "int8"
        same = c.x.dtype == left or flips
        self.aligned = self.channels % group == 0
        self.copied = padded or not same or not self.aligned
        self.flip = flips and not self.copied

    def band(self, multiple: int) -> int:
        """How many output rows to take at a time: a multiple whose input stays in cache, or all there are."""
        oh = self.c.out.shape[1]
        size = self.left.bytes if self.aligned else self.left.bytes * self.group
        bytes_a_row = self.needed * self.channels * size * self.c.strides[0]
        share = self.cache_bytes // 2 if self.copied else self.cache_bytes
        return min(oh, max(1, share // bytes_a_row // multiple) * multiple)

    def open(self, batch: Expr, top: Expr, rows: int) -> None:
        """Makes output rows `top` and on readable; rows of `element` count from there."""
        group, elements = self.group, self.elements(batch, top, rows)
        if group == 1:
            self.source = elements
        elif self.aligned:
            *outer, size = elements.shape
            self.source = elements.viewed((*outer, size // group), INT32)
        else:
            self.source = self.words(elements)

    def elements(self, batch: Expr, top: Expr, rows: int) -> Buffer:
        """What output rows `top` and on read, as elements [..., row, element of a row]; it begins at `at`."""
        c = self.c
        if not self.copied:
            self.at: tuple[Expr, ...] = (batch, top * c.strides[0])
            return c.x.viewed((c.x.shape[0], self.h, self.w * self.channels))
        band = self.copy(batch, top * c.strides[0] - c.padding[0], (rows - 1) * c.strides[0] + self.tall)
        self.at = (constant(0),)
        return band

    def copy(self, batch: Expr, first: Expr, height: int) -> Buffer:
        """Input rows from `first` on, which may lie outside, with padding left and right."""
        b, c, channels = self.b, self.c, self.channels
        oh, (top, left) = c.out.shape[1], c.padding
        size = self.needed * channels
        tail = 0 if self.aligned else (self.group - 1)
        band = b.local(self.left, (height, size + tail), "band")
        inner = min(self.w, self.needed - left) * channels
        after = size - left * channels - inner
        source = c.x.viewed((c.x.shape[0], self.h, self.w * channels))
        border = top > 0 or (oh - 1) * c.strides[0] + self.tall > self.h
        with b.loop(height, "parallel", "row") as row:
            y = first + row
            inside = [y >= 0, y < self.h] if border else []
            with b.when(*inside):
                for start, count in ((0, left * channels), (left * channels + inner, after + tail)):
                    with b.loop(count, "parallel") as i:
                        b.store(band, (row, i + start), self.padding_value())
                with b.loop(inner, "parallel") as i:
                    b.store(band, (row, i + left * channels), self.converted(source[batch, y, i]))
            if inside:
                with b.otherwise(), b.loop(size + tail, "parallel") as i:
                    b.store(band, (row, i), self.padding_value())
        return band

    def words(self, band: Buffer) -> Buffer:
        """[rows, elements]: word i holds elements i, i + 1, ... of its row."""
        b, group = self.b, self.group
        height, size = band.shape
        bits = self.left.bits
        raw = band.viewed(band.shape, UINT8 if bits == 8 else UINT16)
        words = b.local(INT32, (height, size - group + 1), "words")
        with b.loop(height, "parallel", "row") as row, b.loop(size - group + 1, "parallel") as i:
            word: Expr = raw[row, i].to(INT32)
            for j in range(1, group):
                word = word | (raw[row, i + j].to(INT32) << (bits * j))
            b.store(words, (row, i), word)
        return words

    def taps(self) -> Iterator[tuple[Expr, tuple[Expr, Expr]]]:
        """(number of a run, its row and column in the window), inside of the loops that run over them."""
        with (
            self.b.loop(self.runs // self.across, "serial", "ky") as ky,
            self.b.loop(self.across, "serial", "kx") as kx,
        ):
            yield ky * self.across + kx, (ky, kx)

    def element(self, y: Expr, x: Expr, tap: tuple[Expr, Expr], k: Expr) -> Expr:
        """What output pixel (y, x), counted from the open band, meets at step k of a run."""
        (sy, sx), (dy, dx) = self.c.strides, self.c.dilation
        *batch, start = self.at
        row, column = start + y * sy + tap[0] * dy, x * sx + tap[1] * dx
        step = self.channels if self.group == 1 or not self.aligned else self.channels // self.group
        stride = 1 if self.group == 1 or self.aligned else self.group
        value = self.source[(*batch, row, column * step + k * stride)]
        return value ^ constant(FLIP, INT32) if self.flip else value

    def converted(self, x: Expr) -> Expr:
        """An input element as the products take it."""
        if self.left == UINT8 and x.dtype.name == "int8":
            return x.to(UINT8) ^ 128
        if self.left == INT16:
            return x.to(INT16) - self.c.x_zero if self.c.x_zero else x.to(INT16)
        return x.to(self.left)

    def padding_value(self) -> Expr:
        if self.left == UINT8:
            return constant(self.c.x_zero + UNSIGNED_SHIFT[self.c.x.dtype.name], UINT8)
        if self.left == INT8:
            return constant(self.c.x_zero, INT8)
        return constant(0, self.left)
