"""What all tests with Keras have in common."""

from __future__ import annotations

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
