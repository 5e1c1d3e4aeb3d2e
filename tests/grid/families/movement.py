"""Operators that move elements without looking at them: equal bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ops.op import dtype_named
from lithe.types import Shape, TensorType
from tests.grid.draw import Draw, Operand, Trial
from tests.grid.families.registry import generates


def moved(
    d: Draw, inputs: list[Operand | None], attrs: dict[str, Any] | None = None, like: int = 0, count: int = 1
) -> Trial:
    """The trial of an operator whose outputs have the type of input `like`, and shapes that follow."""
    source = inputs[like]
    assert source is not None
    words = [d.outputs[min(i, len(d.outputs) - 1)] for i in range(count)]
    outputs = [d.type(w, (), like=source.type) for w in words]
    return d.trial(inputs, outputs, attrs, tolerance=0, steps=0, inferred=True)


@generates("RESHAPE")
def reshape(d: Draw) -> Trial:
    shape = d.shape()
    x = d.moved(d.inputs[0], shape)
    wanted = list(d.choice((shape[::-1], (x.type.size,), (1, *shape), tuple(s for s in shape if s != 1), shape)))
    if 0 not in shape and wanted and d.chance(0.4):
        wanted[d.integer(0, len(wanted) - 1)] = -1
    if d.chance(0.3) and wanted not in ([], [0]):  # an attribute of one 0 means a scalar
        return moved(d, [x], {"new_shape": tuple(wanted)})
    return moved(d, [x, d.index("int32", np.array(wanted, np.int32))], {"new_shape": tuple(wanted)} if wanted else {})


@generates("SQUEEZE")
def squeeze(d: Draw) -> Trial:
    shape = d.shape(least=1)
    ones = [a for a, s in enumerate(shape) if s == 1]
    axes = [d.signed(ones[i], len(shape)) for i in d.subset(len(ones))]
    return moved(d, [d.moved(d.inputs[0], shape)], {"squeeze_dims": tuple(axes)})


@generates("EXPAND_DIMS")
def expand(d: Draw) -> Trial:
    shape = d.shape(most=5)
    axis = np.array(d.signed(d.integer(0, len(shape)), len(shape) + 1)).reshape(d.choice(((), (1,))))
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], axis)])


@generates("SHAPE", "RANK")
def sizes(d: Draw) -> Trial:
    out = dtype_named(d.outputs[0])
    attrs = {"out_type": out} if d.op == "SHAPE" else {}
    return d.trial([d.moved(d.inputs[0], d.shape())], [TensorType(out, ())], attrs, inferred=True)


@generates("BROADCAST_ARGS")
def broadcast_shapes(d: Draw) -> Trial:
    shape = d.shape(least=1)
    sides = [np.array(s, np.int64) for s in (shape, d.broadcast(shape))]
    if d.chance(0.5):
        sides.reverse()
    return d.trial(
        [d.index(d.inputs[i], side, 0.3) for i, side in enumerate(sides)],
        [d.type(d.outputs[0], (len(shape),))],
        inferred=True,
    )


@generates("BROADCAST_TO")
def broadcast_to(d: Draw) -> Trial:
    shape = d.shape(least=1)
    return moved(d, [d.moved(d.inputs[0], d.broadcast(shape)), d.index(d.inputs[1], np.array(shape))])


@generates("TILE")
def tile(d: Draw) -> Trial:
    shape = d.shape(least=1, elements=100)
    counts = [d.choice((1, 1, 2, 3, 0 if d.chance(0.1) else 1)) for _ in shape]
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], np.array(counts))])


@generates("FILL")
def fill(d: Draw) -> Trial:
    shape = d.shape()
    return moved(d, [d.index(d.inputs[0], np.array(shape, np.int64)), d.moved(d.inputs[1], ())], like=1)


@generates("TRANSPOSE")
def transpose(d: Draw) -> Trial:
    shape = d.shape(least=1)
    order = d.random.permutation(len(shape))
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], order)])


@generates("REVERSE_V2")
def reverse(d: Draw) -> Trial:
    shape = d.shape(least=1)
    first = d.integer(0, len(shape) - 1)
    axes = [d.signed(a, len(shape)) for a in range(first, d.integer(first, len(shape) - 1) + 1)]
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], np.array(axes if d.chance(0.4) else axes[:1]))])


@generates("REVERSE_SEQUENCE")
def reverse_sequence(d: Draw) -> Trial:
    shape = d.shape(least=2, empty=False)
    batch, sequence = (int(a) for a in d.random.permutation(len(shape))[:2])
    lengths = d.random.integers(0, shape[sequence] + 1, shape[batch])
    return moved(
        d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], lengths, 0.3)], {"seq_dim": sequence, "batch_dim": batch}
    )


@generates("CONCATENATION")
def concatenate(d: Draw) -> Trial:
    shape = d.shape(least=1)
    axis = d.integer(0, len(shape) - 1)
    first = d.type(d.inputs[0], shape)
    inputs: list[Operand | None] = []
    for _ in range(d.integer(1, 5)):
        t = d.type(d.inputs[0], _with(shape, axis, d.choice((1, 2, 3, 5, shape[axis]))), like=first)
        inputs.append(d.operand(t, d.any_values(t), 0.15))
    if all(x is not None and x.constant for x in inputs):
        inputs[0] = d.operand(first, d.any_values(first))
    return moved(d, inputs, {"axis": d.signed(axis, len(shape))})


def _with(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


@generates("PACK")
def pack(d: Draw) -> Trial:
    shape = d.shape(most=5)
    count = d.integer(1, 5)
    axis = d.signed(d.integer(0, len(shape)), len(shape) + 1)
    return moved(d, [d.moved(d.inputs[0], shape) for _ in range(count)], {"axis": axis, "values_count": count})


@generates("UNPACK")
def unpack(d: Draw) -> Trial:
    shape = d.shape(least=1, empty=False)
    axis = d.integer(0, len(shape) - 1)
    return moved(
        d, [d.moved(d.inputs[0], shape)], {"axis": d.signed(axis, len(shape)), "num": shape[axis]}, count=shape[axis]
    )


@generates("SPLIT")
def split(d: Draw) -> Trial:
    shape = d.shape(least=1, elements=150)
    axis, count = d.integer(0, len(shape) - 1), d.integer(1, 4)
    x = d.moved(d.inputs[1], _with(shape, axis, shape[axis] * count))
    return moved(d, [d.index("int32", np.array(d.signed(axis, len(shape)))), x], {"num_splits": count}, 1, count)


@generates("SPLIT_V")
def split_by_sizes(d: Draw) -> Trial:
    shape = d.shape(least=1)
    axis, count = d.integer(0, len(shape) - 1), d.integer(1, 4)
    cuts = np.sort(d.random.integers(0, shape[axis] + 1, count - 1))
    sizes = np.diff(np.concatenate([[0], cuts, [shape[axis]]]))
    if d.chance(0.3):
        sizes[d.integer(0, count - 1)] = -1
    inputs = [
        d.moved(d.inputs[0], shape),
        d.index(d.inputs[1], sizes),
        d.index("int32", np.array(d.signed(axis, len(shape)))),
    ]
    return moved(d, inputs, {"num_splits": count}, 0, count)


@generates("SLICE")
def box(d: Draw) -> Trial:
    shape = d.shape(least=1, most=5, empty=False)
    begin = np.array([d.integer(0, s - 1) for s in shape])
    size = np.array([d.integer(0 if d.chance(0.05) else 1, s - b) for s, b in zip(shape, begin, strict=True)])
    written = np.where((begin + size == shape) & (d.random.random(len(shape)) < 0.4), -1, size)
    first = d.index(d.inputs[1], begin, d.chance(0.7) or bool((written == -1).any()))
    return moved(d, [d.moved(d.inputs[0], shape), first, d.index(d.inputs[2], written)])


@generates("STRIDED_SLICE")
def strided(d: Draw) -> Trial:
    shape = d.shape(least=1, most=5, empty=False)
    count = d.integer(1, len(shape))
    begin, end, stride = [], [], []
    shrink = 0
    for axis, size in enumerate(shape[:count]):
        backwards, reach = d.chance(0.25), size + 2
        low, high = sorted((d.integer(-reach, reach), d.integer(-reach, reach)))
        step = d.choice((1, 1, 2, 3, 7))
        if d.chance(0.15):
            shrink |= 1 << axis
            low, high, step, backwards = d.integer(-size, size - 1), 0, 1, False
        begin.append(high if backwards else low)
        end.append(low if backwards else high)
        stride.append(-step if backwards else step)
    masks = {m: sum(1 << a for a in d.subset(count, 2)) if d.chance(0.4) else 0 for m in ("begin_mask", "end_mask")}
    attrs: dict[str, Any] = {**{k: v & ~shrink for k, v in masks.items()}, "shrink_axis_mask": shrink}
    rows = [np.array(v) for v in (begin, end, stride)]
    if d.chance(0.15) and len(shape) < 5:
        place = d.integer(0, count)
        rows = [np.insert(v, place, 1) for v in rows]
        attrs = {k: (v & ((1 << place) - 1)) | (v >> place) << (place + 1) for k, v in attrs.items()}
        attrs["new_axis_mask"] = 1 << place
    indices = [d.index(d.inputs[1 + i], v) for i, v in enumerate(rows)]
    return moved(d, [d.moved(d.inputs[0], shape), *indices], attrs)


def borders(d: Draw, shape: Shape, most: int = 3) -> np.ndarray:
    pairs = [[d.integer(0, most), d.integer(0, most)] if d.chance(0.6) else [0, 0] for _ in shape]
    return np.array(pairs, np.int64).reshape(len(shape), 2)


@generates("PAD", "PADV2")
def pad(d: Draw) -> Trial:
    shape = d.shape(least=1, most=5, elements=120)
    x = d.moved(d.inputs[0], shape)
    inputs: list[Operand | None] = [x, d.index(d.inputs[1], borders(d, shape))]
    if d.op == "PADV2":
        t = d.type(d.inputs[2], d.choice(((), (1,))), like=x.type)
        inputs.append(d.operand(t, d.any_values(t), 0.5))
    return moved(d, inputs)


@generates("MIRROR_PAD")
def mirror(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=120, empty=False)
    mode = d.choice(("REFLECT", "SYMMETRIC"))
    most = np.array(shape)[:, None] - (mode == "REFLECT")
    pads = np.minimum(borders(d, shape, 5), most)
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], pads)], {"mode": mode})


@generates("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def blocks(d: Draw) -> Trial:
    block = d.choice((1, 2, 2, 3, 4))
    batch, height, width, channels = (d.choice((1, 2, 3, 5)) for _ in range(4))
    shape = (batch, height, width, channels * block**2)
    if d.op == "SPACE_TO_DEPTH":
        shape = (batch, height * block, width * block, channels)
    return moved(d, [d.moved(d.inputs[0], shape)], {"block_size": block})


@generates("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND")
def batches(d: Draw) -> Trial:
    count = d.choice((1, 2, 2, 2))
    block = np.array([d.integer(1, 3) for _ in range(count)])
    inner = [d.integer(1, 5) for _ in range(count)]
    edges = borders(d, tuple(inner), 2)
    if d.op == "BATCH_TO_SPACE_ND":
        edges = np.minimum(edges, ((np.array(inner) * block - 1) // 2)[:, None])
        shape = (d.integer(1, 2) * int(block.prod()), *inner, d.integer(1, 5))
    else:
        edges[:, 1] += -(np.array(inner) + edges.sum(1)) % block
        shape = (d.integer(1, 2), *inner, d.integer(1, 5))
    return moved(d, [d.moved(d.inputs[0], shape), d.index(d.inputs[1], block), d.index(d.inputs[2], edges)])


@generates("MATRIX_DIAG", "MATRIX_SET_DIAG")
def diagonal(d: Draw) -> Trial:
    *outer, n = d.shape(least=1, most=4, elements=60, empty=False)
    if d.op == "MATRIX_DIAG":
        return moved(d, [d.moved(d.inputs[0], (*outer, n))])
    rows, columns = (n, n + d.integer(0, 3)) if d.chance(0.5) else (n + d.integer(0, 3), n)
    return moved(d, [d.moved(d.inputs[0], (*outer, rows, columns)), d.moved(d.inputs[1], (*outer, n))])


@generates("BITCAST")
def bitcast(d: Draw) -> Trial:
    source, target = dtype_named(d.inputs[0]), dtype_named(d.outputs[0])
    shape = d.shape(most=5)
    if target.bits > source.bits:
        shape = (*shape, target.bits // source.bits)
    x = d.operand(TensorType(source, shape), _bits(d, source.bytes, shape).view(source.numpy).reshape(shape))
    return d.trial([x], [TensorType(target, ())], tolerance=0, inferred=True)


def _bits(d: Draw, size: int, shape: Shape) -> np.ndarray:
    return d.random.integers(0, 256, int(np.prod(shape)) * size, dtype=np.uint8)
