"""Operators that read or write at places given by a tensor. Such places are checked before anything is touched."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Expr, all_of, constant
from lithe.ops.layout import (
    PLAIN,
    Movement,
    check_indices,
    fill,
    integers,
    known_integers,
    require_indices,
    require_known_indices,
    vector_length,
    zero,
)
from lithe.ops.op import Axes, Op, Site, register
from lithe.types import BOOL, FLOAT32, INT8, UINT8, Shape


@register
class Gather(Movement):
    """y[batch, before, k, after] = params[batch, before, indices[batch, k], after]; k may stand for several axes."""

    name, code = "GATHER", 36
    keeps_scale = True
    named_axes = Axes(attribute="axis")
    operands = (("params", "indices"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64 int16"

    @dataclass(frozen=True)
    class Attrs:
        axis: int = 0
        batch_dims: int = 0

    def infer(site: Site) -> list[Shape]:
        params, indices = site.input(0), site.input(1)
        axis, batch = _axis(site, params.rank, indices.rank)
        site.require(batch <= axis, f"batch_dims {batch} must not exceed axis {axis}")
        site.require(
            params.shape[:batch] == indices.shape[:batch], f"{params} and {indices} must agree on {batch} axes", 1
        )
        require_known_indices(site, 1, params.shape[axis])
        return [params.shape[:axis] + indices.shape[batch:] + params.shape[axis + 1 :]]

    def evaluate(site: Site, params: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
        axis, batch = _axis(site, params.ndim, indices.ndim)
        require_indices(indices, params.shape[axis], "indices")
        shape = params.shape[:axis] + indices.shape[batch:] + params.shape[axis + 1 :]
        rows, columns, _ = _folded(params.shape, indices.shape, axis, batch)
        source, places = params.reshape(rows), indices.reshape(columns)
        return [np.stack([p[:, i] for p, i in zip(source, places, strict=True)]).reshape(shape)
                if len(source) else np.empty(shape, params.dtype)]  # fmt: skip

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        params, indices = xs[0], xs[1]
        axis, batch = _axis(site, len(params.shape), len(indices.shape))
        check_indices(b, site, 1, indices, params.shape[axis])
        folded, places, result = _folded(params.shape, indices.shape, axis, batch)
        source, at, y = params.viewed(folded), indices.viewed(places), ys[0].viewed(result)
        with b.nest(result[:3], "parallel") as (n, o, k):
            place = b.variable(at[n, k].to(INDEX), "place")
            with b.loop(result[3], "parallel") as i:
                b.store(y, (n, o, k, i), source[n, o, place[()], i])


def _axis(site: Site, rank: int, indices_rank: int) -> tuple[int, int]:
    axis = site.axis(site.attrs.axis, rank)
    batch = site.attrs.batch_dims + (indices_rank if site.attrs.batch_dims < 0 else 0)
    site.require(0 <= batch <= min(rank, indices_rank), f"batch_dims {site.attrs.batch_dims} is out of range")
    return axis, batch


def _folded(params: Shape, indices: Shape, axis: int, batch: int) -> tuple[Shape, Shape, Shape]:
    """Shapes of params, indices and result with their axes folded to (batch, before, axis, after) and (batch, k)."""
    n, before, after = math.prod(params[:batch]), math.prod(params[batch:axis]), math.prod(params[axis + 1 :])
    k = math.prod(indices[batch:])
    return (n, before, params[axis], after), (n, k), (n, before, k, after)


def _check_places(b: Builder, site: Site, operand: int, places: Buffer, limits: Shape) -> None:
    """Ends the inference unless places[:, a] lies in [0, limits[a]) for every a."""
    if site.known(operand) is not None:
        return
    with b.loop(places.shape[0]) as n:
        for a, limit in enumerate(limits):
            at = places[n, a].to(INDEX)
            b.fail_unless(all_of(at >= 0, at < limit), f"{site.operand(operand)} must lie in [0, {limit}) on axis {a}")


def _flat(places: Buffer, n: Expr, limits: Shape) -> Expr:
    at = constant(0)
    for a, limit in enumerate(limits):
        at = at * limit + places[n, a].to(INDEX)
    return at


@register
class GatherNd(Movement):
    """y[n] = params[indices[n, 0], indices[n, 1], ...], an element or a slice; n may stand for several axes."""

    name, code = "GATHER_ND", 107
    keeps_scale = True
    operands = (("params", "indices"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64 int16"

    def infer(site: Site) -> list[Shape]:
        params, indices = site.input(0), site.input(1)
        site.require(indices.rank >= 1, f"must have at least one axis, is {indices}", 1)
        depth = indices.shape[-1]
        site.require(depth <= params.rank, f"{indices} names {depth} axes of {params}", 1)
        values = site.known(1)
        if values is not None and values.size:
            limits = np.array(params.shape[:depth])
            site.require(bool(np.all((values >= 0) & (values < limits))), f"must lie in {params}", 1)
        return [indices.shape[:-1] + params.shape[depth:]]

    def evaluate(site: Site, params: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
        depth = indices.shape[-1]
        for a in range(depth):
            require_indices(indices[..., a], params.shape[a], "indices")
        shape = indices.shape[:-1] + params.shape[depth:]
        return [np.array(np.broadcast_to(params[tuple(np.moveaxis(indices, -1, 0))], shape), order="C")]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        params, indices = xs[0], xs[1]
        depth = indices.shape[-1]
        limits, inner = params.shape[:depth], math.prod(params.shape[depth:])
        places = indices.viewed((math.prod(indices.shape[:-1]), depth))
        _check_places(b, site, 1, places, limits)
        source, y = params.viewed((math.prod(limits), inner)), ys[0].viewed((places.shape[0], inner))
        with b.loop(places.shape[0], "parallel") as n:
            place = b.variable(_flat(places, n, limits), "place")
            with b.loop(inner, "parallel") as i:
                b.store(y, (n, i), source[place[()], i])


@register
class ScatterNd(Op):
    """Zeros of the given shape, to which updates[n] is added at indices[n]; repeats add up in order (bool: or)."""

    name, code = "SCATTER_ND", 122
    operands = (("indices", "updates", "shape"), ("output",))
    types = "int32 T int32 -> T: T= float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"

    def infer(site: Site) -> list[Shape]:
        indices, updates = site.input(0), site.input(1)
        rank = vector_length(site, 2)
        site.require(indices.rank >= 1, f"must have at least one axis, is {indices}", 0)
        depth = indices.shape[-1]
        site.require(depth <= rank, f"{indices} names {depth} axes of {rank}", 0)
        shape = known_integers(site, 2)
        if shape is None:
            return [(None,) * rank]
        site.require(min(shape, default=0) >= 0, f"must not be negative, is {shape}", 2)
        wanted = indices.shape[:-1] + tuple(shape[depth:])
        site.require(updates.shape == wanted, f"must have shape {list(wanted)}, is {updates}", 1)
        values = site.known(0)
        if values is not None and values.size:
            site.require(bool(np.all((values >= 0) & (values < shape[:depth]))), f"must lie in {shape}", 0)
        return [tuple(shape)]

    def evaluate(site: Site, indices: np.ndarray, updates: np.ndarray, shape: np.ndarray) -> list[np.ndarray]:
        sizes, depth = integers(shape), indices.shape[-1]
        if min(sizes, default=0) < 0 or updates.shape != indices.shape[:-1] + tuple(sizes[depth:]):
            raise ExecutionError(f"updates of shape {list(updates.shape)} cannot be scattered into shape {sizes}")
        for a in range(depth):
            require_indices(indices[..., a], sizes[a], "indices")
        result = np.zeros(sizes, updates.dtype)
        with np.errstate(over="ignore"):
            np.add.at(result, tuple(np.moveaxis(indices, -1, 0)), updates)
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        indices, updates, y = xs[0], xs[1], ys[0]
        depth = indices.shape[-1]
        limits, inner = y.shape[:depth], math.prod(y.shape[depth:])
        places = indices.viewed((math.prod(indices.shape[:-1]), depth))
        _check_places(b, site, 0, places, limits)
        fill(b, y, zero(y.dtype))
        source, target = updates.viewed((places.shape[0], inner)), y.viewed((math.prod(limits), inner))
        with b.loop(places.shape[0]) as n:
            place = b.variable(_flat(places, n, limits), "place")
            with b.loop(inner, "parallel") as i:
                held, more = target[place[()], i], source[n, i]
                b.store(target, (place[()], i), held | more if y.dtype == BOOL else held + more)


@register
class EmbeddingLookup(Movement):
    """y[n] = value[ids[n]]; quantized rows may come out as reals, times the scale of the tensor, row or block."""

    name, code = "EMBEDDING_LOOKUP", 7
    keeps_scale = True
    blocks = True
    beside_reals, blocks_beside_reals = ("int8", "int4", "int2"), ("int4", "int2")
    operands = (("ids", "value"), ("output",))
    types = f"""int32 T -> T: {PLAIN}
    int32 T -> F: T= int8q uint8q int4q int2q; F= float32 float16"""

    def infer(site: Site) -> list[Shape]:
        ids, value = site.rank(0, 1), site.input(1)
        site.require(value.rank >= 1, f"must have at least one axis, is {value}", 1)
        require_known_indices(site, 0, value.shape[0])
        if _dequantized(site):
            pairs = len(value.quantization.scale)
            by_row = value.quantization.block > 0 or (pairs in (1, value.shape[0]) and value.quantization.axis == 0)
            site.require(by_row, f"must have one scale, or one for each row; has {pairs}", 1)
        return [ids.shape + value.shape[1:]]

    def evaluate(site: Site, ids: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        require_indices(ids, value.shape[0], "ids")
        rows = value[ids]
        if _dequantized(site):
            scale, zero = _block_scales(site)
            blocks = (ids.size, scale.shape[1], math.prod(value.shape[1:]) // max(1, scale.shape[1]))
            stored = rows.reshape(blocks).view(np.int8) if _signed(site) else rows.reshape(blocks)
            real = (stored.astype(np.float32) - zero[ids][..., None]) * scale[ids][..., None]
            rows = real.reshape(rows.shape).astype(site.outputs[0].dtype.numpy)
        return [rows]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        ids, value = xs[0], xs[1]
        rows, inner = value.shape[0], math.prod(value.shape[1:])
        check_indices(b, site, 0, ids, rows)
        scales = zeros = None
        blocks = 1
        if _dequantized(site):
            scales, zeros = (b.constant(v, n) for v, n in zip(_block_scales(site), ("scale", "zero"), strict=True))
            blocks = scales.shape[1]
        value = value.viewed(value.shape, INT8) if _signed(site) else value
        size = inner // max(1, blocks)
        source, y = value.viewed((rows, blocks, size)), ys[0].viewed((ids.size, blocks, size))
        with b.loop(ids.size, "parallel") as n:
            place = b.variable(ids[n].to(INDEX), "place")
            with b.nest((blocks, size), "parallel") as (j, i):
                x = source[place[()], j, i]
                if scales is not None:
                    x = ((x.to(FLOAT32) - zeros[place[()], j]) * scales[place[()], j]).to(y.dtype)
                b.store(y, (n, j, i), x)


def _dequantized(site: Site) -> bool:
    return site.outputs[0].dtype != site.input(1).dtype


def _signed(site: Site) -> bool:
    """Whether uint8 rows hold int8, as old writers stored them: those without a zero point."""
    value = site.input(1)
    return _dequantized(site) and value.dtype == UINT8 and not any(value.quantization.zero_point)


def _block_scales(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """float32 [rows, blocks] each: scale and zero point of every block of every row; a block may be the whole row."""
    value = site.input(1)
    q, rows = value.quantization, value.shape[0]
    shape = (rows, value.size // q.block // max(1, rows) if q.block else 1)

    def each(values: tuple) -> np.ndarray:
        known = np.asarray(values, np.float32).reshape(shape if q.block else (-1, 1))
        return np.array(np.broadcast_to(known, shape))

    return each(q.scale), each(q.zero_point)
