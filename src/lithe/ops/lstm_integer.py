"""The int8 form of UNIDIRECTIONAL_SEQUENCE_LSTM: int8 input and output state, int16 gates and cell state.

Gates are summed with 12 bits of fraction (the products with input and state each saturate), the sigmoid and tanh of
16-bit fixed point are tables. Without projection the hidden value is the output, so the quantization that the format
keeps for it beside the operator (its "intermediates") is the output's own. Source: TensorFlow Lite, lstm_eval.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp
from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import INDEX, Buffer, Expr
from lithe.ops.fixed_point import (
    logistic_table,
    multiplier_of,
    saturated,
    scaled,
    shifted,
    tanh_table,
)
from lithe.ops.lstm_float import CELL, FORGET, INPUT, OUTPUT, OUTPUT_STATE, Parts, Sizes
from lithe.ops.op import Site
from lithe.types import INT8, INT16, INT32, INT64

F = np.float32
GATE_SCALE = F(2.0**-12)
ONE = 32767  # the greatest value of a sigmoid


def require(site: Site) -> None:
    """The rules of the int8 form beyond those of the operator."""
    activation = site.attrs.fused_activation_function
    site.require(activation == "TANH", f"the activation of the int8 form must be TANH, is {activation}")
    site.require(not site.has(16), "the int8 form with a projection is not supported", 16)
    site.require(not site.has(21), "the int8 form with a normalization is not supported", 21)
    for i in (0, *(k for k in range(1, 12) if site.has(k)), OUTPUT_STATE, OUTPUT_STATE + 1):
        scale, zero = site.quantization(site.input(i), site.operand(i))
        site.require(scale > 0 and math.isfinite(scale), f"scale must be positive and finite, is {scale}", i)
        site.require(zero == 0 or i in (0, OUTPUT_STATE), f"zero point must be 0, is {zero}", i)
        site.require(-128 <= zero <= 127, f"zero point {zero} is outside of int8", i)
        if 1 <= i < 9:
            site.constant(i)
    for i in range(12, 16):
        if site.has(i):
            site.constant(i)
    state, y = site.input(OUTPUT_STATE).quantization, site.outputs[0].quantization
    same = y is not None and y.scale == state.scale and y.zero_point == state.zero_point
    site.require(same, f"must be quantized like the output {site.outputs[0]}", OUTPUT_STATE)
    fraction, exponent = math.frexp(site.input(OUTPUT_STATE + 1).quantization.scale[0])
    site.require(
        fraction == 0.5 and -15 <= exponent - 1 <= -9, "scale must be a power of two, 2**-15 to 2**-9", OUTPUT_STATE + 1
    )


class Numbers:
    """The factors, tables and limits of one layer."""

    def __init__(self, site: Site) -> None:
        def scale(i: int) -> Any:
            return F(site.quantization(site.input(i))[0])

        self.x_zero = site.quantization(site.input(0))[1]
        output, self.zero = scale(OUTPUT_STATE), site.quantization(site.input(OUTPUT_STATE))[1]
        cell = scale(OUTPUT_STATE + 1)
        self.exponent = math.frexp(float(cell))[1] - 1
        self.clip = int(min(F(site.attrs.cell_clip) / cell, F(32767)))

        def factor(real: Any, i: int) -> tuple[int, int] | None:
            return multiplier_of(float(F(real) * scale(i) / GATE_SCALE)) if site.has(i) else None

        self.inputs = [factor(scale(0), 1 + g) for g in range(4)]
        self.recurrent = [factor(output, 5 + g) for g in range(4)]
        self.peephole = [factor(cell, 9), factor(cell, 10), None, factor(cell, 11)]
        self.hidden = multiplier_of(float(F(2.0**-30) / output))
        self.logistic, self.tanh = logistic_table(), tanh_table(3)
        self.cell_tanh = tanh_table(15 + self.exponent)

    def renewed(self, forget: Any, enter: Any, new: Any, cell: Any) -> Any:
        """The next cell state."""
        total = saturated(shifted(forget * cell, 15) + shifted(enter * new, 30 + self.exponent), 16)
        return clamp(total, -self.clip, self.clip) if self.clip > 0 else total

    def shown(self, output: Any, cell: Any) -> Any:
        """The output of a gate and the cell state's tanh."""
        return saturated(scaled(output * cell, self.hidden) + self.zero, 8)


def _biases(p: Parts, numbers: Numbers, sums: Any) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """For each gate the bias of the products with input and state, the shares of the zero points included."""
    ahead = {g: (sums(p.bias[g]) - numbers.x_zero * sums(p.weights[g])).astype(np.int32) for g in p.gates}
    return ahead, {g: (-numbers.zero * sums(p.recurrent[g])).astype(np.int32) for g in p.gates}


def _row_sums(values: np.ndarray) -> np.ndarray:
    """A bias as it is, weights summed over each row."""
    wide = values.astype(np.int64)
    return wide if wide.ndim == 1 else wide.sum(axis=1)


