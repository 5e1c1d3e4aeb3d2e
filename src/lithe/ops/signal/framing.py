"""Streams of sound in pieces: delayed, cut into frames that overlap, added up again, stacked; and a buffer of features.

These operators remember the end of their stream from run to run, each node for itself. Where an output is not yet
valid, its elements are 0.

Source: tflite-micro, signal/micro/kernels and micro/kernels/circular_buffer.cc (behaviour, not text).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.fixed_point import saturated
from lithe.ops.op import Op, Site, register
from lithe.ops.signal.signal_transforms import TYPE_NUMBERS
from lithe.types import Shape


def recalled(site: Site, key: str, start: np.ndarray) -> np.ndarray:
    """What the node remembers, or `start` in its first run and after a change of shape."""
    value = None if site.memory is None else site.memory.get(key)
    return start if value is None or value.shape[:1] != start.shape[:1] else value


def remember(site: Site, **values: object) -> None:
    if site.memory is not None:
        site.memory.update(values)


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@register
class SignalDelay(Op):
    """y[..., i] = the element delay_length before x[..., i] in the stream of its row, which starts with zeros."""

    name = "SignalDelay"
    types = "int16 -> int16"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        delay_length: int = 0

    def infer(site: Site) -> list[Shape]:
        x, length = site.input(0), site.attrs.delay_length
        site.require(min(x.shape, default=0) >= 1, f"must have an axis and elements, is {x}", 0)
        late = math.prod(x.shape[:-1]) * length
        site.require(0 <= late < LONGEST, f"delay_length must be in [0, {LONGEST}) for all rows together, is {length}")
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        rows = _rows(x)
        late = recalled(site, "late", np.zeros((len(rows), site.attrs.delay_length), x.dtype))
        stream = np.concatenate([late, rows], 1)
        remember(site, late=stream[:, rows.shape[1] :])
        return [stream[:, : rows.shape[1]].reshape(x.shape)]


LONGEST = 1 << 24


@register
class SignalFramer(Op):
    """frames[..., n, :] = frame_size elements of the stream that end with step n of x; valid: all frames are full.

    x: [..., n frame_step]. With prefill the stream starts with frame_size - frame_step zeros.
    """

    name = "SignalFramer"
    operands = (("input",), ("frames", "valid"))
    types = "int16 -> int16 bool"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        frame_size: int = 0
        frame_step: int = 0
        prefill: bool = False

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.input(0)
        site.require(1 <= a.frame_step < LONGEST, f"frame_step must be positive, is {a.frame_step}")
        site.require(1 <= a.frame_size < LONGEST, f"frame_size must be positive, is {a.frame_size}")
        overlap = a.frame_size >= a.frame_step or not a.prefill
        site.require(overlap, f"prefill needs frame_size {a.frame_size} of at least frame_step {a.frame_step}")
        whole = min(x.shape, default=0) >= 1 and x.shape[-1] % a.frame_step == 0
        site.require(whole, f"rows must be a multiple of frame_step {a.frame_step}, are {x}", 0)
        return [(*x.shape[:-1], x.shape[-1] // a.frame_step, a.frame_size), ()]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a, rows = site.attrs, _rows(x)
        start = a.frame_size - a.frame_step if a.prefill else 0
        stream = recalled(site, "stream", np.zeros((len(rows), start), x.dtype))
        count = rows.shape[1] // a.frame_step
        frames, valid = np.zeros((len(rows), count, a.frame_size), x.dtype), True
        for n, step in enumerate(np.split(rows, count, 1)):
            stream = np.concatenate([stream, step], 1)
            if stream.shape[1] >= a.frame_size:
                frames[:, n] = stream[:, : a.frame_size]
                stream = stream[:, a.frame_step :]
            else:
                valid = False
        remember(site, stream=stream)
        return [frames.reshape(*x.shape[:-1], count, a.frame_size), np.array(valid)]


@register
class SignalOverlapAdd(Op):
    """y[..., n step + i] = the sum of what frames n, n - 1, ... hold for this place; each frame is a step later.

    x: [..., n, frame_size]; y: [..., n frame_step]. Integers saturate with every frame that is added.
    """

    name = "SignalOverlapAdd"
    types = "T -> T: int16 float32"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        frame_step: int = 0
        T: int = 7  # the element type's number in the schema

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.input(0)
        number = TYPE_NUMBERS[x.dtype.name]
        site.require(number == a.T, f"option T is {a.T}, {x.dtype} has {number}")
        site.require(x.rank >= 2 and min(x.shape) >= 1, f"must have two axes or more and elements, is {x}", 0)
        step = 1 <= a.frame_step <= x.shape[-1]
        site.require(step, f"frame_step must be in [1, {x.shape[-1]}], is {a.frame_step}")
        return [(*x.shape[:-2], x.shape[-2] * a.frame_step)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        step, (*outer, count, size) = site.attrs.frame_step, x.shape
        sums = recalled(site, "sums", np.zeros((math.prod(outer), size), x.dtype))
        done = []
        for frame in x.reshape(-1, count, size).transpose(1, 0, 2):
            if x.dtype == np.float32:
                sums = sums + frame
            else:
                sums = saturated(sums.astype(np.int32) + frame, 16).astype(x.dtype)
            done.append(sums[:, :step])
            sums = np.concatenate([sums[:, step:], np.zeros((len(sums), step), x.dtype)], 1)
        remember(site, sums=sums)
        return [np.concatenate(done, 1).reshape(*outer, count * step)]


@register
class SignalStacker(Op):
    """stack = the last left + 1 + right frames in a row, once every stacker_step frames; valid: this is such a run.

    x: [num_channels], one frame. The first one counts left + 1 times.
    """

    name = "SignalStacker"
    operands = (("input",), ("stack", "valid"))
    types = "int16 -> int16 bool"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        num_channels: int = 0
        stacker_left_context: int = 0
        stacker_right_context: int = 0
        stacker_step: int = 1

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.rank(0, 1)
        site.require(x.shape == (a.num_channels,), f"must have num_channels {a.num_channels} elements, is {x}", 0)
        contexts = a.stacker_left_context, a.stacker_right_context
        site.require(min(contexts) >= 0 and max(contexts) < LONGEST, f"contexts must not be negative, are {contexts}")
        frames = sum(contexts) + 1
        step = 1 <= a.stacker_step <= frames
        site.require(step, f"stacker_step must be in [1, {frames}], is {a.stacker_step}")
        return [(a.num_channels * frames,), ()]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a = site.attrs
        frames = a.stacker_left_context + 1 + a.stacker_right_context
        stack = None if site.memory is None else site.memory.get("stack")
        new = [x] * (a.stacker_left_context + 1) if stack is None else [stack, x]
        stack = np.concatenate(new)
        valid = stack.size >= frames * x.size
        y = stack if valid else np.zeros(frames * x.size, x.dtype)
        remember(site, stack=stack[a.stacker_step * x.size :] if valid else stack)
        return [y.copy(), np.array(valid)]


@register
class CircularBuffer(Op):
    """y = y of the run before without its first slot, and x behind; a run that is not due ends here.

    x: [n, 1, w, channels]; y: [n, slots, w, channels], at first the zero point. A run is due every cycles_max runs; in
    others the buffer takes its input, and what comes after this operator does not run (ExecutionError).
    cycles_max 0: 1 for 5, 13 or 25 slots, else 2, which is what the microcontroller runtime guesses.
    """

    name = "CIRCULAR_BUFFER"
    types = "int8 -> int8"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        cycles_max: int = 0

    def infer(site: Site) -> list[Shape]:
        x, y = site.rank(0, 4), site.outputs[0]
        fits = y.rank == 4 and x.shape == (y.shape[0], 1, *y.shape[2:])
        site.require(fits, f"{x} must be one slot of the output {y}", 0)
        site.require(y.shape[1] >= 1, f"{y} has no slots")
        return [y.shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        y = site.outputs[0]
        zero = y.quantization.zero_point[0] if y.quantization is not None else 0
        slots = recalled(site, "slots", np.full((x.shape[0], *y.shape[1:]), zero, x.dtype))
        slots = np.concatenate([slots[:, 1:], x], 1)
        period = site.attrs.cycles_max if site.attrs.cycles_max > 0 else 1 if slots.shape[1] in (5, 13, 25) else 2
        left = (period if site.memory is None else site.memory.get("left", period)) - 1
        remember(site, slots=slots, left=left or period)
        if left:
            raise ExecutionError(
                f"CIRCULAR_BUFFER: the run ends here, one in {period} goes on", hint=f"{left} inputs are missing"
            )
        return [slots.copy()]
