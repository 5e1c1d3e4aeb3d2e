"""Operators that move elements refuse what would leave a tensor: when a model is checked, and when data say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError, ModelError
from lithe.formats import tflite
from lithe.ir import interpret
from lithe.ops import RuleViolation
from lithe.ops.verify import verify
from lithe.types import FLOAT32, INT32, STRING, TensorType
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, f32, i8, i32, u8
from tests.ops.cases_shape import ints
from tests.ops.official import model_bytes


def case(
    op: str, inputs: tuple, outputs: tuple, constants: dict | None = None, values: dict | None = None, **attrs: Any
) -> Case:
    return Case(op, op.lower(), inputs, outputs, attrs, constants or {}, values or {})


BAD_AT_RUN_TIME = [
    (case("RESHAPE", (f32(2, 3), i32(1)), (f32(5),), values={1: ints(5)}), "cannot be given the shape"),
    (case("RESHAPE", (f32(2, 3), i32(2)), (f32(2, 3),), values={1: ints(-1, -1)}), "cannot be given the shape"),
    (case("EXPAND_DIMS", (f32(2), i32()), (f32(1, 2),), values={1: ints(3)}), "axis must be"),
    (case("BROADCAST_TO", (f32(2), i32(1)), (f32(3),), values={1: ints(3)}), "cannot be broadcast"),
    (case("BROADCAST_ARGS", (i32(1), i32(1)), (i32(1),), values={0: ints(3), 1: ints(2)}), "do not broadcast"),
    (case("TILE", (f32(2), i32(1)), (f32(2),), values={1: ints(-1)}), "must not be negative"),
    (case("FILL", (i32(1), f32()), (f32(2),), values={0: ints(-2)}), "must not be negative"),
    (case("RANGE", (i32(), i32(), i32()), (i32(2),), values={0: 0, 1: 5, 2: 0}), "does not lead"),
    (case("RANGE", (i32(), i32(), i32()), (i32(2),), values={0: 0, 1: 5, 2: -1}), "does not lead"),
    (case("RANGE", (f32(), f32(), f32()), (f32(2),), values={0: 0, 1: np.inf, 2: 1}), "does not lead"),
    (case("RANGE", (i32(), i32(), i32()), (i32(2),), values={0: 0, 1: 2**31 - 1, 2: 1}), "more than"),
    (case("ONE_HOT", (i32(1), i32(), f32(), f32()), (f32(1, 2),), values={1: ints(-1)}), "must not be negative"),
    (case("TRANSPOSE", (f32(2, 3), i32(2)), (f32(3, 2),), values={1: ints(1, 1)}), "once"),
    (case("REVERSE_V2", (f32(2), i32(1)), (f32(2),), values={1: ints(1)}), "axis must be"),
    (case("SPLIT", (i32(), f32(2, 3)), (f32(1, 3),) * 2, values={0: ints(2)}, num_splits=2), "axis must be"),
    (case("SPLIT", (i32(), f32(2, 3)), (f32(1, 3),) * 2, values={0: ints(1)}, num_splits=2), "divisible"),
    (case("SPLIT_V", (f32(4), i32(2), i32()), (f32(2),) * 2, values={1: ints(2, 3), 2: ints(0)}, num_splits=2),
     "do not add up"),
    (case("SLICE", (f32(4), i32(1), i32(1)), (f32(2),), values={1: ints(3), 2: ints(2)}), "leaves axis"),
    (case("STRIDED_SLICE", (f32(4), i32(1), i32(1), i32(1)), (f32(2),), values={1: ints(0), 2: ints(2), 3: ints(0)}),
     "must not be zero"),
    (case("PAD", (f32(2), i32(1, 2)), (f32(2),), values={1: ints(0, -1)}), "must not be negative"),
    (case("MIRROR_PAD", (f32(2), i32(1, 2)), (f32(4),), values={1: ints(2, 0)}), "can mirror"),
    (case("GATHER", (f32(3), i32(1)), (f32(1),), values={1: ints(3)}), "must lie in"),
    (case("GATHER", (f32(3), i32(1)), (f32(1),), values={1: ints(-1)}), "must lie in"),
    (case("GATHER_ND", (f32(3, 2), i32(1, 2)), (f32(1),), values={1: ints(0, 2)}), "must lie in"),
    (case("SCATTER_ND", (i32(1, 1), f32(1), i32(1)), (f32(3),), {2: ints(3)}, {0: ints(3)}), "must lie in"),
    (case("SCATTER_ND", (i32(1, 1), f32(1), i32(1)), (f32(3),), values={0: ints(0), 2: ints(-1)}), "scattered"),
    (case("EMBEDDING_LOOKUP", (i32(1), f32(3, 2)), (f32(1, 2),), values={0: ints(-1)}), "must lie in"),
    (case("SPACE_TO_BATCH_ND", (f32(1, 4, 4, 1), i32(2), i32(2, 2)), (f32(4, 2, 2, 1),),
          values={1: ints(0, 2), 2: ints(0, 0, 0, 0)}), "must be positive"),
    (case("SPACE_TO_BATCH_ND", (f32(1, 4, 4, 1), i32(2), i32(2, 2)), (f32(4, 2, 2, 1),),
          values={1: ints(3, 2), 2: ints(0, 0, 0, 0)}), "no multiple"),
    (case("BATCH_TO_SPACE_ND", (f32(4, 2, 2, 1), i32(2), i32(2, 2)), (f32(1, 4, 4, 1),),
          values={1: ints(3, 2), 2: ints(0, 0, 0, 0)}), "do not fit"),
    (case("RESIZE_BILINEAR", (f32(1, 2, 2, 1), i32(2)), (f32(1, 1, 1, 1),), values={1: ints(0, 2)}), "be positive"),
]  # fmt: skip

# Those whose loops read the places from a tensor: the loops must end with an error as well.
CHECKED_IN_LOOPS = ("BROADCAST_ARGS", "GATHER", "GATHER_ND", "EMBEDDING_LOOKUP")


@pytest.mark.parametrize(("row", "words"), BAD_AT_RUN_TIME, ids=lambda v: str(v))
def test_bad_data_end_the_inference(row: Case, words: str) -> None:
    with pytest.raises(ExecutionError, match=words):
        row.operator.evaluate(row.site(), *row.arrays())
    if row.op in CHECKED_IN_LOOPS or (row.op == "SCATTER_ND" and row.constants):
        with pytest.raises(ExecutionError, match=words):
            interpret.run(program_of([row]), given(row))


def test_a_slice_that_begins_outside_ends_the_inference() -> None:
    row = case("SLICE", (f32(4), i32(1), i32(1)), (f32(2),), {2: ints(2)}, {1: ints(3)})
    with pytest.raises(ExecutionError, match="begin leaves axis 0"):
        interpret.run(program_of([row]), given(row))


PICTURE = f32(1, 4, 6, 3)
RULES = [
    (case("RESHAPE", (f32(2, 3),), (f32(4),), new_shape=(4,)), "cannot be given"),
    (case("RESHAPE", (f32(0, 3),), (f32(0),), new_shape=(0, -1)), "cannot be given"),
    (case("SQUEEZE", (f32(2, 1),), (f32(2),), squeeze_dims=(0,)), "must have size 1"),
    (case("SQUEEZE", (f32(2, 1),), (f32(2),), squeeze_dims=(5,)), "must be in"),
    (case("EXPAND_DIMS", (f32(2), i32()), (f32(1, 2),), {1: ints(4)}), "must be in"),
    (case("BROADCAST_TO", (f32(2), i32(2)), (f32(3, 3),), {1: ints(3, 3)}), "cannot be broadcast"),
    (case("TILE", (f32(2), i32(2)), (f32(2),), {1: ints(1, 1)}), "one element for each axis"),
    (case("TRANSPOSE", (f32(2, 3), i32(2)), (f32(2, 3),), {1: ints(0, 0)}), "each axis once"),
    (case("REVERSE_V2", (f32(2, 3), i32(2)), (f32(2, 3),), {1: ints(0, 0)}), "at most once"),
    (case("CONCATENATION", (f32(2, 3), f32(3, 3)), (f32(2, 6),), axis=1), "must agree"),
    (case("CONCATENATION", (f32(2),), (f32(2),), fused_activation_function="TANH"), "cannot fuse"),
    (case("CONCATENATION", (i32(2),), (i32(2),), fused_activation_function="RELU"), "needs float32"),
    (case("CONCATENATION", (i8(2), i8(2, scale=0.1)), (i8(4),)), "must have the output's scale"),
    (case("PACK", (f32(2), f32(3)), (f32(2, 2),), values_count=2), "must have the shape"),
    (case("PACK", (f32(2),), (f32(1, 2),), values_count=2), "values_count is 2"),
    (case("UNPACK", (f32(2, 3),), (f32(3),), num=1), "num is 1"),
    (case("SPLIT", (i32(), f32(3)), (f32(1),) * 2, {0: ints(0)}, num_splits=2), "divisible"),
    (case("SPLIT", (i32(), f32(3)), (), {0: ints(0)}, num_splits=0), "must be positive"),
    (case("SPLIT_V", (f32(4), i32(2), i32()), (f32(2),) * 2, {1: ints(2, 3), 2: ints(0)}, num_splits=2), "add up"),
    (case("RANGE", (i32(), i32(), i32()), (i32(2),), {0: 0, 1: 5, 2: 0}), "must not be zero"),
    (case("SLICE", (f32(4), i32(1), i32(1)), (f32(2),), {1: ints(3), 2: ints(2)}), "leaves axis"),
    (case("STRIDED_SLICE", (f32(4), i32(2), i32(2), i32(2)), (f32(2),), {k: ints(1, 1) for k in (1, 2, 3)}),
     "2 entries"),
    (case("STRIDED_SLICE", (f32(4, 4), i32(2), i32(2), i32(2)), (f32(2),), {k: ints(1, 1) for k in (1, 2, 3)},
          ellipsis_mask=3), "one bit"),
    (case("STRIDED_SLICE", (f32(4), i32(1), i32(1), i32(1)), (f32(),), {1: ints(4), 2: ints(5), 3: ints(1)},
          shrink_axis_mask=1), "no element"),
    (case("PAD", (f32(2), i32(2, 2)), (f32(2),), {1: ints(0, 0, 0, 0)}), "must have shape"),
    (case("PAD", (f32(2), i32(1, 2)), (f32(2),), {1: ints(0, -1)}), "must not be negative"),
    (case("PADV2", (i8(2), i32(1, 2), i8(scale=0.3)), (i8(3),), {1: ints(0, 1)}), "output's scale"),
    (case("MIRROR_PAD", (f32(2), i32(1, 2)), (f32(4),), {1: ints(2, 0)}), "to mirror"),
    (case("MIRROR_PAD", (f32(2), i32(1, 2)), (f32(4),), {1: ints(1, 0)}, mode="WRAP"), "unknown"),
    (case("GATHER", (f32(3), i32(1)), (f32(1),), {1: ints(3)}), "must lie in"),
    (case("GATHER", (f32(3, 2), i32(3)), (f32(3),), batch_dims=1), "must not exceed axis"),
    (case("GATHER", (f32(3, 2), i32(2, 1)), (f32(2, 1),), axis=1, batch_dims=1), "must agree"),
    (case("GATHER_ND", (f32(3), i32(1, 2)), (f32(1),)), "names 2 axes"),
    (case("GATHER_ND", (f32(3), i32(1, 1)), (f32(1),), {1: ints(-1)}), "must lie in"),
    (case("SCATTER_ND", (i32(1, 1), f32(2), i32(1)), (f32(3),), {2: ints(3)}), "must have shape"),
    (case("EMBEDDING_LOOKUP", (i32(1), f32(3, 2)), (f32(1, 2),), {0: ints(3)}), "must lie in"),
    (case("SPACE_TO_BATCH_ND", (PICTURE, i32(2), i32(2, 2)), (PICTURE,), {1: ints(3, 2), 2: ints(0, 0, 0, 0)}),
     "multiple"),
    (case("BATCH_TO_SPACE_ND", (PICTURE, i32(2), i32(2, 2)), (PICTURE,), {1: ints(2, 2), 2: ints(0, 0, 0, 0)}),
     "divide"),
    (case("DEPTH_TO_SPACE", (PICTURE,), (PICTURE,), block_size=2), "no multiple"),
    (case("SPACE_TO_DEPTH", (PICTURE,), (PICTURE,), block_size=0), "must be positive"),
    (case("RESIZE_BILINEAR", (PICTURE, i32(2)), (PICTURE,), {1: ints(0, 2)}), "must be positive"),
    (case("RESIZE_NEAREST_NEIGHBOR", (f32(1, 0, 2, 1), i32(2)), (PICTURE,), {1: ints(1, 2)}), "no pixels"),
    (case("NON_MAX_SUPPRESSION_V4", (f32(5, 3), f32(5), i32(), f32(), f32()), (i32(2), i32())), "boxes, 4"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "words"), RULES, ids=lambda v: str(v))
def test_a_broken_rule_is_named(row: Case, words: str) -> None:
    with pytest.raises(RuleViolation, match=words):
        row.operator.infer(row.site())


def test_shapes_that_depend_on_data_are_unknown() -> None:
    for row, rank in (
        (case("RESHAPE", (f32(6), i32(2)), (f32(2, 3),)), 2),
        (case("SLICE", (f32(6, 2), i32(2), i32(2)), (f32(2, 1),)), 2),
        (case("STRIDED_SLICE", (f32(6, 2), *[i32(2)] * 3), (f32(2),), shrink_axis_mask=2), 1),
        (case("RANGE", (i32(),) * 3, (i32(3),)), 1),
        (case("RESIZE_BILINEAR", (PICTURE, i32(2)), (PICTURE,)), 4),
    ):
        (shape,) = row.operator.infer(row.site())
        assert len(shape) == rank
        assert None in shape


def test_a_rescaled_table_needs_one_scale_each() -> None:
    row = case("CONCATENATION", (u8(2), TensorType(u8().dtype, (2,))), (u8(4),))
    assert row.operator.infer(row.site()) == [(4,)]
    assert row.operator.supports(STRING)
    assert row.operator.supports(FLOAT32)
    assert row.operator.supports(INT32)


def test_an_input_of_unknown_rank_is_left_to_the_run() -> None:
    row = case("SQUEEZE", (f32(),), (f32(),), squeeze_dims=(1,))
    module = tflite.read(model_bytes(row))
    verify(module)
    module.graphs[0].inputs[0].extras["has_rank"] = True
    with pytest.raises(ModelError, match="squeeze_dims must be in"):
        verify(module)
