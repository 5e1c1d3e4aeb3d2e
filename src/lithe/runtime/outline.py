"""A model's interface as JSON, kept beside its compiled code: enough to run it without reading the model.

outline = outline_of(module)          # inputs, outputs and signatures of the main graph
module_of(outline)                    # a Module that holds those tensors and no operators
"""

from __future__ import annotations

import json
from typing import Any

from lithe.ir.graph import Graph, Module, Signature, Tensor
from lithe.types import DTYPES, Quantization, TensorType


def outline_of(module: Module) -> bytes:
    """The interface of the main graph, empty when another graph has a signature."""
    graph = module.main
    if any(s.graph for s in module.signatures):
        return b""
    tensors = list(dict.fromkeys([*graph.inputs, *graph.outputs]))
    if any(t.is_constant for t in tensors):
        return b""
    content = {
        "name": graph.name,
        "tensors": [_tensor(t) for t in tensors],
        "inputs": [t.index for t in graph.inputs],
        "outputs": [t.index for t in graph.outputs],
        "signatures": [
            {"key": s.key, "inputs": _indices(s.inputs), "outputs": _indices(s.outputs)} for s in module.signatures
        ],
    }
    return json.dumps(content).encode()


def module_of(outline: bytes) -> Module:
    """The interface as a module without operators."""
    content = json.loads(outline)
    tensors = [_read_tensor(t) for t in content["tensors"]]
    by_index = {t.index: t for t in tensors}
    graph = Graph(
        content["name"],
        [by_index[i] for i in content["inputs"]],
        [by_index[i] for i in content["outputs"]],
        tensors,
        [],
    )
    signatures = [
        Signature(
            s["key"],
            {name: by_index[i] for name, i in s["inputs"].items()},
            {name: by_index[i] for name, i in s["outputs"].items()},
        )
        for s in content["signatures"]
    ]
    return Module([graph], signatures)


def _indices(tensors: dict[str, Tensor]) -> dict[str, int]:
    return {name: t.index for name, t in tensors.items()}


def _tensor(t: Tensor) -> dict[str, Any]:
    q = t.type.quantization
    return {
        "name": t.name,
        "index": t.index,
        "dtype": t.type.dtype.name,
        "shape": t.type.shape,
        "signature": t.shape_signature,
        "quantization": q and [q.scale, q.zero_point, q.axis],
        "variable": t.is_variable,
        "block_size": int(t.extras.get("block_size", 0)),
    }


def _read_tensor(raw: dict[str, Any]) -> Tensor:
    q = raw["quantization"]
    quantization = Quantization(tuple(q[0]), tuple(q[1]), q[2]) if q else None
    signature = raw["signature"]
    return Tensor(
        raw["name"],
        TensorType(DTYPES[raw["dtype"]], tuple(raw["shape"]), quantization),
        is_variable=raw["variable"],
        shape_signature=None if signature is None else tuple(signature),
        index=raw["index"],
        extras={"block_size": raw["block_size"]} if raw["block_size"] else {},
    )
