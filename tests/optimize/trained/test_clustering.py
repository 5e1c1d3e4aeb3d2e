"""Keras models learn with few numbers in the place of their weights, on any backend."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("keras", reason="Keras is not installed")

import keras

import lithe
from lithe.errors import InputError
from lithe.optimize import Schedule, cluster, prune, strip
from lithe.optimize.clusters import members
from lithe.optimize.training import clustering
from lithe.optimize.training.weights import array_of
from tests.optimize.trained.small_nets import (
    BATCH,
    CHOSEN,
    COUNT,
    L,
    compiled,
    data,
    fitted,
    net,
    predicted,
    sequential,
)

# of Keras 3 itself, with NumPy 2


@pytest.mark.parametrize("name", ["attention", "gru", "subclassed"])
def test_every_kind_of_layer_computes_with_the_numbers_that_it_is_left_with(name):
    model = net(name)
    given = data(model)
    few = fitted(cluster(model, 4), given)
    assert len(few.places) == len(CHOSEN[name])
    full, made = predicted(model, given[0]), predicted(few, given[0])
    assert np.abs(full - made).max() > 1e-4  # the weights beside the numbers are whole still
    places = few.places
    plain = strip(few)
    assert plain is model
    assert np.allclose(predicted(plain, given[0]), made, atol=1e-6)
    for place in places:
        assert len(np.unique(array_of(place.variable))) <= 4


@pytest.mark.parametrize("start", ["linear", "density", "random", "kmeans++"])
@pytest.mark.parametrize("count", [2, 256])
def test_any_start_and_number(start, count):
    model = sequential((16,), L.Dense(32))
    kernel = array_of(model.layers[0].kernel)
    plain = strip(cluster(model, count, start))
    found = array_of(plain.layers[0].kernel)
    assert len(np.unique(found)) <= count
    assert np.abs(found - kernel).mean() < (0.2 if count == 2 else 0.01)


def test_each_output_may_have_its_own_numbers():
    model = sequential((6, 6, 4), L.Conv2D(8, 3), L.Flatten(), L.Dense(8))
    few = fitted(cluster(model, 3, per_channel=True), data(model))
    assert [tuple(c.shape) for c in few.centroids] == [(8, 3), (8, 3)]
    conv, _, dense = (strip(few)).layers
    for kernel in (array_of(conv.kernel).reshape(-1, 8), array_of(dense.kernel)):
        assert all(len(np.unique(column)) <= 3 for column in kernel.T)
        assert len(np.unique(kernel)) > 3


def test_the_gradient_of_a_number_is_the_sum_of_those_that_it_stands_for():
    model = sequential((4,), L.Dense(3, use_bias=False))
    x, y = data(model)
    few = cluster(model, 2, frequency=1000)
    member, before = array_of(few.members[0]), array_of(few.centroids[0]).reshape(-1)
    kernel, master = before[member], array_of(model.layers[0].kernel)
    few.compile(keras.optimizers.SGD(0.01), "mse")
    few.fit(x, y, batch_size=COUNT, verbose=0)
    gradient = 2 * x.T @ (x @ kernel - y) / y.size
    sums = np.array([gradient[member == i].sum() for i in range(2)])
    assert np.allclose(array_of(few.centroids[0]).reshape(-1), before - 0.01 * sums, atol=1e-6)
    assert np.allclose(array_of(model.layers[0].kernel), master - 0.01 * gradient, atol=1e-6)


def test_elements_are_given_to_the_number_next_to_them_again():
    model = sequential((8,), L.Dense(8))
    few = compiled(cluster(model, 4, frequency=3), 0.3)
    x, y = data(model)
    seen = []
    for _ in range(6):
        few.train_on_batch(x, y)
        seen.append(array_of(few.members[0]))
    changes = [not np.array_equal(a, b) for a, b in itertools.pairwise(seen)]
    assert changes == [False, False, True, False, False]
    few.advance()
    (place,) = few.places
    wanted = members(place.rows(array_of(place.variable)), array_of(few.centroids[0]))
    assert np.array_equal(place.rows(array_of(few.members[0])), wanted)


def test_a_file_has_the_numbers_and_training_goes_on(tmp_path):
    model = net("dense")
    given = data(model)
    few = fitted(cluster(model, 4, per_channel=True), given)
    few.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(predicted(loaded, given[0]), predicted(few, given[0]))
    loaded.fit(*given, batch_size=BATCH, verbose=0)
    assert int(loaded.steps) == 2 * COUNT // BATCH
    assert int(few.steps) == COUNT // BATCH
    few.save_weights(tmp_path / "few.weights.h5")
    loaded.load_weights(tmp_path / "few.weights.h5")
    assert np.array_equal(predicted(loaded, given[0]), predicted(few, given[0]))
    strip(loaded)


def test_zeros_that_pruning_left_stay_through_clustering_and_in_integers():
    model = sequential((16,), L.Dense(32, activation="relu"), L.Dense(8))
    x, y = data(model)
    pruned = fitted(prune(model, Schedule.polynomial(0.5, end=4), "2:4"), (x, y), epochs=2)
    few = fitted(cluster(pruned, 8), (x, y), epochs=2)
    assert few.model is model  # the masks have become zeros
    plain = strip(few)
    for layer in plain.layers:
        kernel = array_of(layer.kernel).T
        assert ((kernel != 0).reshape(len(kernel), -1, 4).sum(-1) == 2).all()
        assert len(np.unique(kernel)) <= 8
    converted = lithe.convert(plain, inputs={plain.inputs[0].name: (1, 16)})
    official = pytest.importorskip("tests.conversion.official")
    for made in (converted, lithe.quantize(converted, [x[i : i + 1] for i in range(COUNT)])):
        products = [n for n in made.module.main.nodes if n.op.name == "FULLY_CONNECTED"]
        assert len(products) == 2
        for node, layer in zip(products, plain.layers, strict=True):
            weights = node.inputs[1].data
            assert np.array_equal(weights == 0, array_of(layer.kernel).T == 0)
            assert max(len(np.unique(row)) for row in weights) <= 8
        (run,) = official.run_official(made, dict(zip(made.inputs, [x[:1]], strict=True)))
        assert np.allclose(np.asarray(made(x[:1])), run, atol=1e-6)
    assert np.allclose(np.asarray(converted(x[:1])), predicted(plain, x[:1]), atol=1e-5)


def test_zeros_need_not_be_kept():
    model = sequential((16,), L.Dense(16))
    kernel = np.where(np.arange(256).reshape(16, 16) % 2, array_of(model.layers[0].kernel) + 1, 0)
    model.layers[0].kernel.assign(kernel)
    few = cluster(model, 2, "linear", preserve_zeros=False, scope="dense")
    assert array_of(few.kept[0]).all()
    few.centroids[0].assign(array_of(few.centroids[0]) + 1)
    assert np.unique(array_of(strip(few).layers[0].kernel)).min() == 1


def test_what_cannot_be_clustered_is_refused():
    dense = net("dense")
    for call, message in (
        (lambda: clustering.cluster([], 16), "only a Keras model can be clustered, this is list"),
        (lambda: cluster(keras.Sequential([L.Dense(4)]), 16), "has no weights yet"),
        (lambda: cluster(dense, 1), "cannot be 1 clusters"),
        (lambda: cluster(dense, 257), "cannot be 257 clusters"),
        (lambda: cluster(dense, 16, "middle"), "do not start 'middle'"),
        (lambda: cluster(dense, 16, frequency=0), "frequency of 0 steps"),
        (lambda: cluster(dense, 16, scope="nowhere"), "no weights to choose"),
        (lambda: cluster(sequential((4,), L.ReLU()), 16), "none of rank 2 or more"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    dense.layers[0].kernel.assign(np.full((12, 16), np.inf))
    with pytest.raises(InputError, match="NaN or infinity"):
        cluster(dense, 16)
