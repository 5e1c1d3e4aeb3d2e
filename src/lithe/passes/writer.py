"""Writing builtins: what a rewrite or a conversion says in the operators of TensorFlow Lite."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.ops.verify import has_rule
from lithe.passes.infer_shapes import is_dynamic
from lithe.types import BOOL, INT32, DType, Shape, TensorType

SMALL_CONSTANT = 1 << 12  # bytes that are compared; larger constants are seldom equal by chance


class Inexpressible(Exception):
    """The builtins cannot say what this operator does here."""


class Writer(ABC):
    """Collects builtins: `y = w("MUL", x, x)`.

    nodes   the builtins so far, `tensors` what was made for them.

    Who derives from it says how results are named (`name`) and how their shapes are found (`infer`).
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self._number = 0  # of the next constant
        self._constants: dict[tuple[bytes | int, str, Shape], Tensor] = {}  # the tensors keep their arrays alive

    @abstractmethod
    def name(self) -> str:
        """What the names of results begin with."""

    @abstractmethod
    def infer(self, node: Node, rank: int) -> None:
        """Gives the node's outputs their shapes; `rank`, where it is not negative, is theirs. Raises ModelError."""

    def require(self, condition: bool, problem: str = "") -> None:
        if not condition:
            raise Inexpressible(problem)

    def constant(self, value: Any, dtype: DType = INT32) -> Tensor:
        """A constant; small ones of equal value are one tensor."""
        array = np.asarray(value, dtype.numpy)
        key = (array.tobytes() if array.nbytes <= SMALL_CONSTANT else id(array), dtype.name, array.shape)
        if key not in self._constants:
            name = f"{self.name()}/constant{self._number}"
            self._number += 1
            self._constants[key] = Tensor(name, TensorType(dtype, array.shape), array)
        return self._constants[key]

    def forget(self) -> None:
        """Lets go of the nodes and constants so far: whoever has the nodes decides how long weights stay in memory."""
        self.nodes, self._constants = [], {}

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
            self.infer(node, rank)
        except ModelError as cause:
            raise Inexpressible(cause.problem) from cause
        self.add(node)
        return outputs

    def add(self, node: Node) -> None:
        """Takes the node, whose shapes are known."""
        self.nodes.append(node)
        self.tensors += node.outputs

    def _made(self, dtype: DType, number: int) -> Tensor:
        return Tensor(f"{self.name()}/{number}", TensorType(dtype, ()))


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor to calculate with; numbers become constants of its type."""

    writer: Writer
    tensor: Tensor

    def apply(self, op: str, *others: Any, dtype: DType | None = None, **attrs: Any) -> Value:
        tensors = [self._operand(o) for o in others]
        return Value(self.writer, self.writer(op, self.tensor, *tensors, dtype=dtype, **attrs))

    def _operand(self, other: Any) -> Tensor:
        return other.tensor if isinstance(other, Value) else self.like(other).tensor

    def like(self, number: Any) -> Value:
        """A constant of this value's type."""
        return Value(self.writer, self.writer.constant(number, self.tensor.type.dtype))

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
    d = condition.writer
    return Value(d, d("SELECT_V2", condition.tensor, a.tensor, b.tensor, dtype=value.tensor.type.dtype))
