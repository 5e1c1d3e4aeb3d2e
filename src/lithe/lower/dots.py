"""How products of two types are summed on a target: what one step reads, and what it adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.ir.loops import FMA, Buffer, Expr, Instruction, Intrinsic
from lithe.targets.cpu import Dot, Target
from lithe.types import FLOAT32, INT16, INT32, UINT8, DType


@dataclass(frozen=True)
class Arithmetic:
    """One step takes `group` neighbours of the left matrix, read as one word, times as many weights of each lane.

    left   type of the left matrix' elements: float32, bfloat16, uint8 or int16.
    right  type of the weights: float32, bfloat16, int8 or int16.
    adds   whether the instruction adds to the sum itself.
    """

    left: DType
    right: np.dtype
    group: int
    word: DType
    sums: DType
    instruction: Instruction | None
    adds: bool

    def step(self, total: Expr, a: Expr, w: Expr) -> Expr:
        """The sum after one step."""
        if self.instruction is None:
            return total + a.to(self.sums) * w.to(self.sums)
        if self.instruction is FMA:
            return Intrinsic(self.instruction, (a, w, total))
        if self.adds:
            return Intrinsic(self.instruction, (total, a, w))
        return total + Intrinsic(self.instruction, (a, w))

    def packed(self, weights: np.ndarray) -> np.ndarray:
        """Weights [..., K] with K a multiple of `group` as words [..., K / group]."""
        flat = np.ascontiguousarray(weights.astype(self.right))
        return flat if self.group == 1 else flat.view(self.word.numpy)

    def read(self, elements: Buffer, rows: int) -> Buffer:
        """Elements as [rows, words]."""
        return elements.viewed((rows, elements.size // (rows * self.group)), self.word)


PLAIN_WORDS = Arithmetic(INT16, np.dtype(np.int16), 1, INT16, INT32, None, False)  # without an instruction


def float_arithmetic(target: Target) -> Arithmetic:
    return Arithmetic(FLOAT32, np.dtype(np.float32), 1, FLOAT32, FLOAT32, FMA if target.fma else None, True)


def byte_arithmetic(target: Target) -> Arithmetic | None:
    """Unsigned bytes by signed ones; None where the target has no instruction for them."""
    dot = target.dot
    return _by(dot) if dot is not None and dot.left == UINT8 else None


def word_arithmetic(target: Target) -> Arithmetic:
    """16-bit values."""
    return PLAIN_WORDS if target.words is None else _by(target.words)


def product_arithmetic(target: Target, floating: bool) -> Arithmetic:
    """What dense products of constant weights take: of floats as precise as was asked for, else of bytes."""
    if floating:
        return float_arithmetic(target) if target.float_dot is None else _by(target.float_dot)
    return PLAIN_WORDS if target.dot is None else _by(target.dot)


def _by(dot: Dot) -> Arithmetic:
    sums = dot.instruction.result
    return Arithmetic(dot.left, dot.right.numpy, dot.group, INT32, sums, dot.instruction, dot.accumulates)
