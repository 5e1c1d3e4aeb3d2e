"""How constants lie in a file: without their zeros, or as indices into a table, where that takes fewer bytes.

    sparse   only what is not zero, and where it lies, and a DENSIFY that runs once when the model is loaded
    table    w = GATHER(table, CAST(DEQUANTIZE(indices)))    indices of 4 bits; of 8 w = GATHER(table, CAST(indices)).
             One table, or one for each output where that takes fewer bytes
    rows     w = RESHAPE(GATHER(rows, indices))              indices of 16 bits, each of several neighbours
    micro    indices of 1 to 7 bits and a table beside the tensor, as TensorFlow Lite Micro reads them

The numbers stay what they are. Lithe computes the weights once, when it loads the model.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.formats.tflite import sparsity as sparse
from lithe.formats.tflite import tables
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.fold_constants import fold_constants
from lithe.runtime.model import Model, load
from lithe.types import FLOAT32, INT4, INT16, INT32, UINT8, DType, Quantization, TensorType

FORMS = ("sparse", "table", "rows", "micro")
READERS = ("official", "lithe")
LEAST = 1024  # elements; of smaller constants there is nothing to be gained
NODE_BYTES, TENSOR_BYTES, SCALE_BYTES = 72, 128, 12  # about what a record takes in a file
FEW, MOST_VALUES = 16, 256  # of a table with indices of 4 bits, of 8
MOST_ROWS = 1 << 15  # of a table with indices of 16 bits
WEIGHTS_OPERAND = 1

Source = Model | Module | str | os.PathLike[str] | bytes


def opened(model: Source) -> tuple[Module, str]:
    """(the model's graphs, its name). Raises InputError for what is no model, and what `lithe.load` raises."""
    if not isinstance(model, Model | Module | str | os.PathLike | bytes):
        raise InputError(f"a model is a lithe.Model, a file or bytes, this is {type(model).__name__}",
                         hint="lithe.convert makes one of a framework's model")  # fmt: skip
    given = model if isinstance(model, Model | Module) else load(model, cache=False)
    return (given, "") if isinstance(given, Module) else (given.module, given.name)


def unfolded(module: Module) -> Module:
    """A copy whose weights are constants themselves, whatever form they are stored in."""
    copy = module.copy()
    for graph in (g for g in copy.graphs if g.refusal is None):
        fold_constants(graph)
        graph.renumber()
    for tensor in copy.constants():
        tensor.extras.pop("sparsity", None)
        tensor.extras.pop("table", None)
    return copy


def compact(model: Source, forms: Collection[str] = ("sparse", "table"), *, reader: str = "official") -> Model:
    """Returns a copy of a model whose constants each take the fewest bytes that one of the forms, or none, gives.

    model   a Model, or a file.
    forms   "sparse": zeros are left out. "table": constants of few values as indices of 4 or 8 bits and a table.
            "rows": likewise, several neighbours an index of 16 bits. "micro": the tables of TensorFlow Lite Micro,
            which no other runtime but Lithe reads.
    reader  "official": only what the official runtime computes correctly, and with zeros left out as quickly as before.
            "lithe": also int8 weights of matrix products, and those beside float32 values, without their zeros.

    Results are the same bits. What is larger in every form stays as it is: a layer without zeros, a small one.
    Raises InputError for forms and readers that there are not, and what `lithe.load` raises.

    >>> lithe.optimize.compact("pruned.tflite").save("small.tflite")            # doctest: +SKIP
    """
    for form in forms:
        if form not in FORMS:
            raise InputError(f"constants cannot be stored as {form!r}", hint=f"forms are {', '.join(FORMS)}")
    if reader not in READERS:
        raise InputError(f"there is no reader {reader!r}", hint=f"readers are {', '.join(READERS)}")
    module, name = opened(model)
    module = module.copy()
    for graph in module.graphs:
        _compact(graph, [WAYS[form] for form in forms], reader)
    return Model(module, name=name)


def form_of(graph: Graph, node: Node) -> str:
    """In which form a node's weights are stored, "dense" where in none."""
    weights = node.inputs[WEIGHTS_OPERAND] if len(node.inputs) > WEIGHTS_OPERAND else None
    makers, found = graph.producers(), set[str]()
    while weights is not None:
        found |= {form for form, extra in (("sparse", "sparsity"), ("micro", "table")) if extra in weights.extras}
        maker = makers.get(weights)
        if maker is None:
            break
        gathered = maker.op.name == "GATHER"
        found |= {"table"} if gathered else set()
        weights = maker.inputs[1 if gathered else 0]
    return ", ".join(sorted(found)) or "dense"


@dataclass
class Stored:
    """A form for a constant: what it takes in a file, and the nodes that make `made` of it.

    constant  the tensor itself, stored otherwise, where no nodes are needed.
    """

    bytes: int
    made: Tensor
    nodes: list[Node] = field(default_factory=list)


def _compact(graph: Graph, ways: list[Any], reader: str) -> None:
    users: dict[Tensor, list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        for place, t in enumerate(node.inputs):
            if t is not None:
                users.setdefault(t, []).append((node, place))
    first: list[Node] = []
    for tensor, using in users.items():
        data = tensor.data
        if data is None or data.size < LEAST or tensor in graph.outputs or tensor.is_variable:
            continue
        if {"sparsity", "table", "external_buffer"} & tensor.extras.keys():
            continue
        found = [stored for way in ways for stored in way(tensor, using, reader)]
        best = min(found, key=lambda stored: stored.bytes, default=None)
        if best is None or best.bytes >= sparse_free(tensor):
            continue
        first += best.nodes
        for node, place in using:
            node.inputs[place] = best.made
    graph.nodes = first + graph.nodes
    graph.renumber()


def sparse_free(tensor: Tensor) -> int:
    """The bytes of a constant with all of its elements."""
    return -(-tensor.type.size * tensor.type.dtype.stored_bits // 8)


def _sparse(tensor: Tensor, using: list[tuple[Node, int]], reader: str) -> Iterator[Stored]:
    """The tensor without its zeros, and a DENSIFY after it where the reader needs one."""
    dtype = tensor.type.dtype
    assert tensor.data is not None
    if dtype.stored_bits < 8 or dtype.kind not in ("float", "int"):
        return
    if reader == "lithe":
        structure = sparse.smallest(tensor.data)
        if structure is not None:
            yield Stored(sparse.stored_bytes(structure, dtype.bytes), _as(tensor, sparsity=structure))
        return
    structure = sparse.smallest(tensor.data) if all(_densified(*use, dtype) for use in using) else None
    if structure is not None:
        stored = _as(tensor, sparsity=structure)
        dense = Tensor(f"{tensor.name}_dense", tensor.type)
        scales = len(tensor.type.quantization.scale) if tensor.type.quantization is not None else 0
        size = sparse.stored_bytes(structure, dtype.bytes) + NODE_BYTES + TENSOR_BYTES + SCALE_BYTES * scales
        yield Stored(size, dense, [_node("DENSIFY", [stored], dense)])


def _densified(node: Node, place: int, dtype: DType) -> bool:
    """Whether the official runtime takes weights of this operand from a DENSIFY."""
    values = node.inputs[0]
    types = values.type.dtype.name if values is not None else "", dtype.name
    return place == WEIGHTS_OPERAND and (node.op.name, *types) in sparse.DENSIFIED


def _as(tensor: Tensor, **extras: Any) -> Tensor:
    return Tensor(
        tensor.name, tensor.type, tensor.data, shape_signature=tensor.shape_signature, extras=tensor.extras | extras
    )


def _table(tensor: Tensor, using: list[tuple[Node, int]], reader: str) -> Iterator[Stored]:
    """Each element as an index of 4 or 8 bits, into one table, or into one of its output."""
    if not _may_be_gathered(tensor, using):
        return
    assert tensor.data is not None
    values, places = _indexed(tensor.data)
    if len(values) <= MOST_VALUES:
        yield _gathered(tensor, values, places, axis=0)
    if len(values) <= FEW or any(node.op.weights_axis != 0 for node, _ in using):
        return
    found = [_indexed(one) for one in tensor.data]
    most = max(len(own) for own, _ in found)
    if most <= MOST_VALUES:
        table = np.stack([np.pad(own, (0, most - len(own))) for own, _ in found])
        yield _gathered(tensor, table, np.stack([own for _, own in found]), axis=1)


def _gathered(tensor: Tensor, table: np.ndarray, places: np.ndarray, axis: int) -> Stored:
    """Elements of the last axis of a table; the axes before it belong to the first ones of the places."""
    numbers = Tensor(f"{tensor.name}_numbers", TensorType(INT32, tensor.type.shape))
    if table.shape[-1] <= FEW:  # the format's way from 4 bits to numbers: by way of float32
        indices = _constant(f"{tensor.name}_indices", places - 8, INT4, Quantization((1.0,), (-8,)))
        real = Tensor(f"{tensor.name}_real", TensorType(FLOAT32, tensor.type.shape))
        nodes = [_node("DEQUANTIZE", [indices], real), _cast(real, numbers)]
    else:
        indices = _constant(f"{tensor.name}_indices", places, UINT8)
        nodes = [_cast(indices, numbers)]
    made = Tensor(tensor.name, tensor.type)
    values = _constant(f"{tensor.name}_table", table, FLOAT32)
    nodes.append(_node("GATHER", [values, numbers], made, axis=axis, batch_dims=axis))
    size = sparse_free(indices) + table.nbytes + len(nodes) * (NODE_BYTES + 2 * TENSOR_BYTES)
    return Stored(size, made, nodes)


def _rows(tensor: Tensor, using: list[tuple[Node, int]], reader: str) -> Iterator[Stored]:
    """Several neighbours along the last axis as an index of 16 bits."""
    if not _may_be_gathered(tensor, using):
        return
    assert tensor.data is not None
    values, places = _indexed(tensor.data)
    if len(values) > MOST_VALUES:
        return
    shape = tensor.type.shape
    for many in (2, 3, 4):
        if shape[-1] % many:
            continue
        numbers = places.reshape(-1, many) @ len(values) ** np.arange(many)
        rows, index = np.unique(numbers, return_inverse=True)
        if len(rows) > MOST_ROWS:
            continue
        table = values[rows[:, None] // len(values) ** np.arange(many) % len(values)]
        parted = (*shape[:-1], shape[-1] // many)
        indices = _constant(f"{tensor.name}_indices", index.reshape(parted), INT16)
        made = Tensor(tensor.name, tensor.type)
        found = Tensor(f"{tensor.name}_rows", TensorType(FLOAT32, (*parted, many)))
        nodes = [
            _node("GATHER", [_constant(f"{tensor.name}_table", table, FLOAT32), indices], found, axis=0),
            _node("RESHAPE", [found, _constant(f"{tensor.name}_shape", np.array(shape), INT32)], made, new_shape=shape),
        ]
        yield Stored(2 * index.size + table.nbytes + 2 * NODE_BYTES + 4 * TENSOR_BYTES, made, nodes)


def _micro(tensor: Tensor, using: list[tuple[Node, int]], reader: str) -> Iterator[Stored]:
    """The tensor as TensorFlow Lite Micro's operators read it."""
    assert tensor.data is not None
    table = tables.narrowest(tensor.type, tensor.data)
    parts = tables.compress(table, tensor.type, tensor.data) if table is not None else None
    if parts is not None and all(place == WEIGHTS_OPERAND for _, place in using):
        yield Stored(parts[0].nbytes + parts[1].nbytes + TENSOR_BYTES, _as(tensor, table=table))


WAYS = {"sparse": _sparse, "table": _table, "rows": _rows, "micro": _micro}


def _may_be_gathered(tensor: Tensor, using: list[tuple[Node, int]]) -> bool:
    """Whether all that read the tensor take weights that are computed."""
    weights = all(place == WEIGHTS_OPERAND and node.op.factors is not None for node, place in using)
    return tensor.type.dtype == FLOAT32 and weights


def _indexed(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the values that occur, ascending; which of them each element is)."""
    values, places = np.unique(data, return_inverse=True)
    return values, places.reshape(data.shape)


def _constant(name: str, data: np.ndarray, dtype: DType, q: Quantization | None = None) -> Tensor:
    return Tensor(name, TensorType(dtype, data.shape, q), np.ascontiguousarray(data, dtype.numpy))


def _cast(source: Tensor, made: Tensor) -> Node:
    return _node("CAST", [source], made, in_data_type=source.type.dtype, out_data_type=made.type.dtype)


def _node(op: str, inputs: list[Tensor | None] | list[Tensor], output: Tensor, **attrs: Any) -> Node:
    kind = REGISTRY.by_name[op]
    return Node(kind, replace(kind.Attrs(), **attrs), list(inputs), [output])
