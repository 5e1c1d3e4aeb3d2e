"""STABLEHLO_DOT_GENERAL and STABLEHLO_CONVOLUTION: operands are put into the order that the older operators have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import Buffer, Const, Expr
from lithe.ops.contraction import convolve
from lithe.ops.interior import Spread
from lithe.ops.layout import fill, transpose
from lithe.ops.op import Op, Site, register
from lithe.ops.padding import Window
from lithe.ops.reduce_window import Windows
from lithe.types import FLOAT32, DType, Shape

TYPES = """
T T -> T: float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64
T T -> float32: float16 bfloat16
T T -> int32: int8 int16
"""


def accumulator(dtype: DType) -> DType:
    """The type of sums: that of the result, float32 for floats of 16 bits."""
    return FLOAT32 if dtype.is_float and dtype.bits == 16 else dtype


def zero(dtype: DType) -> Const:
    return Const(0.0 if dtype.is_float else 0, dtype)


def ordered(b: Builder, x: Buffer, order: Sequence[int], name: str) -> Buffer:
    """x with its axes in another order: made at once of a constant, else in scratch memory (or x as it is)."""
    if list(order) == sorted(order):
        return x
    if x.values is not None:
        return b.constant(x.values.transpose(order), name)
    moved = b.scratch(x.dtype, tuple(x.shape[a] for a in order), name)
    transpose(b, x, moved, order)
    return moved


def product(b: Builder, x: Buffer, y: Buffer, z: Buffer) -> None:
    """z[n, m, o] = the sum over k of x[n, m, k] * y[n, o, k]"""
    (n, m, k), o, wide = x.shape, y.shape[1], accumulator(z.dtype)
    if n == 1 and 0 not in (m, k, o):
        c = Convolution(
            x.viewed((m, 1, 1, k)), y.viewed((o, 1, 1, k)), None, z.viewed((m, 1, 1, o)), (1, 1), (1, 1), (0, 0), 1,
            wide, lambda total, channel, pixel: total.to(z.dtype),
        )  # fmt: skip
        b.convolution(c)
        return
    with b.nest(z.shape, "parallel") as (i, row, column):
        total = b.reduce(zero(wide), (k,), lambda t, at: t + x[i, row, at].to(wide) * y[i, column, at].to(wide))
        b.store(z, (i, row, column), total.to(z.dtype))


@dataclass(frozen=True)
class Product:
    """The axes of both operands by their part: batch, kept, summed. The result has batch, left kept, right kept."""

    left: tuple[list[int], list[int], list[int]]
    right: tuple[list[int], list[int], list[int]]

    @staticmethod
    def of(site: Site) -> Product:
        parts = []
        for i, side in enumerate(("lhs", "rhs")):
            t = site.input(i)
            batch = list(getattr(site.attrs, f"{side}_batching_dimensions"))
            summed = list(getattr(site.attrs, f"{side}_contracting_dimensions"))
            named = [*batch, *summed]
            fits = len(set(named)) == len(named) and all(0 <= axis < t.rank for axis in named)
            site.require(fits, f"dimensions must be different axes of {t}, are {named}", i)
            parts.append((batch, [axis for axis in range(t.rank) if axis not in named], summed))
        x, y = site.input(0).shape, site.input(1).shape
        for part in (0, 2):
            pair = [x[a] for a in parts[0][part]], [y[a] for a in parts[1][part]]
            site.require(pair[0] == pair[1], f"sizes that go together differ: {pair[0]} and {pair[1]}")
        return Product(parts[0], parts[1])

    @property
    def orders(self) -> tuple[list[int], list[int]]:
        return [*self.left[0], *self.left[1], *self.left[2]], [*self.right[0], *self.right[1], *self.right[2]]

    def folded(self, x: Shape, y: Shape) -> tuple[Shape, Shape]:
        """The shapes of both operands with each part as one axis."""
        left, right = (
            tuple(math.prod(shape[a] for a in part) for part in parts)
            for shape, parts in ((x, self.left), (y, self.right))
        )
        return left, right


@register
class StablehloDotGeneral(Op):
    """z[batch, m, o] = the sum over k of x[batch, m, k] * y[batch, o, k], where each letter stands for any axes.

    Source: StableHLO, dot_general.
    """

    name, code = "STABLEHLO_DOT_GENERAL", 197
    operands = (("lhs", "rhs"), ("output",))
    types = TYPES + "float32 float32 -> float64"

    @dataclass(frozen=True)
    class Attrs:
        lhs_batching_dimensions: tuple[int, ...] = ()
        rhs_batching_dimensions: tuple[int, ...] = ()
        lhs_contracting_dimensions: tuple[int, ...] = ()
        rhs_contracting_dimensions: tuple[int, ...] = ()
        precision_config: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        p = Product.of(site)
        x, y = site.input(0).shape, site.input(1).shape
        return [tuple(x[a] for a in (*p.left[0], *p.left[1])) + tuple(y[a] for a in p.right[1])]

    def evaluate(site: Site, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        p, z = Product.of(site), site.outputs[0]
        wide = np.float64 if z.dtype.is_float else z.dtype.numpy
        (left, right), shapes = p.orders, p.folded(x.shape, y.shape)
        a = x.transpose(left).reshape(shapes[0]).astype(wide)
        c = y.transpose(right).reshape(shapes[1]).astype(wide)
        with np.errstate(all="ignore"):
            return [(a @ c.swapaxes(1, 2)).reshape(z.shape).astype(z.dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        p, (x, y), (z,) = Product.of(site), xs, ys
        (left, right), shapes = p.orders, p.folded(x.shape, y.shape)
        x, y = ordered(b, x, left, "left").viewed(shapes[0]), ordered(b, y, right, "right").viewed(shapes[1])
        product(b, x, y, z.viewed((shapes[0][0], shapes[0][1], shapes[1][1])))


@register
class StablehloConvolution(Op):
    """y[n, o, p] = the sum over taps t and channels i of x[n, i, p * stride + t * dilation - border] * w[o, i, t]

    The axes of x, w and y may lie in any order; x may be spread out, and the window turned round, along any axis.
    Source: StableHLO, convolution.
    """

    name, code = "STABLEHLO_CONVOLUTION", 171
    operands = (("lhs", "rhs"), ("output",))
    types = TYPES

    @dataclass(frozen=True)
    class Attrs:
        window_strides: tuple[int, ...] = ()
        padding: tuple[int, ...] = ()
        lhs_dilation: tuple[int, ...] = ()
        rhs_dilation: tuple[int, ...] = ()
        window_reversal: tuple[bool, ...] = ()
        input_batch_dimension: int = 0
        input_feature_dimension: int = 0
        input_spatial_dimensions: tuple[int, ...] = ()
        kernel_input_feature_dimension: int = 0
        kernel_output_feature_dimension: int = 0
        kernel_spatial_dimensions: tuple[int, ...] = ()
        output_batch_dimension: int = 0
        output_feature_dimension: int = 0
        output_spatial_dimensions: tuple[int, ...] = ()
        feature_group_count: int = 1
        batch_group_count: int = 1
        precision_config: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, w, a = site.input(0), site.input(1), site.attrs
        site.require(x.rank == w.rank >= 2, f"{x} and {w} must have one rank, of at least 2")
        for name, least, count in (("window_strides", 1, 1), ("lhs_dilation", 1, 1), ("rhs_dilation", 1, 1),
                                   ("window_reversal", 0, 1), ("padding", -(1 << 62), 2)):  # fmt: skip
            given = getattr(a, name)
            fits = not given or (len(given) == count * (x.rank - 2) and min(given) >= least)  # absent: as if not there
            site.require(fits, f"{name} must have {count} suitable elements for each axis of a window, is {given}")
        for order in _orders(site):
            site.require(sorted(order) == list(range(x.rank)), f"dimensions must name each axis once, are {order}")
        groups = (a.feature_group_count, a.batch_group_count)
        site.require(min(groups) == 1, f"one of the group counts must be 1 and none below, are {groups}")
        n, channels, outputs = _sizes(site)
        site.require(n % groups[1] == 0, f"batch_group_count {groups[1]} must divide the batch {n}")
        depth = w.shape[a.kernel_input_feature_dimension]
        site.require(channels == depth * groups[0], f"{x} needs filters of depth {channels} / {groups[0]}, has {w}", 1)
        site.require(outputs % max(groups) == 0, f"{outputs} outputs must be a multiple of {max(groups)} groups", 1)
        site.require(min(w.shape) >= 1, f"must not be empty, is {w}", 1)
        windows = _windows(site)
        _around(windows.spread).require(site, (n, *_spatial(site), channels))
        natural = (n // groups[1], *windows.count(_spatial(site)), outputs)
        return [tuple(natural[place] for place in np.argsort(_orders(site)[2]))]

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
        a, (into, kernel, out), windows = site.attrs, _orders(site), _windows(site)
        y = site.outputs[0]
        if y.size == 0:
            return [np.zeros(y.shape, y.dtype.numpy)]
        flipped = tuple(slice(None, None, -1 if turned else None) for turned in a.window_reversal)
        x, w = x.transpose(into), w.transpose(kernel)[:, *flipped]
        if a.batch_group_count > 1:
            split = x.reshape(a.batch_group_count, -1, *x.shape[1:])
            x = np.moveaxis(split, 0, -2).reshape(*split.shape[1:-1], -1)
        x = _around(windows.spread).evaluate(x, 0)
        total = _convolved(x, w, windows, tuple(y.shape[axis] for axis in out), max(_groups(site)))
        return [np.array(total.astype(y.dtype.numpy).transpose(np.argsort(out)), order="C")]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        (x, w), (y,), a, (into, kernel, out) = xs, ys, site.attrs, _orders(site)
        if y.size == 0:
            return
        if x.size == 0:
            fill(b, y, zero(y.dtype))
            return
        x, w = ordered(b, x, into, "input"), ordered(b, w, kernel, "filter")
        if a.batch_group_count > 1:
            parts = x.viewed((a.batch_group_count, x.shape[0] // a.batch_group_count, *x.shape[1:]))
            last = len(parts.shape) - 1
            together = ordered(b, parts, (*range(1, last), 0, last), "groups")
            x = together.viewed((*together.shape[:-2], math.prod(together.shape[-2:])))
        if any(a.window_reversal):
            w = _turned(b, w, a.window_reversal)
        straight = list(out) == sorted(out)
        shape = tuple(y.shape[axis] for axis in out)
        z = y if straight else b.scratch(y.dtype, shape, "output")
        _convolution(b, x, w, z, _windows(site), max(_groups(site)))
        if not straight:
            transpose(b, z, y, np.argsort(out).tolist())


def _orders(site: Site) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The axes of both operands and the result in the order batch (outputs, batch), spatial ones, channels."""
    a = site.attrs
    return (
        (a.input_batch_dimension, *a.input_spatial_dimensions, a.input_feature_dimension),
        (a.kernel_output_feature_dimension, *a.kernel_spatial_dimensions, a.kernel_input_feature_dimension),
        (a.output_batch_dimension, *a.output_spatial_dimensions, a.output_feature_dimension),
    )


