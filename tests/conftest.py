"""Fixtures shared by all tests: where real models lie, and the official runtime as the yardstick."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path | None:
    """The folder of real models and yardsticks beside the checkout, where there is one."""
    for folder in (CHECKOUT / "shared", CHECKOUT.parent / "shared"):
        if (folder / "corpus").is_dir():
            return folder
    return None


def corpus_folder() -> Path | None:
    """The corpus of real models: LITHE_CORPUS if set, else the one in the shared folder."""
    named = os.environ.get("LITHE_CORPUS")
    if named:
        return Path(named) if (Path(named) / "models").is_dir() else None
    folder = shared_folder()
    return folder / "corpus" if folder else None


@pytest.fixture(autouse=True)
def numbers_of_this_test_alone(request: pytest.FixtureRequest) -> None:
    """The random numbers that a module or its imports draw start anew for each test: none depends on those before."""
    own = vars(request.module)
    lenders = {getattr(value, "__module__", None) or "" for value in own.values()}
    borrowed = [vars(sys.modules[name]) for name in lenders if name.startswith("tests.") and name in sys.modules]
    for names in [own, *borrowed]:
        for value in names.values():
            if isinstance(value, np.random.Generator):
                value.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep compiled code in a folder of their own, not among the user's."""
    before = os.environ.get("LITHE_CACHE_DIR")
    os.environ["LITHE_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["LITHE_CACHE_DIR"]
    else:
        os.environ["LITHE_CACHE_DIR"] = before


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder with `models/` and `data/` of the corpus; skips where there is none."""
    folder = corpus_folder()
    if folder is None:
        pytest.skip("no corpus of real models: set LITHE_CORPUS, or put it at ../shared/corpus")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds the corpus and the yardstick scripts; skips where there is none."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("no shared folder beside the checkout")
    return folder


@pytest.fixture(scope="session")
def official() -> ModuleType:
    """The official runtime, `ai_edge_litert.interpreter`; skips where it is not installed."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        pytest.skip("the official runtime is not installed: pip install ai-edge-litert")
