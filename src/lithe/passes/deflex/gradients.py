"""Gradients, as training on a device computes them: of activations, biases, losses, pooling and convolutions.

Each is given the gradient of the loss by the operator's result, and gives that by an operand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lithe.ir.graph import Tensor
from lithe.passes.deflex.draft import RULES, Draft, rule
from lithe.passes.deflex.layers import layout_is, mean_over, steps_of, window_of
from lithe.passes.writer import Value, where
from lithe.types import BOOL, FLOAT32, INT32, INT64

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # of selu: Klambauer et al., Self-Normalizing Neural Networks


def gradient(*names: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Decorator: the operators with these names are this function of their operands, in floats."""

    def add(function: Callable[..., Value]) -> Callable[..., Value]:
        def write(d: Draft) -> Tensor:
            d.require(all(t.type.dtype == FLOAT32 for t in d.inputs))
            return function(*(Value(d, t) for t in d.inputs)).tensor

        RULES.update(dict.fromkeys(names, write))
        return function

    return add


# activations: (gradient, features) or (result, gradient), as TensorFlow has it for each


@gradient("ReluGrad")
def of_relu(dy: Value, y: Value) -> Value:
    return where(y > 0.0, dy, 0.0)


@gradient("Relu6Grad")
def of_relu6(dy: Value, y: Value) -> Value:
    inside = (y > 0.0).apply("LOGICAL_AND", y < 6.0, dtype=BOOL)
    return where(inside, dy, 0.0)


@rule("LeakyReluGrad")
def of_leaky_relu(d: Draft) -> Tensor:
    dy, x = (Value(d, t) for t in d.inputs)
    return where(x > 0.0, dy, dy * d.attribute("alpha", 0.2)).tensor


@gradient("EluGrad")
def of_elu(dy: Value, y: Value) -> Value:
    return where(y < 0.0, dy * (y + 1.0), dy)


@gradient("SeluGrad")
def of_selu(dy: Value, y: Value) -> Value:
    return where(y < 0.0, dy * (y + SCALE * ALPHA), dy * SCALE)


@gradient("SoftplusGrad")
def of_softplus(dy: Value, x: Value) -> Value:
    return dy * x.apply("LOGISTIC")


@gradient("SoftsignGrad")
def of_softsign(dy: Value, x: Value) -> Value:
    larger = abs(x) + 1.0
    return dy / (larger * larger)


@gradient("SigmoidGrad")
def of_sigmoid(y: Value, dy: Value) -> Value:
    return dy * y * (1.0 - y)


@gradient("TanhGrad")
def of_tanh(y: Value, dy: Value) -> Value:
    return dy * (1.0 - y * y)


@gradient("SqrtGrad")
def of_root(y: Value, dy: Value) -> Value:
    return dy * 0.5 / y


@gradient("RsqrtGrad")
def of_reciprocal_root(y: Value, dy: Value) -> Value:
    return dy * -0.5 * (y * y * y)


@gradient("ReciprocalGrad", "InvGrad")
def of_reciprocal(y: Value, dy: Value) -> Value:
    return -dy * y * y


# biases and losses


def _sum(d: Draft, x: Tensor, axes: Sequence[int], keep: bool = False) -> Tensor:
    return d("SUM", x, d.constant(list(axes)), keep_dims=keep)


@rule("BiasAddGrad")
def of_bias(d: Draft) -> Tensor:
    """The sum over all axes but the channels'."""
    (dy,) = d.inputs
    channels = 1 if d.attribute("data_format", "NHWC") == "NCHW" else dy.type.rank - 1
    return _sum(d, dy, [i for i in range(dy.type.rank) if i != channels])


@rule("SoftmaxCrossEntropyWithLogits")
def cross_entropy(d: Draft) -> Sequence[Tensor]:
    """(- sum of labels log softmax(x), softmax(x) - labels), for each row."""
    x, labels = d.inputs
    return _cross_entropy(d, x, labels)


