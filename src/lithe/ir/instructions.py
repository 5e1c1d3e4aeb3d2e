"""Machine instructions as data, which expressions of the loop language name; those that every generator has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.types import FLOAT32, INT32, DType


@dataclass(frozen=True)
class Instruction:
    """A machine instruction as data: what it computes, and what generators call it.

    meaning  numpy function on arrays of the operands' dtypes: the definition that interpreters use.
    spelling for each generator ("llvm", "c", ...) its own table entry; see that generator.
    """

    name: str
    operands: tuple[DType, ...]
    result: DType
    meaning: Callable[..., np.ndarray]
    spelling: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)


# The instructions that every generator has. `multiply_add` rounds once where that is quicker, else twice: for floats.
_THREE = (FLOAT32,) * 3
FMA = Instruction("fma", _THREE, FLOAT32, lambda a, b, c: (np.asarray(a, np.float64) * b + c).astype(np.float32))
_IN_C = {"c": "(({0}) * ({1}) + ({2}))"}
MULTIPLY_ADD = Instruction("multiply_add", _THREE, FLOAT32, lambda a, b, c: np.asarray(a * b + c, np.float32), _IN_C)
ROUND_INT = Instruction("round_int", (FLOAT32,), INT32, lambda x: np.rint(x).astype(np.int32))  # half to even; in range
FLOAT_BITS = Instruction("float_bits", (FLOAT32,), INT32, lambda x: np.asarray(x, np.float32).view(np.int32))
BITS_FLOAT = Instruction("bits_float", (INT32,), FLOAT32, lambda x: np.asarray(x, np.int32).view(np.float32))
CORE_INSTRUCTIONS = (FMA, MULTIPLY_ADD, ROUND_INT, FLOAT_BITS, BITS_FLOAT)
