"""What ONNX's operators of texts and of what may be missing are in builtins."""

from __future__ import annotations

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, Value, rule
from lithe.conversion.sizes import is_fixed
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32, INT64, STRING


@rule("StringNormalizer", "StringConcat", "StringSplit", "RegexFullMatch")
def of_strings(b: Builder, c: Call) -> Tensor:
    b.require(False, "no builtin looks into strings")
    raise AssertionError


@rule("ImageDecoder")
def of_files(b: Builder, c: Call) -> Tensor:
    b.require(False, "no builtin reads pictures from files")
    raise AssertionError


@rule("OptionalHasElement")
def is_there(b: Builder, c: Call) -> np.ndarray:
    return np.asarray(c.has(0))


@rule("OptionalGetElement", "Optional")
def what_is_there(b: Builder, c: Call) -> Value:
    value = c.operands[0]
    assert value is not None
    return value


@rule("TfIdfVectorizer")
def counted_words(b: Builder, c: Call) -> Tensor:
    """How often each n-gram of a pool occurs, with gaps up to a number, weighted."""
    x = c[0]
    b.require(is_fixed(x.type.shape), "n-grams of sequences of open length")
    rows = x.type.shape[0] if x.type.rank > 1 else 1
    length = x.type.shape[-1]
    flat = b.reshape(x, (rows, length))
    strings = x.type.dtype == STRING
    pool = c.attr("pool_strings") if strings else c.attr("pool_int64s")
    starts, places = c.attr("ngram_counts"), c.attr("ngram_indexes")
    least, most, skips = c.attr("min_gram_length"), c.attr("max_gram_length"), c.attr("max_skip_count")
    size = max(places) + 1
    weights = np.ones(len(places), np.float32) if c.attr("weights") is None else np.asarray(c.attr("weights"))
    ends = [*starts[1:], len(pool)]
    total: Tensor | None = None
    number = 0
    for n, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        grams = [pool[i : i + n] for i in range(start, end, n)]
        own = range(number, number + len(grams))
        number += len(grams)
        if not least <= n <= most or not grams:
            continue
        counts: Tensor | None = None
        for gap in range(1, (skips if n > 1 else 0) + 2):
            windows = [[i + k * gap for k in range(n)] for i in range(length - (n - 1) * gap)]
            if not windows:
                continue
            found = _occurrences(b, flat, windows, grams)
            counts = found if counts is None else b("ADD", counts, found)
        if counts is None:
            continue
        spread = np.zeros((size, len(grams)), np.float32)
        for column, which in enumerate(own):
            spread[places[which], column] = 1 if c.attr("mode") == "TF" else weights[which]
        if c.attr("mode") == "IDF":
            counts = b("MINIMUM", counts, b.constant(1.0, FLOAT32))
        part = b("FULLY_CONNECTED", counts, b.constant(spread, FLOAT32), b.constant(np.zeros(size), FLOAT32))
        total = part if total is None else b("ADD", total, part)
    if total is None:
        total = b.constant(np.zeros((rows, size)), FLOAT32)
    return b.reshape(total, (size,) if x.type.rank == 1 else (rows, size))


def _occurrences(b: Builder, x: Tensor, windows: list[list[int]], grams: list[list[object]]) -> Tensor:
    """[rows, grams]: in how many windows each gram is."""
    rows, n = x.type.shape[0], len(windows[0])
    seen = b("GATHER", x, b.constant(np.asarray(windows)), axis=1, batch_dims=0)
    wide = b.reshape(seen, (rows, len(windows), 1, n))
    pool = np.asarray(grams, object if x.type.dtype == STRING else np.int64)[None, None]
    other = b.cast(b.constant(pool, x.type.dtype if x.type.dtype == STRING else INT64), x.type.dtype)
    shape = (rows, len(windows), len(grams), n)
    if x.type.dtype == STRING:  # the builtin compares strings of one shape
        wide, other = b.broadcast(wide, shape), b.broadcast(other, shape)
    same = b("REDUCE_ALL", b("EQUAL", wide, other, dtype=BOOL), b.constant([3]), keep_dims=False)
    return b("SUM", b.cast(same, FLOAT32), b.constant([1]), keep_dims=False)
