"""Operators on text: splitting it into words, and putting words together. Strings are bytes, UTF-8 as a rule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.layout import integers
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

MOST_STRINGS = 1 << 20
ASCII_SPACE = rb"[ \t\n\v\f\r]"


def strings(found: list[bytes]) -> np.ndarray:
    """A vector of strings."""
    result = np.empty(len(found), object)
    result[:] = found
    return result


@register
class SkipGram(Op):
    """Every choice of ngram_size words that follow each other with at most max_skip_size words left out between.

    With include_all_ngrams shorter choices too, each after those that it begins. Words are parted by white space;
    text that begins with white space loses its first word, but for its only one, as in the official runtime.
    Source: TensorFlow Lite, kernels/skip_gram.cc (behaviour).
    """

    name, code = "SKIP_GRAM", 30
    types = "string -> string"

    @dataclass(frozen=True)
    class Attrs:
        ngram_size: int = 0
        max_skip_size: int = 0
        include_all_ngrams: bool = False

    def infer(site: Site) -> list[Shape]:
        x, a = site.input(0), site.attrs
        site.require(x.size > 0, f"must have an element, is {x}", 0)
        site.require(a.ngram_size > 0, f"ngram_size must be positive, is {a.ngram_size}")
        site.require(a.max_skip_size >= 0, f"max_skip_size must not be negative, is {a.max_skip_size}")
        return [(None,)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        found: list[bytes] = []
        for gram in _grams(_words(x.reshape(-1)[0]), site.attrs):
            found.append(b" ".join(gram))
            if len(found) > MOST_STRINGS:
                raise ExecutionError(f"there are more than {MOST_STRINGS} skip grams")
        return [strings(found)]


def _words(text: bytes) -> list[bytes]:
    first, *rest = re.split(ASCII_SPACE, text[1:])
    first = text[:1] + first
    if rest and re.match(ASCII_SPACE, first):
        first = b""
    return [word for word in (first, *rest) if word]


def _grams(words: list[bytes], attrs: SkipGram.Attrs) -> Iterator[list[bytes]]:
    size, reach = attrs.ngram_size, attrs.max_skip_size + 1
    if len(words) < size:
        return

    def choices(first: int) -> range:
        """The words that may stand next; without short grams, so that enough are left to fill the gram."""
        missing = 0 if attrs.include_all_ngrams else size - len(chosen) - 1
        return range(first, min(first + reach if chosen else len(words), len(words) - missing))

    chosen: list[int] = []
    left = [iter(choices(0))]  # for each place of the gram the words that may stand there and were not tried
    while left:
        word = next(left[-1], None)
        if word is not None:
            chosen.append(word)
            left.append(iter(choices(word + 1) if len(chosen) < size else ()))
            continue
        left.pop()
        if chosen:
            if len(chosen) == size or attrs.include_all_ngrams:
                yield [words[i] for i in chosen]
            chosen.pop()


# Unicode's property White_Space.
SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def whitespace_tokens(text: bytes) -> list[bytes]:
    """The words between white space; what follows the first error in the UTF-8 is left out."""
    try:
        readable = text.decode()
    except UnicodeDecodeError as error:
        readable = text[: error.start].decode()
    readable = readable.partition("\ufffd")[0]
    return [word.encode() for word in SPACE.split(readable) if word]


def _splits(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


@register
class WhitespaceTokenizer(Op):
    """The words of each string, as a tensor padded with empty strings or as a ragged one.

    ragged  the words of all strings, and for each axis of x where its rows begin: rows of the outer axes are equally
            long, the last axis' rows are the words.
    Source: TensorFlow Lite Support, custom_ops/kernel/whitespace_tokenizer.cc (behaviour).
    """

    name = "tftext:WhitespaceTokenizer"
    operands = (("input",), ("output", "row_splits*"))
    types = "string -> string int64*"

    def infer(site: Site) -> list[Shape]:
        x, ragged = site.input(0), len(site.outputs) - 1
        if not ragged:
            return [(*x.shape, None)]
        site.require(ragged == x.rank, f"must have row splits for each axis of {x}, has {ragged}")
        sizes = [x.shape[: axis + 1] for axis in range(x.rank)]
        return [(None,), *((None if None in size else math.prod(size) + 1,) for size in sizes)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        words = [whitespace_tokens(text) for text in x.reshape(-1)]
        if len(site.outputs) == 1:
            width = max(map(len, words), default=0)
            padded = [word for row in words for word in (*row, *[b""] * (width - len(row)))]
            return [strings(padded).reshape(*x.shape, width)]
        outer = [_splits([x.shape[a + 1]] * math.prod(x.shape[: a + 1])) for a in range(x.ndim - 1)]
        return [strings([word for row in words for word in row]), *outer, _splits([len(row) for row in words])]


@register
class Ngrams(Op):
    """Every `width` strings that follow each other in a row, joined by the separator; rows may be ragged.

    Source: TensorFlow Lite Support, custom_ops/kernel/ngrams.cc (behaviour).
    """

    name = "tftext:Ngrams"
    operands = (("values", "row_splits*"), ("output", "output_row_splits*"))
    types = "string int64* -> string int64*"

    @dataclass(frozen=True)
    class Attrs:
        width: int
        axis: int = -1
        reduction_type: str = "STRING_JOIN"
        string_separator: str = " "

    def infer(site: Site) -> list[Shape]:
        values, a, ragged = site.input(0), site.attrs, len(site.inputs) - 1
        site.require(a.width > 0, f"width must be positive, is {a.width}")
        site.require(a.axis == -1, f"axis must be -1, is {a.axis}")
        site.require(a.reduction_type == "STRING_JOIN", f"reduction_type must be STRING_JOIN, is {a.reduction_type}")
        site.require(len(site.outputs) == ragged + 1, f"must have as many outputs as inputs, has {len(site.outputs)}")
        if ragged:
            site.rank(0, 1)
            return [(None,), *(site.rank(i + 1, 1).shape for i in range(ragged))]
        site.require(values.rank > 0, f"must have rows, is {values}", 0)
        last = values.shape[-1]
        return [(*values.shape[:-1], None if last is None else max(last - a.width + 1, 0))]

    def evaluate(site: Site, values: np.ndarray, *splits: np.ndarray) -> list[np.ndarray]:
        separator, width = site.attrs.string_separator.encode(), site.attrs.width
        if splits:
            ends = integers(splits[-1])
            if not ends or ends[0] < 0 or ends[-1] > len(values) or ends != sorted(ends):
                raise ExecutionError(f"row splits must rise within [0, {len(values)}], are {ends[:8]}")
            rows = [values[a:b] for a, b in pairwise(ends)]
        else:
            rows = list(values.reshape(math.prod(values.shape[:-1]), values.shape[-1]))
        grams = [[separator.join(row[i : i + width]) for i in range(len(row) - width + 1)] for row in rows]
        joined = strings([gram for row in grams for gram in row])
        if splits:
            return [joined, *splits[:-1], _splits([len(row) for row in grams])]
        return [joined.reshape(*values.shape[:-1], max(values.shape[-1] - width + 1, 0))]
