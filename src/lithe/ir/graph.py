"""The graph language: operators on tensors. Its vocabulary is that of TensorFlow Lite.

    Module = Graph*  Signature*  metadata         what a model file holds
    Graph  = inputs  outputs  Node*               nodes in execution order
    Node   = operator  attributes  inputs  outputs
    Tensor = name  type  (constant data)          compared by identity

Nodes refer to tensors and tensors know nothing of nodes; `Graph.producers` and `Graph.consumers`
answer who makes and who reads a tensor. Passes work on a copy (`Graph.copy`) and may change it freely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.errors import LitheError
from lithe.types import Shape, TensorType


@dataclass(eq=False)
class Tensor:
    """One value of a graph.

    data             the constant's elements (possibly a read-only view of the file), or None.
    shape_signature  the shape as the author declared it, -1 where it may change; None: as `type.shape`.
    index            position in the model file, -1 for tensors made by a pass.
    extras           fields of the format that Lithe keeps but does not interpret (by schema field name).
    """

    name: str
    type: TensorType
    data: np.ndarray | None = None
    is_variable: bool = False
    shape_signature: Shape | None = None
    index: int = -1
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    def __repr__(self) -> str:
        return f"#{self.index} '{self.name}' {self.type}"


@dataclass(eq=False)
class Node:
    """One operator applied to tensors; an absent optional operand is None.

    op      the operator's class (see `lithe.ops`); an operator that Lithe does not know has `op.known` False.
    attrs   an instance of `op.Attrs`, or a dict of schema fields when the operator is unknown.
    index   position in the model file, -1 for nodes made by a pass.
    extras  fields of the format kept but not interpreted, among them "custom_options" (bytes).
    refusal the error with which running this node ends, found by the verifier: a sound model may use what the
            operator's rules do not cover. None when nothing speaks against it.
    intermediates  types of values inside the operator, for those whose quantization the model gives beside it.
    """

    op: Any
    attrs: Any
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    index: int = -1
    extras: dict[str, Any] = field(default_factory=dict)
    refusal: LitheError | None = None
    intermediates: tuple[TensorType | None, ...] = ()

    @property
    def has_rules(self) -> bool:
        """Whether the operator's class says what this node does."""
        return bool(self.op.known) and self.refusal is None

    def __repr__(self) -> str:
        return f"op #{self.index} {self.op.name}"


@dataclass(eq=False)
class Graph:
    """Operators in execution order between inputs and outputs. `tensors` holds every tensor, also unused ones.

    refusal  the error with which using this graph ends: a model may be sound in all of its graphs but one that is not
             the main one. None when nothing speaks against it.
    """

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    tensors: list[Tensor]
    nodes: list[Node]
    refusal: LitheError | None = None

    def producers(self) -> dict[Tensor, Node]:
        return {t: n for n in self.nodes for t in n.outputs}

    def consumers(self) -> dict[Tensor, list[Node]]:
        users: dict[Tensor, list[Node]] = {}
        for n in self.nodes:
            for t in n.inputs:
                if t is not None:
                    users.setdefault(t, []).append(n)
        return users

    def renumber(self) -> None:
        """Lists the tensors that are in use, and numbers them and the nodes in order.

        Tensors that only said how a node's intermediates are quantized are gone; `Node.intermediates` says it.
        """
        mentioned = (t for n in self.nodes for t in (*n.inputs, *n.outputs) if t is not None)
        self.tensors = list(dict.fromkeys((*self.inputs, *mentioned, *self.outputs)))
        for i, t in enumerate(self.tensors):
            t.index = i
        for i, n in enumerate(self.nodes):
            n.index = i
            if n.intermediates:
                n.extras = {key: value for key, value in n.extras.items() if key != "intermediates"}

    def copy(self) -> Graph:
        """New nodes, tensors and lists; constant data are shared."""
        same: dict[int, Tensor] = {}

        def of(t: Tensor | None) -> Any:
            if t is None:
                return None
            if id(t) not in same:
                same[id(t)] = Tensor(t.name, t.type, t.data, t.is_variable, t.shape_signature, t.index, dict(t.extras))
            return same[id(t)]

        nodes = [
            Node(
                n.op,
                n.attrs,
                [of(t) for t in n.inputs],
                [of(t) for t in n.outputs],
                n.index,
                dict(n.extras),
                n.refusal,
                n.intermediates,
            )
            for n in self.nodes
        ]
        return Graph(
            self.name, [of(t) for t in self.inputs], [of(t) for t in self.outputs], [of(t) for t in self.tensors],
            nodes, self.refusal,
        )  # fmt: skip


@dataclass
class Signature:
    """A graph as a function: names for its inputs and outputs."""

    key: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    graph: int = 0


@dataclass(eq=False)
class Module:
    """A whole model: graphs (number 0 is the main one), signatures, and named metadata kept byte for byte."""

    graphs: list[Graph]
    signatures: list[Signature] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)
    description: str = ""
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> Graph:
        return self.graphs[0]

    def copy(self) -> Module:
        """New graphs and signatures; constant data are shared."""
        graphs = [g.copy() for g in self.graphs]
        pairs = ((old, new) for g, copied in zip(self.graphs, graphs, strict=True)
                 for old, new in zip(g.tensors, copied.tensors, strict=True))  # fmt: skip
        same = dict(pairs)
        signatures = [
            Signature(s.key, {n: same[t] for n, t in s.inputs.items()}, {n: same[t] for n, t in s.outputs.items()},
                      s.graph) for s in self.signatures
        ]  # fmt: skip
        return Module(graphs, signatures, dict(self.metadata), self.description, dict(self.extras))

    def constants(self) -> Iterator[Tensor]:
        for g in self.graphs:
            yield from (t for t in g.tensors if t.is_constant)
