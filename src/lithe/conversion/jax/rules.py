"""What JAX's primitives are in builtins: elementwise ones, reductions, and those that arrange elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.conversion import parts
from lithe.conversion.builder import Builder
from lithe.conversion.parts import cut, pad
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value
from lithe.types import BOOL, DTYPES, FLOAT32, DType, TensorType

Rule = Callable[..., Any]  # a tensor, or several
RULES: dict[str, Rule] = {}


class Equation:
    """One equation of a jaxpr.

    params   its parameters as JAX has them.
    results  the types of what it gives.
    """

    def __init__(self, primitive: str, params: dict[str, Any], results: list[TensorType]) -> None:
        self.primitive, self.params, self.results = primitive, params, results

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    @property
    def result(self) -> TensorType:
        return self.results[0]


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: what the primitives with these names become, as a function of a builder, an equation, and tensors."""

    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


def dtype_named(name: str) -> DType:
    return DTYPES[name]


# elementwise

SAME = {
    "add": "ADD", "add_any": "ADD", "atan2": "ATAN2", "ceil": "CEIL", "cos": "COS",
    "floor": "FLOOR", "log": "LOG", "logistic": "LOGISTIC", "max": "MAXIMUM", "min": "MINIMUM", "mul": "MUL",
    "neg": "NEG", "pow": "POW", "rsqrt": "RSQRT", "sign": "SIGN", "sin": "SIN", "sqrt": "SQRT",
    "sub": "SUB", "tanh": "TANH",
}  # fmt: skip
COMPARISONS = {
    "eq": "EQUAL", "ne": "NOT_EQUAL", "lt": "LESS", "le": "LESS_EQUAL", "gt": "GREATER", "ge": "GREATER_EQUAL",
    "eq_to": "EQUAL", "lt_to": "LESS", "le_to": "LESS_EQUAL",
}  # fmt: skip
FORMULAS = {
    "log1p": "Log1p", "expm1": "Expm1", "erf": "Erf", "erfc": "Erfc", "tan": "Tan", "sinh": "Sinh", "cosh": "Cosh",
    "asin": "Asin", "acos": "Acos", "atan": "Atan", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
}  # fmt: skip


def _same(builtin: str, dtype: DType | None = None) -> Rule:
    return lambda b, e, *xs: b(builtin, *xs, dtype=dtype)


def _formula(name: str) -> Rule:
    return lambda b, e, *xs: b.formula(name, *xs)


RULES.update({name: _same(builtin) for name, builtin in SAME.items()})
RULES.update({name: _same(builtin, BOOL) for name, builtin in COMPARISONS.items()})
RULES.update({name: _formula(tensorflow) for name, tensorflow in FORMULAS.items()})


