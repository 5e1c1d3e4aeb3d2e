"""Shapes, operator by operator, from the inputs and the constants known so far.

A dimension that depends on data is None in `tensor.type.shape`; what is computed from such a tensor
has None in every dimension, in the rank that the model declares, and in one where it may declare none.
The reference executor asks again when the values are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from lithe.errors import LimitError, ModelError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Environment, RuleViolation, Site
from lithe.types import Shape, TensorType

# What numpy and Python raise on numbers that make no sense; anything else is a fault of ours.
BAD_NUMBERS = (ValueError, IndexError, ArithmeticError, MemoryError)

LARGEST_DIMENSION = 2**31 - 1
LARGEST_TENSOR = 2**31  # bytes


def is_dynamic(type_: TensorType) -> bool:
    """Whether a dimension is known only when the model runs."""
    return None in type_.shape


def may_be_unranked(t: Tensor) -> bool:
    """Whether the model declares a scalar, or perhaps no shape at all: older files do not tell them apart."""
    return t.type.rank == 0 and not t.extras.get("has_rank")


def unknown_shape(rank: int) -> Shape:
    """All that is known before the run is the rank."""
    return cast("Shape", (None,) * rank)


def infer_shapes(graph: Graph, environment: Environment | None = None) -> None:
    """Replaces the declared shapes of all nodes' outputs by inferred ones. Raises ModelError, LimitError."""
    for node in graph.nodes:
        infer_node(node, environment)


def infer_node(node: Node, environment: Environment | None = None) -> None:
    """The same for one node. Outputs of an operator that Lithe does not know keep their declared shape."""
    if not node.has_rules:
        return
    if any(t is not None and is_dynamic(t.type) for t in node.inputs):
        shapes = [unknown_shape(1 if may_be_unranked(t) else t.type.rank) for t in node.outputs]
    else:
        shapes = inferred(node, Site.of(node, environment))
    for tensor, shape in zip(node.outputs, shapes, strict=True):
        tensor.type = replace(tensor.type, shape=checked_shape(node, tensor.type, shape))


def inferred(node: Node, site: Site) -> list[Shape]:
    """The shape of each output by the operator's rule; a broken rule is a ModelError with the place."""
    try:
        with np.errstate(all="ignore"):
            shapes = node.op.infer(site)
    except RuleViolation as violation:
        operand = f", {violation.operand}" if violation.operand else ""
        raise ModelError(violation.rule, where=f"{node!r}{operand}") from violation
    except BAD_NUMBERS as cause:
        if isinstance(cause, ModelError):
            raise
        raise ModelError(f"the shape of the result cannot be computed: {cause}", where=repr(node)) from cause
    if len(shapes) != len(node.outputs):
        raise ModelError(f"has {len(node.outputs)} outputs, the operator makes {len(shapes)}", where=repr(node))
    return shapes


def checked_shape(node: Node, type_: TensorType, shape: Sequence[int | None] | None) -> Shape:
    """The shape as plain integers (and None), within the limits."""
    if shape is None:
        return unknown_shape(type_.rank)
    dims = cast("Shape", tuple(None if d is None else int(d) for d in shape))
    size = type_.dtype.bytes
    for d in dims:
        if d is not None and not 0 <= d <= LARGEST_DIMENSION:
            raise ModelError(f"the result would have the shape {list(dims)}", where=repr(node))
        size *= 1 if d is None else d
    if size > LARGEST_TENSOR:
        raise LimitError(
            f"the result {replace(type_, shape=dims)} needs {size} bytes, the limit is {LARGEST_TENSOR}",
            where=repr(node),
        )
    return dims
