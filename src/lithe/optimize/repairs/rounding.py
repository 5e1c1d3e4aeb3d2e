"""Learned rounding: weights are rounded so that sums of products stay, not so that each weight stays nearest.

Weights of an output meet the inputs X in a sum, so that one weight's rounding can make up for another's where their
inputs go together. One input after another is rounded, and what that costs is spread over those still to come:

    H = X^T X,  U upper triangular with H^-1 = U^T U
    for k in 0, 1, ...:    e = (w[k] - rounded(w[k])) / U[k, k];    w[k:] -= e * U[k, k:]

Source: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022, which
gives the closed form of Hassibi and Stork, Optimal Brain Surgeon, 1992, an order that is the same for all outputs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import Site
from lithe.optimize.integers import as_weights, weights_scale
from lithe.optimize.recipes import WEIGHTS_OPERAND, Scheme
from lithe.optimize.repairs.bias import real_weights
from lithe.types import FLOAT32, DType, Quantization

MOST_COLUMNS = 512  # of a sample
MOST_INPUTS = 4096  # of an output
CHEAP_COLUMNS, CHEAP_INPUTS = 64, 64  # the same where rounding has to be cheap
LEAST_GAIN = 0.5  # of the noise of rounding to the nearest must stay at most, or that is done
LEAST, ENOUGH = 8, 64  # columns for each input, with which it begins to be better than chance, and is
DAMPING = 0.01  # of the mean of H's diagonal
SHRINKS = np.linspace(1.0, 0.4, 25)  # of scales in few bits, among which the one with the least error is taken
FEW_BITS = 4


class Products:
    """H of a node's weights: the sums of products of what they are multiplied by, [groups, K, K].

    cheap  a part of the columns will do, and there have to be several for each input.
    """

    def __init__(self, node: Node, cheap: bool = False) -> None:
        self.is_cautious = cheap
        self._most = CHEAP_COLUMNS if cheap else MOST_COLUMNS
        self._least, self._enough = (LEAST, ENOUGH) if cheap else (0, sys.maxsize)  # columns for each input
        self._factors, self._site = node.op.factors, replace(Site.of(node), constants=())
        self.sums: np.ndarray | None = None
        self.count = 0

    def _has(self, columns: int) -> bool:
        """Whether it has seen as many for each input."""
        return self.count >= columns * (self.sums.shape[-1] if self.sums is not None else 1)

    @property
    def is_enough(self) -> bool:
        """Whether the products say more than chance."""
        return self._has(self._least)

    def see(self, array: np.ndarray, count: int = 1) -> None:
        for one in np.split(array, count):
            if not self._has(self._enough):
                self._add(one)

    def _add(self, array: np.ndarray) -> None:
        columns = self._factors(self._site, array)
        columns = columns[:, :: -(-columns.shape[1] // self._most)].astype(np.float32)
        self.count += columns.shape[1]
        products = (columns.swapaxes(1, 2) @ columns).astype(np.float64)
        self.sums = products if self.sums is None else self.sums + products

    def merge(self, later: Products) -> None:
        if later.sums is not None and not self._has(self._enough):
            self.count += later.count
            self.sums = later.sums if self.sums is None else self.sums + later.sums

    @staticmethod
    def is_cheap(node: Node) -> bool:
        """Whether the weights of an output of a node that fits are few."""
        t = node.inputs[WEIGHTS_OPERAND]
        return t is not None and t.type.size <= CHEAP_INPUTS * t.type.shape[node.op.weights_axis]

    @staticmethod
    def fits(node: Node) -> bool:
        """Whether a node has real weights of a size that is worth it."""
        t = node.inputs[WEIGHTS_OPERAND] if len(node.inputs) > WEIGHTS_OPERAND else None
        if node.op.factors is None or t is None or t.data is None or t.type.dtype != FLOAT32:
            return False
        depth = t.type.size // max(t.type.shape[node.op.weights_axis], 1)
        return 0 < depth <= MOST_INPUTS and bool(np.isfinite(t.data).all())


def as_rows(node: Node, weights: np.ndarray, groups: int) -> np.ndarray:
    """What is in the shape of a node's weights, as [groups, outputs of a group, K]."""
    first = np.moveaxis(weights, node.op.weights_axis, 0)
    return first.reshape(groups, len(first) // groups, -1)


def rounded(node: Node, scheme: Scheme, sums: np.ndarray) -> Tensor:
    """Returns the weights of a node as integers of its scheme.

    sums  H of its inputs, as they are now.
    """
    t, dtype, axis = node.inputs[WEIGHTS_OPERAND], scheme.weights, node.op.weights_axis
    assert t is not None
    assert t.data is not None
    assert dtype is not None
    weights = as_rows(node, t.data.astype(np.float64), len(sums))
    in_blocks = scheme.block and scheme.values is None and axis < t.type.rank - 1
    block = scheme.block if in_blocks and t.type.shape[-1] % scheme.block == 0 else 0
    scales = _scales(weights, np.einsum("gkk->gk", sums)[:, None], dtype, block)
    stored = _sequentially(weights, sums, scales, dtype)
    turned = np.moveaxis(t.data, axis, 0).shape
    values = np.ascontiguousarray(np.moveaxis(stored.reshape(turned), 0, axis)).astype(dtype.numpy)
    each = (scales.reshape(-1, block) if block else scales.reshape(turned[0], -1))[:, 0]
    q = Quantization(tuple(map(float, each)), (0,) * len(each), 0 if block else axis, block)
    return Tensor(t.name, replace(t.type, dtype=dtype, quantization=q), values)


def noise(node: Node, scheme: Scheme, sums: np.ndarray, stored: Tensor | None = None) -> float:
    """What the rounding of a node's weights adds to the squares of its sums; each to the nearest, if not `stored`."""
    t, axis = node.inputs[WEIGHTS_OPERAND], node.op.weights_axis
    assert t is not None
    assert t.data is not None
    assert scheme.weights is not None
    if stored is None:
        q = weights_scale(t.data, axis, scheme.weights)
        stored = Tensor("", replace(t.type, quantization=q), as_weights(t.data, q, scheme.weights))
    error = as_rows(node, real_weights(stored) - t.data, len(sums))
    return float(((error @ sums) * error).sum())


def _scales(weights: np.ndarray, importance: np.ndarray, dtype: DType, block: int) -> np.ndarray:
    """The scale of each weight [groups, outputs, K]: in few bits the one with the least error of a row or block."""
    width = block or weights.shape[-1]
    rows = weights.reshape(*weights.shape[:2], -1, width)
    weight = np.broadcast_to(importance, weights.shape).reshape(rows.shape)
    widest = np.abs(rows).max(-1, keepdims=True) / dtype.maximum
    widest[widest < 1e-30] = 1.0
    best: np.ndarray[Any, Any] = _storable(widest, block)
    least: np.ndarray[Any, Any] = np.full(widest.shape, np.inf)
    for shrink in SHRINKS if dtype.stored_bits <= FEW_BITS else ():
        tried = _storable(widest * shrink, block)
        stored = np.clip(np.rint(rows / tried), -dtype.maximum, dtype.maximum)
        loss = (weight * (stored * tried - rows) ** 2).sum(-1, keepdims=True)
        best, least = np.where(loss < least, tried, best), np.minimum(loss, least)
    return np.broadcast_to(best, rows.shape).reshape(weights.shape)


def _storable(scale: np.ndarray, block: int) -> np.ndarray:
    """As files hold it: a float32, of blocks a float16."""
    if not block:
        return scale.astype(np.float32)
    limits = np.finfo(np.float16)
    return np.clip(scale, limits.tiny, limits.max).astype(np.float16).astype(np.float32)


def _sequentially(weights: np.ndarray, sums: np.ndarray, scales: np.ndarray, dtype: DType) -> np.ndarray:
    """Integers of weights [groups, outputs, K], those with the largest inputs first."""
    depth = weights.shape[-1]
    sizes = np.einsum("gkk->gk", sums)
    order = np.argsort(-sizes.sum(0), kind="stable")
    sums = sums[:, order][:, :, order] + np.eye(depth) * np.maximum(DAMPING * sizes.mean(1), 1e-12)[:, None, None]
    left, scales = weights[..., order].copy(), scales[..., order]
    upper = np.linalg.cholesky(np.linalg.inv(sums)).swapaxes(1, 2)
    stored = np.empty_like(left)
    for k in range(depth):
        stored[..., k] = np.clip(np.rint(left[..., k] / scales[..., k]), -dtype.maximum, dtype.maximum)
        error = (left[..., k] - stored[..., k] * scales[..., k]) / upper[:, k, k, None]
        left[..., k:] -= error[..., None] * upper[:, None, k, k:]
    made = np.empty_like(stored)
    made[..., order] = stored
    return made
