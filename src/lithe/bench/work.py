"""How much work a kernel is, counted in its plain loops: multiply-accumulates, and the bytes that it touches.

A multiply-accumulate is a store of the form total = total + a * b. It is counted as often as the loops around it
run, terms beyond a border included, which is how the multiply-accumulates of networks are usually stated. So a
schedule that pads a matrix, or computes a product twice, gains nothing in these figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from lithe.ir.loops import Binary, Cast, Expr, For, If, Intrinsic, Kernel, Load, Stmt, Store, operands
from lithe.ir.program import Program, Step

OPERATOR = re.compile(r"op #\d+")


@dataclass(frozen=True)
class Work:
    """macs  multiply-accumulates by the type of their operands: "float32", "int8" (both unsigned and signed), ..."""

    macs: Counter[str] = field(default_factory=Counter)
    constant_bytes: int = 0
    activation_bytes: int = 0

    @property
    def total_macs(self) -> int:
        return self.macs.total()


def work_of(step: Step, macs: dict[str, Counter[str]]) -> Work:
    """The work of a step; `macs` are those of each operator, from `operator_macs`."""
    storages = {b.storage for b in step.arguments}
    mine: Counter[str] = Counter()
    for operator in dict.fromkeys(OPERATOR.findall(step.source)):
        mine.update(macs.get(operator, Counter()))
    constant = sum(b.nbytes for b in storages if b.data is not None)
    return Work(mine, constant, sum(b.nbytes for b in storages if b.data is None))


def operator_macs(plain: Program) -> dict[str, Counter[str]]:
    """Multiply-accumulates of each operator ("op #3"), from a program lowered without a schedule."""
    result: dict[str, Counter[str]] = {}
    for step in plain.steps:
        for operator in OPERATOR.findall(step.source)[:1]:
            result.setdefault(operator, Counter()).update(kernel_macs(step.kernel))
    return result


def kernel_macs(kernel: Kernel) -> Counter[str]:
    """Multiply-accumulates of a kernel by the type of their operands."""
    count: Counter[str] = Counter()
    for times, store in _stores(kernel.body, 1):
        if (kind := _accumulates(store)) is not None:
            count[kind] += times
    return count


def _stores(body: tuple[Stmt, ...], times: int) -> Iterator[tuple[int, Store]]:
    for statement in body:
        match statement:
            case Store():
                yield times, statement
            case For(_, extent, inner, _):
                yield from _stores(inner, times * extent)
            case If(_, then, otherwise):
                yield from _stores(then, times)
                yield from _stores(otherwise, times)


def _accumulates(store: Store) -> str | None:
    """The type of the operands of total = total + a * b, None for any other store."""
    match store.value:
        case Binary("add", Load(buffer), product) if buffer is store.buffer:
            pass
        case Intrinsic(instruction, (a, b, Load(buffer))) if instruction.name == "fma" and buffer is store.buffer:
            product = Binary("mul", a, b)
        case _:
            return None
    while isinstance(product, Cast):
        product = product.x
    if not (isinstance(product, Binary) and product.op == "mul"):
        return None
    types = [load.buffer.dtype for load in _loads(product)]
    if not types:
        return None
    if any(t.is_float for t in types):
        return "float32"
    return f"int{max(8, *(t.bits for t in types))}"


def _loads(expression: Expr) -> Iterator[Load]:
    """The loads of an expression, those in their indices apart."""
    if isinstance(expression, Load):
        yield expression
        return
    for x in operands(expression):
        yield from _loads(x)
