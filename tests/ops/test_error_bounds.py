"""The errors that operators of several roundings state, against float64, as machine code over dense sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lithe.lower import lower
from tests.llvm_backend import host_target, run
from tests.passes.graphs import Draft


def computed(x: np.ndarray, build: Callable[[Draft, object], object]) -> np.ndarray:
    """What machine code of a small graph makes of x."""
    d = Draft()
    y = build(d, d.input(x.shape))
    (result,) = run(lower(d.graph(y), host_target()), [x])
    return result.astype(np.float64)


def ulp(exact: np.ndarray) -> np.ndarray:
    return np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu(approximate: bool) -> None:
    x = np.linspace(-8, 8, 200_003).astype(np.float32)
    got = computed(x, lambda d, t: d("GELU", t, shape=x.shape, approximate=approximate))
    wide = x.astype(np.float64)
    inner = np.array([math.erf(v) for v in wide * math.sqrt(0.5)])
    if approximate:
        inner = np.tanh((wide + 0.044715 * wide**3) * math.sqrt(2 / math.pi))
    exact = 0.5 * wide * (1 + inner)
    assert (np.abs(got - exact) <= 2**-22 * np.maximum(1, np.abs(wide))).all()


@pytest.mark.parametrize(("channels", "spread"), [(37, 1.0), (335, 8.0), (1001, 40.0)])
def test_softmax(channels: int, spread: float) -> None:
    x = (np.random.default_rng(channels).standard_normal((400, channels)) * spread).astype(np.float32)
    got = computed(x, lambda d, t: d("SOFTMAX", t, shape=x.shape, beta=1.0))
    wide = x.astype(np.float64)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    exact = e / e.sum(axis=1, keepdims=True)
    normal = exact > 2.0**-125
    distance = wide.max(axis=1, keepdims=True) - wide
    assert ((np.abs(got - exact) / ulp(exact))[normal] <= (5 + distance)[normal]).all()
    assert np.abs(got - exact)[~normal].max(initial=0) <= 2.0**-125
    assert np.abs(got.sum(axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("width", [20, 192, 1000])
def test_layer_normalization(width: int) -> None:
    """(x - mean) / sqrt(variance + epsilon), in the operators that converters write."""
    x = np.random.default_rng(width).normal(3, 2, (500, width)).astype(np.float32)

    def build(d: Draft, t: object) -> object:
        axis = d.constant([1], np.int32)
        one, all_ = (500, 1), (500, width)
        mean = d("MEAN", t, axis, shape=one, keep_dims=True)
        variance = d("MEAN", d("SQUARED_DIFFERENCE", t, mean, shape=all_), axis, shape=one, keep_dims=True)
        inverse = d("RSQRT", d("ADD", variance, d.constant(1e-6), shape=one), shape=one)
        return d("MUL", d("SUB", t, mean, shape=all_), inverse, shape=all_)

    got = computed(x, build)
    wide = x.astype(np.float64)
    exact = (wide - wide.mean(axis=1, keepdims=True)) / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-6)
    assert (np.abs(got - exact) / np.maximum(1, np.abs(exact))).max() <= 16 * 2**-24
