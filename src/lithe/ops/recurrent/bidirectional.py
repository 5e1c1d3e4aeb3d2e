"""BIDIRECTIONAL_SEQUENCE_LSTM and BIDIRECTIONAL_SEQUENCE_RNN: two layers walk along a sequence, one from its end.

A stack of such layers hands on two sequences. The second one, the auxiliary input, is added to what both layers read
where there are weights for it ("cross links"); without weights it is the whole input of the backward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.op import Op, Site, register
from lithe.ops.products import ACTIVATIONS
from lithe.ops.recurrent import basic as recurrent_basic
from lithe.ops.recurrent import lstm_float, spelled
from lithe.ops.recurrent.lstm_float import Parts, Sizes
from lithe.ops.recurrent.sequence_lstm import FLOATS, HYBRID, KINDS, LAYER, require_layer, words
from lithe.types import Shape

Positions = tuple[int | None, ...]  # for each operand of one layer, which operand of the pair it is


def _picked(values: Sequence[Any], positions: Positions) -> tuple[Any, ...]:
    return tuple(values[i] if i is not None and i < len(values) else None for i in positions)


@dataclass(frozen=True)
class Pair:
    """Two layers as one operator.

    require, evaluate, lower  rules, meaning and loops of one layer, on the site of one direction.
    forward, backward         where the operands of each direction are among those of the pair.
    auxiliary                 the auxiliary input, and weights of it that are there when any are.
    layer, operands           one direction as an operator of its own, and how many operands that has.
    """

    require: Callable[[Site], Sizes]
    evaluate_layer: Callable[[Site, Sizes, Sequence[Any]], np.ndarray]
    lower_layer: Callable[[Builder, Site, Sizes, Sequence[Any], Buffer, int], None]
    forward: Positions
    backward: Positions
    auxiliary: tuple[int, int]
    layer: str
    operands: int

    def halves(self, site: Site) -> list[tuple[Site, Sizes, Positions]]:
        """For each direction its site, its sizes, and where its operands are."""
        second, weights = self.auxiliary
        result = []
        for positions in (self.forward, self.backward):
            backward = positions is self.backward
            if not site.has(weights):
                first = second if backward and site.has(second) else 0
                positions = (first, *(None if p == second else p for p in positions[1:]))
            half = replace(
                site,
                inputs=_picked(site.inputs, positions),
                constants=_picked(site.constants, positions),
                operands=tuple(name or "" for name in _picked(site.operands, positions)),
            )
            result.append((half, replace(self.require(half), backward=backward), positions))
        return result

    def infer(self, site: Site) -> list[Shape]:
        x, merged = site.rank(0, 3), site.attrs.merge_outputs
        count, (second, weights) = 1 if merged else 2, self.auxiliary
        site.require(len(site.outputs) == count, f"must have {count} outputs, has {len(site.outputs)}")
        if site.has(second):
            auxiliary = site.rank(second, 3)
            alike = auxiliary.shape[:-1] == x.shape[:-1]
            site.require(alike, f"must have the sequences of {x}, is {auxiliary}", second)
        crossed = site.has(second) and site.has(weights)
        for i in (*self.forward, *self.backward):
            alone = i is not None and i > second and site.has(i) and not crossed
            site.require(not alone, "needs the auxiliary input and its weights in both directions", i or 0)
        outputs = [sizes.outputs for _, sizes, _ in self.halves(site)]
        return [(*x.shape[:-1], size) for size in ([sum(outputs)] if merged else outputs)]

    def spelled(self, w: Any, site: Site, *operands: Any) -> Any:
        """See `lithe.ops.recurrent.spelled`."""
        halves = [_picked(operands, positions)[: self.operands] for *_, positions in self.halves(site)]
        return spelled.pair(w, site, self.layer, halves, site.has(self.auxiliary[1]))

    def evaluate(self, site: Site, *arrays: np.ndarray | None) -> list[np.ndarray]:
        results = []
        for half, sizes, positions in self.halves(site):
            y = self.evaluate_layer(half, sizes, _picked(arrays, positions))
            results.append(y.reshape(*site.input(0).shape[:-1], sizes.outputs))
        return [np.concatenate(results, axis=-1)] if site.attrs.merge_outputs else results

    def lower(self, b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        column = 0
        for half, sizes, positions in self.halves(site) if ys[0].size else ():
            y = ys[-1] if sizes.backward else ys[0]
            flat = y.viewed((sizes.rows, y.shape[-1]))
            self.lower_layer(b, half, sizes, _picked(xs, positions), flat, column)
            column = sizes.outputs if site.attrs.merge_outputs else 0


def _evaluate_lstm(site: Site, sizes: Sizes, operands: Sequence[Any]) -> np.ndarray:
    return lstm_float.evaluate(site, sizes, Parts(site, operands))


def _lower_lstm(b: Builder, site: Site, sizes: Sizes, operands: Sequence[Any], y: Buffer, column: int) -> None:
    lstm_float.lower(b, site, sizes, Parts(site, operands), y, column)


LSTM_PAIR = Pair(
    require_layer, _evaluate_lstm, _lower_lstm,
    (0, *range(1, 18), 35, 36, *(None,) * 4, 39, *range(40, 44)),
    (0, *range(18, 35), 37, 38, *(None,) * 4, 39, *range(44, 48)),
    (39, 41), "UNIDIRECTIONAL_SEQUENCE_LSTM", 24,
)  # fmt: skip
RNN_PAIR = Pair(
    recurrent_basic.require, recurrent_basic.evaluate, recurrent_basic.lower,
    (0, 1, 2, 3, 4, 9, 10), (0, 5, 6, 7, 8, 9, 11), (9, 10),
    "UNIDIRECTIONAL_SEQUENCE_RNN", 5,
)  # fmt: skip


def _lstm_line(kinds: tuple[str, ...], variables: str) -> str:
    """A line of element types: the directions' weights, four states, the auxiliary input and its weights."""
    layer, state = words(*kinds), "float32"
    given = (state, *layer, *layer, *[state] * 4, state + "?", *[kinds[0] + "?"] * 8)
    return f"{' '.join(given)} -> {state}*{variables}"


