"""Recurrent layers that are spelled out in a graph become what `lithe.conversion.recurrent` writes for a layer.

A loop of known length becomes a builtin or steps whose products with the input are made at once; so do steps that
already stand one after another. A builtin that is written here begins each run from zeros, as the loop did: its
variables are set to zero before it (see docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain as joined

import numpy as np

from lithe.conversion.builder import Builder, Conversion
from lithe.conversion.cells import Cell, Walk
from lithe.conversion.recurrent import Recurrent, layer
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.recurrent import Chain, Layer, Loop, find_chain, find_loop
from lithe.passes.remove_dead import remove_dead
from lithe.passes.writer import Inexpressible
from lithe.types import BOOL, FLOAT32, dtype_of

Instead = dict[Tensor, Tensor]  # what is read in the place of a tensor


def fuse_recurrent(conversion: Conversion) -> None:
    """Applies it to all graphs of a conversion. Graphs that only a loop called that is gone, go."""
    before = _reachable(conversion)
    graphs = [Graph(b.title, b.inputs, b.outputs, list(b.tensors), b.nodes) for b in conversion.graphs]
    for b, graph in zip(conversion.graphs, graphs, strict=True):
        if not b.knows_shapes:
            continue
        for node in [n for n in b.nodes if n.op.calls]:
            _fuse_loop(b, node, graphs)
        graph.nodes = b.nodes
        while _fuse_a_chain(b):
            pass
        graph.nodes = b.nodes
    _drop_graphs(conversion, before - _reachable(conversion))


def _fuse_loop(b: Builder, node: Node, graphs: Sequence[Graph]) -> None:
    read = {t for n in b.nodes for t in n.inputs if t is not None}.union(b.outputs)
    loop = find_loop(node, graphs, read)
    if loop is None:
        return
    at = b.nodes.index(node)
    written = _written(b, lambda nodes: _write_loop(b, nodes, node, loop))
    if written is not None:
        _splice(b, at, *written)
        b.nodes.remove(node)


def _fuse_a_chain(b: Builder) -> bool:
    """Whether a chain of steps was found and is written otherwise now."""
    for found in find_chain(Graph(b.title, b.inputs, b.outputs, [], b.nodes)):
        at = next(i for i, n in enumerate(b.nodes) if found.steps[0].output in n.outputs)
        written = _written(b, partial(_write_chain, b, found=found))
        if written is None:
            continue
        nodes, instead = written
        if found.layer.weights.ndim == 1 and not any(n.op.name.startswith("UNIDIRECTIONAL") for n in nodes):
            continue  # the products are made at once already
        _splice(b, at, nodes, instead)
        _remove_steps(b)
        return True
    return False


def _written(b: Builder, write: Callable[[Sequence[Node]], Instead]) -> tuple[list[Node], Instead] | None:
    """(operators, what takes the place of what) that `write` makes of the graph's operators; None where it cannot."""
    nodes, computed, count = b.nodes, b._computed, len(b.tensors)
    b.nodes, b._computed = [], {}  # sizes may have been computed behind this place
    try:
        instead = write(nodes)
        return _from_zero(b, b.nodes), instead
    except Inexpressible:
        del b.tensors[count:]
        return None
    finally:
        b.nodes, b._computed = nodes, computed


def _from_zero(b: Builder, nodes: list[Node]) -> list[Node]:
    """The operators, before which their variables are set to zero."""
    op = REGISTRY.by_name["ZEROS_LIKE"]
    variables = dict.fromkeys(t for n in nodes for t in n.inputs if t is not None and t.is_variable)
    zeros = [Node(op, op.Attrs(), [b.constant(np.zeros(t.type.shape), FLOAT32)], [t]) for t in variables]
    return [*zeros, *nodes]


def _splice(b: Builder, at: int, nodes: list[Node], instead: Instead) -> None:
    """Puts the operators at this place, and lets readers read their results. Outputs of the graph stay the tensors
    that they are.
    """
    made = {t for n in nodes for t in n.outputs}
    renamed: Instead = {}
    for old, new in list(instead.items()):
        if old not in b.outputs:
            continue
        if new in made and new not in renamed and new not in b.outputs:
            renamed[new] = old
        else:
            nodes.append(_copy(b, renamed.get(new, new), old))
        del instead[old]
    for n in nodes:
        n.inputs = [t if t is None else renamed.get(t, t) for t in n.inputs]
        n.outputs = [renamed.get(t, t) for t in n.outputs]
    instead = {old: renamed.get(new, new) for old, new in instead.items()}
    made_anew = made.union(renamed.values())
    for n in b.nodes:
        n.inputs = [t if t is None else instead.get(t, t) for t in n.inputs]
        n.outputs = [_spare(t) if t in made_anew else t for t in n.outputs]
    b.nodes[at:at] = nodes


