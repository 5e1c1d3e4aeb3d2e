"""Operators on text: expected values from the tests of the projects that made them, whole models, and refusals."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError, ModelError
from lithe.lite import CustomOps, Interpreter, InterpreterWithCustomOps
from lithe.ops import REGISTRY, Op, RuleViolation, Site
from lithe.ops.farm_hash import fingerprint_of
from lithe.ops.text.sentencepiece import Encoder
from lithe.types import Shape
from tests.ops.cases import Case, f32, i32
from tests.ops.cases_shape import kind
from tests.ops.cases_text import PIECES, SENTENCE, SPACES, custom, skip_grams, string, texts
from tests.ops.sentencepieces import decoder, encoder


def evaluated(case: Case) -> list[Any]:
    case.operator.infer(case.site())
    return [result.tolist() for result in case.operator.evaluate(case.site(), *case.arrays())]


def plain(values: Any) -> Any:
    """bytes as str, in lists."""
    return [plain(v) for v in values] if isinstance(values, list) else values.decode()


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["this is a test"], [["this", "is", "a", "test"]]),
        (["this is a test", "three token sentence"], [["this", "is", "a", "test"], ["three", "token", "sentence", ""]]),
        (["\ta\u00a0b\u2003c\u3000", ""], [["a", "b", "c"], ["", "", ""]]),
        (["", " "], [[], []]),
        (["caf\u00e9 \u6f22\u5b57"], [["caf\u00e9", "\u6f22\u5b57"]]),
    ],
)
def test_words_padded(given: list[str], expected: list[list[str]]) -> None:
    """The first two are from the tests of TensorFlow Lite Support."""
    shape = (len(expected), len(expected[0]))
    case = custom("tftext:WhitespaceTokenizer", "x", (string(len(given)),), (string(*shape),), {0: texts(*given)})
    assert plain(evaluated(case)[0]) == expected


def test_words_of_a_matrix_are_ragged() -> None:
    """From the tests of TensorFlow Lite Support."""
    given = texts("a b c", "d e f", "g h", "i j k l", "m", "n o p q r").reshape(3, 2)
    outputs = (string(18), kind("int64", 4), kind("int64", 7))
    words, outer, inner = evaluated(custom("tftext:WhitespaceTokenizer", "x", (string(3, 2),), outputs, {0: given}))
    assert plain(words) == list("abcdefghijklmnopqr")
    assert (outer, inner) == ([0, 2, 4, 6], [0, 3, 6, 8, 12, 13, 18])


def test_words_end_where_the_text_is_no_utf8() -> None:
    given = np.array([b"one tw\xffo three", "one \ufffd two".encode()], object)
    case = custom("tftext:WhitespaceTokenizer", "x", (string(2),), (string(2, 2),), {0: given})
    assert plain(evaluated(case)[0]) == [["one", "tw"], ["one", ""]]


def test_words_with_their_places() -> None:
    """From TensorFlow Text's documentation: its configuration says which characters part words."""
    given = np.array([b"a bb ccc", b" \xff\xc3\xa9 ", b""], object)
    types = ((string(3), string()), (string(4), kind("int64", 4), i32(4), i32(4)))
    case = custom("TFText>WhitespaceTokenizeWithOffsetsV2", "x", *types, {0: given, 1: np.array(SPACES, object)})
    words = [b"a", b"bb", b"ccc", b"\xff\xc3\xa9"]
    assert evaluated(case) == [words, [0, 3, 4, 4], [0, 2, 5, 1], [1, 4, 8, 4]]


def test_bytes_with_their_places() -> None:
    types = ((string(3),), (kind("uint8", 4), kind("int64", 4), i32(4), i32(4)))
    case = custom("TFText>ByteSplitWithOffsets", "x", *types, {0: texts("\u00e9", "", "ab")})
    assert evaluated(case) == [[0xC3, 0xA9, 97, 98], [0, 2, 2, 4], [0, 1, 0, 1], [1, 2, 1, 2]]


