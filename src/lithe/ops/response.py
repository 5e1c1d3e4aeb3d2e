"""LOCAL_RESPONSE_NORMALIZATION."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.elementary import power
from lithe.ir.loops import Buffer, constant
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, Shape


@register
class LocalResponseNormalization(Op):
    """y[..., c] = x[..., c] / (bias + alpha * the sum of x[..., j]**2 over |j - c| <= radius) ** beta"""

    name, code = "LOCAL_RESPONSE_NORMALIZATION", 13
    types = "float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        radius: int = 5
        bias: float = 1.0
        alpha: float = 1.0
        beta: float = 0.5

    def infer(site: Site) -> list[Shape]:
        a = site.attrs
        site.require(a.radius >= 0, f"radius must not be negative, is {a.radius}")
        finite = all(math.isfinite(v) for v in (a.bias, a.alpha, a.beta))
        site.require(finite, f"bias, alpha and beta must be finite, are {a.bias}, {a.alpha}, {a.beta}")
        return [site.rank(0, 4).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a, channels = site.attrs, x.shape[-1]
        with np.errstate(all="ignore"):
            squares = x * x
            total = np.zeros_like(x)
            for c in range(channels):
                total[..., c] = squares[..., max(0, c - a.radius) : c + a.radius + 1].sum(-1)
            scale = np.float32(a.bias) + np.float32(a.alpha) * total
            return [np.asarray(x * scale ** np.float32(-a.beta), np.float32)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        a, channels = site.attrs, xs[0].shape[-1]
        if xs[0].size == 0:
            return
        folded = (xs[0].size // channels, channels)
        x, y = xs[0].viewed(folded), ys[0].viewed(folded)
        radius = min(a.radius, channels - 1)
        with b.nest(folded, "parallel") as (n, c):
            total = b.variable(0.0, "total", FLOAT32)
            with b.loop(2 * radius + 1) as j:
                at = c + j - radius
                with b.when(at >= 0, at < channels):
                    b.store(total, (), total[()] + x[n, at] * x[n, at])
            scale = total[()] * a.alpha + a.bias
            b.store(y, (n, c), x[n, c] * power(scale, constant(-a.beta, FLOAT32)))
