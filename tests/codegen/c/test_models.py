"""Whole models as C against the same models as machine code: integers bit for bit."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from lithe.formats.tflite import read
from lithe.lower import lower
from lithe.passes import prepare
from lithe.runtime.compilation import build
from lithe.runtime.compiled import CompiledExecutor
from tests import c_backend

pytestmark = pytest.mark.skipif(c_backend.compiler() is None, reason="no C compiler")
PACKAGED = ("digits_float32.tflite", "digits_int8.tflite")
CORPUS = (
    "micro/hello_world_int8.tflite",
    "mlperf_tiny/kws_ref_model.tflite",
    "mlperf_tiny/vww_96_int8.tflite",
    "mlperf_tiny/pretrainedResnet_quant.tflite",
    "mlperf_tiny/ad01_int8.tflite",
)


def agree(data: bytes) -> None:
    graph = prepare(read(data).main)
    random = np.random.default_rng(0)
    inputs = []
    for t in graph.inputs:
        if t.type.dtype.is_float:
            inputs.append(random.uniform(-1, 1, t.type.shape).astype(t.type.dtype.numpy))
        else:
            low, high = t.type.dtype.minimum, t.type.dtype.maximum
            inputs.append(random.integers(low, high + 1, t.type.shape).astype(t.type.dtype.numpy))
    executor = CompiledExecutor(build([graph])[0])
    for t, x in zip(graph.inputs, inputs, strict=True):
        executor.array(t.index)[...] = x
    executor.invoke()
    plain = c_backend.run(lower(graph), inputs, ("-O2",))
    for t, got in zip(graph.outputs, plain, strict=True):
        expected = executor.array(t.index)
        if t.type.dtype.is_float:
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        else:
            assert len(np.unique(expected)) > 1 or expected.size == 1
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_model_in_c_gives_the_same_results(name: str) -> None:
    agree((files("lithe.data") / name).read_bytes())


@pytest.mark.parametrize("name", CORPUS)
def test_a_published_model_in_c_gives_the_same_results(name: str, corpus: Path) -> None:
    agree((corpus / "models" / name).read_bytes())
