"""Philox 4x32-10: random numbers as a function of a counter and a key.

Block n of a stream is four 32-bit words made from the counter's n-th successor, so a stream can be entered anywhere.
Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011); seeds and the conversions to floats as
TensorFlow does them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

WORD, BLOCK = (1 << 32) - 1, 4
ROUNDS = 10
FACTORS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def rounds(counter: list[Any], key: list[Any]) -> list[Any]:
    """The four words of a block. Words are held in uint64, arrays and expressions of loops alike."""
    c, (k, m) = counter, key
    for _ in range(ROUNDS):
        a, b = c[0] * FACTORS[0], c[2] * FACTORS[1]
        c = [(b >> 32) ^ c[1] ^ k, b & WORD, (a >> 32) ^ c[3] ^ m, a & WORD]
        k, m = (k + KEY_STEPS[0]) & WORD, (m + KEY_STEPS[1]) & WORD
    return c


@dataclass
class Stream:
    """A stream of random words and the place that has been reached in it.

    seed  chooses the key: one of 2**64 streams.     offset  the upper half of the 128-bit counter at the start.
    next  the number of blocks taken or passed over.
    """

    seed: int
    offset: int
    next: int = 0

    def blocks(self, count: int) -> np.ndarray:
        """uint32 [count, 4]: the next blocks."""
        first = ((self.offset & (1 << 64) - 1) << 64) + self.next
        self.next += count
        return _blocks(first, count, self.seed)

    def skip(self, count: int) -> None:
        """Passes over blocks."""
        self.next += count


def _blocks(first: int, count: int, seed: int) -> np.ndarray:
    low = np.arange(count, dtype=np.uint64) + np.uint64(first & (1 << 64) - 1)
    carried = low < np.uint64(first & (1 << 64) - 1)
    high = np.uint64((first >> 64) & (1 << 64) - 1) + carried.astype(np.uint64)
    mask, half = np.uint64(WORD), np.uint64(32)
    c = rounds([low & mask, low >> half, high & mask, high >> half], [seed & WORD, (seed >> 32) & WORD])
    return np.stack(c, axis=1).astype(np.uint32)


def uniform(words: np.ndarray) -> np.ndarray:
    """float32 in [0, 1): the word's lower 23 bits are the fraction of a number in [1, 2)."""
    return ((words & np.uint32(0x7FFFFF)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)


def uniform_double(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from 20 bits of one word and 32 of another."""
    fraction = (high.astype(np.uint64) & np.uint64(0xFFFFF)) << np.uint64(32) | low.astype(np.uint64)
    return (fraction | np.uint64(1023 << 52)).view(np.float64) - 1.0


def normal(words: np.ndarray) -> np.ndarray:
    """float32, normally distributed, from words [..., even]: Box and Muller's pairs (sine first).

    The functions are evaluated in double precision and rounded once, so that the result is the nearest float32 or,
    as in C libraries, next to it.
    """
    first, second = uniform(words[..., 0::2]), uniform(words[..., 1::2])
    first = np.maximum(first, np.float32(1e-7))
    angle = (2 * np.pi * second.astype(np.float64)).astype(np.float32).astype(np.float64)
    logarithm = np.log(first.astype(np.float64)).astype(np.float32)
    length = np.sqrt(np.float32(-2) * logarithm)
    pairs = [f(angle).astype(np.float32) * length for f in (np.sin, np.cos)]
    return np.stack(pairs, axis=-1).reshape(words.shape)
