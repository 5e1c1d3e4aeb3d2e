"""A WHILE whose rounds are the steps of one layer, and whose number of rounds is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lithe.errors import LitheError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import RuleViolation
from lithe.passes.assign_once import assign_once
from lithe.passes.count_loops import Rounds, fits, rounds_of, with_updates
from lithe.passes.infer_shapes import BAD_NUMBERS, infer_node
from lithe.passes.recurrent.cells import Layer, Step, layer_of, steps_of
from lithe.passes.recurrent.chains import line
from lithe.passes.recurrent.sums import Sums
from lithe.passes.remove_dead import has_effect
from lithe.types import FLOAT32


@dataclass(frozen=True)
class Loop:
    """A layer that is written as a loop.

    sequence, axis   where the inputs come from: `count` places from `begin` on of this axis.
    reverse          the first round reads the last place.
    hidden, memory   the state before the first round, tensors of the graph that has the loop.
    mask             [time, batch, 1] truth values along `axis`: where the step counts; masked: "zero" or "repeat".
    results          what the outputs of the loop are, by position: "all" [time, batch, units], in the order of the
                     rounds; "one" the last output as [1, batch, units]; "output" as [batch, units]; "hidden" and
                     "memory" the last state; a tensor that goes through; a constant.
    """

    layer: Layer
    sequence: Tensor
    axis: int
    begin: int
    count: int
    reverse: bool
    hidden: Tensor
    memory: Tensor | None
    mask: Tensor | None
    masked: str
    results: dict[int, str | Tensor | np.ndarray]


def find_loop(node: Node, graphs: Sequence[Graph], read: Collection[Tensor]) -> Loop | None:
    """The layer that a loop is, or None.

    graphs  of the model, by number.
    read    tensors that somebody reads.
    """
    if "body_subgraph_index" not in node.op.calls or not node.has_rules:
        return None
    try:
        with np.errstate(all="ignore"):
            return _found(node, graphs, read)
    except (*BAD_NUMBERS, RuleViolation, LitheError):
        return None


@dataclass(frozen=True)
class _Body:
    """The body of a loop, of which it is known what every round makes of constants."""

    graph: Graph
    sums: Sums
    rounds: Rounds
    given: list[Tensor]
    same: list[int]

    def unmasked(self, t: Tensor, old: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(new, mask) of SELECT(mask, new, old); (t, None) of anything else. Without `old` it is zeros."""
        node = self.sums.makers.get(t)
        if node is None or node.op.name not in ("SELECT", "SELECT_V2"):
            return t, None
        mask, new, kept = node.inputs
        zero = old is None and kept is not None and kept.data is not None and not kept.data.any()
        if mask is None or new is None or (kept is not old and not zero) or new.type != t.type:
            return t, None
        return new, mask

    def place_of(self, t: Tensor) -> tuple[Tensor, int, list[int]] | None:
        """(sequence of the loop's graph, axis, places in the rounds) of a GATHER from what goes through the loop."""
        node = self.sums.makers.get(t)
        if node is not None and node.op.name == "RESHAPE" and node.inputs[0] is not None:
            if node.inputs[0].type.shape[-1:] != t.type.shape[-1:]:
                return None
            node = self.sums.makers.get(node.inputs[0])
        if node is None or node.op.name != "GATHER" or not node.has_rules or node.attrs.batch_dims:
            return None
        x, i = node.inputs
        where = self.rounds.of(i)
        position = next((k for k in self.same if self.graph.inputs[k] is x), None)
        if x is None or where is None or position is None or x.type.rank != 3 or any(w.size != 1 for w in where):
            return None
        axis = node.attrs.axis % 3
        batch_and_depth = (x.type.shape[1 - axis], x.type.shape[2]) if axis < 2 else ()
        return (
            (self.given[position], axis, [int(w.reshape(())) for w in where])
            if t.type.shape == batch_and_depth
            else None
        )


def _found(node: Node, graphs: Sequence[Graph], read: Collection[Tensor]) -> Loop | None:
    body = _body(node, graphs)
    if body is None:
        return None
    for k, start in enumerate(body.graph.inputs):
        if k in body.same or k in body.rounds.counters or start.type.dtype != FLOAT32 or start.type.rank != 2:
            continue
        new, mask = body.unmasked(body.graph.outputs[k], start)
        maker = body.sums.makers.get(new)
        for step in steps_of(body.sums, maker) if maker is not None else ():
            loop = _loop(node, body, k, step, mask, read)
            if loop is not None:
                return loop
    return None


def _body(node: Node, graphs: Sequence[Graph]) -> _Body | None:
    condition = graphs[node.attrs.cond_subgraph_index].copy()
    body = graphs[node.attrs.body_subgraph_index].copy()
    assign_once(condition)
    assign_once(body)
    if not fits(node, condition, body) or any(has_effect(n) for n in (*condition.nodes, *body.nodes)):
        return None
    count = len(node.inputs)
    given = [t for t in node.inputs if t is not None]
    _without_copies(body)
    same = [k for k in range(count) if body.outputs[k] is body.inputs[k]]
    for k in range(count):
        body.inputs[k].type = replace(body.inputs[k].type, shape=given[k].type.shape)
    rounds = rounds_of(condition, body, {k: given[k].data for k in range(count) if k not in same})
    if rounds is None or rounds.count < 1:
        return None
    for n in body.nodes:
        infer_node(n)
    with_updates(body, rounds)
    return _Body(body, Sums(body), rounds, given, same)


