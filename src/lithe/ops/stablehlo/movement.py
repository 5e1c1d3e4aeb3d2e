"""Operators of the StableHLO dialect that move elements, and one that makes numbers from places."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lithe.errors import UnsupportedOp
from lithe.ir.arithmetic import clamp
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, constant
from lithe.ops.cast import converted
from lithe.ops.concatenation import Concatenation
from lithe.ops.layout import PLAIN, Movement, copy, transpose
from lithe.ops.op import Op, Site, register
from lithe.ops.update import DynamicUpdateSlice
from lithe.types import INT64, Shape

STARTS = "I= int8 int16 int32 int64 uint8 uint16 uint32"


@register
class StablehloReshape(Movement):
    """The elements of x in memory order, in the declared shape. Source: StableHLO, reshape."""

    name, code = "STABLEHLO_RESHAPE", 167
    types = f"T -> T: {PLAIN}"
    alias = True

    def infer(site: Site) -> list[Shape]:
        x, y = site.input(0), site.outputs[0]
        site.require(x.size == y.size, f"{x} cannot be given the shape {list(y.shape)}", 0)
        return [y.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [x.reshape(site.outputs[0].shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        copy(b, xs[0], ys[0])


@register
class StablehloTranspose(Movement):
    """Axis a of the result is axis permutation[a] of x. Source: StableHLO, transpose."""

    name, code = "STABLEHLO_TRANSPOSE", 202
    types = f"T -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        permutation: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, order = site.input(0), site.attrs.permutation
        named = sorted(order) == list(range(x.rank))
        site.require(named, f"permutation must name each axis of {x} once, is {order}")
        return [tuple(x.shape[a] for a in order)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.transpose(site.attrs.permutation), order="C")]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        transpose(b, xs[0], ys[0], site.attrs.permutation)


@register
class StablehloBroadcastInDim(Movement):
    """y[i] = x[i[dimensions]], where an axis of size 1 stretches. Source: StableHLO, broadcast_in_dim."""

    name, code = "STABLEHLO_BROADCAST_IN_DIM", 170
    types = f"T -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        broadcast_dimensions: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, y, axes = site.input(0), site.outputs[0], site.attrs.broadcast_dimensions
        site.require(len(axes) == x.rank, f"broadcast_dimensions must have {x.rank} elements, are {axes}")
        site.require(len(set(axes)) == len(axes), f"broadcast_dimensions must differ, are {axes}")
        for d, a in zip(x.shape, axes, strict=True):
            site.require(0 <= a < y.rank, f"broadcast_dimensions must lie in [0, {y.rank}), are {axes}")
            site.require(d in (1, y.shape[a]), f"size {d} of {x} does not stretch to axis {a} of {y}", 0)
        return [y.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        y, axes = site.outputs[0], site.attrs.broadcast_dimensions
        aligned = [1] * y.rank
        for d, a in zip(x.shape, axes, strict=True):
            aligned[a] = d
        ordered = x.transpose(np.argsort(axes)) if axes else x
        return [np.array(np.broadcast_to(ordered.reshape(aligned), y.shape))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        (x,), (y,), axes = xs, ys, site.attrs.broadcast_dimensions
        if list(axes) == sorted(axes):
            sizes = dict(zip(axes, x.shape, strict=True))
            b.elementwise(y, lambda v: v, x.viewed(tuple(sizes.get(a, 1) for a in range(len(y.shape)))))
            return
        places = list(zip(axes, x.shape, strict=True))
        b.compute(y, lambda *i: x[tuple(constant(0) if d == 1 else i[a] for a, d in places)])


@register
class StablehloConcatenate(Movement):
    """The inputs one after another along an axis. Source: StableHLO, concatenate."""

    name, code = "STABLEHLO_CONCATENATE", 169
    operands = (("inputs*",), ("output",))
    types = f"T* -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        dimension: int = 0

    def infer(site: Site) -> list[Shape]:
        return Concatenation.infer(_along(site))

    def evaluate(site: Site, *parts: np.ndarray) -> list[np.ndarray]:
        return Concatenation.evaluate(_along(site), *parts)

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        Concatenation.lower(b, _along(site), xs, ys)


def _along(site: Site) -> Site:
    return replace(site, attrs=Concatenation.Attrs(site.attrs.dimension))


@register
class StablehloSlice(Movement):
    """Every strides[a]-th element from start_indices[a] to (not with) limit_indices[a]. Source: StableHLO, slice."""

    name, code = "STABLEHLO_SLICE", 172
    types = f"T -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        start_indices: tuple[int, ...] = ()
        limit_indices: tuple[int, ...] = ()
        strides: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, a = site.input(0), site.attrs
        for name in ("start_indices", "limit_indices", "strides"):
            given = getattr(a, name)
            site.require(len(given) == x.rank, f"{name} must have one element for each axis of {x}, is {given}")
        site.require(min(a.strides, default=1) >= 1, f"strides must be at least 1, are {a.strides}")
        for first, last, d in zip(a.start_indices, a.limit_indices, x.shape, strict=True):
            site.require(0 <= first <= last <= d, f"[{first}, {last}) leaves an axis of size {d}", 0)
        return [tuple(map(len, map(range, a.start_indices, a.limit_indices, a.strides)))]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a = site.attrs
        return [np.array(x[tuple(map(slice, a.start_indices, a.limit_indices, a.strides))])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        a, x = site.attrs, xs[0]
        b.compute(ys[0], lambda *i: x[tuple(v * s + f for v, s, f in zip(i, a.strides, a.start_indices, strict=True))])


def _require_starts(site: Site, first: int) -> None:
    """One scalar for each axis of the operand, from input `first` on."""
    x, starts = site.input(0), range(first, len(site.inputs))
    site.require(len(starts) == x.rank, f"{x} needs {x.rank} start indices, has {len(starts)}")
    for i in starts:
        site.require(site.input(i).size == 1, f"must have one element, is {site.input(i)}", i)


def _integers(starts: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.array([s.item() for s in starts], np.int64)


@register
class StablehloDynamicSlice(Movement):
    """slice_sizes elements of x from the start indices on, which are clamped. Source: StableHLO, dynamic_slice."""

    name, code = "STABLEHLO_DYNAMIC_SLICE", 193
    operands = (("operand", "start_indices*"), ("output",))
    types = f"T I* -> T: T= {PLAIN}; {STARTS}"

    @dataclass(frozen=True)
    class Attrs:
        slice_sizes: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, sizes = site.input(0), site.attrs.slice_sizes
        fits = len(sizes) == x.rank and all(0 <= s <= d for s, d in zip(sizes, x.shape, strict=True))
        site.require(fits, f"slice_sizes {sizes} do not fit in {x}")
        _require_starts(site, 1)
        return [tuple(sizes)]

    def evaluate(site: Site, x: np.ndarray, *starts: np.ndarray) -> list[np.ndarray]:
        sizes = site.attrs.slice_sizes
        first = np.clip(_integers(starts), 0, np.array(x.shape, np.int64) - np.array(sizes, np.int64)).tolist()
        return [np.array(x[tuple(slice(f, f + s) for f, s in zip(first, sizes, strict=True))])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        x, *starts = xs
        rooms = [d - s for d, s in zip(x.shape, site.attrs.slice_sizes, strict=True)]
        first = [
            b.variable(clamp(s.viewed((1,))[0].to(INDEX), 0, room), "first")[()]
            for s, room in zip(starts, rooms, strict=True)
        ]
        b.compute(ys[0], lambda *i: x[tuple(v + f for v, f in zip(i, first, strict=True))])


@register
class StablehloDynamicUpdateSlice(Movement):
    """x with `update` from the start indices on, which are clamped. Source: StableHLO, dynamic_update_slice."""

    name, code = "STABLEHLO_DYNAMIC_UPDATE_SLICE", 194
    operands = (("operand", "update", "start_indices*"), ("output",))
    types = f"T T I* -> T: T= {PLAIN}; {STARTS}"

    def infer(site: Site) -> list[Shape]:
        x, update = site.input(0), site.input(1)
        fits = update.rank == x.rank and all(u <= d for u, d in zip(update.shape, x.shape, strict=True))
        site.require(fits, f"{update} must fit in {x}", 1)
        _require_starts(site, 2)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, update: np.ndarray, *starts: np.ndarray) -> list[np.ndarray]:
        return DynamicUpdateSlice.evaluate(site, x, update, _integers(starts))

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        x, update, *starts = xs
        together = b.local(INT64, (len(starts),), "starts")
        for n, start in enumerate(starts):
            b.store(together, n, start.viewed((1,))[0].to(INT64))
        DynamicUpdateSlice.lower(b, site, (x, update, together), ys)


@register
class StablehloIota(Op):
    """y[i] = i[iota_dimension]. Source: StableHLO, iota."""

    name, code = "STABLEHLO_IOTA", 196
    operands = ((), ("output",))
    types = "-> T: float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64"

    @dataclass(frozen=True)
    class Attrs:
        iota_dimension: int = 0

    def infer(site: Site) -> list[Shape]:
        y, axis = site.outputs[0], site.attrs.iota_dimension
        site.require(0 <= axis < y.rank, f"iota_dimension must lie in [0, {y.rank}), is {axis}")
        return [y.shape]

    def evaluate(site: Site) -> list[np.ndarray]:
        y, axis = site.outputs[0], site.attrs.iota_dimension
        along = np.arange(y.shape[axis]).astype(y.dtype.numpy)
        return [np.array(np.broadcast_to(along.reshape([-1] + [1] * (y.rank - axis - 1)), y.shape))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        (y,), axis = ys, site.attrs.iota_dimension
        b.compute(y, lambda *i: converted(constant(i[axis]), y.dtype))


# Targets that say how a computation is shared out among devices: with one device, x as it is. Source: XLA, Shardy.
ONE_DEVICE = ("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape")


@register
class StablehloCustomCall(Movement):
    """What a target's name stands for. The format gives it no meaning: only annotations of devices are understood."""

    name, code = "STABLEHLO_CUSTOM_CALL", 173
    operands = (("inputs*",), ("results*",))
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        call_target_name: str = ""
        has_side_effect: bool = False
        backend_config: str = ""
        api_version: int = 0
        called_computations: tuple[int, ...] = ()
        custom_attributes: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        return [y.shape for y in site.outputs]

    def evaluate(site: Site, *xs: np.ndarray) -> list[np.ndarray]:
        if not _passes_on(site):
            problem = f"nothing here does what the custom call '{site.attrs.call_target_name}' asks for"
            raise UnsupportedOp(problem, hint="convert the model without it")
        return [xs[0].copy()]

    def lowers(site: Site) -> bool:
        return _passes_on(site) and Movement.lowers(site)

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        copy(b, xs[0], ys[0])


def _passes_on(site: Site) -> bool:
    same = [(t.dtype, t.shape) for t in site.inputs] == [(t.dtype, t.shape) for t in site.outputs]
    return site.attrs.call_target_name in ONE_DEVICE and same and len(site.outputs) == 1
