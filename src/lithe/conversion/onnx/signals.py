"""What ONNX's operators are in builtins: transforms of signals, as products with matrices of sines and cosines."""

from __future__ import annotations

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.onnx.reductions import along_one_of
from lithe.conversion.parts import pad, sliced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value, where
from lithe.types import FLOAT32


def transform(n: int, m: int, parts: int, inverse: bool = False) -> np.ndarray:
    """[m * 2, n * parts]: real and imaginary parts of the first m terms, from n numbers of one part or two."""
    angles = 2 * np.pi * np.outer(np.arange(m), np.arange(n)) / n * (1 if inverse else -1)
    cos, sin = np.cos(angles), np.sin(angles)
    if parts == 1:
        whole = np.stack([cos, sin], 1)[..., None]
    else:
        whole = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    return whole.reshape(2 * m, n * parts) / (n if inverse else 1)


def real_inverse(n: int, m: int) -> np.ndarray:
    """[m, n * 2]: the real signal of length m from the n = m // 2 + 1 terms of one side."""
    factor = np.full(n, 2.0)
    factor[0] = 1
    if m % 2 == 0:
        factor[-1] = 1
    angles = 2 * np.pi * np.outer(np.arange(m), np.arange(n)) / m
    return (np.stack([np.cos(angles), -np.sin(angles)], -1) * factor[None, :, None]).reshape(m, 2 * n) / m


def _fitted(b: Builder, x: Tensor, axis: int, length: int) -> Tensor:
    """Cut off, or followed by zeros."""
    n = x.type.shape[axis]
    if length <= n:
        return sliced(b, x, axis, 0, length)
    return pad(b, x, [(0, length - n if i == axis else 0) for i in range(x.type.rank)])


@rule("DFT")
def fourier(b: Builder, c: Call) -> Tensor:
    """[..., n, ..., parts] to [..., m, ..., 2]; along an axis that is computed where only one fits the result, or by
    choosing."""
    x = b.cast(c[0], FLOAT32)
    if c.version >= 20 and c.has(2) and c.known(2) is None:
        declared = c.declared(0, x.type.rank)
        fitting = [a for a in range(x.type.rank - 1) if _result(c, x, a) == declared]
        return b.cast(along_one_of(b, c[2], x.type.rank, fitting, lambda a: _fourier(b, c, x, a)), c[0].type.dtype)
    axis = (c.ints(2)[0] if c.has(2) else -2) if c.version >= 20 else c.attr("axis", 1)
    return b.cast(_fourier(b, c, x, axis % x.type.rank), c[0].type.dtype)


def _result(c: Call, x: Tensor, axis: int) -> tuple[int, ...]:
    """The shape of the transform along an axis."""
    inverse, one_side = bool(c.attr("inverse", 0)), bool(c.attr("onesided", 0))
    n, parts = x.type.shape[axis], 1 if inverse and one_side else 2
    length = int(c.array(1).reshape(-1)[0]) if c.has(1) else (n - 1) * 2 if inverse and one_side else n
    m = length // 2 + 1 if one_side and not inverse else length
    return (*(m if i == axis else k for i, k in enumerate(x.type.shape[:-1])), parts)


