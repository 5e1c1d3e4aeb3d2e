"""How the loop language's types and constants are spelt in LLVM's text."""

from __future__ import annotations

import struct

from lithe.types import DType

# bfloat16 is its bits: LLVM's own bfloat ends in "do not know how to soft promote" for vectors of some lengths.
_SCALARS = {
    "float64": "double", "float32": "float", "float16": "half", "bfloat16": "i16", "bool": "i1",
}  # fmt: skip


def scalar(dtype: DType) -> str:
    """The type of one value in a register."""
    return _SCALARS.get(dtype.name) or f"i{dtype.bits}"


def memory(dtype: DType) -> str:
    """The type of one value in memory."""
    return "i8" if dtype.name == "bool" else scalar(dtype)


def vector(kind: str, lanes: int) -> str:
    return kind if lanes == 1 else f"<{lanes} x {kind}>"


def suffix(dtype: DType, lanes: int) -> str:
    """The type's part of an intrinsic's name: v16f32."""
    letter = f"{'f' if dtype.is_float else 'i'}{dtype.bits}"
    return letter if lanes == 1 else f"v{lanes}{letter}"


def literal(value: float | int | bool, dtype: DType, lanes: int = 1) -> str:
    """A constant; vectors repeat it."""
    if dtype.name == "bool":
        text = "true" if value else "false"
    elif dtype.is_float:
        text = _float(float(value), dtype)
    else:
        wrapped = int(value) & ((1 << dtype.bits) - 1)
        text = str(wrapped - (1 << dtype.bits) if wrapped >> (dtype.bits - 1) else wrapped)
    return text if lanes == 1 else f"splat ({scalar(dtype)} {text})"


def _float(value: float, dtype: DType) -> str:
    match dtype.name:
        case "float16":
            return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
        case "bfloat16":
            return str(struct.unpack("<I", struct.pack("<f", value))[0] >> 16)
        case "float32":  # LLVM writes a float as the double of equal value
            value = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
