"""Elementary functions of float32 from the operations that every target has: + - * / fma, bits, select.

Given loop expressions, a function is traced into code. Given numpy arrays, it computes the exact meaning
in the array's own precision; `portable(function)(x)` computes instead, in numpy, what the traced code
computes, bit for bit: integer results that depend on one of these are the same on every target that way.

The stated error is the largest found over 2 million arguments of the whole range (tests/ir/test_elementary.py
holds a part of them), in units in the last place (ulp) of the float32 nearest to the exact value. Results
below the normal range are within 2**-149 or flushed to zero by targets without subnormal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.arithmetic import (
    F,
    absolute,
    bits_float,
    cast,
    clamp,
    float_bits,
    floor,
    fused_multiply_add,
    is_expr,
    maximum,
    minimum,
    multiply_add,
    round_half_even,
    round_to_int,
    sqrt,
    where,
)
from lithe.types import FLOAT32

INFINITY, NAN = F(math.inf), F(math.nan)


class _Function:
    """A function with two faces: the exact one for numpy arrays, the traced one for expressions."""

    def __init__(self, exact: Callable[..., Any], traced: Callable[..., Any]) -> None:
        self._exact, self.traced = exact, traced
        self.__doc__, self.__name__ = traced.__doc__, traced.__name__

    def __call__(self, *xs: Any) -> Any:
        if is_expr(*xs):
            return self.traced(*xs)
        with np.errstate(all="ignore"):
            return self._exact(*xs)


def _with_meaning(exact: Callable[..., Any]) -> Callable[[Callable[..., Any]], _Function]:
    return lambda traced: _Function(exact, traced)


def portable(function: Any) -> Callable[..., np.ndarray]:
    """What the traced code of a function computes, on float32 arrays.

    >>> portable(exp)(np.float32([0.0])).tolist()
    [1.0]
    """

    def run(*xs: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(function.traced(*(np.asarray(x, F) for x in xs)), F)

    return run


def polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule, highest power first."""
    y = x * F(coefficients[0]) + F(coefficients[1])
    for c in coefficients[2:]:
        y = y * x + F(c)
    return y


def _quick_polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """The same, where only floats come of it."""
    y = F(coefficients[0])
    for c in coefficients[1:]:
        y = multiply_add(y, x, F(c))
    return y


# Adding this to a float32 below 2**22 rounds it to a whole number, which is then in the lowest bits of the sum.
ROUNDS = 1.5 * 2**23
LOG2_E = F(1.4426950408889634)
UPPER, LOWER = F(-0.693359375), F(2.12194440e-4)  # -ln 2 in two parts, after Cody and Waite
E_TO = (1.381446607e-3, 8.368780836e-3, 4.166839272e-2, 1.666651964e-1, 4.999999404e-1)  # (e**r - 1 - r) / r**2


def _reduced(x: Any, offset: int = 127) -> tuple[Any, Any]:
    """(e**r, a word whose lowest bits are n + offset) for x = n ln 2 + r with |r| <= ln 2 / 2.

    The polynomial is fitted to 2e-9 of e**r.
    """
    shifted = x * LOG2_E + F(ROUNDS + offset)
    n = shifted - F(ROUNDS + offset)
    r = x + n * UPPER
    r = r + n * LOWER
    p = polynomial(r, E_TO)
    return p * (r * r) + r + F(1.0), float_bits(shifted)


def _power_of_two(word: Any) -> Any:
    """2**(n - 127) for the n in the lowest bits of a word."""
    return bits_float(word << 23)


def _within(x: Any, low: float, high: float) -> Any:
    """x between bounds; a NaN stays one."""
    return minimum(F(high), maximum(F(low), x))


@_with_meaning(np.exp)
def exp(x: Any) -> Any:
    """e**x. 1 ulp; saturates to 0 and infinity. The power of two is applied in two factors, so that results below the
    normal range and above 2**127 come out right."""
    p, word = _reduced(_within(x, -104.0, 89.0), 2 * 127)
    half = word >> 1
    return p * _power_of_two(half) * _power_of_two(word - half)


LEAST_NORMAL = -87.33654  # log 2**-126


