"""Random numbers of JAX: computed from a key, the same ones as JAX's.

A key of the kind "threefry2x32", JAX's own, is two numbers of uint32. Threefry is from Salmon, Moraes, Dror and Shaw,
"Parallel random numbers: as easy as 1, 2, 3" (2011), table 2 and section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import RULES, Equation, rule
from lithe.ir.graph import Tensor
from lithe.types import UINT32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


@rule("random_wrap", "random_unwrap")
def unchanged(b: Builder, e: Equation, key: Tensor) -> Tensor:
    return key


def _traced_for_keys(b: Builder, function: Callable[..., Any], *xs: Tensor) -> list[Tensor]:
    """What JAX's own function for one key gives, for keys of any shape."""
    import jax

    from lithe.conversion.jax.trace import trace, write

    b.require(xs[0].type.dtype.is_integer, "a key of another kind")
    for _ in range(xs[0].type.rank - 1):
        function = jax.vmap(function)
    closed, _ = trace(function, [x.type for x in xs])
    return write(b, closed, xs)


def _threefry() -> Any:
    from jax.extend.random import threefry_prng_impl

    return threefry_prng_impl


@rule("random_seed")
def seed(b: Builder, e: Equation, seeds: Tensor) -> Sequence[Tensor]:
    b.require(seeds.type.rank == 0, "several seeds at once")
    return _traced_for_keys(b, _threefry().seed, seeds)


@rule("random_split")
def split(b: Builder, e: Equation, key: Tensor) -> Sequence[Tensor]:
    return _traced_for_keys(b, lambda k: _threefry().split(k, e["shape"]), key)


@rule("random_fold_in")
def fold_in(b: Builder, e: Equation, key: Tensor, number: Tensor) -> Sequence[Tensor]:
    b.require(number.type.rank == key.type.rank - 1, "numbers for keys of another shape")
    return _traced_for_keys(b, lambda k, n: _threefry().fold_in(k, n), key, b.cast(number, UINT32))


@rule("random_bits")
def bits(b: Builder, e: Equation, key: Tensor) -> Sequence[Tensor]:
    return _traced_for_keys(b, lambda k: _threefry().random_bits(k, e["bit_width"], e["shape"]), key)


@rule("iota_2x32_shape")
def count(b: Builder, e: Equation) -> Sequence[Tensor]:
    """Numbers of elements, as two of 32 bits each."""
    shape = e["shape"]
    numbers = np.arange(math.prod(shape), dtype=np.uint64).reshape(shape)
    return [b.constant(numbers >> np.uint64(32), UINT32), b.constant(numbers & np.uint64(0xFFFFFFFF), UINT32)]


@rule("threefry2x32")
def threefry(b: Builder, e: Equation, key0: Tensor, key1: Tensor, x: Tensor, y: Tensor) -> Sequence[Tensor]:
    """Twenty rounds of addition, rotation and exclusive or; keys are added every four."""

    def add(a: Tensor, c: Tensor) -> Tensor:
        made: Tensor = RULES["add"](b, Equation("add", {}, [a.type]), a, c)[0]
        return made

    def rotated(a: Tensor, n: int) -> Tensor:
        """The two parts have no bit in common, so that their exclusive or is their sum."""
        left = b("MUL", a, b.constant(1 << n, UINT32))
        return b("BITWISE_XOR", left, b("RIGHT_SHIFT", a, b.constant(32 - n, UINT32)))

    parity = b("BITWISE_XOR", b("BITWISE_XOR", key0, key1), b.constant(PARITY, UINT32))
    keys = (key0, key1, parity)
    x, y = add(x, key0), add(y, key1)
    for turn in range(5):
        for n in ROTATIONS[turn % 2]:
            x = add(x, y)
            y = b("BITWISE_XOR", rotated(y, n), x)
        x = add(x, keys[(turn + 1) % 3])
        y = add(add(y, keys[(turn + 2) % 3]), b.constant(turn + 1, UINT32))
    return [b.broadcast(x, e.results[0].shape), b.broadcast(y, e.results[1].shape)]
