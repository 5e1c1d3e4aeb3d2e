"""Trained networks learn with integers: what they know stays, and the file gives the bits of the model in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lithe
from lithe.errors import InputError, UnsupportedOp
from tests.optimize.trained.networks import FEED_FORWARD, RECURRENT, network
from tests.optimize.trained.test_aware import NETS, data, deployed, official, predicted

keras = pytest.importorskip("keras", reason="Keras is not installed")

EPOCHS, RATE = 2, 1e-4  # for all alike, from about the rate with which the networks were last trained down to none
LOST = 0.001  # of the share of right answers, at most
# Products of two computed tensors (BATCH_MATMUL) round a step apart in the official runtime, and there too between its
# own kernels: of 3200 probabilities 27 differ between the usual and the reference ones, 20 from ours.
ROUNDED = "transformer"
FUSED = ("lstm", "bidirectional")  # one operator for each layer, with a batch of one


@pytest.mark.parametrize("name", [*FEED_FORWARD, *RECURRENT])
def test_trained_networks_keep_what_they_know(name: str) -> None:
    """On all of the test set: the same bits in Lithe and in the official runtime, and at most a tenth of a point less
    than the float network knows."""
    trained = network(name)
    (x, y), (given, answers) = trained.train, trained.test
    inputs = {"x": (1, *x.shape[1:])} if name in FUSED else None
    aware = lithe.optimize.quantize_aware(trained.model, x[:200, None], inputs=inputs)
    before = [np.array(v) for v in aware.trainable_variables]
    rate = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * (len(x) // 64 + 1))
    aware.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    aware.fit(x, y, epochs=EPOCHS, batch_size=64, verbose=0)
    assert all(np.abs(np.asarray(v) - b).max() > 0 for v, b in zip(aware.trainable_variables, before, strict=True))
    found = aware.predict(given, batch_size=500, verbose=0)
    assert (found.argmax(-1) == answers).mean() >= trained.accuracy - LOST
    small = lithe.convert(aware)
    assert np.array_equal(found, deployed(small, given)[0])
    there = official(small, given)[0]
    assert (there.argmax(-1) == answers).mean() >= trained.accuracy - LOST
    if name == ROUNDED:
        assert (there.argmax(-1) == found.argmax(-1)).mean() >= 0.9995
    else:
        assert np.array_equal(there, found)


def far_from_its_beginning() -> tuple[Any, np.ndarray, np.ndarray]:
    """A network whose values grow, as it is trained, to ten times what they are."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,), name="x"), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(2)]
    )
    random = np.random.default_rng(0)
    x = random.normal(size=(256, 6)).astype(np.float32)
    return model, x, 10 * x[:, :2] + 5 * np.abs(x[:, 2:4])


def trained_far(renewed: int) -> tuple[Any, np.ndarray, float]:
    """The network in training, what it is given, and its loss after eight epochs; ranges follow in the first ones."""
    model, x, y = far_from_its_beginning()
    aware = lithe.optimize.quantize_aware(model, x[:64, None])
    aware.compile(keras.optimizers.Adam(0.03), "mse")

    def renew(epoch: int, logs: Any) -> None:
        if epoch < renewed:
            aware.renew_ranges(x[:64, None])

    following = keras.callbacks.LambdaCallback(on_epoch_end=renew)
    options = {"epochs": 8, "batch_size": 16, "verbose": 0, "validation_data": (x[:32], y[:32])}
    losses = aware.fit(x, y, callbacks=[following], **options).history["loss"]
    assert int(aware.optimizer.iterations) == 8 * 16  # it went on as it was
    return aware, x, losses[-1]


def test_ranges_follow_training_where_they_are_renewed() -> None:
    _, _, fixed = trained_far(0)
    aware, x, following = trained_far(4)
    assert following < fixed / 10
    found = aware.predict(x, verbose=0)
    assert np.array_equal(found, deployed(lithe.convert(aware), x)[0])
    assert np.array_equal(found, official(lithe.convert(aware), x)[0])


def test_scales_are_saved_with_the_weights_that_they_belong_to(tmp_path: Any) -> None:
    aware, x, _ = trained_far(2)
    found = aware.predict(x, verbose=0)
    file = str(tmp_path / "model.weights.h5")
    aware.save_weights(file)
    aware.save(tmp_path / "model.keras")
    model, _, y = far_from_its_beginning()
    other = lithe.optimize.quantize_aware(model, x[:64, None])
    other.compile("adam", "mse")
    other.fit(x, y, epochs=1, verbose=0)  # compiled for other scales
    other.predict(x, verbose=0)
    other.load_weights(file)
    for again in (other, keras.models.load_model(tmp_path / "model.keras")):
        assert np.array_equal(again.predict(x, verbose=0), found)
        again.fit(x, y, epochs=1, verbose=0)
        assert np.array_equal(again.predict(x, verbose=0), deployed(lithe.convert(again), x)[0])
        again.renew_ranges(x[:64, None])
        plain, last = lithe.optimize.strip(again).predict(x, verbose=0), again.predict(x, verbose=0)
        assert np.abs(plain - last).mean() < 0.03 * np.abs(last).mean()
        again.save(tmp_path / "again.keras")
        assert np.array_equal(keras.models.load_model(tmp_path / "again.keras").predict(x, verbose=0), last)


def test_ranges_are_renewed_for_the_same_integers() -> None:
    model, x, _ = far_from_its_beginning()
    aware = lithe.optimize.quantize_aware(model, x[:8, None])
    with pytest.raises(InputError, match="other integers than those that are trained"):
        aware.renew_ranges(x[:8, None], "int16x8")
    with pytest.raises(InputError, match="no samples"):
        aware.renew_ranges([])


@pytest.mark.parametrize("name", ["wide", "attention"])
def test_values_of_16_bits_are_trained_to_the_bit(name: str) -> None:
    keras.utils.set_random_seed(0)
    build, inputs = NETS[name]
    model = build()
    x, y = data(model)
    aware = lithe.optimize.quantize_aware(model, x[:16, None], "int16x8", inputs=inputs)
    aware.compile(keras.optimizers.Adam(0.01), "mse")
    losses = aware.fit(x, y[0], epochs=2, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    found, small = predicted(aware, x)[0], lithe.convert(aware)
    assert "int16" in {t.type.dtype.name for n in small.module.main.nodes for t in n.outputs}
    assert np.array_equal(found, deployed(small, x)[0])
    assert np.array_equal(found.argmax(-1), official(small, x)[0].argmax(-1))


def test_a_fused_layer_of_16_bits_is_refused() -> None:
    """It has no such integers: steps of 16 bits are a loop, through which there are no gradients."""
    build, inputs = NETS["lstm"]
    model = build()
    with pytest.raises(UnsupportedOp, match="no gradient for WHILE"):
        lithe.optimize.quantize_aware(model, data(model)[0][:8, None], "int16x8", inputs=inputs)
