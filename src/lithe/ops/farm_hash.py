"""FarmHash Fingerprint64: a hash of bytes that never changes from version to version.

The steps are those of numbers of 64 bits that wrap: arrays of uint64 (one element for each of many texts of one length)
or loop expressions of that type. A text is given as a function that fetches 8, 4 or 1 of its bytes as such a number.
Source: the FarmHash library of G. Pike, its function for fingerprints of 64 bits ("na").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.loops import Const
from lithe.types import UINT64

MASK = (1 << 64) - 1
K0, K1, K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
Fetch = Callable[[int, int], Any]  # (place, bytes) -> little-endian number
Pair = tuple[Any, Any]
UNROLLED = 64  # bytes up to which there are no steps that are repeated


def fingerprint(fetch: Fetch, length: int) -> Any:
    """The fingerprint of a text of `length` bytes, at least one."""
    if length <= 16:
        return _short(fetch, length)
    if length <= 32:
        return _up_to_32(fetch, length)
    return _up_to_64(fetch, length) if length <= UNROLLED else _long(fetch, length)


def fingerprint64(texts: np.ndarray) -> np.ndarray:
    """uint64 [rows] of uint8 [rows, length]."""
    rows, length = texts.shape

    def fetch(place: int, size: int) -> np.ndarray:
        part = np.ascontiguousarray(texts[:, place : place + size])
        return part.view(f"<u{size}").reshape(-1).astype(np.uint64)

    with np.errstate(over="ignore"):
        return np.asarray(fingerprint(fetch, length)) if length else np.full(rows, K2, np.uint64)


def fingerprint_of(text: bytes) -> int:
    """The fingerprint of one byte string."""
    return int(fingerprint64(np.frombuffer(text, np.uint8)[np.newaxis])[0])


def _number(value: int, like: Any) -> Any:
    """A constant for arithmetic with this value."""
    return np.uint64(value & MASK) if isinstance(like, np.ndarray) else Const(value & MASK, UINT64)


def _rotate(x: Any, by: int) -> Any:
    return x >> _number(by, x) | x << _number(64 - by, x)


def _shift_mix(x: Any) -> Any:
    return x ^ x >> _number(47, x)


def _mix(u: Any, v: Any, factor: Any) -> Any:
    a = _shift_mix((u ^ v) * factor)
    return _shift_mix((v ^ a) * factor) * factor


def _short(fetch: Fetch, length: int) -> Any:
    first = fetch(0, 8 if length >= 8 else 4 if length >= 4 else 1)
    factor = _number(K2 + length * 2, first)
    if length >= 8:
        a, b = first + _number(K2, first), fetch(length - 8, 8)
        return _mix(_rotate(b, 37) * factor + a, (_rotate(a, 25) + b) * factor, factor)
    if length >= 4:
        return _mix((first << _number(3, first)) + _number(length, first), fetch(length - 4, 4), factor)
    middle, last = fetch(length >> 1, 1), fetch(length - 1, 1)
    y, z = first + (middle << _number(8, first)), (last << _number(2, first)) + _number(length, first)
    return _shift_mix(y * _number(K2, y) ^ z * _number(K0, z)) * _number(K2, y)


def _heads(fetch: Fetch, length: int, first: int) -> tuple[Any, ...]:
    """(a, b, factor, y, z) of the middle lengths; `first` multiplies the first 8 bytes."""
    start = fetch(0, 8)
    factor, k2 = _number(K2 + length * 2, start), _number(K2, start)
    a, b = start * _number(first, start), fetch(8, 8)
    c, d = fetch(length - 8, 8) * factor, fetch(length - 16, 8) * k2
    return a, b, factor, _rotate(a + b, 43) + _rotate(c, 30) + d, a + _rotate(b + k2, 18) + c


def _up_to_32(fetch: Fetch, length: int) -> Any:
    _, _, factor, y, z = _heads(fetch, length, K1)
    return _mix(y, z, factor)


def _up_to_64(fetch: Fetch, length: int) -> Any:
    a, _, factor, y, z = _heads(fetch, length, K2)
    z = _mix(y, z, factor)
    e, f = fetch(16, 8) * factor, fetch(24, 8)
    g, h = (y + fetch(length - 32, 8)) * factor, (z + fetch(length - 24, 8)) * factor
    return _mix(_rotate(e + f, 43) + _rotate(g, 30) + h, e + _rotate(f + a, 18) + g, factor)


def _weak(fetch: Fetch, place: int, a: Any, b: Any) -> Pair:
    """A hash of 32 bytes and two seeds."""
    w, x, y, z = (fetch(place + i, 8) for i in (0, 8, 16, 24))
    a = a + w
    b = _rotate(b + a + z, 21)
    c = a + x + y
    return c + z, b + _rotate(c, 44) + a


def _long(fetch: Fetch, length: int) -> Any:
    start = fetch(0, 8)
    zero = start ^ start
    y = zero + _number(81 * K1 + 113, start)
    z = _shift_mix(y * _number(K2, y) + _number(113, y)) * _number(K2, y)
    v: Pair = (zero, zero)
    w: Pair = (zero, zero)
    x = start + _number(81 * K2, start)
    for place in range(0, (length - 1) // 64 * 64, 64):
        x, y, z, v, w = _chunk(fetch, place, (x, y, z, v, w), _number(K1, x), 1)
    factor = ((z & _number(0xFF, z)) << _number(1, z)) + _number(K1, z)
    w = (w[0] + _number((length - 1) & 63, z), w[1])
    v = (v[0] + w[0], v[1])
    w = (w[0] + v[0], w[1])
    x, y, z, v, w = _chunk(fetch, length - 64, (x, y, z, v, w), factor, 9)
    return _mix(_mix(v[0], w[0], factor) + _shift_mix(y) * _number(K0, y) + z, _mix(v[1], w[1], factor) + x, factor)


def _chunk(fetch: Fetch, place: int, state: tuple[Any, ...], factor: Any, weight: int) -> tuple[Any, ...]:
    """The state (x, y, z, v, w) after 64 more bytes."""
    x, y, z, v, w = state
    nine = _number(weight, x)
    x = _rotate(x + y + v[0] + fetch(place + 8, 8), 37) * factor
    y = _rotate(y + v[1] + fetch(place + 48, 8), 42) * factor
    x = x ^ w[1] * nine
    y = y + v[0] * nine + fetch(place + 40, 8)
    z = _rotate(z + w[0], 33) * factor
    v = _weak(fetch, place, v[1] * factor, x + w[0])
    w = _weak(fetch, place + 32, z + w[1], y + fetch(place + 16, 8))
    return z, y, x, v, w
