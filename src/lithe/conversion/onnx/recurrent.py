"""What ONNX's recurrent operators are: LSTM, GRU and RNN in one or two directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.cells import Activation, Cell, Walk
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.onnx.elementwise import elu, hard_sigmoid, thresholded
from lithe.conversion.parts import sliced, split
from lithe.conversion.recurrent import Recurrent, bidirectional, in_order, layer
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value
from lithe.types import FLOAT32

ORDERS = {"lstm": ("iofc", "ifco"), "gru": ("zrh", "zrh"), "rnn": ("h", "h")}  # ONNX's gates, and ours
DEFAULTS = {"lstm": ["Sigmoid", "Tanh", "Tanh"], "gru": ["Sigmoid", "Tanh"], "rnn": ["Tanh"]}
NAMES: dict[str, Activation] = {
    "sigmoid": "LOGISTIC", "tanh": "TANH", "relu": "RELU",
    "softsign": lambda b, x: formulas.softsign(Value(b, x)).tensor,
    "softplus": lambda b, x: formulas.softplus(Value(b, x)).tensor,
}  # fmt: skip


def _with_numbers(name: str, alpha: float | None, beta: float | None) -> Activation:
    """An activation with parameters of its own. Defaults: ONNX's operators of the same names."""

    def number(value: float | None, default: float) -> float:
        return default if value is None else value

    def write(b: Builder, x: Tensor) -> Tensor:
        v = Value(b, x)
        if name == "leakyrelu":
            return b("LEAKY_RELU", x, alpha=number(alpha, 0.01))
        if name == "thresholdedrelu":
            return thresholded(v, number(alpha, 1.0)).tensor
        if name == "scaledtanh":
            return ((v * number(beta, 1.0)).apply("TANH") * number(alpha, 1.0)).tensor
        if name == "hardsigmoid":
            return hard_sigmoid(v, number(alpha, 0.2), number(beta, 0.5)).tensor
        if name == "elu":
            return elu(v, number(alpha, 1.0)).tensor
        b.require(name == "affine", f"the activation {name}")
        return (v * number(alpha, 1.0) + number(beta, 0.0)).tensor

    return write


def _activations(c: Call, kind: str, directions: int) -> list[tuple[Activation, ...]]:
    names = [n.lower() for n in c.attr("activations", DEFAULTS[kind] * directions)]
    alphas, betas = list(c.attr("activation_alpha", [])), list(c.attr("activation_beta", []))
    takes_alpha = {"leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu", "affine"}
    takes_beta = {"scaledtanh", "hardsigmoid", "affine"}
    made = []
    for name in names:
        if name in NAMES:
            made.append(NAMES[name])
            continue
        alpha = alphas.pop(0) if name in takes_alpha and alphas else None
        made.append(_with_numbers(name, alpha, betas.pop(0) if name in takes_beta and betas else None))
    each = len(DEFAULTS[kind])
    return [tuple(made[i * each : (i + 1) * each]) for i in range(directions)]


def _part(b: Builder, t: Tensor | None, direction: int) -> Tensor | None:
    """One direction's slice of a tensor of all."""
    if t is None:
        return None
    return b.reshape(sliced(b, t, 0, direction, direction + 1), t.type.shape[1:])


def _cell(b: Builder, c: Call, kind: str, direction: int, activations: tuple[Activation, ...]) -> Cell:
    weights, recurrent = (_part(b, c[i], direction) for i in (1, 2))
    assert weights is not None
    assert recurrent is not None
    both = _part(b, c.get(3), direction)
    parts = split(b, both, 2, 0) if both is not None else [None, None]
    given, wanted = ORDERS[kind]
    tensors = [None if t is None else in_order(b, t, given, wanted) for t in (weights, recurrent, *parts)]
    peephole = _part(b, c.get(7), direction) if kind == "lstm" else None
    if peephole is not None:
        units = peephole.type.shape[0] // 3
        peephole = b.reshape(in_order(b, peephole, "iof", "ifo"), (3, units))
    coupled = kind == "lstm" and bool(c.attr("input_forget", 0))
    if coupled:  # ONNX's forget gate is 1 - the input gate, ours the other way round: 1 - sigmoid(x) = sigmoid(-x)
        b.require(activations[0] == "LOGISTIC", "coupled gates with another activation")
        tensors = [None if t is None else _negated_input(b, t) for t in tensors]
        if peephole is not None:
            enter, _, output = split(b, peephole, 3, 0)
            peephole = b("CONCATENATION", enter, b("NEG", enter), output, axis=0)
    first, second, bias, recurrent_bias = tensors
    assert first is not None
    assert second is not None
    return Cell(kind, first, second, bias, recurrent_bias, peephole, activations=activations,
                clip=float(c.attr("clip", 0.0)), coupled=coupled,
                reset_after=kind == "gru" and bool(c.attr("linear_before_reset", 0)))  # fmt: skip


def _negated_input(b: Builder, t: Tensor) -> Tensor:
    """The forget gate's part is that of the input gate, negated."""
    enter, _, cell, output = split(b, t, 4, 0)
    return b("CONCATENATION", enter, b("NEG", enter), cell, output, axis=0)


@rule("LSTM", "GRU", "RNN")
def recurrent(b: Builder, c: Call) -> Sequence[Any]:
    """Y: [time, directions, batch, units] (or batch, time, directions, units), Y_h and Y_c."""
    kind = c.op.lower()
    direction = c.attr("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    x, major = c[0], not c.attr("layout", 0)
    lengths = c.get(4)
    wanted = [bool(name) and c.scope.uses[name] > 0 for name in [*c.results, "", "", ""][:3]]
    walk = Walk(time_major=major, reverse=direction == "reverse", lengths=lengths,
                last_cell=kind == "lstm" and wanted[2])  # fmt: skip
    activations = _activations(c, kind, directions)
    cells = [_cell(b, c, kind, i, activations[i]) for i in range(directions)]
    starts = [c.get(i) for i in ((5, 6) if kind == "lstm" else (5,))]
    states = [_states(b, starts, i, major) for i in range(directions)]
    options = Recurrent(unroll=c.scope.unroll)
    if directions == 2:
        outputs, lasts = bidirectional(b, x, cells, states, walk, options)
    else:
        y, last = layer(b, x, cells[0], states[0], walk, options)
        outputs, lasts = [y], [last]
    place = 1 if major else 2
    whole = [_beside(b, outputs, place)]
    whole += [_beside(b, [last[i] for last in lasts], 0 if major else 1) for i in range(len(lasts[0]))]
    return [*whole, *[np.zeros(0, np.float32)] * (len(c.results) - len(whole))][: len(c.results)]


def _states(b: Builder, starts: Sequence[Tensor | None], direction: int, major: bool) -> list[Tensor]:
    """The first states of a direction; none where none is given. ONNX gives some: the others are zero."""
    given = [t for t in starts if t is not None]
    if not given:
        return []
    axis = 0 if major else 1
    made = []
    for t in starts:
        if t is None:
            like = given[0].type.shape
            made.append(b.filled(0, FLOAT32, [n for i, n in enumerate(like) if i != axis]))
            continue
        part = sliced(b, t, axis, direction, direction + 1)
        made.append(b.reshape(part, [n for i, n in enumerate(t.type.shape) if i != axis]))
    return made


def _beside(b: Builder, tensors: Sequence[Tensor], axis: int) -> Tensor:
    if len(tensors) > 1:
        return b("PACK", *tensors, values_count=len(tensors), axis=axis)
    (t,) = tensors
    return b.reshape(t, (*t.type.shape[:axis], 1, *t.type.shape[axis:]))
