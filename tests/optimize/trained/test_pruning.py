"""Weights of Keras models become zero while they are trained, on any backend."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("keras", reason="Keras is not installed")

import keras

import lithe
from lithe.errors import InputError, StateError
from lithe.optimize import Schedule, prune, strip
from lithe.optimize.sparsity import mask, structure
from lithe.optimize.training import pruning
from lithe.optimize.training.weights import array_of
from tests.optimize.trained.small_nets import (
    BATCH,
    CHOSEN,
    COUNT,
    NETS,
    L,
    compiled,
    data,
    fitted,
    net,
    predicted,
    sequential,
)

# of Keras 3 itself, with NumPy 2
STEPS = COUNT // BATCH  # of an epoch


def rows(place):
    return place.rows(array_of(place.variable))


@pytest.mark.parametrize("name", NETS)
def test_every_kind_of_layer_computes_with_the_zeros_that_it_is_left_with(name):
    model = net(name)
    given = data(model)
    pruned = fitted(prune(model, 0.5), given)
    assert sorted(p.variable.shape[0] * int(np.prod(p.variable.shape[1:])) for p in pruned.places) == sorted(
        CHOSEN[name]
    )
    places, full = pruned.places, predicted(model, given[0])
    made = predicted(pruned, given[0])
    assert np.abs(full - made).max() > 1e-4  # the weights beside the masks are whole still
    plain = strip(pruned)
    assert plain is model
    assert np.array_equal(predicted(plain, given[0]), made)
    for place in places:
        weight = array_of(place.variable)
        assert (weight == 0).sum() == round(0.5 * weight.size)


@pytest.mark.parametrize("name", ["unstructured", "1x4", "4x1", "1x16", "2:4"])
def test_the_sparsity_is_reached_exactly_in_each_structure(name):
    model = sequential((32,), L.Dense(16), L.Reshape((4, 4, 1)), L.Conv2D(8, 3), L.Flatten(), L.Dense(4))
    pruned = prune(model, 0.5, name)
    kept = [p.rows(array_of(m)) for p, m in zip(pruned.places, pruned.masks, strict=True)]
    plain = strip(pruned)
    for place, stays in zip(pruned.places, kept, strict=True):
        weight = rows(place)
        assert np.array_equal(weight != 0, stays)
        again = mask(np.where(stays, 1.0, 0.0), 0.5, structure(name))  # which has so many units, all whole
        assert np.array_equal(again, stays)
    assert plain.layers[0].kernel.shape == (32, 16)
    dense = array_of(plain.layers[0].kernel).T != 0  # [outputs, inputs], as it is deployed
    if name == "2:4":
        assert (dense.reshape(16, 8, 4).sum(-1) == 2).all()
    if name == "1x4":
        assert set(dense.reshape(16, 8, 4).sum(-1).ravel()) == {0, 4}
    assert dense.mean() == 0.5


def test_one_threshold_for_the_model_leaves_more_where_weights_are_larger():
    model = sequential((16,), L.Dense(16), L.Dense(16))
    first, second = model.layers
    second.kernel.assign(array_of(second.kernel) * 10)
    plain = strip(fitted(prune(model, Schedule.once(0.5), threshold="model"), data(model)))
    zeros = [(array_of(layer.kernel) == 0).mean() for layer in plain.layers]
    assert sum(zeros) / 2 == 0.5
    assert zeros[0] > 0.7 > 0.3 > zeros[1]
    assert first is plain.layers[0]


def test_masks_follow_the_schedule_and_others_than_fit_can_train():
    model = sequential((16,), L.Dense(16))
    x, y = data(model)
    pruned = compiled(prune(model, Schedule.polynomial(0.8, begin=2, end=8, power=1, frequency=3)))
    seen = []
    for _ in range(10):
        pruned.train_on_batch(x, y)
        seen.append(1 - array_of(pruned.masks[0]).mean())
    assert seen == pytest.approx([0, 0, 0, 0, 0, 0.4, 0.4, 0.4, 0.8, 0.8], abs=1 / 256)
    for _ in range(10):  # the zeros stay where they are
        before = array_of(pruned.masks[0])
        pruned.train_on_batch(x, y)
        assert np.array_equal(array_of(pruned.masks[0]), before)


def test_zeros_may_come_back_while_they_are_chosen():
    model = sequential((8,), L.Dense(8))
    pruned = compiled(prune(model, Schedule.constant(0.5, frequency=1)))
    first = array_of(pruned.masks[0])
    model.layers[0].kernel.assign(np.where(first, np.float32(1e-3), np.float32(1)))
    pruned.train_on_batch(*data(model))
    pruned.advance()
    assert np.array_equal(array_of(pruned.masks[0]), ~first)
    assert (array_of(strip(pruned).layers[0].kernel) == 0).mean() == 0.5


def test_a_weight_that_is_zeroed_learns_nothing():
    model = sequential((8,), L.Dense(8, use_bias=False))
    before = array_of(model.layers[0].kernel)
    pruned = prune(model, 0.5)
    pruned.compile(keras.optimizers.SGD(0.1), "mse")
    pruned.fit(*data(model), verbose=0)
    stays, after = array_of(pruned.masks[0]), array_of(model.layers[0].kernel)
    assert np.array_equal(before[~stays], after[~stays])
    assert (before[stays] != after[stays]).all()


def test_training_that_ended_too_early_or_never_began_is_said():
    model = sequential((8,), L.Dense(8))
    pruned = prune(model, Schedule.polynomial(0.5, end=100))
    with pytest.raises(StateError, match=r"reached at step 100; it was trained for 0 steps[\s\S]*advance"):
        strip(pruned)
    fitted(pruned, data(model))
    with pytest.raises(StateError, match=f"trained for {STEPS} steps"):
        strip(pruned)


def test_the_zeros_of_the_last_step_are_there_after_it():
    model = sequential((16,), L.Dense(16))
    pruned = fitted(prune(model, Schedule.polynomial(0.75, end=2 * STEPS)), data(model), epochs=2)
    assert int(pruned.steps) == 2 * STEPS
    assert (array_of(strip(pruned).layers[0].kernel) == 0).mean() == 0.75


@pytest.mark.parametrize("name", ["several", "subclassed", "gru"])
def test_a_file_has_masks_and_schedule_and_training_goes_on(name, tmp_path):
    model = net(name)
    given = data(model)
    pruned = fitted(prune(model, Schedule.polynomial(0.5, end=2 * STEPS, frequency=2), "1x4"), given)
    pruned.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(predicted(loaded, given[0]), predicted(pruned, given[0]))
    assert loaded.schedule == pruned.schedule
    assert (int(loaded.steps), int(loaded.updated)) == (STEPS, STEPS - 1)
    for one in (pruned, loaded):
        one.fit(*given, batch_size=BATCH, verbose=0, shuffle=False)
    assert np.allclose(predicted(loaded, given[0]), predicted(pruned, given[0]), atol=1e-5) or name == "subclassed"
    for stays in map(array_of, loaded.masks):
        assert 1 - stays.mean() == pytest.approx(0.5, abs=4 / stays.size)
    strip(loaded)


def test_checkpoints_keep_masks_and_interrupted_training_resumes(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def made():
        keras.utils.set_random_seed(0)
        return compiled(prune(sequential((8,), L.Dense(8)), Schedule.polynomial(0.5, end=4 * STEPS, frequency=1)))

    whole, part, rest = made(), made(), made()
    given = data(whole.model)
    options = {"batch_size": BATCH, "epochs": 4, "verbose": 0, "shuffle": False}
    whole.fit(*given, **options)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    best = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    with pytest.raises(KeyboardInterrupt):
        part.fit(*given, **options, callbacks=[backup, best, Stop()])
    second = keras.saving.load_model(tmp_path / "2.keras")
    assert np.array_equal(array_of(second.masks[0]), array_of(part.masks[0]))
    assert 0.3 < 1 - array_of(second.masks[0]).mean() < 0.5
    rest.fit(*given, **options, callbacks=keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    assert int(rest.steps) == 4 * STEPS
    assert np.array_equal(array_of(rest.masks[0]), array_of(whole.masks[0]))
    weights = tmp_path / "pruned.weights.h5"
    whole.save_weights(weights)
    again = prune(sequential((8,), L.Dense(8)), Schedule.polynomial(0.5, end=4 * STEPS))
    again.load_weights(weights)
    assert np.array_equal(predicted(again, given[0]), predicted(whole, given[0]))


def test_another_process_loads_a_file_once_strip_is_imported(tmp_path):
    pruned = fitted(prune(net("dense"), 0.5), data(net("dense")))
    pruned.save(tmp_path / "model.keras")
    code = (
        "import sys, lithe, lithe.optimize\n"
        "assert 'keras' not in sys.modules\n"
        "from lithe.optimize import strip\n"
        "import keras\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "print(int(model.steps), len(model.masks))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(STEPS), "2"]


def test_a_scope_chooses_by_path_or_by_function():
    def shapes(scope):
        return [tuple(p.variable.shape) for p in prune(net("depthwise"), 0.5, scope=scope).places]

    assert shapes(None) == [(1, 1, 4, 8)]
    assert shapes("pointwise") == [(1, 1, 4, 8)]
    assert shapes(lambda layer, variable: isinstance(layer, L.DepthwiseConv2D)) == [(3, 3, 4, 1)]
    frozen = net("dense")
    frozen.layers[0].trainable = False
    assert [tuple(p.variable.shape) for p in prune(frozen, 0.5).places] == [(16, 5)]


def test_layers_with_schedules_of_their_own_are_wrapped_one_after_another():
    model = sequential((8,), L.Dense(8, name="first"), L.Dense(8, name="second"))
    pruned = prune(prune(model, 0.25, scope="first"), 0.75, scope="second")
    plain = strip(fitted(pruned, data(model)))
    assert plain is model
    assert [(array_of(layer.kernel) == 0).mean() for layer in plain.layers] == [0.25, 0.75]


def test_layers_of_half_precision_compute_as_they_did():
    model = sequential((8,), L.Dense(8, dtype="mixed_bfloat16"), L.Dense(4))
    given = data(model)
    pruned = fitted(prune(model, 0.5), given)
    made = predicted(pruned, given[0])
    assert np.array_equal(predicted(strip(pruned), given[0]), made)


@pytest.mark.parametrize("name", ["conv", "attention"])
def test_the_zeros_are_in_the_converted_file(name):
    model = net(name)
    x, y = data(model)
    plain = strip(fitted(prune(model, 0.75), (x, y)))
    converted = lithe.convert(plain, inputs={plain.inputs[0].name: (1, *plain.inputs[0].shape[1:])})
    found = [
        t.data
        for n in converted.module.main.nodes
        for t in n.inputs
        if t is not None and t.data is not None and t.data.ndim > 1
    ]
    sparse = [w for w in found if (w == 0).mean() == 0.75]
    assert len(sparse) == len(CHOSEN[name])
    wanted = predicted(plain, x[:1])
    assert np.allclose(np.asarray(converted(x[:1])), wanted, atol=1e-5)
    official = pytest.importorskip("tests.conversion.official")
    (made,) = official.run_official(converted, dict(zip(converted.inputs, [x[:1]], strict=True)))
    assert np.allclose(made, wanted, atol=1e-5)
    small = lithe.quantize(converted, [x[i : i + 1] for i in range(8)])  # symmetric weights keep zeros
    stored = [
        t.data
        for n in small.module.main.nodes
        for t in n.inputs
        if t is not None and t.data is not None and t.data.ndim > 1
    ]
    assert sum((w == 0).mean() >= 0.75 for w in stored) == len(sparse)


class OwnStep(keras.Model):
    def call(self, x):
        return x

    def train_step(self, *args):
        return {}


def test_what_cannot_be_pruned_is_refused():
    dense = net("dense")
    for call, message in (
        (lambda: pruning.prune("model.keras", 0.5), "only a Keras model can be pruned, this is str"),
        (lambda: prune(keras.Sequential([L.Dense(4)]), 0.5), "has no weights yet"),
        (lambda: prune(dense), "nothing says how many"),
        (lambda: prune(dense, 1.0), "sparsity is 1.0"),
        (lambda: prune(dense, "half"), "sparsity is 'half'"),
        (lambda: prune(dense, 0.5, "diagonal"), "no structure 'diagonal'"),
        (lambda: prune(dense, 0.9, "2:4"), r"2:4 leaves 0.5 of the weights, and the schedule ends where 0.1 are"),
        (lambda: prune(dense, 0.5, threshold="network"), "no threshold for 'network'"),
        (lambda: prune(dense, 0.5, scope="nowhere"), r"no weights to choose in .* with scope 'nowhere'[\s\S]*kernel"),
        (lambda: prune(sequential((4,), L.ReLU()), 0.5), "none of rank 2 or more"),
        (lambda: strip(dense), "nothing to strip from Sequential"),
        (lambda: strip(None), "nothing to strip from NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    own = OwnStep()
    own.built = True
    with pytest.raises(InputError, match="train_step of its own"):
        prune(own, 0.5)


def test_weights_that_are_no_numbers_are_refused():
    model = sequential((4,), L.Dense(4))
    model.layers[0].kernel.assign(np.full((4, 4), np.nan))
    with pytest.raises(InputError, match="NaN"):
        prune(model, 0.5)
