"""A function of tensors, traced by TensorFlow, as a part of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lithe.conversion.builder import Builder, Conversion
from lithe.conversion.opaque import Parts
from lithe.conversion.sizes import is_open
from lithe.conversion.tensorflow import opaque as opaque
from lithe.conversion.tensorflow.model import captured
from lithe.conversion.tensorflow.program import Program
from lithe.conversion.tensorflow.resources import Store
from lithe.errors import InputError
from lithe.ir.graph import Tensor
from lithe.types import TensorType

Write = Callable[[Builder, Sequence[Tensor]], list[Tensor]]


def traced(conversion: Conversion, function: Callable[..., Any], types: Mapping[str, TensorType]) -> Write:
    """What writes the tensors that a function gives, from the tensors that it takes. Variables are constants."""
    import tensorflow as tf

    parts = Parts()
    specs = [tf.TensorSpec([None if is_open(n) else n for n in t.shape], t.dtype.name) for t in types.values()]
    try:
        with parts.known():
            concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    except (TypeError, ValueError, IndexError, AttributeError) as cause:
        given = ", ".join(f"{name}: {spec.dtype.name}{spec.shape}" for name, spec in zip(types, specs, strict=True))
        first = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"the {conversion.source} model does not take {given}: {first}") from cause

    def write(b: Builder, tensors: Sequence[Tensor]) -> list[Tensor]:
        program, graph = Program(Store()), concrete.graph
        program.know(graph)
        around = [captured(b, external) for external, _ in graph.captures]
        with parts.known():
            made = program.write(b, graph, [*tensors, *around])
            return [program.tensor(b, value) for value in made]

    return write
