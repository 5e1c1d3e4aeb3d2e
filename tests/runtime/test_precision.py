"""`precision`: asked for by name, refused when unknown, and kept apart from strict code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import InputError
from lithe.runtime.compilation import this_target

MODEL = Path(lithe.__file__).parent / "data" / "digits_float32.tflite"


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    for make in (lambda: lithe.load(MODEL, precision="half"), lambda: lithe.Interpreter(str(MODEL), precision="half")):
        with pytest.raises(InputError, match="precision is one of strict, bf16x3, fast, got 'half'"):
            make()


def test_fast_is_near_strict_and_has_code_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path))
    x = np.random.default_rng(1).uniform(0, 1, (1, 8, 8, 1)).astype(np.float32)
    strict, fast = lithe.load(MODEL)(x), lithe.load(MODEL, precision="fast")(x)
    np.testing.assert_allclose(fast, strict, atol=0.05)
    assert (fast == strict).all() == (this_target("fast").float_dot is None)
    assert (lithe.load(MODEL)(x) == strict).all(), "kept code is that of the precision"
    assert (lithe.load(MODEL, precision="fast")(x) == fast).all()


def test_the_interpreter_takes_it_too() -> None:
    def run(**options) -> np.ndarray:
        interpreter = lithe.Interpreter(str(MODEL), **options)
        interpreter.allocate_tensors()
        shape = interpreter.get_input_details()[0]["shape"]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.full(shape, 0.3, np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    np.testing.assert_allclose(run(precision="fast"), run(), atol=0.05)
    assert (run(precision="fast") == run()).all() == (this_target("fast").float_dot is None)
