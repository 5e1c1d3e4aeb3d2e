"""Sums of many tensors, and along an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

TERMS = 8  # operands of ADD_N that one loop adds up


@register
class AddN(Op):
    """y = the sum of all inputs, which have one shape."""

    name, code = "ADD_N", 106
    operands = (("input", "inputs*"), ("output",))
    types = "T T* -> T: float32 int32"

    def infer(site: Site) -> list[Shape]:
        site.require(len(site.inputs) >= 2, f"needs two inputs, has {len(site.inputs)}")
        shape = site.input(0).shape
        for i in range(1, len(site.inputs)):
            site.require(site.input(i).shape == shape, f"must have shape {list(shape)}, is {site.input(i)}", i)
        return [shape]

    def evaluate(site: Site, *xs: np.ndarray) -> list[np.ndarray]:
        total = xs[0].copy()
        with np.errstate(all="ignore"):
            for x in xs[1:]:
                total += x
        return [total]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        def total(first: Expr, *rest: Expr) -> Expr:
            for x in rest:
                first = first + x
            return first

        b.elementwise(ys[0], total, *xs[:TERMS])
        for start in range(TERMS, len(xs), TERMS):
            b.elementwise(ys[0], total, ys[0], *xs[start : start + TERMS])


@register
class Cumsum(Op):
    """y[k] = x[0] + ... + x[k] along one axis; exclusive: without x[k]; reverse: from the end."""

    name, code = "CUMSUM", 128
    operands = (("input", "axis"), ("output",))
    types = "T int32 -> T: float32 int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        exclusive: bool = False
        reverse: bool = False

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        site.axis(int(site.constant(1).reshape(())), x.rank)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        along = np.moveaxis(x, int(axis.reshape(())), 0)
        along = along[::-1] if site.attrs.reverse else along
        with np.errstate(all="ignore"):
            total = np.cumsum(along, 0, dtype=x.dtype)
        if site.attrs.exclusive:
            total = np.concatenate([np.zeros_like(total[:1]), total[:-1]])
        total = total[::-1] if site.attrs.reverse else total
        return [np.ascontiguousarray(np.moveaxis(total, 0, int(axis.reshape(()))))]

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
        with b.loop(folded[0], "parallel") as o:
            with b.loop(folded[2], "parallel") as i:
                b.store(y, (o, place(0), i), 0 if exclusive else x[o, place(0), i])
            with b.loop(length - 1) as k, b.loop(folded[2], "parallel") as i:
                term = x[o, place(k) if exclusive else place(k + 1), i]
                b.store(y, (o, place(k + 1), i), y[o, place(k), i] + term)
