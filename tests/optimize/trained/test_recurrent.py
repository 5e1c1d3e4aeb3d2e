"""Trained recurrent networks on integers keep their accuracy, in Lithe and in the official runtime."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

import lithe
from lithe.optimize import weights
from tests.optimize.trained.networks import BATCH, RECURRENT, accuracy, network

LOST = {"int8": 0.005, "int16x8": 0.001, "dynamic": 0.001}  # of the share of right answers, at most


@pytest.mark.parametrize("recipe", LOST)
@pytest.mark.parametrize("name", RECURRENT)
def test_a_smaller_network_keeps_its_accuracy(name, recipe, monkeypatch):
    monkeypatch.setattr(weights, "LEAST_WEIGHTS", 64)  # these networks have no more
    trained = network(name)
    converted = trained.converted(BATCH)
    made = lithe.quantize(converted, trained.samples(BATCH, 400), recipe)
    for runtime in ("lithe", "official"):
        right = accuracy(made, *trained.test, runtime)
        print(f"{name} {recipe} {runtime}: {trained.accuracy:.4f} -> {right:.4f}")
        assert right >= trained.accuracy - LOST[recipe] - 1e-9
    if recipe != "dynamic":
        inside = [n for graph in made.module.graphs for n in graph.nodes if n.op.name not in ("QUANTIZE", "DEQUANTIZE")]
        real = [n for n in inside if any(t.type.dtype.is_float for t in (*n.inputs, *n.outputs) if t is not None)]
        assert not real
