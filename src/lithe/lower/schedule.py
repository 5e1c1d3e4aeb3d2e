"""Which schedule writes a contraction for a target: chosen by operand types, shapes and constant weights."""

from __future__ import annotations

import math

from lithe.ir.build import Builder, Convolution, MatrixProduct, Schedule, plain
from lithe.lower import sparse, tiles, winograd
from lithe.lower.contraction import Product
from lithe.lower.depthwise import UNSIGNED_SHIFT, by_regions, interleaved, is_depthwise
from lithe.lower.direct import Direct, in_halves, in_nibbles, is_direct, narrowed
from lithe.lower.matrix import Matrices, as_convolution, as_product, fits
from lithe.lower.panels import flattened
from lithe.targets.cpu import Target
from lithe.types import INT64, UINT8

LARGEST_WINDOW = 49  # taps of a depthwise window; more would unroll into too much code


def schedule(target: Target) -> Schedule:
    """How contractions are written for a target."""

    def write(b: Builder, c: Convolution | MatrixProduct) -> None:
        c = c if isinstance(c, Convolution) else as_convolution(b, c) or c
        product = as_product(c) if isinstance(c, Convolution) else c
        if product is not None and fits(product):
            Matrices(b, product, target).emit()
        elif isinstance(c, Convolution) and is_direct(c):
            convolve(b, c)
        else:
            plain(b, c)

    def convolve(b: Builder, c: Convolution) -> None:
        regular = is_depthwise(c) and math.prod(c.w.shape[1:3]) <= LARGEST_WINDOW
        if c.accumulator == INT64 and regular and narrowed(b, c) is not c:
            by_regions(b, narrowed(b, c), target)
        elif not _dtypes_fit(c) or in_nibbles(c, target) or in_halves(c, target):
            Direct(b, c, target).emit()
        elif regular:
            byte = c.x.dtype.name in UNSIGNED_SHIFT
            dots = target.dot is not None and target.dot.left == UINT8
            (interleaved if byte and dots else by_regions)(b, c, target)
        elif c.groups == 1 and tiles.pays(c, target):
            tiles.Tiled(b, flattened(c), target).emit()
        elif sparse.pays(c, target):
            sparse.Sparse(b, c, target).emit()
        elif c.groups == 1 and winograd.pays(c, target):
            winograd.Winograd(b, c, target).emit()
        elif c.groups == 1:
            Product(b, flattened(c), target).emit()
        else:
            Direct(b, c, target).emit()

    return write


def _dtypes_fit(c: Convolution) -> bool:
    kinds = (c.x.dtype.name, c.w.dtype.name, c.accumulator.name)
    return kinds in (
        ("float32", "float32", "float32"), ("int8", "int8", "int32"), ("uint8", "uint8", "int32"),
        ("uint8", "int8", "int32"),
    )  # fmt: skip
