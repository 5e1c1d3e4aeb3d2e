"""A fast sample of the grid, and that grid, registry and docs/operators.md know the same cells."""

from __future__ import annotations

import pytest

from lithe.ops import REGISTRY
from tests import c_backend
from tests.grid import document
from tests.grid.cells import Cell, cells
from tests.grid.check import drawn
from tests.grid.families import GENERATORS, WITHOUT, has_cases
from tests.grid.work import records

NUMBER = 3  # the case of each cell that is in the sample
MOST_CELLS = 4  # of an operator, about


def sampled() -> list[Cell]:
    """Some cells of each operator, of different types for different operators."""
    found: list[Cell] = []
    for number, op in enumerate(op for op in REGISTRY.by_name if op not in WITHOUT):
        own = [cell for cell in cells({op}) if has_cases(cell)]
        step = max(1, len(own) // MOST_CELLS)
        found += own[number % step :: step]
    return found


SAMPLE = sampled()


def test_every_operator_has_cells() -> None:
    assert {c.op for c in cells()} == set(REGISTRY.by_name)
    assert len({str(c) for c in cells()}) == len(cells())


def test_every_cell_of_a_builtin_operator_has_cases() -> None:
    without = {c for c in cells() if not has_cases(c) and c.op not in WITHOUT}
    assert sorted(str(c) for c in without if REGISTRY.by_name[c.op].code is not None) == []


def test_what_has_no_cases_says_why() -> None:
    assert not WITHOUT.keys() & GENERATORS.keys()
    assert all(WITHOUT.values())


def test_cases_are_the_same_each_time() -> None:
    for cell in SAMPLE[:: len(SAMPLE) // 25]:
        first, second = (drawn(cell, 5).case for _ in range(2))
        assert str(first) == str(second)
        for a, b in zip(first.arrays(), second.arrays(), strict=True):
            assert (a is None and b is None) or repr(a.tolist()) == repr(b.tolist())


def test_the_page_of_operators_lists_every_cell() -> None:
    listed = set(document.rows())
    wanted = {(c.op, c.types) for c in cells()}
    assert listed == wanted, (
        f"docs/operators.md lacks {sorted(wanted - listed)[:5]} and has {sorted(listed - wanted)[:5]} too many: "
        "run `make grid ONLY=<operator>`"
    )


@pytest.mark.skipif(c_backend.compiler() is None, reason="no C compiler (cc, gcc or clang) is installed")
@pytest.mark.parametrize("part", range(4))
def test_a_sample_agrees(part: int) -> None:
    pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    wanted: list[tuple[Cell, int]] = [(c, NUMBER) for c in SAMPLE[part::4]]
    tasks = [wanted[start : start + 100] for start in range(0, len(wanted), 100)]
    found = [record for part_records in records(tasks, 1) for record in part_records]
    assert len(found) == len(wanted)
    assert [f"{r['cell']}#{r['number']}: {r['problems']}" for r in found if r["problems"]] == []
