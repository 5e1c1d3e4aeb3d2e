"""Operators that keep a state between runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.types import INT8, INT16, INT32, INT64, UINT8, DType, TensorType
from tests.ops.cases import Case, f32, i8, tensor
from tests.ops.cases_convolution import drawn

STATES = (18, 19)
CLIPS = {"cell_clip": 0.7, "proj_clip": 0.3}


def reals(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, shape).astype(np.float32)


def stored(dtype: DType, seed: int, *shape: int) -> np.ndarray:
    """Weights of all values but the least."""
    return np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8).view(dtype.numpy)


def layer(
    name: str,
    batch: int = 2,
    time: int = 5,
    depth: int = 7,
    cells: int = 9,
    outputs: int | None = None,
    coupled: bool = False,
    peephole: bool = False,
    normalized: bool = False,
    projection_bias: bool = False,
    constant: bool = True,
    short: bool = False,
    diagonal: bool = False,
    weights: DType | None = None,
    op: str = "UNIDIRECTIONAL_SEQUENCE_LSTM",
    **attrs: object,
) -> Case:
    """A row of a float LSTM; `outputs` makes it project, `weights` is the type of integer ones."""
    size = cells if outputs is None else outputs
    x = f32(time, batch, depth) if attrs.get("time_major") else f32(batch, time, depth)
    x = f32(batch, depth) if op == "LSTM" else x

    def factor(*shape: int) -> TensorType:
        return f32(*shape) if weights is None else tensor(weights, *shape, scale=0.006)

    recurrent = f32(cells) if diagonal else factor(cells, size)
    inputs: list[TensorType | None] = [x, *[factor(cells, depth)] * 4, *[recurrent] * 4]
    inputs += [factor(cells) if peephole else None] * 3 + [f32(cells)] * 4
    inputs += [None if outputs is None else factor(size, cells), f32(size) if projection_bias else None]
    inputs += [f32(batch, size), f32(batch, cells)]
    if not short:
        inputs += [f32(cells) if normalized else None] * 4
    if coupled:
        for i in (1, 5, 9, 12, 20):
            if i < len(inputs):
                inputs[i] = None
    constants = {
        i: reals(i, *t.shape) if t.dtype.is_float else stored(t.dtype, i, *t.shape)
        for i, t in enumerate(inputs)
        if t is not None and i not in (0, *STATES)
    }
    given, values = (constants, {}) if constant else ({}, constants)
    return Case(
        op, f"{'float' if weights is None else f'hybrid {weights}'} {name}", tuple(inputs),
        (f32(*x.shape[:-1], size),), dict(attrs), given, values, low=-1, high=1, variables=STATES,
    )  # fmt: skip


def silent(case: Case) -> Case:
    """The layer in the state of its start, with an input of zeros."""
    return replace(case, values={i: np.zeros(case.inputs[i].shape, np.float32) for i in (0, *STATES)})


def stored_layer(
    name: str,
    batch: int = 2,
    time: int = 5,
    depth: int = 7,
    cells: int = 9,
    outputs: int | None = None,
    coupled: bool = False,
    peephole: bool = False,
    normalized: bool = False,
    projection_bias: bool = True,
    cell: int = -11,
    zero: int = -4,
    kind: DType = INT8,
    op: str = "UNIDIRECTIONAL_SEQUENCE_LSTM",
    **attrs: object,
) -> Case:
    """A row of an LSTM on integers; 2**cell is the scale of the cell state, `outputs` makes it project."""
    size = cells if outputs is None else outputs
    x = (time, batch, depth) if attrs.get("time_major") else (batch, time, depth)
    x = (batch, depth) if op == "LSTM" else x
    fine, zero = (1.0, zero) if kind == INT8 else (1 / 256, 0)
    weights, recurrent = tensor(INT8, cells, depth, scale=0.011), tensor(INT8, cells, size, scale=0.008)
    inputs: list[TensorType | None] = [tensor(kind, *x, scale=0.02 * fine, zero_point=zero and 5)]
    inputs += [weights] * 4 + [recurrent] * 4 + [tensor(INT16, cells, scale=3e-5) if peephole else None] * 3
    inputs += [tensor(INT32 if kind == INT8 else INT64, cells, scale=0.02 * 0.011 * fine)] * 4
    inputs += [None if outputs is None else tensor(INT8, size, cells, scale=0.009)]
    inputs += [tensor(INT32, size, scale=7e-5) if outputs is not None and projection_bias else None]
    state = tensor(kind, batch, size, scale=0.0078 * fine, zero_point=zero)
    inputs += [state, tensor(INT16, batch, cells, scale=2.0**cell)]
    inputs += [tensor(INT16, cells, scale=4e-5) if normalized else None] * 4
    if coupled:
        for i in (1, 5, 9, 12, 20):
            inputs[i] = None
    bias = 300_000 if normalized else 3000
    constants = {
        i: stored(t.dtype, i, *t.shape) if t.dtype == INT8 else drawn(t.dtype, *t.shape, spread=bias) + i
        for i, t in enumerate(inputs)
        if t is not None and i not in (0, *STATES)
    }
    for i in range(20, 24):
        if i in constants:
            constants[i] = np.random.default_rng(i).integers(8000, 32000, cells).astype(np.int16)
    y = tensor(kind, *x[:-1], size, scale=0.0078 * fine, zero_point=zero)
    sums = [tensor(INT16, 0, scale=s) if normalized else f32(0) for s in (0.0004, 0.0003, 0.0005, 0.0002)]
    hidden = state if outputs is None else tensor(INT8, scale=0.0071, zero_point=7)
    return Case(
        op, f"{kind} {name}", tuple(inputs), (y,), dict(attrs), constants,
        variables=STATES, intermediates=(*sums, TensorType(kind, (0,), hidden.quantization)), steps=0,
        official=kind == INT8, reason="only the official runtime for microcontrollers has int16, with other tables",
    )  # fmt: skip


def remembering(
    name: str,
    batch: int = 2,
    depth: int = 7,
    units: int = 5,
    memory: int = 6,
    rank: int = 1,
    kind: str = "float",
    bias: bool = True,
    activation: str = "RELU",
    constant: bool = True,
    weights: DType | None = None,
    asymmetric: bool = False,
) -> Case:
    """A row of an SVDF layer; kind is float, int16 or int8 (the type of the state), weights that of integer ones."""
    filters = units * rank
    shapes = ((batch, depth), (filters, depth), (filters, memory), (units,), (batch, filters * memory))
    if kind == "float":
        types, y = [f32(*s) for s in shapes], f32(batch, units)
    else:
        narrow = INT8 if kind == "int8" else INT16
        scales = (0.02, 0.01, 0.00003 if narrow == INT16 else 0.008, 0.0, 0.002 if narrow == INT16 else 0.1)
        zeros = (5, 0, 0, 0, -50 if narrow == INT8 else 0)
        dtypes = (INT8, INT8, narrow, INT32, narrow)
        types = [
            tensor(d, *s, scale=c or None, zero_point=z)
            for d, s, c, z in zip(dtypes, shapes, scales, zeros, strict=True)
        ]
        y = i8(batch, units, scale=0.05, zero_point=-128)
    spread = {1: 0, 2: 3000 if kind == "int16" else 0, 3: 3000}  # the official kernel's sums have 32 bits
    values = {i: drawn(types[i].dtype, *shapes[i], spread=spread[i]) for i in (1, 2, 3)}
    if weights is not None:
        for i in (1, 2):
            types[i], values[i] = tensor(weights, *shapes[i], scale=0.007), stored(weights, i, *shapes[i])
    given = tuple(None if i == 3 and not bias else t for i, t in enumerate(types))
    values = {i: v for i, v in values.items() if given[i] is not None}
    return Case(
        "SVDF", f"{kind if weights is None else f'hybrid {weights}'} {name}", given, (y,),
        {"rank": rank, "fused_activation_function": activation, "asymmetric_quantize_inputs": asymmetric},
        values if constant else {}, {} if constant else values, variables=(4,), steps=0,
        official=kind != "int8", reason="only the official runtime for microcontrollers has states of int8",
    )  # fmt: skip


def without_scales(case: Case) -> Case:
    """The row with biases that say nothing of their scales."""
    plain = tuple(replace(t, quantization=None) if t and t.dtype == INT32 else t for t in case.inputs)
    return replace(case, inputs=plain)


CASES = [
    layer("plain"),
    layer("one step of one", batch=1, time=1, depth=1, cells=1),
    layer("wide", batch=1, time=3, depth=33, cells=40, cell_clip=10.0),
    layer("twenty operands", short=True),
    layer("computed weights", constant=False),
    layer("coupled", coupled=True),
    layer("coupled, peephole, normalized", coupled=True, peephole=True, normalized=True),
    layer("peephole", peephole=True, **CLIPS),
    layer("normalized", normalized=True),
    layer("projection", outputs=4, projection_bias=True, **CLIPS),
    layer("everything", outputs=4, peephole=True, normalized=True, time_major=True, **CLIPS),
    layer("time major", time_major=True),
    *(
        layer(f"activation {a}", fused_activation_function=a)
        for a in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
    ),
    stored_layer("plain"),
    stored_layer("clip", cell_clip=4.0),
    stored_layer("one step of one", batch=1, time=1, depth=1, cells=1),
    stored_layer("wide", batch=1, time=3, depth=33, cells=40, cell=-12, zero=0),
    stored_layer("coupled, time major", coupled=True, time_major=True),
    stored_layer("peephole", peephole=True, cell=-10),
    stored_layer("projection", outputs=4),
    stored_layer("projection, clips", outputs=4, projection_bias=False, cell_clip=4.0, proj_clip=0.3),
    stored_layer("square projection, peephole", outputs=9, peephole=True, time_major=True),
    stored_layer("normalized", normalized=True),
    stored_layer("normalized, coupled, projection", normalized=True, coupled=True, outputs=5, cells=8),
    stored_layer("everything", normalized=True, peephole=True, outputs=9, proj_clip=0.5),
    stored_layer("plain", kind=INT16),
    stored_layer("coupled, peephole", kind=INT16, coupled=True, peephole=True, cell_clip=4.0),
    stored_layer("everything", kind=INT16, normalized=True, peephole=True, outputs=5, projection_bias=True),
    layer("diagonal", diagonal=True, diagonal_recurrent_tensors=True),
    layer("diagonal, peephole", diagonal=True, peephole=True, coupled=True, diagonal_recurrent_tensors=True),
    *(
        case
        for weights in (INT8, UINT8)
        for asymmetric in (False, True)
        for kind in (" asymmetric" if asymmetric else "",)
        for case in (
            layer(f"plain{kind}", weights=weights, asymmetric_quantize_inputs=asymmetric),
            layer(f"coupled, peephole, normalized{kind}", weights=weights, coupled=True, peephole=True,
                  normalized=True, asymmetric_quantize_inputs=asymmetric),
            layer(f"everything{kind}", weights=weights, outputs=4, peephole=True, normalized=True, time_major=True,
                  projection_bias=True, asymmetric_quantize_inputs=asymmetric, **CLIPS),
        )
    ),
    layer("wide", weights=INT8, batch=1, time=3, depth=33, cells=40),
    *(silent(layer(f"silent {a}", weights=INT8, asymmetric_quantize_inputs=a)) for a in (False, True)),
    layer("diagonal", weights=INT8, diagonal=True, diagonal_recurrent_tensors=True),
    layer("plain", op="LSTM"),
    layer("everything", op="LSTM", outputs=4, peephole=True, normalized=True, projection_bias=True, **CLIPS),
    layer("activation SIGN_BIT", op="LSTM", fused_activation_function="SIGN_BIT"),
    layer("plain", op="LSTM", weights=INT8),
    layer("asymmetric, projection", op="LSTM", weights=UINT8, outputs=4, asymmetric_quantize_inputs=True),
    stored_layer("plain", op="LSTM"),
    stored_layer("normalized, projection", op="LSTM", normalized=True, outputs=5),
    *(
        case
        for kind in ("float", "int16", "int8")
        for case in (
            remembering("plain", kind=kind),
            remembering("of rank 2", kind=kind, rank=2, bias=False),
            remembering("of one", batch=1, depth=1, units=1, memory=1, kind=kind),
            remembering("wide", batch=1, depth=40, units=33, memory=10, kind=kind),
            remembering("computed weights", kind=kind, constant=False),
        )
    ),
    *(remembering(f"activation {a}", activation=a) for a in ("NONE", "RELU6", "RELU_N1_TO_1", "TANH", "SIGN_BIT")),
    *(
        remembering(f"{'asymmetric' if asymmetric else 'symmetric'}", weights=weights, rank=2, asymmetric=asymmetric,
                    activation="NONE")
        for weights in (INT8, UINT8)
        for asymmetric in (False, True)
    ),
    stored_layer("another activation", fused_activation_function="RELU"),
    without_scales(stored_layer("biases without scales")),
]  # fmt: skip
