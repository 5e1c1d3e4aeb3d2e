"""Every operator of TensorFlow that has a rule, as a frozen graph of that one operator."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import convert
from tests.formats.node_defs import node_def_bytes
from tests.passes.deflex_cases import ROWS, Row
from tests.passes.test_deflex import with_types

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

NOTHING_GIVEN = {"Range", "BroadcastGradientArgs"}  # of constants alone: there is nothing to run


def graph_of(row: Row):
    node = tf.compat.v1.NodeDef.FromString(node_def_bytes(row.op, len(row.inputs), with_types(row)))
    node.ClearField("input")
    node.name = "operator"
    with tf.Graph().as_default() as graph:
        given = {}
        for i, x in enumerate(row.inputs):
            dtype = tf.string if x.dtype == object else tf.as_dtype(x.dtype)
            constant = i in row.constants
            given[f"x{i}"] = (
                tf.constant(x, name=f"x{i}") if constant else tf.compat.v1.placeholder(dtype, x.shape, f"x{i}")
            )
            node.input.append(f"x{i}")
        whole = tf.compat.v1.GraphDef(node=[node], versions=graph.as_graph_def().versions)
        made = tf.graph_util.import_graph_def(whole, given, ["operator"], name="")[0].outputs
        for i in range(len(row.results())):  # results that nothing asks for are none
            tf.identity(made[i], f"y{i}")
    definition = graph.as_graph_def()
    return definition


@pytest.mark.parametrize("row", [row for row in ROWS if row.op not in NOTHING_GIVEN], ids=str)
def test_an_operator_gives_its_numbers(row):
    model = convert(graph_of(row))
    given = {f"x{i}": x for i, x in enumerate(row.inputs) if i not in row.constants}
    made = model(**given)
    for i, wanted in enumerate(row.results()):
        got = np.asarray(made[f"y{i}"] if isinstance(made, dict) else made)
        assert got.dtype == wanted.dtype
        if wanted.dtype.kind == "c":
            np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
        elif wanted.dtype.kind == "f":
            assert relative_difference(wanted, got) <= 1e-4
        else:
            np.testing.assert_array_equal(got, wanted)
