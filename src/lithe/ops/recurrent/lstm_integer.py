"""The LSTM layer on integers: int8 or int16 input and output state, int8 weights, int16 gates and cell state.

Gates are summed with 12 bits of fraction (the products with input and state each saturate); the sigmoid and tanh of
16-bit fixed point are tables. The scale of the cell state is a power of two. The model gives five "intermediates"
beside the operator: the quantization of the four sums where they are normalized, and that of the hidden value where it
is projected; without them the sums have 12 bits of fraction and the hidden value is the output's.
Source: TensorFlow Lite, lstm_eval (int8); int16 after TensorFlow Lite Micro, with the tables of int8.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp, where
from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import INDEX, Buffer, Expr
from lithe.ops.fixed_point import (
    inverse_root,
    logistic_table,
    multiplier_of,
    quotient,
    saturated,
    scaled,
    scaled_by,
    scaled_wide,
    shifted,
    tanh_table,
)
from lithe.ops.op import Site
from lithe.ops.recurrent.lstm_float import (
    CELL,
    FORGET,
    GATES,
    INPUT,
    NORMALIZATION,
    OUTPUT,
    OUTPUT_STATE,
    PROJECTION,
    Parts,
    Sizes,
)
from lithe.types import INT16, INT32, INT64

F = np.float32
GATE_SCALE = F(2.0**-12)
ONE = 32767  # the greatest value of a sigmoid
HIDDEN = 4  # the intermediate of the hidden value


def require_stored(site: Site) -> None:
    """The rules of integer operands; whatever activation is asked for, that of integers is TANH, as officially."""
    weights = (*(k for k in range(1, 9)), PROJECTION)
    factors = (*range(9, 12), *range(NORMALIZATION, NORMALIZATION + GATES))
    for i in (0, *weights, *factors, OUTPUT_STATE, OUTPUT_STATE + 1):
        if not site.has(i):
            continue
        scale, zero = site.quantization(site.input(i), site.operand(i))
        site.require(scale > 0 and math.isfinite(scale), f"scale must be positive and finite, is {scale}", i)
        site.require(zero == 0 or i in (0, OUTPUT_STATE), f"zero point must be 0, is {zero}", i)
        low, high = site.input(i).dtype.minimum, site.input(i).dtype.maximum
        site.require(low <= zero <= high, f"zero point {zero} is outside of {site.input(i).dtype}", i)
        if i in weights:
            site.constant(i)
    for i in (*range(12, 16), PROJECTION + 1):
        if site.has(i):
            site.constant(i)
    site.require(all(site.input(i).rank == 2 for i in range(5, 9) if site.has(i)), "must not be a diagonal", 8)
    state, y = site.input(OUTPUT_STATE).quantization, site.outputs[0].quantization
    same = y is not None and y.scale == state.scale and y.zero_point == state.zero_point
    site.require(same, f"must be quantized like the output {site.outputs[0]}", OUTPUT_STATE)
    fraction, exponent = math.frexp(site.input(OUTPUT_STATE + 1).quantization.scale[0])
    site.require(
        fraction == 0.5 and -15 <= exponent - 1 <= -9, "scale must be a power of two, 2**-15 to 2**-9", OUTPUT_STATE + 1
    )


def require(site: Site) -> None:
    """The rules of integers beyond those of the layer."""
    require_stored(site)
    count = len(site.intermediates)
    site.require(count in (0, HIDDEN + 1), f"integers have {HIDDEN + 1} intermediates, not {count}")
    normalized, projected = site.has(NORMALIZATION + OUTPUT), site.has(PROJECTION)
    wanted = (*(range(GATES) if normalized else ()), *((HIDDEN,) if projected else ()))
    for i in wanted:
        t = site.intermediates[i] if count else None
        site.require(t is not None, f"needs the quantization of intermediate {i}")
        scale, zero = site.quantization(t, f"intermediate {i}")
        site.require(scale > 0 and math.isfinite(scale), f"scale of intermediate {i} must be positive, is {scale}")
        site.require(-128 <= zero <= 127 or i != HIDDEN, f"zero point {zero} is outside of int8")


class Numbers:
    """The factors, tables and limits of one layer."""

    @np.errstate(over="ignore")
    def __init__(self, site: Site) -> None:
        def scale(i: int) -> Any:
            return F(site.quantization(site.input(i))[0])

        self.normalized, projected = site.has(NORMALIZATION + OUTPUT), site.has(PROJECTION)
        self.bits = site.input(0).dtype.bits
        self.x_zero = site.quantization(site.input(0))[1]
        output, self.zero = scale(OUTPUT_STATE), site.quantization(site.input(OUTPUT_STATE))[1]
        cell = scale(OUTPUT_STATE + 1)
        self.exponent = math.frexp(float(cell))[1] - 1
        self.clip = int(min(F(site.attrs.cell_clip) / cell, F(32767)))
        self.projection_clip = int(min(F(site.attrs.proj_clip) / output, F((1 << (self.bits - 1)) - 1)))
        sums = [F(site.quantization(t)[0]) for t in site.intermediates[:GATES]] if self.normalized else []
        sums = sums or [GATE_SCALE] * GATES

        def factor(real: Any, i: int, g: int) -> tuple[int, int] | None:
            return multiplier_of(float(F(real) * scale(i) / sums[g])) if site.has(i) else None

        self.inputs = [factor(scale(0), 1 + g, g) for g in range(GATES)]
        self.recurrent = [factor(output, 5 + g, g) for g in range(GATES)]
        self.peephole = [factor(cell, 9, 0), factor(cell, 10, 1), None, factor(cell, 11, 3)]
        hidden, self.hidden_zero = output, self.zero
        if projected:
            hidden, self.hidden_zero = site.quantization(site.intermediates[HIDDEN])
            self.projection = multiplier_of(float(scale(PROJECTION) * F(hidden) / output))
        self.hidden = multiplier_of(float(F(2.0**-30 / float(F(hidden)))))
        if self.normalized:
            scales = [scale(NORMALIZATION + g) if site.has(NORMALIZATION + g) else F(1) for g in range(GATES)]
            self.normalization = [(m, e + 12) for m, e in map(multiplier_of, map(float, scales))]
            self.guard = [int(np.clip(F(10000) * s, 1, F(1 << 30))) for s in scales]
        self.logistic, self.tanh = logistic_table(), tanh_table(3)
        self.cell_tanh = tanh_table(15 + self.exponent)

    def multiplied(self, total: Any, factor: tuple[int, int]) -> Any:
        """A sum of products with weights in another scale."""
        return scaled(total, factor) if self.bits == 8 else scaled_wide(total, factor)

    def renewed(self, forget: Any, enter: Any, new: Any, cell: Any) -> Any:
        """The next cell state."""
        total = saturated(shifted(forget * cell, 15) + shifted(enter * new, 30 + self.exponent), 16)
        return clamp(total, -self.clip, self.clip) if self.clip > 0 else total

    def shown(self, output: Any, cell: Any) -> Any:
        """The hidden value: the product of the output gate and the cell state's tanh."""
        zero = -self.hidden_zero if hasattr(self, "projection") else self.zero
        return saturated(scaled(output * cell, self.hidden) + zero, self.bits)

    def projected(self, total: Any) -> Any:
        """The output for a sum over the hidden values."""
        value = saturated(self.multiplied(total, self.projection) + self.zero, self.bits)
        limit = self.projection_clip
        return clamp(value, -limit, limit) if limit > 0 else value

    def spread(self, total: Any, squares: Any, count: int, g: int) -> tuple[Any, Any, Any]:
        """(mean times 1024, factor, shift) of `count` sums of a gate: 1 / their spread = factor / 2**31 / 2**shift."""
        mean = quotient(total * 1024, count)
        variance = quotient(squares * ((1 << 20) // count) - mean * mean, 1 << 20)
        return mean, *inverse_root(where(variance < 1, variance * 0 + self.guard[g], variance))

    def level(self, x: Any, spread: tuple[Any, Any, Any], factor: Any, bias: Any, g: int) -> Any:
        """A gate's sum after normalization."""
        mean, multiplier, shift = spread
        weighted = scaled_by(x * 1024 - mean, multiplier, shift) * factor + bias
        near = quotient(where(weighted > 0, weighted + 512, weighted - 512), 1024)
        return saturated(scaled(near, self.normalization[g]), 16)


def _biases(site: Site, p: Parts, n: Numbers) -> list[dict[int, np.ndarray]]:
    """For input, state and projection the bias of each product, the shares of the zero points included."""

    def of(i: int) -> np.ndarray:
        return np.zeros(1, np.int64) if i < 0 else site.constant(i).astype(np.int64)

    def sums(i: int) -> np.ndarray:
        return of(i).sum(axis=1)

    wide = np.int32 if n.bits == 8 else np.int64
    first = {g: of(-1 if n.normalized else 12 + g) - n.x_zero * sums(1 + g) for g in p.gates}
    second = {g: -n.zero * sums(5 + g) for g in p.gates}
    third = {}
    if p.projection is not None:
        bias = of(-1 if p.projection_bias is None else PROJECTION + 1)
        third = {0: bias + n.hidden_zero * sums(PROJECTION)}
    return [{g: v.astype(wide) for g, v in biases.items()} for biases in (first, second, third)]


def evaluate(site: Site, sizes: Sizes, p: Parts) -> np.ndarray:
    """The outputs, a row for each row of x; the states are changed in place."""
    n, hidden, cell = Numbers(site), p.output_state, p.cell_state
    rows = p.x.reshape(sizes.rows, sizes.depth).astype(np.int64)
    first, second, third = _biases(site, p, n)
    y = np.zeros((sizes.rows, sizes.outputs), hidden.dtype)

    def product(x: np.ndarray, w: Any, bias: np.ndarray) -> np.ndarray:
        return x.astype(np.int64) @ w.values.T.astype(np.int64) + bias

    ahead = {g: saturated(n.multiplied(product(rows, p.weights[g], first[g]), n.inputs[g]), 16) for g in p.gates}

    def gate(g: int, at: list[int]) -> np.ndarray:
        sums = n.multiplied(product(hidden, p.recurrent[g], second[g]), n.recurrent[g])
        sums = saturated(sums + ahead[g][at], 16)
        if p.peephole[g] is not None:
            share = cell.astype(np.int64) * p.peephole[g].values.astype(np.int64)
            sums = saturated(scaled(share, n.peephole[g]) + sums, 16)
        if n.normalized:
            spread = n.spread(sums.sum(axis=1)[:, None], (sums * sums).sum(axis=1)[:, None], sizes.cells, g)
            factor, bias = (v[g].astype(np.int64) for v in (p.normalization, p.bias))
            sums = n.level(sums, spread, factor, bias, g)
        values = n.tanh if g == CELL else n.logistic
        return values[sums + 32768].astype(np.int64)

    for t in range(sizes.time):
        at = sizes.step(t)
        forget = gate(FORGET, at)
        enter = ONE - forget if p.coupled else gate(INPUT, at)
        cell[...] = n.renewed(forget, enter, gate(CELL, at), cell.astype(np.int64))
        value = n.shown(gate(OUTPUT, at), n.cell_tanh[cell.astype(np.int64) + 32768].astype(np.int64))
        hidden[...] = value if p.projection is None else n.projected(product(value, p.projection, third[0]))
        y[at] = hidden
    return y


def lower(b: Builder, site: Site, sizes: Sizes, p: Parts, y: Buffer, column: int = 0) -> None:
    """The products with the input for all steps at once, then step by step those with the state."""
    n, hidden, cell = Numbers(site), p.output_state, p.cell_state
    shape, count, wide = (sizes.batch, sizes.cells), sizes.cells, INT32 if n.bits == 8 else INT64
    first, second, third = ({g: b.constant(v, "bias") for g, v in c.items()} for c in _biases(site, p, n))
    late = n.normalized and p.peephole[OUTPUT] is not None  # the output gate waits for the whole new cell state
    tables = [b.constant(n.tanh if g == CELL else n.logistic, "table") for g in (INPUT, CELL)]
    cell_tanh = b.constant(n.cell_tanh, "cell_tanh")
    value = hidden if p.projection is None else b.scratch(hidden.dtype, shape, "value")

    def product(x: Buffer, w: Any, bias: Buffer, out: Buffer, epilogue: Any) -> None:
        (rows, depth), outputs = x.shape, w.values.shape[0]
        b.convolution(
            Convolution(
                x.viewed((rows, 1, 1, depth)), w.values.viewed((outputs, 1, 1, depth)), bias,
                out.viewed((rows, 1, 1, outputs)), (1, 1), (1, 1), (0, 0), 1, wide,
                lambda s, o, pixel: saturated(epilogue(s.to(INT64), o, pixel[0]), out.dtype.bits).to(out.dtype),
            )
        )  # fmt: skip

    ahead, sums = {}, {}
    for g in p.gates:
        ahead[g] = b.scratch(INT16, (sizes.rows, sizes.cells), "ahead")
        rows = p.x.viewed((sizes.rows, sizes.depth))
        product(rows, p.weights[g], first[g], ahead[g], lambda s, o, i, g=g: n.multiplied(s, n.inputs[g]))
        sums[g] = b.scratch(INT16, shape, "gate")

    def looked_up(values: Buffer, x: Expr) -> Expr:
        return values[x.to(INDEX) + 32768].to(INT64)

    def total(g: int, i: Expr, o: Expr) -> Expr:
        """A gate's sum with the share of the cell state."""
        x = sums[g][i, o].to(INT64)
        if p.peephole[g] is not None:
            share = cell[i, o].to(INT64) * p.peephole[g].values[o].to(INT64)
            x = saturated(scaled(share, n.peephole[g]) + x, 16)
        return x

    def normalize(g: int) -> None:
        if p.peephole[g] is not None:
            b.compute(sums[g], lambda i, o: total(g, i, o).to(INT16))
        x = sums[g]
        with b.loop(sizes.batch, "parallel", "row") as i:
            whole = b.reduce(0, (count,), lambda s, o: s + x[i, o].to(INT64), INT64)
            squares = b.reduce(0, (count,), lambda s, o: s + x[i, o].to(INT64) * x[i, o].to(INT64), INT64)
            spread = [b.variable(v, "spread")[()] for v in n.spread(whole, squares, count, g)]
            with b.loop(count, "parallel") as o:
                factor, bias = p.normalization[g][o].to(INT64), p.bias[g][o].to(INT64)
                b.store(x, (i, o), n.level(x[i, o].to(INT64), tuple(spread), factor, bias, g).to(INT16))

    def gate(g: int, i: Expr, o: Expr) -> Expr:
        x = sums[g][i, o] if n.normalized else total(g, i, o)
        return looked_up(tables[g == CELL], x)

    def renew(i: Expr, o: Expr) -> None:
        forget = b.variable(gate(FORGET, i, o), "forget")[()]
        enter = -forget + ONE if p.coupled else gate(INPUT, i, o)
        b.store(cell, (i, o), n.renewed(forget, enter, gate(CELL, i, o), cell[i, o].to(INT64)).to(INT16))

    def show(i: Expr, o: Expr) -> None:
        result = n.shown(gate(OUTPUT, i, o), looked_up(cell_tanh, cell[i, o]))
        result = b.variable(result.to(hidden.dtype), "shown")[()]
        b.store(value, (i, o), result)
        if p.projection is None:
            b.store(y, (sizes.row(i, t), o + column), result)

    with b.loop(sizes.time, "serial", "time") as t:
        for g in p.gates:
            product(
                hidden, p.recurrent[g], second[g], sums[g],
                lambda s, o, i, g=g: n.multiplied(s, n.recurrent[g]) + ahead[g][sizes.row(i, t), o].to(INT64),
            )  # fmt: skip
        for g in p.gates:
            if n.normalized and not (late and g == OUTPUT):
                normalize(g)
        with b.nest(shape, "parallel") as (i, o):
            renew(i, o)
            if not late:
                show(i, o)
        if late:
            normalize(OUTPUT)
            with b.nest(shape, "parallel") as (i, o):
                show(i, o)
        if p.projection is not None:
            product(value, p.projection, third[0], hidden, lambda s, o, i: n.projected(s))
            with b.nest((sizes.batch, sizes.outputs), "parallel") as (i, o):
                b.store(y, (sizes.row(i, t), o + column), hidden[i, o])
