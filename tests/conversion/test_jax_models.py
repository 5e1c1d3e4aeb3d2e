"""Whole models from JAX, Flax and Equinox: what they give as they are, here, and in the official runtime."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import agreement, converted
from lithe.formats import tflite
from tests.conversion.generation import greedy, words_of_both
from tests.conversion.official import run_official

jax = pytest.importorskip("jax", reason="JAX is not installed")
from tests.conversion import jax_models  # noqa: E402

jnp = jax.numpy
TOLERANCE = 2e-6


def holds(function, inputs, opened=(2, 5, 3, 4), tolerance=TOLERANCE):
    """Converts; the numbers must be those of the function, here and in the official runtime.

    opened  the size for an open dimension, by its place.
    """
    model, conversion = converted(function, inputs=inputs)
    assert agreement(model, conversion).worst <= tolerance
    random = np.random.default_rng(1)
    given = {}
    for name, t in conversion.entries[0].input_types.items():
        shape = [opened[i] if n > 10**6 else n for i, n in enumerate(t.shape)]
        value = random.standard_normal(shape) if t.dtype.is_float else random.integers(0, 2, shape)
        given[name] = value.astype(t.dtype.numpy)
    expected = conversion.entries[0].reference(given)
    for got, wanted in zip(run_official(model, given), expected, strict=True):
        assert relative_difference(np.asarray(wanted), got) <= tolerance
    assert not any(n.op.name.startswith("Flex") for g in model.module.graphs for n in g.nodes)
    return model


def operators(model):
    return [n.op.name for g in model.module.graphs for n in g.nodes]


@pytest.mark.parametrize("name", jax_models.MODELS)
def test_a_model_agrees_and_is_no_larger_than_it_must_be(name):
    make, inputs, most = jax_models.MODELS[name]
    model = holds(make(), inputs)
    assert len(operators(model)) <= most
    if name in ("audio net", "u-net"):
        assert "TRANSPOSE" not in operators(model)


def test_what_is_known_of_transformers_is_recognised():
    made = operators(holds(jax_models.bert(), jax_models.MODELS["bert"][1]))
    counts = {name: made.count(name) for name in ("GELU", "SOFTMAX", "BATCH_MATMUL", "TRANSPOSE", "BROADCAST_TO")}
    assert counts == {"GELU": 2, "SOFTMAX": 2, "BATCH_MATMUL": 4, "TRANSPOSE": 8, "BROADCAST_TO": 0}


def test_a_language_model_with_a_cache_writes_the_same_words():
    functions, inputs = jax_models.gpt()
    model, conversion = converted(functions, inputs=inputs)
    assert agreement(model, conversion).worst <= TOLERANCE
    prompt = np.array([[3, 1, 4, 1, 5, 9, 2, 6]], np.int32)
    expected = greedy(functions["prefill"], functions["decode"], prompt, 4)
    assert len(set(expected)) > 1
    assert words_of_both(model, prompt, 4) == [expected, expected]
    alone, _ = converted(functions["prefill"], inputs=inputs["prefill"])
    weights = sum(t.data.nbytes for t in model.module.graphs[0].tensors if t.data is not None)
    assert len(tflite.write(model.module)) - len(tflite.write(alone.module)) < weights  # they are in the file once
