"""What ONNX's operators are in builtins: products of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, computed, rule, widened
from lithe.conversion.reductions import integer_product
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32


@rule("MatMul")
def matrix_product(b: Builder, c: Call) -> Tensor:
    return product(b, c[0], c[1])


def product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """Vectors are matrices with one row or column, batches are repeated."""
    dtype = x.type.dtype
    left = b.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    right = b.reshape(y, (*y.type.shape, 1)) if y.type.rank == 1 else y
    batch = _broadcast(left.type.shape[:-2], right.type.shape[:-2])
    rows = [left.type.shape[-2]] if x.type.rank > 1 else []
    columns = [right.type.shape[-1]] if y.type.rank > 1 else []
    b.require(left.type.shape[-1] == right.type.shape[-2], f"{list(x.type.shape)} times {list(y.type.shape)}")
    shape = [*batch, *rows, *columns]
    if dtype.is_integer:
        return b.cast(integer_product(b, widened(b, left), widened(b, right), shape), dtype)
    left, right = b.cast(left, FLOAT32), b.cast(right, FLOAT32)
    if right.type.rank == 2 and right.data is not None:
        return b.cast(b.reshape(matrices.dense(b, left, b.transpose(right, (1, 0))), shape), dtype)
    rank = max(left.type.rank, right.type.rank)
    left, right = (b.reshape(t, (*[1] * (rank - t.type.rank), *t.type.shape)) for t in (left, right))
    made = b("BATCH_MATMUL", left, right, adj_x=False, adj_y=False)
    return b.cast(b.reshape(made, shape), dtype)


def _broadcast(x: Sequence[int], y: Sequence[int]) -> list[int]:
    rank = max(len(x), len(y))
    pairs = zip([1] * (rank - len(x)) + list(x), [1] * (rank - len(y)) + list(y), strict=True)
    return [m if n == 1 else n for n, m in pairs]


@rule("Gemm")
def general_product(b: Builder, c: Call) -> Tensor:
    """alpha A B + beta C"""
    x, y = (b.transpose(t, (1, 0)) if c.attr(name, 0) else t for t, name in ((c[0], "transA"), (c[1], "transB")))
    alpha, beta = c.attr("alpha", 1.0), c.attr("beta", 1.0)
    if alpha != 1:
        factor = b.constant(alpha, y.type.dtype)
        x, y = (x, computed(b, "MUL", y, factor)) if y.data is not None else (computed(b, "MUL", x, factor), y)
    if x.type.dtype == FLOAT32 and y.type.rank == 2 and x.type.rank == 2:
        made = matrices.dense(b, x, b.transpose(y, (1, 0)))
    else:
        made = product(b, x, y)
    if c.has(2) and beta:
        more = c[2] if beta == 1 else computed(b, "MUL", c[2], b.constant(beta, c[2].type.dtype))
        made = computed(b, "ADD", made, more)
    return made


@rule("Einsum")
def einsum(b: Builder, c: Call) -> Tensor:
    """ "..." is written out, and a letter that comes twice is a diagonal."""
    equation = c.attr("equation").replace(" ", "")
    tensors = [b.cast(t, FLOAT32) for t in c.tensors()]
    given, _, wanted = equation.partition("->")
    labels = given.split(",")
    free = [s for s in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if s not in equation]
    count = max((t.type.rank - len(o.replace("...", "")) for t, o in zip(tensors, labels, strict=True)), default=0)
    dots = "".join(free[:count])
    labels = [o.replace("...", dots[count - (t.type.rank - len(o.replace("...", ""))) :]) if "..." in o else o
              for t, o in zip(tensors, labels, strict=True)]  # fmt: skip
    if "->" not in equation:
        letters = "".join(labels)
        once = sorted({s for s in letters if letters.count(s) == 1 and s not in dots})
        wanted = (dots if "..." in given else "") + "".join(once)
    pairs = [_without_diagonals(b, t, o) for t, o in zip(tensors, labels, strict=True)]
    text = ",".join(o for _, o in pairs) + "->" + wanted.replace("...", dots)
    return b.cast(matrices.einsum(b, text, *(t for t, _ in pairs)), c[0].type.dtype)


def _without_diagonals(b: Builder, x: Tensor, labels: str) -> tuple[Tensor, str]:
    for letter in dict.fromkeys(labels):
        if labels.count(letter) > 1:
            axes = [i for i, s in enumerate(labels) if s == letter][:2]
            rest = [i for i in range(x.type.rank) if i not in axes]
            n = x.type.shape[axes[0]]
            b.require(not is_open(n), "a diagonal of an open dimension")
            turned = b.transpose(x, [*axes, *rest])
            x = b("GATHER_ND", turned, b.constant(np.stack([np.arange(n)] * 2, -1)))
            return _without_diagonals(b, x, letter + "".join(labels[i] for i in rest))
    return x, labels
