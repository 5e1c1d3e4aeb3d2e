"""Equalization between layers: channels that share a scale are brought to like ranges.

    y = f(W x + b),  z = V y      with f(c y) = c f(y) for c > 0
    y' = f(S W x + S b),  z = (V / S) y'      S diagonal and positive: z is the same

All channels of y share one scale, so that a channel with small values has few integers when another's are large. A
factor for each channel mends that, at a price where the rows of V / S share a scale too (not in a depthwise filter,
where every channel has its own). The factors are

    s = (greatest |v| of the weights that read the channel)**(1 - a) / (greatest |y| of the channel)**a

with the a of several at which the noise of both roundings in z, of which the formula is below, is least; none of them
helps a layer in which ranges are alike, and then all factors are 1. Source: Nagel et al., Data-Free Quantization
Through Weight Equalization and Bias Correction, 2019; Xiao et al., SmoothQuant, 2022 (for the exponent).

A bound of f (RELU6) is no obstacle: channels that reach it on the samples keep their scale, others stay below it. Nor
is a channel scaled so far that a step of x times a step of its weights is more than a step of y, as one would be in
which the samples left nothing: that is no finer, and kernels refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import ACTIVATION_BOUNDS
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Site
from lithe.optimize.recipes import Plan
from lithe.optimize.repairs.watching import Channels
from lithe.types import FLOAT32

EXPONENTS = (0.25, 0.5, 0.75, 1.0)
LEAST_GAIN = 0.5  # of the noise must stay at most, or a layer is left as it is
FURTHEST = 1e5  # between the largest channel and the smallest that is brought to its size
ROOM = 0.95  # of a bound that values stay below it
ROUNDING = 1e-6  # relative


@dataclass(eq=False)
class Pair:
    """Weights whose outputs are scaled, and the weights that undo it.

    producer  the node with the former, readers the nodes with the latter.
    places    for each tensor between them the channel that each place of its last axis belongs to.
    channels  for each reader the channel that each weight is multiplied with, in the shape of its weights.
    factors   of the channels, once they are scaled.
    """

    producer: Node
    places: dict[Tensor, np.ndarray] = field(default_factory=dict)
    channels: dict[Node, np.ndarray] = field(default_factory=dict)
    factors: np.ndarray | None = None

    @property
    def result(self) -> Tensor:
        return self.producer.outputs[0]

    @property
    def bound(self) -> float:
        high = ACTIVATION_BOUNDS[self.producer.attrs.fused_activation_function][1]
        return np.inf if high is None else high


def pairs(graph: Graph, plan: Plan) -> list[Pair]:
    """Returns the pairs of layers of a graph between which scales can move, where that can matter."""
    readers, given_out = graph.consumers(), set(graph.outputs)
    found = []
    for node in graph.nodes:
        if plan.of(node).values is None or not _scales_outputs(node):
            continue
        pair = Pair(node)
        if _follow(pair, node.outputs[0], _own_places(node.outputs[0]), readers, given_out) and pair.channels:
            found.append(pair)
    return found


def _own_places(t: Tensor) -> np.ndarray:
    return np.arange(t.type.shape[-1])


def _weights(node: Node) -> np.ndarray | None:
    t = node.inputs[1] if len(node.inputs) > 1 else None
    real = t is not None and t.data is not None and t.type.dtype == FLOAT32 and "sparsity" not in t.extras
    return t.data if real and t is not None and t.data is not None and np.isfinite(t.data).all() else None


def _scales_outputs(node: Node) -> bool:
    """Whether the outputs of a node can be scaled by its weights and bias."""
    if node.op.per_input is None or _weights(node) is None or len(node.outputs) != 1:
        return False
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (bias.data is None or bias.type.dtype != FLOAT32):
        return False
    low, _ = ACTIVATION_BOUNDS[node.attrs.fused_activation_function]
    plain = node.attrs.fused_activation_function in ("NONE", "RELU", "RELU6")
    return plain and low in (None, 0.0) and node.outputs[0].type.rank > 0


def _follow(pair: Pair, t: Tensor, places: np.ndarray, readers: Mapping[Tensor, list[Node]], ends: set[Tensor]) -> bool:
    """Takes in what reads a tensor, up to weights; whether all of it lets factors through."""
    if t in ends or t not in readers:
        return False
    pair.places[t] = places
    for node in readers[t]:
        if node.op.per_input is not None and node.inputs[0] is t and node.inputs.count(t) == 1:
            channels = node.op.per_input(Site.of(node), places) if _weights(node) is not None else None
            if channels is None:
                return False
            pair.channels[node] = channels
            continue
        onward = _through(node, t, places)
        if onward is None or not _follow(pair, node.outputs[0], onward, readers, ends):
            return False
    return True


def _through(node: Node, t: Tensor, places: np.ndarray) -> np.ndarray | None:
    """The channel of each place of a node's result; None where factors do not pass through it, or channels mix.

    The operator itself says where channels go: it is evaluated on factors that all differ, and on their inverses.
    """
    if not (node.op.keeps_scale or node.op.homogeneous) or len(node.outputs) != 1:
        return None
    if any(other.type.dtype == FLOAT32 and other is not t for other in node.inputs if other is not None):
        return None
    if getattr(node.attrs, "fused_activation_function", "NONE") not in ("NONE", "RELU"):
        return None
    y = node.outputs[0]
    if node.op.elementwise:
        return places
    if min((*t.type.shape, *y.type.shape), default=0) < 1 or y.type.rank < 1:
        return None
    count = int(places.max()) + 1
    factors = 4.0 ** (np.random.default_rng(0).permutation(count) / count)
    spread = np.broadcast_to(factors[places], t.type.shape)
    ahead, back = (_evaluated(node, t, values) for values in (spread, 1 / spread))
    if ahead is None or back is None:
        return None
    rows = ahead.reshape(-1, ahead.shape[-1])
    padding = rows == 0
    inverse = np.abs(rows * back.reshape(rows.shape) - 1) < ROUNDING
    row = rows.max(0)  # of each place; zeros are of padding
    if not (inverse | padding).all() or not (padding | (np.abs(rows - row) < ROUNDING * 4)).all():
        return None
    order = np.argsort(factors)
    nearest = np.clip(np.searchsorted(factors[order], row - ROUNDING * 4), 0, count - 1)
    found = order[nearest]
    return found if (np.abs(factors[found] - row) < ROUNDING * 8).all() else None


def _evaluated(node: Node, t: Tensor, values: np.ndarray) -> np.ndarray | None:
    given = [values.astype(np.float32) if x is t else None if x is None else x.data for x in node.inputs]
    if any(x is None and there is not None for x, there in zip(given, node.inputs, strict=True)):
        return None
    try:
        (made,) = node.op.evaluate(Site.of(node), *given)
    except ExecutionError:  # of a model that takes other sizes than it declares: what it declares need not fit
        return None
    return np.asarray(made, np.float64) if made.shape == node.outputs[0].type.shape else None


# factors


def factors(
    pair: Pair, seen: Mapping[Tensor, Channels], plan: Plan, ranges: Mapping[Tensor, tuple[float, float]]
) -> np.ndarray | None:
    """The factor of each channel of a pair's result, None where it is better left alone."""
    y = seen.get(pair.result)
    if y is None or not np.isfinite(y.squares).all() or not y.largest.max() > 0:
        return None
    largest = np.maximum(y.largest, y.largest.max() / FURTHEST)
    reading = np.full(len(largest), 1e-30)
    for node, channels in pair.channels.items():
        np.maximum.at(reading, _spread(node, channels).ravel(), _relative(node).ravel())
    reading = np.maximum(reading, reading.max() / FURTHEST)
    usual = _noise(pair, np.ones(len(largest)), seen, plan)
    most = _most(pair, plan, ranges)
    tried = [_within(pair, y, reading ** (1 - a) / largest**a, most) for a in EXPONENTS]
    best = min(tried, key=lambda s: _noise(pair, s, seen, plan))
    return best if _noise(pair, best, seen, plan) < LEAST_GAIN * usual else None


