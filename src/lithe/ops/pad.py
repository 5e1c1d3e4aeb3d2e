"""Operators that put a border around a tensor: PAD, PADV2 and MIRROR_PAD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr, select
from lithe.ops.layout import PLAIN, Movement, known_integers, zero, zeros
from lithe.ops.op import Axes, Site, register
from lithe.types import Shape

Borders = list[tuple[int, int]]  # (elements before, elements after) for each axis


def _borders(values: list[int]) -> Borders:
    return list(zip(values[::2], values[1::2], strict=True))


def known_borders(site: Site) -> Borders | None:
    """The checked borders of input 1 when it is a constant, else None."""
    x, paddings = site.input(0), site.input(1)
    site.require(paddings.shape == (x.rank, 2), f"must have shape [{x.rank}, 2] for {x}, is {paddings}", 1)
    values = known_integers(site, 1)
    if values is None:
        return None
    site.require(min(values, default=0) >= 0, f"must not be negative, are {values}", 1)
    return _borders(values)


def padded_shape(site: Site) -> list[Shape]:
    x, borders = site.input(0), known_borders(site)
    if borders is None:
        return [(None,) * x.rank]
    return [tuple(d + before + after for d, (before, after) in zip(x.shape, borders, strict=True))]


def running_borders(x: np.ndarray, paddings: np.ndarray) -> Borders:
    borders = _borders([int(v) for v in paddings.reshape(-1)])
    if any(min(pair) < 0 for pair in borders):
        raise ExecutionError(f"paddings must not be negative, are {borders}")
    return borders


def zero_value(site: Site) -> int:
    """What stands for 0.0: the zero point of a quantized tensor."""
    return site.quantization(site.outputs[0], "output")[1] if site.quantized else 0


def nothing(site: Site, dtype: np.dtype) -> Any:
    """The element that stands for 0.0, "" of strings."""
    return dtype.type(zero_value(site)) if site.quantized else zeros((), dtype)[()]


def merged(shape: Shape, borders: Borders) -> tuple[list[int], Borders]:
    """The same padding of fewer axes: an axis without border joins the one before it.

    >>> merged((1, 4, 5, 3), [(0, 0), (1, 1), (2, 0), (0, 0)])
    ([4, 15], [(1, 1), (6, 0)])
    """
    sizes: list[int] = []
    pairs: Borders = []
    for d, pair in zip(shape, borders, strict=True):
        if pairs and pair == (0, 0):
            sizes[-1] *= d
            pairs[-1] = (pairs[-1][0] * d, pairs[-1][1] * d)
        elif pairs and pairs[-1] == (0, 0) and sizes[-1] == 1:
            sizes[-1], pairs[-1] = d, pair
        else:
            sizes.append(d)
            pairs.append(pair)
    return sizes, pairs


def pad(b: Builder, x: Buffer, y: Buffer, borders: Borders, value: Any) -> None:
    """Copies x into the middle of y and fills each border: no element of y is written twice."""
    sizes, pairs = merged(x.shape, borders)
    rank = len(sizes)
    full = [d + before + after for d, (before, after) in zip(sizes, pairs, strict=True)]
    source, target = x.viewed(tuple(sizes)), y.viewed(tuple(full))
    starts = [before for before, _ in pairs]
    with b.nest(tuple(sizes), "parallel") as i:
        b.store(target, tuple(v + s for v, s in zip(i, starts, strict=True)), source[i])
    for axis in range(rank):  # borders of this axis: inside the earlier axes' middle, over all of the later axes
        for first, count in ((0, pairs[axis][0]), (pairs[axis][0] + sizes[axis], pairs[axis][1])):
            if not count:
                continue
            offsets = [*starts[:axis], first, *([0] * (rank - axis - 1))]
            with b.nest((*sizes[:axis], count, *full[axis + 1 :]), "parallel") as i:
                b.store(target, tuple(v + s for v, s in zip(i, offsets, strict=True)), value)


@register
class Pad(Movement):
    """x with zeros around it: paddings[a] = (elements before, elements after) along axis a."""

    name, code = "PAD", 34
    keeps_scale = True
    named_axes = Axes(rows=(1,))
    operands = (("input", "paddings"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64 int16 int8"
    infer = padded_shape

    def evaluate(site: Site, x: np.ndarray, paddings: np.ndarray) -> list[np.ndarray]:
        return [np.pad(x, running_borders(x, paddings), constant_values=nothing(site, x.dtype))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        borders = _borders([int(v) for v in site.constant(1).reshape(-1)])
        pad(b, xs[0], ys[0], borders, zero(ys[0].dtype, zero_value(site)))


@register
class PadWith(Movement):
    """x with a given value around it (stored as the elements are)."""

    name, code = "PADV2", 60
    keeps_scale = True
    named_axes = Axes(rows=(1,))
    operands = (("input", "paddings", "constant_values?"), ("output",))
    types = f"T I T? -> T: T= {PLAIN}; I= int32 int64 int16 int8"

    def infer(site: Site) -> list[Shape]:
        if site.has(2):
            value, y = site.input(2), site.outputs[0]
            site.require(value.size == 1, f"must have one element, is {value}", 2)
            if site.quantized and value.quantization is not None:
                same = site.quantization(value, "constant_values") == site.quantization(y, "output")
                site.require(same, "must have the output's scale and zero point", 2)
        return padded_shape(site)

    def evaluate(site: Site, x: np.ndarray, paddings: np.ndarray, value: np.ndarray | None = None) -> list[np.ndarray]:
        fill = nothing(site, x.dtype) if value is None else value.reshape(())[()]
        return [np.pad(x, running_borders(x, paddings), constant_values=fill)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        if len(xs) < 3 or xs[2] is None:
            Pad.lower(b, site, xs, ys)
            return
        borders = _borders([int(v) for v in site.constant(1).reshape(-1)])
        pad(b, xs[0], ys[0], borders, xs[2].viewed((1,))[0])


@register
class MirrorPad(Movement):
    """x with its own elements mirrored around it; SYMMETRIC repeats the edge element, REFLECT does not."""

    name, code = "MIRROR_PAD", 100
    keeps_scale = True
    named_axes = Axes(rows=(1,))
    operands = (("input", "paddings"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        mode: str = "REFLECT"

    def infer(site: Site) -> list[Shape]:
        site.require(site.attrs.mode in ("REFLECT", "SYMMETRIC"), f"mode {site.attrs.mode} is unknown")
        shape = padded_shape(site)
        for axis, pair in enumerate(known_borders(site) or []):
            most = site.input(0).shape[axis] - (site.attrs.mode == "REFLECT")
            site.require(max(pair) <= max(most, 0), f"{pair} on axis {axis} is more than the {most} to mirror", 1)
        return shape

    def evaluate(site: Site, x: np.ndarray, paddings: np.ndarray) -> list[np.ndarray]:
        borders, reflect = running_borders(x, paddings), site.attrs.mode == "REFLECT"
        for axis, pair in enumerate(borders):
            if max(pair) > max(x.shape[axis] - reflect, 0):
                raise ExecutionError(f"paddings {pair} are more than axis {axis} of size {x.shape[axis]} can mirror")
        return [np.pad(x, borders, mode="reflect" if reflect else "symmetric")]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = xs[0], ys[0]
        borders = _borders([int(v) for v in site.constant(1).reshape(-1)])
        edge = 0 if site.attrs.mode == "REFLECT" else 1

        def source(v: Expr, size: int, before: int, after: int) -> Expr:
            at = v - before
            if before:
                at = select(at < 0, -at - edge, at)
            if after:
                at = select(at >= size, (2 * size - 2 + edge) - at, at)
            return at

        b.compute(y, lambda *i: x[tuple(source(v, d, *p) for v, d, p in zip(i, x.shape, borders, strict=True))])
