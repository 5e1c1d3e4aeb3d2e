"""Transposes around operators that want channels last: merged, cancelled, and moved to where they cost least.

    y = TRANSPOSE(x); z = RELU(y); out = TRANSPOSE(z)  ->  out = RELU(x)    where the two undo each other

Every TRANSPOSE is taken as another view of its source. Operators that treat all axes alike (`lithe.passes.axes`) carry
a label, the order in which they see their axes; others want and give the order in which they were written. A source
that is wanted in another order than it has is transposed once for each, and the price is its elements. Labels are
changed, a whole neighbourhood at a time, while that makes the price less; never is more moved than before.
"""

from __future__ import annotations

from functools import partial

from lithe.ir.graph import Graph
from lithe.passes.axes import identity
from lithe.passes.layout_plan import Plan
from lithe.passes.layout_writing import Turned, Writing
from lithe.passes.merge_reshapes import drop_identity_reshape, merge_reshapes
from lithe.passes.remove_dead import remove_dead
from lithe.passes.rewrite import rewrite
from lithe.passes.transposes import RESHAPED, Open, as_reshape, is_transpose, permutation_of, price, turn_into_product

LARGEST_GRAPH = 20_000  # nodes


def arrange_layouts(graph: Graph, is_open: Open = lambda size: False, turned: Turned | None = None) -> int:
    """Moves and removes transposes; returns how many elements fewer are moved.

    Shapes must be inferred. is_open: whether a size stands for one that is known only when the model runs.
    turned: takes, for tensors that are others with their axes in another order, the other one and that order; None
    for those whose elements were mixed.
    """
    saved = 0
    rewrite(graph, turn_into_product)
    while len(graph.nodes) <= LARGEST_GRAPH and any(is_transpose(n) for n in graph.nodes):
        plan = Plan(graph)
        before, now = _moved(graph), plan.improve()
        least = max(RESHAPED / 2, 1e-9 * before)  # sums of floats differ by themselves, those of open sizes more
        if now > before - least:
            break
        graph.nodes = list(Writing(graph, plan, is_open, {} if turned is None else turned).nodes())
        _collect(graph)
        rewrite(graph, merge_reshapes, drop_identity_reshape, turn_into_product)
        saved += round(before - now)
    if rewrite(graph, partial(as_reshape, is_open=is_open)):
        rewrite(graph, merge_reshapes, drop_identity_reshape)
        _collect(graph)
    return saved


def _moved(graph: Graph) -> float:
    """The price of the transposes that are there."""
    return sum(price(n.inputs[0], identity(len(permutation_of(n))), permutation_of(n)) + RESHAPED
               for n in graph.nodes if is_transpose(n))  # fmt: skip


def _collect(graph: Graph) -> None:
    """The tensors that nodes mention, once more."""
    known = set(graph.tensors)
    mentioned = dict.fromkeys(t for n in graph.nodes for t in (*n.inputs, *n.outputs) if t is not None)
    graph.tensors += [t for t in mentioned if t not in known]
    remove_dead(graph)
