"""Module -> bytes of a `.tflite` file that the official runtime runs."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.formats import archive, flatbuffer_write, flexbuffer
from lithe.formats.schema import TFLITE
from lithe.formats.tflite import sparsity as sparse
from lithe.formats.tflite import tables
from lithe.formats.tflite import tensors as constants
from lithe.formats.tflite.options import CUSTOM, PLACEHOLDER, write_attributes, write_custom
from lithe.formats.tflite.read import VERSION
from lithe.formats.tflite.tables import Table
from lithe.formats.tflite.versions import minimum_runtime, operator_version, release
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.types import FLOAT16, TensorType

ALIGNMENT = 16
RUNTIME_BYTES = 16  # the length of the "min_runtime_version" entry
INLINE_BYTES = (1 << 31) - (64 << 20)  # flatbuffers end at 2 GB; larger weights follow behind


@dataclass
class _Output:
    """The growing file: its buffers, and what follows behind the flatbuffer.

    base  where the part behind the flatbuffer begins; None: buffers are inside.
    """

    base: int
    outside: bool
    buffers: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    stored: dict[Any, int] = field(default_factory=dict)
    behind: list[bytes | np.ndarray] = field(default_factory=list)
    behind_bytes: int = 0
    codes: list[dict[str, Any]] = field(default_factory=list)
    code_index: dict[Any, int] = field(default_factory=dict)
    versions: set[tuple[str, int]] = field(default_factory=set)
    tables: list[dict[int, Table]] = field(default_factory=list)

    def append(self, data: bytes | np.ndarray) -> int:
        """Puts bytes behind the flatbuffer, aligned; their position in the file."""
        position = self.base + self.behind_bytes
        size = len(data)
        padding = -size % ALIGNMENT
        self.behind += [data, bytes(padding)]
        self.behind_bytes += size + padding
        return position

    def buffer(self, data: np.ndarray, key: Any = None) -> int:
        """The index of a new buffer; the same key gives the same buffer."""
        if key is not None and key in self.stored:
            return self.stored[key]
        if self.outside and data.size > 1:
            self.buffers.append({"offset": self.append(data), "size": data.size})
        else:
            self.buffers.append({"data": data})
        index = len(self.buffers) - 1
        if key is not None:
            self.stored[key] = index
        return index

    def code(self, node: Node) -> int:
        """The index of the operator code for a node."""
        version = operator_version(node)
        key = (node.op.name, node.op.code, version)
        if key not in self.code_index:
            self.code_index[key] = len(self.codes)
            number = CUSTOM if node.op.code is None else node.op.code
            record: dict[str, Any] = {"builtin_code": number, "version": version}
            record["deprecated_builtin_code"] = min(number, PLACEHOLDER)
            if node.op.code is None:
                record["custom_code"] = node.op.name
            else:
                self.versions.add((node.op.name, version))
            self.codes.append(record)
        return self.code_index[key]


def write(module: Module, *, inline_bytes: int = INLINE_BYTES) -> bytes:
    """The bytes of a `.tflite` file.

    Metadata are kept byte for byte, associated files are appended as a ZIP, operator versions are the least that
    cover the model. Constants of more than `inline_bytes` in all are stored behind the flatbuffer.
    """
    return _content(module, inline_bytes)


def _content(module: Module, inline_bytes: int) -> bytes:
    unique = {t.data.__array_interface__["data"][0]: t.data.nbytes for t in module.constants() if t.data is not None}
    total = sum(unique.values())
    outside = total > inline_bytes
    # Positions behind the flatbuffer depend on its length, which does not depend on their values: two rounds.
    first = _Output(ALIGNMENT, outside)
    data = _flatbuffer(module, first)
    if first.behind:
        second = _Output(len(data) + -len(data) % ALIGNMENT, outside)
        data = _flatbuffer(module, second)
        data = b"".join([data, bytes(-len(data) % ALIGNMENT), *(bytes(b) for b in second.behind)])
    files = module.extras.get("associated_files")
    return archive.append(data, files) if files else data


def save(module: Module, path: str | Path) -> None:
    """Writes a `.tflite` file in one step: readers see the old file or the new one, never a part."""
    data = _content(module, INLINE_BYTES)
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as e:
        raise InputError(f"cannot write '{path}': {e.strerror}", hint="check that the folder exists") from None
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException as e:
        Path(name).unlink(missing_ok=True)
        if not isinstance(e, OSError):
            raise
        raise InputError(f"cannot write '{path}': {e.strerror}", hint="check space and permissions") from None
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _flatbuffer(module: Module, out: _Output) -> bytes:
    record: dict[str, Any] = {"version": VERSION, "description": module.description, "operator_codes": out.codes}
    graphs, positions = [], []
    for g in module.graphs:
        graph, position = _graph(out, g)
        graphs.append(graph)
        positions.append(position)
    record["subgraphs"] = graphs
    if module.signatures:
        record["signature_defs"] = [
            {
                "inputs": [{"name": k, "tensor_index": positions[s.graph][id(t)]} for k, t in s.inputs.items()],
                "outputs": [{"name": k, "tensor_index": positions[s.graph][id(t)]} for k, t in s.outputs.items()],
                "signature_key": s.key,
                "subgraph_index": s.graph,
            }
            for s in module.signatures
        ]
    record["metadata"] = [
        {"name": name, "buffer": _metadata_buffer(out, data)} for name, data in _metadata(module, out).items()
    ]
    for key in ("external_buffers", "external_buffer_groups"):
        if key in module.extras:
            record[key] = module.extras[key]
    record["buffers"] = out.buffers
    return flatbuffer_write.write(record, TFLITE)


def _metadata_buffer(out: _Output, data: bytes) -> int:
    """Metadata stay inside of the flatbuffer, where older readers look for them."""
    out.buffers.append({"data": np.frombuffer(data, np.uint8)})
    return len(out.buffers) - 1


def _metadata(module: Module, out: _Output) -> dict[str, bytes]:
    """The module's entries, the runtime version raised when needed, the location of buffers stated."""
    entries = {k: v for k, v in module.metadata.items() if k != "buffer_location"}
    needed = minimum_runtime(out.versions)
    stated = entries.get("min_runtime_version", b"").rstrip(b"\0").decode("ascii", "replace")
    if not stated or release(stated) < release(needed):
        entries["min_runtime_version"] = needed.encode().ljust(RUNTIME_BYTES, b"\0")
    if any(out.tables):
        entries[tables.ENTRY] = tables.write(out.tables)
    if out.outside:
        entries["buffer_location"] = b"outside flatbuffers"
    return entries


