"""Layers: contractions, convolutions, pooling, normalization, resizing. Pictures have their channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.ir.graph import Tensor
from lithe.passes.deflex.draft import Draft, rule
from lithe.passes.writer import Value
from lithe.types import COMPLEX64, FLOAT32, INT32

MOST_CHANNELS = 1 << 20

# matrices


@rule("MatMul")
def multiply_matrices(d: Draft) -> Tensor:
    """A constant on the right becomes weights, with its rows and columns exchanged."""
    x, y = d.inputs
    left, right = d.attribute("transpose_a", False), d.attribute("transpose_b", False)
    if y.data is None or left or x.type.dtype != FLOAT32:
        return _batched(d, x, y, left, right)
    weights = y if right else d.transpose(y, (1, 0))
    return d("FULLY_CONNECTED", x, weights, fused_activation_function="NONE", weights_format="DEFAULT",
             keep_num_dims=False)  # fmt: skip


@rule("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def multiply_batches(d: Draft) -> Tensor:
    x, y = d.inputs
    return _batched(d, x, y, d.attribute("adj_x", False), d.attribute("adj_y", False))


def _batched(d: Draft, x: Tensor, y: Tensor, left: bool, right: bool) -> Tensor:
    return d("BATCH_MATMUL", x, y, adj_x=left, adj_y=right)


@rule("Einsum")
def einsum(d: Draft) -> Tensor:
    """One operand: a sum over what is missing, and a transpose. Two: a product of matrices between transposes.

    abc,cd->abd: axes of both and of the result are batches, those of both and not of the result are summed over.
    """
    given, wanted = d.attribute("equation", "").replace(" ", "").split("->")
    labels = given.split(",")
    d.require("." not in given and all(len(set(part)) == len(part) for part in (*labels, wanted)))
    d.require([len(part) for part in labels] == [t.type.rank for t in d.inputs])
    if len(labels) == 1:
        return _sum_and_transpose(d, d.inputs[0], labels[0], wanted)
    d.require(len(labels) == 2)
    (x, y), (of_x, of_y) = d.inputs, labels
    sizes = dict(zip(of_x + of_y, d.shape(x) + d.shape(y), strict=True))
    both = [c for c in of_x if c in of_y]
    batch, summed = [c for c in both if c in wanted], [c for c in both if c not in wanted]
    left, right = [c for c in of_x if c not in both], [c for c in of_y if c not in both]
    d.require(set(left + right) <= set(wanted) and len(wanted) == len(batch + left + right))

    def matrices(t: Tensor, own: str, rows: list[str], columns: list[str]) -> Tensor:
        turned = d.transpose(t, [own.index(c) for c in (*batch, *rows, *columns)])
        return d.reshape(turned, [*(sizes[c] for c in batch), count(rows), count(columns)])

    def count(axes: list[str]) -> int:
        return math.prod(sizes[c] for c in axes)

    z = _batched(d, matrices(x, of_x, left, summed), matrices(y, of_y, summed, right), False, False)
    order = [*batch, *left, *right]
    return d.transpose(d.reshape(z, [sizes[c] for c in order]), [order.index(c) for c in wanted])


def _sum_and_transpose(d: Draft, x: Tensor, given: str, wanted: str) -> Tensor:
    d.require(set(wanted) <= set(given))
    missing = [i for i, c in enumerate(given) if c not in wanted]
    if missing:
        x = d("SUM", x, d.constant(missing), keep_dims=False)
    kept = [c for c in given if c in wanted]
    return d.transpose(x, [kept.index(c) for c in wanted])


# convolutions


def layout_is(d: Draft, format_: str = "NHWC") -> None:
    """Channels are last."""
    d.require(d.attribute("data_format", format_) == format_)


def window_of(d: Draft, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a window along the middle axes; there is none along batches and channels."""
    first, *inner, last = d.attribute(name, default)
    d.require(first == last == 1)
    return tuple(inner)


def steps_of(d: Draft) -> dict[str, Any]:
    """Strides and dilations, as a convolution's attributes."""
    stride_h, stride_w = window_of(d, "strides", (1, 1, 1, 1))
    dilation_h, dilation_w = window_of(d, "dilations", (1, 1, 1, 1))
    return {
        "stride_h": stride_h, "stride_w": stride_w, "dilation_h_factor": dilation_h, "dilation_w_factor": dilation_w,
        "fused_activation_function": "NONE",
    }  # fmt: skip


