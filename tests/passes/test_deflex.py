"""Operators of TensorFlow as builtins: the numbers stay, whatever shape of model they stand in."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import LitheError, UnsupportedOp
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Signature, Tensor
from lithe.ops.flex import operators as flex
from lithe.ops.op import Site
from lithe.ops.verify import verify
from lithe.passes import prepare, resize_inputs
from lithe.passes.deflex import RULES, deflex_module, expand, remaining
from lithe.runtime.reference import ReferenceExecutor
from lithe.types import FLOAT32, Quantization, TensorType, dtype_of
from tests.formats.node_defs import Sizes, flex_module, flex_node
from tests.passes.deflex_cases import ROWS, Row

RANDOM = {"Multinomial", "RandomUniform", "RandomStandardNormal"}


def module_of(row: Row):
    outputs = [(result.dtype, result.shape) for result in row.results()]
    return flex_module(row.op, row.inputs, outputs, row.attributes, row.constants)


def outputs_of(module, row: Row) -> list[np.ndarray]:
    executor = ReferenceExecutor(prepare(module.main))
    free = [x for i, x in enumerate(row.inputs) if i not in row.constants]
    for tensor, value in zip(module.main.inputs, free, strict=True):
        executor.array(tensor.index)[...] = value
    executor.invoke()
    return [executor.array(t.index) for t in module.main.outputs]


def agrees(got: list[np.ndarray], row: Row) -> None:
    for made, wanted in zip(got, row.results(), strict=True):
        assert made.dtype == wanted.dtype
        assert made.shape == wanted.shape
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0) if wanted.dtype.kind in "fc" else 0
        elementwise = len(row.inputs) <= 2 and wanted.shape == row.inputs[0].shape
        atol = 1e-7 if elementwise and row.op not in ("LogSoftmax",) else float(scale) * row.relative
        np.testing.assert_allclose(made, wanted, rtol=row.relative if scale else 0, atol=atol)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_model_with_the_operator_gives_its_numbers(row):
    agrees(outputs_of(module_of(row), row), row)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_rewritten_model_is_sound_and_gives_the_same_numbers(row):
    module = deflex_module(module_of(row))
    assert remaining(module) == []
    again = tflite.read(tflite.write(module))
    verify(again)
    assert [t.type for t in again.main.outputs] == [t.type for t in module.main.outputs]
    agrees(outputs_of(again, row), row)


def test_every_rule_has_a_row():
    assert {row.op for row in ROWS} | RANDOM == set(RULES)


# The official kernel wants each segment to follow the one before it; TensorFlow and Lithe leave a gap empty.
NOT_OFFICIAL = {"SegmentSum"}


@pytest.mark.parametrize("row", [row for row in ROWS if row.op not in NOT_OFFICIAL], ids=str)
def test_the_official_runtime_runs_the_rewritten_model(row):
    official = pytest.importorskip("ai_edge_litert.interpreter")
    kernels = official.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    data = tflite.write(deflex_module(module_of(row)))
    interpreter = official.Interpreter(model_content=data, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    free = [x for i, x in enumerate(row.inputs) if i not in row.constants]
    for details, value in zip(interpreter.get_input_details(), free, strict=True):
        interpreter.set_tensor(details["index"], value)
    interpreter.invoke()
    agrees([interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()], row)


def test_the_documentation_names_every_rule():
    page = Path(__file__).resolve().parents[2] / "docs" / "flex.md"
    lines = [line.split("|")[2] for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    assert {name.strip() for line in lines for name in line.split(",")} == set(RULES)


def with_types(row: Row) -> dict:
    """The row's attributes and those that say an operand's type, which TensorFlow wants to see."""
    from tensorflow.python.framework import op_def_registry

    attributes, types = dict(row.attributes), [dtype_of(x) for x in row.inputs]
    for argument in op_def_registry.get(row.op).input_arg:
        if argument.type_list_attr:
            attributes[argument.type_list_attr] = tuple(types)
        elif argument.type_attr:
            attributes[argument.type_attr] = types[0]
        types = types[attributes[argument.number_attr] if argument.number_attr else 1 :]
    return attributes


@pytest.mark.skipif(not flex.tensorflow_is_installed(), reason="TensorFlow is not installed")
@pytest.mark.parametrize("row", ROWS if flex.tensorflow_is_installed() else ROWS[:1], ids=str)
def test_tensorflow_itself_gives_these_numbers(row):
    (node,) = module_of(replace(row, attributes=with_types(row))).main.nodes
    agrees(flex.FlexOp.evaluate(Site.of(node), *row.inputs)[: len(node.outputs)], row)


def test_dimensions_that_may_change_stay_open():
    module = flex_module("Tan", [np.zeros((1, 3), np.float32)], [(np.float32, (1, 3))], {}, signatures={0: (-1, 3)})
    plain = tflite.read(tflite.write(deflex_module(module)))
    assert remaining(plain) == []
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    executor = ReferenceExecutor(prepare(resize_inputs(plain.main, {0: (2, 3)})))
    executor.array(0)[...] = x
    executor.invoke()
    np.testing.assert_allclose(executor.array(plain.main.outputs[0].index), np.tan(x), rtol=1e-4)


def test_a_rule_that_must_know_a_size_waits_until_it_is_known():
    inputs = [np.zeros((1, 3), np.float32), np.int32([1]), np.int32([0])]
    module = flex_module("Roll", inputs, [(np.float32, (1, 3))], {}, (1, 2), {0: (-1, 3)})
    assert remaining(deflex_module(module)) == ["FlexRoll"]
    assert [n.op.name for n in prepare(resize_inputs(module.main, {0: (4, 3)})).nodes] == ["SPLIT_V", "CONCATENATION"]


def test_the_copy_has_the_signatures_and_the_metadata_of_the_model():
    module = flex_module("Tan", [np.zeros(3, np.float32)], [(np.float32, (3,))], {})
    module.signatures.append(Signature("serve", {"angle": module.main.inputs[0]}, {"tangent": module.main.outputs[0]}))
    module.metadata["note"] = b"kept"
    plain = deflex_module(module)
    assert plain.signatures[0].inputs["angle"] is plain.main.inputs[0]
    assert plain.metadata == {"note": b"kept"}
    assert remaining(module) == ["FlexTan"], "the model given is not changed"


def test_every_tensor_has_a_value_when_all_are_kept():
    row = next(row for row in ROWS if row.op == "Erf")
    module = module_of(row)
    executor = ReferenceExecutor(prepare(module.main, keep_all=True), keep_all=True)
    executor.array(0)[...] = row.inputs[0]
    executor.invoke()
    agrees([executor.array(1)], row)


def test_compiled_code_gives_the_same_numbers():
    row = next(row for row in ROWS if row.op == "Sinh")
    model = lithe.load(tflite.write(module_of(row)), cache=False)
    agrees([model(row.inputs[0])], row)
    assert type(model._main.session()._executor).__name__ == "CompiledExecutor"


QUANTIZED = Quantization((0.5,), (0,))
LEFT = [
    ("an operator that has no rule", "Lgamma", [np.zeros(3, np.float32)], {}),
    ("a type that the builtin does not have", "MatMul", [np.zeros((2, 2), np.int32)] * 2, {}),
    ("a type that a formula is not made for", "Log1p", [np.zeros(3, np.float64)], {}),
    ("an attribute of another kind", "LeakyRelu", [np.zeros(3, np.float32)], {"alpha": b"much"}),
    ("an equation with dots", "Einsum", [np.zeros((2, 2), np.float32)] * 2, {"equation": b"...i,ij->...j"}),
    ("an equation without a result", "Einsum", [np.zeros((2, 2), np.float32)] * 2, {"equation": b"ij,jk"}),
    ("channels first", "MaxPool", [np.zeros((1, 2, 2, 2), np.float32)],
     {"ksize": (1, 1, 2, 2), "strides": (1, 1, 2, 2), "data_format": b"NCHW"}),
    ("training", "FusedBatchNormV3", [np.zeros((1, 2, 2, 2), np.float32)] + [np.zeros(2, np.float32)] * 4,
     {"is_training": True, "exponential_avg_factor": 0.5}),
    ("operands that do not fit", "Add", [np.zeros((2,), np.float32), np.zeros((3,), np.float32)], {}),
    ("too few operands", "Add", [np.zeros((2,), np.float32)], {}),
    ("an axis that is computed", "ConcatV2", [np.zeros(2, np.float32), np.zeros(2, np.float32), np.int32(0)], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_the_builtins_cannot_say_stays(op, inputs, attributes):
    module = flex_module(op, inputs, [(inputs[0].dtype, inputs[0].shape)], attributes)
    assert remaining(deflex_module(module)) == [f"Flex{op}"]


def test_quantized_operands_and_results_of_another_type_stay():
    module = flex_module("Add", [np.zeros(2, np.int32)] * 2, [(np.int32, (2,))], {})
    for t in module.main.tensors:
        t.type = replace(t.type, quantization=QUANTIZED)
    assert remaining(deflex_module(module)) == ["FlexAdd"]
    module = flex_module("IsNan", [np.zeros(2, np.float32)], [(np.float32, (2,))], {})
    assert remaining(deflex_module(module)) == ["FlexIsNan"]


def test_results_that_nothing_reads_may_be_left_out_and_others_not():
    inputs = [np.zeros((1, 2, 2, 2), np.float32)] + [np.ones(2, np.float32)] * 4
    outputs = [(np.float32, (1, 2, 2, 2))] + [(np.float32, (2,))] * 5
    module = flex_module("FusedBatchNormV3", inputs, outputs, {"is_training": False})
    assert remaining(deflex_module(module)) == ["FlexFusedBatchNormV3"], "its last results are given out"
    module.main.outputs = module.main.outputs[:1]
    assert remaining(deflex_module(module)) == []


def test_one_error_names_all_that_need_tensorflow(monkeypatch):
    monkeypatch.setattr(expand, "tensorflow_is_installed", lambda: False)
    x, y, z = (Tensor(name, TensorType(FLOAT32, (2,)), index=i) for i, name in enumerate("xyz"))
    nodes = [flex_node("Lgamma", [x], [y], {}), flex_node("Digamma", [y], [z], {})]
    model = lithe.load(tflite.write(Module([Graph("main", [x], [z], [x, y, z], nodes)])))
    with pytest.raises(UnsupportedOp) as error:
        model(np.zeros(2, np.float32))
    assert "FlexDigamma, FlexLgamma" in error.value.problem
    assert "pip install tensorflow" in error.value.hint
    assert "without select-TF" in error.value.hint


def test_random_numbers_come_from_the_builtins():
    for op, attributes in (("RandomUniform", {"seed": 1}), ("RandomStandardNormal", {})):
        module = flex_module(op, [np.int32([2, 3])], [(np.float32, (2, 3))], attributes, (0,))
        assert remaining(deflex_module(module)) == []
    logits, count = np.zeros((2, 3), np.float32), np.int32(4)
    module = flex_module("Multinomial", [logits, count], [(np.int64, (2, 4))], {"seed": 1, "seed2": 2}, (1,))
    assert remaining(deflex_module(module)) == []


def test_the_public_function_takes_models_modules_and_bytes():
    module = flex_module("Tan", [np.zeros(3, np.float32)], [(np.float32, (3,))], {})
    data = tflite.write(module)
    for given in (module, data, lithe.load(data)):
        plain = lithe.deflex(given)
        assert remaining(plain.module) == []
        np.testing.assert_allclose(plain(np.float32([1, 2, 3])), np.tan(np.float32([1, 2, 3])), rtol=1e-4)


def test_operands_and_attributes_of_any_kind_end_in_a_result_or_an_error_of_ours():
    random = np.random.default_rng(11)
    types = [np.float32, np.int32, np.int64, np.bool_, np.int8]
    values = [b"SAME", 3, -1, 0.5, True, (1, 2), (), FLOAT32, Sizes((2, -1))]

    def other(x: np.ndarray) -> np.ndarray:
        shape = tuple(random.integers(0, 4, random.integers(0, 5)).tolist())
        return random.integers(-3, 4, shape).astype(types[random.integers(len(types))]) if random.random() < 0.5 else x

    tried = 0
    for row in ROWS * 6:
        inputs = [other(x) for x in row.inputs][: random.integers(1, len(row.inputs) + 1)]
        names = list(row.attributes)
        changed = names[random.integers(len(names))]
        attributes = row.attributes | {changed: values[random.integers(len(values))]}
        constants = [i for i in range(len(inputs)) if i in row.constants or random.random() < 0.2]
        outputs = [(r.dtype, r.shape) for r in row.results()]
        module = flex_module(row.op, inputs, outputs, attributes, constants)
        with contextlib.suppress(LitheError):
            deflex_module(module)
            prepare(module.main)
        tried += 1
    assert tried == 6 * len(ROWS)
