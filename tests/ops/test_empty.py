"""Tensors without elements: operators that move and contract give a result, the same in loops as by their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ir import interpret
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, f32, i8, i32
from tests.ops.cases_shape import ints
from tests.ops.test_matrix import evaluated, loops_differ

ZERO, NONE = np.zeros((2, 2)), np.zeros(0)


def empty(op: str, inputs: tuple, outputs: tuple, constants: dict | None = None, **attrs: object) -> Case:
    return Case(op, f"empty {[t.shape for t in inputs]}", inputs, outputs, attrs, constants or {})


CASES = [
    empty("RESHAPE", (f32(0, 3), i32(2)), (f32(3, 0),), {1: ints(3, 0)}),
    empty("SQUEEZE", (f32(0, 1),), (f32(0),)),
    empty("EXPAND_DIMS", (f32(0), i32()), (f32(1, 0),), {1: ints(0)}),
    empty("SHAPE", (f32(0, 3),), (i32(2),)),
    empty("SHAPE", (f32(),), (i32(0),)),
    empty("BROADCAST_TO", (f32(1, 3), i32(2)), (f32(0, 3),), {1: ints(0, 3)}),
    empty("BROADCAST_ARGS", (i32(0), i32(2)), (i32(2),)),
    empty("TILE", (f32(2, 3), i32(2)), (f32(0, 3),), {1: ints(0, 1)}),
    empty("TILE", (f32(0, 3), i32(2)), (f32(0, 3),), {1: ints(2, 1)}),
    empty("SLICE", (f32(4, 3), i32(2), i32(2)), (f32(0, 3),), {1: ints(4, 0), 2: ints(0, 3)}),
    empty("STRIDED_SLICE", (f32(4), i32(1), i32(1), i32(1)), (f32(0),), {1: ints(3), 2: ints(1), 3: ints(1)}),
    empty("SPLIT", (i32(), f32(0, 2)), (f32(0, 1),) * 2, {0: ints(1)}, num_splits=2),
    empty("SPLIT_V", (f32(3, 2), i32(2), i32()), (f32(0, 2), f32(3, 2)), {1: ints(0, 3), 2: ints(0)}, num_splits=2),
    empty("PACK", (f32(0), f32(0)), (f32(2, 0),), values_count=2),
    empty("UNPACK", (f32(2, 0),), (f32(0), f32(0)), num=2),
    empty("UNPACK", (f32(0, 2),), (), num=0),
    empty("CONCATENATION", (f32(0, 3), f32(2, 3), f32(0, 3)), (f32(2, 3),)),
    empty("PAD", (f32(0, 3), i32(2, 2)), (f32(2, 4),), {1: np.array([[1, 1], [0, 1]])}),
    empty("MIRROR_PAD", (f32(0, 3), i32(2, 2)), (f32(0, 5),), {1: np.array([[0, 0], [1, 1]])}),
    empty("TRANSPOSE", (f32(0, 3, 2), i32(3)), (f32(2, 0, 3),), {1: ints(2, 0, 1)}),
    empty("TRANSPOSE", (f32(), i32(0)), (f32(),), {1: NONE}),
    empty("REVERSE_V2", (f32(0, 3), i32(1)), (f32(0, 3),), {1: ints(0)}),
    empty("REVERSE_V2", (f32(2), i32(0)), (f32(2),), {1: NONE}),
    empty("REVERSE_SEQUENCE", (f32(0, 3), i32(0)), (f32(0, 3),), {1: NONE}, seq_dim=1),
    empty("GATHER", (f32(4, 3), i32(0)), (f32(0, 3),)),
    empty("GATHER", (f32(0, 3), i32(0)), (f32(0, 3),)),
    empty("GATHER", (f32(4, 0), i32(2)), (f32(2, 0),), {1: ints(3, 1)}),
    empty("GATHER", (f32(0, 3, 2), i32(0, 2)), (f32(0, 2, 2),), axis=1, batch_dims=1),
    empty("GATHER_ND", (f32(4, 3), i32(0, 2)), (f32(0),)),
    empty("GATHER_ND", (f32(4, 3), i32(2, 0)), (f32(2, 4, 3),)),
    empty("SCATTER_ND", (i32(0, 1), f32(0, 2), i32(2)), (f32(3, 2),), {2: ints(3, 2)}),
    empty("EMBEDDING_LOOKUP", (i32(0), f32(4, 3)), (f32(0, 3),)),
    empty("EMBEDDING_LOOKUP", (i32(2), i8(4, 0)), (f32(2, 0),), {0: ints(1, 3)}),
    empty("ONE_HOT", (i32(0), i32(), f32(), f32()), (f32(0, 3),), {1: ints(3)}),
    empty("ONE_HOT", (i32(2), i32(), f32(), f32()), (f32(2, 0),), {1: ints(0)}),
    empty("FILL", (i32(2), f32()), (f32(0, 3),), {0: ints(0, 3)}),
    empty("ZEROS_LIKE", (f32(0, 3),), (f32(0, 3),)),
    empty("RANGE", (i32(), i32(), i32()), (i32(0),), {0: ints(3), 1: ints(3), 2: ints(1)}),
    empty("SPACE_TO_BATCH_ND", (f32(0, 2, 2, 1), i32(2), i32(2, 2)), (f32(0, 1, 1, 1),), {1: ints(2, 2), 2: ZERO}),
    empty("BATCH_TO_SPACE_ND", (f32(0, 1, 1, 1), i32(2), i32(2, 2)), (f32(0, 2, 2, 1),), {1: ints(2, 2), 2: ZERO}),
    empty("DEPTH_TO_SPACE", (f32(0, 1, 1, 4),), (f32(0, 2, 2, 1),)),
    empty("SPACE_TO_DEPTH", (f32(1, 2, 2, 0),), (f32(1, 1, 1, 0),)),
    empty("DYNAMIC_UPDATE_SLICE", (f32(3, 2), f32(0, 2), i32(2)), (f32(3, 2),)),
    empty("DYNAMIC_UPDATE_SLICE", (f32(0, 2), f32(0, 2), i32(2)), (f32(0, 2),)),
    empty("SPARSE_TO_DENSE", (i32(0, 2), i32(2), f32(0), f32()), (f32(3, 4),), {1: ints(3, 4)}),
    empty("MATRIX_DIAG", (f32(2, 0),), (f32(2, 0, 0),)),
    empty("MATRIX_SET_DIAG", (f32(0, 2, 3), f32(0, 2)), (f32(0, 2, 3),)),
    empty("FULLY_CONNECTED", (f32(0, 4), f32(3, 4), f32(3)), (f32(0, 3),)),
    empty("FULLY_CONNECTED", (f32(0, 4), i8(3, 4, zero_point=0), f32(3)), (f32(0, 3),)),
    empty("FULLY_CONNECTED", (i8(0, 4), i8(3, 4, zero_point=0), i32(3)), (i8(0, 3),)),
    empty("BATCH_MATMUL", (f32(0, 2, 3), f32(3, 4)), (f32(0, 2, 4),)),
    empty("BATCH_MATMUL", (f32(2, 0, 3), i8(3, 4, zero_point=0)), (f32(2, 0, 4),)),
    empty("NON_MAX_SUPPRESSION_V4", (f32(0, 4), f32(0), i32(), f32(), f32()), (i32(3), i32()), {2: ints(3)}),
    empty("NON_MAX_SUPPRESSION_V5", (f32(2, 4), f32(2), i32(), f32(), f32(), f32()), (i32(0), f32(0), i32()),
          {2: ints(0)}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_empty_tensors_have_a_result(case: Case) -> None:
    evaluated(case)
    outputs = interpret.run(program_of([case]), given(case))
    shaped = [np.asarray(y).reshape(t.shape) for y, t in zip(outputs, case.outputs, strict=True)]
    problem = loops_differ(case, shaped)
    assert not problem, problem