@rule("SparseSoftmaxCrossEntropyWithLogits")
def sparse_cross_entropy(d: Draft) -> Sequence[Tensor]:
    """The same, where a row's label is the place of its only 1."""
    x, places = d.inputs
    one, zero = d.constant(1, FLOAT32), d.constant(0, FLOAT32)
    depth = d.constant(d.shape(x)[-1])
    labels = d("ONE_HOT", d.int32(places), depth, one, zero, dtype=FLOAT32, rank=2, axis=-1)
    return _cross_entropy(d, x, labels)


def _cross_entropy(d: Draft, x: Tensor, labels: Tensor) -> list[Tensor]:
    d.require(x.type.dtype == labels.type.dtype == FLOAT32 and x.type.rank == 2)
    loss = Value(d, _sum(d, d("MUL", labels, d("LOG_SOFTMAX", x)), [1]))
    return [(-loss).tensor, d("SUB", d("SOFTMAX", x, beta=1.0), labels)]


@rule("BroadcastGradientArgs")
def summed_axes(d: Draft) -> Sequence[Tensor]:
    """For each of two shapes, the axes along which it was repeated to the shape of both."""
    found = repeated_axes(*(d.array(t).tolist() for t in d.inputs))
    return [d.constant(axes, d.inputs[0].type.dtype) for axes in found]