def _groups(site: Site) -> tuple[int, int]:
    return site.attrs.feature_group_count, site.attrs.batch_group_count


def _sizes(site: Site) -> tuple[int, int, int]:
    """(batch, channels of the input, channels of the output)"""
    a, x, w = site.attrs, site.input(0).shape, site.input(1).shape
    return x[a.input_batch_dimension], x[a.input_feature_dimension], w[a.kernel_output_feature_dimension]


def _spatial(site: Site) -> Shape:
    return tuple(site.input(0).shape[axis] for axis in site.attrs.input_spatial_dimensions)


def _windows(site: Site) -> Windows:
    a = site.attrs
    size = tuple(site.input(1).shape[axis] for axis in a.kernel_spatial_dimensions)
    one, none = (1,) * len(size), (0,) * len(size)
    spread = Spread(a.padding[::2] or none, a.padding[1::2] or none, a.lhs_dilation or one)
    return Windows(size, a.window_strides or one, a.rhs_dilation or one, spread)


def _around(s: Spread) -> Spread:
    """The same for a tensor with batch and channels around the spatial axes."""
    return Spread((0, *s.before, 0), (0, *s.after, 0), (1, *s.step, 1))


def _convolved(x: np.ndarray, w: np.ndarray, windows: Windows, out: Shape, groups: int) -> np.ndarray:
    """The sums for x [N, ..., C] with its border and w [O, ..., C / groups]: the last two spatial axes at a time."""
    missing = max(0, 4 - x.ndim)
    x, w = (t.reshape(t.shape[0], *[1] * missing, *t.shape[1:]) for t in (x, w))
    strides, dilations = ((1,) * missing + given for given in (windows.strides, windows.dilations))
    shape = (out[0], *[1] * missing, *out[1:])
    outer = shape[1:-3]
    window = Window(shape[-3:-1], (0, 0), strides[-2:], dilations[-2:])
    total = np.zeros(shape, np.int64 if x.dtype.kind in "iu" else np.float64)
    for tap in np.ndindex(*w.shape[1:-3]):
        steps = zip(tap, outer, strides, dilations, strict=False)
        part = tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for t, n, s, d in steps)
        images = x[:, *part].reshape(-1, *x.shape[-3:])
        total += convolve(images, w[:, *tap], window, groups).reshape(shape)
    return total.reshape(out)


