"""Converting a `.tflite` file: the graphs are taken as they are, then go where all converted graphs go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder, Conversion, Reference
from lithe.conversion.sizes import is_fixed
from lithe.conversion.tflite.sizes import open_sizes
from lithe.errors import InputError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.cancel_transposes import cancel_transposes
from lithe.passes.deflex import deflex_module
from lithe.passes.fold_constants import fold_node
from lithe.passes.merge_reshapes import drop_identity_reshape, merge_reshapes
from lithe.passes.remove_dead import has_effect, remove_dead
from lithe.passes.rewrite import rewrite
from lithe.passes.share import share_equal_nodes
from lithe.runtime.model import Model, load
from lithe.types import TensorType

ALWAYS_FOLDED = 1 << 12  # bytes of a constant that may be larger than what it is computed from
STORED = {"DEQUANTIZE", "DENSIFY"}  # their constants are kept small on purpose
ORDERED = "model_control_dependencies"  # metadata that number the operators
Source = Model | str | os.PathLike[str] | bytes


def convert_model(conversion: Conversion, source: Source, inputs: Any, key: str) -> None:
    """Takes a model into a conversion: all of its graphs and signatures, under their own names."""
    if inputs is not None:
        raise InputError("a .tflite model says itself what its inputs are", hint="leave the shapes away")
    if conversion.graphs:
        raise InputError("a .tflite model has its own signatures", hint="convert each model alone")
    original = source if isinstance(source, Model) else load(source, cache=False)
    plain = deflex_module(original.module)
    conversion.metadata, conversion.description = plain.metadata, plain.description
    conversion.extras = plain.extras
    keep = ORDERED in plain.metadata
    for number, graph in enumerate(plain.graphs):
        conversion.graphs.append(Kept(conversion, graph, number, keep))
    for s in plain.signatures:
        conversion.sign(s.key, conversion.graphs[s.graph], s.inputs, s.outputs, _reference(original, s.key))
    if not plain.signatures:
        main = conversion.graphs[0]
        names = list(original.inputs), list(original.outputs)
        conversion.sign(
            key, main, dict(zip(names[0], main.inputs, strict=True)), dict(zip(names[1], main.outputs, strict=True)),
            _reference(original, key), written=False,
        )  # fmt: skip


def _reference(original: Model, key: str) -> Reference:
    function = original.signatures.get(key, original)

    def run(given: dict[str, np.ndarray]) -> Sequence[Any]:
        made = function(**given)
        return list(made.values()) if isinstance(made, dict) else [made]

    return run


class Kept(Builder):
    """A graph of a file.

    declared  the types and signatures that the file gives tensors.
    knows_shapes  whether all shapes are known; then open ones have stand-ins.
    places    tensors by their place in the file, where others name them by it.
    exact     it has numbers that are quantized, or kept in another way than computed with: nothing is calculated anew.
    keep      nothing is changed at all.
    """

    def __init__(self, conversion: Conversion, graph: Graph, number: int, keep: bool) -> None:
        super().__init__(conversion, graph.name, number)
        self.declared = {t: (t.type, t.shape_signature) for t in graph.tensors}
        self.places = {t.index: t for t in graph.tensors if t.index >= 0}
        self.inputs, self.outputs, self.nodes = graph.inputs, graph.outputs, graph.nodes
        self.tensors = [t for n in graph.nodes for t in n.outputs]
        self.keep = keep or graph.refusal is not None
        self.exact = any(map(_is_kept_otherwise, graph.tensors))
        self.knows_shapes = not self.keep and open_sizes(graph, conversion.sizes)
        self.graph = graph
        for t in self.inputs if self.knows_shapes else ():
            self.originate(t)

    def finished(self) -> Graph:
        """The graph as a file holds it. What the file says about its inputs and outputs stays."""
        if self.keep:
            return self.graph
        graph = super().finished()
        self._keep_named(graph)
        for t in graph.tensors:
            if t in self.declared and (not self.knows_shapes or t in graph.inputs or t in graph.outputs):
                t.type, t.shape_signature = self.declared[t]
            elif t in self.declared and -1 not in (t.shape_signature or (-1,)):
                t.shape_signature = None
        return graph

    def _keep_named(self, graph: Graph) -> None:
        """Operators and quantizations name tensors by their places, which say how something is quantized."""
        known = {t: i for i, t in enumerate(graph.tensors)}

        def placed(place: int) -> int:
            t = self.places.get(place)
            if t is None:
                return -1
            if t not in known:
                t.index = known[t] = len(graph.tensors)
                graph.tensors.append(t)
            return known[t]

        for node in graph.nodes:
            if "intermediates" in node.extras:
                node.extras["intermediates"] = tuple(map(placed, node.extras["intermediates"]))
        for t in list(graph.tensors):
            if "quantization_details" in t.extras:
                kind, values = t.extras["quantization_details"]
                named = {k: placed(values[k]) for k in ("scales", "zero_points") if k in values}
                t.extras["quantization_details"] = kind, values | named

    def improve(self, graph: Graph) -> None:
        """All passes where every number is a float and every shape known; else those that calculate nothing anew."""
        _fold(graph, self.knows_shapes)
        if self.knows_shapes and not self.exact:
            super().improve(graph)
            return
        remove_dead(graph)
        share_equal_nodes(graph)
        if self.knows_shapes:
            cancel_transposes(graph)
            rewrite(graph, merge_reshapes, drop_identity_reshape)
        remove_dead(graph)

    def _refuse_numbers_of_open_sizes(self, graph: Graph) -> None:
        """No number of a file comes from a stand-in."""


def _is_kept_otherwise(t: Tensor) -> bool:
    return t.type.quantization is not None or "sparsity" in t.extras or t.type.dtype.name in ("float16", "bfloat16")


def _fold(graph: Graph, sized: bool) -> None:
    """Operators of constants become constants, unless that makes the file larger, or they are quantized."""
    outputs = set(graph.outputs)

    def folded(node: Node) -> bool:
        types: list[TensorType] = [t.type for t in (*node.inputs, *node.outputs) if t is not None]
        if has_effect(node) or not node.has_rules or not outputs.isdisjoint(node.outputs) or node.op.name in STORED:
            return False
        if any(t.quantization is not None or not is_fixed(t.shape) for t in types):
            return False
        if node.op.of_shapes and not sized and any(t is not None and t.data is None for t in node.inputs):
            return False
        given = sum(t.data.nbytes for t in node.inputs if t is not None and t.data is not None)
        return sum(t.type.nbytes for t in node.outputs) <= max(ALWAYS_FOLDED, given) and fold_node(node)

    graph.nodes = [n for n in graph.nodes if not folded(n)]
