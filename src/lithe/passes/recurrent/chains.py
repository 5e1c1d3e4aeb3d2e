"""Steps of one layer that lead to one another in a graph: the unrolled form.

h1 = step(x[0], h0);  h2 = step(x[1], h1);  h3 = step(x[2], h2)        with the same weights in all
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.recurrent.cells import Layer, Step, layer_of, starts, steps_of
from lithe.passes.recurrent.sums import Sums, box_of
from lithe.passes.remove_dead import has_effect

FEWEST = 2  # steps that are worth another form
SIGNS = {"LOGISTIC", "TANH", "RELU"}  # a graph without one has no steps


@dataclass(frozen=True)
class Element:
    """One place of a sequence [time, batch, depth], or [batch, time, depth] where the axis is 1."""

    sequence: Tensor
    axis: int
    place: int


@dataclass(frozen=True)
class Chain:
    """A layer that is written step by step.

    steps            as time goes.
    sequence, axis   where the inputs come from: places `begin` and following of this axis.
    reverse          the first step reads the last place.
    hidden, memory   the state before the first step; None for zero.
    stacks           tensors that are all outputs in the order of their places, by the axis of time in them.
    read             the steps whose output is read otherwise, by number; memory_read: whose cell state is.
    """

    layer: Layer
    steps: tuple[Step, ...]
    sequence: Tensor
    axis: int
    begin: int
    reverse: bool
    hidden: Tensor | None
    memory: Tensor | None
    stacks: dict[Tensor, int]
    read: frozenset[int]
    memory_read: frozenset[int]


@dataclass
class _Growing:
    layer: Layer
    steps: list[Step]
    inputs: list[Tensor]
    hidden: Tensor | None


def find_chain(graph: Graph) -> Iterator[Chain]:
    """The chains of a graph, each as long as it is."""
    if not any(n.op.name in SIGNS for n in graph.nodes):
        return
    sums = Sums(graph)
    steps: dict[Tensor, list[Step]] = {}
    chains: list[_Growing] = []
    ends: dict[int, _Growing] = {}
    for node in graph.nodes:
        for step in steps_of(sums, node):
            steps.setdefault(step.output, []).append(step)
            _grow(step, steps, chains, ends)
    for grown in chains:
        places = elements(sums, grown.inputs)
        if len(grown.steps) < FEWEST or places is None:
            continue
        sequence, axis, begin, reverse = places
        stacks = _stacks(graph, sums, [s.output for s in grown.steps][:: -1 if reverse else 1])
        read, memory_read = _readers(graph, grown.steps, stacks)
        yield Chain(
            grown.layer, tuple(grown.steps), sequence, axis, begin, reverse, grown.hidden, grown.steps[0].before,
            stacks, read, memory_read,
        )  # fmt: skip


def _grow(step: Step, steps: dict[Tensor, list[Step]], chains: list[_Growing], ends: dict[int, _Growing]) -> None:
    """Puts the step behind the one that leads to it, if there is one."""
    for hidden in step.sources if len(step.sources) == 2 else ():
        (x,) = (t for t in step.sources if t is not hidden)
        for last in steps.get(hidden, ()):
            if last.kind != step.kind or (step.kind == "lstm" and step.before is not last.memory):
                continue
            layer = layer_of(step, x, hidden)
            if layer is None:
                continue
            chain = ends.pop(id(last), None)
            if chain is not None and not chain.layer.same(layer):
                ends[id(last)] = chain
                chain = None
            if chain is None:
                first = starts(last, layer)
                if first is None:
                    continue
                chain = _Growing(layer, [last], [first[0]], first[1])
                chains.append(chain)
            chain.steps.append(step)
            chain.inputs.append(x)
            ends[id(step)] = chain
            return


def elements(sums: Sums, tensors: Sequence[Tensor]) -> tuple[Tensor, int, int, bool] | None:
    """(sequence, axis, first place, backwards) where the tensors are neighbouring places of one sequence."""
    found = [element_of(sums, t) for t in tensors]
    known = [e for e in found if e is not None]
    if len(known) != len(found) or len({(e.sequence, e.axis) for e in known}) != 1:
        return None
    order = line([e.place for e in known])
    return None if order is None else (known[0].sequence, known[0].axis, *order)


def line(places: Sequence[int]) -> tuple[int, bool] | None:
    """(smallest, backwards) of places that follow one another."""
    steps = set(np.diff(places).tolist())
    if not steps <= {1} and not steps <= {-1}:
        return None
    return min(places), steps == {-1}


def element_of(sums: Sums, t: Tensor) -> Element | None:
    """The place of a sequence that a tensor [batch, depth] is."""
    node = sums.makers.get(t)
    if node is not None and node.op.name == "RESHAPE" and node.inputs[0] is not None:
        inner = node.inputs[0]
        if inner.type.rank != 3 or tuple(n for n in inner.type.shape if n != 1) != tuple(
            n for n in t.type.shape if n != 1
        ):
            return None
        node, made = sums.makers.get(inner), inner
    else:
        made = t
    found = None if node is None or not node.has_rules else _place(node, made)
    if found is None:
        return None
    shape = found.sequence.type.shape
    batch = shape[1 - found.axis] if len(shape) == 3 else None
    return found if t.type.shape == (batch, shape[-1]) else None


def _place(node: Node, t: Tensor) -> Element | None:
    name = node.op.name
    x = node.inputs[1 if name == "SPLIT" else 0] if node.inputs else None
    if x is None or x.type.rank != 3:
        return None
    if name == "UNPACK":
        axis = node.attrs.axis % 3
        return Element(x, axis, node.outputs.index(t)) if axis < 2 else None
    if name == "GATHER":
        i = node.inputs[1]
        if i is None or i.data is None or i.data.size != 1 or node.attrs.batch_dims:
            return None
        axis, place = node.attrs.axis % 3, int(i.data.reshape(()))
        return Element(x, axis, place) if axis < 2 and place >= 0 else None
    if name == "SPLIT":
        number = node.inputs[0]
        if number is None or number.data is None:
            return None
        axis = int(number.data.reshape(-1)[0]) % 3
        one_each = len(node.outputs) == x.type.shape[axis]
        return Element(x, axis, node.outputs.index(t)) if axis < 2 and one_each else None
    box = box_of(node, t)
    if box is None:
        return None
    cut = [i for i, (b, n) in enumerate(zip(box.bounds, box.of.type.shape, strict=True)) if b != (0, n)]
    if len(cut) != 1 or cut[0] > 1 or box.bounds[cut[0]][1] - box.bounds[cut[0]][0] != 1:
        return None
    return Element(box.of, cut[0], box.bounds[cut[0]][0])


def _stacks(graph: Graph, sums: Sums, outputs: Sequence[Tensor]) -> dict[Tensor, int]:
    """The tensors that hold these side by side along a new axis, and which."""
    found: dict[Tensor, int] = {}
    for n in graph.nodes:
        if n.op.name == "PACK" and n.inputs == list(outputs):
            found[n.outputs[0]] = n.attrs.axis % 3
        elif n.op.name == "CONCATENATION" and len(n.inputs) == len(outputs) and n.outputs[0].type.rank == 3:
            axis = n.attrs.axis % 3
            rows = [sums.maker(t, "RESHAPE") for t in n.inputs]
            batch, units = outputs[0].type.shape
            shape = (1, batch, units) if axis == 0 else (batch, 1, units)
            if all(r is not None and r.inputs[0] is h and r.outputs[0].type.shape == shape
                   for r, h in zip(rows, outputs, strict=True)):  # fmt: skip
                found[n.outputs[0]] = axis
    return {t: axis for t, axis in found.items() if axis < 2}


def _readers(graph: Graph, steps: Sequence[Step], known: Collection[Tensor]) -> tuple[frozenset[int], frozenset[int]]:
    """The steps whose output, and whose cell state, somebody reads when the outputs are there without the steps."""
    outputs = {s.output: i for i, s in enumerate(steps)}
    memories = {s.memory: i for i, s in enumerate(steps) if s.memory is not None}
    makers = graph.producers()
    waiting = [*graph.outputs, *(t for n in graph.nodes if has_effect(n) for t in n.inputs if t is not None)]
    seen: set[Tensor] = set(known)
    while waiting:
        t = waiting.pop()
        if t in seen:
            continue
        seen.add(t)
        if t not in outputs and t not in memories and t in makers:
            waiting += [i for i in makers[t].inputs if i is not None]
    return frozenset(i for t, i in outputs.items() if t in seen), frozenset(i for t, i in memories.items() if t in seen)
