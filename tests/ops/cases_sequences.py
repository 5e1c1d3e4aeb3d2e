"""Recurrent layers of other kinds than the LSTM of one direction."""

from __future__ import annotations

import numpy as np

from lithe.types import INT8, INT16, INT32, UINT8, DType, TensorType
from tests.ops.cases import Case, f32, i8, tensor, u8
from tests.ops.cases_recurrent import reals, stored


def basic(
    name: str,
    batch: int = 2,
    depth: int = 7,
    outputs: int = 5,
    quantized: bool = False,
    activation: str = "TANH",
) -> Case:
    """A row of an LSTM of kernel type BASIC."""
    joined, rows = depth + outputs, 4 * outputs
    shapes = ((batch, depth), (batch, outputs), (rows, joined), (rows,), (batch, outputs))
    made = ((batch, outputs), (batch, outputs), (batch, joined), (batch, rows))
    if not quantized:
        types, results = [f32(*s) for s in shapes], [f32(*s) for s in made]
        constants = {2: reals(2, *shapes[2]), 3: reals(3, *shapes[3])}
    else:
        x, weights = u8(scale=1 / 128).quantization, u8(scale=0.013, zero_point=120).quantization
        state = tensor(INT16, scale=2.0**-11).quantization
        bias = tensor(INT32, scale=0.013 / 128).quantization
        kinds = ((UINT8, x), (UINT8, x), (UINT8, weights), (INT32, bias), (INT16, state))
        types = [TensorType(d, s, q) for (d, q), s in zip(kinds, shapes, strict=True)]
        gates = tensor(INT16, scale=2.0**-12).quantization
        kinds = ((UINT8, x), (INT16, state), (UINT8, x), (INT16, gates))
        results = [TensorType(d, s, q) for (d, q), s in zip(kinds, made, strict=True)]
        random = np.random.default_rng(depth)
        constants = {
            2: random.integers(0, 256, shapes[2]).astype(np.uint8),
            3: random.integers(-9000, 9000, shapes[3]).astype(np.int32),
        }
    kind = "uint8" if quantized else "float"
    attrs = {"kernel_type": "BASIC", "fused_activation_function": activation}
    return Case(
        "LSTM", f"basic {kind} {name}", tuple(types), tuple(results), attrs, constants,
        low=None if quantized else -1, high=None if quantized else 1, variables=(1, 4), steps=0,
    )  # fmt: skip


def narrow(name: str, batch: int = 2, depth: int = 7, cells: int = 9, outputs: int = 5, **attrs: object) -> Case:
    """A row of an LSTM whose products have 8 bits."""
    random = np.random.default_rng(cells)
    types: dict[int, TensorType] = {0: i8(batch, depth, scale=0.02, zero_point=5)}
    for g in range(1, 4):
        types[1 + g], types[5 + g] = tensor(INT8, cells, depth, scale=0.011), tensor(INT8, cells, outputs, scale=0.008)
        types[12 + g], types[20 + g] = tensor(INT32, cells, scale=1e-8), tensor(INT16, cells, scale=3e-5)
    types |= {16: tensor(INT8, outputs, cells, scale=0.009), 17: tensor(INT32, outputs, scale=3e-7)}
    types |= {18: i8(batch, outputs, scale=0.0078, zero_point=-4), 19: tensor(INT16, batch, cells, scale=2.0**-15)}
    constants = {i: stored(INT8, i, *types[i].shape) for i in types if types[i].dtype == INT8 and i not in (0, 18)}
    spreads = {INT32: 300_000, INT16: 32_000}
    for i, t in types.items():
        if t.dtype in spreads and i != 19:
            constants[i] = random.integers(-spreads[t.dtype], spreads[t.dtype], t.shape).astype(t.dtype.numpy)
    inside = [tensor(INT8, 0, scale=s, zero_point=z) for s, z in ((0.0005, 0), (0.021, 4), (0.013, -7))]
    return Case(
        "LSTM", f"narrow {name}", laid_out(types, 24), (i8(batch, outputs, scale=0.0078, zero_point=-4),), attrs,
        constants, variables=(18, 19), intermediates=tuple(inside * 4), steps=0,
    )  # fmt: skip