def _exp_normal(x: Any) -> Any:
    """e**x for x in LEAST_NORMAL .. 88, where it is a normal number; for results that are floats."""
    shifted = x * LOG2_E + F(ROUNDS)
    n = shifted - F(ROUNDS)
    r = multiply_add(n, LOWER, multiply_add(n, UPPER, x))
    p = multiply_add(_quick_polynomial(r, E_TO), r * r, r) + F(1.0)
    return bits_float(float_bits(p) + (float_bits(shifted) << 23))  # n into the exponent


@_with_meaning(lambda x: np.exp(np.clip(x, -87, 87)))
def exp_within(x: Any) -> Any:
    """e**x for x brought into -87..87, where it and its reciprocal are normal numbers: 1 ulp. e**-87 for NaN."""
    return _exp_normal(clamp(x, F(-87.0), F(87.0)))


@_with_meaning(np.exp)
def decay(x: Any) -> Any:
    """e**x for x <= 0, as a share of something greater: 1 ulp, but 0 where e**x is no normal number (below 2**-126);
    with those, processors take many times as long."""
    return where(x < F(LEAST_NORMAL), F(0.0), _exp_normal(maximum(F(LEAST_NORMAL), x)))


def _same(a: Any, b: Any) -> Any:
    return a.equals(b) if is_expr(a) else a == b


def _is(x: Any, value: float) -> Any:
    return _same(x, F(value))


def _expm1_small(x: Any) -> Any:
    """e**x - 1 for |x| <= 0.35, by its Taylor series: the difference would cancel."""
    p = polynomial(x, (1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5))
    return p * (x * x) + x


@_with_meaning(np.expm1)
def expm1(x: Any) -> Any:
    """e**x - 1. 3.2 ulp."""
    return where(absolute(x) < F(0.35), _expm1_small(x), exp.traced(x) - F(1.0))


@_with_meaning(np.log)
def log(x: Any) -> Any:
    """Natural logarithm. 1 ulp; log(0) = -infinity, NaN below 0 (polynomial: Cephes, logf)."""
    tiny = x < F(1.1754944e-38)
    scaled = where(tiny, x * F(33554432.0), x)  # 2**25: subnormals become normal
    bits = float_bits(scaled)
    exponent = ((bits >> 23) & 255) - 126
    mantissa = bits_float((bits & 0x007FFFFF) | 0x3F000000)  # [0.5, 1)
    small = mantissa < F(0.70710678)
    e = cast(exponent, FLOAT32) - where(small, F(1.0), F(0.0)) - where(tiny, F(25.0), F(0.0))
    m = where(small, mantissa + mantissa, mantissa) - F(1.0)
    z = m * m
    p = polynomial(m, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
                       -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1))  # fmt: skip
    y = m * z * p + e * F(-2.12194440e-4) - z * F(0.5)
    y = m + y + e * F(0.693359375)
    y = where(x < INFINITY, y, x)  # infinity and NaN
    y = where(_is(x, 0.0), -INFINITY, y)
    return where(x < F(0.0), NAN, y)


