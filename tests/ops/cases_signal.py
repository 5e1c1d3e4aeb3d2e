"""Operators of the microcontroller runtime's signal library; its kernels' results are in test_signal.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.types import BOOL, INT8, INT16, INT32, UINT32, UINT64, TensorType
from tests.ops.cases import Case, f32, tensor

WORD = 0xFFFFFFFF


def row(op: str, name: str, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...], **more: Any) -> Case:
    more = {"low": -32768, "high": 32767, **more}
    return Case(op, name, inputs, outputs, official=False, reason="only microcontrollers' runtime has it", **more)


def s16(*shape: int) -> TensorType:
    return tensor(INT16, *shape)


def u32(*shape: int) -> TensorType:
    return tensor(UINT32, *shape)


def _transforms() -> list[Case]:
    cases = []
    for length, size, batch in ((16, 16, (3,)), (20, 17, ()), (36, 36, (2, 1)), (64, 60, ()), (512, 480, (1,))):
        for t, make, number in (("int16", s16, 7), ("int32", lambda *s: tensor(INT32, *s), 2), ("float32", f32, 0)):
            wide = {"low": -3.0, "high": 3.0} if number == 0 else {}
            wide = {"low": -(2**31), "high": 2**31 - 1} if number == 2 else wide
            attrs = {"fft_length": length, "T": number}
            time, spectrum = make(*batch, size), make(*batch, length + 2)
            cases.append(row("SignalRfft", f"{t} {length}", (time,), (spectrum,), attrs=attrs, **wide))
            whole = make(*batch, length)
            cases.append(row("SignalIrfft", f"{t} {length}", (spectrum,), (whole,), attrs=attrs, **wide))
    return cases


def _bank(name: str, **more: Any) -> Case:
    places = {3: np.array([2, 4, 9, 15]), 4: np.array([0, 2, 7, 13]), 5: np.array([2, 5, 6, 0])}
    inputs = (u32(20), s16(13), s16(13), s16(4), s16(4), s16(4))
    more = {"constants": places, "low": 0, "high": WORD, **more}
    return row("SignalFilterBank", name, inputs, (tensor(UINT64, 3),), attrs={"num_channels": 3}, **more)


ROOTS = np.array(
    [0, 1, 2, 3, 2**16, 2**31 - 1, 2**32 - 2**17 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 3, 10**15, 2**63, 2**64 - 1],
    np.uint64,
)
SMALL = np.array([0, 1, 2, 3, 4, 7, 8, 127, 128, 1023, 1024, 2047, 2048, 65535, 2**31, WORD], np.uint32)
NOISE = {"num_channels": 6, "smoothing": 409, "one_minus_smoothing": 15975, "alternate_smoothing": 655,
         "alternate_one_minus_smoothing": 15729, "smoothing_bits": 10, "min_signal_remaining": 819,
         "spectral_subtraction_bits": 14}  # fmt: skip


CASES = [
    *_transforms(),
    row("SignalWindow", "rows", (s16(3, 8), s16(8)), (s16(3, 8),), attrs={"shift": 12}),
    row("SignalWindow", "saturating", (s16(40), s16(40)), (s16(40),), attrs={"shift": 3}),
    row("SignalWindow", "constant weights", (s16(1, 6), s16(6)), (s16(1, 6),), attrs={"shift": 0},
        constants={1: np.array([0, 1, -1, 2, 300, -32768])}),
    *(row("SignalFftAutoScale", f"up to {most}", (s16(9),), (s16(9), tensor(INT32)), low=-most, high=most)
      for most in (0, 1, 5, 100, 4095, 32767)),
    row("SignalFftAutoScale", "least", (s16(4),), (s16(4), tensor(INT32)), values={0: np.array([5, -32768, 3, 1])}),
    row("SignalEnergy", "all", (s16(20),), (u32(10),), attrs={"start_index": 0, "end_index": 10}),
    row("SignalEnergy", "a part", (s16(20),), (u32(10),), attrs={"start_index": 3, "end_index": 8}),
    row("SignalEnergy", "greatest", (s16(4),), (u32(2),), attrs={"start_index": 0, "end_index": 2},
        values={0: np.array([-32768, -32768, 32767, -32768])}),
    _bank("places known"), _bank("weights known", constants={
        1: np.arange(13) * 300, 2: 4096 - np.arange(13) * 300, 3: np.array([0, 4, 9, 14]), 4: np.array([0, 2, 7, 8]),
        5: np.array([2, 5, 0, 5])}),
    row("SignalFilterBankSquareRoot", "edges", (tensor(UINT64, 14), tensor(INT32)), (u32(14),),
        values={0: ROOTS, 1: np.array(0)}),
    row("SignalFilterBankSquareRoot", "shifted", (tensor(UINT64, 50), tensor(INT32)), (u32(50),),
        values={1: np.array(3)}, low=0, high=2**62),
    row("SignalFilterBankSpectralSubtraction", "first run", (u32(6),), (u32(6), u32(6)), attrs=NOISE, low=0, high=WORD),
    row("SignalFilterBankSpectralSubtraction", "clamped", (u32(6),), (u32(6), u32(6)),
        attrs={**NOISE, "clamping": True, "smoothing": 30000}, low=0, high=1000),
    row("SignalPCAN", "random", (u32(60), u32(60), s16(125)), (u32(60),), attrs={"snr_shift": 6},
        low=0, high=32767),
    row("SignalPCAN", "edges", (u32(16), u32(16), s16(125)), (u32(16),), attrs={"snr_shift": 13},
        values={1: SMALL}, constants={2: np.arange(125) * -523 % 65536 - 32768}, low=0, high=WORD),
    row("SignalFilterBankLog", "edges", (u32(16),), (s16(16),), attrs={"output_scale": 1600}, values={0: SMALL}),
    row("SignalFilterBankLog", "random", (u32(80),), (s16(80),), attrs={"output_scale": 1600,
        "input_correction_bits": 3}, low=0, high=WORD),
    row("SignalFilterBankLog", "large scale", (u32(80),), (s16(80),), attrs={"output_scale": 200000}, low=0, high=WORD),
    row("SignalDelay", "short", (s16(2, 3, 5),), (s16(2, 3, 5),), attrs={"delay_length": 2}),
    row("SignalFramer", "prefilled", (s16(2, 6),), (s16(2, 3, 5), tensor(BOOL)),
        attrs={"frame_size": 5, "frame_step": 2, "prefill": True}),
    row("SignalFramer", "not yet full", (s16(6),), (s16(3, 5), tensor(BOOL)),
        attrs={"frame_size": 5, "frame_step": 2}),
    row("SignalOverlapAdd", "int16", (s16(2, 3, 5),), (s16(2, 6),), attrs={"frame_step": 2}),
    row("SignalOverlapAdd", "float32", (f32(3, 4),), (f32(6),), attrs={"frame_step": 2, "T": 0}, low=-1, high=1),
    row("SignalStacker", "first run", (s16(3),), (s16(9), tensor(BOOL)),
        attrs={"num_channels": 3, "stacker_left_context": 1, "stacker_right_context": 1, "stacker_step": 2}),
    row("CIRCULAR_BUFFER", "each run", (tensor(INT8, 1, 1, 1, 4),), (tensor(INT8, 1, 5, 1, 4),)),
]  # fmt: skip
