"""A Keras 3 model: its backend traces it, and what that gives is written in builtins."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from lithe.conversion.builder import Conversion, type_of
from lithe.conversion.keras.builtins import builtins_stand_for_operations
from lithe.conversion.keras.layers import marked, recorded
from lithe.conversion.keras.tracing import BACKENDS
from lithe.conversion.keras.tracing import tracer as tracer_of
from lithe.conversion.signature import InputSpec, input_spec, named_inputs
from lithe.conversion.variables import kept
from lithe.errors import FileMissing, InputError, MissingDependency, ModelError
from lithe.ir.graph import Tensor

INSTALL = "pip install 'lithe[keras,jax]', or torch or tensorflow in the place of jax"
CUSTOM = "register custom layers before, with keras.saving.register_keras_serializable"


def load_keras(path: str) -> Any:
    """The model in a `.keras` file. Where Keras is not in use yet, it is started on a backend that is installed."""
    if not os.path.exists(path):
        raise FileMissing(f"there is no file {path}")
    if "keras" not in sys.modules:
        installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
        os.environ.setdefault("KERAS_BACKEND", next(iter(installed), BACKENDS[0]))
    try:
        keras = importlib.import_module("keras")
    except ImportError as cause:
        raise MissingDependency(f"Keras cannot be imported: {cause}", hint=INSTALL) from cause
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as cause:  # zipfile's, json's, h5py's and Keras's errors share no other base
        first = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise ModelError(f"Keras cannot read the file: {first}", where=path, hint=CUSTOM) from cause


def convert_keras(conversion: Conversion, model: Any, inputs: Any, key: str) -> None:
    """Writes the model as a graph, with its own names of inputs and outputs.

    What layers keep from run to run (the states of stateful ones) becomes variables.
    """
    keras = importlib.import_module("keras")
    if not isinstance(model, keras.Layer):
        raise InputError(f"a model of Keras is needed, this is {type(model).__name__}")
    specs, structure = _inputs(model, inputs, keras)
    types = {name: spec.type(conversion.sizes) for name, spec in specs.items()}
    call = _Call(model, structure, keras)
    tracer = tracer_of(keras.backend.backend())
    held: list[Tensor] = []
    with builtins_stand_for_operations(tracer, conversion.unroll, held):
        with marked(tracer) if conversion.watch else nullcontext():
            write = tracer.traced(conversion, call, types)
        if call.assigned:  # what it depends on is known now: it is traced again, for values that it is given
            call.variables = call.assigned
            firsts = [np.array(keras.ops.convert_to_numpy(v)) for v in call.variables]
            held += [
                Tensor(f"{v.path}/{i}", type_of(a)) for i, (v, a) in enumerate(zip(call.variables, firsts, strict=True))
            ]
            with marked(tracer) if conversion.watch else nullcontext():
                write = tracer.traced(conversion, call, {**types, **{t.name: t.type for t in held}})
        b = conversion.graph("main" if not conversion.graphs else key)
        tensors = {name: b.input(name, t.shape, t.dtype) for name, t in types.items()}
        results = write(b, [*tensors.values(), *held])
    names = _output_names(model) or call.names
    outputs = {n: b.output(t, n) for n, t in zip(names, results, strict=False)}
    for first, before, after in zip(firsts if held else (), held, results[len(outputs) :], strict=True):
        if after is not before:
            kept(b, before.name, first, before, after)
    watching = _Reference(call)

    def layers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        with recorded(found):
            watching(arrays)
        return found

    conversion.sign(key, b, tensors, outputs, _Reference(call), layers)


class _Call:
    """A model as a function of its inputs and of the values of variables, which gives flat results and new values.

    variables  whose values it takes and gives.
    assigned   those that it gave values when it was called last.
    names      of its results.
    """

    def __init__(self, model: Any, structure: Any, keras: Any) -> None:
        self.model, self.structure, self.keras = model, structure, keras
        self.variables: list[Any] = []
        self.assigned: list[Any] = []
        self.names: list[str] = []
        weights = {id(v) for v in model.weights}
        self.others = {id(v) for v in model.variables} - weights  # seeds of random numbers, metrics

    def __call__(self, *values: Any) -> list[Any]:
        count = len(values) - len(self.variables)
        packed = self.keras.tree.pack_sequence_as(self.structure, list(values[:count]))
        assigned: dict[int, Any] = {}

        class Scope(self.keras.StatelessScope):  # type: ignore[misc, name-defined, unused-ignore]
            """What the model remembers is not changed by tracing it."""

            def add_update(self, update: Any) -> None:
                assigned[id(update[0])] = update[0]
                super().add_update(update)

        with Scope(state_mapping=list(zip(self.variables, values[count:], strict=True))) as scope:
            made = dict(_leaves(self.model(packed, training=False)))
        self.names, self.assigned = list(made), [v for n, v in assigned.items() if n not in self.others]
        return [*made.values(), *(scope.get_current_value(v) for v in self.variables)]


class _Reference:
    """Runs the model as it would run, one time after another; the model itself is left as it is."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        self.values: list[Any] = [v.value for v in call.variables]

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        convert = self.call.keras.ops
        made = self.call(*map(convert.convert_to_tensor, arrays.values()), *self.values)
        count = len(made) - len(self.values)
        self.values = made[count:]
        return [np.asarray(convert.convert_to_numpy(x)) for x in made[:count]]


