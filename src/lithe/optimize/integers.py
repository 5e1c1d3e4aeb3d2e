"""Operators of real numbers as operators on integers: which can be, and in which scales.

An operator is computed on integers where its class has a combination of types for that (`Op.types`) and its operands
play the parts in it: values that have a range (stored), constant weights, a constant bias, what a fused operator has
inside, and what is no real number at all. Operators that run other graphs hand on values that are stored there.
A combination that the official runtime does not answer to (`lithe.ops.official_table`) is none.

    real = scale * (stored - zero_point)         stored values: one scale for the tensor, zero is exact
    weights: symmetric, a scale for each output; bias: scale of the input * scale of the weights
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.official_table import UNANSWERED
from lithe.ops.op import Fused, Site
from lithe.optimize.calibration import Range
from lithe.optimize.calls import Place, as_one_type, carried
from lithe.optimize.inside import Seen
from lithe.optimize.ranges import within_reach
from lithe.optimize.recipes import WEIGHTS_OPERAND, Plan, Scheme
from lithe.types import DTYPES, FLOAT32, INT16, DType, Quantization

STORED, WEIGHTS, BIAS, INSIDE, OTHER = "stored", "weights", "bias", "inside", "other"
Stored = tuple[Tensor, DType]  # a tensor as integers of a type
FEWER = 8  # times fewer integers than a tensor of its own would have
LARGEST_BIAS = 1 << 30  # as an int32: sums have as much room again


@dataclass(frozen=True)
class Form:
    """The parts that a node's operands play in its integer form, and the types that these have.

    fused, types  of a fused operator: where its values inside have their scales from, and its operands' types.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scheme: Scheme
    fused: Fused | None = field(default=None, compare=False)
    types: tuple[DType | None, ...] = ()

    @property
    def values(self) -> DType:
        assert self.scheme.values is not None
        return self.scheme.values


def integer_form(node: Node, scheme: Scheme) -> Form | None:
    """How a node of a float graph is computed on integers by a scheme, None where it cannot be."""
    if scheme.values is None:
        return None
    if node.op.fused is not None:
        return _fused_form(node, scheme)
    for signature in node.op.signatures:
        for words, results in signature.expanded():
            if not {scheme.values.name, f"{scheme.values.name}q"}.isdisjoint(
                UNANSWERED.get(node.op.name, frozenset()).intersection(w.rstrip("?*") for w in words)
            ):
                continue
            if len(node.inputs) > len(words) and not (words and words[-1].endswith("*")):
                continue
            inputs = [_part(node, i, _word(words, i), scheme) for i in range(len(node.inputs))]
            outputs = [_result(t, _word(results, i), node, scheme) for i, t in enumerate(node.outputs)]
            if None not in (*inputs, *outputs) and STORED in outputs:
                return Form(tuple(map(str, inputs)), tuple(map(str, outputs)), scheme)
    return None


def _fused_form(node: Node, scheme: Scheme) -> Form | None:
    """That of an operator with values inside: real weights and states go with the type of its first operand."""
    assert scheme.values is not None
    if any(t is not None and (t.type.dtype != FLOAT32 or not is_finite(t.data)) for t in node.inputs):
        return None
    fused, first = node.op.fused(Site.of(node)), f"{scheme.values.name}q"
    if fused is None or scheme.weights is None or first in UNANSWERED.get(node.op.name, ()):
        return None
    for signature in node.op.signatures:
        for words, _ in signature.expanded():
            if words[0] == first and _word(words, WEIGHTS_OPERAND) == f"{scheme.weights.name}q":
                parts = (STORED, *(OTHER if t is None else INSIDE for t in node.inputs[1:]))
                types = tuple(DTYPES[_word(words, i).removesuffix("q")] for i in range(len(parts)))
                return Form(parts, (STORED,) * len(node.outputs), scheme, fused, types)
    return None


def is_finite(data: np.ndarray | None) -> bool:
    """Whether a constant, if it is one, can be integers."""
    return data is None or bool(np.isfinite(data).all())


