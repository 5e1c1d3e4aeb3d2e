"""Operators of TensorFlow itself ("select-TF", "Flex"): in a file, FlexXxx stands for TensorFlow's operator Xxx.

`lithe.passes.deflex` rewrites those that the builtins can say. What is left runs through TensorFlow, imported when
the first such operator runs; a model that needs it where it is not installed is refused before it runs.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from lithe.errors import ExecutionError, MissingDependency
from lithe.ops.op import REGISTRY, Op, Site
from lithe.types import Shape

PREFIX = "Flex"
GIVEN = "lithe_given_"
INSTALL = "pip install tensorflow"
TEXT = "operators that are not TensorFlow's own come with another package, those of text with tensorflow-text"


@dataclass(frozen=True)
class Callee:
    """A function that an attribute names."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeDef:
    """TensorFlow's description of one operator (see `lithe.formats.node_def`).

    attributes  by name: bytes, int, float, bool, DType, a shape (-1: open, None: of any rank), an array, a `Callee`,
                tuples of those; None where there is no value, or one of a type that Lithe has no name for.
    data        the description as TensorFlow wrote it.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    device: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""


class FlexOp(Op):
    """TensorFlow's own operator, run by TensorFlow. What it does to state is not known, so it is never folded."""

    name = PREFIX
    Attrs = NodeDef
    operands = (("inputs*",), ("outputs*",))
    stateful = True

    def infer(site: Site) -> list[Shape]:
        return [(None,) * t.rank for t in site.outputs]

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        run = function(site.attrs.data, tuple((_type_name(a), a.shape) for a in arrays))
        try:
            return [_array(value) for value in run(*arrays)]
        except Exception as cause:  # TensorFlow's errors derive from Exception alone
            raise ExecutionError(f"TensorFlow's {site.attrs.op} failed: {cause}") from cause


@lru_cache(None)
def flex_class(name: str) -> type[Op]:
    """The class of operators with this custom code."""
    label = name.replace("\0", "")  # Python's own names hold no such character, those in damaged files may
    return type(label, (FlexOp,), {"__doc__": FlexOp.__doc__, "__module__": __name__, "name": name})


REGISTRY.prefixes[PREFIX] = flex_class


def is_flex(op: Any) -> bool:
    return isinstance(op, type) and issubclass(op, FlexOp)


def tensorflow_is_installed() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _tensorflow() -> Any:
    try:
        return importlib.import_module("tensorflow")
    except ImportError as cause:
        raise MissingDependency(f"TensorFlow cannot be imported: {cause}", hint=INSTALL) from cause


def _type_name(array: np.ndarray) -> str:
    if array.dtype != object:
        return array.dtype.name
    held = array.item() if array.ndim == 0 else None
    return "string" if held is None or isinstance(held, bytes) else str(held.dtype.name)


def _array(value: Any) -> np.ndarray:
    """A tensor as an array; a handle (resource, variant) as an array that holds it."""
    if value.dtype.name in ("resource", "variant"):
        held = np.empty((), object)
        held[()] = value
        return held
    result = np.asarray(value.numpy())
    return result.astype(object) if result.dtype.kind == "S" else result


@lru_cache(256)
def function(definition: bytes, types: tuple[tuple[str, Shape], ...]) -> Callable[..., list[Any]]:
    """One operator as a function of arrays with these element types and shapes: a graph that holds nothing else."""
    tf = _tensorflow()
    v1 = tf.compat.v1
    node = v1.NodeDef.FromString(definition)
    node.name, node.device = node.name or "operator", ""  # tables without a name of their own share by this one
    node.ClearField("input")
    node.ClearField("experimental_debug_info")
    graph = v1.GraphDef()
    for i, (name, shape) in enumerate(types):
        node.input.append(f"{GIVEN}{i}")
        given = graph.node.add()
        given.name, given.op = f"{GIVEN}{i}", "Placeholder"
        given.attr["dtype"].type = tf.dtypes.as_dtype(name).as_datatype_enum
        given.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    graph.node.append(node)
    if not hasattr(tf.raw_ops, node.op) and importlib.util.find_spec("tensorflow_text"):
        importlib.import_module("tensorflow_text")  # it adds its operators to TensorFlow's
    try:
        imported = v1.wrap_function(lambda: v1.import_graph_def(graph, name=""), [])
    except Exception as cause:  # ValueError for an operator that is not there, others for bad attributes
        raise ExecutionError(f"TensorFlow does not take {node.op}: {cause}", hint=TEXT) from cause
    operator = imported.graph.get_operation_by_name(node.name)
    given = [imported.graph.get_tensor_by_name(f"{GIVEN}{i}:0") for i in range(len(types))]
    run = imported.prune(given, operator.outputs or operator)

    def call(*arrays: np.ndarray) -> list[Any]:
        handles = ("resource", "variant")
        pairs = zip(arrays, types, strict=True)
        result = run(*(a.item() if t in handles else tf.constant(a, t) for a, (t, _) in pairs))
        return (list(result) if isinstance(result, list | tuple) else [result]) if operator.outputs else []

    return call
