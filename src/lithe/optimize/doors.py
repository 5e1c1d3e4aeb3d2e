"""`lithe.optimize.prune` and `lithe.optimize.cluster`: while a Keras model is trained, or a `.tflite` model at once."""

from __future__ import annotations

import importlib
from typing import Any


def prune(model: Any, *how: Any, **options: Any) -> Any:
    """Returns the model with weights that are zero, or become it.

    A Keras model: one around it, to be trained further; `how` as `lithe.optimize.training.pruning.prune` says.
    A `lithe.Model`, a file or its bytes: a smaller `lithe.Model`, without training; `how` as
    `lithe.optimize.pruning.prune` says.

    >>> lithe.optimize.prune(keras_model, Schedule.polynomial(0.8, end=1000))           # doctest: +SKIP
    >>> lithe.optimize.prune("model.tflite", 0.8, samples=images[:200])                 # doctest: +SKIP
    """
    return _home(model, "pruning").prune(model, *how, **options)


def cluster(model: Any, *how: Any, **options: Any) -> Any:
    """Returns the model with few different numbers for weights.

    A Keras model: one around it, to be trained further; `how` as `lithe.optimize.training.clustering.cluster` says.
    A `lithe.Model`, a file or its bytes: a smaller `lithe.Model`, without training; `how` as
    `lithe.optimize.clustering.cluster` says.

    >>> lithe.optimize.cluster(keras_model, 16)                                         # doctest: +SKIP
    >>> lithe.optimize.cluster("model.tflite", 16, images[:200])                        # doctest: +SKIP
    """
    return _home(model, "clustering").cluster(model, *how, **options)


def _home(model: Any, name: str) -> Any:
    """The module for such a model."""
    is_keras = any(kind.__module__.split(".")[0] == "keras" for kind in type(model).__mro__)
    return importlib.import_module(f"lithe.optimize.{'training.' if is_keras else ''}{name}")
