"""The examples of the StableHLO specification (docs/spec.md, tests of its interpreter; Apache 2.0); what is refused.

For operators that the official runtime has no kernel of, these examples are the oracle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError, UnsupportedOp
from lithe.ir import interpret
from lithe.ir.graph import Graph
from lithe.ops import REGISTRY, RuleViolation, Site
from lithe.ops.stablehlo.elementwise import DIRECTION, TOTAL
from lithe.types import BOOL, DTYPES, FLOAT32, INT32, INT64, TensorType, dtype_of
from tests.ops.backends import given, program_of
from tests.ops.bodies import Model, body, pairwise
from tests.ops.cases import Case, f32, i32, tensor
from tests.ops.cases_shape import ints, kind
from tests.ops.cases_stablehlo_contraction import convolution, product
from tests.ops.cases_stablehlo_places import GATHER, PAD, PLACES, SCATTER, TARGETS, WINDOW, by_key, compare

BLOCK = np.arange(1, 25).reshape(3, 4, 2)
IMAGE = np.array([[1, 2, 5, 6], [3, 4, 7, 8], [10, 11, 14, 15], [12, 13, 16, 17]])
ADDED = pairwise("STABLEHLO_ADD", INT64)
TRUE_FALSE = {"comparison_direction": f"{DIRECTION}LT"}
ORDERED = np.array([-np.nan, -np.inf, -2.0, -0.0, 0.0, 1.0, np.inf, np.nan])


def attributes(case: Case) -> dict[str, Any]:
    return case.attrs


def dot(x: tuple, y: tuple, z: tuple, batch: tuple, summed: tuple) -> dict[str, Any]:
    return attributes(product("", x, y, z, batch, summed))


def conv(orders: str, x: tuple, w: tuple, y: tuple, **more: Any) -> dict[str, Any]:
    return attributes(convolution("", orders, x, w, y, **more))


FOUR = {"window_strides": (4, 4), "lhs_dilation": (2, 2)}
EXAMPLES: list[tuple[str, str, dict[str, Any], list[Any], list[Any], Graph | None]] = [
    ("REMAINDER", "signs", {}, [[17, -17, 17, -17], [3, 3, -3, -3]], [[2, -2, 2, -2]], None),
    ("DIVIDE", "signs", {}, [[17, -17, 17, -17], [3, 3, -3, -3]], [[5, -5, -5, 5]], None),
    ("SHIFT_LEFT", "int64", {}, [[-1, 0, 1], [1, 2, 3]], [[-2, 0, 8]], None),
    ("CBRT", "float64", {}, [[0.0, 1.0, 8.0, 27.0]], [[0.0, 1.0, 2.0, 3.0]], None),
    ("CLAMP", "each", {}, [[1, 5, -5], [2, 3, -1], [3, 7, -3]], [[2, 5, -3]], None),
    ("CLAMP", "scalars", {}, [0, [2, 3, -1], 1], [[1, 1, 0]], None),
    ("COMPARE", "less", TRUE_FALSE, [[1.0, 3.0], [1.1, 2.9]], [[True, False]], None),
    ("COMPARE", "total order", TRUE_FALSE | {"compare_type": TOTAL}, [ORDERED[:-1], ORDERED[1:]], [[True] * 7], None),
    ("TRANSPOSE", "three axes", {"permutation": (2, 1, 0)},
     [np.arange(1, 13).reshape(2, 3, 2)], [[[[1, 7], [3, 9], [5, 11]], [[2, 8], [4, 10], [6, 12]]]], None),
    ("BROADCAST_IN_DIM", "crossed", {"broadcast_dimensions": (2, 1)}, [[[1, 2, 3]]],
     [[[[1, 1], [2, 2], [3, 3]], [[1, 1], [2, 2], [3, 3]]]], None),
    ("SLICE", "strides", {"start_indices": (1, 2), "limit_indices": (3, 4), "strides": (1, 1)},
     [[[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]], [[[1, 1], [1, 1]]], None),
    ("DYNAMIC_SLICE", "clamped", {"slice_sizes": (2, 2)},
     [[[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], -1, 3], [[[1, 1], [1, 1]]], None),
    ("DYNAMIC_UPDATE_SLICE", "clamped", {},
     [[[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]], [[1, 1], [1, 1]], -1, 3],
     [np.ones((4, 4), int)], None),
    ("PAD", "cut and spread", PAD, [[[0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 5, 6, 0], [0, 0, 0, 0]], -1],
     [[[-1] * 5, [-1, 0, -1, 0, -1], [-1, 1, -1, 2, -1], [-1, 3, -1, 4, -1], [-1, 5, -1, 6, -1],
       [-1, 0, -1, 0, -1], [-1] * 5]], None),
    ("GATHER", "clamped", GATHER, [BLOCK, PLACES],
     [[[[[1, 2], [3, 4]], [[3, 4], [5, 6]], [[13, 14], [15, 16]]],
       [[[9, 10], [11, 12]], [[11, 12], [13, 14]], [[17, 18], [19, 20]]]]], None),
    ("SCATTER", "left out", SCATTER, [BLOCK, TARGETS, np.ones((2, 3, 2, 2), int)],
     [[[[1, 2], [5, 6], [7, 8], [7, 8]], [[10, 11], [12, 13], [14, 15], [16, 17]],
       [[18, 19], [20, 21], [21, 22], [23, 24]]]], ADDED),
    ("REDUCE", "a row", {"dimensions": (1,), "body_subgraph_index": 1}, [[[0, 1, 2, 3, 4, 5]], 0], [[15]], ADDED),
    ("REDUCE_WINDOW", "spread", WINDOW, [[[1, 2], [3, 4], [5, 6]], 0], [[[0, 0], [3, 4]]], ADDED),
    ("REDUCE_WINDOW", "one window", WINDOW | {"window_dimensions": (3, 1)}, [[[1, 2], [3, 4], [5, 6]], 0],
     [[[5, 6]]], ADDED),
    ("SORT", "by the first", {"dimension": 0, "is_stable": True, "comparator_subgraph_index": 1},
     [[[1, 2, 3], [3, 2, 1]], [[3, 2, 1], [1, 2, 3]]], [[[3, 2, 3], [1, 2, 1]], [[1, 2, 1], [3, 2, 3]]],
     by_key("GT", INT64, INT64)),
    ("SORT", "columns", {"dimension": 0, "comparator_subgraph_index": 1},
     [[[0, 1, 1, -3, -3, -2, 0], [4, -1, 3, 0, 4, 0, -3], [1, 0, 0, 0, 0, 2, 3], [-3, -4, -4, -2, 0, 3, 3],
       [0, 5, 2, -2, 0, -2, 0]]],
     [[[-3, -4, -4, -3, -3, -2, -3], [0, -1, 0, -2, 0, -2, 0], [0, 0, 1, -2, 0, 0, 0], [1, 1, 2, 0, 0, 2, 3],
       [4, 5, 3, 0, 4, 3, 3]]], compare("LT", INT64)),
    ("DOT_GENERAL", "batch", dot((2, 2, 2), (2, 2, 2), (2, 2, 2), ((0,), (0,)), ((2,), (1,))),
     [np.arange(1, 9).reshape(2, 2, 2), [[[1, 0], [0, 1]], [[1, 0], [0, 1]]]],
     [np.arange(1, 9).reshape(2, 2, 2)], None),
    ("DOT_GENERAL", "nothing summed", dot((2, 2), (2, 2), (2, 2, 2, 2), ((), ()), ((), ())),
     [[[1, 2], [3, 4]], [[1, 0], [0, 1]]], [np.multiply.outer([[1, 2], [3, 4]], [[1, 0], [0, 1]])], None),
    ("CONVOLUTION", "spread", conv("b01f 01io b01f", (1, 4, 4, 1), (3, 3, 1, 1), (1, 2, 2, 1), **FOUR),
     [IMAGE.reshape(1, 4, 4, 1), np.ones((3, 3, 1, 1), int)], [np.reshape([10, 26, 46, 62], (1, 2, 2, 1))], None),
    ("CONVOLUTION", "border", conv("b01f 01io b01f", (1, 4, 4, 1), (3, 3, 1, 1), (1, 2, 2, 1), padding=(1, 1, 1, 1),
     **FOUR), [IMAGE.reshape(1, 4, 4, 1), np.ones((3, 3, 1, 1), int)],
     [np.reshape([1, 5, 10, 14], (1, 2, 2, 1))], None),
    ("CONVOLUTION", "batch groups", conv("0b1f 01io b01f", (1, 4, 4, 1), (1, 2, 1, 4), (1, 1, 2, 4),
     batch_group_count=4, **FOUR), [IMAGE.reshape(1, 4, 4, 1), np.ones((1, 2, 1, 4), int)],
     [np.reshape([1, 3, 10, 12, 5, 7, 14, 16], (1, 1, 2, 4))], None),
    ("CONVOLUTION", "feature groups", conv("b0f1 0i1o b01f", (1, 4, 4, 1), (1, 2, 1, 4), (1, 2, 1, 4),
     feature_group_count=2, **FOUR), [IMAGE.reshape(1, 4, 4, 1), np.ones((1, 2, 1, 4), int)],
     [np.reshape([3, 3, 11, 11, 21, 21, 29, 29], (1, 2, 1, 4))], None),
    ("IOTA", "columns", {"iota_dimension": 1}, [], [[[0, 1, 2, 3, 4]] * 4], None),
]  # fmt: skip


def arrays(values: list[Any]) -> list[np.ndarray]:
    return [np.asarray(v) for v in values]


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda row: f"{row[0]}-{row[1]}".replace(" ", "_"))
def test_examples_of_the_specification(row: tuple) -> None:
    op, name, attrs, inputs, outputs, graph = row
    xs, ys = arrays(inputs), arrays(outputs)
    types = [tuple(TensorType(dtype_of(a), a.shape) for a in side) for side in (xs, ys)]
    case = Case(f"STABLEHLO_{op}", name, *types, attrs, values=dict(enumerate(xs)), graphs=(graph,) if graph else ())
    assert case.operator.infer(case.site()) == [y.shape for y in ys]
    results = [case.operator.evaluate(case.site(), *xs)]
    if case.operator.lowers(case.site()):
        results.append([np.asarray(a) for a in interpret.run(program_of([case]), given(case))])
    for result in results:
        for got, expected in zip(result, ys, strict=True):
            np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=1e-6)


def test_convolution_is_the_sum_of_its_definition() -> None:
    """Axes in any order, groups of the batch, dilations, borders and reversal at once, by the specification's text."""
    random = np.random.default_rng(3)
    x, w = random.integers(-9, 9, (4, 4, 2, 6, 3)), random.integers(-9, 9, (6, 2, 2, 3, 2))
    case = convolution(
        "", "b2f01 oi201 b01f2", x.shape, w.shape, (2, 5, 2, 6, 4), ("int64",), batch_group_count=2,
        window_strides=(1, 1, 2), padding=(1, 2, -1, 1, 2, 0), lhs_dilation=(1, 1, 2), rhs_dilation=(2, 1, 1),
        window_reversal=(False, True, True),
    )  # fmt: skip
    # natural orders: x [n, 0, 1, 2, f], w [o, 0, 1, 2, i]
    x = x.transpose(0, 3, 4, 1, 2)
    w = w.transpose(0, 3, 4, 2, 1)
    low, high, spread, strides, gaps = (1, -1, 2), (2, 1, 0), (1, 1, 2), (1, 1, 2), (2, 1, 1)
    wide = np.zeros((4, *((d - 1) * s + 1 for d, s in zip(x.shape[1:4], spread, strict=True)), x.shape[4]), int)
    wide[:, :: spread[0], :: spread[1], :: spread[2]] = x
    for axis, (before, after) in enumerate(zip(low, high, strict=True), 1):
        wide = np.pad(wide, [(max(before, 0), max(after, 0)) if a == axis else (0, 0) for a in range(5)])
        keep = [slice(None)] * 5
        keep[axis] = slice(max(-before, 0), wide.shape[axis] - max(-after, 0))
        wide = wide[tuple(keep)]
    counts = [(n - (k - 1) * g - 1) // s + 1
              for n, k, g, s in zip(wide.shape[1:4], w.shape[1:4], gaps, strides, strict=True)]  # fmt: skip
    expected = np.zeros((2, *counts, 6), int)
    for n, *place, o in np.ndindex(*expected.shape):
        for tap in np.ndindex(*w.shape[1:4]):
            at = [p * s + t * g for p, s, t, g in zip(place, strides, tap, gaps, strict=True)]
            turned = (tap[0], w.shape[2] - 1 - tap[1], w.shape[3] - 1 - tap[2])
            expected[n, *place, o] += wide[o // 3 * 2 + n, *at] @ w[o, *turned]
    expected = expected.transpose(0, 1, 2, 4, 3)
    assert case.operator.infer(case.site()) == [expected.shape]
    inputs = [np.asarray(a) for a in (x.transpose(0, 3, 4, 1, 2), w.transpose(0, 4, 3, 1, 2))]
    np.testing.assert_array_equal(case.operator.evaluate(case.site(), *inputs)[0], expected)


def test_random_bits_go_on_where_they_stopped() -> None:
    op = REGISTRY.by_name["STABLEHLO_RNG_BIT_GENERATOR"]
    state = np.array([7, (1 << 64) - 1], np.uint64)
    for algorithm, words in (("THREEFRY", 2), ("PHILOX", 4)):

        def drawn(state: np.ndarray, n: int, algorithm: str = algorithm) -> list[np.ndarray]:
            kinds = (kind("uint64", 2), kind("uint32", n))
            return op.evaluate(Site(op.Attrs(algorithm), (kinds[0],), kinds), state)

        after, first = drawn(state, words)
        _, second = drawn(after, words)
        np.testing.assert_array_equal(drawn(state, 2 * words)[1], [*first, *second])


def test_bodies_that_are_no_elementwise_operators_run_element_by_element() -> None:
    steps = [("RESHAPE", {"new_shape": (1,)}, (1,), FLOAT32), ("RESHAPE", {"new_shape": (0,)}, (2,), FLOAT32)]
    odd = body((FLOAT32, FLOAT32), [*steps, ("STABLEHLO_ADD", {}, (0, 3), FLOAT32)], (4,))
    odd.nodes[0].outputs[0].type = f32(1)
    case = Case("STABLEHLO_REDUCE", "odd", (f32(3, 4), f32()), (f32(3),),
                {"dimensions": (1,), "body_subgraph_index": 1}, graphs=(odd,))  # fmt: skip
    x, start = case.arrays()
    (got,) = case.operator.evaluate(case.site(), x, start)
    np.testing.assert_allclose(got, x.sum(axis=1) + start, rtol=1e-6)
    (looped,) = interpret.run(program_of([case]), given(case))
    np.testing.assert_allclose(looped, got, rtol=1e-6)


def test_a_body_that_could_fail_is_not_lowered() -> None:
    case = reduced(pairwise("DIV", INT32), i32(4), start=i32(), y=i32())
    assert not case.operator.lowers(case.site())
    with pytest.raises(ExecutionError, match="division by zero"):
        case.operator.evaluate(case.site(), np.array([1, 0, 2, 3], np.int32), np.array(1, np.int32))


def test_a_long_body_is_not_written_out() -> None:
    steps = [("STABLEHLO_ADD", {}, (0, 1 + n), FLOAT32) for n in range(101)]
    case = reduced(body((FLOAT32, FLOAT32), steps, (102,)), f32(4))
    assert not case.operator.lowers(case.site())
    x, start = np.ones(4, np.float32), np.zeros((), np.float32)
    assert case.operator.evaluate(case.site(), x, start)[0] == 1 + 101 * (1 + 101 * (1 + 101))


def test_without_its_model_a_body_is_not_known() -> None:
    case = reduced(pairwise("ADD", FLOAT32), f32(4))
    site = Site(case.site().attrs, case.inputs, case.outputs, (None, None), case.operator.operands[0])
    assert case.operator.infer(site) == [()]
    assert not case.operator.lowers(site)
    with pytest.raises(RuleViolation, match="needs the whole model"):
        case.operator.evaluate(site, np.zeros(4, np.float32), np.zeros((), np.float32))


def reduced(graph: Graph, *xs: TensorType, start: TensorType | None = None, y: TensorType | None = None,
            **attrs: Any) -> Case:  # fmt: skip
    return Case("STABLEHLO_REDUCE", "refused", (*xs, start or f32()), (y or f32(),),
                {"dimensions": (0,), "body_subgraph_index": 1} | attrs, graphs=(graph,))  # fmt: skip


SUM = pairwise("ADD", FLOAT32)


def plain(op: str, inputs: tuple, outputs: tuple, graph: Graph | None = None, constants: dict | None = None,
          **attrs: Any) -> Case:  # fmt: skip
    name = op if op in REGISTRY.by_name else f"STABLEHLO_{op}"
    return Case(name, "refused", inputs, outputs, attrs, constants or {}, graphs=(graph,) if graph else ())


def windowed(*xs: TensorType, y: TensorType | None = None, **attrs: Any) -> Case:
    return plain("STABLEHLO_REDUCE_WINDOW", xs or (f32(3, 2), f32()), (y or f32(2, 2),), SUM,
                 **(WINDOW | attrs))  # fmt: skip


def old(**attrs: Any) -> Case:
    vectors = attrs.pop("vectors", {2: ints(2), 3: ints(1), 4: ints(1)})
    x, start = attrs.pop("x", f32(4)), attrs.pop("start", f32())
    long = kind("int64", 1)
    return plain("REDUCE_WINDOW", (x, start, long, long, long), (f32(3),), None, vectors, **attrs)


def gathered(**attrs: Any) -> Case:
    return plain("STABLEHLO_GATHER", (i32(3, 4, 2), i32(2, 3, 2)), (i32(2, 3, 2, 2),), None, None, **(GATHER | attrs))


def scattered(inputs: tuple | None = None, **attrs: Any) -> Case:
    operands = inputs or (i32(3, 4, 2), i32(2, 3, 2), i32(2, 3, 2, 2))
    graph = pairwise("STABLEHLO_ADD", INT32)
    return plain("SCATTER", operands, (i32(3, 4, 2),), graph, None, **(SCATTER | attrs))


def sorted_(xs: tuple, ys: tuple, graph: Graph | None = None, dimension: int = 0) -> Case:
    return plain("SORT", xs, ys, graph or compare("LT", FLOAT32), dimension=dimension, comparator_subgraph_index=1)


def convolved(x: tuple = (1, 5, 5, 2), w: tuple = (3, 3, 2, 3), **attrs: Any) -> Case:
    return convolution("refused", "b01f 01io b01f", x, w, (1, 3, 3, 3), **attrs)


STATE = kind("uint64", 2)
RULES: list[tuple[Case, str]] = [
    (plain("SELECT", (tensor(BOOL, 2), f32(2), f32(3)), (f32(2),)), "must have the shape of x"),
    (plain("CLAMP", (f32(2), f32(3), f32()), (f32(3),)), "must be a scalar or have the shape"),
    (plain("COMPARE", (f32(2), f32(3)), (tensor(BOOL, 2),)), "must have the shape of"),
    (plain("COMPARE", (f32(2), f32(2)), (tensor(BOOL, 2),), comparison_direction="UP"), "is unknown"),
    (plain("COMPARE", (i32(2), i32(2)), (tensor(BOOL, 2),), compare_type=TOTAL), "is for floats"),
    (plain("STABLEHLO_RESHAPE", (f32(2, 3),), (f32(5),)), "cannot be given the shape"),
    (plain("STABLEHLO_TRANSPOSE", (f32(2, 3),), (f32(3, 2),), permutation=(0, 0)), "must name each axis"),
    (plain("BROADCAST_IN_DIM", (f32(2),), (f32(2, 3),)), "must have 1 elements"),
    (plain("BROADCAST_IN_DIM", (f32(2, 2),), (f32(2, 3),), broadcast_dimensions=(0, 0)), "must differ"),
    (plain("BROADCAST_IN_DIM", (f32(2),), (f32(2, 3),), broadcast_dimensions=(2,)), r"must lie in \[0, 2\)"),
    (plain("BROADCAST_IN_DIM", (f32(2),), (f32(2, 3),), broadcast_dimensions=(1,)), "does not stretch"),
    (plain("CONCATENATE", (f32(2), f32(2, 1)), (f32(4),)), "must agree"),
    (plain("STABLEHLO_SLICE", (f32(4),), (f32(2),), start_indices=(0, 0)), "must have one element for each axis"),
    (plain("STABLEHLO_SLICE", (f32(4),), (f32(2),), start_indices=(0,), limit_indices=(2,), strides=(0,)),
     "at least 1"),
    (plain("STABLEHLO_SLICE", (f32(4),), (f32(2),), start_indices=(0,), limit_indices=(5,), strides=(1,)),
     "leaves an axis"),
    (plain("DYNAMIC_SLICE", (f32(4), i32()), (f32(5),), slice_sizes=(5,)), "do not fit"),
    (plain("DYNAMIC_SLICE", (f32(4), i32(), i32()), (f32(2),), slice_sizes=(2,)), "needs 1 start indices"),
    (plain("DYNAMIC_SLICE", (f32(4), i32(2)), (f32(2),), slice_sizes=(2,)), "must have one element"),
    (plain("STABLEHLO_DYNAMIC_UPDATE_SLICE", (f32(4), f32(5), i32()), (f32(4),)), "must fit in"),
    (plain("IOTA", (), (f32(4),), iota_dimension=1), "must lie in"),
    (plain("STABLEHLO_PAD", (f32(4), f32()), (f32(4),)), "must have one element for each axis"),
    (plain("STABLEHLO_PAD", (f32(4), f32()), (f32(4),), edge_padding_low=(0,), edge_padding_high=(0,),
           interior_padding=(-1,)), "must not be negative"),
    (plain("STABLEHLO_PAD", (f32(4), f32(2)), (f32(4),), edge_padding_low=(0,), edge_padding_high=(0,),
           interior_padding=(0,)), "must have one element"),
    (plain("STABLEHLO_PAD", (f32(4), f32()), (f32(0),), edge_padding_low=(-5,), edge_padding_high=(0,),
           interior_padding=(0,)), "cuts more"),
    (plain("DILATE", (f32(4), i32(2), f32()), (f32(4),)), "must have one element for each axis"),
    (plain("DILATE", (f32(4), i32(1), f32(2)), (f32(4),)), "must have one element"),
    (plain("DILATE", (f32(4), i32(1), f32()), (f32(4),), None, {1: ints(0)}), "must be at least 1"),
    (reduced(SUM, f32(4), f32(4)), "inputs for 1 results"),
    (reduced(SUM, f32(4), start=f32(2)), "must have one element"),
    (reduced(SUM, f32(4), start=i32()), "one element type"),
    (reduced(SUM, kind("complex64", 4), start=kind("complex64"), y=kind("complex64")), "are not reduced"),
    (reduced(SUM, f32(4), dimensions=(0, 0)), "must differ"),
    (reduced(SUM, f32(4), dimensions=(1,)), "must lie in"),
    (reduced(pairwise("ADD", INT32), f32(4)), "must take scalars of types"),
    (reduced(body((FLOAT32, FLOAT32), [], ()), f32(4)), "must give scalars of types"),
    (Case("STABLEHLO_REDUCE", "two", (f32(4), f32(5), f32(), f32()), (f32(), f32()),
          {"dimensions": (0,), "body_subgraph_index": 1}, graphs=(SUM,)), "must have the shape"),
    (windowed(window_dimensions=(2,)), "positive element for each axis"),
    (windowed(window_strides=(0, 1)), "positive element for each axis"),
    (windowed(padding=(1, 1)), "two elements for each axis"),
    (windowed(padding=(1 << 30, 0, 0, 0)), "with its border and gaps"),
    (convolved(lhs_dilation=(1 << 20, 1 << 20)), "with its border and gaps"),
    (old(reduce_function="MEDIAN"), "is unknown"),
    (old(reduce_function="ALL"), "does not take float32"),
    (old(start=f32(2)), "must have one element"),
    (old(vectors={2: ints(0), 3: ints(1), 4: ints(1)}), "positive element for each axis"),
    (old(vectors={2: ints(1)}), "must be a constant"),
    (gathered(index_vector_dim=4), "index_vector_dim must lie in"),
    (gathered(start_index_map=(1,)), "1 axes are named"),
    (gathered(start_index_map=(1, 1)), "axes must differ"),
    (gathered(start_index_map=(1, 3)), "axes must lie in"),
    (gathered(slice_sizes=(1, 5, 2)), "do not fit"),
    (gathered(slice_sizes=(2, 2, 2)), "slices of size 1"),
    (gathered(offset_dims=(3, 2)), "ascending axes"),
    (scattered((i32(3, 4, 2), i32(2, 3, 2))), "inputs for 1 results"),
    (scattered((i32(3, 4, 2), f32(2, 3, 2), i32(2, 3, 2, 2))), "places must be integers"),
    (scattered((i32(3, 4, 2), i32(2, 3, 2), f32(2, 3, 2, 2))), "one element type"),
    (Case("STABLEHLO_SCATTER", "complex", (kind("complex64", 3), i32(1, 1), kind("complex64", 1)),
          (kind("complex64", 3),), SCATTER), "are not scattered"),
    (Case("STABLEHLO_SCATTER", "two", (f32(3), f32(4), i32(1, 1), f32(1), f32(1)), (f32(3), f32(4)), SCATTER),
     "differ from"),
    (scattered(update_window_dims=(3, 2)), "ascending axes"),
    (scattered((i32(3, 4, 2), i32(2, 3, 2), i32(2, 3, 2))), "must have rank"),
    (scattered((i32(3, 4, 2), i32(2, 3, 2), i32(2, 3, 5, 2))), "do not fit places"),
    (sorted_((f32(3), f32(3)), (f32(3),)), "2 inputs for 1 results"),
    (sorted_((f32(3), f32(4)), (f32(3), f32(4))), "must have the shape"),
    (sorted_((f32(3),), (i32(3),)), "one element type"),
    (sorted_((kind("complex64", 3),), (kind("complex64", 3),)), "are not sorted"),
    (sorted_((f32(3),), (f32(3),), dimension=1), "dimension must be in"),
    (sorted_((f32(3),), (f32(3),), SUM), "must give scalars"),
    (product("refused", (2, 3), (3, 2), (2, 2), ((0, 0), ()), ((), ())), "different axes"),
    (product("refused", (2, 3), (3, 2), (2, 2), ((), ()), ((2,), (0,))), "different axes"),
    (product("refused", (2, 3), (4, 2), (2, 2), ((), ()), ((1,), (0,))), "go together differ"),
    (convolved(x=(5, 5, 2), w=(3, 3, 2, 3), window_strides=(1, 1)), "must have one rank"),
    (convolved(window_strides=(0, 1)), "window_strides must have"),
    (convolved(padding=(0, 0)), "padding must have"),
    (convolved(input_spatial_dimensions=(1, 1)), "dimensions must name each axis"),
    (convolved(feature_group_count=2, batch_group_count=2), "group counts"),
    (convolved(batch_group_count=2), "must divide the batch"),
    (convolved(w=(3, 3, 3, 3)), "needs filters of depth"),
    (convolved(x=(1, 5, 5, 4), feature_group_count=2), "multiple of 2 groups"),
    (convolved(w=(0, 3, 2, 3)), "must not be empty"),
    (plain("RNG_BIT_GENERATOR", (STATE,), (STATE, i32(3)), algorithm="DICE"), "is unknown"),
    (plain("RNG_BIT_GENERATOR", (kind("uint64", 3),), (STATE, i32(3)), algorithm="THREEFRY"), "must have 2 elements"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "words"), RULES, ids=[f"{c.op}-{n}" for n, (c, _) in enumerate(RULES)])
def test_rules(case: Case, words: str) -> None:
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


def test_dilations_are_checked_in_data() -> None:
    case = plain("DILATE", (f32(4), i32(1), f32()), (f32(4),))
    assert case.operator.infer(case.site()) == [(None,)]
    with pytest.raises(ExecutionError, match="must be at least 1"):
        case.operator.evaluate(case.site(), np.zeros(4, np.float32), ints(0), np.zeros((), np.float32))


def test_a_custom_call_is_refused_by_the_name_of_its_target() -> None:
    case = plain("CUSTOM_CALL", (f32(4),), (f32(4),), call_target_name="magic.box")
    assert case.operator.infer(case.site()) == [(4,)]
    assert not case.operator.lowers(case.site())
    with pytest.raises(UnsupportedOp, match=r"'magic\.box'"):
        case.operator.evaluate(case.site(), np.zeros(4, np.float32))


def test_integers_refuse_division_by_zero_and_negative_exponents() -> None:
    for op, b, words in (("DIVIDE", 0, "division by zero"), ("REMAINDER", 0, "division"), ("POWER", -1, "exponent")):
        case = Case(f"STABLEHLO_{op}", "refused", (i32(1), i32(1)), (i32(1),), values={1: ints(b)})
        with pytest.raises(ExecutionError, match=words):
            case.operator.evaluate(case.site(), *case.arrays())
        with pytest.raises(ExecutionError, match=words):
            interpret.run(program_of([case]), given(case))


def test_a_body_with_an_operator_that_has_no_rule_is_refused() -> None:
    graph = pairwise("ADD", FLOAT32)
    graph.nodes[0].refusal = UnsupportedOp("no rule for this")
    case = reduced(graph, f32(4))
    with pytest.raises(UnsupportedOp, match="no rule for this"):
        case.operator.infer(case.site())
    assert not case.operator.lowers(case.site())
    wrong = pairwise("ADD", FLOAT32)
    wrong.nodes[0].outputs[0].type = f32(2)
    wrong.outputs[0] = wrong.inputs[0]
    case = reduced(wrong, f32(4))
    with pytest.raises(RuleViolation, match="no rule for"):
        case.operator.infer(case.site())


def test_the_stand_in_for_a_model_runs_graphs() -> None:
    model = Model((pairwise("ADD", DTYPES["int32"]),))
    assert model.call(1, [np.array(2, np.int32), np.array(3, np.int32)])[0] == 5
