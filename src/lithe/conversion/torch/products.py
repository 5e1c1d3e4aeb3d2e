"""What ATen's operators are in builtins: products of tensors, and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.builder import Builder
from lithe.conversion.parts import line
from lithe.conversion.reductions import integer_product, reduced
from lithe.conversion.sizes import is_fixed
from lithe.conversion.torch.rules import Call, cast, rule
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32


@rule("linear", "addmm", "mm", "matmul", "bmm", "mv", "dot", "baddbmm")
def product(b: Builder, c: Call, x: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, mat2: Tensor,
            mat1: Tensor, other: Tensor, vec: Tensor, tensor: Tensor, batch1: Tensor, batch2: Tensor, beta: Any,
            alpha: Any) -> Tensor:  # fmt: skip
    """Products of matrices; a constant right one becomes weights of FULLY_CONNECTED."""
    word = c.name.split(".")[0]
    if word == "linear":
        if weight.data is not None and weight.type.rank == 2:
            shape = c.result.shape
            plain = bias if bias is not None and bias.data is not None else None
            y = b.reshape(matrices.dense(b, input, weight, plain), shape)
            return y if bias is plain else b("ADD", y, bias)
        turned = weight if weight.type.rank == 1 else b.transpose(weight, (1, 0))
        y = matrix_product(b, input, turned, c.result.shape)
        return y if bias is None else b("ADD", y, bias)
    if word in ("addmm", "baddbmm"):
        left, right = (mat1, mat2) if word == "addmm" else (batch1, batch2)
        if (
            word == "addmm"
            and right.data is not None
            and x.data is not None
            and x.type.rank == 1
            and beta == alpha == 1
        ):
            return matrices.dense(b, left, b.transpose(right, (1, 0)), x)
        y = matrix_product(b, left, right, c.result.shape)
        y = y if alpha == 1 else b("MUL", y, b.constant(alpha, c.result.dtype))
        return b("ADD", y, x if beta == 1 else b("MUL", x, b.constant(beta, c.result.dtype)))
    right = next(t for t in (mat2, other, vec, tensor) if t is not None)
    return matrix_product(b, x, right, c.result.shape)


def matrix_product(b: Builder, x: Tensor, y: Tensor, shape: Sequence[int]) -> Tensor:
    """torch.matmul: vectors are matrices with one row or column, batches are repeated."""
    left = b.reshape(x, (1, *x.type.shape)) if x.type.rank == 1 else x
    right = b.reshape(y, (*y.type.shape, 1)) if y.type.rank == 1 else y
    if right.type.rank == 2 and right.data is not None and right.type.dtype == FLOAT32:
        return b.reshape(matrices.dense(b, left, b.transpose(right, (1, 0))), shape)
    if left.type.dtype.is_integer:
        return integer_product(b, left, right, shape)
    rank = max(left.type.rank, right.type.rank)
    left, right = (b.reshape(t, (*[1] * (rank - t.type.rank), *t.type.shape)) for t in (left, right))
    made = b("BATCH_MATMUL", left, right, adj_x=False, adj_y=False)
    return b.reshape(made, shape)


@rule("einsum")
def einsum(b: Builder, c: Call, equation: str, tensors: Sequence[Tensor]) -> Tensor:
    if "->" not in equation:
        letters = equation.replace(",", "").replace(" ", "")
        equation += "->" + "".join(sorted(set(filter(lambda s: letters.count(s) == 1, letters))))
    return matrices.einsum(b, equation, *tensors)


@rule("_trilinear")
def product_of_three(b: Builder, c: Call, i1: Tensor, i2: Tensor, i3: Tensor, expand1: Sequence[int],
                     expand2: Sequence[int], expand3: Sequence[int], sumdim: Sequence[int]) -> Tensor:  # fmt: skip
    """sum(i1 * i2 * i3) over some axes, where each has axes of one element put in."""
    rank = i1.type.rank + len(expand1)
    wide = []
    for x, new in ((i1, expand1), (i2, expand2), (i3, expand3)):
        sizes = iter(x.type.shape)
        wide.append(b.reshape(x, [1 if a in new else next(sizes) for a in range(rank)]))
    return reduced(b, "SUM", b("MUL", b("MUL", wide[0], wide[1]), wide[2]), list(sumdim), False)


@rule("outer")
def outer(b: Builder, c: Call, x: Tensor, vec2: Tensor) -> Tensor:
    return b("MUL", b.reshape(x, (x.type.size, 1)), b.reshape(vec2, (1, vec2.type.size)))


@rule("bilinear")
def bilinear(b: Builder, c: Call, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    n = input1.type.rank - 1
    outer_axes = "abcdefgh"[:n]
    y = matrices.einsum(b, f"{outer_axes}x,zxy,{outer_axes}y->{outer_axes}z", input1, weight, input2)
    return y if bias is None else b("ADD", y, bias)


@rule("scaled_dot_product_attention")
def attention(b: Builder, c: Call, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None,
              is_causal: bool, scale: float | None, enable_gqa: bool) -> Any:  # fmt: skip
    """softmax(scale q kT + mask) v"""
    if enable_gqa and query.type.shape[-3] != key.type.shape[-3]:
        times = query.type.shape[-3] // key.type.shape[-3]
        key, value = _repeated_heads(b, key, times), _repeated_heads(b, value, times)
    factor = 1 / math.sqrt(query.type.shape[-1]) if scale is None else scale
    scaled = b("MUL", query, b.constant(factor, FLOAT32)) if factor != 1 else query
    rank = max(t.type.rank for t in (query, key, value))
    scaled, key, value = (b.reshape(t, (*[1] * (rank - t.type.rank), *t.type.shape)) for t in (scaled, key, value))
    scores = b("BATCH_MATMUL", scaled, key, adj_x=False, adj_y=True)
    rows, columns = scores.type.shape[-2:]
    if is_causal and is_fixed((rows, columns)):
        mask = np.triu(np.full((rows, columns), -math.inf, np.float32), 1)
        scores = b("ADD", scores, b.constant(mask, FLOAT32))
    elif is_causal:
        seen = b("LESS_EQUAL", line(b, columns), b.reshape(line(b, rows), (rows, 1)), dtype=BOOL)
        scores = b("SELECT_V2", seen, scores, b.constant(-math.inf, FLOAT32), dtype=FLOAT32)
    if attn_mask is not None:
        if attn_mask.type.dtype == BOOL:
            low = b.constant(-math.inf, FLOAT32)
            scores = b("SELECT_V2", attn_mask, scores, low, dtype=FLOAT32)
        else:
            scores = b("ADD", scores, cast(b, attn_mask, FLOAT32))
    made = b("BATCH_MATMUL", b("SOFTMAX", scores), value, adj_x=False, adj_y=False)
    return b.reshape(made, c.result.shape)


def _repeated_heads(b: Builder, x: Tensor, times: int) -> Tensor:
    *batch, heads, length, size = x.type.shape
    wide = b.broadcast(b.reshape(x, (*batch, heads, 1, length, size)), (*batch, heads, times, length, size))
    return b.reshape(wide, (*batch, heads * times, length, size))
