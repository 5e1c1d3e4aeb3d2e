"""Masks of a structure at a sparsity, on plain arrays."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from lithe.errors import InputError
from lithe.optimize import sparsity
from lithe.optimize.sparsity import Structure, mask, masks, structure, zeros

RNG = np.random.default_rng(0)


def test_the_examples_hold():
    assert doctest.testmod(sparsity, extraglobs={"np": np}).failed == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(8, 16), (5, 7), (1, 1), (3, 33)])
def test_exactly_so_many_elements_become_zero_and_they_are_the_smallest(shape, share):
    weights = RNG.normal(size=shape)
    kept = mask(weights, share, Structure())
    assert (~kept).sum() == round(share * weights.size)
    if kept.any() and not kept.all():
        assert np.abs(weights[~kept]).max() <= np.abs(weights[kept]).min()


def test_of_equal_weights_exactly_so_many_become_zero_too():
    assert mask(np.ones((4, 4)), 0.25, Structure()).sum() == 12


@pytest.mark.parametrize(("name", "rows", "columns"), [("1x4", 1, 4), ("4x1", 4, 1), ("1x16", 1, 16), ("2x2", 2, 2)])
@pytest.mark.parametrize("shape", [(8, 32), (6, 19)])
def test_blocks_are_kept_or_zeroed_whole(name, rows, columns, shape):
    weights = RNG.normal(size=shape)
    kept = mask(weights, 0.5, structure(name))
    units = dropped = 0
    means = {True: [], False: []}
    for i in range(0, shape[0], rows):
        for j in range(0, shape[1], columns):
            block = kept[i : i + rows, j : j + columns]
            assert block.all() or not block.any()
            means[bool(block.all())].append((weights[i : i + rows, j : j + columns] ** 2).mean())
            units, dropped = units + 1, dropped + (not block.any())
    assert dropped == round(0.5 * units)
    assert max(means[False]) <= min(means[True])


@pytest.mark.parametrize(("name", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8)])
def test_so_many_of_each_group_along_the_inputs_are_left(name, n, m):
    weights = RNG.normal(size=(5, 3 * m))
    kept = mask(weights, 1.0, structure(name))
    assert (kept.reshape(5, 3, m).sum(-1) == n).all()
    groups = np.sort(np.abs(weights).reshape(5, 3, m), -1)
    assert np.array_equal(np.sort(np.abs(weights * kept).reshape(5, 3, m), -1)[..., m - n :], groups[..., m - n :])
    assert structure(name).most == 1 - n / m


def test_groups_are_thinned_out_from_the_smallest_on():
    weights = RNG.normal(size=(4, 16))
    quarter, half = (mask(weights, share, structure("2:4")) for share in (0.25, 0.5))
    assert zeros(quarter) == 0.25
    assert zeros(half) == 0.5
    assert (half <= quarter).all()


def test_an_incomplete_group_keeps_as_many_as_a_whole_one():
    kept = mask(np.arange(1.0, 8)[None], 1.0, structure("2:4"))  # 1 2 3 4 | 5 6 7
    assert kept.tolist() == [[False, False, True, True, False, True, True]]


def test_arrays_that_are_ranked_together_share_a_threshold():
    small, large = RNG.normal(size=(4, 8)) * 0.01, RNG.normal(size=(4, 8)) + 5
    a, b = masks([small, large], 0.5, Structure())
    assert not a.any()
    assert b.all()
    assert masks([], 0.5, Structure()) == []


def test_structures_have_names():
    for name in ("unstructured", "1x4", "4x1", "1x16", "2:4"):
        assert str(structure(name)) == name
    assert structure(structure("1x4")) == structure("1x4")
    assert structure("1x1") == structure("unstructured")


@pytest.mark.parametrize("name", ["", "blocks", "0x4", "4x0", "4:4", "4:2", "0:4", "1x4x4", 4, None])
def test_what_is_no_structure_is_refused(name):
    with pytest.raises(InputError, match="no structure"):
        structure(name)


@pytest.mark.parametrize(
    ("weights", "share", "message"),
    [
        (np.ones((2, 2)), -0.1, "no share"),
        (np.ones((2, 2)), 1.1, "no share"),
        (np.ones((2, 2)), float("nan"), "no share"),
        (np.ones(4), 0.5, "no rows"),
        (np.array([[np.nan, 1]]), 0.5, "NaN"),
    ],
)
def test_what_has_no_mask_is_refused(weights, share, message):
    with pytest.raises(InputError, match=message):
        mask(weights, share, Structure())


def test_zeros_are_counted():
    assert zeros(np.array([0, 1, 0, 2])) == 0.5
    assert zeros(np.zeros(0)) == 0.0
