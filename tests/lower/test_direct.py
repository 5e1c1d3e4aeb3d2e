"""Contractions that read their input where it lies: the same bits as `evaluate`, at the ends of what sums hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.ir.loops import Buffer, Cast, For, statements
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.lower.dots import byte_arithmetic
from lithe.targets.cpu import VPDPWSSD
from lithe.types import FLOAT32, INT4, INT16, INT32, INT64, Quantization, TensorType
from tests.llvm_backend import graph_of, host_target, run_case, smaller_targets
from tests.lower.test_schedules import check
from tests.ops.cases import Case, f32
from tests.ops.cases_convolution import convolution, drawn
from tests.ops.cases_fully_connected import connected


def extreme(case: Case, weight: int, value: int) -> Case:
    """The row with all weights and all activations at an end of their range."""
    w = case.inputs[1]
    assert w is not None
    fixed = {**case.constants, 1: np.full(w.shape, weight, w.dtype.numpy)}
    values = {0: np.full(case.inputs[0].shape, value)}
    return replace(case, name=f"{case.name} {weight} {value}", constants=fixed, values=values)


def blocks(rows: int, depth: int, outputs: int, block: int) -> Case:
    draw = np.random.default_rng(rows + block)
    found = tuple(float(s) for s in draw.uniform(0.01, 0.1, outputs * depth // block).astype(np.float16))
    w = TensorType(INT4, (outputs, depth), Quantization(found, (0,) * len(found), 0, block))
    constants = {1: drawn(INT4, outputs, depth), 2: drawn(FLOAT32, outputs)}
    return Case("FULLY_CONNECTED", f"blocks {rows} {depth} {outputs} {block}", (f32(rows, depth), w, f32(outputs)),
                (f32(rows, outputs),), {}, constants)  # fmt: skip


DEEP = connected("deep", "int16", (3, 1201), (19, 1201), (3, 19), channelwise=True)
TALL = convolution("deep taps", "int16", (1, 4, 3, 310), (5, 3, 3, 310), (1, 4, 3, 5))
WIDE = convolution("deep 5x5", "int16", (1, 5, 6, 6), (1, 5, 5, 6), (1, 5, 6, 6), "DEPTHWISE_CONV_2D")
CASES = [
    DEEP,
    *(extreme(c, w, v) for c in (DEEP, TALL, WIDE) for w in (-127, 127) for v in (-32768, 32767)),
    convolution("many pixels", "int16", (2, 17, 31, 5), (37, 1, 1, 5), (2, 17, 31, 37)),
    convolution("far padding", "int16", (1, 2, 2, 3), (4, 5, 5, 3), (1, 2, 2, 4), dilation_h_factor=2),
    *(
        convolution("wide groups", kind, (2, 9, 6, 24), (40, 3, 3, 6), (2, 5, 3, 40), stride_h=2, stride_w=2)
        for kind in ("float", "int8", "int16", "dynamic")
    ),
    convolution("dilated groups", "int8", (1, 7, 8, 10), (6, 3, 3, 5), (1, 7, 8, 6), dilation_h_factor=2),
    convolution("pointwise groups", "int8", (1, 7, 8, 24), (36, 1, 1, 8), (1, 7, 8, 36)),
    blocks(1, 128, 33, 32),
    blocks(7, 64, 16, 64),
    blocks(20, 96, 50, 16),
    blocks(2, 96, 50, 6),
]


@pytest.mark.parametrize("name", smaller_targets())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_machine_code_agrees_with_meaning(case: Case, name: str) -> None:
    check(case, run_case(case, smaller_targets()[name]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_programs_keep_the_rules_of_the_language(case: Case) -> None:
    verify_program(lower(graph_of(case), host_target()))


def of_four_bits(name: str, kind: str, rows: int, depth: int, outputs: int) -> Case:
    return connected(f"{name} {rows}", kind, (rows, depth), (outputs, depth), (rows, outputs), channelwise=True)


NIBBLES = [
    *(of_four_bits("packed", kind, rows, 136, 45) for kind in ("dynamic4", "int4") for rows in (1, 4)),
    extreme(of_four_bits("packed", "int4", 2, 2048, 20), -8, 127),
    extreme(of_four_bits("packed", "int4", 2, 2048, 20), 7, -128),
    blocks(1, 96, 40, 16),
    blocks(3, 128, 70, 64),
]


@pytest.mark.parametrize("name", smaller_targets())
@pytest.mark.parametrize("case", NIBBLES, ids=str)
def test_packed_weights_agree_with_meaning(case: Case, name: str) -> None:
    check(case, run_case(case, smaller_targets()[name]))


@pytest.mark.skipif(byte_arithmetic(host_target()) is None, reason="no dot product of bytes")
def test_weights_of_four_bits_stay_packed_for_few_pixels() -> None:
    def weight_bytes(case: Case) -> int:
        (step,) = lower(graph_of(case), host_target()).steps
        return max(b.nbytes for b in step.kernel.params if b.name == "weights")

    few, many = (of_four_bits("packed", "dynamic4", rows, 128, 64) for rows in (4, 5))
    assert weight_bytes(few) * 2 == weight_bytes(many) == 128 * 64


def halves(rows: int) -> Case:
    """A layer of floats whose weights are float16, as folded DEQUANTIZE leaves them."""
    case = connected(f"halves {rows}", "float", (rows, 133), (45, 133), (rows, 45))
    weights = case.constants[1].astype(np.float16).astype(np.float32)
    weights[0, :3] = (-0.0, 2.0**-24, 65504.0)
    return replace(case, constants={**case.constants, 1: weights})


@pytest.mark.parametrize("name", smaller_targets())
@pytest.mark.parametrize("rows", [1, 3])
def test_halves_agree_with_meaning(rows: int, name: str) -> None:
    case = halves(rows)
    check(case, run_case(case, smaller_targets()[name]))


@pytest.mark.skipif(not host_target().halves, reason="no instruction for float16")
def test_halves_stay_halves_for_few_pixels() -> None:
    def weights(case: Case) -> set[str]:
        (step,) = lower(graph_of(case), host_target()).steps
        return {b.dtype.name for b in step.kernel.params if b.name == "weights"}

    assert weights(halves(2)) == {"float16"}
    assert weights(halves(5)) == {"float32"}
    assert weights(connected("any", "float", (1, 8), (4, 8), (1, 4))) == {"float32"}


def parts(case: Case) -> int:
    """How many loops over parts of a sum the row's program has."""
    steps = lower(graph_of(case), host_target()).steps
    return sum(isinstance(s, For) and s.var.name.startswith("part") for t in steps for s in statements(t.kernel.body))


def test_sums_are_cut_only_where_weights_are_large() -> None:
    small = replace(DEEP, constants={**DEEP.constants, 1: np.full((19, 1201), 3)})
    assert parts(small) == 0
    assert parts(extreme(DEEP, 127, 0)) > 0


def test_sums_that_overflow_32_bits_are_exact() -> None:
    wide = extreme(DEEP, -127, -32768)
    total = 1201 * 127 * 32768
    assert total > 1 << 32
    check(wide, run_case(wide, host_target()))


def test_pairs_of_words_wrap() -> None:
    ends = np.array([-32768, -32768], np.int16).view(np.int32)
    assert VPDPWSSD.instruction.meaning(np.int32(0), ends, ends).tolist() == [-(1 << 31)]


def test_a_wide_copy_of_an_integer_is_not_made_for_a_float() -> None:
    narrow = Buffer("x", INT32, (1,))[0]
    assert narrow.to(INT64).to(FLOAT32).x is narrow
    cut = narrow.to(INT16).to(FLOAT32)
    assert isinstance(cut.x, Cast)
    assert cut.x.dtype == INT16
