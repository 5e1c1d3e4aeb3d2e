"""The loop language: what every code generator reads. It knows numbers and memory, and no operator.

    expr = Const(value, dtype) | Var(name) | Load(buffer, index) | Unary(op, x) | Binary(op, a, b)
         | Select(condition, a, b) | Cast(x, dtype) | Intrinsic(instruction, args)
    stmt = Alloc(buffer) | Store(buffer, index, value) | For(var, extent, body, kind)
         | If(condition, then, otherwise) | Call(name, args, text) | Barrier()
    kind = serial | parallel | vector | unrolled | grid | tile

Meaning
- Extents are constants. `parallel` promises independent iterations (threads or vectors may share them
  out); `vector` asks for one iteration a lane; `unrolled` for a copy of the body each.
- Every thread runs a kernel that has `grid` loops, with its share of their independent iterations; all else in it
  each thread does, on its own locals. At a `Barrier` they meet. Thread 0 alone runs a kernel without such loops.
- A body of a `vector` loop has no If and no Call; what it allocates is private to the lane.
- `tile` promises independent iterations and asks for one instruction of a unit that holds matrices of 32-bit words in
  registers: to move rows (a `vector` loop inside), or to multiply (a serial one in that, which adds with an Intrinsic;
  floats in the order of the unit). A local that such a product names is a register.
- Expressions are a graph: a node that is used twice is one object and is evaluated once a statement, so
  consumers remember results by identity.
- Integer `add sub mul shl` wrap; `div` and `mod` truncate as in C; `shr` is arithmetic on signed types.
- `min(a, b)` is `a < b ? a : b` and `max(a, b)` is `a > b ? a : b`: with a NaN in a, the result is b.
- `Cast` from float to integer truncates and saturates, NaN gives 0; between integers it wraps.
- A Buffer with a `base` is another view (shape, dtype) of the base's bytes.
- Call("fail_unless", (condition,), text) ends the kernel with an error when the condition is false.
- index types (`INDEX`) are wide enough for every buffer: 64 bits, or 32 where the target has 32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add, attrgetter, floordiv, mod, mul, sub
from typing import Any, Literal, TypeVar, dataclass_transform

import numpy as np

from lithe.ir.instructions import BITS_FLOAT as BITS_FLOAT
from lithe.ir.instructions import CORE_INSTRUCTIONS as CORE_INSTRUCTIONS
from lithe.ir.instructions import FLOAT_BITS as FLOAT_BITS
from lithe.ir.instructions import FMA as FMA
from lithe.ir.instructions import MULTIPLY_ADD as MULTIPLY_ADD
from lithe.ir.instructions import ROUND_INT as ROUND_INT
from lithe.ir.instructions import Instruction as Instruction
from lithe.types import BOOL, FLOAT32, DType, Shape

INDEX = DType("int64", "int", 64, 64)

COMPARISONS = frozenset({"lt", "le", "eq", "ne"})
BINARY = frozenset({"add", "sub", "mul", "div", "mod", "min", "max", "and", "or", "xor", "shl", "shr"}) | COMPARISONS
UNARY = frozenset({"neg", "abs", "sqrt", "floor", "ceil", "round", "trunc", "not"})  # round: half to even
_Node = TypeVar("_Node")
Kind = Literal["serial", "parallel", "vector", "unrolled", "grid", "tile"]


@dataclass_transform(eq_default=False, frozen_default=True)
def node(kind: type[_Node]) -> type[_Node]:
    """A dataclass that is compared by identity and never changes.

    Checkers of types hold everybody to it: frozen when it runs, a node would take four times as long to make.
    """
    return dataclass(eq=False, slots=True)(kind)


class Expr:
    """Base of expressions; the Python operators build nodes."""

    __slots__ = ()
    dtype: DType

    def __add__(self, other: Any) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: Any) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: Any) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: Any) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: Any) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: Any) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return binary("div", other, self)

    def __floordiv__(self, other: Any) -> Expr:
        """Truncating division, the same as floor for the non-negative values of indices."""
        return binary("div", self, other)

    def __mod__(self, other: Any) -> Expr:
        return binary("mod", self, other)

    def __and__(self, other: Any) -> Expr:
        return binary("and", self, other)

    def __or__(self, other: Any) -> Expr:
        return binary("or", self, other)

    def __xor__(self, other: Any) -> Expr:
        return binary("xor", self, other)

    def __lshift__(self, other: Any) -> Expr:
        return binary("shl", self, other)

    def __rshift__(self, other: Any) -> Expr:
        return binary("shr", self, other)

    def __neg__(self) -> Expr:
        return Unary("neg", self)

    def __invert__(self) -> Expr:
        return Unary("not", self)

    def __lt__(self, other: Any) -> Expr:
        return binary("lt", self, other)

    def __le__(self, other: Any) -> Expr:
        return binary("le", self, other)

    def __gt__(self, other: Any) -> Expr:
        return binary("lt", other, self)

    def __ge__(self, other: Any) -> Expr:
        return binary("le", other, self)

    def equals(self, other: Any) -> Expr:
        return binary("eq", self, other)

    def differs(self, other: Any) -> Expr:
        return binary("ne", self, other)

    def to(self, dtype: DType) -> Expr:
        """The value cast to another type."""
        if isinstance(self, Const) and dtype is not self.dtype and (dtype.is_float or self.dtype.is_integer):
            return Const(float(self.value) if dtype.is_float else int(self.value), dtype)
        if isinstance(self, Cast) and dtype.is_float and _widened(self):
            return self.x.to(dtype)  # the wide integer is exact: one rounding either way
        return self if dtype == self.dtype else Cast(self, dtype)


def _widened(x: Cast) -> bool:
    """Whether every integer that x casts stays what it is."""
    return x.dtype.kind == x.x.dtype.kind == "int" and x.dtype.bits >= x.x.dtype.bits


@node
class Const(Expr):
    value: float | int | bool
    dtype: DType


@node
class Var(Expr):
    """A loop variable; names are unique in a kernel."""

    name: str
    dtype: DType = INDEX


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory with a type and a shape, row-major.

    data  the elements of a constant, None for memory that the program writes.
    base  the buffer whose bytes this one views with another shape or dtype, None for storage of its own.
    """

    name: str
    dtype: DType
    shape: Shape
    data: np.ndarray | None = None
    base: Buffer | None = None

    def __getitem__(self, index: Any) -> Load:
        return Load(self, indices(index))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.bytes

    @property
    def storage(self) -> Buffer:
        """The buffer that owns the bytes."""
        return self if self.base is None else self.base.storage

    @property
    def values(self) -> np.ndarray | None:
        """The elements of a constant, also of a view of one; None for memory that the program writes."""
        data = self.storage.data
        return (
            None if data is None else np.ascontiguousarray(data).reshape(-1).view(self.dtype.numpy).reshape(self.shape)
        )

    def viewed(self, shape: Shape, dtype: DType | None = None) -> Buffer:
        """The same bytes with another shape (and dtype)."""
        if shape == self.shape and dtype in (None, self.dtype):
            return self
        return Buffer(self.name, dtype or self.dtype, shape, base=self.storage)

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


