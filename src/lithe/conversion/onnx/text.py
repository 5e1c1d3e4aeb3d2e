"""What ONNX's operators of strings are in builtins: few take strings."""

from __future__ import annotations

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, rule
from lithe.ir.graph import Tensor


@rule("StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch", "TfIdfVectorizer", "ImageDecoder")
def of_strings(b: Builder, c: Call) -> Tensor:
    b.require(False, "no builtin looks into strings")
    raise AssertionError
