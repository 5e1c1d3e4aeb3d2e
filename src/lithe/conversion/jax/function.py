"""A function of JAX with example inputs as a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.conversion.builder import Conversion, Watched
from lithe.conversion.jax.trace import evaluated, trace, write
from lithe.conversion.signature import input_spec, named_inputs
from lithe.errors import InputError, LitheError
from lithe.types import TensorType, dtype_of


def convert_function(conversion: Conversion, function: Callable[..., Any], inputs: Any, key: str) -> None:
    """Writes the function as a graph: its arguments are the named inputs, in order; results are flattened."""
    given = named_inputs(inputs)
    if not given:
        raise InputError("the inputs of a function must be described", hint="convert(f, inputs={'x': (None, 28, 28)})")
    specs = {name: input_spec(value, name) for name, value in given.items()}

    def layers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found: dict[str, Any] = {}
        closed, _ = trace(function, [TensorType(dtype_of(a), a.shape) for a in arrays.values()])
        evaluated(closed, list(arrays.values()), found)
        return {path: np.asarray(value) for path, value in found.items()}

    types = {name: s.type(conversion.sizes) for name, s in specs.items()}
    write_function(conversion, function, types, key, layers=layers)


def write_function(conversion: Conversion, function: Callable[..., Any], types: dict[str, Any], key: str,
                   names: list[str] | None = None, layers: Watched | None = None,
                   marks: bool = False) -> None:  # fmt: skip
    """Writes a graph for a function of named inputs.

    names   those of its flattened results.
    layers  runs its parts: equations, or what it marks itself (`marks`).
    """
    import jax

    b = conversion.graph("main" if not conversion.graphs else key)
    tensors = {name: b.input(name, t.shape, t.dtype) for name, t in types.items()}
    try:
        closed, shapes = trace(function, [t.type for t in tensors.values()])
    except LitheError:
        raise
    except Exception as cause:  # the source's own code may raise anything
        given = ", ".join(f"{name}: {spoken(conversion, t)}" for name, t in types.items())
        raise InputError(f"the {conversion.source} model does not take {given}: {_first_line(cause)}") from cause
    results = write(b, closed, list(tensors.values()), None if marks else "")
    titles = names or result_names(shapes)
    outputs = {n: b.output(t, n) for n, t in zip(titles, results, strict=True)}
    conversion.sign(
        key, b, tensors, outputs, lambda arrays: jax.tree_util.tree_leaves(function(*arrays.values())), layers
    )


def result_names(shapes: Any) -> list[str]:
    """Names of results: the keys of dictionaries, output0, output1, ... otherwise."""
    import jax

    paths, _ = jax.tree_util.tree_flatten_with_path(shapes)
    if len(paths) == 1:
        return [jax.tree_util.keystr(paths[0][0], simple=True, separator="/") or "output"]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
    return [f"output{n}" if n.isdigit() else n for n in names]


def spoken(conversion: Conversion, type_: Any) -> str:
    """A type with names for open dimensions."""
    dims = [conversion.sizes.name_of(n) or str(n) for n in type_.shape]
    return f"{type_.dtype}[{', '.join(dims)}]"


def _first_line(cause: Exception) -> str:
    return next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
