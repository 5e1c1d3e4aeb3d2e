"""Complex numbers and the Fourier transform. Loops have no complex numbers: these are evaluated, not compiled."""

from __future__ import annotations

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.activation import same_shape
from lithe.ops.layout import integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

PARTS = "complex64 -> float32\ncomplex128 -> float64"


@register
class Real(Op):
    """The real part."""

    name, code = "REAL", 134
    types = PARTS
    infer = same_shape

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.real)]


@register
class Imag(Op):
    """The imaginary part."""

    name, code = "IMAG", 133
    types = PARTS
    infer = same_shape

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.imag)]


@register
class ComplexAbs(Op):
    """The absolute value of complex numbers."""

    name, code = "COMPLEX_ABS", 135
    types = PARTS
    infer = same_shape

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(np.abs(x))]


@register
class Rfft2d(Op):
    """The first half of the Fourier transform of the last two axes, cut or filled with zeros to fft_length."""

    name, code = "RFFT2D", 131
    operands = (("input", "fft_length"), ("output",))
    types = "float32 int32 -> complex64"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(x.rank >= 2, f"must have at least two axes, is {x}", 0)
        site.require(site.rank(1, 1).size == 2, f"must have two elements, is {site.input(1)}", 1)
        known = known_integers(site, 1)
        if known is None:
            return [(*x.shape[:-2], None, None)]
        site.require(_powers_of_two(known), f"must be powers of two, are {known}", 1)
        return [(*x.shape[:-2], known[0], known[1] // 2 + 1)]

    def evaluate(site: Site, x: np.ndarray, fft_length: np.ndarray) -> list[np.ndarray]:
        rows, columns = integers(fft_length)
        if not _powers_of_two([rows, columns]) or rows * columns > MOST_ELEMENTS:
            raise ExecutionError(f"fft_length must be powers of two up to {MOST_ELEMENTS}, are {rows} and {columns}")
        return [np.fft.rfft2(x, (rows, columns)).astype(np.complex64)]


MOST_ELEMENTS = 1 << 26


def _powers_of_two(lengths: list[int]) -> bool:
    return all(n > 0 and n & (n - 1) == 0 for n in lengths)
