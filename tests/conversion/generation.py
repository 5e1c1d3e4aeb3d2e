"""A language model of two functions, prefill and decode, that writes one word after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lithe.formats import tflite

Run = Callable[..., dict[str, np.ndarray]]


def greedy(prefill: Run, decode: Run, prompt: np.ndarray, count: int) -> list[int]:
    """The likeliest words after a prompt: the cache goes from one run to the next."""
    words: list[int] = []
    state = prefill(ids=prompt)
    for place in range(prompt.shape[1], prompt.shape[1] + count):
        words.append(int(np.argmax(np.asarray(state["logits"])[0, -1])))
        ids = np.array([[words[-1]]], prompt.dtype)
        given = {"ids": ids, "place": np.array(place, prompt.dtype)}
        state = decode(**given, keys=np.asarray(state["keys"]), values=np.asarray(state["values"]))
    return words


def with_known(run: Run, names: object) -> Run:
    """The function, given only what it has names for."""
    known = set(names)  # type: ignore[call-overload]
    return lambda **given: run(**{name: value for name, value in given.items() if name in known})


def words_of_both(model, prompt: np.ndarray, count: int) -> list[list[int]]:
    """What Lithe and the official runtime write, through the two signatures of the model."""
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    interpreter = official.Interpreter(model_content=tflite.write(model.module))
    runs = []
    for signatures in (model.signatures, {key: interpreter.get_signature_runner(key) for key in model.signatures}):
        parts = [with_known(signatures[key], model.signatures[key].inputs) for key in ("prefill", "decode")]
        runs.append(greedy(parts[0], parts[1], prompt, count))
    return runs
