"""NumericVerify: the difference between a quantized tensor and what it should be, for debugging of quantized models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import F, absolute, cast
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, constant, select
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, INT32, Shape


@register
class NumericVerify(Op):
    """y = (input - zero_point) * scale - reference

    With log_if_failed and a tolerance of 0.1 or more, a difference beyond tolerance * scale is an error.
    Source: TensorFlow Lite, kernels/numeric_verify.cc (behaviour, not text).
    """

    name = "NumericVerify"
    operands = (("input", "reference"), ("output",))
    types = """
    T float32 -> float32: T= int8q uint8q int16q
    float16 float32 -> float32
    """

    @dataclass(frozen=True)
    class Attrs:
        tolerance: float = 5.0
        log_if_failed: bool = False

    def infer(site: Site) -> list[Shape]:
        x, reference = site.input(0), site.input(1)
        site.require(reference.shape == x.shape, f"must have the shape of {x}, is {reference}", 1)
        if x.dtype.is_integer:
            site.quantization(x, "input")
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, reference: np.ndarray) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            y, limit = _real(site, x) - reference, _limit(site)
            if limit is not None and (np.abs(y) > limit).any():
                raise ExecutionError(f"NumericVerify: {FAILED}")
        return [y]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (x, reference), y, limit = xs, ys[0], _limit(site)
        b.elementwise(y, lambda v, r: _real(site, v) - r, x, reference)
        if limit is not None:
            flat, zero = y.viewed((y.size,)), constant(0, INT32)
            failed = b.reduce(zero, flat.shape, lambda n, i: select(absolute(flat[i]) > limit, constant(1, INT32), n))
            b.fail_unless(failed.equals(0), FAILED)


FAILED = "a difference is beyond the tolerance"


def _real(site: Site, x: Any) -> Any:
    t = site.input(0)
    if t.dtype.is_float:
        return cast(x, FLOAT32)
    scale, zero_point = site.quantization(t, "input")
    return cast(cast(x, INT32) - zero_point, FLOAT32) * F(scale)


def _limit(site: Site) -> np.float32 | None:
    """The greatest difference that is allowed, None where any is."""
    a, quantization = site.attrs, site.input(0).quantization
    if not (a.log_if_failed and F(a.tolerance) >= 0.1):
        return None
    with np.errstate(all="ignore"):
        return F(a.tolerance) * F(quantization.scale[0] if quantization is not None and quantization.scale else 0.0)
