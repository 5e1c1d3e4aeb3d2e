"""The repairs in order: what they have to see while the float model runs, and what they then change in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.optimize.integers import LARGEST_BIAS, integer_form
from lithe.optimize.ranges import Observer
from lithe.optimize.recipes import WEIGHTS_OPERAND, Plan
from lithe.optimize.repairs.bias import corrected, has_bias
from lithe.optimize.repairs.equalization import equalize, pairs, watched
from lithe.optimize.repairs.folding import folded
from lithe.optimize.repairs.rounding import FEW_BITS, LEAST_GAIN, Products, as_rows, noise, rounded
from lithe.optimize.repairs.watching import Channels, Means, Watched, Watcher
from lithe.types import DType

Ranges = Mapping[Any, tuple[float, float]]
NARROWING, FOLDING, EQUALIZATION, BIAS, ROUNDING = "narrowing", "folding", "equalization", "bias", "rounding"
REPAIRS = (NARROWING, FOLDING, EQUALIZATION, BIAS, ROUNDING)


def chosen(repairs: Collection[str] | None) -> Collection[str]:
    """The names of repairs, all for None. Raises InputError for what is none."""
    if repairs is None:
        return REPAIRS
    names = [repairs] if isinstance(repairs, str) else list(repairs)
    for name in names:
        if name not in REPAIRS:
            raise InputError(f"there is no repair {name!r}", hint=f"repairs are {', '.join(REPAIRS)}; () is none")
    return names


class Mending:
    """What repairs do to the main graph of a float model."""

    def __init__(self, graph: Graph, plan: Plan, repairs: Collection[str] | None = None) -> None:
        """repairs  names; None: all, of which rounding is for weights of few bits, and of 8 where it is cheap."""
        self.graph, self.plan, self.names = graph, plan, chosen(repairs)
        self.weights: dict[Node, Tensor | None] = {}
        self.steps: dict[Node, float] = {}
        self.pairs = pairs(graph, plan) if EQUALIZATION in self.names else []
        found = [n for n in graph.nodes if ROUNDING in self.names and self._is_rounded(n, 8)]
        few = {n for n in found if repairs is not None or plan.of(n).rounding or self._is_rounded(n, FEW_BITS)}
        cheap = {n for n in found if plan.of(n).values is not None and Products.is_cheap(n)}  # samples are run anyway
        self.products = {n: Products(n, cheap=n not in few) for n in found if n in few or n in cheap}
        self.biased = [n for n in graph.nodes if BIAS in self.names and self._is_stored(n) and has_bias(n)]
        self.channels = {t: Channels() for t in watched(self.pairs) if t.type.rank}
        read = (n.inputs[0] for n in self.biased)
        self.means = self.channels | {
            t: Means() for t in read if t is not None and t.type.rank and t not in self.channels
        }
        self.watchers: dict[Any, list[Watcher]] = {t: [m] for t, m in self.means.items()}
        for node, products in self.products.items():
            if node.inputs[0] is not None:
                self.watchers.setdefault(node.inputs[0], []).append(products)

    @property
    def narrows(self) -> bool:
        """Whether ranges may leave out values."""
        return NARROWING in self.names

    @property
    def wants_samples(self) -> bool:
        """Whether samples are of use even where no ranges are needed."""
        return bool(self.products)

    def _is_stored(self, node: Node, bits: int = FEW_BITS) -> bool:
        """Whether a node's weights become integers, with a scale for each output; beside real numbers, of few bits."""
        scheme = self.plan.of(node)
        if scheme.weights is None or not scheme.weights.is_integer or not scheme.channels:
            return False
        few = scheme.weights.stored_bits <= bits
        return few if scheme.values is None else integer_form(node, scheme) is not None

    def _is_rounded(self, node: Node, bits: int) -> bool:
        kind = self.plan.of(node).weights
        few = kind is not None and kind.is_integer and kind.stored_bits <= bits
        return few and self._is_stored(node, bits) and Products.fits(node)

    def observed(self, seen: Any, observer: Observer) -> Observer:
        """The observer of a tensor, which then sees for the repairs too."""
        watchers = self.watchers.get(seen)
        return Watched(observer, watchers) if watchers else observer

    def mend(self, ranges: Ranges) -> tuple[dict[Any, tuple[float, float]], dict[Node, Tensor]]:
        """Changes weights in place. Returns the ranges as they are now, and weights that are integers.

        ranges  as they were found.
        """
        found = dict(ranges)
        found |= equalize(self.pairs, self.channels, self.plan, found)
        if FOLDING in self.names:
            found |= folded(self.graph, found, self.plan)
        self.weights = {n: n.inputs[WEIGHTS_OPERAND] for n in self.biased}
        self.steps = {n: self._step(n, found) for n in self.biased}
        return found, self._rounded(found)

    def _step(self, node: Node, ranges: Ranges) -> float:
        """That of a node's result as integers, 0 where it is none."""
        values = self.plan.of(node).values
        low, high = ranges.get(node.outputs[0], (0.0, 0.0))
        return (max(high, 0) - min(low, 0)) / (values.maximum - values.minimum) if values is not None else 0.0

    def correct(self, made: Mapping[Node, Tensor]) -> None:
        """Changes biases in place, once weights are narrow.

        made  weights that are integers. Of operators on real numbers, those that the graph has taken are meant.
        """
        taken = set(self.graph.tensors)
        for node, weights in self.weights.items():
            x, stored, scheme = self.means.get(node.inputs[0]), made.get(node), self.plan.of(node)  # type: ignore[arg-type]
            if weights is None or x is None or not x.count or (scheme.values is None and stored not in taken):
                continue
            bias = corrected(node, scheme, x.mean, weights, stored, self.steps[node])
            if bias is not None:
                node.inputs[2] = bias
        self.graph.renumber()

    def _rounded(self, ranges: Ranges) -> dict[Node, Tensor]:
        factors = {
            n: pair.factors[c] for pair in self.pairs if pair.factors is not None for n, c in pair.channels.items()
        }
        made = {}
        for node, products in self.products.items():
            if products.sums is None or not products.is_enough or not np.isfinite(products.sums).all():
                continue
            sums, weights = products.sums, node.inputs[1]
            assert weights is not None
            if node in factors:
                spread = np.broadcast_to(factors[node], weights.type.shape)
                each = as_rows(node, spread, len(sums))[:, 0]
                sums = sums * each[:, :, None] * each[:, None]
            scheme = self.plan.of(node)
            stored = rounded(node, scheme, sums)
            if products.is_cautious and noise(node, scheme, sums, stored) > LEAST_GAIN * noise(node, scheme, sums):
                continue
            if scheme.values is None or _bias_fits(node, stored, ranges, scheme.values):
                made[node] = stored
        return made


def _bias_fits(node: Node, stored: Tensor, ranges: Ranges, values: DType) -> bool:
    """Whether the bias is small enough as integers with the scale of these weights, which else has to be wider."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    q, (low, high) = stored.type.quantization, ranges.get(node.inputs[0], (0.0, 0.0))
    if bias is None or bias.data is None or q is None:
        return True
    step = max((high - low) / (values.maximum - values.minimum), 1e-30)
    return bool((np.abs(bias.data) <= LARGEST_BIAS * step * np.asarray(q.scale)).all())
