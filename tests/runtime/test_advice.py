"""What layers would gain by zeros: the same rule that compiled code and files go by."""

from __future__ import annotations

import numpy as np
import pytest

import lithe
from lithe.formats import tflite
from lithe.ir.graph import Module
from lithe.ir.loops import Store, statements
from lithe.lower import lower
from lithe.optimize import compact
from lithe.passes import prepare
from lithe.runtime.compilation import this_target
from lithe.types import FLOAT32
from tests.optimize.test_quantization import model

RANDOM = np.random.default_rng(0)


def with_zeros(zeros, depth=96, outputs=160, size=8) -> Module:
    weights = RANDOM.standard_normal(outputs * depth).astype(np.float32)
    weights[RANDOM.permutation(weights.size)[: round(zeros * weights.size)]] = 0
    weights = weights.reshape(outputs, 1, 1, depth)
    bias = np.zeros(outputs, np.float32)
    return model(
        lambda b, x: {"y": b("CONV_2D", x, b.constant(weights, FLOAT32), b.constant(bias, FLOAT32))},
        (1, size, size, depth),
    )


def runs_sparse(module) -> bool:
    (step,) = lower(prepare(module.main), this_target()).steps
    return "columns" in {s.buffer.name for s in statements(step.kernel.body) if isinstance(s, Store)}


@pytest.mark.skipif(not this_target().fma, reason="without fused additions no layer leaves zeros out")
def test_quicker_from_is_where_code_changes():
    (told,) = lithe.Model(with_zeros(0)).sparsity()
    assert 0.3 < told.quicker_from < 0.9
    assert not runs_sparse(with_zeros(told.quicker_from - 0.02))
    assert runs_sparse(with_zeros(told.quicker_from + 0.02))
    assert told.time_at_90 < 0.6
    assert told.structure == "unstructured"


def test_smaller_from_is_where_files_change():
    (told,) = lithe.Model(with_zeros(0)).sparsity()
    for share, smaller in ((told.smaller_from - 0.03, False), (told.smaller_from + 0.05, True)):
        module = with_zeros(share)
        assert (len(tflite.write(compact(module).module)) < len(tflite.write(module))) == smaller
    (told,) = lithe.Model(with_zeros(0.5)).sparsity()
    assert told.zeros == pytest.approx(0.5, abs=1e-3)
    made = compact(with_zeros(0.9))
    stored = made.module.main.nodes[0].inputs[0].extras["sparsity"]
    assert stored.block == 1
    assert told.bytes_at_90 == pytest.approx(len(tflite.write(made.module)), abs=2000)


def test_layers_of_few_pixels_are_never_quicker():
    (told,) = lithe.Model(with_zeros(0, size=2)).sparsity()
    assert told.quicker_from is None
    assert told.time_at_90 == 1.0


def test_small_layers_are_not_spoken_of():
    assert lithe.Model(with_zeros(0, depth=8)).sparsity() == []
    assert lithe.Model(with_zeros(0, outputs=4)).sparsity() == []


def test_integers_of_a_dense_layer_are_told_what_the_official_runtime_takes():
    told = lithe.Model(tflite.open_model(lithe.__path__[0] + "/data/digits_int8.tflite")).sparsity()
    assert [t.structure for t in told] == ["1x4", ""]  # it takes no such weights of a matrix product
    assert {t.quicker_from for t in told} == {None}
    beside = lithe.quantize(with_zeros(0), recipe="dynamic").sparsity()
    assert [(t.structure, t.smaller_from) for t in beside] == [("", None)]
