"""Bytes of a `.tflite` file -> Module. Nothing in the file is trusted; what cannot be read raises ModelError."""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lithe.errors import FileMissing, InputError, LimitError, ModelError
from lithe.formats import archive, flatbuffer
from lithe.formats.schema import TFLITE
from lithe.formats.tflite import sparsity as sparse
from lithe.formats.tflite import tables
from lithe.formats.tflite import tensors as constants
from lithe.formats.tflite.options import decoded, operator_class, options_of, read_attributes, read_custom
from lithe.formats.tflite.tables import Table
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops.op import Op
from lithe.ops.verify import Limits
from lithe.types import STRING, DType, Quantization, Shape, TensorType

log = logging.getLogger("lithe")

VERSION = 3
DISPATCH = "DISPATCH_OP"  # a graph compiled for an accelerator; its code lies behind the flatbuffer
External = Callable[[str], memoryview]

# A sparse tensor may unfold to this many times the file's size, plus a megabyte.
SPARSE_RATIO = 1024


def _no_external(name: str) -> memoryview:
    raise ModelError(
        f"the weights are in another file, {name!r}", hint="load the model by its path, with that file beside it"
    )


@dataclass
class _File:
    """What is shared by the parts of one read."""

    data: memoryview
    model: dict[str, Any]
    classes: list[type[Op]]
    limits: Limits
    external: External
    tables: list[dict[int, Table]]  # for each graph, the tensors that are stored as indices into a table
    unpacked: dict[tuple[int, DType, Shape], np.ndarray] = field(default_factory=dict)

    def region(self, offset: int, size: int, what: str) -> np.ndarray:
        """Bytes of the file at an absolute position."""
        if offset + size > len(self.data):
            raise ModelError(f"{what} of {size} bytes at {offset} lies outside of the file's {len(self.data)} bytes")
        return np.frombuffer(self.data, np.uint8, size, offset)

    def buffer(self, index: int) -> np.ndarray | None:
        """The bytes of buffer `index`, None when it has none."""
        if index == 0:
            return None  # the sentinel of tensors without data
        buffers = self.model["buffers"] or []
        if not 0 <= index < len(buffers):
            raise ModelError(f"buffer {index} does not exist, the model has {len(buffers)}")
        record = buffers[index]
        if record["offset"] > 1 and record["size"] > 1:
            return self.region(record["offset"], record["size"], f"buffer {index}")
        data: np.ndarray | None = record["data"]
        return data

    def external_bytes(self, identity: int) -> np.ndarray:
        """The bytes of an external buffer."""
        found = [e for e in self.model["external_buffers"] or [] if e["id"] == identity]
        groups = self.model["external_buffer_groups"] or []
        if not found or found[0]["group"] >= len(groups):
            raise ModelError(f"external buffer {identity} or its group does not exist")
        offset, size = found[0]["offset"], found[0]["length"]
        data = self.external(groups[found[0]["group"]]["name"] or "")
        if offset + size > len(data):
            raise ModelError(f"external buffer {identity} lies outside of its file's {len(data)} bytes")
        return np.frombuffer(data, np.uint8, size, offset)


