"""LLVM text of two small kernels, for a target that does not depend on this machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lithe.codegen.llvm.emit import print_kernel
from lithe.ir.build import Builder, kernel
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.loops import Buffer, maximum
from lithe.ir.program import Program
from lithe.lower import lower
from lithe.lower.vectorize import vectorize
from lithe.ops import REGISTRY
from lithe.runtime.compilation import modules
from lithe.targets.cpu import x86
from lithe.types import FLOAT32, INT8, INT32, Quantization, TensorType

Golden = Callable[[str, str], None]
TARGET = x86(frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"}))


def pointwise() -> Program:
    """int8[1, 2, 2, 8] times 8 x 16 weights, a bias and a scale for each channel, RELU6."""
    random = np.random.default_rng(3)
    scales = tuple(float(s) for s in np.float32(0.01) * np.arange(1, 17, dtype=np.float32))
    biases = tuple(float(np.float32(s * 0.5)) for s in scales)
    x = Tensor("x", TensorType(INT8, (1, 2, 2, 8), Quantization((0.5,), (-3,))), index=0)
    w = Tensor(
        "w", TensorType(INT8, (16, 1, 1, 8), Quantization(scales, (0,) * 16)),
        random.integers(-127, 128, (16, 1, 1, 8), np.int8), index=1,
    )  # fmt: skip
    bias = Tensor(
        "bias", TensorType(INT32, (16,), Quantization(biases, (0,) * 16)),
        random.integers(-900, 900, 16, np.int32), index=2,
    )  # fmt: skip
    y = Tensor("y", TensorType(INT8, (1, 2, 2, 16), Quantization((0.25,), (5,))), index=3)
    op = REGISTRY.by_name["CONV_2D"]
    attrs = op.Attrs(padding="VALID", stride_w=1, stride_h=1, fused_activation_function="RELU6")
    return lower(Graph("pointwise", [x], [y], [x, w, bias, y], [Node(op, attrs, [x, w, bias], [y], 0)]), TARGET)


def test_llvm_text_of_a_vector_kernel(golden: Golden) -> None:
    x, y = Buffer("x", FLOAT32, (20,)), Buffer("y", FLOAT32, (20,))
    b = Builder("above")
    b.compute(y, lambda i: maximum(x[i] * 2.0 + 1.0, 0.0))
    above = kernel("above", vectorize(b.kernel().body, TARGET.vector_bytes))
    golden(print_kernel(above, "above", {}) + "\n", "above.ll")


def test_llvm_text_of_a_pointwise_convolution(golden: Golden) -> None:
    text = "\n\n".join(text for _, text in modules(pointwise()))
    assert "llvm.x86.avx512.vpdpbusd.512" in text
    golden(text + "\n", "pointwise.ll")
