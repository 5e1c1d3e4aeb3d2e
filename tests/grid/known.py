"""Where the official runtime is no oracle: what its kernels misread, do wrong, or leave undefined. Data.

Such cases are still run in every target of ours; their results are not compared with those kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lithe.types import INT64
from tests.ops.cases import Case


@dataclass(frozen=True)
class Row:
    """ops  names, empty for all. when  which of their cases. sets  the kernel sets, empty for all."""

    ops: frozenset[str]
    when: Callable[[Case], bool]
    reason: str
    sets: frozenset[str] = frozenset()


def known(ops: str, when: Callable[[Case], bool], reason: str, sets: str = "") -> Row:
    return Row(frozenset(ops.split()), when, reason, frozenset(sets.split()))


def first_is(*names: str) -> Callable[[Case], bool]:
    return lambda case: next((t.dtype.name for t in case.inputs if t is not None), "") in names


def takes(name: str) -> Callable[[Case], bool]:
    return lambda case: any(t is not None and t.dtype.name == name for t in (*case.inputs, *case.outputs))


def packed(case: Case) -> bool:
    """Whether an output, or an input that is no constant, has several elements in a byte."""
    given = [t for i, t in enumerate(case.inputs) if t is not None and i not in case.constants]
    return any(t.dtype.stored_bits < 8 for t in (*given, *case.outputs))


def pair(*names: str) -> Callable[[Case], bool]:
    """Whether the first two operands (of convolutions, activations and filter) have one of these pairs of types."""
    return lambda case: "+".join(t.dtype.name for t in case.inputs[:2] if t is not None) in names


def not_finite(case: Case) -> bool:
    return any(not np.isfinite(np.asarray(v, np.float64)).all() for v in case.arrays())


def not_a_number(case: Case) -> bool:
    return any(
        v.dtype.kind == "f" and bool(np.isnan(v).any()) for v in (*case.values.values(), *case.constants.values())
    )


ARITHMETIC = {"ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide}
FINITE = np.finfo(np.float32)


def operands_and_result(case: Case) -> list[np.ndarray]:
    """Of a sum, difference, product or quotient of real numbers, in float64, without its activation."""
    values = [np.asarray(v, np.float64) for v in case.arrays()]
    with np.errstate(all="ignore"):
        return [*values, ARITHMETIC[case.op](*values)]


def overflows(case: Case) -> bool:
    """Whether an element is infinite in the type of the output, and the activation leaves it so."""
    if not case.outputs[0].dtype.is_float or activation(case) not in ("NONE", "RELU"):
        return False
    with np.errstate(all="ignore"):
        result = operands_and_result(case)[-1].astype(case.outputs[0].dtype.numpy)
    return bool(np.isposinf(result).any() or (activation(case) == "NONE" and np.isneginf(result).any()))


def subnormal(case: Case) -> bool:
    """Whether an operand or the result of float32 is below the smallest normal number, and not 0."""
    return first_is("float32")(case) and any(
        bool(((v != 0) & (np.abs(v) < FINITE.tiny)).any()) for v in operands_and_result(case)
    )


def activates_no_number(case: Case) -> bool:
    """Whether an activation of halves gets what is not a number."""
    return (
        first_is("float16")(case) and activation(case) != "NONE" and bool(np.isnan(operands_and_result(case)[-1]).any())
    )


def uneven_rows(case: Case) -> bool:
    """Whether rows of a packed table do not end with a byte."""
    t = case.inputs[1]
    uneven = t is not None and t.dtype.stored_bits < 8 and t.size // t.shape[0] % (8 // t.dtype.stored_bits) > 0
    return uneven and t is not None and t.shape[0] > 1


def activation(case: Case) -> str:
    return str(case.attrs.get("fused_activation_function", "NONE"))


def one_scale(case: Case) -> bool:
    """Whether a depthwise filter has one scale for several channels."""
    t = case.inputs[1]
    return t is not None and t.quantization is not None and len(t.quantization.scale) == 1 < t.shape[-1]


def has_least(case: Case) -> bool:
    """Whether one of the weights is -128 when their bytes are taken as signed."""
    return bool((np.asarray(case.arrays()[1]) == 128).any())


def second_is_no_number(case: Case) -> bool:
    """Whether the second operand is not a number where the first is one."""
    first, second = (np.isnan(np.asarray(v, np.float64)) for v in case.arrays())
    return bool((second & ~first).any())


def small_quotient(case: Case) -> bool:
    """Whether a quotient of stored numbers is so small that the kernel shifts 32-bit numbers by more than 31 bits.

    Source: TensorFlow Lite, DivElementwise, GetReciprocal, MultiplyByQuantizedMultiplierSmallerThanOneExp.
    """
    types = [t for t in (*case.inputs, *case.outputs) if t is not None and t.quantization is not None]
    if len(types) < 3:
        return False
    a, b = (
        np.asarray(v, np.int64) - t.quantization.zero_point[0]
        for v, t in zip(case.arrays(), types, strict=False)
        if t.quantization is not None
    )
    a, b = np.where(b < 0, -a, a), np.abs(b)
    left, right, result = (np.float32(t.quantization.scale[0]) for t in types if t.quantization is not None)
    shift = math.frexp(left / float(right * result))[1]
    sign_bits = np.where(a > 0, 31 - bits(a), np.where(a < 0, 32 - bits(-2 * a - 1), 31))
    return bool((shift - (bits(b) - 1) - sign_bits < -31).any())


def bits(a: np.ndarray) -> np.ndarray:
    """How many binary digits each number has."""
    return np.frexp(a.astype(np.float64))[1]


def empty_int16(case: Case) -> bool:
    return first_is("int16")(case) and np.asarray(case.arrays()[0]).size == 0


def peepholes_before_projection(case: Case) -> bool:
    """Whether integers have peepholes and a projection to another size, without normalization."""
    if len(case.inputs) <= 18:  # the basic kernel has neither
        return False
    cell, state = case.inputs[10], case.inputs[18]
    projected = cell is not None and state is not None and cell.shape[0] != state.shape[1]
    return first_is("int8")(case) and projected and (len(case.inputs) < 24 or case.inputs[21] is None)


def to(*names: str) -> Callable[[Case], bool]:
    """Whether input and output have one of these pairs of types."""
    return lambda case: f"{case.inputs[0] and case.inputs[0].dtype}-{case.outputs[0].dtype}" in names


MISREAD = "it takes the bits for those of another type"
KNOWN = (
    known("", packed, "its Python package neither packs nor unpacks tensors of several elements a byte"),
    known("TRANSPOSE BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND", lambda case: any(
        t is not None and t.dtype == INT64 for t in case.inputs[1:]), "it reads int64 indices as int32"),
    known("NOT_EQUAL", takes("int16"), "it compares int16 as something else"),
    known("CONV_2D", pair("float32+float16", "float32+int2", "int16+int2"), MISREAD),
    known("DEPTHWISE_CONV_2D", pair("int16+int2", "int16+int4"), MISREAD),
    known("CONV_2D FULLY_CONNECTED", lambda case: pair("float32+uint8")(case) and has_least(case),
          "it takes uint8 weights for int8, and has no negative of -128"),
    known("DEPTHWISE_CONV_2D", lambda case: pair("float32+int8")(case) and one_scale(case),
          "it wants a scale for each channel"),
    known("STABLEHLO_MAXIMUM STABLEHLO_MINIMUM", second_is_no_number,
          "it loses what is not a number, the specification not"),
    known("PRELU", pair("int16+int16"), MISREAD),
    known("FULLY_CONNECTED", to("int8-int16", "uint8-int16"), "it knows no bounds for these types"),
    known("BATCH_MATMUL", to("int8-int16", "int8-int32"), "it prepares no bounds for these types"),
    known("BATCH_MATMUL", pair("float32+int8"), "it looks for one scale and finds 0"),
    known("EMBEDDING_LOOKUP", takes("float8_e4m3fn"), MISREAD),
    known("EMBEDDING_LOOKUP", takes("float8_e5m2"), MISREAD),
    known("MATRIX_DIAG MATRIX_SET_DIAG", first_is(
        "bool", "uint16", "float16", "bfloat16", "uint64", "float64", "complex64", "complex128",
    ), "it copies elements as if they had another size"),
    known("MUL", to("int16-int8", "int16-uint8"), "it takes the scales for 2**-15 and 2**-7, whatever they are"),
    known("ADD SUB MUL DIV", overflows, "it stops at the greatest finite number, not at infinity",
          "optimized reference"),
    known("ADD SUB MUL DIV", subnormal, "it takes what is below the smallest normal number for 0", "XNNPACK"),
    known("EMBEDDING_LOOKUP", uneven_rows, "it starts every row at a byte"),
    known("RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1", lambda case: first_is("float16")(case) and not_a_number(case),
          "its halves lose what is not a number", "XNNPACK"),
    known("ADD SUB MUL DIV", activates_no_number, "its halves lose what is not a number in an activation",
          "XNNPACK"),
    known("DIV", small_quotient, "it shifts by more bits than a number has"),
    known("EXP", first_is("float16"), "its only kernel for halves computes in halves", "XNNPACK"),
    known("LOG", lambda case: first_is("float16")(case) and not_finite(case),
          "it gives 88 for what is not finite", "XNNPACK"),
    known("SUM", empty_int16, "it leaves the sums of nothing unset"),
    known("LSTM UNIDIRECTIONAL_SEQUENCE_LSTM", peepholes_before_projection,
          "it takes as many peephole weights, and cells of each batch, as there are outputs"),
)  # fmt: skip


def exception(case: Case, kernels: str = "") -> str:
    """Why the case is not compared with all kernels, or with this set; empty when it is."""
    for row in KNOWN:
        if (
            (not row.ops or case.op in row.ops)
            and (kernels in row.sets if kernels else not row.sets)
            and row.when(case)
        ):
            return row.reason
    return ""
