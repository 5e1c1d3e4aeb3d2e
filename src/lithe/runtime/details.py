"""The dictionaries by which the Interpreter describes tensors and operators, key for key as users know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.types import DType, Shape

if TYPE_CHECKING:
    from lithe.formats.tflite.sparsity import Sparsity

_SHOWN = {"string": np.bytes_, "resource": np.object_, "variant": np.object_}
_WIRE_NAMES = {"float8_e4m3fn": "FLOAT8E4M3FN", "float8_e5m2": "FLOAT8E5M2"}


def type_name(dtype: DType) -> str:
    """The element type's name in messages: FLOAT32."""
    return _WIRE_NAMES.get(dtype.name, dtype.name.upper())


def shown_type(dtype: DType) -> type:
    """The numpy type object of `details["dtype"]`; strings are np.bytes_."""
    return _SHOWN.get(dtype.name, dtype.numpy.type)


def tensor_details(tensor: Tensor, shape: Shape) -> dict[str, Any]:
    """One entry of `get_input_details()`.

    shape  the shape now; `shape_signature` says -1 where the author left it open.
    """
    quantization = tensor.type.quantization if tensor.type.quantization and not tensor.type.quantization.block else None
    scales = quantization.scale if quantization else ()
    zero_points = quantization.zero_point if quantization else ()
    signature = shape if tensor.shape_signature is None else tensor.shape_signature
    return {
        "name": tensor.name,
        "index": tensor.index,
        "shape": np.array(shape, np.int32),
        "shape_signature": np.array(signature, np.int32),
        "dtype": shown_type(tensor.type.dtype),
        "quantization": (float(scales[0]), int(zero_points[0])) if len(scales) == 1 else (0.0, 0),
        "quantization_parameters": {
            "scales": np.array(scales, np.float32),
            "zero_points": np.array(zero_points, np.int32),
            "quantized_dimension": quantization.axis if quantization else 0,
            "block_size": int(tensor.extras.get("block_size", 0)),
        },
        "sparsity_parameters": _sparsity_details(tensor.extras.get("sparsity")),
    }


def _sparsity_details(sparsity: Sparsity | None) -> dict[str, Any]:
    """Empty for a dense tensor. Formats: 0 has all indices, 1 lists them."""
    if sparsity is None:
        return {}
    blocks = {"block_map": np.array(sparsity.block_map, np.int32)} if sparsity.block_map else {}
    levels: list[dict[str, Any]] = [
        {"format": 0, "dense_size": level.size}
        if level.segments is None or level.indices is None
        else {
            "format": 1,
            "array_segments": level.segments.astype(np.int32),
            "array_indices": level.indices.astype(np.int32),
        }
        for level in sparsity.levels
    ]
    return {"traversal_order": np.array(sparsity.traversal_order, np.int32), **blocks, "dim_metadata": levels}


def node_details(position: int, node: Node) -> dict[str, Any]:
    """One entry of `_get_ops_details()`; an absent operand is -1 in `inputs`."""
    return {
        "index": position,
        "op_name": node.op.name,
        "inputs": np.array([-1 if t is None else t.index for t in node.inputs], np.int32),
        "outputs": np.array([t.index for t in node.outputs], np.int32),
        "operand_types": [shown_type(t.type.dtype) for t in node.inputs if t is not None],
        "result_types": [shown_type(t.type.dtype) for t in node.outputs],
    }
