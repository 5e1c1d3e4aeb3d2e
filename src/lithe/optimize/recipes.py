"""Recipes: what becomes of each operator of a model.

A recipe is a list of rules, from the general to the particular; of those that apply to an operator and that it can
follow, the last gives its scheme.

    Recipe((Rule(Scheme(INT8, INT8)), Rule(FLOAT, operators=frozenset({"SOFTMAX"}))))      all but softmax in 8 bits
    Recipe((Rule(Scheme(weights=INT4, dynamic=True)), Rule(DYNAMIC, scope="head")))        the head in 8 bits

Names of recipes say what is stored in how many bits:

    int8  int16x8  int8x4  int16x4      values x weights (int8: both), computed on integers
    dynamic  dynamic_int4  dynamic_int2    weights (int8 where none is named); values are quantized while the model runs
    weights  weights_int4  weights_int2    weights (int8 where none is named); values stay real numbers
    ..._block32, 64, 128, 256              of the six above: so many elements along a row of weights share a scale
    float16                                weights
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lithe.errors import InputError
from lithe.ir.graph import Graph, Module, Node
from lithe.types import DTYPES, FLOAT16, INT8, INT16, INT32, INT64, DType

LEAST_WEIGHTS = 1024  # elements; smaller ones save nothing and cost precision
BLOCKS = (32, 64, 128, 256)
WEIGHTS_OPERAND = 1


@dataclass(frozen=True)
class Scheme:
    """How an operator is stored and computed.

    values    the type of the values that it computes on: int8, int16, or None for real numbers.
    weights   the type of its constant weights: int8, int4, int2, float16, or None for float32.
    dynamic   beside real values: these are quantized while the model runs, for a product of integers. Otherwise the
              weights are widened before the operator.
    block     beside real values: how many elements along a row of weights share a scale; 0: all that belong to one
              output channel.
    channels  whether weights have a scale for each output channel, or one for all.
    least     beside real values: how many elements weights must have at least.
    rounding  whether weights are rounded so that sums of products stay (GPTQ), in however many bits; needs samples.
    """

    values: DType | None = None
    weights: DType | None = None
    dynamic: bool = False
    block: int = 0
    channels: bool = True
    least: int = LEAST_WEIGHTS
    rounding: bool = False

    def __str__(self) -> str:
        if self.weights is None:
            return "real numbers"
        how = ", values quantized while the model runs" if self.dynamic else ""
        block = f" in blocks of {self.block}" if self.block else "" if self.channels else " with one scale"
        return f"{self.values or 'real'} values, {self.weights} weights{block}{how}"

    @property
    def bias(self) -> DType:
        """The type of a bias of integers: as wide as the sums that it is added to."""
        return INT64 if self.values == INT16 else INT32

    def suits(self, node: Node) -> bool:
        """Whether an operator can have such weights; one without weights suits every scheme."""
        if self.values is not None and self.weights is not None and node.op.weights_axis is not None:
            wanted = {f"{self.values}q", f"{self.weights}q"}
            return any(
                wanted <= {w.rstrip("?*") for w in words} for s in node.op.signatures for words, _ in s.expanded()
            )
        if not self.dynamic or self.weights is None:
            return True
        if not self.block:
            return self.weights.name in node.op.beside_reals
        weights = node.inputs[WEIGHTS_OPERAND] if len(node.inputs) > WEIGHTS_OPERAND else None
        fits = weights is not None and weights.type.rank > 0 and weights.type.shape[-1] % self.block == 0
        return fits and self.weights.name in node.op.blocks_beside_reals


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
        return not self.scope or any(re.search(self.scope, t.name) for t in node.outputs or node.inputs if t)


@dataclass(frozen=True)
class Recipe:
    """Rules, and how the ranges of values are found (a name of `ranges.OBSERVERS`)."""

    rules: tuple[Rule, ...]
    ranges: str = "min_max"

    def __str__(self) -> str:
        return "; else ".join(str(rule.scheme) for rule in reversed(self.rules))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the recipe as JSON, which `lithe.quantize(..., recipe=path)` reads. Raises InputError if it cannot."""
        from lithe.optimize.recipe_files import write

        write(self, path)

    def plan(self, module: Module) -> Plan:
        """The scheme of each operator of a model."""
        return Plan({n: self._scheme(n) for graph in module.graphs for n in graph.nodes})

    def _scheme(self, node: Node) -> Scheme:
        applying = (rule.scheme for rule in reversed(self.rules) if rule.applies(node))
        return next((scheme for scheme in applying if scheme.suits(node)), FLOAT)


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

    @property
    def needs_samples(self) -> bool:
        """Whether there is something that only samples can tell."""
        return self.has_integers or any(s.rounding for s in self.schemes.values())

    def integers(self, graph: Graph) -> dict[Node, Scheme]:
        """The operators of a graph that are to compute on integers."""
        return {n: self.of(n) for n in graph.nodes if self.of(n).values is not None}


