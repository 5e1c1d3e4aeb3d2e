"""Whether a converted model gives what its source gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.conversion.builder import Conversion, Entry
from lithe.conversion.sizes import is_open
from lithe.errors import InputError, ModelError
from lithe.types import DType

if TYPE_CHECKING:
    from lithe.runtime.function import Function
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
                    hint="verify='layers' (lithe convert --verify-layers) names the first layer that differs",
                )


Arrays = Mapping[str, Any]
Given = Arrays | Sequence[Arrays] | None


def check(model: Model, conversion: Conversion, given: Given = None, seed: int = 0) -> Agreement:
    """Runs source and model on the given inputs, or on random ones, with two sizes for what is open.

    given  {input: array}, a list of such, or {signature: ...} of one of both.

    Outputs of a model with several signatures are named `signature/output`. Raises InputError where the given inputs
    are not those of the model.
    """
    worst: dict[str, float] = {}
    runs = 0
    for entry, arrays in examples(model, conversion, given, seed):
        assert entry.reference is not None
        prefix = "" if len(conversion.entries) == 1 else f"{entry.signature.key}/"
        expected = entry.reference(arrays)
        made = function(model, entry)(**arrays)
        by_name = made if isinstance(made, dict) else {name: made for name in entry.signature.outputs}
        for name, wanted in zip(entry.signature.outputs, expected, strict=True):
            difference = relative_difference(np.asarray(wanted), by_name[name])
            worst[prefix + name] = max(worst.get(prefix + name, 0.0), difference)
        runs += 1
    return Agreement(worst, runs)


def function(model: Model, entry: Entry) -> Function:
    """The model's function that an entry is."""
    return model.signatures.get(entry.signature.key, model.main)


def examples(
    model: Model, conversion: Conversion, given: Given, seed: int = 0
) -> Iterator[tuple[Entry, dict[str, np.ndarray]]]:
    """Inputs for each entry: those that are given, or random ones."""
    random = np.random.default_rng(seed)
    for entry in conversion.entries:
        if given is not None:
            for arrays in _given(conversion, entry, given):
                if not isinstance(arrays, Mapping):
                    raise InputError(f"inputs to verify with are {{name: array}}, got {type(arrays).__name__}")
                yield entry, function(model, entry).bound((), arrays)
            continue
        has_open = any(is_open(n) for t in entry.input_types.values() for n in t.shape)
        for size in OPEN_SIZES if has_open else OPEN_SIZES[:1]:
            yield (
                entry,
                {
                    name: _random(random, tuple(size if is_open(n) else n for n in t.shape), t.dtype)
                    for name, t in entry.input_types.items()
                },
            )


def _given(conversion: Conversion, entry: Entry, given: Arrays | Sequence[Arrays]) -> Sequence[Arrays]:
    keys = [e.signature.key for e in conversion.entries]
    own: Any = given
    if len(keys) > 1:
        if not isinstance(given, Mapping) or not set(given) <= set(keys):
            raise InputError(
                f"the model has several signatures: {', '.join(keys)}", hint="give the inputs to verify with for each"
            )
        own = given.get(entry.signature.key, [])
    found = [own] if isinstance(own, Mapping) else list(own)
    if not found and len(keys) == 1:
        raise InputError("there are no inputs to verify with")
    return found


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
