"""TensorFlow's operators on text: expected values from TensorFlow's documentation, a whole model, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.lite import Interpreter
from lithe.ops import RuleViolation
from lithe.ops.farm_hash import fingerprint_of
from lithe.ops.flex.operators import flex_class
from lithe.ops.text.tokens import whitespace_tokens
from tests.ops.cases import Case, f32, i32
from tests.ops.cases_flex_text import flex, long, points
from tests.ops.cases_shape import kind
from tests.ops.cases_text import string


def evaluated(case: Case) -> list[Any]:
    case.operator.infer(case.site())
    return [result.tolist() for result in case.operator.evaluate(case.site(), *case.arrays())]


def decoded(text: bytes, **attributes: Any) -> list[Any]:
    given = np.array([text], object)
    return evaluated(
        flex("UnicodeDecodeWithOffsets", "x", (string(1),), (long(2), i32(1), long(1)), {0: given}, **attributes)
    )


@pytest.mark.parametrize(
    ("text", "attributes", "expected", "starts"),
    [
        ("G\u00f6d 1\U0001f600".encode(), {}, "G\u00f6d 1\U0001f600", [0, 1, 3, 4, 5, 6]),
        (b"a\xffb", {}, "a\ufffdb", [0, 1, 2]),
        (b"a\xe6\xbcb\xe6", {"errors": b"replace", "replacement_char": 63}, "a?b?", [0, 1, 3, 4]),
        (b"a\xffb", {"errors": b"ignore"}, "ab", [0, 2]),
        (b"a\nb", {"replace_control_characters": True}, "a\ufffdb", [0, 1, 2]),
        ("\u6f22\U0001f600c".encode("utf-16-be"), {"input_encoding": b"UTF-16-BE"}, "\u6f22\U0001f600c", [0, 2, 6]),
        ("\u6f22c".encode("utf-32-be"), {"input_encoding": b"UTF-32-BE"}, "\u6f22c", [0, 4]),
        (b"", {}, "", []),
    ],
)
def test_code_points(text: bytes, attributes: dict[str, Any], expected: str, starts: list[int]) -> None:
    assert decoded(text, **attributes) == [[0, len(expected)], points(expected).tolist(), starts]


def test_code_points_of_long_text() -> None:
    """Characters that lie across the borders of what is decoded at once."""
    for shift in range(4):
        text = "x" * shift + "\U0001f600\u6f22\u00e9" * 200
        assert decoded(text.encode())[1] == points(text).tolist()


def encoded(given: list[int], splits: list[int], **attributes: Any) -> list[Any]:
    types = (i32(len(given)), long(len(splits)))
    values = {0: np.array(given), 1: np.array(splits, np.int64)}
    return evaluated(flex("UnicodeEncode", "x", types, (string(len(splits) - 1),), values, **attributes))


def test_code_points_as_text() -> None:
    assert encoded([72, 228, 0x1F600], [0, 2, 2, 3]) == [["H\u00e4".encode(), b"", "\U0001f600".encode()]]
    assert encoded([72, 0xD800, -1, 0x110000], [0, 4]) == [["H\ufffd\ufffd\ufffd".encode()]]
    assert encoded([72, 0xD800], [0, 2], errors=b"ignore") == [[b"H"]]
    assert encoded([0x6F22], [0, 1], output_encoding=b"UTF-16-BE") == [[b"\x6f\x22"]]
    with pytest.raises(ExecutionError, match="55296 is no Unicode character"):
        encoded([0xD800], [0, 1], errors=b"strict")
    for splits in ([], [0, 1], [1, 2], [0, 2, 1, 2]):
        with pytest.raises(ExecutionError, match="row splits must rise from 0 to 2"):
            encoded([65, 66], splits)


def test_text_that_must_be_right() -> None:
    assert decoded(b"ab", errors=b"strict")[1] == [97, 98]
    with pytest.raises(ExecutionError, match="is not UTF-8: invalid start byte, byte 301"):
        decoded(b"a" * 301 + b"\xff", errors=b"strict")


def test_words_and_their_places() -> None:
    """The second row has no word."""
    given, splits = points(" ab  c\u3000  d"), np.array([0, 7, 9, 10])
    types = ((i32(10), long(4)), (i32(4), long(4), long(3), long(3), long(4)))
    got = evaluated(flex("WhitespaceTokenizeWithOffsets", "x", *types, {0: given, 1: splits}))
    assert got == [points("abcd").tolist(), [0, 2, 3, 4], [1, 5, 0], [3, 6, 1], [0, 2, 2, 3]]


def ranges(starts: Any, limits: Any, deltas: Any, dtype: str = "int32") -> list[Any]:
    operands = [np.array(v) for v in (starts, limits, deltas)]
    types = tuple(kind(dtype, *v.shape) for v in operands)
    return evaluated(flex("RaggedRange", "x", types, (long(1), kind(dtype, 1)), dict(enumerate(operands))))


def test_ranges() -> None:
    """The first is from TensorFlow's documentation of ragged.range."""
    assert ranges([0, 5, 8], [3, 3, 12], 1) == [[0, 3, 3, 7], [0, 1, 2, 8, 9, 10, 11]]
    assert ranges([0, 5, 8], [3, 3, 12], [2, -1, 3]) == [[0, 2, 4, 6], [0, 2, 5, 4, 8, 11]]
    assert ranges(1, 2, 0.25, "float32") == [[0, 4], [1.0, 1.25, 1.5, 1.75]]
    assert ranges([], [], 1) == [[0], []]
    with pytest.raises(ExecutionError, match="deltas must not be 0"):
        ranges(1, 2, 0)
    with pytest.raises(ExecutionError, match="more than the"):
        ranges(0, (1 << 31) - 1, 1)
    with pytest.raises(ExecutionError, match="has no end"):
        ranges(0.0, float("inf"), 1.0, "float32")


