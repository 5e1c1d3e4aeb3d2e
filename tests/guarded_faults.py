"""Operators with the mistakes that guarded memory is to find; none of them is registered."""

from __future__ import annotations

import numpy as np

from lithe.ir.arithmetic import clamp
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer
from lithe.ops.op import Op, Site
from lithe.types import FLOAT32, Shape
from tests.ops.cases import Case, f32, i32

SIZE = 1000


class Faulty(Op):
    """y = x[index], if it were right."""

    name = "FAULTY"
    operands = (("input", "index"), ("output",))

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray, index: np.ndarray) -> list[np.ndarray]:
        return [x[index % SIZE]]


class ReadsBehind(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.compute(ys[0], lambda i: xs[0][i + 1])


class ReadsBefore(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.compute(ys[0], lambda i: xs[0][i - 1])


class WritesItsInput(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.compute(ys[0], lambda i: xs[0][i])
        b.store(xs[0], 0, 0.0)


class TrustsItsIndex(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.compute(ys[0], lambda i: xs[0][xs[1][i].to(INDEX)])


class ReadsWhatNobodyWrote(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        scratch = b.scratch(FLOAT32, (SIZE,))
        b.compute(ys[0], lambda i: xs[0][i] + scratch[i])


class ReadsALocalThatNobodyWrote(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        local = b.local(FLOAT32, (8,))
        b.compute(ys[0], lambda i: xs[0][i] + local[i % 8])


class Wraps(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.compute(ys[0], lambda i: xs[0][(xs[1][i].to(INDEX) % SIZE + SIZE) % SIZE])


class Clamps(Faulty):
    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.compute(ys[0], lambda i: xs[0][clamp(xs[1][i].to(INDEX), 0, SIZE - 1)])


class Fault(Case):
    """A row of an operator below."""

    @property
    def operator(self) -> type[Op]:
        return OPERATORS[self.op]


OPERATORS = {
    op.__name__: op
    for op in (
        ReadsBehind, ReadsBefore, WritesItsInput, TrustsItsIndex, ReadsWhatNobodyWrote, ReadsALocalThatNobodyWrote,
        Clamps, Wraps,
    )
}  # fmt: skip

DEATH, CHANGE = "ended by SIG", "what memory held before changes the result"

# What is said of each; nothing of the last, which is right.
EXPECTED = dict(zip(OPERATORS, (DEATH, DEATH, DEATH, DEATH, CHANGE, CHANGE, "difference", ""), strict=True))

# Every index is right to begin with.
CASES = [Fault(op, "row", (f32(SIZE), i32(SIZE)), (f32(SIZE),), values={1: np.arange(SIZE)}) for op in OPERATORS]
