"""Depthwise convolutions as loops: channels are the vector axis.

With a byte dot product: the rows of one input column are interleaved byte by byte into 32-bit words
(row 0, 1, 2, padding), one word a channel, so that one instruction does up to four taps of every lane. A
column is interleaved once and used by every output that reads it; padding is a word like any other.

Without one: the output is cut into regions in which the same taps fall inside the input, so that no tap
is tested and no padding is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import FMA, Buffer, Expr, Intrinsic, constant
from lithe.lower.panels import heights, is_heavy
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT32, UINT8

TOGETHER = 4  # outputs of a lane that are narrowed at once
MOST_TAPS = 12  # words of weights held in registers
FLIPPED = 0x80808080  # turns four signed bytes into unsigned ones, 128 more each
UNSIGNED_SHIFT = {"int8": 128, "uint8": 0}  # what turns a stored byte into an unsigned one


def is_depthwise(c: Convolution) -> bool:
    channels = c.x.shape[3]
    return c.groups == channels == c.out.shape[3] and c.w.values is not None and channels > 1


def rows_together(c: Convolution) -> int:
    """How many rows of outputs one word of four rows of inputs serves: 2 for windows of 3 rows and a stride of 1."""
    _, kh, kw, _ = c.w.shape
    if c.strides[0] > 1 or c.dilation[0] > 1:
        return 1
    groups = -(-kh // 4)
    return max(1, min(4 * groups - kh + 1, MOST_TAPS // (groups * kw), c.out.shape[1]))


def interleaved(b: Builder, c: Convolution, target: Target) -> None:
    """The schedule with byte dot products; activations and weights are 8-bit."""
    _, oh, _, _ = c.out.shape
    together = rows_together(c)
    whole, rest = divmod(oh, together)
    for first, count, rows in ((0, whole, together), (whole * together, rest, 1)):
        if count:
            _Interleaved(b, c, target, rows).emit(first, count)


class _Interleaved:
    """Writes blocks of `rows` rows of outputs that share their words."""

    def __init__(self, b: Builder, c: Convolution, target: Target, rows: int) -> None:
        assert c.w.values is not None
        assert target.dot is not None
        self.b, self.c, self.dot, self.rows = b, c, target.dot.instruction, rows
        _, kh, self.kw, _ = c.w.shape
        channels = c.out.shape[3]
        self.tall = kh + rows - 1  # rows of inputs
        self.groups = -(-self.tall // 4)
        self.flip = FLIPPED if UNSIGNED_SHIFT[c.x.dtype.name] else 0
        self.padding = c.x_zero & 255
        weights, bias, self.zero = fold_byte_weights(c, UNSIGNED_SHIFT[c.x.dtype.name])
        quads = np.zeros((rows, self.groups * 4, self.kw, channels), np.int8)
        ones = np.zeros((rows, self.groups * 4), np.int8)
        for row in range(rows):
            quads[row, row : row + kh] = weights[:, :, :, 0].transpose(1, 2, 0)
            ones[row, row : row + kh] = 1
        packed = quads.reshape(rows, self.groups, 4, self.kw, channels).transpose(0, 1, 3, 4, 2)
        self.taps = b.constant(np.ascontiguousarray(packed).view(np.int32)[..., 0], "weights")
        self.ones = ones.view(np.int32)
        self.start = b.constant(bias, "bias")

    def emit(self, first_row: int, count: int) -> None:
        """Blocks from a row of outputs on."""
        b, c = self.b, self.c
        n, _, ow, channels = c.out.shape
        _, h, w, _ = c.x.shape
        (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
        width = (ow - 1) * sx + (self.kw - 1) * dx + 1
        empty = self.word([constant(0, UINT8)] * 4, [])
        with b.loop(n, "parallel") as batch, b.loop(count, "parallel", "y") as block:
            words = b.local(INT32, (width, self.groups, channels), "columns")
            for first, columns in ((0, left), (left + w, max(0, width - left - w))):
                with b.nest((columns,), name="edge") as (column,):
                    for group in range(self.groups):
                        with b.loop(channels, "parallel", "c") as ch:
                            b.store(words, (column + first, group, ch), empty)
            above = first_row * sy - top
            bands = regions(h, count, self.tall, self.rows * sy, dy, -above)
            for start, blocks, inside in bands:
                with b.when(*[block >= start, block < start + blocks] if len(bands) > 1 else []):
                    with b.loop(min(w, width - left), "serial", "column") as column:
                        for group in range(self.groups):
                            with b.loop(channels, "parallel", "c") as ch:
                                rows = [
                                    c.x[batch, block * (self.rows * sy) + (4 * group + j) * dy + above, column, ch]
                                    for j in range(4)
                                ]
                                here = [k - 4 * group for k in inside]
                                b.store(words, (column + left, group, ch), self.word(rows, here))
            with b.loop(channels, "parallel", "c") as ch:
                self.outputs(words, batch, block * self.rows + first_row, ch)

    def word(self, rows: Sequence[Expr], inside: Sequence[int]) -> Expr:
        """The bytes of four rows; a row outside of the input, or that no output reads, is padding's."""
        outside = sum(self.padding << (8 * j) for j in range(4) if j not in inside)
        total: Expr = constant(_signed(outside ^ self.flip), INT32)
        for j in range(4):
            if j in inside:
                value = rows[j].to(UINT8).to(INT32)
                total = total ^ (value << (8 * j) if j else value)
        return total

    def outputs(self, words: Buffer, batch: Expr, first: Expr, ch: Expr) -> None:
        """All outputs of a block in some channels."""
        b, c = self.b, self.c
        _, oh, ow, _ = c.out.shape
        places = [(row, group, kx) for row in range(self.rows) for group in range(self.groups) for kx in range(self.kw)]
        held = b.local(INT32, (len(places),), "taps")
        for i, (row, group, kx) in enumerate(places):
            b.store(held, i, self.taps[row, group, kx, ch])
        together = 1 if is_heavy(c) else max(1, TOGETHER // self.rows)
        whole, rest = divmod(ow, together)
        for start, count, columns in ((0, whole, together), (whole * together, 1, rest)):
            if count and columns:
                with b.loop(count, "serial", "x") as block, b.loop(columns, "unrolled", "column") as column:
                    x = block * columns + (column + start)
                    for row in range(self.rows):
                        total: Expr = self.start[ch]
                        sums: Expr = constant(0, INT32)
                        for i, (own, group, kx) in enumerate(places):
                            if own != row or not self.ones[row, group]:
                                continue
                            word = words[x * c.strides[1] + kx * c.dilation[1], group, ch]
                            total = Intrinsic(self.dot, (total, word, held[i]))
                            if self.zero:
                                ones = constant(int(self.ones[row, group]), INT32)
                                sums = Intrinsic(self.dot, (sums, word, ones))
                        total = total - sums * self.zero if self.zero else total
                        y = first + row
                        pixel = Pixel(batch, y, x, (batch * oh + y) * ow + x)
                        b.store(c.out, (batch, y, x, ch), c.epilogue(total, ch, pixel))


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def fold_byte_weights(c: Convolution, shift: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(signed weights, bias with everything constant folded in, what multiplies the sum of activations).

    With au = a + shift (unsigned) and ws = w - ws_shift (signed):
    sum (a - az)(w - wz) = sum au ws - z sum au - (shift + az) sum ws + K (shift + az) z,  z = wz - ws_shift
    """
    assert c.w.values is not None
    down = 128 if c.w.dtype.name == "uint8" else 0
    weights = c.w.values.astype(np.int64) - down
    zero = c.w_zero - down
    offset = shift + c.x_zero
    bias = np.zeros(c.out.shape[3], np.int64) if c.bias is None else np.asarray(c.bias.values, np.int64)
    terms = weights[0].size
    folded = bias - offset * weights.sum((1, 2, 3)) + terms * offset * zero
    return weights.astype(np.int8), folded.astype(np.uint64).astype(np.uint32).view(np.int32), zero


def regions(
    size: int, count: int, taps: int, stride: int, dilation: int, before: int
) -> list[tuple[int, int, list[int]]]:
    """Output positions grouped by the taps that fall inside: [(first, how many, taps)].

    >>> regions(5, 5, 3, 1, 1, 1)
    [(0, 1, [1, 2]), (1, 3, [0, 1, 2]), (4, 1, [0, 1])]
    """
    result: list[tuple[int, int, list[int]]] = []
    for o in range(count):
        inside = [k for k in range(taps) if 0 <= o * stride + k * dilation - before < size]
        if result and result[-1][2] == inside:
            first, n, _ = result[-1]
            result[-1] = (first, n + 1, inside)
        else:
            result.append((o, 1, inside))
    return result


def by_regions(b: Builder, c: Convolution, target: Target) -> None:
    """The schedule without dot products: float, or integers widened to 32 bits.

    Outputs are made in blocks of neighbours that share what they load. All channels of a block come before the next
    block: each tap's elements then follow each other in memory, which the processor fetches ahead, where neighbours in
    a picture with many channels are so far apart that they push each other out of the nearest cache.
    """
    assert c.w.values is not None
    n, oh, ow, channels = c.out.shape
    _, h, w, _ = c.x.shape
    _, kh, kw, _ = c.w.shape
    (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
    tall, wide = (2, 2) if kh * kw <= 9 else (2, 1) if kh * kw <= 25 else (1, 1)  # the fastest on Zen 4
    dtype = np.float32 if c.accumulator == FLOAT32 else np.int32
    weights = (c.w.values.astype(np.int64) - c.w_zero) if c.accumulator != FLOAT32 else c.w.values
    taps = b.constant(weights[:, :, :, 0].transpose(1, 2, 0).astype(dtype), "weights")
    bias = c.bias if c.bias is not None else b.constant(np.zeros(channels, dtype), "bias")
    whole, rest = divmod(oh, tall)
    for first_row, count, rows in ((0, whole, tall), (whole * tall, rest, 1)):
        bands = regions(h, count, (rows - 1) * sy + (kh - 1) * dy + 1, rows * sy, 1, top - first_row * sy)
        with b.loop(n, "parallel") as batch, b.loop(count, "parallel", "y") as block:
            y = block * rows + first_row
            for start, blocks, inside in bands:
                with b.when(*[block >= start, block < start + blocks] if len(bands) > 1 else []):
                    for first, columns, kxs in regions(w, ow, kw, sx, dx, left):
                        order = [(ky, kx) for kx in kxs for ky in range(kh)]
                        for x, width in _blocks(b, first, columns, wide):
                            with b.loop(channels, "parallel", "c") as ch:
                                held = b.local(c.accumulator, (max(1, len(order)),), "taps")
                                for i, (ky, kx) in enumerate(order):
                                    b.store(held, i, taps[ky, kx, ch])
                                begin = b.variable(bias[ch], "start")
                                downs = {row * sy + ky * dy for row in range(rows) for ky in range(kh)} & {*inside}
                                acrosses = {column * sx + kx * dx for column in range(width) for kx in kxs}
                                taken = {  # once for all outputs of the block
                                    (i, j): c.x[batch, y * sy + (i - top), x * sx + (j - left), ch].to(c.accumulator)
                                    for i, j in product(sorted(downs), sorted(acrosses))
                                }
                                for column, row in product(range(width), range(rows)):
                                    total: Expr = begin[()]
                                    for i, (ky, kx) in enumerate(order):
                                        place = row * sy + ky * dy, column * sx + kx * dx
                                        if place in taken:
                                            total = _added(c, target, total, taken[place], held[i])
                                    pixel = Pixel(batch, y + row, x + column, (batch * oh + y + row) * ow + x + column)
                                    b.store(c.out, (*pixel[:3], ch), c.epilogue(total, ch, pixel))


def _blocks(b: Builder, first: int, columns: int, most: int) -> Iterator[tuple[Expr, int]]:
    """(first column, columns) of blocks of at most so many, inside of the loops that run over them."""
    done = first
    for width, times in heights(columns, most):
        with b.loop(times, "serial", "x") as block:
            yield block * width + done, width
        done += width * times


def _added(c: Convolution, target: Target, total: Expr, a: Expr, tap: Expr) -> Expr:
    a = a - c.x_zero if c.x_zero else a
    if c.accumulator == FLOAT32 and target.fma:
        return Intrinsic(FMA, (a, tap, total))
    return total + a * tap
