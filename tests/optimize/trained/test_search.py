"""A mixture of schemes beats every uniform one where layers differ: convolutions that bear few bits ill, and a dense
layer that has most of the weights and bears them well."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

import lithe
from lithe.optimize.search import search
from tests.optimize.trained.networks import BATCH, accuracy, network


def test_a_mixture_is_much_smaller_than_the_best_uniform_recipe():
    trained = network("wide")
    x, y = trained.test
    half = len(x) // (2 * BATCH) * BATCH  # the search sees these; what it finds is judged on the others too
    batches = [x[i : i + BATCH] for i in range(0, half, BATCH)], y[:half].reshape(-1, BATCH)
    model = trained.converted(BATCH)
    outcome = search(model, list(trained.samples(BATCH)), keep={"accuracy": 0.995}, labelled=batches)
    exact = accuracy(model, x[:half], y[:half])
    assert outcome.exact.accuracy == pytest.approx(exact, abs=1e-9)
    assert accuracy(outcome.model, x[:half], y[:half]) >= 0.995 * exact
    uniform = {str(t.choice): t for t in outcome.trials if t.is_uniform}
    assert set(uniform) >= {"float16", "int8", "int16x8", "dynamic", "weights", "weights_int4", "weights_int2"}
    assert outcome.chosen.bytes <= 0.6 * outcome.uniform.bytes
    official = accuracy(bytes(outcome.model), x[half:], y[half:], "official")
    assert official >= 0.98 * accuracy(model, x[half:], y[half:])
    assert bytes(lithe.quantize(model, list(trained.samples(BATCH)), outcome.recipe)) == bytes(outcome.model)
