"""What ONNX's operators are in builtins: pictures looked at in places that are computed.

A place between elements is a sum of its neighbours. The picture lies flat, [batch, places, channels], neighbours are
looked up by GATHER, and what lies outside has the weight 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.parts import channels_first, channels_last, sliced, split
from lithe.conversion.sizes import is_fixed
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value, where
from lithe.types import FLOAT32, INT32, TensorType

CUBE = -0.75  # the curve's parameter. Source: ONNX, GridSample
Fold = Callable[[Value, int], Value]  # brings a place along an axis of n elements into the picture


def flat_picture(b: Builder, x: Tensor) -> Tensor:
    """[batch, channels, *places] as [batch, places, channels]"""
    last = channels_last(b, x)
    return b.reshape(last, (x.type.shape[0], math.prod(x.type.shape[2:]), x.type.shape[1]))


def inside(v: Value, n: int) -> Value:
    """1 where a place is an element of an axis, else 0."""
    kept = clipped(v, n)
    return Value(v.writer, v.writer.cast(kept.compare("EQUAL", v).tensor, FLOAT32))


def clipped(v: Value, n: int) -> Value:
    return formulas.maximum(formulas.minimum(v, float(n - 1)), 0.0)


def looked_up(b: Builder, flat: Tensor, places: Sequence[Value], sizes: Sequence[int]) -> Tensor:
    """[batch, *found, channels]: elements at whole places, [batch, *found] along each axis, inside the picture."""
    index: Tensor | None = None
    for v, n in zip(places, sizes, strict=True):
        whole = b.cast(v.tensor, INT32)
        index = whole if index is None else b("ADD", b("MUL", index, b.constant(n)), whole)
    assert index is not None
    return b("GATHER", flat, index, axis=1, batch_dims=1)


def _wide(v: Value) -> Value:
    """A number for all channels."""
    b = v.writer
    assert isinstance(b, Builder)
    return Value(b, b.reshape(v.tensor, (*v.tensor.type.shape, 1)))


def _cubic(d: Value) -> list[Value]:
    """Weights of the four neighbours of a place that lies d after the second one. Source: Keys (1981)."""

    def near(t: Value) -> Value:
        return ((t * (CUBE + 2) - (CUBE + 3)) * t) * t + 1.0

    def far(t: Value) -> Value:
        return ((t * CUBE - 5 * CUBE) * t + 8 * CUBE) * t - 4 * CUBE

    return [far(d + 1.0), near(d), near(1.0 - d), far(2.0 - d)]


def interpolated(b: Builder, flat: Tensor, places: Sequence[Value], sizes: Sequence[int], mode: str,
                 fold: Fold | None) -> Value:  # fmt: skip
    """[batch, *found, channels]: the picture at places between elements.

    fold  brings whole places into the picture; None: what lies outside is 0.
    """
    if mode == "nearest":
        taps: list[list[tuple[Value, Value | None]]] = [[(v.apply("ROUND"), None)] for v in places]
    else:
        taps = []
        for v in places:
            low = v.apply("FLOOR")
            d = v - low
            weights = [1.0 - d, d] if mode == "linear" else _cubic(d)
            first = 0 if mode == "linear" else -1
            taps.append([(low + float(first + i), w) for i, w in enumerate(weights)])
    total: Value | None = None
    for corner in itertools.product(*taps):
        weight: Value | None = None
        spots = []
        for (spot, own), n in zip(corner, sizes, strict=True):
            factors = [own] if own is not None else []
            if fold is None:
                factors.append(inside(spot, n))
                spots.append(clipped(spot, n))
            else:
                spots.append(clipped(fold(spot, n), n))
            for f in factors:
                weight = f if weight is None else weight * f
        value = Value(b, looked_up(b, flat, spots, sizes))
        term = value if weight is None else value * _wide(weight)
        total = term if total is None else total + term
    assert total is not None
    return total


@rule("GridSample")
def grid_sample(b: Builder, c: Call) -> Tensor:
    x, grid = b.cast(c[0], FLOAT32), b.cast(c[1], FLOAT32)
    sizes = x.type.shape[2:]
    b.require(is_fixed(x.type.shape[1:]), "a picture of open size, looked at through a grid")
    corners = bool(c.attr("align_corners", 0))
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(c.attr("mode", "linear"), c.attr("mode", "linear"))
    border = c.attr("padding_mode", "zeros")

    def reflected(v: Value, n: int) -> Value:
        low, span = (0.0, float(n - 1)) if corners else (-0.5, float(n))
        if not span:
            return v * 0.0
        return low + span - abs((v - low).apply("FLOOR_MOD", 2 * span) - span)

    fold: Fold | None = {"zeros": None, "border": clipped, "reflection": reflected}[border]
    places = []
    for axis, n in enumerate(sizes):
        own = sliced(b, grid, grid.type.rank - 1, len(sizes) - 1 - axis, len(sizes) - axis)
        v = Value(b, b.reshape(own, grid.type.shape[:-1])) + 1.0
        v = v * ((n - 1) / 2) if corners else v * (n / 2) - 0.5
        if mode == "nearest":
            v = v.apply("ROUND")
        places.append(v if fold is None else fold(v, n))
    y = interpolated(b, flat_picture(b, x), places, sizes, mode, fold)
    return b.cast(channels_first(b, y.tensor), c[0].type.dtype)


@rule("AffineGrid")
def affine_grid(b: Builder, c: Call) -> Tensor:
    """Places of a turned picture: (x, y, 1) or (x, y, z, 1) of each place times the matrix."""
    theta = b.cast(c[0], FLOAT32)
    known = c.known(1)
    if known is not None:
        batch, _, *sizes = (int(n) for n in known)
    else:
        batch, *sizes = c.declared(0, c.shape(1)[0])[:-1]
    b.require(is_fixed(sizes), "a grid of open size")
    lines = [np.linspace(-1, 1, n) if c.attr("align_corners", 0) else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    grids = np.meshgrid(*lines, indexing="ij")
    rows = np.stack([*grids[::-1], np.ones(sizes)], -1).reshape(1, -1, len(sizes) + 1)
    made = b("BATCH_MATMUL", b.constant(rows, FLOAT32), theta, adj_x=False, adj_y=True)
    return b.cast(b.reshape(made, (batch, *sizes, len(sizes))), c[0].type.dtype)


@rule("RoiAlign")
def region_align(b: Builder, c: Call) -> Tensor:
    """Each region cut into bins, each bin looked at in sampling_ratio**2 places."""
    x, regions, batch = c[0], c[1], b.int32(c[2])
    height, width, ratio = (c.attr(n, d) for n, d in (("output_height", 1), ("output_width", 1), ("sampling_ratio", 0)))
    b.require(ratio > 0, "a number of samples that depends on the size of a region")
    n, channels, *sizes = x.type.shape
    b.require(is_fixed((n, *sizes)), "regions of a picture of open size")
    count = regions.type.shape[0]
    half = c.version >= 16 and c.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale = c.attr("spatial_scale", 1.0)
    x1, y1, x2, y2 = (Value(b, sliced(b, regions, 1, i, i + 1)) * scale - (0.5 if half else 0.0) for i in range(4))

    def line(first: Value, last: Value, bins: int, size: int) -> Value:
        span = last - first
        if not half:
            span = formulas.maximum(span, 1.0)
        steps = b.constant((np.arange(bins * ratio)[None, :] + 0.5) / ratio / bins, FLOAT32)
        return first + span * Value(b, steps)

    rows = line(y1, y2, height, sizes[0])
    columns = line(x1, x2, width, sizes[1])
    shape = (count, height * ratio, width * ratio)
    ys = Value(b, b.broadcast(b.reshape(rows.tensor, (count, height * ratio, 1)), shape))
    xs = Value(b, b.broadcast(b.reshape(columns.tensor, (count, 1, width * ratio)), shape))
    near = [where(v < -1.0, 0.0, where(v > float(m), 0.0, v * 0.0 + 1.0)) for v, m in ((ys, sizes[0]), (xs, sizes[1]))]
    places = [clipped(v, m) for v, m in ((ys, sizes[0]), (xs, sizes[1]))]
    own = b("GATHER", flat_picture(b, x), batch, axis=0, batch_dims=0)
    weight = _wide(near[0] * near[1])
    if c.attr("mode", "avg") == "max":
        sample = _largest_corner(b, own, places, sizes) * weight
    else:
        sample = interpolated(b, own, places, sizes, "linear", clipped) * weight
    parted = b.reshape(sample.tensor, (count, height, ratio, width, ratio, channels))
    builtin = "REDUCE_MAX" if c.attr("mode", "avg") == "max" else "MEAN"
    return channels_first(b, b(builtin, parted, b.constant([2, 4]), keep_dims=False))


def _largest_corner(b: Builder, flat: Tensor, places: Sequence[Value], sizes: Sequence[int]) -> Value:
    """The largest of the four neighbours, each times its weight."""
    best: Value | None = None
    lows = [v.apply("FLOOR") for v in places]
    for corner in itertools.product((0, 1), repeat=2):
        weight: Value | None = None
        spots = []
        for v, low, up, n in zip(places, lows, corner, sizes, strict=True):
            own = v - low if up else 1.0 - (v - low)
            weight = own if weight is None else weight * own
            spots.append(clipped(low + float(up), n))
        assert weight is not None
        term = Value(b, looked_up(b, flat, spots, sizes)) * _wide(weight)
        best = term if best is None else formulas.maximum(best, term)
    assert best is not None
    return best


@rule("DeformConv")
def deformed_convolution(b: Builder, c: Call) -> Tensor:
    """A convolution whose window's elements lie where offsets say; what they see is multiplied by a mask."""
    x, weights, offsets = c[0], c[1], c[2]
    batch, channels, *sizes = x.type.shape
    outputs, _, *kernel = weights.type.shape
    b.require(len(sizes) == 2 and is_fixed(x.type.shape), "a deformed convolution of such a picture")
    groups, parts = c.attr("group", 1), c.attr("offset_group", 1)
    strides, dilations, pads = (c.attr(n, d) for n, d in (("strides", [1, 1]), ("dilations", [1, 1]),
                                                          ("pads", [0, 0, 0, 0])))  # fmt: skip
    height, width = offsets.type.shape[2:]
    count = math.prod(kernel)
    shift = b.reshape(offsets, (batch, parts, count, 2, height, width))
    mask = b.reshape(c[4], (batch, parts, count, height, width)) if c.has(4) else None
    pieces = split(b, flat_picture(b, x), parts, 2) if parts > 1 else [flat_picture(b, x)]
    taps = []
    for k, (i, j) in enumerate(np.ndindex(*kernel)):
        seen = []
        for g, piece in enumerate(pieces):
            places = []
            for axis, (at, size) in enumerate(((i, height), (j, width))):
                base = np.arange(size) * strides[axis] - pads[axis] + at * dilations[axis]
                line = base.reshape((1, size, 1) if axis == 0 else (1, 1, size))
                own = b.slice(shift, [0, g, k, axis, 0, 0], [batch, 1, 1, 1, height, width])
                places.append(Value(b, b.reshape(own, (batch, height, width))) + Value(b, b.constant(line, FLOAT32)))
            value = interpolated(b, piece, places, sizes, "linear", None)
            if mask is not None:
                own = b.reshape(b.slice(mask, [0, g, k, 0, 0], [batch, 1, 1, height, width]), (batch, height, width))
                value = value * _wide(Value(b, own))
            seen.append(value.tensor)
        taps.append(seen[0] if len(seen) == 1 else b("CONCATENATION", *seen, axis=3))
    whole = b("PACK", *taps, values_count=count, axis=4)  # [batch, height, width, channels, window]
    made = []
    for g in range(groups):
        each = channels // groups
        part = b.slice(whole, [0, 0, 0, g * each, 0], [batch, height, width, each, count])
        rows = b.reshape(part, (batch, height, width, each * count))
        own = sliced(b, weights, 0, g * outputs // groups, (g + 1) * outputs // groups)
        made.append(matrices.dense(b, rows, b.reshape(own, (outputs // groups, each * count))))
    y = made[0] if groups == 1 else b("CONCATENATION", *made, axis=3)
    if c.has(3):
        y = b("ADD", y, c[3])
    return channels_first(b, y)


@rule("Col2Im")
def columns_to_image(b: Builder, c: Call) -> Tensor:
    """Columns of windows put back; where windows overlap, elements are added up."""
    x = c[0]
    batch, rows, columns = x.type.shape
    n = c.shape(1)[0]
    shape = c.declared(0, n + 2) if c.known(1) is None else (batch, 0, *c.ints(1))
    sizes = list(shape[2:])
    b.require(is_fixed((batch, rows, columns, *sizes)), "columns of an open size")
    pads, strides, dilations = (c.attr(k, [d] * m) for k, d, m in (("pads", 0, 2 * n), ("strides", 1, n),
                                                                   ("dilations", 1, n)))  # fmt: skip
    block = b.int32(c[2])
    kernel = [Value(b, b.reshape(b.slice(block, [i], [1]), ())) for i in range(n)]
    window = kernel[0]
    for k in kernel[1:]:
        window = window * k
    channels = shape[1] or None
    if channels is None:
        b.require(window.tensor.data is not None, "columns of windows whose size is computed")
        assert window.tensor.data is not None
        channels = rows // int(window.tensor.data)
    total = rows // channels
    at = Value(b, b.constant(np.arange(total)[:, None]))  # which element of the window
    spot = Value(b, b.constant(np.arange(columns)[None, :]))  # which window
    index: Value | None = None
    good: Value | None = None
    span_at, span_spot = window, Value(b, b.constant(1))
    counts = []
    for i in range(n):
        reach = (kernel[i] - 1) * dilations[i] + 1
        counts.append(((Value(b, b.constant(sizes[i] + pads[i] + pads[i + n])) - reach) / strides[i]) + 1)
        span_spot = span_spot * counts[i]
    for i in range(n):
        span_at, span_spot = span_at / kernel[i], span_spot / counts[i]
        q = (at / span_at).apply("FLOOR_MOD", kernel[i])
        p = (spot / span_spot).apply("FLOOR_MOD", counts[i])
        place = p * strides[i] + q * dilations[i] - pads[i]
        kept = formulas.maximum(formulas.minimum(place, sizes[i] - 1), 0)
        ok = kept.compare("EQUAL", place)
        good = ok if good is None else Value(b, b("LOGICAL_AND", good.tensor, ok.tensor))
        index = kept if index is None else index * sizes[i] + kept
    assert index is not None
    assert good is not None
    flat = b.reshape(index.tensor, (total * columns, 1))
    parted = b.reshape(x, (batch * channels, total, columns))
    valid = b.cast(b.cast(good.tensor, FLOAT32), x.type.dtype)
    values = b.transpose(b.reshape(b("MUL", parted, valid), (batch * channels, total * columns)), (1, 0))
    area = math.prod(sizes)
    made = b.sized("SCATTER_ND", [flat, values, b.constant([area, batch * channels])], (area, batch * channels))
    made.type = TensorType(x.type.dtype, made.type.shape)
    return b.reshape(b.transpose(made, (1, 0)), (batch, channels, *sizes))
