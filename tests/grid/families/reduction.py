"""Operators that compute one element from many."""

from __future__ import annotations

import numpy as np

from lithe.ops.op import dtype_named
from lithe.types import TensorType
from tests.grid.draw import Draw, Trial
from tests.grid.families.registry import generates

ORDERED = {"REDUCE_MAX", "REDUCE_MIN"}


@generates("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL")
def reduction(d: Draw) -> Trial:
    shape = d.shape(least=1, empty=d.op in ("SUM", "REDUCE_ANY", "REDUCE_ALL"))
    rank = len(shape)
    axes = d.subset(rank, least=0 if d.chance(0.05) else 1)
    keep = d.chance(0.5)
    x = d.type(d.inputs[0], shape)
    low, high = (
        (0.5, 1.5) if d.op == "REDUCE_PROD" and x.dtype.is_float else (-3, 3) if d.op == "REDUCE_PROD" else (-100, 100)
    )
    values = d.values(x, low, high, d.op in ORDERED)
    if x.dtype.is_float:
        values = np.where(np.isnan(values), np.zeros((), x.dtype.numpy), values)  # its order is nobody's rule
    value = d.operand(x, values)
    out = tuple(1 if a in axes else s for a, s in enumerate(shape) if keep or a not in axes)
    scale = None
    if x.quantization:
        count = np.prod([shape[a] for a in axes]) if d.op == "SUM" else 1
        scale = x.quantization.scale[0] * d.log_uniform(0.4, 1.5) * max(float(np.sqrt(count)), 1)
    y = d.type(d.outputs[0], out, like=x if d.op in ORDERED else None, scale=scale)
    if d.chance(0.2):
        y = d.type(d.outputs[0], out, like=x)
    written = [d.signed(a, rank) for a in axes]
    if written and d.chance(0.1):
        written.append(written[0])
    return d.trial([value, d.index(d.inputs[1], np.array(written, np.int64))], [y], {"keep_dims": keep})


@generates("ARG_MAX", "ARG_MIN")
def place(d: Draw) -> Trial:
    shape = d.shape(least=1, empty=False)
    axis = d.integer(0, len(shape) - 1)
    x = d.type(d.inputs[0], shape)
    values = d.values(x, -3, 3)
    if d.chance(0.5) and x.dtype.is_float:
        values = np.round(values)
    written = np.array(d.signed(axis, len(shape)))
    out = dtype_named(d.outputs[0])
    return d.trial(
        [d.operand(x, values), d.index(d.inputs[1], written.reshape(d.choice(((), (1,)))))],
        [TensorType(out, shape[:axis] + shape[axis + 1 :])],
        {"output_type": out},
    )


@generates("CUMSUM")
def running_sum(d: Draw) -> Trial:
    shape = d.shape(least=1)
    x = d.data(d.inputs[0], shape, low=-100, high=100)
    axis = d.signed(d.integer(0, len(shape) - 1), len(shape))
    attrs = {"exclusive": d.chance(0.5), "reverse": d.chance(0.5)}
    return d.trial([x, d.index(d.inputs[1], np.array(axis))], [x.type], attrs)
