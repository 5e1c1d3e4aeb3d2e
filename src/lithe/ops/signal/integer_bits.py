"""Bits of unsigned integers, in numpy and in loops alike."""

from __future__ import annotations

from typing import Any

from lithe.ir.arithmetic import where


def bit_length(x: Any, bits: int = 32) -> Any:
    """How many bits an unsigned x of at most so many (a power of two) has from its highest one on; 0 for 0."""
    count, step = x - x, bits // 2
    while step:
        high = x >> step
        found = high > 0
        count, x = where(found, count + step, count), where(found, high, x)
        step //= 2
    return count + x
