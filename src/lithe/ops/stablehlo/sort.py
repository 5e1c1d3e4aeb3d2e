"""STABLEHLO_SORT: tensors sorted together along an axis, by a comparator that is a graph of the model.

Runs of 1, 2, 4, ... elements are merged pairwise, which keeps the order of equal elements and takes n log n steps of
a fixed number. Numpy and loops take the same steps, so they agree even for a comparator that is no order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithe.ir.arithmetic import minimum
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, constant, select
from lithe.ops.body import Body, lowering
from lithe.ops.layout import copy
from lithe.ops.op import Op, Site, register
from lithe.ops.reduce_window import NUMBERS
from lithe.types import BOOL, DType, Shape


@register
class StablehloSort(Op):
    """The operands in the order in which comparator(a, b) says that a comes first. Source: StableHLO, sort."""

    name, code = "STABLEHLO_SORT", 199
    operands = (("inputs*",), ("results*",))

    @dataclass(frozen=True)
    class Attrs:
        dimension: int = -1
        is_stable: bool = False
        comparator_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        first, count = site.input(0), len(site.outputs)
        site.require(len(site.inputs) == count, f"has {len(site.inputs)} inputs for {count} results")
        for i, y in enumerate(site.outputs):
            x = site.input(i)
            site.require(x.shape == first.shape, f"must have the shape of {first}, is {x}", i)
            site.require(x.dtype == y.dtype, f"{x} and its result {y} must have one element type", i)
            site.require(x.dtype.name in NUMBERS.split(), f"elements of type {x.dtype} are not sorted", i)
        site.axis(site.attrs.dimension, first.rank, "dimension")
        if site.environment is not None:
            _comparator(site)
        return [first.shape] * count

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        body, (outer, n, inner) = _comparator(site), _folded(site)
        values = [np.moveaxis(x.reshape(outer, n, inner), 1, 2) for x in arrays]  # [outer, inner, n]
        width = 1
        while width < n and outer * inner:
            values = _merged(body, values, width)
            width *= 2
        return [np.moveaxis(v, 2, 1).reshape(x.shape).copy() for v, x in zip(values, arrays, strict=True)]

    def lowers(site: Site) -> bool:
        return lowering(site, site.attrs.comparator_subgraph_index, _kinds(site), [BOOL])

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        shape = _folded(site)
        widths = [1 << k for k in range(max(0, math.ceil(math.log2(max(shape[1], 1)))))]
        if not widths:
            for x, y in zip(xs, ys, strict=True):
                copy(b, x, y)
            return
        results = [y.viewed(shape) for y in ys]
        others = [b.scratch(y.dtype, shape, "runs") for y in ys] if len(widths) > 1 else results
        source = [x.viewed(shape) for x in xs]
        for k, width in enumerate(widths):
            target = results if (len(widths) - k) % 2 else others
            _merge(b, _comparator(site), source, target, width)
            source = target


def _kinds(site: Site) -> list[DType]:
    """The comparator's arguments: of each operand the left element and the right one."""
    return [t.dtype for t in site.outputs for _ in range(2)]


def _comparator(site: Site) -> Body:
    return Body.of(site, site.attrs.comparator_subgraph_index, _kinds(site), [BOOL])


def _folded(site: Site) -> tuple[int, int, int]:
    """The shape as [before, sorted axis, behind]."""
    shape = site.input(0).shape
    axis = site.axis(site.attrs.dimension, len(shape), "dimension")
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def _merged(body: Body, values: Sequence[np.ndarray], width: int) -> list[np.ndarray]:
    """Neighbouring runs of `width` elements along the last axis merged, all pairs of runs at a time."""
    n = values[0].shape[-1]
    starts = np.broadcast_to(np.arange(0, n, 2 * width), (*values[0].shape[:-1], -(-n // (2 * width))))
    middle, end = np.minimum(starts + width, n), np.minimum(starts + 2 * width, n)
    left, right = starts.copy(), middle.copy()
    results = [np.empty_like(v) for v in values]
    for k in range(2 * width):
        ours, theirs = np.minimum(left, n - 1), np.minimum(right, n - 1)
        pairs = [(np.take_along_axis(v, theirs, -1), np.take_along_axis(v, ours, -1)) for v in values]
        (before,) = body.evaluate(*(p for pair in pairs for p in pair))
        from_right = (left >= middle) | ((right < end) & before)
        open_ = (starts + k < n)[0, 0]
        for result, (theirs_, ours_) in zip(results, pairs, strict=True):
            result[..., (starts[0, 0] + k)[open_]] = np.where(from_right, theirs_, ours_)[..., open_]
        left, right = left + ~from_right, right + from_right
    return results


def _merge(b: Builder, body: Body, source: Sequence[Buffer], target: Sequence[Buffer], width: int) -> None:
    """The same in loops, on buffers [outer, n, inner]."""
    outer, n, inner = target[0].shape
    with b.nest((outer, -(-n // (2 * width)), inner), "parallel") as (o, block, i):
        start = constant(block * (2 * width))
        middle, end = minimum(start + width, constant(n)), minimum(start + 2 * width, constant(n))
        left, right = b.variable(start, "left", INDEX), b.variable(middle, "right", INDEX)
        with b.loop(2 * width, name="k") as k, b.when(*([start + k < n] if n % (2 * width) else [])):
            ours, theirs = minimum(left[()], constant(n - 1)), minimum(right[()], constant(n - 1))
            pairs = [(x[o, theirs, i], x[o, ours, i]) for x in source]
            (before,) = body.lower(b, [v for pair in pairs for v in pair])
            choice = b.variable((left[()] >= middle) | ((right[()] < end) & before), "from_right")
            for y, (theirs_, ours_) in zip(target, pairs, strict=True):
                b.store(y, (o, start + k, i), select(choice[()], theirs_, ours_))
            b.store(left, (), left[()] + select(choice[()], constant(0), constant(1)))
            b.store(right, (), right[()] + select(choice[()], constant(1), constant(0)))
