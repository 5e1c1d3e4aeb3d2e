"""Range folding: what lies outside of bounds that come next is cut off by the integers themselves.

    y = RELU6(x), and nobody else reads x        x needs integers from 0 to 6, however far it reaches

Between the two, elements may be moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.layout import Movement

Range = tuple[float, float]
ANYTHING = (-math.inf, math.inf)


def folded(graph: Graph, ranges: Mapping[Any, Range]) -> dict[Tensor, Range]:
    """The narrower ranges of the tensors that are only read by operators that keep them between bounds (`Op.keeps`)."""
    bounds: dict[Tensor, Range] = dict.fromkeys(graph.outputs, ANYTHING)
    for node in reversed(graph.nodes):
        low, high = _bounds(node, bounds)
        for t in node.inputs:
            if t is not None:
                before = bounds.get(t, (low, high))
                bounds[t] = (min(before[0], low), max(before[1], high))
    found = {}
    for t, (low, high) in bounds.items():
        if t in ranges and not t.is_constant:
            narrow = (min(max(ranges[t][0], low), high), max(min(ranges[t][1], high), low))
            if narrow != ranges[t]:
                found[t] = narrow
    return found


def _bounds(node: Node, of_results: Mapping[Tensor, Range]) -> Range:
    """Between which numbers the inputs of a node matter."""
    if node.op.keeps is not None:
        low, high = node.op.keeps
        return (-math.inf if low is None else low, math.inf if high is None else high)
    if issubclass(node.op, Movement) and len(node.outputs) == 1:
        return of_results.get(node.outputs[0], ANYTHING)
    return ANYTHING
