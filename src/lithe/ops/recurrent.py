"""UNIDIRECTIONAL_SEQUENCE_LSTM: a layer with a memory that walks along a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops import lstm_float, lstm_integer
from lithe.ops.lstm_float import ACTIVATIONS, GATES, OUTPUT_STATE, Parts, Sizes
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

OPERANDS = (
    "input", "input_to_input_weights?", "input_to_forget_weights", "input_to_cell_weights", "input_to_output_weights",
    "recurrent_to_input_weights?", "recurrent_to_forget_weights", "recurrent_to_cell_weights",
    "recurrent_to_output_weights", "cell_to_input_weights?", "cell_to_forget_weights?", "cell_to_output_weights?",
    "input_gate_bias?", "forget_gate_bias", "cell_bias", "output_gate_bias", "projection_weights?",
    "projection_bias?", "output_state", "cell_state", "input_normalization?", "forget_normalization?",
    "cell_normalization?", "output_normalization?",
)  # fmt: skip


@register
class UnidirectionalSequenceLstm(Op):
    """For each step t of the sequence, with h the output state and c the cell state, both kept between runs:

    gate g = bias + x[t] W + h R (+ peephole * c), optionally normalized over the cells, for g in
    input i, forget f, cell z, output o;  c = clip(sigmoid(f) * c + sigmoid(i) * activation(z));
    h = sigmoid(o) * activation(c), optionally projected: clip(h P + projection bias);  y[t] = h.

    Without input weights the input gate is 1 - sigmoid(f) ("coupled").
    x: [batch, time, depth], time first when time_major; y: the same with the size of h last.
    int8: the states are variables of int8 (h) and int16 with a scale that is a power of two (c); there is neither
    projection nor normalization. Source: schema.fbs, UnidirectionalSequenceLSTMOptions.
    """

    name, code = "UNIDIRECTIONAL_SEQUENCE_LSTM", 44
    operands = (OPERANDS, ("output",))
    types = "\n".join(
        f"{x} " + " ".join(words) + f" -> {x}"
        for x, words in (
            ("float32", ["float32" + ("?" if o.endswith("?") else "") for o in OPERANDS[1:]]),
            (
                "int8q",
                ["int8q?", *["int8q"] * 3, "int8q?", *["int8q"] * 3, *["int16q?"] * 3, "int32?", *["int32"] * 3,
                 "int8?", "int32?", "int8q", "int16q", *["int16?"] * 4],
            ),
        )
    )  # fmt: skip
    stateful = True
    activations = ACTIVATIONS

    @dataclass(frozen=True)
    class Attrs:
        fused_activation_function: str = "TANH"
        cell_clip: float = 0.0
        proj_clip: float = 0.0
        time_major: bool = False
        asymmetric_quantize_inputs: bool = False
        diagonal_recurrent_tensors: bool = False

    def infer(site: Site) -> list[Shape]:
        x, attrs = site.rank(0, 3), site.attrs
        activation = attrs.fused_activation_function
        site.require(activation in ACTIVATIONS, f"activation must be {', '.join(ACTIVATIONS)}, is {activation}")
        site.require(not attrs.diagonal_recurrent_tensors, "diagonal recurrent weights are not supported")
        site.require(attrs.cell_clip >= 0 and attrs.proj_clip >= 0, "clips must not be negative")
        cells, outputs = site.rank(4, 2).shape[0], site.rank(8, 2).shape[1]
        site.require(cells >= 1 and outputs >= 1 and x.shape[2] >= 1, "must not be empty", 4)
        batch = x.shape[1] if attrs.time_major else x.shape[0]
        absent = not site.has(1)
        for i in range(GATES):
            if i == 0 and absent:
                continue
            _shaped(site, 1 + i, (cells, x.shape[2]))
            _shaped(site, 5 + i, (cells, outputs))
            _shaped(site, 12 + i, (cells,))
        peephole = site.has(11)
        _together(site, peephole, (10, 11) if absent else (9, 10, 11), (cells,))
        _together(site, site.has(21), (21, 22, 23) if absent else (20, 21, 22, 23), (cells,))
        if site.has(16):
            _shaped(site, 16, (outputs, cells))
        site.require(site.has(16) or cells == outputs, f"{cells} cells and {outputs} outputs need a projection", 16)
        if site.has(17):
            site.require(site.has(16), "belongs to projection weights", 17)
            _shaped(site, 17, (outputs,))
        _shaped(site, OUTPUT_STATE, (batch, outputs))
        _shaped(site, OUTPUT_STATE + 1, (batch, cells))
        if not x.dtype.is_float:
            lstm_integer.require(site)
        return [(*x.shape[:2], outputs)]

    def evaluate(site: Site, *arrays: np.ndarray | None) -> list[np.ndarray]:
        sizes, parts = Sizes.of(site), Parts(arrays)
        arithmetic = lstm_float if site.input(0).dtype.is_float else lstm_integer
        return [arithmetic.evaluate(site, sizes, parts)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        sizes, parts = Sizes.of(site), Parts(xs)
        arithmetic = lstm_float if site.input(0).dtype.is_float else lstm_integer
        if ys[0].size:
            arithmetic.lower(b, site, sizes, parts, ys[0].viewed((sizes.rows, sizes.outputs)))


def _shaped(site: Site, i: int, shape: Shape) -> None:
    t = site.input(i)
    site.require(t.shape == shape, f"shape must be {list(shape)}, is {list(t.shape)}", i)


def _together(site: Site, present: bool, operands: tuple[int, ...], shape: Shape) -> None:
    """Operands of which all are there or none."""
    for i in operands:
        site.require(site.has(i) == present, "must be present or absent like the others of its kind", i)
        if present:
            _shaped(site, i, shape)
