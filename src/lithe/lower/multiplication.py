"""Products of two matrices that are both computed in the run, as tiles of sums that live in registers.

pack the right matrix, panel by panel of columns, in the order in which it is read
for panel of columns:  for tile of rows:
  sums = 0;  for k: sums[m][n] += left[m][k] * right[k][n];  store sums
"""

from __future__ import annotations

from lithe.ir.build import Builder, Multiplication, Multiply, plain_multiplication
from lithe.ir.loops import FMA, Buffer, Expr, Intrinsic
from lithe.lower.contraction import Panel, Product, heights, panels, tile_shape
from lithe.targets.cpu import Target
from lithe.types import FLOAT32

FEW_ROWS = 4  # packing the right matrix costs as much as multiplying that many rows with it


def multiplication(target: Target) -> Multiply:
    """How products of computed matrices are written for a target."""

    def multiply(b: Builder, c: Multiplication) -> None:
        if c.accumulator == FLOAT32 and c.rows > FEW_ROWS and c.columns > 1 and c.depth > 1:
            _tiled(b, c, target)
        else:
            plain_multiplication(b, c)

    return multiply


def _tiled(b: Builder, c: Multiplication, target: Target) -> None:
    height, width = tile_shape(c.rows, 1, c.columns, target.lanes, target.registers)
    for p in panels(c.columns, width, target.lanes):
        packed = b.scratch(FLOAT32, (p.count, c.depth, p.room), "right")
        with b.nest((p.count, c.depth), "serial", "row") as (panel, k):
            with b.loop(p.used, "parallel", "column") as n:
                b.store(packed, (panel, k, n), c.right(k, panel * p.used + p.first + n))
            with b.loop(p.room - p.used, "parallel", "column") as n:
                b.store(packed, (panel, k, n + p.used), 0.0)
        with b.loop(p.count, "serial", "panel") as panel:
            done = 0
            for high, count in heights(c.rows, height):
                with b.loop(count, "serial", "tile") as tile:
                    _tile(b, c, target, packed, p, panel, tile * high + done, high)
                done += high * count


def _tile(
    b: Builder, c: Multiplication, target: Target, packed: Buffer, p: Panel, panel: Expr, row: Expr, high: int
) -> None:
    """`high` rows and one panel."""
    sums = b.local(FLOAT32, (high, p.room), "sums")
    with b.loop(high, "unrolled", "r") as r:
        for at, lanes in Product.vectors(p):
            with b.loop(lanes, "vector", "l") as l:
                b.store(sums, (r, at + l), 0.0)
    with b.loop(c.depth, "serial", "k") as k, b.loop(high, "unrolled", "r") as r:
        for at, lanes in Product.vectors(p):
            with b.loop(lanes, "vector", "l") as l:
                total, left, right = sums[r, at + l], c.left(row + r, k), packed[panel, k, at + l]
                joined = Intrinsic(FMA, (left, right, total)) if target.fma else total + left * right
                b.store(sums, (r, at + l), joined)
    with b.loop(high, "unrolled", "r") as r:
        for at, lanes in Product.vectors(p):
            with b.loop(min(lanes, p.used - at), "vector", "l") as l:
                c.store(row + r, panel * p.used + p.first + at + l, sums[r, at + l])
