"""Bias correction: what the rounding of weights does to the mean of an output is taken from its bias.

    b' = b - (W' - W) E[x]        W' the weights as they are stored, E[x] the mean of the inputs on the samples

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019. An input's mean is
taken as the same under every weight of a window, which at the edges of an image it is not quite.

A shift that is smaller than what rounding the result to integers adds to its mean is left: to correct it makes results
other, not better. That rounding differs from place to place of an image, so the more places, the less it adds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import Site
from lithe.optimize.integers import as_weights, weights_scale
from lithe.optimize.recipes import Scheme
from lithe.types import FLOAT32


def has_bias(node: Node) -> bool:
    """Whether a node has real weights and a real bias, both constant."""
    real = [t is not None and t.data is not None and t.type.dtype == FLOAT32 for t in node.inputs[1:3]]
    return node.op.per_input is not None and real == [True, True]


def corrected(
    node: Node, scheme: Scheme, mean: np.ndarray, weights: Tensor, stored: Tensor | None = None, step: float = 0.0
) -> Tensor | None:
    """Returns the bias of a node that makes up for its weights' rounding; None where it is not known how or too little.

    mean     of each place along the last axis of the input.
    weights  as real numbers; stored: as integers, where they are known already.
    step     of the result's integers; 0: it stays real.
    """
    bias = node.inputs[2]
    assert weights.data is not None
    assert bias is not None
    assert bias.data is not None
    assert scheme.weights is not None
    means = node.op.per_input(Site.of(node), mean)
    if means is None:
        return None
    if stored is None:
        q = weights_scale(weights.data, node.op.weights_axis, scheme.weights)
        stored = Tensor("", replace(weights.type, quantization=q), as_weights(weights.data, q, scheme.weights))
    others = tuple(a for a in range(weights.data.ndim) if a != node.op.weights_axis)
    shift = ((real_weights(stored) - weights.data) * means).sum(others)
    y = node.outputs[0].type
    if (shift**2).mean() <= step**2 / 12 * len(shift) / max(y.size, 1):
        return None
    return Tensor(bias.name, bias.type, (bias.data - shift).astype(np.float32), extras=dict(bias.extras))


def real_weights(stored: Tensor) -> np.ndarray:
    """float64: the numbers that the integers of weights stand for."""
    q = stored.type.quantization
    assert q is not None
    assert stored.data is not None
    scale = np.asarray(q.scale, np.float64)
    if q.block:
        return (stored.data.astype(np.float64).reshape(-1, q.block) * scale[:, None]).reshape(stored.data.shape)
    shape = [1] * stored.data.ndim
    shape[q.axis] = -1
    return stored.data.astype(np.float64) * scale.reshape(shape)
