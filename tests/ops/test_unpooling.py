"""Pooling that tells places against pooling and unpooling, how options are read, and what is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers

from lithe.errors import ExecutionError, ModelError
from lithe.formats.tflite import read
from lithe.formats.tflite.options import read_custom
from lithe.ir import interpret
from lithe.ops import REGISTRY, RuleViolation, Site
from lithe.ops.pooling import PoolAttrs
from lithe.types import INT32, TensorType
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, f32, i8, i32, tensor
from tests.ops.cases_unpooling import ACTIVATIONS, CASES, attrs, params

POOLS = [c for c in CASES if "Argmax" in c.op and "no number" not in c.name]


def evaluated(case: Case) -> list[np.ndarray]:
    return case.operator.evaluate(case.site(), *case.arrays())


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_values_are_those_of_pooling_and_lie_at_their_places(case: Case) -> None:
    a, x, (y, places) = case.site().attrs, case.arrays()[0], evaluated(case)
    plain = PoolAttrs(a.padding, a.strides[2], a.strides[1], a.ksize[2], a.ksize[1])
    site = replace(case.site(), attrs=plain, outputs=case.outputs[:1])
    (most,) = REGISTRY.by_name["MAX_POOL_2D"].evaluate(site, x)
    if places.dtype == np.int32:
        np.testing.assert_array_equal(np.take_along_axis(x.reshape(len(x), -1), places.reshape(len(x), -1), 1),
                                      most.reshape(len(x), -1))  # fmt: skip
    else:
        np.testing.assert_array_equal(y, most)
        assert (places % 1 - 0.1 < 1e-4).all()
    if a.fused_activation_function == "RELU6":
        np.testing.assert_array_equal(y, np.clip(most, 0, 6))


@pytest.mark.parametrize("kind", [f32, i32])
def test_unpooling_brings_values_back(kind: Any) -> None:
    window = attrs((2, 3), (2, 3), "SAME")
    x = np.random.default_rng(0).uniform(1, 2, (2, 4, 6, 3)).astype(np.float32)
    pool, unpool = REGISTRY.by_name["MaxPoolingWithArgmax2D"], REGISTRY.by_name["MaxUnpooling2D"]
    site = Site(pool.Attrs(**window), (f32(*x.shape),), (f32(2, 2, 2, 3), kind(2, 2, 2, 3)))
    y, places = pool.evaluate(site, x)
    back_site = Site(unpool.Attrs(**window), site.outputs, (f32(*x.shape),))
    (back,) = unpool.evaluate(back_site, y, places)
    assert np.count_nonzero(back) == y.size
    np.testing.assert_array_equal(back[back > 0], x[back > 0])
    np.testing.assert_array_equal(pool.evaluate(site, back)[0], y)


def test_options_are_a_struct_or_a_map() -> None:
    op = REGISTRY.by_name["MaxUnpooling2D"]
    expected = op.Attrs("VALID", (1, 2, 3, 1), (1, 4, 5, 1), False, "RELU6")
    assert read_custom(op, params((2, 3), (4, 5), "VALID", "RELU6")) == expected
    assert read_custom(op, params((2, 3), (4, 5), "VALID", "RELU6")[:24]) == expected
    options = {"ksize": [1, 2, 3, 1], "strides": [1, 4, 5, 1], "padding": "SAME", "include_batch_in_index": True}
    assert read_custom(op, bytes(flexbuffers.Dumps(options))) == op.Attrs("SAME", (1, 2, 3, 1), (1, 4, 5, 1), True)
    assert read_custom(op, b"") == op.Attrs()
    assert len(ACTIVATIONS) == 4


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ksize", 2, "ksize must be a list, is int"),
        ("padding", [1], "padding must be a text, is tuple"),
        ("fused_activation_function", {"a": 1}, "must be a text, is dict"),
        ("include_batch_in_index", [1], "must be a number, is tuple"),
    ],
)
def test_options_of_another_kind(key: str, value: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_custom(REGISTRY.by_name["MaxPoolWithArgmax"], bytes(flexbuffers.Dumps({key: value})))


@pytest.mark.parametrize(
    ("words", "data"),
    [
        ("at least 24 bytes, have 20", bytes(20)),
        (r"padding must be 1 \(SAME\) or 2 \(VALID\), is 3", struct.pack("<6i", 3, 1, 1, 1, 1, 0)),
        (r"activation must be in 0\.\.3, is 4", struct.pack("<6i", 1, 1, 1, 1, 1, 4)),
    ],
)
def test_broken_options(words: str, data: bytes) -> None:
    with pytest.raises(RuleViolation, match=words):
        REGISTRY.by_name["MaxPoolingWithArgmax2D"].parse_options(data)


def test_models_of_unpooling(corpus: Path) -> None:
    found = [
        read((corpus / "runtime_testdata" / "LiteRT" / "head" / name).read_bytes()).graphs[0].nodes[0]
        for name in ("max_unpooling_2d.tflite", "max_unpooling_2d_valid.tflite")
    ]
    assert [n.op.infer(Site.of(n)) for n in found] == [[(1, 16, 16, 128)], [(2, 4, 11, 2)]]
    x, places = np.ones((2, 2, 4, 2), np.float32), np.arange(32).reshape(2, 2, 4, 2).astype(np.int32)
    (y,) = found[1].op.evaluate(Site.of(found[1]), x, places)
    assert y.reshape(2, -1).sum(1).tolist() == [16, 16]


FLAT = (f32(1, 2, 2, 1), i32(1, 2, 2, 1))
WINDOW = attrs((2, 2), (2, 2), "SAME")


@pytest.mark.parametrize(("kind", "place"), [(i32, 16), (i32, -1), (f32, 9.0), (f32, -1.0)])
def test_places_are_checked(kind: Any, place: float) -> None:
    inputs = (f32(1, 1, 2, 1), kind(1, 1, 2, 1))
    case = Case("MaxUnpooling2D", "place", inputs, (f32(1, 2, 4, 1),), WINDOW, values={1: np.array([0, place])})
    with pytest.raises(ExecutionError, match="a place lies outside"):
        evaluated(case)
    with pytest.raises(ExecutionError, match="a place lies outside"):
        interpret.run(program_of([case]), given(case))


REFUSED: list[tuple[str, str, tuple[TensorType, ...], dict[str, Any]]] = [
    ("ksize must be", "MaxPoolingWithArgmax2D", FLAT[:1], {"attrs": {**WINDOW, "ksize": (2, 2)}}),
    ("strides must be", "MaxPoolingWithArgmax2D", FLAT[:1], {"attrs": {**WINDOW, "strides": (1, 2, 2, 2)}}),
    ("is too large", "MaxUnpooling2D", FLAT, {"attrs": {**WINDOW, "ksize": (1, 1 << 20, 1 << 20, 1)}}),
    ("include_batch_in_index", "MaxPoolingWithArgmax2D", FLAT[:1], {"attrs": {"include_batch_in_index": True}}),
    ("must have the shape of", "MaxUnpooling2D", (FLAT[0], i32(1, 2, 2, 2)), {"attrs": WINDOW}),
    ("must be at least 1", "MaxUnpooling2D", FLAT, {"attrs": {**WINDOW, "strides": (1, 0, 2, 1)}}),
    ("padding must be SAME or VALID", "MaxUnpooling2D", FLAT, {"attrs": {**WINDOW, "padding": "UNKNOWN"}}),
    ("must not be empty", "MaxUnpooling2D", (f32(1, 0, 2, 1), i32(1, 0, 2, 1)), {"attrs": WINDOW}),
    ("must have the shape of", "NumericVerify", (i8(2), f32(3)), {}),
    ("must have one scale", "NumericVerify", (tensor(i8().dtype, 2), f32(2)), {}),
    ("rank must be 1", "BroadcastGradientArgs", (i32(1, 1), i32(1)), {}),
    ("must be a power of two, is 3", "aeq.hadamard_rotation", (f32(2, 6),), {"attrs": {"hadamard_size": 3}}),
]


@pytest.mark.parametrize(("words", "op", "inputs", "more"), REFUSED)
def test_refusals(words: str, op: str, inputs: tuple, more: dict[str, Any]) -> None:
    case = Case(op, "refused", inputs, (f32(1), f32(1)), **more)
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


def test_differences_beyond_the_tolerance() -> None:
    values = {0: np.array([0, 1, 2]), 1: np.array([0.0, 0.0, np.nan])}
    options = {"tolerance": 0.5, "log_if_failed": True}
    case = Case("NumericVerify", "beyond", (i8(3, scale=1.0, zero_point=0), f32(3)), (f32(3),), options, values=values)
    with pytest.raises(ExecutionError, match="beyond the tolerance"):
        evaluated(case)
    with pytest.raises(ExecutionError, match="beyond the tolerance"):
        interpret.run(program_of([case]), given(case))


def test_shapes_that_do_not_broadcast() -> None:
    values = {0: np.array([2, 3]), 1: np.array([2])}
    case = Case("BroadcastGradientArgs", "no", (tensor(INT32, 2), tensor(INT32, 1)), (i32(1), i32(1)), values=values)
    with pytest.raises(ExecutionError, match="do not broadcast"):
        evaluated(case)
