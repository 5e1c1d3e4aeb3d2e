"""Operators that move blocks of pixels between the batch, depth and spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.layout import PLAIN, Movement, integers, known_integers, transpose, zero
from lithe.ops.op import Site, register
from lithe.ops.pad import nothing, zero_value
from lithe.types import Shape

Pairs = list[tuple[int, int]]


def _known(site: Site) -> tuple[list[int], Pairs] | None:
    """(block sizes, borders or crops) when both are constants; checks the operands' shapes."""
    x = site.rank(0, 3, 4)
    spatial = x.rank - 2
    site.require(site.input(1).shape == (spatial,), f"must have shape [{spatial}], is {site.input(1)}", 1)
    site.require(site.input(2).shape == (spatial, 2), f"must have shape [{spatial}, 2], is {site.input(2)}", 2)
    block, pairs = known_integers(site, 1), known_integers(site, 2)
    if block is not None:
        site.require(min(block) > 0, f"must be positive, is {block}", 1)
    if pairs is not None:
        site.require(min(pairs) >= 0, f"must not be negative, are {pairs}", 2)
    if block is None or pairs is None:
        return None
    return block, list(zip(pairs[::2], pairs[1::2], strict=True))


def _running(block: np.ndarray, pairs: np.ndarray) -> tuple[list[int], Pairs]:
    sizes, flat = integers(block), integers(pairs)
    if min(sizes) <= 0 or min(flat) < 0:
        raise ExecutionError(f"block_shape {sizes} must be positive and {flat} not negative")
    return sizes, list(zip(flat[::2], flat[1::2], strict=True))