@register
class BidirectionalSequenceLstm(Op):
    """An LSTM along the sequence and another one from its end; see UNIDIRECTIONAL_SEQUENCE_LSTM for the equations.

    x: [batch, time, depth], time first when time_major; y: the same with the outputs of the forward layer last, and a
    second one of the backward layer; one with both side by side when merge_outputs. Each direction has its own sizes.
    Weights: floats, or integers (see `lithe.ops.products`). Source: schema.fbs, BidirectionalSequenceLSTMOptions.
    """

    name, code = "BIDIRECTIONAL_SEQUENCE_LSTM", 52
    operands = (
        (
            "input", *(f"forward_{n}" for n in LAYER), *(f"backward_{n}" for n in LAYER), "forward_output_state",
            "forward_cell_state", "backward_output_state", "backward_cell_state", "auxiliary_input?",
            *(f"{d}_auxiliary_to_{g}_weights?" for d in ("forward", "backward")
              for g in ("input", "forget", "cell", "output")),
        ),
        ("output", "backward_output?"),
    )  # fmt: skip
    types = f"{_lstm_line(FLOATS, '')}\n{_lstm_line(HYBRID, KINDS)}"
    stateful = True
    changes = staticmethod(lambda attrs: (35, 36, 37, 38))
    activations = ACTIVATIONS
    infer, evaluate, lower, spelled = LSTM_PAIR.infer, LSTM_PAIR.evaluate, LSTM_PAIR.lower, LSTM_PAIR.spelled

    @dataclass(frozen=True)
    class Attrs:
        fused_activation_function: str = "TANH"
        cell_clip: float = 0.0
        proj_clip: float = 0.0
        merge_outputs: bool = False
        time_major: bool = True
        asymmetric_quantize_inputs: bool = False


@register
class BidirectionalSequenceRnn(Op):
    """A UNIDIRECTIONAL_SEQUENCE_RNN along the sequence and another one from its end.

    x: [batch, time, depth], time first when time_major; outputs as those of BIDIRECTIONAL_SEQUENCE_LSTM.
    Source: schema.fbs, BidirectionalSequenceRNNOptions.
    """

    name, code = "BIDIRECTIONAL_SEQUENCE_RNN", 46
    operands = (
        (
            "input", *(f"{d}_{n}" for d in ("forward", "backward") for n in recurrent_basic.OPERANDS[1:]),
            "auxiliary_input?", "forward_auxiliary_weights?", "backward_auxiliary_weights?",
        ),
        ("output", "backward_output?"),
    )  # fmt: skip
    types = f"""
    {"float32 " * 9} float32? float32? float32? -> float32*
    {"float32 " + "W W float32 float32 " * 2} float32? W? W? -> float32*{KINDS}
    """
    stateful = True
    changes = staticmethod(lambda attrs: (4, 8))
    activations = ACTIVATIONS
    infer, evaluate, lower, spelled = RNN_PAIR.infer, RNN_PAIR.evaluate, RNN_PAIR.lower, RNN_PAIR.spelled

    @dataclass(frozen=True)
    class Attrs:
        time_major: bool = False
        fused_activation_function: str = "TANH"
        merge_outputs: bool = False
        asymmetric_quantize_inputs: bool = False
