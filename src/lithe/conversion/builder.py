"""Writing a converted model: builtins with shapes, open dimensions, constants folded as they are made.

Conversion    one model: its graphs, open dimensions, entries, and what could not be said
Entry         a function of the source that the model offers under a key
Builder       one graph of it; `y = b("MUL", x, x)`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lithe.conversion.sizes import Sizes, is_fixed, is_open, signature, smallest
from lithe.errors import ModelError, UnsupportedOp
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops.op import REGISTRY, NoAttrs, Site
from lithe.passes.fold_constants import fold_node
from lithe.passes.formulas import formula_class, spell_out
from lithe.passes.infer_shapes import inferred
from lithe.passes.layout import arrange_layouts
from lithe.passes.layout_writing import Turned
from lithe.passes.merge_reshapes import drop_copies_to_outputs
from lithe.passes.share import share_constants
from lithe.passes.tidy import recognise, tidy
from lithe.passes.writer import Inexpressible, Writer
from lithe.types import INT32, DType, Shape, TensorType, dtype_of

LISTED = 20  # problems that an error shows


@dataclass(frozen=True)
class Problem:
    """Something in the source that the builtins cannot say: which operator, where, why."""

    what: str
    where: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what} at {self.where}" + (f": {self.why}" if self.why else "")


Reference = Callable[[dict[str, np.ndarray]], Sequence[Any]]
Watched = Callable[[dict[str, np.ndarray]], Mapping[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A function of the source that the model offers under a key.

    signature    its key, graph, and named inputs and outputs.
    input_types  by name, with stand-ins for what is open.
    reference    runs the source: outputs in the signature's order for named inputs; None where it cannot run here.
    layers       runs the source: what its layers give, by the keys of `Builder.mark`; None where that is not watched.
    written      whether the model says so; a file without signatures gets none.
    """

    signature: Signature
    input_types: dict[str, TensorType]
    reference: Reference | None
    written: bool = True
    layers: Watched | None = None


@dataclass(frozen=True)
class Mark:
    """A tensor that holds what a layer of the source gives, and the place of that layer."""

    tensor: Tensor
    where: str


@dataclass
class Conversion:
    """One model that is being converted.

    source  what it comes from, for messages: "Keras", "ONNX", ...
    unroll  whether recurrent layers are written step by step where a builtin says the same.
    signatures  the keys of those that are wanted of a source that has several; none: all.
    select_tf   whether what has no builtin may stay an operator of TensorFlow.
    metadata, description, extras  of the model that is written, see `Module`.
    watch   whether tensors that hold what a layer of the source gives are marked, to be compared.
    """

    source: str
    unroll: bool = False
    signatures: tuple[str, ...] = ()
    select_tf: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    graphs: list[Builder] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    description: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    watch: bool = False

    def graph(self, name: str) -> Builder:
        """A new graph; the first one is the main graph."""
        self.graphs.append(Builder(self, name, len(self.graphs)))
        return self.graphs[-1]

    def sign(
        self,
        key: str,
        graph: Builder,
        inputs: dict[str, Tensor],
        outputs: dict[str, Tensor],
        reference: Reference | None = None,
        layers: Watched | None = None,
        written: bool = True,
    ) -> None:
        """Makes a graph known as a function with named arguments and results."""
        types = {name: t.type for name, t in inputs.items()}
        signature = Signature(key, inputs, outputs, graph.number)
        self.entries.append(Entry(signature, types, reference, written, layers))

    def module(self) -> Module:
        """The model. Raises UnsupportedOp with everything that the builtins could not say."""
        graphs = [b.finished() for b in self.graphs]
        if self.problems:
            shown = [f"\n  - {p}" for p in dict.fromkeys(map(str, self.problems))]
            more = f"\n  - and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
            raise UnsupportedOp(
                f"the builtin operators cannot express {len(shown)} part{'s' * (len(shown) > 1)} of this {self.source}"
                f" model:{''.join(shown[:LISTED])}{more}",
                hint="write these parts with other operations, or take them out of the model and run them outside",
            )
        share_constants(graphs)
        signatures = [e.signature for e in self.entries if e.written]
        return Module(graphs, signatures, self.metadata, self.description, self.extras)


