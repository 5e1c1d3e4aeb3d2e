"""The traced elementary functions against float64, over their whole range and at its ends."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lithe.ir import elementary
from lithe.ir.elementary import portable

SPECIAL = np.float32([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38])


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.array([math.erf(v) for v in x])


ROWS: list[tuple[str, Callable[[np.ndarray], np.ndarray], float, float, float]] = [
    ("exp", np.exp, -87, 88.7, 1.1),
    ("decay", np.exp, -87.33, 0, 1.1),
    ("expm1", np.expm1, -20, 10, 3.5),
    ("log", np.log, 1.2e-38, 10, 1.0),
    ("log", np.log, 10, 3.4e38, 1.0),
    ("logistic", _logistic, -87, 20, 2.5),
    ("tanh", np.tanh, -10, 10, 1.5),
    ("erf", _erf, -4.5, 4.5, 1.6),
    ("cbrt", np.cbrt, -30, 30, 1.5),
    ("cbrt", np.cbrt, 1e-30, 3.4e38, 1.5),
]


@pytest.mark.parametrize(("name", "exact", "low", "high", "bound"), ROWS)
def test_error_in_ulp(
    name: str, exact: Callable[[np.ndarray], np.ndarray], low: float, high: float, bound: float
) -> None:
    x = np.linspace(low, high, 100_003).astype(np.float32)
    expected = exact(x.astype(np.float64))
    got = portable(getattr(elementary, name))(x).astype(np.float64)
    ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    normal = (np.abs(expected) > 1.2e-38) & (np.abs(expected) < 3.4e38)
    assert (np.abs(got - expected) / ulp)[normal].max() <= bound


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_turns(name: str) -> None:
    x = np.linspace(-1e6, 1e6, 100_003).astype(np.float32)
    expected = getattr(np, name)(x.astype(np.float64))
    assert np.abs(portable(getattr(elementary, name))(x) - expected).max() < 1.2e-7
    huge = portable(getattr(elementary, name))(np.float32([1e20, -3e38]))
    assert (np.abs(huge) <= 1).all()


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "logistic", "tanh", "erf", "cbrt"])
def test_infinities_zeros_and_nan(name: str) -> None:
    function = getattr(elementary, name)
    np.testing.assert_allclose(portable(function)(SPECIAL), function(SPECIAL), rtol=1e-6, atol=1e-44)


def test_decay_ends_where_numbers_stop_being_normal() -> None:
    x = np.float32([0, -87.33, -87.34, -90, -1e9, -np.inf, np.nan])
    expected = np.float32([1, np.exp(np.float64(x[1])), 0, 0, 0, 0, np.nan])
    np.testing.assert_allclose(portable(elementary.decay)(x), expected, rtol=1e-6)


def test_power() -> None:
    random = np.random.default_rng(3)
    x, y = random.uniform(0.01, 50, 20_000).astype(np.float32), random.uniform(-20, 20, 20_000).astype(np.float32)
    np.testing.assert_allclose(portable(elementary.power)(x, y), np.power(x.astype(np.float64), y), rtol=1e-5)
    x, y = np.float32([-2, -2, 0, 0, 0, 1, np.nan, -8]), np.float32([3, 0.5, 0, 2, -1, np.inf, 0, 2])
    expected = np.float32([-8, np.nan, 1, 0, np.inf, 1, 1, 64])
    np.testing.assert_allclose(portable(elementary.power)(x, y), expected, rtol=1e-5)
    np.testing.assert_array_equal(elementary.power(x, y), expected)


def test_arrays_keep_their_precision() -> None:
    assert elementary.exp(np.float64([1.0])).dtype == np.float64
    assert elementary.logistic(np.float64([0.3]))[0] == pytest.approx(1 / (1 + math.exp(-0.3)), rel=1e-15)
    assert elementary.erf(np.float64([0.3]))[0] == math.erf(0.3)