def integer_forms(
    module: Module, graphs: Sequence[Graph], plan: Plan, known: Container[Seen]
) -> tuple[dict[Node, Form], dict[frozenset[Place], DType]]:
    """The forms of all nodes of some graphs that have one, and of the nodes that run graphs in which there are such;
    and the values that those hand on as integers, as what.

    known  the tensors that have a range. Others are constant, variable, without elements, or their operators were never
           run, if not one of these is known.
    """
    forms = {}
    divisors = {t for graph in graphs for t in _never_zero(graph)}
    for node, scheme in ((n, s) for graph in graphs for n, s in plan.integers(graph).items()):
        form = None if divisors.intersection(node.outputs) else integer_form(node, scheme)
        if form is not None and any(t in known for t in stored_operands(node, form)):
            forms[node] = form
    for node in (n for graph in graphs for n in _decided_by(graph, forms)):
        del forms[node]
    groups, values = carried(module, graphs), {n: plan.of(n).values for graph in graphs for n in graph.nodes}
    handed: dict[frozenset[Place], DType] = {}
    count = -1
    while count != len(forms):  # what is handed on as integers inside of a graph may make its caller hand it on so
        count = len(forms)
        ends = {t for graph in graphs if graph is not module.main for t in (*graph.inputs, *graph.outputs)}
        stored = {t: form.values for n, form in forms.items() for t in stored_operands(n, form) if t in ends}
        handed = as_one_type(groups, stored, values)
        chosen = {place for group in handed for place in group}
        for node in {p[0] for p in chosen if isinstance(p, tuple)}:
            inputs = tuple(STORED if (node, i) in chosen else OTHER for i in range(len(node.inputs)))
            outputs = tuple(STORED if t in chosen else OTHER for t in node.outputs)
            forms[node] = Form(inputs, outputs, plan.of(node))
    return forms, handed


def _never_zero(graph: Graph) -> set[Tensor]:
    """The tensors of which no element may be stored as zero, and those whose elements they take."""
    found: set[Tensor] = set()
    for node in reversed(graph.nodes):
        if node.op.never_zero is not None:
            found.update(t for t in node.inputs[node.op.never_zero :][:1] if t is not None)
        if node.op.keeps_scale and found.intersection(node.outputs):
            found.update(t for t in node.inputs if t is not None)
    return found


def _decided_by(graph: Graph, forms: Collection[Node]) -> list[Node]:
    """The nodes behind the last weights that compute what is decided by: several real operands from which an operator
    makes integers (boxes and scores, of which one chooses). Scores that are stored as the same integer decide nothing.
    """
    found, wanted = [], set[Tensor]()
    for node in reversed(graph.nodes):
        real = [t for t in node.inputs if t is not None and t.data is None and t.type.dtype.is_float]
        whole = [t for t in node.outputs if t.type.dtype.is_integer]
        decides = node not in forms and len(real) > 1 and whole and not node.op.calls
        if decides or (wanted.intersection(node.outputs) and node.op.weights_axis is None):
            wanted.update(real)
            found += [node] if node in forms else []
    return found


def handed_on(handed: Mapping[frozenset[Place], DType]) -> Iterator[list[Stored]]:
    """For each value that calls hand on, the tensors that hold it."""
    for group, dtype in handed.items():
        tensors = (p if isinstance(p, Tensor) else p[0].inputs[p[1]] for p in group)
        yield [(t, dtype) for t in dict.fromkeys(tensors) if t is not None]


def _word(words: tuple[str, ...], i: int) -> str:
    return words[min(i, len(words) - 1)].rstrip("?*")


def _part(node: Node, i: int, word: str, scheme: Scheme) -> str | None:
    t = node.inputs[i]
    if t is None:
        return OTHER
    if i == node.op.never_zero:
        return None
    if node.op.weights_axis is not None and i == WEIGHTS_OPERAND:
        weights = scheme.weights
        fits = weights is not None and t.data is not None and t.type.dtype in (FLOAT32, weights)
        return WEIGHTS if fits and weights is not None and word == f"{weights.name}q" else None
    if t.type.dtype != FLOAT32:
        return OTHER if t.type.dtype.name == word.removesuffix("q") else None
    if word == scheme.bias.name:
        return BIAS if t.data is not None and node.op.weights_axis is not None else None
    return STORED if _is_stored(word, node, scheme) else None


def _result(t: Tensor, word: str, node: Node, scheme: Scheme) -> str | None:
    if t.type.dtype != FLOAT32:
        return OTHER if t.type.dtype.name == word else None
    return STORED if _is_stored(word, node, scheme) else None


def _is_stored(word: str, node: Node, scheme: Scheme) -> bool:
    stored = scheme.values
    return stored is not None and (word == f"{stored.name}q" or (node.op.keeps_scale and word == stored.name))


# scales


