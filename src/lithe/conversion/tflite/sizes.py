"""Open dimensions of a file (-1 in a signature) get stand-ins, and all shapes of the graph are inferred from them.

Shape operands that are computed from SHAPE by moving numbers about are followed; those that are calculated are not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.conversion.sizes import Sizes
from lithe.errors import LitheError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.flex.operators import is_flex
from lithe.ops.op import RuleViolation, Site
from lithe.passes.infer_shapes import BAD_NUMBERS, inferred

MOVES = {"CAST", "CONCATENATION", "EXPAND_DIMS", "GATHER", "PACK", "RESHAPE", "SLICE", "SPLIT", "SQUEEZE",
         "STRIDED_SLICE", "UNPACK"}  # fmt: skip
SMALL = 64  # elements of a value that is followed

Values = dict[Tensor, np.ndarray]


def open_sizes(graph: Graph, sizes: Sizes) -> bool:
    """Gives the graph's tensors their shapes, with stand-ins for what is open. Whether every shape is known; where one
    is not, all are as they were declared.
    """
    declared = {t: t.type for t in graph.tensors}
    for t in graph.inputs:
        open_axes = [] if t.shape_signature is None else [i for i, d in enumerate(t.shape_signature) if d == -1]
        names = {i: "batch" if i == 0 else f"{t.name}_{i}" for i in open_axes}
        shape = tuple(sizes.stand_in(names[i]) if i in names else d for i, d in enumerate(t.type.shape))
        t.type = replace(t.type, shape=shape)
    values: Values = {}
    if all(_infer(n, values) for n in graph.nodes):
        return True
    for t, type_ in declared.items():
        t.type = type_
    return False


def _infer(node: Node, values: Values) -> bool:
    """Gives the outputs their shapes; whether it can."""
    if node.op.calls:
        return all(t.shape_signature is None or -1 not in t.shape_signature for t in node.outputs)
    if not node.has_rules or is_flex(node.op):
        return False
    known = [None if t is None else values.get(t, t.data) for t in node.inputs]
    site = replace(Site.of(node), constants=tuple(known))
    try:
        shapes = inferred(node, site)
    except (*BAD_NUMBERS, LitheError, RuleViolation):
        return False
    if any(shape is None or None in shape for shape in shapes):
        return False
    for t, shape in zip(node.outputs, shapes, strict=True):
        t.type = replace(t.type, shape=tuple(int(n) for n in shape))
    _follow(node, known, values)
    return True


def _follow(node: Node, known: list[np.ndarray | None], values: Values) -> None:
    """The value of a result that is made of sizes; stand-ins fit into 32 bits, and moving them changes none."""
    if any(
        t.type.dtype.kind not in ("int", "uint") or t.type.dtype.bytes < 4 or t.type.size > SMALL for t in node.outputs
    ):
        return
    if node.op.name == "SHAPE" and node.inputs[0] is not None:
        values[node.outputs[0]] = np.array(node.inputs[0].type.shape, node.outputs[0].type.dtype.numpy)
    elif node.op.name in MOVES and all(a is not None for a in known):
        site = replace(Site.of(node), constants=tuple(known))
        try:
            results = node.op.evaluate(site, *known)
        except (*BAD_NUMBERS, LitheError, RuleViolation):
            return
        values.update(zip(node.outputs, map(np.asarray, results), strict=True))
