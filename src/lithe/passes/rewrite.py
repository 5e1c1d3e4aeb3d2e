"""The driver of local rules: it owns the loop, the fixpoint and the removal of what nobody reads.

A rule looks at one node and returns

    None      nothing to do here
    a Node    takes the node's place (same outputs)
    a tuple   of nodes: they take the node's place, in order; the last one has its outputs
    a Tensor  the node's only output is that tensor: readers read it instead

and changes nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.remove_dead import has_effect, remove_dead


class Neighbours:
    """Who makes and who reads the tensors of a graph, as a rule needs it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._producers = graph.producers()
        self._readers = Counter(t for n in graph.nodes for t in n.inputs if t is None or t.data is None)
        self._readers.update(graph.outputs)

    def producer(self, tensor: Tensor | None) -> Node | None:
        """The node that makes the tensor; None for inputs, constants and absent operands."""
        return None if tensor is None else self._producers.get(tensor)

    def read_once(self, tensor: Tensor | None) -> bool:
        """Whether one node alone reads the tensor, which is no output of the graph. In doubt it says no."""
        return self._readers[tensor] == 1

    def replaced(self, old: Node, new: Node | Tensor) -> None:
        for tensor in old.outputs:
            self._producers.pop(tensor, None)
        if isinstance(new, Node):
            self._producers.update(dict.fromkeys(new.outputs, new))
            self._readers.update(set(new.inputs).difference(old.inputs))
        else:
            self._readers[new] += self._readers[old.outputs[0]]

    def released(self, old: Node, made: tuple[Node, ...]) -> None:
        """Nodes that only `old` has read let go of their operands, which may be weights."""
        still = set(made).union(*(node.inputs for node in made))
        for tensor in set(old.inputs).difference(still):
            maker = self._producers.get(tensor) if tensor is not None and self.read_once(tensor) else None
            if maker is not None and maker not in still and len(maker.outputs) == 1 and not has_effect(maker):
                maker.inputs = []


Found = Node | tuple[Node, ...] | Tensor | None
Rule = Callable[[Neighbours, Node], Found]


def rewrite(graph: Graph, *rules: Rule) -> int:
    """Applies the rules until none finds anything; returns how many times one did.

    Each sweep goes through the nodes in order, so a rule sees producers already rewritten. A rule that
    asks for a graph output to be replaced by another tensor is not followed: its name is the caller's.
    """
    total = 0
    while changes := _sweep(graph, rules):
        total += changes
        remove_dead(graph)
    return total


def _sweep(graph: Graph, rules: tuple[Rule, ...]) -> int:
    around = Neighbours(graph)
    kept_by_caller = set(graph.outputs)
    instead: dict[Tensor, Tensor] = {}
    nodes: list[Node] = []
    changes = 0
    graph.tensors = [t for t in graph.tensors if t.data is None or t in kept_by_caller]
    for original in graph.nodes:
        node = original
        node.inputs = [t if t is None else instead.get(t, t) for t in node.inputs]
        for rule in rules:
            found = rule(around, node)
            if isinstance(found, Node | tuple):
                made = (found,) if isinstance(found, Node) else found
                around.released(node, made)
                for part in made:
                    around.replaced(node, part)
                nodes += made[:-1]
                node = made[-1]
                changes += 1
            elif isinstance(found, Tensor) and not kept_by_caller.intersection(node.outputs):
                around.replaced(node, found)
                instead[node.outputs[0]] = found
                changes += 1
                break
        else:
            nodes.append(node)
    graph.nodes = nodes
    mentioned = dict.fromkeys(t for n in nodes for t in n.inputs if t is not None)  # constants that rules made
    known = set(graph.tensors)
    graph.tensors += [t for t in mentioned if t not in known]
    return changes
