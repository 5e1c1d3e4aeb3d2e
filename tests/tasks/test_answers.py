"""Class scores and summaries."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.tasks.answers import best, is_class_scores, parse_labels, summary


def test_best_classes() -> None:
    got = best(np.array([[0.1, 0.7, 0.1, 0.1]]), ["a", "b"], 3)
    assert [(c.index, c.label) for c in got] == [(1, "b"), (0, "a"), (2, "")]
    assert str(got[0]) == "  0.7000  b"
    assert str(got[2]) == "  0.1000  class 2"


def test_best_of_unsigned_scores() -> None:
    assert best(np.array([0, 255, 3], np.uint8), [], 1)[0].index == 1


@pytest.mark.parametrize(
    ("shape", "labels", "expected"),
    [((1, 1001), 0, True), ((1, 2), 2, True), ((1, 2), 0, False), ((2, 5), 0, False), ((), 0, False), ((10,), 3, True)],
)
def test_what_looks_like_class_scores(shape: tuple[int, ...], labels: int, expected: bool) -> None:
    assert is_class_scores(shape, labels) is expected


def test_labels() -> None:
    assert parse_labels("cat\ndog\n\n") == ["cat", "dog"]
    assert parse_labels("0  background\n1: cat\n") == ["background", "cat"]
    assert parse_labels("7 up\n1 cola\n") == ["7 up", "1 cola"]
    assert parse_labels("") == []


def test_summaries() -> None:
    assert summary(np.array([1.5, 2])) == "1.5 2"
    assert summary(np.arange(20)).endswith("...  (least 0, greatest 19, mean 9.5)")
    assert summary(np.array([b"yes", "no"], object)) == "yes no"
    assert summary(np.array(["a"] * 9)).endswith("...")