def _most(pair: Pair, plan: Plan, ranges: Mapping[Tensor, tuple[float, float]]) -> np.ndarray | float:
    """The factors with which a step of the input times a step of a channel's weights is one of the result; 1 at least,
    without bounds where the input or the weights have no steps."""
    node, kind = pair.producer, plan.of(pair.producer).weights
    x, y = (max(high, 0) - min(low, 0) for low, high in (ranges.get(node.inputs[0], (0, 0)), ranges[pair.result]))  # type: ignore[arg-type]
    weights = _weights(node)
    if kind is None or weights is None or not x:
        return np.inf
    return np.maximum(kind.maximum * y / (x * np.maximum(np.abs(weights).max(_others(node)), 1e-30)), 1.0)


def _within(pair: Pair, y: Channels, s: np.ndarray, most: np.ndarray | float) -> np.ndarray:
    """Factors that leave the largest value as it is; with a bound, no channel comes to it that was below."""
    s = np.minimum(s * (y.largest.max() / (s * y.largest).max()), most)
    if pair.bound < np.inf:
        reaches = y.high >= pair.bound * (1 - ROUNDING)
        s = np.minimum(s, ROOM * pair.bound / np.maximum(y.high, 1e-30))
        s = np.where(reaches, 1.0, s)
    return s.astype(np.float32).astype(np.float64)


