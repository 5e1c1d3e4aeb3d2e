"""Operators that stay TensorFlow's ("Flex"): its description of the node, and the types that it says come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.tensorflow.values import Value, written
from lithe.formats import node_def
from lithe.ir.graph import Node, Tensor
from lithe.ops.flex.operators import flex_class
from lithe.passes.writer import Inexpressible
from lithe.types import DTYPES, TensorType


def write_flex(b: Builder, operation: Any, values: Sequence[Value]) -> list[Value | None]:
    """The operator as it is, with tensors for operands; resources and functions stay in TensorFlow alone."""
    inputs = [written(b, v) for v in values]
    definition = operation.node_def
    if any(a.HasField("func") or a.list.func for a in definition.attr.values()):
        raise Inexpressible("it calls functions, which a file cannot hold for TensorFlow")
    definition.device = ""
    definition.ClearField("experimental_debug_info")
    for name in [name for name in definition.attr if name.startswith("_")]:
        del definition.attr[name]
    outputs = [
        Tensor(f"{b.name()}/{i}", type_) for i, type_ in enumerate(_types(b, operation.name, definition, inputs))
    ]
    data = definition.SerializeToString()
    extras = {"version": 1, "custom_options": node_def.write_options(operation.type, data)}
    b.nodes.append(Node(flex_class(f"Flex{operation.type}"), node_def.read(data), list(inputs), outputs, extras=extras))
    for tensor in outputs:
        b.originate(tensor)
    return list(outputs)


def _types(b: Builder, title: str, definition: Any, inputs: Sequence[Tensor]) -> list[TensorType]:
    """What TensorFlow infers for operands of these types; a size that it does not know is an open one of its own."""
    import tensorflow as tf

    graph, given = tf.Graph(), []
    node = type(definition).FromString(definition.SerializeToString())
    node.ClearField("input")
    with graph.as_default():
        for i, t in enumerate(inputs):
            if t.data is not None:
                given.append(tf.constant(t.data, t.type.dtype.name, name=f"given{i}"))
            else:
                given.append(tf.compat.v1.placeholder(t.type.dtype.name, t.type.shape, f"given{i}"))
        node.name = "operator"
        node.input.extend(t.op.name for t in given)
        holder = tf.compat.v1.GraphDef(node=[node])
        names = {t.op.name: t for t in given}
        (operation,) = tf.graph_util.import_graph_def(holder, names, ["operator"], name="")
    types = []
    for i, t in enumerate(operation.outputs):
        if t.shape.rank is None or t.dtype.base_dtype.name not in DTYPES:
            raise Inexpressible(f"result {i} has the type {t.dtype.name}, shape {t.shape}")
        dims = [b.sizes.stand_in(f"{title}_{i}_{axis}") if n is None else int(n) for axis, n in enumerate(t.shape)]
        types.append(TensorType(DTYPES[t.dtype.base_dtype.name], tuple(dims)))
    return types