def factors(shapes: dict[int, tuple[int, ...]], weights: DType | None) -> tuple[dict, dict]:
    """Types and values of weights by position; integers when a type is given."""
    types = {i: f32(*s) if weights is None else tensor(weights, *s, scale=0.006) for i, s in shapes.items()}
    values = {i: reals(i, *s) if weights is None else stored(weights, i, *s) for i, s in shapes.items()}
    return types, values


def laid_out(types: dict[int, TensorType], count: int) -> tuple[TensorType | None, ...]:
    return tuple(types.get(i) for i in range(count))


def plain(
    op: str,
    name: str,
    batch: int = 2,
    time: int = 5,
    depth: int = 7,
    units: int = 9,
    weights: DType | None = None,
    constant: bool = True,
    **attrs: object,
) -> Case:
    """A row of an RNN of one direction."""
    x = (time, batch, depth) if attrs.get("time_major") else (batch, time, depth)
    x = (batch, depth) if op == "RNN" else x
    types, values = factors({1: (units, depth), 2: (units, units)}, weights)
    types |= {0: f32(*x), 3: f32(units), 4: f32(batch, units)}
    values |= {3: reals(3, units)}
    return Case(
        op, f"{'float' if weights is None else f'hybrid {weights}'} {name}", laid_out(types, 5),
        (f32(*x[:-1], units),), dict(attrs), values if constant else {}, {} if constant else values,
        low=-1, high=1, variables=(4,),
    )  # fmt: skip


def both(
    op: str,
    name: str,
    batch: int = 2,
    time: int = 4,
    depth: int = 7,
    forward: int = 5,
    backward: int | None = None,
    auxiliary: str = "",
    coupled: bool = False,
    peephole: bool = False,
    outputs: int | None = None,
    weights: DType | None = None,
    official: bool = True,
    reason: str = "",
    **attrs: object,
) -> Case:
    """A row of a layer of two directions; auxiliary is "", "input" (of the backward layer) or "crossed"."""
    attrs = {"time_major": True, **attrs}
    x = (time, batch, depth) if attrs["time_major"] else (batch, time, depth)
    rnn = op == "BIDIRECTIONAL_SEQUENCE_RNN"
    backward = backward or (forward + 1 if rnn else forward)
    shapes: dict[int, tuple[int, ...]] = {}
    reals_at: dict[int, tuple[int, ...]] = {}
    states: dict[int, tuple[int, ...]] = {}
    for k, cells in enumerate((forward, backward)):
        size = outputs or cells
        if rnn:
            shapes |= {1 + 4 * k: (cells, depth), 2 + 4 * k: (cells, cells)}
            reals_at[3 + 4 * k], states[4 + 4 * k] = (cells,), (batch, cells)
            if auxiliary == "crossed":
                shapes[10 + k] = (cells, depth)
            continue
        first = 1 + 17 * k
        for g in range(coupled, 4):
            shapes |= {first + g: (cells, depth), first + 4 + g: (cells, size)}
            reals_at[first + 11 + g] = (cells,)
            if peephole and g != 2:
                shapes[first + 8 + min(g, 2)] = (cells,)
            if auxiliary == "crossed":
                shapes[40 + 4 * k + g] = (cells, depth)
        if outputs:
            shapes[first + 15], reals_at[first + 16] = (outputs, cells), (outputs,)
        states |= {35 + 2 * k: (batch, size), 36 + 2 * k: (batch, cells)}
    types, values = factors(shapes, weights)
    for i, s in reals_at.items():
        types[i], values[i] = f32(*s), reals(i, *s)
    types |= {0: f32(*x), **{i: f32(*s) for i, s in states.items()}}
    if auxiliary:
        types[9 if rnn else 39] = f32(*x)
    sizes = [outputs or forward, outputs or backward]
    made = [sum(sizes)] if attrs.get("merge_outputs") else sizes
    return Case(
        op, f"{'float' if weights is None else f'hybrid {weights}'} {name}", laid_out(types, 12 if rnn else 48),
        tuple(f32(*x[:-1], m) for m in made), attrs, values, low=-1, high=1, variables=tuple(states),
        official=official, reason=reason,
    )  # fmt: skip


