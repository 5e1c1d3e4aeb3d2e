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

OF_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def write_flex(b: Builder, operation: Any, values: Sequence[Value], unranked: set[Tensor]) -> list[Value | None]:
    """The operator as it is, with tensors for operands; resources and functions stay in TensorFlow alone.

    Results of which TensorFlow knows nothing join the unranked ones.
    """
    if operation.type in OF_PYTHON:
        raise Inexpressible("it calls a function of Python")
    inputs = [written(b, v) for v in values]
    definition = operation.node_def
    if any(a.HasField("func") or a.list.func for a in definition.attr.values()):
        raise Inexpressible("it calls functions, which a file cannot hold for TensorFlow")
    definition.device = ""
    definition.ClearField("experimental_debug_info")
    for name in [name for name in definition.attr if name.startswith("_")]:
        del definition.attr[name]
    types, ranked = _types(b, operation.name, definition, inputs, unranked)
    outputs = [Tensor(f"{b.name()}/{i}", type_) for i, type_ in enumerate(types)]
    data = definition.SerializeToString()
    extras = {"version": 1, "custom_options": node_def.write_options(operation.type, data)}
    b.nodes.append(Node(flex_class(f"Flex{operation.type}"), node_def.read(data), list(inputs), outputs, extras=extras))
    unranked.update(t for t, known in zip(outputs, ranked, strict=True) if not known)
    for tensor in outputs:
        b.originate(tensor)
    return list(outputs)


def _types(
    b: Builder, title: str, definition: Any, inputs: Sequence[Tensor], unranked: set[Tensor]
) -> tuple[list[TensorType], list[bool]]:
    """What TensorFlow infers for operands of these types, and whether it knows the ranks.

    A size that it does not know is an open one of its own.
    """
    import tensorflow as tf

    graph, given = tf.Graph(), []
    node = type(definition).FromString(definition.SerializeToString())
    node.ClearField("input")
    with graph.as_default():
        for i, t in enumerate(inputs):
            if t.data is not None:
                given.append(tf.constant(t.data, t.type.dtype.name, name=f"given{i}"))
            else:
                shape = None if t in unranked else t.type.shape
                given.append(tf.compat.v1.placeholder(t.type.dtype.name, shape, f"given{i}"))
        node.name = "operator"
        node.input.extend(t.op.name for t in given)
        holder = tf.compat.v1.GraphDef(node=[node])
        names = {t.op.name: t for t in given}
        try:
            (operation,) = tf.graph_util.import_graph_def(holder, names, ["operator"], name="")
        except ValueError as cause:
            raise Inexpressible(f"it does not take these operands: {str(cause).splitlines()[0]}") from cause
    types = []
    for i, t in enumerate(operation.outputs):
        if t.dtype.base_dtype.name not in DTYPES:
            raise Inexpressible(f"a result has the type {t.dtype.name}")
        sizes = [] if t.shape.rank is None else t.shape.as_list()
        dims = [b.sizes.stand_in(f"{title}_{i}_{axis}") if n is None else int(n) for axis, n in enumerate(sizes)]
        types.append(TensorType(DTYPES[t.dtype.base_dtype.name], tuple(dims)))
    return types, [t.shape.rank is not None for t in operation.outputs]
