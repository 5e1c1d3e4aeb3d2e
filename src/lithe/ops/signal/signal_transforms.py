"""Windows and Fourier transforms of frames of sound, as TensorFlow Lite Micro's signal library has them.

Source: tflite-micro, signal/micro/kernels and signal/src (behaviour, not text); options are FlexBuffers maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.ir.arithmetic import absolute, cast, maximum
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Expr, constant, minimum, select
from lithe.ops.fixed_point import saturated
from lithe.ops.op import NoAttrs, Op, Site, register
from lithe.ops.signal.fourier import (
    LONGEST,
    NUMBERS,
    RADICES,
    factors,
    lower_real,
    lower_restored,
    real_restored,
    real_transformed,
)
from lithe.ops.signal.integer_bits import bit_length
from lithe.types import FLOAT32, INT16, INT32, UINT32, Shape

TYPE_NUMBERS = {"float32": 0, "int32": 2, "int16": 7}  # schema.fbs, TensorType


@dataclass(frozen=True)
class TransformAttrs:
    """T: the element type's number in the schema."""

    fft_length: int = 0
    T: int = 7


def _require_transform(site: Site) -> None:
    a, x = site.attrs, site.input(0)
    site.require(TYPE_NUMBERS[x.dtype.name] == a.T, f"option T is {a.T}, {x.dtype} has {TYPE_NUMBERS[x.dtype.name]}")
    length = a.fft_length
    good = 4 <= length <= LONGEST and length % 2 == 0 and set(factors(length // 2)) <= set(RADICES)
    site.require(good, f"fft_length must be 2 times a product of 2, 3 and 5, up to {LONGEST}, is {length}")
    site.require(x.rank >= 1, f"must have an axis, is {x}", 0)


@register
class SignalRfft(Op):
    """y[..., 2k], y[..., 2k + 1] = real and imaginary part of the transform of x, with zeros behind, at k.

    x: [..., up to fft_length]; y: [..., fft_length + 2]. Integers are fixed point, and y is the transform / fft_length.
    """

    name = "SignalRfft"
    types = "T -> T: int16 int32 float32"
    Attrs = TransformAttrs

    def infer(site: Site) -> list[Shape]:
        _require_transform(site)
        x, length = site.input(0), site.attrs.fft_length
        site.require(x.shape[-1] <= length, f"{x} has more than fft_length {length} elements in a row", 0)
        return [(*x.shape[:-1], length + 2)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        length = site.attrs.fft_length
        shape = (*x.shape[:-1], length + 2)
        if x.dtype == np.float32:
            return [np.fft.rfft(x.astype(np.float64), length).view(np.float64).astype(np.float32).reshape(shape)]
        rows = np.zeros((math.prod(x.shape[:-1]), length), x.dtype)
        rows[:, : x.shape[-1]] = x.reshape(len(rows), x.shape[-1])
        return [real_transformed(NUMBERS[str(x.dtype)], rows).reshape(shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, length = xs[0], site.attrs.fft_length
        size, batch = x.shape[-1], math.prod(x.shape[:-1])
        rows, y = x.viewed((batch, size)), ys[0].viewed((batch, length // 2 + 1, 2))
        work = b.scratch(x.dtype, (length // 2, 2), "work")
        with b.loop(batch, name="row") as row:

            def element(i: Expr) -> Expr:
                if size == length:
                    return rows[row, i]
                return select(i < size, rows[row, minimum(i, size - 1)], constant(0, x.dtype))

            lower_real(b, NUMBERS[x.dtype.name], length, element, y, (row,), work)


@register
class SignalIrfft(Op):
    """y[..., i] = the real numbers whose transform is x, as SignalRfft writes it.

    x: [..., fft_length + 2]; y: [..., fft_length]. Integers: the sum over the transform / fft_length.
    """

    name = "SignalIrfft"
    types = "T -> T: int16 int32 float32"
    Attrs = TransformAttrs

    def infer(site: Site) -> list[Shape]:
        _require_transform(site)
        x, length = site.input(0), site.attrs.fft_length
        site.require(x.shape[-1] == length + 2, f"{x} must have fft_length + 2 = {length + 2} elements in a row", 0)
        return [(*x.shape[:-1], length)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        length = site.attrs.fft_length
        pairs = x.reshape(-1, length // 2 + 1, 2)
        if x.dtype == np.float32:
            spectrum = pairs[..., 0] + 1j * pairs[..., 1].astype(np.float64)
            y = np.fft.irfft(spectrum, length).astype(np.float32)
        else:
            y = real_restored(NUMBERS[str(x.dtype)], pairs)
        return [y.reshape(*x.shape[:-1], length)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y, length = xs[0], ys[0], site.attrs.fft_length
        half, batch = length // 2, math.prod(x.shape[:-1])
        rows, target = x.viewed((batch, half + 1, 2)), y.viewed((batch, half, 2))
        packed, work = (b.scratch(x.dtype, (half, 2), name) for name in ("packed", "work"))
        with b.loop(batch, name="row") as row:
            lower_restored(b, NUMBERS[x.dtype.name], rows, (row,), packed, work)
            with b.nest((half, 2)) as (i, part):
                value = work[i, part]
                b.store(target, (row, i, part), value / float(length) if x.dtype == FLOAT32 else value)


@register
class SignalWindow(Op):
    """y[..., i] = saturated(x[..., i] * weights[i] >> shift)"""

    name = "SignalWindow"
    operands = (("input", "weights"), ("output",))
    types = "int16 int16 -> int16"

    @dataclass(frozen=True)
    class Attrs:
        shift: int = 0

    def infer(site: Site) -> list[Shape]:
        x, weights, shift = site.input(0), site.rank(1, 1), site.attrs.shift
        site.require(x.rank >= 1 and x.shape[-1] == weights.shape[0], f"{weights} does not fit the rows of {x}", 1)
        site.require(0 <= shift < 32, f"shift must be in [0, 32), is {shift}")
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
        return [saturated((x.astype(np.int32) * weights) >> site.attrs.shift, 16).astype(np.int16)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        def value(x: Expr, weight: Expr) -> Expr:
            return saturated((x.to(INT32) * weight.to(INT32)) >> site.attrs.shift, 16).to(INT16)

        b.elementwise(ys[0], value, xs[0], xs[1])


@register
class SignalFftAutoScale(Op):
    """output = input * 2**scale_bits, with as many bits as leave the greatest magnitude in 15; 0 for zeros alone.

    -32768 leaves no bit, as in the library's kernels for signal processors; its plain C loses track of it.
    """

    name = "SignalFftAutoScale"
    operands = (("input",), ("output", "scale_bits"))
    types = "int16 -> int16 int32"
    Attrs = NoAttrs

    def infer(site: Site) -> list[Shape]:
        return [site.rank(0, 1).shape, ()]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        greatest = int(np.abs(x.astype(np.int32)).max(initial=0))
        bits = max(15 - greatest.bit_length(), 0) if greatest else 0
        return [(x * (1 << bits)).astype(np.int16), np.array(bits, np.int32)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, (y, scale) = xs[0], ys
        zero = constant(0, INT32)
        greatest = b.reduce(zero, x.shape, lambda most, i: maximum(most, absolute(x[i].to(INT32))))
        bits = select(greatest > 0, maximum(15 - bit_length(greatest.to(UINT32), 16).to(INT32), zero), zero)
        b.store(scale, (), bits)
        bits = b.variable(scale[()], "bits")[()]
        b.compute(y, lambda i: (x[i].to(INT32) << bits).to(INT16))


@register
class SignalEnergy(Op):
    """y[i] = x[2i]**2 + x[2i + 1]**2 for i in [start_index, end_index), 0 elsewhere; x holds complex numbers."""

    name = "SignalEnergy"
    types = "int16 -> uint32"

    @dataclass(frozen=True)
    class Attrs:
        start_index: int = 0
        end_index: int = 0

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.rank(0, 1)
        site.require(x.shape[0] % 2 == 0, f"must hold pairs, is {x}", 0)
        size = x.shape[0] // 2
        inside = 0 <= a.start_index <= a.end_index <= size
        site.require(inside, f"[start_index, end_index) = [{a.start_index}, {a.end_index}) must lie in [0, {size}]")
        return [(size,)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        y = np.square(x.astype(np.int64)).reshape(-1, 2).sum(1).astype(np.uint32)
        y[: site.attrs.start_index] = y[site.attrs.end_index :] = 0
        return [y]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        a, x = site.attrs, xs[0]

        def energy(i: Expr) -> Expr:
            real, imaginary = (cast(x[i * 2 + part], INT32) for part in (0, 1))
            value = (real * real + imaginary * imaginary).to(UINT32)
            return select((i >= a.start_index) & (i < a.end_index), value, constant(0, UINT32))

        b.compute(ys[0], energy)
