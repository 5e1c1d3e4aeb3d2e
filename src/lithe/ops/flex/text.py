"""TensorFlow's operators on text ("Flex") that need no TensorFlow: code points, words, ragged ranges and hashes.

Strings are UTF-8 unless an attribute names another encoding. Source: the documentation of TensorFlow's and TensorFlow
Text's operators of these names.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.farm_hash import fingerprint_of
from lithe.ops.flex.operators import NodeDef
from lithe.ops.layout import integers
from lithe.ops.op import Op, Site, register
from lithe.ops.text.tokens import SPACE, strings
from lithe.types import Shape

ENCODINGS = {
    b"UTF-8": codecs.utf_8_decode,
    b"UTF-16-BE": codecs.utf_16_be_decode,
    b"UTF-32-BE": codecs.utf_32_be_decode,
}
REPLACEMENT = "replacement_char"
WINDOW = 256  # bytes decoded at a time
ERRORS = (b"replace", b"ignore", b"strict")
MOST_NUMBERS = 1 << 24  # in ragged ranges
CONTROLS, LAST, SURROGATES = 0x20, 0x10FFFF, range(0xD800, 0xE000)


class _Flex(Op):
    """Base: attributes are TensorFlow's description of the node."""

    Attrs = NodeDef


def _encoding(site: Site, attribute: str) -> tuple[str, bytes, int]:
    """The codec's name, what to do with what it cannot say, and the code point that may replace it."""
    a = site.attrs.attributes
    encoding, errors, replacement = a.get(attribute, b"UTF-8"), a.get("errors", b"replace"), a.get(REPLACEMENT, 0xFFFD)
    site.require(encoding in ENCODINGS, f"{attribute} must be one of UTF-8, UTF-16-BE, UTF-32-BE, is {encoding!r}")
    site.require(errors in ERRORS, f"errors must be replace, ignore or strict, is {errors!r}")
    site.require(_is_character(replacement), f"{REPLACEMENT} must be a character, is {replacement}")
    return encoding.decode(), errors, replacement


def _is_character(point: int) -> bool:
    return 0 <= point <= LAST and point not in SURROGATES


def _decoded(text: bytes, encoding: str, errors: bytes, replacement: int) -> Iterator[tuple[int, int]]:
    """(code point, place of its first byte) of each character. Damage costs no more than a window's length."""
    decode = ENCODINGS[encoding.encode()]
    place = 0
    while place < len(text):
        window = text[place : place + WINDOW]
        last = place + WINDOW >= len(text)
        try:
            (good, _), bad = decode(window, "strict", last), 0
        except UnicodeDecodeError as error:
            if errors == b"strict":
                raise ExecutionError(
                    f"the text is not {encoding}: {error.reason}, byte {place + error.start}"
                ) from None
            (good, _), bad = decode(window[: error.start], "strict", True), error.end - error.start
        for character in good:
            yield ord(character), place
            place += len(character.encode(encoding))
        if bad and errors == b"replace":
            yield replacement, place
        place += bad