def test_buckets_are_fingerprints() -> None:
    given = np.array([b"Hello", b"TensorFlow", b"2.x"], object)
    case = flex("StringToHashBucketFast", "x", (string(3),), (long(3),), {0: given}, num_buckets=1000)
    assert evaluated(case) == [[fingerprint_of(text) % 1000 for text in given]]
    fewer = flex("StringToHashBucketFast", "x", (string(3),), (long(3),), {0: given}, num_buckets=3)
    assert evaluated(fewer) == [[0, 2, 2]]  # as TensorFlow's documentation of strings.to_hash_bucket_fast has it


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("input_encoding must be", flex("UnicodeDecodeWithOffsets", "", (string(1),), (), {}, input_encoding=b"ASCII")),
        ("errors must be", flex("UnicodeDecodeWithOffsets", "", (string(1),), (), {}, errors=b"?")),
        ("replacement_char must be", flex("UnicodeEncode", "", (i32(1), long(2)), (), {}, replacement_char=0xD800)),
        (r"have \[2, 3\] rows", flex("RaggedRange", "", (f32(2), f32(3), f32()), (), {})),
        ("num_buckets must be", flex("StringToHashBucketFast", "", (string(1),), (), {})),
    ],
)
def test_rules(words: str, case: Case) -> None:
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


def test_names_of_damaged_files() -> None:
    assert flex_class("Flex\0x").name == "Flex\0x"


def test_model_that_needs_no_tensorflow(corpus: Path) -> None:
    """Splits a sentence by TensorFlow's operators; the words are those of the operator made for it."""
    interpreter = Interpreter(str(corpus / "models/text/whitespace_tokenizer_flex_delegate.tflite"))
    interpreter.allocate_tensors()
    words, splits = (d["index"] for d in interpreter.get_output_details())
    for text in ("The quick\tbrown fox  jumps", "caf\u00e9 \u6f22\u5b57\u3000x", "a", " ", ""):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.array([text.encode()], object))
        interpreter.invoke()
        expected = whitespace_tokens(text.encode())
        assert interpreter.get_tensor(words).tolist() == expected
        assert interpreter.get_tensor(splits).tolist() == [0, len(expected)]
