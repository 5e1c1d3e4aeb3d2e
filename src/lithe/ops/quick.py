"""Sums of products in floats, by the library of matrices that numpy stands on: for many samples in little time."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lithe.ops.padding import Window

ROOM = 1 << 17  # elements that are laid out for a product at a time: they stay in the processor's cache


def quick_sums(x: np.ndarray, w: np.ndarray, p: Window, groups: int) -> np.ndarray:
    """sum[n, y, x, o] of x[N, H, W, C] and w[O, KH, KW, C / groups], in their type; outside of x the term is zero."""
    outputs, kh, kw, depth = w.shape
    n, (oh, ow) = len(x), p.size
    if depth == 1 and groups > 1:
        return _of_each_channel(x if outputs == groups else x.repeat(outputs // groups, 3), w[..., 0], p)
    if groups > 1:
        parts = zip(np.split(x, groups, 3), np.split(w, groups), strict=True)
        return np.concatenate([quick_sums(*part, p, 1) for part in parts], 3)
    kernel = np.ascontiguousarray(w.reshape(outputs, -1).T)
    if (kh, kw) == (1, 1) and p.before == (0, 0):
        x = x[:, : (oh - 1) * p.strides[0] + 1 : p.strides[0], : (ow - 1) * p.strides[1] + 1 : p.strides[1]]
        return (x.reshape(-1, depth) @ kernel).reshape(n, oh, ow, outputs)
    met = windows(padded(x, (kh, kw), p), (kh, kw), p)
    total = np.empty((n, oh, ow, outputs), x.dtype)
    line = ow * len(kernel)
    rows = min(oh, max(1, ROOM // line))
    images = max(1, ROOM // (line * oh))
    for first in range(0, n, images):
        for top in range(0, oh, rows):
            place = slice(first, first + images), slice(top, top + rows)
            shape = total[place].shape
            total[place] = (met[place].reshape(-1, len(kernel)) @ kernel).reshape(shape)
    return total


def _of_each_channel(x: np.ndarray, w: np.ndarray, p: Window) -> np.ndarray:
    """The same where every channel has one filter, w[C, KH, KW]. All elements of a row are multiplied side by side."""
    n, channels = len(x), x.shape[3]
    (oh, ow), (_, kh, kw) = p.size, w.shape
    x = padded(x, (kh, kw), p)
    if p.strides[1] > 1:  # a row of all that a tap meets, for each tap of the filter
        starts, reach = (j * p.dilation[1] for j in range(kw)), (ow - 1) * p.strides[1] + 1
        x = np.stack([x[:, :, start : start + reach : p.strides[1]] for start in starts], 2)
        image, row, tap, *_ = x.strides
    else:
        image, row, column, _ = x.strides
        tap = column * p.dilation[1]
    shape = (n, oh, kh, kw, ow * channels)
    met = as_strided(x, shape, (image, row * p.strides[0], row * p.dilation[0], tap, x.itemsize), writeable=False)
    filters = np.tile(w.transpose(1, 2, 0), (1, 1, ow))
    return np.einsum("nyijk,ijk->nyk", met, filters).reshape(n, oh, ow, channels)


def padded(x: np.ndarray, kernel: tuple[int, int], p: Window) -> np.ndarray:
    """x with the zeros that the windows reach, contiguous."""
    needed = [
        (count - 1) * stride + (k - 1) * dilation + 1
        for count, stride, dilation, k in zip(p.size, p.strides, p.dilation, kernel, strict=True)
    ]
    if p.before == (0, 0) and all(have >= want for have, want in zip(x.shape[1:3], needed, strict=True)):
        return np.ascontiguousarray(x)
    wide = np.zeros((len(x), *needed, x.shape[3]), x.dtype)
    top, left = p.before
    inside = wide[:, top : top + x.shape[1], left : left + x.shape[2]]
    inside[...] = x[:, : inside.shape[1], : inside.shape[2]]
    return wide


def windows(x: np.ndarray, kernel: tuple[int, int], p: Window) -> np.ndarray:
    """[N, rows, columns, KH, KW, C]: where each window lies."""
    image, row, column, channel = x.strides
    strides = (image, row * p.strides[0], column * p.strides[1], row * p.dilation[0], column * p.dilation[1], channel)
    return as_strided(x, (len(x), *p.size, *kernel, x.shape[3]), strides, writeable=False)
