"""Reductions over axes: MEAN, SUM, REDUCE_*, ARG_MAX, ARG_MIN."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, clamp, maximum, minimum, requantize
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Const, Expr, all_of, select
from lithe.ops.fixed_point import multiplier_of
from lithe.ops.op import Axes, Op, Site, register
from lithe.ops.precision import FLOATS, is_half, is_rescaled
from lithe.types import BOOL, FLOAT32, INT32, INT64, DType, Shape

UNROLLED = 8  # steps of a sum that are written out


@dataclass(frozen=True)
class ReducerAttrs:
    keep_dims: bool = False


def _axes(site: Site) -> tuple[int, ...]:
    """The reduced axes, each once, ascending; axis -1 is the last one. A scalar has none, whatever is named."""
    rank = site.input(0).rank
    if not rank:
        return ()
    values = np.asarray(site.constant(1)).reshape(-1).tolist()
    return tuple(sorted({site.axis(v, rank) for v in values}))


def _kept_shape(shape: Shape, axes: tuple[int, ...], keep_dims: bool) -> Shape:
    if keep_dims:
        return tuple(1 if a in axes else s for a, s in enumerate(shape))
    return tuple(s for a, s in enumerate(shape) if a not in axes)


def _axis_is_known(site: Site) -> bool:
    return site.known(1) is not None


def _with_axis(site: Site, axis: np.ndarray) -> Site:
    """The site in a run, where the axis has a value."""
    return replace(site, constants=(None, axis))


def _reduced_shape(site: Site) -> list[Shape]:
    if not _axis_is_known(site):
        rank, gone = site.input(0).rank, 0 if site.attrs.keep_dims else site.input(1).size
        site.require(gone <= rank, f"{gone} axes are more than {site.input(0)} has", 1)
        return [(None,) * (rank - gone)]
    return [_kept_shape(site.input(0).shape, _axes(site), site.attrs.keep_dims)]


def _merged(shape: Shape, axes: tuple[int, ...]) -> list[tuple[int, bool]]:
    """(size, whether reduced) with neighbouring axes of one kind merged: fewer loops, longer ones."""
    groups: list[tuple[int, bool]] = []
    for a, size in enumerate(shape):
        if size == 1:
            continue
        if groups and groups[-1][1] == (a in axes):
            groups[-1] = (groups[-1][0] * size, groups[-1][1])
        else:
            groups.append((size, a in axes))
    return groups


def _over_axes(
    b: Builder,
    x: Buffer,
    y: Buffer,
    axes: tuple[int, ...],
    initial: Expr | None,
    step: Callable[[Expr, Expr], Expr],
    finish: Callable[[Expr], Expr],
    element: Callable[[Expr], Expr],
) -> None:
    """y = finish(step(... step(initial, element(x0)) ...)). The loops over kept axes are outside and parallel, so
    that the innermost of them, when it is the last axis, runs over neighbours in memory (lanes of a vector).

    Where the innermost loop is over a reduced axis, steps may be taken in another order. With no initial value, the
    first element is the initial value, and the order is that of memory.
    """
    groups = _merged(x.shape, axes)
    kept = tuple(size for size, reduced in groups if not reduced)
    gone = tuple(size for size, reduced in groups if reduced)
    source, target = x.viewed(tuple(size for size, _ in groups)), y.viewed(kept)

    def at(k: tuple[Expr, ...], r: tuple[Any, ...]) -> Expr:
        outer, inner = iter(k), iter(r)
        return element(source[tuple(next(inner) if reduced else next(outer) for _, reduced in groups)])

    if initial is not None and groups and groups[-1][1]:
        with b.nest(kept, "parallel") as k:
            b.store(target, k, finish(b.combined(initial, gone, lambda *r: at(k, r), step)))
        return
    with b.nest(kept, "parallel") as k:
        first = at(k, (0,) * len(gone)) if initial is None else initial
        total = b.variable(first, "total")
        for r in _steps(b, gone):
            value = step(total[()], at(k, r))
            if initial is None:
                value = select(all_of(*(i.equals(0) for i in r)), first, value)
            b.store(total, (), value)
        b.store(target, k, finish(total[()]))


def _steps(b: Builder, shape: Shape) -> Iterator[tuple[Expr, ...]]:
    """Every index of a shape in order, inside of loops over them whose bodies are several steps."""
    if not shape:
        yield ()
        return
    *outer, size = shape
    whole, rest = divmod(size, UNROLLED)
    with b.nest(tuple(outer)) as o:
        for start, count, steps in ((0, whole, UNROLLED), (whole * UNROLLED, 1, rest)):
            if count and steps:
                with b.loop(count) as block, b.loop(steps, "unrolled") as step:
                    yield (*o, block * steps + (step + start))


def reduction(
    name: str,
    code: int,
    doc: str,
    types: str,
    combine: np.ufunc,
    step: Callable[[Expr, Expr], Expr],
    start: float | bool | Callable[[DType], float],
    *,
    logic: Callable[[Expr, Expr], Expr] | None = None,
    mean: bool = False,
    rescale: bool = False,
) -> type[Op]:
    """Defines and registers y = combine over the axes.

    start    the value of an empty reduction; or, by type, the value to start with where an axis of size 0 is refused.
    logic    the step for truth values.
    mean     the result is divided by the number of elements.
    rescale  quantized inputs are summed without zero point, in int32, and requantized (else stored values count).
    """
    limited = callable(start) or mean

    def scaled(site: Site) -> bool:
        return rescale and is_rescaled(site, types)

    def count(site: Site) -> int:
        return math.prod(site.input(0).shape[a] for a in _axes(site))

    def infer(site: Site) -> list[Shape]:
        some = not limited or not _axis_is_known(site) or count(site) > 0
        site.require(some, "an axis of size 0 has no result", 0)
        return _reduced_shape(site)

    def accumulator(site: Site) -> DType:
        dtype = site.input(0).dtype
        if is_half(dtype):
            return FLOAT32
        if scaled(site):
            return INT32 if dtype.bits == 8 else INT64
        return INT64 if mean and dtype.is_integer else dtype

    def first(dtype: DType) -> Any:
        return start(dtype) if callable(start) else dtype.numpy.type(start).item()

    @np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
    def finished(site: Site, total: Any) -> Any:
        y = site.outputs[0]
        if not scaled(site):
            if mean:
                n = count(site)
                total = _divided(total, n) if y.dtype.is_integer else total * F(1 / n)
            return cast(total, y.dtype)
        (scale, _), (out_scale, zero) = site.quantization(site.input(0)), site.quantization(y)
        ratio = F(scale) / F(out_scale) / F(count(site)) if mean else F(scale) / F(out_scale)
        return requantize(total, ratio, zero, y.dtype.minimum, y.dtype.maximum, y.dtype)

    def evaluate(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        site = _with_axis(site, axis)
        axes, y = _axes(site), site.outputs[0]
        wide = x.astype(np.float64 if y.dtype.is_float else accumulator(site).numpy)
        if scaled(site):
            wide = wide - wide.dtype.type(site.quantization(site.input(0))[1])
        with np.errstate(all="ignore"):
            total = np.asarray(
                combine.reduce(
                    wide, axis=axes, keepdims=site.attrs.keep_dims, dtype=wide.dtype, initial=first(accumulator(site))
                )
            )
            if y.dtype.is_float:
                return [np.asarray(total / count(site) if mean else total).astype(y.dtype.numpy)]
            return [np.asarray(finished(site, total), y.dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        wide = accumulator(site)
        zero = site.quantization(site.input(0))[1] if scaled(site) else 0
        initial = Const(first(wide), wide)

        chosen = logic if logic and wide == BOOL else step

        def finish(total: Expr) -> Expr:
            return finished(site, total - zero * count(site) if zero else total)

        _over_axes(b, xs[0], ys[0], _axes(site), initial, chosen, finish, lambda v: v.to(wide))

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": types, "Attrs": ReducerAttrs,
            "operands": (("input", "axis"), ("output",)), "infer": infer, "evaluate": evaluate, "lower": lower,
            "lowers": _axis_is_known, "named_axes": Axes(numbers=1, dropped=True),
        })
    )  # fmt: skip


def with_stored_products(op: type[Op]) -> type[Op]:
    """A product whose quantized inputs are multiplied one by one, each product brought back to 32 bits.

    The factor of each step is scale / out_scale ** (1 / number of elements), with 15 bits.
    Source: TensorFlow Lite, QuantizedReduceProd.
    """
    evaluate, lower = op.evaluate, op.lower
    assert lower is not None

    def factor(site: Site) -> Callable[[Any], Any]:
        count = math.prod(site.input(0).shape[a] for a in _axes(site))
        (scale, _), (out_scale, _) = site.quantization(site.input(0)), site.quantization(site.outputs[0])
        real = float(F(scale)) / max(float(F(out_scale)) ** (1.0 / max(count, 1)), 1e-45)
        multiplier, exponent = multiplier_of(min(real, 2.0**13))
        reduced = (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
        shift = 15 - exponent
        return lambda v: cast((v * reduced + (1 << (shift - 1))) >> shift, INT32)

    def steps(site: Site) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any], Callable[[Any], Any]]:
        """(element, step, finish)"""
        by, y = factor(site), site.outputs[0].dtype
        zero, out_zero = site.quantization(site.input(0))[1], site.quantization(site.outputs[0])[1]
        return (
            lambda v: cast(v, INT32) - zero,
            lambda total, v: by(cast(total, INT64) * cast(v, INT64)),
            lambda total: cast(clamp(by(cast(total, INT64)) + out_zero, y.minimum, y.maximum), y),
        )

    def evaluated(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        if not is_rescaled(site, op.types):
            return evaluate(site, x, axis)
        site = _with_axis(site, axis)
        axes = _axes(site)
        element, step, finish = steps(site)
        kept = [a for a in range(x.ndim) if a not in axes]
        rows = element(x).transpose(*axes, *kept).reshape(-1, *(x.shape[a] for a in kept))
        total = rows[0] if len(rows) else np.ones(rows.shape[1:], np.int32)
        for row in rows[1:]:
            total = step(total, row)
        return [np.asarray(finish(total)).reshape(_reduced_shape(site)[0])]

    def lowered(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        if not is_rescaled(site, op.types):
            return lower(b, site, xs, ys)
        element, step, finish = steps(site)
        empty = Const(1, INT32) if xs[0].size == 0 else None
        return _over_axes(b, xs[0], ys[0], _axes(site), empty, step, finish, element)

    op.evaluate, op.lower = staticmethod(evaluated), staticmethod(lowered)
    return op


def _divided(total: Any, n: int) -> Any:
    """Integers over a positive count, towards zero."""
    if isinstance(total, Expr):
        return total / n
    return total // n + ((total < 0) & (total % n != 0))  # the least integer has no magnitude


def least(dtype: DType) -> float:
    return -math.inf if dtype.is_float else dtype.minimum


def greatest(dtype: DType) -> float:
    return math.inf if dtype.is_float else dtype.maximum


def either(total: Expr, v: Expr) -> Expr:
    return total | v


def both(total: Expr, v: Expr) -> Expr:
    return total & v


NUMBERS = f"T int32 -> T: {FLOATS} int32 int64"
STORED = "int8q uint8q int16q"
NARROW = "int8 uint8 int16"

Sum = reduction("SUM", 74, "y = sum over the axes", f"{NUMBERS} {STORED} bool",
                np.add, lambda t, v: t + v, 0, logic=either, rescale=True)  # fmt: skip
Mean = reduction("MEAN", 40, "y = sum over the axes / number of elements", f"{NUMBERS} {STORED}",
                 np.add, lambda t, v: t + v, 0, mean=True, rescale=True)  # fmt: skip
ReduceProd = with_stored_products(
    reduction("REDUCE_PROD", 81, "y = product over the axes", f"{NUMBERS} {NARROW} int8q int16q bool",
              np.multiply, lambda t, v: t * v, 1, logic=both)
)  # fmt: skip
ReduceMax = reduction("REDUCE_MAX", 82, "the greatest number; NaN counts as none", f"{NUMBERS} {NARROW} bool",
                      np.fmax, lambda t, v: maximum(v, t), least, logic=either)  # fmt: skip
ReduceMin = reduction("REDUCE_MIN", 89, "the least number; NaN counts as none", f"{NUMBERS} {NARROW} bool",
                      np.fmin, lambda t, v: minimum(v, t), greatest, logic=both)  # fmt: skip
Mean.homogeneous = ReduceMax.keeps_scale = ReduceMin.keeps_scale = True
ReduceAny = reduction("REDUCE_ANY", 91, "whether one is true", "bool int32 -> bool",
                      np.logical_or, lambda t, v: t | v, False)  # fmt: skip
ReduceAll = reduction("REDUCE_ALL", 140, "whether all are true", "bool int32 -> bool",
                      np.logical_and, lambda t, v: t & v, True)  # fmt: skip


def extreme(name: str, code: int, doc: str, most: bool) -> type[Op]:
    """Defines and registers the place of the first greatest or least element along an axis."""

    @dataclass(frozen=True)
    class Attrs:
        output_type: DType = INT64

    def axis_of(site: Site) -> int:
        value = np.asarray(site.constant(1)).reshape(-1)
        site.require(value.size == 1, f"must be one axis, holds {value.size} values", 1)
        return site.axis(int(value[0]), site.input(0).rank)

    def infer(site: Site) -> list[Shape]:
        if not _axis_is_known(site):
            site.require(site.input(0).rank > 0, f"must have an axis, is {site.input(0)}", 0)
            return [(None,) * (site.input(0).rank - 1)]
        shape, axis = site.input(0).shape, axis_of(site)
        site.require(shape[axis] > 0, "the axis of size 0 has no result", 0)
        return [(*shape[:axis], *shape[axis + 1 :])]

    def evaluate(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        site = _with_axis(site, axis)
        place, worst = (np.argmax, -np.inf) if most else (np.argmin, np.inf)
        if site.input(0).dtype.is_float:  # NaN is never better
            x = np.where(np.isnan(x), x.dtype.type(worst), x).astype(np.float64)
        return [np.asarray(place(x, axis=axis_of(site)), site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        shape, axis = site.input(0).shape, axis_of(site)
        outer, size, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        x, y = xs[0].viewed((outer, size, inner)), ys[0].viewed((outer, inner))
        with b.nest((outer, inner), "parallel") as (o, i):

            def value(k: Any, o: Expr = o, i: Expr = i) -> Expr:
                v = x[o, k, i]
                return v.to(INT32) if v.dtype == BOOL else v.to(FLOAT32) if is_half(v.dtype) else v

            dtype = value(0).dtype
            best = b.variable(Const(least(dtype) if most else greatest(dtype), dtype), "best")
            place = b.variable(Const(0, y.dtype), "place")
            with b.loop(size) as k:
                v = value(k)
                better = v > best[()] if most else v < best[()]
                b.store(place, (), select(better, k.to(y.dtype), place[()]))
                b.store(best, (), select(better, v, best[()]))
            b.store(y, (o, i), place[()])

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "Attrs": Attrs,
            "types": f"T A -> I: T= {FLOATS} int8 uint8 int16 int32 int64 bool; A= int32 int64; I= int32 int64",
            "operands": (("input", "axis"), ("output",)), "infer": infer, "evaluate": evaluate, "lower": lower,
            "lowers": _axis_is_known, "named_axes": Axes(numbers=1, dropped=True),
        })
    )  # fmt: skip


ArgMax = extreme("ARG_MAX", 56, "the place of the first greatest element along the axis", True)
ArgMin = extreme("ARG_MIN", 79, "the place of the first least element along the axis", False)
