"""The Walsh-Hadamard transform, which spreads outliers of activations before they are quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.op import Op, Site, register
from lithe.types import Shape


@register
class HadamardRotation(Op):
    """y = x H / sqrt(n) for each n = hadamard_size neighbours; H[i, j] = (-1)**(number of ones that i and j share)

    A rest of fewer than n elements at the end is copied. random_binary_vector is not used.
    Source: TensorFlow Lite, kernels/hadamard_rotation.cc (behaviour, not text).
    """

    name = "aeq.hadamard_rotation"
    types = "float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        hadamard_size: int = 1
        random_binary_vector: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, n = site.rank(0, 2, 3), site.attrs.hadamard_size
        site.require(1 <= n < 1 << 31 and n & (n - 1) == 0, f"hadamard_size must be a power of two, is {n}")
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        n, count = site.attrs.hadamard_size, _groups(site)
        y = x.copy()
        groups = x.reshape(-1)[: count * n].reshape((count, *(2,) * (n.bit_length() - 1))).astype(np.float64)
        for axis in range(1, groups.ndim):
            a, b = groups.take(0, axis), groups.take(1, axis)
            groups = np.stack([a + b, a - b], axis)
        y.reshape(-1)[: count * n] = (groups / math.sqrt(n)).reshape(-1)
        return [y]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, n, count = xs[0], site.attrs.hadamard_size, _groups(site)
        b.elementwise(ys[0], lambda v: v, x)
        y, share, half = ys[0].viewed((x.size,)), np.float32(1 / math.sqrt(n)), 1
        while half < n:
            last = share if half * 2 == n else None
            with b.nest((count * n // (2 * half), half)) as (block, i):
                at = block * (2 * half) + i
                low, high = (b.variable(y[at + k * half], "value")[()] for k in (0, 1))
                for k, value in ((0, low + high), (1, low - high)):
                    b.store(y, at + k * half, value if last is None else value * last)
            half *= 2


def _groups(site: Site) -> int:
    """How many transforms there are: as many as fit in one row, times the number of rows, one after the other."""
    *rows, size = site.input(0).shape
    return math.prod(rows) * (size // site.attrs.hadamard_size)
