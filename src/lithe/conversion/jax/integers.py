"""Integers of JAX: arithmetic that wraps around in each type, and operations on bits.

The format has few builtins for narrow and unsigned integers, and none for `and`, `or` and shifts to the left. They are
computed in wider integers, or as arithmetic; the bits are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, Rule, rule
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Inexpressible, Value, where
from lithe.types import BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, DType

WIDER = {INT8: INT32, UINT8: INT32, INT16: INT32, UINT16: INT32, UINT32: INT64}
COMPUTED = (
    "add", "sub", "mul", "neg", "abs", "sign", "square", "integer_pow", "max", "min", "clamp", "eq", "ne", "lt", "le",
    "gt", "ge", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "cumsum", "sort", "top_k",
    "dot_general", "div", "rem", "and", "or", "shift_left",
)  # fmt: skip


def widened(write: Rule) -> Rule:
    """A rule that computes in a wider type where the builtins do not take the operands' own; the result wraps."""

    def attempt(b: Builder, e: Equation, *xs: Tensor) -> Any:
        narrow = next((x.type.dtype for x in xs if x.type.dtype in WIDER), None)
        if narrow is None:
            return write(b, e, *xs)
        try:
            return write(b, e, *xs)
        except Inexpressible:
            wide = WIDER[narrow]
        results = [replace(r, dtype=wide) if r.dtype == narrow else r for r in e.results]
        operands = [b.cast(x, wide) if x.type.dtype == narrow else x for x in xs]
        params = {**e.params, "unsigned": narrow.kind == "uint"}
        made = write(b, Equation(e.primitive, params, results), *operands)
        return [
            b.cast(t, r.dtype) for t, r in zip([made] if isinstance(made, Tensor) else made, e.results, strict=True)
        ]

    return attempt


ARRANGED = ("pad", "rev", "split", "unstack", "gather")


def signed(write: Rule) -> Rule:
    """A rule that only arranges elements; unsigned ones are taken for signed ones meanwhile."""

    def attempt(b: Builder, e: Equation, *xs: Tensor) -> Any:
        if xs[0].type.dtype != UINT32:
            return write(b, e, *xs)
        operands = [as_bits(b, x, INT32) if x.type.dtype == UINT32 else x for x in xs]
        results = [replace(r, dtype=INT32) for r in e.results]
        made = write(b, Equation(e.primitive, e.params, results), *operands)
        return [as_bits(b, t, UINT32) for t in ([made] if isinstance(made, Tensor) else made)]

    return attempt


# quotients


def _or_one(y: Value) -> Value:
    """The divisor, of which zeros are taken for one: the builtins end the run at a zero."""
    return y if y.tensor.data is not None else where(y.compare("EQUAL", 0), 1, y)


