"""Recurrent layers in the terms that all frameworks share: LSTM, GRU and the simple RNN, along sequences.

Cell      the weights of one layer in one direction, and what is special about it
Walk      how it goes along the sequences: from which end, which steps count
layer     one direction; `bidirectional` both

A layer becomes, in this order of preference,
1.  a builtin (UNIDIRECTIONAL_SEQUENCE_LSTM, UNIDIRECTIONAL_SEQUENCE_RNN, BIDIRECTIONAL_SEQUENCE_LSTM or _RNN) where
    one says the same: state that begins with zeros, no mask, the usual activations, the last cell state not wanted.
    These operators keep their state in variable tensors from one run to the next, until `reset_all_variables()`, as
    with TensorFlow's own converter. Their batch is fixed, because variables have a fixed shape.
2.  its steps one by one, where their number is fixed. The product with the input is made for all steps at once.
3.  a WHILE loop, where the length of the sequences is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.cells import GATES, MASKED, USUAL, Cell, Walk, batch_and_time, steps
from lithe.conversion.parts import split
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32, TensorType

BUILTIN_ACTIVATIONS = ("TANH", "RELU", "RELU6")


@dataclass(frozen=True)
class Recurrent:
    """Options.

    unroll  write the steps one by one also where a builtin says the same.
    """

    unroll: bool = False


FORWARD, DEFAULT = Walk(), Recurrent()


def in_order(b: Builder, tensor: Tensor, given: str, wanted: str, axis: int = 0) -> Tensor:
    """The gates of a tensor in another order: in_order(b, w, "iofc", "ifco")."""
    if given == wanted:
        return tensor
    parts = split(b, tensor, len(given), axis)
    if tensor.data is not None:
        data = np.concatenate([b.array(parts[given.index(g)]) for g in wanted], axis)
        return b.constant(data, tensor.type.dtype)
    return b("CONCATENATION", *(parts[given.index(g)] for g in wanted), axis=axis)


def layer(
    b: Builder,
    x: Tensor,
    cell: Cell,
    states: Sequence[Tensor] = (),
    walk: Walk = FORWARD,
    options: Recurrent = DEFAULT,
) -> tuple[Tensor, list[Tensor]]:
    """The outputs of all steps [batch, time, outputs] (time first when time_major), and the last states.

    states  the first ones, [batch, size] each: the output, and of an LSTM the cells; none for zeros.

    The last states are those after the last step that counts. Without `walk.last_cell` there is only the output.
    """
    (cell, walk), states = _simplified(b, x, cell, walk), _without_zeros(b, states)
    if _has_builtin(x, cell, states, walk, options):
        return _builtin(b, x, cell, walk)
    return steps(b, x, cell, states, walk)


def has_builtin(
    b: Builder, x: Tensor, cell: Cell, states: Sequence[Tensor], walk: Walk = FORWARD, options: Recurrent = DEFAULT
) -> bool:
    """Whether `layer` would be one builtin, which keeps its state."""
    cell, walk = _simplified(b, x, cell, walk)
    return _has_builtin(x, cell, _without_zeros(b, states), walk, options)


def bidirectional(
    b: Builder,
    x: Tensor,
    cells: Sequence[Cell],
    states: Sequence[Sequence[Tensor]] = ((), ()),
    walk: Walk = FORWARD,
    options: Recurrent = DEFAULT,
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The outputs and the last states of two layers, of which the second one goes from the end.

    `joined` puts the outputs side by side.
    """
    forward, backward = replace(walk, reverse=False), replace(walk, reverse=True)
    simple = [_simplified(b, x, c, w) for c, w in zip(cells, (forward, backward), strict=True)]
    zero = [_without_zeros(b, s) for s in states]
    alike = all(getattr(cells[0], f) == getattr(cells[1], f) for f in ("kind", "activations", "cell_clip",
                                                                       "projection_clip"))  # fmt: skip
    if alike and all(_has_builtin(x, c, s, w, options) for (c, w), s in zip(simple, zero, strict=True)):
        outputs = _builtin_pair(b, x, [c for c, _ in simple], walk)
        return outputs, [[_last(b, y, w)] for y, (_, w) in zip(outputs, simple, strict=True)]
    made = [layer(b, x, c, s, w, options) for c, s, w in zip(cells, states, (forward, backward), strict=True)]
    return [y for y, _ in made], [last for _, last in made]


