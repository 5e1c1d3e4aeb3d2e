"""Writing the builtins that stand for one of TensorFlow's operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lithe.ir.graph import Node, Tensor
from lithe.ops.flex.operators import NodeDef
from lithe.ops.op import Site
from lithe.passes.infer_shapes import infer_node, inferred, unknown_shape
from lithe.passes.writer import Inexpressible, Writer
from lithe.types import Shape, TensorType


class Draft(Writer):
    """The builtins for one node.

    node    the operator of TensorFlow, `inputs` and `attributes` its operands and attributes.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node, self.definition = node, node.attrs

    @property
    def inputs(self) -> list[Tensor]:
        return [t for t in self.node.inputs if t is not None]

    @property
    def attributes(self) -> dict[str, Any]:
        definition: NodeDef = self.definition
        return definition.attributes

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute; `default` is what TensorFlow takes where none is written, and tells the type."""
        value = self.attributes.get(name)
        if value is None:
            return default
        if isinstance(default, str) and isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if type(value) is not type(default) and not (isinstance(default, float) and isinstance(value, int)):
            raise Inexpressible(f"attribute {name} is {value!r}")
        return value

    def type_of_output(self, i: int = 0) -> TensorType:
        return self.node.outputs[i].type

    def name(self) -> str:
        return self.node.outputs[0].name if self.node.outputs else str(self.definition.name)

    def infer(self, node: Node, rank: int) -> None:
        for tensor, shape in zip(node.outputs, self._ranks(node, rank), strict=True):
            tensor.type = replace(tensor.type, shape=shape)
        infer_node(node)

    def _ranks(self, node: Node, rank: int) -> list[Shape]:
        """Shapes of the right rank, which is what `infer_node` wants to know: unknown sizes count as 1."""
        if rank >= 0:
            return [unknown_shape(rank)] * len(node.outputs)
        site = Site.of(node)
        types = tuple(
            None if t is None else replace(t, shape=tuple(1 if d is None else d for d in t.shape)) for t in site.inputs
        )
        found = inferred(node, replace(site, inputs=types))
        self.require(None not in found)
        return [unknown_shape(len(shape)) for shape in found]


Rule = Callable[[Draft], Tensor | Sequence[Tensor | None]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: what the operators with these names become. An output may be None where nothing reads it."""

    def add(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return add
