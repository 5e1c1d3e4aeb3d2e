"""Recurrent layers of Keras: their loop over the steps is not traced, but written by `lithe.conversion.recurrent`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.cells import Cell, Walk
from lithe.conversion.jax.opaque import opaque
from lithe.conversion.recurrent import Recurrent, layer
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32

KINDS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
ACTIVATIONS = {"tanh": "TANH", "sigmoid": "LOGISTIC", "relu": "RELU", "relu6": "RELU6", "elu": "ELU"}


def loop_of_layer(original: Callable[..., Any], unroll: bool) -> Callable[..., Any]:
    """What stands for `RNN.inner_loop` while a model is traced; the original where the cell is an unusual one."""

    def replacement(self: Any, sequences: Any, initial_state: Any, mask: Any = None, training: bool = False) -> Any:
        import jax

        functions = _functions(self.cell)
        if functions is None or sequences.dtype != "float32":
            return original(self, sequences, initial_state, mask, training=training)
        states = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        kind, weights = KINDS[type(self).__name__], _weights(self.cell)
        wanted = bool(self.return_state) and kind == "lstm"
        options = Recurrent(unroll=unroll or self.unroll)
        masked = "zero" if self.zero_output_for_mask else "repeat"
        backwards, stays, whole = self.go_backwards, self.stateful, self.return_sequences

        def write(b: Builder, x: Tensor, *rest: Tensor) -> list[Tensor]:
            given, masks = rest[: len(states)], rest[len(states) :]
            counts = b.reshape(masks[0], masks[0].type.shape[:2]) if masks else None
            if backwards:
                x, counts = _reversed(b, x), None if counts is None else _reversed(b, counts)
            tensors: dict[str, Any] = {name: b.constant(values, FLOAT32) for name, values in weights.items()}
            cell = Cell(kind, **tensors, activations=functions, reset_after="recurrent_bias" in weights)
            walk = Walk(mask=counts, masked=masked, last_cell=wanted)
            y, last = layer(b, x, cell, given, walk, options)
            b.require(not stays or y.type.shape[1] == 0 or _keeps_state(b), "a stateful layer without a builtin")
            last = [*last, *([last[0]] * (len(states) - len(last)))]  # cells that nobody reads
            return [last[0], y if whole else b.reshape(last[0], (*last[0].type.shape[:1], 1, cell.outputs)), *last]

        batch, time, _ = sequences.shape
        units = states[0].shape[-1]
        results = [(batch, units), (batch, time if whole else 1, units), *((batch, s.shape[-1]) for s in states)]
        masks = [] if mask is None else [mask]
        shapes = [jax.ShapeDtypeStruct(shape, sequences.dtype) for shape in results]
        last, outputs, *finals = opaque(
            write, f"{type(self).__name__} '{self.name}'", shapes, sequences, *states, *masks
        )
        return last, outputs, finals

    return replacement


def _keeps_state(b: Builder) -> bool:
    """Whether what was written last has variables, which keep their values from run to run."""
    return any(t is not None and t.is_variable for n in b.nodes[-4:] for t in n.inputs)


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
