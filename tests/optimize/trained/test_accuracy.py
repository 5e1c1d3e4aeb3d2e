"""What trained networks still know when they are smaller, counted in right answers, in both runtimes."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

import lithe
from tests.optimize.trained.broken import broken, without_upper_bounds
from tests.optimize.trained.networks import BATCH, FEED_FORWARD, accuracy, network

RUNTIMES = ("lithe", "official")
SAMPLES = 1000
POINT = 0.01
# whether there are samples, and how many points may be lost
RECIPES = {
    "int8": (True, 0.5),
    "int16x8": (True, 0.1),
    "dynamic": (False, 0.1),
    "weights": (False, 0.1),
    "weights_int4_block32": (False, 1.0),
    "dynamic_int4_block32": (False, 1.0),
    "weights_int4_block32 with samples": (True, 1.0),
    "dynamic_int4_block32 with samples": (True, 1.0),
}


@pytest.mark.parametrize("name", FEED_FORWARD)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_smaller_network_knows_as_much(name, recipe):
    trained, (sampled, points) = network(name), RECIPES[recipe]
    samples = trained.samples(BATCH, SAMPLES) if sampled else None
    made = lithe.quantize(trained.converted(BATCH), samples, recipe.split()[0])
    for runtime in RUNTIMES:
        assert accuracy(made, *trained.test, runtime) >= trained.accuracy - points * POINT - 1e-9


@pytest.mark.parametrize(("name", "spread"), [("depthwise", 1000.0), ("digits", 20_000.0)])
def test_a_network_that_breaks_plain_ranges_is_repaired(name, spread):
    """Depthwise ranges of 1000 to 1, and outlier channels: over 20 points are lost, and under one with repairs."""
    trained = network(name)
    hard = broken(without_upper_bounds(trained.converted(BATCH)), spread)
    whole = accuracy(hard, *trained.test)
    assert whole == pytest.approx(trained.accuracy, abs=POINT / 2)
    plain = lithe.quantize(hard, trained.samples(BATCH, SAMPLES), repairs=())
    repaired = lithe.quantize(hard, trained.samples(BATCH, SAMPLES))
    for runtime in RUNTIMES:
        assert accuracy(plain, *trained.test, runtime) < whole - 20 * POINT
        assert accuracy(repaired, *trained.test, runtime) > whole - POINT
    fine = lithe.quantize(hard, trained.samples(BATCH, SAMPLES), "int16x8")
    assert accuracy(fine, *trained.test) >= whole - 0.1 * POINT - 1e-9