def _leaves(results: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Tensors in a structure of results, under the keys of dictionaries or output0, output1, ... otherwise."""
    if isinstance(results, dict):
        parts: Iterable[tuple[Any, Any]] = sorted(results.items())
    elif isinstance(results, list | tuple):
        parts = enumerate(results)
    else:
        name = "/".join(path)
        yield (f"output{name}" if name[:1].isdigit() else name) or "output", results
        return
    for name, part in parts:
        yield from _leaves(part, (*path, str(name)))


def _output_names(model: Any) -> list[str] | None:
    """The names of a functional model's outputs, made different where layers share one."""
    names = getattr(getattr(model, "_functional", None) or model, "output_names", None)
    if not names or not getattr(model, "outputs", None):
        return None
    found: list[str] = []
    for name in names:
        found.append(name if name not in found else f"{name}_{len(found)}")
    return found


def _inputs(model: Any, inputs: Any, keras: Any) -> tuple[dict[str, InputSpec], Any]:
    """Name and type of each input, and the structure in which the model takes them."""
    given = named_inputs(inputs)
    own = getattr(model, "inputs", None)
    if not own:
        if not given:
            raise InputError(
                f"{type(model).__name__} '{model.name}' does not say what its inputs are",
                hint="convert(model, inputs={'x': (None, 28, 28)})",
            )
        specs = {name: input_spec(value, name) for name, value in given.items()}
        names = list(specs)
        return specs, (
            0 if len(names) == 1 else {n: 0 for n in names} if isinstance(inputs, dict) else [0] * len(names)
        )
    names = [_name(t, i, len(own)) for i, t in enumerate(own)]
    unknown = set(given) - set(names) if not isinstance(inputs, list | tuple) else set()
    if unknown:
        raise InputError(f"the model has no input {sorted(unknown)[0]!r}", hint=f"its inputs are {', '.join(names)}")
    specs = {}
    for i, (name, tensor) in enumerate(zip(names, own, strict=True)):
        value = list(given.values())[i] if given and name not in given and len(given) == len(own) else given.get(name)
        declared = InputSpec(input_spec(tuple(tensor.shape), name).shape, input_spec(tensor, name).dtype)
        specs[name] = declared if value is None else input_spec(value, name, declared.dtype)
        _fits(name, declared, specs[name])
    return specs, getattr(model, "_inputs_struct", own if len(own) > 1 else own[0])


def _fits(name: str, declared: InputSpec, asked: InputSpec) -> None:
    pairs = zip(declared.shape, asked.shape, strict=False)
    if len(declared.shape) != len(asked.shape) or any(isinstance(d, int) and d != a for d, a in pairs):
        raise InputError(f"input '{name}' has the shape {list(declared.shape)}, asked for is {list(asked.shape)}")


def _name(tensor: Any, i: int, count: int) -> str:
    return str(tensor.name) if getattr(tensor, "name", None) else ("x" if count == 1 else f"x{i}")


def is_keras(source: Any) -> bool:
    """Whether a value is a layer or a model of Keras 3."""
    return any(c.__module__.startswith("keras.") and c.__name__ in ("Layer", "Model") for c in type(source).__mro__)