def _four(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """A 3-D shape [batch, width, channels] as 4-D with height 1."""
    if len(shape) == 3:
        return shape[0], 1, shape[1], shape[2]
    return shape[0], shape[1], shape[2], shape[3]


def _two(block: list[int], pairs: Pairs) -> tuple[list[int], Pairs]:
    missing = 2 - len(block)
    return [1] * missing + block, [(0, 0)] * missing + pairs


@register
class SpaceToBatch(Movement):
    """Pads the picture, cuts it into blocks, and makes each place in a block a picture of its own.

    y[(by * bw + bx) * N + n, h, w, c] = padded[n, h * bh + by, w * bw + bx, c]
    """

    name, code = "SPACE_TO_BATCH_ND", 38
    keeps_scale = True
    operands = (("input", "block_shape", "paddings"), ("output",))
    types = f"T I I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        known, x = _known(site), site.input(0)
        if known is None:
            return [(None,) * (x.rank - 1) + x.shape[-1:]]
        n, result = x.shape[0], []
        for axis, (size, by, (before, after)) in enumerate(zip(x.shape[1:-1], *known, strict=True)):
            padded = size + before + after
            site.require(padded % by == 0, f"axis {axis + 1}: {padded} with padding is no multiple of block {by}", 1)
            n *= by
            result.append(padded // by)
        return [(n, *result, x.shape[-1])]

    def evaluate(site: Site, x: np.ndarray, block: np.ndarray, paddings: np.ndarray) -> list[np.ndarray]:
        sizes, pairs = _running(block, paddings)
        for size, by, pair in zip(x.shape[1:-1], sizes, pairs, strict=True):
            if (size + sum(pair)) % by:
                raise ExecutionError(f"{size + sum(pair)} pixels with padding are no multiple of block {by}")
        rank = x.ndim
        (bh, bw), pairs = _two(sizes, pairs)
        n, h, w, c = _four(x.shape)
        x = np.pad(x.reshape(n, h, w, c), [(0, 0), *pairs, (0, 0)], constant_values=nothing(site, x.dtype))
        h, w = x.shape[1] // bh, x.shape[2] // bw
        y = x.reshape(n, h, bh, w, bw, c).transpose(2, 4, 0, 1, 3, 5).reshape(bh * bw * n, h, w, c)
        return [np.ascontiguousarray(y[:, 0] if rank == 3 else y)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (bh, bw), ((top, bottom), (left, right)) = _two(*_known(site))
        n, h, w, c = _four(xs[0].shape)
        _, oh, ow, _ = _four(ys[0].shape)
        x, y = xs[0].viewed((n, h, w, c)), ys[0].viewed((bh, bw, n, oh, ow, c))
        nothing = zero(y.dtype, zero_value(site))
        with b.nest((bh, bw, n, oh, ow), "parallel") as (by, bx, i, oy, ox):
            row, column = oy * bh + by - top, ox * bw + bx - left
            inside = ([row >= 0] if top else []) + ([row < h] if bottom else [])
            inside += ([column >= 0] if left else []) + ([column < w] if right else [])
            with b.when(*inside), b.loop(c, "parallel") as k:
                b.store(y, (by, bx, i, oy, ox, k), x[i, row, column, k])
            if inside:
                with b.otherwise(), b.loop(c, "parallel") as k:
                    b.store(y, (by, bx, i, oy, ox, k), nothing)


@register
class BatchToSpace(Movement):
    """The reverse of SPACE_TO_BATCH_ND; crops[a] = pixels to take off before and after axis a."""

    name, code = "BATCH_TO_SPACE_ND", 37
    keeps_scale = True
    operands = (("input", "block_shape", "crops"), ("output",))
    types = f"T I I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        known, x = _known(site), site.input(0)
        if known is None:
            return [(None,) * (x.rank - 1) + x.shape[-1:]]
        n, result = x.shape[0], []
        for axis, (size, by, (before, after)) in enumerate(zip(x.shape[1:-1], *known, strict=True)):
            site.require(n % by == 0, f"block {by} does not divide the batch {x.shape[0]} of {x}", 1)
            n //= by
            left = size * by - before - after
            site.require(left >= 0, f"axis {axis + 1}: crops {before} and {after} exceed {size * by}", 2)
            result.append(left)
        return [(n, *result, x.shape[-1])]

    def evaluate(site: Site, x: np.ndarray, block: np.ndarray, crops: np.ndarray) -> list[np.ndarray]:
        sizes, pairs = _running(block, crops)
        rank = x.ndim
        (bh, bw), ((top, bottom), (left, right)) = _two(sizes, pairs)
        n, h, w, c = _four(x.shape)
        if n % (bh * bw) or top + bottom > h * bh or left + right > w * bw:
            raise ExecutionError(f"blocks {sizes} and crops {pairs} do not fit the shape {list(x.shape)}")
        y = x.reshape(bh, bw, n // (bh * bw), h, w, c).transpose(2, 3, 0, 4, 1, 5)
        y = y.reshape(n // (bh * bw), h * bh, w * bw, c)[:, top : h * bh - bottom, left : w * bw - right]
        return [np.ascontiguousarray(y[:, 0] if rank == 3 else y)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (bh, bw), ((top, _), (left, _)) = _two(*_known(site))
        _, h, w, c = _four(xs[0].shape)
        n, oh, ow, _ = _four(ys[0].shape)
        x, y = xs[0].viewed((bh, bw, n, h, w, c)), ys[0].viewed((n, oh, ow, c))
        with b.nest((n, oh, ow, c), "parallel") as (i, oy, ox, k):
            row, column = oy + top, ox + left
            b.store(y, (i, oy, ox, k), x[row % bh, column % bw, i, row // bh, column // bw, k])


def _block(site: Site) -> int:
    site.require(site.attrs.block_size > 0, f"block_size must be positive, is {site.attrs.block_size}")
    return site.attrs.block_size


@register
class DepthToSpace(Movement):
    """y[n, h * s + dy, w * s + dx, c] = x[n, h, w, (dy * s + dx) * C + c] with s = block_size."""

    name, code = "DEPTH_TO_SPACE", 5
    keeps_scale = True
    types = f"T -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        block_size: int = 2

    def infer(site: Site) -> list[Shape]:
        n, h, w, c = site.rank(0, 4).shape
        s = _block(site)
        site.require(c % (s * s) == 0, f"{c} channels are no multiple of block_size {s} squared", 0)
        return [(n, h * s, w * s, c // (s * s))]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        n, h, w, c = x.shape
        s = site.attrs.block_size
        y = x.reshape(n, h, w, s, s, c // (s * s)).transpose(0, 1, 3, 2, 4, 5)
        return [y.reshape(n, h * s, w * s, c // (s * s))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        n, h, w, c = xs[0].shape
        s = site.attrs.block_size
        transpose(b, xs[0].viewed((n * h, w, s, c // s)), ys[0], (0, 2, 1, 3))


@register
class SpaceToDepth(Movement):
    """y[n, h, w, (dy * s + dx) * C + c] = x[n, h * s + dy, w * s + dx, c] with s = block_size."""

    name, code = "SPACE_TO_DEPTH", 26
    keeps_scale = True
    types = f"T -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        block_size: int = 2

    def infer(site: Site) -> list[Shape]:
        n, h, w, c = site.rank(0, 4).shape
        s = _block(site)
        site.require(h % s == 0 and w % s == 0, f"a picture of {h} x {w} is no multiple of block_size {s}", 0)
        return [(n, h // s, w // s, c * s * s)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        n, h, w, c = x.shape
        s = site.attrs.block_size
        y = x.reshape(n, h // s, s, w // s, s, c).transpose(0, 1, 3, 2, 4, 5)
        return [y.reshape(n, h // s, w // s, c * s * s)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        n, h, w, c = xs[0].shape
        s = site.attrs.block_size
        transpose(b, xs[0].viewed((n * h // s, s, w // s, s * c)), ys[0], (0, 2, 1, 3))
