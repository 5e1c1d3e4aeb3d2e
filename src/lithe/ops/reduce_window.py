"""Windows of a tensor, and whole axes, reduced to one element each by a function of two: STABLEHLO_REDUCE,
STABLEHLO_REDUCE_WINDOW and REDUCE_WINDOW.

A reduction over axes is one over windows as large as these axes. Elements are taken in row-major order, so that
floats are added up in one order everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lithe.ir.arithmetic import clamp, maximum, minimum
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr, all_of, constant, select
from lithe.ops.body import Body, lowering
from lithe.ops.interior import Spread
from lithe.ops.layout import integers
from lithe.ops.op import Op, Site, register
from lithe.types import DType, Shape

Step = Callable[..., list[Any]]  # the totals, then as many elements -> the new totals
NUMBERS = "float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"


@dataclass(frozen=True)
class Windows:
    """Windows over a tensor, axis by axis.

    size, strides, dilations  elements in a window; distance from window to window, from element to element in one.
    spread                    border, and gaps between the elements of the tensor: there the initial value counts.
    fixed                     the number of windows where size and strides do not tell: over an axis that may be empty.
    """

    size: Shape
    strides: Shape
    dilations: Shape
    spread: Spread
    fixed: Shape | None = None

    def count(self, shape: Shape) -> Shape:
        """How many windows there are along each axis of a tensor. Source: StableHLO, reduce_window (C15)."""
        if self.fixed is not None:
            return self.fixed
        spans = [(k - 1) * d + 1 for k, d in zip(self.size, self.dilations, strict=True)]
        places = zip(self.spread.shape(shape), spans, self.strides, strict=True)
        return tuple(0 if n <= 0 or span > n else (n - span) // stride + 1 for n, span, stride in places)

    def evaluate(self, step: Step, xs: Sequence[np.ndarray], starts: Sequence[np.ndarray], out: Shape) -> list:
        totals = [np.full(out, start.reshape(()), start.dtype) for start in starts]
        if 0 in out:
            return totals
        wide = [self.spread.evaluate(x, start.reshape(())[()]) for x, start in zip(xs, starts, strict=True)]
        for tap in np.ndindex(*self.size):
            firsts = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            part = tuple(slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(firsts, out, self.strides, strict=True))
            totals = step(*totals, *(x[part] for x in wide))
        return totals

    def lower(self, b: Builder, step: Step, xs: Sequence[Buffer], starts: Sequence[Buffer], ys: Sequence[Buffer],
              out: Shape) -> None:  # fmt: skip
        shape, initial = xs[0].shape, [start.viewed((1,))[0] for start in starts]
        empty = 0 in shape
        with b.nest(out, "parallel") as o:
            totals = [b.variable(value, "total") for value in initial]
            with b.nest(self.size) as tap:
                at, inside = self._places(shape, out, o, tap)
                values = initial if empty else [x[at] for x in xs]
                if inside and not empty:
                    values = [select(all_of(*inside), v, start) for v, start in zip(values, initial, strict=True)]
                results = step(*(t[()] for t in totals), *values)
                for total, result in zip(totals, results, strict=True):
                    b.store(total, (), result)
            for y, total in zip(ys, totals, strict=True):
                b.store(y.viewed(out), o, total[()])

    def _places(self, shape: Shape, out: Shape, o: Sequence[Expr], tap: Sequence[Expr]) -> tuple[tuple, list[Expr]]:
        """(the element for each axis, clamped into the tensor; the conditions for its being there)."""
        at: list[Expr] = []
        inside: list[Expr] = []
        for a, d in enumerate(shape):
            low, gap = self.spread.before[a], self.spread.step[a]
            place = constant(o[a] * self.strides[a] + tap[a] * self.dilations[a] - low)
            last, least = (d - 1) * gap, -low
            most = (out[a] - 1) * self.strides[a] + (self.size[a] - 1) * self.dilations[a] - low
            if least < 0:
                inside.append(place >= 0)
            if most > last:
                inside.append(place <= last)
            if least < 0 or most > last:
                place = clamp(place, 0, max(last, 0))
            if gap > 1:
                inside.append((place % gap).equals(0))
            at.append(place // gap)
        return tuple(at), inside


def _applied(site: Site) -> Body:
    """The body of a site with as many initial values as operands."""
    kinds = _kinds(site)
    return Body.of(site, site.attrs.body_subgraph_index, kinds + kinds, kinds)


def _kinds(site: Site) -> list[DType]:
    return [site.input(i).dtype for i in range(len(site.inputs) // 2)]


def _require_pairs(site: Site) -> None:
    """As many tensors of one shape as scalars and results, of the same element types."""
    count = len(site.outputs)
    site.require(len(site.inputs) == 2 * count > 0, f"has {len(site.inputs)} inputs for {count} results")
    for i in range(count):
        x, start = site.input(i), site.input(count + i)
        site.require(x.shape == site.input(0).shape, f"must have the shape of {site.input(0)}, is {x}", i)
        site.require(start.size == 1, f"an initial value must have one element, is {start}", count + i)
        kinds = {x.dtype, start.dtype, site.outputs[i].dtype}
        site.require(len(kinds) == 1, f"{x}, its initial value and its result must have one element type", i)
        site.require(x.dtype.name in NUMBERS.split(), f"elements of type {x.dtype} are not reduced", i)
    if site.environment is not None:
        _applied(site)


class _Reduction(Op):
    """What reductions by a graph of the model share; a subclass says how windows lie and what shape comes out."""

    operands = (("inputs*",), ("results*",))
    windows: ClassVar[Callable[..., Windows]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.windows = staticmethod(cls.__dict__["windows"])
        cls.evaluate = staticmethod(lambda site, *arrays: _evaluate(cls.windows(site), site, arrays))
        cls.lower = staticmethod(lambda b, site, xs, ys: _lower(cls.windows(site), b, site, xs, ys))

    def lowers(site: Site) -> bool:
        kinds = _kinds(site)
        return lowering(site, site.attrs.body_subgraph_index, kinds + kinds, kinds)


def _evaluate(w: Windows, site: Site, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    body, count = _applied(site), len(arrays) // 2
    results = w.evaluate(body.evaluate, arrays[:count], arrays[count:], w.count(arrays[0].shape))
    return [r.reshape(y.shape) for r, y in zip(results, site.outputs, strict=True)]


def _lower(w: Windows, b: Builder, site: Site, xs: Sequence[Buffer], ys: Sequence[Buffer]) -> None:
    body, count = _applied(site), len(ys)
    w.lower(b, lambda *values: body.lower(b, values), xs[:count], xs[count:], ys, w.count(xs[0].shape))


@register
class StablehloReduceWindow(_Reduction):
    """y[o] = body(... body(start, first element of window o) ..., last one). Source: StableHLO, reduce_window."""

    name, code = "STABLEHLO_REDUCE_WINDOW", 198

    @dataclass(frozen=True)
    class Attrs:
        window_dimensions: tuple[int, ...] = ()
        window_strides: tuple[int, ...] = ()
        base_dilations: tuple[int, ...] = ()
        window_dilations: tuple[int, ...] = ()
        padding: tuple[int, ...] = ()
        body_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        _require_pairs(site)
        x, a = site.input(0), site.attrs
        for name in ("window_dimensions", "window_strides", "base_dilations", "window_dilations"):
            given = getattr(a, name)
            absent = not given and name != "window_dimensions"  # then all 1, as in the official runtime
            fits = absent or (len(given) == x.rank and min(given, default=1) >= 1)
            site.require(fits, f"{name} must have a positive element for each axis of {x}, is {given}")
        fits = len(a.padding) in (0, 2 * x.rank)
        site.require(fits, f"padding must have two elements for each axis of {x}, is {a.padding}")
        w = StablehloReduceWindow.windows(site)
        w.spread.require(site, x.shape)
        return [w.count(x.shape)] * len(site.outputs)

    def windows(site: Site) -> Windows:
        a = site.attrs
        one, none = (1,) * len(a.window_dimensions), (0,) * len(a.window_dimensions)
        spread = Spread(a.padding[::2] or none, a.padding[1::2] or none, a.base_dilations or one)
        return Windows(a.window_dimensions, a.window_strides or one, a.window_dilations or one, spread)


@register
class StablehloReduce(_Reduction):
    """y[k] = body(... body(start, first element) ..., last one) over some axes. Source: StableHLO, reduce."""

    name, code = "STABLEHLO_REDUCE", 174

    @dataclass(frozen=True)
    class Attrs:
        dimensions: tuple[int, ...] = ()
        body_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        _require_pairs(site)
        x, axes = site.input(0), site.attrs.dimensions
        site.require(len(set(axes)) == len(axes), f"dimensions must differ, are {axes}")
        inside = min(axes, default=0) >= 0 and max(axes, default=-1) < x.rank
        site.require(inside, f"dimensions must lie in [0, {x.rank}), are {axes}")
        return [tuple(d for a, d in enumerate(x.shape) if a not in axes)] * len(site.outputs)

    def windows(site: Site) -> Windows:
        shape, axes = site.input(0).shape, site.attrs.dimensions
        none, one = (0,) * len(shape), (1,) * len(shape)
        size = tuple(d if a in axes else 1 for a, d in enumerate(shape))
        return Windows(
            size, one, one, Spread(none, none, one), tuple(1 if a in axes else d for a, d in enumerate(shape))
        )


# What REDUCE_WINDOW can do. Source: schema.fbs, ReduceWindowFunction.
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": lambda total, x: total + x,
    "MUL": lambda total, x: total * x,
    "MINIMUM": minimum,
    "MAXIMUM": maximum,
    "ALL": lambda total, x: total & x,
    "ANY": lambda total, x: total | x,
}


@register
class ReduceWindow(Op):
    """y[o] = f(... f(start, first element of window o) ..., last one), without border. Source: TensorFlow Lite."""

    name, code = "REDUCE_WINDOW", 205
    operands = (("input", "init_value", "window_shape", "window_strides", "window_dilations"), ("output",))
    types = "T T int64 int64 int64 -> T: float32 float64 int8 uint8 int16 int32 int64 bool"

    @dataclass(frozen=True)
    class Attrs:
        reduce_function: str = "ADD"

    def infer(site: Site) -> list[Shape]:
        x, wanted = site.input(0), site.attrs.reduce_function
        site.require(wanted in FUNCTIONS, f"reduce_function {wanted} is unknown")
        logic = wanted in ("ALL", "ANY")
        site.require(logic == (x.dtype.kind == "bool"), f"reduce_function {wanted} does not take {x.dtype}", 0)
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        for i in (2, 3, 4):
            fits = site.rank(i, 1).size == x.rank and min(integers(site.constant(i)), default=1) >= 1
            site.require(fits, f"must have a positive element for each axis of {x}", i)
        return [_bare(site).count(x.shape)]

    def evaluate(site: Site, x: np.ndarray, start: np.ndarray, *windows: np.ndarray) -> list[np.ndarray]:
        rule, w = FUNCTIONS[site.attrs.reduce_function], _bare(site)
        with np.errstate(all="ignore"):
            return w.evaluate(lambda total, v: [np.asarray(rule(total, v))], [x], [start], w.count(x.shape))

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        rule, w = FUNCTIONS[site.attrs.reduce_function], _bare(site)
        w.lower(b, lambda total, v: [rule(total, v)], xs[:1], xs[1:2], ys, w.count(xs[0].shape))


def _bare(site: Site) -> Windows:
    size, strides, dilations = (tuple(integers(site.constant(i))) for i in (2, 3, 4))
    none, one = (0,) * len(size), (1,) * len(size)
    return Windows(size, strides, dilations, Spread(none, none, one))
