"""Scales that were moved between layers: channels of a tensor are larger in B, by factors that the next layer undoes.

    y' = S y,  with weights S W in B where A has W;  and V / S in the layer after, where A has V

Such a model says the same. The factors are found in the weights, and followed through operators that let them pass:
an operator without weights is evaluated on the factors themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import Site
from lithe.optimize.comparison.agreement import real
from lithe.optimize.comparison.matching import Matching
from lithe.optimize.integers import WEIGHTS_OPERAND
from lithe.types import FLOAT32

ALIKE = 0.95  # the square of the cosine between weights that differ by a factor
NEAR = 0.02  # a factor so near to 1 is rounding


@dataclass(frozen=True)
class Factors:
    """of: what tensors of A are multiplied with in B, where it is not 1. constants: A's numbers as they then are in B,
    by node and place.
    """

    of: dict[Tensor, np.ndarray] = field(default_factory=dict)
    constants: dict[tuple[Node, int], np.ndarray] = field(default_factory=dict)

    def constant(self, node: Node, place: int) -> np.ndarray:
        """A constant of A's node, as it is in B."""
        t = node.inputs[place]
        assert t is not None
        assert t.data is not None
        return self.constants.get((node, place), real(t.data, t.type))


def moved(found: Matching) -> Factors:
    """Returns the factors of the tensors that are paired."""
    made = Factors()
    for node in found.a.nodes:
        partner = found.b.makers.get(found.pairs[node.outputs[0]]) if node.outputs[0] in found.pairs else None
        weights = _weights(node)
        if weights is not None and partner is not None and partner.op.name == node.op.name:
            theirs = partner.inputs[WEIGHTS_OPERAND]
            if theirs is not None:
                _through_weights(made, node, weights, found.b.root(theirs))
        elif len(node.outputs) == 1 and any(t in made.of for t in node.inputs if t is not None):
            factors = _evaluated(node, made.of)
            if factors is not None:
                made.of[node.outputs[0]] = factors
    return made


def _weights(node: Node) -> Tensor | None:
    t = node.inputs[WEIGHTS_OPERAND] if len(node.inputs) > WEIGHTS_OPERAND else None
    return t if node.op.weights_axis is not None and t is not None and t.data is not None else None


def _through_weights(made: Factors, node: Node, weights: Tensor, theirs: Tensor) -> None:
    axis = node.op.weights_axis
    if theirs.data is None or theirs.type.shape != weights.type.shape or axis is None:
        return
    mine = made.constant(node, WEIGHTS_OPERAND) / _read(made, node, weights.type.shape[-1])
    outputs = _outputs(mine, real(theirs.data, theirs.type), axis)
    shape = [1] * mine.ndim
    shape[axis] = -1
    made.constants[node, WEIGHTS_OPERAND] = mine * outputs.reshape(shape)
    y = node.outputs[0]
    if (outputs != 1).any() and y.type.rank and y.type.shape[-1] == len(outputs):
        made.of[y] = outputs
        for place in range(WEIGHTS_OPERAND + 1, len(node.inputs)):
            bias = node.inputs[place]
            if bias is not None and bias.data is not None and bias.type.shape == outputs.shape:
                made.constants[node, place] = real(bias.data, bias.type) * outputs


def _read(made: Factors, node: Node, channels: int) -> np.ndarray | float:
    """The factors of the input, for each place of the weights' last axis."""
    factors = next((made.of[t] for t in node.inputs if t is not None and t in made.of), None)
    if factors is None or factors.ndim > 1 or channels % len(factors):
        return 1.0
    return np.repeat(factors, channels // len(factors))


def _outputs(mine: np.ndarray, theirs: np.ndarray, axis: int) -> np.ndarray:
    """The factor of each output: that by which theirs are mine, where they are alike; else 1."""
    a, b = (np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1) for w in (mine, theirs))
    product, power, other = (a * b).sum(1), (a * a).sum(1), (b * b).sum(1)
    alike = (product > 0) & (product**2 >= ALIKE * power * other)
    factors = np.where(alike, product / np.where(power > 0, power, 1.0), 1.0)
    return np.where(np.abs(factors - 1) > NEAR, factors, 1.0)


def _evaluated(node: Node, of: Mapping[Tensor, np.ndarray]) -> np.ndarray | None:
    """The factors of a result, None where the operator does not let them pass."""
    homogeneous = node.op.keeps_scale or getattr(node.op, "homogeneous", False)
    given: list[np.ndarray | None] = []
    for t in node.inputs:
        factors = of.get(t) if t is not None else None
        if factors is not None and t is not None:
            given.append(np.broadcast_to(factors, t.type.shape).astype(np.float32))
        elif t is not None and t.data is None and t.type.dtype == FLOAT32:
            given.append(np.ones(t.type.shape, np.float32))
        else:
            given.append(None if t is None else t.data)
    missing = any(x is None and t is not None for x, t in zip(given, node.inputs, strict=True))
    if not homogeneous or missing or node.outputs[0].type.dtype != FLOAT32:
        return None
    (made,) = node.op.evaluate(Site.of(node), *given)
    factors = np.where(made > 0, made, 1.0).astype(np.float64)  # what is 0 is padding
    rows = factors.reshape(-1, factors.shape[-1]) if factors.ndim else factors.reshape(1, 1)
    return rows[0] if (rows == rows[:1]).all() else factors
