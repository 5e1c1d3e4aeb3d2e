"""LLVM text: one golden kernel, failures as return codes, and a refusal for every node without a rule."""

from __future__ import annotations

import pytest

from lithe.codegen.llvm.emit import print_entry, print_kernel, print_module
from lithe.codegen.llvm.expressions import ExpressionWriter
from lithe.ir.build import Builder
from lithe.ir.loops import Binary, Buffer, Const, Expr, For, Instruction, Intrinsic, Kernel, Store, Var, constant, kernel
from lithe.ir.program import Program, Step
from lithe.types import FLOAT32, INT8, INT32

X, Y = Buffer("x", FLOAT32, (64,)), Buffer("y", FLOAT32, (64,))