def _graph(out: _Output, g: Graph) -> tuple[dict[str, Any], dict[int, int]]:
    """(record, position of every tensor by identity)."""
    tensors = list(g.tensors)
    position = {id(t): i for i, t in enumerate(tensors)}
    for t in [*g.inputs, *g.outputs, *(t for n in g.nodes for t in (*n.inputs, *n.outputs) if t is not None)]:
        if id(t) not in position:
            position[id(t)] = len(tensors)
            tensors.append(t)
    scales = {id(t): len(tensors) + i for i, t in enumerate(t for t in tensors if _lacks_scales(t, len(g.tensors)))}
    tensors += [_scales_of_blocks(t) for t in tensors if id(t) in scales]
    moved = {t.index: i for i, t in enumerate(tensors) if t.index >= 0}
    inside: dict[int, list[int]] = {}
    for n in (n for n in g.nodes if "intermediates" not in n.extras):
        places = inside[id(n)] = []
        for i, kind in enumerate(n.intermediates):
            places.append(-1 if kind is None else len(tensors))
            tensors += [] if kind is None else [Tensor(f"{n.outputs[0].name}_inside{i}", kind)]
    out.tables.append({})
    record = {
        "tensors": [_tensor(out, i, t, moved, scales.get(id(t))) for i, t in enumerate(tensors)],
        "inputs": [position[id(t)] for t in g.inputs],
        "outputs": [position[id(t)] for t in g.outputs],
        "operators": [_operator(out, n, position, moved, inside.get(id(n))) for n in g.nodes],
        "name": g.name,
    }
    return record, position


def _lacks_scales(t: Tensor, count: int) -> bool:
    """Whether the scales of a tensor's blocks are not yet a tensor of the graph, as they are in a file."""
    if t.type.quantization is None or not t.type.quantization.block:
        return False
    name, values = t.extras.get("quantization_details", ("", {}))
    return name != "BlockwiseQuantization" or not 0 <= values["scales"] < count


