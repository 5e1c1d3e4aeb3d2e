"""Which tensors of two graphs hold the same values: the float graph A, and B, that was made of it by somebody.

B may have QUANTIZE and DEQUANTIZE anywhere, other names, and activations that are fused or are not. The nodes of both
graphs are read without the first, each tensor standing for those that are the same values in other types:

    root(t)   what t was before any QUANTIZE and DEQUANTIZE

Roots are paired from the inputs onwards, from the outputs backwards, and only then by name: converters number the names
of layers anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.optimize.comparison.agreement import real

BORDER = ("QUANTIZE", "DEQUANTIZE")


class Side:
    """A graph without its QUANTIZE and DEQUANTIZE."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = graph.producers()
        self.nodes = [n for n in graph.nodes if n.op.name not in BORDER]
        self.readers: dict[Tensor, list[Node]] = {}
        for node in self.nodes:
            for t in dict.fromkeys(self.operands(node)):
                self.readers.setdefault(t, []).append(node)

    def root(self, t: Tensor) -> Tensor:
        """What the tensor was before any QUANTIZE and DEQUANTIZE."""
        while t in self.makers and self.makers[t].op.name in BORDER:
            source = self.makers[t].inputs[0]
            assert source is not None
            t = source
        return t

    def operands(self, node: Node) -> list[Tensor]:
        """The roots of the operands that are computed."""
        roots = (self.root(t) for t in node.inputs if t is not None)
        return [t for t in roots if not t.is_constant]

    def constants(self, node: Node) -> list[Tensor]:
        roots = (self.root(t) for t in node.inputs if t is not None)
        return [t for t in roots if t.is_constant]

    def forms(self, root: Tensor) -> list[Tensor]:
        """The root, and what becomes of it by QUANTIZE and DEQUANTIZE."""
        found = [root]
        for node in self.graph.nodes:
            if node.op.name in BORDER and node.inputs[0] in found:
                found += node.outputs
        return found

    def stored(self, root: Tensor) -> Tensor:
        """The form in which the values are kept as integers; the root where they are not."""
        return next((t for t in self.forms(root) if t.type.quantization is not None), root)


@dataclass(frozen=True)
class Matching:
    """What of A is in B.

    pairs  {tensor of A: root in B}, in the order of A.
    ends   {form of such a root: tensor of A}.
    alone  computed tensors of A that B has not.
    """

    a: Side
    b: Side
    pairs: Mapping[Tensor, Tensor]
    ends: Mapping[Tensor, Tensor]
    alone: Sequence[Tensor]


def matched(a: Graph, b: Graph, inputs: Mapping[Tensor, Tensor]) -> Matching:
    """Pairs the tensors of two graphs, whose inputs are paired already."""
    search = _Search(Side(a), Side(b))
    for x, y in inputs.items():
        search.pair(x, y)
    while search.onwards():
        pass
    search.outputs()
    search.by_structure()
    search.by_name(same_operator=True)
    search.by_structure()
    search.by_name(same_operator=False)
    search.by_structure()
    computed = [*a.inputs, *(t for n in search.a.nodes for t in n.outputs)]
    pairs = {t: search.found[t] for t in computed if t in search.found}
    alone = [t for t in computed if t not in pairs and t.type.dtype.is_float]
    ends = {form: x for x, y in pairs.items() for form in search.b.forms(y)}
    return Matching(search.a, search.b, pairs, ends, alone)


