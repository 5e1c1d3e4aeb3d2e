"""The BASIC kernel of LSTM: one step with one matrix of weights, on floats or on uint8 with int16 gates and state.

    [i z f o] = [x h] W + bias;  c' = sigmoid(i) tanh(z) + sigmoid(f) c;  h' = sigmoid(o) tanh(c')

x: [batch, depth]; h, c: [batch, outputs], kept for the next run; W: [4 outputs, depth + outputs]; bias: [4 outputs].
Results: h', c', [x h] and the sums [i z f o]. uint8: x, h and h' have scale 1/128 and zero point 128, the gates 12 bits
of fraction, the state 11. The activation is tanh, whatever the options say. Source: TensorFlow Lite, LstmCell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ir.build import Builder, Convolution
from lithe.ir.elementary import logistic, tanh
from lithe.ir.loops import INDEX, Buffer
from lithe.ops.fixed_point import logistic_table, multiplier_of, saturated, shifted, tanh_table
from lithe.ops.op import Site
from lithe.types import FLOAT32, INT32, INT64, UINT8, Shape

TYPES = """
float32 float32 float32 float32 float32 -> float32 float32 float32 float32
uint8q uint8q uint8q int32q int16q -> uint8q int16q uint8 int16
"""
X, HIDDEN, WEIGHTS, BIAS, STATE = range(5)
GATES = 4
CHANGED = (HIDDEN, STATE)
STATE_SCALE = 2.0**-11
ZERO = 128  # the zero point of x and h


def infer(site: Site) -> list[Shape]:
    site.require(len(site.outputs) == GATES, f"the BASIC kernel has {GATES} outputs, not {len(site.outputs)}")
    site.require(len(site.inputs) == STATE + 1, f"the BASIC kernel has {STATE + 1} inputs, not {len(site.inputs)}")
    (batch, depth), hidden = site.rank(X, 2).shape, site.rank(HIDDEN, 2)
    outputs = hidden.shape[1]
    site.require(depth >= 1 and outputs >= 1, "must not be empty", HIDDEN)
    for i, shape in (
        (HIDDEN, (batch, outputs)), (WEIGHTS, (GATES * outputs, depth + outputs)), (BIAS, (GATES * outputs,)),
        (STATE, (batch, outputs)),
    ):  # fmt: skip
        site.require(site.input(i).shape == shape, f"shape must be {list(shape)}, is {site.input(i)}", i)
    if site.input(X).dtype == UINT8:
        for i in (X, HIDDEN):
            given = site.quantization(site.input(i), site.operand(i))
            site.require(given == (1 / 128, ZERO), f"scale must be 1/128 and zero point {ZERO}, are {given}", i)
        for t, place in ((site.input(STATE), STATE), (site.outputs[1], "state_output")):
            given = site.quantization(t)
            site.require(given == (STATE_SCALE, 0), f"scale must be 1/2048 and zero point 0, are {given}", place)
        site.quantization(site.input(WEIGHTS), site.operand(WEIGHTS))
        site.quantization(site.input(BIAS), site.operand(BIAS))
    return [(batch, outputs), (batch, outputs), (batch, depth + outputs), (batch, GATES * outputs)]


def spelled(w: Any, site: Site, x: Any, hidden: Any, weights: Any, bias: Any, cell: Any) -> list[Any] | None:
    """As the FULL kernel, of which nobody reads more than the output: the gates' rows of the one matrix."""
    if not site.input(X).dtype.is_float or site.known(WEIGHTS) is None or site.known(BIAS) is None:
        return None
    depth, outputs = site.input(X).shape[1], site.input(HIDDEN).shape[1]
    rows = [np.split(site.constant(i), GATES) for i in (WEIGHTS, BIAS)]
    matrices, biases = ([parts[g] for g in (0, 2, 1, 3)] for parts in rows)  # i f z o
    columns = [[w.reals(m[:, c]) for m in matrices] for c in (slice(0, depth), slice(depth, depth + outputs))]
    operands = [*columns[0], *columns[1], None, None, None, *map(w.reals, biases), None, None, hidden, cell]
    y = w("LSTM", x, *operands, *[None] * GATES, kernel_type="FULL", fused_activation_function="TANH")
    return [y, None, None, None]


