"""Sums of many tensors, and along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, quantize_real, requantize
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr
from lithe.ops.op import Axes, Op, Site, register
from lithe.ops.precision import FLOATS, in_float32, is_half, is_rescaled
from lithe.types import FLOAT32, INT32, DType, Shape

TERMS = 8  # operands of ADD_N that one loop adds up


@register
class AddN(Op):
    """y = the sum of all inputs, which have one shape; of quantized ones and 16-bit floats, a float32 sum."""

    name, code = "ADD_N", 106
    operands = (("input", "inputs*"), ("output",))
    types = f"T T* -> T: {FLOATS} int32 int8q"

    def infer(site: Site) -> list[Shape]:
        site.require(len(site.inputs) >= 2, f"needs two inputs, has {len(site.inputs)}")
        shape = site.input(0).shape
        for i in range(1, len(site.inputs)):
            site.require(site.input(i).shape == shape, f"must have shape {list(shape)}, is {site.input(i)}", i)
        return [shape]

    def evaluate(site: Site, *xs: np.ndarray) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            return [np.asarray(_total(site)(*xs), site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        whole = is_rescaled(site, AddN.types) or is_half(ys[0].dtype)
        terms = len(xs) if whole else TERMS
        b.elementwise(ys[0], _total(site), *xs[:terms])
        for start in range(terms, len(xs), TERMS):
            b.elementwise(ys[0], _total(site), ys[0], *xs[start : start + TERMS])


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _total(site: Site) -> Callable[..., Any]:
    def total(first: Any, *rest: Any) -> Any:
        for x in rest:
            first = first + x
        return first

    y = site.outputs[0]
    if not is_rescaled(site, AddN.types):
        return in_float32(total, y.dtype)
    scale, zero = site.quantization(y)
    pairs = [site.quantization(site.input(i)) for i in range(len(site.inputs))]
    ratios = [(F(s) / F(scale), z) for s, z in pairs]

    def stored(*xs: Any) -> Any:
        real = total(*(cast(cast(x, INT32) - z, FLOAT32) * ratio for x, (ratio, z) in zip(xs, ratios, strict=True)))
        return quantize_real(real, zero, y.dtype.minimum, y.dtype.maximum, y.dtype)

    return stored


@register
class Cumsum(Op):
    """y[k] = x[0] + ... + x[k] along one axis; exclusive: without x[k]; reverse: from the end.

    Quantized inputs are summed in int32, 16-bit floats in float32.
    """

    name, code = "CUMSUM", 128
    named_axes = Axes(numbers=1)
    operands = (("input", "axis"), ("output",))
    types = f"T int32 -> T: {FLOATS} int32 int64 int8q"

    @dataclass(frozen=True)
    class Attrs:
        exclusive: bool = False
        reverse: bool = False

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        known = site.known(1)
        if known is not None:
            site.axis(int(known.reshape(())), x.rank)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        place = site.axis(int(axis.reshape(())), x.ndim)
        along = np.moveaxis(x, place, 0)
        along = along[::-1] if site.attrs.reverse else along
        wide, element, finish = _running(site)
        with np.errstate(all="ignore"):
            total = np.cumsum(element(along), 0, dtype=wide.numpy)
        if site.attrs.exclusive:
            total = np.concatenate([np.zeros_like(total[:1]), total[:-1]])
        total = total[::-1] if site.attrs.reverse else total
        total = np.asarray(finish(total), x.dtype)
        return [np.ascontiguousarray(np.moveaxis(total, 0, place))]

    def lowers(site: Site) -> bool:
        return site.known(1) is not None

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        shape = site.input(0).shape
        axis = site.axis(int(site.constant(1).reshape(())), len(shape))
        length = shape[axis]
        folded = (math.prod(shape[:axis]), length, math.prod(shape[axis + 1 :]))
        x, y = xs[0].viewed(folded), ys[0].viewed(folded)
        exclusive = site.attrs.exclusive

        def place(k: Expr | int) -> Expr | int:
            return length - 1 - k if site.attrs.reverse else k

        if y.size == 0:
            return
        wide, element, finish = _running(site)
        if wide == y.dtype:
            with b.loop(folded[0], "parallel") as o:
                with b.loop(folded[2], "parallel") as i:
                    b.store(y, (o, place(0), i), 0 if exclusive else x[o, place(0), i])
                with b.loop(length - 1) as k, b.loop(folded[2], "parallel") as i:
                    term = x[o, place(k) if exclusive else place(k + 1), i]
                    b.store(y, (o, place(k + 1), i), y[o, place(k), i] + term)
            return
        with b.nest((folded[0], folded[2]), "parallel") as (o, i):
            total = b.variable(0, "total", wide)
            with b.loop(length) as k:
                after = b.variable(total[()] + element(x[o, place(k), i]), "after")
                b.store(y, (o, place(k), i), finish(total[()] if exclusive else after[()]))
                b.store(total, (), after[()])


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _running(site: Site) -> tuple[DType, Callable[[Any], Any], Callable[[Any], Any]]:
    """(type of the sum, what is summed of an element, what is stored for a sum)"""
    y = site.outputs[0]
    if not is_rescaled(site, Cumsum.types):
        wide = FLOAT32 if is_half(y.dtype) else y.dtype
        return wide, lambda v: cast(v, wide), lambda total: cast(total, y.dtype)
    (scale, zero), (out_scale, out_zero) = site.quantization(site.input(0)), site.quantization(y)
    ratio, ends = F(scale) / F(out_scale), (y.dtype.minimum, y.dtype.maximum)
    return (
        INT32, lambda v: cast(v, INT32) - zero, lambda total: requantize(total, ratio, out_zero, *ends, y.dtype)
    )  # fmt: skip
