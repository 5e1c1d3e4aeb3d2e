"""BroadcastGradientArgs: over which axes the gradient of an operator that broadcasts is to be summed."""

from __future__ import annotations

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.op import Op, Site, register
from lithe.types import Shape


@register
class BroadcastGradientArgs(Op):
    """For each of two shapes, the axes of their common shape that it does not have, or has with size 1.

    Equal shapes have none. Source: TensorFlow Lite, kernels/gradient/bcast_grad_args.cc (behaviour, not text).
    """

    name = "BroadcastGradientArgs"
    operands = (("shape_a", "shape_b"), ("axes_a", "axes_b"))
    types = "T T -> T T: int32 int64"

    def infer(site: Site) -> list[Shape]:
        site.rank(0, 1), site.rank(1, 1)
        return [(None,), (None,)]

    def evaluate(site: Site, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        rank = max(a.size, b.size)
        shapes = [np.concatenate([np.ones(rank - s.size, s.dtype), s]) for s in (a, b)]
        first, second = shapes
        if not ((first == second) | (first == 1) | (second == 1)).all():
            raise ExecutionError(f"BroadcastGradientArgs: {a.tolist()} and {b.tolist()} do not broadcast")
        if a.size == b.size and (first == second).all():
            return [np.zeros(0, a.dtype)] * 2
        return [np.flatnonzero(s == 1).astype(a.dtype) for s in shapes]