def evaluate(site: Site, sizes: Sizes, p: Parts) -> np.ndarray:
    """The outputs; the states are changed in place."""
    numbers, hidden, cell = Numbers(site), p.output_state, p.cell_state
    rows = p.x.reshape(sizes.rows, sizes.depth).astype(np.int64)
    bias, bias_of_state = _biases(p, numbers, _row_sums)
    wide = {g: (p.weights[g].astype(np.int64), p.recurrent[g].astype(np.int64)) for g in p.gates}
    y = np.zeros((sizes.rows, sizes.outputs), np.int8)

    def total(g: int, at: list[int]) -> np.ndarray:
        w, r = wide[g]
        ahead = saturated(scaled(rows[at] @ w.T + bias[g], numbers.inputs[g]), 16)
        state = scaled(hidden.astype(np.int64) @ r.T + bias_of_state[g], numbers.recurrent[g])
        return saturated(state + ahead, 16)

    def gate(g: int, sums: np.ndarray) -> np.ndarray:
        if p.peephole[g] is not None:
            product = cell.astype(np.int64) * p.peephole[g].astype(np.int64)
            sums = saturated(scaled(product, numbers.peephole[g]) + sums, 16)
        values = numbers.tanh if g == CELL else numbers.logistic
        return values[sums + 32768].astype(np.int64)

    for t in range(sizes.time):
        at = [sizes.row(n, t) for n in range(sizes.batch)]
        sums = {g: total(g, at) for g in p.gates}
        forget = gate(FORGET, sums[FORGET])
        enter = ONE - forget if p.coupled else gate(INPUT, sums[INPUT])
        cell[...] = numbers.renewed(forget, enter, gate(CELL, sums[CELL]), cell.astype(np.int64))
        seen = numbers.cell_tanh[cell.astype(np.int64) + 32768].astype(np.int64)
        hidden[...] = numbers.shown(gate(OUTPUT, sums[OUTPUT]), seen)
        y[at] = hidden
    return y.reshape(*site.input(0).shape[:2], sizes.outputs)


def _product(b: Builder, x: Buffer, w: Buffer, bias: Buffer, out: Buffer, epilogue: Any) -> None:
    """out[n, o] = epilogue(bias[o] + sum over i of x[n, i] w[o, i], o, n)"""
    (count, depth), outputs = x.shape, w.shape[0]
    b.convolution(
        Convolution(
            x.viewed((count, 1, 1, depth)), w.viewed((outputs, 1, 1, depth)), bias, out.viewed((count, 1, 1, outputs)),
            (1, 1), (1, 1), (0, 0), 1, INT32,
            lambda total, o, pixel: saturated(epilogue(total.to(INT64), o, pixel[0]), 16).to(INT16),
        )
    )  # fmt: skip


def lower(b: Builder, site: Site, sizes: Sizes, p: Parts, y: Buffer) -> None:
    """The products with the input for all steps at once, then step by step those with the state."""
    numbers, hidden, cell = Numbers(site), p.output_state, p.cell_state
    rows, shape = p.x.viewed((sizes.rows, sizes.depth)), (sizes.batch, sizes.cells)
    first, second = _biases(p, numbers, lambda buffer: _row_sums(buffer.values))
    ahead, sums, bias_of_state = {}, {}, {}
    for g in p.gates:
        ahead[g] = b.scratch(INT16, (sizes.rows, sizes.cells), "ahead")
        factor = numbers.inputs[g]
        _product(b, rows, p.weights[g], b.constant(first[g], "bias"), ahead[g], lambda s, o, n, f=factor: scaled(s, f))
        sums[g] = b.scratch(INT16, shape, "gate")
        bias_of_state[g] = b.constant(second[g], "bias_of_state")
    logistic, tanh = b.constant(numbers.logistic, "sigmoid"), b.constant(numbers.tanh, "tanh")
    cell_tanh = b.constant(numbers.cell_tanh, "cell_tanh")

    def looked_up(values: Buffer, x: Expr) -> Expr:
        return values[x.to(INDEX) + 32768].to(INT64)

    def gate(g: int, n: Expr, o: Expr) -> Expr:
        x = sums[g][n, o]
        if p.peephole[g] is not None:
            product = cell[n, o].to(INT64) * p.peephole[g][o].to(INT64)
            x = saturated(scaled(product, numbers.peephole[g]) + x.to(INT64), 16).to(INT16)
        return looked_up(tanh if g == CELL else logistic, x)

    with b.loop(sizes.time, "serial", "time") as t:
        for g in p.gates:
            _product(
                b, hidden, p.recurrent[g], bias_of_state[g], sums[g],
                lambda s, o, n, g=g: scaled(s, numbers.recurrent[g]) + ahead[g][sizes.row(n, t), o].to(INT64),
            )  # fmt: skip
        with b.nest(shape, "parallel") as (n, o):
            forget = b.variable(gate(FORGET, n, o), "forget")[()]
            enter = -forget + ONE if p.coupled else gate(INPUT, n, o)
            renewed = numbers.renewed(forget, enter, gate(CELL, n, o), cell[n, o].to(INT64))
            b.store(cell, (n, o), renewed.to(INT16))
            value = b.local(INT8, (), "value")
            b.store(value, (), numbers.shown(gate(OUTPUT, n, o), looked_up(cell_tanh, cell[n, o])).to(INT8))
            b.store(hidden, (n, o), value[()])
            b.store(y, (sizes.row(n, t), o), value[()])
