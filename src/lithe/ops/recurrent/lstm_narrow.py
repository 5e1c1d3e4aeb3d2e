"""The LSTM layer on integers whose products are kept in 8 bits: int8 input and output state, int16 gates.

The format has it as LSTM with twelve "intermediates", for each gate the quantization of its sum, of the product with
the input and of the product with the state. The layer is coupled, normalized and projected. Each product is rounded
to int8; the sum of both is normalized in floats and rounded to 12 bits of fraction; sigmoid and tanh are floats of
int16, so tables; hidden values are int16 without a scale of their own. The scale of the cell state is 2**-15.

The official kernel takes the factors of the state's share in the output gate from the wrong place, so that the share
is nothing; a model is what it is run as, so here it is nothing too. Source: TensorFlow Lite, LstmStepInteger8x8_8.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from lithe.ir.arithmetic import absolute, cast, clamp, sqrt, trunc, where
from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import INDEX, Buffer, Expr
from lithe.ops.fixed_point import multiplier_of, saturated, scaled, scaled_wide, shifted
from lithe.ops.op import Site
from lithe.ops.recurrent.lstm_float import (
    CELL,
    FORGET,
    GATES,
    NORMALIZATION,
    OUTPUT,
    OUTPUT_STATE,
    PROJECTION,
    Parts,
    Sizes,
)
from lithe.ops.recurrent.lstm_integer import ONE, require_stored
from lithe.types import FLOAT32, INT8, INT16, INT32, INT64

F = np.float32
INTERMEDIATES = 3 * GATES
SMALL = F(1) / np.sqrt(F(1e-8))  # the factor of a row without variance
CELL_SCALE = 2.0**-15


def require(site: Site) -> None:
    """The rules of this form beyond those of the layer."""
    require_stored(site)
    site.require(not site.has(1) and not site.has(11), "products of 8 bits are coupled and have no peephole", 1)
    for i in (NORMALIZATION + OUTPUT, PROJECTION, PROJECTION + 1):
        site.require(site.has(i), "must be present where products have 8 bits", i)
    scale = site.quantization(site.input(OUTPUT_STATE + 1))[0]
    site.require(scale == CELL_SCALE, f"scale must be 2**-15, is {scale}", OUTPUT_STATE + 1)
    for i, t in enumerate(site.intermediates[3:], 3):
        site.require(t is not None, f"needs the quantization of intermediate {i}")
        scale, zero = site.quantization(t, f"intermediate {i}")
        site.require(scale > 0 and math.isfinite(scale), f"scale of intermediate {i} must be positive, is {scale}")
        site.require(-128 <= zero <= 127, f"zero point {zero} of intermediate {i} is outside of int8")


@functools.cache
def _table(name: str, bits: int) -> np.ndarray:
    """int16 [65536]: a function of x / 2**bits, times 2**15 and truncated, least x first."""
    x = np.arange(-32768, 32768).astype(F) * F(2.0**-bits)
    y = np.tanh(x) if name == "tanh" else F(1) / (F(1) + np.exp(-x))
    return np.clip(np.trunc(y * F(32768)), -32768, 32767).astype(np.int16)


def _nearest(x: Any) -> Any:
    """The nearest whole float, halves away from zero."""
    whole = trunc(x)
    return where(absolute(x - whole) >= F(0.5), where(x < F(0), whole - F(1), whole + F(1)), whole)


class Numbers:
    """The factors and tables of one layer."""

    @np.errstate(over="ignore")
    def __init__(self, site: Site) -> None:
        def scale(i: int) -> Any:
            return F(site.quantization(site.input(i))[0])

        inside = [(F(1), 0)] * 3 + [site.quantization(t) for t in site.intermediates[3:]]
        sums, self.zeros = [F(s) for s, _ in inside], [z for _, z in inside]
        self.x_zero = site.quantization(site.input(0))[1]
        output, self.zero = scale(OUTPUT_STATE), site.quantization(site.input(OUTPUT_STATE))[1]
        gates = (FORGET, CELL, OUTPUT)
        self.products = {
            3 * g + k: multiplier_of(float(real * scale(first + g) / sums[3 * g + k]))
            for g in gates
            for k, real, first in ((1, scale(0), 1), (2, output, 5))
        }
        self.shares = {i: multiplier_of(float(sums[i] / sums[i - i % 3])) for i in self.products}
        pairs = {g: multiplier_of(float(scale(NORMALIZATION + g))) for g in gates}
        self.factor = {g: F(m * 2.0 ** (e - 31)) for g, (m, e) in pairs.items()}
        clip, limit = site.attrs.cell_clip, site.attrs.proj_clip
        self.clip = int(F(clip) / F(CELL_SCALE)) if 0 < clip < 1 else 0
        self.limit = int(min(F(limit) / output, F(127)))
        self.projection = multiplier_of(float(F(float(scale(PROJECTION)) * CELL_SCALE / float(output))))
        self.sigmoid, self.tanh, self.cell_tanh = _table("sigmoid", 12), _table("tanh", 12), _table("tanh", 15)

    def product(self, total: Any, i: int) -> Any:
        """A sum of products as int8."""
        return saturated(scaled(total, self.products[i]) + self.zeros[i], 8)

    def share(self, product: Any, i: int) -> Any:
        """What a product adds to its gate."""
        return scaled(product - self.zeros[i], self.shares[i])

    def spread(self, total: Any, squares: Any, count: int) -> tuple[Any, Any]:
        """(mean, 1 / standard deviation) of a row, from its sum and the sum of its squares; floats."""
        mean = total / F(count)
        variance = squares / F(count) - mean * mean
        none = variance.equals(F(0)) if isinstance(variance, Expr) else variance == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = F(1) / sqrt(variance)
        return mean, where(none, variance * F(0) + SMALL, inverse)

    def level(self, x: Any, mean: Any, inverse: Any, weight: Any, bias: Any, g: int) -> Any:
        """A gate's sum after normalization, with 12 bits of fraction; x, weight and bias are floats."""
        with np.errstate(invalid="ignore"):
            value = (x - mean) * inverse * weight * self.factor[g] + bias * (F(2.0**-10) * self.factor[g])
            return clamp(_nearest(value * F(4096)), F(-32768), F(32767))

    def renewed(self, forget: Any, new: Any, cell: Any) -> Any:
        total = saturated(shifted(forget * cell, 15) + shifted((-forget + ONE) * new, 15), 16)
        return clamp(total, -self.clip, self.clip) if self.clip > 0 else total

    def projected(self, total: Any) -> Any:
        value = saturated(scaled_wide(total, self.projection) + self.zero, 8)
        return clamp(value, -self.limit, self.limit) if self.limit > 0 else value


