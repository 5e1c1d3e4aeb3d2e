"""Functions that have no builtin, as one node while a graph is being made better.

A recogniser that looks for the error function finds it more easily than the twenty builtins that compute it. What
nothing has recognised is spelled out in the end, by the formulas of `lithe.passes.deflex.arithmetic`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Op, Site
from lithe.passes.deflex.arithmetic import FORMULAS
from lithe.passes.writer import Value, Writer
from lithe.types import Shape


class Formula(Op):
    """A function of tensors of one shape, element by element; its name is that of TensorFlow's operator."""

    name = "Formula"
    elementwise = True

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]


@lru_cache(None)
def formula_class(name: str) -> type[Op]:
    """The class of nodes that stand for this formula."""
    return type(name, (Formula,), {"__doc__": Formula.__doc__, "__module__": __name__, "name": name})


def is_formula(op: Any) -> bool:
    return isinstance(op, type) and issubclass(op, Formula)


def spell_out(graph: Graph, writer: Writer) -> None:
    """y = Erf(x)  ->  the builtins that compute it, in the graph itself; `writer` writes them."""
    nodes: list[Node] = []
    instead: dict[Tensor, Tensor] = {}
    for node in graph.nodes:
        node.inputs = [t if t is None else instead.get(t, t) for t in node.inputs]
        if not is_formula(node.op):
            nodes.append(node)
            continue
        writer.nodes = []
        made = FORMULAS[node.op.name](*(Value(writer, t) for t in node.inputs if t is not None)).tensor
        (output,) = node.outputs
        if output in graph.outputs and writer.nodes:  # the name of an output is the caller's
            last = next(n for n in writer.nodes if made in n.outputs)
            last.outputs = [output if t is made else t for t in last.outputs]
        else:
            instead[output] = made
        nodes += writer.nodes
    graph.nodes = nodes
