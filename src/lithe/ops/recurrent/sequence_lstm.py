"""UNIDIRECTIONAL_SEQUENCE_LSTM and LSTM: a layer with a memory that walks along a sequence, or takes one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.op import Fused, Op, Scale, See, Site, register
from lithe.ops.products import ACTIVATIONS
from lithe.ops.recurrent import lstm_basic, lstm_float, lstm_integer, lstm_narrow, spelled
from lithe.ops.recurrent.lstm_float import (
    AUXILIARY,
    GATES,
    HIDDEN,
    NORMALIZATION,
    OUTPUT_STATE,
    PROJECTION,
    SUMS,
    Parts,
    Sizes,
)
from lithe.types import INT8, INT16, Shape

LAYER = (
    "input_to_input_weights?", "input_to_forget_weights", "input_to_cell_weights", "input_to_output_weights",
    "recurrent_to_input_weights?", "recurrent_to_forget_weights", "recurrent_to_cell_weights",
    "recurrent_to_output_weights", "cell_to_input_weights?", "cell_to_forget_weights?", "cell_to_output_weights?",
    "input_gate_bias?", "forget_gate_bias", "cell_bias", "output_gate_bias", "projection_weights?",
    "projection_bias?",
)  # fmt: skip
OPERANDS = (
    "input", *LAYER, "output_state", "cell_state", "input_normalization?", "forget_normalization?",
    "cell_normalization?", "output_normalization?",
)  # fmt: skip


def words(weights: str, recurrent: str, peephole: str, bias: str, projection: str, last: str = "") -> list[str]:
    """The element types of a layer's weights and biases, in the order of LAYER; last: of the projection's bias."""
    given = [weights] * 4 + [recurrent] * 4 + [peephole] * 3 + [bias] * 4 + [projection, last or bias]
    return [w + ("?" if name.endswith("?") else "") for w, name in zip(given, LAYER, strict=True)]


def _line(x: str, layer: list[str], hidden: str, cell: str, factor: str, variables: str = "") -> str:
    return f"{x} {' '.join(layer)} {hidden} {cell} {' '.join([factor + '?'] * 4)} -> {x}{variables}"


FLOATS = ("float32", "float32", "float32", "float32", "float32")
HYBRID = ("W", "W", "W", "float32", "W")  # W: integers
DIAGONAL = ("W", "float32", "W", "float32", "W")
KINDS = ": W= int8q uint8q"
TYPES = "\n".join(
    (
        _line("float32", words(*FLOATS), "float32", "float32", "float32"),
        _line("float32", words(*HYBRID), "float32", "float32", "float32", KINDS),
        _line("float32", words(*DIAGONAL), "float32", "float32", "float32", KINDS),
        _line("int8q", words("int8q", "int8q", "int16q", "int32", "int8q"), "int8q", "int16q", "int16q"),
    )
)
WIDE = _line(
    "int16q", words("int8q", "int8q", "int16q", "B", "int8q", "P"), "int16q", "int16q", "int16q",
    ": B= int64 int32; P= int64 int32",
)  # fmt: skip


@dataclass(frozen=True)
class Attrs:
    fused_activation_function: str = "TANH"
    cell_clip: float = 0.0
    proj_clip: float = 0.0
    time_major: bool = False
    asymmetric_quantize_inputs: bool = False
    diagonal_recurrent_tensors: bool = False


def require_layer(site: Site) -> Sizes:
    """The rules of one LSTM layer, whose operands are in the order of OPERANDS."""
    x, attrs = site.input(0), site.attrs
    require_activation(site)
    site.require(attrs.cell_clip >= 0 and attrs.proj_clip >= 0, "clips must not be negative")
    cells, outputs = site.rank(4, 2).shape[0], site.rank(8, 1, 2).shape[-1]
    site.require(cells >= 1 and outputs >= 1 and x.shape[-1] >= 1, "must not be empty", 4)
    sizes = Sizes.of(site)
    absent = not site.has(1)
    for i in range(GATES):
        if i == 0 and absent:
            continue
        shaped(site, 1 + i, (cells, x.shape[-1]))
        diagonal = site.input(5 + i).rank == 1 and cells == outputs
        shaped(site, 5 + i, (cells,) if diagonal else (cells, outputs))
        shaped(site, 12 + i, (cells,))
    _together(site, site.has(11), (10, 11) if absent else (9, 10, 11), (cells,))
    last = NORMALIZATION + 3
    _together(site, site.has(last), tuple(range(NORMALIZATION + absent, last + 1)), (cells,))
    if site.has(PROJECTION):
        shaped(site, PROJECTION, (outputs, cells))
    projects = site.has(PROJECTION)
    site.require(projects or cells == outputs, f"{cells} cells and {outputs} outputs need a projection", PROJECTION)
    if site.has(PROJECTION + 1):
        site.require(projects, "belongs to projection weights", PROJECTION + 1)
        shaped(site, PROJECTION + 1, (outputs,))
    shaped(site, OUTPUT_STATE, (sizes.batch, outputs))
    shaped(site, OUTPUT_STATE + 1, (sizes.batch, cells))
    if site.has(AUXILIARY):
        auxiliary = site.rank(AUXILIARY, x.rank)
        alike = auxiliary.shape[:-1] == x.shape[:-1] and auxiliary.shape[-1] >= 1
        site.require(alike, f"must have the sequences of {x} and not be empty, is {auxiliary}", AUXILIARY)
        for i in range(absent, GATES):
            shaped(site, AUXILIARY + 1 + i, (cells, auxiliary.shape[-1]))
    if not x.dtype.is_float:
        arithmetic(site).require(site)
    elif not site.input(4).dtype.is_float:
        require_weights(site, (*range(1, 12), PROJECTION, *range(AUXILIARY + 1, AUXILIARY + 5)))
    return sizes


def require_activation(site: Site) -> None:
    activation = site.attrs.fused_activation_function
    site.require(activation in ACTIVATIONS, f"activation must be {', '.join(ACTIVATIONS)}, is {activation}")


def require_weights(site: Site, operands: tuple[int, ...]) -> None:
    """The rules of the integer weights of a float layer."""
    for i in operands:
        if site.has(i) and not site.input(i).dtype.is_float:
            site.quantization(site.input(i), site.operand(i))
            site.constant(i)


def shaped(site: Site, i: int, shape: Shape) -> None:
    t = site.input(i)
    site.require(t.shape == shape, f"shape must be {list(shape)}, is {list(t.shape)}", i)


def _together(site: Site, present: bool, operands: tuple[int, ...], shape: Shape) -> None:
    """Operands of which all are there or none."""
    for i in operands:
        site.require(site.has(i) == present, "must be present or absent like the others of its kind", i)
        if present:
            shaped(site, i, shape)


def arithmetic(site: Site) -> Any:
    """The module with the arithmetic of a layer: `evaluate` and `lower`, and `require` of integers."""
    if site.input(0).dtype.is_float:
        return lstm_float
    return lstm_narrow if len(site.intermediates) == lstm_narrow.INTERMEDIATES else lstm_integer


def _infer(site: Site) -> list[Shape]:
    sizes = require_layer(site)
    return [(*site.input(0).shape[:-1], sizes.outputs)]


def _evaluate(site: Site, *arrays: np.ndarray | None) -> list[np.ndarray]:
    y = arithmetic(site).evaluate(site, Sizes.of(site), Parts(site, arrays))
    return [y.reshape(*site.input(0).shape[:-1], y.shape[-1])]


def _lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
    sizes = Sizes.of(site)
    if ys[0].size:
        arithmetic(site).lower(b, site, sizes, Parts(site, xs), ys[0].viewed((sizes.rows, sizes.outputs)))


def _inside(site: Site, see: See, *arrays: np.ndarray | None) -> list[np.ndarray]:
    y = lstm_float.evaluate(site, Sizes.of(site), Parts(site, arrays), see)
    return [y.reshape(*site.input(0).shape[:-1], y.shape[-1])]


def _fused(site: Site) -> Fused | None:
    """The layer of `lstm_integer`: it knows tanh alone, and weights that are matrices.

    The official kernel takes as many peephole weights as there are outputs, whatever the number of cells.
    """
    if site.attrs.fused_activation_function != "TANH" or site.input(8).rank != 2:
        return None
    if site.has(11) and site.input(8).shape[0] != site.input(8).shape[1]:
        return None
    if any(site.has(i) and site.known(i) is None for i in range(1, len(OPERANDS)) if i not in STATES):
        return None
    normalized, projected = site.has(NORMALIZATION + 3), site.has(PROJECTION)
    scales = {NAMES[OUTPUT_STATE]: Scale("like", ("output",)), NAMES[OUTPUT_STATE + 1]: Scale("power")}
    for g in range(GATES):
        scales[NAMES[12 + g]] = (
            Scale("product", (NAMES[NORMALIZATION + g],), 2.0**-10)
            if normalized
            else Scale("product", ("input", NAMES[1 + g]))
        )
    scales[NAMES[PROJECTION + 1]] = Scale("product", (HIDDEN, NAMES[PROJECTION]))
    scales[HIDDEN] = Scale() if projected else Scale("like", ("output",))
    sums = [(name if normalized else "", INT16) for name in SUMS]
    return Fused(scales, (*sums, (HIDDEN, INT8)), site.attrs)


STATES = (OUTPUT_STATE, OUTPUT_STATE + 1)
NAMES = tuple(name.rstrip("?") for name in OPERANDS)


@register
class UnidirectionalSequenceLstm(Op):
    """For each step t of the sequence, with h the output state and c the cell state, both kept between runs:

    gate g = bias + x[t] W + h R (+ peephole * c), optionally normalized over the cells, for g in
    input i, forget f, cell z, output o;  c = clip(sigmoid(f) * c + sigmoid(i) * activation(z));
    h = sigmoid(o) * activation(c), optionally projected: clip(h P + projection bias);  y[t] = h.

    Without input weights the input gate is 1 - sigmoid(f) ("coupled"). Recurrent weights R of rank 1 are a diagonal.
    x: [batch, time, depth], time first when time_major; y: the same with the size of h last.
    float32: weights are floats, or integers (see `lithe.ops.products`). int8 and int16: see `lstm_integer`
    and, with products of 8 bits, `lstm_narrow`.
    Source: schema.fbs, UnidirectionalSequenceLSTMOptions.
    """

    name, code = "UNIDIRECTIONAL_SEQUENCE_LSTM", 44
    operands = (OPERANDS, ("output",))
    types = TYPES + "\n" + WIDE
    stateful = True
    changes = staticmethod(lambda attrs: STATES)
    activations = ACTIVATIONS
    Attrs = Attrs
    evaluate = _evaluate
    lower = _lower
    fused = _fused
    inside = _inside
    spelled = spelled.lstm

    def infer(site: Site) -> list[Shape]:
        site.rank(0, 3)
        return _infer(site)


@register
class Lstm(Op):
    """One step of UNIDIRECTIONAL_SEQUENCE_LSTM (kernel type FULL), or the BASIC one (see `lstm_basic`).

    FULL: x [batch, depth], y [batch, outputs], operands as those of the sequence. Source: schema.fbs, LSTMOptions.
    """

    name, code = "LSTM", 16
    operands = (
        ("input", "input_to_input_weights?", "input_to_forget_weights", "input_to_cell_weights",
         "input_to_output_weights", *(n if n.endswith("?") else n + "?" for n in OPERANDS[5:])),
        ("output", "state_output?", "concatenated?", "gates?"),
    )  # fmt: skip
    types = TYPES + lstm_basic.TYPES
    stateful = True
    activations = ACTIVATIONS

    @dataclass(frozen=True)
    class Attrs:
        fused_activation_function: str = "TANH"
        cell_clip: float = 0.0
        proj_clip: float = 0.0
        kernel_type: str = "FULL"
        asymmetric_quantize_inputs: bool = False

    def infer(site: Site) -> list[Shape]:
        kind = site.attrs.kernel_type
        site.require(kind in ("FULL", "BASIC"), f"kernel_type must be FULL or BASIC, is {kind}")
        if kind == "BASIC":
            return lstm_basic.infer(site)
        site.rank(0, 2)
        return _infer(site)

    def fused(site: Site) -> Fused | None:
        return None if site.attrs.kernel_type == "BASIC" else _fused(site)

    inside = _inside

    def spelled(w: Any, site: Site, *operands: Any) -> Any:
        return (lstm_basic.spelled if site.attrs.kernel_type == "BASIC" else spelled.lstm)(w, site, *operands)

    def changes(attrs: Lstm.Attrs) -> tuple[int, ...]:
        return lstm_basic.CHANGED if attrs.kernel_type == "BASIC" else STATES

    def evaluate(site: Site, *arrays: np.ndarray | None) -> list[np.ndarray]:
        return (lstm_basic.evaluate if site.attrs.kernel_type == "BASIC" else _evaluate)(site, *arrays)

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (lstm_basic.lower if site.attrs.kernel_type == "BASIC" else _lower)(b, site, xs, ys)
