"""Operators that the official runtime lacks, against other ways to say the same."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ops import REGISTRY, RuleViolation
from tests.ops.cases import Case
from tests.ops.cases_landmarks import CASES, poses, to_matrix
from tests.ops.cases_landmarks import FLOAT as FLOAT_MAPS


def rows(op: str) -> list[Case]:
    return [c for c in CASES if c.op == op]


def evaluated(case: Case) -> list[np.ndarray]:
    return case.operator.evaluate(case.site(), *case.arrays())


@pytest.mark.parametrize("case", rows("Landmarks2TransformMatrix"), ids=str)
def test_the_matrix_is_the_product_of_its_steps(case: Case) -> None:
    a = case.site().attrs
    points = case.arrays()[0][0].astype(np.float64)
    left, right = points[a.left_rotation_idx], points[a.right_rotation_idx]
    angle = a.target_rotation_radians - np.arctan2(right[1] - left[1], right[0] - left[0])

    def turn(by: float) -> np.ndarray:
        found = np.eye(4)
        found[:2, :2] = [[np.cos(by), -np.sin(by)], [np.sin(by), np.cos(by)]]
        return found

    def shift(x: float, y: float) -> np.ndarray:
        found = np.eye(4)
        found[:2, 3] = x, y
        return found

    turned = points[list(a.subset_idxs), :2] @ turn(angle)[:2, :2].T
    centre = turn(-angle)[:2, :2] @ ((turned.max(0) + turned.min(0)) / 2)
    size = (turned.max(0) - turned.min(0)) * (a.scale_x, a.scale_y) / (a.output_width, a.output_height)
    wanted = shift(*centre) @ turn(-angle) @ np.diag([*size, 1, 1]) @ shift(-a.output_width / 2, -a.output_height / 2)
    np.testing.assert_allclose(evaluated(case)[0][0], wanted, rtol=2e-5, atol=2e-5)


def test_the_identity_matrix_copies_pixels() -> None:
    op = REGISTRY.by_name["TransformTensorBilinear"]
    case = next(c for c in rows("TransformTensorBilinear") if c.name == "turned")
    x = case.arrays()[0]
    result = op.evaluate(case.site(), x, np.eye(4, dtype=np.float32)[None])[0]
    np.testing.assert_array_equal(result, x[:, :6, :8])


def test_pixels_outside_are_zero() -> None:
    case = next(c for c in rows("TransformTensorBilinear") if c.name == "not a number")
    assert not evaluated(case)[0].any()


def test_each_person_is_found_where_the_map_has_its_peak() -> None:
    case = next(c for c in rows("PosenetDecoderOp") if c.name == "two people")
    heat, short, mid = (np.zeros_like(x) for x in case.arrays())
    heat[:] = -9
    heat[0, 4, 6], heat[0, 1, 1] = 2, 3
    points, scores, quality, count = case.operator.evaluate(case.site(), heat, short, mid)
    assert count[0] == 2  # without offsets every key point stays in the cell of the root
    assert (points[0, 0] == (16, 16)).all()
    assert (points[0, 1] == (64, 96)).all()
    assert not points[0, 2:].any()
    np.testing.assert_allclose(quality[0], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-2)), 0, 0], rtol=1e-6)
    np.testing.assert_allclose(scores[0], np.repeat(quality[0][:, None], 17, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        (to_matrix("no subset", np.zeros((1, 10, 3)), subset_idxs=()), "must not be empty"),
        (to_matrix("subset outside", np.zeros((1, 5, 3))), "must lie in"),
        (to_matrix("no size", np.zeros((1, 10, 3)), output_width=0), "must be positive"),
        (to_matrix("two numbers", np.zeros((1, 10, 2))), "must have shape"),
        (poses("no detections", [], FLOAT_MAPS, 0), "max_detections must be positive"),
    ],
    ids=lambda v: v.name if isinstance(v, Case) else "",
)
def test_a_broken_rule_is_named(case: Case, rule: str) -> None:
    with pytest.raises(RuleViolation, match=rule):
        case.operator.infer(case.site())
