"""What a search decides: a scheme for each layer, and one for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lithe.ir.graph import Module, Node
from lithe.optimize.recipes import FLOAT, RECIPES, Recipe, Rule
from lithe.types import FLOAT32

LEAST = 64  # constants of a layer; smaller ones go with the rest
EXACT = "float32"
SCHEMES: dict[str, tuple[Rule, ...]] = {
    EXACT: (Rule(FLOAT),),
    **{name: RECIPES[name].rules for name in (
        "float16", "weights", "weights_int4", "weights_int4_block32", "weights_int2", "weights_int2_block32", "dynamic",
        "dynamic_int4", "dynamic_int4_block32", "int8", "int16x8", "int8x4",
    )},
}  # fmt: skip


def computes_reals(scheme: str) -> bool:
    """Whether values stay real numbers, so that no samples are needed."""
    return all(rule.scheme.values is None for rule in SCHEMES[scheme])


def stores_alone(scheme: str) -> bool:
    """Whether only what is stored changes, and not how it is computed."""
    return computes_reals(scheme) and not any(rule.scheme.dynamic for rule in SCHEMES[scheme])


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
        """Layers that are decided on get their scheme however small they are: what that costs was measured."""
        own = [
            Rule(replace(rule.scheme, least=0), rf"\A{re.escape(layer)}\Z")
            for layer, scheme in self.key[1]
            for rule in (*SCHEMES[EXACT], *SCHEMES[scheme])
        ]
        return Recipe((*SCHEMES[self.rest], *own), ranges)

    def __str__(self) -> str:
        different = [f"{layer}: {s}" for layer, s in self.key[1]]
        return ", ".join([self.rest if not different else f"{self.rest} but for {different[0]}", *different[1:]])


def layers(module: Module) -> list[str]:
    """The names of the operators that have weights, in their order; those of one name are one layer."""
    found = (n for graph in module.graphs for n in graph.nodes if n.outputs and _constants(n) >= LEAST)
    return list(dict.fromkeys(n.outputs[0].name for n in found))


def _constants(node: Node) -> int:
    return sum(t.data.size for t in node.inputs if t is not None and t.data is not None and t.type.dtype == FLOAT32)
