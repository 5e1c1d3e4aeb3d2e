"""Variables whose shapes, or the shapes beside them, are known only when the model runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.formats.tflite import write
from lithe.ir.graph import Module, Tensor
from lithe.runtime.instance import Options
from lithe.runtime.source import Source
from lithe.types import FLOAT32, RESOURCE
from tests.passes.graphs import Draft
from tests.runtime.test_control import F, assign, graph, two_functions


def test_a_handle_asks_nothing_of_its_inputs():
    def main(d: Draft) -> Tensor:
        x = d.input((2,))
        handle = d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name="v")
        assign(d, handle, x)
        other = d("VAR_HANDLE", d("READ_VARIABLE", handle, shape=(2,), dtype=FLOAT32), shape=(), dtype=RESOURCE,
                  shared_name="w")  # fmt: skip
        assign(d, other, d("NEG", x, shape=(2,)))
        return d("READ_VARIABLE", other, shape=(2,), dtype=FLOAT32)

    for options in (Options(keep=False), Options(reference=True)):
        model = lithe.Model(Source(write(Module([graph(main)])), keep=False), options)
        np.testing.assert_array_equal(model(np.array([1, -2], F)), np.array([-1, 2], F))


@pytest.mark.parametrize("name", ["READ_VARIABLE", "ADD"])
@pytest.mark.parametrize("options", [Options(keep=False), Options(reference=True)], ids=["compiled", "reference"])
def test_what_is_known_when_the_model_runs_needs_no_declared_shape(options, name):
    module = two_functions()
    (node,) = (n for n in module.graphs[1].nodes if n.op.name == name)
    node.outputs[0].type = replace(node.outputs[0].type, shape=())
    model = lithe.Model(Source(write(module), keep=False), options)
    model.signatures["add"](np.array([0.5, -2], F))
    got = model.signatures["get"](np.ones(2, F))["y"]
    np.testing.assert_allclose(got, np.tanh(np.array([0.5, -2], F)) + 1, rtol=1e-6)
