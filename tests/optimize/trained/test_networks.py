"""The networks that other tests make smaller: they have learned, and both runtimes say the same of them."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

from tests.optimize.trained.networks import BATCH, NETWORKS, accuracy, network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_learned(name):
    trained = network(name)
    assert 0.97 < trained.accuracy < 1
    converted = trained.converted(BATCH)
    for runtime in ("lithe", "official"):
        assert accuracy(converted, *trained.test, runtime) == pytest.approx(trained.accuracy, abs=0.0006)
