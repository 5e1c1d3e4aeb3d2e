"""Operators whose result is as long as the data say: they are evaluated, not compiled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.ops.op import Op, Site, register
from lithe.ops.precision import FLOATS
from lithe.types import INT32, INT64, DType, Shape


@register
class Where(Op):
    """The places of the elements that are not zero, one row each, in memory order."""

    name, code = "WHERE", 109
    operands = (("condition",), ("output",))
    types = f"T -> int64: {FLOATS} float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"

    def infer(site: Site) -> list[Shape]:
        return [(None, site.input(0).rank)]

    def evaluate(site: Site, condition: np.ndarray) -> list[np.ndarray]:
        return [np.argwhere(condition).astype(np.int64)]


@register
class Unique(Op):
    """The different elements of x, in the order of their first places, and for each element which one it is."""

    name, code = "UNIQUE", 103
    operands = (("input",), ("output", "indices"))
    types = "T -> T I: T= float32 int8 uint8 int16 int32 int64; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        idx_out_type: DType = INT32

    def infer(site: Site) -> list[Shape]:
        x, t = site.rank(0, 1), site.attrs.idx_out_type
        site.require(t in (INT32, INT64) and t is site.outputs[1].dtype, f"idx_out_type must be the result's, is {t}")
        return [(None,), x.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        _, first, inverse = np.unique(x, return_index=True, return_inverse=True)
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        return [x[first[order]], place[inverse.reshape(-1)].astype(site.outputs[1].dtype.numpy)]
