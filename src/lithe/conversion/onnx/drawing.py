"""What ONNX's operators are in builtins: random numbers, the same for each seed as long as the runtime is the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, Value, converted, dtype_of_number, rule
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32, DType, TensorType


def drawn(b: Builder, c: Call, shape: Sequence[int], builtin: str = "RANDOM_UNIFORM") -> Tensor:
    """float32: from 0 up to 1, or of the standard normal distribution."""
    made = Tensor(f"{b.name()}/{len(b.tensors)}", TensorType(FLOAT32, tuple(shape)))
    b.add(b._node(builtin, [b.vector(shape)], [made], seed=int(c.attr("seed", 0) or 0), seed2=0))
    return made


@rule("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
def random(b: Builder, c: Call) -> Tensor:
    shape = c.shape(0) if c.op.endswith("Like") else tuple(c.attr("shape"))
    normal = "Normal" in c.op
    dtype: DType = FLOAT32
    if "dtype" in c.attributes or c.op.endswith("Like"):
        dtype = dtype_of_number(c.attr("dtype")) if "dtype" in c.attributes else c.dtype(0)
    made = drawn(b, c, shape, "RANDOM_STANDARD_NORMAL" if normal else "RANDOM_UNIFORM")
    low, high = c.attr("low", 0.0), c.attr("high", 1.0)
    factor, offset = (c.attr("scale", 1.0), c.attr("mean", 0.0)) if normal else (high - low, low)
    scaled = b("ADD", b("MUL", made, b.constant(factor, FLOAT32)), b.constant(offset, FLOAT32))
    return b.cast(scaled, dtype)


@rule("Bernoulli")
def bernoulli(b: Builder, c: Call) -> Tensor:
    """Whether a number that is drawn is below the probability."""
    dtype = dtype_of_number(c.attr("dtype")) if "dtype" in c.attributes else c.dtype(0)
    return b.cast(b("LESS", drawn(b, c, c.shape(0)), b.cast(c[0], FLOAT32), dtype=BOOL), dtype)


@rule("Dropout")
def dropout(b: Builder, c: Call) -> Sequence[Value]:
    """The elements themselves, unless a model is trained: then some are 0 and the others larger, as the mask says."""
    training = c.known(2) if c.has(2) else np.asarray(False)
    if training is not None and not training.any():
        value = c.operands[0]
        assert value is not None
        return [value, b.filled(True, BOOL, c.shape(0))][: len(c.results)]
    x = c[0]
    ratio = b.reshape(converted(b, c[1], FLOAT32), ()) if c.has(1) else b.constant(0.5, FLOAT32)
    kept = b("GREATER_EQUAL", drawn(b, c, x.type.shape), ratio, dtype=BOOL)
    if c.known(2) is None:
        kept = b("LOGICAL_OR", kept, b("LOGICAL_NOT", b.reshape(c[2], ())))
    factor = b("DIV", b.constant(1.0, FLOAT32), b("SUB", b.constant(1.0, FLOAT32), ratio))
    if c.known(2) is None:
        factor = b("SELECT_V2", b.reshape(c[2], ()), factor, b.constant(1.0, FLOAT32), dtype=FLOAT32)
    larger = b("MUL", converted(b, x, FLOAT32), factor)
    made = b("SELECT_V2", kept, larger, b.constant(0.0, FLOAT32), dtype=FLOAT32)
    return [converted(b, made, x.type.dtype), kept][: len(c.results)]
