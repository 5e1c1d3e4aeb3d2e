"""A graph of TensorFlow as a graph of builtins: its operators one after the other, called functions in their place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.tensorflow import arrays as arrays
from lithe.conversion.tensorflow import flow as flow
from lithe.conversion.tensorflow import resources as resources
from lithe.conversion.tensorflow import tables as tables
from lithe.conversion.tensorflow import volumes as volumes
from lithe.conversion.tensorflow.flex import write_flex
from lithe.conversion.tensorflow.known import KNOWN
from lithe.conversion.tensorflow.resources import Store
from lithe.conversion.tensorflow.told import OWN, Told
from lithe.conversion.tensorflow.values import Counted, Value, counted, numbers, written
from lithe.errors import ModelError, UnsupportedOp
from lithe.formats import node_def
from lithe.ir.graph import Node, Tensor
from lithe.ops.flex.operators import flex_class
from lithe.passes.deflex import RULES
from lithe.passes.infer_shapes import BAD_NUMBERS
from lithe.passes.writer import Inexpressible
from lithe.types import DTYPES, FLOAT32, DType, TensorType

BAD_OPERANDS = (*BAD_NUMBERS, TypeError, LookupError)
FIRST_KIND = {"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "RefSwitch", "RefMerge"}
TAKES_ANY_RANK = {"AssignVariableOp", "EnsureShape", "Identity"}
UNRANKED = "something of which not even the number of dimensions is known; tf.ensure_shape says it"
FRAMES_OF_FRAMEWORKS = tuple(f"site-packages{os.sep}{name}{os.sep}" for name in ("tensorflow", "keras", "tf_keras"))


@dataclass
class Program:
    """The functions of one source.

    store    its variables and tables.
    defined  the functions that others call, by name, with the graph that knows them; graphs: those that were read.
    unranked tensors of which not even the number of dimensions is known.
    missing  tensors that stand for what could not be said; what is computed from them is no problem of its own.
    """

    store: Store
    defined: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    graphs: dict[str, Any] = field(default_factory=dict)
    missing: set[Tensor] = field(default_factory=set)
    unranked: set[Tensor] = field(default_factory=set)

    def rehearsal(self) -> Program:
        """One that may write a part to see what comes out, and leaves no trace."""
        store = Store(self.store.names, self.store.assigned, constants=self.store.constants)
        return Program(store, self.defined, self.graphs)

    def know(self, graph: Any) -> None:
        """Takes in the functions that a graph, or one of those, calls."""
        for definition in graph.as_graph_def().library.function:
            self.defined.setdefault(definition.signature.name, (definition, graph))

    def function(self, name: str) -> Any:
        """The graph of the function with this name."""
        if name not in self.graphs:
            from tensorflow.python.framework import function_def_to_graph

            definition, outer = self.defined[name]
            with outer.as_default():
                self.graphs[name] = function_def_to_graph.function_def_to_graph(definition)
        return self.graphs[name]

    def write(self, b: Builder, graph: Any, arguments: Sequence[Value]) -> list[Value]:
        """What a graph gives for these arguments, captured ones among them."""
        values: dict[str, Value] = {t.name: v for t, v in zip(graph.inputs, arguments, strict=True)}
        operations = live(graph)
        refuse_first_kind(operations)
        for operation in operations:
            if operation.outputs and operation.outputs[0].name in values:
                continue
            made = self.operator(b, operation, [self.known(b, values, t) for t in operation.inputs])
            values.update({t.name: v for t, v in zip(operation.outputs, made, strict=False) if v is not None})
        return [self.known(b, values, t) for t in graph.outputs]

    def known(self, b: Builder, values: Mapping[str, Value], tensor: Any) -> Value:
        """The value of a tensor. A result that builtins do not give is a problem once something reads it."""
        if tensor.name not in values:
            b.problem(tensor.op.type, f"builtins do not give its result {tensor.name}")
            made = Tensor(f"{tensor.name}/missing", declared(tensor))
            self.missing.add(made)
            return made
        return values[tensor.name]

    def shape_is(self, tensor: Tensor, shape: Sequence[int]) -> None:
        """Takes note of the shape of a tensor of which nothing was known."""
        if tensor in self.unranked:
            tensor.type = TensorType(tensor.type.dtype, tuple(shape))
            self.unranked.discard(tensor)

    def tensor(self, b: Builder, value: Value) -> Tensor:
        """A result of the source as a tensor."""
        made = b.attempt("a result", lambda: [written(b, value)], [TensorType(FLOAT32, ())])[0]
        if made in self.unranked:
            b.problem("a result", UNRANKED)
        return made

    def operator(self, b: Builder, operation: Any, values: list[Value]) -> Sequence[Value | None]:
        """What an operator gives; where nothing can say it, a problem, and tensors that stand for its results."""
        with b.at(operation.name, operation.name):
            try:
                return self._written(b, operation, values)
            except (Inexpressible, ModelError, *BAD_OPERANDS) as cause:
                return self._unsaid(b, operation, values, cause)

    def _written(self, b: Builder, operation: Any, values: list[Value]) -> Sequence[Value | None]:
        name = operation.type
        definition = node_def.NodeDef(operation.name, name)
        if name != "Const":
            definition = node_def.read(operation.node_def.SerializeToString())
        b.require(name in TAKES_ANY_RANK or self.unranked.isdisjoint(values), UNRANKED)
        outputs = [Tensor(t.name, declared(t)) for t in operation.outputs]
        told = Told(self, b, operation, Node(flex_class(f"Flex{name}"), definition, [], outputs), values)
        own = OWN.get(name)
        if own is not None:
            made = own(told)
        elif (sizes := _sizes(told)) is not None:
            made = sizes
        else:
            b.require(name in RULES, "there is no builtin for it")
            told.write()
            made = RULES[name](told)
        return made if isinstance(made, list | tuple) else [made]  # type: ignore[list-item]

    def _unsaid(self, b: Builder, operation: Any, values: list[Value], cause: Exception) -> list[Value | None]:
        if b.conversion.select_tf:
            try:
                return write_flex(b, operation, values, self.unranked)
            except Inexpressible as flaw:
                cause = Inexpressible(f"{cause}; TensorFlow's own cannot stay: {flaw}")
        if self.missing.isdisjoint(v for v in values if isinstance(v, Tensor)):
            b.where = place(operation)
            b.problem(operation.type, str(cause))
        made = [Tensor(f"{operation.name}/missing{i}", declared(t)) for i, t in enumerate(operation.outputs)]
        self.missing.update(made)
        return list(made)


def _sizes(told: Told) -> Value | None:
    """The result of arithmetic on sizes, where one of them is open."""
    if not any(isinstance(v, Counted) for v in told.values) or told.definition.op not in KNOWN:
        return None
    operands = [numbers(v) for v in told.values]
    dtype = told.type_of_output().dtype
    if any(o is None for o in operands) or not dtype.is_integer:
        return None
    try:
        made = KNOWN[told.definition.op](told.attributes, *operands)
    except Inexpressible:
        return None
    return counted(told.b, made, dtype)


def live(graph: Any) -> list[Any]:
    """The operators that the graph's results, or its effects, come from, in the order in which they run."""
    found: set[str] = set()
    waiting = [*(t.op for t in graph.outputs), *getattr(graph, "control_outputs", ())]
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found.add(operation.name)
            waiting += [*(t.op for t in operation.inputs), *operation.control_inputs]
    return [operation for operation in graph.get_operations() if operation.name in found]


