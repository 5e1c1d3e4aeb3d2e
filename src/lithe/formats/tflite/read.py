"""Bytes of a `.tflite` file -> Module. Nothing in the file is trusted; what cannot be read raises ModelError."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, cast

import numpy as np

from lithe.errors import FileMissing, InputError, LimitError, ModelError, warn
from lithe.formats import archive, flatbuffer
from lithe.formats.schema import TFLITE
from lithe.formats.tflite import tables
from lithe.formats.tflite.file import External, File, at, indices, placed
from lithe.formats.tflite.options import decoded, operator_class, options_of, read_attributes, read_custom
from lithe.formats.tflite.tables import Table
from lithe.formats.tflite.tensor_records import tensor_of, with_blocks, without_data, without_impossible_shape
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops.verify import Limits

VERSION = 3
DISPATCH = "DISPATCH_OP"  # a graph compiled for an accelerator; its code lies behind the flatbuffer


def _no_external(name: str) -> memoryview:
    raise ModelError(
        f"the weights are in another file, {name!r}", hint="load the model by its path, with that file beside it"
    )


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
        classes.append(placed(f"Model.operator_codes[{i}]", operator_class, code))
    file = File(view, model, classes, limits, external, [])
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


def _graph_or_refusal(file: File, index: int, record: dict[str, Any]) -> Graph:
    """The graph; one beside the main graph that cannot be read is empty, and using it raises the error."""
    try:
        return _graph(file, index, record)
    except ModelError as cause:
        if index == 0:
            raise
        return Graph(record["name"] or "", [], [], [], [], cause)


def _graph(file: File, index: int, record: dict[str, Any]) -> Graph:
    records = record["operators"] or []
    made = {int(t) for o in records for t in indices(o["outputs"])} | set(indices(record["inputs"]))
    written = {t for o in records for t in _results(file, o)} | set(indices(record["inputs"]) if index else ())
    told = set(indices(record["inputs"])) if index == 0 else set()  # callers decide the shapes of other graphs' inputs
    tensors = []
    for i, t in enumerate(record["tensors"] or ()):
        try:
            if i in made - told and not t["is_variable"]:
                t = without_impossible_shape(t, file.limits)
            if i in written and t["buffer"] and not t["is_variable"]:
                t = without_data(file, t)
            table = file.tables[index].get(i) if index < len(file.tables) else None
            tensors.append(tensor_of(file, i, t, i in made, table))
        except ModelError as e:
            raise type(e)(e.problem, where=_place_of_tensor(file, index, i, t, records), hint=e.hint) from None
    for t in tensors:
        with_blocks(t, tensors)
    graph = Graph(record["name"] or "", [], [], tensors, [])
    where = "" if index == 0 else f"graph #{index} "
    for i, o in enumerate(records):
        graph.nodes.append(_node(file, f"{where}op #{i}", i, o, tensors))
    graph.inputs = [at(tensors, t, f"graph #{index}, inputs", "graph input") for t in indices(record["inputs"])]
    graph.outputs = [at(tensors, t, f"graph #{index}, outputs", "graph output") for t in indices(record["outputs"])]
    return graph


def _place_of_tensor(file: File, graph: int, index: int, t: dict[str, Any], records: list[dict[str, Any]]) -> str:
    """Names a tensor and an operator that uses it."""
    place = f"tensor #{index} '{t['name'] or ''}'" + ("" if graph == 0 else f" of graph #{graph}")
    for i, o in enumerate(records):
        for side in ("inputs", "outputs"):
            used = indices(o[side])
            if index in used:
                op = file.classes[o["opcode_index"]] if o["opcode_index"] < len(file.classes) else None
                names = op.operands[side == "outputs"] if op is not None and op.known else ()
                k = used.index(index)
                operand = f"{side[:-1]} {k}" + (f" '{names[min(k, len(names) - 1)].rstrip('?*')}'" if names else "")
                return f"op #{i} {op.name if op else '?'}, {operand}, {place}"
    return place


def _results(file: File, o: dict[str, Any]) -> list[int]:
    """The tensors that an operator writes: none where its class has no results, whatever the record lists."""
    op = file.classes[o["opcode_index"]] if o["opcode_index"] < len(file.classes) else None
    return [] if op is not None and op.known and not op.operands[1] else indices(o["outputs"])


def _node(file: File, where: str, index: int, o: dict[str, Any], tensors: list[Tensor]) -> Node:
    if o["opcode_index"] >= len(file.classes):
        raise ModelError(
            f"operator code {o['opcode_index']} does not exist, the model has {len(file.classes)}", where=where
        )
    op = file.classes[o["opcode_index"]]
    where = f"{where} {op.name}"
    inputs = [None if t == -1 else at(tensors, t, where, f"input {k}") for k, t in enumerate(indices(o["inputs"]))]
    outputs = [at(tensors, t, where, f"output {k}") for k, t in enumerate(_results(file, o))]
    if len(outputs) < len(indices(o["outputs"])):
        warn("the outputs of %s are ignored: it has none", where)
    extras: dict[str, Any] = {"version": file.model["operator_codes"][o["opcode_index"]]["version"]}
    union = options_of(op, o)
    if op.code is None:
        options = placed(where, _custom_options, file, o)
        attrs = placed(where, read_custom, op, options)
        extras["custom_options"] = options
        if op.name == DISPATCH and isinstance(attrs, dict) and "bytecode_offset" in attrs:
            extras["bytecode"] = placed(where, _bytecode, file, attrs)
    else:
        attrs, more = placed(where, read_attributes, op, union)
        extras |= more
    if getattr(attrs, "composite_attributes", None):
        extras["named_attributes"] = decoded(bytes(attrs.composite_attributes))
    for key in ("mutating_variable_inputs", "intermediates"):
        if o[key] is not None and len(o[key]):
            extras[key] = tuple(o[key].tolist())
    inside = [
        None if k == -1 else at(tensors, k, where, "an intermediate").type for k in extras.get("intermediates", ())
    ]
    if o["debug_metadata_index"] != -1:
        extras["debug_metadata_index"] = o["debug_metadata_index"]
    return Node(op, attrs, inputs, outputs, index, extras, intermediates=tuple(inside))


def _bytecode(file: File, attrs: dict[str, Any]) -> np.ndarray:
    offset, size = attrs["bytecode_offset"], attrs.get("bytecode_size")
    if not isinstance(offset, int) or not isinstance(size, int) or offset < 0 or size < 0:
        raise ModelError(f"the place of the bytecode must be two numbers, is {offset!r} and {size!r}")
    return file.region(offset, size, "the bytecode")


def _custom_options(file: File, o: dict[str, Any]) -> bytes:
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
                m["name"] or "": at(graph.tensors, m["tensor_index"], where, f"{side[:-1]} '{m['name']}'")
                for m in (s[side] or () if graph.refusal is None else ())
            }
            for side in ("inputs", "outputs")
        )
        signatures.append(Signature(s["signature_key"] or "", inputs, outputs, s["subgraph_index"]))
    return signatures


def _tables(file: File) -> list[dict[int, Table]]:
    """What the file says of constants that are stored as indices into a table."""
    for i, m in enumerate(file.model["metadata"] or ()):
        if m["name"] == tables.ENTRY and m["buffer"] < len(file.model["buffers"] or ()):
            entry = file.buffer(m["buffer"])
            if entry is not None:
                return cast(list[dict[int, Table]], placed(f"metadata #{i} '{tables.ENTRY}'", tables.read, entry))
    return []


def _metadata(file: File, module: Module) -> None:
    for i, m in enumerate(file.model["metadata"] or ()):
        where = f"metadata #{i} '{m['name'] or ''}'"
        if m["buffer"] >= len(file.model["buffers"] or ()):
            warn("%s is ignored: buffer %d does not exist", where, m["buffer"])
            continue
        data = placed(where, file.buffer, m["buffer"])
        if m["name"] != tables.ENTRY or data is None:  # which the writer makes anew
            module.metadata.setdefault(m["name"] or "", b"" if data is None else data.tobytes())
