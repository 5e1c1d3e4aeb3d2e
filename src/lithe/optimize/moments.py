"""Layers as products of matrices, and what their inputs have in common: all that a closed form needs of samples.

A layer's weights are [groups, outputs, inputs]; its sums are w x for the columns x that its class says
(`Op.factors`). Over samples, x has a mean m and a matrix of second moments E[x x^T]; changing w to v changes the sums
by a mean square of

    trace((w - v) H (w - v)^T)        H = E[x x^T], or E[(x - m)(x - m)^T] where a bias takes up (w - v) m
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Node, Tensor
from lithe.ops.op import Site
from lithe.optimize.calibration import SAMPLES, named_arrays
from lithe.runtime.advice import LEAST_INPUTS, LEAST_WEIGHTS, is_layer
from lithe.runtime.model import Model
from lithe.types import FLOAT32, INT8

BIAS_OPERAND, WEIGHTS_OPERAND = 2, 1
MOST_INPUTS = 6144  # of an output, whose second moments are kept
DAMPING = 0.01  # of the mean variance, added to each


@dataclass(frozen=True)
class Layer:
    """Constant weights of an operator."""

    node: Node
    weights: Tensor
    groups: int = 1

    @property
    def matrix(self) -> np.ndarray:
        """The weights as real numbers, float64 [groups, outputs, inputs]."""
        axis, data, q = self.node.op.weights_axis, self.weights.data, self.weights.type.quantization
        assert axis is not None
        assert data is not None
        first = np.moveaxis(data, axis, 0).astype(np.float64)
        rows = first.reshape(self.groups, first.shape[0] // self.groups, -1)
        if q is None:
            return rows
        scale = np.asarray(q.scale).reshape(-1, 1)
        return (rows.reshape(first.shape[0], -1) * scale).reshape(rows.shape)

    def store(self, matrix: np.ndarray, kept: np.ndarray | None = None) -> Tensor:
        """The tensor with other weights; of integers, what is not kept becomes zero and the rest stays."""
        axis, old = self.node.op.weights_axis, self.weights
        assert axis is not None
        assert old.data is not None
        given = np.asarray(matrix if kept is None else kept)
        turned = np.moveaxis(old.data, axis, 0)
        back = np.moveaxis(given.reshape(turned.shape), 0, axis)
        data = np.where(back, old.data, np.zeros((), old.data.dtype)) if kept is not None else back
        return Tensor(old.name, old.type, np.ascontiguousarray(data, old.data.dtype))

    @property
    def bias(self) -> Tensor | None:
        """The constant bias of real numbers, which takes up a change of the mean."""
        inputs = self.node.inputs
        bias = inputs[BIAS_OPERAND] if len(inputs) > BIAS_OPERAND else None
        return bias if bias is not None and bias.data is not None and bias.type.dtype == FLOAT32 else None


def layers(module: Module, scope: str = "", *, integers: bool = False) -> list[Layer]:
    """The layers with enough weights, and enough for each output, whose results have a name in which `scope` is found.

    integers  those of 8 bits too, whose zero is 0.
    Raises InputError where there is none, or the scope is no regular expression.
    """
    try:
        pattern = re.compile(scope)
    except re.error as cause:
        raise InputError(f"{scope!r} is no regular expression: {cause}", hint="scope='dense|conv_3'") from None
    types = (FLOAT32, INT8) if integers else (FLOAT32,)
    found = []
    for node in (n for g in module.graphs for n in g.nodes):
        if not is_layer(node):
            continue
        weights = node.inputs[WEIGHTS_OPERAND]
        assert weights is not None
        assert weights.data is not None
        q = weights.type.quantization
        if weights.type.dtype not in types or (q is not None and (any(q.zero_point) or q.block)):
            continue
        if any(pattern.search(t.name) for t in node.outputs):
            x = node.inputs[0]
            channels = weights.data.shape[-1]
            grouped = weights.data.ndim == 4 and x is not None and x.type.rank == 4 and x.type.shape[3] % channels == 0
            found.append(Layer(node, weights, x.type.shape[3] // channels if grouped and x is not None else 1))
    if not found:
        among = f" with '{scope}' in the name of a result" if scope else ""
        raise InputError(f"the model has no layer{among} of {LEAST_WEIGHTS} weights, {LEAST_INPUTS} an output",
                         hint="`lithe inspect MODEL` lists the layers")  # fmt: skip
    return found


@dataclass
class Moments:
    """Sums over what a layer's weights were multiplied by.

    total, products  [groups, inputs] and [groups, inputs, inputs]; count: of how many columns.
    """

    total: np.ndarray
    products: np.ndarray
    count: int = 0

    def see(self, x: np.ndarray) -> None:
        """x: [groups, columns, inputs]."""
        self.count += x.shape[1]
        self.total += x.sum(axis=1, dtype=np.float64)
        self.products += x.swapaxes(1, 2) @ x

    @property
    def mean(self) -> np.ndarray:
        return self.total / max(self.count, 1)

    def matrix(self, *, centred: bool) -> np.ndarray:
        """H [groups, inputs, inputs], damped so that it can be inverted."""
        mean = self.mean
        h = self.products / max(self.count, 1) - (mean[:, :, None] * mean[:, None, :] if centred else 0.0)
        size = h.shape[1]
        spread = np.trace(h, axis1=1, axis2=2) / size
        h[:, range(size), range(size)] += (DAMPING * spread + 1e-12)[:, None]
        return h


def observed(
    module: Module, samples: Iterable[Any], of: Collection[Layer], progress: Callable[[int], None]
) -> dict[Node, Moments]:
    """What the inputs of layers of the main graph have in common over samples; other layers are left out.

    Raises InputError where there is no sample, one does not fit the model, or gives something that is not finite.
    """
    names = list(Model(module).inputs)
    mine = set(module.main.nodes)
    wanted = [layer for layer in of if layer.node in mine and layer.matrix.shape[2] <= MOST_INPUTS]
    wanted = [layer for layer in wanted if layer.weights.type.dtype == FLOAT32]
    watching = module.copy()
    same = dict(zip(module.main.tensors, watching.main.tensors, strict=True))
    given = {t: n for n, t in enumerate(module.main.inputs)}
    read = dict.fromkeys(t for layer in wanted for t in layer.node.inputs[:1] if t is not None)
    watched = [t for t in read if t not in given]
    watching.main.outputs = [same[t] for t in watched] or watching.main.outputs
    watching.signatures = []
    model = Model(watching)
    found: dict[Node, Moments] = {}
    count = 0
    for sample in samples:
        arrays = list(named_arrays(sample, names, count).values())
        results = model(*arrays)
        made = list(results.values()) if isinstance(results, dict) else [results]
        values = {t: np.asarray(arrays[n]) for t, n in given.items()} | dict(zip(watched, made, strict=False))
        for layer in wanted:
            tensor = layer.node.inputs[0]
            assert tensor is not None
            x = values[tensor]
            if not np.isfinite(x).all():
                raise InputError(f"sample {count} gives NaN or infinity in {tensor}",
                                 hint="look for NaN and infinity in the samples, or leave this one out")  # fmt: skip
            x = layer.node.op.factors(Site.of(layer.node), x)
            groups, _, inputs = x.shape
            if layer.node not in found:
                found[layer.node] = Moments(np.zeros((groups, inputs)), np.zeros((groups, inputs, inputs)))
            found[layer.node].see(x)
        count += 1
        progress(count)
    if not count:
        raise InputError("there are no samples", hint=f"samples are {SAMPLES}; without any, leave the argument out")
    return found


def rebiased(layer: Layer, change: np.ndarray, mean: np.ndarray) -> None:
    """Adds to the layer's bias what its sums lost on the mean: change [groups, outputs, inputs] is old less new."""
    bias = layer.bias
    assert bias is not None
    assert bias.data is not None
    lost = (change @ mean[:, :, None]).reshape(-1)
    made = Tensor(bias.name, bias.type, (bias.data + lost.reshape(bias.data.shape)).astype(np.float32))
    layer.node.inputs[BIAS_OPERAND] = made
