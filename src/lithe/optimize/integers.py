"""A float graph as one of integers: which operators can be, in which scales, and what stands between them and the rest.

An operator is computed on integers where its class has a combination of types for that (`Op.types`) and its operands
play the parts in it: values that have a range (stored), constant weights, a constant bias, and what is no real number
at all. Operators without one stay as they are, behind a DEQUANTIZE and before a QUANTIZE.

    real = scale * (stored - zero_point)         stored values: one scale for the tensor, zero is exact
    weights: symmetric, a scale for each output; bias: scale of the input * scale of the weights
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.optimize.calibration import Range
from lithe.types import FLOAT32, INT8, INT16, INT32, INT64, DType, Quantization, TensorType

STORED, WEIGHTS, BIAS, OTHER = "stored", "weights", "bias", "other"
WEIGHTS_OPERAND = 1
LARGEST_BIAS = 1 << 30  # as an int32: sums have as much room again


@dataclass(frozen=True)
class Kinds:
    """The element types of an integer graph: of stored values, weights and biases."""

    stored: DType = INT8
    weights: DType = INT8
    bias: DType = INT32


BYTES = Kinds()
WORDS = Kinds(INT16, INT8, INT64)


@dataclass(frozen=True)
class Form:
    """The parts that a node's operands play in its integer form."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def integer_form(node: Node, kinds: Kinds) -> Form | None:
    """How a node of a float graph is computed on integers, None where it cannot be."""
    for signature in node.op.signatures:
        for words, results in signature.expanded():
            if len(node.inputs) > len(words) and not (words and words[-1].endswith("*")):
                continue
            inputs = [_part(node, i, _word(words, i), kinds) for i in range(len(node.inputs))]
            outputs = [_result(t, _word(results, i), node, kinds) for i, t in enumerate(node.outputs)]
            if None not in (*inputs, *outputs) and STORED in outputs:
                return Form(tuple(map(str, inputs)), tuple(map(str, outputs)))
    return None


def _word(words: tuple[str, ...], i: int) -> str:
    return words[min(i, len(words) - 1)].rstrip("?*")


def _part(node: Node, i: int, word: str, kinds: Kinds) -> str | None:
    t = node.inputs[i]
    if t is None:
        return OTHER
    if node.op.weights_axis is not None and i == WEIGHTS_OPERAND:
        fits = t.data is not None and t.type.dtype in (FLOAT32, kinds.weights)
        return WEIGHTS if fits and word == f"{kinds.weights.name}q" else None
    if t.type.dtype != FLOAT32:
        return OTHER if t.type.dtype.name == word.removesuffix("q") else None
    if word == kinds.bias.name:
        return BIAS if t.data is not None and node.op.weights_axis is not None else None
    return STORED if not t.is_variable and _is_stored(word, node, kinds) else None


def _result(t: Tensor, word: str, node: Node, kinds: Kinds) -> str | None:
    if t.type.dtype != FLOAT32:
        return OTHER if t.type.dtype.name == word else None
    return STORED if _is_stored(word, node, kinds) else None


def _is_stored(word: str, node: Node, kinds: Kinds) -> bool:
    return word == f"{kinds.stored.name}q" or (node.op.keeps_scale and word == kinds.stored.name)


# scales