def joined(b: Builder, outputs: Sequence[Tensor]) -> Tensor:
    """The outputs of both directions side by side."""
    return b("CONCATENATION", *outputs, axis=outputs[0].type.rank - 1)


def _simplified(b: Builder, x: Tensor, cell: Cell, walk: Walk) -> tuple[Cell, Walk]:
    """One bias where one will do, one mask for lengths and mask; no mask that is true everywhere."""
    b.require(x.type.dtype == FLOAT32, f"a recurrent layer of {x.type.dtype}")
    b.require(walk.masked in MASKED, f"masked is {' or '.join(MASKED)}, not {walk.masked}")
    if cell.recurrent_bias is not None and not cell.reset_after:
        bias = cell.recurrent_bias if cell.bias is None else b("ADD", cell.bias, cell.recurrent_bias)
        cell = replace(cell, bias=bias, recurrent_bias=None)
    if walk.lengths is not None:
        time = batch_and_time(x, walk)[1]
        data = walk.lengths.data
        if data is None or is_open(time) or (np.asarray(data) < time).any():
            walk = replace(walk, mask=_both(b, _counting(b, walk.lengths, time), walk.mask))
        walk = replace(walk, lengths=None)
    if walk.mask is not None and walk.mask.data is not None and walk.mask.data.all():
        walk = replace(walk, mask=None)
    return cell, walk


def _both(b: Builder, mask: Tensor, other: Tensor | None) -> Tensor:
    return mask if other is None else b("LOGICAL_AND", mask, other, dtype=BOOL)


def _counting(b: Builder, lengths: Tensor, time: int) -> Tensor:
    """[batch, time]: whether a step lies before the end of its sequence."""
    if is_open(time):
        line = b.sized("RANGE", [b.constant(0), b.reshape(b.size(time), ()), b.constant(1)], (time,))
    else:
        line = b.constant(np.arange(time))
    return b("LESS", b.reshape(line, (1, time)), b.reshape(b.int32(lengths), (*lengths.type.shape, 1)), dtype=BOOL)


def _without_zeros(b: Builder, states: Sequence[Tensor]) -> list[Tensor]:
    """No states where all are zero."""
    known = [b.known(t) for t in states]
    return [] if all(data is not None and not np.any(data) for data in known) else list(states)


# builtins


def _has_builtin(x: Tensor, cell: Cell, states: Sequence[Tensor], walk: Walk, options: Recurrent) -> bool:
    """Whether a builtin says the same."""
    functions, usual = cell.functions, USUAL[cell.kind]
    known = all(f in BUILTIN_ACTIVATIONS for f in functions[-1:])
    if cell.kind == "lstm":
        known &= functions[0] == usual[0] and functions[1] == functions[2]
    weights = [cell.weights, cell.bias, *cell.tensors().values()]
    return (
        cell.kind != "gru" and known and not states and walk.mask is None and not options.unroll
        and not (cell.kind == "lstm" and walk.last_cell) and not cell.clip and is_fixed([batch_and_time(x, walk)[0]])
        and all(t is None or t.data is not None for t in weights)
    )  # fmt: skip