@pytest.mark.parametrize(
    ("width", "separator", "expected"),
    [
        (2, " ", ["this is", "is a", "a test"]),
        (3, " ", ["this is a", "is a test"]),
        (2, "...", ["this...is", "is...a", "a...test"]),
        (5, " ", []),
    ],
)
def test_ngrams(width: int, separator: str, expected: list[str]) -> None:
    """From the tests of TensorFlow Lite Support: of a row, and of a ragged tensor with this row."""
    words, attrs = texts("this", "is", "a", "test"), {"width": width, "string_separator": separator}
    count = len(expected)
    assert (
        plain(evaluated(custom("tftext:Ngrams", "x", (string(4),), (string(count),), {0: words}, **attrs))[0])
        == expected
    )
    types = ((string(4), kind("int64", 2)), (string(count), kind("int64", 2)))
    grams, splits = evaluated(custom("tftext:Ngrams", "x", *types, {0: words, 1: np.array([0, 4])}, **attrs))
    assert (plain(grams), splits) == (expected, [0, count])


def test_ngrams_leave_outer_row_splits() -> None:
    types = (string(6), kind("int64", 3), kind("int64", 4))
    values = {0: texts(*"abcdef"), 1: np.array([0, 1, 3]), 2: np.array([0, 3, 4, 6])}
    grams, *splits = evaluated(custom("tftext:Ngrams", "x", types, (string(3), *types[1:]), values, width=2))
    assert (plain(grams), splits) == (["a b", "b c", "e f"], [[0, 1, 3], [0, 2, 2, 3]])


def test_skip_grams_are_in_the_official_order(monkeypatch: pytest.MonkeyPatch) -> None:
    case = skip_grams("x", "a b c", 5, ngram_size=2, max_skip_size=1, include_all_ngrams=True)
    assert plain(evaluated(case)[0]) == ["a b", "a c", "a", "b c", "b", "c"]
    assert evaluated(skip_grams("x", "a", 0, ngram_size=2)) == [[]]
    few = skip_grams("x", "w " * 60, 60, ngram_size=59, max_skip_size=50)  # of very many that end too early
    assert len(evaluated(few)[0]) == 60
    monkeypatch.setattr("lithe.ops.text.tokens.MOST_STRINGS", 100)
    with pytest.raises(ExecutionError, match="more than 100 skip grams"):
        evaluated(skip_grams("x", "w " * 60, 0, ngram_size=9, max_skip_size=50))


# -- ragged tensors --------------------------------------------------------------------------------------------------

NINE = [1, 2, 3, 4, 5, 6, 7, 8, 9]
DEEP = [[[0] * 3] * 2, [[1, 2, 0], [3, 0, 0]], [[0] * 3] * 2, [[4, 5, 0], [6, 7, 8]], [[9, 0, 0], [0] * 3]]


@pytest.mark.parametrize(
    ("kinds", "partition", "shape", "expected"),
    [
        (("FIRST_DIM_SIZE", "VALUE_ROWIDS"), [[4], [0, 0, 0, 2, 2, 2, 2, 3, 3]], [4, 4],
         [[1, 2, 3, 0], [0, 0, 0, 0], [4, 5, 6, 7], [8, 9, 0, 0]]),
        (("ROW_SPLITS",), [[0, 3, 3, 7, 9]], [4, 4], [[1, 2, 3, 0], [0, 0, 0, 0], [4, 5, 6, 7], [8, 9, 0, 0]]),
        (("ROW_SPLITS",), [[0, 3, 3, 7, 9]], [-1, 2], [[1, 2], [0, 0], [4, 5], [8, 9]]),
        (("FIRST_DIM_SIZE", "VALUE_ROWIDS"), [[4], [0, 0, 0, 2, 2, 2, 2, 3, 3]], [3, 5],
         [[1, 2, 3, 0, 0], [0, 0, 0, 0, 0], [4, 5, 6, 7, 0]]),
        (("FIRST_DIM_SIZE", "VALUE_ROWIDS", "VALUE_ROWIDS"), [[5], [0, 1, 1, 3, 3, 4], [1, 1, 2, 3, 3, 4, 4, 4, 5]],
         [5, 2, 3], DEEP),
        (("ROW_SPLITS", "ROW_SPLITS"), [[0, 1, 3, 3, 5, 6], [0, 0, 2, 3, 5, 8, 9]], [-1, -1, -1],
         DEEP),
    ],
)  # fmt: skip
def test_ragged_tensors_filled_up(
    kinds: tuple[str, ...], partition: list[list[int]], shape: list[int], expected: Any
) -> None:
    """From the tests of TensorFlow Lite Support, and two with open sizes."""
    case = ragged(kinds, partition, shape, NINE)
    assert evaluated(case) == [expected]


