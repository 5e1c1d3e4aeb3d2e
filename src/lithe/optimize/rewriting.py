"""A float model as one of integers: what stands between operators on integers and the rest, in every graph.

real operator, operator on integers  ->  real operator, QUANTIZE, operator on integers
operator on integers, real operator  ->  operator on integers, DEQUANTIZE, real operator
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs, Scale
from lithe.optimize.calibration import Range
from lithe.optimize.calls import Place, reached
from lithe.optimize.inside import Seen
from lithe.optimize.integers import (
    BIAS,
    INSIDE,
    LARGEST_BIAS,
    STORED,
    WEIGHTS,
    Form,
    Scales,
    as_stored,
    as_weights,
    handed_on,
    integer_forms,
    stored_operands,
    weights_scale,
)
from lithe.optimize.recipes import Plan
from lithe.types import FLOAT32, DType, Quantization, TensorType

POWERS = (-15, -9)  # exponents of the scale of a state that is a power of two, in the format


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
        self.stored: dict[tuple[Tensor, DType, Quantization], Tensor] = {}
        self.real: dict[Tensor, Tensor] = {}
        self.written: dict[Tensor, Tensor] = {}  # as the operator that computes it writes it
        self._variables = {
            t
            for n, form in forms.items()
            for t, part in zip(n.inputs, form.inputs, strict=True)
            if t is not None and t.is_variable and part in (STORED, INSIDE)
        }

    def as_real(self, t: Tensor) -> Tensor:
        """The tensor for operators that compute with real numbers."""
        if t not in self.real or t.is_variable:  # a variable may hold another value by now
            if t in self._variables:
                self._variable(t)
            if t in self.written:
                self.real[t] = self._add(
                    "DEQUANTIZE", self.written[t], f"{t.name}_real", replace(t.type, quantization=None)
                )
            else:
                self.real[t] = t
        return self.real[t]

    def as_integers(self, t: Tensor, dtype: DType, reader: Node | None = None) -> Tensor:
        """The tensor for operators that compute with integers of this type, or for one of them."""
        if t.is_variable:
            self.variable(t, dtype)
        q = self.scales.of(t, dtype) if reader is None else self.scales.read(reader, t, dtype)
        key = (t, dtype, q)
        if key not in self.stored or t.is_variable:
            kind = TensorType(dtype, t.type.shape, q)
            written = self.written.get(t)
            if t.data is not None:
                self.stored[key] = Tensor(t.name, kind, as_stored(t.data, q, dtype))
            elif written is not None and (written.type.dtype, written.type.quantization) == (dtype, q):
                self.stored[key] = written
            else:
                self.stored[key] = self._add("QUANTIZE", written or t, f"{t.name}_stored", kind)
        return self.stored[key]

    def _add(self, op: str, source: Tensor, name: str, kind: TensorType) -> Tensor:
        made = Tensor(name, kind, shape_signature=source.shape_signature)
        self.nodes.append(Node(REGISTRY.by_name[op], NoAttrs(), [source], [made]))
        return made

    def variable(self, t: Tensor, dtype: DType, q: Quantization | None = None) -> Tensor:
        """The variable of integers that stands for one of real numbers; its type may come after its first use."""
        made = self._variable(t)
        made.type = TensorType(dtype, t.type.shape, q or self.scales.of(t, dtype))
        return made

    def _variable(self, t: Tensor) -> Tensor:
        return self.written.setdefault(t, Tensor(t.name, t.type, is_variable=True, shape_signature=t.shape_signature))

    def write(self, t: Tensor, dtype: DType) -> Tensor:
        """The tensor that an operator on integers of this type writes."""
        if t.is_variable:
            return self.variable(t, dtype)
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
            made.inputs = [self._unstored(t) for t in node.inputs]
            self.nodes.append(made)
            for i, t in enumerate(node.outputs):
                if t in self._variables:  # of integers elsewhere
                    made.outputs[i] = Tensor(f"{t.name}_real", t.type)
                    self.nodes.append(
                        Node(REGISTRY.by_name["QUANTIZE"], NoAttrs(), [made.outputs[i]], [self._variable(t)])
                    )
            return
        made.inputs = self._operands(node, form)
        if form.fused is not None:
            self._fuse(node, form, made)
        self.nodes.append(made)
        made.outputs = [
            self.write(t, form.values) if part == STORED else t
            for t, part in zip(node.outputs, form.outputs, strict=True)
        ]

    def _unstored(self, t: Tensor | None) -> Tensor | None:
        return t if t is None or t.type.dtype != FLOAT32 else self.as_real(t)

    def _operands(self, node: Node, form: Form) -> list[Tensor | None]:
        made: list[Tensor | None] = []
        for t, part in zip(node.inputs, form.inputs, strict=True):
            if part == STORED and t is not None:
                made.append(self.as_integers(t, form.values, node))
            else:
                made.append(t if part in (WEIGHTS, BIAS, INSIDE) else self._unstored(t))
        if WEIGHTS in form.inputs:
            self._weigh(node, form, made)
        return made

    def _fuse(self, node: Node, form: Form, made: Node) -> None:
        """Constants, states and intermediates of a fused operator, in the scales that its class names."""
        fused = form.fused
        assert fused is not None
        first, output = made.inputs[0], self.scales.made(node.outputs[0], form.values)
        assert first is not None
        assert first.type.quantization is not None
        found = {"input": first.type.quantization, "output": output}
        names = [name.rstrip("?*") for name in node.op.operands[0]]
        inside = {names[i]: (node.inputs[i], form.types[i]) for i, p in enumerate(form.inputs) if p == INSIDE}
        inside |= {name: (None, dtype) for name, dtype in fused.intermediates if name}

        def quantization(name: str) -> Quantization:
            if name not in found:
                t, dtype = inside[name]
                assert dtype is not None
                scale = fused.scales.get(name, Scale())
                data = None if t is None else t.data
                if scale.how == "like":
                    found[name] = quantization(scale.of[0])
                elif scale.how == "product":
                    steps = [np.float32(quantization(other).scale[0]) for other in scale.of]
                    found[name] = Quantization((float(np.prod(steps) * np.float32(scale.factor)),), (0,))
                else:
                    least = max(map(room, [b for b in inside if name in fused.scales.get(b, Scale()).of]), default=0.0)
                    ends = (
                        (float(data.min()), float(data.max())) if data is not None else self.scales.inside(node, name)
                    )
                    found[name] = _scale_inside(ends, scale, dtype, least)
            return found[name]

        def room(bias: str) -> float:
            """The least scale of weights whose products a large bias is added to."""
            t, scale = inside[bias][0], fused.scales[bias]
            if t is None or t.data is None or scale.how != "product" or len(scale.of) < 2 or scale.of[0] not in found:
                return 0.0
            return float(np.abs(t.data).max(initial=0.0)) / (found[scale.of[0]].scale[0] * LARGEST_BIAS)

        for i, name in enumerate(names[: len(form.inputs)]):
            t, dtype = node.inputs[i], form.types[i]
            if form.inputs[i] != INSIDE or t is None or dtype is None:
                continue
            q = quantization(name)
            if t.is_variable:
                made.inputs[i] = self.variable(t, dtype, q)
            elif t.data is not None:
                made.inputs[i] = Tensor(t.name, TensorType(dtype, t.type.shape, q), as_stored(t.data, q, dtype))
        nothing = TensorType(FLOAT32, (0,))
        made.intermediates = tuple(
            TensorType(dtype, (0,), quantization(name)) if name else nothing for name, dtype in fused.intermediates
        )
        made.attrs = fused.attrs

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


def _scale_inside(ends: Range, scale: Scale, dtype: DType, least: float) -> Quantization:
    """Of a value inside a fused operator, that reaches so far."""
    most = (1 << (scale.bits or dtype.bits) - 1) - 1
    step = max(-ends[0], ends[1], 1e-9) / most
    if scale.how == "power":
        lowest, highest = POWERS
        step = 2.0 ** min(max(math.ceil(math.log2(step)), lowest), highest)
    return Quantization((float(np.float32(max(step, least))),), (0,))


def as_integer_graphs(module: Module, ranges: Mapping[Seen, Range], plan: Plan, ends: Ends) -> dict[Tensor, Tensor]:
    """Rewrites the main graph of the module and those that it runs; returns what inputs and outputs of the main graph
    have become, where they have.

    ranges  of the float tensors that are computed, of the inputs, and of what is inside of operators.
    plan    says which nodes are to compute on integers.
    """
    graphs = reached(module)
    for node in (n for graph in graphs for n in graph.nodes if n.op.calls):  # each place has a scale of its own
        node.inputs = [replace(t) if t is not None and t.is_constant else t for t in node.inputs]
    forms, handed = integer_forms(module, graphs, plan, ranges)
    scales = Scales(forms, ranges, handed_on(handed), _computed_with(graphs, forms))
    became: dict[Tensor, Tensor] = {}
    for graph in graphs:
        rewriting = _Rewriting(forms, scales)
        if graph is module.main:
            became = _main(graph, rewriting, ends)
        else:
            _called(graph, rewriting, {t: dtype for group, dtype in handed.items() for t in group})
        graph.nodes = rewriting.nodes
        graph.renumber()
    return became


def _computed_with(graphs: Iterable[Graph], forms: Mapping[Node, Form]) -> set[Tensor]:
    """The tensors that operators read that do not only move integers."""
    readers = (n for graph in graphs for n in graph.nodes if n not in forms or not n.op.keeps_scale)
    return {t for n in readers for t in n.inputs if t is not None}


def _main(graph: Graph, rewriting: _Rewriting, ends: Ends) -> dict[Tensor, Tensor]:
    read = {t: form.values for n in graph.nodes if (form := rewriting.forms.get(n)) for t in stored_operands(n, form)}
    became = {t: rewriting.take(t, ends.inputs, read[t]) for t in graph.inputs if t in read and ends.inputs != FLOAT32}
    for node in graph.nodes:
        rewriting.node(node)
    for t in graph.outputs:
        if t in rewriting.written and t not in became and not t.is_variable:
            became[t] = rewriting.give(t, ends.outputs)
    graph.inputs = [became.get(t, t) for t in graph.inputs]
    graph.outputs = [became.get(t, t) for t in graph.outputs]
    return became


def _called(graph: Graph, rewriting: _Rewriting, handed: Mapping[Place, DType]) -> None:
    """A graph that takes and gives integers where its callers do."""
    graph.inputs = [rewriting.write(t, handed[t]) if t in handed else t for t in graph.inputs]
    for node in graph.nodes:
        rewriting.node(node)
    real = [t.type.dtype == FLOAT32 for t in graph.outputs]
    graph.outputs = [
        rewriting.as_integers(t, handed[t]) if t in handed else rewriting.as_real(t) if r else t
        for t, r in zip(graph.outputs, real, strict=True)
    ]
