"""Writing models: what the official runtime needs, what is kept, and that saving is one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lithe.errors import InputError, ModelError
from lithe.formats.tflite import read, save, write
from lithe.formats.tflite import sparsity as sparse
from lithe.formats.tflite.versions import minimum_runtime, operator_version
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops import REGISTRY
from lithe.ops.op import unknown
from lithe.types import DTYPES, FLOAT32, INT4, INT8, Quantization, TensorType
from tests.formats.models import add_model, schema


def test_a_written_model_has_the_sentinel_both_codes_and_the_runtime_it_needs():
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(write(read(add_model()))), 0))
    assert model.buffers[0].data is None or len(model.buffers[0].data) == 0
    assert (model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode) == (0, 0)
    assert {e.name: bytes(model.buffers[e.buffer].data) for e in model.metadata} == {
        b"note": b"kept as it is",
        b"min_runtime_version": b"1.5.0".ljust(16, b"\0"),
    }


def test_constants_lie_at_multiples_of_sixteen_bytes():
    data = np.frombuffer(write(read(add_model())), np.uint8)
    view = read(data.data).main.tensors[1].data
    assert (view.__array_interface__["data"][0] - data.__array_interface__["data"][0]) % 16 == 0


def test_large_weights_go_behind_the_flatbuffer():
    data = write(read(add_model()), inline_bytes=0)
    again = read(data)
    assert again.main.tensors[1].data.tolist() == [1, 2, 3, 4]
    assert again.metadata["buffer_location"] == b"outside flatbuffers"
    assert "buffer_location" not in read(write(again)).metadata


def test_the_official_runtime_runs_weights_behind_the_flatbuffer(official):
    interpreter = official.Interpreter(model_content=write(read(add_model()), inline_bytes=0))
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([[0, -9, 0, 1]], np.float32))
    interpreter.invoke()
    assert interpreter.get_tensor(2).tolist() == [[1, 0, 3, 5]]


def test_equal_constants_are_stored_once():
    weights = np.arange(1000, dtype=np.float32)
    tensors = [Tensor(f"t{i}", TensorType(FLOAT32, (1000,)), weights) for i in range(5)]
    data = write(Module([Graph("main", [], tensors, tensors, [])]))
    assert len(data) < 2 * weights.nbytes


def test_saving_replaces_the_file_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"old")
    save(read(add_model()), path)
    assert read(path.read_bytes()).description == "adds"

    def fail(*_):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        save(read(add_model()), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    with pytest.raises(InputError, match="cannot write"):
        save(read(add_model()), tmp_path / "no folder" / "m.tflite")


def node(name: str, inputs: str, output: str, rank: int = 2, per_channel: bool = False, **attrs: object) -> Node:
    q = Quantization((1.0, 2.0) if per_channel else (1.0,), (0, 0) if per_channel else (0,))

    def made(word: str) -> Tensor:
        dtype = DTYPES[word]
        return Tensor(word, TensorType(dtype, (2,) * rank, q if dtype.is_integer else None))

    op = REGISTRY.by_name.get(name) or unknown(name, 200)
    return Node(op, dict(attrs), [made(w) for w in inputs.split()], [made(output)])


@pytest.mark.parametrize(
    ("made", "version"),
    [
        (node("CONV_2D", "float32 float32 float32", "float32", 4), 1),
        (node("CONV_2D", "int8 int8 int32", "int8", 4), 3),
        (node("CONV_2D", "float32 int8 float32", "float32", 4), 2),
        (node("CONV_2D", "float32 int8 float32", "float32", 4, per_channel=True), 5),
        (node("DEPTHWISE_CONV_2D", "float32 float32", "float32", 4, dilation_w_factor=2, dilation_h_factor=1), 2),
        (node("FULLY_CONNECTED", "float32 float32", "float32"), 6),
        (node("FULLY_CONNECTED", "float32 float32 float32", "float32", keep_num_dims=True), 5),
        (node("FULLY_CONNECTED", "int8 int4 int32", "int8"), 10),
        (node("ADD", "int16 int16", "int16", pot_scale_int16=True), 1),
        (node("ADD", "int16 int16", "int16", pot_scale_int16=False), 3),
        (node("MUL", "float32 float32", "float32"), 1),
        (node("MUL", "int8 int8", "int8"), 3),
        (node("TRANSPOSE", "float32 int32", "float32", 5), 4),
        (node("BROADCAST_TO", "float32 int32", "float32"), 2),
        (node("BROADCAST_TO", "float8_e5m2 int32", "float8_e5m2"), 4),
        (node("CAST", "float32", "bool"), 1),
        (node("CAST", "float16", "float32"), 5),
        (node("WHERE", "bool", "int64"), 1),
        (node("WHERE", "float32", "int64"), 2),
        (node("LSTM", "float32 float32 float32", "float32", kernel_type="BASIC"), 2),
        (node("TRANSPOSE_CONV", "int32 float32 float32 float32", "float32", 4), 3),
    ],
    ids=lambda v: repr(v) if isinstance(v, Node) else v,
)
def test_operator_versions_are_the_least_that_cover_the_types(made: Node, version: int):
    assert operator_version(made) == version


def test_operators_without_a_rule_keep_the_version_they_had():
    made = node("NEVER_SEEN", "float32", "float32")
    made.extras["version"] = 7
    assert operator_version(made) == 7


def test_the_runtime_is_that_of_the_newest_operator():
    assert minimum_runtime([]) == "1.5.0"
    assert minimum_runtime([("ADD", 1), ("ADD", 4), ("CONV_2D", 99), ("?", 1)]) == "2.6.0"


def in_blocks(scale, zero=0):
    """FULLY_CONNECTED on int4 weights [4, 64] of which each 32 have a scale."""
    x, y = (Tensor(name, TensorType(FLOAT32, (1, n))) for name, n in (("x", 64), ("y", 4)))
    data = (np.arange(4 * 64) % 15 - 7).astype(np.int8).reshape(4, 64)
    q = Quantization(tuple(scale), (zero,) * 8, 0, 32)
    op = REGISTRY.by_name["FULLY_CONNECTED"]
    graph = Graph(
        "main", [x], [y], [], [Node(op, op.Attrs(), [x, Tensor("w", TensorType(INT4, (4, 64), q), data)], [y])]
    )
    graph.renumber()
    return Module([graph])


def test_scales_of_blocks_become_a_tensor_of_halves():
    scale = [2.0**-i for i in range(8)]
    made = in_blocks(scale)
    again = read(write(made))
    weights = again.main.nodes[0].inputs[1]
    assert weights.type == made.main.nodes[0].inputs[1].type
    np.testing.assert_array_equal(weights.data, made.main.nodes[0].inputs[1].data)
    name, places = weights.extras["quantization_details"]
    halves = again.main.tensors[places["scales"]]
    assert (name, str(halves.type), places["zero_points"]) == ("BlockwiseQuantization", "float16[4, 2]", -1)
    assert halves.data.ravel().tolist() == scale
    assert len(made.main.tensors) + 1 == len(again.main.tensors)
    assert write(read(write(again))) == write(again)  # they are there already, and stay one tensor


@pytest.mark.parametrize(("scale", "zero", "what"), [(0.1, 0, "scales that are no float16"), (0.5, 1, "zero points")])
def test_blocks_that_a_file_cannot_hold(scale, zero, what):
    with pytest.raises(InputError, match=f"blocks of 32 elements have {what}"):
        write(in_blocks([scale] * 8, zero))


# A 4 x 4 matrix of 2 x 2 blocks of which the first and the last are stored.
BLOCKS = {
    "traversal_order": np.array([0, 1, 2, 3]), "block_map": np.array([0, 1]),
    "dim_metadata": [
        {"format": "DENSE", "dense_size": 2},
        {"format": "SPARSE_CSR", "dense_size": 0, "array_segments": ("Int32Vector", {"values": np.array([0, 1, 2])}),
         "array_indices": ("Uint8Vector", {"values": np.array([0, 1])})},
        {"format": "DENSE", "dense_size": 2}, {"format": "DENSE", "dense_size": 2},
    ],
}  # fmt: skip
DENSE = [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]


def test_sparse_constants_unfold_and_fold_again():
    structure = sparse.read(BLOCKS, (4, 4))
    dense = sparse.expand(structure, (4, 4), np.arange(1, 9))
    assert dense.tolist() == DENSE
    assert sparse.compress(structure, dense).tolist() == list(range(1, 9))
    dense[0, 3] = 1
    assert sparse.compress(structure, dense) is None


def test_sparse_tensors_survive_writing():
    t = Tensor(
        "w", TensorType(INT8, (4, 4)), np.array(DENSE, np.int8), extras={"sparsity": sparse.read(BLOCKS, (4, 4))}
    )
    again = read(write(Module([Graph("main", [], [t], [t], [])]))).main.tensors[0]
    assert again.data.tolist() == DENSE
    assert again.extras["sparsity"].block_map == (0, 1)


def altered(level: int | None = None, **fields: object) -> dict:
    record = {**BLOCKS, "dim_metadata": [dict(d) for d in BLOCKS["dim_metadata"]]}
    (record if level is None else record["dim_metadata"][level]).update(fields)
    return record


@pytest.mark.parametrize(
    ("record", "shape", "text"),
    [
        (altered(traversal_order=np.array([0, 0, 2, 3])), (4, 4), "permutation"),
        (altered(dim_metadata=[]), (4, 4), "permutation"),
        (altered(block_map=np.array([0, 9])), (4, 4), "block map"),
        (altered(0, format=7), (4, 4), "no sparse dimension format 7"),
        (altered(1, array_segments=None), (4, 4), "must list its segments"),
        (altered(0, dense_size=3), (4, 4), "has size 3, the shape says 2"),
        (altered(2, dense_size=3), (4, 4), "cannot be split into blocks of 3"),
        (altered(2, dense_size=0), (4, 4), "cannot be split into blocks of 0"),
        (
            altered(1, array_segments=("Int32Vector", {"values": np.array([0, 2, 1])})),
            (4, 4),
            "segments of dimension 1",
        ),
        (altered(1, array_indices=("Int32Vector", {"values": np.array([0, 2])})), (4, 4), r"must be in \[0, 2\)"),
        (altered(1, array_indices=("Int32Vector", {"values": np.array([-1, 0])})), (4, 4), r"must be in \[0, 2\)"),
        (altered(0, dense_size=2**30), (2**31, 0), "room for 0|cannot be split"),
        (BLOCKS, (4, 4), "lists 8 values, the buffer holds 9"),
    ],
)
def test_sparse_structures_that_do_not_fit_are_refused(record: dict, shape: tuple, text: str):
    with pytest.raises(ModelError, match=text):
        sparse.expand(sparse.read(record, shape), shape, np.zeros(9))


def test_more_listed_values_than_room_are_refused():
    twice = {"format": "SPARSE_CSR", "array_segments": ("Int32Vector", {"values": np.array([0, 5])}),
             "array_indices": ("Int32Vector", {"values": np.zeros(5, int)})}  # fmt: skip
    record = {"traversal_order": np.array([0]), "block_map": None, "dim_metadata": [twice]}
    with pytest.raises(ModelError, match="lists 5 values, its shape has room for 2"):
        sparse.expand(sparse.read(record, (2,)), (2,), np.zeros(5))
