"""UNIDIRECTIONAL_SEQUENCE_GRU, a custom operator: a layer with a gated state that walks along a sequence."""

from __future__ import annotations

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.elementary import logistic, tanh
from lithe.ir.loops import Buffer
from lithe.ops.op import Op, Site, register
from lithe.ops.products import Factor, Rows
from lithe.ops.recurrent import spelled
from lithe.ops.recurrent.lstm_float import Sizes
from lithe.types import FLOAT32, Shape

F = np.float32
X, STATE, GATES, GATES_BIAS, CANDIDATE, CANDIDATE_BIAS = range(6)


@register
class UnidirectionalSequenceGru(Op):
    """For each step t, with h the state: [r u] = sigmoid([x[t] h] W + bias);
    c = tanh([x[t] h*r] V + candidate bias);  h' = (1 - u) c + u h;  y[t] = h'.

    x: [time, batch, depth]; h: [batch, outputs]; W: [2 outputs, depth + outputs]; V: [outputs, depth + outputs].
    Results: y [time, batch, outputs] and the last h; the given h is an ordinary input and stays as it is.
    Source: TensorFlow Lite, kernels/unidirectional_sequence_gru and gru_cell.
    """

    name, code = "UNIDIRECTIONAL_SEQUENCE_GRU", None
    operands = (
        ("input", "state", "gate_weights", "gate_bias", "candidate_weights", "candidate_bias"),
        ("output", "output_state"),
    )
    types = "float32 float32 float32 float32 float32 float32 -> float32 float32"
    spelled = spelled.gru

    def infer(site: Site) -> list[Shape]:
        (time, batch, depth), state = site.rank(X, 3).shape, site.rank(STATE, 2)
        outputs = state.shape[1]
        site.require(depth >= 1 and outputs >= 1, "must not be empty", STATE)
        for i, shape in (
            (STATE, (batch, outputs)), (GATES, (2 * outputs, depth + outputs)), (GATES_BIAS, (2 * outputs,)),
            (CANDIDATE, (outputs, depth + outputs)), (CANDIDATE_BIAS, (outputs,)),
        ):  # fmt: skip
            site.require(site.input(i).shape == shape, f"shape must be {list(shape)}, is {site.input(i)}", i)
        return [(time, batch, outputs), (batch, outputs)]

    def evaluate(
        site: Site, x: np.ndarray, state: np.ndarray, w: np.ndarray, bias: np.ndarray, v: np.ndarray, last: np.ndarray
    ) -> list[np.ndarray]:
        h, y = state.copy(), np.zeros((*x.shape[:2], state.shape[1]), F)
        for t, step in enumerate(x):
            r, u = np.split(logistic(np.concatenate([step, h], axis=1) @ w.T + bias), 2, axis=1)
            c = tanh(np.concatenate([step, h * r], axis=1) @ v.T + last)
            y[t] = h = (F(1) - u) * c + u * h
        return [y, h]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        """The products with x for all steps at once, then step by step those with the state."""
        (x, state, *_), (y, h) = xs, ys
        (time, batch, depth), outputs = x.shape, state.shape[1]
        if h.size == 0:
            return
        b.compute(h, lambda n, o: state[n, o])
        if time == 0:
            return
        sizes = Sizes(batch, time, depth, outputs, outputs, time_major=True)
        left = Rows(b, x.viewed((sizes.rows, depth)), False, False)
        ahead, weights = {}, {}
        for i in (GATES, CANDIDATE):
            w, count = xs[i], xs[i].shape[0]
            weights[i] = _columns(b, w, depth, outputs)
            ahead[i] = b.scratch(FLOAT32, (sizes.rows, count), "ahead")
            left.times(Factor(_columns(b, w, 0, depth)), xs[i + 1], ahead[i])
        gates, reset = b.scratch(FLOAT32, (batch, 2 * outputs), "gates"), b.scratch(FLOAT32, h.shape, "reset")
        with b.loop(time, "serial", "time") as t:
            Rows(b, h, False, False).times(
                Factor(weights[GATES]), None, gates,
                lambda total, o, n: logistic(total + ahead[GATES][sizes.row(n, t), o]),
            )  # fmt: skip
            b.compute(reset, lambda n, o: h[n, o] * gates[n, o])
            out = y.viewed((sizes.rows, outputs))
            new = b.scratch(FLOAT32, h.shape, "candidate")
            Rows(b, reset, False, False).times(
                Factor(weights[CANDIDATE]), None, new,
                lambda total, o, n: tanh(total + ahead[CANDIDATE][sizes.row(n, t), o]),
            )  # fmt: skip
            with b.nest(h.shape, "parallel") as (n, o):
                u = gates[n, o + outputs]
                result = b.variable((-u + F(1)) * new[n, o] + u * h[n, o], "result")[()]
                b.store(h, (n, o), result)
                b.store(out, (sizes.row(n, t), o), result)


def _columns(b: Builder, w: Buffer, first: int, count: int) -> Buffer:
    """Some columns of a matrix as a matrix of their own."""
    if w.values is not None:
        return b.constant(w.values[:, first : first + count], "weights")
    part = b.scratch(w.dtype, (w.shape[0], count), "weights")
    b.compute(part, lambda o, i: w[o, i + first])
    return part
