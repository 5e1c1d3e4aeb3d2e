"""The steps of recurrent layers: cells of LSTM, GRU and the simple RNN, one after another or in a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.control import loop
from lithe.conversion.matrices import dense
from lithe.conversion.parts import split
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value
from lithe.types import BOOL, FLOAT32, INT32

Activation = str | Callable[[Builder, Tensor], Tensor]  # the name of a builtin, or what writes it
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
USUAL: dict[str, tuple[Activation, ...]] = {"lstm": ("LOGISTIC", "TANH", "TANH"), "gru": ("LOGISTIC", "TANH"),
                                            "rnn": ("TANH",)}  # fmt: skip
MASKED = ("zero", "repeat")


@dataclass(frozen=True)
class Cell:
    """One layer in one direction, of `units` cells and as many outputs (or as many as its projection has rows).

    kind            "lstm", "gru" or "rnn".
    weights         of the input, [gates * units, depth]. Order of gates: input, forget, cell, output (LSTM);
                    update, reset, new (GRU). `in_order` brings others into it.
    recurrent       of the state, [gates * units, outputs], in the same order.
    bias            [gates * units], the sum of all biases but `recurrent_bias`.
    recurrent_bias  [gates * units], which a GRU with `reset_after` multiplies by its reset gate. Of the others it is
                    added to `bias`.
    peephole        LSTM: factors of the cell state in the input, forget and output gates, [3, units].
    projection      LSTM: [outputs, units], with `projection_bias` [outputs].
    activations     of gates, new value and output (LSTM); gates and new value (GRU); new value (RNN).
    clip            limit of what the activations are applied to; `cell_clip` of the cell state, `projection_clip` of
                    the projected output. 0: none.
    coupled         LSTM: the input gate is 1 - the forget gate, and its weights are not read.
    reset_after     GRU: new = f(x W + r * (h R + recurrent_bias)), not f(x W + (r * h) R).
    """

    kind: str
    weights: Tensor
    recurrent: Tensor
    bias: Tensor | None = None
    recurrent_bias: Tensor | None = None
    peephole: Tensor | None = None
    projection: Tensor | None = None
    projection_bias: Tensor | None = None
    activations: tuple[Activation, ...] = ()
    clip: float = 0.0
    cell_clip: float = 0.0
    projection_clip: float = 0.0
    coupled: bool = False
    reset_after: bool = False

    @property
    def units(self) -> int:
        return self.weights.type.shape[0] // GATES[self.kind]

    @property
    def outputs(self) -> int:
        return self.recurrent.type.shape[1]

    @property
    def functions(self) -> tuple[Activation, ...]:
        return self.activations or USUAL[self.kind]

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The size of each state: the output, and of an LSTM the cells."""
        return (self.outputs, self.units) if self.kind == "lstm" else (self.outputs,)

    def tensors(self) -> dict[str, Tensor]:
        """What a step reads, by field."""
        names = ("recurrent", "recurrent_bias", "peephole", "projection", "projection_bias")
        return {name: t for name in names if (t := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Walk:
    """How a layer goes along the sequences.

    time_major  sequences are [time, batch, depth], not [batch, time, depth]; so are the outputs.
    reverse     from the end; the output for a step stays in its place.
    lengths     of the sequences, [batch] integers: steps from there on do not count.
    mask        [batch, time] bool: the steps that count. The state does not change in the others.
    masked      what the output is in steps that do not count: "zero", or "repeat" the one before.
    last_cell   the last cell state of an LSTM is wanted.
    """

    time_major: bool = False
    reverse: bool = False
    lengths: Tensor | None = None
    mask: Tensor | None = None
    masked: str = "zero"
    last_cell: bool = True


def batch_and_time(x: Tensor, walk: Walk) -> tuple[int, int]:
    """Batch and time."""
    first, second, _ = x.type.shape
    return (second, first) if walk.time_major else (first, second)


# steps


def steps(b: Builder, x: Tensor, cell: Cell, states: list[Tensor], walk: Walk) -> tuple[Tensor, list[Tensor]]:
    batch, time = batch_and_time(x, walk)
    ahead = dense(b, x, cell.weights, cell.bias)
    walked = _looped if is_open(time) else _unrolled
    y, last = walked(b, ahead, cell, states, walk, (batch, time))
    return y, last if walk.last_cell else last[:1]


def _unrolled(
    b: Builder, ahead: Tensor, cell: Cell, states: list[Tensor], walk: Walk, sizes: tuple[int, int]
) -> tuple[Tensor, list[Tensor]]:
    batch, time = sizes
    axis = 0 if walk.time_major else 1
    if time == 0:
        empty = [batch, 0, cell.outputs] if axis else [0, batch, cell.outputs]
        return b.constant(np.zeros(empty), FLOAT32), states or _zero_states(b, cell, batch)
    parts = _unpacked(b, ahead, axis)
    masks = [b.reshape(m, (m.type.shape[0], 1)) for m in _unpacked(b, walk.mask, 1)] if walk.mask is not None else None
    outputs: list[Tensor] = [ahead] * time
    before: Tensor | None = None
    for t in reversed(range(time)) if walk.reverse else range(time):
        new = step(b, parts[t], cell, states)
        outputs[t] = new[0]
        if masks is not None:
            old = states or _zero_states(b, cell, batch)
            outputs[t] = _selected(b, masks[t], new[0], before if walk.masked == "repeat" else None)
            new = [_selected(b, masks[t], n, o) for n, o in zip(new, old, strict=True)]
        states, before = new, outputs[t]
    return b("PACK", *outputs, values_count=time, axis=axis), states


def _unpacked(b: Builder, x: Tensor, axis: int) -> list[Tensor]:
    count = x.type.shape[axis]
    if x.data is not None:
        return [b.constant(part, x.type.dtype) for part in np.moveaxis(x.data, axis, 0)]
    return b.several("UNPACK", x, dtypes=[None] * count, num=count, axis=axis)


def _selected(b: Builder, mask: Tensor, new: Tensor, old: Tensor | None) -> Tensor:
    return b("SELECT_V2", mask, new, b.constant(0, FLOAT32) if old is None else old, dtype=FLOAT32)


def _zero_states(b: Builder, cell: Cell, batch: int) -> list[Tensor]:
    return [b.filled(0, FLOAT32, (batch, size)) for size in cell.state_sizes]


def _looped(
    b: Builder, ahead: Tensor, cell: Cell, states: list[Tensor], walk: Walk, sizes: tuple[int, int]
) -> tuple[Tensor, list[Tensor]]:
    """The steps as a loop, which carries its number, the states, the output before and all outputs, time first."""
    batch, time = sizes
    if not walk.time_major:
        ahead = b.transpose(ahead, (1, 0, 2))
    own = cell.tensors()
    masks = [] if walk.mask is None else [b.transpose(b.broadcast(walk.mask, (batch, time)), (1, 0))]
    last = b("SUB", b.reshape(b.size(time), ()), b.constant(1))
    captured = [ahead, last, *masks, *own.values()]

    def condition(b: Builder, carried: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        return [b("LESS_EQUAL", carried[0], captured[1], dtype=BOOL)]

    def body(b: Builder, carried: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        number, *states, before, outputs = carried
        ahead, last, *rest = captured
        weights: dict[str, Any] = dict(zip(own, rest[len(masks) :], strict=True))
        inside = replace(cell, **weights)
        place = b("SUB", last, number) if walk.reverse else number
        new = step(b, b("GATHER", ahead, place, axis=0), inside, states)
        output = new[0]
        if masks:
            mask = b.reshape(b("GATHER", rest[0], place, axis=0), (batch, 1))
            output = _selected(b, mask, new[0], before if walk.masked == "repeat" else None)
            new = [_selected(b, mask, n, o) for n, o in zip(new, states, strict=True)]
        begin = b("PACK", place, b.constant(0), b.constant(0), values_count=3, axis=0)
        row = b.reshape(output, (1, batch, cell.outputs))
        return [b("ADD", number, b.constant(1)), *new, output, b("DYNAMIC_UPDATE_SLICE", outputs, row, begin)]

    start = states or _zero_states(b, cell, batch)
    outputs = b.filled(0, FLOAT32, (time, batch, cell.outputs))
    before = b.filled(0, FLOAT32, (batch, cell.outputs))
    carried = [b.constant(0, INT32), *start, before, outputs]
    _, *final, _, y = loop(b, carried, captured, condition, body, f"{b.name()}/{cell.kind}")
    return y if walk.time_major else b.transpose(y, (1, 0, 2)), final


# one step


def step(b: Builder, ahead: Tensor, cell: Cell, states: Sequence[Tensor]) -> list[Tensor]:
    """The states after one step.

    ahead   x W + bias, [batch, gates * units].
    states  before it; none for zeros.
    """
    return STEPS[cell.kind](b, ahead, cell, states)


def _lstm(b: Builder, ahead: Tensor, cell: Cell, states: Sequence[Tensor]) -> list[Tensor]:
    """c' = f * c + i * z;  h' = o * activation(c'), projected where there is a projection."""
    hidden, memory = states or (None, None)
    gate, new, shown = cell.functions
    total = ahead if hidden is None else b("ADD", ahead, dense(b, hidden, cell.recurrent))
    enter, forget, fresh, output = split(b, total, 4)
    look = None if cell.peephole is None else split(b, cell.peephole, 3, 0)

    def opened(x: Tensor, which: int, memory: Tensor | None) -> Tensor:
        if look is not None and memory is not None:
            x = b("ADD", x, b("MUL", memory, look[which]))
        return apply(b, gate, clipped(b, x, cell.clip))

    kept = opened(forget, 1, memory) if memory is not None or cell.coupled else None
    coupled = cell.coupled and kept is not None
    admitted = b("SUB", b.constant(1, FLOAT32), kept) if coupled else opened(enter, 0, memory)
    c = b("MUL", admitted, apply(b, new, clipped(b, fresh, cell.clip)))
    if memory is not None and kept is not None:
        c = b("ADD", b("MUL", kept, memory), c)
    c = clipped(b, c, cell.cell_clip)
    h = b("MUL", opened(output, 2, c), apply(b, shown, c))
    if cell.projection is not None:
        h = clipped(b, dense(b, h, cell.projection, cell.projection_bias), cell.projection_clip)
    return [h, c]


def _gru(b: Builder, ahead: Tensor, cell: Cell, states: Sequence[Tensor]) -> list[Tensor]:
    """h' = n + z * (h - n), with update z, reset r and new value n."""
    hidden = states[0] if states else None
    gate, fresh = cell.functions
    units = cell.units

    def opened(x: Tensor) -> Tensor:
        return apply(b, gate, clipped(b, x, cell.clip))

    parts = split(b, ahead, 3)
    if cell.reset_after:
        bias = cell.recurrent_bias
        if hidden is not None:
            product = dense(b, hidden, cell.recurrent)
            more = split(b, product if bias is None else b("ADD", product, bias), 3)
        else:
            more = [] if bias is None else split(b, bias, 3)
        update, reset = (opened(b("ADD", p, m) if more else p) for p, m in zip(parts[:2], more or parts, strict=False))
        inner = b("ADD", parts[2], b("MUL", reset, more[2])) if more else parts[2]
    else:
        update, inner = parts[0], parts[2]
        if hidden is not None:
            halves = _rows(b, cell.recurrent, (0, 2 * units, 3 * units))
            gates = split(b, dense(b, hidden, halves[0]), 2)
            update, reset = (opened(b("ADD", p, m)) for p, m in zip(parts[:2], gates, strict=True))
            inner = b("ADD", inner, dense(b, b("MUL", reset, hidden), halves[1]))
        else:
            update = opened(update)
    n = apply(b, fresh, clipped(b, inner, cell.clip))
    if hidden is None:
        return [b("SUB", n, b("MUL", update, n))]
    return [b("ADD", n, b("MUL", update, b("SUB", hidden, n)))]


def _rows(b: Builder, matrix: Tensor, bounds: Sequence[int]) -> list[Tensor]:
    """Groups of rows between the bounds."""
    pairs = list(pairwise(bounds))
    if matrix.data is not None:
        return [b.constant(matrix.data[a:z], matrix.type.dtype) for a, z in pairs]
    return [b.slice(matrix, [a, 0], [z - a, matrix.type.shape[1]]) for a, z in pairs]


def _rnn(b: Builder, ahead: Tensor, cell: Cell, states: Sequence[Tensor]) -> list[Tensor]:
    total = b("ADD", ahead, dense(b, states[0], cell.recurrent)) if states else ahead
    return [apply(b, cell.functions[0], clipped(b, total, cell.clip))]


STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def apply(b: Builder, activation: Activation, x: Tensor) -> Tensor:
    return b(activation, x) if isinstance(activation, str) else activation(b, x)


def clipped(b: Builder, x: Tensor, limit: float) -> Tensor:
    """x in -limit..limit; x itself for 0."""
    return Value(b, x).apply("MINIMUM", limit).apply("MAXIMUM", -limit).tensor if limit else x
