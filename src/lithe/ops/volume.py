"""CONV_3D and CONV_3D_TRANSPOSE: filters over volumes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import ACTIVATION_BOUNDS, activate
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr
from lithe.ops.layout import integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.ops.padding import PADDINGS, placed, taps
from lithe.types import Shape


@dataclass(frozen=True)
class VolumeAttrs:
    padding: str = "SAME"
    stride_d: int = 1
    stride_w: int = 1
    stride_h: int = 1
    fused_activation_function: str = "NONE"
    dilation_d_factor: int = 1
    dilation_w_factor: int = 1
    dilation_h_factor: int = 1

    @property
    def strides(self) -> Shape:
        return self.stride_d, self.stride_h, self.stride_w

    @property
    def dilation(self) -> Shape:
        return self.dilation_d_factor, self.dilation_h_factor, self.dilation_w_factor


def _require(site: Site, channels: int, outputs: int, x: int) -> None:
    """The rules of both operators; the bias is input x + 1 where the filter comes first, else 2."""
    a, bias = site.attrs, max(2, x + 1)
    site.require(a.padding in PADDINGS, f"padding must be SAME or VALID, is {a.padding}")
    site.require(min(a.strides) >= 1, f"strides must be at least 1, are {a.strides}")
    site.require(min(a.dilation) >= 1, f"dilation factors must be at least 1, are {a.dilation}")
    site.require(a.fused_activation_function in ACTIVATION_BOUNDS, "cannot fuse this activation")
    for i in (x, 1):
        site.require(min(site.rank(i, 5).shape) >= 1, f"must not be empty, is {site.input(i)}", i)
    site.require(site.input(x).shape[4] == channels, f"must have {channels} channels, is {site.input(x)}", x)
    fits = not site.has(bias) or site.input(bias).shape == (outputs,)
    site.require(fits, f"must have {outputs} elements", bias)


def _placement(site: Site, sizes: Shape, kernel: Shape) -> tuple[Shape, Shape]:
    """(outputs, padding before the first) along each axis of a filter that slides over `sizes`."""
    a = site.attrs
    found = [placed(n, k, s, d, a.padding) for n, k, s, d in zip(sizes, kernel, a.strides, a.dilation, strict=True)]
    return tuple(count for count, _ in found), tuple(before for _, before in found)


def _start(b: Builder, y: Buffer, bias: Buffer | None) -> None:
    b.compute(y, lambda *i: bias[i[-1]] if bias is not None else 0.0)


def _finish(b: Builder, site: Site, y: Buffer) -> None:
    if site.attrs.fused_activation_function != "NONE":
        b.compute(y, lambda *i: activate(y[i], site.attrs.fused_activation_function))


@register
class Conv3D(Op):
    """y[n, z, r, c, o] = activation(bias[o] + the sum of x[n, z', r', c', k] * w[i, j, l, k, o] over i, j, l, k)"""

    name, code = "CONV_3D", 132
    weights_axis = 4
    operands = (("input", "filter", "bias?"), ("output",))
    types = "float32 float32 float32? -> float32"
    Attrs = VolumeAttrs

    def infer(site: Site) -> list[Shape]:
        x, w = site.rank(0, 5), site.rank(1, 5)
        _require(site, w.shape[3], w.shape[4], 0)
        size, _ = _placement(site, x.shape[1:4], w.shape[:3])
        site.require(min(size) >= 1, f"{w} does not fit in {x}", 1)
        return [(x.shape[0], *size, w.shape[4])]

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> list[np.ndarray]:
        size, before = _placement(site, x.shape[1:4], w.shape[:3])
        y = np.zeros((x.shape[0], *size, w.shape[4]), np.float32)
        for tap in np.ndindex(*w.shape[:3]):
            found = _taps(site, tap, size, x.shape[1:4], before)
            if found is not None:
                outputs, elements = found
                y[:, *outputs] += x[:, *elements] @ w[tap]
        return [activate(y if bias is None else y + bias, site.attrs.fused_activation_function)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, w, y = xs[0], xs[1], ys[0]
        limits, kernel = x.shape[1:4], w.shape[:3]
        _, before = _placement(site, limits, kernel)
        _start(b, y, xs[2] if len(xs) > 2 else None)
        with b.nest(y.shape[:4], "parallel") as (n, *place), b.nest(kernel) as tap:
            at = _corner(site, place, tap, before)
            with b.when(*_inside(at, limits)), b.loop(w.shape[3]) as k, b.loop(w.shape[4], "parallel") as o:
                b.store(y, (n, *place, o), y[n, *place, o] + x[n, *at, k] * w[*tap, k, o])
        _finish(b, site, y)


@register
class Conv3DTranspose(Op):
    """The transpose of CONV_3D in x: y[n, z', r', c', o] += x[n, z, r, c, k] * w[i, j, l, o, k], from the bias on."""

    name, code = "CONV_3D_TRANSPOSE", 141
    operands = (("output_shape", "filter", "input", "bias?"), ("output",))
    types = "int32 float32 float32 float32? -> float32"
    Attrs = VolumeAttrs

    def infer(site: Site) -> list[Shape]:
        w, x = site.rank(1, 5), site.rank(2, 5)
        _require(site, w.shape[4], w.shape[3], 2)
        site.require(site.rank(0, 1).size == 5, f"must have five elements, is {site.input(0)}", 0)
        wanted = known_integers(site, 0)
        if wanted is None:
            return [(None,) * 5]
        site.require(_fits(site, wanted, x.shape, w.shape), f"{wanted} does not lead to {x}", 0)
        return [tuple(wanted)]

    def evaluate(
        site: Site, shape: np.ndarray, w: np.ndarray, x: np.ndarray, bias: np.ndarray | None = None
    ) -> list[np.ndarray]:
        wanted = integers(shape)
        if not _fits(site, wanted, x.shape, w.shape):
            raise ExecutionError(f"output_shape {wanted} does not lead to an input of shape {list(x.shape)}")
        _, before = _placement(site, tuple(wanted[1:4]), w.shape[:3])
        y = np.zeros(wanted, np.float32)
        for tap in np.ndindex(*w.shape[:3]):
            found = _taps(site, tap, x.shape[1:4], tuple(wanted[1:4]), before)
            if found is not None:
                elements, outputs = found
                y[:, *outputs] += x[:, *elements] @ w[tap].T
        return [activate(y if bias is None else y + bias, site.attrs.fused_activation_function)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        w, x, y = xs[1], xs[2], ys[0]
        limits, kernel = y.shape[1:4], w.shape[:3]
        _, before = _placement(site, limits, kernel)
        _start(b, y, xs[3] if len(xs) > 3 else None)
        with b.loop(x.shape[0], "parallel") as n, b.nest(x.shape[1:4]) as place, b.nest(kernel) as tap:
            at = _corner(site, place, tap, before)
            with b.when(*_inside(at, limits)), b.loop(w.shape[3], "parallel") as o, b.loop(w.shape[4]) as k:
                b.store(y, (n, *at, o), y[n, *at, o] + x[n, *place, k] * w[*tap, o, k])
        _finish(b, site, y)


def _fits(site: Site, wanted: list[int], x: Shape, w: Shape) -> bool:
    """Whether CONV_3D leads from the wanted output to the shape of x."""
    if min(wanted) < 1:
        return False
    size, _ = _placement(site, tuple(wanted[1:4]), w[:3])
    return (wanted[0], *size, wanted[4]) == (*x[:4], w[3])


def _taps(site: Site, tap: Shape, count: Shape, sizes: Shape, before: Shape) -> tuple[tuple, tuple] | None:
    """(slices of the outputs, slices of the elements) that one tap of the filter pairs."""
    a = site.attrs
    pairs = [
        taps(c, n, t * d - p, s)
        for c, n, t, d, p, s in zip(count, sizes, tap, a.dilation, before, a.strides, strict=True)
    ]
    found = [p for p in pairs if p is not None]
    return (tuple(p[0] for p in found), tuple(p[1] for p in found)) if len(found) == 3 else None


def _corner(site: Site, place: Iterable[Expr], tap: Iterable[Expr], before: Shape) -> tuple[Expr, ...]:
    a = site.attrs
    return tuple(i * s + t * d - p for i, t, s, d, p in zip(place, tap, a.strides, a.dilation, before, strict=True))


def _inside(at: tuple[Expr, ...], limits: Shape) -> list[Expr]:
    return [c for i, n in zip(at, limits, strict=True) for c in (i >= 0, i < n)]
