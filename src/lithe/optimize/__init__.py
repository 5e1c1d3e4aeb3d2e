"""Smaller models: what is stored in fewer bits, and computed on integers.

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
training      with the framework's help: `lithe.optimize.quantize_aware`, ...
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """What training offers, which is not imported before it is asked for."""
    training = importlib.import_module("lithe.optimize.training")
    if name in training.__all__:
        return getattr(training, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
