"""A kernel as a C function."""

from __future__ import annotations

from itertools import zip_longest

from lithe.codegen.c.expressions import ExpressionPrinter
from lithe.codegen.c.spelling import RESERVED, Names, comment, number, storage_type
from lithe.codegen.c.support import Support
from lithe.ir.intervals import Scope
from lithe.ir.loops import (
    Alloc,
    Barrier,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Stmt,
    Store,
    expressions,
    nodes,
    statements,
)
from lithe.types import BOOL


def can_fail(kernel: Kernel) -> bool:
    """Whether the kernel holds a check; its function then returns a status."""
    return any(isinstance(s, Call) for s in statements(kernel.body))


class FunctionPrinter:
    """Prints one kernel. `messages` are the program's: a failed check returns 1 + its text's place in it."""

    def __init__(self, kernel: Kernel, name: str, support: Support, messages: list[str]) -> None:
        self.kernel, self.name, self.support, self.messages = kernel, name, support, messages
        self.lines: list[str] = []
        self.depth = 0
        self.names = Names(taken=RESERVED)
        self.printer = ExpressionPrinter(self.names, support, self.line)
        loads = (
            x.buffer.storage for s in statements(kernel.body) for x in nodes(expressions(s)) if isinstance(x, Load)
        )
        self.read: set[Buffer] = set(loads)

    def text(self) -> list[str]:
        """The lines of the function."""
        if self.kernel.source:
            self.line(f"/* {comment(self.kernel.source)} */")
        parameters = ", ".join(
            f"{'' if written else 'const '}{storage_type(b.dtype)} *{self.names.of(b, b.name)}"
            for b, written in zip(self.kernel.params, self.kernel.writes, strict=True)
        )
        self.line(f"static {'int' if can_fail(self.kernel) else 'void'} {self.name}({parameters or 'void'})")
        self.line("{")
        self.depth = 1
        self.block(self.kernel.body, Scope())
        if can_fail(self.kernel):
            self.line("return 0;")
        self.depth = 0
        self.line("}")
        return self.lines

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def block(self, body: tuple[Stmt, ...], scope: Scope) -> None:
        initialized: Stmt | None = None
        for s, after in zip_longest(body, body[1:]):
            if s is initialized:
                continue
            if isinstance(s, Alloc):
                initialized = self.declare(s.buffer, after, scope)
            else:
                self.statement(s, scope)

    def declare(self, b: Buffer, after: Stmt | None, scope: Scope) -> Stmt | None:
        """Declares a local; returns the statement after it when that became the initial value."""
        name, t = self.names.of(b, b.name), storage_type(b.dtype)
        first = None
        if b.shape:
            self.line(f"{t} {name}[{max(b.size, 1)}];")
        elif isinstance(after, Store) and after.buffer is b and not self._reads(after.value, b):
            self.prepare(scope, after.value)
            first = after
            self.line(f"{t} {name} = {self.stored(after)};")
        else:
            self.line(f"{t} {name} = {number(0, b.dtype)};")
        if not b.shape:
            self.printer.scalars.add(b)
        if b not in self.read:
            self.line(f"(void){name};")
        return first

    def _reads(self, value: Expr, b: Buffer) -> bool:
        return any(isinstance(x, Load) and x.buffer.storage is b for x in nodes((value,)))

    def prepare(self, scope: Scope, *values: Expr) -> None:
        self.printer.scope = scope
        self.printer.statement(values)

    def stored(self, s: Store) -> str:
        """The value of a store as its buffer's element."""
        if s.buffer.dtype == BOOL:
            return f"(uint8_t)({self.bare(s.value)})"
        return self.printer.value(s.value, s.buffer.dtype)

    def statement(self, s: Stmt, scope: Scope) -> None:
        match s:
            case Store():
                self.store(s, scope)
            case For(var, extent, body, _):
                name = self.names.of(var, var.name)
                self.line(f"for (lithe_index {name} = 0; {name} < {extent}; ++{name}) {{")
                self.inside(body, scope.loop(var, extent))
            case If(condition, then, otherwise):
                self.prepare(scope, condition)
                self.line(f"if ({self.bare(condition)}) {{")
                if otherwise:
                    self.depth += 1
                    self.block(then, scope.assume(condition))
                    self.depth -= 1
                    self.line("} else {")
                    self.inside(otherwise, scope.assume(condition, False))
                else:
                    self.inside(then, scope.assume(condition))
            case Call("fail_unless", (condition,), text):
                self.prepare(scope, condition)
                self.line(f"if (!({self.bare(condition)})) {{")
                self.line(f"    return {1 + self.messages.index(text)}; /* {comment(text)} */")
                self.line("}")
            case Barrier():
                pass  # one thread runs everything in order
            case Call(name):
                raise TypeError(f"C printer has no rule for a call of {name}")

    def inside(self, body: tuple[Stmt, ...], scope: Scope) -> None:
        """The body of an opened bracket, and the closing one."""
        self.depth += 1
        self.block(body, scope)
        self.depth -= 1
        self.line("}")

    def bare(self, condition: Expr) -> str:
        """A condition without its outer brackets."""
        text = self.printer.value(condition)
        depth = 0
        for k, c in enumerate(text):
            depth += (c == "(") - (c == ")")
            if depth == 0:
                return text[1:-1] if c == ")" and k == len(text) - 1 and text.startswith("(") else text
        return text

    def store(self, s: Store, scope: Scope) -> None:
        b = s.buffer
        self.printer.scope = scope
        self.printer.statement((s.value,), ((b, s.index),))
        value = self.stored(s)
        if storage_type(b.dtype) != storage_type(b.storage.dtype):
            at = self.printer.sum_text(self.printer.flat(b, s.index)).c
            self.line(f"{self.support.store(b.dtype)}({self.printer.address(b)}, {at}, {value});")
        elif b.storage in self.printer.scalars:
            self.line(f"{self.names.given[b.storage]} = {value};")
        else:
            self.line("{}[{}] = {};".format(*self.printer.place(b, s.index), value))
