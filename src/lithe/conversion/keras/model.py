"""A Keras 3 model: its backend traces it, and what that gives is written in builtins."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import nullcontext
from typing import Any

import numpy as np

from lithe.conversion.builder import Conversion
from lithe.conversion.signature import InputSpec, input_spec, named_inputs
from lithe.errors import FileMissing, InputError, MissingDependency, ModelError, UnsupportedOp

INSTALL = "pip install 'lithe[keras,jax]'"
CUSTOM = "register custom layers before, with keras.saving.register_keras_serializable"


def load_keras(path: str) -> Any:
    """The model in a `.keras` file. Where Keras is not in use yet, it is started on JAX."""
    if not os.path.exists(path):
        raise FileMissing(f"there is no file {path}")
    if "keras" not in sys.modules and importlib.util.find_spec("jax") is not None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
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
    """Writes the model as a graph, with its own names of inputs and outputs."""
    keras = importlib.import_module("keras")
    specs, structure = _inputs(model, inputs, keras)
    types = {name: spec.type(conversion.sizes) for name, spec in specs.items()}
    backend = keras.backend.backend()
    if backend != "jax":
        raise UnsupportedOp(
            f"Keras runs on {backend} here, and models are traced on JAX",
            hint="save the model, and convert the .keras file in a process with KERAS_BACKEND=jax",
        )
    from lithe.conversion.jax.function import write_function
    from lithe.conversion.keras.builtins import builtins_stand_for_operations
    from lithe.conversion.keras.layers import marked, recorded

    def layers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        with recorded(found):
            call(*arrays.values())
        return found

    def call(*arrays: Any) -> Any:
        packed = keras.tree.pack_sequence_as(structure, list(arrays))
        with keras.StatelessScope():  # what the model remembers is not changed by tracing it
            return model(packed, training=False)

    watched = marked() if conversion.watch else nullcontext()
    with builtins_stand_for_operations(conversion.unroll), watched:
        write_function(conversion, call, types, key, _output_names(model), layers, marks=True)


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
