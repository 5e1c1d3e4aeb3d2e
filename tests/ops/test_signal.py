"""The signal operators against the library that they come from, against other ways to say the same, and refusals."""

from __future__ import annotations

import wave
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.formats import tflite
from lithe.ir import interpret
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.lite import Interpreter
from lithe.ops import REGISTRY, RuleViolation, Site
from lithe.ops.signal.fourier import NUMBERS, Plan, factors, real_restored, real_transformed, transformed
from lithe.types import BOOL, INT8, INT32, UINT64, Quantization, TensorType
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, f32, tensor
from tests.ops.cases_signal import CASES, NOISE, s16, u32

ROWS = {str(case): case for case in CASES}

# zlib.crc32 of the outputs of the library's own kernels on the rows' data: tflite-micro of August 2026, signal/src,
# with kissfft 130, compiled by gcc 12 for x86-64.
LIBRARY = {
    "SignalRfft-int16_16": 0xf2cc6d5e, "SignalIrfft-int16_16": 0x66385e89, "SignalRfft-int32_16": 0x689e4846,
    "SignalIrfft-int32_16": 0x8aa1981b, "SignalRfft-int16_20": 0x3478ca3a, "SignalIrfft-int16_20": 0xdb784a04,
    "SignalRfft-int32_20": 0xfbda0866, "SignalIrfft-int32_20": 0x463bee76, "SignalRfft-int16_36": 0x1e282cd1,
    "SignalIrfft-int16_36": 0xdf5e1798, "SignalRfft-int32_36": 0xdeeecdd7, "SignalIrfft-int32_36": 0x9890c00b,
    "SignalRfft-int16_64": 0xf1c3b065, "SignalIrfft-int16_64": 0x01e7f2b6, "SignalRfft-int32_64": 0x55e464f6,
    "SignalIrfft-int32_64": 0x7fe0e7b3, "SignalRfft-int16_512": 0x6e8cdba6, "SignalIrfft-int16_512": 0x1c555639,
    "SignalRfft-int32_512": 0x3b520317, "SignalIrfft-int32_512": 0x2c5a798a, "SignalWindow-rows": 0x16884b72,
    "SignalWindow-saturating": 0xfbf732d8, "SignalWindow-constant_weights": 0x92ae7f8a,
    "SignalFftAutoScale-up_to_0": 0xa829b1e0, "SignalFftAutoScale-up_to_1": 0xadfd28ac,
    "SignalFftAutoScale-up_to_5": 0x7bd93da2, "SignalFftAutoScale-up_to_100": 0x2843e34b,
    "SignalFftAutoScale-up_to_4095": 0xba5cf73a, "SignalFftAutoScale-up_to_32767": 0x47f41adf,
    "SignalEnergy-all": 0x48a09865, "SignalEnergy-a_part": 0x0dab8159, "SignalEnergy-greatest": 0x3fe69941,
    "SignalFilterBank-places_known": 0x15a4dde7, "SignalFilterBank-weights_known": 0x926aa238,
    "SignalFilterBankSquareRoot-edges": 0xf906726a, "SignalFilterBankSquareRoot-shifted": 0xe07234a9,
    "SignalFilterBankSpectralSubtraction-first_run": 0x0d9aefa8,
    "SignalFilterBankSpectralSubtraction-clamped": 0xbc5136ab, "SignalPCAN-random": 0x0cb59ede,
    "SignalPCAN-edges": 0xc56c1a01, "SignalFilterBankLog-edges": 0xc3233f04,
    "SignalFilterBankLog-random": 0xc16eaf3e, "SignalFilterBankLog-large_scale": 0xde6f97a6,
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARY)
def test_results_are_those_of_the_library(name: str) -> None:
    case = ROWS[name]
    results = case.operator.evaluate(case.site(), *case.arrays())
    assert zlib.crc32(b"".join(y.tobytes() for y in results)) == LIBRARY[name]


def run(op: str, attrs: dict[str, Any], outputs: tuple[TensorType, ...], steps: list[np.ndarray]) -> list[list]:
    """The outputs of a few runs of one node."""
    operator, memory = REGISTRY.by_name[op], {}
    x = tensor({"int16": s16().dtype, "uint32": u32().dtype, "float32": f32().dtype, "int8": INT8}[str(steps[0].dtype)])
    site = Site(operator.Attrs(**attrs), (TensorType(x.dtype, steps[0].shape),), outputs, memory=memory)
    assert operator.infer(site) == [y.shape for y in outputs]
    return [operator.evaluate(site, step) for step in steps]


