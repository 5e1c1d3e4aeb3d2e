"""The arena's plan: nothing that lives at the same time overlaps, and chains need no more than their worst step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lithe.lower.memory_plan import ALIGNMENT, Lifetime, lower_bound, plan


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
