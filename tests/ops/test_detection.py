"""What the matrix cannot say of detectors: rows that the official kernel leaves unwritten, and boxes inside out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.ir import interpret
from tests.ops.backends import given, program_of
from tests.ops.cases import Case
from tests.ops.cases_detection import CASES
from tests.ops.official import official_outputs

POST_PROCESS = [c for c in CASES if c.op == "TFLite_Detection_PostProcess"]


@pytest.mark.parametrize("case", [c for c in POST_PROCESS if "unwritten" in c.reason], ids=str)
def test_rows_that_the_official_kernel_writes_are_equal(case: Case) -> None:
    boxes, classes, scores, count = case.operator.evaluate(case.site(), *case.arrays())
    official = official_outputs(case)["BUILTIN"]
    assert count[0] == official[3][0]
    attrs = case.site().attrs
    width = attrs.max_classes_per_detection
    used = [n * width + k for n in range(int(count[0])) for k in range(min(width, attrs.num_classes))]
    assert used
    np.testing.assert_array_equal(classes[0, used], official[1][0, used])
    np.testing.assert_array_equal(scores[0, used], official[2][0, used])
    np.testing.assert_allclose(boxes[0, used], official[0][0, used], rtol=1e-6)
    unused = np.setdiff1d(np.arange(scores.shape[1]), used)
    assert not boxes[0, unused].any()
    assert not scores[0, unused].any()


def test_a_box_inside_out_ends_the_inference() -> None:
    case = next(c for c in POST_PROCESS if c.name == "fast")
    anchors = case.constants[2].copy()
    anchors[3, 2] = -0.5  # a negative height
    case = replace(case, constants={2: anchors})
    with pytest.raises(ExecutionError, match="lower corner above its upper"):
        case.operator.evaluate(case.site(), *case.arrays())
    with pytest.raises(ExecutionError, match="lower corner above its upper"):
        interpret.run(program_of([case]), given(case))


@pytest.mark.parametrize("most", [-1, 1 << 30])
def test_a_number_of_boxes_that_cannot_be_is_refused(most: int) -> None:
    case = next(c for c in CASES if c.op == "NON_MAX_SUPPRESSION_V4")
    arrays = case.arrays()
    arrays[2] = np.array(most, np.int32)
    with pytest.raises(ExecutionError, match="max_output_size"):
        case.operator.evaluate(case.site(), *arrays)
