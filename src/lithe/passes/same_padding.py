"""PAD before a window, where the window's own padding is the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lithe.ir.graph import Node
from lithe.passes.rewrite import Neighbours


@dataclass(frozen=True)
class _Sizes:
    """The window of an operator over pictures: sizes with what dilation adds, and strides."""

    extent: tuple[int, int]
    strides: tuple[int, int]

    @staticmethod
    def of(node: Node) -> _Sizes:
        a = node.attrs
        if hasattr(a, "filter_height"):
            return _Sizes((a.filter_height, a.filter_width), (a.stride_h, a.stride_w))
        weights = node.inputs[1]
        assert weights is not None
        _, height, width, _ = weights.type.shape
        extent = (height - 1) * a.dilation_h_factor + 1, (width - 1) * a.dilation_w_factor + 1
        return _Sizes(extent, (a.stride_h, a.stride_w))

    def same(self, places: tuple[int, int]) -> list[list[int]]:
        pairs = []
        for n, extent, stride in zip(places, self.extent, self.strides, strict=True):
            if n > LARGEST and stride > 1:
                return []  # where the positions end is known only when the model runs
            total = max((-(-n // stride) - 1) * stride + extent - n, 0)
            pairs.append([total // 2, total - total // 2])
        return [[0, 0], *pairs, [0, 0]]


LARGEST = 10_000_000  # a dimension above it stands for an open one
WINDOWS = {"CONV_2D", "DEPTHWISE_CONV_2D"}


def fold_pad(around: Neighbours, node: Node) -> Node | None:
    """CONV_2D(PAD(x), VALID)  ->  CONV_2D(x, SAME)        where both put zeros in the same places"""
    if node.op.name not in WINDOWS or node.attrs.padding != "VALID":
        return None
    maker = around.producer(node.inputs[0])
    if maker is None or maker.op.name != "PAD":
        return None
    x, pairs = maker.inputs
    if x is None or pairs is None or pairs.data is None:
        return None
    if pairs.data.tolist() != _Sizes.of(node).same((x.type.shape[1], x.type.shape[2])):
        return None
    attrs = replace(node.attrs, padding="SAME")
    return Node(node.op, attrs, [x, *node.inputs[1:]], node.outputs, node.index, node.extras)


def as_average(around: Neighbours, node: Node) -> Node | None:
    """MUL(AVERAGE_POOL_2D(PAD(x), VALID), elements of the window / those in x)  ->  AVERAGE_POOL_2D(x, SAME)"""
    if node.op.name != "MUL" or node.attrs.fused_activation_function != "NONE":
        return None
    for mean, share in (node.inputs, node.inputs[::-1]):
        pool = around.producer(mean)
        pad = None if pool is None or pool.op.name != "AVERAGE_POOL_2D" else around.producer(pool.inputs[0])
        if pool is None or pad is None or pad.op.name != "PAD" or share is None or share.data is None:
            continue
        found = _average(node, pool, pad, share.data)
        if found is not None:
            return found
    return None


def _average(node: Node, pool: Node, pad: Node, share: np.ndarray) -> Node | None:
    x, pairs = pad.inputs
    a, sizes = pool.attrs, _Sizes.of(pool)
    plain = a.padding == "VALID" and a.fused_activation_function == "NONE"
    if x is None or pairs is None or pairs.data is None or not plain or share.ndim != 4 or share.shape[0] != 1:
        return None
    places = x.type.shape[1], x.type.shape[2]
    if pairs.data.tolist() != sizes.same(places) or share.shape[3] != 1:
        return None
    counts = [
        _counts(n, k, s, p) for n, k, s, p in zip(places, sizes.extent, sizes.strides, pairs.data[1:3], strict=True)
    ]
    expected = sizes.extent[0] * sizes.extent[1] / np.multiply.outer(*counts)
    if share.shape[1:3] != expected.shape or not np.allclose(share[0, :, :, 0], expected, 1e-5, 0):
        return None
    return Node(pool.op, replace(a, padding="SAME"), [x], node.outputs, node.index, node.extras)


def _counts(places: int, size: int, stride: int, padding: np.ndarray) -> np.ndarray:
    """Elements of the window that lie inside, for each of its positions."""
    inside = np.pad(np.ones(places), tuple(int(p) for p in padding))
    return np.array([inside[i : i + size].sum() for i in range(0, len(inside) - size + 1, stride)])