def refuse_first_kind(operations: Sequence[Any]) -> None:
    """Branches and loops of TensorFlow 1 are no functions, but paths through one graph."""
    for operation in operations:
        if operation.type in FIRST_KIND:
            raise UnsupportedOp(
                f"{operation.type} at {operation.name} is control flow of TensorFlow 1",
                hint="make the graph after tf.compat.v1.enable_control_flow_v2(), or with tf.function",
            )


def dtype_of(tensor: Any) -> DType:
    """The element type of a tensor of TensorFlow."""
    name = tensor.dtype.base_dtype.name
    if name not in DTYPES:
        raise ModelError(f"{tensor.name} has the element type {name}, which files cannot hold")
    return DTYPES[name]


def declared(tensor: Any) -> TensorType:
    """The type that TensorFlow knows for a tensor, 1 for sizes that it does not know."""
    dims = () if tensor.shape.rank is None else tuple(1 if n is None else int(n) for n in tensor.shape)
    return TensorType(dtype_of(tensor), dims)


def place(operation: Any) -> str:
    """The operator's name, and the line of the user's source that made it where that is known."""
    frames = [f for f in operation.traceback or () if not any(part in f.filename for part in FRAMES_OF_FRAMEWORKS)]
    own = [f for f in frames if os.sep + "lithe" + os.sep not in f.filename and os.path.exists(f.filename)]
    return f"{operation.name}, {os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else operation.name
