"""Operators that place elements by data: gathers, scatters, updates, and what is found in data."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ops.op import dtype_named
from lithe.types import TensorType
from tests.grid.draw import Draw, Operand, Trial
from tests.grid.families.movement import moved
from tests.grid.families.registry import generates


@generates("GATHER")
def gather(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=150, empty=False)
    axis = d.integer(0, len(shape) - 1)
    batch = d.integer(0, axis) if d.chance(0.3) else 0
    taken = (*shape[:batch], *d.shape(most=2, elements=8))
    if 0 in taken and d.chance(0.5):
        taken = (*shape[:batch], 2)
    indices = d.random.integers(0, shape[axis], taken)
    attrs = {"axis": d.signed(axis, len(shape)), "batch_dims": batch}
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], indices, 0.4)], attrs)


@generates("GATHER_ND")
def gather_nd(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=150, empty=False)
    depth = d.integer(1, len(shape))
    taken = d.shape(least=1, most=2, elements=10, empty=False)
    indices = np.stack([d.random.integers(0, s, taken) for s in shape[:depth]], -1)
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], indices, 0.3)])


@generates("SCATTER_ND")
def scatter(d: Draw) -> Trial:
    """Places may repeat: their updates add up, so floats are whole numbers here."""
    shape = d.shape(least=1, most=4, elements=150, empty=False)
    depth = d.integer(1, len(shape))
    taken = d.shape(least=1, most=2, elements=10, empty=False)
    indices = np.stack([d.random.integers(0, s, taken) for s in shape[:depth]], -1)
    t = d.type(d.inputs[1], (*taken, *shape[depth:]))
    updates = np.round(d.values(t, -20, 20)) if t.dtype.is_float else d.values(t, -20, 20)
    return moved(
        d, [d.index(d.inputs[0], indices, 0.3), d.operand(t, updates), d.index(d.inputs[2], np.array(shape))], like=1
    )


@generates("EMBEDDING_LOOKUP")
def lookup(d: Draw) -> Trial:
    shape = d.shape(least=2, most=3, empty=False)
    ids = d.index(d.inputs[0], d.random.integers(0, shape[0], d.integer(1, 9)), 0.2)
    word = d.inputs[1]
    t = d.channels(word, shape, 0) if word.endswith("q") and d.chance(0.7) else d.type(word, shape, zero=0)
    value = d.operand(t, d.any_values(t), word.endswith("q") or 0.3)
    if word.endswith("q"):
        return d.trial([ids, value], [d.type(d.outputs[0], ())], each=True, inferred=True)
    return moved(d, [ids, value], like=1)


@generates("DYNAMIC_UPDATE_SLICE")
def update(d: Draw) -> Trial:
    shape = d.shape(least=1, most=5, empty=False)
    part = tuple(d.integer(1, s) for s in shape)
    starts = np.array(
        [d.integer(-1, s) if d.chance(0.2) else d.integer(0, s - p) for s, p in zip(shape, part, strict=True)]
    )
    inputs = [d.moved(d.inputs[0], shape), d.moved(d.inputs[1], part), d.index(d.inputs[2], starts, 0.3)]
    return moved(d, inputs)


@generates("SPARSE_TO_DENSE")
def dense(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=200, empty=False)
    count = d.integer(1, min(9, int(np.prod(shape))))
    flat = np.sort(d.random.permutation(int(np.prod(shape)))[:count])
    places = np.stack(np.unravel_index(flat, shape), -1)
    if len(shape) == 1 and d.chance(0.5):
        places = places.reshape(-1)
    value = d.moved(d.inputs[2], (count,) if d.chance(0.8) or places.ndim == 1 else ())
    inputs = [d.index(d.inputs[0], places, 0.5), d.index(d.inputs[1], np.array(shape)), value, d.moved(d.inputs[3], ())]
    return moved(d, inputs, like=2)


@generates("ONE_HOT")
def one_hot(d: Draw) -> Trial:
    shape = d.shape(most=4, elements=60)
    depth = d.integer(1, 9)
    indices = d.random.integers(-2, depth + 2, shape)
    if dtype_named(d.inputs[0]).kind == "uint":
        indices = np.abs(indices)
    inputs = [d.index(d.inputs[0], indices, False), d.index(d.inputs[1], np.array(depth)),
              *[d.moved(d.inputs[i], ()) for i in (2, 3)]]  # fmt: skip
    return moved(d, inputs, {"axis": d.choice((-1, d.integer(0, len(shape))))}, like=2)


@generates("WHERE")
def where(d: Draw) -> Trial:
    t = d.type(d.inputs[0], d.shape(least=1))
    values = d.values(t, -2, 2)
    keep = d.random.random(t.shape) < 0.5
    return d.trial(
        [d.operand(t, np.where(keep, values, np.zeros((), t.dtype.numpy)))], [d.type(d.outputs[0], ())], inferred=True
    )


@generates("UNIQUE")
def unique(d: Draw) -> Trial:
    t = d.type(d.inputs[0], d.shape(least=1, most=1))
    values = d.values(t, -6, 6)
    if t.dtype.is_float:
        values = np.round(values)
    index = dtype_named(d.outputs[1])
    outputs = [d.type(d.outputs[0], ()), TensorType(index, ())]
    return d.trial([d.operand(t, values)], outputs, {"idx_out_type": index}, tolerance=0, inferred=True)


@generates("TOPK_V2")
def greatest(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, empty=False)
    t = d.type(d.inputs[0], shape)
    values = d.values(t, -9, 9)
    k = d.index(d.inputs[1], np.array(d.integer(0 if d.chance(0.05) else 1, shape[-1])))
    outputs = [d.type(d.outputs[0], (), like=t), d.type(d.outputs[1], ())]
    return d.trial([d.operand(t, values), k], outputs, tolerance=0, steps=0, inferred=True)


@generates("RANGE")
def numbers(d: Draw) -> Trial:
    t = d.type(d.inputs[0], ())
    count, start = d.integer(0 if d.chance(0.1) else 1, 40), d.integer(-50, 50)
    step: Any = (
        d.choice((1, 2, 3, -1, -4)) if not t.dtype.is_float else d.choice((0.5, 1, -0.25, 0.1, d.uniform(0.1, 3)))
    )
    limit = start + step * count - (0 if d.chance(0.5) else step / 3 if t.dtype.is_float else 0)
    inputs: list[Operand | None] = [d.operand(t, v, True) for v in (start, limit, step)]
    return d.trial(inputs, [d.type(d.outputs[0], ())], inferred=True)


@generates("BUCKETIZE")
def buckets(d: Draw) -> Trial:
    bounds = tuple(float(np.float32(b)) for b in np.sort(d.random.uniform(-50, 50, d.integer(1, 9))))
    t = d.type(d.inputs[0], d.shape())
    values = d.values(t, -60, 60)
    if d.chance(0.3) and t.dtype.is_float:
        values = np.asarray(d.random.choice(np.array(bounds), t.shape))
    return d.trial([d.operand(t, values)], [d.type(d.outputs[0], t.shape)], {"boundaries": bounds})


SEGMENTS = tuple(f"UNSORTED_SEGMENT_{kind}" for kind in ("PROD", "MAX", "SUM", "MIN"))


@generates("SEGMENT_SUM", *SEGMENTS)
def segments(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=200, empty=False)
    count = d.integer(1, 6)
    ids = d.random.integers(-1 if d.op in SEGMENTS and d.chance(0.2) else 0, count, shape[:1])
    if d.op == "SEGMENT_SUM":
        ids = np.sort(ids)
    t = d.type(d.inputs[0], shape)
    low, high = (0.5, 1.5) if t.dtype.is_float and d.op == "UNSORTED_SEGMENT_PROD" else (-9, 9)
    constant = d.op == "SEGMENT_SUM" or d.chance(0.3)
    inputs: list[Operand | None] = [d.operand(t, d.values(t, low, high)), d.index(d.inputs[1], ids, constant)]
    if d.op in SEGMENTS:
        inputs.append(d.index(d.inputs[2], np.array(count)))
    return d.trial(inputs, [d.type(d.outputs[0], ())], inferred=True)
