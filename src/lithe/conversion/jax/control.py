"""Loops and branches of JAX. A scan of few steps is written step by step, which needs no loop to run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.control import branch, while_loop
from lithe.conversion.jax.rules import Equation, rule, stacked
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, INT32

MOST_UNROLLED = 128  # steps of a scan that are written one after the other


def _inner(b: Builder, closed: object, inputs: Sequence[Tensor]) -> list[Tensor]:
    from lithe.conversion.jax.trace import write

    return write(b, closed, inputs)


@rule("cond")
def choice(b: Builder, e: Equation, index: Tensor, *operands: Tensor) -> Sequence[Tensor]:
    """Two branches; more are a choice in the other branch of a choice. What is known is chosen now."""
    if index.data is not None:
        return _inner(b, e["branches"][int(np.clip(int(index.data), 0, len(e["branches"]) - 1))], operands)
    return _choose(b, index, list(e["branches"]), 0, operands)


def _choose(b: Builder, index: Tensor, branches: list[object], first: int, operands: Sequence[Tensor]) -> list[Tensor]:
    if len(branches) == 1:
        return _inner(b, branches[0], operands)
    chosen = b("EQUAL", index, b.constant(first, index.type.dtype), dtype=BOOL)
    values = [index, *operands]
    return branch(
        b, chosen,
        lambda inner, xs: _inner(inner, branches[0], xs[1:]),
        lambda inner, xs: _choose(inner, xs[0], branches[1:], first + 1, xs[1:]),
        values,
    )  # fmt: skip


@rule("while")
def loop(b: Builder, e: Equation, *operands: Tensor) -> Sequence[Tensor]:
    """The constants of both parts go round with the values."""
    of_test, of_step = e["cond_nconsts"], e["body_nconsts"]
    n = of_test + of_step

    def test(inner: Builder, xs: list[Tensor]) -> list[Tensor]:
        return _inner(inner, e["cond_jaxpr"], [*xs[:of_test], *xs[n:]])

    def step(inner: Builder, xs: list[Tensor]) -> list[Tensor]:
        return [*xs[:n], *_inner(inner, e["body_jaxpr"], xs[of_test:])]

    return while_loop(b, test, step, operands)[n:]


@rule("scan")
def scan(b: Builder, e: Equation, *operands: Tensor) -> Sequence[Tensor]:
    length = int(e["length"])
    return (_looped if is_open(length) or length > MOST_UNROLLED else _unrolled)(b, e, operands)


def _unrolled(b: Builder, e: Equation, operands: Sequence[Tensor]) -> list[Tensor]:
    n, carried, length = e["num_consts"], e["num_carry"], int(e["length"])
    constants, values = operands[:n], list(operands[n : n + carried])
    rows = [_rows(b, x, length) for x in operands[n + carried :]]
    results: list[list[Tensor]] = [[] for _ in e.results[carried:]]
    for i in reversed(range(length)) if e["reverse"] else range(length):
        made = _inner(b, e["jaxpr"], [*constants, *values, *(r[i] for r in rows)])
        values = made[:carried]
        for collected, y in zip(results, made[carried:], strict=True):
            collected.append(y)
    return [*values, *(stacked(b, rows[::-1] if e["reverse"] else rows, 0) for rows in results)]


def _rows(b: Builder, x: Tensor, length: int) -> list[Tensor]:
    if x.data is not None:
        return [b.constant(row, x.type.dtype) for row in x.data]
    return b.several("UNPACK", x, dtypes=[None] * length, num=length, axis=0)


def _looped(b: Builder, e: Equation, operands: Sequence[Tensor]) -> list[Tensor]:
    """(i, constants, values, rows read, rows written) go round; row i is read and written."""
    n, carried, length = e["num_consts"], e["num_carry"], int(e["length"])
    given = len(operands) - n - carried
    written = [b.filled(np.zeros((), t.dtype.numpy), t.dtype, t.shape) for t in e.results[carried:]]
    start = b.constant(0)

    def test(inner: Builder, xs: list[Tensor]) -> list[Tensor]:
        steps = inner.constant([length])
        if is_open(length):
            rows = xs[1 + n + carried]
            shape = inner("SHAPE", rows, dtype=INT32, out_type=INT32)
            steps = inner("SLICE", shape, inner.constant([0]), inner.constant([1]))
        return [inner("LESS", xs[0], inner.reshape(steps, ()), dtype=BOOL)]

    def step(inner: Builder, xs: list[Tensor]) -> list[Tensor]:
        i, constants, values = xs[0], xs[1 : 1 + n], xs[1 + n : 1 + n + carried]
        rows, made = xs[1 + n + carried : 1 + n + carried + given], xs[1 + n + carried + given :]
        place = i
        if e["reverse"]:
            b.require(not is_open(length), "a scan from the end of an open dimension")
            place = inner("SUB", inner.constant(length - 1), i)
        read = [inner("GATHER", r, place, axis=0, batch_dims=0) for r in rows]
        out = _inner(inner, e["jaxpr"], [*constants, *values, *read])
        kept = []
        for target, y in zip(made, out[carried:], strict=True):
            begin = inner("PACK", place, *[inner.constant(0)] * (target.type.rank - 1), values_count=target.type.rank,
                          axis=0)  # fmt: skip
            row = inner.reshape(y, (1, *y.type.shape))
            kept.append(inner("DYNAMIC_UPDATE_SLICE", target, row, begin))
        return [inner("ADD", i, inner.constant(1)), *constants, *out[:carried], *rows, *kept]

    made = while_loop(b, test, step, [start, *operands, *written])
    return [*made[1 + n : 1 + n + carried], *made[1 + n + carried + given :]]
