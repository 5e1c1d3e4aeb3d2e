"""Constant folding: what does not depend on the inputs is computed once."""

from __future__ import annotations

import numpy as np

from lithe.errors import LitheError
from lithe.ir.graph import Graph, Node
from lithe.ops.op import RuleViolation, Site
from lithe.passes.infer_shapes import BAD_NUMBERS, is_dynamic
from lithe.passes.remove_dead import has_effect

# A folded result may be this many times larger than what it is made of (DENSIFY and DEQUANTIZE of weights
# are; TILE and FILL of a hostile model are not), and anything below a megabyte is welcome.
LARGEST_GROWTH = 64
ALWAYS_FOLDED = 1 << 20


def fold_constants(graph: Graph) -> None:
    """w = DEQUANTIZE(constant); y = f(x, w)  ->  y = f(x, constant')

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
            values = node.op.evaluate(site, *site.constants)
    except (*BAD_NUMBERS, RuleViolation, LitheError):
        return False
    results = [np.asarray(v) for v in values]
    if any(
        v.shape != t.type.shape or v.dtype != t.type.dtype.numpy for v, t in zip(results, node.outputs, strict=True)
    ):
        return False
    for tensor, value in zip(node.outputs, results, strict=True):
        tensor.data = value
    return True


def foldable(node: Node) -> bool:
    """Whether the node's results are constants of a reasonable size."""
    if has_effect(node) or not node.inputs or not hasattr(node.op, "evaluate"):
        return False
    if any(t is not None and not t.is_constant for t in node.inputs):
        return False
    if any(is_dynamic(t.type) or t.type.dtype.kind == "resource" for t in node.outputs):
        return False
    given = sum(t.data.nbytes for t in node.inputs if t is not None)
    return sum(t.type.nbytes for t in node.outputs) <= max(ALWAYS_FOLDED, LARGEST_GROWTH * given)
