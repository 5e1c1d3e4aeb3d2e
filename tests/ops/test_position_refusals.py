"""Operators with places given by data refuse those that would leave a tensor, in the rules, in numpy and in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.ir import interpret
from lithe.ops import RuleViolation
from lithe.types import BOOL, COMPLEX64, FLOAT32, INT8, INT32, INT64
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, f32, i32, tensor
from tests.ops.cases_shape import ints


def case(op: str, inputs: tuple, outputs: tuple, constants: dict | None = None, values: dict | None = None,
         **attrs: Any) -> Case:  # fmt: skip
    return Case(op, "refused", inputs, outputs, attrs, constants or {}, values or {})


SPARSE = (i32(1, 1), i32(1), f32(1), f32())
UNSORTED = (f32(2, 3), i32(2), i32())
AT_RUN_TIME = [
    (case("REVERSE_SEQUENCE", (f32(2, 3), i32(2)), (f32(2, 3),), values={1: ints(1, 4)}, seq_dim=1), "must lie in"),
    (case("REVERSE_SEQUENCE", (f32(2, 3), i32(2)), (f32(2, 3),), values={1: ints(-1, 0)}, seq_dim=1), "must lie in"),
    (case("SPARSE_TO_DENSE", SPARSE, (f32(3),), {1: ints(3)}, {0: ints(3)}), "must lie in"),
    (case("SPARSE_TO_DENSE", SPARSE, (f32(3),), {1: ints(3)}, {0: ints(-1)}), "must lie in"),
    (case("UNSORTED_SEGMENT_SUM", UNSORTED, (f32(4, 3),), {2: 4}, {1: ints(0, 4)}), "must be below 4"),
]
VOLUME, FILTER, RESULT = f32(1, 4, 4, 4, 2), f32(3, 3, 3, 2, 2), (f32(1, 4, 4, 4, 2),)
TRANSPOSED = (i32(5), FILTER, VOLUME)
IN_NUMPY = [
    (case("CONV_3D_TRANSPOSE", TRANSPOSED, RESULT, values={0: ints(1, 5, 4, 4, 2)}), "does not lead"),
    (case("CONV_3D_TRANSPOSE", TRANSPOSED, RESULT, values={0: ints(1, 4, -4, 4, 2)}), "does not lead"),
    (case("SPARSE_TO_DENSE", SPARSE, (f32(3),), values={0: 0, 1: ints(-3)}), "must not be negative"),
    (case("TOPK_V2", (f32(4), i32()), (f32(5), i32(5)), values={1: 5}), "k must lie in"),
    (case("TOPK_V2", (f32(4), i32()), (f32(5), i32(5)), values={1: -1}), "k must lie in"),
    (case("SEGMENT_SUM", (f32(2), i32(2)), (f32(1),), values={1: ints(1, 0)}), "must ascend"),
    (case("SEGMENT_SUM", (f32(2), i32(2)), (f32(1),), values={1: ints(-1, 0)}), "must not be negative"),
    (case("SEGMENT_SUM", (f32(2), i32(2)), (f32(1),), values={1: ints(0, 2**31 - 1)}), "more than allowed"),
    (case("UNSORTED_SEGMENT_MAX", UNSORTED, (f32(4, 3),), values={1: 0, 2: -4} | {1: ints(0, 0)}), "not be negative"),
    (case("RFFT2D", (f32(4, 4), i32(2)), (tensor(COMPLEX64, 4, 3),), values={1: ints(4, 6)}), "powers of two"),
    (case("RFFT2D", (f32(4, 4), i32(2)), (tensor(COMPLEX64, 4, 3),), values={1: ints(2**20, 2**20)}), "up to"),
]
RULES = [
    (case("CONV_3D", (VOLUME, FILTER), RESULT, padding="FULL"), "padding must be"),
    (case("CONV_3D", (VOLUME, FILTER), RESULT, stride_d=0), "strides must be"),
    (case("CONV_3D", (VOLUME, FILTER), RESULT, dilation_w_factor=0), "dilation factors"),
    (case("CONV_3D", (VOLUME, FILTER), RESULT, fused_activation_function="SWISH"), "cannot fuse"),
    (case("CONV_3D", (f32(1, 0, 4, 4, 2), FILTER), RESULT), "must not be empty"),
    (case("CONV_3D", (f32(1, 4, 4, 4, 3), FILTER), RESULT), "must have 2 channels"),
    (case("CONV_3D", (VOLUME, FILTER, f32(3)), RESULT), "must have 2 elements"),
    (case("CONV_3D", (VOLUME, FILTER), RESULT, padding="VALID", dilation_d_factor=2), "does not fit"),
    (case("CONV_3D_TRANSPOSE", (i32(4), FILTER, VOLUME), RESULT), "five elements"),
    (case("CONV_3D_TRANSPOSE", TRANSPOSED, RESULT, {0: ints(1, 5, 4, 4, 2)}), "does not lead"),
    (case("RFFT2D", (f32(4), i32(2)), (tensor(COMPLEX64, 4, 3),)), "at least two axes"),
    (case("RFFT2D", (f32(4, 4), i32(3)), (tensor(COMPLEX64, 4, 3),)), "must have two elements"),
    (case("RFFT2D", (f32(4, 4), i32(2)), (tensor(COMPLEX64, 4, 3),), {1: ints(0, 4)}), "powers of two"),
    (case("STABLEHLO_SELECT", (tensor(BOOL, 2), f32(2), f32(3)), (f32(2),)), "the shape of x"),
    (case("STABLEHLO_SELECT", (tensor(BOOL, 1), f32(2), f32(2)), (f32(2),)), "must be a scalar"),
    (case("ADD_N", (f32(2),), (f32(2),)), "needs two inputs"),
    (case("ADD_N", (f32(2), f32(3)), (f32(2),)), "must have shape"),
    (case("CUMSUM", (f32(2), i32(2)), (f32(2),), {1: ints(0, 0)}), "must have one element"),
    (case("CUMSUM", (f32(2), i32()), (f32(2),), {1: 1}), "axis must be"),
    (case("BITCAST", (tensor(INT8, 3),), (tensor(INT32),)), "must have size 4"),
    (case("BITCAST", (tensor(INT32),), (tensor(INT64),)), "must have size 2"),
    (case("MATRIX_DIAG", (f32(),), (f32(),)), "at least one axis"),
    (case("MATRIX_SET_DIAG", (f32(3), f32(3)), (f32(3),)), "at least two axes"),
    (case("MATRIX_SET_DIAG", (f32(3, 2), f32(3)), (f32(3, 2),)), "must have shape"),
    (case("REVERSE_SEQUENCE", (f32(2, 3), i32(2)), (f32(2, 3),), seq_dim=0), "must differ"),
    (case("REVERSE_SEQUENCE", (f32(2, 3), i32(3)), (f32(2, 3),), seq_dim=1), "must have 2 elements"),
    (case("REVERSE_SEQUENCE", (f32(2, 3), i32(2)), (f32(2, 3),), {1: ints(4, 0)}, seq_dim=1), "must lie in"),
    (case("DYNAMIC_UPDATE_SLICE", (f32(2), f32(3), i32(1)), (f32(2),)), "must fit in"),
    (case("DYNAMIC_UPDATE_SLICE", (f32(2), f32(1, 1), i32(1)), (f32(2),)), "must fit in"),
    (case("DYNAMIC_UPDATE_SLICE", (f32(2), f32(1), i32(2)), (f32(2),)), "must have 1 elements"),
    (case("SPARSE_TO_DENSE", SPARSE, (f32(3),), {0: 3, 1: ints(3)}), "must lie in"),
    (case("SPARSE_TO_DENSE", SPARSE, (f32(3),), {1: ints(-3)}), "must not be negative"),
    (case("SPARSE_TO_DENSE", (i32(1, 2), i32(1), f32(1), f32()), (f32(3),), {1: ints(3)}), "must name 1 axes"),
    (case("SPARSE_TO_DENSE", (i32(3), i32(1), f32(2), f32()), (f32(3),), {1: ints(3)}), "must have 1 or 3"),
    (case("SPARSE_TO_DENSE", (i32(3), i32(1), f32(3), f32(2)), (f32(3),), {1: ints(3)}), "must have one element"),
    (case("BUCKETIZE", (f32(3),), (i32(3),), boundaries=(1.0, 0.0)), "must ascend"),
    (case("BUCKETIZE", (f32(3),), (i32(3),), boundaries=(1.0, float("nan"))), "must ascend"),
    (case("TOPK_V2", (f32(), i32()), (f32(), i32()), {1: 1}), "at least one axis"),
    (case("TOPK_V2", (f32(4), i32(2)), (f32(1), i32(1)), {1: ints(1, 1)}), "must have one element"),
    (case("TOPK_V2", (f32(4), i32()), (f32(5), i32(5)), {1: 5}), "must lie in"),
    (case("TOPK_V2", (f32(400), i32()), (f32(5), tensor(INT8, 5)), {1: 5}), "do not fit"),
    (case("SEGMENT_SUM", (f32(2), i32(3)), (f32(1),)), "one element for each row"),
    (case("SEGMENT_SUM", (f32(2), i32(2)), (f32(1),), {1: ints(1, 0)}), "must ascend"),
    (case("UNSORTED_SEGMENT_SUM", (f32(3), i32(2), i32()), (f32(1),)), "first axes"),
    (case("UNSORTED_SEGMENT_SUM", (f32(2), i32(2), i32(2)), (f32(1),)), "must have one element"),
    (case("UNSORTED_SEGMENT_SUM", UNSORTED, (f32(4, 3),), {2: -1}), "must not be negative"),
    (case("UNSORTED_SEGMENT_SUM", UNSORTED, (f32(4, 3),), {1: ints(0, 4), 2: 4}), "must be below"),
    (case("LOCAL_RESPONSE_NORMALIZATION", (f32(1, 1, 1, 1),), (f32(1, 1, 1, 1),), radius=-1), "not be negative"),
    (case("LOCAL_RESPONSE_NORMALIZATION", (f32(1, 1, 1, 1),), (f32(1, 1, 1, 1),), beta=np.inf), "must be finite"),
    (case("UNIQUE", (f32(3),), (f32(3), i32(3)), idx_out_type=FLOAT32), "idx_out_type"),
    (case("UNIQUE", (f32(3),), (f32(3), i32(3)), idx_out_type=INT64), "idx_out_type"),
]


def _names(rows: list) -> list[str]:
    return [f"{c.op}-{n}" for n, (c, _) in enumerate(rows)]


@pytest.mark.parametrize(("row", "words"), AT_RUN_TIME + IN_NUMPY, ids=_names(AT_RUN_TIME + IN_NUMPY))
def test_data_are_checked(row: Case, words: str) -> None:
    with pytest.raises(ExecutionError, match=words):
        row.operator.evaluate(row.site(), *row.arrays())


@pytest.mark.parametrize(("row", "words"), AT_RUN_TIME, ids=_names(AT_RUN_TIME))
def test_loops_check_data(row: Case, words: str) -> None:
    with pytest.raises(ExecutionError, match=words):
        interpret.run(program_of([row]), given(row))


@pytest.mark.parametrize(("row", "words"), RULES, ids=_names(RULES))
def test_rules(row: Case, words: str) -> None:
    with pytest.raises(RuleViolation, match=words):
        row.operator.infer(row.site())