def _fourier(b: Builder, c: Call, x: Tensor, axis: int) -> Tensor:
    last = x.type.rank - 1
    inverse, one_side = bool(c.attr("inverse", 0)), bool(c.attr("onesided", 0))
    n = x.type.shape[axis]
    if c.has(1):
        known = c.known(1)
        length = int(known.reshape(-1)[0]) if known is not None else c.declared(0, x.type.rank)[axis]
        b.require(known is not None or not one_side, "a transform of a length that is computed")
    else:
        length = (n - 1) * 2 if inverse and one_side else n
    b.require(not is_open(length) and not is_open(n), "a transform along an open dimension")
    parts = x.type.shape[-1]
    order = [i for i in range(last) if i != axis] + [axis, last]
    if inverse and one_side:
        weights, m, results = real_inverse(length // 2 + 1, length), length, 1
        x = _fitted(b, x, axis, length // 2 + 1)
    else:
        m, results = (length // 2 + 1 if one_side else length), 2
        weights = transform(length, m, parts, inverse)
        x = _fitted(b, x, axis, length)
    turned = b.transpose(x, order)
    outer = turned.type.shape[:-2]
    rows = b.reshape(turned, (*outer, turned.type.shape[-2] * parts))
    made = b.reshape(matrices.dense(b, rows, b.constant(weights, FLOAT32)), (*outer, m, results))
    return b.transpose(made, [order.index(i) for i in range(x.type.rank)])


@rule("STFT")
def short_time_fourier(b: Builder, c: Call) -> Tensor:
    """Parts of the signal, each times the window, each transformed."""
    x = b.cast(c[0], FLOAT32)
    batch, _, *rest = x.type.shape
    parts = rest[0] if rest else 1
    one_side = bool(c.attr("onesided", 1))
    _, frames, bins, _ = c.declared(0, 4)
    if c.has(2):
        length = c.shape(2)[0]
    elif c.has(3) and c.known(3) is not None:
        length = c.ints(3)[0]
    else:
        b.require(not one_side, "a transform of a length that is computed")
        length = bins
    b.require(is_fixed((frames, length)), "a transform of an open number of parts")
    step = b.reshape(b.int32(c[1]), (1, 1))
    first = b("MUL", b.constant(np.arange(frames)[:, None]), step)
    places = b("ADD", first, b.constant(np.arange(length)[None, :]))
    framed = b("GATHER", b.reshape(x, (batch, x.type.shape[1], parts)), places, axis=1, batch_dims=0)
    if c.has(2):
        framed = b("MUL", framed, b.reshape(b.cast(c[2], FLOAT32), (length, 1)))
    m = length // 2 + 1 if one_side else length
    rows = b.reshape(framed, (batch, frames, length * parts))
    made = matrices.dense(b, rows, b.constant(transform(length, m, parts), FLOAT32))
    return b.cast(b.reshape(made, (batch, frames, m, 2)), c[0].type.dtype)


@rule("MelWeightMatrix")
def mel_weights(b: Builder, c: Call) -> Tensor:
    """[bins, mels]: triangles whose corners lie evenly on the mel scale, 2595 log10(1 + f / 700)."""
    bins, mels = c.declared(0, 2)
    b.require(is_fixed((bins, mels)), "an open number of mel bins")
    length, rate, low, high = (Value(b, b.cast(b.reshape(c[i], ()), FLOAT32)) for i in (1, 2, 3, 4))
    scale = 2595 / np.log(10)

    def mel(f: Value) -> Value:
        return formulas.log1p(f * (1 / 700)) * scale

    step = (mel(high) - mel(low)) * (1 / (mels + 2))
    line = Value(b, b.constant(np.arange(mels + 2), FLOAT32)) * step + mel(low)
    corners = ((length + 1.0) * formulas.expm1(line * (1 / scale)) * 700.0 / rate).apply("FLOOR").tensor
    left, top, right = (Value(b, b.slice(corners, [i], [mels])) for i in range(3))
    j = Value(b, b.constant(np.arange(bins)[:, None], FLOAT32))
    rises, falls = top - left, right - top
    up = where(rises > 0.0, (j - left) / formulas.maximum(rises, 1.0), 1.0)
    down = where(falls > 0.0, (right - j) / formulas.maximum(falls, 1.0), 0.0)
    before = b("LOGICAL_AND", j.compare("GREATER_EQUAL", left).tensor, j.compare("LESS_EQUAL", top).tensor)
    after = b("LOGICAL_AND", j.compare("GREATER", top).tensor, j.compare("LESS", right).tensor)
    return where(Value(b, before), up, where(Value(b, after), down, 0.0)).tensor
