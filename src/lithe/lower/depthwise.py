"""Depthwise convolutions as loops: channels are the vector axis.

With a byte dot product: the rows of one input column are interleaved byte by byte into 32-bit words
(row 0, 1, 2, padding), one word a channel, so that one instruction does up to four taps of every lane. A
column is interleaved once and used by every output that reads it; padding is a word like any other.

Without one: the output is cut into regions in which the same taps fall inside the input, so that no tap
is tested and no padding is read.
"""

from __future__ import annotations

import numpy as np

from lithe.ir.build import Builder, Convolution, Pixel
from lithe.ir.loops import FMA, Expr, Intrinsic, constant
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT32, UINT8

FLIPPED = 0x80808080  # turns four signed bytes into unsigned ones, 128 more each
UNSIGNED_SHIFT = {"int8": 128, "uint8": 0}  # what turns a stored byte into an unsigned one


def is_depthwise(c: Convolution) -> bool:
    channels = c.x.shape[3]
    return c.groups == channels == c.out.shape[3] and c.w.values is not None and channels > 1


def interleaved(b: Builder, c: Convolution, target: Target) -> None:
    """The schedule with byte dot products; activations and weights are 8-bit."""
    assert c.w.values is not None
    assert target.dot is not None
    n, oh, ow, channels = c.out.shape
    _, h, w, _ = c.x.shape
    _, kh, kw, _ = c.w.shape
    (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
    groups = -(-kh // 4)
    width = (ow - 1) * sx + (kw - 1) * dx + 1
    shift = UNSIGNED_SHIFT[c.x.dtype.name]
    weights, bias, zero = fold_byte_weights(c, shift)
    quads = np.zeros((groups * 4, kw, channels), np.int8)
    quads[:kh] = weights[:, :, :, 0].transpose(1, 2, 0)
    packed = quads.reshape(groups, 4, kw, channels).transpose(0, 2, 3, 1)
    taps = b.constant(np.ascontiguousarray(packed).view(np.int32)[..., 0], "weights")
    start = b.constant(bias, "bias")
    flip = FLIPPED if shift else 0
    padding = c.x_zero & 255
    ones = [sum(1 << (8 * j) for j in range(min(4, kh - 4 * group))) for group in range(groups)]

    def word(batch: Expr, y: Expr, column: Expr, group: int, channel: Expr, inside: list[int]) -> Expr:
        """The bytes of four rows; a row that no output reads is zero padding's."""
        outside = sum(padding << (8 * j) for j in range(4) if 4 * group + j not in inside)
        total: Expr = constant(_signed(outside ^ flip), INT32)
        for j in range(4):
            ky = 4 * group + j
            if ky in inside:
                value = c.x[batch, y * sy + ky * dy - top, column, channel].to(UINT8).to(INT32)
                total = total ^ (value << (8 * j) if j else value)
        return total

    empty = [sum(padding << (8 * j) for j in range(4)) ^ flip] * groups
    with b.loop(n, "parallel") as batch, b.loop(oh, "parallel", "y") as y:
        words = b.local(INT32, (width, groups, channels), "columns")
        for first, count in ((0, left), (left + w, max(0, width - left - w))):
            with b.nest((count,), name="edge") as (column,):
                for group in range(groups):
                    with b.loop(channels, "parallel", "c") as ch:
                        b.store(words, (column + first, group, ch), constant(_signed(empty[group]), INT32))
        bands = regions(h, oh, kh, sy, dy, top)
        for first_y, rows, inside in bands:
            with b.when(*[y >= first_y, y < first_y + rows] if len(bands) > 1 else []):
                with b.loop(min(w, width - left), "serial", "column") as column:
                    for group in range(groups):
                        with b.loop(channels, "parallel", "c") as ch:
                            b.store(words, (column + left, group, ch), word(batch, y, column, group, ch, inside))
        with b.loop(channels, "parallel", "c") as ch:
            held = b.local(INT32, (groups * kw,), "taps")
            for group in range(groups):
                for kx in range(kw):
                    b.store(held, group * kw + kx, taps[group, kx, ch])
            with b.loop(ow, "serial", "x") as x:
                total: Expr = start[ch]
                sums: Expr = constant(0, INT32)
                for group in range(groups):
                    for kx in range(kw):
                        column_word = words[x * sx + kx * dx, group, ch]
                        total = Intrinsic(target.dot.instruction, (total, column_word, held[group * kw + kx]))
                        if zero:
                            sums = Intrinsic(target.dot.instruction, (sums, column_word, constant(ones[group], INT32)))
                total = total - sums * zero if zero else total
                b.store(c.out, (batch, y, x, ch), c.epilogue(total, ch, Pixel(batch, y, x, (batch * oh + y) * ow + x)))


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
    """The schedule without dot products: float, or integers widened to 32 bits."""
    assert c.w.values is not None
    n, oh, ow, channels = c.out.shape
    _, h, w, _ = c.x.shape
    _, kh, kw, _ = c.w.shape
    (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
    floating = c.accumulator == FLOAT32
    wide = np.float32 if floating else np.int32
    weights = (c.w.values.astype(np.int64) - c.w_zero) if not floating else c.w.values
    taps = b.constant(weights[:, :, :, 0].transpose(1, 2, 0).astype(wide), "weights")
    bias = c.bias if c.bias is not None else b.constant(np.zeros(channels, wide), "bias")
    bands = regions(h, oh, kh, sy, dy, top)
    with b.loop(n, "parallel") as batch, b.loop(oh, "parallel", "y") as y:
        for first_y, rows, kys in bands:
            with b.when(*[y >= first_y, y < first_y + rows] if len(bands) > 1 else []):
                for first_x, columns, kxs in regions(w, ow, kw, sx, dx, left):
                    with b.loop(channels, "parallel", "c") as ch:
                        held = b.local(c.accumulator, (max(1, len(kys) * len(kxs)),), "taps")
                        order = [(ky, kx) for kx in kxs for ky in kys]
                        for i, (ky, kx) in enumerate(order):
                            b.store(held, i, taps[ky, kx, ch])
                        start = b.variable(bias[ch], "start")
                        with b.loop(columns, "serial", "x") as column:
                            x = column + first_x
                            total: Expr = start[()]
                            for i, (ky, kx) in enumerate(order):
                                a = c.x[batch, y * sy + ky * dy - top, x * sx + kx * dx - left, ch].to(c.accumulator)
                                a = a - c.x_zero if c.x_zero else a
                                if floating and target.fma:
                                    total = Intrinsic(FMA, (a, held[i], total))
                                else:
                                    total = total + a * held[i]
                            pixel = Pixel(batch, y, x, (batch * oh + y) * ow + x)
                            b.store(c.out, (batch, y, x, ch), c.epilogue(total, ch, pixel))
