"""Warping by whole pixels is moving pixels, and by parts of them a mean of neighbours; refusals."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ops import REGISTRY, RuleViolation, Site
from lithe.types import TensorType
from tests.ops.cases import Case, f32

X = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4, 1)
ROWS, COLUMNS = np.indices((3, 4))


def warped(op: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    places = np.stack([first, second], -1)[None].astype(np.float32)
    operator = REGISTRY.by_name[op]
    site = Site(operator.Attrs(), (f32(1, 3, 4, 1), f32(1, 3, 4, 2)), (f32(1, 3, 4, 1),))
    assert operator.infer(site) == [(1, 3, 4, 1)]
    return operator.evaluate(site, X, places)[0][0, ..., 0]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (-1, 2), (5, 0)])
def test_whole_pixels(down: int, right: int) -> None:
    x = X[0, ..., 0]
    rows, columns = ROWS + down, COLUMNS + right
    inside = (rows >= 0) & (rows < 3) & (columns >= 0) & (columns < 4)
    edge = x[np.clip(rows, 0, 2), np.clip(columns, 0, 3)]
    np.testing.assert_array_equal(warped("Resampler", columns, rows), np.where(inside, edge, 0))
    np.testing.assert_array_equal(warped("DenseImageWarp", ROWS - rows, COLUMNS - columns), edge)


def test_between_pixels() -> None:
    x = np.pad(X[0, ..., 0], 1)
    between = (x[1:-1, 1:-1] + x[1:-1, 2:] + x[2:, 1:-1] + x[2:, 2:]) / 4
    np.testing.assert_allclose(warped("Resampler", COLUMNS + 0.5, ROWS + 0.5), between)
    edge = np.pad(X[0, ..., 0], 1, mode="edge")
    quarter = edge[1:-1, 1:-1] * 0.75 + edge[2:, 1:-1] * 0.25
    np.testing.assert_allclose(warped("DenseImageWarp", 0 * ROWS - 0.25, 0 * ROWS), quarter)


@pytest.mark.parametrize(
    ("words", "op", "places", "x"),
    [
        ("must have shape", "Resampler", f32(1, 3, 4, 3), f32(1, 3, 4, 1)),
        ("must have shape", "DenseImageWarp", f32(1, 3, 3, 2), f32(1, 3, 4, 1)),
        ("two rows", "DenseImageWarp", f32(1, 1, 4, 2), f32(1, 1, 4, 1)),
    ],
)
def test_refusals(words: str, op: str, places: TensorType, x: TensorType) -> None:
    case = Case(op, "refused", (x, places), (x,))
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())
