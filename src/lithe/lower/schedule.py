"""Which schedule writes a contraction for a target: chosen by operand types, shapes and constant weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lithe.ir.build import Builder, Convolution, MatrixProduct, Schedule, plain
from lithe.lower import sparse, tiles, winograd
from lithe.lower.contraction import Product
from lithe.lower.costs import LARGEST_WINDOW
from lithe.lower.depthwise import UNSIGNED_SHIFT, by_regions, interleaved, is_depthwise
from lithe.lower.direct import Direct, in_halves, in_nibbles, is_direct, narrowed
from lithe.lower.matrix import Matrices, as_convolution, as_product, fits
from lithe.lower.panels import flattened
from lithe.lower.share_out import AWAY
from lithe.lower.split import split
from lithe.targets.cpu import Target
from lithe.types import FLOAT32, INT64, UINT8


@dataclass(frozen=True)
class Choice:
    """One way to write a contraction where several are right; what it leaves open, the rules below decide.

    without  schedules that are not taken: "winograd", "sparse".
    target   what the schedules are told of the machine in the place of the truth, by field of `Target`: a narrower
             vector, another share of the cache, tiles of another width, words in the place of bytes.
    away     nanoseconds that a byte from another core is taken to cost when loops are shared out; None: the usual.

    Sums of integers are the same for every choice. Those of floats are sums of float32 products for every choice but
    those of a target that multiplies bfloat16, which are for the precisions that say so.
    """

    name: str
    without: frozenset[str] = frozenset()
    target: tuple[tuple[str, Any], ...] = field(default=(), hash=False, compare=False)
    away: float | None = None


USUAL = Choice("usual")


def choices(target: Target, threads: int = 1) -> Iterator[Choice]:
    """All ways that are worth a try on a machine, the usual one first."""
    yield USUAL
    direct, dense = frozenset({"winograd"}), frozenset({"sparse"})
    yield Choice("direct", direct)
    yield Choice("dense", dense)
    for n in (1, 2, 3, 4):
        yield Choice(f"{n} across", target=(("across", (n,)),))
        yield Choice(f"direct, {n} across", direct, (("across", (n,)),))
    for factor in (1 / 8, 1 / 2, 4):
        yield Choice(f"{factor:g} of the cache", target=(("cache_bytes", int(target.cache_bytes * factor)),))
    if target.vector_bytes > 16:
        yield Choice("half vectors", target=(("vector_bytes", target.vector_bytes // 2),))
    if target.dot is not target.words:
        yield Choice("words", target=(("dot", target.words),))
    if target.float_dot is not None or target.splits:
        yield Choice("float32", target=(("float_dot", None), ("tiles", None)))
    if target.tiles is not None:
        yield Choice("vectors", target=(("tiles", None),))
    if threads > 1:
        yield Choice("far cores", away=4 * AWAY)
        yield Choice("near cores", away=0.0)


def schedule(target: Target, choice: Choice = USUAL) -> Schedule:
    """How contractions are written for a target."""
    target = replace(target, **dict(choice.target))

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
            splits = target.splits and c.accumulator == FLOAT32
            tiles.Tiled(b, flattened(split(b, c) if splits else c), target).emit()
        elif "sparse" not in choice.without and sparse.pays(c, target):
            sparse.Sparse(b, c, target).emit()
        elif c.groups == 1 and "winograd" not in choice.without and winograd.pays(c, target):
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