@register
class UnicodeDecodeWithOffsets(_Flex):
    """The code points of each string and where each begins in it, as ragged rows, one for each string."""

    name = "FlexUnicodeDecodeWithOffsets"
    operands = (("input",), ("row_splits", "char_values", "char_to_byte_starts"))
    types = "string -> I int32 int64: I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        _encoding(site, "input_encoding")
        shape = site.input(0).shape
        return [(None if None in shape else site.input(0).size + 1,), (None,), (None,)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        encoding, errors, replacement = _encoding(site, "input_encoding")
        rows = [list(_decoded(text, encoding, errors, replacement)) for text in x.reshape(-1)]
        points = np.array([point for row in rows for point, _ in row], np.int32)
        if site.attrs.attributes.get("replace_control_characters"):
            points[points < CONTROLS] = replacement
        starts = np.array([start for row in rows for _, start in row], np.int64)
        return [np.cumsum([0, *map(len, rows)]).astype(site.outputs[0].dtype.numpy), points, starts]


@register
class UnicodeEncode(_Flex):
    """Each row of code points as a string."""

    name = "FlexUnicodeEncode"
    operands = (("input_values", "input_splits"), ("output",))
    types = "int32 I -> string: I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        _encoding(site, "output_encoding")
        site.rank(0, 1)
        splits = site.rank(1, 1).shape
        return [(None if splits == (None,) else max(splits[0] - 1, 0),)]

    def evaluate(site: Site, points: np.ndarray, splits: np.ndarray) -> list[np.ndarray]:
        encoding, errors, replacement = _encoding(site, "output_encoding")
        wrong = [p for p in integers(points) if not _is_character(p)]
        if wrong and errors == b"strict":
            raise ExecutionError(f"{wrong[0]} is no Unicode character")
        instead = "" if errors == b"ignore" else chr(replacement)
        texts = [chr(p) if _is_character(p) else instead for p in integers(points)]
        ends = _rows(splits, len(points))
        return [strings(["".join(texts[a:b]).encode(encoding) for a, b in pairwise(ends)])]


def _rows(splits: np.ndarray, count: int) -> list[int]:
    ends = integers(splits)
    if ends[:1] != [0] or ends[-1] != count or ends != sorted(ends):
        raise ExecutionError(f"row splits must rise from 0 to {count}, are {ends[:8]}")
    return ends


@register
class WhitespaceTokenizeWithOffsets(_Flex):
    """The words between white space in each row of code points.

    Out: the words' code points, where each word's begin among them, for each word the places in its row at which it
    begins and ends, and where each row's words begin among the words.
    """

    name = "FlexWhitespaceTokenizeWithOffsets"
    operands = (
        ("input_values", "input_splits"),
        ("output_values", "inner_splits", "offset_starts", "offset_limits", "outer_splits"),
    )
    types = "int32 I -> int32 int64 int64 int64 I: I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        site.rank(0, 1)
        return [(None,), (None,), (None,), (None,), site.rank(1, 1).shape]

    def evaluate(site: Site, points: np.ndarray, splits: np.ndarray) -> list[np.ndarray]:
        spaces = np.array([0 <= p <= LAST and bool(SPACE.match(chr(p))) for p in integers(points)], bool)
        words, counts = [], [0]
        for a, b in pairwise(_rows(splits, len(points))):
            edges = np.flatnonzero(np.diff(~spaces[a:b], prepend=False, append=False))
            found = list(zip((edges[0::2]).tolist(), (edges[1::2]).tolist(), strict=True))
            words += [(begin, end, a) for begin, end in found]
            counts.append(counts[-1] + len(found))
        inner = np.cumsum([0, *(end - begin for begin, end, _ in words)])
        return [
            points[~spaces],
            inner.astype(np.int64),
            np.array([begin for begin, _, _ in words], np.int64),
            np.array([end for _, end, _ in words], np.int64),
            np.array(counts, site.outputs[4].dtype.numpy),
        ]


@register
class RaggedRange(_Flex):
    """For each row the numbers from start to limit by delta; operands of one element stand for every row."""

    name = "FlexRaggedRange"
    operands = (("starts", "limits", "deltas"), ("row_splits", "values"))
    types = "T T T -> I T: T= float32 float64 int32 int64; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        sizes = {t.shape[0] for t in (site.rank(i, 0, 1) for i in range(3)) if t.rank and t.shape != (1,)}
        site.require(len(sizes - {None}) < 2, f"starts, limits and deltas have {sorted(sizes - {None})} rows")
        return [(None if None in sizes else next(iter(sizes), 1) + 1,), (None,)]

    def evaluate(site: Site, *operands: np.ndarray) -> list[np.ndarray]:
        starts, limits, deltas = np.broadcast_arrays(*map(np.atleast_1d, operands))
        if (deltas == 0).any():
            raise ExecutionError("deltas must not be 0")
        counts = [_count(a, b, by) for a, b, by in zip(starts.tolist(), limits.tolist(), deltas.tolist(), strict=True)]
        if sum(counts) > MOST_NUMBERS:
            raise ExecutionError(f"ranges of {sum(counts)} elements are more than the {MOST_NUMBERS} allowed")
        values = [np.full(n, by, starts.dtype) for n, by in zip(counts, deltas, strict=True)]
        for row, start in zip(values, starts, strict=True):
            row[:1] = start
        summed = [np.cumsum(row, dtype=row.dtype) for row in values]  # one by one, as TensorFlow adds
        splits = np.cumsum([0, *counts]).astype(site.outputs[0].dtype.numpy)
        return [splits, np.concatenate([np.zeros(0, starts.dtype), *summed])]


def _count(start: float, limit: float, delta: float) -> int:
    if (limit - start) * delta <= 0:
        return 0
    if isinstance(delta, int):
        return -(-abs(limit - start) // abs(delta))  # type: ignore[return-value]
    count = np.ceil(abs((limit - start) / delta))
    if not np.isfinite(count):
        raise ExecutionError(f"a range from {start} to {limit} by {delta} has no end")
    return int(count)


@register
class StringToHashBucketFast(_Flex):
    """The fingerprint of each string, modulo the number of buckets."""

    name = "FlexStringToHashBucketFast"
    operands = (("input",), ("output",))
    types = "string -> int64"

    def infer(site: Site) -> list[Shape]:
        buckets = site.attrs.attributes.get("num_buckets", 0)
        site.require(buckets > 0, f"num_buckets must be positive, is {buckets}")
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        buckets = site.attrs.attributes["num_buckets"]
        return [np.array([fingerprint_of(text) % buckets for text in x.reshape(-1)], np.int64).reshape(x.shape)]
