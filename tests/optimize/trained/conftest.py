"""What all tests with Keras have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

KERAS_ON_NUMPY = "ignore:__array__ implementation:DeprecationWarning"  # Keras 3 calls NumPy 2.4 as it was before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(KERAS_ON_NUMPY))
