"""Networks that have learned know it still when they are pruned, clustered and made integers, in that order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("keras", reason="Keras is not installed")

import keras

import lithe
from lithe.optimize import Schedule, cluster, prune, quantize_aware, strip
from lithe.optimize.training.weights import array_of
from tests.optimize.trained.networks import BATCH, accuracy, network
from tests.optimize.trained.small_nets import COUNT, L, data, fitted, sequential

# of Keras 3 itself, with NumPy 2
POINT = 0.01
ROWS = 64  # of a batch in training


def trained_on(model, trained, epochs, rate):
    steps = epochs * (len(trained.train[0]) // ROWS + 1)
    falling = keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(falling), "sparse_categorical_crossentropy")
    model.fit(*trained.train, batch_size=ROWS, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize(("name", "sparsity", "structure"), [("digits", 0.7, "1x4"), ("gru", 0.7, "unstructured")])
def test_a_network_keeps_what_it_knows(name, sparsity, structure):
    trained = network(name)
    keras.utils.set_random_seed(1)
    model = keras.models.clone_model(trained.model)
    model.set_weights(trained.model.get_weights())
    end = 3 * len(trained.train[0]) // ROWS // 2
    schedule = Schedule.polynomial(sparsity, end=end, frequency=20)
    sparse = trained_on(prune(model, schedule, structure, threshold="model"), trained, epochs=4, rate=3e-3)
    few = trained_on(cluster(sparse, 16), trained, epochs=2, rate=1e-3)
    plain = strip(few)
    weights = [array_of(p.variable) for p in few.places]
    total = sum(w.size for w in weights)
    assert sum((w == 0).sum() for w in weights) / total == pytest.approx(sparsity, abs=0.005)
    assert all(len(np.unique(w)) <= 16 for w in weights)
    float32 = replace(trained, model=plain).converted(BATCH)
    integers = lithe.quantize(float32, trained.samples(BATCH))
    for made in (float32, integers):
        for runtime in ("lithe", "official"):
            assert accuracy(made, *trained.test, runtime) >= trained.accuracy - POINT


def test_zeros_and_numbers_stay_when_integers_are_trained():
    model = sequential((16,), L.Dense(32, activation="relu"), L.Dense(8))
    x, y = data(model)
    few = cluster(prune(model, 0.5), 8)
    aware = fitted(quantize_aware(few, [x[i : i + 1] for i in range(COUNT)]), (x, y), epochs=3)
    products = [n for n in lithe.convert(aware).module.main.nodes if n.op.name == "FULLY_CONNECTED"]
    for node, layer in zip(products, model.layers, strict=True):
        weights, zeros = node.inputs[1].data, array_of(layer.kernel).T == 0
        assert weights.dtype == np.int8
        assert zeros.mean() == 0.5
        assert (weights[zeros] == 0).all()
        assert max(len(np.unique(row)) for row in weights) <= 8