def _convolution(b: Builder, x: Buffer, w: Buffer, y: Buffer, windows: Windows, groups: int) -> None:
    """y [N, ..., O] of x [N, ..., C] and w [O, ..., C / groups]; x gets its border in scratch memory where it must."""
    rank, spread, wide = len(x.shape) - 2, windows.spread, accumulator(y.dtype)
    before = spread.before
    if rank > 2 or min(before, default=0) < 0 or max(spread.step, default=1) > 1:
        around = _around(spread)
        roomy = b.scratch(x.dtype, around.shape(x.shape), "spread")
        around.lower(b, x, roomy, zero(x.dtype))
        x, before = roomy, (0,) * rank
    if rank > 2:
        _direct(b, x, w, y, windows, groups)
        return
    missing = 2 - rank
    ones = (1,) * missing
    strides, dilations, border = (
        (one,) * missing + given for one, given in ((1, windows.strides), (1, windows.dilations), (0, before))
    )
    x, w, z = (t.viewed((t.shape[0], *ones, *t.shape[1:])) for t in (x, w, y))
    b.convolution(
        Convolution(x, w, None, z, strides, dilations, border, groups, wide, lambda t, channel, at: t.to(y.dtype))
    )


def _direct(b: Builder, x: Buffer, w: Buffer, y: Buffer, windows: Windows, groups: int) -> None:
    """The definition, for more axes than images have."""
    wide, depth, share = accumulator(y.dtype), w.shape[-1], y.shape[-1] // groups
    with b.nest(y.shape, "parallel") as (n, *place, o):

        def term(total: Expr, *tap: Expr) -> Expr:
            *taps, i = tap
            steps = zip(place, windows.strides, taps, windows.dilations, strict=True)
            at = tuple(p * s + t * d for p, s, t, d in steps)
            return total + x[n, *at, (o // share) * depth + i].to(wide) * w[o, *taps, i].to(wide)

        total = b.reduce(zero(wide), w.shape[1:], term)
        b.store(y, (n, *place, o), total.to(y.dtype))


def _turned(b: Builder, w: Buffer, reversal: Sequence[bool]) -> Buffer:
    """Filters [O, ..., I] with some spatial axes turned round."""
    axes = [axis for axis, turned in enumerate(reversal, 1) if turned]
    if w.values is not None:
        return b.constant(np.flip(w.values, tuple(axes)), "turned")
    turned = b.scratch(w.dtype, w.shape, "turned")
    b.compute(turned, lambda *i: w[tuple(w.shape[a] - 1 - v if a in axes else v for a, v in enumerate(i))])
    return turned
