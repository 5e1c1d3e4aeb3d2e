"""FULLY_CONNECTED: a matrix product with constant or computed weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder, Convolution
from lithe.ir.loops import Buffer
from lithe.ops import dynamic
from lithe.ops.contraction import (
    Epilogue,
    accumulator,
    finished,
    multiplied,
    require_arithmetic,
    sums,
    wide_bias,
    zero_point,
)
from lithe.ops.op import Axes, Op, Site, register
from lithe.ops.padding import Window, actual
from lithe.types import FLOAT32, DType, Shape

SHUFFLED = "SHUFFLED4x16INT8"
POINT = Window()  # a product of matrices is a convolution of one pixel


@register
class FullyConnected(Op):
    """y[n, o] = activation(bias[o] + sum over i of x[n, i] * w[o, i])

    x: any rank, its elements in rows of I; w: [O, I], scales for each o; bias: [O].
    weights_format SHUFFLED4x16INT8: w lies in tiles of 4 rows and 16 columns, as int8 (zero point 128 is 0), and the
    second output holds x in tiles of all rows and 16 columns, likewise.
    Float activations meet integer weights that may have a scale for each block of neighbours in a row of w.
    y: [rows, O], or with keep_num_dims x's shape with O as the last size. Source: schema.fbs, FullyConnectedOptions.
    """

    name, code = "FULLY_CONNECTED", 9
    named_axes = Axes(last=True, weights=1)
    weights_axis = 0
    contracts = True
    blocks = True
    beside_reals, blocks_beside_reals = ("int8", "int4", "int2"), ("int4",)
    operands = (("input", "weights", "bias?"), ("output", "shuffled_input?"))
    types = """
    float32 W float32? -> float32: W= float32 float16 int8q uint8q int4q int2q
    float16 W B? -> float16: W= float16 int8q int4q int2q; B= float16 float32
    int8q W int32? -> Y: W= int8q int4q int2q; Y= int8q int16q
    uint8q uint8q int32? -> Y: Y= uint8q int16q
    uint8q uint8q int32? -> int16q uint8
    int16q W B? -> int16q: W= int8q int4q int2q int16q; B= int64 int32
    """

    @dataclass(frozen=True)
    class Attrs:
        fused_activation_function: str = "NONE"
        weights_format: str = "DEFAULT"
        keep_num_dims: bool = False
        asymmetric_quantize_inputs: bool = False
        quantized_bias_type: DType = FLOAT32

    def infer(site: Site) -> list[Shape]:
        x, w = site.input(0), site.rank(1, 2)
        layout = site.attrs.weights_format
        outputs, depth = w.shape
        site.require(layout in ("DEFAULT", SHUFFLED), f"weights_format must be DEFAULT or {SHUFFLED}, is {layout}", 1)
        shuffled = layout == SHUFFLED
        wanted = f"{SHUFFLED} weights lead from uint8 to int16 and to x in tiles, and plain ones to one output"
        site.require(shuffled == (len(site.outputs) == 2), wanted)
        if shuffled:
            site.require(outputs % 4 == 0 and depth % 16 == 0, f"{w} must divide into tiles of 4 x 16", 1)
            points = [zero_point(t) for t in (x, w)]
            site.require(points == [128, 128], f"zero points must be 128, are {points}")
        site.require(outputs >= 1 and depth >= 1, f"must not be empty, is {w}", 1)
        site.require(x.size % depth == 0, f"{x} does not divide into rows of {depth} (weights {w})", 0)
        require_arithmetic(site, 0, outputs)
        tiles = [x.shape] if shuffled else []
        if not site.attrs.keep_num_dims:
            return [(x.size // depth, outputs), *tiles]
        site.require(x.rank >= 1 and x.shape[-1] == depth, f"the last size of {x} must be {depth} (weights {w})", 0)
        return [(*x.shape[:-1], outputs), *tiles]

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> list[np.ndarray]:
        outputs, depth = w.shape
        more = []
        if site.attrs.weights_format == SHUFFLED:
            w = w.reshape(_tiles(outputs, depth, 4)).transpose(0, 2, 1, 3).reshape(w.shape) ^ np.uint8(128)
            more = [x.reshape(-1, depth // 16, 16).swapaxes(0, 1).reshape(x.shape) ^ np.uint8(128)]
        rows = x.reshape(x.size // depth, 1, 1, depth)
        kernel = w.reshape(outputs, 1, 1, depth)
        if _block(site):
            y = dynamic.scaled(site, rows, bias, lambda stored: _of_blocks(site, stored, dynamic.signed(w)))
        elif dynamic.used(site):
            y = dynamic.convolved(site, rows, kernel, bias, POINT, 1)
        else:
            y = finished(site, sums(site, rows, kernel, POINT, 1), bias)
        return [y.reshape(FullyConnected.infer(actual(site, x, w))[0]), *more]

    def factors(site: Site, x: np.ndarray) -> np.ndarray:
        return x.reshape(1, -1, site.inputs[1].shape[1])

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        outputs, depth = xs[1].shape
        count = xs[0].size // depth
        if count == 0:
            return
        if site.attrs.weights_format == SHUFFLED:
            xs = (xs[0], _in_order(b, xs[1]), *xs[2:])
            tiles, rows = ys[1].viewed((depth // 16, count, 16)), xs[0].viewed((count, depth // 16, 16))
            b.compute(tiles, lambda j, n, i: rows[n, j, i] ^ 128)
        x = multiplied(b, xs[0]).viewed((count, 1, 1, depth))
        w = multiplied(b, xs[1]).viewed((outputs, 1, 1, depth))
        y, bias = ys[0].viewed((count, 1, 1, outputs)), xs[2] if len(xs) > 2 else None
        if _block(site):
            dynamic.lower_blocks(b, site, x, w, bias, y)
            return
        if dynamic.used(site):
            dynamic.lower(b, site, x, w, bias, y, POINT, 1)
            return
        wide = accumulator(site)
        b.convolution(
            Convolution(
                x, w, wide_bias(b, bias, wide), y, POINT.strides, POINT.dilation, POINT.before, 1, wide,
                Epilogue(b, site, outputs),
                zero_point(site.inputs[0]) if site.quantized else 0,
                zero_point(site.inputs[1]) if site.quantized else 0,
            )
        )  # fmt: skip

    def per_input(site: Site, places: np.ndarray) -> np.ndarray | None:
        """A row of weights may meet several rows of the input's last axis, one after another."""
        depth = site.inputs[1].shape[1]
        plain = site.attrs.weights_format == "DEFAULT" and depth % len(places) == 0
        return np.tile(places, depth // len(places)).reshape(1, -1) if plain else None


def _tiles(rows: int, columns: int, height: int) -> Shape:
    return rows // height, columns // 16, height, 16


def _in_order(b: Builder, w: Buffer) -> Buffer:
    """Weights in rows and columns, as uint8, from tiles of int8."""
    tiles, shape = _tiles(*w.shape, 4), w.shape
    if w.values is not None:
        return b.constant(w.values.reshape(tiles).transpose(0, 2, 1, 3).reshape(shape) ^ np.uint8(128), "weights")
    plain, shuffled = b.local(w.dtype, shape, "weights"), w.viewed(tiles)
    b.compute(plain, lambda o, i: shuffled[o // 4, i // 16, o % 4, i % 16] ^ 128)
    return plain


def _block(site: Site) -> int:
    """How many neighbours in a row of weights share a scale, 0 where all do."""
    q = site.inputs[1].quantization
    return q.block if q is not None else 0


def _block_scales(site: Site) -> np.ndarray:
    """float32 [O, blocks]"""
    q = site.inputs[1].quantization
    return np.asarray(q.scale, np.float32).reshape(site.inputs[1].shape[0], -1)


def _of_blocks(site: Site, stored: np.ndarray, w: np.ndarray) -> np.ndarray:
    """[N, 1, 1, O]: the integer sum of each block times its scale, summed."""
    scales, block = _block_scales(site), _block(site)
    left = stored.reshape(-1, scales.shape[1], block).astype(np.float64)
    right = w.reshape(*scales.shape, block).astype(np.float64)
    total = np.zeros((len(left), len(right)), np.float32)
    for j in range(scales.shape[1]):
        total += (left[:, j] @ right[:, j].T).astype(np.float32) * scales[:, j]
    return total.reshape(len(left), 1, 1, -1)
