"""Smaller weights of models that go on computing with real numbers.

halve    every constant is stored in half the bits; a DEQUANTIZE that runs once gives back float32
narrow   weights become integers of 8, 4 or 2 bits, with a scale for each output, for all, or for each block of a row
         dynamic    the operator takes them: values are quantized while the model runs, by the operators that have a
                    combination of types for that (`Op.types`). Of tables, the rows that were looked up are widened
         otherwise  a DEQUANTIZE that runs once gives back float32. Blocks are rows of their own, [row * blocks + block,
                    element]: a MUL gives them their scales, which are float16, and a RESHAPE the weights their shape
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

import numpy as np

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.layout import Movement
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.optimize.integers import as_weights, weights_scale
from lithe.optimize.recipes import LEAST_WEIGHTS, WEIGHTS_OPERAND, Plan, Scheme
from lithe.types import FLOAT16, FLOAT32, INT8, INT32, DType, Quantization, Shape, TensorType

LARGEST_HALF = float(np.finfo(np.float16).max)
SHRINKS = np.linspace(1.0, 0.3, 29)  # of the largest weight, tried as the greatest number that few bits reach


def halve_constants(module: Module, plan: Plan) -> int:
    """Stores float32 constants of several elements as float16 where the plan says so, in place; returns how many."""
    count = 0
    for graph in module.graphs:
        whole: dict[Tensor, Tensor] = {}
        before: list[Node] = []
        for node in [n for n in graph.nodes if plan.of(n).weights == FLOAT16]:
            for i, t in enumerate(node.inputs):
                if t is None or t.data is None or t.type.dtype != FLOAT32 or t.data.size < 2 or _is_sparse(t):
                    continue
                if t not in whole:
                    halves = np.clip(t.data, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
                    stored = Tensor(t.name, replace(t.type, dtype=FLOAT16), halves)
                    whole[t] = Tensor(f"{t.name}_whole", t.type)
                    before.append(Node(REGISTRY.by_name["DEQUANTIZE"], NoAttrs(), [stored], [whole[t]]))
                node.inputs[i] = whole[t]
        graph.nodes = before + graph.nodes
        count += len(before)
        graph.renumber()
    return count


def narrow_weights(module: Module, plan: Plan, rounded: Mapping[Node, Tensor] = MappingProxyType({})) -> int:
    """Stores weights of operators on real values as integers where the plan says so, in place; returns how many.

    rounded  the weights of some operators, which are integers of their scheme already.
    """
    count = 0
    for graph in module.graphs:
        narrowing = _Narrowing(graph, rounded)
        for node in list(graph.nodes):
            scheme = plan.of(node)
            if scheme.values is not None or scheme.weights is None or scheme.weights.is_float:
                continue
            if scheme.dynamic:
                narrowing.dynamically(node, scheme)
            else:
                narrowing.alone(node, scheme)
        graph.nodes = narrowing.before + graph.nodes
        count += narrowing.count
        graph.renumber()
    return count


@dataclass
class _Narrowing:
    """The new constants of one graph, each made once for all that want it alike, and the nodes that widen them."""

    graph: Graph
    rounded: Mapping[Node, Tensor]
    before: list[Node] = field(default_factory=list)
    made: dict[tuple[Tensor, int | None, Scheme], Tensor] = field(default_factory=dict)
    wide: dict[Tensor, Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.made)

    def dynamically(self, node: Node, scheme: Scheme) -> None:
        assert scheme.weights is not None
        if _is_table(node, scheme):
            node.inputs[0] = self.stored(_constant(node, 0), None, scheme)
            self.graph.nodes.insert(self.graph.nodes.index(node) + 1, _widened(node))
            return
        places = weights_beside_reals(node, scheme.weights)
        if max((_constant(node, i).type.size for i in places), default=0) <= scheme.least:
            return
        for i in places:
            node.inputs[i] = self.stored(_constant(node, i), _axis(node, i), scheme, node)
        if any(f.name == "asymmetric_quantize_inputs" for f in fields(node.attrs)):
            node.attrs = replace(node.attrs, asymmetric_quantize_inputs=True)

    def alone(self, node: Node, scheme: Scheme) -> None:
        places = [0] if _is_table(node, scheme) else weights_beside_reals(node, INT8)
        for i in places:
            t = _constant(node, i)
            if t.type.size > scheme.least and t.type.rank > 1:
                axis = _axis(node, i)
                stored = self.stored(t, _best_axis(t, scheme) if axis is None else axis, scheme, node)
                node.inputs[i] = self.widened(stored, t.type)

    def stored(self, t: Tensor, axis: int | None, scheme: Scheme, node: Node | None = None) -> Tensor:
        """The constant as integers: those that are known for a node, else the nearest; in blocks of rows for operators
        that take such, else with a scale for each slice of the axis.
        """
        if node is not None and node in self.rounded:
            return self.made.setdefault((t, axis, scheme), self.rounded[node])
        if (t, axis, scheme) not in self.made:
            in_blocks = scheme.block and axis is not None and axis < t.type.rank - 1
            if in_blocks and t.type.shape[-1] % scheme.block == 0:
                self.made[t, axis, scheme] = _in_blocks(t, scheme)
            else:
                self.made[t, axis, scheme] = _narrowed(t, axis if scheme.channels else None, axis, scheme)
        return self.made[t, axis, scheme]

    def widened(self, stored: Tensor, kind: TensorType) -> Tensor:
        """The constant as real numbers again, of a DEQUANTIZE."""
        if stored not in self.wide:
            q = stored.type.quantization
            assert q is not None
            wide = self._from_blocks(stored, q, kind) if q.block else self._dequantized(stored)
            self.wide[stored] = wide
        return self.wide[stored]

    def _dequantized(self, stored: Tensor) -> Tensor:
        return self._made("DEQUANTIZE", f"{stored.name}_wide", stored.type.shape, stored)

    def _from_blocks(self, stored: Tensor, q: Quantization, kind: TensorType) -> Tensor:
        assert stored.data is not None
        rows = stored.data.reshape(-1, q.block)
        scales = np.asarray(q.scale, np.float16).reshape(-1, 1)
        steps = Tensor(stored.name, TensorType(stored.type.dtype, rows.shape, Quantization((1.0,), (0,))), rows)
        halves = Tensor(f"{stored.name}_scales", TensorType(FLOAT16, scales.shape), scales)
        wide, each = self._dequantized(steps), self._dequantized(halves)
        shape = np.asarray(kind.shape, np.int32)
        wanted = Tensor(f"{stored.name}_shape", TensorType(INT32, shape.shape), shape)
        product = self._made("MUL", f"{stored.name}_blocks", rows.shape, wide, each)
        return self._made("RESHAPE", f"{stored.name}_whole", kind.shape, product, wanted, new_shape=kind.shape)

    def _made(self, name: str, result: str, shape: Shape, *operands: Tensor, **attrs: object) -> Tensor:
        op, made = REGISTRY.by_name[name], Tensor(result, TensorType(FLOAT32, shape))
        self.before.append(Node(op, op.Attrs(**attrs), list(operands), [made]))
        return made


def _constant(node: Node, i: int) -> Tensor:
    t = node.inputs[i]
    assert t is not None
    return t


def _axis(node: Node, i: int) -> int | None:
    """The axis of a constant along which outputs, or rows that are looked up, lie; None where nothing says it."""
    if i != WEIGHTS_OPERAND:
        return None
    return node.op.weights_axis if node.op.weights_axis is not None else 0 if node.op.blocks else None


def _best_axis(t: Tensor, scheme: Scheme) -> int:
    """The axis that loses least if each of its slices has a scale."""
    assert t.data is not None
    losses = []
    for axis in range(t.type.rank):
        narrow = _narrowed(t, axis, axis, scheme)
        assert narrow.type.quantization is not None
        assert narrow.data is not None
        shape = [-1 if a == axis else 1 for a in range(t.type.rank)]
        scales = np.asarray(narrow.type.quantization.scale, np.float32).reshape(shape)
        losses.append(float(((narrow.data * scales - t.data) ** 2).sum()))
    return int(np.argmin(losses))


def _is_table(node: Node, scheme: Scheme) -> bool:
    """Whether a node looks rows up in a large constant: it moves elements of any type, and nothing else is real."""
    if not issubclass(node.op, Movement) or len(node.outputs) != 1 or node.outputs[0].type.dtype != FLOAT32:
        return False
    real = [t for t in node.inputs if t is not None and t.type.dtype == FLOAT32]
    if len(real) != 1 or real[0] is not node.inputs[0] or weights_beside_reals(node, INT8):
        return False
    data = real[0].data
    if data is None or _is_sparse(real[0]):
        return False
    return data.size > max(scheme.least, LEAST_WEIGHTS) and bool(np.isfinite(data).all())


def _widened(node: Node) -> Node:
    """y = GATHER(integers, i)  ->  rows = GATHER(integers, i); y = DEQUANTIZE(rows)"""
    y, table = node.outputs[0], _constant(node, 0)
    stored = replace(y.type, dtype=table.type.dtype, quantization=table.type.quantization)
    rows = Tensor(f"{y.name}_rows", stored, shape_signature=y.shape_signature)
    node.outputs = [rows]
    return Node(REGISTRY.by_name["DEQUANTIZE"], NoAttrs(), [rows], [y])


def _narrowed(t: Tensor, axis: int | None, written: int | None, scheme: Scheme) -> Tensor:
    """A constant as integers, with a scale for each slice of an axis (None: for all), written along an axis."""
    assert t.data is not None
    assert scheme.weights is not None
    if axis is None:
        flat = _scales(t.data.reshape(1, -1), 0, scheme.weights)
        values = as_weights(t.data.reshape(1, -1), flat, scheme.weights).reshape(t.data.shape)
        count = 1 if written is None else t.type.shape[written]
        q = Quantization(flat.scale * count, flat.zero_point * count, written or 0)
    else:
        q = _scales(t.data, axis, scheme.weights)
        values = as_weights(t.data, q, scheme.weights)
    return Tensor(t.name, replace(t.type, dtype=scheme.weights, quantization=q), values)


def _in_blocks(t: Tensor, scheme: Scheme) -> Tensor:
    """A constant as integers with a scale for each block of a row; they are float16, as files have them."""
    assert t.data is not None
    assert scheme.weights is not None
    blocks = t.data.reshape(-1, scheme.block)
    scale = np.asarray(_scales(blocks, 0, scheme.weights).scale, np.float32)
    halves = np.clip(scale.astype(np.float16), np.finfo(np.float16).tiny, LARGEST_HALF)
    q = Quantization(tuple(map(float, halves)), (0,) * len(halves), 0, scheme.block)
    values = as_weights(blocks, replace(q, block=0), scheme.weights).reshape(t.data.shape)
    return Tensor(t.name, replace(t.type, dtype=scheme.weights, quantization=q), values)


def _scales(weights: np.ndarray, axis: int, dtype: DType) -> Quantization:
    """The scales of slices: what reaches the largest weight in 8 bits, what has the least squared error in fewer."""
    widest = weights_scale(weights, axis, dtype)
    if dtype.stored_bits >= 8:
        return widest
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.float32)
    scale = np.asarray(widest.scale, np.float32)
    best, least = scale, np.full(len(scale), np.inf, np.float32)
    for shrink in SHRINKS:
        tried = np.float32(shrink) * scale
        stored = np.clip(np.rint(rows / tried[:, None]), -dtype.maximum, dtype.maximum)
        loss = ((stored * tried[:, None] - rows) ** 2).sum(1)
        best, least = np.where(loss < least, tried, best), np.minimum(loss, least)
    return replace(widest, scale=tuple(map(float, best)))


def weights_beside_reals(node: Node, dtype: DType) -> list[int]:
    """The operands of a node on real numbers that may be constant integers instead; none without such a form."""
    for signature in node.op.signatures:
        for words, results in signature.expanded():
            places = _places(node, words, results, dtype)
            if places:
                return places
    return []


def _places(node: Node, words: tuple[str, ...], results: tuple[str, ...], dtype: DType) -> list[int]:
    """Where integers are wanted by a combination that fits in everything else."""
    if len(node.inputs) > len(words) and not (words and words[-1].endswith("*")):
        return []
    places = []
    for i, t in enumerate(node.inputs):
        word = words[min(i, len(words) - 1)].rstrip("?*")
        if t is None or t.type.dtype.name == word:
            continue
        constant = t.data is not None and t.type.dtype == FLOAT32 and np.isfinite(t.data).all()
        if word != f"{dtype.name}q" or not constant or _is_sparse(t):
            return []
        places.append(i)
    fits = all(t.type.dtype.name == results[min(i, len(results) - 1)].rstrip("?*") for i, t in enumerate(node.outputs))
    return places if fits else []


def _is_sparse(t: Tensor) -> bool:
    """Whether a file holds the constant without its zeros, which its readers expect of this type."""
    return "sparsity" in t.extras