@node
class Load(Expr):
    buffer: Buffer
    index: tuple[Expr, ...]

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.buffer.dtype


class Typed(Expr):
    __slots__ = ("_sum", "dtype")  # follow from the operands; found once, since sums can be deep
    _sum: Any  # see `lithe.ir.affine.sum_of`


@node
class Unary(Typed):
    op: str
    x: Expr

    def __post_init__(self) -> None:
        self.dtype = self.x.dtype


@node
class Binary(Typed):
    op: str
    a: Expr
    b: Expr

    def __post_init__(self) -> None:
        self.dtype = BOOL if self.op in COMPARISONS else self.a.dtype


@node
class Select(Typed):
    condition: Expr
    a: Expr
    b: Expr

    def __post_init__(self) -> None:
        self.dtype = self.a.dtype


@node
class Cast(Expr):
    x: Expr
    dtype: DType


@node
class Intrinsic(Expr):
    instruction: Instruction
    args: tuple[Expr, ...]

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.instruction.result


class Stmt:
    __slots__ = ("_computed",)
    _computed: tuple[Expr, ...]  # see `lithe.ir.affine.computed`


@node
class Alloc(Stmt):
    buffer: Buffer


@node
class Store(Stmt):
    buffer: Buffer
    index: tuple[Expr, ...]
    value: Expr


@node
class For(Stmt):
    var: Var
    extent: int
    body: tuple[Stmt, ...]
    kind: Kind = "serial"
    part: tuple[int, int, int] = (0, 1, 1)  # of a grid loop: begin, end and whole of what is shared out at once


@node
class If(Stmt):
    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...] = ()


@node
class Call(Stmt):
    name: str
    args: tuple[Expr, ...]
    text: str = ""


@node
class Barrier(Stmt):
    """All threads meet: what any of them stored before is there for each of them after."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A function on buffers. `params` are the buffers that it does not allocate, constants among them, in order
    of first use; `writes` says which of them it stores to. `source` names the operator it came from. Of `private`
    ones each thread has its own: locals of grid iterations that are too large for a stack."""

    name: str
    params: tuple[Buffer, ...]
    writes: tuple[bool, ...]
    body: tuple[Stmt, ...]
    source: str = ""
    private: frozenset[Buffer] = frozenset()

    @property
    def is_shared(self) -> bool:
        return any(isinstance(s, For) and s.kind == "grid" for s in statements(self.body))


@lru_cache(1 << 12)  # most nodes that are asked for are these
def number(value: int) -> Const:
    """A constant index; equal ones are one node."""
    return Const(value, INDEX)


