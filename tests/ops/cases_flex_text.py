"""TensorFlow's operators on text. Their expected values are in test_flex_text.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.types import TensorType
from tests.ops.cases import Case, i32
from tests.ops.cases_shape import kind
from tests.ops.cases_text import string, texts

REASON = "the official runtime leaves these to TensorFlow"


def flex(
    op: str, name: str, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...], values: dict[int, Any],
    **attributes: Any,
) -> Case:  # fmt: skip
    attrs = {"name": "node", "op": op, "attributes": attributes}
    return Case(f"Flex{op}", name, inputs, outputs, attrs, values=values, official=False, reason=REASON)


def points(text: str) -> np.ndarray:
    return np.array([ord(c) for c in text], np.int32)


def long(*shape: int) -> TensorType:
    return kind("int64", *shape)


CASES = [
    flex("UnicodeDecodeWithOffsets", "two", (string(2),), (long(3), i32(5), long(5)),
         {0: texts("a\u00e9b", "\u6f22c")}),
    flex("UnicodeEncode", "two", (i32(5), long(3)), (string(2),), {0: points("a\u00e9b\u6f22c"), 1: [0, 3, 5]}),
    flex("WhitespaceTokenizeWithOffsets", "two", (i32(7), long(3)), (i32(5), long(4), long(3), long(3), long(3)),
         {0: points("ab c de"), 1: np.array([0, 4, 7])}),
    *(flex("RaggedRange", n, (kind(n, 3), kind(n), kind(n)), (i32(4), kind(n, 7)), {0: [0, 5, 3], 1: 5, 2: 1})
      for n in ("float32", "float64", "int32", "int64")),
    flex("StringToHashBucketFast", "two", (string(2),), (long(2),), {}, num_buckets=10),
]  # fmt: skip
