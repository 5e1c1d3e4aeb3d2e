"""Ranges of values that are known."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.errors import InputError
from lithe.optimize.ranges import BINS, OBSERVERS, Histogram, MovingAverage, Percentile, observer


def watched(name, *arrays):
    o = observer(name)()
    for a in arrays:
        o.see(np.asarray(a, np.float32))
    return o.range()


def test_the_least_and_the_greatest():
    assert watched("min_max", [1, 2], [-3, 0.5]) == (-3, 2)


def test_averages_follow_the_samples():
    assert MovingAverage().range() == (0, 0)
    assert watched("moving_average", [0, 1]) == (0, 1)
    low, high = watched("moving_average", [0, 1], [-1, 3])
    assert (low, high) == pytest.approx((-0.05, 1.1))


def test_a_percentile_leaves_out_both_tails():
    values = np.linspace(-1, 1, 100_001)
    o = Percentile(90)
    o.see(values)
    assert o.range() == pytest.approx((-0.9, 0.9), abs=2e-3)
    low, high = watched("percentile", np.concatenate([values, [1000.0]]))
    assert high < 2
    assert low == pytest.approx(-1, abs=1e-2)


def test_a_histogram_grows_to_either_side_and_loses_nothing():
    h = Histogram()
    random = np.random.default_rng(0)
    arrays = [random.normal(m, 1 + abs(m), 1000).astype(np.float32) for m in (0, 5, -40, 300)]
    for a in arrays:
        h.see(a)
    everything = np.concatenate(arrays)
    assert h.counts.sum() == everything.size
    assert h.low <= everything.min()
    assert everything.max() < h.low + BINS * h.width
    cumulative = np.interp(np.sort(everything), h.low + (np.arange(BINS) + 1) * h.width, h.counts.cumsum())
    assert np.abs(cumulative - np.arange(everything.size)).max() < 0.3 * everything.size


@pytest.mark.parametrize("name", ["mean_squared_error", "entropy"])
def test_a_lone_outlier_is_cut_off_where_that_costs_less(name):
    values = np.random.default_rng(1).normal(0, 1, 1_000_000).astype(np.float32)
    low, high = watched(name, values, [30.0])
    assert 3 < high < 24
    assert -7 < low < 0
    uniform = np.linspace(-1, 1, 100_000)
    assert watched(name, uniform) == pytest.approx((-1, 1), abs=0.03)


def test_the_error_is_least_where_an_exhaustive_search_finds_it():
    values = np.abs(np.random.default_rng(2).standard_t(3, 50_000)).astype(np.float32)
    _, high = watched("mean_squared_error", values)

    def loss(top):
        step = top / 255
        return float(((np.clip(np.round(values / step), 0, 255) * step - values) ** 2).mean())

    best = min(map(loss, np.linspace(values.max() / 200, values.max(), 400)))
    assert loss(high) <= 1.05 * best


def test_a_guarded_error_cuts_off_less():
    values = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    reach = {name: watched(name, values)[1] for name in ("min_max", "mean_squared_error", "guarded_error")}
    assert reach["mean_squared_error"] < reach["guarded_error"] < reach["min_max"]


@pytest.mark.parametrize("name", OBSERVERS)
def test_one_value_alone_is_a_range(name):
    low, high = watched(name, [0.25, 0.25])
    assert low <= 0.25 <= high + 1e-6
    assert watched(name, [0, 0]) == pytest.approx((0, 0), abs=1e-20)


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match=r"no ranges called 'median'[^|]*min_max, moving_average"):
        observer("median")


@pytest.mark.parametrize("name", OBSERVERS)
def test_merged_observers_saw_all_samples(name):
    random = np.random.default_rng(3)
    arrays = [
        random.normal(m, 1 + abs(m), n).astype(np.float32) for m, n in ((0, 9), (5, 700), (-40, 1), (0, 90), (300, 5))
    ]
    for parts in ([2, 1, 2], [0, 5], [5, 0], [1, 1, 1, 1, 1]):
        taken = iter(arrays)
        observers = [observer(name)() for _ in parts]
        for o, count in zip(observers, parts, strict=True):
            for _ in range(count):
                o.see(next(taken))
        first, *others = observers
        for other in others:
            first.merge(other)
        assert first.range() == pytest.approx(watched(name, *arrays), rel=1e-12)


def test_a_merged_histogram_is_the_histogram_of_all():
    random = np.random.default_rng(4)
    for values in (
        random.standard_t(1, (20, 50)),
        np.full((20, 3), 0.3),
        np.zeros((20, 2)),
        random.normal(1e6, 1e-1, (20, 9)),
    ):
        whole, parts = Histogram(), [Histogram(), Histogram()]
        for i, array in enumerate(values.astype(np.float32)):
            whole.see(array)
            parts[i > 12].see(array)
        parts[0].merge(parts[1])
        assert (parts[0].first, parts[0].exponent) == (whole.first, whole.exponent)
        np.testing.assert_array_equal(parts[0].counts, whole.counts)
