"""A mel filter bank in fixed point: sums of energies, their roots, less noise, gain and logarithms of them.

Source: tflite-micro, signal/micro/kernels and signal/src (behaviour, not text). All arithmetic is of integers that
wrap at the stated number of bits, so results are equal to that library's, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import cast, maximum, minimum, where
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, Expr, constant, select
from lithe.ops.op import Op, RuleViolation, Site, register
from lithe.ops.signal.integer_bits import bit_length
from lithe.types import INT16, INT32, INT64, UINT32, UINT64, Shape

Table = Callable[[Any], Any]  # index -> element
WORD = 0xFFFFFFFF


@register
class SignalFilterBank(Op):
    """y[c] = sum over j of weights[s[c + 1] + j] x[f[c + 1] + j] + sum over j of unweights[s[c] + j] x[f[c] + j]

    for j below widths[c + 1] and widths[c]; f are channel_frequency_starts, s channel_weight_starts, all three
    [channels + 1]. Sums have 64 bits.
    """

    name = "SignalFilterBank"
    operands = (
        ("input", "weights", "unweights", "channel_frequency_starts", "channel_weight_starts", "channel_widths"),
        ("output",),
    )
    types = "uint32 int16 int16 int16 int16 int16 -> uint64"

    @dataclass(frozen=True)
    class Attrs:
        num_channels: int = 0

    def infer(site: Site) -> list[Shape]:
        channels = site.attrs.num_channels
        site.require(channels >= 1, f"num_channels must be at least 1, is {channels}")
        site.rank(0, 1)
        weights = site.rank(1, 1)
        site.require(site.rank(2, 1).shape == weights.shape, f"must have shape {list(weights.shape)}", 2)
        for i in (3, 4, 5):
            site.require(site.rank(i, 1).shape == (channels + 1,), f"must have {channels + 1} elements", i)
        places = [site.known(i) for i in (3, 4, 5)]
        if all(p is not None for p in places):
            problem = _outside(site, *places)
            if problem:
                raise RuleViolation(problem, site.operand(5))
        return [(channels,)]

    def evaluate(site: Site, x: np.ndarray, weights: np.ndarray, unweights: np.ndarray, *places: Any) -> list[Any]:
        problem = _outside(site, *places)
        if problem:
            raise ExecutionError(f"SignalFilterBank: {problem}")
        y = []
        for c in range(site.attrs.num_channels):
            total = 0
            for channel, factors in ((c + 1, weights), (c, unweights)):
                f, s, width = (int(p[channel]) for p in places)
                total += sum(int(w) * int(v) for w, v in zip(factors[s : s + width], x[f : f + width], strict=True))
            y.append(total & 0xFFFFFFFFFFFFFFFF)
        return [np.array(y, np.uint64)]

    def lowers(site: Site) -> bool:
        return all(site.known(i) is not None for i in (3, 4, 5))

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, weights, unweights, frequencies, starts, widths = xs
        longest = max(0, int(site.constant(5).max()))
        with b.loop(site.attrs.num_channels, "parallel") as c:
            total = b.variable(constant(0, UINT64), "total")
            for channel, factors in ((c + 1, weights), (c, unweights)):
                with b.loop(longest) as j, b.when(j < widths[channel].to(INDEX)):
                    factor = factors[starts[channel].to(INDEX) + j].to(INT64).to(UINT64)
                    energy = x[frequencies[channel].to(INDEX) + j].to(UINT64)
                    b.store(total, (), total[()] + factor * energy)
            b.store(ys[0], c, total[()])


def _outside(site: Site, frequencies: Any, starts: Any, widths: Any) -> str:
    """What is wrong with the places that channels take their weights and frequencies from."""
    for places, operand, name in ((frequencies, 0, "frequencies"), (starts, 1, "weights")):
        size = site.input(operand).shape[0]
        for first, width in zip(places.tolist(), widths.tolist(), strict=True):
            if width > 0 and not 0 <= first <= first + width <= size:
                return f"{name} {first} to {first + width} of a channel lie outside of [0, {size}]"
            if width < 0:
                return f"the width of a channel is {width}"
    return ""


@register
class SignalFilterBankSquareRoot(Op):
    """y = the integer nearest to sqrt(x), >> scale_bits

    Halves are no case. A root that its word (16 bits for x below 2**32, else 32) could not hold stays below.
    """

    name = "SignalFilterBankSquareRoot"
    operands = (("input", "scale_bits"), ("output",))
    types = "uint64 int32 -> uint32"

    def infer(site: Site) -> list[Shape]:
        x = site.rank(0, 1)
        site.require(site.rank(1, 0, 1).size == 1, "must be one number", 1)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, scale_bits: np.ndarray) -> list[np.ndarray]:
        bits = int(scale_bits.reshape(()))
        if not 0 <= bits < 32:
            raise ExecutionError(f"SignalFilterBankSquareRoot: {SCALE_BITS}")
        return [np.array([_root(int(v)) >> bits for v in x], np.uint32)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = xs[0], ys[0]
        bits = b.variable(xs[1].viewed(())[()], "bits")[()]
        b.fail_unless((bits >= 0) & (bits < 32), SCALE_BITS)
        shift = b.variable(bits.to(UINT32), "shift")[()]
        with b.loop(y.size) as i:
            rest, root = b.variable(x[i], "rest"), b.variable(constant(0, UINT64), "root")
            with b.loop(32, name="digit") as digit:
                bit = b.variable(Const(1 << 62, UINT64) >> (digit * 2).to(UINT64), "bit")[()]
                part = b.variable(root[()] + bit, "part")[()]
                fits = b.variable(rest[()] >= part, "fits")[()]
                b.store(rest, (), select(fits, rest[()] - part, rest[()]))
                b.store(root, (), select(fits, (root[()] >> 1) + bit, root[()] >> 1))
            limit = select(x[i] > WORD, Const(WORD, UINT64), Const(0xFFFF, UINT64))
            up = (rest[()] > root[()]) & root[()].differs(limit)
            b.store(y, i, select(up, root[()] + 1, root[()]).to(UINT32) >> shift)


SCALE_BITS = "scale_bits must be in [0, 32)"


def _root(x: int) -> int:
    root = math.isqrt(x)
    return root + (x - root * root > root and root != (WORD if x > WORD else 0xFFFF))


@register
class SignalFilterBankSpectralSubtraction(Op):
    """output = the signal less the noise that its own smoothed past tells of, but never less than a part of it.

    noise = (x << smoothing_bits) * smoothing + noise * one_minus_smoothing, >> spectral_subtraction_bits; odd
    channels have the alternate factors. The noise starts as 0 and lasts from run to run.
    """

    name = "SignalFilterBankSpectralSubtraction"
    operands = (("input",), ("output", "noise_estimate"))
    types = "uint32 -> uint32 uint32"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        num_channels: int = 0
        smoothing: int = 0
        one_minus_smoothing: int = 0
        alternate_smoothing: int = 0
        alternate_one_minus_smoothing: int = 0
        smoothing_bits: int = 0
        min_signal_remaining: int = 0
        clamping: bool = False
        spectral_subtraction_bits: int = 0

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.rank(0, 1)
        site.require(x.shape == (a.num_channels,), f"must have num_channels {a.num_channels} elements, is {x}", 0)
        for key, limit in (("smoothing_bits", 32), ("spectral_subtraction_bits", 64)):
            site.require(0 <= getattr(a, key) < limit, f"{key} must be in [0, {limit}), is {getattr(a, key)}")
        return [x.shape, x.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a, memory = site.attrs, {} if site.memory is None else site.memory
        odd = np.arange(x.size) % 2 == 1

        def factor(even_value: int, odd_value: int) -> np.ndarray:
            return np.where(odd, odd_value & WORD, even_value & WORD).astype(np.uint64)

        noise = memory.get("noise", np.zeros(x.size, np.uint32)).astype(np.uint64)
        signal = x << np.uint32(a.smoothing_bits)
        smooth = signal * factor(a.smoothing, a.alternate_smoothing)
        smooth += noise * factor(a.one_minus_smoothing, a.alternate_one_minus_smoothing)
        noise = (smooth >> np.uint64(a.spectral_subtraction_bits)).astype(np.uint32)
        taken = np.minimum(noise, signal)
        memory["noise"] = taken if a.clamping else noise
        remaining = x * np.uint64(a.min_signal_remaining & WORD)
        least = (remaining >> np.uint64(a.spectral_subtraction_bits)).astype(np.uint32)
        return [np.maximum((signal - taken) >> np.uint32(a.smoothing_bits), least), memory["noise"].copy()]


@register
class SignalPcan(Op):
    """y = shrink(x * gain(noise) >> snr_shift): automatic gain by channel, gain_lut holding a curve in pieces.

    gain: for noise in [2**k, 2**(k + 1)) a parabola with the coefficients at 4k - 2; the first three are for 0, 1, 2.
    shrink: with 12 bits behind the point, s**2 / 4 for s < 2, else s - 1, and 6 bits are kept.
    """

    name = "SignalPCAN"
    operands = (("input", "noise_estimate", "gain_lut"), ("output",))
    types = "uint32 uint32 int16 -> uint32"

    @dataclass(frozen=True)
    class Attrs:
        snr_shift: int = 0

    def infer(site: Site) -> list[Shape]:
        x, shift = site.rank(0, 1), site.attrs.snr_shift
        site.require(site.rank(1, 1).shape == x.shape, f"must have the shape of {x}", 1)
        site.require(site.rank(2, 1).shape[0] >= GAINS, f"must have at least {GAINS} elements, is {site.input(2)}", 2)
        site.require(0 <= shift < 64, f"snr_shift must be in [0, 64), is {shift}")
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, noise: np.ndarray, gains: np.ndarray) -> list[np.ndarray]:
        return [_with_gain(x, noise, lambda i: gains[i].astype(np.int32), site.attrs.snr_shift)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, noise, gains = xs

        def value(i: Expr) -> Expr:
            return _with_gain(x[i], noise[i], lambda k: gains[k.to(INDEX)].to(INT32), site.attrs.snr_shift)

        b.compute(ys[0], value)


GAINS = 125  # the last piece, for 32 bits, starts at 122 and has three coefficients


def _with_gain(x: Any, noise: Any, gains: Table, shift: int) -> Any:
    gain = cast(cast(_gain(noise, gains), UINT32), UINT64)
    ratio = cast((cast(x, UINT64) * gain) >> shift, UINT32)
    return where(ratio < (2 << 12), (ratio * ratio) >> 20, (ratio >> 6) - (1 << 6))


def _gain(noise: Any, gains: Table) -> Any:
    """The curve at `noise`, in 16 bits."""
    wide = cast(noise, INT64)
    length = cast(bit_length(noise), INT64)
    small = wide <= 2
    base = where(small, wide, length * 4 - 6)
    at = cast(((wide << maximum(11 - length, 0)) >> maximum(length - 11, 0)) & 0x3FF, INT32)
    first = gains(base)
    slope = ((gains(base + 2) * at) >> 5) + (gains(base + 1) << 5)
    curve = ((slope * at + (1 << 14)) >> 15) + first
    return cast(cast(where(small, first, curve), INT16), INT32)


@register
class SignalFilterBankLog(Op):
    """y = min(log(x << input_correction_bits) * output_scale, 32767), and 0 up to log 1"""

    name = "SignalFilterBankLog"
    types = "uint32 -> int16"

    @dataclass(frozen=True)
    class Attrs:
        output_scale: int = 1
        input_correction_bits: int = 0

    def infer(site: Site) -> list[Shape]:
        bits = site.attrs.input_correction_bits
        site.require(0 <= bits < 32, f"input_correction_bits must be in [0, 32), is {bits}")
        return [site.rank(0, 1).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [_logarithm(x, lambda i: LOGARITHMS[i].astype(np.int64), site.attrs)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, table = xs[0], b.constant(LOGARITHMS, "logarithms")
        b.compute(ys[0], lambda i: _logarithm(x[i], lambda k: table[k].to(INT64), site.attrs))


# log2(1 + i / 128) - i / 128 with 16 bits behind the point
LOGARITHMS = np.array([round(65536 * (math.log2(1 + i / 128) - i / 128)) for i in range(129)], np.int16)
NATURAL = 45426  # log 2 with 16 bits behind the point


def _logarithm(x: Any, table: Table, a: SignalFilterBankLog.Attrs) -> Any:
    """The binary logarithm by its whole part and a table with lines between, then the natural one, then the scale."""
    x = x << a.input_correction_bits
    some = maximum(cast(x, INT64), 1)
    whole = cast(bit_length(cast(some, UINT32)), INT64) - 1
    fraction = ((some << (31 - whole)) >> 15) - (1 << 16)
    piece = fraction >> 9
    low, high = table(piece), table(piece + 1)
    binary = (whole << 16) + fraction + low + (((high - low) * (fraction - (piece << 9))) >> 16)
    natural = (binary * NATURAL + (1 << 15)) >> 16
    scaled = ((natural * (a.output_scale & WORD) + (1 << 15)) & WORD) >> 16
    return cast(where(x > 1, minimum(scaled, 32767), 0 * scaled), INT16)
