"""Matrices from diagonals."""

from __future__ import annotations

import math

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.layout import PLAIN, Movement, copy, fill, zero, zeros
from lithe.ops.op import Site, register
from lithe.types import Shape


def _set_diagonal(b: Builder, y: Buffer, diagonal: Buffer) -> None:
    """y[..., i, i] = diagonal[..., i]"""
    rows, columns = y.shape[-2:]
    count = math.prod(y.shape[:-2])
    target = y.viewed((count, rows, columns))
    source = diagonal.viewed((count, min(rows, columns)))
    with b.nest(source.shape, "parallel") as (n, i):
        b.store(target, (n, i, i), source[n, i])


@register
class MatrixDiag(Movement):
    """y[..., i, i] = x[..., i], zero elsewhere."""

    name, code = "MATRIX_DIAG", 113
    operands = (("diagonal",), ("output",))
    types = f"T -> T: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(x.rank >= 1, f"must have at least one axis, is {x}", 0)
        return [(*x.shape, x.shape[-1])]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        result = zeros((*x.shape, x.shape[-1]), x.dtype)
        along = np.arange(x.shape[-1])
        result[..., along, along] = x
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        fill(b, ys[0], zero(ys[0].dtype))
        _set_diagonal(b, ys[0], xs[0])


@register
class MatrixSetDiag(Movement):
    """y = x, but y[..., i, i] = diagonal[..., i]."""

    name, code = "MATRIX_SET_DIAG", 115
    operands = (("input", "diagonal"), ("output",))
    types = f"T T -> T: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(x.rank >= 2, f"must have at least two axes, is {x}", 0)
        wanted = (*x.shape[:-2], min(x.shape[-2:]))
        site.require(site.input(1).shape == wanted, f"must have shape {list(wanted)}, is {site.input(1)}", 1)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, diagonal: np.ndarray) -> list[np.ndarray]:
        result = x.copy()
        along = np.arange(min(x.shape[-2:]))
        result[..., along, along] = diagonal
        return [result]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        copy(b, xs[0], ys[0])
        _set_diagonal(b, ys[0], xs[1])
