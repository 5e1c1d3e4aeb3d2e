"""LLVM text: one golden kernel, failures as return codes, and a refusal for every node without a rule."""

from __future__ import annotations

from lithe.ir.loops import (
    Buffer,
)
from lithe.types import FLOAT32

X, Y = Buffer("x", FLOAT32, (64,)), Buffer("y", FLOAT32, (64,))
