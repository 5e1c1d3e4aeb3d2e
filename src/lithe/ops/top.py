"""TOPK_V2: the greatest elements of each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Expr, all_of
from lithe.ops.layout import integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

MANY = 8  # times as many elements as are wanted: then most are left out before the rest is sorted


@register
class TopkV2(Op):
    """The k greatest elements of each row, greatest first, and their places; of equal ones the first. NaN is least."""

    name, code = "TOPK_V2", 48
    keeps_scale = True
    operands = (("input", "k"), ("values", "indices"))
    types = "T K -> T I: T= float32 int8 uint8 int16 int32 int64; K= int32 int16; I= int32 int16"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(x.rank >= 1, f"must have at least one axis, is {x}", 0)
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        most = site.outputs[1].dtype.maximum
        site.require(x.shape[-1] - 1 <= most, f"the places in {x} do not fit in {site.outputs[1].dtype}", 0)
        count = (known_integers(site, 1) or [None])[0]
        inside = count is None or 0 <= count <= x.shape[-1]
        site.require(inside, f"must lie in [0, {x.shape[-1]}], is {count}", 1)
        return [(*x.shape[:-1], count)] * 2

    def evaluate(site: Site, x: np.ndarray, k: np.ndarray) -> list[np.ndarray]:
        (count,) = integers(k)
        if not 0 <= count <= x.shape[-1]:
            raise ExecutionError(f"k must lie in [0, {x.shape[-1]}], is {count}")
        falling = -x if x.dtype.kind == "f" else ~x
        places = _least(falling, count)
        return [np.take_along_axis(x, places, -1), places.astype(site.outputs[1].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        """Each pass over a row finds the greatest element among those behind the last one found."""
        length, count = xs[0].shape[-1], ys[0].shape[-1]
        if ys[0].size == 0:
            return
        rows = ys[0].size // count
        x = xs[0].viewed((rows, length))
        values, places = (y.viewed((rows, count)) for y in ys)
        with b.loop(rows, "parallel") as r:
            last = b.variable(x[r, 0], "last")
            last_place = b.variable(-1, "last_place", INDEX)
            with b.loop(count) as j:
                best = b.variable(x[r, 0], "best")
                place = b.variable(-1, "place", INDEX)
                with b.loop(length) as i:
                    value = x[r, i]
                    behind = _above(last[()], value) | (~_above(value, last[()]) & (i > last_place[()]))
                    behind = behind | (last_place[()] < 0)
                    with b.when(all_of(behind, (place[()] < 0) | _above(value, best[()]))):
                        b.store(best, (), value)
                        b.store(place, (), i)
                b.store(values, (r, j), best[()])
                b.store(places, (r, j), place[()].to(places.dtype))
                b.store(last, (), best[()])
                b.store(last_place, (), place[()])


def _least(x: np.ndarray, count: int) -> np.ndarray:
    """The places of the least elements of each row in their order; of equal ones the first."""
    length = x.shape[-1]
    if not 0 < count * MANY <= length or (x.dtype.kind == "f" and np.isnan(x).any()):
        return np.argsort(x, -1, kind="stable")[..., :count]
    rows = x.reshape(-1, length)
    bounds = np.partition(rows, count - 1)[:, count - 1]
    among = [np.flatnonzero(row <= bound) for row, bound in zip(rows, bounds, strict=True)]
    found = [some[np.argsort(row[some], kind="stable")[:count]] for row, some in zip(rows, among, strict=True)]
    return np.reshape(found, (*x.shape[:-1], count))


def _above(a: Expr, b: Expr) -> Any:
    """a > b, with NaN below every number."""
    return (a > b) | (b.differs(b) & a.equals(a)) if a.dtype.is_float else a > b
