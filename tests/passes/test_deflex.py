"""Operators of TensorFlow as builtins: the numbers stay, whatever shape of model they stand in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.formats import tflite
from lithe.ops import flex
from lithe.ops.op import Site
from lithe.ops.verify import verify
from lithe.passes import prepare
from lithe.passes.deflex import RULES, deflex_module, remaining
from lithe.runtime.reference import ReferenceExecutor
from lithe.types import dtype_of
from tests.formats.node_defs import flex_module
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
