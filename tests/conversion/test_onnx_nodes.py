"""The tests of operators that the onnx package brings for backends: converted, and run in both runtimes.

Lithe runs each by the operators' definitions, one of each operator also compiled; the official runtime runs each.
What is left out is listed with its reason: a test that fails is an error, and so is one that is listed and does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx.backend.test.loader import load_model_tests  # noqa: E402

import lithe  # noqa: E402
from lithe.conversion.onnx.call import TYPES  # noqa: E402
from lithe.errors import LitheError  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402

# What cannot be converted, or does not agree: why, and the names without "test_", "*" for any ending.
LEFT_OUT = {
    "no builtin looks into strings": ["string_split_*", "strnormalizer_*", "string_concat*", "regex_full_match_*"],
    "no builtin reads pictures from files": ["image_decoder_*"],
    "random numbers, which the test takes from another generator": [
        "bernoulli*", "training_dropout", "training_dropout_mask", "training_dropout_default",
        "training_dropout_default_mask",
    ],
    "a length of frames that only a run tells, and no declared shape does": ["stft"],
    "a grid whose size only a run tells, spelled out in operators": [
        "affine_grid_2d_expanded", "affine_grid_2d_align_corners_expanded", "affine_grid_3d_expanded",
        "affine_grid_3d_align_corners_expanded",
    ],
}  # fmt: skip
LEAST = 0.97  # of the tests whose types the format holds
UNITS = {"float16": 2e-3, "bfloat16": 1.6e-2}  # two units in the last place; float32 inside is rounded once
NARROW = {"int4": np.int8, "int2": np.int8, "uint4": np.uint8}


def loaded() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests are made by numpy code that overflows on purpose
        return list(load_model_tests(kind="node"))


def holds(test: Any) -> bool:
    """Whether the format has the types of all inputs and outputs; other domains than ONNX's own were not asked for."""
    ends = [*test.model.graph.input, *test.model.graph.output]
    kinds = all(i.type.HasField("tensor_type") and i.type.tensor_type.elem_type in TYPES for i in ends)
    return kinds and all(n.domain in ("", "ai.onnx") for n in test.model.graph.node)


TESTS = {t.name.removeprefix("test_"): t for t in loaded() if holds(t)}


def listed(table: dict[str, list[str]], name: str) -> str:
    """The reason for which a name is listed."""
    for reason, patterns in table.items():
        if any(name.startswith(p[:-1]) if p.endswith("*") else name == p for p in patterns):
            return reason
    return ""


def array(value: Any) -> np.ndarray:
    found = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return found.astype(NARROW[found.dtype.name]) if found.dtype.name in NARROW else found


def runs(test: Any) -> Iterator[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
    constants = {t.name for t in test.model.graph.initializer}
    names = [i.name for i in test.model.graph.input if i.name not in constants]
    for inputs, outputs in test.data_sets:
        yield dict(zip(names, map(array, inputs), strict=True)), list(map(array, outputs))


def agree(got: np.ndarray, want: np.ndarray, test: Any) -> None:
    got = np.asarray(got)
    if want.dtype.kind in "OSU":
        texts = [[str(v.decode() if isinstance(v, bytes) else v) for v in a.reshape(-1)] for a in (got, want)]
        assert texts[0] == texts[1]
        return
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    if want.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want)
        return
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    rtol = max(test.rtol, UNITS.get(want.dtype.name, 0))
    finite = np.abs(want[np.isfinite(want)].astype(wide))
    atol = max(test.atol, 1e-7 * finite.max(initial=1.0))  # sums of large elements are rounded as these are
    np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol=rtol, atol=atol)


def by_name(model: lithe.Model, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    made = model(**given)
    return list(made.values()) if isinstance(made, dict) else [made]


@pytest.mark.parametrize("name", [n for n in TESTS if not listed(LEFT_OUT, n)])
def test_the_operator_does_what_onnx_says(name, monkeypatch):
    monkeypatch.setenv("LITHE_JIT", "0")
    test = TESTS[name]
    model = lithe.convert(test.model)
    for given, wanted in runs(test):
        for got, want in zip(by_name(model, given), wanted, strict=True):
            agree(got, want, test)
        for got, want in zip(run_official(model, given), wanted, strict=True):
            agree(got, want, test)


def first_of_each_operator() -> list[str]:
    found: dict[str, str] = {}
    for name, test in TESTS.items():
        if not listed(LEFT_OUT, name):
            found.setdefault("+".join(sorted({n.op_type for n in test.model.graph.node})), name)
    return [name for operators, name in found.items() if "+" not in operators]


@pytest.mark.parametrize("name", first_of_each_operator())
def test_compiled_code_does_the_same(name):
    test = TESTS[name]
    model = lithe.convert(test.model)
    for given, wanted in runs(test):
        for got, want in zip(by_name(model, given), wanted, strict=True):
            agree(got, want, test)


@pytest.mark.parametrize("name", [n for n in TESTS if listed(LEFT_OUT, n)])
def test_what_is_left_out_does_not_pass(name, monkeypatch):
    monkeypatch.setenv("LITHE_JIT", "0")
    test = TESTS[name]
    try:
        model = lithe.convert(test.model)
    except LitheError:
        return
    if "random" in listed(LEFT_OUT, name):  # it converts, and may agree by chance
        return
    for given, wanted in runs(test):
        for got, want in zip(by_name(model, given), wanted, strict=True):
            with pytest.raises(AssertionError):
                agree(got, want, test)


def test_nearly_all_operators_are_converted():
    left = [n for n in TESTS if listed(LEFT_OUT, n)]
    assert 1 - len(left) / len(TESTS) >= LEAST, f"{len(left)} of {len(TESTS)} are left out"
