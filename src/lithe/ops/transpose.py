"""Operators that put elements into another order: TRANSPOSE and REVERSE_V2."""

from __future__ import annotations

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.layout import PLAIN, Movement, integers, known_integers, transpose, vector_length
from lithe.ops.op import Axes, Site, register
from lithe.types import Shape


@register
class Transpose(Movement):
    """Axis a of the result is axis perm[a] of x."""

    name, code = "TRANSPOSE", 39
    keeps_scale = True
    operands = (("input", "perm"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(vector_length(site, 1) == x.rank, f"must have one element for each axis of {x}", 1)
        order = known_integers(site, 1)
        if order is None:
            return [(None,) * x.rank]
        order = [site.axis(a, x.rank, "perm") for a in order]
        site.require(len(set(order)) == x.rank, f"must name each axis once, is {order}", 1)
        return [tuple(x.shape[a] for a in order)]

    def evaluate(site: Site, x: np.ndarray, perm: np.ndarray) -> list[np.ndarray]:
        order = [a + x.ndim if a < 0 else a for a in integers(perm)]
        if sorted(order) != list(range(x.ndim)):
            raise ExecutionError(f"perm must name each of {x.ndim} axes once, is {integers(perm)}")
        return [np.ascontiguousarray(x.transpose(order)).reshape([x.shape[a] for a in order])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        rank = len(xs[0].shape)
        transpose(b, xs[0], ys[0], [a % rank for a in integers(site.constant(1))])


@register
class Reverse(Movement):
    """x with the order of elements along some axes turned round."""

    name, code = "REVERSE_V2", 105
    keeps_scale = True
    named_axes = Axes(numbers=1)
    operands = (("input", "axis"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        vector_length(site, 1)
        axes = [site.axis(a, x.rank) for a in known_integers(site, 1) or []]
        site.require(len(set(axes)) == len(axes), f"must name each axis at most once, is {axes}", 1)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        axes = integers(axis)
        if any(not -x.ndim <= a < x.ndim for a in axes):
            raise ExecutionError(f"axis must be in [{-x.ndim}, {x.ndim}), is {axes}")
        return [np.ascontiguousarray(np.flip(x, tuple({a % x.ndim for a in axes}))).reshape(x.shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, shape = xs[0], xs[0].shape
        axes = {a % len(shape) for a in integers(site.constant(1))}
        b.compute(ys[0], lambda *i: x[tuple(shape[a] - 1 - v if a in axes else v for a, v in enumerate(i))])