def constant(value: Any, dtype: DType | None = None) -> Expr:
    """The value as an expression; a Python int is an index, a float is float32, unless `dtype` says otherwise."""
    if type(value) is int and (dtype is None or dtype is INDEX):
        return number(value)
    if isinstance(value, Expr):
        return value
    if isinstance(value, (bool, np.bool_)):
        return Const(bool(value), dtype or BOOL)
    if isinstance(value, (int, np.integer)):
        return Const(float(value) if dtype and dtype.is_float else int(value), dtype or INDEX)
    return Const(float(value), dtype or FLOAT32)


def indices(index: Any) -> tuple[Expr, ...]:
    return tuple([constant(i) for i in (index if isinstance(index, tuple) else (index,))])


def binary(op: str, a: Any, b: Any) -> Expr:
    """A binary node; Python numbers take the other operand's type, and trivial index sums are simplified."""
    if not isinstance(a, Expr):
        a = constant(a, b.dtype)
    elif not isinstance(b, Expr):
        b = constant(b, a.dtype)
    dtype, other = a.dtype, b.dtype
    if dtype is not other and dtype != other:
        raise TypeError(f"{op} of {dtype} and {other}: cast one of them")
    if dtype is INDEX:
        simple = _simplified(op, a, b)
        if simple is not None:
            return simple
    return Binary(op, a, b)


_FOLDED: dict[str, Callable[[int, int], int]] = {"add": add, "sub": sub, "mul": mul, "div": floordiv, "mod": mod}
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}


def _simplified(op: str, a: Expr, b: Expr) -> Expr | None:
    x = a.value if type(a) is Const else None
    y = b.value if type(b) is Const else None
    if x is None and y is None:
        return None
    if x is not None and y is not None:
        x, y = int(x), int(y)
        folds = op in _FOLDED and (op not in ("div", "mod") or (y > 0 and x >= 0))
        return number(_FOLDED[op](x, y)) if folds else None
    if (y is not None and y == _NEUTRAL.get(op)) or (op in ("add", "mul") and x == _NEUTRAL[op]):
        return b if x is not None else a
    return number(0) if (op == "mul" and 0 in (x, y)) or (op == "mod" and y == 1) else None


def select(condition: Expr, a: Any, b: Any) -> Expr:
    """a where the condition holds, b elsewhere (both are evaluated)."""
    if not isinstance(a, Expr):
        a = constant(a, b.dtype if isinstance(b, Expr) else None)
    if not isinstance(b, Expr):
        b = constant(b, a.dtype)
    if a.dtype != b.dtype:
        raise TypeError(f"select of {a.dtype} and {b.dtype}: cast one of them")
    return Select(condition, a, b)


def minimum(a: Any, b: Any) -> Expr:
    return binary("min", a, b)


def maximum(a: Any, b: Any) -> Expr:
    return binary("max", a, b)


def all_of(*conditions: Expr) -> Expr:
    """True when every condition is."""
    return reduce(lambda a, b: Binary("and", a, b), conditions) if conditions else Const(True, BOOL)


_OPERANDS: dict[type[Expr], Callable[[Any], tuple[Expr, ...]]] = {
    Const: lambda x: (),
    Var: lambda x: (),
    Load: attrgetter("index"),
    Unary: lambda x: (x.x,),
    Binary: attrgetter("a", "b"),
    Select: attrgetter("condition", "a", "b"),
    Cast: lambda x: (x.x,),
    Intrinsic: attrgetter("args"),
}


def operands(x: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside x."""
    below = _OPERANDS.get(type(x))
    if below is None:
        raise TypeError(f"unknown expression {type(x).__name__}")
    return below(x)


def statements(body: tuple[Stmt, ...]) -> list[Stmt]:
    """Every statement, outer ones first."""
    found = []
    for s in body:
        found.append(s)
        if type(s) is For:
            found += statements(s.body)
        elif type(s) is If:
            found += statements(s.then)
            found += statements(s.otherwise)
    return found


def expressions(s: Stmt) -> tuple[Expr, ...]:
    """The expressions directly inside one statement (not those of nested statements)."""
    match s:
        case Store(_, index, value):
            return (*index, value)
        case If(condition, _, _):
            return (condition,)
        case Call(_, args, _):
            return args
        case Alloc() | For() | Barrier():
            return ()
    raise TypeError(f"unknown statement {type(s).__name__}")


def nodes(roots: tuple[Expr, ...], known: Container[Expr] = ()) -> list[Expr]:
    """Every expression reachable from the roots, each object once, operands before users; known ones end the way."""
    found: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[Any] = [*reversed(roots)]
    while stack:
        x = stack.pop()
        if x is None:  # what lies below has had its operands
            found.append(stack.pop())
        elif x not in seen and x not in known:
            seen.add(x)
            kind = type(x)
            if kind is Var or kind is Const or not (below := operands(x)):
                found.append(x)
            elif kind is Binary:
                stack += (x, None, below[1], below[0])
            else:
                stack += (x, None, *reversed(below))
    return found
