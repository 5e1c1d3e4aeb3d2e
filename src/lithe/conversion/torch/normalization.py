"""What ATen's operators are in builtins: normalization over batches, layers, groups and instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.parts import along_channels
from lithe.conversion.reductions import affine, moments, reduced
from lithe.conversion.torch.rules import Call, rule
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value
from lithe.types import FLOAT32


@rule("_native_batch_norm_legit_no_training", "_native_batch_norm_legit.no_stats")
def batch_norm(b: Builder, c: Call, input: Tensor, weight: Tensor | None, bias: Tensor | None,
               running_mean: Tensor | None, running_var: Tensor | None, training: Any, eps: float) -> Any:  # fmt: skip
    """A factor and an offset for each channel, which the convolution before takes in."""
    rank = input.type.rank
    if running_mean is None or running_var is None or training:
        axes = [i for i in range(rank) if i != 1]
        centred, square = moments(b, input, axes)
        y = centred * (square + eps).apply("RSQRT")
    else:
        mean, variance = b.array(running_mean).astype(np.float64), b.array(running_var).astype(np.float64)
        factor = (1.0 if weight is None else b.array(weight)) / np.sqrt(variance + eps)
        offset = (0.0 if bias is None else b.array(bias)) - mean * factor
        scaled = b("MUL", input, along_channels(b, b.constant(factor, FLOAT32), rank))
        made = b("ADD", scaled, along_channels(b, b.constant(offset, FLOAT32), rank))
        return [made] * len(c.results) if len(c.results) > 1 else made
    made = affine(b, y.tensor, weight, bias, lambda v: along_channels(b, v, rank))
    return [made] * len(c.results) if len(c.results) > 1 else made


@rule("layer_norm", "native_layer_norm")
def layer_norm(b: Builder, c: Call, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None,
               bias: Tensor | None, eps: float) -> Any:  # fmt: skip
    rank = input.type.rank
    axes = list(range(rank - len(normalized_shape), rank))
    centred, square = moments(b, input, axes)
    y = (centred * (square + eps).apply("RSQRT")).tensor
    y = affine(b, y, weight, bias, lambda v: v)
    return [y, y, y] if c.name.startswith("native") else y


@rule("rms_norm")
def rms_norm(b: Builder, c: Call, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None,
             eps: float | None) -> Any:  # fmt: skip
    rank = input.type.rank
    axes = list(range(rank - len(normalized_shape), rank))
    square = Value(b, reduced(b, "MEAN", b("SQUARE", input), axes, True))
    root = (square + (1.1920928955078125e-07 if eps is None else eps)).apply("RSQRT")
    y = affine(b, (Value(b, input) * root).tensor, weight, None, lambda v: v)
    return y


@rule("group_norm", "native_group_norm")
def group_norm(b: Builder, c: Call, input: Tensor, num_groups: int, group: int, weight: Tensor | None,
               bias: Tensor | None, eps: float) -> Any:  # fmt: skip
    """Means over a group's channels and all places, of the picture with groups as an axis."""
    groups = int(num_groups or group)
    batch, channels, *places = input.type.shape
    rank = input.type.rank
    parted = b.reshape(input, (batch, groups, channels // groups, *places))
    centred, square = moments(b, parted, list(range(2, rank + 1)))
    y = b.reshape((centred * (square + eps).apply("RSQRT")).tensor, input.type.shape)
    y = affine(b, y, weight, bias, lambda v: along_channels(b, v, rank))
    return [y, y, y] if c.name.startswith("native") else y


@rule("instance_norm")
def instance_norm(b: Builder, c: Call, input: Tensor, weight: Tensor | None, bias: Tensor | None,
                  running_mean: Tensor | None, running_var: Tensor | None, use_input_stats: bool,
                  eps: float) -> Tensor:  # fmt: skip
    if not use_input_stats:
        made: Tensor = batch_norm(b, c, input, weight, bias, running_mean, running_var, False, eps)
        return made
    rank = input.type.rank
    centred, square = moments(b, input, list(range(2, rank)))
    y = (centred * (square + eps).apply("RSQRT")).tensor
    return affine(b, y, weight, bias, lambda v: along_channels(b, v, rank))
