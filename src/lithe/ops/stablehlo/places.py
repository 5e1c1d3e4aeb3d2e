"""STABLEHLO_GATHER and STABLEHLO_SCATTER: slices of a tensor read or changed at places given by data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Expr, constant
from lithe.ops.body import Body, lowering
from lithe.ops.layout import PLAIN, Movement, copy
from lithe.ops.op import Op, Site, register
from lithe.ops.reduce_window import NUMBERS
from lithe.types import DType, Shape, TensorType

INDICES = "int8 int16 int32 int64 uint8 uint16 uint32"


@dataclass(frozen=True)
class Slices:
    """Where slices begin and how their axes are numbered.

    indices  shape of the tensor of places; axis `vector` of it holds the elements of one place (its rank: a scalar).
    axes     the axis of the sliced tensor that each element of a place speaks of; elsewhere a slice begins at 0.
    window   the axes of the sliced tensor that a slice keeps.
    """

    indices: Shape
    vector: int
    axes: Shape
    window: Shape

    @property
    def batch(self) -> Shape:
        """How many places there are, by axes."""
        return self.indices[: self.vector] + self.indices[self.vector + 1 :]

    def at(self, place: Sequence[Any], element: int) -> tuple[Any, ...]:
        """The index of one element of a place."""
        if self.vector == len(self.indices):
            return tuple(place)
        return (*place[: self.vector], element, *place[self.vector :])

    def evaluate(self, indices: np.ndarray) -> np.ndarray:
        """int64 [*batch, len(axes)]: every place."""
        whole = indices[..., None] if self.vector == len(self.indices) else np.moveaxis(indices, self.vector, -1)
        return whole.astype(np.int64)


def slices(site: Site, x: TensorType, operand: int, vector: int, axes: Shape, gone: Shape) -> Slices:
    """The checked description; `gone` are the axes of x that slices do not keep."""
    indices = site.input(operand)
    site.require(0 <= vector <= indices.rank, f"index_vector_dim must lie in [0, {indices.rank}], is {vector}")
    elements = indices.shape[vector] if vector < indices.rank else 1
    site.require(len(axes) == elements, f"{len(axes)} axes are named for places of {elements} elements", operand)
    for named in (axes, gone):
        site.require(len(set(named)) == len(named), f"axes must differ, are {named}")
        site.require(all(0 <= a < x.rank for a in named), f"axes must lie in [0, {x.rank}), are {named}")
    return Slices(indices.shape, vector, axes, tuple(a for a in range(x.rank) if a not in gone))


def combined(rank: int, window: Shape, batch: Sequence[Any], offset: Sequence[Any]) -> tuple[Any, ...]:
    """What belongs to the axes of slices put at the axes `window`, and the rest around them, in order."""
    first, second = iter(batch), iter(offset)
    return tuple(next(second) if a in window else next(first) for a in range(rank))


@register
class StablehloGather(Movement):
    """y[n, o] = x[start[n] + o]: a slice for each place n, starts clamped into x. Source: StableHLO, gather."""

    name, code = "STABLEHLO_GATHER", 201
    operands = (("operand", "start_indices"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= {INDICES}"

    @dataclass(frozen=True)
    class Attrs:
        offset_dims: tuple[int, ...] = ()
        collapsed_slice_dims: tuple[int, ...] = ()
        start_index_map: tuple[int, ...] = ()
        index_vector_dim: int = 0
        slice_sizes: tuple[int, ...] = ()
        indices_are_sorted: bool = False

    def infer(site: Site) -> list[Shape]:
        x, a = site.input(0), site.attrs
        s = _gathered(site)
        fits = len(a.slice_sizes) == x.rank and all(0 <= n <= d for n, d in zip(a.slice_sizes, x.shape, strict=True))
        site.require(fits, f"slice_sizes {a.slice_sizes} do not fit in {x}")
        flat = all(a.slice_sizes[axis] <= 1 for axis in a.collapsed_slice_dims)
        site.require(flat, f"collapsed axes must have slices of size 1 in {a.slice_sizes}")
        rank = len(s.batch) + len(s.window)
        named = len(a.offset_dims) == len(s.window) and sorted(set(a.offset_dims)) == list(a.offset_dims)
        named = named and all(0 <= axis < rank for axis in a.offset_dims)
        site.require(named, f"offset_dims must be {len(s.window)} ascending axes below {rank}, are {a.offset_dims}")
        return [combined(rank, a.offset_dims, s.batch, [a.slice_sizes[axis] for axis in s.window])]

    def evaluate(site: Site, x: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
        a, s = site.attrs, _gathered(site)
        room = np.array([x.shape[axis] - a.slice_sizes[axis] for axis in s.axes], np.int64)
        starts = np.clip(s.evaluate(indices), 0, room)
        sizes = tuple(a.slice_sizes[axis] for axis in s.window)
        result = np.empty((*s.batch, *sizes), x.dtype)
        for place in np.ndindex(*s.batch):
            first = dict(zip(s.axes, starts[place].tolist(), strict=True))
            box = tuple(slice(first.get(i, 0), first.get(i, 0) + n) for i, n in enumerate(a.slice_sizes))
            result[place] = x[box].reshape(sizes)
        kept = [axis for axis in range(result.ndim) if axis not in a.offset_dims]
        order = np.argsort([*kept, *a.offset_dims])
        return [np.array(result.transpose(order), order="C")]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        (x, indices), (y,), a, s = xs, ys, site.attrs, _gathered(site)
        with b.nest(s.batch, "parallel") as n:
            first: dict[int, Expr] = {}
            for k, axis in enumerate(s.axes):
                start = clamp(indices[s.at(n, k)].to(INDEX), 0, x.shape[axis] - a.slice_sizes[axis])
                first[axis] = b.variable(start, "start")[()]
            with b.nest(tuple(a.slice_sizes[axis] for axis in s.window), "parallel") as o:
                within = dict(zip(s.window, o, strict=True))
                source = tuple(first.get(i, constant(0)) + within.get(i, constant(0)) for i in range(len(x.shape)))
                b.store(y, combined(len(y.shape), a.offset_dims, n, o), x[source])


def _gathered(site: Site) -> Slices:
    a = site.attrs
    return slices(site, site.input(0), 1, a.index_vector_dim, a.start_index_map, a.collapsed_slice_dims)


@register
class StablehloScatter(Op):
    """y = x, but y[start[n] + o] = body(y[start[n] + o], updates[n, o]), in the order of the updates' elements.

    What would lie outside of x is left out. Source: StableHLO, scatter.
    """

    name, code = "STABLEHLO_SCATTER", 190
    operands = (("inputs*",), ("results*",))

    @dataclass(frozen=True)
    class Attrs:
        indices_are_sorted: bool = False
        update_window_dims: tuple[int, ...] = ()
        inserted_window_dims: tuple[int, ...] = ()
        scatter_dims_to_operand_dims: tuple[int, ...] = ()
        index_vector_dim: int = 0
        unique_indices: bool = False
        update_computation_subgraph_index: int = 0

    def infer(site: Site) -> list[Shape]:
        count, a = len(site.outputs), site.attrs
        site.require(len(site.inputs) == 2 * count + 1 > 1, f"has {len(site.inputs)} inputs for {count} results")
        x, indices, updates = site.input(0), site.input(count), site.input(count + 1)
        site.require(indices.dtype.name in INDICES.split(), f"places must be integers, are {indices}", count)
        for i in range(count):
            t, u, y = site.input(i), site.input(count + 1 + i), site.outputs[i]
            site.require(t.shape == x.shape and u.shape == updates.shape, f"{t} and {u} differ from {x} and {updates}")
            alike = len({t.dtype, u.dtype, y.dtype}) == 1
            site.require(alike, f"{t}, its updates and its result must have one element type", i)
            site.require(t.dtype.name in NUMBERS.split(), f"elements of type {t.dtype} are not scattered", i)
        s = _scattered(site)
        window = a.update_window_dims
        rank = len(s.batch) + len(s.window)
        named = len(window) == len(s.window) and sorted(set(window)) == list(window)
        named = named and all(0 <= axis < rank for axis in window)
        site.require(named, f"update_window_dims must be {len(s.window)} ascending axes below {rank}, are {window}")
        site.require(updates.rank == rank, f"updates must have rank {rank}, are {updates}", count + 1)
        offset = tuple(updates.shape[axis] for axis in window)
        fits = combined(rank, window, s.batch, offset) == updates.shape
        fits = fits and all(n <= x.shape[axis] for n, axis in zip(offset, s.window, strict=True))
        site.require(fits, f"updates {updates} do not fit places {indices} in {x}", count + 1)
        if site.environment is not None:
            _update(site)
        return [x.shape] * count

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        count, s, body = len(site.outputs), _scattered(site), _update(site)
        results, indices, updates = [x.copy() for x in arrays[:count]], arrays[count], arrays[count + 1 :]
        limits, shape = results[0].shape, updates[0].shape
        head, window = _head(shape, site.attrs.update_window_dims), site.attrs.update_window_dims
        starts = s.evaluate(indices)
        for outer in np.ndindex(*shape[:head]):
            place = tuple(v for axis, v in enumerate(outer) if axis not in window)
            first = dict(zip(s.axes, starts[place].tolist(), strict=True))
            source: list[slice] = []
            target: list[int | slice] = []
            for axis, limit in enumerate(limits):
                low = first.get(axis, 0)
                own = window[s.window.index(axis)] if axis in s.window else -1
                if own >= head:
                    inside = slice(max(0, -low), max(0, -low, min(shape[own], limit - low)))
                    source.append(inside)
                    target.append(slice(low + inside.start, low + inside.stop))
                else:
                    at = low + (outer[own] if own >= 0 else 0)
                    target.append(slice(at, at + 1) if 0 <= at < limit else slice(0, 0))
            _apply(body, results, updates, tuple(target), (*outer, *source))
        return results

    def lowers(site: Site) -> bool:
        kinds = [t.dtype for t in site.outputs]
        return lowering(site, site.attrs.update_computation_subgraph_index, kinds + kinds, kinds)

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        count, s, body, window = len(ys), _scattered(site), _update(site), site.attrs.update_window_dims
        indices, updates, limits = xs[count], xs[count + 1 :], xs[0].shape
        for x, y in zip(xs, ys, strict=False):
            copy(b, x, y)
        shape = updates[0].shape
        head = _head(shape, window)
        with b.nest(shape[:head]) as outer:
            place = [v for axis, v in enumerate(outer) if axis not in window]
            first: dict[int, Expr] = {}
            for k, a in enumerate(s.axes):  # clamped so that no sum overflows; what is outside of x stays outside
                start = clamp(indices[s.at(place, k)].to(INDEX), -limits[a], limits[a])
                first[a] = b.variable(start, "start")[()]
            with b.nest(shape[head:], "parallel") as inner:
                index = (*outer, *inner)
                own = {axis: index[window[k]] for k, axis in enumerate(s.window)}
                target = tuple(first.get(a, constant(0)) + own.get(a, constant(0)) for a in range(len(limits)))
                inside = [c for a in s.axes for c in (target[a] >= 0, target[a] < limits[a])]
                with b.when(*inside):
                    results = body.lower(b, [*(y[target] for y in ys), *(u[index] for u in updates)])
                    for y, result in zip(ys, results, strict=True):
                        b.store(y, target, result)


def _apply(body: Body, results: list[np.ndarray], updates: Sequence[np.ndarray], target: Any, source: Any) -> None:
    parts = [r[target] for r in results]
    if parts[0].size:
        given = [u[source].reshape(p.shape) for u, p in zip(updates, parts, strict=True)]
        for result, value in zip(results, body.evaluate(*parts, *given), strict=True):
            result[target] = value


def _head(shape: Shape, window: Shape) -> int:
    """How many axes of the updates come before those of the slices alone: within one place no element meets another."""
    return max((axis + 1 for axis in range(len(shape)) if axis not in window), default=0)


def _update(site: Site) -> Body:
    kinds: list[DType] = [t.dtype for t in site.outputs]
    return Body.of(site, site.attrs.update_computation_subgraph_index, kinds + kinds, kinds)


def _scattered(site: Site) -> Slices:
    a, count = site.attrs, len(site.outputs)
    return slices(
        site, site.input(0), count, a.index_vector_dim, a.scatter_dims_to_operand_dims, a.inserted_window_dims
    )
