"""Trained networks with zeros and with few numbers, at once: what is lost in right answers, and the size of files."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

from lithe.formats import tflite
from lithe.optimize import cluster, prune
from tests.optimize.trained.networks import accuracy, network

BATCH = 100


@pytest.mark.parametrize("name", ["digits", "depthwise", "text", "transformer"])
def test_it(name):
    n = network(name)
    m = n.converted(BATCH)
    size = len(tflite.write(m.module))
    base = accuracy(m, *n.test)
    for tag, f in (("cl16", lambda s: cluster(m, 16, s)), ("cl16 none", lambda s: cluster(m, 16)), ("pr70", lambda s: prune(m, 0.7, samples=s)), ("pr50", lambda s: prune(m, 0.5, samples=s))):
        try:
            c = f(n.samples(BATCH, 400))
            print(name, tag, base, accuracy(c, *n.test), accuracy(c, *n.test, "official"), len(tflite.write(c.module)) / size, flush=True)
        except Exception as e:
            print(name, tag, "ERR", str(e)[:150])
