"""The two languages as text, for people and for golden tests. `docs/languages.md` has the grammar.

>>> from lithe.ir.build import Builder
>>> from lithe.types import FLOAT32
>>> x, y = Buffer("x", FLOAT32, (2, 3)), Buffer("y", FLOAT32, (2, 3))
>>> b = Builder("double")
>>> b.elementwise(y, lambda v: v + v, x)
>>> print(print_kernel(b.kernel("ADD -> y")))
kernel double(x: float32[2, 3], out y: float32[2, 3])  # ADD -> y
  parallel i < 6:
    let v = (x: float32[6])[i]
    (y: float32[6])[i] = v + v
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.loops import (
    INDEX,
    Alloc,
    Barrier,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Kind,
    Load,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    expressions,
    nodes,
    operands,
)
from lithe.ir.program import Program
from lithe.types import BOOL, FLOAT32, TensorType

INFIX = {
    "add": ("+", 4), "sub": ("-", 4), "mul": ("*", 5), "div": ("/", 5), "mod": ("%", 5),
    "shl": ("<<", 3), "shr": (">>", 3), "and": ("&", 2), "xor": ("^", 2), "or": ("|", 2),
    "lt": ("<", 1), "le": ("<=", 1), "eq": ("==", 1), "ne": ("!=", 1),
}  # fmt: skip
HEADS = {kind: "for" if kind == "serial" else kind for kind in get_args(Kind)}


def print_kernel(kernel: Kernel) -> str:
    """A kernel; values that a statement uses twice are named by `let` lines before it."""
    return "\n".join(_KernelText(kernel).lines())


def print_statement(s: Stmt) -> str:
    """The first line of a statement on its own, for messages."""
    return next(iter(line for line in _KernelText(None).statement(s, 0) if not line.lstrip().startswith("let ")))


def print_program(program: Program) -> str:
    """Where the buffers lie, the steps in order, and each kernel once."""
    lines = [f"program {program.name}"]
    for title, places, size in (
        ("arena", program.arena, program.arena_bytes),
        ("constants", program.constants, program.constant_bytes),
    ):
        lines.append(f"  {title}: {size} bytes")
        lines += [f"    {offset}: {b!r}" for b, offset in sorted(places.items(), key=lambda p: (p[1], p[0].name))]
    lines += [f"  input {b!r}" for b in program.inputs]
    for step in program.steps:
        arguments = ", ".join(b.name for b in step.arguments)
        lines.append(f"  {step.kernel.name}({arguments})" + (f"  # {step.source}" if step.source else ""))
    lines += [f"  output {b!r}" for b in program.outputs]
    for kernel in program.kernels():
        lines += ["", print_kernel(kernel)]
    return "\n".join(lines)


class _KernelText:
    def __init__(self, kernel: Kernel | None) -> None:
        self.kernel = kernel
        self.lets: dict[Expr, str] = {}
        self.count = 0

    def lines(self) -> Iterator[str]:
        k = self.kernel
        assert k is not None
        parameters = ", ".join(("out " if w else "") + repr(b) for b, w in zip(k.params, k.writes, strict=True))
        yield f"kernel {k.name}({parameters})" + (f"  # {k.source}" if k.source else "")
        yield from self.block(k.body, 1)

    def block(self, body: Iterable[Stmt], depth: int) -> Iterator[str]:
        for s in body:
            yield from self.statement(s, depth)

    def statement(self, s: Stmt, depth: int) -> Iterator[str]:
        pad = "  " * depth
        yield from self.shared(s, pad)
        match s:
            case Alloc(buffer):
                yield f"{pad}local {buffer!r}"
            case Store(buffer, index, value):
                yield f"{pad}{self.access(buffer, index)} = {self.text(value)}"
            case For(var, extent, body, kind, (begin, end, whole)):
                part = f" from {begin} to {end} of {whole}" if (begin, end) != (0, whole) else ""
                yield f"{pad}{HEADS[kind]} {var.name} < {extent}{part}:"
                yield from self.block(body, depth + 1)
            case If(condition, then, otherwise):
                yield f"{pad}if {self.text(condition)}:"
                yield from self.block(then, depth + 1)
                if otherwise:
                    yield f"{pad}else:"
                    yield from self.block(otherwise, depth + 1)
            case Call("fail_unless", (condition,), text):
                yield f'{pad}check {self.text(condition)} else "{text}"'
            case Call(name, args, _):
                yield f"{pad}{name}({', '.join(map(self.text, args))})"
            case Barrier():
                yield f"{pad}barrier"

    def shared(self, s: Stmt, pad: str) -> Iterator[str]:
        """Names for what the statement uses more than once."""
        self.lets = {}
        roots = expressions(s)
        uses: dict[Expr, int] = {}
        order = list(nodes(roots))
        for x in (*roots, *(y for n in order for y in operands(n))):
            uses[x] = uses.get(x, 0) + 1
        for x in order:
            if uses[x] > 1 and not isinstance(x, (Const, Var)):
                text = self.text(x)
                self.lets[x] = f"v{self.count or ''}"
                self.count += 1
                yield f"{pad}let {self.lets[x]} = {text}"

    def text(self, x: Expr, level: int = 0) -> str:
        if x in self.lets:
            return self.lets[x]
        match x:
            case Const(value, dtype):
                if dtype is INDEX or dtype in (BOOL, FLOAT32):
                    return _number(value)
                return f"{dtype}({_number(value)})"
            case Var(name, _):
                return name
            case Load(buffer, index):
                return self.access(buffer, index)
            case Unary(op, a):
                return f"{op}({self.text(a)})"
            case Binary(op, a, b) if op in INFIX:
                symbol, own = INFIX[op]
                inside = f"{self.text(a, own)} {symbol} {self.text(b, own + 1)}"
                return f"({inside})" if own < level else inside
            case Binary(op, a, b):
                return f"{op}({self.text(a)}, {self.text(b)})"
            case Select(c, a, b):
                return f"select({self.text(c)}, {self.text(a)}, {self.text(b)})"
            case Cast(a, dtype):
                return f"{'index' if dtype is INDEX else dtype}({self.text(a)})"
        assert isinstance(x, Intrinsic)  # `shared` has refused any other node
        return f"{x.instruction.name}({', '.join(map(self.text, x.args))})"

    def access(self, b: Buffer, index: tuple[Expr, ...]) -> str:
        name = b.name if b.base is None else f"({b!r})"
        return f"{name}[{', '.join(map(self.text, index))}]"


def _number(value: Any) -> str:
    return str(float(np.float32(value))) if isinstance(value, float) and value != value else str(value)


def print_graph(graph: Graph) -> str:
    """A graph, one line a node: outputs = OPERATOR(inputs) {attributes that differ from the default}."""
    names = _tensor_names(graph)
    lines = [f"graph {graph.name or 'unnamed'}"]
    lines += [f"  input {names[t]}: {_type(t.type)}" for t in graph.inputs]
    made = {id(t) for n in graph.nodes for t in n.outputs} | {id(t) for t in graph.inputs}
    for t in names:
        if id(t) not in made:
            kind = "constant" if t.is_constant else "variable" if t.is_variable else "unset"
            lines.append(f"  {kind} {names[t]}: {_type(t.type)}{_value(t)}")
    for n in graph.nodes:
        outputs = ", ".join(f"{names[t]}: {_type(t.type)}" for t in n.outputs)
        inputs = ", ".join("none" if t is None else names[t] for t in n.inputs)
        lines.append(f"  {outputs}{' = ' if outputs else ''}{n.op.name}({inputs}){_attributes(n)}")
    lines += [f"  output {names[t]}" for t in graph.outputs]
    return "\n".join(lines)


def _tensor_names(graph: Graph) -> dict[Tensor, str]:
    """A unique name for each tensor in use, in order of first use."""
    used = [*graph.inputs, *(t for n in graph.nodes for t in (*n.inputs, *n.outputs) if t is not None), *graph.outputs]
    names: dict[Tensor, str] = {}
    taken: set[str] = set()
    for t in used:
        if t not in names:
            base = t.name or (f"#{t.index}" if t.index >= 0 else "unnamed")
            name, count = base, 1
            while name in taken:
                count += 1
                name = f"{base}'{count}"
            taken.add(name)
            names[t] = name
    return names


def _type(t: TensorType) -> str:
    q = t.quantization
    if q is None or not q.scale:
        return str(t)
    if q.per_channel:
        return f"{t} (a scale for each of axis {q.axis})"
    return f"{t} (scale {q.scale[0]:.7g}, zero {q.zero_point[0]})"


def _value(t: Tensor) -> str:
    """The elements of a small constant."""
    if t.data is None or not 0 < t.data.size <= 8:
        return ""
    return f" = {np.asarray(t.data).tolist()}"


def _attributes(n: Node) -> str:
    if isinstance(n.attrs, dict):
        shown = list(n.attrs.items())
    elif dataclasses.is_dataclass(n.attrs):
        fields = [(f, getattr(n.attrs, f.name)) for f in dataclasses.fields(n.attrs)]
        shown = [(f.name, v) for f, v in fields if f.default is dataclasses.MISSING or v != f.default]
    else:
        shown = []
    return " {" + ", ".join(f"{k}={v}" for k, v in shown) + "}" if shown else ""
