"""A function of JAX with example inputs as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder, Conversion
from lithe.conversion.jax.trace import evaluated, trace, write
from lithe.conversion.signature import input_spec, named_inputs
from lithe.errors import InputError, LitheError
from lithe.ir.graph import Tensor
from lithe.types import TensorType, dtype_of

Types = Mapping[str, TensorType]
Write = Callable[[Builder, Sequence[Tensor]], list[Tensor]]


def convert_function(conversion: Conversion, function: Callable[..., Any], inputs: Any, key: str) -> None:
    """Writes the function as a graph: its arguments are the named inputs, in order; results are flattened."""
    given = named_inputs(inputs)
    if not given:
        raise InputError("the inputs of a function must be described", hint="convert(f, inputs={'x': (None, 28, 28)})")
    specs = {name: input_spec(value, name) for name, value in given.items()}
    write_function(conversion, function, {name: s.type(conversion.sizes) for name, s in specs.items()}, key)


def write_function(conversion: Conversion, function: Callable[..., Any], types: Types, key: str) -> None:
    """Writes a graph for a function of named inputs."""
    import jax

    b = conversion.graph("main" if not conversion.graphs else key)
    tensors = {name: b.input(name, t.shape, t.dtype) for name, t in types.items()}
    closed, shapes = _trace(conversion, function, types)
    results = write(b, closed, list(tensors.values()), "")
    outputs = {n: b.output(t, n) for n, t in zip(result_names(shapes), results, strict=True)}

    def layers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found: dict[str, Any] = {}
        closed, _ = trace(function, [TensorType(dtype_of(a), a.shape) for a in arrays.values()])
        evaluated(closed, list(arrays.values()), found)
        return {path: np.asarray(value) for path, value in found.items()}

    conversion.sign(
        key, b, tensors, outputs, lambda arrays: jax.tree_util.tree_leaves(function(*arrays.values())), layers
    )


def traced(conversion: Conversion, function: Callable[..., Any], types: Types) -> Write:
    """What writes the tensors that a function gives, from the tensors that it takes."""
    closed, _ = _trace(conversion, function, types)
    return lambda b, tensors: write(b, closed, tensors)


def _trace(conversion: Conversion, function: Callable[..., Any], types: Types) -> tuple[Any, Any]:
    try:
        return trace(function, list(types.values()))
    except LitheError:
        raise
    except Exception as cause:  # the source's own code may raise anything
        given = ", ".join(f"{name}: {spoken(conversion, t)}" for name, t in types.items())
        raise InputError(f"the {conversion.source} model does not take {given}: {_first_line(cause)}") from cause


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