def _spare(t: Tensor) -> Tensor:
    """A tensor for a result that nobody reads any more."""
    return Tensor(f"{t.name}/before", t.type)


def _copy(b: Builder, source: Tensor, output: Tensor) -> Node:
    op = REGISTRY.by_name["RESHAPE"]
    return Node(op, op.Attrs(), [source, b.shape_operand(output.type.shape)], [output])


def _remove_steps(b: Builder) -> None:
    """Takes away the operators of steps whose results nobody reads."""
    graph = Graph(b.title, b.inputs, b.outputs, [], b.nodes)
    remove_dead(graph)
    b.nodes = graph.nodes


# graphs


def _called(node: Node) -> list[int]:
    found: list[int] = []
    for name in node.op.calls:
        value = getattr(node.attrs, name)
        found += value if isinstance(value, tuple) else [value]
    return found


def _reachable(conversion: Conversion) -> set[int]:
    waiting, seen = [0, *(e.signature.graph for e in conversion.entries)], set[int]()
    while waiting:
        number = waiting.pop()
        if number not in seen and 0 <= number < len(conversion.graphs):
            seen.add(number)
            waiting += joined.from_iterable(_called(n) for n in conversion.graphs[number].nodes)
    return seen


def _drop_graphs(conversion: Conversion, gone: set[int]) -> None:
    """Takes graphs away, and gives the others their new numbers."""
    if not gone:
        return
    kept = [b for b in conversion.graphs if b.number not in gone]
    number = {b.number: i for i, b in enumerate(kept)}

    def moved(value: int | tuple[int, ...]) -> int | tuple[int, ...]:
        return tuple(number[v] for v in value) if isinstance(value, tuple) else number[value]

    for b in kept:
        for n in b.nodes:
            if n.op.calls:
                n.attrs = replace(n.attrs, **{name: moved(getattr(n.attrs, name)) for name in n.op.calls})
        b.number = number[b.number]
    conversion.graphs[:] = kept
    conversion.entries[:] = [
        replace(e, signature=replace(e.signature, graph=number[e.signature.graph])) for e in conversion.entries
    ]


# writing


def _cell(b: Builder, found: Layer, x: Tensor, weights: np.ndarray, bias: np.ndarray) -> Cell:
    def constant(array: np.ndarray) -> Tensor:
        return b.constant(np.ascontiguousarray(array), FLOAT32)

    gates = {"lstm": ("LOGISTIC", found.activation, found.activation), "gru": ("LOGISTIC", found.activation),
             "rnn": (found.activation,)}  # fmt: skip
    extra = None if found.recurrent_bias is None else constant(found.recurrent_bias)
    return Cell(
        found.kind, constant(weights), constant(found.recurrent), constant(bias), extra,
        activations=gates[found.kind], reset_after=found.reset_after,
    )  # fmt: skip


