"""Rows of an embedding matrix, combined as a sparse tensor says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import sqrt
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, all_of, constant, minimum
from lithe.ops.fill import MOST_ELEMENTS
from lithe.ops.layout import fill, integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, Shape

F = np.float32
OUTSIDE = "ids must name rows of params, and indices places in dense_shape"


@register
class EmbeddingLookupSparse(Op):
    """y[i] = sum of params[ids[n]] * weights[n] over the n with indices[n, :-1] = i, divided as the combiner says.

    combiner  SUM: by nothing; MEAN: by the sum of the weights; SQRTN: by the square root of the sum of their squares.
    indices   int32 [lookups, rank], sorted: elements of one place follow each other, and a run of them is divided
              when it ends. Places without elements hold 0.
    Source: TensorFlow Lite, kernels/embedding_lookup_sparse.cc (behaviour).
    """

    name, code = "EMBEDDING_LOOKUP_SPARSE", 33
    operands = (("ids", "indices", "dense_shape", "weights", "params"), ("output",))
    types = "int32 int32 int32 float32 float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        combiner: str = "SUM"

    def infer(site: Site) -> list[Shape]:
        ids, indices, shape = site.rank(0, 1), site.rank(1, 2), site.rank(2, 1)
        site.require(indices.shape[0] == ids.size, f"must have a row for each of {ids}, is {indices}", 1)
        site.require(site.rank(3, 1).size == ids.size, f"must have one for each of {ids}, is {site.input(3)}", 3)
        site.require(shape.size == indices.shape[1] > 0, f"must have a size for each column of {indices}", 2)
        params = site.input(4)
        site.require(params.rank >= 2, f"rank must be at least 2, is {params}", 4)
        known = known_integers(site, 2)
        if known is None:
            return [(*(None,) * (shape.size - 1), *params.shape[1:])]
        site.require(min(known) >= 0, f"must not be negative, is {known}", 2)
        return [(*known[:-1], *params.shape[1:])]

    def evaluate(
        site: Site, ids: np.ndarray, indices: np.ndarray, shape: np.ndarray, weights: np.ndarray, params: np.ndarray
    ) -> list[np.ndarray]:
        outer, sizes = tuple(integers(shape)[:-1]), params.shape[1:]
        if min(outer, default=0) < 0 or math.prod((*outer, *sizes)) > MOST_ELEMENTS:
            raise ExecutionError(f"dense_shape {integers(shape)} asks for a result that cannot be")
        places = indices[:, :-1]
        inside = (places >= 0).all() and (places < np.array(outer, np.int64)).all()
        if not inside or (ids < 0).any() or (ids >= params.shape[0]).any():
            raise ExecutionError(OUTSIDE)
        y = np.zeros((*outer, *sizes), F)
        total = F(0)
        for n, (place, weight) in enumerate(zip(map(tuple, places), weights, strict=True)):
            y[place] = y[place] + params[ids[n]] * weight
            total = total + _share(site.attrs.combiner, weight)
            if n + 1 == len(ids) or not np.array_equal(places[n], places[n + 1]):
                y[place] = y[place] / _divisor(site.attrs.combiner, total)
                total = F(0)
        return [y]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        ids, indices, _, weights, params = xs
        combiner = site.attrs.combiner
        outer, count = site.outputs[0].shape[: indices.shape[1] - 1], ids.size
        fill(b, ys[0], 0.0)
        rows = params.shape[0]
        width = params.size // rows if rows else 0
        table = params.viewed((rows, width))
        result = ys[0].viewed((ys[0].size // width if width else 0, width))
        total = b.variable(0.0, "total", FLOAT32)
        with b.loop(count, name="lookup") as n:
            row = ids[n].to(INDEX)
            index = [indices[n, a].to(INDEX) for a in range(len(outer))]
            limits = (rows, *outer)
            inside = [c for i, size in zip((row, *index), limits, strict=True) for c in (i >= 0, i < size)]
            b.fail_unless(all_of(*inside), OUTSIDE)
            place = sum((i * math.prod(outer[a + 1 :]) for a, i in enumerate(index)), constant(0))
            b.store(total, (), total[()] + _share(combiner, weights[n]))
            with b.loop(width, "parallel") as k:
                b.store(result, (place, k), result[place, k] + table[row, k] * weights[n])
            following = minimum(n + 1, count - 1)
            other = [indices[n, a].differs(indices[following, a]) for a in range(len(outer))]
            with b.when(reduce(or_, other, (n + 1).equals(count))):
                with b.loop(width, "parallel") as k:
                    b.store(result, (place, k), result[place, k] / _divisor(combiner, total[()]))
                b.store(total, (), 0.0)


def _share(combiner: str, weight: Any) -> Any:
    """What a weight adds to the sum that a place is divided by."""
    return weight * weight if combiner == "SQRTN" else weight


def _divisor(combiner: str, total: Any) -> Any:
    return F(1) if combiner == "SUM" else sqrt(total) if combiner == "SQRTN" else total