@rule("div")
def divide(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    """Integers are cut off at zero; by zero it is -1, all bits, as in JAX."""
    if not x.type.dtype.is_integer:
        return b("DIV", x, y)
    a, c = Value(b, x), Value(b, y)
    if x.type.dtype.kind == "uint" and y.data is not None and np.all(np.bitwise_count(y.data) == 1):
        return b("RIGHT_SHIFT", x, b.constant(np.bitwise_count(y.data - 1), x.type.dtype))
    made = a / _or_one(c)
    return made.tensor if y.data is not None else where(c.compare("EQUAL", 0), -1, made).tensor


@rule("rem")
def remainder(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    """x - y trunc(x / y): the sign is that of x, and it is x where y is zero."""
    a, c = Value(b, x), Value(b, y)
    if not x.type.dtype.is_integer:
        return (formulas.sign(a) * abs(a).apply("FLOOR_MOD", abs(c))).tensor
    if not e.params.get("unsigned"):
        return (a - c * (a / _or_one(c))).tensor
    made = a.apply("FLOOR_MOD", _or_one(c))
    return made.tensor if y.data is not None else where(c.compare("EQUAL", 0), a, made).tensor


@rule("square")
def square(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b("MUL", x, x) if x.type.dtype.is_integer else b("SQUARE", x)


# bits


@rule("not")
def invert(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return b("LOGICAL_NOT", x) if x.type.dtype == BOOL else formulas.invert(Value(b, x)).tensor


LOGIC = {"and": "LOGICAL_AND", "or": "LOGICAL_OR", "xor": "NOT_EQUAL"}


@rule("and", "or", "xor")
def logic(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    """x + y = (x ^ y) + 2 (x & y), halved: the halves of the three have no overflow, and the last bits are a product.

    x | y = (x ^ y) + (x & y)
    """
    dtype = x.type.dtype
    if dtype == BOOL:
        return b(LOGIC[e.primitive], x, y, dtype=BOOL)
    if e.primitive == "xor":
        return b("BITWISE_XOR", x, y)
    one, (u, v) = b.constant(1), (as_bits(b, t, INT32) if dtype == UINT32 else t for t in (x, y))
    b.require(u.type.dtype == INT32, f"an operation on the bits of {dtype}")
    differing = b("BITWISE_XOR", u, v)
    half_x, half_y, half = (b("RIGHT_SHIFT", t, one) for t in (u, v, differing))
    last_x, last_y = (b("FLOOR_MOD", t, b.constant(2)) for t in (u, v))
    both = b("ADD", b("SUB", b("ADD", half_x, half_y), half), b("MUL", last_x, last_y))
    return as_bits(b, both if e.primitive == "and" else b("ADD", differing, both), dtype)


def _bits(dtype: DType) -> int:
    return dtype.bytes * 8


def as_bits(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """The same bits as another type of this size."""
    return x if x.type.dtype == dtype else b("BITCAST", x, dtype=dtype)


@rule("shift_right_logical", "shift_right_arithmetic")
def shift_right(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    """Of the same bits with or without sign. The builtin shifts by 31 at most: a logical shift by more gives zero."""
    logical, dtype = e.primitive == "shift_right_logical", x.type.dtype
    kinds = {1: (INT8, UINT8), 2: (INT16, UINT16), 4: (INT32, UINT32)}
    b.require(dtype.bytes in kinds, f"a shift of {dtype}")
    wanted = kinds[dtype.bytes][logical]
    shifted = as_bits(b, b("RIGHT_SHIFT", as_bits(b, x, wanted), as_bits(b, y, wanted)), dtype)
    if not logical or (y.data is not None and np.all(y.data.astype(np.int64) < _bits(dtype))):
        return shifted
    far = b("GREATER", b.cast(y, INT32), b.constant(_bits(dtype) - 1), dtype=BOOL)
    return b("SELECT_V2", far, b.constant(0, dtype), shifted, dtype=dtype)


@rule("shift_left")
def shift_left(b: Builder, e: Equation, x: Tensor, y: Tensor) -> Tensor:
    """A product with a power of two, which is zero from the number of bits on."""
    dtype, bits = x.type.dtype, _bits(x.type.dtype)
    b.require(bits <= 32, f"a shift of {dtype}")
    powers = np.array([*(1 << n for n in range(bits)), 0], np.int64).astype(np.int32)
    places = b("MINIMUM", b.cast(y, INT32), b.constant(bits))
    return b("MUL", x, b.cast(b("GATHER", b.constant(powers), places, axis=0, batch_dims=0), dtype))


@rule("bitcast_convert_type")
def same_bits(b: Builder, e: Equation, x: Tensor) -> Tensor:
    return as_bits(b, x, e.result.dtype)


def _by_bytes(b: Builder, x: Tensor, table: Sequence[Sequence[int]], reduction: str) -> Tensor:
    """A reduction of what the table has for each byte of the numbers, the lowest first; as int32."""
    count = x.type.dtype.bytes
    split = b("BITCAST", x, dtype=UINT8) if count > 1 else b.reshape(as_bits(b, x, UINT8), (*x.type.shape, 1))
    places = b("ADD", b.cast(split, INT32), b.constant(np.arange(count) * 256))
    found = b("GATHER", b.constant(np.asarray(table).reshape(-1)), places, axis=0, batch_dims=0)
    return b(reduction, found, b.constant([x.type.rank]), keep_dims=False)


@rule("population_count")
def count_of_ones(b: Builder, e: Equation, x: Tensor) -> Tensor:
    ones = [n.bit_count() for n in range(256)]
    return b.cast(_by_bytes(b, x, [ones] * x.type.dtype.bytes, "SUM"), x.type.dtype)


@rule("clz")
def leading_zeros(b: Builder, e: Equation, x: Tensor) -> Tensor:
    lengths = [[n and n.bit_length() + 8 * i for n in range(256)] for i in range(x.type.dtype.bytes)]
    used = _by_bytes(b, x, lengths, "REDUCE_MAX")
    return b.cast(b("SUB", b.constant(_bits(x.type.dtype)), used), x.type.dtype)
