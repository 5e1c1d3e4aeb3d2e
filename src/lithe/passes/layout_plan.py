"""In which order of its axes each operator of a graph works, and what the transposes between them then cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.axes import Layout, Layouts, Turning, after, identity, inverse, turning_of
from lithe.passes.infer_shapes import is_dynamic
from lithe.passes.transposes import RESHAPED, is_transpose, permutation_of, price


@dataclass
class Source:
    """A tensor that is no transpose of another: who makes it, who reads it, and in which order of its axes.

    readers  (node, position of the input, the order in which that input has the source's axes).
    fixed    orders that are wanted whatever labels there are.
    """

    maker: tuple[int, int] | None = None
    readers: list[tuple[int, int, Layout]] = field(default_factory=list)
    fixed: list[Layout] = field(default_factory=list)


class Plan:
    """Labels for the nodes of a graph, and what they cost."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.views: dict[Tensor, tuple[Tensor, Layout]] = {}  # transposed tensors: what they are views of
        consumers = graph.consumers()
        outputs = set(graph.outputs)

        def absorbed(t: Tensor) -> bool:
            readers = consumers.get(t, [])
            return t not in outputs and bool(readers) and all(_absorbs(n, t) for n in readers)

        self.turnings: list[Turning | None] = []
        self.sources: dict[Tensor, Source] = {}
        for i, node in enumerate(graph.nodes):
            if is_transpose(node) and node.inputs[0] is not None:
                source, layout = self.view(node.inputs[0])
                self.views[node.outputs[0]] = source, after(layout, permutation_of(node))
                self.turnings.append(None)
                continue
            self.turnings.append(turning_of(node, absorbed))
            self._read(i, node)
            for position, t in enumerate(node.outputs):
                self.sources.setdefault(t, Source()).maker = (i, position)
        for t in graph.outputs:
            source, layout = self.view(t)
            self.sources.setdefault(source, Source()).fixed.append(layout)
        self.labels = [None if t is None else identity(t.rank) for t in self.turnings]

    def view(self, t: Tensor) -> tuple[Tensor, Layout]:
        """The source of a tensor, and the order in which the tensor has its axes."""
        return self.views.get(t, (t, identity(t.type.rank)))

    def _read(self, i: int, node: Node) -> None:
        turning = self.turnings[i]
        for position, t in enumerate(node.inputs):
            if t is None or t.data is not None or is_dynamic(t.type):
                continue
            source, layout = self.view(t)
            entry = self.sources.setdefault(source, Source())
            if turning is None:
                entry.fixed.append(layout)
            else:
                entry.readers.append((i, position, layout))

    def layouts(self, i: int, label: Layout | None) -> Layouts:
        turning = self.turnings[i]
        assert turning is not None
        assert label is not None
        found = turning.layouts(label)
        assert found is not None
        return found

    def made_in(self, source: Tensor) -> Layout:
        maker = self.sources[source].maker
        if maker is None or self.turnings[maker[0]] is None:
            return identity(source.type.rank)
        return self.layouts(maker[0], self.labels[maker[0]]).outputs[maker[1]]

    def wanted(self, source: Tensor) -> dict[Layout, None]:
        """The orders of a source's axes in which it is read."""
        entry = self.sources[source]
        made = dict.fromkeys(entry.fixed)
        for i, position, layout in entry.readers:
            own = self.layouts(i, self.labels[i]).inputs[position]
            if own is None:
                t = self.graph.nodes[i].inputs[position]
                own = identity(t.type.rank) if t is not None and t.type.size != 1 else None
            if own is not None:
                made[after(layout, own)] = None
        return made

    def cost(self, source: Tensor) -> float:
        if is_dynamic(source.type):
            return 0
        have = self.made_in(source)
        return sum(price(source, have, layout) + RESHAPED for layout in self.wanted(source) if layout != have)

    def improve(self) -> float:
        """Changes labels while that makes the price less; the price in the end."""
        improved = True
        while improved:
            improved = False
            for source in list(self.sources):
                for seed in self._seeds(source) if self.cost(source) else ():
                    if self._try(*seed):
                        improved = True
                        break
        return sum(map(self.cost, self.sources))

    def _seeds(self, source: Tensor) -> Iterator[tuple[int, Layout]]:
        """Labels with which a maker or reader of the source would suit the others."""
        entry, have = self.sources[source], self.made_in(source)
        maker = self.turnings[entry.maker[0]] if entry.maker else None
        if maker is not None and entry.maker is not None:
            for layout in self.wanted(source):
                label = maker.label_of_output(entry.maker[1], layout) if layout != have else None
                if label is not None:
                    yield entry.maker[0], label
        yield from self._of_readers(source, have)

    def _try(self, seed: int, label: Layout) -> bool:
        """Gives a node another label, and its neighbours those that suit; keeps what makes the price less."""
        proposals = self._spread(seed, label)
        if not proposals:
            return False
        old = {i: self.labels[i] for i in proposals}
        touched = self._touched(proposals)
        before = sum(map(self.cost, touched))
        for i, proposal in proposals.items():
            self.labels[i] = proposal
        self._settle(old)
        if sum(map(self.cost, touched)) < before - RESHAPED / 2:
            return True
        for i, previous in old.items():
            self.labels[i] = previous
        return False

    def _settle(self, old: dict[int, Layout | None]) -> None:
        """Nodes that were better off take their old labels again."""
        for i, previous in old.items():
            around = self._touched([i])
            proposal, price = self.labels[i], sum(map(self.cost, around))
            self.labels[i] = previous
            if sum(map(self.cost, around)) >= price:
                self.labels[i] = proposal

    def _touched(self, nodes: dict[int, Layout] | list[int]) -> list[Tensor]:
        found: dict[Tensor, None] = {}
        for i in nodes:
            node = self.graph.nodes[i]
            for t in (*node.inputs, *node.outputs):
                if t is not None and self.view(t)[0] in self.sources:
                    found[self.view(t)[0]] = None
        return list(found)

    def _spread(self, seed: int, label: Layout) -> dict[int, Layout]:
        """The labels of all that can follow a node, from neighbour to neighbour."""
        proposals: dict[int, Layout] = {}
        queue = [(seed, label)]
        while queue:
            i, wanted = queue.pop(0)
            turning = self.turnings[i]
            if turning is None or i in proposals or self.labels[i] == wanted:
                continue
            found = turning.layouts(wanted)
            if found is None:
                continue
            proposals[i] = wanted
            node = self.graph.nodes[i]
            ends = [*zip(node.inputs, found.inputs, strict=False), *zip(node.outputs, found.outputs, strict=True)]
            for t, own in ends:
                if t is not None and own is not None and t.data is None:
                    source, layout = self.view(t)
                    queue += self._followers(source, after(layout, own))
        return proposals

    def _followers(self, source: Tensor, layout: Layout) -> Iterator[tuple[int, Layout]]:
        """The labels with which the maker and readers of a source have it in this layout."""
        entry = self.sources[source]
        maker = self.turnings[entry.maker[0]] if entry.maker else None
        if maker is not None and entry.maker is not None:
            label = maker.label_of_output(entry.maker[1], layout)
            if label is not None:
                yield entry.maker[0], label
        yield from self._of_readers(source, layout)

    def _of_readers(self, source: Tensor, layout: Layout) -> Iterator[tuple[int, Layout]]:
        """The labels with which the readers of a source take it in this layout."""
        for i, position, view in self.sources[source].readers:
            turning = self.turnings[i]
            assert turning is not None
            label = turning.label_of_input(position, after(inverse(view), layout))
            if label is not None:
                yield i, label


def _absorbs(node: Node, t: Tensor) -> bool:
    """Whether the elements along the last axis of an input may be mixed, because constant weights can be."""
    axes = node.op.named_axes
    if axes is None or axes.weights is None or node.inputs[axes.data] is not t or node.inputs.count(t) > 1:
        return False
    weights = node.inputs[axes.weights]
    return weights is not None and weights.data is not None and not weights.extras
