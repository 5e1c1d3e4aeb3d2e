"""Random numbers: the streams of the official runtime, which are those of TensorFlow's kernels for a CPU.

Each node has a stream of its own and goes on in it from run to run; it starts again when the model is prepared anew.
With both seeds 0 the stream is another one each time. In a graph that an IF or WHILE calls, the official runtime begins
the stream again at every run, since it prepares the graph anew; here it goes on.
Source: TensorFlow Lite, kernels/random_ops.cc (behaviour).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.fill import MOST_ELEMENTS
from lithe.ops.layout import integers, known_integers
from lithe.ops.op import Op, RuleViolation, Site, register
from lithe.ops.philox import BLOCK, Stream, normal, uniform, uniform_double
from lithe.types import Shape

AT_ONCE = 1 << 14  # blocks: what is made of them stays in a cache
MOST_CHOICES = 1 << 24
BLOCKS_OF_A_CHOICE = 2 * 256  # blocks passed over for each choice, so that a run never reuses another's


def _stream(site: Site) -> Stream:
    """The node's stream, made on its first run."""
    if site.memory is None:
        raise RuleViolation("has a state of its own, which nothing keeps here")
    if "stream" not in site.memory:
        seed, offset = _seed(site.attrs.seed), _seed(site.attrs.seed2)
        if seed == offset == 0:
            seed, offset = secrets.randbits(64), secrets.randbits(64)
        site.memory["stream"] = Stream(seed, offset)
    stream: Stream = site.memory["stream"]
    return stream


def _seed(stored: int) -> int:
    """A seed's lower 32 bits as a signed number: the official runtime keeps no more of it."""
    return ((stored + (1 << 31)) & (1 << 32) - 1) - (1 << 31)


def _bounded(count: int, most: int = MOST_ELEMENTS) -> int:
    if count > most:
        raise ExecutionError(f"{count} random numbers are more than the {most} allowed")
    return count


class _Random(Op):
    """A tensor of independent random numbers; the blocks' words are used in order, the last block's rest is lost."""

    operands = (("shape",), ("output",))
    types = "int32 -> float32"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        seed: int = 0
        seed2: int = 0

    def infer(site: Site) -> list[Shape]:
        rank = site.rank(0, 1).size
        wanted = known_integers(site, 0)
        if wanted is None:
            return [(None,) * rank]
        site.require(min(wanted, default=0) >= 0, f"must not be negative, is {wanted}", 0)
        return [tuple(wanted)]


def _numbers(site: Site, shape: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A tensor of this shape from whole blocks of words, of which some are converted at a time."""
    wanted = integers(shape)
    if min(wanted, default=0) < 0:
        raise ExecutionError(f"shape must not be negative, is {wanted}")
    size, stream = _bounded(math.prod(wanted)), _stream(site)
    blocks = -(-size // BLOCK)
    numbers = np.empty((blocks, BLOCK), np.float32)
    for begin in range(0, blocks, AT_ONCE):
        part = numbers[begin : begin + AT_ONCE]
        part[...] = convert(stream.blocks(len(part)))
    return numbers.reshape(-1)[:size].reshape(wanted)


@register
class RandomUniform(_Random):
    """float32 numbers, uniform in [0, 1)."""

    name, code = "RANDOM_UNIFORM", 148

    def evaluate(site: Site, shape: np.ndarray) -> list[np.ndarray]:
        return [_numbers(site, shape, uniform)]


@register
class RandomStandardNormal(_Random):
    """float32 numbers, normal with mean 0 and variance 1."""

    name, code = "RANDOM_STANDARD_NORMAL", 146

    def evaluate(site: Site, shape: np.ndarray) -> list[np.ndarray]:
        return [_numbers(site, shape, normal)]


@register
class Multinomial(Op):
    """num_samples choices for each row of logits [rows, classes]; class c is chosen with probability softmax(row)[c].

    Logits that are not finite have probability 0. A choice is the first class whose cumulated weight (in float64)
    lies above a random number; a block's four words make two of them.
    """

    name, code = "MULTINOMIAL", 149
    operands = (("logits", "num_samples"), ("output",))
    types = "float32 int32 -> T: int32 int64"
    stateful = True

    Attrs = _Random.Attrs

    def infer(site: Site) -> list[Shape]:
        logits = site.rank(0, 2)
        site.require(logits.shape[1] is None or logits.shape[1] > 0, f"must have a class, is {logits}", 0)
        site.rank(1, 0)
        wanted = known_integers(site, 1)
        if wanted is None:
            return [(logits.shape[0], None)]
        site.require(wanted[0] >= 0, f"must not be negative, is {wanted[0]}", 1)
        return [(logits.shape[0], wanted[0])]

    def evaluate(site: Site, logits: np.ndarray, num_samples: np.ndarray) -> list[np.ndarray]:
        rows, samples = logits.shape[0], int(num_samples)
        if samples < 0:
            raise ExecutionError(f"num_samples must not be negative, is {samples}")
        stream = _stream(site)
        words = Stream(stream.seed, stream.offset, stream.next).blocks(-(-_bounded(rows * samples, MOST_CHOICES) // 2))
        stream.skip(rows * (-(-samples // BLOCK) * BLOCK) * BLOCKS_OF_A_CHOICE)
        wanted = uniform_double(words[:, 0::2], words[:, 1::2]).reshape(-1)[: rows * samples].reshape(rows, samples)
        chosen = [
            np.searchsorted(weights, x * weights[-1], "right")
            for weights, x in zip(_cumulated(logits), wanted, strict=True)
        ]
        return [np.array(chosen, site.outputs[0].dtype.numpy).reshape(rows, samples)]


def _cumulated(logits: np.ndarray) -> np.ndarray:
    """float64: for each class the sum of exp(logit - greatest) up to it."""
    finite = np.isfinite(logits)
    known = np.where(finite, logits, np.finfo(np.float32).min)
    weights = np.where(finite, np.exp(known.astype(np.float64) - known.max(axis=1, keepdims=True)), 0.0)
    return np.cumsum(weights, axis=1)
