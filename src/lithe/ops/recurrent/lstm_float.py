"""The LSTM layer on floats, its weights floats or integers; how the operands of all LSTM operators are laid out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp, sqrt
from lithe.ir.build import Builder
from lithe.ir.elementary import logistic
from lithe.ir.loops import Buffer, Expr
from lithe.ops.op import See, Site
from lithe.ops.products import Factor, Rows, activated, multiplied
from lithe.types import FLOAT32

F = np.float32
GATES = 4  # input, forget, cell, output: their operands follow one another in this order
INPUT, FORGET, CELL, OUTPUT = range(GATES)
PROJECTION, OUTPUT_STATE, NORMALIZATION, AUXILIARY = 16, 18, 20, 24
OPERANDS = 29  # with the auxiliary input and its weights, which only the halves of a bidirectional layer have
SUMS, HIDDEN = ("input_sum", "forget_sum", "cell_sum", "output_sum"), "hidden"  # values inside, by name
SMALL = F(1e-8)  # added to a variance. Source: TensorFlow Lite, MeanStddevNormalization


@dataclass(frozen=True)
class Sizes:
    """Sizes of one layer, and where a step of a sequence lies among the rows of its input and output."""

    batch: int
    time: int
    depth: int
    cells: int
    outputs: int
    time_major: bool
    backward: bool = False

    @staticmethod
    def of(site: Site, weights: int = 4, recurrent: int = 8, backward: bool = False) -> Sizes:
        """Of a layer whose input is operand 0; a matrix of rank 2 is one step of each sequence."""
        *outer, depth = site.input(0).shape
        major = getattr(site.attrs, "time_major", False)
        first, second = outer if len(outer) == 2 else (outer[0], 1)
        batch, time = (second, first) if major else (first, second)
        cells, outputs = site.input(weights).shape[0], site.input(recurrent).shape[-1]
        return Sizes(batch, time, depth, cells, outputs, major, backward)

    @property
    def rows(self) -> int:
        return self.batch * self.time

    def row(self, n: Any, t: Any) -> Any:
        """The row of sequence n in step t."""
        t = self.time - 1 - t if self.backward else t
        return t * self.batch + n if self.time_major else n * self.time + t

    def step(self, t: int) -> list[int]:
        """The rows of all sequences in step t."""
        return [self.row(n, t) for n in range(self.batch)]


class Parts:
    """The operands (arrays or buffers) by their part in the layer; None where absent."""

    def __init__(self, site: Site, operands: Sequence[Any]) -> None:
        missing = (None,) * (OPERANDS - len(operands))
        values, types = (*operands, *missing), (*site.inputs, *missing)
        factors = [Factor.of(v, t) for v, t in zip(values, types, strict=True)]
        self.x, self.auxiliary = values[0], values[AUXILIARY]
        self.weights, self.recurrent = factors[1:5], factors[5:9]
        self.peephole = (factors[9], factors[10], None, factors[11])
        self.bias = values[12:16]
        self.projection, self.projection_bias = factors[PROJECTION], values[PROJECTION + 1]
        self.output_state, self.cell_state = values[OUTPUT_STATE : OUTPUT_STATE + 2]
        self.normalization = values[NORMALIZATION : NORMALIZATION + 4]
        self.auxiliary_weights = factors[AUXILIARY + 1 :]
        self.coupled = self.weights[INPUT] is None
        self.gates = tuple(g for g in range(GATES) if g != INPUT or not self.coupled)
        self.hybrid = self.weights[OUTPUT].scale is not None


def shown(site: Site, cell: Any, new: Any) -> Any:
    """What the output gate lets through. Without an activation the official kernel shows what enters the cell
    instead of the cell: copying the cell state is part of its activation."""
    name = site.attrs.fused_activation_function
    return new if name == "NONE" else activated(cell, name)


def limited(x: Any, limit: float) -> Any:
    """x in -limit..limit; any x when there is no limit."""
    return clamp(x, F(-limit), F(limit)) if limit > 0 else x


def unseen(name: str, value: np.ndarray) -> None:
    """Nobody looks inside."""


def evaluate(site: Site, sizes: Sizes, p: Parts, see: See = unseen) -> np.ndarray:
    """The outputs, a row for each row of x; the states are changed in place.

    see  is shown the gates' sums before they are normalized, their parts too, the hidden values and the cell states.
    """
    hidden, cell, attrs = p.output_state, p.cell_state, site.attrs
    y = np.zeros((sizes.rows, sizes.outputs), F)
    kept: dict[str, list[np.ndarray]] = {}

    def keep(name: str, value: np.ndarray) -> None:
        if see is not unseen:
            kept.setdefault(name, []).append(value)

    def times(x: np.ndarray, w: Factor) -> np.ndarray:
        return multiplied(x, w, attrs.asymmetric_quantize_inputs)

    def finished(g: int, total: np.ndarray) -> np.ndarray:
        if p.peephole[g] is not None:
            total = total + p.peephole[g][:] * cell
        keep(SUMS[g], total)
        if p.normalization[g] is None:
            return total + p.bias[g]
        less = total - total.mean(axis=1, keepdims=True)
        spread = np.sqrt((less * less).mean(axis=1, keepdims=True) + SMALL)
        return less / spread * p.normalization[g] + p.bias[g]

    ahead = {g: times(p.x.reshape(sizes.rows, sizes.depth), p.weights[g]) for g in p.gates}
    if p.auxiliary is not None:
        rows = p.auxiliary.reshape(sizes.rows, -1)
        ahead = {g: total + times(rows, p.auxiliary_weights[g]) for g, total in ahead.items()}
    for g, total in ahead.items():
        see(SUMS[g], total[None])
    steps = [sizes.step(t) for t in range(sizes.time)]
    ahead = {g: total[steps] for g, total in ahead.items()}
    for t, at in enumerate(steps):
        sums = {g: ahead[g][t] + times(hidden, p.recurrent[g]) for g in p.gates}
        forget = logistic(finished(FORGET, sums[FORGET]))
        enter = F(1) - forget if p.coupled else logistic(finished(INPUT, sums[INPUT]))
        new = activated(finished(CELL, sums[CELL]), attrs.fused_activation_function)
        cell[...] = limited(forget * cell + enter * new, attrs.cell_clip)
        value = logistic(finished(OUTPUT, sums[OUTPUT])) * shown(site, cell, new)
        keep("cell_state", cell.copy())
        keep(HIDDEN, value)
        if p.projection is not None:
            value = times(value, p.projection) + (0 if p.projection_bias is None else p.projection_bias)
            value = limited(value, attrs.proj_clip)
        hidden[...] = value
        y[at] = value
    for name, values in kept.items():
        see(name, np.stack(values))
    return y


def lower(b: Builder, site: Site, sizes: Sizes, p: Parts, y: Buffer, column: int = 0) -> None:
    """The products with the input for all steps at once, then step by step those with the state.

    y  [rows, at least the outputs]: the layer writes the columns from `column` on.
    """
    hidden, cell, attrs = p.output_state, p.cell_state, site.attrs
    shape = (sizes.batch, sizes.cells)

    def rows(x: Buffer) -> Rows:
        return Rows(b, x, p.hybrid, attrs.asymmetric_quantize_inputs)

    ahead = _ahead(b, sizes, p, rows)
    sums = {g: b.scratch(FLOAT32, shape, "gate") for g in p.gates}
    value = hidden if p.projection is None else b.scratch(FLOAT32, shape, "value")
    state, projected = rows(hidden), rows(value)
    normalized = p.normalization[OUTPUT] is not None
    late = normalized and p.peephole[OUTPUT] is not None  # the output gate waits for the whole new cell state

    def gate(g: int, n: Expr, o: Expr) -> Expr:
        total = sums[g][n, o]
        if p.peephole[g] is not None and not normalized:
            total = total + p.peephole[g][o] * cell[n, o]
        return total

    def renew(n: Expr, o: Expr) -> Expr:
        """Stores the next cell state; what entered it."""
        forget = b.variable(logistic(gate(FORGET, n, o)), "forget")[()]
        enter = F(1) - forget if p.coupled else logistic(gate(INPUT, n, o))
        new = b.variable(activated(gate(CELL, n, o), attrs.fused_activation_function), "new")[()]
        b.store(cell, (n, o), limited(forget * cell[n, o] + enter * new, attrs.cell_clip))
        return new

    def show(n: Expr, o: Expr, new: Expr) -> None:
        result = b.variable(logistic(gate(OUTPUT, n, o)) * shown(site, cell[n, o], new), "shown")[()]
        b.store(value, (n, o), result)
        if p.projection is None:
            b.store(y, (sizes.row(n, t), o + column), result)

    with b.loop(sizes.time, "serial", "time") as t:
        state.quantize()
        for g in p.gates:
            state.times(
                p.recurrent[g], None, sums[g],
                lambda total, o, n, g=g: total + ahead[g][sizes.row(n, t), o],
            )  # fmt: skip
        for g in p.gates:
            if normalized and not (late and g == OUTPUT):
                _normalize(b, sums[g], p, g, cell)
        with b.nest(shape, "parallel") as (n, o):
            new = renew(n, o)
            if late:
                b.store(sums[CELL], (n, o), new)
            else:
                show(n, o, new)
        if late:
            _normalize(b, sums[OUTPUT], p, OUTPUT, cell)
            with b.nest(shape, "parallel") as (n, o):
                show(n, o, sums[CELL][n, o])
        if p.projection is not None:
            projected.quantize()
            clip = attrs.proj_clip
            projected.times(p.projection, p.projection_bias, hidden, lambda total, o, n: limited(total, clip))
            with b.nest((sizes.batch, sizes.outputs), "parallel") as (n, o):
                b.store(y, (sizes.row(n, t), o + column), hidden[n, o])


def _ahead(b: Builder, sizes: Sizes, p: Parts, rows: Any) -> dict[int, Buffer]:
    """For each gate what the inputs add to it, in all steps; with the bias, unless a normalization comes before it."""

    def multiply(x: Buffer, weights: list[Factor], bias: list[Buffer | None], epilogue: Any) -> dict[int, Buffer]:
        sums, left = {}, rows(x.viewed((sizes.rows, x.shape[-1])))
        left.quantize()
        for g in p.gates:
            sums[g] = b.scratch(FLOAT32, (sizes.rows, sizes.cells), "ahead")
            left.times(weights[g], bias[g], sums[g], lambda total, o, n, g=g: epilogue(total, o, n, g))
        return sums

    bias = [p.bias[g] if p.normalization[g] is None else None for g in range(GATES)]
    first = multiply(p.x, p.weights, bias, lambda total, o, n, g: total)
    if p.auxiliary is None:
        return first
    return multiply(
        p.auxiliary, p.auxiliary_weights, [None] * GATES, lambda total, o, n, g: total + first[g][n, o]
    )  # fmt: skip


def _normalize(b: Builder, x: Buffer, p: Parts, g: int, cell: Buffer) -> None:
    """Each row, with the share of the cell state, less its mean, by its spread, times a factor, plus the bias."""
    batch, cells = x.shape
    share, factor, bias = F(1.0 / cells), p.normalization[g], p.bias[g]
    if p.peephole[g] is not None:
        b.compute(x, lambda n, o: x[n, o] + p.peephole[g][o] * cell[n, o])

    def total(value: Callable[[Expr], Expr]) -> Expr:
        return b.combined(F(0), (cells,), value, lambda s, v: s + v, FLOAT32)

    with b.loop(batch, "parallel", "row") as n:
        mean = b.variable(total(lambda o: x[n, o]) * share, "mean")[()]
        variance = total(lambda o: (x[n, o] - mean) * (x[n, o] - mean)) * share
        factor_of_row = b.variable(F(1) / sqrt(variance + SMALL), "inverse")[()]
        with b.loop(cells, "parallel") as o:
            b.store(x, (n, o), (x[n, o] - mean) * factor_of_row * factor[o] + bias[o])
