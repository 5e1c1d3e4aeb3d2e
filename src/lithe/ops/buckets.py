"""BUCKETIZE: which interval a number lies in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, constant, select
from lithe.ops.activation import same_shape
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, FLOAT64, INT32, Shape


@register
class Bucketize(Op):
    """y = the number of boundaries that are not above x (all of them for NaN)."""

    name, code = "BUCKETIZE", 147
    types = "T -> int32: float32 float64 int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        boundaries: tuple[float, ...] = ()

    def infer(site: Site) -> list[Shape]:
        limits = [float(v) for v in site.attrs.boundaries]
        ascending = all(a <= b for a, b in pairwise(limits))
        site.require(ascending, f"boundaries must ascend, are {limits}")
        return same_shape(site)

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        wide = x if x.dtype == np.float64 else x.astype(np.float32)
        limits = np.array(site.attrs.boundaries, np.float32).astype(wide.dtype)
        return [np.asarray(np.searchsorted(limits, wide, "right"), np.int32).reshape(x.shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        wide = FLOAT64 if xs[0].dtype is FLOAT64 else FLOAT32
        limits = np.array(site.attrs.boundaries, np.float32).astype(wide.numpy)
        x, y = xs[0].viewed((xs[0].size,)), ys[0].viewed((ys[0].size,))
        if not limits.size:
            b.compute(y, lambda i: 0)
            return
        table = b.constant(limits, "boundaries")
        with b.loop(y.size, "parallel") as i:
            value = b.variable(x[i].to(wide), "x")
            count = b.reduce(
                0, limits.shape, lambda c, k: c + select(value[()] < table[k], 0, constant(1, INT32)), INT32
            )
            b.store(y, i, count)
