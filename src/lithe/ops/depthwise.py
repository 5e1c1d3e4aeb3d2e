"""DEPTHWISE_CONV_2D: every channel has filters of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops import dynamic
from lithe.ops.contraction import finished, multiplied, patches, require_arithmetic, sums
from lithe.ops.convolution import TYPES, lower_image, require_image, window
from lithe.ops.op import Op, Site, register
from lithe.ops.padding import actual
from lithe.types import Shape


@register
class DepthwiseConv2D(Op):
    """y[n, r, c, o] = activation(bias[o] + sum of x[n, r*sh + i*dh - top, c*sw + j*dw - left, o // m] * w[0, i, j, o])

    x: [N, H, W, C]; w: [1, KH, KW, C * m], scales for each output channel; bias: [C * m].
    The multiplier m follows from the shapes. Source: schema.fbs, DepthwiseConv2DOptions.
    """

    name, code = "DEPTHWISE_CONV_2D", 4
    weights_axis = 3
    contracts = True
    operands = (("input", "filter", "bias?"), ("output",))
    types = TYPES

    @dataclass(frozen=True)
    class Attrs:
        padding: str = "SAME"
        stride_w: int = 1
        stride_h: int = 1
        depth_multiplier: int = 1
        fused_activation_function: str = "NONE"
        dilation_w_factor: int = 1
        dilation_h_factor: int = 1

    def infer(site: Site) -> list[Shape]:
        x, w = site.rank(0, 4), site.rank(1, 4)
        one, kh, kw, outputs = w.shape
        placement = require_image(site, (kh, kw))
        site.require(one == 1, f"the first size must be 1, is {one}", 1)
        channels = x.shape[3]
        site.require(
            outputs >= 1 and outputs % channels == 0,
            f"{outputs} output channels must be a multiple of the input's {channels}", 1,
        )  # fmt: skip
        require_arithmetic(site, 3, outputs)
        return [(x.shape[0], *placement.size, outputs)]

    def evaluate(site: Site, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> list[np.ndarray]:
        p, groups = window(actual(site, x), w.shape[1:3]), x.shape[3]
        if dynamic.used(site):
            w = w.transpose(3, 1, 2, 0)
            return [dynamic.convolved(site, x, w, bias, p, groups)]
        return [finished(site, sums(site, x, w.transpose(3, 1, 2, 0), p, groups), bias)]

    def factors(site: Site, x: np.ndarray) -> np.ndarray:
        kernel = site.inputs[1].shape[1:3]
        return patches(x, kernel, window(actual(site, x), kernel), x.shape[3])

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, w = xs[0], xs[1]
        _, kh, kw, outputs = w.shape
        if w.values is not None:
            turned = multiplied(b, Buffer(w.name, w.dtype, (outputs, kh, kw, 1), w.values.transpose(3, 1, 2, 0)))
        else:
            turned = b.local(w.dtype, (outputs, kh, kw, 1), "filter")
            b.compute(turned, lambda o, i, j, _: w[0, i, j, o])
        lower_image(b, site, x, turned, xs[2] if len(xs) > 2 else None, ys[0])

    def per_input(site: Site, places: np.ndarray) -> np.ndarray:
        return places.repeat(site.inputs[1].shape[3] // len(places)).reshape(1, 1, 1, -1)