def ragged(kinds: tuple[str, ...], partition: list[list[int]], shape: list[int], elements: list[Any]) -> Case:
    values = {0: np.array(shape), 1: np.array(elements), 2: np.array(0)}
    values.update({i + 3: np.array(p) for i, p in enumerate(partition)})
    types = (i32(len(shape)), i32(*np.shape(elements)), i32(), *(i32(len(p)) for p in partition))
    return custom("RaggedTensorToTensor", "x", types, (i32(),), values, row_partition_types=kinds)


def test_elements_of_a_ragged_tensor_may_have_axes() -> None:
    case = ragged(("ROW_SPLITS",), [[0, 1, 3]], [2, 2, 2], [[1, 2], [3, 4], [5, 6]])
    assert evaluated(case) == [[[[1, 2], [0, 0]], [[3, 4], [5, 6]]]]


@pytest.mark.parametrize(
    ("words", "kinds", "partition", "shape"),
    [
        ("cannot have -1 rows", ("FIRST_DIM_SIZE", "VALUE_ROWIDS"), [[-1], []], [-1, -1]),
        ("row splits of 3 rows must rise", ("ROW_SPLITS",), [[0, 2, 1, 3]], [-1, -1]),
        ("row splits of 2 rows must rise", ("ROW_SPLITS", "ROW_SPLITS"), [[0, 1, 2], [0, 3]], [-1, -1, -1]),
        (r"row ids must lie in \[0, 2\)", ("FIRST_DIM_SIZE", "VALUE_ROWIDS"), [[2], [0, 1, 2]], [-1, -1]),
        ("the partition is of 2 elements, there are 3", ("ROW_SPLITS",), [[0, 1, 2]], [-1, -1]),
        ("is too large", ("ROW_SPLITS",), [[0, 3]], [1 << 20, 1 << 20]),
    ],
)
def test_ragged_tensors_that_cannot_be(
    words: str, kinds: tuple[str, ...], partition: list[list[int]], shape: list[int]
) -> None:
    with pytest.raises(ExecutionError, match=words):
        evaluated(ragged(kinds, partition, shape, [1, 2, 3]))


# -- SentencePiece ---------------------------------------------------------------------------------------------------


def codes(model: np.ndarray, text: str, **flags: bool) -> list[int]:
    asked = {"begin": False, "end": False, "reverse": False, **flags}
    return Encoder.read(model.tobytes()).codes(text.encode(), **asked)


def test_pieces_with_the_greatest_sum() -> None:
    """Codes are places in PIECES; 0 is unknown and takes a run of bytes."""
    model = encoder(PIECES)
    assert codes(model, "a b") == [1, 2]
    assert codes(model, "ab") == [1, 4]
    assert codes(model, "xyz a") == [6, 0, 1]
    assert codes(model, "a", begin=True, end=True) == [1, 1, 2]
    assert codes(model, "a b", begin=True, reverse=True) == [2, 1, 1]
    assert codes(model, "") == []
    assert codes(encoder(PIECES, unknown=-1), "xa") == []
    assert codes(encoder(PIECES, offset=5), "xa") == [11, 0, 8]


def test_text_is_normalized_first() -> None:
    """From the tests of TensorFlow Lite Support."""
    spaces = Encoder.read(encoder({"a": 0.0}).tobytes())
    assert spaces.normalized(b"x  y") == "\u2581x\u2581y".encode()
    assert spaces.normalized(b"\tx  y\n") == "\u2581x\u2581y".encode()
    replaced = {"A": "A1", "AA": "A2", "AAA": "A3", "AAAA": "A4", "X": " "}
    some = Encoder.read(encoder({"a": 0.0}, replaced=replaced, spaces=False).tobytes())
    assert some.normalized(b"ABAABAAABAAAA") == b"A1BA2BA3BA4"
    assert some.normalized(b"XB") == b" B"


def detokenize(model: np.ndarray, given: list[int], splits: list[int]) -> list[Any]:
    types = (kind("uint8", len(model)), i32(len(given)), i32(len(splits)))
    values = {0: model, 1: np.array(given), 2: np.array(splits)}
    return evaluated(custom("TFSentencepieceDetokenizeOp", "x", types, (string(1),), values))


def test_pieces_back_to_text() -> None:
    model = decoder([" he", "llo", " you"], offset=5)
    assert plain(detokenize(model, [5, 6, 7, 7], [0, 3, 3, 4])[0]) == ["hello you", "", "you"]
    for given in ([4], [8]):
        with pytest.raises(ExecutionError, match=r"codes must lie in \[5, 8\)"):
            detokenize(model, given, [0, 1])
    for splits in ([0, 2], [1, 1], [0, 1, 0]):
        with pytest.raises(ExecutionError, match="row splits must rise from 0 to at most 1"):
            detokenize(model, [5], splits)


