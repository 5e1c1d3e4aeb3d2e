"""BATCH_MATMUL: products of matrices, a pair for every batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.ir.arithmetic import requantize
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr, constant
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, INT32, Shape


@register
class BatchMatMul(Op):
    """z[..., m, n] = sum over k of x[..., m, k] * y[..., k, n]

    The axes before the last two broadcast. adj_x: x is stored as [..., k, m]; adj_y: y as [..., n, k].
    Source: schema.fbs, BatchMatMulOptions.
    """

    name, code = "BATCH_MATMUL", 126
    operands = (("x", "y"), ("output",))
    types = "T T -> T: float32 int8q"

    @dataclass(frozen=True)
    class Attrs:
        adj_x: bool = False
        adj_y: bool = False
        asymmetric_quantize_inputs: bool = False

    def infer(site: Site) -> list[Shape]:
        x, y = site.input(0), site.input(1)
        for i, t in enumerate((x, y)):
            site.require(2 <= t.rank <= 5, f"rank must be 2 to 5, is {t.rank} ({t})", i)
        rows, depth = x.shape[-2:][:: -1 if site.attrs.adj_x else 1]
        other, columns = y.shape[-2:][:: -1 if site.attrs.adj_y else 1]
        site.require(depth == other, f"{x} has {depth} columns and {y} has {other} rows: they must be equal")
        site.require(depth >= 1, f"must not be empty, is {x}", 0)
        if site.quantized:
            for t, name in ((x, "x"), (y, "y"), (site.outputs[0], "output")):
                scale, _ = site.quantization(t, name)
                site.require(scale > 0 and math.isfinite(scale), f"scale must be positive and finite, is {scale}", name)
        try:
            batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        except ValueError:
            batch = None
        site.require(batch is not None, f"the batches of {x} and {y} do not broadcast")
        return [(*batch, rows, columns)]

    def evaluate(site: Site, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        x = x.swapaxes(-1, -2) if site.attrs.adj_x else x
        y = y.swapaxes(-1, -2) if site.attrs.adj_y else y
        if not site.quantized:
            return [np.matmul(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)]
        x_zero, y_zero = (site.quantization(t)[1] for t in site.inputs)
        total = np.matmul(x.astype(np.float64) - x_zero, y.astype(np.float64) - y_zero)  # exact below 2**53
        z = site.outputs[0]
        return [requantize(total.astype(np.int64).astype(np.int32), *_scaling(site), z.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y, z = xs[0], xs[1], ys[0]
        adj_x, adj_y = site.attrs.adj_x, site.attrs.adj_y
        depth = x.shape[-2 if adj_x else -1]
        wide = INT32 if site.quantized else FLOAT32
        zeros = [site.quantization(t)[1] if site.quantized else 0 for t in site.inputs]

        def element(t: Buffer, batch: tuple[Expr, ...], place: tuple[Expr, Expr], zero: int) -> Expr:
            own = batch[len(batch) - (len(t.shape) - 2) :]
            at = tuple(constant(0) if size == 1 else i for size, i in zip(t.shape, own, strict=False))
            value = t[(*at, *place)].to(wide)
            return value - zero if zero else value

        with b.nest(z.shape, "parallel") as (*batch, m, n):
            total = b.variable(0, "total", wide)
            with b.loop(depth) as k:
                left = element(x, tuple(batch), (k, m) if adj_x else (m, k), zeros[0])
                right = element(y, tuple(batch), (n, k) if adj_y else (k, n), zeros[1])
                b.store(total, (), total[()] + left * right)
            value = requantize(total[()], *_scaling(site), z.dtype) if site.quantized else total[()]
            b.store(z, (*batch, m, n), value)


def _scaling(site: Site) -> tuple[np.float32, int, int, int]:
    """(multiplier, zero point, least, greatest stored value) of the output."""
    scale, zero = site.quantization(site.outputs[0])
    x_scale, y_scale = (np.float32(site.quantization(t)[0]) for t in site.inputs)
    dtype = site.outputs[0].dtype
    return x_scale * y_scale / np.float32(scale), zero, dtype.minimum, dtype.maximum
