"""Resources as storage: where all uses of a variable's handle are in sight, the variable takes the handle's place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Environment
from lithe.ops.resources import BOUND, resource_key
from lithe.types import TensorType


@dataclass(frozen=True)
class Variable:
    """Where a variable tensor's value lies among the model's resources.

    read_first  a run reads it before it assigns it, so it must have a value before.
    """

    key: str
    read_first: bool


FirstValues = dict[str, np.ndarray]  # by variable


@dataclass(frozen=True)
class Bound:
    """A graph whose handles are variable tensors.

    variables  by tensor index.
    once       graphs that were to be run once before all else, and are run before the graph is.
    first      what those of them leave that only give variables their first values.
    """

    graph: Graph
    variables: dict[int, Variable] = field(default_factory=dict)
    once: tuple[int, ...] = ()
    first: dict[int, FirstValues] = field(default_factory=dict)


def bind_variables(graph: Graph, environment: Environment) -> Bound | None:
    """h = VAR_HANDLE(name); v = READ_VARIABLE(h); ASSIGN_VARIABLE(h, w)
    ->  v = READ_VARIABLE(variable); ASSIGN_VARIABLE(variable, w)

    Graphs to be run once are run now: a variable has the shape of what it holds, else that which is declared where
    it is read. Returns None when a handle goes anywhere else, or a graph is run once after something has happened.
    """
    handles = {n.outputs[0]: resource_key(n.attrs) for n in graph.nodes if n.op.name == "VAR_HANDLE" and n.has_rules}
    once = [n for n in graph.nodes if n.op.name == "CALL_ONCE"]
    if not handles:
        return Bound(graph) if not once else None
    effects = [n for n in graph.nodes if n.op.stateful]
    if effects[: len(once)] != once or not handles.keys().isdisjoint(graph.outputs):
        return None
    uses: dict[str, list[Node]] = {key: [] for key in handles.values()}
    for n in graph.nodes:
        for i, t in enumerate(n.inputs):
            if t in handles:
                if i or n.op.name not in ("READ_VARIABLE", "ASSIGN_VARIABLE") or not n.has_rules:
                    return None
                uses[handles[t]].append(n)
    numbers = tuple(n.attrs.init_subgraph_index for n in once)
    first: dict[int, FirstValues] = {}
    for number in numbers:
        values = first_values(environment.graph(number))
        if values is not None:
            first[number] = values
        environment.call_once(number, values)

    bound, found = graph.copy(), {}
    copies = {t: c for old, new in zip(graph.nodes, bound.nodes, strict=True)
              for t, c in zip(old.outputs, new.outputs, strict=True)}  # fmt: skip
    storages: dict[Tensor, Tensor] = {}
    for key, nodes in uses.items():
        names = [t for t in handles if handles[t] == key]
        type_ = _type(nodes, environment.resources.get(key))
        if type_ is None:
            return None
        storage = Tensor(names[0].name, type_, is_variable=True, index=names[0].index)
        storages.update({copies[t]: storage for t in names})
        found[storage.index] = Variable(key, bool(nodes) and nodes[0].op.name == "READ_VARIABLE")
        bound.tensors.append(storage)
    bound.nodes = [n for n in bound.nodes if n.op.name not in ("VAR_HANDLE", "CALL_ONCE")]
    for n in bound.nodes:
        n.op = BOUND.get(n.op, n.op)
        n.inputs = [None if t is None else storages.get(t, t) for t in n.inputs]
    return Bound(bound, found, numbers, first)


def first_values(graph: Graph) -> FirstValues | None:
    """What a graph leaves in variables; None when it does anything else than give them constants."""
    handles = {n.outputs[0]: resource_key(n.attrs) for n in graph.nodes if n.op.name == "VAR_HANDLE" and n.has_rules}
    values: FirstValues = {}
    for n in graph.nodes:
        if n.op.name == "VAR_HANDLE" and n.outputs[0] in handles:
            continue
        handle, value, *more = (*n.inputs, None, None)
        if n.op.name != "ASSIGN_VARIABLE" or handle not in handles or value is None or any(more):
            return None
        if value.data is None or value.type.dtype.kind in ("string", "resource"):
            return None
        values[handles[handle]] = value.data
    return values


def _type(uses: list[Node], value: object) -> TensorType | None:
    """The type of a variable; None when its users do not agree on one."""
    tensors = [n.outputs[0] if n.op.name == "READ_VARIABLE" else n.inputs[1] for n in uses]
    types = [t.type for t in tensors if t is not None]
    if not types or len({t.dtype for t in types}) > 1:
        return None
    shape = getattr(value, "shape", types[0].shape)
    same = value is None or getattr(value, "dtype", None) == types[0].dtype.numpy
    return replace(types[0], shape=tuple(shape)) if same and types[0].dtype.kind not in ("string", "resource") else None