def _without_copies(body: Graph) -> None:
    """What is given out as it was taken in, in the same shape, is the same."""
    makers = body.producers()
    for k, (t, start) in enumerate(zip(body.outputs, body.inputs, strict=True)):
        maker = makers.get(t)
        if maker is not None and maker.op.name == "RESHAPE" and maker.inputs[0] is start and t.type == start.type:
            body.outputs[k] = start


def _loop(node: Node, body: _Body, k: int, step: Step, mask: Tensor | None, read: Collection[Tensor]) -> Loop | None:
    hidden = body.graph.inputs[k]
    inputs = [t for t in step.sources if t is not hidden]
    layer = layer_of(step, inputs[0], hidden) if len(inputs) == 1 else None
    if layer is None:
        return None
    j = None
    if step.kind == "lstm":
        j = next((j for j, t in enumerate(body.graph.inputs) if t is step.before), None)
        if j is None or body.unmasked(body.graph.outputs[j], body.graph.inputs[j]) != (step.memory, mask):
            return None
    places = body.place_of(inputs[0])
    order = None if places is None else line(places[2])
    if places is None or order is None or min(places[2]) < 0:
        return None
    seen = None if mask is None else body.place_of(mask)
    if mask is not None and (seen is None or seen[1:] != places[1:]):
        return None
    found = _results(node, body, (k, j), step, mask, read)
    if found is None:
        return None
    results, masked = found
    sequence, axis, _ = places
    return Loop(
        layer, sequence, axis, order[0], body.rounds.count, order[1], body.given[k],
        None if j is None else body.given[j], None if seen is None else seen[0], masked, results,
    )  # fmt: skip


def _results(
    node: Node, body: _Body, states: tuple[int, int | None], step: Step, mask: Tensor | None, read: Collection[Tensor]
) -> tuple[dict[int, str | Tensor | np.ndarray], str] | None:
    """What the outputs that somebody reads are, and what the output is where the mask is false."""
    graph, rounds = body.graph, body.rounds
    shown = {graph.outputs[states[0]] if mask is None else None: "zero"}  # what a round gives out, and how it is masked
    results: dict[int, str | Tensor | np.ndarray] = {}
    if mask is not None:
        for k, t in enumerate(graph.outputs):
            zero = body.given[k].data is not None and not body.given[k].data.any()  # type: ignore[union-attr]
            if zero and body.unmasked(t, graph.inputs[k]) == (step.output, mask):
                shown[t] = "repeat"
        for n in graph.nodes:
            if n.outputs and body.unmasked(n.outputs[0], None) == (step.output, mask):
                shown[n.outputs[0]] = "zero"
    used: set[str] = set()
    for k, t in enumerate(node.outputs):
        if t not in read:
            continue
        end = graph.outputs[k]
        listed = _listed(body, k, shown)
        if k in rounds.counters:
            values = rounds.of(end)
            if values is None:
                return None
            results[k] = np.asarray(values[-1])
        elif k in body.same:
            results[k] = body.given[k]
        elif k in states:
            results[k] = "hidden" if k == states[0] else "memory"
        elif end in shown:
            results[k] = "output"
            used.add(shown[end])
        elif listed is not None:
            results[k], masked = listed
            used.add(masked)
        else:
            return None
    return None if len(used) > 1 else (results, used.pop() if used else "zero")


def _listed(body: _Body, k: int, shown: dict[Tensor | None, str]) -> tuple[str, str] | None:
    """("all" or "one", how it is masked) of a list that every round writes its output to."""
    graph, rounds = body.graph, body.rounds
    start, end, makers = graph.inputs[k], graph.outputs[k], body.sums.makers
    if start.type.rank != 3:
        return None
    maker = makers.get(end)
    while (
        maker is not None
        and maker.op.name == "CAST"
        and maker.inputs[0] is not None
        and maker.inputs[0].type.dtype == end.type.dtype
    ):
        maker = makers.get(maker.inputs[0])
    places = list(range(rounds.count))
    row: Tensor | None
    if maker is not None and maker.op.name == "DYNAMIC_UPDATE_SLICE" and maker.inputs[0] is start:
        row, begins = maker.inputs[1], rounds.of(maker.inputs[2])
        if begins is None or any(b.shape != (3,) or b[1:].any() for b in begins):
            return None
        places = [int(b[0]) for b in begins]
    elif maker is not None and maker.op.name == "RESHAPE" and start.type.shape[0] == 1:
        row, places = maker.outputs[0], [0] * rounds.count
    else:
        return None
    made = makers.get(row) if row is not None else None
    if row is None or made is None or made.op.name != "RESHAPE" or made.inputs[0] not in shown:
        return None
    if row.type.shape != (1, *start.type.shape[1:]):
        return None
    masked = shown[made.inputs[0]]
    if start.type.shape[0] == 1 and not any(places):
        return "one", masked
    if places == list(range(rounds.count)) and start.type.shape[0] == rounds.count:
        return "all", masked
    return None
