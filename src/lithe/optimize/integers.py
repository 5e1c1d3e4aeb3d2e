"""A float graph as one of integers: which operators can be, in which scales, and what stands between them and the rest.

An operator is computed on integers where its class has a combination of types for that (`Op.types`) and its operands
play the parts in it: values that have a range (stored), constant weights, a constant bias, and what is no real number
at all. Operators without one stay as they are, behind a DEQUANTIZE and before a QUANTIZE.

    real = scale * (stored - zero_point)         stored values: one scale for the tensor, zero is exact
    weights: symmetric, a scale for each output; bias: scale of the input * scale of the weights
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.optimize.calibration import Range
from lithe.optimize.recipes import WEIGHTS_OPERAND, Scheme
from lithe.types import FLOAT32, INT16, DType, Quantization, TensorType

STORED, WEIGHTS, BIAS, OTHER = "stored", "weights", "bias", "other"
LARGEST_BIAS = 1 << 30  # as an int32: sums have as much room again


@dataclass(frozen=True)
class Form:
    """The parts that a node's operands play in its integer form, and the types that these have."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scheme: Scheme

    @property
    def values(self) -> DType:
        assert self.scheme.values is not None
        return self.scheme.values


def integer_form(node: Node, scheme: Scheme) -> Form | None:
    """How a node of a float graph is computed on integers by a scheme, None where it cannot be."""
    if scheme.values is None:
        return None
    for signature in node.op.signatures:
        for words, results in signature.expanded():
            if len(node.inputs) > len(words) and not (words and words[-1].endswith("*")):
                continue
            inputs = [_part(node, i, _word(words, i), scheme) for i in range(len(node.inputs))]
            outputs = [_result(t, _word(results, i), node, scheme) for i, t in enumerate(node.outputs)]
            if None not in (*inputs, *outputs) and STORED in outputs:
                return Form(tuple(map(str, inputs)), tuple(map(str, outputs)), scheme)
    return None


def _word(words: tuple[str, ...], i: int) -> str:
    return words[min(i, len(words) - 1)].rstrip("?*")


def _part(node: Node, i: int, word: str, scheme: Scheme) -> str | None:
    t = node.inputs[i]
    if t is None:
        return OTHER
    if node.op.weights_axis is not None and i == WEIGHTS_OPERAND:
        weights = scheme.weights
        fits = weights is not None and t.data is not None and t.type.dtype in (FLOAT32, weights)
        return WEIGHTS if fits and weights is not None and word == f"{weights.name}q" else None
    if t.type.dtype != FLOAT32:
        return OTHER if t.type.dtype.name == word.removesuffix("q") else None
    if word == scheme.bias.name:
        return BIAS if t.data is not None and node.op.weights_axis is not None else None
    return STORED if not t.is_variable and _is_stored(word, node, scheme) else None


def _result(t: Tensor, word: str, node: Node, scheme: Scheme) -> str | None:
    if t.type.dtype != FLOAT32:
        return OTHER if t.type.dtype.name == word else None
    return STORED if _is_stored(word, node, scheme) else None


def _is_stored(word: str, node: Node, scheme: Scheme) -> bool:
    stored = scheme.values
    return stored is not None and (word == f"{stored.name}q" or (node.op.keeps_scale and word == stored.name))


# scales

