"""Dimensions that a model leaves open, such as the batch.

A framework traces a model for shapes that are numbers. So an open dimension is given a number, its stand-in: a large
prime, which no dimension of a real tensor is near to. Whatever is computed from it stays recognisable: a size above
`LARGEST` depends on an open dimension, and `Sizes.formula` finds on which, and how.

    batch = 1234560029         x: [1234560029, 28, 28]        reshaped: [34567680812, 28], which is [28 * batch, 28]

No memory of that size is ever asked for: tracing looks at shapes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from lithe.errors import InputError
from lithe.types import Shape

LARGEST = 10_000_000  # a dimension above it is made of stand-ins
FIRST, STEP = 1_234_560_000, 37_000_000  # stand-ins are the next primes, below 2**31, and no round numbers
MOST = 24
MOST_LOOKED_AT = 1 << 16  # elements of a constant; what is computed from a size is small
FACTORS = 1 << 14  # of a stand-in in a size, at most
DIVISORS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Formula:
    """(factor * product of symbols + offset) / divisor, without remainder for the stand-ins."""

    symbols: tuple[str, ...]
    factor: int = 1
    offset: int = 0
    divisor: int = 1


class Sizes:
    """The open dimensions of one model, by name."""

    def __init__(self) -> None:
        self._symbols: dict[str, int] = {}

    def stand_in(self, name: str) -> int:
        """The number for an open dimension; the same one for the same name."""
        if name not in self._symbols:
            if len(self._symbols) == MOST:
                raise InputError(f"a model may have {MOST} open dimensions of different names, '{name}' is one more")
            self._symbols[name] = _next_prime(FIRST + STEP * len(self._symbols))
        return self._symbols[name]

    def name_of(self, size: int) -> str | None:
        """The open dimension that this number stands for."""
        return next((name for name, number in self._symbols.items() if number == size), None)

    def named_in(self, numbers: np.ndarray) -> str | None:
        """The open dimension whose stand-in is among the numbers, as they are rounded."""
        if numbers.dtype.kind not in "iuf" or numbers.dtype.itemsize < 4 or numbers.size > MOST_LOOKED_AT:
            return None
        for name, number in self._symbols.items():
            if np.any(numbers == np.asarray(number, np.int64).astype(numbers.dtype)):
                return name
        return None

    def formula(self, size: int) -> Formula | None:
        """How a size comes from the open dimensions; None when no simple formula gives it."""
        for divisor in DIVISORS:
            for symbols, product in self._products():
                factor = (size * divisor + product // 2) // product
                offset = size * divisor - factor * product
                if 1 <= factor <= FACTORS and abs(offset) <= FACTORS:
                    return Formula(symbols, factor, offset, divisor)
        return None

    def _products(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Stand-ins, and products of two, the simplest first."""
        names = list(self._symbols)
        squares = ((name, name) for name in names)
        for symbols in chain(((name,) for name in names), combinations(names, 2), squares):
            product = 1
            for name in symbols:
                product *= self._symbols[name]
            yield symbols, product


def is_open(size: int) -> bool:
    """Whether a size depends on an open dimension."""
    return size > LARGEST


def is_fixed(shape: Sequence[int]) -> bool:
    return not any(map(is_open, shape))


def signature(shape: Sequence[int]) -> Shape:
    """The shape as a file declares it: -1 for what is open."""
    return tuple(-1 if is_open(n) else int(n) for n in shape)


def smallest(shape: Sequence[int]) -> Shape:
    """The shape for which a file is made ready: 1 for what is open."""
    return tuple(1 if is_open(n) else int(n) for n in shape)


def _next_prime(n: int) -> int:
    while any(n % d == 0 for d in range(2, int(n**0.5) + 1)):
        n += 1
    return n
