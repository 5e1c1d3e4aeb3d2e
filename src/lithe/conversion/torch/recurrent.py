"""What ATen's recurrent operators are: stacks of layers, each in one or two directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.cells import Cell, Walk
from lithe.conversion.parts import sliced
from lithe.conversion.recurrent import Recurrent, bidirectional, in_order, joined, layer
from lithe.conversion.torch.pictures import with_batch
from lithe.conversion.torch.rules import Call, rule
from lithe.ir.graph import Tensor


@rule("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def recurrent(b: Builder, c: Call, input: Tensor, hx: Any, params: Sequence[Tensor], has_biases: bool,
              num_layers: int, bidirectional: bool, batch_first: bool) -> list[Tensor]:  # fmt: skip
    """torch's gates: input, forget, cell, output; reset, update, new."""
    kind = c.name.split(".")[0].split("_")[0]
    given = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    directions = 2 if bidirectional else 1
    count = len(params) // (num_layers * directions)
    alone = input.type.rank == 2
    x, _ = with_batch(b, input, 3)
    if alone and not batch_first:
        x = b.reshape(input, (input.type.shape[0], 1, input.type.shape[1]))
    walk = Walk(time_major=not batch_first, last_cell=2 in c.used)
    lasts: list[list[Tensor]] = []
    options = Recurrent(unroll=c.unroll)
    for number in range(num_layers):
        cells, states = [], []
        for direction in range(directions):
            place = number * directions + direction
            own = params[place * count : (place + 1) * count]
            cells.append(cell(b, kind, own, has_biases, c.name.startswith("rnn_relu")))
            states.append([] if all(is_zero(b, s) for s in given) else [state(b, s, place) for s in given])
        x, last = stacked(b, x, cells, states, walk, options)
        lasts += last
    finals = [b("PACK", *column, values_count=len(column), axis=0) for column in zip(*lasts, strict=True)]
    made = [b.reshape(t, r.shape) for t, r in zip([x, *finals], c.results, strict=False)]
    return made + [made[-1]] * (len(c.results) - len(made))


def stacked(b: Builder, x: Tensor, cells: Sequence[Cell], states: Sequence[Sequence[Tensor]], walk: Walk,
            options: Recurrent) -> tuple[Tensor, list[list[Tensor]]]:  # fmt: skip
    if len(cells) == 1:
        y, last = layer(b, x, cells[0], states[0], walk, options)
        return y, [last]
    ys, lasts = bidirectional(b, x, cells, states, walk, options)
    return joined(b, ys), lasts


def cell(b: Builder, kind: str, own: Sequence[Tensor], has_biases: bool, relu: bool) -> Cell:
    weights, recurrent, *rest = own
    bias, recurrent_bias = (rest[0], rest[1]) if has_biases else (None, None)
    projection = rest[-1] if len(rest) % 2 else None
    if kind == "gru":
        weights, recurrent = (in_order(b, t, "rzn", "zrn") for t in (weights, recurrent))
        if bias is not None and recurrent_bias is not None:
            bias, recurrent_bias = (in_order(b, t, "rzn", "zrn") for t in (bias, recurrent_bias))
    made = Cell(kind, weights, recurrent, bias, recurrent_bias, projection=projection, reset_after=kind == "gru")
    return replace(made, activations=("RELU",)) if relu else made


def is_zero(b: Builder, t: Tensor) -> bool:
    data = b.known(t)
    return data is not None and not np.any(data)


def state(b: Builder, states: Tensor, place: int) -> Tensor:
    """One layer's part of [layers, batch, size], or of [layers, size]."""
    part = sliced(b, states, 0, place, place + 1)
    return b.reshape(part, (states.type.shape[1] if states.type.rank == 3 else 1, states.type.shape[-1]))


@rule("lstm.data", "gru.data", "rnn_tanh.data", "rnn_relu.data", "_pack_padded_sequence", "_pad_packed_sequence")
def packed(b: Builder, c: Call) -> Tensor:
    b.require(False, "packed sequences have no shape of their own: give padded ones")
    raise AssertionError
