"""Constants stored in fewer bytes: the same results, smaller files, in Lithe and in the official runtime."""

from __future__ import annotations

import numpy as np
import pytest

import lithe
from lithe.errors import InputError
from lithe.formats import tflite
from lithe.formats.tflite.sparsity import DENSIFIED
from lithe.ir.graph import Graph, Module, Tensor
from lithe.optimize import compact
from lithe.optimize.storage import _node as node
from lithe.optimize.storage import form_of
from lithe.types import DTYPES, FLOAT32, INT8, INT32, Quantization, TensorType
from tests.conversion.official import run_official

RANDOM = np.random.default_rng(0)
SIZE = 64


def weights_of(op, block, few=0):
    shape = {"CONV_2D": (SIZE, 3, 3, SIZE), "FULLY_CONNECTED": (SIZE, SIZE), "DEPTHWISE_CONV_2D": (1, 3, 3, 8 * SIZE)}[
        op
    ]
    if few:
        return RANDOM.choice(RANDOM.integers(-100, 100, few), shape)
    left = np.repeat(RANDOM.random((*shape[:-1], shape[-1] // block)) < 0.1, block, axis=-1)
    return RANDOM.integers(-100, 100, shape) * left


def layer(op, values, weights, data) -> Module:
    """A model of one layer x -> y, with these types of values and weights."""
    real = values == "float32"
    channels = SIZE * 8 if op == "DEPTHWISE_CONV_2D" else SIZE
    x_shape = (1, 6, 6, channels) if "CONV" in op else (2, channels)
    outputs = data.shape[-1] if op == "DEPTHWISE_CONV_2D" else data.shape[0]
    kind, q = DTYPES[values], None if real else Quantization((0.02,), (3,))
    x = Tensor("x", TensorType(kind, x_shape, q))
    axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
    scale = None if weights == "float32" else Quantization((0.01,) * outputs, (0,) * outputs, axis)
    w = Tensor("w", TensorType(DTYPES[weights], data.shape, scale), data.astype(DTYPES[weights].numpy))
    bias_q = None if real else Quantization((0.0002,) * outputs, (0,) * outputs)
    bias = Tensor("b", TensorType(FLOAT32 if real else INT32, (outputs,), bias_q),
                  np.arange(outputs).astype(np.float32 if real else np.int32))  # fmt: skip
    y = Tensor("y", TensorType(kind, (*x_shape[:-1], outputs), None if real else Quantization((4.0,), (0,))))
    graph = Graph("main", [x], [y], [], [node(op, [x, w, bias], y)])
    graph.renumber()
    return Module([graph])


def given(module):
    kind = module.main.inputs[0].type
    x = RANDOM.integers(-50, 50, kind.shape)
    return (x / 10).astype(np.float32) if kind.dtype == FLOAT32 else x.astype(np.int8)


def forms(made):
    return [form_of(made.module.main, n) for n in made.module.main.nodes if n.op.factors is not None]


@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize(("op", "values", "weights"), sorted(DENSIFIED))
def test_sparse_weights_are_what_the_official_runtime_computes_with(op, values, weights, block):
    module = layer(op, values, weights, weights_of(op, block))
    made = compact(module)
    before, after = tflite.write(module), tflite.write(made.module)
    scales = 12 * len(module.main.nodes[0].inputs[1].type.quantization.scale) if weights == "int8" else 0
    if len(before) > 8 * scales:
        assert forms(made) == ["sparse"]
        assert len(after) - 2 * scales < 0.5 * len(before)
    assert len(after) <= len(before)
    x = given(module)
    np.testing.assert_array_equal(made(x), lithe.Model(module)(x))
    official = run_official(made, {"x": x})[0]
    dense = run_official(lithe.Model(module), {"x": x})[0]
    np.testing.assert_allclose(
        official.astype(float), dense.astype(float), rtol=1e-5, atol=1 if weights == "int8" else 2e-2
    )
    assert tflite.write(lithe.load(after).module) == after  # not undone
    assert tflite.write(compact(after).module) == after  # nor done twice


@pytest.mark.parametrize("values", ["float32", "int8"])
def test_what_the_official_runtime_gets_wrong_or_slow_is_written_for_lithe_alone(values):
    data = weights_of("FULLY_CONNECTED", 4)
    module = layer("FULLY_CONNECTED", values, "int8", data)
    x = given(module)
    assert forms(compact(module)) == ["dense"]
    made = compact(module, reader="lithe")
    assert forms(made) == ["sparse"]
    assert len(tflite.write(made.module)) < 0.7 * len(tflite.write(module))
    again = lithe.load(tflite.write(made.module))
    np.testing.assert_array_equal(again(x), lithe.Model(module)(x))


@pytest.mark.parametrize("form", ["table", "rows"])
@pytest.mark.parametrize(("few", "ratio"), [(4, 0.15), (16, 0.15), (100, 0.27)])
@pytest.mark.parametrize("op", ["CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"])
def test_weights_of_few_values_are_indices_and_a_table(op, few, ratio, form):
    module = layer(op, "float32", "float32", weights_of(op, 1, few))
    made = compact(module, [form])
    after = tflite.write(made.module)
    weights = module.main.nodes[0].inputs[1].data
    x = given(module)
    np.testing.assert_array_equal(made(x), lithe.Model(module)(x))
    dense = run_official(lithe.Model(module), {"x": x})[0]
    np.testing.assert_allclose(run_official(made, {"x": x})[0], dense, rtol=1e-5, atol=2e-2)
    if form == "rows" and few == 100:
        return  # where rows differ, there is little to be gained
    assert forms(made) == ["table"]
    extra = 1500 + 4 * max(weights.shape)  # bytes of records, and of the bias, the same before and after
    assert len(after) - extra < (ratio if form == "table" else 0.6) * weights.nbytes
    assert tflite.write(lithe.load(after).module) == after
    assert tflite.write(compact(after, [form]).module) == after


@pytest.mark.parametrize("few", [5, 100])
def test_each_output_may_have_a_table_of_its_own(few):
    data = np.stack([RANDOM.choice(RANDOM.standard_normal(few), (3, 3, SIZE)) for _ in range(SIZE)])
    module = layer("CONV_2D", "float32", "float32", data)
    made = compact(module)
    after = tflite.write(made.module)
    assert forms(made) == ["table"]
    assert len(after) < (0.17 if few == 5 else 0.47) * len(tflite.write(module))
    x = given(module)
    np.testing.assert_array_equal(made(x), lithe.Model(module)(x))
    np.testing.assert_allclose(run_official(made, {"x": x})[0], made(x), rtol=1e-4, atol=1e-3)
    assert tflite.write(lithe.load(after).module) == after


def test_tables_for_microcontrollers_are_read_again():
    data = weights_of("CONV_2D", 1, 16)
    for weights in ("float32", "int8"):
        module = layer("CONV_2D", "int8" if weights == "int8" else "float32", weights, data)
        made = compact(module, ["micro"])
        written = tflite.write(made.module)
        assert forms(made) == ["micro"]
        assert len(written) < (0.2 if weights == "float32" else 0.6) * len(tflite.write(module))
        x = given(module)
        np.testing.assert_array_equal(lithe.load(written)(x), lithe.Model(module)(x))
        assert tflite.write(lithe.load(written).module) == written


def test_the_smallest_of_several_forms_is_taken():
    sparse = weights_of("CONV_2D", 1)
    assert forms(compact(layer("CONV_2D", "float32", "float32", sparse), ["sparse", "table"])) == ["sparse"]
    few = np.sign(sparse) + (RANDOM.random(sparse.shape) < 0.5)
    assert forms(compact(layer("CONV_2D", "float32", "float32", few), ["sparse", "table"])) == ["table"]


def test_what_does_not_get_smaller_stays():
    full = RANDOM.integers(1, 30000, (SIZE, 3, 3, SIZE))
    module = layer("CONV_2D", "float32", "float32", full)
    assert tflite.write(compact(module).module) == tflite.write(module)
    small = Module([module.main.copy()])
    (conv,) = small.main.nodes
    conv.inputs[2] = Tensor("b", conv.inputs[2].type, np.zeros(SIZE, np.float32))  # zeros, but few
    assert compact(small).module.main.nodes[0].inputs[2].extras == {}


def test_weights_that_others_read_too():
    module = layer("FULLY_CONNECTED", "float32", "float32", weights_of("FULLY_CONNECTED", 4))
    (first,) = module.main.nodes
    w = first.inputs[1]
    z = Tensor("z", TensorType(FLOAT32, (SIZE, SIZE)))
    module.main.nodes.append(node("RELU", [w], z))
    module.main.outputs.append(z)
    module.main.renumber()
    made = compact(module)
    assert forms(made) == ["dense"]
    twice = layer("FULLY_CONNECTED", "float32", "float32", weights_of("FULLY_CONNECTED", 1))
    (once,) = twice.main.nodes
    second = Tensor("z", once.outputs[0].type)
    twice.main.nodes.append(node("FULLY_CONNECTED", [once.outputs[0], once.inputs[1], None], second))
    twice.main.outputs = [second]
    twice.main.renumber()
    shared = compact(twice)
    assert forms(shared) == ["sparse", "sparse"]
    x = given(twice)
    np.testing.assert_array_equal(shared(x), lithe.Model(twice)(x))
    np.testing.assert_allclose(shared(x), run_official(shared, {"x": x})[0], rtol=1e-4)


def test_bad_calls_get_one_error():
    module = layer("FULLY_CONNECTED", "float32", "float32", weights_of("FULLY_CONNECTED", 1))
    with pytest.raises(InputError, match="constants cannot be stored as 'zip'"):
        compact(module, ["zip"])
    with pytest.raises(InputError, match="there is no reader 'phone'"):
        compact(module, reader="phone")
    with pytest.raises(InputError, match=r"a model is a lithe\.Model, a file or bytes, this is list"):
        compact([])


def test_integers_of_one_byte_are_stored_without_zeros_too():
    module = layer("CONV_2D", "int8", "int8", weights_of("CONV_2D", 4))
    made = compact(module)
    assert [n.op.name for n in made.module.main.nodes] == ["DENSIFY", "CONV_2D"]
    assert made.module.main.nodes[0].inputs[0].type.dtype == INT8
