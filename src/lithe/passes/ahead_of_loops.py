"""What rounds of a loop compute from their number alone is computed for all of them before the loop.

    repeat, step = 0 .. 9:  h = g(fully_connected(x[step], w) + h)
->
    z = fully_connected(x, w);  repeat, step = 0 .. 9:  h = g(z[step] + h)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops import REGISTRY
from lithe.passes.remove_dead import remove_dead
from lithe.types import INT32, TensorType

LARGEST = 1 << 26  # bytes of what all rounds read or make together


def ahead_of_loop(graph: Graph, repeat: Node) -> list[Node]:
    """Nodes to be run before a REPEAT, which is changed to read their results: products of rows that do not change
    from round to round with constant weights, one product instead of one in each round."""
    body, count = repeat.attrs.body, repeat.attrs.count
    if count == 1:
        return []
    gather, product, reshape = (REGISTRY.by_name[n] for n in ("GATHER", "FULLY_CONNECTED", "RESHAPE"))
    step, given = body.inputs[0], len(repeat.inputs) - len(repeat.outputs)
    outer = dict(zip(body.inputs[1 : 1 + given], repeat.inputs[:given], strict=True))
    makers = body.producers()
    rows: dict[Tensor, tuple[Tensor, list[int]]] = {}  # of a row in the body -> (the rows, which one each round reads)
    before: list[Node] = []

    def tensor(like: Tensor, shape: tuple[int, ...]) -> Tensor:
        made = Tensor(like.name, replace(like.type, shape=shape))
        graph.tensors.append(made)
        return made

    def constant(like: Tensor) -> Tensor:
        made = Tensor(like.name, like.type, like.data)
        graph.tensors.append(made)
        return made

    def integers(values: list[int]) -> Tensor:
        return constant(Tensor("constant", TensorType(INT32, (len(values),)), np.array(values, np.int32)))

    def places(index: Tensor | None) -> list[int] | None:
        """Which row a round reads, for all rounds; None when that is not known."""
        if index is step:
            return list(range(count))
        if index is None or index.type.rank:
            return None
        if index.data is not None:
            return [int(index.data)] * count
        n = makers.get(index)
        known = n is not None and n.op is gather and n.inputs[1] is step and n.inputs[0].is_constant
        return n.inputs[0].data.tolist() if known else None

    for n in body.nodes:
        if len(n.outputs) != 1 or not n.inputs:
            continue
        x, y = n.inputs[0], n.outputs[0]
        if n.op is gather and x in outer and n.attrs.axis == 0 and n.attrs.batch_dims == 0:
            at, source = places(n.inputs[1]), outer[x]
            if at is None or not all(0 <= i < source.type.shape[0] for i in at):
                continue
            if count * max(y.type.nbytes, 1) <= LARGEST:
                rows[y] = source, at
        elif n.op is product and x in rows and all(t is None or t.is_constant for t in n.inputs[1:]):
            if count * y.type.nbytes > LARGEST:
                continue
            source, at = rows[x]
            if at != list(range(source.type.shape[0])):
                chosen = tensor(source, (count, *source.type.shape[1:]))
                before.append(Node(gather, gather.Attrs(), [source, integers(at)], [chosen], repeat.index))
                source = chosen
            all_rounds = tensor(y, (count * y.type.size // y.type.shape[-1], y.type.shape[-1]))
            attrs = replace(n.attrs, keep_num_dims=False)
            others = [None if t is None else constant(t) for t in n.inputs[1:]]
            before.append(Node(product, attrs, [source, *others], [all_rounds], repeat.index))
            by_round = tensor(y, (count, *y.type.shape))
            shape = integers(list(by_round.type.shape))
            attrs = reshape.Attrs(by_round.type.shape)
            before.append(Node(reshape, attrs, [all_rounds, shape], [by_round], repeat.index))
            inside = Tensor(y.name, by_round.type)
            body.tensors.append(inside)
            body.inputs.insert(1 + given, inside)
            repeat.inputs.insert(given, by_round)
            given += 1
            n.op, n.attrs, n.inputs = gather, gather.Attrs(), [inside, step]
    if before:
        remove_dead(body)
        read = {t for n in body.nodes for t in n.inputs} | set(body.outputs)
        kept = [k for k in range(given) if body.inputs[1 + k] in read]
        body.inputs = [step, *(body.inputs[1 + k] for k in kept), *body.inputs[1 + given :]]
        repeat.inputs = [*(repeat.inputs[k] for k in kept), *repeat.inputs[given:]]
    return before
