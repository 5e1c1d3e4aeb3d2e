"""Text into the pieces of a SentencePiece model, and back, for models converted to TensorFlow Lite's form.

The converted model is a flatbuffer in a tensor: a trie of pieces with their scores, and how text is normalized. Pieces
are chosen so that the sum of their scores is greatest (Viterbi's search); scores are added in float32, since ties and
roundings decide. Sources: TensorFlow Lite Support, custom_ops/kernel/sentencepiece (behaviour, encoder_config.fbs and
decoder_config.fbs); Kudo and Richardson, "SentencePiece" (2018).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.layout import integers
from lithe.ops.op import Op, Site, register
from lithe.ops.text.tokens import strings
from lithe.types import Shape

SPACE_SYMBOL = "\u2581".encode()
SPACES = b" \t\r\n"
MOST_BYTES = 1 << 24
F = np.float32


class _Record:
    """The root table of a flatbuffer; every access is checked."""

    def __init__(self, data: bytes, place: int | None = None) -> None:
        self.data = data
        self.place = self.number("I", 0) if place is None else place
        self.vtable = self.place - self.number("i", self.place)
        self.slots = self.number("H", self.vtable) // 2 - 2

    def number(self, letter: str, place: int) -> Any:
        try:
            return struct.unpack_from("<" + letter, self.data, place)[0] if place >= 0 else self.damaged()
        except struct.error:
            return self.damaged()

    def damaged(self) -> Any:
        raise ExecutionError("the SentencePiece model is damaged: an offset lies outside of it")

    def field(self, slot: int) -> int:
        """Where a field lies, 0 when it is absent."""
        offset = self.number("H", self.vtable + 4 + 2 * slot) if slot < self.slots else 0
        return self.place + offset if offset else 0

    def scalar(self, slot: int, letter: str, default: Any) -> Any:
        place = self.field(slot)
        return self.number(letter, place) if place else default

    def target(self, place: int) -> int:
        return place + self.number("I", place)

    def vector(self, slot: int, dtype: str) -> np.ndarray:
        place = self.field(slot)
        if not place:
            return np.zeros(0, dtype)
        start = self.target(place)
        count = self.number("I", start)
        if start + 4 + count * np.dtype(dtype).itemsize > len(self.data):
            self.damaged()
        return np.frombuffer(self.data, dtype, count, start + 4)

    def table(self, slot: int) -> _Record | None:
        place = self.field(slot)
        return _Record(self.data, self.target(place)) if place else None

    def texts(self, slot: int) -> list[bytes]:
        place = self.field(slot)
        if not place:
            return []
        start = self.target(place)
        found, left = [], len(self.data)
        for i in range(self.number("I", start)):
            text = self.target(start + 4 + 4 * i)
            length = self.number("I", text)
            left -= length  # texts do not overlap
            if left < 0 or text + 4 + length > len(self.data):
                self.damaged()
            found.append(self.data[text + 4 : text + 4 + length])
        return found


class _Trie:
    """A double array (Darts): each node is one number with a label, the offset of its children, and whether it ends."""

    def __init__(self, record: _Record | None) -> None:
        self.nodes: list[int] = [] if record is None else record.vector(0, "<u4").tolist()

    def prefixes(self, text: bytes, start: int) -> Iterator[tuple[int, int]]:
        """(length, value) of every entry with which the text goes on at a place, the shortest first."""
        nodes = self.nodes
        if not nodes:
            return
        place = _offset(nodes[0])
        for i in range(start, len(text)):
            place ^= text[i]
            if place >= len(nodes) or nodes[place] & 0x800000FF != text[i]:
                return
            node = nodes[place]
            place ^= _offset(node)
            if place >= len(nodes):
                return
            if node & 0x100:
                yield i + 1 - start, nodes[place] & 0x7FFFFFFF


def _offset(node: int) -> int:
    return (node >> 10) << ((node & 0x200) >> 6)


@dataclass
class Encoder:
    """A converted model that turns text into numbers."""

    start_code: int
    end_code: int
    unknown_code: int
    unknown_penalty: np.float32
    encoding_offset: int
    pieces: _Trie
    scores: np.ndarray
    remove_extra_spaces: bool
    add_dummy_prefix: bool
    escape_spaces: bool
    prefixes: _Trie
    replacements: bytes

    @staticmethod
    def read(data: bytes) -> Encoder:
        r = _Record(data)
        if r.scalar(0, "b", 0) != 0:
            raise ExecutionError("the SentencePiece model has an unknown version")
        return Encoder(
            r.scalar(1, "i", 0), r.scalar(2, "i", 0), r.scalar(3, "i", -1), F(r.scalar(4, "f", 0.0)),
            r.scalar(5, "i", 0), _Trie(r.table(6)), r.vector(7, "<f4"), bool(r.scalar(8, "b", 0)),
            bool(r.scalar(9, "b", 0)), bool(r.scalar(10, "b", 0)), _Trie(r.table(11)), r.vector(12, "u1").tobytes(),
        )  # fmt: skip

    def normalized(self, text: bytes) -> bytes:
        """The text as pieces are sought in it."""
        if not text:
            return text
        if self.add_dummy_prefix:
            text = b" " + text
        if self.prefixes.nodes and self.replacements:
            text = b"".join(self._replaced(text))
        if self.remove_extra_spaces:
            text = re.sub(rb"[ \t\r\n]{2,}", b" ", text)
            text = text[:-1] if text[-1:] and text[-1] in SPACES else text
        return re.sub(rb"[ \t\r\n]", SPACE_SYMBOL, text) if self.escape_spaces else text

    def _replaced(self, text: bytes) -> Iterator[bytes]:
        place, size = 0, 0
        while place < len(text):
            length, value = max(self.prefixes.prefixes(text, place), default=(0, 0))
            part = text[place : place + 1]
            if length:
                stop = self.replacements.find(b"\0", value)
                part = self.replacements[value : stop if stop >= 0 else None]
            size += len(part)
            if size > MOST_BYTES:
                raise ExecutionError(f"the text has more than {MOST_BYTES} bytes once it is normalized")
            yield part
            place += length or 1

    def codes(self, text: bytes, *, begin: bool, end: bool, reverse: bool) -> list[int]:
        """The numbers of the pieces; runs of bytes that no piece covers are one unknown."""
        text = self.normalized(text)
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._best(text)
        found = ([self.start_code] if begin else []) + found + ([self.end_code] if end else [])
        return found[::-1] if reverse else found

    def _best(self, text: bytes) -> list[int]:
        """The best way to each place: its score, its last code and where that began (-1: there is none)."""
        score, code, before = [F(0)] * (len(text) + 1), [-1] * (len(text) + 1), [-1] * (len(text) + 1)

        def offer(to: int, new: np.float32, with_code: int, begun: int) -> None:
            if before[to] < 0 or score[to] < new:
                score[to], code[to], before[to] = new, with_code, begun

        for i in range(len(text)):
            if i and before[i] < 0:
                continue
            if self.unknown_code >= 0:
                begun = before[i] if code[i] == self.unknown_code else i
                offer(i + 1, score[i] + self.unknown_penalty, self.unknown_code, begun)
            for length, piece in self.pieces.prefixes(text, i):
                if piece >= len(self.scores):
                    raise ExecutionError("the SentencePiece model is damaged: a piece has no score")
                offer(i + length, score[i] + self.scores[piece], piece, i)
        found = []
        place = len(text)
        while place > 0 and before[len(text)] >= 0:
            found.append(code[place] + (self.encoding_offset if code[place] != self.unknown_code else 0))
            place = before[place]
        return found[::-1]


_encoder = lru_cache(4)(Encoder.read)  # reading takes far longer than a sentence


class _Tokenize(Op):
    """The pieces of each string, as numbers, and where each string's begin.

    nbest_size and alpha, which ask for other segmentations than the best, are not used, as in the original kernel.
    """

    operands = (
        ("model", "input", "nbest_size", "alpha", "add_bos", "add_eos", "reverse"),
        ("output_values", "output_splits"),
    )
    types = "uint8 string int32 float32 bool bool bool -> int32 int32"

    def infer(site: Site) -> list[Shape]:
        for i in (4, 5, 6):
            site.require(site.input(i).size == 1, f"must have one element, is {site.input(i)}", i)
        x = site.rank(1, 0, 1)
        return [(None,), (None if x.shape == (None,) else x.size + 1,)]

    def evaluate(
        site: Site, model: np.ndarray, x: np.ndarray, nbest_size: np.ndarray, alpha: np.ndarray, *flags: np.ndarray
    ) -> list[np.ndarray]:
        encoder = _encoder(model.tobytes())
        begin, end, reverse = (bool(flag.reshape(-1)[0]) for flag in flags)
        rows = [encoder.codes(text, begin=begin, end=end, reverse=reverse) for text in x.reshape(-1)]
        values = np.array([code for row in rows for code in row], np.int64)
        return [values.astype(np.int32), np.cumsum([0, *map(len, rows)]).astype(np.int32)]


class _Detokenize(Op):
    """The texts of pieces, joined for each row; row_splits says where rows begin."""

    operands = (("model", "input", "row_splits"), ("output",))
    types = "uint8 int32 int32 -> string"

    def infer(site: Site) -> list[Shape]:
        site.rank(1, 1)
        splits = site.rank(2, 1)
        return [(None if splits.shape == (None,) else max(splits.size - 1, 0),)]

    def evaluate(site: Site, model: np.ndarray, codes: np.ndarray, splits: np.ndarray) -> list[np.ndarray]:
        r = _Record(model.tobytes())
        if r.scalar(0, "b", 0) != 0:
            raise ExecutionError("the SentencePiece model has an unknown version")
        offset, pieces, cut = r.scalar(1, "i", 0), r.texts(2), bool(r.scalar(5, "b", 0))
        places = integers(codes - offset)
        if any(not 0 <= place < len(pieces) for place in places):
            raise ExecutionError(f"codes must lie in [{offset}, {offset + len(pieces)})")
        ends = integers(splits)
        if ends != sorted(ends) or ends[:1] not in ([0], []) or (ends and ends[-1] > len(places)):
            raise ExecutionError(f"row splits must rise from 0 to at most {len(places)}, are {ends[:8]}")
        rows = [[pieces[p] for p in places[a:b]] for a, b in pairwise(ends)]
        if cut:
            rows = [[first.removeprefix(b" "), *rest] for first, *rest in (row or [b""] for row in rows)]
        return [strings([b"".join(row) for row in rows])]


@register
class SentencepieceTokenize(_Tokenize):
    """As TensorFlow Lite Support names it."""

    name = "TFSentencepieceTokenizeOp"


@register
class FastSentencepieceTokenize(_Tokenize):
    """As TensorFlow Text names it."""

    name = "TFText>FastSentencepieceTokenize"


@register
class SentencepieceDetokenize(_Detokenize):
    """As TensorFlow Lite Support names it."""

    name = "TFSentencepieceDetokenizeOp"


@register
class FastSentencepieceDetokenize(_Detokenize):
    """As TensorFlow Text names it."""

    name = "TFText>FastSentencepieceDetokenize"
