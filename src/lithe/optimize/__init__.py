"""Smaller models: what is stored in fewer bits, computed on integers, or left out.

ranges        what values a tensor takes, from what it was seen to hold
calibration   running a float model on samples, to see
recipes       what becomes of each operator
inside        what graphs and values operators have inside, on samples
calls         operators that run graphs, and what they hand on
spelling      operators without an integer form, as others
integers      which operators can be computed on integers, and in which scales
rewriting     a float model as one of integers
weights       smaller weights beside real numbers
quantization  the door: `lithe.quantize`
sparsity      which weights become zero
clusters      which few numbers stand for many
moments       layers as products, and what their inputs have in common
pruning, clustering   both at once, in a model that is done: what is left makes up for what is lost
training      both while a Keras model learns, and integers too: `prune`, `cluster`, `quantize_aware`, `strip`
doors         `prune` and `cluster`, whatever the model is
storage       sparse constants, and tables of values: `compact`

Names are imported when they are first used: those for training need Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lithe.errors import MissingDependency

if TYPE_CHECKING:
    from lithe.optimize.doors import cluster, prune
    from lithe.optimize.storage import compact
    from lithe.optimize.training.aware import quantize_aware
    from lithe.optimize.training.schedules import Schedule
    from lithe.optimize.training.strip import strip

_HOME = {
    "Schedule": "lithe.optimize.training.schedules",
    "cluster": "lithe.optimize.doors",
    "compact": "lithe.optimize.storage",
    "prune": "lithe.optimize.doors",
    "quantize_aware": "lithe.optimize.training.aware",
    "strip": "lithe.optimize.training.strip",
}

__all__ = [
    "Schedule",
    "cluster",
    "compact",
    "prune",
    "quantize_aware",
    "strip",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lithe.optimize' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as cause:
        if cause.name != "keras":
            raise
        raise MissingDependency(
            f"lithe.optimize.{name} is for Keras, which is not installed", hint="pip install 'lithe[keras,jax]'"
        ) from cause
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
