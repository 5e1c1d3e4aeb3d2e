"""Operators that keep a state between runs."""

from __future__ import annotations

import numpy as np

from lithe.types import INT8, INT16, INT32, TensorType
from tests.ops.cases import Case, f32, i8, tensor
from tests.ops.cases_convolution import drawn

STATES = (18, 19)
CLIPS = {"cell_clip": 0.7, "proj_clip": 0.3}


def reals(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, shape).astype(np.float32)


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
    **attrs: object,
) -> Case:
    """A row of a float LSTM; `outputs` makes it project."""
    size = cells if outputs is None else outputs
    x = f32(time, batch, depth) if attrs.get("time_major") else f32(batch, time, depth)
    inputs: list[TensorType | None] = [x, *[f32(cells, depth)] * 4, *[f32(cells, size)] * 4]
    inputs += [f32(cells) if peephole else None] * 3 + [f32(cells)] * 4
    inputs += [None if outputs is None else f32(size, cells), f32(size) if projection_bias else None]
    inputs += [f32(batch, size), f32(batch, cells)]
    if not short:
        inputs += [f32(cells) if normalized else None] * 4
    if coupled:
        for i in (1, 5, 9, 12, 20):
            if i < len(inputs):
                inputs[i] = None
    constants = {i: reals(i, *t.shape) for i, t in enumerate(inputs) if t is not None and i not in (0, *STATES)}
    given, values = (constants, {}) if constant else ({}, constants)
    return Case(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", f"float {name}", tuple(inputs), (f32(*x.shape[:2], size),), dict(attrs),
        given, values, low=-1, high=1, variables=STATES,
    )  # fmt: skip


def stored_layer(
    name: str,
    batch: int = 2,
    time: int = 5,
    depth: int = 7,
    cells: int = 9,
    coupled: bool = False,
    peephole: bool = False,
    cell: int = -11,
    zero: int = -4,
    **attrs: object,
) -> Case:
    """A row of an int8 LSTM; 2**cell is the scale of the cell state."""
    x = (time, batch, depth) if attrs.get("time_major") else (batch, time, depth)
    weights, recurrent = tensor(INT8, cells, depth, scale=0.011), tensor(INT8, cells, cells, scale=0.008)
    inputs: list[TensorType | None] = [i8(*x, scale=0.02, zero_point=5), *[weights] * 4, *[recurrent] * 4]
    inputs += [tensor(INT16, cells, scale=3e-5) if peephole else None] * 3
    inputs += [tensor(INT32, cells, scale=0.02 * 0.011)] * 4 + [None, None]
    state = i8(batch, cells, scale=0.0078, zero_point=zero)
    inputs += [state, tensor(INT16, batch, cells, scale=2.0**cell), *[None] * 4]
    if coupled:
        for i in (1, 5, 9, 12):
            inputs[i] = None
    constants = {
        i: drawn(t.dtype, *t.shape, spread=3000) + i
        for i, t in enumerate(inputs)
        if t is not None and i not in (0, *STATES)
    }
    for i in range(1, 9):
        if i in constants:
            constants[i] = np.random.default_rng(i).integers(-127, 128, constants[i].shape).astype(np.int8)
    y = i8(*x[:2], cells, scale=0.0078, zero_point=zero)
    return Case(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", f"int8 {name}", tuple(inputs), (y,), dict(attrs), constants,
        variables=STATES, intermediates=(*[f32(0)] * 4, i8(0, scale=0.0078, zero_point=zero)), steps=0,
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
) -> Case:
    """A row of an SVDF layer; kind is float, int16 or int8 (the type of the state)."""
    filters = units * rank
    shapes = ((batch, depth), (filters, depth), (filters, memory), (units,), (batch, filters * memory))
    if kind == "float":
        types, y = [f32(*s) for s in shapes], f32(batch, units)
    else:
        stored = INT8 if kind == "int8" else INT16
        scales = (0.02, 0.01, 0.00003 if stored == INT16 else 0.008, 0.0, 0.002 if stored == INT16 else 0.1)
        zeros = (5, 0, 0, 0, -50 if stored == INT8 else 0)
        dtypes = (INT8, INT8, stored, INT32, stored)
        types = [
            tensor(d, *s, scale=c or None, zero_point=z)
            for d, s, c, z in zip(dtypes, shapes, scales, zeros, strict=True)
        ]
        y = i8(batch, units, scale=0.05, zero_point=-128)
    spread = {1: 0, 2: 3000 if kind == "int16" else 0, 3: 3000}  # the official kernel's sums have 32 bits
    values = {i: drawn(types[i].dtype, *shapes[i], spread=spread[i]) for i in (1, 2, 3)}
    given = tuple(None if i == 3 and not bias else t for i, t in enumerate(types))
    values = {i: v for i, v in values.items() if given[i] is not None}
    return Case(
        "SVDF", f"{kind} {name}", given, (y,), {"rank": rank, "fused_activation_function": activation},
        values if constant else {}, {} if constant else values, variables=(4,), steps=0,
        official=kind != "int8", reason="only the official runtime for microcontrollers has states of int8",
    )  # fmt: skip


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
    *(remembering(f"activation {a}", activation=a) for a in ("NONE", "RELU6", "RELU_N1_TO_1")),
]  # fmt: skip
