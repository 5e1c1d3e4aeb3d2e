"""Convolutions and pooling in the terms that all frameworks share. Channels are last: [batch, *places, channels]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.matrices import dense
from lithe.conversion.parts import pad, sliced, split
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.types import FLOAT32, Shape

LOWEST = -np.inf


@dataclass(frozen=True)
class Window:
    """What moves over the places of a picture (or sound, or volume): one number or pair for each of its dimensions.

    size      of the window; strides between its positions; dilations between its elements.
    padding   (before, after); negative numbers cut off.
    """

    size: Shape
    strides: Shape
    padding: tuple[tuple[int, int], ...]
    dilations: Shape

    @staticmethod
    def of(
        size: Sequence[int],
        strides: Sequence[int] = (),
        padding: Sequence[tuple[int, int]] = (),
        dilations: Sequence[int] = (),
    ) -> Window:
        """A window; what is left out is 1, and no padding."""
        n = len(size)
        return Window(
            tuple(map(int, size)),
            tuple(map(int, strides)) or (1,) * n,
            tuple((int(a), int(b)) for a, b in padding) or ((0, 0),) * n,
            tuple(map(int, dilations)) or (1,) * n,
        )

    @property
    def extent(self) -> Shape:
        """The places from the window's first to its last element."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilations, strict=True))

    def same_padding(self, places: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """The padding that "SAME" means: ceil(places / stride) positions, the odd one after."""
        pairs = []
        for n, extent, stride in zip(places, self.extent, self.strides, strict=True):
            total = max((-(-n // stride) - 1) * stride + extent - n, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)

    def is_same(self, places: Sequence[int]) -> bool:
        """Whether the padding is that of "SAME", whatever an open dimension turns out to be."""
        fixed = all(s == 1 or not is_open(n) for n, s in zip(places, self.strides, strict=True))
        return fixed and self.padding == self.same_padding(places)

    def with_two_dimensions(self) -> Window:
        """The same for a picture of one row."""
        return Window((1, *self.size), (1, *self.strides), ((0, 0), *self.padding), (1, *self.dilations))


def _flat(b: Builder, x: Tensor) -> Tensor:
    """[batch, places, channels] as a picture of one row."""
    batch, places, channels = x.type.shape
    return b.reshape(x, (batch, 1, places, channels))


def _sequence(b: Builder, x: Tensor) -> Tensor:
    batch, _, places, channels = x.type.shape
    return b.reshape(x, (batch, places, channels))


def _padded(b: Builder, x: Tensor, window: Window, value: float = 0.0) -> tuple[Tensor, str]:
    """The picture, padded where the builtin's own padding is another; and which the builtin is to apply."""
    if not any(a or z for a, z in window.padding):
        return x, "VALID"
    if window.is_same(x.type.shape[1:-1]):
        return x, "SAME"
    return pad(b, x, [(0, 0), *window.padding, (0, 0)], value), "VALID"


def convolution(b: Builder, x: Tensor, weights: Tensor, window: Window, groups: int = 1) -> Tensor:
    """y[n, p, o] = sum over q, i of x[n, stride p + dilation q - before, i] weights[o, q, i]

    x        [batch, *places, channels], one to three dimensions of places.
    weights  [outputs, *window, channels / groups]; outputs of group g read channels of group g.
    """
    dimensions = len(window.size)
    if dimensions == 1:
        outputs, size, channels = weights.type.shape
        if (
            size == groups == 1
            and window.strides == (1,)
            and not any(map(any, window.padding))
            and weights.data is not None
        ):
            return dense(b, x, b.reshape(weights, (outputs, channels)))
        weights = b.reshape(weights, (outputs, 1, size, channels))
        return _sequence(b, convolution(b, _flat(b, x), weights, window.with_two_dimensions(), groups))
    if dimensions == 3:
        return _volumes(b, x, weights, window, groups)
    b.require(dimensions == 2, f"a convolution over {dimensions} dimensions")
    x, padding = _padded(b, x, window)
    (stride_h, stride_w), (dilation_h, dilation_w) = window.strides, window.dilations
    attrs: dict[str, Any] = {"padding": padding, "stride_h": stride_h, "stride_w": stride_w,
                             "dilation_h_factor": dilation_h, "dilation_w_factor": dilation_w}  # fmt: skip
    channels, outputs = x.type.shape[-1], weights.type.shape[0]
    if groups == channels and weights.type.shape[-1] == 1 and groups > 1:
        turned = b.transpose(weights, (3, 1, 2, 0))
        return b("DEPTHWISE_CONV_2D", x, turned, zeros(b, outputs), depth_multiplier=outputs // channels, **attrs)
    return b("CONV_2D", x, weights, zeros(b, outputs), **attrs)


def zeros(b: Builder, channels: int) -> Tensor:
    """A bias of nothing: what is added later is folded into it."""
    return b.constant(np.zeros(channels), FLOAT32)


def _volumes(b: Builder, x: Tensor, weights: Tensor, window: Window, groups: int) -> Tensor:
    """CONV_3D knows no groups: each is a convolution of its own."""
    x, padding = _padded(b, x, window)
    (stride_d, stride_h, stride_w), (dilation_d, dilation_h, dilation_w) = window.strides, window.dilations
    turned = b.transpose(weights, (1, 2, 3, 4, 0))
    attrs: dict[str, Any] = {"padding": padding, "stride_d": stride_d, "stride_h": stride_h, "stride_w": stride_w,
             "dilation_d_factor": dilation_d, "dilation_h_factor": dilation_h,
             "dilation_w_factor": dilation_w}  # fmt: skip

    def one(x: Tensor, w: Tensor) -> Tensor:
        return b("CONV_3D", x, w, zeros(b, w.type.shape[-1]), **attrs)

    return one(x, turned) if groups == 1 else _grouped(b, x, turned, groups, one)


def _grouped(b: Builder, x: Tensor, weights: Tensor, groups: int, one: object) -> Tensor:
    """Each group on its own; the groups of weights lie along the last axis."""
    parts = [one(p, w) for p, w in zip(split(b, x, groups), split(b, weights, groups), strict=True)]  # type: ignore[operator]
    return b("CONCATENATION", *parts, axis=x.type.rank - 1)


def transposed_convolution(
    b: Builder, x: Tensor, weights: Tensor, window: Window, groups: int = 1, after: Sequence[int] = ()
) -> Tensor:
    """y[n, stride p + dilation q - before, o] += x[n, p, i] weights[o, q, i]

    weights  [outputs, *window, channels / groups], as for a convolution.
    window   its padding is what the result lacks at its ends of the full one, (places - 1) stride + extent.
    after    how much longer the result is, with nothing in it: one number for each dimension.
    """
    after = tuple(after) or (0,) * len(window.size)
    if len(window.size) == 1:
        outputs, size, channels = weights.type.shape
        if (
            size == groups == 1
            and window.strides == (1,)
            and not any(map(any, window.padding))
            and weights.data is not None
        ):
            return dense(b, x, b.reshape(weights, (outputs, channels)))
        weights = b.reshape(weights, (outputs, 1, size, channels))
        wide = window.with_two_dimensions()
        return _sequence(b, transposed_convolution(b, _flat(b, x), weights, wide, groups, (0, *after)))
    b.require(len(window.size) == 2, "a transposed convolution over three dimensions")
    if groups > 1:
        ws = split(b, weights, groups, axis=0)
        xs = split(b, x, groups)
        parts = [transposed_convolution(b, p, w, window, 1, after) for p, w in zip(xs, ws, strict=True)]
        return b("CONCATENATION", *parts, axis=3)
    weights, window = _without_dilation(b, weights, window)
    batch, *places, _ = x.type.shape
    outputs = weights.type.shape[0]
    full = [(n - 1) * s + k for n, s, k in zip(places, window.strides, window.size, strict=True)]
    wanted = [f - lo - hi + more for f, (lo, hi), more in zip(full, window.padding, after, strict=True)]
    stride_h, stride_w = window.strides
    grown = [n * s for n, s in zip(places, window.strides, strict=True)]
    same = wanted == grown and window.padding == _transposed_same(window)
    shape = (batch, *(wanted if same else full), outputs)
    y = b.sized("TRANSPOSE_CONV", [b.vector(shape), weights, x, zeros(b, outputs)], shape,
                padding="SAME" if same else "VALID", stride_h=stride_h, stride_w=stride_w)  # fmt: skip
    y.type = replace(x.type, shape=shape)
    if same:
        return y
    ends = [(-lo, more - hi) for (lo, hi), more in zip(window.padding, after, strict=True)]
    return pad(b, y, [(0, 0), *ends, (0, 0)])


def _transposed_same(window: Window) -> tuple[tuple[int, int], ...]:
    totals = [max(k - s, 0) for k, s in zip(window.size, window.strides, strict=True)]
    return tuple((t // 2, t - t // 2) for t in totals)


def _without_dilation(b: Builder, weights: Tensor, window: Window) -> tuple[Tensor, Window]:
    """A dilated window is a larger one with zeros in it."""
    if all(d == 1 for d in window.dilations):
        return weights, window
    data = b.array(weights)
    outputs, *_, channels = data.shape
    wide = np.zeros((outputs, *window.extent, channels), data.dtype)
    wide[(slice(None), *(slice(None, None, d) for d in window.dilations), slice(None))] = data
    return b.constant(wide, weights.type.dtype), Window.of(window.extent, window.strides, window.padding)


def max_pool(b: Builder, x: Tensor, window: Window) -> Tensor:
    """The largest element under the window; padding is never the largest."""
    if len(window.size) == 1:
        return _sequence(b, max_pool(b, _flat(b, x), window.with_two_dimensions()))
    if len(window.size) == 3:
        return in_volumes(b, x, window, max_pool)
    b.require(len(window.size) == 2, f"a pooling over {len(window.size)} dimensions")
    if set(window.dilations) != {1}:
        return _largest_of_copies(b, x, window)
    x, padding = _padded(b, x, window, LOWEST)
    return b("MAX_POOL_2D", x, padding=padding, **_pooling(window))


def _largest_of_copies(b: Builder, x: Tensor, window: Window) -> Tensor:
    """Where the window has gaps: the largest of the picture's shifted copies, one for each element of the window."""
    x = pad(b, x, [(0, 0), *window.padding, (0, 0)], LOWEST)
    best: Tensor | None = None
    for place in np.ndindex(*window.size):
        part = x
        along = zip(place, window.dilations, window.strides, window.extent, strict=True)
        for axis, (i, dilation, stride, extent) in enumerate(along, 1):
            n = x.type.shape[axis]
            b.require(not is_open(n), "a dilated pooling of an open dimension")
            last = (n - extent) // stride * stride
            part = sliced(b, part, axis, i * dilation, i * dilation + last + 1, stride)
        best = part if best is None else b("MAXIMUM", best, part)
    assert best is not None
    return best


def in_volumes(b: Builder, x: Tensor, window: Window, pool: Callable[[Builder, Tensor, Window], Tensor]) -> Tensor:
    """A pooling of volumes: of each of their pictures, then through the pictures."""
    batch, depth, height, width, channels = x.type.shape
    flat = Window(window.size[1:], window.strides[1:], window.padding[1:], window.dilations[1:])
    through = Window((window.size[0], 1), (window.strides[0], 1), (window.padding[0], (0, 0)),
                     (window.dilations[0], 1))  # fmt: skip
    y = pool(b, b.reshape(x, (batch * depth, height, width, channels)), flat)
    _, height, width, _ = y.type.shape
    y = pool(b, b.reshape(y, (batch, depth, height * width, channels)), through)
    return b.reshape(y, (batch, y.type.shape[1], height, width, channels))


def average_pool(b: Builder, x: Tensor, window: Window, *, padding_counts: bool) -> Tensor:
    """The mean of the elements under the window; whether padding counts as elements of value zero."""
    if len(window.size) == 1:
        return _sequence(b, average_pool(b, _flat(b, x), window.with_two_dimensions(), padding_counts=padding_counts))
    if len(window.size) == 3:
        b.require(padding_counts or not any(a or z for a, z in window.padding), "a mean over what lies in a volume")
        return in_volumes(b, x, window, partial(average_pool, padding_counts=True))
    b.require(len(window.size) == 2 and set(window.dilations) == {1}, "a pooling with dilation")
    places = x.type.shape[1:-1]
    padded = any(a or z for a, z in window.padding)
    if padded and not padding_counts and window.is_same(places):
        return b("AVERAGE_POOL_2D", x, padding="SAME", **_pooling(window))
    whole = pad(b, x, [(0, 0), *window.padding, (0, 0)])
    mean = b("AVERAGE_POOL_2D", whole, padding="VALID", **_pooling(window))
    if not padded or padding_counts:
        return mean
    b.require(not any(map(is_open, places)), "an average that depends on an open dimension at its borders")
    return b("MUL", mean, b.constant(share_of_window(window, places), FLOAT32))


def share_of_window(window: Window, places: Sequence[int]) -> np.ndarray:
    """Elements of the window over those that lie in the picture, for each position: [1, *positions, 1]."""
    counts = []
    for n, k, s, (lo, hi) in zip(places, window.size, window.strides, window.padding, strict=True):
        inside = np.pad(np.ones(n), (lo, hi))
        counts.append(np.array([inside[i : i + k].sum() for i in range(0, len(inside) - k + 1, s)]))
    share = np.prod(window.size) / np.multiply.outer(*counts)
    return share.astype(np.float32)[None, :, :, None]


def _pooling(window: Window) -> dict[str, Any]:
    (height, width), (stride_h, stride_w) = window.size, window.strides
    return {"filter_height": height, "filter_width": width, "stride_h": stride_h, "stride_w": stride_w}