def _padded(d: Draft, x: Tensor) -> tuple[Tensor, str]:
    """(input, kind of padding): a padding in numbers is written out."""
    kind = d.attribute("padding", "VALID")
    if kind != "EXPLICIT":
        return x, kind
    amounts = np.array(d.attribute("explicit_paddings", ())).reshape(-1, 2)
    return d("PAD", x, d.constant(amounts)), "VALID"


def _no_bias(d: Draft, channels: int) -> Tensor:
    """Zeros: the official kernels want a bias, though the schema says that there may be none."""
    d.require(channels <= MOST_CHANNELS)
    return d.constant(np.zeros(channels), FLOAT32)


@rule("Conv2D")
def convolve(d: Draft) -> Tensor:
    """The filter's axes: height, width, in, out there; out, height, width, in here.

    A filter that sees one of many channels is that of a depthwise convolution.
    """
    layout_is(d)
    x, padding = _padded(d, d.inputs[0])
    height, width, seen, outputs = d.shape(d.inputs[1])
    channels = x.type.shape[-1]
    if seen == 1 and channels is not None and channels > 1:
        filter_ = d.reshape(d.inputs[1], (1, height, width, outputs))
        return d("DEPTHWISE_CONV_2D", x, filter_, _no_bias(d, outputs), padding=padding,
                 depth_multiplier=outputs // channels, **steps_of(d))  # fmt: skip
    filter_ = d.transpose(d.inputs[1], (3, 0, 1, 2))
    return d("CONV_2D", x, filter_, _no_bias(d, d.shape(filter_)[0]), padding=padding, **steps_of(d))


@rule("DepthwiseConv2dNative")
def convolve_depthwise(d: Draft) -> Tensor:
    """The filter's axes: height, width, in, multiplier there; 1, height, width, in * multiplier here."""
    layout_is(d)
    x, padding = _padded(d, d.inputs[0])
    height, width, channels, multiplier = d.shape(d.inputs[1])
    filter_ = d.reshape(d.inputs[1], (1, height, width, channels * multiplier))
    bias = _no_bias(d, channels * multiplier)
    return d("DEPTHWISE_CONV_2D", x, filter_, bias, padding=padding, depth_multiplier=multiplier, **steps_of(d))


@rule("Conv2DBackpropInput")
def convolve_transposed(d: Draft) -> Tensor:
    """The filter's axes: height, width, out, in there; out, height, width, in here."""
    layout_is(d)
    shape, filter_, x = d.inputs
    stride_h, stride_w = window_of(d, "strides", (1, 1, 1, 1))
    padding = d.attribute("padding", "VALID")
    d.require(padding in ("SAME", "VALID") and window_of(d, "dilations", (1, 1, 1, 1)) == (1, 1))
    return d("TRANSPOSE_CONV", d.int32(shape), d.transpose(filter_, (2, 0, 1, 3)), x, dtype=x.type.dtype, rank=4,
             padding=padding, stride_h=stride_h, stride_w=stride_w, fused_activation_function="NONE")  # fmt: skip


@rule("Conv3D")
def convolve_volume(d: Draft) -> Tensor:
    layout_is(d, "NDHWC")
    ones = (1, 1, 1, 1, 1)
    names = ("stride_d", "stride_h", "stride_w", "dilation_d_factor", "dilation_h_factor", "dilation_w_factor")
    sizes = (*window_of(d, "strides", ones), *window_of(d, "dilations", ones))
    steps: dict[str, Any] = dict(zip(names, sizes, strict=True))
    padding = d.attribute("padding", "VALID")
    return d("CONV_3D", *d.inputs, padding=padding, fused_activation_function="NONE", **steps)


@rule("MaxPool", "AvgPool")
def pool(d: Draft) -> Tensor:
    layout_is(d)
    (height, width), (stride_h, stride_w) = window_of(d, "ksize", ()), window_of(d, "strides", ())
    padding = d.attribute("padding", "VALID")
    d.require(padding in ("SAME", "VALID"))
    builtin = "MAX_POOL_2D" if d.definition.op == "MaxPool" else "AVERAGE_POOL_2D"
    return d(builtin, d.inputs[0], padding=padding, stride_h=stride_h, stride_w=stride_w, filter_height=height,
             filter_width=width, fused_activation_function="NONE")  # fmt: skip


# biases and normalization


@rule("BiasAdd", "BiasAddV1")
def add_bias(d: Draft) -> Tensor:
    """Along the last axis, or along the second where channels come first."""
    x, bias = d.inputs
    if d.attribute("data_format", "NHWC") == "NCHW":
        bias = d.reshape(bias, [-1, *[1] * (x.type.rank - 2)])
    return d("ADD", x, bias, fused_activation_function="NONE")


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def normalize_batch(d: Draft) -> list[Tensor | None]:
    """(x - mean) scale / sqrt(variance + epsilon) + offset, with means and variances that are given, or the batch's.

    Of a batch, the variance that comes out is the estimate of that of all, so it is n / (n - 1) times the one used.
    Channels may come first, too.
    """
    first = d.attribute("data_format", "NHWC") == "NCHW"
    axes = (0, 2, 3) if first else (0, 1, 2)
    x, scale, offset, mean, variance = (Value(d, t) for t in d.inputs)

    def along(channels: Value) -> Value:
        return Value(d, d.reshape(channels.tensor, [1, -1, 1, 1])) if first else channels

    estimate = variance
    if d.attribute("is_training", True):
        d.require(d.attribute("exponential_avg_factor", 1.0) == 1.0, "a running mean inside of the operator")
        mean = mean_over(x, axes)
        centred = x - along(mean)
        variance = mean_over(centred * centred, axes)
        n = _count_of_places(d, x, axes)
        estimate = variance * (n / (n - 1.0))
    factor = scale * (variance + d.attribute("epsilon", 1e-4)).apply("RSQRT")
    y = (x - along(mean)) * along(factor) + along(offset)
    return [y.tensor, mean.tensor, estimate.tensor, None, None, None][: len(d.node.outputs)]


def mean_over(x: Value, axes: Sequence[int]) -> Value:
    """The mean along axes, which fall away."""
    return x.apply("MEAN", Value(x.writer, x.writer.constant(list(axes))), keep_dims=False)


def _count_of_places(d: Draft, x: Value, axes: Sequence[int]) -> Value:
    shape = d("SHAPE", x.tensor, dtype=INT32, out_type=INT32)
    places = d("GATHER", shape, d.constant(list(axes)), axis=0, batch_dims=0)
    return Value(d, d.cast(d("REDUCE_PROD", places, d.constant([0]), keep_dims=False), FLOAT32))


@rule("LRN")
def normalize_response(d: Draft) -> Tensor:
    return d("LOCAL_RESPONSE_NORMALIZATION", d.inputs[0], radius=d.attribute("depth_radius", 5),
             **{name: d.attribute(name, default) for name, default in (("bias", 1.0), ("alpha", 1.0), ("beta", 0.5))}
             )  # fmt: skip


@rule("Softmax")
def softmax(d: Draft) -> Tensor:
    return d("SOFTMAX", d.inputs[0], beta=1.0)


# pictures and spectra


@rule("ResizeBilinear", "ResizeNearestNeighbor")
def resize(d: Draft) -> Tensor:
    builtin = "RESIZE_BILINEAR" if d.definition.op == "ResizeBilinear" else "RESIZE_NEAREST_NEIGHBOR"
    flags = {name: d.attribute(name, False) for name in ("align_corners", "half_pixel_centers")}
    return d(builtin, *d.inputs, rank=4, **flags)


@rule("RFFT2D")
def transform(d: Draft) -> Tensor:
    return d("RFFT2D", *d.inputs, dtype=COMPLEX64, rank=d.inputs[0].type.rank)


@rule("RFFT")
def transform_rows(d: Draft) -> Tensor:
    """A picture of one row."""
    x, length = d.inputs
    rank = x.type.rank
    sizes = d.constant([1, *d.array(length).tolist()])
    rows = d("RFFT2D", d("EXPAND_DIMS", x, d.constant(-2), rank=rank + 1), sizes, dtype=COMPLEX64, rank=rank + 1)
    return d("SQUEEZE", rows, rank=rank, squeeze_dims=(rank - 1,))
