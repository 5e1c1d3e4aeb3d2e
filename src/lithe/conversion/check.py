"""Whether a converted model gives what its source gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lithe.conversion.builder import Conversion
from lithe.conversion.sizes import is_open
from lithe.errors import ModelError
from lithe.types import DType

if TYPE_CHECKING:
    from lithe.runtime.model import Model

OPEN_SIZES = (1, 3)  # an open dimension is tried with each
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """The largest difference of each output over its largest magnitude, over all runs."""

    differences: dict[str, float]
    runs: int
    tolerance: float = TOLERANCE

    @property
    def worst(self) -> float:
        return max(self.differences.values(), default=0.0)

    def require(self) -> None:
        """Raises ModelError where an output differs by more than the tolerance."""
        for name, difference in self.differences.items():
            if not difference <= self.tolerance:
                raise ModelError(
                    f"output '{name}' differs from the source by {difference:.3g} of its largest value,"
                    f" {self.tolerance:g} is allowed",
                    hint="convert parts of the model alone to find the one that differs",
                )


def check(model: Model, conversion: Conversion, seed: int = 0) -> Agreement:
    """Runs source and model on random inputs, with two sizes for what is open.

    Outputs of a model with several signatures are named `signature/output`.
    """
    random = np.random.default_rng(seed)
    worst: dict[str, float] = {}
    runs = 0
    for entry in conversion.entries:
        assert entry.reference is not None
        prefix = "" if len(conversion.entries) == 1 else f"{entry.signature.key}/"
        has_open = any(is_open(n) for t in entry.input_types.values() for n in t.shape)
        for size in OPEN_SIZES if has_open else OPEN_SIZES[:1]:
            given = {
                name: _random(random, tuple(size if is_open(n) else n for n in t.shape), t.dtype)
                for name, t in entry.input_types.items()
            }
            expected = entry.reference(given)
            made = model.signatures.get(entry.signature.key, model)(**given)
            by_name = made if isinstance(made, dict) else {name: made for name in entry.signature.outputs}
            for name, wanted in zip(entry.signature.outputs, expected, strict=True):
                difference = relative_difference(np.asarray(wanted), by_name[name])
                worst[prefix + name] = max(worst.get(prefix + name, 0.0), difference)
            runs += 1
    return Agreement(worst, runs)


def _random(random: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    if dtype.is_float:
        return random.standard_normal(shape).astype(dtype.numpy)
    if dtype.kind == "bool":
        return random.integers(0, 2, shape).astype(bool)
    return random.integers(0, 2, shape).astype(dtype.numpy)  # every table of an embedding has two rows


def relative_difference(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference over the largest magnitude expected; infinite where shapes or NaNs differ."""
    if expected.shape != got.shape or not np.array_equal(np.isnan(expected), np.isnan(got)):
        return float("inf")
    if not expected.size:
        return 0.0
    same = (expected == got) | np.isnan(expected)
    if same.all():
        return 0.0
    a, b = expected[~same].astype(np.float64), got[~same].astype(np.float64)
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    return float(np.max(np.abs(a - b)) / max(finite.max(initial=0.0), 1e-30))
