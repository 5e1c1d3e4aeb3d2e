"""Smaller weights of models that go on computing with real numbers.

float16    every constant is stored in half the bits; a DEQUANTIZE that runs once gives back float32
dynamic    weights become int8, with a scale for each output where the operator has those; values are quantized while
           the model runs, by the operators that have a combination of types for that (`Op.types`). Of tables, the
           rows that were looked up are widened
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from lithe.ir.graph import Module, Node, Tensor
from lithe.ops.layout import Movement
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.optimize.integers import WEIGHTS_OPERAND, as_weights, weights_scale
from lithe.optimize.recipes import Plan
from lithe.types import FLOAT16, FLOAT32, DType, Quantization

LEAST_WEIGHTS = 1024  # elements; smaller ones save nothing and cost precision
LARGEST_HALF = float(np.finfo(np.float16).max)


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


def narrow_weights(module: Module, plan: Plan, rounded: Mapping[Node, Tensor] | None = None) -> int:
    """Stores weights as integers where operators take such beside float32 values, in place; returns how many.

    rounded  the weights of some nodes, as integers.
    """
    rounded, count = rounded or {}, 0
    for graph in module.graphs:
        made: dict[tuple[Tensor, int | None], Tensor] = {}
        for node in list(graph.nodes):
            dtype = plan.of(node).weights
            if not plan.of(node).dynamic or dtype is None:
                continue
            if _is_table(node, dtype):
                table = node.inputs[0]
                assert table is not None
                node.inputs[0] = made.setdefault((table, None), _narrowed(table, None, dtype))
                graph.nodes.insert(graph.nodes.index(node) + 1, _widened(node))
                continue
            places = weights_beside_reals(node, dtype)
            if max((node.inputs[i].data.size for i in places), default=0) <= LEAST_WEIGHTS:  # type: ignore[union-attr]
                continue
            for i in places:
                t = node.inputs[i]
                assert t is not None
                axis = node.op.weights_axis if i == WEIGHTS_OPERAND else None
                if i == WEIGHTS_OPERAND and node in rounded:
                    node.inputs[i] = made[rounded[node], axis] = rounded[node]
                    continue
                if (t, axis) not in made:
                    made[t, axis] = _narrowed(t, axis, dtype)
                node.inputs[i] = made[t, axis]
            if any(f.name == "asymmetric_quantize_inputs" for f in fields(node.attrs)):
                node.attrs = replace(node.attrs, asymmetric_quantize_inputs=True)
        count += len(made)
        graph.renumber()
    return count


def _is_table(node: Node, dtype: DType) -> bool:
    """Whether a node looks rows up in a large constant: it moves elements of any type, and nothing else is real."""
    if not issubclass(node.op, Movement) or len(node.outputs) != 1 or node.outputs[0].type.dtype != FLOAT32:
        return False
    real = [t for t in node.inputs if t is not None and t.type.dtype == FLOAT32]
    if len(real) != 1 or real[0] is not node.inputs[0] or weights_beside_reals(node, dtype):
        return False
    data = real[0].data
    return data is not None and data.size > LEAST_WEIGHTS and bool(np.isfinite(data).all()) and not _is_sparse(real[0])


def _widened(node: Node) -> Node:
    """y = GATHER(integers, i)  ->  rows = GATHER(integers, i); y = DEQUANTIZE(rows)"""
    y, table = node.outputs[0], node.inputs[0]
    assert table is not None
    stored = replace(y.type, dtype=table.type.dtype, quantization=table.type.quantization)
    rows = Tensor(f"{y.name}_rows", stored, shape_signature=y.shape_signature)
    node.outputs = [rows]
    return Node(REGISTRY.by_name["DEQUANTIZE"], NoAttrs(), [rows], [y])


def _narrowed(t: Tensor, axis: int | None, dtype: DType) -> Tensor:
    assert t.data is not None
    if axis is None:
        flat = weights_scale(t.data.reshape(1, -1), 0, dtype)
        q = Quantization(flat.scale, flat.zero_point)
        values = as_weights(t.data.reshape(1, -1), flat, dtype).reshape(t.data.shape)
    else:
        q = weights_scale(t.data, axis, dtype)
        values = as_weights(t.data, q, dtype)
    return Tensor(t.name, replace(t.type, dtype=dtype, quantization=q), values)


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