def _noise(pair: Pair, s: np.ndarray, seen: Mapping[Tensor, Channels], plan: Plan) -> float:
    """The mean square of what rounding y' and V / S adds to z, with every row of V relative to its largest weight."""
    y, total = seen[pair.result], 0.0
    for node, channels in pair.channels.items():
        scheme = plan.of(node)
        if scheme.values is None or scheme.weights is None:
            continue
        spread = _spread(node, channels)
        weights = _relative(node) / s[spread]
        low, high = min((y.low * s).min(), 0), max((y.high * s).max(), 0)
        step = (high - low) / (scheme.values.maximum - scheme.values.minimum)
        total += step**2 * (weights**2).sum()
        steps = weights.max(_others(node), keepdims=True) / scheme.weights.maximum
        total += (steps**2 * (s**2 * y.mean_square)[spread]).sum()
    return float(total)


def _others(node: Node) -> tuple[int, ...]:
    rank = node.inputs[1].type.rank  # type: ignore[union-attr]
    return tuple(a for a in range(rank) if a != node.op.weights_axis)


def _spread(node: Node, channels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(channels, node.inputs[1].type.shape)  # type: ignore[union-attr]


def _relative(node: Node) -> np.ndarray:
    """The sizes of weights, relative to the largest that shares their scale."""
    weights = _weights(node)
    assert weights is not None
    sizes = np.abs(weights.astype(np.float64))
    return sizes / np.maximum(sizes.max(_others(node), keepdims=True), 1e-30)


# the graph


def equalize(
    found: list[Pair], seen: Mapping[Tensor, Channels], plan: Plan, ranges: Mapping[Tensor, tuple[float, float]]
) -> dict[Tensor, tuple[float, float]]:
    """Scales weights and biases in place, and what was seen; returns the new ranges of the tensors between.

    ranges  as they were found. The part of the greatest and least values that was left out of them stays left out.
    """
    changed: dict[Tensor, tuple[float, float]] = {}
    for pair in found:
        if any(t not in seen or t not in ranges for t in pair.places):
            continue
        s = factors(pair, seen, plan, {**ranges, **changed})
        if s is None:
            continue
        pair.factors = s
        for t, places in pair.places.items():
            before = (seen[t].low.min(), seen[t].high.max())
            seen[t].scale(s[places])
            after = (seen[t].low.min(), seen[t].high.max())
            low, high = (_part(*ends) for ends in zip(ranges[t], before, after, strict=True))
            changed[t] = low, high
        _scale_outputs(pair.producer, s)
        for node, channels in pair.channels.items():
            _multiply(node, 1, 1 / s[channels])
    return changed


def _part(end: float, before: float, after: float) -> float:
    return float(after * min(end / before, 1.0)) if before else float(after)


def _scale_outputs(node: Node, s: np.ndarray) -> None:
    shape = [1] * node.inputs[1].type.rank  # type: ignore[union-attr]
    shape[node.op.weights_axis] = -1
    _multiply(node, 1, s.reshape(shape))
    if len(node.inputs) > 2:
        _multiply(node, 2, s)


def _multiply(node: Node, i: int, factors: np.ndarray) -> None:
    """Gives a node a constant of its own in place of one that others may share."""
    t = node.inputs[i]
    if t is not None and t.data is not None:
        data = (t.data * factors).astype(np.float32)
        node.inputs[i] = Tensor(t.name, t.type, data, extras=dict(t.extras))


def watched(found: list[Pair]) -> set[Tensor]:
    """The tensors of which the channels have to be seen."""
    return set(chain.from_iterable(pair.places for pair in found))
