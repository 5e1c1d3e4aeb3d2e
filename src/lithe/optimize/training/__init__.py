"""Smaller models by training: what `lithe.optimize` offers to users of Keras 3. Keras is imported with the first use."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "quantize_aware": "lithe.optimize.training.aware",
    "strip": "lithe.optimize.training.strip",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