def repeated_axes(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
    """The axes of the common shape of two along which each is repeated."""
    rank = max(len(a), len(b))
    x, y = ([1] * (rank - len(s)) + list(s) for s in (a, b))
    missing = [rank - len(a), rank - len(b)]
    return tuple(  # type: ignore[return-value]
        [i for i in range(rank) if i < gone or (own[i] == 1 and other[i] != 1)]
        for own, other, gone in ((x, y, missing[0]), (y, x, missing[1]))
    )


# pooling: windows that do not overlap


def _tiles(d: Draft) -> tuple[int, int]:
    """(height, width) of windows that lie side by side."""
    layout_is(d)
    size, strides = window_of(d, "ksize", ()), window_of(d, "strides", ())
    d.require(size == strides, f"the gradient of pooling with windows of {size} at steps of {strides}")
    d.require(d.attribute("padding", "VALID") in ("SAME", "VALID"))
    return size[0], size[1]


def _fitted(d: Draft, x: Tensor, places: tuple[int, int], value: float = 0.0) -> Tensor:
    """A picture of other height and width: cut off or padded at its end."""
    _, *have, _ = d.shape(x)
    for axis, (n, want) in enumerate(zip(have, places, strict=True), 1):
        if n > want:
            sizes = [-1] * 4
            sizes[axis] = want
            x = d("SLICE", x, d.constant([0] * 4), d.constant(sizes))
        elif n < want:
            amounts = [[0, 0] for _ in range(4)]
            amounts[axis][1] = want - n
            x = d("PADV2", x, d.constant(amounts), d.constant(value, FLOAT32))
    return x


@rule("MaxPoolGrad")
def of_max_pool(d: Draft) -> Tensor:
    """To the first of the largest in each window."""
    height, width = _tiles(d)
    x, y, dy = d.inputs
    shape, places = d.shape(y), d.shape(x)
    d.require(_same_starts_at_zero(d, places, (height, width)))
    batch, rows, columns, channels = shape
    count = height * width
    whole = _fitted(d, x, (rows * height, columns * width), -math.inf)
    tiles = d.reshape(whole, [batch * rows, height, columns, width, channels])
    aligned = d.reshape(d.transpose(tiles, (0, 2, 4, 1, 3)), [batch * rows, columns, channels, count])
    first = d("ARG_MAX", aligned, d.constant(3), dtype=INT64, output_type=INT64)
    one, zero = d.constant(1, FLOAT32), d.constant(0, FLOAT32)
    chosen = d("ONE_HOT", d.cast(first, INT32), d.constant(count), one, zero, dtype=FLOAT32, rank=4, axis=-1)
    spread = d("MUL", chosen, d.reshape(dy, [batch * rows, columns, channels, 1]))
    back = d.transpose(d.reshape(spread, [batch * rows, columns, channels, height, width]), (0, 3, 1, 4, 2))
    picture = d.reshape(back, [batch, rows * height, columns * width, channels])
    return _fitted(d, picture, (places[1], places[2]))


def _same_starts_at_zero(d: Draft, places: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether no window begins before the picture: padding "SAME" puts half of what is missing there."""
    missing = [-n % k for n, k in zip(places[1:3], size, strict=True)]
    return d.attribute("padding", "VALID") == "VALID" or all(m < 2 for m in missing)


@rule("AvgPoolGrad")
def of_average_pool(d: Draft) -> Tensor:
    """Its share to each element of a window; windows lie within the picture."""
    height, width = _tiles(d)
    shape, dy = d.inputs
    _, rows, columns, _ = d.shape(dy)
    _, *places, _ = (int(n) for n in d.array(shape))
    d.require(
        d.attribute("padding", "VALID") == "VALID"
        or [n % k for n, k in zip(places, (height, width), strict=True)] == [0, 0]
    )
    share = d("MUL", dy, d.constant(1 / (height * width), FLOAT32))
    wide = d("RESIZE_NEAREST_NEIGHBOR", share, d.constant([rows * height, columns * width]), rank=4)
    return _fitted(d, wide, (places[0], places[1]))


# convolutions


@rule("Conv2DBackpropFilter")
def of_filter(d: Draft) -> Tensor:
    """A convolution too: channels of the picture as batches, pictures as channels, the gradient as filter.

    It moves by the dilations, and its elements are as far apart as the strides.
    """
    layout_is(d)
    x, sizes, dy = d.inputs
    height, width, seen, outputs = (int(n) for n in d.array(sizes))
    d.require(seen == x.type.shape[-1], "the gradient by the filter of a convolution in groups")
    steps, kind = steps_of(d), d.attribute("padding", "VALID")
    d.require(kind in ("SAME", "VALID"))
    stride, dilation = (steps["stride_h"], steps["stride_w"]), (steps["dilation_h_factor"], steps["dilation_w_factor"])
    amounts, cut = [[0, 0]], []
    for n, m, k, s, e in zip(d.shape(x)[1:3], d.shape(dy)[1:3], (height, width), stride, dilation, strict=True):
        needed = (m - 1) * s + (k - 1) * e + 1
        before = max(needed - n, 0) // 2 if kind == "SAME" else 0
        amounts.append([before, max(needed - n - before, 0)])
        cut.append(needed)
    if np.any(amounts):
        x = d("PAD", x, d.constant([*amounts, [0, 0]]))
    x = _fitted(d, x, (cut[0], cut[1]))
    picture, filter_ = d.transpose(x, (3, 1, 2, 0)), d.transpose(dy, (3, 1, 2, 0))
    bias = d.constant(np.zeros(outputs), FLOAT32)
    made = d("CONV_2D", picture, filter_, bias, padding="VALID", stride_h=dilation[0], stride_w=dilation[1],
             dilation_h_factor=stride[0], dilation_w_factor=stride[1], fused_activation_function="NONE")  # fmt: skip
    return d.transpose(made, (1, 2, 0, 3))


@rule("FusedBatchNormGradV3", "FusedBatchNormGradV2", "FusedBatchNormGrad")
def of_batch_normalization(d: Draft) -> list[Tensor | None]:
    """(by x, by scale, by offset) from the mean and variance of the batch, or from those that are given."""
    layout_is(d)
    dy, x, scale, mean, variance = (Value(d, t) for t in d.inputs[:5])
    training = d.attribute("is_training", True)
    axes = d.constant([0, 1, 2])
    if training:
        mean = mean_over(x, (0, 1, 2))
        variance = mean_over((x - mean) * (x - mean), (0, 1, 2))
    root = (variance + d.attribute("epsilon", 1e-4)).apply("RSQRT")
    normal = (x - mean) * root
    by_scale = (dy * normal).apply("SUM", Value(d, axes), keep_dims=False)
    by_offset = dy.apply("SUM", Value(d, axes), keep_dims=False)
    by_x = dy
    if training:
        share = dy.apply("MEAN", Value(d, axes), keep_dims=False)
        by_x = dy - share - normal * (dy * normal).apply("MEAN", Value(d, axes), keep_dims=False)
    by_x = by_x * (scale * root)
    return [by_x.tensor, by_scale.tensor, by_offset.tensor, None, None][: len(d.node.outputs)]