def _operands(b: Builder, cell: Cell) -> tuple[list[Tensor | None], dict[str, Any]]:
    """The weights of one layer as the builtins take them, and their attributes."""
    gates = GATES[cell.kind]
    bias = cell.bias or b.constant(np.zeros(gates * cell.units), FLOAT32)
    attrs = {"fused_activation_function": cell.functions[-1]}
    if cell.kind == "rnn":
        return [cell.weights, cell.recurrent, bias], attrs
    skipped = [None] if cell.coupled else []

    def each(t: Tensor) -> list[Tensor | None]:
        return [*skipped, *split(b, t, gates, 0)[len(skipped) :]]

    peephole: list[Tensor | None] = [None] * 3
    if cell.peephole is not None:
        rows = [b.reshape(t, (cell.units,)) for t in split(b, cell.peephole, 3, 0)]
        peephole = [*skipped, *rows[len(skipped) :]]
    operands = [*each(cell.weights), *each(cell.recurrent), *peephole, *each(bias), cell.projection,
                cell.projection_bias]  # fmt: skip
    return operands, {**attrs, "cell_clip": float(cell.cell_clip), "proj_clip": float(cell.projection_clip)}


def _variables(b: Builder, cell: Cell, batch: int, name: str) -> list[Tensor]:
    titles = ("output_state", "cell_state")
    return [
        Tensor(f"{b.name()}/{name}{title}{len(b.tensors)}", TensorType(FLOAT32, (batch, size)), is_variable=True)
        for title, size in zip(titles, cell.state_sizes, strict=False)
    ]


def _builtin(b: Builder, x: Tensor, cell: Cell, walk: Walk) -> tuple[Tensor, list[Tensor]]:
    operands, attrs = _operands(b, cell)
    axis = b.constant([0 if walk.time_major else 1])
    turned = b("REVERSE_V2", x, axis) if walk.reverse else x
    states = _variables(b, cell, batch_and_time(x, walk)[0], "")
    name = f"UNIDIRECTIONAL_SEQUENCE_{cell.kind.upper()}"
    last = [None] * 4 if cell.kind == "lstm" else []
    y = b(name, turned, *operands, *states, *last, time_major=walk.time_major, **attrs)
    if walk.reverse:
        y = b("REVERSE_V2", y, axis)
    return y, [_last(b, y, walk)]


def _builtin_pair(b: Builder, x: Tensor, cells: Sequence[Cell], walk: Walk) -> list[Tensor]:
    batch = batch_and_time(x, walk)[0]
    both = [_operands(b, c) for c in cells]
    states = [_variables(b, c, batch, n) for c, n in zip(cells, ("forward_", "backward_"), strict=True)]
    if cells[0].kind == "lstm":
        operands = [*both[0][0], *both[1][0], *states[0], *states[1], *[None] * 9]
    else:
        operands = [*both[0][0], *states[0], *both[1][0], *states[1], *[None] * 3]
    name = f"BIDIRECTIONAL_SEQUENCE_{cells[0].kind.upper()}"
    return b.several(name, x, *operands, dtypes=[None, None], merge_outputs=False, time_major=walk.time_major,
                     **both[0][1])  # fmt: skip


def _last(b: Builder, y: Tensor, walk: Walk) -> Tensor:
    """The output of the last step."""
    axis, (batch, time) = 0 if walk.time_major else 1, batch_and_time(y, walk)
    if is_open(time) and not walk.reverse:
        return _from_the_end(b, y, axis)
    begin, size = [0, 0, 0], list(y.type.shape)
    begin[axis], size[axis] = 0 if walk.reverse else time - 1, 1
    return b.reshape(b.slice(y, begin, size), (batch, y.type.shape[-1]))


def _from_the_end(b: Builder, y: Tensor, axis: int) -> Tensor:
    """The last element along an axis of open size."""
    begin, others = [0] * 3, ((1 << 3) - 1) ^ (1 << axis)
    begin[axis] = -1
    shape = [n for i, n in enumerate(y.type.shape) if i != axis]
    return b.sized("STRIDED_SLICE", [y, b.constant(begin), b.constant([0] * 3), b.constant([1] * 3)], shape,
                   begin_mask=others, end_mask=others, shrink_axis_mask=1 << axis)  # fmt: skip
