"""Rules for TensorFlow's operators (see `lithe.passes.deflex`) that write straight into a graph of a conversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.tensorflow.values import Counted, Value, computed, written
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import Site
from lithe.passes.deflex.draft import Draft
from lithe.passes.infer_shapes import inferred
from lithe.types import INT32, DType

if TYPE_CHECKING:
    from lithe.conversion.tensorflow.program import Program


class Told(Draft):
    """One operator of the source and its values. What its rule writes goes into the builder's graph.

    operation  as TensorFlow has it; program  that it is part of.

    Sizes are tensors for a rule, but shapes are inferred from their numbers. A size that depends on data becomes an
    open one of its own.
    """

    def __init__(self, program: Program, b: Builder, operation: Any, node: Node, values: Sequence[Value]) -> None:
        super().__init__(node)
        self.program, self.b, self.operation, self.values = program, b, operation, values
        self.nodes, self.tensors, self._constants = b.nodes, b.tensors, b._constants
        self._counted: dict[Tensor, Counted] = {}

    def write(self) -> None:
        """Gives the node its operands as tensors."""
        for value in self.values:
            tensor = written(self.b, value)
            self.node.inputs.append(tensor)
            if isinstance(value, Counted):
                self._counted[tensor] = value

    def name(self) -> str:
        return self.b.name()

    def int32(self, tensor: Tensor) -> Tensor:
        if tensor not in self._counted:
            return self.b.int32(tensor)
        value = self._counted[tensor]
        made = computed(self.b, value, INT32)
        self._counted[made] = value
        return made

    def infer(self, node: Node, rank: int) -> None:
        constants = tuple(
            self._counted[t].numbers if t in self._counted else None if t is None else t.data for t in node.inputs
        )
        shapes = inferred(node, replace(Site.of(node), constants=constants))
        for i, (tensor, shape) in enumerate(zip(node.outputs, shapes, strict=True)):
            tensor.type = replace(
                tensor.type, shape=tuple(self._size(node, i, axis, n) for axis, n in enumerate(shape))
            )
            self.b.originate(tensor)

    def _size(self, node: Node, output: int, axis: int, n: int | None) -> int:
        """A size that depends on data has a name by what it depends on: equal slices are of equal size."""
        if n is not None:
            return int(n)
        source = "/".join(t.name for t in node.inputs[1:] or node.inputs if t is not None and t.data is None)
        return self.b.sizes.stand_in(f"{node.op.name.lower()}_{axis}_of_{source}")

    def add(self, node: Node) -> None:
        self.b.add(node)

    def constant(self, value: object, dtype: DType = INT32) -> Tensor:
        return self.b.constant(value, dtype)

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        wanted = [int(n) for n in shape]
        if -1 in wanted:
            place, rest = wanted.index(-1), int(np.prod([n for n in wanted if n != -1], dtype=object))
            self.require(rest > 0 and tensor.type.size % rest == 0, f"a reshape of {tensor.type} to {wanted}")
            wanted[place] = tensor.type.size // rest
        return self.b.reshape(tensor, wanted)

    def transpose(self, tensor: Tensor, permutation: Sequence[int]) -> Tensor:
        return self.b.transpose(tensor, permutation)


Rule = Callable[[Told], "Value | Sequence[Value | None]"]
OWN: dict[str, Rule] = {}


def own(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: how the front end itself writes the operators with these names; `values` are their operands."""

    def add(function: Rule) -> Rule:
        OWN.update(dict.fromkeys(names, function))
        return function

    return add
