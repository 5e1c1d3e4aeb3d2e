"""The official runtime as a judge of converted models."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest

from lithe.ir.graph import Module
from tests.ops.official import given_by_official, given_to_official

UNSET = {"int2"}  # types that the files have, and of which its Python interface takes no arrays


def run_official(model, given: dict[str, np.ndarray], key: str = "") -> list[np.ndarray]:
    """What the official runtime gives for a model's file, in the order of the outputs: of the main graph, or of the
    signature with this key.
    """
    module, given = _with_constants(model.module, given)
    return _runs(module, key)(given)


def official_runs(model, key: str = "") -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """The same for one run after another, between which the model keeps its variables."""
    return _runs(model.module, key)


def _runs(module: Module, key: str) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    from lithe.formats import tflite

    interpreter = official.Interpreter(model_content=tflite.write(module))
    places = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    prepared: list[list[tuple[int, ...]]] = []

    def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
        if key:
            made = interpreter.get_signature_runner(key)(**given)
            (signature,) = [s for s in module.signatures if s.key == key]
            return [made[name] for name in signature.outputs]
        shapes = [array.shape for array in given.values()]
        if prepared != [shapes]:
            for name, array in given.items():
                interpreter.resize_tensor_input(places[name], array.shape)
            interpreter.allocate_tensors()
            prepared[:] = [shapes]
        for name, array in given.items():
            interpreter.set_tensor(places[name], given_to_official(array))
        interpreter.invoke()
        return [
            given_by_official(_read(interpreter, d), t.type.dtype)
            for d, t in zip(interpreter.get_output_details(), module.main.outputs, strict=True)
        ]

    return run


def _read(interpreter, details) -> np.ndarray:
    """A result; its Python interface refuses to copy one without elements, of which the shape is all there is."""
    if 0 in details["shape"]:
        return np.zeros(details["shape"], details["dtype"])
    return interpreter.get_tensor(details["index"])


def _with_constants(module: Module, given: dict[str, np.ndarray]) -> tuple[Module, dict[str, np.ndarray]]:
    """The model with inputs that cannot be set as constants, and what is left to be given."""
    unset = {t.name for t in module.main.inputs if t.type.dtype.name in UNSET}
    if not unset:
        return module, given
    module = deepcopy(module)
    for tensor in module.main.inputs:
        if tensor.name in unset:
            tensor.data = given[tensor.name]
    module.main.inputs = [t for t in module.main.inputs if t.name not in unset]
    for signature in module.signatures:
        for name in unset & set(signature.inputs):
            del signature.inputs[name]
    return module, {name: array for name, array in given.items() if name not in unset}
