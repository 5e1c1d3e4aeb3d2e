"""The node tests that come with the `onnx` package, in the official runtime: all of those that a file can hold.

`onnx_exceptions.txt` has those that do not convert and agree, each with the reason. A test fails when one of them
begins to pass, and when another one ceases to.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")

from lithe.conversion.door import converted  # noqa: E402
from lithe.conversion.onnx.call import TYPES  # noqa: E402
from lithe.errors import LitheError  # noqa: E402
from lithe.formats import tflite  # noqa: E402

COARSE = {"float16": 2e-3, "bfloat16": 1.6e-2}  # least relative tolerance of these types
PACKED = ("int4", "uint4", "int2", "uint2")
LINES = (Path(__file__).parent / "onnx_exceptions.txt").read_text(encoding="utf-8").splitlines()
EXCEPTIONS = dict(line.split(": ", 1) for line in LINES)
WANTED = 0.9  # of all that a file can hold


def is_held(model):
    """Whether inputs and outputs are tensors of types that a file can hold, and operators are ONNX's own."""
    ends = [*model.graph.input, *model.graph.output]
    tensors = all(e.type.HasField("tensor_type") and e.type.tensor_type.elem_type in TYPES for e in ends)
    return tensors and all(n.domain in ("", "ai.onnx") for n in model.graph.node)


def node_tests():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {t.name: t for t in load_model_tests(kind="node") if is_held(t.model)}


TESTS = node_tests()


def array(value):
    made = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return made.astype(np.int8 if made.dtype.name[0] == "i" else np.uint8) if made.dtype.name in PACKED else made


def run(data, given):
    interpreter = official.Interpreter(
        model_content=data, experimental_op_resolver_type=official.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    details = {d["name"]: d for d in interpreter.get_input_details()}
    for name, value in given.items():
        if name in details and tuple(details[name]["shape"]) != value.shape:
            interpreter.resize_tensor_input(details[name]["index"], value.shape)
    interpreter.allocate_tensors()
    for name, value in given.items():
        if name in details:
            interpreter.set_tensor(details[name]["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def agree(test):
    model, _ = converted(test.model)
    data = tflite.write(model.module)
    constant = {i.name for i in test.model.graph.initializer}
    names = [i.name for i in test.model.graph.input if i.name not in constant]
    for inputs, outputs in test.data_sets:
        made = run(data, dict(zip(names, map(array, inputs), strict=False)))
        for got, want in zip(made, map(array, outputs), strict=True):
            same(got, want, test)


def same(got, want, test):
    assert got.shape == want.shape
    if want.dtype.kind in "OSU":
        texts = [w if isinstance(w, bytes) else str(w).encode() for w in want.reshape(-1)]
        assert [g if isinstance(g, bytes) else str(g).encode() for g in got.reshape(-1)] == texts
        return
    assert got.dtype == want.dtype
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    rtol = max(test.rtol, COARSE.get(want.dtype.name, 0))
    np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol=rtol, atol=max(test.atol, 1e-7))


@pytest.mark.parametrize("name", [n for n in TESTS if n not in EXCEPTIONS])
def test_a_node_gives_what_onnx_says(name):
    agree(TESTS[name])


@pytest.mark.parametrize("name", [n for n in TESTS if n in EXCEPTIONS])
def test_an_exception_is_still_one(name):
    with pytest.raises((LitheError, AssertionError, RuntimeError, ValueError)):
        agree(TESTS[name])


def test_exceptions_are_few():
    assert len([n for n in EXCEPTIONS if n in TESTS]) <= (1 - WANTED) * len(TESTS)
