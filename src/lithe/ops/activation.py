"""Unary operators: one text is traced to loops, evaluated by numpy, and folded to a table for 8-bit types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.arithmetic import quantize_real
from lithe.ir.build import Builder
from lithe.ir.elementary import logistic
from lithe.ir.loops import INDEX, Buffer
from lithe.ops.op import Op, Site, register
from lithe.types import Shape


def same_shape(site: Site) -> list[Shape]:
    """Every output has the shape of input 0."""
    return [site.input(0).shape] * len(site.outputs)


def table(site: Site, function: Callable[[Any], Any]) -> np.ndarray:
    """The 256 stored results for every stored value of an 8-bit input, least value first."""
    x, y = site.inputs[0], site.outputs[0]
    (scale, zero_point), (out_scale, out_zero_point) = site.quantization(x), site.quantization(y)
    stored = np.arange(x.dtype.minimum, x.dtype.maximum + 1)
    real = function(((stored - zero_point) * np.float64(np.float32(scale))).astype(np.float32))
    scaled = (real / np.float32(out_scale)).astype(np.float32)
    return quantize_real(scaled, out_zero_point, y.dtype.minimum, y.dtype.maximum, y.dtype)


def unary(name: str, code: int, function: Callable[[Any], Any], doc: str, types: str) -> type[Op]:
    """Defines and registers y = function(x), elementwise."""

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        if site.quantized:
            return [table(site, function)[x.astype(np.int64) - site.inputs[0].dtype.minimum]]
        return [np.asarray(function(x), x.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        if site.quantized:
            entries = b.constant(table(site, function), "table")
            lowest = site.inputs[0].dtype.minimum
            b.elementwise(ys[0], lambda v: entries[v.to(INDEX) - lowest], xs[0])
        else:
            b.elementwise(ys[0], function, xs[0])

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "name": name, "code": code, "types": types,
            "infer": same_shape, "evaluate": evaluate, "lower": lower,
        })
    )  # fmt: skip


Logistic = unary("LOGISTIC", 14, logistic, "y = 1 / (1 + exp(-x))", "T -> T: float32 int8q uint8q")
