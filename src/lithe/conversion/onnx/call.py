"""How a rule for an operator of ONNX is written.

A rule is a function of a builder and a `Call`; it gives a value for each result. A value is a tensor of the graph, or
an array: a constant, or integers that were computed from shapes at conversion time, stand-ins of open dimensions
included. Arrays become tensors when a rule asks for a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import BFLOAT16, BOOL, DTYPES, FLOAT16, FLOAT32, INT64, STRING, UINT64, DType, Shape, TensorType

if TYPE_CHECKING:
    from lithe.conversion.onnx.graph import Scope

Value = Tensor | np.ndarray
Rule = Callable[[Builder, "Call"], Any]
RULES: dict[str, Rule] = {}

# ONNX's numbers of element types (onnx.TensorProto.DataType)
TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 19: "float8_e5m2", 21: "uint4", 22: "int4", 26: "int2",
}  # fmt: skip
NUMBERS = {name: number for number, name in TYPES.items()}
OTHERS = {18: "float8_e4m3fnuz", 20: "float8_e5m2fnuz", 23: "float4_e2m1", 24: "float8_e8m0", 25: "uint2"}


def dtype_of_number(number: int) -> DType:
    """The element type. Raises Inexpressible where the format has no such type."""
    if number not in TYPES:
        raise Inexpressible(f"elements of type {OTHERS.get(number, number)}")
    return DTYPES[TYPES[number]]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: what the operators with these names become."""

    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