def gated(name: str, time: int = 4, batch: int = 2, depth: int = 5, outputs: int = 6, constant: bool = True) -> Case:
    """A row of a GRU."""
    joined = depth + outputs
    shapes = (
        (time, batch, depth),
        (batch, outputs),
        (2 * outputs, joined),
        (2 * outputs,),
        (outputs, joined),
        (outputs,),
    )
    values = {i: reals(i, *shapes[i]) for i in range(2, 6)}
    return Case(
        "UNIDIRECTIONAL_SEQUENCE_GRU", name, tuple(f32(*s) for s in shapes),
        (f32(time, batch, outputs), f32(batch, outputs)), {}, values if constant else {}, {} if constant else values,
        low=-1, high=1, official=False, reason="the official Python runtime does not register its custom GRU",
    )  # fmt: skip


LSTM, RNN = "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN"
BEYOND = "batch first and merged, the official kernel steps through the state by the merged width, out of its bounds"
AGAIN = "time first, the official kernel with integer weights walks the sequence once for each step"
ALIKE = "the official kernel checks the weights of both directions against the sizes of each"
CASES = [
    *(
        basic(name, batch, depth, outputs, quantized)
        for quantized in (False, True)
        for name, batch, depth, outputs in (("plain", 2, 7, 5), ("of one", 1, 1, 1), ("wide", 1, 40, 33))
    ),
    basic("another activation", activation="RELU6"),
    *(
        case
        for op in ("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN")
        for case in (
            plain(op, "plain"),
            plain(op, "of one", 1, 1, 1, 1),
            plain(op, "wide", 1, 3, 33, 40),
            plain(op, "computed weights", constant=False),
            *(plain(op, f"activation {a}", fused_activation_function=a)
              for a in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1", "SIGN_BIT")),
            *(plain(op, f"{'asymmetric' if asymmetric else 'symmetric'}", weights=w,
                    asymmetric_quantize_inputs=asymmetric) for w in (INT8, UINT8) for asymmetric in (False, True)),
        )
    ),
    plain("UNIDIRECTIONAL_SEQUENCE_RNN", "time major", time_major=True),
    plain("UNIDIRECTIONAL_SEQUENCE_RNN", "time major", time_major=True, weights=INT8),
    *(
        case
        for op in (LSTM, RNN)
        for case in (
            both(op, "plain"),
            both(op, "merged", merge_outputs=True),
            both(op, "batch first", time_major=False),
            both(op, "batch first, merged, one", time_major=False, merge_outputs=True, batch=1),
            both(op, "stacked", auxiliary="input"),
            both(op, "crossed", auxiliary="crossed", merge_outputs=True),
            both(op, "batch first", time_major=False, weights=INT8),
            both(op, "batch first, crossed, asymmetric", time_major=False, weights=INT8, auxiliary="crossed",
                 asymmetric_quantize_inputs=True),
            both(op, "merged", weights=UINT8, merge_outputs=True, official=op == LSTM, reason=AGAIN),
        )
    ),
    both(LSTM, "batch first, merged", time_major=False, merge_outputs=True, official=False, reason=BEYOND),
    both(LSTM, "sizes of their own", backward=8, merge_outputs=True, official=False, reason=ALIKE),
    both(LSTM, "coupled, peephole", coupled=True, peephole=True, cell_clip=0.6),
    both(LSTM, "projection", outputs=3, peephole=True, proj_clip=0.3, auxiliary="crossed"),
    both(LSTM, "projection", outputs=3, peephole=True, weights=INT8, merge_outputs=True),
    narrow("plain"),
    narrow("clips", cell_clip=0.5, proj_clip=0.3),
    narrow("of one", 1, 1, 1, 1),
    narrow("wide", 1, 33, 40, 20),
    gated("plain"),
    gated("of one", 1, 1, 1, 1),
    gated("computed weights", constant=False),
    gated("wide", 3, 1, 33, 20),
]  # fmt: skip
