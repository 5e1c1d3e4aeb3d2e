"""Recipes: what becomes of each operator of a model.

A recipe is a list of rules, from the general to the particular; the last that applies to an operator gives its scheme.

    Recipe((Rule(Scheme(INT8, INT8)), Rule(Scheme(), operators={"SOFTMAX"})))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lithe.errors import InputError
from lithe.ir.graph import Graph, Module, Node
from lithe.types import FLOAT16, INT8, INT16, INT32, INT64, DType


@dataclass(frozen=True)
class Scheme:
    """How an operator is stored and computed.

    values   the type of the values that it computes on: int8, int16, or None for real numbers.
    weights  the type of its constant weights: int8, int4, int2, float16, or None for float32.
    dynamic  beside real values: these are quantized while the model runs, for a product of integers. Otherwise the
             weights are widened before the operator.
    block    how many elements along a row of weights share a scale; 0: all that belong to one output channel.
    """

    values: DType | None = None
    weights: DType | None = None
    dynamic: bool = False
    block: int = 0

    @property
    def bias(self) -> DType:
        """The type of a bias of integers: as wide as the sums that it is added to."""
        return INT64 if self.values == INT16 else INT32


FLOAT = Scheme()
BYTES = Scheme(INT8, INT8)
WORDS = Scheme(INT16, INT8)
DYNAMIC = Scheme(weights=INT8, dynamic=True)
HALF = Scheme(weights=FLOAT16)


@dataclass(frozen=True)
class Rule:
    """A scheme, and to which operators it applies.

    scope      a regular expression that is searched for in the names of an operator's results; "": in all.
    operators  names of operators; none: all.
    """

    scheme: Scheme
    scope: str = ""
    operators: frozenset[str] = frozenset()

    def applies(self, node: Node) -> bool:
        if self.operators and node.op.name not in self.operators:
            return False
        return not self.scope or any(re.search(self.scope, t.name) for t in node.outputs)


@dataclass(frozen=True)
class Recipe:
    """Rules, and how the ranges of values are found (a name of `ranges.OBSERVERS`)."""

    rules: tuple[Rule, ...]
    ranges: str = "min_max"

    def plan(self, module: Module) -> Plan:
        """The scheme of each operator of a model."""
        return Plan({n: self._scheme(n) for graph in module.graphs for n in graph.nodes})

    def _scheme(self, node: Node) -> Scheme:
        return next((rule.scheme for rule in reversed(self.rules) if rule.applies(node)), FLOAT)


@dataclass(frozen=True)
class Plan:
    """The schemes of a model's operators. Operators that are added later compute on real numbers."""

    schemes: Mapping[Node, Scheme] = field(default_factory=dict)

    def of(self, node: Node) -> Scheme:
        return self.schemes.get(node, FLOAT)

    @property
    def has_integers(self) -> bool:
        """Whether some operator computes on integers, so that samples are needed."""
        return any(s.values is not None for s in self.schemes.values())

    def integers(self, graph: Graph) -> dict[Node, Scheme]:
        """The operators of a graph that are to compute on integers."""
        return {n: self.of(n) for n in graph.nodes if self.of(n).values is not None}


RECIPES: dict[str, Recipe] = {
    "float16": Recipe((Rule(HALF),)),
    "dynamic": Recipe((Rule(DYNAMIC),)),
    "int8": Recipe((Rule(BYTES),)),
    "int16x8": Recipe((Rule(WORDS),)),
}


def recipe(given: str | Recipe) -> Recipe:
    """The recipe of this name, or the one that is given. Raises InputError when there is none."""
    if isinstance(given, Recipe):
        return given
    if given not in RECIPES:
        raise InputError(f"there is no recipe {given!r}", hint=f"recipes are {', '.join(RECIPES)}")
    return RECIPES[given]


def stored_types(plan: Plan) -> Iterable[DType]:
    """The types in which values are stored, each once."""
    return dict.fromkeys(s.values for s in plan.schemes.values() if s.values is not None)
