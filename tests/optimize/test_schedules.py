"""When weights become zero, and how many."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

import lithe.optimize
from lithe.errors import InputError
from lithe.optimize import Schedule
from lithe.optimize.training import schedules


def test_the_examples_hold():
    assert doctest.testmod(schedules).failed == 0


def test_names_are_found_when_they_are_used():
    assert {"Schedule", "prune", "cluster", "strip"} <= set(dir(lithe.optimize))
    with pytest.raises(AttributeError, match="no attribute 'shrink'"):
        lithe.optimize.shrink  # noqa: B018


def test_without_keras_one_command_is_named():
    code = (
        "import sys\n"
        "sys.modules['keras'] = None\n"
        "from lithe.errors import MissingDependency\n"
        "import lithe.optimize\n"
        "try: lithe.optimize.strip\n"
        "except MissingDependency as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "strip is for Keras, which is not installed" in found.stdout
    assert "pip install 'lithe[keras,jax]'" in found.stdout


def test_a_polynomial_goes_from_one_share_to_the_other():
    s = Schedule.polynomial(0.9, initial=0.5, begin=100, end=200, power=1, frequency=25)
    assert [s.sparsity(t) for t in (0, 99)] == [0, 0]
    assert [s.sparsity(t) for t in (100, 150, 200, 999)] == pytest.approx([0.5, 0.7, 0.9, 0.9])
    assert [s.moment(t) for t in (0, 99, 100, 124, 125, 199, 200, 999)] == [-1, -1, 100, 100, 125, 175, 200, 200]
    assert s.reached == 200
    cubic = [Schedule.polynomial(0.8, end=100).sparsity(t) for t in range(101)]
    assert cubic == sorted(cubic)
    assert cubic[50] == pytest.approx(0.8 * (1 - 0.5**3))


def test_the_end_is_a_moment_wherever_it_lies():
    s = Schedule.polynomial(0.5, begin=3, end=10, frequency=4)
    assert sorted({s.moment(t) for t in range(20)}) == [-1, 3, 7, 10]


def test_a_constant_goes_on_until_its_end_and_a_single_moment_does_not():
    s = Schedule.constant(0.5, begin=10, frequency=5)
    assert [s.sparsity(t) for t in (9, 10, 10_000)] == [0, 0.5, 0.5]
    assert [s.moment(t) for t in (9, 10, 17, 10_003)] == [-1, 10, 15, 10_000]
    assert Schedule.constant(0.5, end=12, frequency=5).moment(999) == 12
    assert s.reached == 10
    once = Schedule.once(0.5, step=7)
    assert [once.moment(t) for t in (6, 7, 999)] == [-1, 7, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 0.0, "final": 1.0, "end": 10}, "the final sparsity is 1.0"),
        ({"initial": -0.1, "final": 0.5, "end": 10}, "the initial sparsity is -0.1"),
        ({"initial": 0.0, "final": float("nan"), "end": 10}, "the final sparsity is nan"),
        ({"initial": 0.0, "final": "all", "end": 10}, "the final sparsity is 'all'"),
        ({"initial": 0.0, "final": 0.5, "begin": 10, "end": 9}, "end is 9"),
        ({"initial": 0.0, "final": 0.5, "begin": -1, "end": 9}, "begin is -1"),
        ({"initial": 0.0, "final": 0.5, "end": 9, "frequency": 0}, "frequency is 0"),
        ({"initial": 0.0, "final": 0.5, "end": 9.5}, "end is 9.5"),
        ({"initial": 0.0, "final": 0.5, "end": 9, "power": 0}, "power is 0"),
        ({"initial": 0.0, "final": 0.5}, "has no end"),
    ],
)
def test_what_is_no_schedule_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Schedule(**options)
