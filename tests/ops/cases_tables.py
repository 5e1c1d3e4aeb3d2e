"""Tables: filled once and looked up, lying open as tensors, and embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ops.hash_tables import Table
from lithe.ops.layout import PLAIN
from lithe.types import BOOL, FLOAT32, INT32, INT64, RESOURCE, STRING, DType, TensorType
from tests.ops.cases import Case, f32, i32, tensor
from tests.ops.cases_shape import kind

HANDLE = TensorType(RESOURCE, (1,))
ALONE = "a handle is made by another operator; whole models are compared in test_tables.py"
HASHED = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "bool")
UNKNOWN = ("float8_e4m3fn", "float8_e5m2", "int2")
WORDS, NUMBERS = {b"one": 1, b"two": 2}, {1: b"one", 2: b"two", -7: b""}


def table(op: str, name: str, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...], **more: Any) -> Case:
    values = {0: np.array(["table:3"], object), **more.pop("values", {})}
    return Case(op, name, (HANDLE, *inputs), outputs, values=values, official=False, reason=ALONE, **more)


def filled(keys: DType, values: DType, entries: dict[Any, Any] | None) -> dict[str, Any]:
    return {"resources": {"table:3": Table(keys, values, entries)}}


def sparse(name: str, combiner: str) -> Case:
    types = (i32(5), i32(5, 3), i32(3), f32(5), f32(4, 2, 3))
    indices = np.array([[0, 1, 0], [0, 1, 2], [2, 0, 1], [2, 1, 0], [2, 1, 1]])
    given = {0: np.array([1, 3, 0, 1, 3]), 1: indices, 3: np.array([0.5, 2, -1, 3, 0.25])}
    return Case("EMBEDDING_LOOKUP_SPARSE", name, types, (f32(3, 2, 2, 3),), {"combiner": combiner},
                constants={2: np.array([3, 2, 9])}, values=given, tolerance=1e-6)  # fmt: skip


CASES = [
    Case("HASHTABLE", "words", (), (HANDLE,), {"table_id": 3, "key_dtype": STRING, "value_dtype": INT64},
         official=False, reason="the official runtime gives out no handles"),
    table("HASHTABLE_IMPORT", "words", (kind("string", 2), kind("int64", 2)), (), **filled(STRING, INT64, None),
          values={1: np.array([b"a", b""], object)}),
    table("HASHTABLE_IMPORT", "numbers", (kind("int64", 2), kind("string", 2)), (), **filled(INT64, STRING, None)),
    table("HASHTABLE_FIND", "words", (kind("string", 2, 2), kind("int64", 1)), (kind("int64", 2, 2),),
          **filled(STRING, INT64, WORDS), values={1: np.array([b"two", b"", b"one", b"no"], object)}),
    table("HASHTABLE_FIND", "numbers", (kind("int64", 3), kind("string")), (kind("string", 3),),
          **filled(INT64, STRING, NUMBERS), values={1: np.array([2, 9, -7])}),
    *(table("HASHTABLE_FIND", f"int32 to {v}", (i32(3), kind(str(v), 1)), (kind(str(v), 3),),
            **filled(INT32, v, {1: v.numpy.type(1)}), values={1: np.array([1, 5, 1])}) for v in (BOOL, FLOAT32, INT32)),
    table("HASHTABLE_SIZE", "two", (), (kind("int64", 1),), **filled(STRING, INT64, WORDS)),
    *(Case("HASHTABLE_LOOKUP", n, (i32(5), i32(4), kind(n, 4, *rows)), (kind(n, 5, *rows), kind("uint8", 5)), steps=0,
           values={0: np.array([3, -9, 12, 70, 0]), 1: np.array([-9, 0, 3, 12])}, official=n not in UNKNOWN,
           reason="the official runtime has no such tensors" if n in UNKNOWN else "")
      for n in PLAIN.split() for rows in [() if n == "string" else (2, 3)]),
    Case("HASHTABLE_LOOKUP", "many keys", (i32(40), i32(64), f32(64)), (f32(40), kind("uint8", 40)),
         values={1: np.arange(-64, 64, 2)}),
    sparse("sum", "SUM"),
    sparse("mean", "MEAN"),
    sparse("sqrtn", "SQRTN"),
    Case("EMBEDDING_LOOKUP_SPARSE", "one place", (i32(3), i32(3, 1), i32(1), f32(3), f32(4, 2)), (f32(2),),
         {"combiner": "MEAN"}, values={0: np.array([0, 3, 3]), 1: np.zeros((3, 1)), 2: np.array([3])}),
    *(Case("LSH_PROJECTION", f"{t} {n}", (f32(3, 4), kind(n, 5, 2), f32(5)), (i32(3 if t == "SPARSE" else 12),),
           {"type": t}, steps=0)
      for t in ("SPARSE", "DENSE") for n in HASHED),
    Case("LSH_PROJECTION", "no weights", (f32(2, 16), tensor(INT64, 7)), (i32(2),), steps=0),
    *(Case("LSH_PROJECTION", f"long items {n}", (f32(2, 5), kind("uint8", 3, n), f32(3)), (i32(10),),
           {"type": "DENSE"}, steps=0) for n in (1, 4, 9, 30, 60, 61, 200)),
    Case("LSH_PROJECTION", "all bits", (f32(1, 32), i32(4), f32(4)), (i32(1),), steps=0),
]  # fmt: skip