@pytest.mark.parametrize(("clamping", "digest"), [(False, 0x9EEF9880), (True, 0x0C043CEF)])
def test_noise_is_remembered_as_in_the_library(clamping: bool, digest: int) -> None:
    random, found = np.random.default_rng(7), 0
    steps = [random.integers(0, 1 << 20, 6, dtype=np.int64).astype(np.uint32) for _ in range(20)]
    attrs = {**NOISE, "clamping": clamping}
    for y, noise in run("SignalFilterBankSpectralSubtraction", attrs, (u32(6), u32(6)), steps):
        found = zlib.crc32(y.tobytes() + noise.tobytes(), found)
    assert found == digest


STREAM = np.arange(1, 25, dtype=np.int16).reshape(4, 6)


@pytest.mark.parametrize("late", [0, 2, 6, 11])
def test_delay(late: int) -> None:
    runs = run("SignalDelay", {"delay_length": late}, (s16(6),), list(STREAM))
    expected = np.concatenate([np.zeros(late, np.int16), STREAM.reshape(-1)])[:24]
    np.testing.assert_array_equal(np.concatenate([y for (y,) in runs]), expected)


def test_another_number_of_rows_starts_the_stream_anew() -> None:
    op, memory = REGISTRY.by_name["SignalDelay"], {}
    for rows in (1, 2, 2):
        x = np.arange(1, rows * 3 + 1, dtype=np.int16).reshape(rows, 3)
        (y,) = op.evaluate(Site(op.Attrs(delay_length=3), (s16(rows, 3),), (s16(rows, 3),), memory=memory), x)
        expected = x if memory.get("rows") == rows else 0 * x
        np.testing.assert_array_equal(y, expected)
        memory["rows"] = rows


