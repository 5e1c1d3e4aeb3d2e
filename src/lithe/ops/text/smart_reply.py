"""Operators of models that suggest replies to messages: from a sentence to hashed features, and from these to labels.

Source: TensorFlow Lite, models/smartreply/ops (behaviour).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from lithe.errors import ModelError
from lithe.ops.farm_hash import fingerprint_of
from lithe.ops.op import Op, Site, register
from lithe.ops.text.tokens import strings
from lithe.types import Shape

START, END = b"<S>", b"<E>"
MOST_CHARACTERS = 300
FEATURES = 1_000_000
STRIPPED = b" \t\n\v\f\r"

_SHORTENED = rb"[\t\n\f\r ]('t|'nt|n't|'d|'ll|'s|'m|'ve|'re)"
# Replacements in order: shortened words first, then punctuation of questions and exclamations, then the ends.
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rb'[.*()"]', rb""),
        (_SHORTENED + rb"([\t\n\f\r ,;:/])", rb"\1\2"),
        (_SHORTENED + rb"\Z", rb"\1"),
        (rb"([^\t\n\f\r ]+)'ll", rb"\1 will"),
        (rb"([^\t\n\f\r ]+)'nt", rb"\1 not"),
        (rb"([^\t\n\f\r ]+)'re", rb"\1 are"),
        (rb"([^\t\n\f\r ]+)'ve", rb"\1 have"),
        (rb"([^\t\n\f\r ]+)n't", rb"\1 not"),
        (rb"i'm", rb"i am"),
        (rb"([?])+", rb"\1"),
        (rb"([!])+", rb"\1"),
        (rb"([^?!]+)([?!])", rb"\1 \2 "),
        (rb"([?!])([?!])", rb"\1 \2"),
        (rb"[\t\n\f\r ,:;\-&'\"]+\Z", rb""),
        (rb"\A[\t\n\f\r ,:;\-&'\"]+", rb""),
    )
)


@register
class Normalize(Op):
    """The first string in lower case without most punctuation, its short forms written out, between <S> and <E>."""

    name = "Normalize"
    types = "string -> string"

    def infer(site: Site) -> list[Shape]:
        site.require(site.input(0).size > 0, f"must have an element, is {site.input(0)}", 0)
        return [(1,)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        text = x.reshape(-1)[0].lower().strip(STRIPPED)
        for pattern, replacement in _RULES:
            text = pattern.sub(replacement, text)
        text = text.strip(STRIPPED)
        text = text + b" " + END if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS]
        return [strings([START + b" " + text])]


@register
class ExtractFeatures(Op):
    """For each string a number below a million, its hash, and the number of its words; 0 for mere marks of the ends.

    Without any string the results have one element, 0.
    """

    name = "ExtractFeatures"
    operands = (("ngrams",), ("features", "weights"))
    types = "string -> int32 float32"

    def infer(site: Site) -> list[Shape]:
        shape = site.rank(0, 1).shape
        count = 1 if shape == (0,) else shape[0]
        return [(count,), (count,)]

    def evaluate(site: Site, ngrams: np.ndarray) -> list[np.ndarray]:
        marks = (START, END, START + b" " + END)
        texts = ngrams.tolist() or [START]
        features = [0 if text in marks else fingerprint_of(text) % FEATURES for text in texts]
        weights = [0 if text in marks else text.count(b" ") + 1 for text in texts]
        return [np.array(features, np.int32), np.array(weights, np.float32)]


@register
class Predict(Op):
    """The labels with the greatest weights, summed over the rows of `labels` and `weights` whose keys are looked up.

    keys  int32, sorted.     Each sum is divided by the number of look-ups. Places without a label, or with one whose
    weight is below the threshold, hold -1 and 0. Of equal weights the smaller label comes first.
    """

    name = "Predict"
    operands = (("lookup", "keys", "labels", "weights"), ("labels", "weights"))
    types = "int32 int32 int32 float32 -> int32 float32"

    @dataclass(frozen=True)
    class Attrs:
        num_output: int
        weight_threshold: float

    def parse_options(data: bytes) -> Predict.Attrs:
        if len(data) != 8:
            raise ModelError(f"the options of Predict have 8 bytes, not {len(data)}")
        return Predict.Attrs(*struct.unpack("<if", data))

    def infer(site: Site) -> list[Shape]:
        keys, labels, weights = site.rank(1, 1), site.rank(2, 2), site.rank(3, 2)
        site.rank(0, 1)
        site.require(labels.shape == weights.shape, f"{labels} are the labels, {weights} the weights", 3)
        site.require(labels.shape[0] == keys.shape[0], f"must have a row for each of {keys}, is {labels}", 2)
        count = site.attrs.num_output
        site.require(0 <= count <= FEATURES, f"num_output must lie in [0, {FEATURES}], is {count}")
        return [(count,), (count,)]

    def evaluate(
        site: Site, lookup: np.ndarray, keys: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> list[np.ndarray]:
        sums: dict[int, np.float32] = {}
        for key in lookup:
            row = int(np.searchsorted(keys, key))
            if row < len(keys) and keys[row] == key:
                for label, weight in zip(labels[row].tolist(), weights[row] / np.float32(len(lookup)), strict=True):
                    sums[label] = sums.get(label, np.float32(0)) + weight
        best = sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))
        found = [pair for pair in best if pair[1] >= np.float32(site.attrs.weight_threshold)][: site.attrs.num_output]
        result = [np.full(site.attrs.num_output, -1, np.int32), np.zeros(site.attrs.num_output, np.float32)]
        for place, (label, weight) in enumerate(found):
            result[0][place], result[1][place] = label, weight
        return result