def stored_scale(low: float, high: float, dtype: DType) -> Quantization:
    """The scale and zero point with which integers reach from low to high, and zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == INT16:  # the format has no zero points in 16 bits
        return Quantization((float(np.float32(max(-low, high, 1e-9) / dtype.maximum)),), (0,))
    levels = dtype.maximum - dtype.minimum
    scale = np.float32(max((high - low) / levels, 1e-9))
    zero = dtype.minimum - low / float(scale)
    return Quantization((float(scale),), (int(np.clip(round(zero), dtype.minimum, dtype.maximum)),))


def as_stored(data: np.ndarray, q: Quantization, dtype: DType) -> np.ndarray:
    """Integers of real numbers, by one scale; halves go to even."""
    scaled = np.rint(data.astype(np.float64) / q.scale[0]) + q.zero_point[0]
    return np.clip(scaled, dtype.minimum, dtype.maximum).astype(dtype.numpy)


def weights_scale(weights: np.ndarray, axis: int, dtype: DType, least: np.ndarray | float = 0.0) -> Quantization:
    """Symmetric scales, one for each slice of the axis, none less than `least`."""
    others = tuple(a for a in range(weights.ndim) if a != axis)
    largest = np.abs(weights).max(axis=others) if weights.size else np.zeros(weights.shape[axis])
    scale = np.maximum(largest / dtype.maximum, least).astype(np.float32)
    scale[scale < 1e-30] = 1.0  # of weights that are all zero
    return Quantization(tuple(map(float, scale)), (0,) * len(scale), axis)


def as_weights(weights: np.ndarray, q: Quantization, dtype: DType) -> np.ndarray:
    """Integers of weights, from -maximum to maximum."""
    shape = [1] * weights.ndim
    shape[q.axis] = -1
    scale = np.asarray(q.scale, np.float64).reshape(shape)
    return np.clip(np.rint(weights / scale), -dtype.maximum, dtype.maximum).astype(dtype.numpy)


class Scales:
    """The scale and zero point of every stored tensor of a graph.

    Tensors between which elements only move have one. Some operators give theirs.
    """

    def __init__(
        self,
        nodes: Iterable[tuple[Node, Form]],
        ranges: Mapping[Tensor, Range],
        dtype: DType,
    ) -> None:
        self.dtype = dtype
        self._ranges = ranges
        self._group: dict[Tensor, Tensor] = {}
        members: dict[Tensor, list[Tensor]] = {}
        nodes = list(nodes)
        for node, form in nodes:
            tensors = list(stored_operands(node, form))
            if node.op.keeps_scale:
                for t in tensors[1:]:
                    self._join(tensors[0], t)
        for node, form in nodes:
            for t in stored_operands(node, form):
                members.setdefault(self._root(t), []).append(t)
        self._given = {
            t: Quantization((scale,), (zero,))
            for node, form in nodes
            for t in node.outputs
            for scale, zero in [node.op.result_scales.get(dtype.name, (0.0, 0))]
            if scale
        }
        self._of_group = {root: self._agreed(tensors) for root, tensors in members.items()}

    def of(self, tensor: Tensor) -> Quantization:
        """With which the tensor is read."""
        return self._of_group[self._root(tensor)]

    def made(self, tensor: Tensor) -> Quantization:
        """With which the operator that computes the tensor writes it."""
        return self._given.get(tensor, self.of(tensor))

    def _agreed(self, tensors: list[Tensor]) -> Quantization:
        given = {self._given[t] for t in tensors if t in self._given}
        ranges = [self._range(t) for t in tensors if t not in self._given]
        low, high = min((r[0] for r in ranges), default=0.0), max((r[1] for r in ranges), default=0.0)
        for q in given if len(given) == 1 else ():
            least, most = _ends(q, self.dtype)
            if least <= low and high <= most + q.scale[0]:
                return q
        reached = [(low, high), *(_ends(q, self.dtype) for q in given)]
        return stored_scale(min(r[0] for r in reached), max(r[1] for r in reached), self.dtype)

    def _range(self, t: Tensor) -> Range:
        if t.data is not None:
            return (float(t.data.min()), float(t.data.max())) if t.data.size else (0.0, 0.0)
        return self._ranges.get(t, (0.0, 0.0))

    def _root(self, t: Tensor) -> Tensor:
        while self._group.get(t, t) is not t:
            t = self._group[t]
        return t

    def _join(self, a: Tensor, b: Tensor) -> None:
        self._group[self._root(a)] = self._root(b)


def _ends(q: Quantization, dtype: DType) -> Range:
    scale, zero = q.scale[0], q.zero_point[0]
    return (dtype.minimum - zero) * scale, (dtype.maximum - zero) * scale


def stored_operands(node: Node, form: Form) -> Iterator[Tensor]:
    for t, part in zip((*node.inputs, *node.outputs), (*form.inputs, *form.outputs), strict=True):
        if part == STORED and t is not None:
            yield t


# the graph


@dataclass(frozen=True)
class Ends:
    """The element types of the model's own inputs and outputs of real numbers: float32, or integers."""

    inputs: DType = FLOAT32
    outputs: DType = FLOAT32