class Numbers:
    """The arithmetic of one layer; sums of integers have 64 bits."""

    @np.errstate(over="ignore")
    def __init__(self, site: Site) -> None:
        self.is_float = site.input(X).dtype.is_float
        self.x_zero = self.w_zero = 0
        if not self.is_float:
            self.x_zero, self.w_zero = ZERO, site.quantization(site.input(WEIGHTS))[1]
            self.factor = multiplier_of(4096 * float(np.float32(site.quantization(site.input(BIAS))[0])))

    def summed(self, total: Any) -> Any:
        """A sum as the gates take it, rounded twice, halves up (as the official matrix product, ruy, does)."""
        if self.is_float:
            return total
        multiplier, exponent = self.factor
        high = (total * (1 << max(exponent, 0)) * multiplier + (1 << 30)) >> 31
        right = max(-exponent, 0)
        return saturated((high + ((1 << right) >> 1)) >> right, 16)

    def step(self, gates: tuple[Any, ...], cell: Any, sigmoid: Any, bounded: Any) -> tuple[Any, Any]:
        """(h', c') for the sums of the gates; `sigmoid` and `bounded` are logistic and tanh."""
        enter, new, forget, output = (f(g) for f, g in zip((sigmoid, bounded, sigmoid, sigmoid), gates, strict=True))
        if self.is_float:
            state = enter * new + forget * cell
            return output * tanh(state), state
        state = saturated(shifted(_times(enter, new), 4) + _times(forget, cell), 16)
        return saturated(shifted(_times(output, bounded(saturated(state * 2, 16))), 8), 8) + ZERO, state


def _times(a: Any, b: Any) -> Any:
    """The product of two numbers with 15 bits of fraction."""
    return (a * b + (1 << 14)) >> 15


def evaluate(site: Site, x: np.ndarray, hidden: np.ndarray, w: np.ndarray, bias: np.ndarray, cell: np.ndarray) -> list:
    n, wide = Numbers(site), x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)
    joined = np.concatenate([x, hidden], axis=1)
    gates = n.summed((joined.astype(wide) - n.x_zero) @ (w.astype(wide) - n.w_zero).T + bias).astype(wide)
    tables = [t.astype(np.int64) for t in (logistic_table(), tanh_table(3))]
    functions = (logistic, tanh) if n.is_float else tuple((lambda v, t=t: t[v + 32768]) for t in tables)
    h, c = n.step(tuple(np.split(gates, GATES, axis=1)), cell.astype(wide), *functions)
    hidden[...], cell[...] = h, c
    return [hidden.copy(), cell.copy(), joined, gates.astype(site.outputs[3].dtype.numpy)]


def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
    (x, hidden, w, bias, cell), (y, state, joined, sums), n = xs, ys, Numbers(site)
    (batch, depth), (rows, columns) = x.shape, w.shape
    if batch == 0:
        return
    with b.nest(x.shape, "parallel") as (i, o):
        b.store(joined, (i, o), x[i, o])
    with b.nest(hidden.shape, "parallel") as (i, o):
        b.store(joined, (i, o + depth), hidden[i, o])
    wide = FLOAT32 if n.is_float else INT64
    b.convolution(
        Convolution(
            joined.viewed((batch, 1, 1, columns)), w.viewed((rows, 1, 1, columns)), bias,
            sums.viewed((batch, 1, 1, rows)), (1, 1), (1, 1), (0, 0), 1, FLOAT32 if n.is_float else INT32,
            lambda total, o, pixel: n.summed(total.to(wide)).to(sums.dtype), n.x_zero, n.w_zero,
        )
    )  # fmt: skip
    functions: tuple[Any, ...] = (logistic, tanh)
    if not n.is_float:
        tables = b.constant(logistic_table(), "sigmoid"), b.constant(tanh_table(3), "tanh")
        functions = tuple((lambda v, t=t: t[v.to(INDEX) + 32768].to(INT64)) for t in tables)
    with b.nest(y.shape, "parallel") as (i, o):
        gates = tuple(sums[i, o + g * y.shape[1]].to(wide) for g in range(GATES))
        results = n.step(gates, cell[i, o].to(wide), *functions)
        kept = [b.variable(r.to(t.dtype), "kept")[()] for r, t in zip(results, (y, state), strict=True)]
        for value, places in zip(kept, ((y, hidden), (state, cell)), strict=True):
            for place in places:
                b.store(place, (i, o), value)
