"""Text: words, n-grams, ragged tensors, SentencePiece, replies. Expected values of custom operators: test_text.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ops.layout import PLAIN
from lithe.types import UINT8, TensorType
from tests.ops.cases import Case, f32, i32, tensor
from tests.ops.cases_shape import kind
from tests.ops.sentencepieces import decoder, encoder

CUSTOM = "the official runtime has no kernels of custom operators of text"
PIECES = {"<unk>": 0.0, "\u2581a": -1.0, "\u2581b": -2.0, "a": -3.0, "b": -3.5, "ab": -2.5, "\u2581": -4.0}


def texts(*values: str) -> np.ndarray:
    return np.array([v.encode() for v in values], object)


def string(*shape: int) -> TensorType:
    return kind("string", *shape)


def custom(
    op: str, name: str, inputs: tuple[Any, ...], outputs: tuple[Any, ...], values: dict[int, Any], **attrs: Any
) -> Case:
    return Case(op, name, inputs, outputs, attrs, values=values, official=False, reason=CUSTOM)


def skip_grams(name: str, text: str, count: int, **attrs: Any) -> Case:
    return Case("SKIP_GRAM", name, (string(1),), (string(count),), attrs, values={0: texts(text)})


def tokenizer(op: str, name: str, counts: tuple[int, int], begin: bool, end: bool, reverse: bool) -> Case:
    model = encoder(PIECES)
    flags = (tensor(UINT8, len(model)), string(2), i32(), f32(), kind("bool"), kind("bool"), kind("bool"))
    values = {0: model, 1: texts("ab a", "ba"), 4: begin, 5: end, 6: reverse}
    return custom(op, name, flags, (i32(counts[0]), i32(counts[1])), values)


def detokenizer(op: str) -> Case:
    model = decoder([" he", "llo", " you"])
    values = {0: model, 1: np.array([0, 1, 2, 2]), 2: np.array([0, 3, 3, 4])}
    return custom(op, "rows", (tensor(UINT8, len(model)), i32(4), i32(4)), (string(3),), values)


SENTENCE = "The quick\tbrown fox  jumps"
SPACES = bytes([0, 0x3E, 0, 0, 1])  # bits of the code points 9 to 13 and 32
SPLITS = {"row_partition_types": ("ROW_SPLITS",)}
CASES = [
    skip_grams("two", SENTENCE, 4, ngram_size=2),
    skip_grams("three of all", SENTENCE, 20, ngram_size=3, max_skip_size=1, include_all_ngrams=True),
    skip_grams("long skips", SENTENCE, 10, ngram_size=3, max_skip_size=9),
    skip_grams("first word lost", " one two three", 1, ngram_size=2),
    skip_grams("one word", " one", 1, ngram_size=1),
    custom("tftext:WhitespaceTokenizer", "padded", (string(2),), (string(2, 3),), {0: texts("a b", "c  d\u3000e")}),
    custom("tftext:WhitespaceTokenizer", "ragged", (string(2, 1),), (string(3), kind("int64", 3), kind("int64", 3)),
           {0: texts(" a", "b c ")}),
    custom("tftext:Ngrams", "tensor", (string(2, 3),), (string(2, 2),), {}, width=2, string_separator="_"),
    custom("tftext:Ngrams", "ragged", (string(5), kind("int64", 4)), (string(3), kind("int64", 4)),
           {1: np.array([0, 3, 3, 5])}, width=2, string_separator=""),
    *(custom("RaggedTensorToTensor", f"{n} {i}", (kind(i), kind(n, 6), kind(n), kind(i, 4)), (kind(n, 3, 4),),
             {0: -1, 3: np.array([0, 4, 4, 6])}, **SPLITS) for n in PLAIN.split() for i in ("int32", "int64")),
    *(tokenizer(op, *row) for op in ("TFSentencepieceTokenizeOp", "TFText>FastSentencepieceTokenize")
      for row in (("plain", (5, 3), False, False, False), ("marked", (9, 3), True, True, True))),
    *(detokenizer(op) for op in ("TFSentencepieceDetokenizeOp", "TFText>FastSentencepieceDetokenize")),
    custom("TFText>WhitespaceTokenizeWithOffsetsV2", "two", (string(2), string()),
           (string(3), kind("int64", 3), i32(3), i32(3)), {0: texts("a bb", "c"), 1: np.array(SPACES, object)}),
    custom("TFText>ByteSplitWithOffsets", "two", (string(2),), (kind("uint8", 3), kind("int64", 3), i32(3), i32(3)),
           {0: texts("ab", "c")}),
    custom("TFText>NgramsStringJoin", "tensor", (string(2, 3),), (string(2, 2),), {}, width=2),
    custom("Normalize", "sentence", (string(1),), (string(1),), {0: texts("I'm good; you're welcome")}),
    custom("ExtractFeatures", "grams", (string(3),), (i32(3), f32(3)), {0: texts("<S>", "Hi", "Hi !")}),
    custom("Predict", "two", (i32(4), i32(5), i32(5, 2), f32(5, 2)), (i32(2), f32(2)),
           {0: np.array([1, 3, 7, 9]), 1: np.array([1, 2, 4, 6, 7])}, num_output=2, weight_threshold=0.1),
]  # fmt: skip
