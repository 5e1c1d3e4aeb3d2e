"""Range folding: what lies outside of bounds that come next is cut off by the integers themselves.

    y = RELU6(x), and nobody else reads x        x needs integers from 0 to 6, however far it reaches
    y = LOGISTIC(x) in steps of 1/256            x needs none beyond -7 and 7

    y = SELECT(c, x, z)                          x needs none beyond the values of y

Between the two, elements may be moved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.layout import Movement
from lithe.ops.op import Site
from lithe.optimize.integers import integer_form
from lithe.optimize.recipes import Plan

Range = tuple[float, float]
ANYTHING = (-math.inf, math.inf)
TRIED = 4096  # places of a range
FURTHEST = 100.0  # is where no such result changes
NOTHING = 0.25  # of a step of the result


def folded(graph: Graph, ranges: Mapping[Any, Range], plan: Plan) -> dict[Tensor, Range]:
    """The narrower ranges of the tensors that are only read by operators that keep them between bounds (`Op.keeps`), or
    whose integers beyond some bounds are all the same."""
    bounds: dict[Tensor, Range] = dict.fromkeys(graph.outputs, ANYTHING)
    for node in reversed(graph.nodes):
        low, high = _bounds(node, bounds, ranges, plan)
        for t in node.inputs:
            if t is not None:
                before = bounds.get(t, (low, high))
                bounds[t] = (min(before[0], low), max(before[1], high))
    found = {}
    for t, (low, high) in bounds.items():
        if t in ranges and not t.is_constant:
            narrow = _between((low, high), ranges[t])
            if narrow != ranges[t]:
                found[t] = narrow
    return found


def _bounds(node: Node, of_results: Mapping[Tensor, Range], ranges: Mapping[Any, Range], plan: Plan) -> Range:
    """Between which numbers the inputs of a node matter."""
    if node.op.keeps is not None:
        low, high = node.op.keeps
        return (-math.inf if low is None else low, math.inf if high is None else high)
    if issubclass(node.op, Movement):  # elements that are in no result do not matter
        reached = [_between(of_results.get(t, ANYTHING), ranges.get(t, ANYTHING)) for t in node.outputs]
        return min(low for low, _ in reached), max(high for _, high in reached)
    values = plan.of(node).values
    step, _ = node.op.result_scales.get(str(values), (0.0, 0)) if node.op.elementwise else (0.0, 0)
    if step and node.inputs[0] in ranges and integer_form(node, plan.of(node)) is not None:
        return _saturated(node, step, ranges[node.inputs[0]])
    return ANYTHING


def _between(bounds: Range, reach: Range) -> Range:
    """The part of a range that is within bounds, at least one of these."""
    return min(max(reach[0], bounds[0]), bounds[1]), max(min(reach[1], bounds[1]), bounds[0])


def _saturated(node: Node, step: float, reach: Range) -> Range:
    """Beyond which numbers the result of a node changes by less than matters for integers of this step."""
    low, high = (min(max(end, -FURTHEST), FURTHEST) for end in reach)
    x = np.linspace(low, high, TRIED, dtype=np.float32)
    (y,) = node.op.evaluate(Site.of(node), x)
    before, after = (np.abs(y - end) >= NOTHING * step for end in (y[0], y[-1]))
    if not before.any() or not after.any():
        return ANYTHING
    first, last = int(np.argmax(before)) - 1, TRIED - int(np.argmax(after[::-1]))
    return float(x[first]), float(x[last])