Stored = tuple[Tensor, DType]  # a tensor as integers of a type


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
    """The scale and zero point of every stored tensor of a graph, in each type in which it is stored.

    Tensors between which elements only move have one. Some operators give theirs.
    """

    def __init__(self, forms: Mapping[Node, Form], ranges: Mapping[Tensor, Range]) -> None:
        self._ranges = ranges
        self._group: dict[Stored, Stored] = {}
        members: dict[Stored, list[Stored]] = {}
        operands = {node: [(t, form.values) for t in stored_operands(node, form)] for node, form in forms.items()}
        for node, stored in operands.items():
            if node.op.keeps_scale:
                for other in stored[1:]:
                    self._join(stored[0], other)
        for stored in operands.values():
            for one in stored:
                members.setdefault(self._root(one), []).append(one)
        self._given = {
            (t, form.values): Quantization((scale,), (zero,))
            for node, form in forms.items()
            for t in node.outputs
            for scale, zero in [node.op.result_scales.get(form.values.name, (0.0, 0))]
            if scale
        }
        self._of_group = {root: self._agreed(dict.fromkeys(ones)) for root, ones in members.items()}

    def of(self, tensor: Tensor, dtype: DType) -> Quantization:
        """With which the tensor is read in this type."""
        root = self._root((tensor, dtype))
        return self._of_group[root] if root in self._of_group else stored_scale(*self._range(tensor), dtype)

    def made(self, tensor: Tensor, dtype: DType) -> Quantization:
        """With which the operator that computes the tensor writes it."""
        return self._given.get((tensor, dtype)) or self.of(tensor, dtype)

    def _agreed(self, members: Collection[Stored]) -> Quantization:
        given = {self._given[one] for one in members if one in self._given}
        ranges = [self._range(one[0]) for one in members if one not in self._given]
        low, high = min((r[0] for r in ranges), default=0.0), max((r[1] for r in ranges), default=0.0)
        (dtype,) = {dtype for _, dtype in members}
        for q in given if len(given) == 1 else ():
            least, most = _ends(q, dtype)
            if least <= low and high <= most + q.scale[0]:
                return q
        reached = [(low, high), *(_ends(q, dtype) for q in given)]
        return stored_scale(min(r[0] for r in reached), max(r[1] for r in reached), dtype)

    def _range(self, t: Tensor) -> Range:
        if t.data is not None:
            return (float(t.data.min()), float(t.data.max())) if t.data.size else (0.0, 0.0)
        return self._ranges.get(t, (0.0, 0.0))

    def _root(self, one: Stored) -> Stored:
        while self._group.get(one, one) != one:
            one = self._group[one]
        return one

    def _join(self, a: Stored, b: Stored) -> None:
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

    def __init__(self, forms: Mapping[Node, Form], scales: Scales) -> None:
        self.forms, self.scales = forms, scales
        self.nodes: list[Node] = []
        self.stored: dict[Stored, Tensor] = {}
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

    def as_integers(self, t: Tensor, dtype: DType) -> Tensor:
        """The tensor for operators that compute with integers of this type."""
        if (t, dtype) not in self.stored:
            q = self.scales.of(t, dtype)
            kind = TensorType(dtype, t.type.shape, q)
            written = self.written.get(t)
            if t.data is not None:
                self.stored[t, dtype] = Tensor(t.name, kind, as_stored(t.data, q, dtype))
            elif written is not None and (written.type.dtype, written.type.quantization) == (dtype, q):
                self.stored[t, dtype] = written
            else:
                self.stored[t, dtype] = self._add("QUANTIZE", written or t, f"{t.name}_stored", kind)
        return self.stored[t, dtype]

    def _add(self, op: str, source: Tensor, name: str, kind: TensorType) -> Tensor:
        made = Tensor(name, kind, shape_signature=source.shape_signature)
        self.nodes.append(Node(REGISTRY.by_name[op], NoAttrs(), [source], [made]))
        return made

    def write(self, t: Tensor, dtype: DType) -> Tensor:
        """The tensor that an operator on integers of this type writes."""
        kind = TensorType(dtype, t.type.shape, self.scales.made(t, dtype))
        self.written[t] = Tensor(t.name, kind, shape_signature=t.shape_signature)
        return self.written[t]

    def take(self, t: Tensor, dtype: DType, read: DType) -> Tensor:
        """An input of the graph that is integers of one type, and is read as another."""
        kind = self._of_end(t, self.scales.of(t, read), read, dtype)
        self.written[t] = Tensor(t.name, kind, shape_signature=t.shape_signature)
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
        return self._add(
            "QUANTIZE", written, t.name, self._of_end(t, written.type.quantization, written.type.dtype, dtype)
        )

    def _of_end(self, t: Tensor, q: Quantization, inside: DType, dtype: DType) -> TensorType:
        """The type of an end of the graph: the same steps as inside where it has as many bits."""
        if dtype.bits != inside.bits:
            return TensorType(dtype, t.type.shape, self.scales.of(t, dtype))
        zero = q.zero_point[0] - inside.minimum + dtype.minimum
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
                self.write(t, form.values) if part == STORED else t
                for t, part in zip(node.outputs, form.outputs, strict=True)
            ]

    def _operands(self, node: Node, form: Form) -> list[Tensor | None]:
        made: list[Tensor | None] = []
        for t, part in zip(node.inputs, form.inputs, strict=True):
            made.append(self.as_integers(t, form.values) if part == STORED and t is not None else t)
        if WEIGHTS in form.inputs:
            self._weigh(node, form, made)
        return made

    def _weigh(self, node: Node, form: Form, operands: list[Tensor | None]) -> None:
        """Weights and bias, in scales that follow from one another and from the input's."""
        place, axis, dtype = form.inputs.index(WEIGHTS), node.op.weights_axis, form.scheme.weights
        (source,) = [t for t, part in zip(operands, form.inputs, strict=True) if part == STORED and t is not None]
        weights = node.inputs[place]
        assert source.type.quantization is not None
        assert weights is not None
        assert weights.data is not None
        assert dtype is not None
        assert axis is not None
        scale = source.type.quantization.scale[0]
        bias = next((t for t, part in zip(node.inputs, form.inputs, strict=True) if part == BIAS), None)
        q = weights.type.quantization
        if weights.type.dtype == FLOAT32 or q is None:
            least = 0.0 if bias is None or bias.data is None else np.abs(bias.data) / (scale * LARGEST_BIAS)
            q = weights_scale(weights.data, axis, dtype, least)
            if not form.scheme.channels:
                q = replace(q, scale=(max(q.scale),) * len(q.scale))
            kind = replace(weights.type, dtype=dtype, quantization=q)
            operands[place] = Tensor(weights.name, kind, as_weights(weights.data, q, dtype))
        if bias is not None and bias.data is not None:
            steps = tuple(float(np.float32(scale) * np.float32(s)) for s in q.scale)
            values = np.rint(bias.data.astype(np.float64) / np.asarray(steps)).astype(form.scheme.bias.numpy)
            kind = TensorType(form.scheme.bias, bias.type.shape, Quantization(steps, (0,) * len(steps)))
            operands[form.inputs.index(BIAS)] = Tensor(bias.name, kind, values)


def as_integer_graph(
    graph: Graph, ranges: Mapping[Tensor, Range], schemes: Mapping[Node, Scheme], ends: Ends
) -> dict[Tensor, Tensor]:
    """Rewrites the graph itself; returns what its inputs and outputs have become, where they have.

    ranges   of the float tensors that are computed, and of the inputs.
    schemes  of the nodes that are to compute on integers.
    """
    found = ((n, integer_form(n, schemes[n])) for n in graph.nodes if n in schemes)
    forms = {n: form for n, form in found if form is not None}
    rewriting = _Rewriting(forms, Scales(forms, ranges))
    read = {t: form.values for n, form in forms.items() for t in stored_operands(n, form)}
    became = {t: rewriting.take(t, ends.inputs, read[t]) for t in graph.inputs if t in read and ends.inputs != FLOAT32}
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
