"""Which layer of a source is the first whose values differ from the converted model's.

Front ends mark the tensors that hold what a layer gives (`Builder.mark`). A pass may put something else in the place of
such a tensor, as batch normalization goes into weights: what is left in the finished graph still means the same, and is
compared. So it is the converted model itself that is looked at, and a layer that was merged into the next one is
compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lithe.conversion.builder import Builder, Conversion, Entry
from lithe.conversion.check import TOLERANCE, Given, examples, relative_difference
from lithe.errors import InputError, ModelError
from lithe.ir.graph import Graph, Module, Signature, Tensor
from lithe.passes.layout_writing import root
from lithe.runtime.model import Model

KEY = "layers"


@dataclass(frozen=True)
class Layer:
    """A place in the source, and the largest difference of its values over their largest magnitude."""

    where: str
    difference: float


@dataclass(frozen=True)
class Layers:
    """The layers in the order in which the source has them, and how many left no tensor of their own."""

    compared: tuple[Layer, ...]
    merged: int
    tolerance: float = TOLERANCE

    def first(self) -> Layer | None:
        """The first one that differs."""
        return next((layer for layer in self.compared if not layer.difference <= self.tolerance), None)

    def require(self) -> None:
        """Raises ModelError with the first layer that differs."""
        layer = self.first()
        if layer is None:
            return
        place = self.compared.index(layer)
        before = f"the last that agrees is {self.compared[place - 1].where}" if place else "it is the first one"
        raise ModelError(
            f"layer {place + 1} of {len(self.compared)} differs from the source by {layer.difference:.3g} of its"
            f" largest value, {self.tolerance:g} is allowed; {before}",
            where=layer.where,
            hint="convert this part alone, and report what differs",
        )


def check_layers(model: Model, conversion: Conversion, given: Given = None) -> Layers:
    """Compares layer by layer, on the given inputs or on random ones. Raises InputError where there are no layers."""
    worst: dict[tuple[str, str], float] = {}
    marks = sum(len(b.marks) for b in conversion.graphs)
    watching: dict[str, tuple[Model, dict[str, _Seen]]] = {}
    for entry, arrays in examples(model, conversion, given):
        if entry.layers is None or not marks:
            raise InputError(
                f"the layers of this {conversion.source} model cannot be compared one by one", hint="verify=True"
            )
        key = entry.signature.key
        if key not in watching:
            watching[key] = _watching(model.module, conversion.graphs[entry.signature.graph], entry)
        watched, seen = watching[key]
        made = watched.signatures[KEY](**arrays) if seen else {}
        values = entry.layers(arrays)
        for name, place in seen.items():
            if name not in values:
                continue
            expected, got = np.asarray(values[name]), place.value(made)
            if expected.shape != got.shape and expected.size == got.size:
                got = got.reshape(expected.shape)
            difference = relative_difference(expected, got)
            worst[key, name] = max(worst.get((key, name), 0.0), difference)
    places = {(e.signature.key, n): m.where for e in conversion.entries
              for n, m in conversion.graphs[e.signature.graph].marks.items()}  # fmt: skip
    several = len(conversion.entries) > 1
    found = [Layer(f"{k[0]}: {places[k]}" if several else places[k], worst[k]) for k in places if k in worst]
    return Layers(tuple(found), marks - len(found))


@dataclass(frozen=True)
class _Seen:
    """Where the finished graph has what a layer gives: an output, and the order in which the source has its axes."""

    output: str
    order: tuple[int, ...]

    def value(self, made: dict[str, np.ndarray]) -> np.ndarray:
        """The array as the source has it."""
        return made[self.output].transpose(self.order)


def _watching(module: Module, b: Builder, entry: Entry) -> tuple[Model, dict[str, _Seen]]:
    """The model with the marked tensors as further outputs, and where each is."""
    graph = module.graphs[entry.signature.graph]
    made = dict.fromkeys(t for n in graph.nodes for t in n.outputs)
    held: dict[Tensor, tuple[Tensor, tuple[int, ...]]] = {}  # what is in the graph, by the tensor that it is turned
    for t in (*graph.inputs, *made):
        source, order = root(b.turned, t)
        if source is not None:
            held.setdefault(source, (t, order))
    names: dict[Tensor, str] = {}
    seen: dict[str, _Seen] = {}
    for name, mark in b.marks.items():
        source, order = root(b.turned, mark.tensor)
        if source in held:
            t, own = held[source]
            title = names.setdefault(t, f"layer{len(names)}")
            seen[name] = _Seen(title, tuple(own.index(a) for a in order))
    whole = replace(graph, outputs=[*graph.outputs, *(t for t in names if t not in graph.outputs)])
    graphs: list[Graph] = [whole if g is graph else g for g in module.graphs]
    signature = Signature(KEY, entry.signature.inputs, {n: t for t, n in names.items()}, entry.signature.graph)
    return Model(Module(graphs, [signature])), seen