def _input(b: Builder, nodes: Sequence[Node], found: Layer, sequence: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """(sequence, weights, bias): where the products were made before, what they were made of."""
    if found.weights.ndim == 2:
        return sequence, found.weights, found.bias
    makers = {t: n for n in nodes for t in n.outputs}
    maker, picks = makers.get(sequence), found.weights
    inner = None if maker is None or maker.op.name != "RESHAPE" else maker.inputs[0]
    if inner is not None and inner.type.shape[-1] == sequence.type.shape[-1]:
        maker = makers.get(inner)
    b.require(maker is not None and maker.op.name == "FULLY_CONNECTED" and maker.has_rules)
    assert maker is not None
    x, w, *more = maker.inputs
    plain = maker.attrs.fused_activation_function == "NONE" and maker.attrs.weights_format == "DEFAULT"
    b.require(plain and x is not None and w is not None and w.data is not None and w.type.dtype == FLOAT32)
    assert x is not None
    assert w is not None
    b.require(x.type.shape[-1] == w.type.shape[1] and x.type.dtype == FLOAT32)
    bias = found.bias
    if more and more[0] is not None:
        bias = (bias.astype(np.float64) + b.array(more[0])[picks]).astype(np.float32)
    return b.reshape(x, (*sequence.type.shape[:-1], x.type.shape[-1])), b.array(w)[picks], bias


def _batch_major(nodes: Sequence[Node], x: Tensor) -> Tensor | None:
    """What x is with its first two axes exchanged, where that is there already."""
    maker = next((n for n in nodes if x in n.outputs), None)
    source = None if maker is None else maker.inputs[0]
    if maker is None or source is None or source.type.rank != 3 or maker.op.name not in ("TRANSPOSE", "RESHAPE"):
        return None
    first, second, depth = x.type.shape
    if source.type.shape != (second, first, depth):
        return None
    if maker.op.name == "RESHAPE":
        return source if 1 in (first, second) else None
    order = maker.inputs[1]
    turned = order is not None and order.data is not None and order.data.tolist() == [1, 0, 2]
    return source if turned else None


def _exchanged(b: Builder, x: Tensor) -> Tensor:
    """The first two axes exchanged."""
    first, second, depth = x.type.shape
    return b.reshape(x, (second, first, depth)) if 1 in (first, second) else b.transpose(x, (1, 0, 2))


def _write(
    b: Builder, nodes: Sequence[Node], found: Layer, sequence: Tensor, axis: int, begin: int, count: int,
    states: Sequence[Tensor | None], walk: Walk,
) -> tuple[Tensor, int, list[Tensor]]:  # fmt: skip
    """(outputs, the axis of time in them, last states) of the layer."""
    x, weights, bias = _input(b, nodes, found, sequence)
    other = _batch_major(nodes, x) if axis == 0 else None
    if other is not None:
        x, axis = other, 1
    start, size = [0, 0, 0], list(x.type.shape)
    start[axis], size[axis] = begin, count
    x = b.slice(x, start, size)
    cell = _cell(b, found, x, weights, bias)
    given = [t for t in states if t is not None]
    walk = replace(walk, time_major=axis == 0)
    y, last = layer(b, x, cell, given, walk, Recurrent(b.conversion.unroll))
    return y, axis, last


def _write_loop(b: Builder, nodes: Sequence[Node], node: Node, loop: Loop) -> Instead:
    mask = None
    if loop.mask is not None:
        size = list(loop.mask.type.shape)
        start = [0, 0, 0]
        start[loop.axis], size[loop.axis] = loop.begin, loop.count
        mask = b.reshape(b.slice(loop.mask, start, size), size[:2])
        mask = b.transpose(mask, (1, 0)) if loop.axis == 0 else mask
        b.require(mask.type.dtype == BOOL)
    walk = Walk(
        reverse=loop.reverse, mask=mask, masked=loop.masked,
        last_cell=any(isinstance(r, str) and r == "memory" for r in loop.results.values()),
    )  # fmt: skip
    y, axis, last = _write(
        b, nodes, loop.layer, loop.sequence, loop.axis, loop.begin, loop.count, [loop.hidden, loop.memory], walk
    )
    instead: Instead = {}
    for k, result in loop.results.items():
        output = node.outputs[k]
        if isinstance(result, Tensor):
            instead[output] = result
        elif isinstance(result, np.ndarray):
            instead[output] = b.constant(result, dtype_of(result))
        elif result == "hidden":
            instead[output] = last[0]
        elif result == "memory":
            instead[output] = last[1]
        elif result == "all":
            instead[output] = _in_order_of_rounds(b, y, axis, loop.reverse)
        else:
            shown = _last_shown(b, y, axis, loop) if mask is not None else last[0]
            instead[output] = b.reshape(shown, output.type.shape)
    return instead


def _in_order_of_rounds(b: Builder, y: Tensor, axis: int, reverse: bool) -> Tensor:
    """[time, batch, units], the first round first."""
    if reverse:
        y = b("REVERSE_V2", y, b.constant([axis]))
    return y if axis == 0 else _exchanged(b, y)


def _last_shown(b: Builder, y: Tensor, axis: int, loop: Loop) -> Tensor:
    """The output of the last round."""
    start, size = [0, 0, 0], list(y.type.shape)
    start[axis], size[axis] = 0 if loop.reverse else loop.count - 1, 1
    return b.reshape(b.slice(y, start, size), (size[1 - axis], size[2]))


def _write_chain(b: Builder, nodes: Sequence[Node], found: Chain) -> Instead:
    count = len(found.steps)
    b.require(not found.memory_read - {count - 1})
    b.require(found.layer.kind != "lstm" or (found.hidden is None) == (found.memory is None))
    walk = Walk(reverse=found.reverse, last_cell=bool(found.memory_read))
    states = [found.hidden, found.memory]
    y, axis, last = _write(b, nodes, found.layer, found.sequence, found.axis, found.begin, count, states, walk)
    instead = {stack: y if along == axis else _exchanged(b, y) for stack, along in found.stacks.items()}
    final = found.steps[-1]
    if final.memory is not None and found.memory_read:
        instead[final.memory] = last[1]
    if found.read == {count - 1}:
        instead[final.output] = last[0]
    elif found.read:
        parts = b.several("UNPACK", y, dtypes=[None] * count, num=count, axis=axis)
        parts = parts[::-1] if found.reverse else parts
        instead |= {found.steps[i].output: parts[i] for i in found.read}
    return instead
