"""Pooling that tells places, and the way back; operators that check models."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from lithe.types import FLOAT16, INT32, INT64, TensorType
from tests.ops.cases import Case, f32, i8, i16, i32, tensor, u8

OTHERS = {"official": False, "reason": "the official Python runtime registers no kernel of this name"}
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")


def attrs(size: tuple[int, int], strides: tuple[int, int], padding: str, activation: str = "NONE") -> dict[str, Any]:
    return {"padding": padding, "ksize": (1, *size, 1), "strides": (1, *strides, 1),
            "fused_activation_function": activation}  # fmt: skip


def params(size: tuple[int, int], strides: tuple[int, int], padding: str, activation: str = "NONE") -> bytes:
    """A TfLitePoolParams."""
    paddings = ("UNKNOWN", "SAME", "VALID")
    numbers = (paddings.index(padding), *strides[::-1], *size[::-1], ACTIVATIONS.index(activation), 0, 0, 0, 0)
    return struct.pack("<10i", *numbers)


def pool(name: str, x: TensorType, y: tuple[int, ...], places: Any, *window: Any, **more: Any) -> Case:
    op = more.pop("op", "MaxPoolingWithArgmax2D")
    return Case(op, name, (x,), (f32(*y), places(*y)), attrs(*window), **{**OTHERS, **more})


def unpool(name: str, x: TensorType, y: tuple[int, ...], places: np.ndarray, *window: Any, op: str = "") -> Case:
    kind = f32 if places.dtype.kind == "f" else i32
    inputs = (x, kind(*x.shape))
    return Case(op or "MaxUnpooling2D", name, inputs, (f32(*y),), attrs(*window), values={1: places}, **OTHERS)


IN_WINDOW = np.random.default_rng(1).integers(0, 6, (2, 3, 4, 5)) + 0.1
IN_PICTURE = np.random.default_rng(2).integers(0, 6 * 12 * 5, (2, 3, 4, 5))
FLAT = np.array([[[[np.nan], [1.0]], [[1.0], [-np.inf]]], [[[-np.inf], [-np.inf]], [[np.nan], [-np.inf]]]])


def verify(name: str, x: TensorType, off: np.float32, **options: Any) -> Case:
    """The reference lies up to `off` steps beside the stored numbers."""
    random = np.random.default_rng(3)
    stored = random.integers(-50, 51, x.shape) if x.quantization is None else random.integers(0, 100, x.shape)
    scale, zero_point = (1.0, 0) if x.quantization is None else (x.quantization.scale[0], x.quantization.zero_point[0])
    reference = (stored - zero_point + random.uniform(-off, off, x.shape)) * scale
    return Case("NumericVerify", name, (x, f32(*x.shape)), (f32(*x.shape),), options,
                values={0: stored, 1: reference}, custom_options=bytes(flexbuffers.Dumps(options)))  # fmt: skip


def hadamard(name: str, x: TensorType, size: int) -> Case:
    options = {"hadamard_size": size, "random_binary_vector": [1, -1]}
    return Case("aeq.hadamard_rotation", name, (x,), (x,), {"hadamard_size": size, "random_binary_vector": (1, -1)},
                custom_options=bytes(flexbuffers.Dumps(options)))  # fmt: skip


GRADIENTS = (
    ([2, 3, 4], [2, 1, 4], [], [1]), ([4, 3], [5, 1, 4, 1], [0, 1], [1, 3]), ([3], [1, 1, 3], [0, 1], [0, 1]),
    ([2, 1], [2, 1], [], []), ([1, 1], [1], [0, 1], [0, 1]), ([1], [], [0], [0]),
)  # fmt: skip

CASES = [
    *(pool(f"{padding} {kind.__name__}", f32(2, 7, 6, 3), (2, *size, 3), kind, (3, 2), (2, 2), padding)
      for padding, size in (("SAME", (4, 3)), ("VALID", (3, 3))) for kind in (f32, i32)),
    pool("overlapping", f32(1, 5, 5, 2), (1, 5, 5, 2), i32, (3, 3), (1, 1), "SAME", "RELU6"),
    pool("window beyond the picture", f32(1, 2, 3, 2), (1, 1, 1, 2), f32, (9, 9), (9, 9), "SAME"),
    pool("equal values", f32(1, 4, 4, 1), (1, 2, 2, 1), i32, (2, 2), (2, 2), "VALID", low=1.0, high=1.0),
    pool("no number", f32(2, 2, 2, 1), (2, 1, 1, 1), f32, (2, 2), (2, 2), "VALID", values={0: FLAT}),
    pool("no number in the picture", f32(2, 2, 2, 1), (2, 1, 1, 1), i32, (2, 2), (2, 2), "VALID", values={0: FLAT}),
    pool("perception", f32(1, 4, 6, 2), (1, 2, 3, 2), i32, (2, 2), (2, 2), "SAME", op="MaxPoolWithArgmax"),
    unpool("in windows", f32(2, 3, 4, 5), (2, 6, 12, 5), IN_WINDOW, (2, 3), (2, 3), "SAME"),
    unpool("in pictures", f32(2, 3, 4, 5), (2, 6, 12, 5), IN_PICTURE, (2, 2), (2, 3), "SAME"),
    unpool("valid", f32(2, 3, 4, 5), (2, 6, 12, 5), IN_PICTURE, (2, 3), (2, 3), "VALID"),
    unpool("same place twice", f32(1, 1, 2, 1), (1, 2, 4, 1), np.array([3, 3]), (2, 2), (2, 2), "SAME"),
    unpool("not a number", f32(1, 1, 2, 1), (1, 2, 4, 1), np.array([np.nan, 3.9]), (2, 2), (2, 2), "SAME"),
    unpool("LiteRT", f32(1, 2, 2, 1), (1, 4, 5, 1), np.array([0, 7, 19, 3]), (2, 2), (2, 3), "VALID",
           op="LiteRtMaxUnpooling2D"),
    *(verify(name, x, np.float32(0.3), tolerance=2.0, log_if_failed=False)
      for name, x in (("int8", i8(3, 4)), ("uint8", u8(3, 4)), ("int16", i16(2, 3)), ("float16", tensor(FLOAT16, 5)))),
    verify("within the tolerance", i8(3, 4), np.float32(0.9), tolerance=1.0, log_if_failed=True),
    verify("small tolerances only tell", i8(3, 4), np.float32(20.0), tolerance=0.05, log_if_failed=True),
    *(Case("BroadcastGradientArgs", f"{a} {b} {t}", (tensor(t, len(a)), tensor(t, len(b))),
           (tensor(t, len(of_a)), tensor(t, len(of_b))), values={0: np.array(a), 1: np.array(b)}, **OTHERS)
      for t in (INT32, INT64) for a, b, of_a, of_b in GRADIENTS),
    hadamard("rows", f32(3, 8), 4), hadamard("one", f32(2, 3), 1), hadamard("rest", f32(2, 2, 11), 4),
    hadamard("large", f32(2, 256), 128), hadamard("too large", f32(2, 5), 8),
]  # fmt: skip
