"""What ATen's operators are in builtins: sums, extremes, norms, and orders along axes."""

from __future__ import annotations

import math
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.parts import sliced
from lithe.conversion.reductions import along_last, moments, reduced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.conversion.torch.rules import Call, axes_of, cast, operand, rule
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value
from lithe.types import BOOL, FLOAT32, INT32


@rule("sum", "mean", "prod", "amax", "amin", "any", "all", "nansum")
def reduction(b: Builder, c: Call, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    builtin = REDUCTIONS[c.name.split(".")[0]]
    return reduced(b, builtin, cast(b, x, c.result.dtype), axes_of(dim, x.type.rank), keepdim)


REDUCTIONS = {"sum": "SUM", "mean": "MEAN", "prod": "REDUCE_PROD", "amax": "REDUCE_MAX", "amin": "REDUCE_MIN",
              "any": "REDUCE_ANY", "all": "REDUCE_ALL", "nansum": "SUM"}  # fmt: skip


@rule("max", "min", "max.dim", "min.dim")
def extreme(b: Builder, c: Call, x: Tensor, dim: int | None, keepdim: bool, other: Any) -> Any:
    word = "MAX" if c.name.startswith("max") else "MIN"
    if other is not None:
        return b(f"{word}IMUM", operand(b, x, c.result.dtype), operand(b, other, c.result.dtype))
    axes = axes_of(dim, x.type.rank)
    value = reduced(b, f"REDUCE_{word}", x, axes, keepdim)
    return value if dim is None else [value, _place(b, c, word, x, axes[0], keepdim, 1)]


def _place(b: Builder, c: Call, word: str, x: Tensor, axis: int, keep: bool, result: int = 0) -> Tensor:
    dtype = c.results[result].dtype
    made = b(f"ARG_{word}", x, b.constant(axis), dtype=dtype, output_type=dtype)
    return b.reshape(made, c.results[result].shape) if keep else made


@rule("argmax", "argmin")
def place_of_extreme(b: Builder, c: Call, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    word = c.name[3:6].upper()
    if dim is None:
        return b.reshape(_place(b, c, word, b.reshape(x, (x.type.size,)), 0, False), c.result.shape)
    return _place(b, c, word, x, dim % x.type.rank, keepdim)


@rule("var", "std", "var_mean", "std_mean")
def variance(b: Builder, c: Call, x: Tensor, dim: Any, unbiased: Any, correction: Any, keepdim: bool) -> Any:
    """sum((x - mean)**2) / (n - correction)"""
    axes = axes_of(dim, x.type.rank)
    less = correction if correction is not None else 0 if unbiased is False else 1
    n = math.prod(x.type.shape[a] for a in axes)
    b.require(less == 0 or not is_open(n), "an unbiased variance over an open dimension")
    _, mean_square = moments(b, x, axes)
    value = mean_square * (n / (n - less)) if less else mean_square
    if c.name.startswith("std"):
        value = formulas.sqrt(value)
    made = b.reshape(value.tensor, c.results[0].shape)
    if "mean" not in c.name:
        return made
    return [made, reduced(b, "MEAN", x, axes, keepdim)]


@rule("logsumexp")
def log_sum_exp(b: Builder, c: Call, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    axes = axes_of(dim, x.type.rank)
    top = reduced(b, "REDUCE_MAX", x, axes, True)
    total = reduced(b, "SUM", b("EXP", b("SUB", x, top)), axes, True)
    return b.reshape(b("ADD", b("LOG", total), top), c.result.shape)


@rule("linalg_vector_norm")
def norm(b: Builder, c: Call, x: Tensor, ord: Any, p: Any, dim: Any, keepdim: bool) -> Tensor:
    degree = 2 if ord is None and p is None else (p if ord is None else ord)
    axes = axes_of(dim, x.type.rank)
    if degree == 2:
        return b("SQRT", reduced(b, "SUM", b("SQUARE", x), axes, keepdim))
    size = b("ABS", x)
    if degree in (math.inf, -math.inf):
        return reduced(b, "REDUCE_MAX" if degree > 0 else "REDUCE_MIN", size, axes, keepdim)
    if degree == 1:
        return reduced(b, "SUM", size, axes, keepdim)
    b.require(degree > 0, f"a norm of degree {degree}")
    total = reduced(b, "SUM", b("POW", size, b.constant(degree, FLOAT32)), axes, keepdim)
    return b("POW", total, b.constant(1 / degree, FLOAT32))


@rule("cumsum")
def running_sum(b: Builder, c: Call, x: Tensor, dim: int) -> Tensor:
    x = cast(b, x, c.result.dtype)
    return b("CUMSUM", x, b.constant(dim % x.type.rank)) if x.type.rank else x


@rule("cumprod", "logcumsumexp")
def running(b: Builder, c: Call, x: Tensor, dim: int) -> Any:
    """Doubling steps: after step i each element holds the result over 2**i elements before it."""
    axis = dim % x.type.rank
    n = x.type.shape[axis]
    b.require(not is_open(n) and not c.name.startswith("cummax"), "running products and extremes of such a kind")
    product = c.name.startswith("cumprod")
    step = 1
    while step < n:
        head, moved, rest = (sliced(b, x, axis, 0, step), sliced(b, x, axis, 0, n - step), sliced(b, x, axis, step, n))
        if product:
            joined = b("MUL", rest, moved)
        else:
            u, v = Value(b, rest), Value(b, moved)
            joined = (formulas.maximum(u, v) + formulas.log1p(formulas.exp(-abs(u - v)))).tensor
        x, step = b("CONCATENATION", head, joined, axis=axis), step * 2
    return x


@rule("topk", "sort", "argsort")
def order(b: Builder, c: Call, x: Tensor, k: int, dim: int | None, largest: Any, descending: Any, sorted: Any) -> Any:
    """TOPK_V2 along the last axis; the smallest first of the negated ones."""
    dim = -1 if dim is None else dim
    if not x.type.rank:
        return [x, b.constant(0, c.results[-1].dtype)]
    axis = dim % x.type.rank
    down = (largest is not False) if c.name.startswith("topk") else bool(descending)
    count = int(k) if c.name.startswith("topk") else x.type.shape[axis]
    b.require(not is_open(count), "an order of an open dimension")
    last = x.type.rank - 1
    turn = list(range(x.type.rank))
    turn[axis], turn[last] = last, axis
    dtype = x.type.dtype
    work = b.transpose(cast(b, x, INT32) if dtype == BOOL else x, turn)
    values, places = b.several("TOPK_V2", work if down else b("NEG", work), b.constant(count), dtypes=[None, INT32])
    values = cast(b, b.transpose(values if down else b("NEG", values), turn), dtype)
    made = [values, cast(b, b.transpose(places, turn), c.results[-1].dtype)]
    return made[1] if c.name.startswith("argsort") else made


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(b: Builder, c: Call, x: Tensor, dim: int) -> Tensor:
    builtin = "LOG_SOFTMAX" if "log" in c.name else "SOFTMAX"
    x = cast(b, x, c.result.dtype)
    return along_last(b, builtin, x, dim)


@rule("glu")
def gated(b: Builder, c: Call, x: Tensor, dim: int) -> Tensor:
    axis = dim % x.type.rank
    half = x.type.shape[axis] // 2
    return b("MUL", sliced(b, x, axis, 0, half), b("LOGISTIC", sliced(b, x, axis, half, 2 * half)))


@rule("count_nonzero")
def count_nonzero(b: Builder, c: Call, x: Tensor, dim: Any) -> Tensor:
    return reduced(b, "SUM", cast(b, cast(b, x, BOOL), c.result.dtype), axes_of(dim, x.type.rank), False)


@rule("cosine_similarity")
def cosine(b: Builder, c: Call, x1: Tensor, x2: Tensor, dim: int, eps: float) -> Tensor:
    axes = [dim % len(x1.type.shape)]
    dot = reduced(b, "SUM", b("MUL", x1, x2), axes, False)
    squares = [Value(b, reduced(b, "SUM", b("SQUARE", x), axes, False)) for x in (x1, x2)]
    sizes = [formulas.sqrt(formulas.maximum(s, eps * eps)) for s in squares]
    return (Value(b, dot) / (sizes[0] * sizes[1])).tensor


@rule("bucketize")
def bucketize(b: Builder, c: Call, x: Tensor, boundaries: Tensor, right: bool) -> Tensor:
    """How many boundaries lie below each element."""
    b.require(is_fixed(boundaries.type.shape), "such a search")
    wide = b.reshape(x, (*x.type.shape, 1))
    below = b("GREATER_EQUAL" if right else "GREATER", wide, cast(b, boundaries, x.type.dtype), dtype=BOOL)
    return cast(b, b("SUM", b.cast(below, INT32), b.constant([-1]), keep_dims=False), c.result.dtype)


@rule("cdist", "_cdist_forward")
def distances(b: Builder, c: Call, x1: Tensor, x2: Tensor, p: float) -> Tensor:
    b.require(p == 2, f"distances of degree {p}")
    left = b.reshape(x1, (*x1.type.shape[:-1], 1, x1.type.shape[-1]))
    right = b.reshape(x2, (*x2.type.shape[:-2], 1, *x2.type.shape[-2:]))
    return b("SQRT", b("SUM", b("SQUARED_DIFFERENCE", left, right), b.constant([-1]), keep_dims=False))


@rule("_fft_r2c")
def real_fft(b: Builder, c: Call, x: Tensor, dim: Any, normalization: Any, onesided: Any, n: Any, norm: Any) -> Tensor:
    """The transform of real numbers along the last axis, as RFFT2D of one row."""
    axes = axes_of(dim, x.type.rank)
    size = x.type.shape[-1]
    plain = normalization in (None, 0) and norm in (None, "backward") and n in (None, size)
    b.require(axes == [x.type.rank - 1] and plain and onesided is not False and not is_open(size), "such an fft")
    b.require(size & (size - 1) == 0, "an fft over a length that is not a power of two")
    rows = b.reshape(x, (*x.type.shape[:-1], 1, size))
    made = b("RFFT2D", rows, b.constant([1, size]), dtype=c.result.dtype)
    return b.reshape(made, c.result.shape)


@rule("view_as_real")
def parts_of_complex(b: Builder, c: Call, x: Tensor) -> Tensor:
    parts = [b("REAL", x, dtype=FLOAT32), b("IMAG", x, dtype=FLOAT32)]
    return b("PACK", *parts, values_count=2, axis=x.type.rank)


@rule("abs")
def absolute(b: Builder, c: Call, x: Tensor) -> Tensor:
    if x.type.dtype.kind == "complex":
        return b("COMPLEX_ABS", x, dtype=FLOAT32)
    if x.type.dtype == c.result.dtype and x.type.dtype.name == "int64":
        return b("MAXIMUM", x, b("NEG", x))
    return b("ABS", x)
