"""Trained recurrent networks on integers keep their accuracy, in Lithe and in the official runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("keras")

import lithe
from lithe.optimize.recipes import BYTES, DYNAMIC, WORDS, Recipe, Rule
from tests.optimize.trained.networks import BATCH, RECURRENT, accuracy, network

SMALL = replace(DYNAMIC, least=64)  # these networks have no tensors of many weights
LOST = {BYTES: 0.005, WORDS: 0.001, SMALL: 0.001}  # of the share of right answers, at most


@pytest.mark.parametrize("scheme", LOST, ids=["int8", "int16x8", "dynamic"])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_smaller_network_keeps_its_accuracy(name, scheme):
    trained = network(name)
    converted = trained.converted(BATCH)
    made = lithe.quantize(converted, trained.samples(BATCH, 400), Recipe((Rule(scheme),)))
    for runtime in ("lithe", "official"):
        right = accuracy(made, *trained.test, runtime)
        assert right >= trained.accuracy - LOST[scheme] - 1e-9
    if scheme.values is not None:
        inside = [n for graph in made.module.graphs for n in graph.nodes if n.op.name not in ("QUANTIZE", "DEQUANTIZE")]
        real = [n for n in inside if any(t.type.dtype.is_float for t in (*n.inputs, *n.outputs) if t is not None)]
        assert not real
