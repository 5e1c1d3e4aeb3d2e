"""The float form of UNIDIRECTIONAL_SEQUENCE_LSTM, and how the operator's operands are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import activate, clamp, sqrt
from lithe.ir.build import Builder, Convolution
from lithe.ir.elementary import logistic, tanh
from lithe.ir.loops import Buffer, Expr
from lithe.ops.op import Site
from lithe.types import FLOAT32

F = np.float32
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH")
GATES = 4  # input, forget, cell, output: their operands follow one another in this order
INPUT, FORGET, CELL, OUTPUT = range(GATES)
OUTPUT_STATE = 18
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

    @staticmethod
    def of(site: Site) -> Sizes:
        first, second, depth = site.input(0).shape
        major = site.attrs.time_major
        batch, time = (second, first) if major else (first, second)
        return Sizes(batch, time, depth, site.input(4).shape[0], site.input(8).shape[1], major)

    @property
    def rows(self) -> int:
        return self.batch * self.time

    def row(self, n: Any, t: Any) -> Any:
        """The row of sequence n at time t."""
        return t * self.batch + n if self.time_major else n * self.time + t


class Parts:
    """The operands by their part in the layer; None where absent."""

    def __init__(self, operands: Sequence[Any]) -> None:
        all_ = (*operands, *(None,) * (24 - len(operands)))
        self.x = all_[0]
        self.weights, self.recurrent = all_[1:5], all_[5:9]
        self.peephole = (all_[9], all_[10], None, all_[11])
        self.bias = all_[12:16]
        self.projection, self.projection_bias = all_[16:18]
        self.output_state, self.cell_state = all_[18:20]
        self.normalization = all_[20:24]
        self.coupled = self.weights[INPUT] is None
        self.gates = tuple(g for g in range(GATES) if g != INPUT or not self.coupled)


def activated(site: Site, x: Any) -> Any:
    name = site.attrs.fused_activation_function
    return tanh(x) if name == "TANH" else activate(x, name)


def shown(site: Site, cell: Any, new: Any) -> Any:
    """What the output gate lets through. Without an activation the official kernel shows what enters the cell
    instead of the cell: copying the cell state is part of its activation."""
    return new if site.attrs.fused_activation_function == "NONE" else activated(site, cell)


def limited(x: Any, limit: float) -> Any:
    """x in -limit..limit; any x when there is no limit."""
    return clamp(x, F(-limit), F(limit)) if limit > 0 else x


def evaluate(site: Site, sizes: Sizes, p: Parts) -> np.ndarray:
    """The outputs; the states are changed in place."""
    hidden, cell = p.output_state, p.cell_state
    rows = p.x.reshape(sizes.rows, sizes.depth)
    y = np.zeros((sizes.rows, sizes.outputs), F)

    def finished(g: int, total: np.ndarray) -> np.ndarray:
        if p.peephole[g] is not None:
            total = total + p.peephole[g] * cell
        if p.normalization[g] is None:
            return total + p.bias[g]
        less = total - total.mean(axis=1, keepdims=True)
        spread = np.sqrt((less * less).mean(axis=1, keepdims=True) + SMALL)
        return less / spread * p.normalization[g] + p.bias[g]

    for t in range(sizes.time):
        at = [sizes.row(n, t) for n in range(sizes.batch)]
        sums = {g: (rows[at] @ p.weights[g].T + hidden @ p.recurrent[g].T) for g in p.gates}
        forget = logistic(finished(FORGET, sums[FORGET]))
        enter = F(1) - forget if p.coupled else logistic(finished(INPUT, sums[INPUT]))
        new = activated(site, finished(CELL, sums[CELL]))
        cell[...] = limited(forget * cell + enter * new, site.attrs.cell_clip)
        value = logistic(finished(OUTPUT, sums[OUTPUT])) * shown(site, cell, new)
        if p.projection is not None:
            value = value @ p.projection.T + (0 if p.projection_bias is None else p.projection_bias)
            value = limited(value, site.attrs.proj_clip)
        hidden[...] = value
        y[at] = value
    return y.reshape(*site.input(0).shape[:2], sizes.outputs)


def product(b: Builder, x: Buffer, w: Buffer, bias: Buffer | None, out: Buffer, epilogue: Any) -> None:
    """out[n, o] = epilogue(bias[o] + sum over i of x[n, i] w[o, i], o, n)"""
    (count, depth), outputs = x.shape, w.shape[0]
    b.convolution(
        Convolution(
            x.viewed((count, 1, 1, depth)), w.viewed((outputs, 1, 1, depth)), bias, out.viewed((count, 1, 1, outputs)),
            (1, 1), (1, 1), (0, 0), 1, FLOAT32, lambda total, o, pixel: epilogue(total, o, pixel[0]),
        )
    )  # fmt: skip


def lower(b: Builder, site: Site, sizes: Sizes, p: Parts, y: Buffer) -> None:
    """The products with the input for all steps at once, then step by step those with the state."""
    rows, shape = p.x.viewed((sizes.rows, sizes.depth)), (sizes.batch, sizes.cells)
    hidden, cell = p.output_state, p.cell_state
    ahead, sums = {}, {}
    for g in p.gates:
        ahead[g] = b.scratch(FLOAT32, (sizes.rows, sizes.cells), "ahead")
        bias = p.bias[g] if p.normalization[g] is None else None
        product(b, rows, p.weights[g], bias, ahead[g], lambda total, o, n: total)
        sums[g] = b.scratch(FLOAT32, shape, "gate")
    value = hidden if p.projection is None else b.scratch(FLOAT32, shape, "value")

    def finish(g: int) -> None:
        if p.peephole[g] is not None:
            b.compute(sums[g], lambda n, o: sums[g][n, o] + p.peephole[g][o] * cell[n, o])
        if p.normalization[g] is not None:
            _normalize(b, sums[g], p.normalization[g], p.bias[g])

    def entered(n: Expr, o: Expr, forget: Expr) -> Expr:
        return F(1) - forget if p.coupled else logistic(sums[INPUT][n, o])

    def renewed(n: Expr, o: Expr) -> Expr:
        forget = b.variable(logistic(sums[FORGET][n, o]), "forget")[()]
        new = activated(site, sums[CELL][n, o])
        return limited(forget * cell[n, o] + entered(n, o, forget) * new, site.attrs.cell_clip)

    with b.loop(sizes.time, "serial", "time") as t:
        for g in p.gates:
            product(
                b, hidden, p.recurrent[g], None, sums[g],
                lambda total, o, n, g=g: total + ahead[g][sizes.row(n, t), o],
            )  # fmt: skip
        for g in p.gates[:-1]:
            finish(g)
        b.compute(cell, renewed)
        finish(OUTPUT)
        b.compute(value, lambda n, o: logistic(sums[OUTPUT][n, o]) * shown(site, cell[n, o], sums[CELL][n, o]))
        if p.projection is not None:
            clip = site.attrs.proj_clip
            product(b, value, p.projection, p.projection_bias, hidden, lambda total, o, n: limited(total, clip))
        with b.nest((sizes.batch, sizes.outputs), "parallel") as (n, o):
            b.store(y, (sizes.row(n, t), o), hidden[n, o])


def _normalize(b: Builder, x: Buffer, factor: Buffer, bias: Buffer) -> None:
    """Each row less its mean, divided by its spread, times the factor, plus the bias."""
    batch, cells = x.shape
    share = F(1.0 / cells)
    with b.loop(batch, "parallel", "row") as n:
        mean = b.variable(b.reduce(F(0), (cells,), lambda s, o: s + x[n, o], FLOAT32) * share, "mean")[()]
        variance = b.reduce(F(0), (cells,), lambda s, o: s + (x[n, o] - mean) * (x[n, o] - mean), FLOAT32) * share
        factor_of_row = b.variable(F(1) / sqrt(variance + SMALL), "inverse")[()]
        with b.loop(cells) as o:
            b.store(x, (n, o), (x[n, o] - mean) * factor_of_row * factor[o] + bias[o])