def test_damaged_sentencepiece_models_are_refused() -> None:
    sound = encoder(PIECES, replaced={"x": "y"}).tobytes()
    refused = 0
    for place in range(128):
        for value in (0, 0x7F, 0xFF):
            damaged = np.frombuffer(sound[:place] + bytes([value]) + sound[place + 1 :], np.uint8)
            try:
                codes(damaged, "ab xab")
            except ExecutionError:
                refused += 1
    assert refused
    for length in (0, 3, 8, 40):
        with pytest.raises(ExecutionError, match="damaged"):
            codes(np.frombuffer(sound[:length], np.uint8), "ab")
    short = decoder(["one", "two"])
    for length in range(4, len(short) - 4, 4):
        with pytest.raises(ExecutionError, match=r"damaged|codes must lie"):
            detokenize(short[:length], [1], [0, 1])
    with pytest.raises(ExecutionError, match="unknown version"):
        codes(encoder(PIECES, version=1), "a")
    with pytest.raises(ExecutionError, match="unknown version"):
        detokenize(decoder(["a"], version=1), [0], [0, 1])


def test_a_sentencepiece_model_cannot_ask_for_all_memory() -> None:
    model = Encoder.read(encoder({"a": 0.0}, replaced={"b": "x" * (1 << 16)}).tobytes())
    with pytest.raises(ExecutionError, match="once it is normalized"):
        model.normalized(b"b" * 300)
    model.scores = model.scores[:0]
    with pytest.raises(ExecutionError, match="a piece has no score"):
        model.codes(b"a", begin=False, end=False, reverse=False)


# -- replies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("I'm good; you're welcome", "<S> i am good; you are welcome <E>"),
        ("Hi!!!!", "<S> hi ! <E>"),
        ("", "<S>  <E>"),
        ("Can't you?! They 'll (really).", "<S> ca not you ? ! they will really <E>"),
        ("x" * 400, "<S> " + "x" * 300),
    ],
)
def test_sentences_normalized(given: str, expected: str) -> None:
    """The first three are from the tests of TensorFlow Lite's smart reply."""
    case = custom("Normalize", "x", (string(1),), (string(1),), {0: texts(given)})
    assert plain(evaluated(case)[0]) == [expected]


def test_features_are_hashes() -> None:
    """From the tests of TensorFlow Lite's smart reply."""
    given = ["<S>", "<S> Hi", "Hi", "Hi !", "!", "! <E>", "<E>", "<S> <E>"]
    case = custom("ExtractFeatures", "x", (string(8),), (i32(8), f32(8)), {0: texts(*given)})
    features, weights = evaluated(case)
    assert features == [0, *(fingerprint_of(t.encode()) % 1_000_000 for t in given[1:6]), 0, 0]
    assert weights == [0, 2, 1, 2, 1, 2, 0, 0]
    assert evaluated(custom("ExtractFeatures", "x", (string(0),), (i32(1), f32(1)), {})) == [[0], [0]]


@pytest.mark.parametrize(
    ("lookup", "labels", "weights", "count", "threshold", "expected"),
    [
        ([1, 3, 7, 9], [11, 12], [0.1, 0.2], 2, 0.0001, ([12, 11], [0.1, 0.05])),
        ([1, 3, 7, 9], [11, 12], [0.1, 0.2], 1, 0.0001, ([12], [0.1])),
        ([1, 3, 7, 9], [11, 12], [0.1, 0.2], 2, 0.07, ([12, -1], [0.1, 0.0])),
        ([1, 3, 7, 9], [11, 12], [0.1, 0.2], 2, 0.6, ([-1, -1], [0.0, 0.0])),
        ([1, 3, 7, 9], [11, 0], [0.1, 0.0], 2, 0.0001, ([11, -1], [0.05, 0.0])),
        ([5, 3, 8, 9], [11, 0], [0.1, 0.0], 2, 0.0001, ([-1, -1], [0.0, 0.0])),
    ],
)
def test_predicted_labels(
    lookup: list[int], labels: list[int], weights: list[float], count: int, threshold: float, expected: Any
) -> None:
    """From the tests of TensorFlow Lite's smart reply."""
    values = {0: np.array(lookup), 1: np.array([1, 2, 4, 6, 7]), 2: np.array([labels] * 5), 3: np.array([weights] * 5)}
    types = (i32(4), i32(5), i32(5, 2), f32(5, 2))
    options = REGISTRY.by_name["Predict"].parse_options(struct.pack("<if", count, threshold))  # type: ignore[attr-defined]
    got = evaluated(custom("Predict", "x", types, (i32(count), f32(count)), values, **options.__dict__))
    assert got[0] == expected[0]
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-6)


