"""Operators that TensorFlow Text puts into converted models under its own names ("TFText>...").

Source: TensorFlow Text, core/kernels (behaviour and documentation of the operators of these names).
"""

from __future__ import annotations

from itertools import chain

import numpy as np

from lithe.ops.op import Op, Site, register
from lithe.ops.text.tokens import Ngrams, strings
from lithe.types import Shape

Words = list[tuple[bytes, int, int]]  # with the places of their first byte and of the first behind


class _Splitter(Op):
    """Base: parts of each string with the places at which they begin and end in it, as ragged rows."""

    def infer(site: Site) -> list[Shape]:
        size = site.rank(0, 1).shape[0]
        return [(None,), (None if size is None else size + 1,), (None,), (None,)]


@register
class WhitespaceTokenizeWithOffsets(_Splitter):
    """The words between white space. config: bit c % 8 of byte c // 8 says whether code point c is white space."""

    name = "TFText>WhitespaceTokenizeWithOffsetsV2"
    operands = (("input_values", "input_config"), ("tokens", "row_splits", "start_offsets", "end_offsets"))
    types = "string string -> string int64 int32 int32"

    def infer(site: Site) -> list[Shape]:
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        return _Splitter.infer(site)

    def evaluate(site: Site, x: np.ndarray, config: np.ndarray) -> list[np.ndarray]:
        spaces = np.unpackbits(np.frombuffer(config.reshape(-1)[0], np.uint8), bitorder="little").nonzero()[0]
        rows = [_words(text, frozenset(map(chr, spaces.tolist()))) for text in x]
        words = list(chain.from_iterable(rows))
        return [
            strings([word for word, _, _ in words]),
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.array([begin for _, begin, _ in words], np.int32),
            np.array([end for _, _, end in words], np.int32),
        ]


def _words(text: bytes, spaces: frozenset[str]) -> Words:
    found: Words = []
    begin = place = 0
    for character in chain(text.decode("utf-8", "surrogateescape"), [None]):
        if character is None or character in spaces:
            if place > begin:
                found.append((text[begin:place], begin, place))
            begin = place + (0 if character is None else len(character.encode()))
        place += 0 if character is None else len(character.encode("utf-8", "surrogateescape"))
    return found


@register
class ByteSplitWithOffsets(_Splitter):
    """The bytes of each string."""

    name = "TFText>ByteSplitWithOffsets"
    operands = (("input_values",), ("bytes", "row_splits", "start_offsets", "end_offsets"))
    types = "string -> uint8 int64 int32 int32"

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        lengths = [len(text) for text in x]
        starts = np.concatenate([np.zeros(0, np.int32), *(np.arange(n, dtype=np.int32) for n in lengths)])
        whole = np.frombuffer(b"".join(x), np.uint8)
        return [whole, np.cumsum([0, *lengths], dtype=np.int64), starts, starts + np.int32(1)]


@register
class NgramsStringJoin(Ngrams):
    """As TensorFlow Text names it."""

    name = "TFText>NgramsStringJoin"