class _Rewriting:
    """The new nodes of one graph, and which tensors stand for the old ones: as integers, and as real numbers."""

    def __init__(self, forms: Mapping[Node, Form], scales: Scales, kinds: Kinds) -> None:
        self.forms, self.scales, self.kinds = forms, scales, kinds
        self.nodes: list[Node] = []
        self.stored: dict[tuple[Tensor, Quantization], Tensor] = {}
        self.real: dict[Tensor, Tensor] = {}
        self.written: dict[Tensor, Tensor] = {}  # as the operator that computes it writes it

    def as_real(self, t: Tensor) -> Tensor:
        """The tensor for operators that compute with real numbers."""
        if t not in self.real:
            if t in self.written:
                self.real[t] = self._add(
                    "DEQUANTIZE", self.written[t], f"{t.name}_real", replace(t.type, quantization=None)
                )
            else:
                self.real[t] = t
        return self.real[t]

    def as_integers(self, t: Tensor, q: Quantization | None = None) -> Tensor:
        """The tensor for operators that compute with integers."""
        q = q or self.scales.of(t)
        if (t, q) not in self.stored:
            kind = TensorType(self.kinds.stored, t.type.shape, q)
            if t.data is not None:
                self.stored[t, q] = Tensor(t.name, kind, as_stored(t.data, q, kind.dtype))
            elif t in self.written and self.written[t].type.quantization == q:
                self.stored[t, q] = self.written[t]
            else:
                self.stored[t, q] = self._add("QUANTIZE", self.written.get(t, t), f"{t.name}_stored", kind)
        return self.stored[t, q]

    def _add(self, op: str, source: Tensor, name: str, kind: TensorType) -> Tensor:
        made = Tensor(name, kind, shape_signature=source.shape_signature)
        self.nodes.append(Node(REGISTRY.by_name[op], NoAttrs(), [source], [made]))
        return made

    def write(self, t: Tensor) -> Tensor:
        """The tensor that an operator on integers writes."""
        kind = TensorType(self.kinds.stored, t.type.shape, self.scales.made(t))
        self.written[t] = Tensor(t.name, kind, shape_signature=t.shape_signature)
        return self.written[t]

    def take(self, t: Tensor, dtype: DType) -> Tensor:
        """An input of the graph that is integers of this type."""
        self.written[t] = Tensor(t.name, self._shifted(t, self.scales.of(t), dtype), shape_signature=t.shape_signature)
        return self.written[t]

    def give(self, t: Tensor, dtype: DType) -> Tensor:
        """An output of the graph in this type, under the name that it had."""
        written = self.written[t]
        if dtype == written.type.dtype:
            return written
        written.name = f"{t.name}_stored"
        if dtype == FLOAT32:
            result = self.as_real(t)
            result.name = t.name
            return result
        assert written.type.quantization is not None
        return self._add("QUANTIZE", written, t.name, self._shifted(t, written.type.quantization, dtype))

    def _shifted(self, t: Tensor, q: Quantization, dtype: DType) -> TensorType:
        """The same steps in another type of as many bits."""
        zero = q.zero_point[0] - self.kinds.stored.minimum + dtype.minimum
        return TensorType(dtype, t.type.shape, replace(q, zero_point=(zero,)))

    def node(self, node: Node) -> None:
        form = self.forms.get(node)
        made = replace(node, inputs=[], outputs=list(node.outputs))
        if form is None:
            made.inputs = [t if t is None or t.type.dtype != FLOAT32 else self.as_real(t) for t in node.inputs]
        else:
            made.inputs = self._operands(node, form)
        self.nodes.append(made)
        if form is not None:
            made.outputs = [
                self.write(t) if part == STORED else t for t, part in zip(node.outputs, form.outputs, strict=True)
            ]

    def _operands(self, node: Node, form: Form) -> list[Tensor | None]:
        made: list[Tensor | None] = []
        for t, part in zip(node.inputs, form.inputs, strict=True):
            made.append(self.as_integers(t) if part == STORED and t is not None else t)
        if WEIGHTS in form.inputs:
            self._weigh(node, form, made)
        return made

    def _weigh(self, node: Node, form: Form, operands: list[Tensor | None]) -> None:
        """Weights and bias, in scales that follow from one another and from the input's."""
        place, axis, dtype = form.inputs.index(WEIGHTS), node.op.weights_axis, self.kinds.weights
        (source,) = [t for t, part in zip(operands, form.inputs, strict=True) if part == STORED and t is not None]
        weights = node.inputs[place]
        assert source.type.quantization is not None
        assert weights is not None
        assert weights.data is not None
        scale = source.type.quantization.scale[0]
        bias = next((t for t, part in zip(node.inputs, form.inputs, strict=True) if part == BIAS), None)
        q = weights.type.quantization
        if weights.type.dtype == FLOAT32 or q is None:
            least = 0.0 if bias is None or bias.data is None else np.abs(bias.data) / (scale * LARGEST_BIAS)
            q = weights_scale(weights.data, axis, dtype, least)
            kind = replace(weights.type, dtype=dtype, quantization=q)
            operands[place] = Tensor(weights.name, kind, as_weights(weights.data, q, dtype))
        if bias is not None and bias.data is not None:
            steps = tuple(float(np.float32(scale) * np.float32(s)) for s in q.scale)
            values = np.rint(bias.data.astype(np.float64) / np.asarray(steps)).astype(self.kinds.bias.numpy)
            kind = TensorType(self.kinds.bias, bias.type.shape, Quantization(steps, (0,) * len(steps)))
            operands[form.inputs.index(BIAS)] = Tensor(bias.name, kind, values)


def as_integer_graph(
    graph: Graph, ranges: Mapping[Tensor, Range], kinds: Kinds, ends: Ends, keep: Collection[Node] = ()
) -> dict[Tensor, Tensor]:
    """Rewrites the graph itself; returns what its inputs and outputs have become, where they have.

    ranges  of the float tensors that are computed, and of the inputs.
    keep    nodes that stay as they are.
    """
    found = ((n, integer_form(n, kinds)) for n in graph.nodes if n not in keep)
    forms = {n: form for n, form in found if form is not None}
    rewriting = _Rewriting(forms, Scales(forms.items(), ranges, kinds.stored), kinds)
    read = {t for n, form in forms.items() for t in stored_operands(n, form)}
    became = {t: rewriting.take(t, ends.inputs) for t in graph.inputs if t in read and ends.inputs != FLOAT32}
    for node in graph.nodes:
        rewriting.node(node)
    for t in graph.outputs:
        if t in rewriting.written and t not in became:
            became[t] = rewriting.give(t, ends.outputs)
    graph.nodes = rewriting.nodes
    graph.inputs = [became.get(t, t) for t in graph.inputs]
    graph.outputs = [became.get(t, t) for t in graph.outputs]
    graph.renumber()
    return became
