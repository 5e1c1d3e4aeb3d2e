"""Tensors as sums: products of other tensors with constant matrices, and a constant.

    ADD(FULLY_CONNECTED(x, W, b), FULLY_CONNECTED(h, R))  is  {x: W, h: R}, b

Rows of a tensor are what its last axis holds; a sum says what every row is. The other axes must be the same for all
that is summed, so that nothing is repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.infer_shapes import is_dynamic
from lithe.types import FLOAT32

DEEPEST = 24  # sums of sums; gates have few, and residual networks thousands
Bounds = tuple[int, int]


@dataclass(frozen=True)
class Sum:
    """bias + the sum of source @ weights.T over the terms.

    bias   [outputs], float64.
    terms  weights by source: [outputs, depth] of float32, or [outputs] integers, which pick elements of the source.
    """

    bias: np.ndarray
    terms: dict[Tensor, np.ndarray]

    def part(self, bounds: Bounds) -> Sum:
        a, z = bounds
        return Sum(self.bias[a:z], {t: w[a:z] for t, w in self.terms.items()})


def rows(t: Tensor) -> int:
    """How many rows the tensor has, over all axes but the last."""
    return math.prod(t.type.shape[:-1])


def row_of(array: np.ndarray) -> np.ndarray | None:
    """What every row of the array is; None where they differ."""
    found = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, 1)
    return found[0] if len(found) and (found == found[0]).all() else None


def is_plain(node: Node) -> bool:
    return getattr(node.attrs, "fused_activation_function", "NONE") == "NONE"


class Sums:
    """The sums of a graph's tensors."""

    def __init__(self, graph: Graph) -> None:
        self.makers = graph.producers()
        self._known: dict[Tensor, Sum] = {}

    def maker(self, t: Tensor | None, *names: str) -> Node | None:
        """The operator that makes the tensor, if it is one of these, of float32, and without a fused activation."""
        node = None if t is None else self.makers.get(t)
        if node is None or node.op.name not in names or not node.has_rules or not is_plain(node):
            return None
        return node

    def of(self, t: Tensor, depth: int = 0) -> Sum | None:
        """What a tensor of floats is a sum of; in the end itself. None for scalars and for unknown shapes."""
        if t.type.dtype != FLOAT32 or t.type.quantization is not None or not t.type.rank or is_dynamic(t.type):
            return None
        if t not in self._known:
            found = self._found(t, depth) if depth < DEEPEST else None
            self._known[t] = found or Sum(np.zeros(t.type.shape[-1]), {t: np.arange(t.type.shape[-1])})
        return self._known[t]

    def _found(self, t: Tensor, depth: int) -> Sum | None:
        if t.data is not None:
            row = row_of(t.data)
            return None if row is None else Sum(row.astype(np.float64), {})
        node = self.maker(t, *RULES)
        return None if node is None else RULES[node.op.name](self, node, t, depth + 1)

    def _product(self, node: Node, t: Tensor, depth: int) -> Sum | None:
        """FULLY_CONNECTED(x, W, b), and of x = CONCATENATION(y, z) a term for each."""
        x, w, *more = node.inputs
        bias = more[0] if more else None
        if x is None or w is None or w.data is None or w.type.dtype != FLOAT32 or (bias and bias.data is None):
            return None
        if node.op.name == "BATCH_MATMUL":
            if w.type.rank != 2 or node.attrs.adj_x:
                return None
            weights = w.data if node.attrs.adj_y else w.data.T
        elif node.attrs.weights_format != "DEFAULT" or "sparsity" in w.extras:
            return None
        else:
            weights = w.data
        if x.type.dtype != FLOAT32 or x.type.shape[-1:] != weights.shape[1:] or rows(x) != rows(t):
            return None
        zero = np.zeros(len(weights))
        own = zero if bias is None or bias.data is None else bias.data.reshape(-1).astype(np.float64)
        found: Sum | None = Sum(own, {})
        for source, (a, z) in self._sources(x):
            columns, constant = weights[:, a:z], source.data
            if constant is None:
                term = Sum(zero, {source: columns})
            else:
                row = row_of(constant)
                if row is None:
                    return None
                term = Sum(columns.astype(np.float64) @ row, {})
            found = _added(found, term)
        return found

    def _sources(self, x: Tensor) -> list[tuple[Tensor, Bounds]]:
        """The tensors that lie side by side in x, and where."""
        node = self.maker(x, "CONCATENATION")
        parts = [] if node is None else [t for t in node.inputs if t is not None]
        if node is None or node.attrs.axis not in (-1, x.type.rank - 1):
            return [(x, (0, x.type.shape[-1]))]
        ends = np.cumsum([0, *(t.type.shape[-1] for t in parts)]).tolist()
        return list(zip(parts, pairwise(ends), strict=True))

    def _added(self, node: Node, t: Tensor, depth: int) -> Sum | None:
        found: Sum | None = Sum(np.zeros(t.type.shape[-1]), {})
        for x in node.inputs:
            if x is None or (x.data is None and (rows(x) != rows(t) or x.type.shape[-1:] != t.type.shape[-1:])):
                return None
            if x.data is not None and x.data.size == 1:
                term: Sum | None = Sum(np.full(t.type.shape[-1], float(x.data.reshape(()))), {})
            else:
                term = self.of(x, depth)
            found = _added(found, term)
        return found

    def _parts(self, node: Node, t: Tensor, depth: int) -> Sum | None:
        """SPLIT, SPLIT_V, SLICE, STRIDED_SLICE along the last axis."""
        found = last_axis_part(node, t)
        if found is None:
            return None
        x, bounds = found
        whole = self.of(x, depth)
        return None if whole is None else whole.part(bounds)

    def _reshaped(self, node: Node, t: Tensor, depth: int) -> Sum | None:
        x = node.inputs[0]
        if x is None or x.type.dtype != FLOAT32 or is_dynamic(x.type) or x.type.shape[-1:] != t.type.shape[-1:]:
            return None
        return self.of(x, depth)


