"""Several samples at once: the same ranges as one at a time, and one at a time where it would not be the same."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lithe.errors import InputError
from lithe.ir.graph import Tensor
from lithe.optimize import calibration
from lithe.optimize.calibration import Watched, calibrated
from lithe.optimize.ranges import OBSERVERS
from lithe.types import FLOAT32, INT32
from tests.optimize.test_quantization import convolution, model

SHAPE = (1, 8, 8, 4)


def samples(count=40, seed=1):
    random = np.random.default_rng(seed)
    return [(random.standard_normal(SHAPE) * (1 + i % 7)).astype(np.float32) for i in range(count)]


def plain(b, x):
    y = convolution(b, x, fused_activation_function="RELU")
    flat = b.reshape(y, (1, 8 * 8 * 8))
    return {"y": b("SOFTMAX", flat, beta=1.0), "z": b("TANH", y)}


def across(b, x):
    """Sums along the axis in which samples would stand, one with its shape."""
    total = b("SUM", x, b.constant(np.array([0], np.int32), INT32), keep_dims=True)
    y = b("CUMSUM", b("ADD", x, total), b.constant(np.array(0, np.int32), INT32))
    return {"y": b("NEG", y)}


def parted(b, x):
    """Parts along the axis in which samples would stand, and rows and columns beside it."""

    def at(*places):
        return b.constant(np.array(places, np.int32), INT32)

    wide = b("PAD", b("CONCATENATION", x, x, axis=0), at([1, 0], [0, 0], [2, 1], [0, 0]))
    part = b("SLICE", wide, at(1, 2, 0, 0), at(2, 5, -1, -1))
    return {"y": b("NEG", b("STRIDED_SLICE", part, at(1, 1, 0, 0), at(2, 5, 9, 2), at(1, 2, 3, 1), end_mask=1))}


def turned(b, x):
    return {"y": b("NEG", b("TRANSPOSE", x, b.constant(np.array([3, 1, 2, 0], np.int32), INT32)))}


def in_turn(module, given, make, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("lithe.optimize.batches.MOST", 1)
        return calibrated(module, given, lambda seen: make())


@pytest.mark.parametrize("name", OBSERVERS)
def test_ranges_are_the_same(name, monkeypatch):
    module, make = model(plain, SHAPE), OBSERVERS[name]
    together = calibrated(module, samples(), lambda seen: make())
    alone = in_turn(module, samples(), make, monkeypatch)
    assert list(together) == list(alone)
    np.testing.assert_allclose([*together.values()], [*alone.values()], rtol=1e-5)


def ways(watched):
    """{operator: how it was given several samples}"""
    return {part.step.node.op.name: part.way for part in watched._batches._parts}


@pytest.mark.parametrize(
    ("build", "found_ways"),
    [
        (plain, {"CONV_2D": "joined", "RESHAPE": "joined", "SOFTMAX": "joined", "TANH": "joined"}),
        (across, {"SUM": "stacked", "ADD": "joined", "CUMSUM": "stacked", "NEG": "joined"}),
        (parted, dict.fromkeys(("CONCATENATION", "PAD", "SLICE", "STRIDED_SLICE"), "stacked") | {"NEG": "joined"}),
        (turned, {"TRANSPOSE": "each", "NEG": "joined"}),
    ],
)
def test_what_mixes_samples_is_run_one_at_a_time_or_behind_an_axis_of_theirs(build, found_ways, monkeypatch):
    module, make = model(build, SHAPE), OBSERVERS["min_max"]
    watched, counts = Watched(module), []
    found = {}
    for count in watched.run(samples(), lambda seen: found.setdefault(seen, make())):
        counts.append(count)
    assert ways(watched) == found_ways
    assert counts == list(range(1, 41))
    alone = in_turn(module, samples(), make, monkeypatch)
    np.testing.assert_allclose([found[seen].range() for seen in alone], [*alone.values()], rtol=1e-5)


def test_samples_that_are_the_same_say_nothing_of_others():
    watched = Watched(model(across, SHAPE))
    given = [samples(1)[0] * 0] * 64 + samples(64)  # zeros alone agree with their sum
    found = {}
    list(watched.run(given, lambda seen: found.setdefault(seen, OBSERVERS["min_max"]())))
    assert ways(watched)["CUMSUM"] == "stacked"
    (y,) = (t for t in found if isinstance(t, Tensor) and t in watched.module.main.outputs)
    assert found[y].range()[0] == -max(2 * a.max() for a in given)


def test_a_sample_with_nan_is_named():
    given = samples()
    given[17][0, 3, 3, 1] = np.nan
    with pytest.raises(InputError, match=r"sample 17 gives NaN"):
        calibrated(model(plain, SHAPE), given, lambda seen: OBSERVERS["min_max"]())


def test_sizes_that_the_operators_need_are_kept():
    """A constant with a place for one sample does not fit several, and operators before and after it go on."""

    def build(b, x):
        weights = b.constant(np.random.default_rng(0).standard_normal((1, 8 * 8 * 4)).astype(np.float32), FLOAT32)
        return {"y": b("TANH", b("CONCATENATION", b.reshape(x, (1, 8 * 8 * 4)), weights, axis=1))}

    watched = Watched(model(build, SHAPE))
    assert [*watched.run(samples(), lambda seen: OBSERVERS["min_max"]())][-1] == 40
    assert ways(watched) == {"RESHAPE": "joined", "CONCATENATION": "each", "TANH": "joined"}


def test_inputs_without_an_axis_of_one_are_stacked(monkeypatch):
    def build(b, x):
        turned = b("TRANSPOSE", x, b.constant(np.array([1, 0], np.int32), INT32))
        return {"y": b("ADD", b("BATCH_MATMUL", x, x), turned)}

    given = [np.random.default_rng(i).standard_normal((6, 6)).astype(np.float32) for i in range(40)]
    module, make = model(build, (6, 6)), OBSERVERS["min_max"]
    watched, found = Watched(module), {}
    list(watched.run(given, lambda seen: found.setdefault(seen, make())))
    assert ways(watched) == {"BATCH_MATMUL": "stacked", "TRANSPOSE": "each", "ADD": "joined"}
    alone = in_turn(module, given, make, monkeypatch)
    np.testing.assert_allclose([found[seen].range() for seen in alone], [*alone.values()], rtol=1e-5)


@pytest.mark.parametrize(("count", "first"), [(10, sys.maxsize), (10**9, 0)])
def test_code_is_made_at_once_where_samples_are_many(count, first):
    module = model(plain, SHAPE)
    least = calibration._runs_without_code(module, 64, None)
    assert 10 < least < 10**9
    assert calibration._runs_without_code(module, 64, count) == first
