"""Range folding: what lies outside of bounds that come next is cut off by the integers themselves.

y = RELU6(x), and nobody else reads x        x needs integers from 0 to 6, however far it reaches
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lithe.ir.graph import Graph, Node, Tensor

Range = tuple[float, float]


def folded(graph: Graph, ranges: Mapping[Any, Range]) -> dict[Tensor, Range]:
    """The narrower ranges of the tensors that are only read by operators that keep them between bounds (`Op.keeps`)."""
    given_out = set(graph.outputs)
    found = {}
    for t, readers in graph.consumers().items():
        if t in ranges and t not in given_out and all(_bounds(n, t) is not None for n in readers):
            bounds = [b for n in readers if (b := _bounds(n, t)) is not None]
            low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
            narrow = (min(max(ranges[t][0], low), high), max(min(ranges[t][1], high), low))
            if narrow != ranges[t]:
                found[t] = narrow
    return found


def _bounds(node: Node, t: Tensor) -> Range | None:
    if node.op.keeps is None or node.inputs != [t]:
        return None
    low, high = node.op.keeps
    return (-math.inf if low is None else low, math.inf if high is None else high)
