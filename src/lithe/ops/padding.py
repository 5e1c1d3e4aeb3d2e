"""Where a window lies on an axis: the arithmetic of SAME and VALID, once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lithe.ops.op import Site

PADDINGS = ("SAME", "VALID")


@dataclass(frozen=True)
class Window:
    """How a filter slides over an image: (rows, columns) each."""

    size: tuple[int, int] = (1, 1)  # of the output
    before: tuple[int, int] = (0, 0)  # padding above and to the left
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)


def actual(site: Site, *arrays: np.ndarray | None) -> Site:
    """The site with the shapes of the given inputs: declared ones may be out of date where they depend on data."""
    types = zip(site.inputs, arrays, strict=False)
    shaped = (t if t is None or a is None or t.shape == a.shape else replace(t, shape=a.shape) for t, a in types)
    return replace(site, inputs=(*shaped, *site.inputs[len(arrays) :]))


def placed(size: int, window: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """(number of outputs, elements of padding before the first) of a window that slides over `size` elements.

    The number of outputs is not positive when a VALID window is wider than the axis.
    Source: TensorFlow Lite, ComputeOutSize and ComputePaddingHeightWidth (kernels/padding.h).

    >>> placed(5, 3, 2, 1, "SAME"), placed(5, 3, 2, 1, "VALID")
    ((3, 1), (2, 0))
    """
    reach = (window - 1) * dilation + 1
    if padding == "VALID":
        return (size - reach) // stride + 1, 0
    count = -(-size // stride)
    return count, max((count - 1) * stride + reach - size, 0) // 2


def upsampled(size: int, window: int, stride: int, padding: str) -> tuple[int, int]:
    """(number of outputs, elements cut before the first) of the transposed window.

    Source: MediaPipe, util/tflite/operations/transpose_conv_bias.cc (Prepare).

    >>> upsampled(4, 2, 2, "SAME"), upsampled(4, 3, 2, "VALID")
    ((8, 0), (9, 0))
    """
    cut = max(0, window - (size - 1) % stride - 1) if padding == "SAME" else 0
    return stride * (size - 1) + window - cut, cut // 2


def require_window(site: Site, strides: tuple[int, int], dilation: tuple[int, int], padding: str) -> None:
    """The rules that every operator with a sliding window has."""
    site.require(padding in PADDINGS, f"padding must be SAME or VALID, is {padding}")
    site.require(min(strides) >= 1, f"strides must be at least 1, are {strides}")
    site.require(min(dilation) >= 1, f"dilation factors must be at least 1, are {dilation}")


def taps(count: int, size: int, start: int, stride: int) -> tuple[slice, slice] | None:
    """(outputs, elements) that a window's tap at offset `start` pairs, None when it only meets padding.

    The tap of output i reads element start + i * stride, for the i in 0..count-1 where that lies in 0..size-1.

    >>> taps(3, 5, -1, 2)
    (slice(1, 3, None), slice(1, 4, 2))
    """
    first = max(0, -(start // stride))
    last = min(count - 1, (size - 1 - start) // stride)
    if first > last:
        return None
    return slice(first, last + 1), slice(start + first * stride, start + last * stride + 1, stride)
