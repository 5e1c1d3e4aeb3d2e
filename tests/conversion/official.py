"""The official runtime as a judge of converted models."""

from __future__ import annotations

import numpy as np
import pytest


def run_official(model, given: dict[str, np.ndarray], key: str = "") -> list[np.ndarray]:
    """What the official runtime gives for a model's file, in the order of the outputs: of the main graph, or of the
    signature with this key.
    """
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    from lithe.formats import tflite

    interpreter = official.Interpreter(model_content=tflite.write(model.module))
    if key:
        made = interpreter.get_signature_runner(key)(**given)
        return [made[name] for name in model.signatures[key].outputs]
    places = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    for name, array in given.items():
        interpreter.resize_tensor_input(places[name], array.shape)
    interpreter.allocate_tensors()
    for name, array in given.items():
        interpreter.set_tensor(places[name], array)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