@dataclass
class Call:
    """One node of an ONNX graph.

    op          the operator's name, `version` that of its operator set.
    attributes  as Python has them: numbers, strings, lists, arrays, graphs (GraphProto).
    operands    a value each, None for those left out.
    results     names of the results, "" for those that nobody asks for.
    scope       where the node stands.
    """

    op: str
    version: int
    attributes: dict[str, Any]
    operands: list[Value | None]
    results: list[str]
    scope: Scope
    b: Builder
    origin: dict[str, Any] = field(default_factory=dict)

    def has(self, i: int) -> bool:
        return i < len(self.operands) and self.operands[i] is not None

    def attr(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def __getitem__(self, i: int) -> Tensor:
        """Operand i as a tensor."""
        value = self.operands[i] if i < len(self.operands) else None
        if value is None:
            raise Inexpressible(f"operand {i} is missing")
        return tensor(self.b, value)

    def get(self, i: int) -> Tensor | None:
        return self[i] if self.has(i) else None

    def tensors(self) -> list[Tensor]:
        return [self[i] for i in range(len(self.operands))]

    def known(self, i: int) -> np.ndarray | None:
        """Operand i where its elements are known, stand-ins of open dimensions included."""
        value = self.operands[i] if i < len(self.operands) else None
        if isinstance(value, Tensor):
            return value.data
        return value

    def array(self, i: int, what: str = "") -> np.ndarray:
        """Operand i, whose elements must be known."""
        value = self.known(i)
        if value is None:
            raise Inexpressible(f"{what or f'operand {i}'} is computed when the model runs")
        return value

    def ints(self, i: int, what: str = "") -> list[int]:
        return [int(v) for v in self.array(i, what).reshape(-1)]

    def shape(self, i: int) -> Shape:
        """The shape of operand i."""
        value = self.operands[i]
        assert value is not None
        return value.type.shape if isinstance(value, Tensor) else value.shape

    def dtype(self, i: int) -> DType:
        value = self.operands[i]
        assert value is not None
        return value.type.dtype if isinstance(value, Tensor) else dtype_of_array(value)

    def declared(self, result: int = 0, rank: int | None = None) -> Shape:
        """The shape that the model declares for a result; what it leaves open is a new open dimension.

        rank  of the result, where the model declares nothing.
        """
        return self.scope.declared(self.results[result], rank)

    def found(self, op: str, inputs: Sequence[Tensor | None], shape: Sequence[int], dtype: DType | None = None,
              **attrs: Any) -> Tensor:  # fmt: skip
        """The result of a builtin whose shape only a run can tell; open dimensions in `shape` are read from it."""
        made = Tensor(f"{self.b.name()}/{len(self.b.tensors)}", TensorType(
            dtype or next(t.type.dtype for t in inputs if t is not None), tuple(map(int, shape))))  # fmt: skip
        self.b.add(self.b._node(op, list(inputs), [made], **attrs))
        self.b.originate(made)
        return made


def dtype_of_array(array: np.ndarray) -> DType:
    if array.dtype.kind in "OSU":
        return STRING
    if array.dtype.name not in DTYPES:
        raise Inexpressible(f"elements of type {array.dtype.name}")
    return DTYPES[array.dtype.name]


class OpenSizes(np.ndarray):
    """Integers (or float64) of which some are stand-ins of open dimensions, or were computed from them."""


def sizes(array: np.ndarray) -> np.ndarray:
    """The array, marked where one of its elements depends on an open dimension."""
    marked = array.dtype.kind in "iuf" and array.size and is_open(np.abs(array).max())
    return array.view(OpenSizes) if marked else np.asarray(array).view(np.ndarray)


def has_open(array: np.ndarray) -> bool:
    """Whether a stand-in of an open dimension is among the elements."""
    return isinstance(array, OpenSizes)


def tensor(b: Builder, value: Value) -> Tensor:
    """A value as a tensor of the graph."""
    if isinstance(value, Tensor):
        return value
    dtype = dtype_of_array(value)
    if not has_open(value):
        return b.constant(value, dtype)
    b.require(bool((value >= 0).all()) and dtype.is_integer, "a number computed from an open dimension")
    line = b.vector([int(v) for v in value.reshape(-1)])
    return cast(b, b.reshape(line, value.shape), dtype)


def cast(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """The elements in another type; what is not zero is true."""
    if dtype == x.type.dtype:
        return x
    b.require(STRING not in (dtype, x.type.dtype), "a conversion from or to strings")
    if dtype == BOOL:
        return b("NOT_EQUAL", *(widened(b, t) for t in (x, b.constant(0, x.type.dtype))), dtype=BOOL)
    return converted(b, x, dtype)


# What the kernels of elementwise builtins take, and in which type others are computed.
WIDER = {
    "uint8": "int32", "int8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64",
    "float16": "float32", "bfloat16": "float32", "float64": "float32", "int4": "int32", "uint4": "int32",
    "int2": "int32",
}  # fmt: skip
# builtins that do not take integers of 64 bits, and those that take floats alone
NARROW = {"POW", "DIV", "FLOOR_DIV", "SIGN", "ABS", "SQUARED_DIFFERENCE", "ADD_N", "REDUCE_WINDOW", "SEGMENT_SUM"}
FLOATS = {
    "CEIL", "FLOOR", "ROUND", "COS", "SIN", "EXP", "LOG", "SQRT", "RSQRT", "LOGISTIC", "TANH", "ELU", "RELU", "RELU6",
    "LEAKY_RELU", "GELU", "HARD_SWISH", "SOFTMAX", "LOG_SOFTMAX", "PRELU", "ATAN2", "SQUARE", "MEAN",
}  # fmt: skip


def working_dtype(builtin: str, dtype: DType) -> DType:
    """The type in which a builtin computes what was given in this one."""
    wide = DTYPES[WIDER.get(dtype.name, dtype.name)]
    if builtin in FLOATS and wide.is_integer:
        return DTYPES["float32"]
    return DTYPES["int32"] if builtin in NARROW and wide == INT64 else wide


def widened(b: Builder, x: Tensor, builtin: str = "") -> Tensor:
    dtype = working_dtype(builtin, x.type.dtype)
    return converted(b, x, dtype)


def converted(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """CAST; unsigned integers of 64 bits, which it does not take, keep their bits as signed ones."""
    if x.type.dtype == dtype:
        return x
    if x.type.dtype == UINT64:
        return b.cast(b("BITCAST", x, dtype=INT64), dtype)
    if dtype == UINT64:
        return b("BITCAST", b.cast(x, INT64), dtype=UINT64)
    return b.cast(x, dtype)


def computed(b: Builder, builtin: str, *xs: Tensor, dtype: DType | None = None, **attrs: Any) -> Tensor:
    """A builtin in a type that it takes; the result has the type of the first operand, or the one given."""
    made = b(builtin, *(widened(b, x, builtin) for x in xs), dtype=dtype, **attrs)
    return made if dtype is not None else converted(b, made, xs[0].type.dtype)


def full(b: Builder, x: Tensor) -> Tensor:
    """Floats of 16 bits as float32, which holds them all: for builtins that move elements and lack these types."""
    return b.cast(x, FLOAT32) if x.type.dtype in (FLOAT16, BFLOAT16) else x


def stack(b: Builder, xs: Sequence[Tensor], axis: int) -> Tensor:
    """The tensors along a new axis."""
    return b.cast(b("PACK", *(full(b, x) for x in xs), values_count=len(xs), axis=axis), xs[0].type.dtype)


def attribute(a: Any) -> Any:
    """An attribute's value as Python has it."""
    import onnx

    value = onnx.helper.get_attribute_value(a)
    if a.type == onnx.AttributeProto.TENSOR:
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value] if a.type in _LISTS else value


_LISTS = (6, 7, 8)  # FLOATS, INTS, STRINGS
