"""Writing the builtins that stand for one of TensorFlow's operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.ir.graph import Node, Tensor
from lithe.ops.flex.operators import NodeDef
from lithe.ops.op import REGISTRY, Site
from lithe.ops.verify import has_rule
from lithe.passes.infer_shapes import infer_node, inferred, is_dynamic, unknown_shape
from lithe.types import BOOL, INT32, DType, Shape, TensorType


class Inexpressible(Exception):
    """The builtins cannot say what this operator does here."""


class Draft:
    """Collects the builtins for one node: `y = d("MUL", x, x)`.

    node    the operator of TensorFlow, `inputs` and `attributes` its operands and attributes.
    nodes   the builtins so far, `tensors` what was made for them.
    """

    def __init__(self, node: Node) -> None:
        self.node, self.definition = node, node.attrs
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self._constants: dict[tuple[bytes, str, Shape], Tensor] = {}

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

    def require(self, condition: bool) -> None:
        if not condition:
            raise Inexpressible(self.definition.op)

    def type_of_output(self, i: int = 0) -> TensorType:
        return self.node.outputs[i].type

    def constant(self, value: Any, dtype: DType = INT32) -> Tensor:
        array = np.asarray(value, dtype.numpy)
        key = (array.tobytes(), dtype.name, array.shape)
        if key not in self._constants:
            name = f"{self._name()}/constant{len(self._constants)}"
            self._constants[key] = Tensor(name, TensorType(dtype, array.shape), array)
        return self._constants[key]

    def array(self, tensor: Tensor) -> np.ndarray:
        """The value of an operand that must be a constant."""
        if tensor.data is None:
            raise Inexpressible(f"{tensor!r} is not constant")
        return tensor.data

    def shape(self, tensor: Tensor) -> Shape:
        """The shape of an operand, which must be known."""
        self.require(not is_dynamic(tensor.type))
        return tensor.type.shape

    def int32(self, tensor: Tensor) -> Tensor:
        """Numbers of axes and sizes in the type that builtins take."""
        if tensor.type.dtype == INT32:
            return tensor
        if tensor.data is not None:
            return self.constant(np.clip(tensor.data, -(1 << 31), (1 << 31) - 1))
        return self.cast(tensor, INT32)

    def cast(self, tensor: Tensor, dtype: DType) -> Tensor:
        if tensor.type.dtype == dtype:
            return tensor
        return self("CAST", tensor, dtype=dtype, in_data_type=tensor.type.dtype, out_data_type=dtype)

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """Another shape of the same elements; -1 once for what is left."""
        return self("RESHAPE", tensor, self.constant(shape), rank=len(shape), new_shape=tuple(shape))

    def transpose(self, tensor: Tensor, permutation: Sequence[int]) -> Tensor:
        """The axes in another order; a constant is turned at once."""
        if list(permutation) == sorted(permutation):
            return tensor
        if tensor.data is not None:
            return self.constant(np.ascontiguousarray(tensor.data.transpose(permutation)), tensor.type.dtype)
        return self("TRANSPOSE", tensor, self.constant(list(permutation)))

    def __call__(
        self, op: str, *inputs: Tensor | None, dtype: DType | None = None, rank: int = -1, **attrs: Any
    ) -> Tensor:
        """The first output of a builtin."""
        return self.several(op, *inputs, dtypes=[dtype], rank=rank, **attrs)[0]

    def several(
        self, op: str, *inputs: Tensor | None, dtypes: Sequence[DType | None], rank: int = -1, **attrs: Any
    ) -> list[Tensor]:
        """All outputs of a builtin.

        dtypes  None: that of the first input.
        rank    of the outputs, where it is not seen from the inputs' shapes.
        """
        cls = REGISTRY.by_name[op]
        first = next((t.type.dtype for t in inputs if t is not None), INT32)
        outputs = [self._made(dtype or first, len(self.tensors) + i) for i, dtype in enumerate(dtypes)]
        node = Node(cls, cls.Attrs(**attrs), list(inputs), outputs)
        names = cls.operands[0]
        most = math.inf if any(name.endswith("*") for name in names) else len(names)
        self.require(sum(not name.endswith(("?", "*")) for name in names) <= len(inputs) <= most and has_rule(node))
        try:
            shapes = self._ranks(node, rank)
            for tensor, shape in zip(outputs, shapes, strict=True):
                tensor.type = replace(tensor.type, shape=shape)
            infer_node(node)
        except ModelError as cause:
            raise Inexpressible(cause.problem) from cause
        self.nodes.append(node)
        self.tensors += outputs
        return outputs

    def _made(self, dtype: DType, number: int) -> Tensor:
        return Tensor(f"{self._name()}/{number}", TensorType(dtype, ()))

    def _name(self) -> str:
        return self.node.outputs[0].name if self.node.outputs else str(self.definition.name)

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


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor to calculate with; numbers become constants of its type."""

    draft: Draft
    tensor: Tensor

    def apply(self, op: str, *others: Any, dtype: DType | None = None, **attrs: Any) -> Value:
        tensors = [self._operand(o) for o in others]
        return Value(self.draft, self.draft(op, self.tensor, *tensors, dtype=dtype, **attrs))

    def _operand(self, other: Any) -> Tensor:
        return other.tensor if isinstance(other, Value) else self.like(other).tensor

    def like(self, number: Any) -> Value:
        """A constant of this value's type."""
        return Value(self.draft, self.draft.constant(number, self.tensor.type.dtype))

    def __add__(self, other: Any) -> Value:
        return self.apply("ADD", other)

    def __sub__(self, other: Any) -> Value:
        return self.apply("SUB", other)

    def __mul__(self, other: Any) -> Value:
        return self.apply("MUL", other)

    def __truediv__(self, other: Any) -> Value:
        return self.apply("DIV", other)

    def __radd__(self, other: Any) -> Value:
        return self.like(other) + self

    def __rsub__(self, other: Any) -> Value:
        return self.like(other) - self

    def __rmul__(self, other: Any) -> Value:
        return self.like(other) * self

    def __rtruediv__(self, other: Any) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        return self.apply("NEG")

    def __abs__(self) -> Value:
        return self.apply("ABS")

    def compare(self, op: str, other: Any) -> Value:
        """A truth value for each element: EQUAL, LESS, ..."""
        return self.apply(op, other, dtype=BOOL)

    def __lt__(self, other: Any) -> Value:
        return self.compare("LESS", other)

    def __gt__(self, other: Any) -> Value:
        return self.compare("GREATER", other)


def where(condition: Value, a: Any, b: Any) -> Value:
    """a where the condition holds, else b; one of them may be a number."""
    value: Value = a if isinstance(a, Value) else b
    a, b = (v if isinstance(v, Value) else value.like(v) for v in (a, b))
    d = condition.draft
    return Value(d, d("SELECT_V2", condition.tensor, a.tensor, b.tensor, dtype=value.tensor.type.dtype))
