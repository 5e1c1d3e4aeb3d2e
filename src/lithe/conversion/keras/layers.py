"""What the layers of a Keras model give: marked while it is traced, recorded while it runs.

Both go through the layers in the same order, so the n-th call of a layer is the same call.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.keras.tracing import Tracer
from lithe.ir.graph import Tensor


@contextmanager
def recorded(found: dict[str, np.ndarray]) -> Iterator[None]:
    """While a model runs, the results of its layers are kept."""
    convert = importlib.import_module("keras").ops.convert_to_numpy

    def keep(key: str, where: str, x: Any) -> Any:
        with suppress(Exception):  # what is inside of a loop has no value of its own; each backend says so otherwise
            found[key] = np.asarray(convert(x))
        return x

    with _around_layers(keep):
        yield


@contextmanager
def marked(tracer: Tracer) -> Iterator[None]:
    """While a model is traced, the results of its layers are marked in the graph that is written."""
    keras = importlib.import_module("keras.src.backend")

    def mark(key: str, where: str, x: Any) -> Any:
        if _is_known(x, tracer):
            return x

        def write(b: Builder, t: Tensor) -> Tensor:
            b.mark(key, t, where)
            return t

        made = tracer.opaque(write, where, lambda shape: [shape], x)[0]
        mask = getattr(x, "_keras_mask", None)
        if mask is not None:
            keras.set_keras_mask(made, mask)
        return made

    with _around_layers(mark):
        yield


def _is_known(x: Any, tracer: Tracer) -> bool:
    """Whether a value does not depend on the inputs. Only JAX computes such while it traces."""
    return tracer.backend == "jax" and not isinstance(x, importlib.import_module("jax").core.Tracer)


@contextmanager
def _around_layers(see: Callable[[str, str, Any], Any]) -> Iterator[None]:
    keras = importlib.import_module("keras")
    original, calls = keras.Layer.__call__, Counter[str]()

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(layer, *args, **kwargs)
        title = layer.path or layer.name
        calls[title] += 1
        where = f"layer '{title}' ({type(layer).__name__})"
        flat = keras.tree.flatten(made)
        parts = [see(f"{title}#{calls[title]}.{i}", where, x) if hasattr(x, "dtype") else x for i, x in enumerate(flat)]
        return keras.tree.pack_sequence_as(made, parts)

    with mock.patch.object(keras.Layer, "__call__", call):
        yield
