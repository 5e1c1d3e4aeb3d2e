"""Tests of running models keep compiled code in a folder of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """One cache for the whole run of tests, away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITHE_CACHE_DIR", str(tmp_path_factory.mktemp("code") / "cache"))
        yield
