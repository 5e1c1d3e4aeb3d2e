"""Recurrent layers of Keras: their loop over the steps is not traced, but written by `lithe.conversion.recurrent`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.cells import Cell, Walk
from lithe.conversion.keras.tracing import Tracer
from lithe.conversion.recurrent import Recurrent, has_builtin, layer
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32

KINDS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
ACTIVATIONS = {"tanh": "TANH", "sigmoid": "LOGISTIC", "relu": "RELU", "relu6": "RELU6", "elu": "ELU"}


def loop_of_layer(
    tracer: Tracer, original: Callable[..., Any], unroll: bool, held: Collection[Tensor]
) -> Callable[..., Any]:
    """What stands for `RNN.inner_loop` while a model is traced; the original where the cell is an unusual one.

    held  the tensors of what the model keeps from run to run: the states of stateful layers.
    """

    def replacement(self: Any, sequences: Any, initial_state: Any, mask: Any = None, training: bool = False) -> Any:
        functions = _functions(self.cell)
        if functions is None or self.cell.compute_dtype != "float32":
            return original(self, sequences, initial_state, mask, training=training)
        states = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        kind, whole = KINDS[type(self).__name__], self.return_sequences
        options = Recurrent(unroll=unroll or self.unroll)

        def write(b: Builder, x: Tensor, *rest: Tensor) -> list[Tensor]:
            weights = _weights(self.cell)
            given, masks = rest[: len(states)], rest[len(states) :]
            counts = b.reshape(masks[0], masks[0].type.shape[:2]) if masks else None
            if self.go_backwards:
                x, counts = _reversed(b, x), None if counts is None else _reversed(b, counts)
            tensors: dict[str, Any] = {name: b.constant(values, FLOAT32) for name, values in weights.items()}
            cell = Cell(kind, **tensors, activations=functions, reset_after="recurrent_bias" in weights)
            masked, keeps = "zero" if self.zero_output_for_mask else "repeat", all(t in held for t in given)
            walk = Walk(mask=counts, masked=masked, last_cell=bool(self.return_state) and kind == "lstm")
            if (
                keeps
                and not self.return_state
                and not any(map(_values_any, self.states))
                and has_builtin(b, x, cell, (), walk, options)
            ):  # the builtin keeps the state, which nobody else needs
                y, last = layer(b, x, cell, (), walk, options)
                finals = list(given)
            else:
                y, last = layer(b, x, cell, given, replace(walk, last_cell=walk.last_cell or keeps), options)
                finals = [*last, *([last[0]] * (len(states) - len(last)))]  # cells that nobody reads
            outputs = y if whole else b.reshape(last[0], (*last[0].type.shape[:1], 1, cell.outputs))
            return [last[0], outputs, *finals]

        def shapes(sequences: Any, *rest: Any) -> list[Any]:
            batch, time, _ = sequences
            units = rest[0][-1]
            return [
                (batch, units),
                (batch, time if whole else 1, units),
                *((batch, s[-1]) for s in rest[: len(states)]),
            ]

        masks = [] if mask is None else [mask]
        what = f"{type(self).__name__} '{self.name}'"
        last, outputs, *finals = tracer.opaque(write, what, shapes, sequences, *states, *masks)
        return last, outputs, finals

    return replacement


def _values_any(variable: Any) -> bool:
    return bool(np.any(np.asarray(variable)))


def _reversed(b: Builder, x: Tensor) -> Tensor:
    return b("REVERSE_V2", x, b.constant([1]))


def _functions(cell: Any) -> tuple[str, ...] | None:
    """The builtins of the cell's activations, in the order of `Cell.activations`."""
    new = ACTIVATIONS.get(getattr(cell.activation, "__name__", ""))
    gate = ACTIVATIONS.get(getattr(getattr(cell, "recurrent_activation", None), "__name__", ""))
    match type(cell).__name__:
        case "LSTMCell" if new and gate:
            return gate, new, new
        case "GRUCell" if new and gate:
            return gate, new
        case "SimpleRNNCell" if new:
            return (new,)
    return None


def _weights(cell: Any) -> dict[str, np.ndarray]:
    """Keras's gates: input, forget, cell, output; update, reset, new."""
    found = {"weights": np.asarray(cell.kernel).T, "recurrent": np.asarray(cell.recurrent_kernel).T}
    if cell.bias is not None:
        bias = np.asarray(cell.bias)
        found |= {"bias": bias} if bias.ndim == 1 else {"bias": bias[0], "recurrent_bias": bias[1]}
    return found
