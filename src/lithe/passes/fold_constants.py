"""Constant folding: what does not depend on the inputs is computed once."""

from __future__ import annotations

import numpy as np

from lithe.errors import LitheError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import RuleViolation, Site
from lithe.passes.infer_shapes import BAD_NUMBERS, is_dynamic
from lithe.passes.remove_dead import has_effect

# A folded result may be this many times larger than what it is made of (DENSIFY and DEQUANTIZE of weights
# are; TILE and FILL of a hostile model are not), and anything below a megabyte is welcome.
LARGEST_GROWTH = 64
ALWAYS_FOLDED = 1 << 20


def fold_constants(graph: Graph) -> None:
    """w = DEQUANTIZE(constant); y = f(x, w)  ->  y = f(x, constant')
    s = SHAPE(x); y = f(x, s)  ->  y = f(x, constant)    where the shape of x is known

    Shapes must be inferred. Results that the graph gives out stay computed, so that outputs are never constants
    by our doing. Nodes that keep state, or whose evaluation fails (then it fails again when the model runs), stay.
    """
    outputs = set(graph.outputs)
    graph.nodes = [n for n in graph.nodes if not outputs.isdisjoint(n.outputs) or not fold_node(n)]


def fold_node(node: Node) -> bool:
    """Gives the node's outputs their values if these are constant; whether it did."""
    if not foldable(node):
        return False
    site = Site.of(node)
    try:
        with np.errstate(all="ignore"):
            values = node.op.evaluate(site, *map(_value, node.inputs))
    except (*BAD_NUMBERS, RuleViolation, LitheError):
        return False
    results = [np.asarray(v) for v in values]
    types = [t.type for t in node.outputs]
    if any(v.shape != t.shape or v.dtype != t.dtype.numpy for v, t in zip(results, types, strict=True)):
        return False
    for tensor, value in zip(node.outputs, results, strict=True):
        tensor.data = value
    return True


def _value(tensor: Tensor | None) -> np.ndarray | None:
    """The constant; for an operator that looks at shapes alone, an array of that shape which takes no memory."""
    if tensor is None or tensor.data is not None:
        return None if tensor is None else tensor.data
    return np.broadcast_to(np.zeros((), tensor.type.dtype.numpy), tensor.type.shape)


def foldable(node: Node) -> bool:
    """Whether the node's results are constants of a reasonable size."""
    if has_effect(node) or not node.inputs or not hasattr(node.op, "evaluate"):
        return False
    inputs = [t for t in node.inputs if t is not None]
    if not all(t.is_constant or (node.op.of_shapes and not is_dynamic(t.type)) for t in inputs):
        return False
    if any(is_dynamic(t.type) or t.type.dtype.kind == "resource" for t in node.outputs):
        return False
    given = sum(t.data.nbytes for t in inputs if t.data is not None)
    return sum(t.type.nbytes for t in node.outputs) <= max(ALWAYS_FOLDED, LARGEST_GROWTH * given)