def test_options_of_predict() -> None:
    with pytest.raises(ModelError, match="have 8 bytes, not 4"):
        REGISTRY.by_name["Predict"].parse_options(b"1234")  # type: ignore[attr-defined]


# -- rules -----------------------------------------------------------------------------------------------------------

WIDTH, KINDS, PREDICT = {"width": 2}, "row_partition_types", {"num_output": 1, "weight_threshold": 0.0}
MODEL_AND_TEXT = (kind("uint8", 9), string(1), i32(), f32())


@pytest.mark.parametrize(
    ("words", "op", "inputs", "outputs", "attrs"),
    [
        ("must have an element", "SKIP_GRAM", (string(0),), (string(1),), {"ngram_size": 1}),
        ("ngram_size must be positive", "SKIP_GRAM", (string(1),), (string(1),), {}),
        ("max_skip_size must not", "SKIP_GRAM", (string(1),), (string(1),), {"ngram_size": 1, "max_skip_size": -1}),
        ("row splits for each axis", "tftext:WhitespaceTokenizer", (string(2, 2),), (string(1), kind("int64", 3)), {}),
        ("must have one element", "TFText>WhitespaceTokenizeWithOffsetsV2", (string(1), string(2)), (string(1),), {}),
        ("width must be positive", "tftext:Ngrams", (string(2),), (string(1),), {"width": 0}),
        ("axis must be -1", "tftext:Ngrams", (string(2),), (string(1),), {**WIDTH, "axis": 0}),
        ("reduction_type must be", "tftext:Ngrams", (string(2),), (string(1),), {**WIDTH, "reduction_type": "SUM"}),
        ("as many outputs as inputs", "tftext:Ngrams", (string(2), kind("int64", 2)), (string(1),), WIDTH),
        ("must have rows", "tftext:Ngrams", (string(),), (string(),), WIDTH),
        ("row_partition_types are", "RaggedTensorToTensor", (i32(), i32(2), i32()), (i32(),), {KINDS: ()}),
        ("row_partition_types are", "RaggedTensorToTensor", (i32(), i32(2), i32(), i32(2)), (i32(),),
         {KINDS: ("VALUE_ROWIDS",)}),
        ("must have 1 partitions", "RaggedTensorToTensor", (i32(), i32(2), i32()), (i32(),), {KINDS: ("ROW_SPLITS",)}),
        ("must have one element", "RaggedTensorToTensor", (i32(), i32(2), i32(), i32(2), i32(2)), (i32(),),
         {KINDS: ("FIRST_DIM_SIZE", "ROW_SPLITS")}),
        ("must have one element", "RaggedTensorToTensor", (i32(), i32(2), i32(2), i32(2)), (i32(),),
         {KINDS: ("ROW_SPLITS",)}),
        ("must have rows", "RaggedTensorToTensor", (i32(), i32(), i32(), i32(2)), (i32(),), {KINDS: ("ROW_SPLITS",)}),
        ("must have 2 elements", "RaggedTensorToTensor", (i32(3), i32(2), i32(), i32(2)), (i32(),),
         {KINDS: ("ROW_SPLITS",)}),
        ("must have one element", "TFSentencepieceTokenizeOp", (*MODEL_AND_TEXT, *[kind("bool", 2)] * 3),
         (i32(1), i32(2)), {}),
        ("must have an element", "Normalize", (string(0),), (string(1),), {}),
        ("are the labels", "Predict", (i32(1), i32(2), i32(2, 3), f32(2, 2)), (i32(1), f32(1)), PREDICT),
        ("must have a row for each", "Predict", (i32(1), i32(3), i32(2, 3), f32(2, 3)), (i32(1), f32(1)), PREDICT),
        ("num_output must lie", "Predict", (i32(1), i32(2), i32(2, 3), f32(2, 3)), (i32(1), f32(1)),
         {**PREDICT, "num_output": -1}),
    ],
)  # fmt: skip
def test_rules(words: str, op: str, inputs: tuple[Any, ...], outputs: tuple[Any, ...], attrs: dict[str, Any]) -> None:
    with pytest.raises(RuleViolation, match=words):
        REGISTRY.by_name[op].infer(Case(op, "refused", inputs, outputs, attrs).site())


