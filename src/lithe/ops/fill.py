"""Operators that make tensors from a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, select
from lithe.ops.layout import PLAIN, Movement, fill, integers, known_integers, vector_length, zero, zeros
from lithe.ops.op import Op, Site, register
from lithe.types import Shape


@register
class Fill(Movement):
    """A tensor of the given shape that holds one value everywhere."""

    name, code = "FILL", 94
    operands = (("dims", "value"), ("output",))
    types = f"I T -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        rank = vector_length(site, 0)
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        wanted = known_integers(site, 0)
        if wanted is None:
            return [(None,) * rank]
        site.require(min(wanted, default=0) >= 0, f"must not be negative, are {wanted}", 0)
        return [tuple(wanted)]

    def evaluate(site: Site, dims: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        wanted = integers(dims)
        if min(wanted, default=0) < 0:
            raise ExecutionError(f"dims must not be negative, are {wanted}")
        return [np.full(wanted, value.reshape(()), value.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        fill(b, ys[0], xs[1].viewed((1,))[0])


@register
class ZerosLike(Movement):
    """Zeros in the shape and type of x."""

    name, code = "ZEROS_LIKE", 93
    of_shapes = True
    types = f"T -> T: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [zeros(x.shape, x.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        fill(b, ys[0], zero(ys[0].dtype))


@register
class Range(Op):
    """start, start + delta, start + 2 delta, ... up to but without limit; its length depends on the values."""

    name, code = "RANGE", 96
    operands = (("start", "limit", "delta"), ("output",))
    types = "T T T -> T: float32 int32 int64"

    def infer(site: Site) -> list[Shape]:
        for i in range(3):
            site.require(site.rank(i, 0).rank == 0, "must be a scalar", i)
        values = [site.known(i) for i in range(3)]
        if any(v is None for v in values):
            return [(None,)]
        count = _steps(*values)
        site.require(count is not None, "must not be zero, and must lead from start to limit", 2)
        return [(count,)]

    def evaluate(site: Site, start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> list[np.ndarray]:
        count = _steps(start, limit, delta)
        if count is None:
            raise ExecutionError(f"delta {delta} does not lead from start {start} to limit {limit}")
        if count > MOST_ELEMENTS:
            raise ExecutionError(f"a range of {count} elements is more than the {MOST_ELEMENTS} allowed")
        result = np.empty(count, start.dtype)
        if start.dtype.kind == "f":
            value = start.reshape(())[()]
            for i in range(count):  # added up one by one, as the official kernel does
                result[i] = value
                value = value + delta.reshape(())[()]
        else:
            result[:] = int(start) + int(delta) * np.arange(count)
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        start, delta = site.constant(0), site.constant(2)
        values = Range.evaluate(site, start, site.constant(1), delta)[0]
        table = b.constant(values, "range")
        b.compute(ys[0], lambda i: table[i])


MOST_ELEMENTS = 1 << 28


def _steps(start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> int | None:
    first, last, step = (v.reshape(())[()] for v in (start, limit, delta))
    if not ((step > 0 and first <= last) or (step < 0 and first >= last)):
        return None
    if start.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            count = np.abs((last - first) / step)
        return math.ceil(count) if math.isfinite(count) else None
    return -(-abs(int(last) - int(first)) // abs(int(step)))


@register
class OneHot(Movement):
    """y[..., k, ...] = on where indices[...] == k, else off; the new axis k has size `depth`."""

    name, code = "ONE_HOT", 85
    operands = (("indices", "depth", "on_value", "off_value"), ("output",))
    types = f"I int32 T T -> T: T= {PLAIN}; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        axis: int = -1

    def infer(site: Site) -> list[Shape]:
        indices = site.input(0)
        axis = site.axis(site.attrs.axis, indices.rank + 1)
        for i in (1, 2, 3):
            site.require(site.input(i).size == 1, f"must have one element, is {site.input(i)}", i)
        depth = known_integers(site, 1)
        site.require(depth is None or depth[0] >= 0, f"must not be negative, is {depth}", 1)
        return [(*indices.shape[:axis], depth[0] if depth else None, *indices.shape[axis:])]

    def evaluate(
        site: Site, indices: np.ndarray, depth: np.ndarray, on: np.ndarray, off: np.ndarray
    ) -> list[np.ndarray]:
        (count,) = integers(depth)
        if count < 0:
            raise ExecutionError(f"depth must not be negative, is {count}")
        axis = site.attrs.axis % (indices.ndim + 1)
        along = np.arange(count).reshape([-1 if a == axis else 1 for a in range(indices.ndim + 1)])
        hot = np.expand_dims(indices, axis) == along
        return [np.where(hot, on.reshape(()), off.reshape(())).astype(on.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        shape = ys[0].shape
        axis = site.attrs.axis % len(shape)
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        indices = xs[0].viewed((outer, inner))
        on, off = xs[2].viewed((1,))[0], xs[3].viewed((1,))[0]
        y = ys[0].viewed((outer, shape[axis], inner))
        b.compute(y, lambda o, k, i: select(indices[o, i].to(INDEX).equals(k), on, off))
