"""RNN and UNIDIRECTIONAL_SEQUENCE_RNN: a layer whose output is its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.op import Op, Site, register
from lithe.ops.products import ACTIVATIONS, Factor, Rows, activated, multiplied
from lithe.ops.recurrent import spelled
from lithe.ops.recurrent.lstm_float import Sizes
from lithe.ops.recurrent.sequence_lstm import require_activation, require_weights, shaped
from lithe.types import FLOAT32, Shape

X, WEIGHTS, RECURRENT, BIAS, STATE, AUXILIARY, AUXILIARY_WEIGHTS = range(7)  # the last two in halves of layers alone
OPERANDS = ("input", "input_weights", "recurrent_weights", "bias", "hidden_state")
TYPES = """
float32 float32 float32 float32 float32 -> float32
float32 W W float32 float32 -> float32: W= int8q uint8q
"""


def require(site: Site) -> Sizes:
    """The rules of one layer, whose operands are numbered as above."""
    x, units = site.input(X), site.rank(WEIGHTS, 2).shape[0]
    require_activation(site)
    site.require(units >= 1 and x.shape[-1] >= 1, "must not be empty", WEIGHTS)
    shaped(site, WEIGHTS, (units, x.shape[-1]))
    shaped(site, RECURRENT, (units, units))
    shaped(site, BIAS, (units,))
    sizes = Sizes.of(site, WEIGHTS, RECURRENT)
    shaped(site, STATE, (sizes.batch, units))
    if site.has(AUXILIARY):
        auxiliary = site.rank(AUXILIARY, x.rank)
        alike = auxiliary.shape[:-1] == x.shape[:-1] and auxiliary.shape[-1] >= 1
        site.require(alike, f"must have the sequences of {x} and not be empty, is {auxiliary}", AUXILIARY)
        shaped(site, AUXILIARY_WEIGHTS, (units, auxiliary.shape[-1]))
    require_weights(site, (WEIGHTS, RECURRENT, AUXILIARY_WEIGHTS))
    return sizes


def _inputs(site: Site, operands: Sequence[Any]) -> list[tuple[Any, Factor]]:
    """The inputs that are there, each with its weights."""
    pairs = [(i, i + 1) for i in (X, AUXILIARY) if site.has(i)]
    return [(operands[i], Factor.of(operands[w], site.inputs[w])) for i, w in pairs]


def evaluate(site: Site, sizes: Sizes, operands: Sequence[Any]) -> np.ndarray:
    """The outputs, a row for each row of x; the state is changed in place."""
    recurrent, hidden = Factor.of(operands[RECURRENT], site.inputs[RECURRENT]), operands[STATE]
    name, asymmetric = site.attrs.fused_activation_function, site.attrs.asymmetric_quantize_inputs
    ahead = np.broadcast_to(operands[BIAS], (sizes.rows, sizes.outputs))
    for x, w in _inputs(site, operands):
        ahead = ahead + multiplied(x.reshape(sizes.rows, x.shape[-1]), w, asymmetric)
    y = np.zeros((sizes.rows, sizes.outputs), np.float32)
    for t in range(sizes.time):
        at = sizes.step(t)
        hidden[...] = activated(ahead[at] + multiplied(hidden, recurrent, asymmetric), name)
        y[at] = hidden
    return y


def lower(b: Builder, site: Site, sizes: Sizes, operands: Sequence[Any], y: Buffer, column: int = 0) -> None:
    """The products with the input for all steps at once, then step by step those with the state.

    y  [rows, at least the outputs]: the layer writes the columns from `column` on.
    """
    recurrent, hidden = Factor.of(operands[RECURRENT], site.inputs[RECURRENT]), operands[STATE]
    name, asymmetric = site.attrs.fused_activation_function, site.attrs.asymmetric_quantize_inputs
    ahead: Buffer | None = None
    for x, w in _inputs(site, operands):
        left = Rows(b, x.viewed((sizes.rows, x.shape[-1])), w.scale is not None, asymmetric)
        left.quantize()
        before, ahead = ahead, b.scratch(FLOAT32, (sizes.rows, sizes.outputs), "ahead")
        if before is None:
            left.times(w, operands[BIAS], ahead)
        else:
            left.times(w, None, ahead, lambda total, o, n, before=before: total + before[n, o])
    state = Rows(b, hidden, recurrent.scale is not None, asymmetric)
    new = b.scratch(FLOAT32, hidden.shape, "new")
    with b.loop(sizes.time, "serial", "time") as t:
        state.quantize()
        state.times(recurrent, None, new, lambda total, o, n: activated(total + ahead[sizes.row(n, t), o], name))
        with b.nest(hidden.shape, "parallel") as (n, o):
            b.store(hidden, (n, o), new[n, o])
            b.store(y, (sizes.row(n, t), o + column), new[n, o])


class _Layer(Op):
    operands = (OPERANDS, ("output",))
    types = TYPES
    stateful = True
    changes = staticmethod(lambda attrs: (STATE,))
    activations = ACTIVATIONS
    spelled = spelled.rnn

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        y = evaluate(site, Sizes.of(site, WEIGHTS, RECURRENT), arrays)
        return [y.reshape(*site.input(X).shape[:-1], y.shape[-1])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        sizes = Sizes.of(site, WEIGHTS, RECURRENT)
        if ys[0].size:
            lower(b, site, sizes, xs, ys[0].viewed((sizes.rows, sizes.outputs)))


@register
class Rnn(_Layer):
    """y = h' = activation(bias + x W + h R), with h the state, kept between runs.

    x: [batch, depth]; W: [units, depth]; R: [units, units], both transposed; y: [batch, units].
    Integer weights: see `lithe.ops.products`. Source: schema.fbs, RNNOptions.
    """

    name, code = "RNN", 24

    @dataclass(frozen=True)
    class Attrs:
        fused_activation_function: str = "TANH"
        asymmetric_quantize_inputs: bool = False

    def infer(site: Site) -> list[Shape]:
        site.rank(X, 2)
        return [(site.input(X).shape[0], require(site).outputs)]


@register
class UnidirectionalSequenceRnn(_Layer):
    """RNN for each step of a sequence.

    x: [batch, time, depth], time first when time_major; y: the same with units last. Source: schema.fbs,
    SequenceRNNOptions.
    """

    name, code = "UNIDIRECTIONAL_SEQUENCE_RNN", 35

    @dataclass(frozen=True)
    class Attrs:
        time_major: bool = False
        fused_activation_function: str = "TANH"
        asymmetric_quantize_inputs: bool = False

    def infer(site: Site) -> list[Shape]:
        site.rank(X, 3)
        return [(*site.input(X).shape[:-1], require(site).outputs)]
