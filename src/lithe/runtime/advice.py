"""What each layer of a model would gain by zeros: in bytes of the file, and in time on this machine.

Time is by the rule with which compiled code chooses between schedules (`lithe.lower.sparse`), bytes by the encodings of
the format (`lithe.formats.tflite.sparsity`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lithe.formats.tflite import sparsity as encoding
from lithe.ir.build import Builder, Convolution, MatrixProduct
from lithe.ir.graph import Graph, Node
from lithe.ir.loops import Buffer
from lithe.lower import sparse
from lithe.lower.costs import A_WEIGHT, AN_ELEMENT
from lithe.lower.lower import compiles
from lithe.ops.op import Environment, Site
from lithe.runtime.compilation import this_target
from lithe.targets.cpu import Target

WEIGHTS_OPERAND = 1
LEAST_WEIGHTS = 1024  # of a layer; smaller ones are left alone
LEAST_INPUTS = 16  # of an output; with fewer each weight counts
ENOUGH = 0.4  # zeros in single weights cost the least accuracy: blocks are for layers that need fewer zeros to gain
NAMES = {1: "unstructured", 4: "1x4", 16: "1x16"}
AT = 0.9  # the share of zeros for which gains are told


@dataclass(frozen=True)
class Advice:
    """One layer with constant weights.

    zeros            the share of weights that are zero now.
    smaller_from     the share from which on the official runtime's file gets smaller, None where none does.
    quicker_from     the share from which on Lithe leaves out the zeros when it computes, None where it never does.
    structure        where zeros should lie, "" where they gain nothing.
    bytes_at_90      what the weights take with 90 % of zeros in that structure; bytes: what they take now, dense.
    time_at_90       the layer's time with 90 % of zeros, of that without any.
    """

    index: int
    operator: str
    layer: str
    weights: int
    bytes: int
    zeros: float
    smaller_from: float | None
    quicker_from: float | None
    structure: str
    bytes_at_90: int
    time_at_90: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def advice(graph: Graph, environment: Environment | None = None) -> list[Advice]:
    """For each layer of a prepared graph that may be pruned, what it would gain."""
    target = this_target()
    return [_advice(n, environment, target) for n in graph.nodes if is_layer(n)]


def is_layer(node: Node) -> bool:
    """Whether a node has constant weights that may be pruned: enough of them, and enough for each output.

    Filters of a channel alone (depthwise) are few, and carry much: they stay.
    """
    weights = node.inputs[WEIGHTS_OPERAND] if len(node.inputs) > WEIGHTS_OPERAND else None
    if node.op.factors is None or node.op.weights_axis != 0 or weights is None or weights.data is None:
        return False
    outputs = weights.data.shape[0]
    return weights.data.size >= LEAST_WEIGHTS and weights.data.size // outputs >= LEAST_INPUTS


def _advice(node: Node, environment: Environment | None, target: Target) -> Advice:
    x, w = node.inputs[0], node.inputs[WEIGHTS_OPERAND]
    assert x is not None
    assert w is not None
    assert w.data is not None
    shape, size, itemsize = w.type.shape, w.data.size, w.type.dtype.bytes
    taken = (node.op.name, x.type.dtype.name, w.type.dtype.name) in encoding.DENSIFIED
    ways = {b: encoding.pays_from(shape, itemsize, b) for b in NAMES} if taken else {}
    first = [block for block, share in ways.items() if share <= ENOUGH]
    block = min(first or ways, key=lambda b: b if first else ways[b], default=0)
    smaller = ways.get(block, np.inf)
    quicker = min((_quicker_from(c, target) for c in _contractions(node, environment)), default=np.inf)
    if quicker <= 1 and 1 in ways:
        block, smaller = 1, ways[1]
    gains = smaller < 1 or quicker < 1
    dense = -(-size * w.type.dtype.stored_bits // 8)
    return Advice(
        node.index, node.op.name, node.outputs[0].name, size, dense, float(np.mean(w.data == 0)),
        float(smaller) if smaller < 1 else None, float(quicker) if quicker < 1 else None,
        NAMES.get(block, "") if gains else "",
        round(encoding.bytes_at(shape, itemsize, block, AT)) if smaller < AT else dense,
        min((_time_at(c, AT, target) for c in _contractions(node, environment)), default=1.0) if quicker < AT else 1.0,
    )  # fmt: skip


def _contractions(node: Node, environment: Environment | None) -> Iterator[Convolution]:
    """What the operator gives a schedule to write."""
    if not compiles(node, environment):
        return
    found: list[Convolution | MatrixProduct] = []
    xs = tuple(None if t is None else Buffer(t.name, t.type.dtype, t.type.shape, t.data) for t in node.inputs)
    ys = tuple(Buffer(t.name, t.type.dtype, t.type.shape) for t in node.outputs)
    assert node.op.lower is not None
    node.op.lower(Builder("probe", lambda _, c: found.append(c)), Site.of(node, environment), xs, ys)
    yield from (c for c in found if isinstance(c, Convolution))


def _quicker_from(c: Convolution, target: Target) -> float:
    most = sparse.most_weights(c, target)
    return 1 - most / c.w.size if most > 0 else np.inf


def _time_at(c: Convolution, sparsity: float, target: Target) -> float:
    """By the costs that the schedules are chosen by."""
    outputs, _, _, depth = c.w.shape
    turned = (outputs + depth) * AN_ELEMENT * target.lanes
    return ((1 - sparsity) * c.w.size * A_WEIGHT + turned) / c.w.size