RULES = {
    "FULLY_CONNECTED": Sums._product, "BATCH_MATMUL": Sums._product, "ADD": Sums._added, "SPLIT": Sums._parts,
    "SPLIT_V": Sums._parts, "SLICE": Sums._parts, "STRIDED_SLICE": Sums._parts, "RESHAPE": Sums._reshaped,
}  # fmt: skip


def _added(a: Sum | None, b: Sum | None) -> Sum | None:
    if a is None or b is None or a.bias.shape != b.bias.shape:
        return None
    terms = dict(a.terms)
    for t, w in b.terms.items():
        have = terms.get(t)
        if have is not None and (have.ndim != 2 or w.ndim != 2):
            return None
        terms[t] = w if have is None else have + w
    return Sum(a.bias + b.bias, terms)


def last_axis_part(node: Node, t: Tensor) -> tuple[Tensor, Bounds] | None:
    """Of which tensor's last axis this output of a node is a part, and which."""
    name = node.op.name
    if name in ("SPLIT", "SPLIT_V"):
        x, axis = (node.inputs[1], node.inputs[0]) if name == "SPLIT" else (node.inputs[0], node.inputs[2])
        if (
            x is None
            or axis is None
            or axis.data is None
            or int(axis.data.reshape(-1)[0]) % x.type.rank != x.type.rank - 1
        ):
            return None
        ends = np.cumsum([0, *(y.type.shape[-1] for y in node.outputs)]).tolist()
        i = node.outputs.index(t)
        return (x, (ends[i], ends[i + 1])) if ends[-1] == x.type.shape[-1] else None
    box = box_of(node, t)
    if box is None or any(b != (0, n) for b, n in zip(box.bounds[:-1], box.of.type.shape[:-1], strict=True)):
        return None
    return (box.of, box.bounds[-1]) if box.of.type.rank == t.type.rank else None


@dataclass(frozen=True)
class Box:
    """A part of a tensor: from where to where along each axis; axes of size 1 may have been dropped."""

    of: Tensor
    bounds: tuple[Bounds, ...]


def box_of(node: Node, t: Tensor) -> Box | None:
    """The part that a SLICE or STRIDED_SLICE with constant operands takes."""
    x, *operands = node.inputs
    if node.op.name not in ("SLICE", "STRIDED_SLICE") or x is None or is_dynamic(x.type):
        return None
    if any(o is None or o.data is None or o.data.size != x.type.rank for o in operands):
        return None
    first = np.asarray(operands[0].data).reshape(-1).tolist()  # type: ignore[union-attr]
    second = np.asarray(operands[1].data).reshape(-1).tolist()  # type: ignore[union-attr]
    bounds = []
    for i, n in enumerate(x.type.shape):
        if node.op.name == "SLICE":
            a, z = first[i], n if second[i] == -1 else first[i] + second[i]
        else:
            a, z = _strided(node, i, n, first[i], second[i])
        if not 0 <= a < z <= n:
            return None
        bounds.append((a, z))
    strided = node.op.name == "STRIDED_SLICE"
    if strided and (np.any(operands[2].data != 1) or node.attrs.ellipsis_mask or node.attrs.new_axis_mask  # type: ignore[union-attr]
                    or getattr(node.attrs, "offset", False)):  # fmt: skip
        return None
    return Box(x, tuple(bounds)) if math.prod(z - a for a, z in bounds) == t.type.size else None


def _strided(node: Node, i: int, n: int, begin: int, end: int) -> Bounds:
    a = 0 if node.attrs.begin_mask >> i & 1 else begin + n if begin < 0 else begin
    if node.attrs.shrink_axis_mask >> i & 1:
        return a, a + 1
    return a, n if node.attrs.end_mask >> i & 1 else min(end + n if end < 0 else end, n)
