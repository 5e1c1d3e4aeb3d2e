"""Sequences turned round and tensors written in part, at places given by data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, all_of, maximum, minimum, select
from lithe.ops.layout import PLAIN, Movement, copy, fill, integers, known_integers, require_indices, vector_length
from lithe.ops.op import Site, register
from lithe.types import Shape


@register
class ReverseSequence(Movement):
    """y[b, s] = x[b, lengths[b] - 1 - s] for s < lengths[b], else x[b, s]; b and s are any two axes."""

    name, code = "REVERSE_SEQUENCE", 112
    keeps_scale = True
    operands = (("input", "seq_lengths"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        seq_dim: int = 0
        batch_dim: int = 0

    def infer(site: Site) -> list[Shape]:
        x, lengths = site.input(0), site.rank(1, 1)
        batch, along = (site.axis(a, x.rank) for a in (site.attrs.batch_dim, site.attrs.seq_dim))
        site.require(batch != along, f"seq_dim and batch_dim must differ, are {along}")
        site.require(lengths.size == x.shape[batch], f"must have {x.shape[batch]} elements, is {lengths}", 1)
        known = known_integers(site, 1) or [0]
        inside = min(known) >= 0 and max(known) <= x.shape[along]
        site.require(inside, f"must lie in [0, {x.shape[along]}], are {known}", 1)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        batch, along = site.attrs.batch_dim % x.ndim, site.attrs.seq_dim % x.ndim
        require_indices(lengths, x.shape[along] + 1, "seq_lengths")
        result = x.copy()
        rows, sources = np.moveaxis(result, (batch, along), (0, 1)), np.moveaxis(x, (batch, along), (0, 1))
        for row, source, length in zip(rows, sources, integers(lengths), strict=True):
            row[:length] = source[:length][::-1]
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        x, lengths = xs[0], xs[1]
        rank = len(x.shape)
        batch, along = site.attrs.batch_dim % rank, site.attrs.seq_dim % rank
        limit = x.shape[along]
        if site.known(1) is None:
            with b.loop(lengths.size) as n:
                length = lengths[n].to(INDEX)
                b.fail_unless(all_of(length >= 0, length <= limit), f"seq_lengths must lie in [0, {limit + 1})")
        with b.nest(x.shape, "parallel") as i:
            length = lengths[i[batch]].to(INDEX)
            place = select(i[along] < length, length - 1 - i[along], i[along])
            source = tuple(place if a == along else v for a, v in enumerate(i))
            b.store(ys[0], i, x[source])


@register
class DynamicUpdateSlice(Movement):
    """y = x, but with `update` from `start` on; a start that would lead out of x is clamped."""

    name, code = "DYNAMIC_UPDATE_SLICE", 151
    keeps_scale = True
    operands = (("operand", "update", "start_indices"), ("output",))
    types = f"T T I -> T: T= {PLAIN}; I= int32 int64"
    updates = True

    def infer(site: Site) -> list[Shape]:
        x, update = site.input(0), site.input(1)
        fits = update.rank == x.rank and all(u <= d for u, d in zip(update.shape, x.shape, strict=True))
        site.require(fits, f"{update} must fit in {x}", 1)
        site.require(site.rank(2, 1).size == x.rank, f"must have {x.rank} elements, is {site.input(2)}", 2)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, update: np.ndarray, start: np.ndarray) -> list[np.ndarray]:
        result = x.copy()
        room = [d - u for d, u in zip(x.shape, update.shape, strict=True)]
        first = [min(max(s, 0), r) for s, r in zip(integers(start), room, strict=True)]
        result[tuple(slice(f, f + u) for f, u in zip(first, update.shape, strict=True))] = update
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        x, update, start = xs
        if x.storage is not ys[0].storage:
            copy(b, x, ys[0])
        room = [d - u for d, u in zip(x.shape, update.shape, strict=True)]
        first = [b.variable(minimum(maximum(start[a].to(INDEX), 0), r), "first") for a, r in enumerate(room)]
        with b.nest(update.shape, "parallel") as i:
            b.store(ys[0], tuple(v + f[()] for v, f in zip(i, first, strict=True)), update[i])


@register
class SparseToDense(Movement):
    """y[indices[n]] = values[n] (or the one value), `default_value` elsewhere; of repeated places the last counts."""

    name, code = "SPARSE_TO_DENSE", 68
    operands = (("indices", "output_shape", "values", "default_value"), ("output",))
    types = f"I I T T -> T: I= int32 int64; T= {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        validate_indices: bool = False

    def infer(site: Site) -> list[Shape]:
        indices, values = site.rank(0, 0, 1, 2), site.rank(2, 0, 1)
        rank = vector_length(site, 1)
        count, depth = _places(indices.shape)
        site.require(depth == rank, f"{indices} must name {rank} axes", 0)
        site.require(values.rank == 0 or values.size == count, f"must have 1 or {count} elements, is {values}", 2)
        site.require(site.input(3).size == 1, f"must have one element, is {site.input(3)}", 3)
        wanted = known_integers(site, 1)
        if wanted is None:
            return [(None,) * rank]
        site.require(min(wanted, default=0) >= 0, f"must not be negative, is {wanted}", 1)
        known = site.known(0)
        if known is not None and known.size:
            placed = known.reshape(count, depth)
            site.require(bool(np.all((placed >= 0) & (placed < wanted))), f"must lie in {wanted}", 0)
        return [tuple(wanted)]

    def evaluate(
        site: Site, indices: np.ndarray, shape: np.ndarray, values: np.ndarray, default: np.ndarray
    ) -> list[np.ndarray]:
        wanted = integers(shape)
        if min(wanted, default=0) < 0:
            raise ExecutionError(f"output_shape must not be negative, is {wanted}")
        places = indices.reshape(_places(indices.shape))
        for a, size in enumerate(wanted):
            require_indices(places[:, a], size, "indices")
        result = np.full(wanted, default.reshape(()), values.dtype)
        for place, value in zip(places, np.broadcast_to(values, len(places)), strict=True):
            result[tuple(place)] = value
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        y, values = ys[0], xs[2]
        places = xs[0].viewed(_places(xs[0].shape))
        with b.loop(places.shape[0] if site.known(0) is None else 0) as n:
            for a, limit in enumerate(y.shape):
                at = places[n, a].to(INDEX)
                b.fail_unless(all_of(at >= 0, at < limit), f"indices must lie in [0, {limit}) on axis {a}")
        fill(b, y, xs[3].viewed((1,))[0])
        flat = values.viewed((values.size,))
        with b.loop(places.shape[0]) as n:
            place = tuple(places[n, a].to(INDEX) for a in range(len(y.shape)))
            b.store(y, place, flat[0 if values.shape == () else n])


def _places(shape: Shape) -> Shape:
    """(number of places, axes that each names) of SPARSE_TO_DENSE's indices."""
    if len(shape) == 2:
        return shape
    return (shape[0], 1) if shape else (1, 1)