def stored_scale(low: float, high: float, dtype: DType) -> Quantization:
    """The scale and zero point with which integers reach from low to high, and zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:  # nothing was seen but zeros: kernels refuse sums whose scale is far above their result's
        return Quantization((1.0,), (0,))
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

    Tensors between which elements only move have one. Some operators give theirs. What of a table no sample looked up
    is cut off where that costs the table less than finer steps for the rest are worth. What is put beside far larger
    numbers, and is computed with too, keeps its own scale for that.
    """

    def __init__(
        self,
        forms: Mapping[Node, Form],
        ranges: Mapping[Seen, Range],
        handed: Iterable[list[Stored]] = (),
        computed_with: Collection[Tensor] = (),
    ) -> None:
        """
        handed         for each value that calls hand on as integers, its tensors.
        computed_with  the tensors that some operator reads that does not only move them.
        """
        self._ranges = ranges
        self._group: dict[Stored, Stored] = {}
        members: dict[Stored, list[Stored]] = {}
        operands = {node: [(t, form.values) for t in stored_operands(node, form)] for node, form in forms.items()}
        for node, stored in operands.items():
            if node.op.keeps_scale:
                for other in stored:
                    if not self._is_small(node, forms[node], *other):
                        self._join(stored[-1], other)
        handed = list(handed)
        for stored in handed:
            for other in stored[1:]:
                self._join(stored[0], other)
        fine = {self._root(one) for stored in operands.values() for one in stored if one[0] in computed_with}
        self._rescaled: dict[tuple[Node, Tensor], Stored] = {}
        for node, stored in operands.items():
            for other in stored if node.op.keeps_scale else ():
                if self._root(other) != self._root(stored[-1]):
                    if self._root(other) in fine:
                        self._rescaled[node, other[0]] = stored[-1]
                    else:
                        self._join(stored[-1], other)
        for stored in (*operands.values(), *handed):
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

    def inside(self, node: Node, name: str) -> Range:
        """The range of a value inside a node."""
        return self._ranges.get((node, name), (0.0, 0.0))

    def read(self, node: Node, tensor: Tensor, dtype: DType) -> Quantization:
        """With which a node reads the tensor in this type."""
        return self.of(*self._rescaled.get((node, tensor), (tensor, dtype)))

    def _is_small(self, node: Node, form: Form, tensor: Tensor, dtype: DType) -> bool:
        """Whether it is an operand beside far larger ones, so that their scale would leave few integers to it."""
        operands = [t for t, part in zip(node.inputs, form.inputs, strict=True) if part == STORED and t is not None]
        if len(operands) < 2 or tensor not in operands or tensor.data is not None:
            return False
        span, whole = (max(high, 0.0) - min(low, 0.0) for low, high in map(self._range, (tensor, node.outputs[0])))
        return span * FEWER < whole

    def of(self, tensor: Tensor, dtype: DType) -> Quantization:
        """With which the tensor is read in this type, by all who do not put it beside far larger numbers."""
        root = self._root((tensor, dtype))
        return self._of_group[root] if root in self._of_group else stored_scale(*self._range(tensor), dtype)

    def made(self, tensor: Tensor, dtype: DType) -> Quantization:
        """With which the operator that computes the tensor writes it."""
        return self._given.get((tensor, dtype)) or self.of(tensor, dtype)

    def _agreed(self, members: Collection[Stored]) -> Quantization:
        given = {self._given[one] for one in members if one in self._given}
        free = [one[0] for one in members if one not in self._given]
        (dtype,) = {dtype for _, dtype in members}
        ends = _union(map(self._range, free))
        for q in given if len(given) == 1 else ():
            least, most = _ends(q, dtype)
            if least <= ends[0] and ends[1] <= most + q.scale[0]:
                return q
        reached = [_ends(q, dtype) for q in given]
        constants = [t.data for t in free if t.data is not None]
        computed = _union([*(self._range(t) for t in free if t.data is None), *reached])
        whole, narrow = (stored_scale(*_union([e, *reached]), dtype) for e in (ends, computed))
        if len(constants) in (0, len(free)) or whole == narrow:
            return whole
        return min(whole, narrow, key=lambda q: sum(_squared_error(data, q, dtype) for data in constants))

    def _range(self, t: Tensor) -> Range:
        if t.data is not None:
            data = within_reach(t.data)
            return (float(data.min()), float(data.max())) if data.size else (0.0, 0.0)
        return self._ranges.get(t, (0.0, 0.0))

    def _root(self, one: Stored) -> Stored:
        while self._group.get(one, one) != one:
            one = self._group[one]
        return one

    def _join(self, a: Stored, b: Stored) -> None:
        self._group[self._root(a)] = self._root(b)


def _union(ranges: Iterable[Range]) -> Range:
    lows, highs = zip((0.0, 0.0), *ranges, strict=True)
    return min(lows), max(highs)


def _squared_error(data: np.ndarray, q: Quantization, dtype: DType) -> float:
    """What storing a constant costs."""
    stored = as_stored(data, q, dtype).astype(np.float64) - q.zero_point[0]
    return float(((stored * q.scale[0] - within_reach(data)) ** 2).sum())


def _ends(q: Quantization, dtype: DType) -> Range:
    scale, zero = q.scale[0], q.zero_point[0]
    return (dtype.minimum - zero) * scale, (dtype.maximum - zero) * scale


def stored_operands(node: Node, form: Form) -> Iterator[Tensor]:
    for t, part in zip((*node.inputs, *node.outputs), (*form.inputs, *form.outputs), strict=True):
        if part == STORED and t is not None:
            yield t
