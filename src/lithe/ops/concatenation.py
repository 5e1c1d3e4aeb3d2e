"""Operators that join tensors along an axis or cut one into pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import activate, activation_range, clamp
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const
from lithe.ops.layout import PLAIN, Movement, integers, known_integers
from lithe.ops.op import Axes, Site, register
from lithe.types import Shape, TensorType


def around(shape: Shape, axis: int) -> tuple[int, int]:
    """The number of elements before and after an axis: shape as [outer, shape[axis], inner]."""
    return math.prod(shape[:axis]), math.prod(shape[axis + 1 :])


def rescaling(site: Site, i: int) -> np.ndarray | None:
    """The 256 results for the stored values of uint8 input i, None when it has the output's scale and zero point.

    Source: TensorFlow Lite, ConcatenationWithScaling: round(x * s + b) + zero_point in float32, halves away from 0.
    """
    x, y = site.input(i), site.outputs[0]
    if x.quantization is None or y.quantization is None or x.dtype.name != "uint8":
        return None
    (scale, zero_point), (out_scale, out_zero_point) = site.quantization(x), site.quantization(y, "output")
    if (scale, zero_point) == (out_scale, out_zero_point):
        return None
    factor = np.float32(scale) * (np.float32(1) / np.float32(out_scale))
    real = np.arange(256, dtype=np.float32) * factor + np.float32(-zero_point) * factor
    rounded = np.trunc(real + np.copysign(np.float32(0.5), real)).astype(np.int64)
    return np.clip(rounded + out_zero_point, 0, 255).astype(np.uint8)


@register
class Concatenation(Movement):
    """The inputs one after another along an axis.

    Quantized inputs must have the output's scale and zero point, but uint8 ones are rescaled.
    """

    name, code = "CONCATENATION", 2
    keeps_scale = True
    named_axes = Axes(joins=True, attribute="axis")
    operands = (("inputs*",), ("output",))
    types = f"T* -> T: {PLAIN}"
    activations = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")

    @dataclass(frozen=True)
    class Attrs:
        axis: int = 0
        fused_activation_function: str = "NONE"

    def infer(site: Site) -> list[Shape]:
        first = site.input(0)
        axis = site.axis(site.attrs.axis, first.rank)
        activation = site.attrs.fused_activation_function
        site.require(activation in Concatenation.activations, f"cannot fuse the activation {activation}")
        activated = activation == "NONE" or first.dtype.name == "float32" or site.quantized
        site.require(activated, f"the fused activation {activation} needs float32 or a quantized type")
        total = 0
        for i in range(len(site.inputs)):
            x = site.input(i)
            same = x.rank == first.rank and all(
                a == axis or p == q for a, (p, q) in enumerate(zip(x.shape, first.shape, strict=True))
            )
            site.require(same, f"{x} and {first} must agree on every axis but {axis}", i)
            total += x.shape[axis]
            if site.quantized and x.quantization is not None and x.dtype.name != "uint8":
                pair = x.quantization.scale, x.quantization.zero_point
                wanted = site.outputs[0].quantization
                site.require(
                    pair == (wanted.scale, wanted.zero_point),
                    f"{x.dtype} must have the output's scale and zero point {wanted.scale} {wanted.zero_point}, has "
                    f"{pair[0]} {pair[1]}",
                    i,
                )
            rescaling(site, i)
        return [(*first.shape[:axis], total, *first.shape[axis + 1 :])]

    def evaluate(site: Site, *parts: np.ndarray) -> list[np.ndarray]:
        tables = [rescaling(site, i) for i in range(len(parts))]
        parts = tuple(p if t is None else t[p] for p, t in zip(parts, tables, strict=True))
        return [_activated(site, np.concatenate(parts, site.attrs.axis))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (y,) = ys
        axis = site.attrs.axis % len(y.shape)
        outer, inner = around(y.shape, axis)
        whole = y.viewed((outer, y.shape[axis] * inner))
        column = 0
        for i, x in enumerate(xs):
            part = x.viewed((outer, x.shape[axis] * inner))
            table = rescaling(site, i)
            entries = None if table is None else b.constant(table, "rescaled")
            with b.nest(part.shape, "parallel") as (o, k):
                value = part[o, k] if entries is None else entries[part[o, k].to(INDEX)]
                b.store(whole, (o, k + column), _activated(site, value))
            column += part.shape[1]


def _activated(site: Site, value: Any) -> Any:
    activation, y = site.attrs.fused_activation_function, site.outputs[0]
    if activation == "NONE":
        return value
    if y.dtype.is_float:
        return activate(value, activation)
    low, high = activation_range(activation, *site.quantization(y, "output"), y.dtype)
    if isinstance(value, np.ndarray):
        return np.clip(value, low, high).astype(value.dtype)
    return clamp(value, Const(low, y.dtype), Const(high, y.dtype))


@register
class Pack(Movement):
    """Tensors of one shape stacked along a new axis."""

    name, code = "PACK", 83
    keeps_scale = True
    operands = (("values*",), ("output",))
    types = f"T* -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        values_count: int = 0
        axis: int = 0

    def infer(site: Site) -> list[Shape]:
        first = site.input(0)
        site.require(
            len(site.inputs) == site.attrs.values_count,
            f"values_count is {site.attrs.values_count}, but there are {len(site.inputs)} inputs",
        )
        for i in range(len(site.inputs)):
            site.require(site.input(i).shape == first.shape, f"{site.input(i)} must have the shape of {first}", i)
        axis = site.axis(site.attrs.axis, first.rank + 1)
        return [(*first.shape[:axis], len(site.inputs), *first.shape[axis:])]

    def evaluate(site: Site, *values: np.ndarray) -> list[np.ndarray]:
        return [np.stack(values, site.attrs.axis)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (y,) = ys
        outer, inner = around(y.shape, site.attrs.axis % len(y.shape))
        whole = y.viewed((outer, len(xs), inner))
        for n, x in enumerate(xs):
            part = x.viewed((outer, inner))
            with b.nest(part.shape, "parallel") as (o, k):
                b.store(whole, (o, n, k), part[o, k])


def cut(b: Builder, x: Buffer, ys: tuple[Buffer, ...], axis: int) -> None:
    """Copies consecutive pieces of x along an axis to the outputs."""
    outer, inner = around(x.shape, axis)
    whole = x.viewed((outer, x.shape[axis] * inner))
    column = 0
    for y in ys:
        part = y.viewed((outer, y.size // max(1, outer)))
        start = column
        b.compute(part, lambda o, k, start=start: whole[o, k + start])
        column += part.shape[1]


@register
class Unpack(Movement):
    """The slices of x along an axis, each without that axis."""

    name, code = "UNPACK", 88
    keeps_scale = True
    operands = (("value",), ("outputs*",))
    types = f"T -> T*: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        num: int = 0
        axis: int = 0

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        axis = site.axis(site.attrs.axis, x.rank)
        count = site.attrs.num
        site.require(x.shape[axis] == count, f"num is {count}, but axis {axis} of {x} has size {x.shape[axis]}")
        site.require(len(site.outputs) == count, f"num is {count}, but there are {len(site.outputs)} outputs")
        return [(*x.shape[:axis], *x.shape[axis + 1 :])] * count

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        axis = site.attrs.axis
        return [np.asarray(np.take(x, i, axis), x.dtype) for i in range(x.shape[axis])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        cut(b, xs[0], ys, site.attrs.axis % len(xs[0].shape))


def _pieces(site: Site, x: TensorType, axis: int | None, sizes: list[int] | None) -> list[Shape]:
    if axis is None:
        return [(None,) * x.rank] * len(site.outputs)
    if sizes is None:
        return [(*x.shape[:axis], None, *x.shape[axis + 1 :])] * len(site.outputs)
    return [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]


def _axis(site: Site, operand: int, rank: int) -> int | None:
    site.require(site.input(operand).size == 1, f"must have one element, is {site.input(operand)}", operand)
    axis = known_integers(site, operand)
    return None if axis is None else site.axis(axis[0], rank)


def _running_axis(axis: np.ndarray, x: np.ndarray) -> int:
    (value,) = integers(axis)
    if not -x.ndim <= value < x.ndim:
        raise ExecutionError(f"axis must be in [{-x.ndim}, {x.ndim}), is {value}")
    return value


@register
class Split(Movement):
    """x cut into num_splits equal pieces along an axis."""

    name, code = "SPLIT", 49
    keeps_scale = True
    named_axes = Axes(data=1, numbers=0)
    operands = (("split_dim", "value"), ("outputs*",))
    types = f"int32 T -> T*: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        num_splits: int = 0

    def infer(site: Site) -> list[Shape]:
        x, count = site.input(1), site.attrs.num_splits
        site.require(count > 0, f"num_splits must be positive, is {count}")
        site.require(len(site.outputs) == count, f"num_splits is {count}, but there are {len(site.outputs)} outputs")
        axis = _axis(site, 0, x.rank)
        if axis is not None:
            site.require(x.shape[axis] % count == 0, f"axis {axis} of {x} must be divisible by num_splits {count}", 1)
        return _pieces(site, x, axis, None if axis is None else [x.shape[axis] // count] * count)

    def evaluate(site: Site, axis: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
        at, count = _running_axis(axis, x), site.attrs.num_splits
        if x.shape[at] % count:
            raise ExecutionError(f"axis {at} of shape {list(x.shape)} must be divisible by num_splits {count}")
        return [np.array(p) for p in np.split(x, count, at)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        cut(b, xs[1], ys, integers(site.constant(0))[0] % len(xs[1].shape))


def _sizes(whole: int, sizes: list[int]) -> list[int] | None:
    """The sizes with their one -1 replaced, None when they do not add up."""
    if any(s < -1 for s in sizes) or sizes.count(-1) > 1:
        return None
    rest = whole - sum(s for s in sizes if s >= 0)
    done = [rest if s == -1 else s for s in sizes]
    return done if sum(done) == whole and rest >= 0 else None


@register
class SplitV(Movement):
    """x cut along an axis into pieces of the given sizes; one size may be -1, "what is left"."""

    name, code = "SPLIT_V", 102
    keeps_scale = True
    named_axes = Axes(numbers=2)
    operands = (("value", "size_splits", "split_dim"), ("outputs*",))
    types = f"T I int32 -> T*: T= {PLAIN}; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        num_splits: int = 0

    def infer(site: Site) -> list[Shape]:
        x, count = site.input(0), site.attrs.num_splits
        site.require(len(site.outputs) == count, f"num_splits is {count}, but there are {len(site.outputs)} outputs")
        site.require(site.rank(1, 0, 1).size == count, f"must have num_splits = {count} elements", 1)
        axis, sizes = _axis(site, 2, x.rank), known_integers(site, 1)
        if axis is not None and sizes is not None:
            wanted = sizes
            sizes = _sizes(x.shape[axis], wanted)
            site.require(sizes is not None, f"{wanted} do not add up to axis {axis} of {x}", 1)
        return _pieces(site, x, axis, sizes)

    def evaluate(site: Site, x: np.ndarray, size_splits: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        at = _running_axis(axis, x)
        sizes = _sizes(x.shape[at], integers(size_splits))
        if sizes is None:
            raise ExecutionError(f"size_splits {integers(size_splits)} do not add up to axis {at} of {list(x.shape)}")
        return [np.array(p) for p in np.split(x, np.cumsum(sizes)[:-1], at)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        cut(b, xs[0], ys, integers(site.constant(2))[0] % len(xs[0].shape))
