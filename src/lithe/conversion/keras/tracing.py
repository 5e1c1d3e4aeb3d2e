"""How the backends of Keras trace what a model does. Each is a framework with a front end of its own here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from lithe.errors import UnsupportedOp

BACKENDS = ("jax", "torch", "tensorflow")  # in the order in which one is chosen where the user has not


@dataclass(frozen=True)
class Tracer:
    """What a front end does for Keras.

    backend  its name, as Keras has it.
    traced   (conversion, function, types by name): what writes the function's results, given a builder and tensors.
    opaque   (write, what, shapes, *tensors): stands for a part that is not traced.
    part     (path): a context in which what is traced belongs to this layer; frameworks with scopes of names need none.
    """

    backend: str
    traced: Callable[..., Any]
    opaque: Callable[..., Any]
    part: Callable[[str], AbstractContextManager[None]] = lambda path: nullcontext()


def tracer(backend: str) -> Tracer:
    """The tracer of a backend. Raises UnsupportedOp where it cannot trace."""
    if backend not in BACKENDS:
        raise UnsupportedOp(
            f"Keras runs on {backend} here, which cannot trace its models",
            hint=f"convert the .keras file in a process with KERAS_BACKEND={' or '.join(BACKENDS)}",
        )
    front = f"lithe.conversion.{backend}"
    function, opaque = (importlib.import_module(f"{front}.{name}") for name in ("function", "opaque"))
    own = {"part": function.part} if hasattr(function, "part") else {}
    return Tracer(backend, function.traced, opaque.opaque, **own)
