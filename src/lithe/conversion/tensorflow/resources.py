"""Variables. One that no function assigns is a constant; the others are variables of the model.

Their first values are those that the source has when it is converted, set by a graph that is called once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.tensorflow.values import Resource, Value, counted, written
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.writer import Inexpressible
from lithe.types import INT32, RESOURCE, DType, TensorType, dtype_of

if TYPE_CHECKING:
    from lithe.conversion.tensorflow.program import Program

ONLY_READ = {"ReadVariableOp", "ResourceGather", "VariableShape", "LookupTableFindV2", "LookupTableSizeV2"}
PASSED_ON = {"Identity", "IdentityN"}


@dataclass(frozen=True, eq=False)
class Variable:
    """name  by which all graphs of the model share it; value  that it has first."""

    name: str
    value: np.ndarray


@dataclass
class Store:
    """The resources of a source, by TensorFlow's handles of them.

    names     of variables, as the source calls them.
    assigned  the variables that a function changes; tables: numbers of tables.
    """

    names: dict[int, str] = field(default_factory=dict)
    assigned: set[int] = field(default_factory=set)
    variables: dict[int, Variable] = field(default_factory=dict)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    tables: dict[int, int] = field(default_factory=dict)
    first: Builder | None = None  # the graph that is called once

    def value(self, held: Any, dtype: DType) -> np.ndarray:
        """What a variable holds now."""
        if id(held) not in self.constants:
            import tensorflow as tf

            made = tf.raw_ops.ReadVariableOp(resource=held, dtype=dtype.name).numpy()
            self.constants[id(held)] = np.asarray(made, dtype.numpy)
        return self.constants[id(held)]

    def variable(self, b: Builder, held: Any, dtype: DType) -> Variable:
        """The model's variable, which gets its first value in the graph that is called once."""
        if id(held) not in self.variables:
            wanted, taken = self.names.get(id(held), "variable"), {v.name for v in self.variables.values()}
            name = next(n for i in range(len(taken) + 1) if (n := f"{wanted}_{i}" if i else wanted) not in taken)
            made = self.variables[id(held)] = Variable(name, self.value(held, dtype))
            first = self.once(b)
            assign(first, made, first.constant(made.value, dtype))
        return self.variables[id(held)]

    def once(self, b: Builder) -> Builder:
        """The graph that is called once."""
        if self.first is None:
            self.first = b.conversion.graph("first_values")
        return self.first

    def call_once(self, b: Builder) -> None:
        """Lets a graph begin with the call, if there is anything to be done once."""
        if self.first is not None:
            cls = REGISTRY.by_name["CALL_ONCE"]
            b.nodes.insert(0, Node(cls, cls.Attrs(init_subgraph_index=self.first.number), [], []))


def find_assigned(program: Program, graph: Any, arguments: Sequence[Any]) -> None:
    """Notes the variables that a graph, or one that it calls, may change; arguments are handles or None."""
    from lithe.conversion.tensorflow.program import live

    known = {t.name: a for t, a in zip(graph.inputs, arguments, strict=True)}
    for operation in live(graph):
        given = [known.get(t.name) for t in operation.inputs]
        if not any(g is not None for g in given) or operation.type in ONLY_READ:
            continue
        if operation.type in PASSED_ON:
            known.update({t.name: g for t, g in zip(operation.outputs, given, strict=True)})
            continue
        called = [program.function(name) for name in callees(operation)]
        for inner in called:
            find_assigned(program, inner, given[len(given) - len(inner.inputs) :])
        if not called:
            program.store.assigned.update(id(g) for g in given if g is not None)


def callees(operation: Any) -> list[str]:
    """The names of functions that an operator calls."""
    attributes = operation.node_def.attr.values()
    return [f.name for a in attributes for f in ([a.func] if a.HasField("func") else a.list.func)]


# reading and writing


def node(b: Builder, op: str, inputs: list[Tensor | None], outputs: list[Tensor], **attributes: Any) -> None:
    cls = REGISTRY.by_name[op]
    b.add(Node(cls, cls.Attrs(**attributes), inputs, outputs))


def handle(b: Builder, variable: Variable) -> Tensor:
    made = Tensor(f"{b.name()}/handle{len(b.tensors)}", TensorType(RESOURCE, (1,)))
    node(b, "VAR_HANDLE", [], [made], shared_name=variable.name)
    return made


def assign(b: Builder, variable: Variable, value: Tensor) -> None:
    if value.type.shape != variable.value.shape:
        raise Inexpressible(f"a variable of shape {list(variable.value.shape)} is assigned {value.type}")
    node(b, "ASSIGN_VARIABLE", [handle(b, variable), value], [])


def read(t: Told, place: int = 0, dtype: DType | None = None) -> Tensor:
    """What a variable holds at this point."""
    source, kind = held(t, place), dtype or t.type_of_output().dtype
    store = t.program.store
    if id(source) not in store.assigned:
        return t.b.constant(store.value(source, kind), kind)
    variable = store.variable(t.b, source, kind)
    made = Tensor(f"{t.b.name()}/value{len(t.b.tensors)}", TensorType(dtype_of(variable.value), variable.value.shape))
    node(t.b, "READ_VARIABLE", [handle(t.b, variable)], [made])
    return made


def write(t: Told, value: Tensor, place: int = 0) -> None:
    """Gives the variable a new value."""
    variable = t.program.store.variable(t.b, held(t, place), value.type.dtype)
    t.program.shape_is(value, variable.value.shape)
    assign(t.b, variable, value)


def held(t: Told, place: int) -> Any:
    value = t.values[place]
    t.require(isinstance(value, Resource), "a resource that comes out of a function or a list")
    return value.held  # type: ignore[union-attr]


@own("ReadVariableOp")
def read_variable(t: Told) -> Tensor:
    return read(t)


@own("VariableShape")
def shape_of_variable(t: Told) -> Value:
    dims = held(t, 0)._handle_data.shape_and_type[0].shape.dim
    return counted(t.b, [d.size for d in dims], t.attribute("out_type", INT32))


@own("ResourceGather")
def gather(t: Told) -> Tensor:
    t.require(t.attribute("batch_dims", 0) == 0)
    return t.b("GATHER", read(t), written(t.b, t.values[1]), axis=0, batch_dims=0)


@own("AssignVariableOp")
def assign_variable(t: Told) -> Sequence[Value]:
    write(t, written(t.b, t.values[1]))
    return []


@own("AssignAddVariableOp", "AssignSubVariableOp")
def change_variable(t: Told) -> Sequence[Value]:
    change = written(t.b, t.values[1])
    builtin = "ADD" if t.definition.op == "AssignAddVariableOp" else "SUB"
    write(t, t.b(builtin, read(t, dtype=change.type.dtype), change))
    return []


@own("ResourceScatterAdd", "ResourceScatterSub")
def change_rows(t: Told) -> Sequence[Value]:
    """The changes of rows as a change of all: those of a row that is named twice add up."""
    indices, change = (written(t.b, v) for v in t.values[1:])
    before = read(t, dtype=change.type.dtype)
    row = before.type.shape[1:]
    count = indices.type.size
    t.require(change.type.size == count * math.prod(row), f"rows of {before.type} that are changed by {change.type}")
    places, changes = t.b.reshape(t.b.int32(indices), (count, 1)), t.b.reshape(change, (count, *row))
    whole = t.b("SCATTER_ND", places, changes, t.b.constant(list(before.type.shape)), dtype=change.type.dtype)
    write(t, t.b("ADD" if t.definition.op == "ResourceScatterAdd" else "SUB", before, whole))
    return []
