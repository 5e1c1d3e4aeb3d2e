"""What ONNX's operators are in builtins: transforms of signals, as products with matrices of sines and cosines."""

from __future__ import annotations

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.parts import pad, sliced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
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
    """[..., n, ..., parts] to [..., m, ..., 2]"""
    x = b.cast(c[0], FLOAT32)
    last = x.type.rank - 1
    given = (c.ints(2, "the axis")[0] if c.has(2) else -2) if c.version >= 20 else c.attr("axis", 1)
    axis = int(given)
    axis = axis % x.type.rank if axis < 0 else axis
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
    return b.cast(b.transpose(made, [order.index(i) for i in range(x.type.rank)]), c[0].type.dtype)


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
