"""DENSIFY: sparse constants, which are dense by the time they are in a graph."""

from __future__ import annotations

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.op import Op, Site, register
from lithe.types import Shape


@register
class Densify(Op):
    """y = x: the reader expands a sparse constant (the structure stays with the tensor for the writer)."""

    name, code = "DENSIFY", 124
    types = "T -> T: float32 float16 int8"
    alias = True

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [x]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], lambda x: x, xs[0])
