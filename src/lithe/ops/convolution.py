"""CONV_2D: dense and grouped convolution of images."""

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
    patches,
    require_arithmetic,
    sums,
    wide_bias,
    zero_point,
)
from lithe.ops.op import Op, Site, register
from lithe.ops.padding import Window, actual, placed, require_window
from lithe.types import FLOAT32, DType, Shape

TYPES = """
float32 W float32? -> float32: W= float32 float16 int8q uint8q int4q int2q
float16 float16 B? -> float16: B= float16 float32
int8q W int32? -> int8q: W= int8q int4q int2q
uint8q uint8q int32? -> uint8q
int16q W B? -> int16q: W= int8q int4q int2q; B= int64 int32
"""


def window(site: Site, kernel: tuple[int, int]) -> Window:
    """The placement of a filter with `kernel` rows and columns over input 0."""
    a, (h, w) = site.attrs, site.inputs[0].shape[1:3]
    strides, dilation = (a.stride_h, a.stride_w), (a.dilation_h_factor, a.dilation_w_factor)
    rows = placed(h, kernel[0], strides[0], dilation[0], a.padding)
    columns = placed(w, kernel[1], strides[1], dilation[1], a.padding)
    return Window((rows[0], columns[0]), (rows[1], columns[1]), strides, dilation)


def require_image(site: Site, kernel: tuple[int, int]) -> Window:
    """The rules for a filter over an image; what they allow has at least one output."""
    a, x = site.attrs, site.input(0)
    require_window(site, (a.stride_h, a.stride_w), (a.dilation_h_factor, a.dilation_w_factor), a.padding)
    site.require(min(x.shape) >= 1, f"must not be empty, is {x}", 0)
    site.require(min(kernel) >= 1, f"must not be empty, is {site.input(1)}", 1)
    placement = window(site, kernel)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, placement.dilation, strict=True))
    site.require(max(reach) < 1 << 31, f"the dilated filter spans {reach}, which is too much", 1)
    site.require(
        min(placement.size) >= 1, f"the filter spans {reach} and does not fit in the input's {x.shape[1:3]}", 1
    )
    if dynamic.used(site):
        dynamic.require(site, kernel, placement)
    return placement


@register
class Conv2D(Op):
    """y[n, r, c, o] = activation(bias[o] + sum of x[n, r*sh + i*dh - top, c*sw + j*dw - left, k] * w[o, i, j, k])

    x: [N, H, W, C]; w: [O, KH, KW, C / groups], scales for each o; bias: [O]. Group g reads the g-th part of C.
    Source: schema.fbs, Conv2DOptions.
    """

    name, code = "CONV_2D", 3
    weights_axis = 0
    contracts = True
    operands = (("input", "filter", "bias?"), ("output",))
    types = TYPES
    beside_reals = ("int8", "int4")

    @dataclass(frozen=True)
    class Attrs:
        padding: str = "SAME"
        stride_w: int = 1
        stride_h: int = 1
        fused_activation_function: str = "NONE"
        dilation_w_factor: int = 1
        dilation_h_factor: int = 1
        quantized_bias_type: DType = FLOAT32

    def infer(site: Site) -> list[Shape]:
        x, w = site.rank(0, 4), site.rank(1, 4)
        outputs, kh, kw, depth = w.shape
        placement = require_image(site, (kh, kw))
        site.require(min(w.shape) >= 1, f"must not be empty, is {w}", 1)
        site.require(x.shape[3] % depth == 0, f"depth {depth} must divide the input's {x.shape[3]} channels", 1)
        groups = x.shape[3] // depth
        site.require(outputs % groups == 0, f"{outputs} output channels must be a multiple of {groups} groups", 1)
        require_arithmetic(site, 0, outputs)
        return [(x.shape[0], *placement.size, outputs)]

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> list[np.ndarray]:
        p = window(actual(site, x), w.shape[1:3])
        groups = x.shape[3] // w.shape[3]
        if dynamic.used(site):
            return [dynamic.convolved(site, x, w, bias, p, groups)]
        return [finished(site, sums(site, x, w, p, groups), bias)]

    def factors(site: Site, x: np.ndarray) -> np.ndarray:
        _, kh, kw, depth = site.inputs[1].shape
        return patches(x, (kh, kw), window(actual(site, x), (kh, kw)), x.shape[3] // depth)

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        lower_image(b, site, xs[0], xs[1], xs[2] if len(xs) > 2 else None, ys[0])

    def per_input(site: Site, places: np.ndarray) -> np.ndarray:
        outputs, _, _, depth = site.inputs[1].shape
        grouped = places.reshape(-1, depth)
        return grouped.repeat(outputs // len(grouped), 0).reshape(outputs, 1, 1, depth)


def lower_image(b: Builder, site: Site, x: Buffer, w: Buffer, bias: Buffer | None, y: Buffer) -> None:
    """The convolution of x with w [O, KH, KW, C / groups], by the builder's schedule."""
    p = window(site, w.shape[1:3])
    groups = x.shape[3] // w.shape[3]
    x, w = multiplied(b, x), multiplied(b, w)
    if dynamic.used(site):
        dynamic.lower(b, site, x, w, bias, y, p, groups)
        return
    wide = accumulator(site)
    b.convolution(
        Convolution(
            x, w, wide_bias(b, bias, wide), y, p.strides, p.dilation, p.before, groups, wide,
            Epilogue(b, site, w.shape[0]), zero_point(site.inputs[0]) if site.quantized else 0,
            zero_point(site.inputs[1]) if site.quantized else 0,
        )
    )  # fmt: skip
