"""Trained networks with zeros and with few numbers, at once: what is lost in right answers, and the size of files."""

from __future__ import annotations

import pytest

pytest.importorskip("keras", reason="Keras is not installed")

from lithe.formats import tflite
from lithe.optimize import cluster, prune
from tests.optimize.trained.networks import accuracy, network

# of Keras 3 itself, with NumPy 2
BATCH, COUNT = 100, 1400


@pytest.mark.parametrize(("name", "size"), [("digits", 0.35), ("depthwise", 0.45)])
def test_few_numbers_and_zeros_keep_the_answers(name, size):
    trained = network(name)
    plain = trained.converted(BATCH)
    whole = len(tflite.write(plain.module))
    x, y = (part[:COUNT] for part in trained.test)
    before = accuracy(plain, x, y)
    few = cluster(plain, 16, trained.samples(BATCH, 400))
    sparse = prune(plain, 0.7, samples=trained.samples(BATCH, 400))
    for runtime in ("lithe", "official"):
        assert accuracy(few, x, y, runtime) > before - 0.01
        assert accuracy(sparse, x, y, runtime) > before - 0.01
    assert len(tflite.write(few.module)) < size * whole
    assert len(tflite.write(sparse.module)) < (size + 0.2) * whole