class _Search:
    def __init__(self, a: Side, b: Side) -> None:
        self.a, self.b = a, b
        self.found: dict[Tensor, Tensor] = {}
        self.taken: set[Tensor] = set()

    def pair(self, x: Tensor, y: Tensor) -> bool:
        """Notes that two tensors are the same values; False where one is taken, or their shapes speak against it."""
        if x in self.found or y in self.taken or x.is_constant or y.is_constant or _shape(x) != _shape(y):
            return False
        self.found[x] = y
        self.taken.add(y)
        return True

    def outputs(self) -> None:
        """The graphs' outputs, by name where these are the same, else in order."""
        mine, theirs = self.a.graph.outputs, self.b.graph.outputs
        if {t.name for t in mine} == {t.name for t in theirs}:
            theirs = [next(t for t in theirs if t.name == x.name) for x in mine]
        if len(mine) == len(theirs):
            for x, y in zip(mine, theirs, strict=True):
                self.pair(self.a.root(x), self.b.root(y))

    def by_name(self, *, same_operator: bool) -> None:
        named: dict[str, list[Tensor]] = {}
        for t in (t for n in self.b.graph.nodes for t in n.outputs):
            named.setdefault(t.name, []).append(self.b.root(t))
        for x in (t for n in self.a.nodes for t in n.outputs):
            for y in dict.fromkeys(named.get(x.name, ())):
                if not same_operator or _same_kind(self.a.makers.get(x), self.b.makers.get(y)):
                    self.pair(x, y)

    def by_structure(self) -> None:
        changed = True
        while changed:
            changed = self.onwards()
            changed |= self._backwards()

    def onwards(self) -> bool:
        """Nodes whose operands are paired, and that are the same operator, give pairs."""
        changed = False
        for node in self.a.nodes:
            operands = [self.found.get(t) for t in self.a.operands(node)]
            if not operands or None in operands or all(t in self.found for t in node.outputs):
                continue
            partner = self._partner(node, operands)
            if partner is not None:
                for x, y in self._results(node, partner):
                    changed |= self.pair(x, y)
        return changed

    def _partner(self, node: Node, operands: list[Tensor | None]) -> Node | None:
        first = operands[0]
        assert first is not None
        candidates = [
            n for n in self.b.readers.get(first, ())
            if n.op.name == node.op.name and len(n.outputs) == len(node.outputs)
            and sorted(map(id, self.b.operands(n))) == sorted(map(id, operands))
            and any(y not in self.taken for _, y in self._results(node, n))
        ]  # fmt: skip
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        named = {t.name for t in node.outputs}
        apart = {n: _distance(self.a.constants(node), self.b.constants(n)) for n in candidates}
        return min(candidates, key=lambda n: (apart[n], not named & {t.name for t in n.outputs}))

    def _results(self, node: Node, partner: Node) -> list[tuple[Tensor, Tensor]]:
        """What two nodes give alike; an activation that is fused into one of them follows on the other."""
        f, g = _activation(node), _activation(partner)
        if f == g:
            return list(zip(node.outputs, partner.outputs, strict=True))
        x, y = node.outputs[0], partner.outputs[0]
        x = _only_result(self.a, x) if f == "NONE" else x
        y = _only_result(self.b, y) if g == "NONE" else y
        return [(x, y)]

    def _backwards(self) -> bool:
        """The operands of nodes that are the same operator, and give what is paired, are pairs."""
        changed = False
        for x, y in list(self.found.items()):
            node, partner = self.a.makers.get(x), self.b.makers.get(y)
            if node is None or partner is None or not _same_kind(node, partner):
                continue
            xs, ys = self.a.operands(node), self.b.operands(partner)
            if len(xs) == len(ys):
                for pair in zip(xs, ys, strict=True):
                    changed |= self.pair(*pair)
        return changed


def _only_result(side: Side, t: Tensor) -> Tensor:
    """What the only reader of a tensor makes of it, and of nothing else that is computed; else the tensor."""
    readers = side.readers.get(side.root(t), [])
    only = len(readers) == 1 and len(readers[0].outputs) == 1 and len(side.operands(readers[0])) == 1
    return readers[0].outputs[0] if only else t


def _same_kind(node: Node | None, other: Node | None) -> bool:
    return (
        node is not None
        and other is not None
        and node.op.name == other.op.name
        and _activation(node) == _activation(other)
    )


def _activation(node: Node) -> str:
    return getattr(node.attrs, "fused_activation_function", "NONE") or "NONE"


def _shape(t: Tensor) -> tuple[int, ...]:
    return t.type.shape if t.shape_signature is None else t.shape_signature


def _distance(constants: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """How far the numbers of two nodes' constants lie apart; inf where they are not alike."""
    if [t.type.shape for t in constants] != [t.type.shape for t in others]:
        return np.inf
    apart = 0.0
    for t, other in zip(constants, others, strict=True):
        if t.type.dtype.is_float and t.data is not None and other.data is not None:
            apart += float(np.abs(real(t.data, t.type) - real(other.data, other.type)).sum())
    return apart