@rule("is_finite")
def is_finite(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return formulas.is_finite(Value(b, x)).tensor


@rule("exp2")
def power_of_two(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return formulas.exp(Value(b, x) * math.log(2)).tensor


@rule("cbrt")
def cube_root(b: Builder, e: Equation, x: Tensor) -> Tensor:
    value = Value(b, x)
    return (formulas.sign(value) * abs(value).apply("POW", 1 / 3)).tensor


@rule("integer_pow")
def integer_power(b: Builder, e: Equation, x: Tensor) -> Tensor:
    exponent = e["y"]
    if exponent < 0:
        return (1.0 / Value(b, integer_power(b, Equation("", {"y": -exponent}, e.results), x))).tensor
    power, result = x, None
    while exponent:
        if exponent & 1:
            result = power if result is None else b("MUL", result, power)
        exponent >>= 1
        if exponent:
            power = b("SQUARE" if x.type.dtype == FLOAT32 else "MUL", *[power] * (1 + (x.type.dtype != FLOAT32)))
    return b("POW", x, b.constant(0, x.type.dtype)) if result is None else result


@rule("round")
def rounded(b: Builder, e: Equation, x: Tensor) -> Tensor:
    """To even, or halves away from zero."""
    if int(e["rounding_method"]) == 1:
        return b("ROUND", x)
    value = Value(b, x)
    return (formulas.sign(value) * (abs(value) + 0.5).apply("FLOOR")).tensor


@rule("nextafter")
def next_number(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    b.require(x.data is not None and y.data is not None, "the next representable number")
    return b.constant(np.nextafter(b.array(x), b.array(y)), x.type.dtype)


@rule("clamp")
def clamp(b: Builder, e: Equation, low: Tensor, x: Tensor, high: Tensor) -> Tensor:
    return b("MINIMUM", b("MAXIMUM", x, low), high)


@rule("select_n")
def select(b: Builder, e: Equation, which: Tensor, *cases: Tensor) -> Tensor:
    known = b.known(which)
    if known is not None and known.size and np.all(known == known.flat[0]):
        return cases[int(known.flat[0])]
    if which.type.dtype == BOOL:
        no, yes = cases
        return b("SELECT_V2", which, yes, no, dtype=yes.type.dtype)
    result = cases[-1]
    for i in range(len(cases) - 2, -1, -1):
        chosen = b("EQUAL", which, b.constant(i, which.type.dtype), dtype=BOOL)
        result = b("SELECT_V2", chosen, cases[i], result, dtype=cases[i].type.dtype)
    return result


@rule("convert_element_type")
def convert(b: Builder, e: Equation, x: Tensor) -> Tensor:
    wanted = e.result.dtype
    if x.type.dtype.is_float and wanted.is_integer and x.data is None:
        return b.cast(x, wanted)  # both cut off at zero
    if wanted == BOOL and x.type.dtype != BOOL:
        return b("NOT_EQUAL", x, b.constant(0, x.type.dtype), dtype=BOOL)
    return b.cast(x, wanted)


@rule("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "sharding_constraint")
def unchanged(b: Builder, e: Equation, *xs: Tensor) -> Sequence[Tensor]:
    return xs


# reductions

REDUCTIONS = {"reduce_sum": "SUM", "reduce_max": "REDUCE_MAX", "reduce_min": "REDUCE_MIN", "reduce_prod": "REDUCE_PROD",
              "reduce_and": "REDUCE_ALL", "reduce_or": "REDUCE_ANY"}  # fmt: skip


def _reduction(builtin: str) -> Rule:
    def write(b: Builder, e: Equation, x: Tensor) -> Tensor:
        axes = e["axes"]
        return b(builtin, x, b.constant([int(a) for a in axes]), keep_dims=False) if len(axes) else x

    return write


RULES.update({name: _reduction(builtin) for name, builtin in REDUCTIONS.items()})


@rule("argmax", "argmin")
def place_of_extreme(b: Builder, e: Equation, x: Tensor) -> Tensor:
    (axis,) = e["axes"]
    dtype = e.result.dtype
    return b("ARG_MAX" if e.primitive == "argmax" else "ARG_MIN", x, b.constant(int(axis)), dtype=dtype,
             output_type=dtype)  # fmt: skip


@rule("platform_index")
def place_of_platform(b: Builder, e: Equation) -> Tensor:
    """Of what a function has for several platforms, that for all others, or for the CPU."""
    names = [p or () for p in e["platforms"]]
    default = e["platforms"].index(None) if None in e["platforms"] else 0
    return b.constant(next((i for i, p in enumerate(names) if "cpu" in p), default))


@rule("cumsum")
def running_sum(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b("CUMSUM", x, b.constant(int(e["axis"])), exclusive=False, reverse=e["reverse"])


# the same elements in another arrangement


@rule("reshape")
def reshape(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b.reshape(x, e.result.shape)


@rule("squeeze", "expand_dims")
def other_axes(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b.reshape(x, e.result.shape)


@rule("transpose")
def transpose(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b.transpose(x, [int(p) for p in e["permutation"]])


@rule("broadcast_in_dim")
def broadcast(b: Builder, e: Equation, x: Tensor, *sizes: Tensor) -> Tensor:
    shape = [1] * len(e.result.shape)
    for axis, n in zip(e["broadcast_dimensions"], x.type.shape, strict=True):
        shape[axis] = n
    return b.broadcast(b.reshape(x, shape), e.result.shape)


@rule("tile")
def tile(b: Builder, e: Equation, x: Tensor) -> Tensor:
    repeats = [int(n) for n in e["reps"]]
    b.require(not any(map(is_open, repeats)), "a repetition as often as an open dimension says")
    flat = b.reshape(x, (*[1] * (len(repeats) - x.type.rank), *x.type.shape))
    return b("TILE", flat, b.constant(repeats))


@rule("concatenate")
def concatenate(b: Builder, e: Equation, *xs: Tensor) -> Tensor:
    return b("CONCATENATION", *xs, axis=int(e["dimension"]))


@rule("split")
def split(b: Builder, e: Equation, x: Tensor) -> Sequence[Tensor]:
    sizes, axis = [int(n) for n in e["sizes"]], b.constant(int(e["axis"]))
    if x.type.dtype == BOOL:  # of which the official runtime's SPLIT takes none
        return [parts.sliced(b, x, int(e["axis"]), sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]
    if len(set(sizes)) == 1:
        return parts.split(b, x, len(sizes), int(e["axis"]))
    return b.several("SPLIT_V", x, b.constant(sizes), axis, dtypes=[None] * len(sizes), num_splits=len(sizes))


@rule("stack")
def stack(b: Builder, e: Equation, *xs: Tensor) -> Tensor:
    return stacked(b, xs, int(e["axis"]))


def stacked(b: Builder, xs: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors beside each other along a new axis. PACK of the official runtime takes no truth values."""
    if xs[0].type.dtype != BOOL:
        return b("PACK", *xs, values_count=len(xs), axis=axis)
    shape = xs[0].type.shape
    wide = (*shape[:axis], 1, *shape[axis:])
    return b("CONCATENATION", *(b.reshape(x, wide) for x in xs), axis=axis)


@rule("unstack")
def unstack(b: Builder, e: Equation, x: Tensor) -> Sequence[Tensor]:
    return b.several("UNPACK", x, dtypes=[None] * len(e.results), num=len(e.results), axis=int(e["axis"]))


@rule("pad")
def padded(b: Builder, e: Equation, x: Tensor, value: Tensor) -> Tensor:
    low, high, inner = zip(*e["padding_config"], strict=True) if e["padding_config"] else ((), (), ())
    if any(inner):
        b.require(x.type.dtype == FLOAT32, "padding between elements of integers")
        x = b("DILATE", x, b.constant([n + 1 for n in inner]), value)
    return pad(b, x, list(zip(low, high, strict=True)), b.array(value).item())


@rule("slice")
def part(b: Builder, e: Equation, x: Tensor) -> Tensor:
    begin, end, strides = e["start_indices"], e["limit_indices"], e["strides"]
    whole = x.type.shape[len(begin) :]  # the two numbers of keys, which JAX does not count as an axis
    begin, end, strides = (*begin, *[0] * len(whole)), (*end, *whole), strides and (*strides, *[1] * len(whole))
    if strides is None or all(s == 1 for s in strides):
        return cut(b, x, begin, [z - a for a, z in zip(begin, end, strict=True)])
    shape, have = e.result.shape, x.type.shape
    b.require(not any(is_open(z) and z != n for z, n in zip(end, have, strict=True)), "a part of an open dimension")
    mask = sum(1 << i for i, z in enumerate(end) if is_open(z))
    ends = [0 if is_open(z) else int(z) for z in end]
    operands = [x, b.constant([int(a) for a in begin]), b.constant(ends), b.constant([int(s) for s in strides])]
    return b.sized("STRIDED_SLICE", operands, shape, end_mask=mask)


@rule("rev")
def reverse(b: Builder, e: Equation, x: Tensor) -> Tensor:
    for axis in e["dimensions"]:
        x = b("REVERSE_V2", x, b.constant([int(axis)]))
    return x


@rule("iota")
def count(b: Builder, e: Equation, *sizes: Tensor) -> Tensor:
    shape, axis, dtype = e.result.shape, int(e["dimension"]), e.result.dtype
    n = shape[axis]
    if is_open(n):
        line = b.sized("RANGE", [b.constant(0), b.reshape(b.size(n), ()), b.constant(1)], (n,))
        line = b.cast(line, dtype)
    else:
        line = b.constant(np.arange(n), dtype)
    return b.broadcast(b.reshape(line, [n if i == axis else 1 for i in range(len(shape))]), shape)


def scalar_starts(b: Builder, starts: Sequence[Tensor]) -> Tensor:
    """Scalars as one vector of int32."""
    return b("PACK", *(b.int32(s) for s in starts), values_count=len(starts), axis=0)


def clamped_starts(b: Builder, x: Tensor, starts: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Where a part of this size begins, moved so that it lies inside, as JAX does."""
    vector = scalar_starts(b, starts)
    most = b.constant([n - s for n, s in zip(x.type.shape, size, strict=True)])
    return b("MAXIMUM", b("MINIMUM", vector, most), b.constant([0] * x.type.rank))


@rule("dynamic_slice")
def dynamic_part(b: Builder, e: Equation, x: Tensor, *starts: Tensor) -> Tensor:
    size = [int(n) for n in e["slice_sizes"]]
    begin = clamped_starts(b, x, starts, size)
    if begin.data is not None:
        return b.slice(x, begin.data.tolist(), size)
    return b.sized("SLICE", [x, begin, b.vector(size)], size)


@rule("dynamic_update_slice")
def dynamic_update(b: Builder, e: Equation, x: Tensor, update: Tensor, *starts: Tensor) -> Tensor:
    return b("DYNAMIC_UPDATE_SLICE", x, update, scalar_starts(b, starts))
