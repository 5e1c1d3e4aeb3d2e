"""When weights become zero during training, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

from lithe.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """The sparsity at a step of training.

        sparsity(t) = final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power,  begin <= t <= end

    initial, final  shares of weights that are zero, at `begin` and from `end` on; 0 <= share < 1.
    begin, end      in steps of training; no weight is zeroed before `begin`, and after `end` the zeros stay where they
                    are. `end=None`: they go on to be chosen, with the sparsity `final`.
    frequency       so many steps lie between two choices.

    Source: Zhu and Gupta, To prune, or not to prune, 2017 (power 3).
    Raises InputError for anything else.

    >>> gradual = Schedule.polynomial(0.8, end=1000)
    >>> [round(gradual.sparsity(t), 2) for t in (0, 500, 1000, 2000)]
    [0.0, 0.7, 0.8, 0.8]
    """

    initial: float
    final: float
    begin: int = 0
    end: int | None = None
    frequency: int = 100
    power: float = 3.0

    def __post_init__(self) -> None:
        for name in ("initial", "final"):
            share = getattr(self, name)
            if not isinstance(share, Real) or not 0 <= float(share) < 1:
                raise InputError(f"the {name} sparsity is {share!r}", hint="give a share from 0 to below 1")
        for name, least in (("begin", 0), ("end", self.begin), ("frequency", 1)):
            steps = getattr(self, name)
            if name == "end" and steps is None:
                continue
            if isinstance(steps, bool) or not isinstance(steps, int) or steps < least:
                raise InputError(f"a schedule's {name} is {steps!r}", hint=f"give a whole number, {least} or more")
        if not isinstance(self.power, Real) or not float(self.power) > 0:
            raise InputError(f"a schedule's power is {self.power!r}", hint="give a number above 0")
        if self.end is None and self.initial != self.final:
            raise InputError(
                f"the sparsity never gets from {self.initial} to {self.final}: the schedule has no end",
                hint="give the step of its end",
            )

    @classmethod
    def polynomial(
        cls, final: float, *, end: int, initial: float = 0.0, begin: int = 0, power: float = 3.0, frequency: int = 100
    ) -> Schedule:
        """The sparsity grows from `initial` to `final`: quickly at first, when there is most to leave out."""
        return cls(initial, final, begin, end, frequency, power)

    @classmethod
    def constant(cls, sparsity: float, *, begin: int = 0, end: int | None = None, frequency: int = 100) -> Schedule:
        """The same sparsity from `begin` on; which weights are zero may change until `end`."""
        return cls(sparsity, sparsity, begin, end, frequency)

    @classmethod
    def once(cls, sparsity: float, *, step: int = 0) -> Schedule:
        """All at one step; the zeros stay where they are."""
        return cls(sparsity, sparsity, step, step)

    def sparsity(self, step: int) -> float:
        """The share of zeros from this step on."""
        if step < self.begin:
            return 0.0
        if self.end is None or step >= self.end:
            return float(self.final)
        left = 1 - (step - self.begin) / (self.end - self.begin)
        return float(self.final + (self.initial - self.final) * left**self.power)

    def moment(self, step: int) -> int:
        """The last step, at most this one, at which zeros are chosen; -1 when there was none."""
        if step < self.begin:
            return -1
        if self.end is not None and step >= self.end:
            return self.end
        return step - (step - self.begin) % self.frequency

    @property
    def reached(self) -> int:
        """The step at which the final sparsity is there."""
        return self.begin if self.end is None or self.initial == self.final else self.end