def test_row_splits_of_ngrams_are_checked() -> None:
    for splits in ([0, 3, 2], [0, 5], [-1, 2], []):
        types = (string(4), kind("int64", len(splits)))
        case = custom("tftext:Ngrams", "bad", types, types, {1: np.array(splits, np.int64)}, width=1)
        with pytest.raises(ExecutionError, match="row splits must rise within"):
            evaluated(case)


# -- whole models ----------------------------------------------------------------------------------------------------


def run(interpreter: Interpreter, given: np.ndarray) -> list[Any]:
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], given.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], given)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]).tolist() for d in interpreter.get_output_details()]


def test_models_of_words(corpus: Path) -> None:
    interpreter = Interpreter(str(corpus / "models/text/whitespace_tokenizer_to_tensor.tflite"))
    for sentence in (SENTENCE, "a"):
        assert plain(run(interpreter, texts(sentence))[0]) == [sentence.split()]
    path = corpus / "runtime_testdata/tflite-support/head/whitespace_tokenizer_to_ragged_2d_input.tflite"
    words, inner, outer = run(Interpreter(str(path)), texts("a b c", "d e f", "g h", "i j k l").reshape(2, 2))
    assert (plain(words), sorted([inner, outer])) == (list("abcdefghijkl"), [[0, 2, 4], [0, 3, 6, 8, 12]])


def test_model_with_sentencepiece(corpus: Path) -> None:
    """The layer behind takes three codes, filled up with 0; the result is their product with its weights."""
    interpreter = Interpreter(str(corpus / "models/text/dummy_sp_text_embedder.tflite"))
    interpreter.allocate_tensors()
    pieces = codes(interpreter.get_tensor(8), "good morning")
    assert pieces == [129, 1453]
    (got,) = run(interpreter, texts("good morning"))
    np.testing.assert_allclose(got, np.array([[*pieces, 0]], np.float32) @ interpreter.get_tensor(9).T, rtol=1e-5)


class _Hello(Op):
    """Stands for a classifier in the tests of TensorFlow Lite Support: fixed answers to one word."""

    answer: np.ndarray

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()

        def infer(site: Site) -> list[Shape]:
            return [cls.answer.shape]

        def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
            if x.reshape(-1)[0] != b"hello":
                raise ExecutionError("only one word is known")
            return [cls.answer]

        cls.infer, cls.evaluate = staticmethod(infer), staticmethod(evaluate)


class _Floats(_Hello):
    name, answer = "CUSTOM_OP_STRING_TO_FLOATS", np.array([255, 510, 765], np.float32)


class _Doubles(_Hello):
    name, answer = "CUSTOM_OP_STRING_TO_DOUBLES", np.array([255, 510, 765], np.float64)


class _Bools(_Hello):
    name, answer = "CUSTOM_OP_STRING_TO_BOOLS", np.array([True, True, False])


class _Labels(_Hello):
    name, answer = "CUSTOM_OP_GENERATE_LABELS", texts("label0", "label1", "label2")


class _Lower(Op):
    """Has the name of an operator that there is."""

    name = "Normalize"

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [texts(*(text.decode().lower() for text in x))]


def stand_ins(registry: CustomOps) -> None:
    for op in (_Floats, _Doubles, _Bools, _Labels, _Lower):
        registry.add(op)


def with_stand_ins(path: Path) -> Interpreter:
    return InterpreterWithCustomOps([stand_ins], model_path=str(path))


def test_models_with_operators_of_the_caller(corpus: Path) -> None:
    """With the operators and the expected values of the tests that the models belong to."""
    answers = run(with_stand_ins(corpus / "models/text/test_model_nl_classifier.tflite"), np.array(b"hello", object))
    assert answers == [[255, 510, 765], [1, 2, 3], [b"label0", b"label1", b"label2"], [255, 510, 765]]
    bools = with_stand_ins(corpus / "models/text/test_model_nl_classifier_bool_output.tflite")
    assert run(bools, np.array(b"hello", object)) == [[True, True, False]]


def test_the_operator_of_a_caller_goes_before_one_of_the_same_name(corpus: Path) -> None:
    lower = with_stand_ins(corpus / "runtime_testdata/LiteRT/head/dynamic_string_custom_ops.tflite")
    assert plain(run(lower, texts("Google", "LiteRT", "Awesome"))[0]) == ["google", "litert", "awesome"]
