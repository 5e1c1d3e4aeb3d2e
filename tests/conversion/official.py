"""The official runtime as a judge of converted models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def run_official(model, given: dict[str, np.ndarray], key: str = "") -> list[np.ndarray]:
    """What the official runtime gives for a model's file, in the order of the outputs: of the main graph, or of the
    signature with this key.
    """
    return official_runs(model, key)(given)


def official_runs(model, key: str = "") -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """The same for one run after another, between which the model keeps its variables."""
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    from lithe.formats import tflite

    interpreter = official.Interpreter(model_content=tflite.write(model.module))
    places = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    prepared: list[tuple[int, ...]] = []

    def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
        if key:
            made = interpreter.get_signature_runner(key)(**given)
            return [made[name] for name in model.signatures[key].outputs]
        shapes = [array.shape for array in given.values()]
        if shapes != prepared:
            for name, array in given.items():
                interpreter.resize_tensor_input(places[name], array.shape)
            interpreter.allocate_tensors()
            prepared[:] = shapes
        for name, array in given.items():
            interpreter.set_tensor(places[name], array)
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]

    return run
