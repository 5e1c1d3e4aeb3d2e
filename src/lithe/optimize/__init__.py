"""Smaller models: what is stored in fewer bits, and computed on integers.

ranges        what values a tensor takes, from what it was seen to hold
calibration   running a float model on samples, to see
recipes       what becomes of each operator
integers      a float graph as a graph of integers
weights       smaller weights beside real numbers
quantization  the door: `lithe.quantize`
sparsity, clusters   which weights become zero, and which numbers stand for many: plain functions on arrays
moments       layers as products, and what their inputs have in common
pruning       one shot: `lithe.optimize.prune`
clustering    one shot: `lithe.optimize.cluster`
storage       sparse constants, and tables of values: `lithe.optimize.compact`
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lithe.optimize.clustering import cluster
    from lithe.optimize.pruning import prune
    from lithe.optimize.storage import compact

_HOME = {
    "cluster": "lithe.optimize.clustering",
    "compact": "lithe.optimize.storage",
    "prune": "lithe.optimize.pruning",
}

__all__ = ["cluster", "compact", "prune"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lithe.optimize' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
