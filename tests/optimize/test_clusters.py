"""Few numbers in the place of many, on plain arrays."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from lithe.errors import InputError
from lithe.optimize import clusters
from lithe.optimize.clusters import STARTS, clustered, members, nearest, settled, starting

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(6, 50))


def error(values, centroids):
    return float(((values - centroids[nearest(values, centroids)]) ** 2).sum())


def test_the_examples_hold():
    assert doctest.testmod(clusters, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("start", STARTS)
def test_starts_lie_within_the_values_in_order_and_again_the_same(start):
    found = starting(WEIGHTS, 16, start, seed=3)
    assert found.shape == (16,)
    assert (np.diff(found) >= 0).all()
    assert WEIGHTS.min() <= found.min() <= found.max() <= WEIGHTS.max()
    assert np.array_equal(found, starting(WEIGHTS, 16, start, seed=3))
    assert starting(np.zeros(0), 4, start).tolist() == [0] * 4


def test_each_start_is_what_it_says():
    values = np.array([0.0, 0, 0, 0, 0, 0, 1, 10])
    assert starting(values, 3, "linear").tolist() == [0, 5, 10]
    assert starting(np.arange(101.0), 4, "density").tolist() == [12.5, 37.5, 62.5, 87.5]
    assert starting(values, 3, "random").tolist() == [0, 1, 10]
    assert starting(values, 3, "kmeans++").tolist() == [0, 1, 10]
    assert set(starting(values, 5, "kmeans++")) == {0, 1, 10}
    assert set(starting(values, 5, "random")) <= {0, 1, 10}


def test_each_value_is_next_to_the_centroid_that_it_gets():
    centroids = RNG.normal(size=9)  # in no order
    wanted = np.abs(WEIGHTS[..., None] - centroids).argmin(-1)
    assert np.array_equal(nearest(WEIGHTS, centroids), wanted)


@pytest.mark.parametrize("start", STARTS)
def test_rounds_of_k_means_bring_the_error_down_to_where_means_stay(start):
    begun = starting(WEIGHTS, 8, start)
    errors = [error(WEIGHTS, settled(WEIGHTS, begun, rounds)) for rounds in (0, 1, 5, 1000)]
    assert errors == sorted(errors, reverse=True)
    last = settled(WEIGHTS, begun, 1000)
    member = nearest(WEIGHTS, last)
    for i in np.unique(member):
        assert WEIGHTS[member == i].mean() == pytest.approx(last[i])


def test_a_centroid_without_values_stays():
    assert settled(np.array([0.0, 1.0]), np.array([0.5, 99.0])).tolist() == [0.5, 99]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("count", [2, 16, 256])
def test_weights_become_so_many_numbers(count, per_channel):
    found = clustered(WEIGHTS, count, per_channel=per_channel, rounds=10)
    assert found.centroids.shape == (6 if per_channel else 1, count)
    for part in found.weights if per_channel else [found.weights]:
        assert len(np.unique(part)) <= count
    assert np.array_equal(found.members, members(WEIGHTS, found.centroids))
    assert ((found.weights - WEIGHTS) ** 2).mean() <= (1.0 if count == 2 else 0.02)


@pytest.mark.parametrize("per_channel", [False, True])
def test_zeros_are_kept_and_counted(per_channel):
    holes = np.where(RNG.random(WEIGHTS.shape) < 0.5, 0, WEIGHTS)
    found = clustered(holes, 4, "linear", per_channel=per_channel)
    assert np.array_equal(found.weights == 0, holes == 0)
    for part in found.weights if per_channel else [found.weights]:
        assert len(np.unique(part)) <= 4
    assert found.centroids.shape[1] == 3
    spread = clustered(holes, 4, "linear", per_channel=per_channel, preserve_zeros=False)
    assert spread.stays.all()
    assert spread.centroids.shape[1] == 4


def test_two_clusters_of_which_one_is_zero():
    found = clustered(np.array([[0.0, 1.0, 3.0]]), 2, "linear", rounds=5)
    assert found.weights.tolist() == [[0, 2, 2]]
    assert clustered(np.zeros((2, 3)), 4).weights.tolist() == np.zeros((2, 3)).tolist()


@pytest.mark.parametrize("count", [0, 1, 257, 2.0, True, "16", None])
def test_so_many_clusters_are_refused(count):
    with pytest.raises(InputError, match="clusters"):
        clustered(WEIGHTS, count)


def test_what_is_no_start_or_no_number_is_refused():
    with pytest.raises(InputError, match="do not start"):
        clustered(WEIGHTS, 4, "middle")
    with pytest.raises(InputError, match="NaN"):
        clustered(np.array([[np.nan, 1.0]]), 4)