def read(data: Any, *, external: External = _no_external, limits: Limits | None = None) -> Module:
    """The model in the bytes of a `.tflite` file; constants are read-only views on `data`.

    data      bytes, bytearray, memoryview or mmap; must not change while the model lives.
    external  gives the contents of a file of weights by name (see `open_model`).

    Raises ModelError with the place in the file when the data break the format, LimitError beyond `limits`.
    """
    limits = limits or Limits()
    try:
        view = memoryview(data).cast("B").toreadonly()
    except TypeError:
        raise InputError(
            f"a model must be bytes, got {type(data).__name__}", hint="read the file in mode 'rb'"
        ) from None
    if len(view) > limits.file_bytes:
        raise LimitError(f"the file has {len(view)} bytes, the limit is {limits.file_bytes}")
    reader = flatbuffer.Reader(view, TFLITE)
    model = reader.root()
    if model["version"] != VERSION:
        raise ModelError(f"schema version {model['version']} is unknown, expected {VERSION}", where="Model.version")
    if not model["subgraphs"]:
        raise ModelError("the model has no graph", where="Model.subgraphs")
    if sum(len(g["tensors"] or ()) for g in model["subgraphs"]) > limits.tensors:
        raise LimitError(f"the model has more than {limits.tensors} tensors", where="Model.subgraphs")
    if sum(len(g["operators"] or ()) for g in model["subgraphs"]) > limits.operators:
        raise LimitError(f"the model has more than {limits.operators} operators", where="Model.subgraphs")
    classes = []
    for i, code in enumerate(model["operator_codes"] or ()):
        classes.append(_placed(f"Model.operator_codes[{i}]", operator_class, code))
    file = _File(view, model, classes, limits, external, [])
    file.tables.extend(_tables(file))
    graphs = [_graph_or_refusal(file, i, record) for i, record in enumerate(model["subgraphs"])]
    module = Module(graphs, _signatures(model, graphs), description=model["description"] or "")
    _metadata(file, module)
    for key in ("external_buffers", "external_buffer_groups"):
        if model[key]:
            module.extras[key] = model[key]
    files = archive.find(view, reader.end)
    if files is not None:
        module.extras["associated_files"] = files
    return module


def open_model(path: str | Path, *, limits: Limits | None = None) -> Module:
    """Maps a file into memory and reads it; files of external weights are looked for beside it."""
    path = Path(path)

    def external(name: str) -> memoryview:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ModelError(f"the name of a file of weights must be plain, is {name!r}")
        return _mapped(path.parent / name)

    return read(_mapped(path), external=external, limits=limits)


def _mapped(path: Path) -> memoryview:
    try:
        with open(path, "rb") as f:
            if path.stat().st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise FileMissing(f"cannot open '{path}': {reason}", hint="check the path") from None


