"""StableHLO's operators that have attributes of their own; the elementwise ones are with their likes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ops.op import dtype_named
from lithe.types import BOOL, TensorType
from tests.grid.draw import Draw, Operand, Trial
from tests.grid.families.movement import moved
from tests.grid.families.registry import generates

DIRECTIONS = tuple(f"STABLEHLO_COMPARISON_DIRECTION_{name}" for name in ("EQ", "NE", "GE", "GT", "LE", "LT"))


@generates("STABLEHLO_RESHAPE")
def reshape(d: Draw) -> Trial:
    shape = d.shape()
    x = d.moved(d.inputs[0], shape)
    wanted = d.choice((shape[::-1], (x.type.size,), (1, *shape), shape))
    return d.trial([x], [TensorType(x.type.dtype, tuple(wanted))], tolerance=0)


@generates("STABLEHLO_TRANSPOSE")
def transpose(d: Draw) -> Trial:
    shape = d.shape(least=1)
    return moved(d, [d.moved(d.inputs[0], shape)], {"permutation": tuple(map(int, d.random.permutation(len(shape))))})


@generates("STABLEHLO_CONCATENATE")
def concatenate(d: Draw) -> Trial:
    shape = d.shape(least=1)
    axis = d.integer(0, len(shape) - 1)
    sizes = [d.choice((1, 2, 3, shape[axis])) for _ in range(d.integer(1, 4))]
    inputs: list[Operand | None] = [d.moved(d.inputs[0], (*shape[:axis], s, *shape[axis + 1 :])) for s in sizes]
    return moved(d, inputs, {"dimension": axis})


@generates("STABLEHLO_BROADCAST_IN_DIM")
def broadcast(d: Draw) -> Trial:
    shape = d.shape(least=1)
    kept = d.subset(len(shape))
    x = d.moved(d.inputs[0], tuple(1 if d.chance(0.3) else shape[a] for a in kept))
    return d.trial([x], [TensorType(x.type.dtype, shape)], {"broadcast_dimensions": kept}, tolerance=0)


@generates("STABLEHLO_SLICE")
def cut(d: Draw) -> Trial:
    shape = d.shape(least=1, empty=False)
    starts = tuple(d.integer(0, s - 1) for s in shape)
    limits = tuple(d.integer(a, s) for a, s in zip(starts, shape, strict=True))
    strides = tuple(d.integer(1, 3) for _ in shape)
    attrs = {"start_indices": starts, "limit_indices": limits, "strides": strides}
    return moved(d, [d.moved(d.inputs[0], shape)], attrs)


@generates("STABLEHLO_DYNAMIC_SLICE", "STABLEHLO_DYNAMIC_UPDATE_SLICE")
def cut_by_data(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, empty=False)
    sizes = tuple(d.integer(1, s) for s in shape)
    word = d.inputs[-1].rstrip("*")
    least = 0 if dtype_named(word).kind == "uint" else -2
    starts = [d.index(word, np.array(d.integer(least, s + 1)), False) for s in shape]
    x = d.moved(d.inputs[0], shape)
    if d.op == "STABLEHLO_DYNAMIC_SLICE":
        return moved(d, [x, *starts], {"slice_sizes": sizes})
    return moved(d, [x, d.moved(d.inputs[1], sizes), *starts])


@generates("STABLEHLO_PAD")
def pad(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=100, empty=False)
    low, high = (tuple(d.integer(-1 if s > 3 and d.chance(0.2) else 0, 3) for s in shape) for _ in range(2))
    attrs = {"edge_padding_low": low, "edge_padding_high": high,
             "interior_padding": tuple(d.choice((0, 0, 1, 2)) for _ in shape)}  # fmt: skip
    return moved(d, [d.moved(d.inputs[0], shape), d.moved(d.inputs[1], ())], attrs)


@generates("DILATE")
def dilate(d: Draw) -> Trial:
    shape = d.shape(least=1, most=4, elements=100, empty=False)
    factors = np.array([d.choice((1, 1, 2, 3)) for _ in shape])
    return moved(d, [d.moved(d.inputs[0], shape), d.index("int32", factors), d.moved(d.inputs[2], ())])


@generates("STABLEHLO_CLAMP")
def clamp(d: Draw) -> Trial:
    shape = d.shape()
    x = d.data(d.inputs[1], shape, low=-50, high=50)
    bounds = [d.values(TensorType(x.type.dtype, d.choice(((), shape))), -40, 40) for _ in range(2)]
    with np.errstate(invalid="ignore"):
        low, high = np.minimum(*bounds), np.maximum(*bounds)
    shapes = [bounds[0].shape, bounds[1].shape] if bounds[0].shape == bounds[1].shape else [low.shape] * 2
    ends = [
        Operand(TensorType(x.type.dtype, s), np.asarray(v, x.type.dtype.numpy))
        for s, v in zip(shapes, (low, high), strict=True)
    ]
    return d.trial([ends[0], x, ends[1]], [x.type], tolerance=0)


@generates("STABLEHLO_AND", "STABLEHLO_OR")
def bits(d: Draw) -> Trial:
    shape = d.shape()
    return moved(d, [d.moved(d.inputs[0], shape), d.moved(d.inputs[1], shape)])


@generates("STABLEHLO_COMPARE")
def compare(d: Draw) -> Trial:
    shape = d.shape()
    pair = [d.data(word, shape, low=-2, high=2, special=True) for word in d.inputs]
    return d.trial(pair, [TensorType(BOOL, shape)], {"comparison_direction": d.choice(DIRECTIONS)})


@generates("STABLEHLO_CBRT")
def cube_root(d: Draw) -> Trial:
    x = d.data(d.inputs[0], d.shape(), low=-50, high=50, special=True)
    return d.trial([x], [x.type], each=True, tolerance=1e-4)


@generates("STABLEHLO_IOTA")
def iota(d: Draw) -> Trial:
    shape = d.shape(least=1, elements=100)
    return d.trial([], [TensorType(dtype_named(d.outputs[0]), shape)], {"iota_dimension": d.integer(0, len(shape) - 1)})


@generates("STABLEHLO_DOT_GENERAL")
def dot(d: Draw) -> Trial:
    batch = [d.integer(1, 3) for _ in range(d.integer(0, 2))]
    depth = [d.choice((1, 2, 5, 17)) for _ in range(d.integer(1, 2))]
    rows, columns = [d.choice((1, 3, 8))] * d.integer(0, 1), [d.choice((1, 2, 7))] * d.integer(0, 1)
    b, k = len(batch), len(depth)
    attrs: dict[str, Any] = {
        "lhs_batching_dimensions": tuple(range(b)), "rhs_batching_dimensions": tuple(range(b)),
        "lhs_contracting_dimensions": tuple(range(b + len(rows), b + len(rows) + k)),
        "rhs_contracting_dimensions": tuple(range(b, b + k)),
    }  # fmt: skip
    x = d.data(d.inputs[0], (*batch, *rows, *depth))
    y = d.data(d.inputs[1], (*batch, *depth, *columns))
    return d.trial([x, y], [d.type(d.outputs[0], ())], attrs, inferred=True)
