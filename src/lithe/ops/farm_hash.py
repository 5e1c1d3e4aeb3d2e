"""FarmHash Fingerprint64: a hash of bytes that never changes from version to version.

Written for a batch of byte strings of one length at a time: every step is done on arrays of uint64.
Source: the FarmHash library of G. Pike, its function for fingerprints of 64 bits ("na").
"""

from __future__ import annotations

import numpy as np

U = np.uint64
K0, K1, K2 = U(0xC3A5C85C97CB3127), U(0xB492B66FBE98F273), U(0x9AE16A3B2F90404F)
Pair = tuple[np.ndarray, np.ndarray]


def fingerprint64(texts: np.ndarray) -> np.ndarray:
    """uint64 [rows] of uint8 [rows, length]."""
    with np.errstate(over="ignore"):
        length = texts.shape[1]
        if length <= 16:
            return _short(texts)
        if length <= 32:
            return _up_to_32(texts)
        return _up_to_64(texts) if length <= 64 else _long(texts)


def fingerprint_of(text: bytes) -> int:
    """The fingerprint of one byte string."""
    return int(fingerprint64(np.frombuffer(text, np.uint8)[np.newaxis])[0])


def _fetch(texts: np.ndarray, place: int, size: int = 8) -> np.ndarray:
    """The bytes from a place on (counted from the end when negative) as little-endian numbers."""
    place %= max(texts.shape[1], 1)
    part = np.ascontiguousarray(texts[:, place : place + size])
    return part.view("<u8" if size == 8 else "<u4").reshape(-1).astype(U)


def _rotate(x: np.ndarray, by: int) -> np.ndarray:
    return x >> U(by) | x << U(64 - by)


def _shift_mix(x: np.ndarray) -> np.ndarray:
    return x ^ x >> U(47)


def _mix(u: np.ndarray, v: np.ndarray, factor: np.ndarray) -> np.ndarray:
    a = _shift_mix((u ^ v) * factor)
    return _shift_mix((v ^ a) * factor) * factor


def _short(texts: np.ndarray) -> np.ndarray:
    rows, length = texts.shape
    factor = K2 + U(length * 2)
    if length >= 8:
        a, b = _fetch(texts, 0) + K2, _fetch(texts, -8)
        return _mix(_rotate(b, 37) * factor + a, (_rotate(a, 25) + b) * factor, factor)
    if length >= 4:
        return _mix(U(length) + (_fetch(texts, 0, 4) << U(3)), _fetch(texts, -4, 4), factor)
    if length:
        first, middle, last = (texts[:, i].astype(U) for i in (0, length >> 1, -1))
        return _shift_mix((first + (middle << U(8))) * K2 ^ (U(length) + (last << U(2))) * K0) * K2
    return np.full(rows, K2)


def _up_to_32(texts: np.ndarray) -> np.ndarray:
    factor = K2 + U(texts.shape[1] * 2)
    a, b = _fetch(texts, 0) * K1, _fetch(texts, 8)
    c, d = _fetch(texts, -8) * factor, _fetch(texts, -16) * K2
    return _mix(_rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + K2, 18) + c, factor)


def _up_to_64(texts: np.ndarray) -> np.ndarray:
    factor = K2 + U(texts.shape[1] * 2)
    a, b = _fetch(texts, 0) * K2, _fetch(texts, 8)
    c, d = _fetch(texts, -8) * factor, _fetch(texts, -16) * K2
    y = _rotate(a + b, 43) + _rotate(c, 30) + d
    z = _mix(y, a + _rotate(b + K2, 18) + c, factor)
    e, f = _fetch(texts, 16) * factor, _fetch(texts, 24)
    g, h = (y + _fetch(texts, -32)) * factor, (z + _fetch(texts, -24)) * factor
    return _mix(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, factor)


def _weak(texts: np.ndarray, place: int, a: np.ndarray, b: np.ndarray) -> Pair:
    """A hash of 32 bytes and two seeds."""
    w, x, y, z = (_fetch(texts, place + i) for i in (0, 8, 16, 24))
    a = a + w
    b = _rotate(b + a + z, 21)
    c = a + x + y
    return c + z, b + _rotate(c, 44) + a


def _long(texts: np.ndarray) -> np.ndarray:
    rows, length = texts.shape
    seed, zero = np.full(rows, U(81)), np.zeros(rows, U)
    y = seed * K1 + U(113)
    z = _shift_mix(y * K2 + U(113)) * K2
    v: Pair = (zero, zero)
    w: Pair = (zero, zero)
    x = seed * K2 + _fetch(texts, 0)
    for place in range(0, (length - 1) // 64 * 64, 64):
        x, y, z, v, w = _chunk(texts, place, x, y, z, v, w, K1, U(1))
    factor = K1 + ((z & U(0xFF)) << U(1))
    w = (w[0] + U((length - 1) & 63), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = _chunk(texts, length - 64, x, y, z, v, w, factor, U(9))
    return _mix(_mix(v[0], w[0], factor) + _shift_mix(y) * K0 + z, _mix(v[1], w[1], factor) + x, factor)


def _chunk(
    texts: np.ndarray,
    place: int,
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    v: Pair,
    w: Pair,
    factor: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Pair, Pair]:
    """The state after 64 more bytes."""
    x = _rotate(x + y + v[0] + _fetch(texts, place + 8), 37) * factor
    y = _rotate(y + v[1] + _fetch(texts, place + 48), 42) * factor
    x = x ^ w[1] * weight
    y = y + v[0] * weight + _fetch(texts, place + 40)
    z = _rotate(z + w[0], 33) * factor
    v = _weak(texts, place, v[1] * factor, x + w[0])
    w = _weak(texts, place + 32, z + w[1], y + _fetch(texts, place + 16))
    return z, y, x, v, w
