"""Sums, means and what is made of them, in the terms that all frameworks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lithe.conversion.builder import Builder
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value


def reduced(b: Builder, builtin: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    """A reduction over axes; of a scalar it is the scalar."""
    return b(builtin, x, b.constant(list(axes)), keep_dims=bool(keep)) if x.type.rank else x


def along_last(b: Builder, builtin: str, x: Tensor, dim: int) -> Tensor:
    """An operator of the last axis applied along another."""
    if not x.type.rank:
        return b.reshape(along_last(b, builtin, b.reshape(x, (1,)), 0), ())
    turn, axis = list(range(x.type.rank)), dim % x.type.rank
    turn[axis], turn[-1] = turn[-1], turn[axis]
    return b.transpose(b(builtin, b.transpose(x, turn)), turn)


def moments(b: Builder, x: Tensor, axes: Sequence[int]) -> tuple[Value, Value]:
    """The centred elements, and their mean square; axes stay, with one element."""
    centred = Value(b, b("SUB", x, reduced(b, "MEAN", x, axes, True)))
    return centred, Value(b, reduced(b, "MEAN", (b("SQUARE", centred.tensor)), axes, True))


def affine(
    b: Builder, y: Tensor, weight: Tensor | None, bias: Tensor | None, placed: Callable[[Tensor], Tensor]
) -> Tensor:
    """y * weight + bias, each of them `placed` along the axes of y; what is None is left out."""
    if weight is not None:
        y = b("MUL", y, placed(weight))
    return y if bias is None else b("ADD", y, placed(bias))


def integer_product(b: Builder, x: Tensor, y: Tensor, shape: Sequence[int]) -> Tensor:
    """The sum of products, which is what there is for integers."""
    wide = b("MUL", b.reshape(x, (*x.type.shape, 1)), b.reshape(y, (*y.type.shape[:-2], 1, *y.type.shape[-2:])))
    return b.reshape(reduced(b, "SUM", wide, [wide.type.rank - 2], False), shape)