class Builder(Writer):
    """One graph of a conversion.

    number  its place among the model's graphs.
    where   the place in the source that is being converted, for messages; set by `at`.
    scope   what names of results begin with: the layer, where the source has layers.
    knows_shapes  whether all shapes are known, with stand-ins for open sizes.
    """

    knows_shapes = True

    def __init__(self, conversion: Conversion, title: str, number: int) -> None:
        super().__init__()
        self.conversion, self.title, self.number = conversion, title, number
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.where, self.scope = title, title
        self._origins: dict[int, tuple[Tensor, int]] = {}  # stand-in -> an input and the axis that has this size
        self._computed: dict[int, Tensor] = {}
        self._repeated: dict[Tensor, Tensor] = {}
        self.marks: dict[str, Mark] = {}
        self.turned: Turned = {}

    @property
    def sizes(self) -> Sizes:
        return self.conversion.sizes

    # the graph's own ends

    def input(self, name: str, shape: Sequence[int], dtype: DType) -> Tensor:
        """A new input; open dimensions have their stand-ins."""
        tensor = Tensor(name, TensorType(dtype, tuple(int(n) for n in shape)))
        self.inputs.append(tensor)
        self.originate(tensor)
        return tensor

    def originate(self, tensor: Tensor) -> None:
        """Open dimensions that nothing before had can be read from this tensor."""
        for axis, n in enumerate(tensor.type.shape):
            if self.sizes.name_of(n) is not None:
                self._origins.setdefault(n, (tensor, axis))

    def output(self, tensor: Tensor, name: str) -> Tensor:
        """Makes a tensor an output of this name. Inputs, constants and what is an output already are copied."""
        if tensor in self.inputs or tensor in self.outputs or tensor.is_constant:
            tensor = self._copied(tensor)
        tensor.name = name
        self.outputs.append(tensor)
        return tensor

    def _copied(self, tensor: Tensor) -> Tensor:
        copy = Tensor(tensor.name, tensor.type)
        super().add(self._node("RESHAPE", [tensor, self.shape_operand(tensor.type.shape)], [copy]))
        return copy

    # writing

    def name(self) -> str:
        return self.scope

    @contextmanager
    def at(self, where: str, scope: str = "") -> Iterator[None]:
        """What is written inside comes from this place in the source."""
        before = self.where, self.scope
        self.where, self.scope = where, scope or self.scope
        try:
            yield
        finally:
            self.where, self.scope = before

    def infer(self, node: Node, rank: int) -> None:
        shapes = inferred(node, Site.of(node))
        for tensor, shape in zip(node.outputs, shapes, strict=True):
            if None in shape:
                raise Inexpressible(f"the shape of {node.op.name} depends on data")
            tensor.type = replace(tensor.type, shape=tuple(int(n) for n in shape))

    def add(self, node: Node) -> None:
        """Takes the node, or only its results where they are constant."""
        types = [t.type for t in (*node.inputs, *node.outputs) if t is not None]
        if all(is_fixed(t.shape) for t in types) and fold_node(node):
            return
        super().add(node)

    def mark(self, key: str, value: Any, where: str = "") -> None:
        """Remembers that a tensor is what the layer with this key gives, if the conversion is watched."""
        if self.conversion.watch and isinstance(value, Tensor) and value.data is None:
            self.marks[key] = Mark(value, where or self.where)

    def attempt(self, what: str, write: Callable[[], Sequence[Tensor]], results: Sequence[TensorType]) -> list[Tensor]:
        """What `write` gives; where the builtins cannot say it, a problem, and tensors that stand for its results."""
        try:
            return list(write())
        except (Inexpressible, ModelError) as cause:
            self.problem(what, str(cause))
            return [Tensor(f"{self.scope}/missing{i}", t) for i, t in enumerate(results)]

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is written inside is taken back where the builtins cannot say all of it; the error goes on."""
        nodes, tensors, known = len(self.nodes), len(self.tensors), (dict(self._origins), dict(self._computed))
        try:
            yield
        except Inexpressible:
            del self.nodes[nodes:], self.tensors[tensors:]
            self._origins, self._computed = known
            raise

    def problem(self, what: str, why: str = "") -> None:
        self.conversion.problems.append(Problem(what, self.where, why))

    # open dimensions

    def shape_operand(self, shape: Sequence[int]) -> Tensor:
        """A shape as RESHAPE takes it: a constant where at most one dimension is open."""
        open_ones = [n for n in shape if is_open(n)]
        if len(open_ones) <= 1:
            return self.constant(list(signature(shape)))
        return self.vector(shape)

    def vector(self, shape: Sequence[int]) -> Tensor:
        """The sizes as a one-dimensional tensor of int32, computed from the inputs where they are open."""
        if is_fixed(shape):
            return self.constant([int(n) for n in shape])
        parts = [self.size(n) if is_open(n) else self.constant([int(n)]) for n in shape]
        return parts[0] if len(parts) == 1 else self("CONCATENATION", *parts, axis=0)

    def size(self, n: int) -> Tensor:
        """One size as a tensor of shape [1]."""
        if n not in self._computed:
            self._computed[n] = self._size(n)
        return self._computed[n]

    def _size(self, n: int) -> Tensor:
        if n in self._origins:
            tensor, axis = self._origins[n]
            shape = self("SHAPE", tensor, dtype=INT32, out_type=INT32)
            return self("SLICE", shape, self.constant([axis]), self.constant([1]))
        formula = self.sizes.formula(n)
        if formula is None or any(self.sizes.stand_in(s) not in self._origins for s in formula.symbols):
            raise Inexpressible("a size is not a simple multiple of the open dimensions")
        value = self.size(self.sizes.stand_in(formula.symbols[0]))
        for symbol in formula.symbols[1:]:
            value = self("MUL", value, self.size(self.sizes.stand_in(symbol)))
        if formula.factor != 1:
            value = self("MUL", value, self.constant([formula.factor]))
        if formula.offset:
            value = self("ADD", value, self.constant([formula.offset]))
        return value if formula.divisor == 1 else self("FLOOR_DIV", value, self.constant([formula.divisor]))

    # shapes whose operand holds sizes: inferred from what is wanted, because the operand cannot hold stand-ins

    def sized(self, op: str, inputs: Sequence[Tensor], shape: Sequence[int], **attrs: Any) -> Tensor:
        """The result of an operator whose shape is known to be this one."""
        result = Tensor(f"{self.name()}/{len(self.tensors)}", TensorType(inputs[0].type.dtype, tuple(map(int, shape))))
        self.add(self._node(op, list(inputs), [result], **attrs))
        return result

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Another shape of the same elements (every dimension given)."""
        if tuple(shape) == tensor.type.shape:
            return tensor
        return self.sized("RESHAPE", [tensor, self.shape_operand(shape)], shape, new_shape=())

    def broadcast(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The elements repeated to this shape, which has the tensor's rank or more."""
        if tuple(shape) == tensor.type.shape:
            return tensor
        result = Tensor(f"{self.name()}/{len(self.tensors)}", replace(tensor.type, shape=tuple(map(int, shape))))
        super().add(self._node("BROADCAST_TO", [tensor, self.vector(shape)], [result]))  # small constants stay small
        self._repeated[result] = tensor
        return result

    def known(self, tensor: Tensor) -> np.ndarray | None:
        """The elements where they are constant, as an array that may have to be repeated to the tensor's shape."""
        return self._repeated.get(tensor, tensor).data

    def filled(self, value: Any, dtype: DType, shape: Sequence[int]) -> Tensor:
        """One number everywhere."""
        return self.broadcast(self.constant(np.full([1] * len(shape), value), dtype), shape)

    def slice(self, tensor: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """A part of the tensor; an open size is all that follows `begin`."""
        whole = all(b == 0 for b in begin) and tuple(size) == tensor.type.shape
        if whole:
            return tensor
        sizes = []
        for b, n, have in zip(begin, size, tensor.type.shape, strict=True):
            self.require(not is_open(n) or b + n == have, "a slice that depends on an open dimension")
            sizes.append(-1 if is_open(n) else n)
        self.require(not any(map(is_open, begin)), "a slice that begins where an open dimension says")
        operands = [tensor, self.constant([int(b) for b in begin]), self.constant(sizes)]
        return self.sized("SLICE", operands, size)

    def formula(self, name: str, *inputs: Tensor) -> Tensor:
        """A function that has no builtin, under TensorFlow's name; spelled out when the graph is finished."""
        made = Tensor(f"{self.name()}/{len(self.tensors)}", inputs[0].type)
        super().add(Node(formula_class(name), NoAttrs(), list(inputs), [made]))
        return made

    def _node(self, op: str, inputs: list[Tensor | None], outputs: list[Tensor], **attrs: Any) -> Node:
        cls = REGISTRY.by_name[op]
        return Node(cls, cls.Attrs(**attrs), inputs, outputs)

    # the end

    def finished(self) -> Graph:
        """The graph as a file holds it: open dimensions are -1 in signatures and 1 in shapes."""
        graph = Graph(self.title, self.inputs, self.outputs, [], self.nodes)
        self.forget()
        self.improve(graph)
        mentioned = (t for n in graph.nodes for t in (*n.inputs, *n.outputs) if t is not None)
        graph.tensors = list(dict.fromkeys((*graph.inputs, *mentioned, *graph.outputs)))
        for t in graph.tensors:
            if not is_fixed(t.type.shape):
                t.shape_signature = signature(t.type.shape)
                t.type = replace(t.type, shape=smallest(t.type.shape))
        for i, t in enumerate(graph.tensors):
            t.index = i
        for i, n in enumerate(graph.nodes):
            n.index = i
        return graph

    def improve(self, graph: Graph) -> None:
        """The passes over the finished graph."""
        recognise(graph)
        self._refuse_numbers_of_open_sizes(graph)
        tidy(graph)
        arrange_layouts(graph, is_open, self.turned)
        spell_out(graph, self)
        tidy(graph)
        drop_copies_to_outputs(graph)

    def _refuse_numbers_of_open_sizes(self, graph: Graph) -> None:
        """A size that the source computed with is a constant in what was traced; the count of a mean no longer."""
        for node in graph.nodes:
            for t in node.inputs:
                name = None if t is None or t.data is None else self.sizes.named_in(t.data)
                if name is not None:
                    self.where = graph.name
                    self.problem(
                        node.op.name, f"it computes with the size of '{name}', which is open; give it a number"
                    )


def type_of(array: np.ndarray) -> TensorType:
    return TensorType(dtype_of(array), array.shape)


def shape_of(tensor: Tensor) -> Shape:
    return tensor.type.shape