def _scales_of_blocks(t: Tensor) -> Tensor:
    """float16 [rows, blocks of a row]"""
    q = t.type.quantization
    assert q is not None
    shape = (*t.type.shape[:-1], t.type.shape[-1] // q.block)
    wanted = np.asarray(q.scale, np.float32)
    halves = wanted.astype(np.float16)
    if any(q.zero_point) or not np.array_equal(halves.astype(np.float32), wanted):
        raise InputError(
            f"blocks of {q.block} elements have {'zero points' if any(q.zero_point) else 'scales that are no float16'}",
            where=f"tensor '{t.name}'",
            hint="in a file, the scales of blocks are float16, and their zero points are 0",
        )
    return Tensor(f"{t.name}_scales", TensorType(FLOAT16, shape), halves.reshape(shape))


def _tensor(out: _Output, position: int, t: Tensor, moved: dict[int, int], scales: int | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "shape": t.type.shape,
        "type": t.type.dtype.name.upper(),
        "name": t.name,
        "is_variable": t.is_variable,
        "shape_signature": t.shape_signature,
        "quantization": _quantization(t, moved, scales),
    }
    for key in ("has_rank", "variant_tensors", "external_buffer"):
        if key in t.extras:
            record[key] = t.extras[key]
    if t.data is None or "external_buffer" in t.extras:
        return record
    table = t.extras.get("table")
    parts = tables.compress(table, t.type, t.data) if table is not None else None
    if table is not None and parts is not None:
        record["buffer"] = out.buffer(parts[0])
        out.tables[-1][position] = Table(table.bits, out.buffer(parts[1]))
        return record
    structure = t.extras.get("sparsity")
    values = sparse.compress(structure, t.data) if structure is not None else None
    if structure is not None and values is not None:
        record["sparsity"] = sparse.write(structure)
        record["buffer"] = out.buffer(constants.encode(values, t.type.dtype))
    else:
        address = t.data.__array_interface__["data"][0] if t.data.size and t.data.flags.c_contiguous else None
        same = None if address is None else (address, t.data.shape, t.type.dtype)
        record["buffer"] = out.buffer(constants.encode(t.data, t.type.dtype), same)
    return record


def _quantization(t: Tensor, moved: dict[int, int], scales: int | None) -> dict[str, Any] | None:
    """The record of a tensor's quantization; `scales`: the position of the tensor with the scales of its blocks."""
    record: dict[str, Any] = dict(t.extras.get("range", {}))
    q = t.type.quantization
    if q is not None and scales is not None:
        place = {"scales": scales, "zero_points": -1, "block_size": q.block}
        return record | {"details": ("BlockwiseQuantization", place)}
    if q is not None and not q.block:
        record |= {"scale": q.scale, "zero_point": q.zero_point, "quantized_dimension": q.axis}
    details = t.extras.get("quantization_details")
    if details is not None:
        name, values = details
        if name != "CustomQuantization":
            values = values | {k: moved.get(values[k], values[k]) for k in ("scales", "zero_points")}
        record["details"] = (name, values)
    return record or None


def _operator(
    out: _Output, n: Node, position: dict[int, int], moved: dict[int, int], inside: list[int] | None
) -> dict[str, Any]:
    """inside: the places of its intermediates, where these have no places of a file."""
    record: dict[str, Any] = {
        "opcode_index": out.code(n),
        "inputs": [-1 if t is None else position[id(t)] for t in n.inputs],
        "outputs": [position[id(t)] for t in n.outputs],
    }
    if n.op.code is None:
        options = _with_bytecode(out, n) or write_custom(n.op, n.attrs, n.extras)
        if options:
            record["custom_options"] = np.frombuffer(options, np.uint8)
    else:
        found = write_attributes(n.op, n.attrs, n.extras)
        if found is not None:
            union, table, values = found
            record[union] = (table, values)
    for key in ("mutating_variable_inputs", "debug_metadata_index"):
        if key in n.extras:
            record[key] = n.extras[key]
    if "intermediates" in n.extras:
        record["intermediates"] = [moved.get(i, i) for i in n.extras["intermediates"]]
    elif inside:
        record["intermediates"] = inside
    return record


def _with_bytecode(out: _Output, n: Node) -> bytes | None:
    """The options of an operator compiled for an accelerator: its code travels behind the flatbuffer."""
    code = n.extras.get("bytecode")
    if code is None:
        return None
    place = {"bytecode_offset": out.append(code), "bytecode_size": len(code)}
    return flexbuffer.write(dict(n.attrs) | place, least_width=8)
