"""A trained network that is built to break min-max: `lithe.compare` names the layers that do, and why."""

from __future__ import annotations

import pytest

pytest.importorskip("keras", reason="Keras is not installed")

import lithe
from tests.optimize.trained.broken import broken, without_upper_bounds
from tests.optimize.trained.networks import accuracy, network

BATCH = 100


@pytest.fixture(scope="module")
def models():
    """(the float model, plain int8, the same with the repair that is advised, samples, test data)."""
    trained = network("depthwise")
    whole = broken(without_upper_bounds(trained.converted(BATCH)))
    samples = list(trained.samples(BATCH, 300))
    plain, repaired = (lithe.quantize(whole, samples, repairs=repairs) for repairs in ((), ["equalization"]))
    return whole, plain, repaired, samples, trained.test


def test_the_layer_and_the_cause_are_named(models):
    whole, plain, _, samples, test = models
    assert accuracy(whole, *test) - accuracy(plain, *test) > 0.2
    found = lithe.compare(whole, plain, samples[:2])
    convolutions = [n for n in whole.module.main.nodes if n.op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    scaled = [n.outputs[0].name for n in convolutions[:-1]]  # every one of them, for the next to undo
    assert [layer.name for layer in found.layers if layer.wrong] == scaled
    for layer in found.layers:
        named = [c.name for c in layer.causes]
        assert bool({"outlier channel", "channels of very different ranges"} & set(named)) == layer.wrong
    assert 'repairs="equalization"' in found.verdict


def test_what_is_advised_repairs_it(models):
    whole, plain, repaired, samples, test = models
    before, after = (lithe.compare(whole, model, samples[:2]) for model in (plain, repaired))
    assert accuracy(whole, *test) - accuracy(repaired, *test) < 0.02
    assert after.first is None
    assert after.outputs[0].snr > before.outputs[0].snr + 10
