"""The arena's plan: nothing that lives at the same time overlaps, and chains need no more than their worst step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lithe.lower.memory_plan import ALIGNMENT, Lifetime, lower_bound, placed, plan


@pytest.mark.parametrize("seed", range(20))
def test_values_that_live_together_never_share_a_byte(seed: int) -> None:
    random = np.random.default_rng(seed)
    lives = []
    for _ in range(60):
        first = int(random.integers(0, 40))
        lives.append(Lifetime(int(random.integers(0, 5000)), first, first + int(random.integers(0, 6))))
    offsets, total = plan(lives)
    assert all(o % ALIGNMENT == 0 and o + l.size <= total for o, l in zip(offsets, lives, strict=True))
    for (a, x), (b, y) in itertools.combinations(zip(offsets, lives, strict=True), 2):
        together = x.first <= y.last and y.first <= x.last
        assert not together or a + x.size <= b or b + y.size <= a or not (x.size and y.size)


def test_a_chain_takes_what_its_worst_step_takes() -> None:
    chain = [Lifetime(size * ALIGNMENT, n, n + 1) for n, size in enumerate((4, 9, 2, 8, 8, 1))]
    assert plan(chain)[1] == lower_bound(chain) == 16 * ALIGNMENT


def test_nothing_needs_nothing() -> None:
    assert plan([]) == ([], 0)
    assert lower_bound([]) == 0


def test_another_order_is_taken_where_the_largest_first_wastes_memory() -> None:
    units = [(4, 1, 3), (6, 0, 0), (2, 0, 1), (3, 2, 2), (6, 3, 4)]
    lives = [Lifetime(size * ALIGNMENT, first, last) for size, first, last in units]
    largest_first = placed(lives, sorted(range(len(lives)), key=lambda i: -lives[i].size))
    assert plan(lives)[1] == lower_bound(lives) < largest_first[1]
