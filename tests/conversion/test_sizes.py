"""Open dimensions and their stand-ins."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.conversion.sizes import MOST, Formula, Sizes, is_fixed, is_open, signature, smallest
from lithe.errors import InputError


@pytest.fixture
def sizes():
    made = Sizes()
    made.stand_in("batch")
    made.stand_in("time")
    return made


def test_a_name_has_one_stand_in_of_its_own(sizes):
    batch, time = sizes.stand_in("batch"), sizes.stand_in("time")
    assert batch == sizes.stand_in("batch") != time
    assert sizes.name_of(time) == "time"
    assert sizes.name_of(time + 1) is None
    assert all(batch % d for d in range(2, 1000))


def test_what_is_computed_from_a_stand_in_is_recognised(sizes):
    batch, time = sizes.stand_in("batch"), sizes.stand_in("time")
    assert sizes.formula(batch) == Formula(("batch",))
    assert sizes.formula(12 * time - 3) == Formula(("time",), 12, -3)
    assert sizes.formula(batch * time * 8) == Formula(("batch", "time"), 8)
    assert sizes.formula((time + 1) // 2) == Formula(("time",), 1, 1, 2)
    assert sizes.formula(batch * batch) == Formula(("batch", "batch"))
    assert sizes.formula(123_456_787) is None


def test_real_sizes_are_not_open(sizes):
    shape = (sizes.stand_in("batch"), 250_000, 3)
    assert [is_open(n) for n in shape] == [True, False, False]
    assert signature(shape) == (-1, 250_000, 3)
    assert smallest(shape) == (1, 250_000, 3)
    assert not is_fixed(shape)
    assert is_fixed(shape[1:])


def test_too_many_names_are_refused():
    sizes = Sizes()
    for i in range(MOST):
        assert sizes.stand_in(f"n{i}") < 2**31
    with pytest.raises(InputError, match="one more"):
        sizes.stand_in("another")


def test_a_stand_in_is_found_among_numbers(sizes):
    assert sizes.named_in(np.float32([1, sizes.stand_in("time")])) == "time"
    assert sizes.named_in(np.int32([sizes.stand_in("batch")])) == "batch"
    assert sizes.named_in(np.float32([1e9, -1e9, 0])) is None
    assert sizes.named_in(np.array([True])) is None