def _placed(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `function`; the place of a ModelError of it begins with this one."""
    try:
        return function(*arguments)
    except ModelError as e:
        raise type(e)(e.problem, where=", ".join(filter(None, (where, e.where))), hint=e.hint) from None


def _graph_or_refusal(file: _File, index: int, record: dict[str, Any]) -> Graph:
    """The graph; one beside the main graph that cannot be read is empty, and using it raises the error."""
    try:
        return _graph(file, index, record)
    except ModelError as cause:
        if index == 0:
            raise
        return Graph(record["name"] or "", [], [], [], [], cause)


def _graph(file: _File, index: int, record: dict[str, Any]) -> Graph:
    records = record["operators"] or []
    made = {int(t) for o in records for t in _indices(o["outputs"])} | set(_indices(record["inputs"]))
    written = {t for o in records for t in _results(file, o)} | set(_indices(record["inputs"]) if index else ())
    told = set(_indices(record["inputs"])) if index == 0 else set()  # callers decide the shapes of other graphs' inputs
    tensors = []
    for i, t in enumerate(record["tensors"] or ()):
        try:
            if i in made - told and not t["is_variable"]:
                t = _without_impossible_shape(t, file.limits)
            if i in written and t["buffer"] and not t["is_variable"]:
                t = _without_data(file, t)
            table = file.tables[index].get(i) if index < len(file.tables) else None
            tensors.append(_tensor(file, i, t, i in made, table))
        except ModelError as e:
            raise type(e)(e.problem, where=_place_of_tensor(file, index, i, t, records), hint=e.hint) from None
    for t in tensors:
        _with_blocks(t, tensors)
    graph = Graph(record["name"] or "", [], [], tensors, [])
    where = "" if index == 0 else f"graph #{index} "
    for i, o in enumerate(records):
        graph.nodes.append(_node(file, f"{where}op #{i}", i, o, tensors))
    graph.inputs = [_at(tensors, t, f"graph #{index}, inputs", "graph input") for t in _indices(record["inputs"])]
    graph.outputs = [_at(tensors, t, f"graph #{index}, outputs", "graph output") for t in _indices(record["outputs"])]
    return graph


def _indices(vector: Any) -> list[int]:
    return [] if vector is None else vector.tolist()


def _at(tensors: list[Tensor], index: int, where: str, what: str) -> Tensor:
    if not 0 <= index < len(tensors):
        raise ModelError(f"{what} is tensor {index}, the graph has tensors 0 to {len(tensors) - 1}", where=where)
    return tensors[index]


def _place_of_tensor(file: _File, graph: int, index: int, t: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """Names a tensor and an operator that uses it."""
    place = f"tensor #{index} '{t['name'] or ''}'" + ("" if graph == 0 else f" of graph #{graph}")
    for i, o in enumerate(records):
        for side in ("inputs", "outputs"):
            used = _indices(o[side])
            if index in used:
                op = file.classes[o["opcode_index"]] if o["opcode_index"] < len(file.classes) else None
                names = op.operands[side == "outputs"] if op is not None and op.known else ()
                k = used.index(index)
                operand = f"{side[:-1]} {k}" + (f" '{names[min(k, len(names) - 1)].rstrip('?*')}'" if names else "")
                return f"op #{i} {op.name if op else '?'}, {operand}, {place}"
    return place


def _shape(vector: Any, limits: Limits) -> Shape:
    shape = tuple(_indices(vector))
    if len(shape) > limits.rank:
        raise LimitError(f"rank {len(shape)} is above the limit {limits.rank}")
    if any(d < 0 for d in shape):
        raise ModelError(f"shape {list(shape)} has a negative dimension")
    count = math.prod(d for d in shape if d)  # numpy counts this way: empty arrays have strides too
    if count > limits.elements:
        raise LimitError(f"shape {list(shape)} has {count} elements, the limit is {limits.elements}")
    return shape


def _without_impossible_shape(t: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The record of a computed tensor: what it declares is not asked when its shape is inferred."""
    try:
        _shape(t["shape"], limits)
    except ModelError as cause:
        log.warning("the declared shape of '%s' is ignored: %s", t["name"], cause.problem)
        return {**t, "shape": None, "has_rank": False}
    return t


def _results(file: _File, o: dict[str, Any]) -> list[int]:
    """The tensors that an operator writes: none where its class has no results, whatever the record lists."""
    op = file.classes[o["opcode_index"]] if o["opcode_index"] < len(file.classes) else None
    return [] if op is not None and op.known and not op.operands[1] else _indices(o["outputs"])


def _without_data(file: _File, t: dict[str, Any]) -> dict[str, Any]:
    """The record of a tensor that an operator or a caller writes: data that it has from the file are never read."""
    if t["buffer"] < len(file.model["buffers"] or ()) and file.buffer(t["buffer"]) is not None:
        log.warning("the data of '%s' are ignored: they are overwritten", t["name"])
        return {**t, "buffer": 0, "sparsity": None}
    return t


def _tensor(file: _File, index: int, t: dict[str, Any], made: bool, table: Table | None) -> Tensor:
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
        log.warning("a tensor's sparsity is ignored: %s", cause.problem)
        return None


def _constant(file: _File, buffer: int, raw: np.ndarray, tensor: Tensor) -> np.ndarray:
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
            log.warning("'%s' is sparse and complete; its sparsity is ignored: %s", tensor.name, cause.problem)
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
    kept = {k: _indices(q[k]) for k in ("min", "max") if q[k] is not None}
    if kept:
        extras["range"] = kept
    if q["details"] is not None:
        extras["quantization_details"] = q["details"]
        if q["details"][0] != "CustomQuantization":
            return None
    scale, zero_point = _indices(q["scale"]), _indices(q["zero_point"])
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


def _with_blocks(t: Tensor, tensors: list[Tensor]) -> None:
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


def _node(file: _File, where: str, index: int, o: dict[str, Any], tensors: list[Tensor]) -> Node:
    if o["opcode_index"] >= len(file.classes):
        raise ModelError(
            f"operator code {o['opcode_index']} does not exist, the model has {len(file.classes)}", where=where
        )
    op = file.classes[o["opcode_index"]]
    where = f"{where} {op.name}"
    inputs = [None if t == -1 else _at(tensors, t, where, f"input {k}") for k, t in enumerate(_indices(o["inputs"]))]
    outputs = [_at(tensors, t, where, f"output {k}") for k, t in enumerate(_results(file, o))]
    if len(outputs) < len(_indices(o["outputs"])):
        log.warning("the outputs of %s are ignored: it has none", where)
    extras: dict[str, Any] = {"version": file.model["operator_codes"][o["opcode_index"]]["version"]}
    union = options_of(op, o)
    if op.code is None:
        options = _placed(where, _custom_options, file, o)
        attrs = _placed(where, read_custom, op, options)
        extras["custom_options"] = options
        if op.name == DISPATCH and isinstance(attrs, dict) and "bytecode_offset" in attrs:
            extras["bytecode"] = _placed(where, _bytecode, file, attrs)
    else:
        attrs, more = _placed(where, read_attributes, op, union)
        extras |= more
    if getattr(attrs, "composite_attributes", None):
        extras["named_attributes"] = decoded(bytes(attrs.composite_attributes))
    for key in ("mutating_variable_inputs", "intermediates"):
        if o[key] is not None and len(o[key]):
            extras[key] = tuple(o[key].tolist())
    inside = [
        None if k == -1 else _at(tensors, k, where, "an intermediate").type for k in extras.get("intermediates", ())
    ]
    if o["debug_metadata_index"] != -1:
        extras["debug_metadata_index"] = o["debug_metadata_index"]
    return Node(op, attrs, inputs, outputs, index, extras, intermediates=tuple(inside))


def _bytecode(file: _File, attrs: dict[str, Any]) -> np.ndarray:
    offset, size = attrs["bytecode_offset"], attrs.get("bytecode_size")
    if not isinstance(offset, int) or not isinstance(size, int) or offset < 0 or size < 0:
        raise ModelError(f"the place of the bytecode must be two numbers, is {offset!r} and {size!r}")
    return file.region(offset, size, "the bytecode")


def _custom_options(file: _File, o: dict[str, Any]) -> bytes:
    if o["large_custom_options_offset"] > 1:
        size = o["large_custom_options_size"]
        return file.region(o["large_custom_options_offset"], size, "the custom options").tobytes()
    return b"" if o["custom_options"] is None else o["custom_options"].tobytes()


def _signatures(model: dict[str, Any], graphs: list[Graph]) -> list[Signature]:
    signatures = []
    for i, s in enumerate(model["signature_defs"] or ()):
        where = f"signature #{i} '{s['signature_key'] or ''}'"
        if s["subgraph_index"] >= len(graphs):
            raise ModelError(f"graph {s['subgraph_index']} does not exist, the model has {len(graphs)}", where=where)
        graph = graphs[s["subgraph_index"]]
        inputs, outputs = (
            {
                m["name"] or "": _at(graph.tensors, m["tensor_index"], where, f"{side[:-1]} '{m['name']}'")
                for m in (s[side] or () if graph.refusal is None else ())
            }
            for side in ("inputs", "outputs")
        )
        signatures.append(Signature(s["signature_key"] or "", inputs, outputs, s["subgraph_index"]))
    return signatures


def _tables(file: _File) -> list[dict[int, Table]]:
    """What the file says of constants that are stored as indices into a table."""
    for i, m in enumerate(file.model["metadata"] or ()):
        if m["name"] == tables.ENTRY and m["buffer"] < len(file.model["buffers"] or ()):
            entry = file.buffer(m["buffer"])
            if entry is not None:
                return cast(list[dict[int, Table]], _placed(f"metadata #{i} '{tables.ENTRY}'", tables.read, entry))
    return []


def _metadata(file: _File, module: Module) -> None:
    for i, m in enumerate(file.model["metadata"] or ()):
        where = f"metadata #{i} '{m['name'] or ''}'"
        if m["buffer"] >= len(file.model["buffers"] or ()):
            log.warning("%s is ignored: buffer %d does not exist", where, m["buffer"])
            continue
        data = _placed(where, file.buffer, m["buffer"])
        if m["name"] != tables.ENTRY or data is None:  # which the writer makes anew
            module.metadata.setdefault(m["name"] or "", b"" if data is None else data.tobytes())
