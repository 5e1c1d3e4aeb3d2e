"""REPEAT: a loop whose end is known before the run. No file holds it; a pass makes it of WHILE."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.loops import Buffer
from lithe.ops.layout import WORDS, copy
from lithe.ops.op import Op, Site
from lithe.types import INT32, Shape

OPERATOR_WORK = 1000  # work of running an operator at all, in elements


def work(graph: Graph) -> int:
    """What running a graph once costs: a thousand for each operator, and one for each element that it makes."""
    return OPERATOR_WORK + sum(
        OPERATOR_WORK
        + sum(t.type.size for t in n.outputs)
        + (n.attrs.count * work(n.attrs.body) if n.op is Repeat else 0)
        for n in graph.nodes
    )


class Repeat(Op):
    """carried = body(step, given, carried) for step = 0 .. count - 1.

    body   a prepared graph without effects, whose operators all have loops. Its inputs are the step (an int32), the
           given ones, which stay the same, and the carried ones; its outputs are the next carried ones.
    count  how often it runs, at least once.
    """

    name = "REPEAT"
    operands = (("inputs*",), ("carried*",))

    @dataclass(frozen=True)
    class Attrs:
        body: Graph = field(default_factory=lambda: Graph("", [], [], [], []))
        count: int = 1

    def infer(site: Site) -> list[Shape]:
        return [t.type.shape for t in site.attrs.body.outputs]

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        body: Graph = site.attrs.body
        given = len(arrays) - len(body.outputs)
        values: dict[Tensor | None, np.ndarray | None] = {t: t.data for t in body.tensors}
        values[None] = None
        values.update(zip(body.inputs[1:], arrays, strict=True))
        for step in range(site.attrs.count):
            values[body.inputs[0]] = np.array(step, np.int32)
            for node in body.nodes:
                results = node.op.evaluate(Site.of(node, site.environment), *(values[t] for t in node.inputs))
                values.update(zip(node.outputs, results, strict=True))
            values.update(zip(body.inputs[1 + given :], [values[t] for t in body.outputs], strict=True))
        return [np.array(values[t]) for t in body.inputs[1 + given :]]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        """All of the body's operators, one after another, inside one loop; the outputs' memory is the carried one's."""
        body: Graph = site.attrs.body
        given = len(xs) - len(ys)
        for x, y in zip(xs[given:], ys, strict=True):
            _copy(b, x, y)
        held = dict(zip(body.inputs[1:], (*xs[:given], *ys), strict=True))
        carried = {t: ys[k] for k, t in enumerate(body.outputs) if t not in held}
        for t in body.tensors:
            if t.data is not None:
                held[t] = Buffer(b.fresh("constant"), t.type.dtype, t.type.shape, t.data)
        for node in body.nodes:
            for t in node.outputs:
                held[t] = b.scratch(t.type.dtype, t.type.shape, "value")
        with b.loop(site.attrs.count, "serial", "step") as step:
            held[body.inputs[0]] = b.variable(step.to(INT32), "number")
            for node in body.nodes:
                if node.op.updates and _is_last_of(body, node):
                    held[node.outputs[0]] = carried[node.outputs[0]]
                if node.op.alias:
                    as_seen = node.outputs[0].type
                    held[node.outputs[0]] = held[node.inputs[0]].viewed(as_seen.shape, as_seen.dtype)
                    continue
                operands = tuple(None if t is None else held[t] for t in node.inputs)
                node.op.lower(b, Site.of(node, site.environment), operands, tuple(held[t] for t in node.outputs))
            made = [held[t] for t in body.outputs]
            for k, (buffer, y) in enumerate(zip(made, ys, strict=True)):
                if any(buffer.storage is other.storage for other in ys) and buffer.storage is not y.storage:
                    made[k] = b.scratch(buffer.dtype, buffer.shape, "value")  # it changes before it is read
                    _copy(b, buffer, made[k])
            for buffer, y in zip(made, ys, strict=True):
                if buffer.storage is not y.storage:
                    _copy(b, buffer, y)


def _copy(b: Builder, x: Buffer, y: Buffer) -> None:
    word = WORDS.get(x.dtype.name)
    copy(b, x.viewed(x.shape, word), y.viewed(y.shape, word))


def _is_last_of(body: Graph, node: Node) -> bool:
    """Whether the node makes the next value of a carried input that nothing but the node reads."""
    old, new = node.inputs[0], node.outputs[0]
    place = {t: k for k, t in enumerate(reversed(body.outputs))}.get(new)
    return (
        place is not None
        and body.inputs[-1 - place] is old
        and body.outputs.count(new) == 1
        and old not in body.outputs
        and not any(old in n.inputs for n in body.nodes if n is not node)
        and node.inputs.count(old) == 1
    )
