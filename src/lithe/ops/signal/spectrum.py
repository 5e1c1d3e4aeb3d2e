"""Complex numbers and the Fourier transform. Loops see a complex64 as two float32; complex128 is evaluated only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import F, absolute, maximum, minimum, sqrt, where
from lithe.ir.build import Builder
from lithe.ir.elementary import INFINITY
from lithe.ir.loops import Buffer, Const, Expr, constant, select
from lithe.ops.activation import same_shape
from lithe.ops.layout import integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.ops.signal.fourier import FLOATS, LONGEST, Plan, lower_real, lower_transform
from lithe.types import COMPLEX64, FLOAT32, Shape

PARTS = "complex64 -> float32\ncomplex128 -> float64"


def in_two(site: Site) -> bool:
    """Whether loops can see the numbers."""
    return site.input(0).dtype == COMPLEX64


def _pairs(x: Buffer, *shape: int) -> Buffer:
    return x.viewed((*shape, 2), FLOAT32)


@register
class Real(Op):
    """The real part."""

    name, code = "REAL", 134
    types = PARTS
    infer = same_shape

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.real)]

    lowers = in_two

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = _pairs(xs[0], xs[0].size), ys[0].viewed((ys[0].size,))
        b.compute(y, lambda i: x[i, 0])


@register
class Imag(Op):
    """The imaginary part."""

    name, code = "IMAG", 133
    types = PARTS
    infer = same_shape

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.imag)]

    lowers = in_two

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = _pairs(xs[0], xs[0].size), ys[0].viewed((ys[0].size,))
        b.compute(y, lambda i: x[i, 1])


@register
class ComplexAbs(Op):
    """The absolute value of complex numbers."""

    name, code = "COMPLEX_ABS", 135
    types = PARTS
    infer = same_shape

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(np.abs(x))]

    lowers = in_two

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = _pairs(xs[0], xs[0].size), ys[0].viewed((ys[0].size,))
        b.compute(y, lambda i: _length(absolute(x[i, 0]), absolute(x[i, 1])))


def _length(a: Any, b: Any) -> Any:
    """sqrt(a**2 + b**2) of absolute values, whose squares may leave the range; infinity beats NaN."""
    most, least = maximum(a, b), minimum(a, b)
    ratio = least / where(most > F(0.0), most, F(1.0))
    length = where(a.equals(a), most * sqrt(ratio * ratio + F(1.0)), a)
    return where(a.equals(INFINITY) | b.equals(INFINITY), INFINITY, length)


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
        x = x.astype(np.float64)
        found = np.fft.rfft(x[..., :1, :], columns) if rows == 1 else np.fft.rfft2(x, (rows, columns))
        return [found.astype(np.complex64)]

    def lowers(site: Site) -> bool:
        return site.known(1) is not None and max(integers(site.constant(1))) <= LONGEST

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        rows, columns = integers(site.constant(1))
        *outer, height, width = xs[0].shape
        batch, half = math.prod(outer), columns // 2 + 1
        x, y = xs[0].viewed((batch, height, width)), _pairs(ys[0], batch, rows, half)
        across, along = (b.scratch(FLOAT32, (max(1, n), 2), "work") for n in (columns // 2, rows))
        zero = Const(0.0, FLOAT32)
        with b.loop(batch, name="picture") as n:
            with b.loop(min(rows, height), name="row") as row:

                def element(i: Expr) -> Expr:
                    if columns <= width:
                        return x[n, row, i]
                    return select(i < width, x[n, row, minimum(i, constant(width - 1))], zero)

                if columns > 1:
                    lower_real(b, FLOATS, columns, element, y, (n, row), across)
                else:
                    b.store(y, (n, row, 0, 0), element(constant(0)))
                    b.store(y, (n, row, 0, 1), zero)
            with b.nest((max(0, rows - height), half, 2)) as (row, k, part):
                b.store(y, (n, row + height, k, part), zero)
            if rows > 1:
                with b.loop(half, name="column") as k:
                    lower_transform(b, Plan(FLOATS, rows), lambda i: (y[n, i, k, 0], y[n, i, k, 1]), along)
                    with b.nest((rows, 2)) as (i, part):
                        b.store(y, (n, i, k, part), along[i, part])


MOST_ELEMENTS = 1 << 26


def _powers_of_two(lengths: list[int]) -> bool:
    return all(n > 0 and n & (n - 1) == 0 for n in lengths)
