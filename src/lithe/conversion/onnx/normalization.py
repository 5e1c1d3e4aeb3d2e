"""What ONNX's operators are in builtins: normalization over batches, layers, groups and neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.arrangement import constant_pad
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.onnx.reductions import reduced
from lithe.conversion.parts import along_channels, channels_first, channels_last
from lithe.conversion.reductions import affine, moments
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value
from lithe.types import FLOAT32


@rule("BatchNormalization")
def batch_normalization(b: Builder, c: Call) -> Sequence[Tensor]:
    """A factor and an offset for each channel, which the convolution before takes in."""
    x = b.cast(c[0], FLOAT32)
    eps, rank = c.attr("epsilon", 1e-5), x.type.rank
    scale, bias, mean, variance = (b.cast(c[i], FLOAT32) for i in range(1, 5))
    if c.attr("training_mode", 0) or (c.version < 14 and len([r for r in c.results if r]) > 1):
        return _in_training(b, c, x, (scale, bias, mean, variance))
    parts = [t.data for t in (scale, bias, mean, variance)]
    if all(p is not None for p in parts):
        s, o, m, v = (np.asarray(p, np.float64) for p in parts)
        factor = s / np.sqrt(v + eps)
        y = b("MUL", x, along_channels(b, b.constant(factor, FLOAT32), rank))
        y = b("ADD", y, along_channels(b, b.constant(o - m * factor, FLOAT32), rank))
        return [b.cast(y, c[0].type.dtype)]
    root = (Value(b, variance) + eps).apply("RSQRT")
    factor_now = Value(b, scale) * root
    offset = Value(b, bias) - Value(b, mean) * factor_now
    y = affine(b, x, factor_now.tensor, offset.tensor, lambda v: along_channels(b, v, rank))
    return [b.cast(y, c[0].type.dtype)]


def _in_training(b: Builder, c: Call, x: Tensor, given: Sequence[Tensor]) -> list[Tensor]:
    """By the batch's own moments; running ones go along."""
    scale, bias, mean, variance = given
    eps, momentum, rank = c.attr("epsilon", 1e-5), c.attr("momentum", 0.9), x.type.rank
    axes = [i for i in range(rank) if i != 1]
    centred, square = moments(b, x, axes)
    y = affine(b, (centred / formulas.sqrt(square + eps)).tensor, scale, bias, lambda v: along_channels(b, v, rank))
    now = Value(b, reduced(b, "MEAN", x, axes, False)), Value(b, b.reshape(square.tensor, (x.type.shape[1],)))
    running = [(Value(b, old) * momentum + new * (1 - momentum)).tensor
               for old, new in zip((mean, variance), now, strict=True)]  # fmt: skip
    return [b.cast(y, c[0].type.dtype), *running][: len(c.results)]


@rule("InstanceNormalization")
def instance_normalization(b: Builder, c: Call) -> Tensor:
    x = b.cast(c[0], FLOAT32)
    centred, square = moments(b, x, list(range(2, x.type.rank)))
    y = (centred * (square + c.attr("epsilon", 1e-5)).apply("RSQRT")).tensor
    y = affine(b, y, b.cast(c[1], FLOAT32), b.cast(c[2], FLOAT32), lambda v: along_channels(b, v, x.type.rank))
    return b.cast(y, c[0].type.dtype)


@rule("GroupNormalization")
def group_normalization(b: Builder, c: Call) -> Tensor:
    """Before operator set 21 scale and bias are numbers of each group."""
    x, groups = b.cast(c[0], FLOAT32), c.attr("num_groups")
    batch, channels, *places = x.type.shape
    parted = b.reshape(x, (batch, groups, channels // groups, *places))
    centred, square = moments(b, parted, list(range(2, parted.type.rank)))
    y = (centred * (square + c.attr("epsilon", 1e-5)).apply("RSQRT")).tensor
    scale, bias = b.cast(c[1], FLOAT32), b.cast(c[2], FLOAT32)
    if scale.type.size == groups and groups != channels:
        y = affine(b, y, scale, bias, lambda v: along_channels(b, v, parted.type.rank))
        return b.cast(b.reshape(y, x.type.shape), c[0].type.dtype)
    y = affine(b, b.reshape(y, x.type.shape), scale, bias, lambda v: along_channels(b, v, x.type.rank))
    return b.cast(y, c[0].type.dtype)


@rule("LayerNormalization")
def layer_normalization(b: Builder, c: Call) -> Sequence[Tensor]:
    x = b.cast(c[0], FLOAT32)
    first = c.attr("axis", -1) % x.type.rank
    axes = list(range(first, x.type.rank))
    mean = reduced(b, "MEAN", x, axes, True)
    centred = Value(b, b("SUB", x, mean))
    square = Value(b, reduced(b, "MEAN", b("SQUARE", centred.tensor), axes, True))
    root = (square + c.attr("epsilon", 1e-5)).apply("RSQRT")
    scale, bias = (None if not c.has(i) else b.cast(c[i], FLOAT32) for i in (1, 2))
    y = affine(b, (centred * root).tensor, scale, bias, lambda v: v)
    return [b.cast(y, c[0].type.dtype), mean, root.tensor][: len(c.results)]


@rule("RMSNormalization")
def rms_normalization(b: Builder, c: Call) -> Tensor:
    x = b.cast(c[0], FLOAT32)
    axes = list(range(c.attr("axis", -1) % x.type.rank, x.type.rank))
    square = Value(b, reduced(b, "MEAN", b("SQUARE", x), axes, True))
    root = (square + c.attr("epsilon", 1e-5)).apply("RSQRT")
    return b.cast(affine(b, (Value(b, x) * root).tensor, b.cast(c[1], FLOAT32), None, lambda v: v), c[0].type.dtype)


@rule("LRN")
def local_response(b: Builder, c: Call) -> Tensor:
    """x / (bias + alpha / size * the sum of squares of `size` channels)**beta"""
    x, size = c[0], c.attr("size")
    alpha, beta, bias = c.attr("alpha", 1e-4) / size, c.attr("beta", 0.75), c.attr("bias", 1.0)
    if size % 2 and x.type.rank == 4:
        last = channels_last(b, x)
        y = b("LOCAL_RESPONSE_NORMALIZATION", last, radius=size // 2, bias=float(bias), alpha=float(alpha),
              beta=float(beta))  # fmt: skip
        return channels_first(b, y)
    square = b("SQUARE", x)
    pairs = [(0, 0)] * x.type.rank
    pairs[1] = ((size - 1) // 2, size // 2)
    wide = constant_pad(b, square, pairs, None)
    channels = x.type.shape[1]
    parts = [b.slice(wide, [i if a == 1 else 0 for a in range(x.type.rank)],
                     [channels if a == 1 else n for a, n in enumerate(x.type.shape)]) for i in range(size)]  # fmt: skip
    total = Value(b, parts[0])
    for part in parts[1:]:
        total = total + Value(b, part)
    return (Value(b, x) / (total * alpha + bias).apply("POW", float(beta))).tensor
