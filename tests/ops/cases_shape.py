"""Shapes, views, copies, and tensors made from a few numbers."""

from __future__ import annotations

import numpy as np

from lithe.ops.layout import PLAIN
from lithe.types import DTYPES, DType, TensorType
from tests.ops.cases import Case, f32, i8, i32, tensor, u8

# The types that the official runtime's kernels of most operators take, and those of kernels that look at sizes only.
USUAL = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
HALVES = ("float16", "bfloat16")
SIZED = (*USUAL, *HALVES, "float64", "uint16", "uint32", "uint64", "complex64")
ANY = (*SIZED, "complex128", "string")


def kind(name: str, *shape: int) -> TensorType:
    return TensorType(DTYPES[name], shape)


def ints(*values: int, dtype: DType = DTYPES["int32"]) -> np.ndarray:
    return np.array(values, dtype.numpy)


def each_type(
    op: str, inputs: tuple, outputs: tuple, known: tuple[str, ...] = USUAL, suffix: str = "", **more: object
) -> list[Case]:
    """A row for every plain type; a shape in the place of a type takes that type."""

    def typed(places: tuple, name: str) -> tuple:
        return tuple(kind(name, *p) if not isinstance(p, TensorType) else p for p in places)

    return [
        Case(op, name + suffix, typed(inputs, name), typed(outputs, name), official=name in known,
             reason="" if name in known else "the official kernel does not take this type", **more)
        for name in PLAIN.split()
    ]  # fmt: skip


