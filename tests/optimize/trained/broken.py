"""Models that say the same as before, and that are hard to quantize: channels that share a scale have unlike ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

import lithe
from lithe.ir.graph import Module, Node, Tensor

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def without_upper_bounds(model: lithe.Model) -> lithe.Model:
    """The model with every RELU6 as a RELU, so that channels may be scaled."""
    module = model.module.copy()
    for node in module.main.nodes:
        if getattr(node.attrs, "fused_activation_function", "") == "RELU6":
            node.attrs = replace(node.attrs, fused_activation_function="RELU")
    return lithe.Model(module)


def broken(model: lithe.Model, spread: float = 1000.0) -> lithe.Model:
    """The model with the channels between two convolutions scaled, which the second undoes: before a depthwise one
    from 1 to 1 / `spread`, before another one of them, an outlier, by `spread` / 5.
    """
    module = model.module.copy()
    random = np.random.default_rng(3)
    for first, second in _neighbours(module):
        channels = first.outputs[0].type.shape[-1]
        if second.op.name == "DEPTHWISE_CONV_2D":
            factors = random.permutation(np.geomspace(1, 1 / spread, channels))
        else:
            factors = np.ones(channels)
            factors[random.integers(channels)] = spread / 5
        depthwise = first.op.name == "DEPTHWISE_CONV_2D"
        _scale(first, 1, factors if depthwise else factors[:, None, None, None])
        _scale(first, 2, factors)
        _scale(second, 1, 1 / factors)
    return lithe.Model(module)


def _neighbours(module: Module) -> Iterator[tuple[Node, Node]]:
    """Convolutions that follow one another, with nothing but maxima between."""
    producers = module.main.producers()
    for node in module.main.nodes:
        before = producers.get(node.inputs[0]) if node.op.name in LAYERS else None
        while before is not None and before.op.name == "MAX_POOL_2D":
            before = producers.get(before.inputs[0])
        if before is not None and before.op.name in LAYERS:
            yield before, node


def _scale(node: Node, i: int, factors: np.ndarray) -> None:
    t = node.inputs[i]
    node.inputs[i] = Tensor(t.name, t.type, (t.data * factors).astype(np.float32))
