"""STABLEHLO_RNG_BIT_GENERATOR: random bits as a function of a state. Block n is made from the counter's n-th successor.

Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), Threefry 2x32-20 (Philox 4x32-10 is in
`lithe.ops.philox`); the state's layout, and the counter of 64 bits, as in TensorFlow Lite's kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import cast
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, constant
from lithe.ops.op import Op, Site, register
from lithe.ops.philox import WORD, rounds
from lithe.types import UINT32, UINT64, Shape

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA

Words = list[Any]  # numbers below 2**32 held in uint64, arrays or expressions


def threefry(counter: Words, key: Words) -> Words:
    """Two words. The sums stay below 2**32 by masking, because uint64 is what the loops multiply in anyway."""
    x, y = counter
    keys = [key[0], key[1], key[0] ^ key[1] ^ PARITY]
    x, y = (x + keys[0]) & WORD, (y + keys[1]) & WORD
    for block in range(5):
        for turn in ROTATIONS[block % 2]:
            x = (x + y) & WORD
            y = ((y << turn & WORD) | y >> (32 - turn)) ^ x
        x = (x + keys[(block + 1) % 3]) & WORD
        y = (y + keys[(block + 2) % 3] + (block + 1)) & WORD
    return [x, y]


def halves(value: Any) -> Words:
    return [value & WORD, value >> 32]


@register
class StablehloRngBitGenerator(Op):
    """(next state, random bits) of a state (key, counter), for PHILOX also (key, counter, the counter's upper half)."""

    name, code = "STABLEHLO_RNG_BIT_GENERATOR", 204
    operands = (("initial_state",), ("output_state", "output"))
    types = "uint64 -> uint64 T: int32 uint32 int64 uint64"

    @dataclass(frozen=True)
    class Attrs:
        algorithm: str = "DEFAULT"

    def infer(site: Site) -> list[Shape]:
        state, wanted = site.rank(0, 1), site.attrs.algorithm
        site.require(wanted in ("DEFAULT", "PHILOX", "THREEFRY"), f"algorithm {wanted} is unknown")
        sizes = (2,) if wanted == "THREEFRY" else (2, 3)
        site.require(state.size in sizes, f"must have {' or '.join(map(str, sizes))} elements, is {state}", 0)
        return [state.shape, site.outputs[1].shape]

    def evaluate(site: Site, state: np.ndarray) -> list[np.ndarray]:
        y = site.outputs[1]
        count, words = _blocks(site)
        with np.errstate(over="ignore"):
            counters = state[1] + np.arange(count, dtype=np.uint64)
            made = _generator(site)([*state], counters)
            after = state.copy()
            after[1] += np.uint64(count)
        together = np.stack([np.broadcast_to(w, counters.shape) for w in made], axis=-1).astype(np.uint32).reshape(-1)
        used = np.ascontiguousarray(together[: y.size * words])
        return [after, used.view(y.dtype.numpy).reshape(y.shape).copy()]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        (state,), (after, y) = xs, ys
        count, words = _blocks(site)
        flat, generate = y.viewed((y.size,)), _generator(site)
        whole, rest = divmod(y.size * words, 2 if site.attrs.algorithm == "THREEFRY" else 4)

        def write(block: Any, most: int) -> None:
            counter = state[1] + constant(block).to(UINT64)
            made = generate([state[i] for i in range(state.size)], counter)
            numbers = (
                [low | high << 32 for low, high in zip(made[::2], made[1::2], strict=True)] if words == 2 else made
            )
            for i, number in enumerate(numbers[:most]):
                value = number if words == 2 else cast(number, UINT32)
                b.store(flat, constant(block) * len(numbers) + i, cast(value, y.dtype))

        with b.loop(whole, "parallel") as block:
            write(block, 4)
        if rest:
            write(whole, rest // words)
        for i in range(state.size):
            b.store(after, i, state[i] + (constant(count, UINT64) if i == 1 else constant(0, UINT64)))


def _blocks(site: Site) -> tuple[int, int]:
    """(how many blocks the output takes, words in one of its elements)."""
    y = site.outputs[1]
    words = y.dtype.bits // 32
    return -(-y.size * words // (2 if site.attrs.algorithm == "THREEFRY" else 4)), words


def _generator(site: Site) -> Callable[[Words, Any], Words]:
    """(state, counter) -> the words of a block; the counter is the state's second element and what was counted."""
    if site.attrs.algorithm == "THREEFRY":
        return lambda state, counter: threefry(halves(counter), halves(state[0]))
    return lambda state, counter: rounds(halves(counter) + halves(state[2 * (len(state) == 3)]), halves(state[0]))