@pytest.mark.parametrize(("size", "step", "prefill"), [(5, 2, True), (5, 2, False), (3, 3, False), (2, 3, False)])
def test_frames(size: int, step: int, prefill: bool) -> None:
    attrs = {"frame_size": size, "frame_step": step, "prefill": prefill}
    runs = run("SignalFramer", attrs, (s16(6 // step, size), tensor(BOOL)), list(STREAM))
    frames = np.concatenate([y for y, _ in runs])
    stream = np.concatenate([np.zeros(size - step if prefill else 0, np.int16), STREAM.reshape(-1)])
    first = 0 if prefill else -(-size // step) - 1
    for n, frame in enumerate(frames):
        start = (n - first) * step
        np.testing.assert_array_equal(frame, stream[start : start + size] if n >= first else np.zeros(size))
    assert [bool(valid) for _, valid in runs] == [n * (6 // step) >= first for n in range(4)]


def test_frames_with_a_window_add_up_to_the_stream() -> None:
    frames = run("SignalFramer", {"frame_size": 4, "frame_step": 2, "prefill": True}, (s16(3, 4), tensor(BOOL)),
                 list(STREAM))  # fmt: skip
    halves = [y // 2 for y, _ in frames]
    sums = run("SignalOverlapAdd", {"frame_step": 2}, (s16(6),), halves)
    whole = np.concatenate([y for (y,) in sums])
    np.testing.assert_array_equal(whole[2:], STREAM.reshape(-1)[:22] // 2 * 2)


def test_overlapping_sums_saturate() -> None:
    loud = np.full((2, 3), 30000, np.int16)
    ((y,),) = run("SignalOverlapAdd", {"frame_step": 1}, (s16(2),), [loud])
    assert y.tolist() == [30000, 32767]


def test_stacks() -> None:
    attrs = {"num_channels": 2, "stacker_left_context": 2, "stacker_right_context": 1, "stacker_step": 3}
    steps = [np.array([n, -n], np.int16) for n in range(1, 9)]
    runs = run("SignalStacker", attrs, (s16(8), tensor(BOOL)), steps)
    assert [y[::2].tolist() for y, valid in runs if valid] == [[1, 1, 1, 2], [2, 3, 4, 5], [5, 6, 7, 8]]
    assert [bool(valid) for _, valid in runs] == [False, True, False, False, True, False, False, True]
    assert not runs[0][0].any()


def test_a_circular_buffer_that_is_not_due_ends_the_run() -> None:
    op, memory = REGISTRY.by_name["CIRCULAR_BUFFER"], {}
    slots = tensor(INT8, 1, 3, 1, 1, scale=1.0, zero_point=-1)
    site = Site(op.Attrs(), (tensor(INT8, 1, 1, 1, 1),), (slots,), memory=memory)
    for first, expected in ((1, [-1, 1, 2]), (3, [2, 3, 4]), (5, [4, 5, 6])):
        with pytest.raises(ExecutionError, match="one in 2 goes on"):
            op.evaluate(site, np.full((1, 1, 1, 1), first, np.int8))
        (y,) = op.evaluate(site, np.full((1, 1, 1, 1), first + 1, np.int8))
        assert y.reshape(-1).tolist() == expected


def streaming(cycles: int) -> Module:
    """y = relu(circular buffer of x), the buffer a variable as microcontrollers' runtimes want it."""
    types = [TensorType(INT8, shape, Quantization((1.0,), (-1,))) for shape in ((1, 1, 1, 1), *[(1, 3, 1, 1)] * 2)]
    x, slots, y = tensors = [Tensor(n, t, index=i) for i, (n, t) in enumerate(zip("xsy", types, strict=True))]
    slots.is_variable = True
    buffer, relu = REGISTRY.by_name["CIRCULAR_BUFFER"], REGISTRY.by_name["RELU"]
    nodes = [Node(buffer, buffer.Attrs(cycles), [x], [slots], 0), Node(relu, relu.Attrs(), [slots], [y], 1)]
    return Module([Graph("main", [x], [y], tensors, nodes)])


def test_what_follows_a_circular_buffer_runs_when_it_is_due() -> None:
    interpreter = Interpreter(model_content=tflite.write(streaming(2)))
    interpreter.allocate_tensors()

    def run_with(value: int) -> list[int]:
        interpreter.set_tensor(0, np.full((1, 1, 1, 1), value, np.int8))
        interpreter.invoke()
        return interpreter.get_tensor(2).reshape(-1).tolist()

    for first, expected in ((1, [-1, 1, 2]), (3, [2, 3, 4])):
        with pytest.raises(ExecutionError, match="the run ends here"):
            run_with(first)
        assert run_with(first + 1) == expected
    interpreter.reset_all_variables()
    with pytest.raises(ExecutionError, match="the run ends here"):
        run_with(5)
    assert run_with(6) == [-1, 5, 6]


@pytest.mark.parametrize("length", [4, 6, 10, 18, 64, 100, 120])
def test_fixed_point_is_near_the_transform(length: int) -> None:
    x = np.random.default_rng(length).integers(-20000, 20000, (2, length))
    wanted = np.fft.rfft(x) / length
    for name, unit in (("int16", 1.0), ("int32", 1 / 65536)):
        numbers = NUMBERS[name]
        y = real_transformed(numbers, (x / unit).astype(numbers.stored.numpy)) * unit
        assert np.abs(y[..., 0] + 1j * y[..., 1] - wanted).max() < 8 * unit + 0.01
        back = real_restored(numbers, np.round(y / unit)) * unit * length
        assert np.abs(back - x).max() < 20 * length * unit + 1


@pytest.mark.parametrize("length", [1, 2, 8, 15, 60])
@pytest.mark.parametrize("inverse", [False, True])
def test_plans_in_floats(length: int, inverse: bool) -> None:
    x = np.random.default_rng(length).standard_normal((3, length, 2)).astype(np.float32)
    y = transformed(Plan(NUMBERS["float32"], length, inverse), x)
    z = x[..., 0] + 1j * x[..., 1]
    wanted = np.fft.ifft(z) * length if inverse else np.fft.fft(z)
    np.testing.assert_allclose(y[..., 0] + 1j * y[..., 1], wanted, rtol=1e-5, atol=1e-5)
    assert np.prod(factors(length)) == length


# tflite-micro, examples/micro_speech/audio_preprocessor_test.py
YES = [124, 105, 126, 103, 125, 101, 123, 100, 116, 98, 115, 97, 113, 90, 91, 82, 104, 96, 117, 97,
       121, 103, 126, 101, 125, 104, 126, 104, 125, 101, 116, 90, 81, 74, 80, 71, 83, 76, 82, 71]  # fmt: skip


def test_features_of_a_word(corpus: Path) -> None:
    interpreter = Interpreter(model_path=str(corpus / "models" / "audio" / "audio_preprocessor_int8.tflite"))
    interpreter.allocate_tensors()
    with wave.open(str(corpus / "data" / "audio" / "yes_30ms.wav")) as sound:
        samples = np.frombuffer(sound.readframes(480), np.int16)
    (at,), (to,) = ([d["index"] for d in details] for details in (interpreter.get_input_details(),
                                                                  interpreter.get_output_details()))  # fmt: skip

    def features() -> list[int]:
        interpreter.set_tensor(at, samples[None])
        interpreter.invoke()
        return interpreter.get_tensor(to).reshape(-1).tolist()

    assert features() == YES
    assert features() != YES, "the noise is remembered"
    interpreter.reset_all_variables()
    assert features() == YES


def bank(places: list[list[int]]) -> dict[str, Any]:
    return {"constants": {i + 3: np.array(p) for i, p in enumerate(places)}, "attrs": {"num_channels": 1}}


BANK = (u32(8), s16(4), s16(4), s16(2), s16(2), s16(2))
REFUSED: list[tuple[str, str, tuple[TensorType, ...], tuple[TensorType, ...], dict[str, Any]]] = [
    ("option T is 7, float32 has 0", "SignalRfft", (f32(8),), (f32(10),), {"attrs": {"fft_length": 8}}),
    ("product of 2, 3 and 5, up to 1048576, is 14", "SignalRfft", (s16(8),), (s16(16),), {"attrs": {"fft_length": 14}}),
    ("product of 2, 3 and 5, up to 1048576, is 2", "SignalIrfft", (s16(4),), (s16(2),), {"attrs": {"fft_length": 2}}),
    ("must have an axis", "SignalIrfft", (s16(),), (s16(),), {"attrs": {"fft_length": 8}}),
    ("has more than fft_length 8", "SignalRfft", (s16(9),), (s16(10),), {"attrs": {"fft_length": 8}}),
    (r"must have fft_length \+ 2 = 10", "SignalIrfft", (s16(8),), (s16(8),), {"attrs": {"fft_length": 8}}),
    ("does not fit the rows", "SignalWindow", (s16(2, 4), s16(8)), (s16(2, 4),), {}),
    (r"shift must be in \[0, 32\)", "SignalWindow", (s16(4), s16(4)), (s16(4),), {"attrs": {"shift": 32}}),
    ("must hold pairs", "SignalEnergy", (s16(3),), (u32(1),), {}),
    (r"must lie in \[0, 2\]", "SignalEnergy", (s16(4),), (u32(2),), {"attrs": {"end_index": 3}}),
    ("num_channels must be at least 1", "SignalFilterBank", BANK, (tensor(UINT64, 1),), {}),
    (r"must have shape \[4\]", "SignalFilterBank", (*BANK[:2], s16(3), *BANK[3:]), (tensor(UINT64, 1),),
     bank([[0, 0], [0, 0], [0, 0]])),
    ("must have 2 elements", "SignalFilterBank", (*BANK[:3], s16(3), *BANK[4:]), (tensor(UINT64, 1),),
     {"attrs": {"num_channels": 1}}),
    ("frequencies 7 to 9 of a channel", "SignalFilterBank", BANK, (tensor(UINT64, 1),),
     bank([[0, 7], [0, 1], [1, 2]])),
    ("weights -1 to 0 of a channel", "SignalFilterBank", BANK, (tensor(UINT64, 1),), bank([[0, 7], [-1, 0], [1, 1]])),
    ("the width of a channel is -1", "SignalFilterBank", BANK, (tensor(UINT64, 1),), bank([[0, 7], [1, 0], [1, -1]])),
    ("must be one number", "SignalFilterBankSquareRoot", (tensor(UINT64, 2), tensor(INT32, 2)), (u32(2),), {}),
    ("must have num_channels 0", "SignalFilterBankSpectralSubtraction", (u32(2),), (u32(2), u32(2)), {}),
    (r"smoothing_bits must be in \[0, 32\)", "SignalFilterBankSpectralSubtraction", (u32(6),), (u32(6), u32(6)),
     {"attrs": {**NOISE, "smoothing_bits": 32}}),
    ("must have the shape of", "SignalPCAN", (u32(2), u32(3), s16(125)), (u32(2),), {}),
    ("must have at least 125 elements", "SignalPCAN", (u32(2), u32(2), s16(124)), (u32(2),), {}),
    ("snr_shift must be in", "SignalPCAN", (u32(2), u32(2), s16(125)), (u32(2),), {"attrs": {"snr_shift": 64}}),
    ("input_correction_bits", "SignalFilterBankLog", (u32(2),), (s16(2),), {"attrs": {"input_correction_bits": -1}}),
    ("must have an axis and elements", "SignalDelay", (s16(0),), (s16(0),), {}),
    ("delay_length must be in", "SignalDelay", (s16(2),), (s16(2),), {"attrs": {"delay_length": -1}}),
    ("frame_step must be positive", "SignalFramer", (s16(2),), (s16(1, 1), tensor(BOOL)), {}),
    ("frame_size must be positive", "SignalFramer", (s16(2),), (s16(1, 1), tensor(BOOL)), {"attrs": {"frame_step": 2}}),
    ("prefill needs frame_size", "SignalFramer", (s16(2),), (s16(1, 1), tensor(BOOL)),
     {"attrs": {"frame_step": 2, "frame_size": 1, "prefill": True}}),
    ("rows must be a multiple", "SignalFramer", (s16(3),), (s16(1, 2), tensor(BOOL)),
     {"attrs": {"frame_step": 2, "frame_size": 2}}),
    ("option T is 0, int16 has 7", "SignalOverlapAdd", (s16(2, 2),), (s16(2),), {"attrs": {"frame_step": 1, "T": 0}}),
    ("must have two axes or more", "SignalOverlapAdd", (s16(2),), (s16(2),), {"attrs": {"frame_step": 1}}),
    (r"frame_step must be in \[1, 2\]", "SignalOverlapAdd", (s16(2, 2),), (s16(6),), {"attrs": {"frame_step": 3}}),
    ("must have num_channels 0", "SignalStacker", (s16(2),), (s16(2), tensor(BOOL)), {}),
    ("contexts must not be negative", "SignalStacker", (s16(2),), (s16(2), tensor(BOOL)),
     {"attrs": {"num_channels": 2, "stacker_left_context": -1}}),
    (r"stacker_step must be in \[1, 1\]", "SignalStacker", (s16(2),), (s16(2), tensor(BOOL)),
     {"attrs": {"num_channels": 2, "stacker_step": 2}}),
    ("must be one slot", "CIRCULAR_BUFFER", (tensor(INT8, 1, 2, 1, 1),), (tensor(INT8, 1, 3, 1, 1),), {}),
    ("has no slots", "CIRCULAR_BUFFER", (tensor(INT8, 1, 1, 1, 1),), (tensor(INT8, 1, 0, 1, 1),), {}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "op", "inputs", "outputs", "more"), REFUSED)
def test_refusals(words: str, op: str, inputs: tuple, outputs: tuple, more: dict[str, Any]) -> None:
    case = Case(op, "refused", inputs, outputs, **more)
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


def test_filter_banks_check_places_that_come_late() -> None:
    values = {3: np.array([0, 7]), 4: np.array([0, 1]), 5: np.array([1, 2])}
    case = Case("SignalFilterBank", "late", BANK, (tensor(UINT64, 1),), {"num_channels": 1}, values=values)
    assert not case.operator.lowers(case.site())
    with pytest.raises(ExecutionError, match="frequencies 7 to 9"):
        case.operator.evaluate(case.site(), *case.arrays())
    good = Case("SignalFilterBank", "late", BANK, (tensor(UINT64, 1),), {"num_channels": 1},
                values={3: np.array([0, 6]), 4: np.array([0, 1]), 5: np.array([1, 2])})  # fmt: skip
    x, weights, unweights = good.arrays()[:3]
    expected = weights[1:3].astype(np.int64) @ x[6:8].astype(np.int64) + int(unweights[0]) * int(x[0])
    assert good.operator.evaluate(good.site(), *good.arrays())[0].astype(np.int64) == expected


@pytest.mark.parametrize("bits", [-1, 32])
def test_scale_bits_are_checked_in_meaning_and_in_loops(bits: int) -> None:
    inputs = (tensor(UINT64, 2), tensor(INT32))
    case = Case("SignalFilterBankSquareRoot", "bits", inputs, (u32(2),), values={1: np.array(bits)})
    with pytest.raises(ExecutionError, match="scale_bits must be in"):
        case.operator.evaluate(case.site(), *case.arrays())
    with pytest.raises(ExecutionError, match="scale_bits must be in"):
        interpret.run(program_of([case]), given(case))
