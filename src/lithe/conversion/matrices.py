"""Products of tensors in the terms that all frameworks share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32


def dense(b: Builder, x: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[..., o] = sum over i of x[..., i] weights[o, i] + bias[o]"""
    outputs, inputs = weights.type.shape
    if bias is None:
        bias = b.constant(np.zeros(outputs), FLOAT32)
    *outer, _ = x.type.shape
    if not outer:
        x = b.reshape(x, (1, inputs))
    y = b("FULLY_CONNECTED", x, weights, bias, keep_num_dims=len(outer) > 1)
    return y if outer else b.reshape(y, (outputs,))


def product(
    b: Builder,
    x: Tensor,
    y: Tensor,
    summed: tuple[Sequence[int], Sequence[int]],
    shared: tuple[Sequence[int], Sequence[int]] = ((), ()),
) -> Tensor:
    """The sums over pairs of axes: a result of [*shared, *other axes of x, *other axes of y].

    summed  axes of x and of y that are multiplied and summed, in pairs.
    shared  axes of x and of y that run together and stay.
    """
    (sum_x, sum_y), (both_x, both_y) = summed, shared
    left = [i for i in range(x.type.rank) if i not in (*sum_x, *both_x)]
    right = [i for i in range(y.type.rank) if i not in (*sum_y, *both_y)]
    shape = [*(x.type.shape[i] for i in (*both_x, *left)), *(y.type.shape[i] for i in right)]
    if not both_x and y.data is not None and x.type.dtype == FLOAT32:
        rows = _matrix(b, x, (), left, sum_x)
        weights = _matrix(b, y, (), right, sum_y)
        if len(left) > 1 and [*left, *sum_x] == list(range(x.type.rank)):
            rows = b.reshape(x, [*x.type.shape[: len(left)], _count(x, sum_x)])  # the outer dimensions are kept
        return b.reshape(dense(b, rows, weights), shape)
    last_summed = list(sum_y) == list(range(y.type.rank - len(sum_y), y.type.rank))
    if not both_x and x.data is not None and y.data is None and x.type.dtype == FLOAT32 and sum_y and last_summed:
        turned = product(b, y, x, (sum_y, sum_x))  # weights from the left: the rows are those of y
        return b.transpose(turned, [*range(len(right), len(shape)), *range(len(right))])
    if not sum_x:  # nothing is summed: an outer product
        sum_x, sum_y = (x.type.rank,), (y.type.rank,)
        x, y = b.reshape(x, (*x.type.shape, 1)), b.reshape(y, (*y.type.shape, 1))
    rows, x_turned = _operand(b, x, both_x, left, sum_x)
    columns, y_turned = _operand(b, y, both_y, sum_y, right)
    return b.reshape(b("BATCH_MATMUL", rows, columns, adj_x=x_turned, adj_y=y_turned), shape)


def _count(x: Tensor, axes: Sequence[int]) -> int:
    return math.prod(x.type.shape[i] for i in axes)


def _batch_shape(x: Tensor, batch: Sequence[int]) -> list[int]:
    """The shared axes, as one where none of them is open and there are many."""
    return [x.type.shape[i] for i in batch] if len(batch) <= 2 else [_count(x, batch)]


def _operand(
    b: Builder, x: Tensor, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> tuple[Tensor, bool]:
    """[*batch, rows, columns], or with rows and columns exchanged where the tensor lies that way already."""
    order = [*batch, *columns, *rows]
    if order == list(range(x.type.rank)) and [*batch, *rows, *columns] != order:
        return b.reshape(x, [*_batch_shape(x, batch), _count(x, columns), _count(x, rows)]), True
    return _matrix(b, x, batch, rows, columns), False


def _matrix(b: Builder, x: Tensor, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """[*batch, rows, columns]"""
    turned = b.transpose(x, [*batch, *rows, *columns])
    return b.reshape(turned, [*_batch_shape(x, batch), _count(x, rows), _count(x, columns)])


def einsum(b: Builder, equation: str, *tensors: Tensor) -> Tensor:
    """The sum of products that the equation says, two tensors at a time; "..." must be written out before."""
    given, wanted = equation.replace(" ", "").split("->")
    labels = given.split(",")
    b.require("." not in equation and len(labels) == len(tensors))
    have, of = _diagonal_free(b, tensors[0], labels[0]), labels[0]
    for i, (tensor, own) in enumerate(zip(tensors[1:], labels[1:], strict=True), 1):
        later = set(wanted).union(*labels[i + 1 :])
        have, of = _pair(b, have, of, _diagonal_free(b, tensor, own), own, later)
    missing = [i for i, c in enumerate(of) if c not in wanted]
    if missing:
        have = b("SUM", have, b.constant(missing), keep_dims=False)
        of = "".join(c for c in of if c in wanted)
    return b.transpose(have, [of.index(c) for c in wanted])


def _diagonal_free(b: Builder, x: Tensor, labels: str) -> Tensor:
    b.require(len(set(labels)) == len(labels) == x.type.rank, "an einsum with a diagonal")
    return x


def _pair(b: Builder, x: Tensor, of_x: str, y: Tensor, of_y: str, later: set[str]) -> tuple[Tensor, str]:
    both = [c for c in of_x if c in of_y]
    shared, summed = [c for c in both if c in later], [c for c in both if c not in later]
    left, right = [c for c in of_x if c not in both], [c for c in of_y if c not in both]
    axes = (
        ([of_x.index(c) for c in summed], [of_y.index(c) for c in summed]),
        ([of_x.index(c) for c in shared], [of_y.index(c) for c in shared]),
    )
    return product(b, x, y, *axes), "".join((*shared, *left, *right))
