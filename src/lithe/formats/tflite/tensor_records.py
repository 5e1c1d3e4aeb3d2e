"""The records of tensors in a file: shapes, quantization, and constants in each form that they are stored in."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.errors import LimitError, ModelError, warn
from lithe.formats.tflite import sparsity as sparse
from lithe.formats.tflite import tables
from lithe.formats.tflite import tensors as constants
from lithe.formats.tflite.file import File, indices
from lithe.formats.tflite.tables import Table
from lithe.ir.graph import Tensor
from lithe.ops.verify import Limits
from lithe.types import STRING, DType, Quantization, Shape, TensorType

# A sparse tensor may unfold to this many times the file's size, plus a megabyte.
SPARSE_RATIO = 1024


def _shape(vector: Any, limits: Limits) -> Shape:
    shape = tuple(indices(vector))
    if len(shape) > limits.rank:
        raise LimitError(f"rank {len(shape)} is above the limit {limits.rank}")
    if any(d < 0 for d in shape):
        raise ModelError(f"shape {list(shape)} has a negative dimension")
    count = math.prod(d for d in shape if d)  # numpy counts this way: empty arrays have strides too
    if count > limits.elements:
        raise LimitError(f"shape {list(shape)} has {count} elements, the limit is {limits.elements}")
    return shape


def without_impossible_shape(t: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The record of a computed tensor: what it declares is not asked when its shape is inferred."""
    try:
        _shape(t["shape"], limits)
    except ModelError as cause:
        warn("the declared shape of '%s' is ignored: %s", t["name"], cause.problem)
        return {**t, "shape": None, "has_rank": False}
    return t


def without_data(file: File, t: dict[str, Any]) -> dict[str, Any]:
    """The record of a tensor that an operator or a caller writes: data that it has from the file are never read."""
    if t["buffer"] < len(file.model["buffers"] or ()) and file.buffer(t["buffer"]) is not None:
        warn("the data of '%s' are ignored: they are overwritten", t["name"])
        return {**t, "buffer": 0, "sparsity": None}
    return t


def tensor_of(file: File, index: int, t: dict[str, Any], made: bool, table: Table | None) -> Tensor:
    dtype = constants.dtype_of_member(t["type"])
    shape = _shape(t["shape"], file.limits)
    extras: dict[str, Any] = {}
    signature = t["shape_signature"]
    tensor = Tensor(
        t["name"] or "",
        TensorType(dtype, shape, _quantization(t["quantization"], extras)),
        is_variable=t["is_variable"],
        shape_signature=None if signature is None else tuple(signature.tolist()),
        index=index,
        extras=extras,
    )
    if t["has_rank"]:
        extras["has_rank"] = True
    if t["variant_tensors"]:
        extras["variant_tensors"] = t["variant_tensors"]
    if t["external_buffer"]:
        extras["external_buffer"] = t["external_buffer"]
        raw: np.ndarray | None = file.external_bytes(t["external_buffer"])
    else:
        raw = file.buffer(t["buffer"])
    if table is not None and raw is not None:
        extras["table"] = Table(table.bits)
        values = file.buffer(table.values)
        values = np.zeros(0, np.uint8) if values is None else values
        tensor.data = tables.expand(table, tensor.type, raw, values)
        return tensor
    if t["sparsity"] is not None:
        structure = _sparsity(t["sparsity"], dtype, shape, raw)
        extras.update({"sparsity": structure} if structure is not None else {})
    if raw is not None and raw.size:
        tensor.data = _constant(file, t["buffer"], raw, tensor)
    elif math.prod(shape) == 0 and not made and not tensor.is_variable and dtype.kind != "resource":
        tensor.data = np.zeros(shape, dtype.numpy)
    return tensor


