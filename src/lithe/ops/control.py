"""Operators that run other graphs of the model: branches, loops, and what is done once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np

from lithe.ops.op import Call, Op, RuleViolation, Site, register
from lithe.types import Shape, TensorType


def _operands(site: Site, first: int) -> list[TensorType]:
    return [site.input(i) for i in range(first, len(site.inputs))]


def _unknown(site: Site) -> list[Shape]:
    """Only a run can tell: the rank is the declared one."""
    return [cast("Shape", (None,) * t.rank) for t in site.outputs]


def _merged(shapes: Sequence[Sequence[Shape]]) -> list[Shape]:
    """The dimensions on which several ways agree; None for the others, and in every place where the ranks differ."""

    def one(ways: tuple[Shape, ...]) -> Shape:
        if len({len(way) for way in ways}) > 1:
            return cast("Shape", (None,) * len(ways[0]))
        return cast("Shape", tuple(d[0] if len(set(d)) == 1 else None for d in zip(*ways, strict=True)))

    return [one(ways) for ways in zip(*shapes, strict=True)]


def _single(site: Site, what: str) -> None:
    t = site.input(0)
    site.require(None in t.shape or t.size == 1, f"{what} must have one element, is {t}", 0)


def _chosen(site: Site, branches: Sequence[int]) -> list[Shape]:
    """The shapes that one of several graphs gives."""
    if site.environment is None:
        return _unknown(site)
    return _merged([site.environment.shapes(number, _operands(site, 1)) for number in branches])


@register
class If(Op):
    """outputs = then(inputs) if condition else otherwise(inputs). Source: schema.fbs, IfOptions."""

    name, code = "IF", 118
    operands = (("condition", "inputs*"), ("outputs*",))
    calls = MappingProxyType({"then_subgraph_index": Call(1), "else_subgraph_index": Call(1)})
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        then_subgraph_index: int = 0
        else_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        site.require(site.input(0).dtype.kind == "bool", f"must be bool, is {site.input(0)}", 0)
        _single(site, "the condition")
        return _chosen(site, (site.attrs.then_subgraph_index, site.attrs.else_subgraph_index))

    def evaluate(site: Site, condition: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
        attrs = site.attrs
        number = attrs.then_subgraph_index if condition.item() else attrs.else_subgraph_index
        return site.surroundings().call(number, arrays)


@register
class StablehloCase(Op):
    """outputs = branches[index](inputs), the last branch for an index out of range. Source: StableHLO, case."""

    name, code = "STABLEHLO_CASE", 209
    operands = (("index", "inputs*"), ("outputs*",))
    calls = MappingProxyType({"branch_subgraph_indices": Call(first=1)})
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        branch_subgraph_indices: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        site.require(site.input(0).dtype.name == "int32", f"must be int32, is {site.input(0)}", 0)
        site.require(bool(site.attrs.branch_subgraph_indices), "there must be a branch")
        _single(site, "the index")
        return _chosen(site, site.attrs.branch_subgraph_indices)

    def evaluate(site: Site, index: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
        branches = site.attrs.branch_subgraph_indices
        place = int(index.item())
        return site.surroundings().call(branches[place if 0 <= place < len(branches) else -1], arrays)


def loop(name: str, code: int, source: str) -> type[Op]:
    """Defines and registers values = body(values) while condition(values) is true."""

    @dataclass(frozen=True)
    class Attrs:
        cond_subgraph_index: int = 0
        body_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        given = _operands(site, 0)
        site.require(len(given) == len(site.outputs), f"has {len(given)} inputs and {len(site.outputs)} outputs")
        if site.environment is None:
            return _unknown(site)
        start = [t.shape for t in given]
        return _merged([start, site.environment.shapes(site.attrs.body_subgraph_index, given)])

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        model, body = site.surroundings(), site.attrs.body_subgraph_index
        values = [np.array(a) for a in arrays]
        while True:
            (condition,) = model.call(site.attrs.cond_subgraph_index, values)
            if condition.size != 1 or condition.dtype != np.bool_:
                raise RuleViolation(f"must be a single bool, is {condition.dtype}{list(condition.shape)}", "condition")
            if not condition.item():
                return values
            model.spend(1, body)
            values = model.call(body, values)

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": f"values = body(values) while condition(values). Source: {source}", "__module__": __name__,
            "name": name, "code": code, "operands": (("inputs*",), ("outputs*",)), "stateful": True,
            "calls": {"cond_subgraph_index": Call(results=False), "body_subgraph_index": Call(repeats=True)},
            "Attrs": Attrs, "infer": infer, "evaluate": evaluate,
        })
    )  # fmt: skip


While = loop("WHILE", 119, "schema.fbs, WhileOptions")
StablehloWhile = loop("STABLEHLO_WHILE", 200, "StableHLO, while")


@register
class CallOnce(Op):
    """Runs a graph without inputs and outputs the first time it is reached. Source: schema.fbs, CallOnceOptions."""

    name, code = "CALL_ONCE", 129
    operands = ((), ())
    calls = MappingProxyType({"init_subgraph_index": Call()})
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        init_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        return []

    def evaluate(site: Site) -> list[np.ndarray]:
        site.surroundings().call_once(site.attrs.init_subgraph_index)
        return []


@register
class StablehloComposite(Op):
    """outputs = decomposition(inputs): several operators under one name. Source: StableHLO, composite."""

    name, code = "STABLEHLO_COMPOSITE", 206
    operands = (("inputs*",), ("outputs*",))
    calls = MappingProxyType({"decomposition_subgraph_index": Call()})
    inlined = "decomposition_subgraph_index"

    @dataclass(frozen=True)
    class Attrs:
        name: str = ""
        decomposition_subgraph_index: int = 0
        composite_attributes: tuple[int, ...] = ()
        composite_attributes_format: str = "FLEXBUFFERS"
        version: int = 0

    def infer(site: Site) -> list[Shape]:
        if site.environment is None:
            return _unknown(site)
        return site.environment.shapes(site.attrs.decomposition_subgraph_index, _operands(site, 0))

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        return site.surroundings().call(site.attrs.decomposition_subgraph_index, arrays)
