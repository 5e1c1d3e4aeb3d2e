"""What a search found, and what makes one trial preferable to another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lithe.optimize.recipes import Recipe
from lithe.optimize.search.trials import Trial
from lithe.runtime.model import Model


def keeps_accuracy(trial: Trial, exact: Trial, share: float) -> bool:
    return trial.accuracy is not None and trial.accuracy >= share * (exact.accuracy or 0.0) - 1e-12


def cost_of(trial: Trial, exact: Trial, cost: str) -> float:
    """Over that of the float model."""
    size, latency = trial.bytes / exact.bytes, 1.0 if trial.latency is None else trial.latency
    return {"size": size, "latency": latency, "both": (size + latency) / 2}[cost]


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    model     the cheapest one that keeps the accuracy.
    recipe    how `lithe.quantize` makes it.
    chosen    its trial; `exact` is that of the float model.
    trials    all of them, in their order.
    share     of the float model's accuracy that was to be kept.
    cost      "size", "latency" or "both".
    answers   how many the accuracy is a share of; None where a function gave it.
    complete  False where the time ended the search.
    """

    model: Model
    recipe: Recipe
    chosen: Trial
    exact: Trial
    trials: tuple[Trial, ...]
    share: float
    cost: str
    answers: int | None
    complete: bool

    @property
    def evaluated(self) -> tuple[Trial, ...]:
        """The trials whose accuracy is known."""
        return tuple(t for t in self.trials if t.accuracy is not None)

    @property
    def kept(self) -> tuple[Trial, ...]:
        """Those that keep the accuracy."""
        return tuple(t for t in self.evaluated if keeps_accuracy(t, self.exact, self.share))

    @property
    def front(self) -> tuple[Trial, ...]:
        """Those to which no other is preferable in both size and accuracy, from the smallest on."""
        found: list[Trial] = []
        for t in sorted(self.evaluated, key=lambda t: (t.bytes, -(t.accuracy or 0.0))):
            if not found or (t.accuracy or 0.0) > (found[-1].accuracy or 0.0):
                found.append(t)
        return tuple(found)

    @property
    def uniform(self) -> Trial:
        """The cheapest that treats all operators alike and keeps the accuracy; at worst the float model."""
        return min((t for t in self.kept if t.is_uniform), key=lambda t: cost_of(t, self.exact, self.cost))

    @property
    def gain(self) -> tuple[float, float] | None:
        """Between which the accuracy gained (less than 0: lost) is, on all data like these, in 95 of 100 cases.

        From the answers that changed, as the float model and the chosen one were asked the same. A search picks the
        best of many on the same answers, so the true loss is more likely at the lower end.
        Source: Agresti and Min, Simple improved confidence intervals for comparing matched proportions, 2005.
        """
        lost, won = self.chosen.lost, self.chosen.won
        if self.answers is None or lost is None or won is None:
            return None
        n = self.answers + 2
        middle = (won - lost) / n
        spread = 1.96 * math.sqrt(won + lost + 1 - (won - lost) ** 2 / n) / n
        return middle - spread, middle + spread

    def __str__(self) -> str:
        chosen, exact = self.chosen, self.exact
        lines = [
            f"{chosen.choice}",
            f"{chosen.bytes} bytes, {chosen.bytes / exact.bytes:.0%} of the float model's",
            f"{self.uniform.bytes} bytes has the best that treats all layers alike: {self.uniform.choice}",
            f"accuracy {chosen.accuracy:.4f}, the float model's is {exact.accuracy:.4f}",
        ]
        if self.gain is not None:
            low, high = self.gain
            lines.append(
                f"on {self.answers} answers, of which {chosen.lost} were lost and {chosen.won} won: a change between "
                f"{100 * low:+.1f} and {100 * high:+.1f} points (95 %)"
            )
        if not self.complete:
            lines.append("the search ended before its end: its time had gone")
        return "\n".join(lines)