def _sparsity(record: dict[str, Any], dtype: DType, shape: Shape, raw: np.ndarray | None) -> sparse.Sparsity | None:
    """How a tensor's elements are stored; a damaged record is of no weight where they are all there, or none is."""
    try:
        return sparse.read(record, shape)
    except ModelError as cause:
        stored = 0 if raw is None else raw.size
        if stored and stored != constants.stored_bytes(dtype, shape):
            raise
        warn("a tensor's sparsity is ignored: %s", cause.problem)
        return None


def _constant(file: File, buffer: int, raw: np.ndarray, tensor: Tensor) -> np.ndarray:
    dtype, shape = tensor.type.dtype, tensor.type.shape
    structure = tensor.extras.get("sparsity")
    if structure is not None:
        if dtype.stored_bits < 8 or dtype == STRING or dtype.kind == "resource":
            raise ModelError(f"a sparse constant of type {dtype} is not defined")
        if constants.stored_bytes(dtype, shape) > SPARSE_RATIO * len(file.data) + (1 << 20):
            raise LimitError(f"{tensor.type} is too large for a sparse constant of a file of {len(file.data)} bytes")
        if raw.size % dtype.bytes:
            raise ModelError(f"{raw.size} bytes are not a whole number of {dtype} elements")
        try:
            return sparse.expand(structure, shape, constants.decode(raw, dtype, (raw.size // dtype.bytes,)))
        except ModelError as cause:
            if raw.size != constants.stored_bytes(dtype, shape):
                raise
            warn("'%s' is sparse and complete; its sparsity is ignored: %s", tensor.name, cause.problem)
            del tensor.extras["sparsity"]
    if dtype.stored_bits >= 8 or tensor.extras.get("external_buffer"):
        return constants.decode(raw, dtype, shape)
    key = (buffer, dtype, shape)
    if key not in file.unpacked:
        file.unpacked[key] = constants.decode(raw, dtype, shape)
    return file.unpacked[key]


def _quantization(q: dict[str, Any] | None, extras: dict[str, Any]) -> Quantization | None:
    """The scale and zero point; ranges and the newer forms (blockwise, multi-axis, custom) go to `extras`."""
    if q is None:
        return None
    kept = {k: indices(q[k]) for k in ("min", "max") if q[k] is not None}
    if kept:
        extras["range"] = kept
    if q["details"] is not None:
        extras["quantization_details"] = q["details"]
        if q["details"][0] != "CustomQuantization":
            return None
    scale, zero_point = indices(q["scale"]), indices(q["zero_point"])
    if not scale:
        return None
    if not zero_point:
        zero_point = [0] * len(scale)
    if len(scale) != len(zero_point):
        raise ModelError(f"{len(scale)} scales and {len(zero_point)} zero points; there must be as many of each")
    return Quantization(tuple(scale), tuple(map(_low_half, zero_point)), q["quantized_dimension"])


def _low_half(value: int) -> int:
    """A zero point is stored in 64 bits; all that knows it, the format's own runtime too, takes the low 32."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def with_blocks(t: Tensor, tensors: list[Tensor]) -> None:
    """Gives a tensor whose blocks have scales of their own these scales, which are other tensors, where they fit."""
    details = t.extras.get("quantization_details")
    if details is None or details[0] != "BlockwiseQuantization":
        return
    block, places = details[1]["block_size"], [details[1][k] for k in ("scales", "zero_points")]
    scale, zero_point = (tensors[i].data if 0 <= i < len(tensors) else None for i in places)
    if scale is None or block < 1 or t.type.rank == 0 or t.type.shape[-1] % block or scale.size * block != t.type.size:
        return
    zeros = np.zeros(scale.size, np.int64) if zero_point is None else zero_point.reshape(-1)
    if zeros.size == scale.size and zeros.dtype.kind in "iu" and scale.dtype.kind != "O":
        pairs = scale.reshape(-1).astype(np.float32).tolist(), zeros.tolist()
        t.type = replace(t.type, quantization=Quantization(tuple(pairs[0]), tuple(pairs[1]), 0, block))
