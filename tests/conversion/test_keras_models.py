"""Whole models of Keras on JAX: what they give, as graphs here, and in the official runtime."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import agreement, converted
from tests.conversion.official import run_official

if importlib.util.find_spec("jax") is None:
    pytest.skip("JAX is not installed", allow_module_level=True)
os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="Keras is not installed")
if keras.backend.backend() != "jax":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)
from tests.conversion.keras_models import MODELS  # noqa: E402

TOLERANCE = 2e-6
# operators of each model, and those of some kinds
MOST = {"bert": 118, "conformer": 83, "audio net": 37, "u-net": 16}
OF_KINDS = {
    "bert": {"GELU": 2, "SOFTMAX": 2, "BATCH_MATMUL": 4, "TRANSPOSE": 8, "BROADCAST_TO": 0},
    "conformer": {"SOFTMAX": 1, "BATCH_MATMUL": 2, "TRANSPOSE": 4, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 1},
    "audio net": {"TRANSPOSE": 0, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 2, "RFFT2D": 1},
    "u-net": {"TRANSPOSE": 0, "CONV_2D": 6, "MUL": 0, "ADD": 0},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_agrees_and_is_no_larger_than_it_must_be(name):
    make, inputs = MODELS[name]
    keras.utils.set_random_seed(0)
    source = make()
    random = np.random.default_rng(0)
    for v in source.weights:  # none is zero or one, so that none can be forgotten
        v.assign(v + 0.1 * np.abs(random.standard_normal(v.shape)))
    model, conversion = converted(source, inputs=inputs)
    assert agreement(model, conversion).worst <= TOLERANCE
    given = {}
    for name_of_input, t in conversion.entries[0].input_types.items():
        shape = [(2, 5)[i] if n > 10**6 else n for i, n in enumerate(t.shape)]
        value = random.standard_normal(shape) if t.dtype.is_float else random.integers(0, 2, shape)
        given[name_of_input] = value.astype(t.dtype.numpy)
    for got, wanted in zip(run_official(model, given), conversion.entries[0].reference(given), strict=True):
        assert relative_difference(np.asarray(wanted), got) <= TOLERANCE
    counts = Counter(n.op.name for g in model.module.graphs for n in g.nodes)
    assert counts.total() <= MOST[name], counts
    assert {kind: counts[kind] for kind in OF_KINDS[name]} == OF_KINDS[name]