def _of(*schemes: Scheme) -> Recipe:
    return Recipe(tuple(map(Rule, schemes)))


def _dynamic(bits: int, block: int) -> Recipe:
    """What cannot have blocks has none, and what cannot have weights of so few bits has 8."""
    fewest = Scheme(weights=DTYPES[f"int{bits}"], dynamic=True)
    wanted = Scheme(weights=fewest.weights, dynamic=True, block=block)
    return _of(*dict.fromkeys((DYNAMIC, fewest, wanted)))


def _beside_reals() -> dict[str, Recipe]:
    found = {}
    for bits in (8, 4, 2):
        for block in (0, *BLOCKS):
            names = [f"_int{bits}" if bits < 8 or block else "", f"_block{block}" if block else ""]
            found["dynamic" + "".join(names)] = _dynamic(bits, block)
            found["weights" + "".join(names)] = _of(Scheme(weights=DTYPES[f"int{bits}"], block=block))
    return {name: found[name] for name in sorted(found, key=lambda name: ("block" in name, name.split("_")[0]))}


RECIPES: dict[str, Recipe] = {
    "int8": _of(BYTES),
    "int16x8": _of(WORDS),
    "int8x4": _of(BYTES, Scheme(INT8, DTYPES["int4"])),
    "int16x4": _of(WORDS, Scheme(INT16, DTYPES["int4"])),
    "float16": _of(HALF),
    **_beside_reals(),
}


Given = str | os.PathLike[str] | Recipe | Sequence[Any] | Mapping[str, Any]


def recipe(given: Given) -> Recipe:
    """The recipe of a name (ours, or one of ai-edge-quantizer), of a file of rules, of what such a file holds, or the
    one that is given.

    Raises InputError when there is none, or it asks for what there is not.
    """
    from lithe.optimize.recipe_files import read, records

    if isinstance(given, Recipe):
        return given
    if not isinstance(given, str | os.PathLike):
        return records(given, "the recipe")
    name = os.fspath(given)
    if name in RECIPES:
        return RECIPES[name]
    foreign = foreign_name(name)
    if foreign is not None:
        return foreign
    if name.endswith(".json") or not isinstance(given, str):
        return read(name)
    shown = [n for n in RECIPES if "block" not in n]
    raise InputError(
        f"there is no recipe {name!r}",
        hint=f"recipes are {', '.join(shown)}, such in blocks as weights_int4_block32, and files of rules, .json",
    )


FOREIGN = re.compile(r"(dynamic|dynamic_legacy|weight_only|static)_wi(2|4|8)(?:c|b(32|64|128|256))?_(afp32|ai8|ai16)")


def foreign_name(name: str) -> Recipe | None:
    """The recipe that ai-edge-quantizer has under this name, by what such names say."""
    found = FOREIGN.fullmatch(name)
    if found is None:
        return None
    kind, bits, block, values = found.groups()
    if (kind == "static") == (values == "afp32"):
        return None
    weights, size, least = DTYPES[f"int{bits}"], int(block or 0), 1024 if "legacy" in kind else 0
    if kind == "static":
        return _of(Scheme(DTYPES[f"int{values[2:]}"], weights))
    return _of(Scheme(weights=weights, dynamic=kind != "weight_only", block=size, least=least))


def stored_types(plan: Plan) -> Iterable[DType]:
    """The types in which values are stored, each once."""
    return dict.fromkeys(s.values for s in plan.schemes.values() if s.values is not None)
