"""Complex numbers and transforms of JAX. A complex number is a pair of floats: BITCAST goes from one to the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.jax import integers as integers  # whose quotients are those of other numbers
from lithe.conversion.jax.rules import RULES, Equation, rule
from lithe.conversion.matrices import dense
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.types import COMPLEX64, FLOAT32

MOST_SUMMED = 2048  # numbers that a transform without a builtin takes, as a product with a matrix


def _pairs(b: Builder, x: Tensor) -> Tensor:
    """[..., 2]: real and imaginary parts."""
    return b("BITCAST", x, dtype=FLOAT32)


def _numbers(b: Builder, pairs: Tensor) -> Tensor:
    return b("BITCAST", pairs, dtype=COMPLEX64)


@rule("real", "imag")
def part(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b(e.primitive.upper(), x, dtype=FLOAT32)


@rule("complex")
def complex_of(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    return _numbers(b, b("PACK", x, y, values_count=2, axis=x.type.rank))


@rule("conj")
def conjugate(b: Builder, e: Equation, x: Tensor) -> Tensor:
    if x.type.dtype != COMPLEX64:
        return complex_of(b, e, x, b("MUL", x, b.constant(0, x.type.dtype)))
    return _numbers(b, b("MUL", _pairs(b, x), b.constant([1, -1], FLOAT32)))


def _by_parts(name: str) -> Any:
    """A function that acts on real and imaginary parts alike."""
    plain = RULES[name]

    def write(b: Builder, e: Equation, *xs: Tensor) -> Any:
        if xs[0].type.dtype != COMPLEX64:
            return plain(b, e, *xs)
        pairs = [_pairs(b, x) for x in xs]
        made = plain(b, Equation(name, e.params, [pairs[0].type]), *pairs)
        return _numbers(b, made if isinstance(made, Tensor) else made[0])

    return write


@rule("abs")
def magnitude(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b("COMPLEX_ABS", x, dtype=FLOAT32) if x.type.dtype == COMPLEX64 else b("ABS", x)


@rule("exp")
def exponential(b: Builder, e: Equation, x: Tensor) -> Tensor:
    """e**(x + i y) = e**x (cos y + i sin y)"""
    if x.type.dtype != COMPLEX64:
        return b("EXP", x)
    size, angle = b("EXP", b("REAL", x, dtype=FLOAT32)), b("IMAG", x, dtype=FLOAT32)
    return complex_of(b, e, b("MUL", size, b("COS", angle)), b("MUL", size, b("SIN", angle)))


def _quotient(plain: Any) -> Any:
    """x / y = x conj(y) / |y|**2"""

    def write(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Any:
        if x.type.dtype != COMPLEX64:
            return plain(b, e, x, y)
        if y.data is not None:
            return b("MUL", x, b.constant(1 / y.data.astype(np.complex128), COMPLEX64))
        pairs = _pairs(b, y)
        square = b("SUM", b("SQUARE", pairs), b.constant([y.type.rank]), keep_dims=True)
        return b("MUL", x, _numbers(b, b("DIV", b("MUL", pairs, b.constant([1, -1], FLOAT32)), square)))

    return write


@rule("fft")
def fft(b: Builder, e: Equation, x: Tensor) -> Tensor:
    """RFFT2D where it can; other kinds and lengths are a product with the matrix of the transform."""
    from jax.lax import FftType

    kind, lengths = FftType(e["fft_type"]).name, [int(n) for n in e["fft_lengths"]]
    *outer, _ = x.type.shape
    if kind == "RFFT" and len(lengths) <= 2 and all(n.bit_count() == 1 for n in lengths):
        given = x if len(lengths) == 2 else b.reshape(x, (*outer, 1, *lengths))
        y = b("RFFT2D", given, b.constant([1, *lengths][-2:]), dtype=COMPLEX64)
        return b.reshape(y, e.result.shape)
    b.require(len(lengths) == 1, "a transform of several dimensions")
    b.require(not is_open(lengths[0]) and lengths[0] <= MOST_SUMMED, f"a transform of more than {MOST_SUMMED} numbers")
    matrix = _matrix(kind, lengths[0])
    rows = b.reshape(_pairs(b, x), (*outer, len(matrix))) if x.type.dtype == COMPLEX64 else x
    y = dense(b, rows, b.constant(np.ascontiguousarray(matrix.T), FLOAT32))
    if e.result.dtype != COMPLEX64:
        return y
    return _numbers(b, b.reshape(y, (*e.result.shape, 2)))


def _matrix(kind: str, n: int) -> np.ndarray:
    """The transform as a matrix of real numbers; complex ones are two beside each other.

    y[k] = sum over j of x[j] e**(-2 pi i j k / n), or with the other sign and divided by n.
    """
    inverse = kind.startswith("I")
    half = n // 2 + 1
    inputs, outputs = (half if kind == "IRFFT" else n), (half if kind == "RFFT" else n)
    turns = np.outer(np.arange(inputs), np.arange(outputs)) % n / n
    whole = np.exp((2j if inverse else -2j) * np.pi * turns) / (n if inverse else 1)
    if kind == "IRFFT":  # what is left out is the conjugate of what is given
        whole[1 : n - half + 1] *= 2
    real = np.stack([whole.real, whole.imag], -1)
    imaginary = np.stack([-whole.imag, whole.real], -1)
    if kind == "IRFFT":
        real, imaginary = real[..., :1], imaginary[..., :1]
    rows = np.stack([real, imaginary], 1) if kind != "RFFT" else real[:, None]
    return rows.reshape(inputs * rows.shape[1], -1)


RULES.update({name: _by_parts(name) for name in ("add", "sub", "neg")})
RULES["div"] = _quotient(RULES["div"])
