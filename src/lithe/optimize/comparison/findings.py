"""What a comparison has found: as data, and as text that people read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lithe.optimize.comparison.agreement import MOST
from lithe.optimize.comparison.causes import Cause

HEAD = ("tensor", "operator", "type", "SNR dB", "own dB", "quarter", "RMSE/scale", "cosine", "saturated", "bits", "")


@dataclass(frozen=True)
class Spread:
    """Counts of values in bins of one width from `low` on."""

    low: float
    width: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One tensor that both models have.

    name, operator  of the float model. partner: the tensor of the other one, of this type.
    snr             decibels: power of the float values over that of the difference; 300 where there is none.
    quarter         the same of the worst quarter of channels, or of samples: three quarters have more.
    own, own_quarter  both of the layer alone, on the float model's values; None where that cannot be run.
    rmse            root of the mean squared difference; `rmse_steps`: over the scale.
    largest         the largest difference. cosine: of the angle between both.
    saturated       the share of the float values that the integers do not reach. bits: how many the integers use.
    low, high       the float values; reach: what the integers reach. All None for what is not stored as integers.
    wrong           whether it goes wrong by itself.
    causes          why, where it does.
    spreads         of the float values and of the others.
    """

    name: str
    operator: str
    partner: str
    type: str
    snr: float
    quarter: float
    own: float | None
    own_quarter: float | None
    rmse: float
    rmse_steps: float | None
    largest: float
    cosine: float
    saturated: float | None
    bits: float | None
    low: float
    high: float
    reach: tuple[float, float] | None
    wrong: bool
    is_output: bool
    causes: tuple[Cause, ...] = ()
    spreads: tuple[Spread, ...] = field(default=(), repr=False)

    @property
    def scope(self) -> str:
        """A regular expression for the layer, for a `Rule` of a recipe."""
        return f"^{re.escape(self.name)}$"

    @property
    def level(self) -> float:
        """By which layers are ranked: the worse of both figures, of its own error where that is known."""
        if self.own is not None and self.own_quarter is not None:
            return min(self.own, self.own_quarter)
        return min(self.snr, self.quarter)


@dataclass(frozen=True)
class Comparison:
    """A float model and a smaller one, tensor by tensor, in the order of the float model's graph.

    layers     of the tensors of real numbers that both have.
    unmatched  names of computed tensors of the float model that the other has not, such as one before an activation
               that is fused.
    least      decibels; what is less is wrong: at 10 the noise has a tenth of the signal's power.
    """

    a: str
    b: str
    samples: int
    least: float
    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...]

    @property
    def first(self) -> Layer | None:
        """The first layer that goes wrong by itself; None where none does."""
        return next((layer for layer in self.layers if layer.wrong), None)

    @property
    def outputs(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.is_output)

    def worst(self, count: int = 5) -> list[Layer]:
        """The layers with the most noise of their own, the worst first."""
        return sorted(self.layers, key=lambda layer: layer.level)[:count]

    @property
    def verdict(self) -> str:
        """What to know, in a few lines."""
        ends = ", ".join(f"'{layer.name}' {_db(layer.snr)} dB" for layer in self.outputs) or "none could be matched"
        head = f"outputs: {ends}, over {self.samples} sample{'s' * (self.samples != 1)}"
        wrong = [layer for layer in self.layers if layer.wrong]
        if not wrong:
            poor = [layer for layer in self.layers if layer.snr < self.least]
            if not poor:
                return f"{head}\nno layer goes wrong"
            worst = self.worst(1)[0]
            inherited = f"the first below {self.least:.0f} dB is '{poor[0].name}' ({poor[0].operator})"
            return f"{head}\nno layer goes wrong by itself, the noise adds up: {inherited}\n{_why(worst, 'most noise')}"
        several = f"; {len(wrong)} of {len(self.layers)} tensors go wrong by themselves" if len(wrong) > 1 else ""
        return f"{head}{several}\n{_why(wrong[0], 'first to go wrong')}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "verdict": self.verdict, "first": self.first and self.first.name}

    def __str__(self) -> str:
        head, rows = self.rows()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        right = [False, False, False, *[True] * (len(head) - 3)]
        lines = []
        for cells in (head, tuple("-" * w for w in widths), *rows):
            padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
            lines.append("  ".join(padded).rstrip())
        alone = [f"not in {self.b}: {', '.join(self.unmatched)}"] if self.unmatched else []
        return "\n".join([self.verdict, "", *lines, *alone])

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """(head, a row of text for each layer)."""
        head = (
            "tensor",
            "operator",
            "type",
            "SNR dB",
            "own dB",
            "quarter",
            "RMSE/scale",
            "cosine",
            "saturated",
            "bits",
            "",
        )
        return head, [
            (
                shortened(layer.name), layer.operator, layer.type, _db(layer.snr), _db(layer.own),
                _db(layer.quarter if layer.own_quarter is None else layer.own_quarter),
                _number(layer.rmse_steps, "{:.2f}"), f"{layer.cosine:.4f}", _number(layer.saturated, "{:.2%}"),
                _number(layer.bits, "{:.1f}"), "wrong" if layer.wrong else "",
            )
            for layer in self.layers
        ]  # fmt: skip


def _why(layer: Layer, what: str) -> str:
    """The layer, its figures, and what may be done, a line each."""
    by = f"alone {_db(layer.own)} dB" if layer.own is not None else f"{_db(layer.snr)} dB"
    quarter = layer.quarter if layer.own_quarter is None else layer.own_quarter
    lines = [f"{what}: '{layer.name}' ({layer.operator}), {by}, its worst quarter {_db(quarter)} dB"]
    for cause in layer.causes:
        lines += [f"  {cause.name}: {cause.evidence}", f"  try: {'; '.join(cause.tries)}"]
    if any("scope=layer" in text for cause in layer.causes for text in cause.tries):
        lines.append(f"  layer = {layer.scope!r}")
    return "\n".join(lines)


def shortened(name: str, most: int = 36) -> str:
    """A name's end, which says more than its beginning."""
    return name if len(name) <= most else "…" + name[1 - most :]


def _db(value: float | None) -> str:
    return "" if value is None else "exact" if value >= MOST else f"{value:.1f}"


def _number(value: float | None, how: str) -> str:
    return "" if value is None or not math.isfinite(value) else how.format(value)


def spread(counts: np.ndarray, low: float, width: float, most: int) -> Spread:
    """The bins from the first to the last that have counts, joined until they are at most so many."""
    (used,) = np.nonzero(counts)
    first, last = int(used[0]), int(used[-1]) + 1
    joined = math.ceil((last - first) / most)
    padded = np.zeros(math.ceil((last - first) / joined) * joined, np.int64)
    padded[: last - first] = counts[first:last]
    sums: Sequence[int] = padded.reshape(-1, joined).sum(1).tolist()
    return Spread(low + first * width, width * joined, tuple(sums))
