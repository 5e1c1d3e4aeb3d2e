"""Small models made by the official schema code, an independent writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest

schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
TYPES = schema.TensorType


def tensor(
    name: str, shape: list[int], type_: int = 0, buffer: int = 0, scale: Any = None, zero_point: Any = None
) -> Any:
    t = schema.TensorT()
    t.name, t.shape, t.type, t.buffer = name, shape, type_, buffer
    if scale is not None:
        t.quantization = schema.QuantizationParametersT()
        t.quantization.scale, t.quantization.zeroPoint = scale, zero_point
    return t


def buffer(data: bytes | None = None) -> Any:
    b = schema.BufferT()
    b.data = None if data is None else np.frombuffer(data, np.uint8)
    return b


def add_model(change: Callable[[Any], None] = lambda m: None) -> bytes:
    """y = relu(x + [1, 2, 3, 4]) on float32[1, 4], with a signature and a metadata entry; `change` may alter it."""
    m, g, o, c = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    c.builtinCode, c.deprecatedBuiltinCode, c.version = 0, 0, 1
    o.inputs, o.outputs, o.opcodeIndex = [0, 1], [2], 0
    o.builtinOptionsType, o.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    o.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
    g.name, g.tensors = "main", [tensor("x", [1, 4]), tensor("c", [4], buffer=1), tensor("y", [1, 4])]
    g.inputs, g.outputs, g.operators = [0], [2], [o]
    m.version, m.description, m.subgraphs, m.operatorCodes = 3, "adds", [g], [c]
    m.buffers = [buffer(), buffer(np.arange(1, 5, dtype="<f4").tobytes()), buffer(b"kept as it is")]
    entry = schema.MetadataT()
    entry.name, entry.buffer = "note", 2
    m.metadata = [entry]
    s, x, y = schema.SignatureDefT(), schema.TensorMapT(), schema.TensorMapT()
    x.name, x.tensorIndex, y.name, y.tensorIndex = "in", 0, "out", 2
    s.inputs, s.outputs, s.signatureKey, s.subgraphIndex = [x], [y], "serve", 0
    m.signatureDefs = [s]
    change(m)
    return packed(m)


def packed(m: Any) -> bytes:
    b = flatbuffers.Builder(1024)
    b.Finish(m.Pack(b), b"TFL3")
    return bytes(b.Output())