def _logistic(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(np.less(x, 0), e, 1) / (1 + e)


@_with_meaning(_logistic)
def logistic(x: Any) -> Any:
    """1 / (1 + e**-x). 2.5 ulp. Scaled by 2**-64, so that nothing overflows before the result is 0."""
    p, word = _reduced(_within(-x, -40.0, 104.0), 127 - 64)
    return F(2.0**-64) / (p * _power_of_two(word) + F(2.0**-64))


@_with_meaning(np.tanh)
def tanh(x: Any) -> Any:
    """Hyperbolic tangent. 1.3 ulp (polynomial near 0: Cephes, tanhf)."""
    a = absolute(x)
    z = x * x  # near 0 the quotient below would cancel
    p = polynomial(z, (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1))
    near = p * z * x + x
    far = 1.0 - 2.0 / (_exp_normal(minimum(F(20.0), a + a)) + F(1.0))  # 1 from 9.02 on
    return where(a < F(0.625), near, where(x < F(0.0), -far, far))


def reciprocal_sqrt(x: Any) -> Any:
    """1 / sqrt(x)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1.0 / sqrt(x)


def _erf(x: Any) -> Any:
    x = np.asarray(x)
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape).astype(x.dtype)


@_with_meaning(_erf)
def erf(x: Any) -> Any:
    """Error function. 1.3 ulp.

    x P(x**2) up to 1, 1 - exp(-Q(|x|)) above; P and Q fitted to erf(x)/x and -log(1 - erf(x)) on [0.95, 4].
    """
    a = minimum(F(4.0), absolute(x))
    z = x * x
    p = polynomial(z, (7.889118375e-05, -8.020840933e-04, 5.1895353e-03, -2.685444457e-02,
                       1.128360018e-01, -3.761262714e-01, 1.283791659e-01))  # fmt: skip
    q = polynomial(a, (-1.382978521e-06, 4.152625291e-05, -5.6264332e-04, 4.61752598e-03, -2.606472162e-02,
                       1.09527421e-01, 6.323439632e-01, 1.12996481, -2.60987536e-04))  # fmt: skip
    far = -_exp_normal(-q) + F(1.0)
    far = where(x < F(0.0), -far, far)
    return where(absolute(x) < F(1.0), x * p + x, far)


@_with_meaning(np.cbrt)
def cbrt(x: Any) -> Any:
    """Cube root. 1.5 ulp; Newton's method from a third of the exponent, which is in the bits of x."""
    tiny = absolute(x) < F(1.1754944e-38)
    a = where(tiny, absolute(x) * F(16777216.0), absolute(x))  # 2**24: subnormals become normal
    y = bits_float(float_bits(a) // 3 + 709921077)
    for _ in range(3):
        y = y - (y - a / (y * y)) * F(1 / 3)
    y = where(tiny, y * F(1 / 256), y)
    y = where(x < F(0.0), -y, y)
    return where(_is(x, 0.0), x, where(absolute(x) < INFINITY, y, x))


def _turn(x: Any, quarter: int) -> Any:
    """sin(x + quarter * pi / 2): |x| is reduced by pi / 2 in three parts."""
    n = round_half_even(clamp(x * F(2 / math.pi), F(-1e9), F(1e9)))
    r = fused_multiply_add(n, F(-1.5707963705062866), x)
    r = fused_multiply_add(n, F(4.371138828673793e-08), r)
    r = fused_multiply_add(n, F(1.7151245100058819e-15), r)
    r = clamp(r, F(-1.0), F(1.0))  # beyond the reduction's reach results are inexact and still within [-1, 1]
    z = r * r
    s = polynomial(z, (2.726343069e-06, -1.984023015e-04, 8.333332304e-03, -1.666666667e-01)) * z * r + r
    c = polynomial(z, (-2.729361245e-07, 2.480053577e-05, -1.388888752e-03, 4.166666666e-02)) * (z * z)
    c = c - z * F(0.5) + F(1.0)
    k = round_to_int(n) + quarter
    odd, negative = _bit(k, 1), _bit(k, 2)
    y = where(odd, c, s)
    y = where(negative, -y, y)
    return where(absolute(x) < INFINITY, y, NAN)


def _bit(k: Any, mask: int) -> Any:
    return (k & mask).differs(0) if is_expr(k) else (k & mask) != 0


@_with_meaning(np.sin)
def sin(x: Any) -> Any:
    """Sine. 1.5 ulp or an error of 1e-7 for |x| < 1e6, growing with |x| beyond."""
    return _turn(x, 0)


@_with_meaning(np.cos)
def cos(x: Any) -> Any:
    """Cosine. Error as that of sin."""
    return _turn(x, 1)


@_with_meaning(np.power)
def power(x: Any, y: Any) -> Any:
    """x**y. Relative error 1e-5 (that of y log x); negative bases give NaN unless y is a whole number."""
    magnitude = exp.traced(log.traced(absolute(x)) * y)
    half = y * F(0.5)
    odd = ~_same(floor(half), half)
    signed = where(odd, -magnitude, magnitude)
    whole = _same(floor(y), y)
    negative = where(whole, signed, where((x < F(0.0)) & (x > -INFINITY), NAN, magnitude))
    z = where(float_bits(x) < 0, negative, magnitude)  # -0 too
    z = where(_is(y, 0.0), F(1.0), z)
    z = where(_is(absolute(x), 1.0) & _is(absolute(y), math.inf), F(1.0), z)
    return where(_is(x, 1.0), F(1.0), z)


def floor_mod(x: Any, y: Any) -> Any:
    """x - floor(x / y) * y with the sign of y, exactly: the remainder of the truncated quotient, moved by y."""
    if not is_expr(x, y):
        with np.errstate(all="ignore"):
            return np.mod(x, y)
    r = x % y
    return where(y < F(0.0), where(r > F(0.0), r + y, r), where(r < F(0.0), r + y, r))
