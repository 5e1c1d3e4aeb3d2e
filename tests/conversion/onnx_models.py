"""ONNX models for tests, written with onnx's own helpers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET = 21


def model(
    nodes: Sequence[Any],
    inputs: dict[str, Sequence[Any]],
    outputs: Sequence[str],
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = OPSET,
    kind: int = TensorProto.FLOAT,
    kinds: dict[str, int] | None = None,
) -> Any:
    """A checked model; the shapes of its outputs are left to inference."""
    graph = helper.make_graph(
        list(nodes),
        "main",
        [helper.make_tensor_value_info(n, (kinds or {}).get(n, kind), s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    import onnx

    inferred = onnx.shape_inference.infer_shapes(made)
    for info, found in zip(made.graph.output, inferred.graph.output, strict=True):
        info.CopyFrom(found)
    return made


class Quantizer:
    """Collects the nodes of a model between DequantizeLinear and QuantizeLinear."""

    def __init__(self, unsigned: bool = True, seed: int = 0) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(seed)
        self.stored = np.uint8 if unsigned else np.int8
        self.count = 0

    def name(self, text: str) -> str:
        self.count += 1
        return f"{text}{self.count}"

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        out = self.name(op.lower())
        self.nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def constant(self, array: np.ndarray) -> str:
        name = self.name("constant")
        self.constants[name] = array
        return name

    def through(self, x: str, scale: float, zero: int = 0) -> str:
        """x rounded to integers and back."""
        point = zero + (128 if self.stored == np.uint8 else 0)
        pair = self.constant(np.float32(scale)), self.constant(self.stored(point))
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *pair), *pair)

    def weights(self, shape: Sequence[int], channels: int | None = None, axis: int = 0) -> str:
        """Integers with a scale, or one for each slice of an axis."""
        values = self.random.integers(-127, 128, shape).astype(np.int8)
        scale = np.float32(0.01) if channels is None else self.random.uniform(0.005, 0.02, channels).astype(np.float32)
        zero = np.zeros(np.shape(scale), np.int8)
        names = [self.constant(v) for v in (values, scale, zero)]
        return self.add("DequantizeLinear", *names, axis=axis)

    def bias(self, size: int) -> str:
        return self.constant(self.random.standard_normal(size).astype(np.float32) * 0.5)
