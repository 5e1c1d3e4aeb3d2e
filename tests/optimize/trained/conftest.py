"""What all tests with Keras have in common."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

KNOWN = (
    "ignore:__array__ implementation:DeprecationWarning",  # Keras 3 calls NumPy 2.4 as it was before
    "ignore:os.fork:RuntimeWarning",  # JAX warns of forks, by which Ray starts
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in KNOWN:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True)
def weights_of_this_test_alone() -> None:
    """Initial weights are the same ones whichever test ran before in this process."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
