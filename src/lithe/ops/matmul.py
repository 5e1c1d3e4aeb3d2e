"""BATCH_MATMUL: products of matrices, a pair for every batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import requantize
from lithe.ir.build import Builder, MatrixProduct
from lithe.ir.loops import Buffer, Expr, constant
from lithe.ops.dynamic import extremes, row_extremes
from lithe.ops.op import Op, Site, register
from lithe.ops.products import less_zero, row_parameters
from lithe.types import FLOAT32, INT16, INT32, INT64, DType, Shape

F = np.float32


@register
class BatchMatMul(Op):
    """z[..., m, n] = sum over k of x[..., m, k] * y[..., k, n]

    The axes before the last two broadcast. adj_x: x is stored as [..., k, m]; adj_y: y as [..., n, k], which may have a
    scale for each n. Real x with integer y: each row of x is quantized while the model runs (see `lithe.ops.products`),
    with a zero point if asked for, or if y is a constant. int32 z: the integer sums themselves.
    Source: schema.fbs, BatchMatMulOptions.
    """

    name, code = "BATCH_MATMUL", 126
    contracts = True
    operands = (("x", "y"), ("output",))
    types = """
    T T -> T: float32 float16 int16q
    int8q int8q -> O: O= int8q int16q int32
    int16q int8q -> int16q
    float32 int8q -> float32
    """

    @dataclass(frozen=True)
    class Attrs:
        adj_x: bool = False
        adj_y: bool = False
        asymmetric_quantize_inputs: bool = False

    def infer(site: Site) -> list[Shape]:
        x, y = site.input(0), site.input(1)
        for i, t in enumerate((x, y)):
            site.require(t.rank >= 2, f"rank must be at least 2, is {t.rank} ({t})", i)
        rows, depth = x.shape[-2:][:: -1 if site.attrs.adj_x else 1]
        other, columns = y.shape[-2:][:: -1 if site.attrs.adj_y else 1]
        site.require(depth == other, f"{x} has {depth} columns and {y} has {other} rows: they must be equal")
        site.require(depth >= 1, f"must not be empty, is {x}", 0)
        whole = ((x, "x"), (site.outputs[0], "output")) if site.quantized else ()
        for t, name in whole:
            scale, _ = site.quantization(t, name)
            site.require(scale > 0 and math.isfinite(scale), f"scale must be positive and finite, is {scale}", name)
        q = y.quantization
        if q is not None and q.per_channel:
            fits = q.axis == y.rank - (2 if site.attrs.adj_y else 1) and len(q.scale) == columns
            site.require(fits and not any(q.zero_point), f"must have one scale, or {columns} for its columns", 1)
        try:
            batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        except ValueError:
            batch = None
        site.require(batch is not None, f"the batches of {x} and {y} do not broadcast")
        return [(*batch, rows, columns)]

    def evaluate(site: Site, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        x = x.swapaxes(-1, -2) if site.attrs.adj_x else x
        y = y.swapaxes(-1, -2) if site.attrs.adj_y else y
        dtype = site.outputs[0].dtype
        if site.quick and x.dtype == y.dtype == F:
            return [np.matmul(x, y)]
        if site.inputs[1].dtype.is_float:
            return [np.matmul(x.astype(np.float64), y.astype(np.float64)).astype(F).astype(dtype.numpy)]
        x_zero, y_zero = _zeros(site)
        scale = None
        if _hybrid(site):
            with np.errstate(over="ignore", invalid="ignore"):
                found = row_parameters(*row_extremes(x, -1), _asymmetric(site))
                factor, scale, zero = (np.asarray(v)[..., None] for v in found)
                x = less_zero(x, factor, zero, _asymmetric(site))
        total = np.matmul(x.astype(np.int64) - x_zero, y.astype(np.int64) - y_zero).astype(_wide(site).numpy)
        if scale is not None:
            return [total.astype(F) * (scale.astype(F) * _column_scales(site))]
        return [_finished(site, total, _multipliers(site))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y, z = xs[0], xs[1], ys[0]
        zeros, scale, wide = _zeros(site), None, _wide(site)
        turned = site.attrs.adj_x
        if _hybrid(site):
            x, scale = _quantized(b, site, x)
            turned = False
        factors = None
        if not site.inputs[1].dtype.is_float and z.dtype != INT32:
            values = _column_scales(site) if scale is not None else _multipliers(site)
            factors = b.constant(np.array(np.broadcast_to(values, z.shape[-1])), "multiplier")

        def epilogue(total: Expr, n: Expr, place: tuple[Expr, ...]) -> Any:
            if scale is not None:
                return total.to(FLOAT32) * (_of_row(scale, place) * factors[n])
            if factors is not None:
                return _finished(site, total, factors[n])
            return total.to(z.dtype)

        b.product(MatrixProduct(x, y, z, (turned, site.attrs.adj_y), wide, epilogue, zeros))


def _hybrid(site: Site) -> bool:
    return site.inputs[0].dtype.is_float and not site.inputs[1].dtype.is_float


def _asymmetric(site: Site) -> bool:
    return site.attrs.asymmetric_quantize_inputs or site.known(1) is not None


def _wide(site: Site) -> DType:
    """The type of the sums."""
    return FLOAT32 if site.inputs[1].dtype.is_float else INT64 if site.inputs[0].dtype == INT16 else INT32


def _zeros(site: Site) -> tuple[int, int]:
    """The zero points of x and y; those of quantized rows are subtracted already."""
    found = [0 if t.quantization is None or t.dtype.is_float else t.quantization.zero_point[0] for t in site.inputs]
    return found[0], found[1]


def _column_scales(site: Site) -> np.ndarray:
    """float32: y's scale, or the scales of its columns."""
    return np.asarray(site.inputs[1].quantization.scale, F)


