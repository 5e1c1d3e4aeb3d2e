"""Sums and other reductions of rows that belong to one segment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, all_of, maximum, minimum
from lithe.ops.layout import fill, integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import DType, Shape

TYPES = "float32 int32"


@register
class SegmentSum(Op):
    """y[s] = the sum of the rows of x whose segment id is s; ids ascend."""

    name, code = "SEGMENT_SUM", 125
    operands = (("data", "segment_ids"), ("output",))
    types = f"T int32 -> T: {TYPES}"

    def infer(site: Site) -> list[Shape]:
        x, ids = site.input(0), site.rank(1, 1)
        site.require(x.rank >= 1 and x.shape[0] == ids.size, f"{ids} must have one element for each row of {x}", 1)
        known = known_integers(site, 1)
        if known is None:
            return [(None, *x.shape[1:])]
        site.require(_ascending(known), f"must not be negative and must ascend, are {known}", 1)
        return [(known[-1] + 1 if known else 0, *x.shape[1:])]

    def evaluate(site: Site, x: np.ndarray, ids: np.ndarray) -> list[np.ndarray]:
        places = integers(ids)
        if not _ascending(places):
            raise ExecutionError(f"segment_ids must not be negative and must ascend, are {places}")
        count = places[-1] + 1 if places else 0
        if count * math.prod(x.shape[1:]) > MOST_ELEMENTS:
            raise ExecutionError(f"{count} segments of shape {list(x.shape[1:])} are more than allowed")
        result = np.zeros((count, *x.shape[1:]), x.dtype)
        with np.errstate(all="ignore"):
            np.add.at(result, ids, x)
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        ids = site.constant(1)  # otherwise the shape is not known, and this is not called
        table = b.constant(ids, "segment_ids")
        inner = math.prod(xs[0].shape[1:])
        x, y = xs[0].viewed((ids.size, inner)), ys[0].viewed((ys[0].shape[0], inner))
        fill(b, y, 0)
        with b.loop(ids.size) as n:
            place = b.variable(table[n].to(INDEX), "place")
            with b.loop(inner, "parallel") as i:
                b.store(y, (place[()], i), y[place[()], i] + x[n, i])


MOST_ELEMENTS = 1 << 28


def _ascending(ids: list[int]) -> bool:
    return all(a <= b for a, b in zip([0, *ids], ids, strict=False))


def _lowest(dtype: DType) -> Any:
    return float(np.finfo(dtype.numpy).min) if dtype.is_float else dtype.minimum


def _highest(dtype: DType) -> Any:
    return float(np.finfo(dtype.numpy).max) if dtype.is_float else dtype.maximum


def unsorted(
    name: str, code: int, doc: str, start: Callable[[DType], Any], step: Callable[[Any, Any], Any], ufunc: np.ufunc
) -> type[Op]:
    """Defines and registers y[s] = the reduction of the elements of x whose segment id is s; negative ids are none."""

    def infer(site: Site) -> list[Shape]:
        x, ids = site.input(0), site.input(1)
        site.require(x.shape[: ids.rank] == ids.shape, f"{ids} must have the first axes of {x}", 1)
        site.require(site.input(2).size == 1, f"must have one element, is {site.input(2)}", 2)
        count = (known_integers(site, 2) or [None])[0]
        site.require(count is None or count >= 0, f"must not be negative, is {count}", 2)
        known = known_integers(site, 1)
        if count is not None and known:
            site.require(max(known) < count, f"must be below {count}, found {max(known)}", 1)
        return [(count, *x.shape[ids.rank :])]

    def evaluate(site: Site, x: np.ndarray, ids: np.ndarray, segments: np.ndarray) -> list[np.ndarray]:
        (count,) = integers(segments)
        if count < 0:
            raise ExecutionError(f"num_segments must not be negative, is {count}")
        if ids.size and ids.max() >= count:
            raise ExecutionError(f"segment_ids must be below {count}, found {ids.max()}")
        inner = x.shape[ids.ndim :]
        result = np.full((count, *inner), start(site.outputs[0].dtype), x.dtype)
        used = ids >= 0
        with np.errstate(all="ignore"):
            ufunc.at(result, ids[used], x[used])
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        count, rows = ys[0].shape[0], xs[1].size
        inner = math.prod(ys[0].shape[1:])
        ids, x, y = xs[1].viewed((rows,)), xs[0].viewed((rows, inner)), ys[0].viewed((count, inner))
        if site.known(1) is None:
            with b.loop(rows) as n:
                b.fail_unless(ids[n].to(INDEX) < count, f"segment_ids must be below {count}")
        fill(b, y, start(y.dtype))
        with b.loop(rows if y.size else 0) as n:
            place = b.variable(ids[n].to(INDEX), "place")
            with b.when(all_of(place[()] >= 0)), b.loop(inner, "parallel") as i:
                b.store(y, (place[()], i), step(x[n, i], y[place[()], i]))

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": f"T int32 int32 -> T: {TYPES}",
            "operands": (("data", "segment_ids", "num_segments"), ("output",)),
            "infer": infer, "evaluate": evaluate, "lower": lower,
        })
    )  # fmt: skip


UnsortedSegmentSum = unsorted(
    "UNSORTED_SEGMENT_SUM", 155, "the sum for each segment", lambda t: 0, lambda x, y: y + x, np.add
)
UnsortedSegmentProd = unsorted(
    "UNSORTED_SEGMENT_PROD", 153, "the product for each segment", lambda t: 1, lambda x, y: y * x, np.multiply
)
UnsortedSegmentMax = unsorted(
    "UNSORTED_SEGMENT_MAX",
    154,
    "the greatest for each segment; the least number without any",
    _lowest,
    maximum,
    np.fmax,
)
UnsortedSegmentMin = unsorted(
    "UNSORTED_SEGMENT_MIN",
    157,
    "the least for each segment; the greatest number without any",
    _highest,
    minimum,
    np.fmin,
)
