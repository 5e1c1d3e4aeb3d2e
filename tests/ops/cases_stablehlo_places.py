"""StableHLO operators that move elements, read and write at places, reduce, sort, multiply and draw bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ir.graph import Graph
from lithe.ops.layout import PLAIN
from lithe.ops.reduce_window import NUMBERS
from lithe.ops.stablehlo.elementwise import DIRECTION, TOTAL
from lithe.types import BOOL, DTYPES, FLOAT32, INT32, DType
from tests.ops.bodies import body, pairwise
from tests.ops.cases import Case, f32, i8, i32
from tests.ops.cases_shape import each_type, ints, kind
from tests.ops.cases_stablehlo import NO_KERNEL, near

TAKEN = tuple(n for n in PLAIN.split() if n not in ("string", "int2", "uint4", "int4") and "float8" not in n)
SIZED = tuple(n for n in TAKEN if n != "complex128")


def unknown_here(op: str, inputs: tuple, outputs: tuple, **more: Any) -> list[Case]:
    return [
        Case(c.op, c.name, c.inputs, c.outputs, c.attrs, c.constants, c.values, **NO_KERNEL)
        for c in each_type(op, inputs, outputs, (), **more)
    ]


def compare(direction: str, dtype: DType, total: bool = False) -> Graph:
    """(a, b) -> a < b, or another comparison"""
    attrs = {"comparison_direction": DIRECTION + direction} | ({"compare_type": TOTAL} if total else {})
    return body((dtype, dtype), [("STABLEHLO_COMPARE", attrs, (0, 1), BOOL)], (2,))


def by_key(direction: str, key: DType, other: DType) -> Graph:
    """(a, b, c, d) -> a < b: c and d belong to the second operand"""
    steps = [("STABLEHLO_COMPARE", {"comparison_direction": DIRECTION + direction}, (0, 1), BOOL)]
    return body((key, key, other, other), steps, (4,))


def greatest_and_place(key: DType, place: DType) -> Graph:
    """(best, its place, x, its place) -> the greater one and its place"""
    greater = ("STABLEHLO_COMPARE", {"comparison_direction": f"{DIRECTION}GT"}, (2, 0), BOOL)
    chosen = [("STABLEHLO_SELECT", {}, (4, 2, 0), key), ("STABLEHLO_SELECT", {}, (4, 3, 1), place)]
    return body((key, place, key, place), [greater, *chosen], (5, 6))


def weighted(dtype: DType) -> Graph:
    """(total, x) -> total * 0.5 + x"""
    half = np.asarray(0.5, dtype.numpy)
    return body((dtype, dtype), [("STABLEHLO_MULTIPLY", {}, (0, half), dtype), ("ADD", {}, (2, 1), dtype)], (3,))


def replaced(dtype: DType) -> Graph:
    """(old, new) -> new"""
    return body((dtype, dtype), [], (1,))


PAD = {"edge_padding_low": (1, -1), "edge_padding_high": (1, -1), "interior_padding": (0, 1)}
GATHER = {"offset_dims": (2, 3), "collapsed_slice_dims": (0,), "start_index_map": (1, 0), "index_vector_dim": 2,
          "slice_sizes": (1, 2, 2)}  # fmt: skip
PLACES = np.array([[[0, 0], [1, 0], [2, 1]], [[0, 1], [1, 1], [0, 9]]])
SCATTER = {"update_window_dims": (2, 3), "inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (1, 0),
           "index_vector_dim": 2, "update_computation_subgraph_index": 1}  # fmt: skip
TARGETS = np.array([[[0, 2], [1, 0], [2, 1]], [[0, 1], [1, 0], [0, 9]]])
WINDOW = {"window_dimensions": (2, 1), "window_strides": (4, 1), "base_dilations": (2, 1), "window_dilations": (3, 1),
          "padding": (2, 1, 0, 0), "body_subgraph_index": 1}  # fmt: skip
POOL = {"window_dimensions": (3, 3), "window_strides": (2, 1), "base_dilations": (1, 1), "window_dilations": (1, 2),
        "padding": (1, 1, 2, 2), "body_subgraph_index": 1}  # fmt: skip
CRASHES = {"official": False, "reason": "the official kernel reads beyond the shape when a place is a scalar"}


def places(*rows: int) -> np.ndarray:
    return np.array(rows)


def scatter(name: str, op: str, dtype: str = "float32", official: bool = True, **more: Any) -> Case:
    graph = replaced(DTYPES[dtype]) if op == "replace" else pairwise(op, DTYPES[dtype])
    values = {1: TARGETS}
    return Case("STABLEHLO_SCATTER", f"{name} {dtype}", (kind(dtype, 3, 4, 2), i32(2, 3, 2), kind(dtype, 2, 3, 2, 2)),
                (kind(dtype, 3, 4, 2),), SCATTER, values=values, graphs=(graph,), steps=0,
                **({} if official else NO_KERNEL), **more)  # fmt: skip


def window(name: str, op: str, dtype: str, attrs: dict, x: tuple, y: tuple, official: bool = True) -> Case:
    start = {"STABLEHLO_MINIMUM": 100, "STABLEHLO_MAXIMUM": 0 if "uint" in dtype else -100}.get(op, 1)
    return Case("STABLEHLO_REDUCE_WINDOW", f"{name} {dtype}", (kind(dtype, *x), kind(dtype)), (kind(dtype, *y),), attrs,
                values={1: start}, graphs=(pairwise(op, DTYPES[dtype]),), steps=0, low=-3 if official else 0, high=3,
                tolerance=near(dtype), **({} if official else NO_KERNEL))  # fmt: skip


def reduce(name: str, op: str, dtype: str, axes: tuple, x: tuple, y: tuple) -> Case:
    return Case("STABLEHLO_REDUCE", f"{name} {dtype}", (kind(dtype, *x), kind(dtype)), (kind(dtype, *y),),
                {"dimensions": axes, "body_subgraph_index": 1}, values={1: 1}, graphs=(pairwise(op, DTYPES[dtype]),),
                low=0, high=3, tolerance=near(dtype), **NO_KERNEL)  # fmt: skip


def sort(name: str, dtype: str, shape: tuple, direction: str = "LT", dimension: int = -1, **more: Any) -> Case:
    graph = compare(direction, DTYPES[dtype], "total" in name)
    return Case("STABLEHLO_SORT", f"{name} {dtype}", (kind(dtype, *shape),), (kind(dtype, *shape),),
                {"dimension": dimension, "comparator_subgraph_index": 1}, graphs=(graph,), **NO_KERNEL,
                **more)  # fmt: skip


def old_window(function: str, dtype: str, start: int) -> Case:
    vectors = {2: places(2, 3), 3: places(2, 1), 4: places(1, 2)}
    long = kind("int64", 2)
    return Case("REDUCE_WINDOW", f"{function} {dtype}", (kind(dtype, 5, 9), kind(dtype), long, long, long),
                (kind(dtype, 2, 5),), {"reduce_function": function}, constants=vectors, values={1: start},
                steps=0, low=-3, high=3)  # fmt: skip


def bits(algorithm: str, dtype: str, state: tuple[int, ...], *shape: int) -> Case:
    given = kind("uint64", len(state))
    return Case("STABLEHLO_RNG_BIT_GENERATOR", f"{algorithm} {dtype} {state[0] & 255} {len(state)} {shape}", (given,),
                (given, kind(dtype, *shape)), {"algorithm": algorithm},
                values={0: np.array(state, np.uint64)}, steps=0)  # fmt: skip


SEEDS = ((1, 2), (1 << 63 | 12345, (1 << 64) - 3), (0xDEADBEEF00C0FFEE, 0xFFFFFFFE, 0x0123456789ABCDEF))
CASES = [
    *unknown_here("STABLEHLO_RESHAPE", ((2, 3, 4),), ((6, 4),)),
    *unknown_here("STABLEHLO_TRANSPOSE", ((2, 3, 4),), ((4, 2, 3),), attrs={"permutation": (2, 0, 1)}),
    Case("STABLEHLO_TRANSPOSE", "scalar", (f32(),), (f32(),), **NO_KERNEL),
    *unknown_here("STABLEHLO_BROADCAST_IN_DIM", ((3, 1),), ((2, 3, 4),), attrs={"broadcast_dimensions": (1, 2)}),
    Case("STABLEHLO_BROADCAST_IN_DIM", "crossed", (f32(1, 3),), (f32(2, 3, 2),), {"broadcast_dimensions": (2, 1)},
         **NO_KERNEL),
    Case("STABLEHLO_BROADCAST_IN_DIM", "scalar", (f32(),), (f32(2, 3),), **NO_KERNEL),
    *unknown_here("STABLEHLO_CONCATENATE", ((2, 3, 2), (2, 1, 2)), ((2, 4, 2),), attrs={"dimension": 1}),
    *unknown_here("STABLEHLO_SLICE", ((3, 8),), ((2, 2),),
                  attrs={"start_indices": (1, 4), "limit_indices": (3, 8), "strides": (1, 2)}),
    *unknown_here("STABLEHLO_DYNAMIC_SLICE", ((4, 4), i32(), i32()), ((2, 2),), attrs={"slice_sizes": (2, 2)},
                  values={1: -1, 2: 3}),
    *unknown_here("STABLEHLO_DYNAMIC_UPDATE_SLICE", ((4, 4), (2, 2), i32(), i32()), ((4, 4),), values={2: -1, 3: 3}),
    *each_type("STABLEHLO_PAD", ((5, 4), ()), ((7, 5),), TAKEN, attrs=PAD),
    Case("STABLEHLO_PAD", "border", (f32(2, 3), f32()), (f32(4, 6),), {"edge_padding_low": (1, 3),
         "edge_padding_high": (1, 0), "interior_padding": (0, 0)}),
    Case("STABLEHLO_PAD", "quantized", (i8(2, 3), i8()), (i8(6, 4),), {"edge_padding_low": (1, -2),
         "edge_padding_high": (2, 3), "interior_padding": (1, 0)}, steps=0),
    Case("STABLEHLO_PAD", "cut between", (f32(4), f32()), (f32(4),), {"edge_padding_low": (-4,),
         "edge_padding_high": (-2,), "interior_padding": (2,)}),
    Case("STABLEHLO_PAD", "cut away", (f32(3), f32()), (f32(1),), {"edge_padding_low": (-3,),
         "edge_padding_high": (-3,), "interior_padding": (2,)}),
    *each_type("DILATE", ((3, 4, 1), i32(3), ()), ((5, 10, 1),), TAKEN, constants={1: ints(2, 3, 4)}),
    Case("DILATE", "at run time", (f32(2, 3), i32(2), f32()), (f32(3, 3),), values={1: ints(2, 1)}),
    *(Case("STABLEHLO_IOTA", n, (), (kind(n, 3, 5, 2),), {"iota_dimension": 1}, **NO_KERNEL)
      for n in NUMBERS.split() if n != "bool"),
    Case("STABLEHLO_CUSTOM_CALL", "on one device", (f32(3, 4),), (f32(3, 4),), {"call_target_name": "Sharding"},
         **NO_KERNEL),
    *each_type("STABLEHLO_GATHER", ((3, 4, 2), i32(2, 3, 2)), ((2, 3, 2, 2),), SIZED, attrs=GATHER, values={1: PLACES}),
    Case("STABLEHLO_GATHER", "long places", (f32(3, 4, 2), kind("int64", 2, 3, 2)), (f32(2, 3, 2, 2),), GATHER,
         values={1: PLACES}),
    Case("STABLEHLO_GATHER", "one number a place", (f32(6, 3), i32(4)), (f32(3, 4),),
         {"offset_dims": (0,), "collapsed_slice_dims": (0,), "start_index_map": (0,), "index_vector_dim": 1,
          "slice_sizes": (1, 3)}, values={1: places(5, -2, 9, 1)}, **CRASHES),
    Case("STABLEHLO_GATHER", "vector in front", (f32(6, 3), i32(2, 4)), (f32(4, 2),),
         {"offset_dims": (1,), "collapsed_slice_dims": (1,), "start_index_map": (1, 0), "index_vector_dim": 0,
          "slice_sizes": (2, 1)}, low=-1, high=6),
    *(scatter("sum", "STABLEHLO_ADD", n, n != "bfloat16") for n in NUMBERS.split()),
    *(scatter(op.lower(), f"STABLEHLO_{op}") for op in ("MULTIPLY", "MAXIMUM", "MINIMUM")),
    scatter("replaced", "replace", "int32"),
    Case("STABLEHLO_SCATTER", "slices before places", (f32(4, 5), i32(3), f32(2, 3)), (f32(4, 5),),
         {"update_window_dims": (0,), "inserted_window_dims": (1,), "scatter_dims_to_operand_dims": (1,),
          "index_vector_dim": 1, "update_computation_subgraph_index": 1}, values={1: places(4, 0, 4)},
         graphs=(pairwise("STABLEHLO_ADD", FLOAT32),), **CRASHES),
    Case("STABLEHLO_SCATTER", "far away", (f32(3), kind("int64", 4, 1), f32(4, 2)), (f32(3),),
         {"update_window_dims": (1,), "scatter_dims_to_operand_dims": (0,), "index_vector_dim": 1,
          "update_computation_subgraph_index": 1}, values={1: places((1 << 63) - 1, -(1 << 63), -1, 2)},
         graphs=(replaced(FLOAT32),)),
    Case("STABLEHLO_SCATTER", "two at once", (f32(6), i32(6), i32(4), f32(4), i32(4)), (f32(6), i32(6)),
         {"inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (0,), "index_vector_dim": 1,
          "update_computation_subgraph_index": 1}, values={2: places(1, 5, 1, 6)},
         graphs=(greatest_and_place(FLOAT32, INT32),), **NO_KERNEL),
    *(window("sum", "STABLEHLO_ADD", n, WINDOW, (3, 2), (2, 2), n in ("float32", "float64", "int8", "uint8", "int16",
             "int32", "int64")) for n in NUMBERS.split() if n != "bool"),
    window("any", "STABLEHLO_OR", "bool", WINDOW, (3, 2), (2, 2), False),
    *(window("pool", op, n, POOL, (7, 9), (4, 9)) for n in ("float32", "int8")
      for op in ("ADD", "MUL", "MAXIMUM", "MINIMUM")[:1]),
    window("product", "MUL", "float32", POOL, (7, 9), (4, 9)),
    window("most", "STABLEHLO_MAXIMUM", "float32", POOL, (7, 9), (4, 9)),
    window("least", "STABLEHLO_MINIMUM", "float32", POOL, (7, 9), (4, 9)),
    window("cut", "STABLEHLO_ADD", "float32", POOL | {"padding": (-1, 0, -2, -1)}, (7, 9), (2, 2)),
    window("alone", "STABLEHLO_ADD", "float32", {"window_dimensions": (2, 3), "body_subgraph_index": 1}, (4, 5),
           (3, 3)),
    window("none", "STABLEHLO_ADD", "float32", WINDOW | {"window_dimensions": (9, 1)}, (3, 2), (0, 2), False),
    Case("STABLEHLO_REDUCE_WINDOW", "two at once", (f32(4, 6), i32(4, 6), f32(), i32()), (f32(2, 3), i32(2, 3)),
         {"window_dimensions": (2, 2), "window_strides": (2, 2), "base_dilations": (1, 1), "window_dilations": (1, 1),
          "padding": (0, 0, 0, 0), "body_subgraph_index": 1}, values={2: -np.inf, 3: -1},
         graphs=(greatest_and_place(FLOAT32, INT32),), **NO_KERNEL),
    *(reduce("sum", "STABLEHLO_ADD", n, (0, 2), (2, 3, 4), (3,)) for n in NUMBERS.split()),
    *(reduce(f"{op.lower()} last", f"STABLEHLO_{op}", "int32", (1,), (5, 33), (5,))
      for op in ("MULTIPLY", "MAXIMUM", "MINIMUM", "AND", "OR")),
    reduce("everything", "ADD", "float32", (0, 1), (3, 4), ()),
    reduce("nothing", "ADD", "float32", (), (3, 4), (3, 4)),
    reduce("of no elements", "ADD", "float32", (1,), (3, 0), (3,)),
    Case("STABLEHLO_REDUCE", "greatest and its place", (f32(3, 7), i32(3, 7), f32(), i32()), (f32(3), i32(3)),
         {"dimensions": (1,), "body_subgraph_index": 1}, values={2: -np.inf, 3: -1},
         graphs=(greatest_and_place(FLOAT32, INT32),), **NO_KERNEL),
    Case("STABLEHLO_REDUCE", "weighted", (f32(3, 7), f32()), (f32(7),), {"dimensions": (0,), "body_subgraph_index": 1},
         values={1: 0}, graphs=(weighted(FLOAT32),), **NO_KERNEL),
    *(old_window(f, n, s) for n in ("float32", "float64", "int8", "uint8", "int16", "int32", "int64")
      for f, s in (("ADD", 0), ("MINIMUM", 100))),
    *(old_window(f, n, s) for f, n, s in (("MUL", "float32", 1), ("MAXIMUM", "int32", -100), ("ALL", "bool", 1),
      ("ANY", "bool", 0))),
    *(sort("up", n, (3, 7)) for n in NUMBERS.split()),
    sort("down", "int32", (37,), "GT", 0),
    sort("middle", "int64", (2, 5, 3), "GT", 1),
    sort("one", "float32", (3, 1)),
    sort("pair", "float32", (3, 2)),
    sort("total order", "float32", (10,), values={0: np.array([1, -np.nan, 0.0, -0.0, np.inf, np.nan, -np.inf, 2, -1,
         0])}),
    sort("no order", "float32", (9,), "NE", low=0, high=1),
    Case("STABLEHLO_SORT", "keys and values", (i32(2, 19), f32(2, 19)), (i32(2, 19), f32(2, 19)),
         {"dimension": 1, "is_stable": True, "comparator_subgraph_index": 1}, low=0, high=3,
         graphs=(by_key("LT", INT32, FLOAT32),), **NO_KERNEL),
    *(bits(a, n, s, 5, 3) for n in ("int32", "uint32", "int64", "uint64") for a in ("DEFAULT", "PHILOX", "THREEFRY")
      for s in SEEDS[: 2 if a == "THREEFRY" else 3]),
    bits("PHILOX", "uint32", SEEDS[0], 3),
    bits("PHILOX", "int64", SEEDS[0], 1),
    bits("THREEFRY", "uint32", SEEDS[1], 1),
]  # fmt: skip