HOT = ("float32", "int8", "uint8", "int32", "int64", "bool")
AXES = {1: ints(2, 0, 1)}
CASES = [
    *each_type("RESHAPE", ((2, 3, 4), i32(2)), ((6, 4),), ANY, constants={1: ints(-1, 4)}),
    Case("RESHAPE", "attribute", (f32(2, 3, 4),), (f32(8, 3),), {"new_shape": (8, -1)}),
    Case("RESHAPE", "scalar", (f32(1, 1),), (f32(),), {"new_shape": (0,)}),
    Case("RESHAPE", "shape at run time", (f32(2, 6), i32(3)), (f32(2, 2, 3),), values={1: ints(2, -1, 3)}),
    *each_type("SQUEEZE", ((1, 3, 1, 4),), ((3, 4),), ANY),
    Case("SQUEEZE", "some", (f32(1, 3, 1, 4),), (f32(1, 3, 4),), {"squeeze_dims": (-2,)}),
    *each_type("EXPAND_DIMS", ((3, 4), i32()), ((3, 1, 4),), ANY, constants={1: ints(1)}),
    Case("EXPAND_DIMS", "last", (f32(3, 4), i32(1)), (f32(3, 4, 1),), constants={1: ints(-1)}),
    *each_type("SHAPE", ((3, 4, 1),), (i32(3),), ANY),
    Case("SHAPE", "int64 result", (f32(3, 4, 1),), (kind("int64", 3),), {"out_type": DTYPES["int64"]}),
    *each_type("RANK", ((3, 4, 1),), (i32(),), ANY),
    Case("BROADCAST_ARGS", "int32", (i32(3), i32(2)), (i32(3),), values={0: ints(5, 1, 4), 1: ints(3, 1)}),
    Case("BROADCAST_ARGS", "int64", (kind("int64", 1), kind("int64", 3)), (kind("int64", 3),),
         values={0: ints(4), 1: ints(2, 1, 4)}),
    *each_type("BROADCAST_TO", ((3, 1, 4), i32(4)), ((2, 3, 5, 4),), ANY[:-1], constants={1: ints(2, 3, 5, 4)}),
    Case("BROADCAST_TO", "from a scalar", (f32(), i32(2)), (f32(2, 3),), constants={1: ints(2, 3)}),
    *each_type("TILE", ((2, 3), i32(2)), ((4, 9),), (*SIZED, "string"), constants={1: ints(2, 3)}),
    Case("TILE", "one axis", (f32(2, 1, 3), i32(3)), (f32(2, 5, 3),), constants={1: ints(1, 5, 1)}),
    *each_type("FILL", (i32(2), ()), ((3, 5),), SIZED, constants={0: ints(3, 5)}),
    Case("FILL", "int64 dims", (kind("int64", 1), f32()), (f32(3),), constants={0: ints(3)}),
    *each_type("ZEROS_LIKE", ((3, 4),), ((3, 4),), ("float32", "int32", "int64")),
    Case("RANGE", "float32", (f32(), f32(), f32()), (f32(7),), constants={0: 1.0, 1: 3.0, 2: 0.3}),
    Case("RANGE", "int32", (i32(), i32(), i32()), (i32(4),), constants={0: 3, 1: 14, 2: 3}),
    Case("RANGE", "down", (i32(), i32(), i32()), (i32(4),), constants={0: 9, 1: -2, 2: -3}),
    Case("RANGE", "int64", (kind("int64"),) * 3, (kind("int64", 3),), constants={0: 3, 1: 6, 2: 1}),
    *each_type("ONE_HOT", (i32(2, 3), i32(), (), ()), ((2, 4, 3),), HOT, attrs={"axis": 1}, constants={1: ints(4)},
               values={0: ints(0, 3, 7, 2, -1, 1)}),
    *(Case("ONE_HOT", f"{n} of int64", (kind("int64", 2, 3), i32(), kind(n), kind(n)), (kind(n, 2, 4, 3),), {"axis": 1},
           constants={1: ints(4)}, values={0: ints(0, 3, 7, 2, 9, 1)}) for n in HOT),
    Case("ONE_HOT", "last axis", (i32(2, 3), i32(), f32(), f32()), (f32(2, 3, 5),),
         constants={1: ints(5)}, low=0, high=6),
    *each_type("TRANSPOSE", ((2, 3, 4), i32(3)), ((4, 2, 3),), SIZED, constants=AXES),
    Case("TRANSPOSE", "channels last to first", (i8(1, 5, 7, 3), i32(4)), (i8(1, 3, 5, 7),),
         constants={1: ints(0, 3, 1, 2)}),
    Case("TRANSPOSE", "five axes", (f32(2, 3, 1, 4, 5), i32(5)), (f32(4, 2, 1, 5, 3),),
         constants={1: ints(3, 0, 2, -1, 1)}),
    *each_type("REVERSE_V2", ((2, 3, 4), i32(1)), ((2, 3, 4),), (*USUAL, *HALVES), constants={1: ints(1)}),
    Case("REVERSE_V2", "last axis", (f32(2, 3, 4), i32(1)), (f32(2, 3, 4),), constants={1: ints(-1)}),
    *each_type("CONCATENATION", ((2, 3, 2), (2, 1, 2)), ((2, 4, 2),), (*USUAL, *HALVES, "uint32"),
               attrs={"axis": 1}),
    Case("CONCATENATION", "last axis", (f32(2, 3), f32(2, 1), f32(2, 6)), (f32(2, 10),), {"axis": -1}),
    Case("CONCATENATION", "quantized", (i8(2, 3), i8(2, 1)), (i8(2, 4),), {"axis": 1}, steps=0),
    Case("CONCATENATION", "rescaled", (u8(2, 3), u8(2, 40, scale=0.021, zero_point=17)),
         (u8(2, 43, scale=0.06, zero_point=99),), {"axis": 1}, steps=0),
    Case("CONCATENATION", "with a relu", (f32(2, 3), f32(2, 1)), (f32(2, 4),),
         {"axis": 1, "fused_activation_function": "RELU"}, official=False,
         reason="the official kernel refuses fused activations"),
    Case("CONCATENATION", "quantized with a relu6", (i8(2, 30), i8(2, 1)), (i8(2, 31),),
         {"axis": 1, "fused_activation_function": "RELU6"}, official=False,
         reason="the official kernel refuses fused activations"),
    *each_type("PACK", ((2, 3), (2, 3)), ((2, 2, 3),), (*USUAL[:6], "uint32"), attrs={"axis": 1, "values_count": 2}),
    Case("PACK", "last axis", (f32(2, 3), f32(2, 3)), (f32(2, 3, 2),), {"axis": -1, "values_count": 2}),
    *each_type("UNPACK", ((3, 2, 4),), ((3, 4), (3, 4)),
               ("float32", "int8", "uint8", "int16", "int32", "bool", *HALVES), attrs={"axis": 1, "num": 2}),
    Case("UNPACK", "texts", (kind("string", 2),), (kind("string"), kind("string")), {"num": 2}, official=False,
         reason="the official kernel does not take this type"),
    *each_type("SPLIT_V", ((2, 6), i32(3), i32()), ((2, 1), (2, 3), (2, 2)), USUAL[:6],
               attrs={"num_splits": 3}, constants={1: ints(1, -1, 2), 2: ints(1)}),
    Case("SPLIT_V", "int64 sizes", (f32(6, 2), kind("int64", 2), i32()), (f32(4, 2), f32(2, 2)),
         {"num_splits": 2}, constants={1: ints(4, 2), 2: ints(-2)}),
    *each_type("SPLIT", (i32(), (2, 6, 3)), ((2, 2, 3),) * 3, USUAL[:6], attrs={"num_splits": 3},
               constants={0: ints(1)}),
    Case("SPLIT", "first axis", (i32(), f32(4, 3)), (f32(1, 3),) * 4, {"num_splits": 4}, {0: ints(-2)}),
    Case("TILE", "quantized", (tensor(DTYPES["int8"], 2, 2, scale=0.5), i32(2)),
         (tensor(DTYPES["int8"], 2, 6, scale=0.5),), constants={1: ints(1, 3)}, steps=0),
]  # fmt: skip
