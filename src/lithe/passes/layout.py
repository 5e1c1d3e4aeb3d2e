"""Transposes around operators that want channels last: merged, cancelled, and moved to where they cost least.

    y = TRANSPOSE(x); z = RELU(y); out = TRANSPOSE(z)  ->  out = RELU(x)    where the two undo each other

Every TRANSPOSE is taken as another view of its source. Operators that treat all axes alike (`lithe.passes.axes`) carry
a label, the order in which they see their axes; others want and give the order in which they were written. A source
that is wanted in another order than it has is transposed once for each, and the price is its elements. Labels are
changed, a whole neighbourhood at a time, while that makes the price less; never is more moved than before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.passes.axes import Layout, Layouts, Turning, after, identity, inverse, turned_type, turning_of
from lithe.passes.infer_shapes import is_dynamic
from lithe.passes.merge_reshapes import drop_identity_reshape, merge_reshapes
from lithe.passes.remove_dead import remove_dead
from lithe.passes.rewrite import Neighbours, rewrite
from lithe.types import INT32, Shape, TensorType

Open = Callable[[int], bool]
RESHAPED = 1e-3  # what it costs to move axes of one element, which takes an operator but moves nothing
LARGEST_GRAPH = 20_000  # nodes


Turned = dict[Tensor, tuple[Tensor, Layout] | None]


def root(turned: Turned, t: Tensor) -> tuple[Tensor | None, Layout]:
    """The tensor of which this is one with its axes in an order, and that order; None: its elements were mixed."""
    order = identity(t.type.rank)
    while t in turned:
        found = turned[t]
        if found is None:
            return None, order
        t, layout = found
        order = tuple(layout[a] for a in order)
    return t, order


def arrange_layouts(graph: Graph, is_open: Open = lambda size: False, turned: Turned | None = None) -> int:
    """Moves and removes transposes; returns how many elements fewer are moved.

    Shapes must be inferred. is_open: whether a size stands for one that is known only when the model runs.
    turned: takes, for tensors that are others with their axes in another order, the other one and that order; None
    for those whose elements were mixed.
    """
    saved = 0
    rewrite(graph, turn_into_product)
    while len(graph.nodes) <= LARGEST_GRAPH and any(_is_transpose(n) for n in graph.nodes):
        plan = _Plan(graph)
        before, now = _moved(graph), plan.improve()
        least = max(RESHAPED / 2, 1e-9 * before)  # sums of floats differ by themselves, those of open sizes more
        if now > before - least:
            break
        graph.nodes = list(_Writing(graph, plan, is_open, {} if turned is None else turned).nodes())
        _collect(graph)
        rewrite(graph, merge_reshapes, drop_identity_reshape, turn_into_product)
        saved += round(before - now)
    if rewrite(graph, partial(as_reshape, is_open=is_open)):
        rewrite(graph, merge_reshapes, drop_identity_reshape)
        _collect(graph)
    return saved


def as_reshape(around: Neighbours, node: Node, is_open: Open) -> Node | None:
    """TRANSPOSE(x) that moves axes of one element alone  ->  RESHAPE(x)"""
    if not _is_transpose(node) or node.inputs[0] is None:
        return None
    sizes = _sizes_of_reshape(node.inputs[0], _permutation(node), is_open)
    if sizes is None:
        return None
    shape = Tensor(f"{node.outputs[0].name}/shape", TensorType(INT32, (len(sizes),)), np.array(sizes, np.int32))
    return Node(REGISTRY.by_name["RESHAPE"], REGISTRY.by_name["RESHAPE"].Attrs(), [node.inputs[0], shape], node.outputs)


def _sizes_of_reshape(x: Tensor, permutation: Layout, is_open: Open) -> list[int] | None:
    """What RESHAPE takes to do the same as a transpose; None where only a transpose does it."""

    def opened(axis: int) -> bool:
        declared = x.shape_signature is not None and x.shape_signature[axis] == -1
        return declared or is_open(x.type.shape[axis])

    real = [a for a in permutation if x.type.shape[a] != 1 or opened(a)]
    sizes = [-1 if opened(a) else x.type.shape[a] for a in permutation]
    return sizes if real == sorted(real) and sizes.count(-1) <= 1 else None


def turn_into_product(around: Neighbours, node: Node) -> Node | None:
    """BATCH_MATMUL(x, TRANSPOSE(y, last two))  ->  BATCH_MATMUL(x, y, adj_y = not adj_y)"""
    if node.op.name != "BATCH_MATMUL":
        return None
    inputs, attrs = list(node.inputs), node.attrs
    for i, name in enumerate(("adj_x", "adj_y")):
        inner = around.producer(inputs[i])
        if inner is None or not _is_transpose(inner):
            continue
        rank = inner.outputs[0].type.rank
        if _permutation(inner) == (*range(rank - 2), rank - 1, rank - 2):
            inputs[i] = inner.inputs[0]
            attrs = type(attrs)(**{**vars(attrs), name: not getattr(attrs, name)})
    return None if attrs is node.attrs else Node(node.op, attrs, inputs, node.outputs, node.index, node.extras)


def _is_transpose(node: Node) -> bool:
    """A transpose of known shape by a constant."""
    if node.op.name != "TRANSPOSE" or not node.has_rules:
        return False
    x, perm = node.inputs
    return x is not None and perm is not None and perm.data is not None and not is_dynamic(x.type) and not x.is_variable


def _permutation(node: Node) -> Layout:
    perm = node.inputs[1]
    assert perm is not None
    assert perm.data is not None
    return tuple(int(a) % perm.data.size for a in perm.data)


def _moved(graph: Graph) -> float:
    """The price of the transposes that are there."""
    return sum(_price(n.inputs[0], identity(len(_permutation(n))), _permutation(n)) + RESHAPED
               for n in graph.nodes if _is_transpose(n))  # fmt: skip


def _price(source: Tensor | None, have: Layout, wanted: Layout) -> float:
    """What it costs to bring a tensor from one layout to another."""
    assert source is not None
    if have == wanted or source.data is not None:
        return 0
    shape = source.type.shape
    moved = [a for a in have if shape[a] != 1] != [a for a in wanted if shape[a] != 1]
    return source.type.size if moved else RESHAPED


def _collect(graph: Graph) -> None:
    """The tensors that nodes mention, once more."""
    known = set(graph.tensors)
    mentioned = dict.fromkeys(t for n in graph.nodes for t in (*n.inputs, *n.outputs) if t is not None)
    graph.tensors += [t for t in mentioned if t not in known]
    remove_dead(graph)


@dataclass
class _Source:
    """A tensor that is no transpose of another: who makes it, who reads it, and in which order of its axes.

    readers  (node, position of the input, the order in which that input has the source's axes).
    fixed    orders that are wanted whatever labels there are.
    """

    maker: tuple[int, int] | None = None
    readers: list[tuple[int, int, Layout]] = field(default_factory=list)
    fixed: list[Layout] = field(default_factory=list)


class _Plan:
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
        self.sources: dict[Tensor, _Source] = {}
        for i, node in enumerate(graph.nodes):
            if _is_transpose(node) and node.inputs[0] is not None:
                source, layout = self.view(node.inputs[0])
                self.views[node.outputs[0]] = source, after(layout, _permutation(node))
                self.turnings.append(None)
                continue
            self.turnings.append(turning_of(node, absorbed))
            self._read(i, node)
            for position, t in enumerate(node.outputs):
                self.sources.setdefault(t, _Source()).maker = (i, position)
        for t in graph.outputs:
            source, layout = self.view(t)
            self.sources.setdefault(source, _Source()).fixed.append(layout)
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
            entry = self.sources.setdefault(source, _Source())
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
        return sum(_price(source, have, layout) + RESHAPED for layout in self.wanted(source) if layout != have)

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


class _Writing:
    """The nodes of a graph with the labels of a plan."""

    def __init__(self, graph: Graph, plan: _Plan, is_open: Open, turned: Turned) -> None:
        self.graph, self.plan, self.is_open, self.turned = graph, plan, is_open, turned
        for t, (source, layout) in plan.views.items():
            if root(turned, source)[0] is not root(turned, t)[0]:
                turned.setdefault(t, (source, layout))
        self.made: list[Node] = []
        self.have: dict[Tensor, dict[Layout, Tensor]] = {}
        self.shuffles: dict[Tensor, tuple[int, ...]] = {}
        self.constants: dict[tuple[int, bytes], Tensor] = {}
        self.old = {plan.view(n.outputs[0]): n.outputs[0] for n in reversed(graph.nodes) if _is_transpose(n)}
        for t in graph.outputs:
            if t in plan.views:
                self.old[plan.view(t)] = t

    def nodes(self) -> Iterator[Node]:
        given = set(self.graph.outputs)
        for i, node in enumerate(self.graph.nodes):
            if node.outputs and node.outputs[0] in self.plan.views:
                if node.outputs[0] in given:
                    self._give(node.outputs[0])
                continue
            label = self.plan.labels[i]
            turning = self.plan.turnings[i]
            if turning is None or label is None or label == identity(turning.rank):
                self.made.append(self._as_it_was(node))
            else:
                self._turned(node, turning, label)
                for t in node.outputs:
                    if t in given:
                        self._give(t)
        return iter(self.made)

    def _give(self, output: Tensor) -> None:
        """Makes an output of the graph in the order that its readers know."""
        source, layout = self.plan.view(output)
        if self.get(source, layout) is not output:
            self._emit(self.get(source, layout), identity(len(layout)), output)

    def _as_it_was(self, node: Node) -> Node:
        inputs = [None if t is None else self.operand(t, identity(t.type.rank)) for t in node.inputs]
        shuffled = self._shuffled(node, inputs)
        return Node(node.op, node.attrs, shuffled, node.outputs, node.index, node.extras, node.refusal,
                    node.intermediates)  # fmt: skip

    def _turned(self, node: Node, turning: Turning, label: Layout) -> None:
        found = turning.layouts(label)
        assert found is not None
        inputs = []
        for t, layout in zip(node.inputs, found.inputs, strict=True):
            inputs.append(t if t is None else self.operand(t, layout or identity(t.type.rank)))
        operands = self._shuffled(node, turning.inputs(label, inputs, self.constant))
        outputs = []
        for t, layout in zip(node.outputs, found.outputs, strict=True):
            made = t if layout == identity(t.type.rank) else self._like(t, layout)
            self.have[t] = {layout: made}
            if found.shuffle:
                self.turned[made] = None
                self.shuffles[t] = found.shuffle
            outputs.append(made)
        self.made.append(Node(turning.op(), turning.attrs(label), operands, outputs, node.index, node.extras,
                              None, node.intermediates))  # fmt: skip

    def _shuffled(self, node: Node, inputs: list[Tensor | None]) -> list[Tensor | None]:
        """The operands of a product whose input is mixed along its last axis: its weights are mixed alike."""
        axes = node.op.named_axes
        if axes is None or axes.weights is None:
            return inputs
        t = node.inputs[axes.data]
        order = self.shuffles.get(t) if t is not None else None
        weights = inputs[axes.weights]
        if order is None or weights is None or weights.data is None:
            return inputs
        made = list(inputs)
        made[axes.weights] = self.constant(weights, np.ascontiguousarray(weights.data[..., list(order)]))
        return made

    def operand(self, t: Tensor, layout: Layout) -> Tensor:
        if t.data is not None:
            return t
        source, own = self.plan.view(t)
        return self.get(source, after(own, layout))

    def get(self, source: Tensor, layout: Layout) -> Tensor:
        """A source with its axes in this order."""
        have = self.have.setdefault(source, {identity(source.type.rank): source})
        if layout not in have:
            first, tensor = next(iter(have.items()))
            target = self.old.get((source, layout))
            if layout == identity(source.type.rank):
                target = source
            if target is None or any(target is t for n in self.made for t in n.outputs):
                target = self._like(source, layout)
            self._emit(tensor, after(inverse(first), layout), target)
            have[layout] = target
        return have[layout]

    def _emit(self, x: Tensor, permutation: Layout, y: Tensor) -> None:
        """A transpose, or a reshape where only axes of one element move."""
        sizes = _sizes_of_reshape(x, permutation, self.is_open)
        if sizes is not None:
            shape = self._numbers(f"{y.name}/shape", np.array(sizes, np.int32))
            self.made.append(Node(REGISTRY.by_name["RESHAPE"], REGISTRY.by_name["RESHAPE"].Attrs(), [x, shape], [y]))
            return
        order = self._numbers(f"{y.name}/perm", np.array(permutation, np.int32))
        self.made.append(Node(REGISTRY.by_name["TRANSPOSE"], NoAttrs(), [x, order], [y]))

    def _like(self, t: Tensor, layout: Layout) -> Tensor:
        signature: Shape | None = None
        if t.shape_signature is not None:
            signature = tuple(t.shape_signature[a] for a in layout)
        made = Tensor(t.name, turned_type(t.type, layout), None, False, signature)
        self.turned[made] = t, layout
        return made

    def _numbers(self, name: str, values: np.ndarray) -> Tensor:
        key = (0, values.tobytes())
        if key not in self.constants:
            self.constants[key] = Tensor(name, TensorType(INT32, values.shape), values)
        return self.constants[key]

    def constant(self, like: Tensor, data: np.ndarray) -> Tensor:
        """A constant that is another one, turned; the same one for the same use."""
        if like.data is not None and like.data.shape == data.shape and like.data.tobytes() == data.tobytes():
            return like
        key = (id(like), data.tobytes() + str(data.shape).encode())
        if key not in self.constants:
            dtype, quantization = like.type.dtype, like.type.quantization
            self.constants[key] = Tensor(like.name, TensorType(dtype, data.shape, quantization), data)
        return self.constants[key]
