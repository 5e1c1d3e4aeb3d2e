"""What a search decides: a scheme for each layer, and one for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lithe.ir.graph import Module, Node
from lithe.optimize.recipes import BYTES, DYNAMIC, FLOAT, HALF, WORDS, Recipe, Rule, Scheme
from lithe.types import FLOAT32

LEAST = 64  # constants of a layer; smaller ones go with the rest
SCHEMES: dict[str, Scheme] = {
    "float32": FLOAT,
    "float16": HALF,
    "dynamic": DYNAMIC,
    "int8": BYTES,
    "int16x8": WORDS,
}
EXACT = "float32"


@dataclass(frozen=True)
class Choice:
    """Names of schemes: of layers by the names of their first results, and of all other operators."""

    rest: str
    layers: Mapping[str, str] = field(default_factory=dict)

    def but(self, layer: str, scheme: str) -> Choice:
        return replace(self, layers={**self.layers, layer: scheme})

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Equal for choices that say the same."""
        return self.rest, tuple(sorted((layer, s) for layer, s in self.layers.items() if s != self.rest))

    def recipe(self, ranges: str) -> Recipe:
        rules = [
            Rule(SCHEMES[s], scope=rf"\A{re.escape(layer)}\Z") for layer, s in self.layers.items() if s != self.rest
        ]
        return Recipe((Rule(SCHEMES[self.rest]), *rules), ranges)

    def __str__(self) -> str:
        different = [f"{layer}: {s}" for layer, s in self.key[1]]
        return ", ".join([self.rest if not different else f"{self.rest} but for {different[0]}", *different[1:]])


def layers(module: Module) -> list[str]:
    """The names of the operators that have weights, in their order; those of one name are one layer."""
    found = (n for graph in module.graphs for n in graph.nodes if n.outputs and _constants(n) >= LEAST)
    return list(dict.fromkeys(n.outputs[0].name for n in found))


def _constants(node: Node) -> int:
    return sum(t.data.size for t in node.inputs if t is not None and t.data is not None and t.type.dtype == FLOAT32)