def _shared(site: Site, g: int, zero: int, first: int) -> np.ndarray:
    """What a zero point takes from the sums of products with a gate's weights."""
    return (-zero * site.constant(first + g).astype(np.int64).sum(axis=1)).astype(np.int32)


def evaluate(site: Site, sizes: Sizes, p: Parts) -> np.ndarray:
    """The outputs, a row for each row of x; the states are changed in place."""
    n, hidden, cell = Numbers(site), p.output_state, p.cell_state
    rows = p.x.reshape(sizes.rows, sizes.depth)
    y = np.zeros((sizes.rows, sizes.outputs), np.int8)

    def product(x: np.ndarray, w: Any, zero: int, g: int, k: int) -> np.ndarray:
        total = (x.astype(np.int64) - zero) @ w[g].values.T.astype(np.int64)
        return n.share(n.product(total, 3 * g + k), 3 * g + k)

    ahead = {g: product(rows, p.weights, n.x_zero, g, 1) for g in p.gates}

    def gate(g: int, at: list[int]) -> np.ndarray:
        total = ahead[g][at] + (0 if g == OUTPUT else product(hidden, p.recurrent, n.zero, g, 2))
        x = saturated(total, 16).astype(F)
        sums = [np.add.accumulate(v, axis=1, dtype=F)[:, -1:] for v in (x, x * x)]
        x = n.level(x, *n.spread(*sums, sizes.cells), p.normalization[g].astype(F), p.bias[g].astype(F), g)
        return (n.tanh if g == CELL else n.sigmoid)[x.astype(np.int64) + 32768].astype(np.int64)

    for t in range(sizes.time):
        at = sizes.step(t)
        cell[...] = n.renewed(gate(FORGET, at), gate(CELL, at), cell.astype(np.int64))
        seen = n.cell_tanh[cell.astype(np.int64) + 32768].astype(np.int64)
        value = shifted(gate(OUTPUT, at) * seen, 15)
        hidden[...] = n.projected(value @ p.projection.values.T.astype(np.int64) + p.projection_bias)
        y[at] = hidden
    return y


