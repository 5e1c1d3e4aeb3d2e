"""Which weights become zero: masks of a structure at a sparsity. Plain functions on arrays.

Weights are given as they are deployed: rows [outputs, inputs], a convolution's [out, height * width * in]. A unit is
what is kept or zeroed as a whole, an element or a block; its magnitude is the mean square of its elements, so that
those go first whose loss changes the rows least for each zero that is won.

    unstructured   each element alone
    1x4, 1x16      blocks of elements along the inputs of one output; 4x1: of one input, for neighbouring outputs
    2:4            of each four elements along the inputs, the two largest stay
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithe.errors import InputError

FORMS = "'unstructured', 'ROWSxCOLUMNS' as in '1x4', or 'N:M' as in '2:4'"


@dataclass(frozen=True)
class Structure:
    """Where zeros may lie.

    rows, columns  of a block, in outputs and in inputs.
    kept, group    at most `kept` of each `group` elements along the inputs are left; group 0: no such rule.
    """

    rows: int = 1
    columns: int = 1
    kept: int = 0
    group: int = 0

    @property
    def most(self) -> float:
        """The sparsity at which nothing is left to be zeroed."""
        return 1 - self.kept / self.group if self.group else 1.0

    def __str__(self) -> str:
        if self.group:
            return f"{self.kept}:{self.group}"
        return "unstructured" if self.rows == self.columns == 1 else f"{self.rows}x{self.columns}"


def structure(given: str | Structure) -> Structure:
    """The structure of this name. Raises InputError when there is none.

    >>> structure("1x4")
    Structure(rows=1, columns=4, kept=0, group=0)
    """
    if isinstance(given, Structure):
        return given
    if given == "unstructured":
        return Structure()
    form = re.fullmatch(r"(\d+)([x:])(\d+)", given) if isinstance(given, str) else None
    if form is not None:
        first, second = int(form[1]), int(form[3])
        if form[2] == "x" and first and second:
            return Structure(first, second)
        if form[2] == ":" and 0 < first < second:
            return Structure(kept=first, group=second)
    raise InputError(f"there is no structure {given!r}", hint=f"structures are {FORMS}")


def masks(weights: Sequence[np.ndarray], sparsity: float, of: Structure) -> list[np.ndarray]:
    """Which elements stay: a bool array [outputs, inputs] for each array of weights.

    weights   real numbers [outputs, inputs]; all are ranked together, so give one array where each is to reach the
              sparsity itself.
    sparsity  the share of units that become zero, from 0 to 1: exactly round(sparsity * units) do, the smallest; of
              equal ones, the first. With N:M at most the share that it leaves out, of whole groups.

    Raises InputError where weights are not finite, or the sparsity is outside its range.

    >>> masks([np.array([[1.0, -3.0, 2.0, 0.5]])], 0.5, structure("2:4"))
    [array([[False,  True,  True, False]])]
    """
    if not 0 <= sparsity <= 1:
        raise InputError(f"a sparsity of {sparsity} is no share of weights", hint="give one from 0 to 1")
    for w in weights:
        if w.ndim != 2:
            raise InputError(f"weights {list(w.shape)} are no rows", hint="reshape them to [outputs, inputs]")
        if not np.isfinite(w).all():
            raise InputError("weights with NaN or infinity have no smallest", hint="train the model anew")
    scores = [_scores(w, of) for w in weights]
    flat = np.concatenate([s.ravel() for s in scores]) if scores else np.zeros(0)
    count = min(round(sparsity * flat.size), int(np.isfinite(flat).sum()))
    kept = np.ones(flat.size, bool)
    kept[np.argsort(flat, kind="stable")[:count]] = False
    ends = np.cumsum([s.size for s in scores])
    parts = [kept[end - s.size : end].reshape(s.shape) for s, end in zip(scores, ends, strict=True)]
    return [_spread(part, w.shape, of) for part, w in zip(parts, weights, strict=True)]


def mask(weights: np.ndarray, sparsity: float, of: Structure) -> np.ndarray:
    """Which elements of [outputs, inputs] stay; see `masks`."""
    return masks([weights], sparsity, of)[0]


def zeros(array: np.ndarray) -> float:
    """The share of elements that are zero."""
    return float(np.mean(array == 0)) if array.size else 0.0


def _scores(weights: np.ndarray, of: Structure) -> np.ndarray:
    """The magnitude of each unit; infinite where it has to stay."""
    squares = weights.astype(np.float64) ** 2
    if of.group:
        return np.where(_largest(squares, of.kept, of.group), np.inf, squares)
    if of.rows == of.columns == 1:
        return squares
    return _sums(squares, of) / _sums(np.ones_like(squares), of)  # blocks at an edge have fewer elements


def _sums(x: np.ndarray, of: Structure) -> np.ndarray:
    padded = np.pad(x, [(0, -x.shape[0] % of.rows), (0, -x.shape[1] % of.columns)])
    tiled = padded.reshape(padded.shape[0] // of.rows, of.rows, padded.shape[1] // of.columns, of.columns)
    return tiled.sum(axis=(1, 3))


def _largest(squares: np.ndarray, kept: int, group: int) -> np.ndarray:
    """Whether an element is among the `kept` largest of its group."""
    outputs, inputs = squares.shape
    padded = np.pad(squares, [(0, 0), (0, -inputs % group)], constant_values=-1.0)  # which is less than any element
    grouped = padded.reshape(outputs, padded.shape[1] // group, group)
    order = np.argsort(-grouped, axis=-1, kind="stable")
    among = np.zeros(grouped.shape, bool)
    np.put_along_axis(among, order[..., :kept], True, axis=-1)
    return among.reshape(padded.shape)[:, :inputs]


def _spread(kept: np.ndarray, shape: tuple[int, ...], of: Structure) -> np.ndarray:
    """For each element, whether its unit stays."""
    return kept.repeat(of.rows, axis=0).repeat(of.columns, axis=1)[: shape[0], : shape[1]]