def _multipliers(site: Site) -> np.ndarray:
    if not site.quantized:
        return np.ones(1, F)
    (x_scale, _), (scale, _) = site.quantization(site.inputs[0]), site.quantization(site.outputs[0])
    return F(x_scale) * _column_scales(site) / F(scale)


def _finished(site: Site, total: np.ndarray | Expr, multiplier: np.ndarray | Expr) -> np.ndarray | Expr:
    """An integer sum as the output holds it."""
    z = site.outputs[0]
    if not site.quantized:
        return total
    return requantize(total, multiplier, site.quantization(z)[1], z.dtype.minimum, z.dtype.maximum, z.dtype)


def _of_row(t: Buffer, place: tuple[Expr, ...]) -> Expr:
    """The element of t [..., m], whose axes broadcast, for a row (..., m) of the product."""
    own = place[len(place) - len(t.shape) :]
    return t[tuple(constant(0) if size == 1 else i for size, i in zip(t.shape, own, strict=True))]


def _quantized(b: Builder, site: Site, x: Buffer) -> tuple[Buffer, Buffer]:
    """(rows [..., m, k] less their zero points, the scale [..., m] of each row)."""
    *batch, rows, depth = (*x.shape[:-2], *x.shape[-2:][:: -1 if site.attrs.adj_x else 1])
    if site.attrs.adj_x:
        turned = b.local(FLOAT32, (*batch, rows, depth), "turned")
        b.compute(turned, lambda *i: x[(*i[:-2], i[-1], i[-2])])
        x = turned
    count = math.prod((*batch, rows))
    flat = x.viewed((count, depth))
    stored, scale = b.local(INT16, (count, depth), "quantized"), b.local(FLOAT32, (count,), "row_scale")
    with b.loop(count, "parallel", "row") as n:
        factor, step, zero = row_parameters(*extremes(b, flat, n), _asymmetric(site))
        factor, point = b.variable(factor, "factor"), b.variable(zero, "point")
        b.store(scale, n, step)
        with b.loop(depth, "parallel") as i:
            b.store(stored, (n, i), less_zero(flat[n, i], factor[()], point[()], _asymmetric(site)).to(INT16))
    return stored.viewed((*batch, rows, depth)), scale.viewed((*batch, rows))
