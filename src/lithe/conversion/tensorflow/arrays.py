"""Operators that the front end writes itself: constants, shapes, and what takes a shape, which may be open."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.parts import line
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.tensorflow.known import KNOWN
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.tensorflow.values import Counted, Value, counted, numbers, sizes_of, written
from lithe.ir.graph import Tensor
from lithe.passes.deflex import RULES
from lithe.passes.deflex.gradients import repeated_axes
from lithe.types import FLOAT32, INT32, STRING


@own("Const")
def constant(t: Told) -> Tensor:
    from tensorflow import make_ndarray

    array = make_ndarray(t.operation.get_attr("value"))
    return t.b.constant(array.astype(object) if array.dtype.kind in "OSU" else array, t.type_of_output().dtype)


@own("NoOp", "Assert", "PrintV2", "Print")
def nothing(t: Told) -> Sequence[Value]:
    """What checks and reports has no place in a model on a device."""
    return t.values[: len(t.node.outputs)]


@own("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "CheckNumerics", "PlaceholderWithDefault")
def identity(t: Told) -> Sequence[Value]:
    return t.values[: len(t.node.outputs)]


@own("EnsureShape")
def ensured(t: Told) -> Value:
    """The same, where the shape is known to be the wanted one; of what nothing was known, it is now."""
    (value,), wanted = t.values, t.attribute("shape", ())
    if isinstance(value, Tensor) and value in t.program.unranked:
        t.require(min(wanted, default=0) >= 0)
        t.program.shape_is(value, wanted)
    have = _shape(value)
    fits = len(wanted) == len(have) and all(w in (-1, n) for w, n in zip(wanted, have, strict=True))
    t.require(fits, f"the shape {list(have)} where {list(wanted)} is wanted")
    return value


@own("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def normalize_batch(t: Told) -> Sequence[Tensor]:
    """What is handed on to the gradient: mean and variance, and memory that is not needed."""
    t.write()
    results = RULES[t.definition.op](t)
    assert not isinstance(results, Tensor)
    y, mean, variance, *handed = results
    kept = [mean, variance, t.b.constant(np.zeros(0), FLOAT32)]
    return [y, mean, variance, *kept[: len(handed)]]  # type: ignore[list-item]


# shapes


def _tensor(t: Told, i: int = 0) -> Tensor:
    return written(t.b, t.values[i])


@own("Shape", "ShapeN")
def shape_of(t: Told) -> Sequence[Value]:
    dtype = t.attribute("out_type", INT32)
    return [counted(t.b, list(_shape(v)), dtype) for v in t.values]


def _shape(value: Value) -> tuple[int, ...]:
    return value.numbers.shape if isinstance(value, Counted) else value.type.shape  # type: ignore[union-attr]


@own("Size")
def size(t: Told) -> Value:
    return counted(t.b, math.prod(_shape(t.values[0])), t.attribute("out_type", INT32))


@own("Rank")
def rank(t: Told) -> Value:
    return t.b.constant(len(_shape(t.values[0])))


def _one(made: Tensor | Sequence[Tensor | None]) -> Tensor:
    """The result of a rule that has one."""
    (tensor,) = [made] if isinstance(made, Tensor) else made
    assert tensor is not None
    return tensor


# other shapes of the same elements


@own("Reshape")
def reshape(t: Told) -> Value:
    value, wanted = t.values[0], list(sizes_of(t.values[1], "a shape that is computed from data"))
    count = math.prod(_shape(value))
    if -1 in wanted:
        rest = math.prod(n for n in wanted if n != -1)
        t.require(rest > 0 and count % rest == 0, f"a reshape of {list(_shape(value))} to {wanted}")
        wanted[wanted.index(-1)] = count // rest
    t.require(math.prod(wanted) == count, f"a reshape of {list(_shape(value))} to {wanted}")
    return _reshaped(t, wanted)


def _reshaped(t: Told, shape: Sequence[int]) -> Value:
    """Back to a shape that the elements had before, they are what they were."""
    value = t.values[0]
    if isinstance(value, Counted):
        return Counted(value.numbers.reshape(shape), value.dtype)
    x = written(t.b, value)
    before = _before_reshape(t, x)
    return before if before is not None and before.type.shape == tuple(shape) else t.b.reshape(x, shape)


def _before_reshape(t: Told, x: Tensor) -> Tensor | None:
    return next((n.inputs[0] for n in reversed(t.b.nodes) if x in n.outputs and n.op.name == "RESHAPE"), None)


@own("ExpandDims")
def expand(t: Told) -> Value:
    shape = list(_shape(t.values[0]))
    (axis,) = sizes_of(t.values[1], "an axis that is computed from data")
    shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
    return _reshaped(t, shape)


@own("Squeeze")
def squeeze(t: Told) -> Value:
    shape = _shape(t.values[0])
    axes = {int(a) % len(shape) for a in t.attribute("squeeze_dims", ())} or {i for i, n in enumerate(shape) if n == 1}
    t.require(
        all(shape[a] == 1 for a in axes), f"axes {sorted(axes)} of {list(shape)} are dropped, which are not all 1"
    )
    return _reshaped(t, [n for i, n in enumerate(shape) if i not in axes])


@own("Transpose")
def transpose(t: Told) -> Tensor:
    x = _tensor(t)
    return t.b.transpose(x, [p % x.type.rank for p in sizes_of(t.values[1], "an order that is computed from data")])


# made for a shape


@own("Fill")
def fill(t: Told) -> Tensor:
    shape, value = sizes_of(t.values[0]), _tensor(t, 1)
    if value.type.dtype == STRING or (is_fixed(shape) and value.data is not None):
        return t.b("FILL", t.b.vector(shape), value, dtype=value.type.dtype)
    return t.b.broadcast(t.b.reshape(value, [1] * len(shape)), shape)


@own("BroadcastTo")
def broadcast(t: Told) -> Tensor:
    return t.b.broadcast(_tensor(t), sizes_of(t.values[1]))


@own("Range")
def numbers_between(t: Told) -> Value:
    """start + i step, in number as many as the limit allows: an open one if that is open."""
    if not any(isinstance(v, Counted) for v in t.values):
        t.write()
        return _one(RULES["Range"](t))
    bounds = [numbers(v) for v in t.values]
    t.require(all(n is not None for n in bounds), "a range between numbers that are computed from data")
    start, limit, step = (int(n) for n in bounds)  # type: ignore[arg-type]
    count = -((start - limit) // step)
    t.require(not is_open(abs(start)), "a range that starts at an open size")
    made = line(t.b, count)
    if step != 1:
        made = t.b("MUL", made, t.b.constant(step))
    if start:
        made = t.b("ADD", made, t.b.constant(start))
    return t.b.cast(made, t.type_of_output().dtype)


@own("StridedSlice")
def strided_slice(t: Told) -> Value:
    """An end at the end of an open axis is left out."""
    x, begin, end, step = t.values
    known = [numbers(v) for v in t.values]
    if isinstance(x, Counted) and all(n is not None for n in known):
        return counted(t.b, KNOWN["StridedSlice"](t.attributes, *known), x.dtype)
    bits = {k: t.attribute(f"{k}_mask", 0) for k in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    if isinstance(end, Counted) and not bits["ellipsis"] and not bits["new_axis"]:
        ends = [int(n) for n in end.numbers]
        for axis, n in enumerate(ends):
            if is_open(n) and n == _shape(x)[axis]:
                bits["end"] |= 1 << axis
                ends[axis] = 0
        end = counted(t.b, ends, end.dtype)
    t.values = [x, begin, end, step]
    t.write()
    masks = {f"{k}_mask": v for k, v in bits.items()}
    return t("STRIDED_SLICE", t.node.inputs[0], *(t.int32(i) for i in t.inputs[1:]), **masks)


@own("Slice")
def slice_(t: Told) -> Value:
    """A size of -1 is all that follows."""
    if all(numbers(v) is not None for v in t.values) and isinstance(t.values[0], Counted):
        return counted(t.b, KNOWN["Slice"](t.attributes, *(numbers(v) for v in t.values)), t.values[0].dtype)
    begin, size = (numbers(v) for v in t.values[1:])
    if begin is not None and size is not None:
        x = _tensor(t)
        places = zip(begin, size, x.type.shape, strict=True)
        wanted = [have - int(b) if n in (-1, have - int(b)) else int(n) for b, n, have in places]
        return t.b.slice(x, [int(b) for b in begin], wanted)
    t.write()
    return t("SLICE", t.inputs[0], *(t.int32(i) for i in t.inputs[1:]))


@own("BroadcastGradientArgs")
def summed_axes(t: Told) -> Sequence[Tensor]:
    a, b = (sizes_of(v) for v in t.values)
    return [t.b.constant(axes, t.type_of_output().dtype) for axes in repeated_axes(a, b)]


# products, which front ends share


@own("Einsum")
def einsum(t: Told) -> Tensor:
    return matrices.einsum(t.b, t.attribute("equation", ""), *(written(t.b, v) for v in t.values))


@own("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def product(t: Told) -> Tensor:
    """A constant matrix on the right is weights."""
    t.write()
    x, y = t.inputs
    if y.data is None or y.type.rank != 2 or t.attribute("adj_x", False) or x.type.dtype != FLOAT32:
        return _one(RULES["BatchMatMulV2"](t))
    return matrices.dense(t.b, x, y if t.attribute("adj_y", False) else t.b.transpose(y, (1, 0)))


@own("MatMul")
def matrix_product(t: Told) -> Tensor:
    """Rows that were put together for it stay apart: the layer does that by itself."""
    t.write()
    x, y = t.inputs
    if y.data is None or t.attribute("transpose_a", False) or x.type.dtype != FLOAT32:
        return _one(RULES["MatMul"](t))
    weights = y if t.attribute("transpose_b", False) else t.b.transpose(y, (1, 0))
    before = _before_reshape(t, x)
    if before is not None and before.type.rank > 2 and before.type.shape[-1] == x.type.shape[-1]:
        return t.b.reshape(matrices.dense(t.b, before, weights), (x.type.shape[0], weights.type.shape[0]))
    return matrices.dense(t.b, x, weights)


@own("Erf", "Erfc")
def formula(t: Told) -> Tensor:
    """Under its name, by which it is recognised in what it is part of."""
    return t.b.formula(t.definition.op, _tensor(t))
