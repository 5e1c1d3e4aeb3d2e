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
    centred,
    convolve,
    finished,
    multiplied,
    require_arithmetic,
    wide_bias,
    zero_point,
)
from lithe.ops.op import Op, Site, register
from lithe.ops.padding import Window, actual
from lithe.types import FLOAT32, DType, Shape

POINT = Window()  # a product of matrices is a convolution of one pixel


@register
class FullyConnected(Op):
    """y[n, o] = activation(bias[o] + sum over i of x[n, i] * w[o, i])

    x: any rank, its elements in rows of I; w: [O, I], scales for each o; bias: [O].
    y: [rows, O], or with keep_num_dims x's shape with O as the last size. Source: schema.fbs, FullyConnectedOptions.
    """

    name, code = "FULLY_CONNECTED", 9
    operands = (("input", "weights", "bias?"), ("output",))
    types = """
    float32 W float32? -> float32: W= float32 float16 int8q uint8q int4q int2q
    float16 W B? -> float16: W= float16 int8q int4q int2q; B= float16 float32
    int8q W int32? -> Y: W= int8q int4q int2q; Y= int8q int16q
    uint8q uint8q int32? -> Y: Y= uint8q int16q
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
        site.require(layout == "DEFAULT", f"weights_format must be DEFAULT, is {layout}", 1)
        outputs, depth = w.shape
        site.require(outputs >= 1 and depth >= 1, f"must not be empty, is {w}", 1)
        site.require(x.size % depth == 0, f"{x} does not divide into rows of {depth} (weights {w})", 0)
        require_arithmetic(site, 0, outputs)
        if not site.attrs.keep_num_dims:
            return [(x.size // depth, outputs)]
        site.require(x.rank >= 1 and x.shape[-1] == depth, f"the last size of {x} must be {depth} (weights {w})", 0)
        return [(*x.shape[:-1], outputs)]

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> list[np.ndarray]:
        outputs, depth = w.shape
        rows = x.reshape(x.size // depth, 1, 1, depth)
        kernel = w.reshape(outputs, 1, 1, depth)
        if dynamic.used(site):
            y = dynamic.convolved(site, rows, kernel, bias, POINT, 1)
        else:
            total = convolve(centred(rows, site.inputs[0]), centred(kernel, site.inputs[1]), POINT, 1)
            y = finished(site, total, bias)
        return [y.reshape(FullyConnected.infer(actual(site, x, w))[0])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        outputs, depth = xs[1].shape
        count = xs[0].size // depth
        if count == 0:
            return
        x = multiplied(b, xs[0]).viewed((count, 1, 1, depth))
        w = multiplied(b, xs[1]).viewed((outputs, 1, 1, depth))
        y, bias = ys[0].viewed((count, 1, 1, outputs)), xs[2] if len(xs) > 2 else None
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
