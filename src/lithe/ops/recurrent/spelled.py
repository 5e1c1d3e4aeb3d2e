"""Recurrent layers in other operators: a loop over the steps, or for two directions one layer each.

A writer `w` writes them: `w("ADD", x, y)` an operator, `w.reals` a constant, `w.loop` a loop, `w.keep` what a variable
holds from then on. The products with the input are made for all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.ops.op import Site
from lithe.ops.recurrent.lstm_float import (
    AUXILIARY,
    CELL,
    FORGET,
    GATES,
    INPUT,
    NORMALIZATION,
    OUTPUT,
    OUTPUT_STATE,
    PROJECTION,
)

Step = Callable[[Any, Any, list[Any]], list[Any]]  # (writer, what the input adds, states) -> the new states
OWN = ("RELU", "RELU6", "RELU_N1_TO_1", "TANH")  # activations that are operators


def _known(site: Site, positions: Sequence[int]) -> bool:
    """Whether the weights at these positions are constant floats, where there are any, and all shapes are fixed."""
    fixed = all(d is not None and d > 0 for d in site.input(0).shape)
    real = all(site.known(i) is not None and site.input(i).dtype.is_float for i in positions if site.has(i))
    return fixed and real and site.attrs.fused_activation_function in ("NONE", *OWN)


def _activated(w: Any, x: Any, name: str) -> Any:
    return x if name == "NONE" else w(name, x)


def _dense(w: Any, x: Any, weights: np.ndarray, bias: np.ndarray | None = None) -> Any:
    return w("FULLY_CONNECTED", x, w.reals(weights), None if bias is None else w.reals(bias))


def _walked(
    w: Any, site: Site, x: Any, weights: np.ndarray, bias: np.ndarray, states: Sequence[Any], step: Step, outputs: int
) -> tuple[Any, list[Any]]:
    """(the outputs of all steps in the order of x, the last states) of a layer whose first state is its output."""
    *outer, depth = site.input(0).shape
    gates = weights.shape[0]
    ahead = _dense(w, w.reshape(x, (-1, depth)), weights, bias)
    if len(outer) == 1:
        last = step(w, ahead, list(states))
        return last[0], last
    major = getattr(site.attrs, "time_major", True)
    time, batch = outer if major else outer[::-1]
    ahead = w.reshape(ahead, (*outer, gates))
    ahead = ahead if major else w.transpose(ahead, (1, 0, 2))

    def body(w: Any, number: Any, carried: list[Any], given: Any) -> list[Any]:
        *states, y = carried
        new = step(w, w("GATHER", given, number, axis=0), states)
        begin = w("PACK", number, w.constant(0), w.constant(0), values_count=3, axis=0)
        row = w.reshape(new[0], (1, batch, outputs))
        return [*new, w("DYNAMIC_UPDATE_SLICE", y, row, begin)]

    start = w.reals(np.zeros((time, batch, outputs)))
    *last, y = w.loop(time, body, [*states, start], ahead)
    return y if major else w.transpose(y, (1, 0, 2)), last


def rnn(w: Any, site: Site, x: Any, weights: Any, recurrent: Any, bias: Any, state: Any) -> Any:
    """RNN and UNIDIRECTIONAL_SEQUENCE_RNN."""
    if not _known(site, (1, 2, 3)) or not site.input(0).dtype.is_float:
        return None
    matrix, name = site.constant(2), site.attrs.fused_activation_function

    def step(w: Any, ahead: Any, states: list[Any]) -> list[Any]:
        return [_activated(w, w("ADD", ahead, _dense(w, states[0], matrix)), name)]

    y, (last,) = _walked(w, site, x, site.constant(1), site.constant(3), [state], step, matrix.shape[0])
    w.keep(state, last)
    return y


def lstm(w: Any, site: Site, x: Any, *operands: Any) -> Any:
    """LSTM and UNIDIRECTIONAL_SEQUENCE_LSTM, but for normalized ones and diagonals. All gates are one product."""
    states = [operands[i - 1] for i in (OUTPUT_STATE, OUTPUT_STATE + 1)]
    weights = [i for i in range(1, AUXILIARY) if i not in (OUTPUT_STATE, OUTPUT_STATE + 1)]
    if not site.input(0).dtype.is_float or not _known(site, weights) or site.has(NORMALIZATION + OUTPUT):
        return None
    if site.input(8).rank != 2:
        return None
    attrs, coupled = site.attrs, not site.has(1)
    gates = [g for g in range(GATES) if g != INPUT or not coupled]
    first, recurrent, bias = (np.concatenate([site.constant(i + g) for g in gates]) for i in (1, 5, 12))
    looks = {g: site.known(i) for g, i in ((INPUT, 9), (FORGET, 10), (OUTPUT, 11))}
    projection = site.known(PROJECTION)
    outputs = recurrent.shape[1]

    def clipped(w: Any, x: Any, limit: float) -> Any:
        return w("MINIMUM", w("MAXIMUM", x, w.number(-limit)), w.number(limit)) if limit > 0 else x

    def step(w: Any, ahead: Any, states: list[Any]) -> list[Any]:
        total = w("ADD", ahead, _dense(w, states[0], recurrent))
        parts = dict(zip(gates, w.split(total, len(gates)), strict=True))
        name, cell = attrs.fused_activation_function, states[1]

        def opened(g: int, cell: Any) -> Any:
            look = looks[g]
            x = parts[g] if look is None else w("ADD", parts[g], w("MUL", cell, w.reals(look)))
            return w("LOGISTIC", x)

        forget = opened(FORGET, cell)
        enter = w("SUB", w.number(1), forget) if coupled else opened(INPUT, cell)
        fresh = _activated(w, parts[CELL], name)
        cell = clipped(w, w("ADD", w("MUL", forget, cell), w("MUL", enter, fresh)), attrs.cell_clip)
        shown = fresh if name == "NONE" else _activated(w, cell, name)
        hidden = w("MUL", opened(OUTPUT, cell), shown)
        if projection is not None:
            hidden = clipped(w, _dense(w, hidden, projection, site.known(PROJECTION + 1)), attrs.proj_clip)
        return [hidden, cell]

    y, last = _walked(w, site, x, first, bias, states, step, outputs)
    for state, value in zip(states, last, strict=True):
        w.keep(state, value)
    return y


def gru(w: Any, site: Site, x: Any, state: Any, *weights: Any) -> Any:
    """UNIDIRECTIONAL_SEQUENCE_GRU, which gives out its last state and keeps none."""
    if not all(site.known(i) is not None for i in range(2, 6)) or None in site.input(0).shape:
        return None
    gates, gates_bias, candidate, candidate_bias = (site.constant(i) for i in range(2, 6))
    depth, outputs = site.input(0).shape[2], site.input(1).shape[1]
    first = np.concatenate([gates[:, :depth], candidate[:, :depth]])
    bias = np.concatenate([gates_bias, candidate_bias])

    def step(w: Any, ahead: Any, states: list[Any]) -> list[Any]:
        (hidden,) = states
        reset, update, new = w.split(ahead, 3)
        products = w.split(_dense(w, hidden, gates[:, depth:]), 2)
        reset, update = (w("LOGISTIC", w("ADD", a, p)) for a, p in zip((reset, update), products, strict=True))
        inner = _dense(w, w("MUL", reset, hidden), candidate[:, depth:])
        fresh = w("TANH", w("ADD", new, inner))
        return [w("ADD", fresh, w("MUL", update, w("SUB", hidden, fresh)))]

    y, last = _walked(w, site, x, first, bias, [state], step, outputs)
    return [y, *last]


def pair(w: Any, site: Site, layer: str, halves: Sequence[Sequence[Any]], crossed: bool) -> Any:
    """Two layers of one direction; the second one reads its sequence from the end, and its outputs are turned again.

    halves   the operands of each, without auxiliary weights, which one layer does not have.
    crossed  whether there are such.
    """
    if crossed or not site.input(0).dtype.is_float:
        return None
    merged, names = site.attrs.merge_outputs, ("time_major", "fused_activation_function", "cell_clip", "proj_clip")
    attrs = {name: getattr(site.attrs, name) for name in names if hasattr(site.attrs, name)}
    time = w.constant([0 if site.attrs.time_major else 1])
    forward, backward = halves
    y = w(layer, *forward, **attrs)
    z = w("REVERSE_V2", w(layer, w("REVERSE_V2", backward[0], time), *backward[1:], **attrs), time)
    return w("CONCATENATION", y, z, axis=2) if merged else [y, z]