def lower(b: Builder, site: Site, sizes: Sizes, p: Parts, y: Buffer, column: int = 0) -> None:
    """The products with the input for all steps at once, then step by step those with the state."""
    n, hidden, cell = Numbers(site), p.output_state, p.cell_state
    shape, count = (sizes.batch, sizes.cells), sizes.cells
    sigmoid, tanh, cell_tanh = (b.constant(v, "table") for v in (n.sigmoid, n.tanh, n.cell_tanh))

    def product(x: Buffer, w: Any, bias: Buffer, out: Buffer, finish: Any) -> None:
        (rows, depth), outputs = x.shape, w.values.shape[0]
        b.convolution(
            Convolution(
                x.viewed((rows, 1, 1, depth)), w.values.viewed((outputs, 1, 1, depth)), bias,
                out.viewed((rows, 1, 1, outputs)), (1, 1), (1, 1), (0, 0), 1,
                INT64 if x.dtype == INT16 else INT32, lambda s, o, pixel: finish(s.to(INT64)).to(out.dtype),
            )
        )  # fmt: skip

    ahead, behind, sums = {}, {}, {}
    for g in p.gates:
        ahead[g], behind[g] = b.scratch(INT8, (sizes.rows, count), "ahead"), b.scratch(INT8, shape, "behind")
        sums[g] = b.scratch(INT16, shape, "gate")
        bias = b.constant(_shared(site, g, n.x_zero, 1), "bias")
        rows = p.x.viewed((sizes.rows, sizes.depth))
        product(rows, p.weights[g], bias, ahead[g], lambda s, g=g: n.product(s, 3 * g + 1))
    biases = {g: b.constant(_shared(site, g, n.zero, 5), "bias") for g in (FORGET, CELL)}
    last = b.constant(site.constant(PROJECTION + 1).astype(np.int64), "projection_bias")
    value = b.scratch(INT16, shape, "value")

    def normalize(g: int, t: Expr) -> None:
        x = sums[g]
        with b.nest(shape, "parallel") as (i, o):
            total = n.share(ahead[g][sizes.row(i, t), o].to(INT64), 3 * g + 1)
            if g != OUTPUT:
                total = n.share(behind[g][i, o].to(INT64), 3 * g + 2) + total
            b.store(x, (i, o), saturated(total, 16).to(INT16))
        with b.loop(sizes.batch, "parallel", "row") as i:
            real = functools.partial(lambda i, o: x[i, o].to(FLOAT32), i)
            whole = b.reduce(F(0), (count,), lambda s, o: s + real(o), FLOAT32)
            squares = b.reduce(F(0), (count,), lambda s, o: s + real(o) * real(o), FLOAT32)
            mean, inverse = (b.variable(v, "spread")[()] for v in n.spread(whole, squares, count))
            with b.loop(count, "parallel") as o:
                weight, shift = cast(p.normalization[g][o], FLOAT32), cast(p.bias[g][o], FLOAT32)
                b.store(x, (i, o), n.level(real(o), mean, inverse, weight, shift, g).to(INT16))

    def looked_up(values: Buffer, x: Expr) -> Expr:
        return values[x.to(INDEX) + 32768].to(INT64)

    with b.loop(sizes.time, "serial", "time") as t:
        for g in (FORGET, CELL):
            product(hidden, p.recurrent[g], biases[g], behind[g], lambda s, g=g: n.product(s, 3 * g + 2))
        for g in p.gates:
            normalize(g, t)
        with b.nest(shape, "parallel") as (i, o):
            forget = b.variable(looked_up(sigmoid, sums[FORGET][i, o]), "forget")[()]
            new = looked_up(tanh, sums[CELL][i, o])
            b.store(cell, (i, o), n.renewed(forget, new, cell[i, o].to(INT64)).to(INT16))
            seen = looked_up(cell_tanh, cell[i, o])
            b.store(value, (i, o), shifted(looked_up(sigmoid, sums[OUTPUT][i, o]) * seen, 15).to(INT16))
        product(value, p.projection, last, hidden, n.projected)
        with b.nest((sizes.batch, sizes.outputs), "parallel") as (i, o):
            b.store(y, (sizes.row(i, t), o + column), hidden[i, o])
