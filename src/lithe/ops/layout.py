"""Moving elements without changing them: the loops and checks that shape operators share.

Every copy is written so that its innermost loop runs along contiguous memory of the output where it can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, Expr, all_of, constant
from lithe.ops.op import Op, Site
from lithe.types import UINT8, UINT64, DType, Shape

# Element types that are copied as they are. int4, int2 and uint4 lie unpacked in memory, one to a byte.
PLAIN = (
    "float32 float16 bfloat16 float64 float8_e4m3fn float8_e5m2 int2 int4 uint4 int8 uint8 int16 uint16 int32 uint32 "
    "int64 uint64 bool complex64 complex128 string"
)
WORDS = {"float8_e4m3fn": UINT8, "float8_e5m2": UINT8, "complex64": UINT64}  # what loops take them for
NOT_IN_LOOPS = ("complex128", "string")

Lowering = Callable[[Builder, Site, tuple[Buffer | None, ...], tuple[Buffer, ...]], None]


class Movement(Op):
    """Base of operators that put elements elsewhere and never look into them, so that any type will do.

    Loops see an element of a type without arithmetic as an integer of the same bits.
    """

    def lowers(site: Site) -> bool:
        return not any(t is not None and t.dtype.name in NOT_IN_LOOPS for t in (*site.inputs, *site.outputs))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.lower is not None:
            cls.lower = staticmethod(_of_words(cls.lower))


def _of_words(lower: Lowering) -> Lowering:
    def word(x: Buffer | None) -> Any:
        return None if x is None else x.viewed(x.shape, WORDS.get(x.dtype.name))

    def moved(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        lower(b, site, tuple(map(word, xs)), tuple(map(word, ys)))

    return moved


def zeros(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Zeros; empty strings."""
    return np.full(shape, b"", object) if dtype.kind == "O" else np.zeros(shape, dtype)


def integers(values: Any) -> list[int]:
    """The elements of an array as Python integers."""
    return [int(v) for v in np.asarray(values).reshape(-1)]


def known_integers(site: Site, i: int) -> list[int] | None:
    """The elements of input i when it is a constant, else None."""
    value = site.known(i)
    return None if value is None else integers(value)


def vector_length(site: Site, i: int) -> int:
    """The length of input i, which must have rank 1 (or 0, counted as 1)."""
    return site.rank(i, 0, 1).size


def copy(b: Builder, x: Buffer, y: Buffer) -> None:
    """y = x, element by element in memory order."""
    flat = x.viewed((x.size,))
    b.compute(y.viewed((y.size,)), lambda i: flat[i])


def fill(b: Builder, y: Buffer, value: Any) -> None:
    """Every element of y = value."""
    b.compute(y.viewed((y.size,)), lambda i: value)


def merged_permutation(shape: Shape, permutation: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """The same transposition of fewer axes: those of size 1 vanish, those that stay neighbours become one.

    >>> merged_permutation((1, 4, 5, 6), (0, 3, 1, 2))
    ((20, 6), (1, 0))
    """
    order = [a for a in permutation if shape[a] != 1]
    groups: list[list[int]] = []
    for axis in order:
        if groups and _follows(groups[-1][-1], axis, shape):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    by_input = sorted(range(len(groups)), key=lambda g: groups[g][0])
    place = {g: n for n, g in enumerate(by_input)}
    sizes = tuple(math.prod(shape[a] for a in groups[g]) for g in by_input)
    return sizes, tuple(place[g] for g in range(len(groups)))


def _follows(first: int, second: int, shape: Shape) -> bool:
    return second > first and all(shape[a] == 1 for a in range(first + 1, second))


def transpose(b: Builder, x: Buffer, y: Buffer, permutation: Sequence[int]) -> None:
    """y[i[permutation[0]], i[permutation[1]], ...] = x[i]; the shapes of the buffers may be views of the real ones."""
    sizes, order = merged_permutation(x.shape, permutation)
    source = x.viewed(sizes)
    where = {axis: place for place, axis in enumerate(order)}
    b.compute(
        y.viewed(tuple(sizes[a] for a in order)), lambda *i: source[tuple(i[where[a]] for a in range(len(sizes)))]
    )


def check_indices(b: Builder, site: Site, operand: int, indices: Buffer, limit: int) -> None:
    """Ends the inference unless every element lies in [0, limit); constants are checked by `require_known_indices`."""
    if site.known(operand) is not None:
        return
    flat = indices.viewed((indices.size,))
    with b.loop(indices.size) as i:
        at = flat[i].to(INDEX)
        b.fail_unless(all_of(at >= 0, at < limit), f"{site.operand(operand)} must lie in [0, {limit})")


def require_indices(values: np.ndarray, limit: int, operand: str) -> None:
    """Raises ExecutionError unless every element lies in [0, limit)."""
    if values.size and (values.min() < 0 or values.max() >= limit):
        raise ExecutionError(f"{operand} must lie in [0, {limit}), found {values.min()} ... {values.max()}")


def require_known_indices(site: Site, operand: int, limit: int) -> None:
    """The rule for constant indices."""
    values = site.known(operand)
    if values is not None and values.size:
        inside = int(values.min()) >= 0 and int(values.max()) < limit
        site.require(inside, f"must lie in [0, {limit}), found {values.min()} ... {values.max()}", operand)


def zero(dtype: DType, point: int = 0) -> Const:
    """The constant that stands for nothing: 0, false, or the zero point of quantized integers."""
    return Const(False if dtype.kind == "bool" else 0.0 if dtype.is_float else point, dtype)


def row_major(index: Sequence[Any], shape: Shape) -> Expr:
    """The place in memory of an element of a row-major array."""
    place = constant(0)
    for i, size in zip(index, shape, strict=True):
        place = place * size + i
    return place
