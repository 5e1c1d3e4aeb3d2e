"""Reading models: every kind of tensor, option, quantization and place of data, and every refusal."""

from __future__ import annotations

import copy
import zipfile
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lithe.errors import FileMissing, InputError, LimitError, ModelError
from lithe.formats import flexbuffer
from lithe.formats.tflite import open_model, read, write
from lithe.formats.tflite.options import read_custom
from lithe.formats.tflite.tensors import decode, encode, pack, unpack
from lithe.ops.op import Op
from lithe.ops.verify import Limits
from lithe.types import BFLOAT16, DTYPES, INT2, INT4, STRING, UINT4, VARIANT
from tests.formats.models import TYPES, add_model, buffer, schema, tensor


def refused(change, text: str) -> ModelError:
    with pytest.raises(ModelError, match=text) as caught:
        read(add_model(change))
    return caught.value


def test_a_model_is_what_its_file_says():
    m = read(add_model())
    (node,) = m.main.nodes
    assert (node.op.name, node.attrs.fused_activation_function) == ("ADD", "RELU")
    assert [t.name for t in (*node.inputs, *node.outputs)] == ["x", "c", "y"]
    assert node.inputs[1].data.tolist() == [1, 2, 3, 4]
    assert not node.inputs[1].data.flags.writeable
    assert (m.description, m.metadata) == ("adds", {"note": b"kept as it is"})
    (signature,) = m.signatures
    assert signature.inputs["in"] is m.main.inputs[0]
    assert signature.outputs["out"] is m.main.outputs[0]


def test_constants_are_views_on_the_file():
    data = np.frombuffer(add_model(), np.uint8)
    assert np.shares_memory(read(data.data).main.tensors[1].data, data)


@pytest.mark.parametrize("name", sorted(set(DTYPES) - {"string", "resource", "variant"}))
def test_every_element_type_survives(name: str):
    dtype = DTYPES[name]
    draw = np.random.default_rng(0)
    low, high = (dtype.minimum, dtype.maximum) if dtype.stored_bits < 8 else (0, 2)
    array = draw.integers(low, high + 1, (3, 5)).astype(dtype.numpy)
    assert (decode(encode(array, dtype), dtype, (3, 5)) == array).all()


def test_packed_elements_begin_with_the_lowest_bits():
    assert unpack(np.array([0x12, 0xF4], np.uint8), INT4, 4).tolist() == [2, 1, 4, -1]
    assert unpack(np.array([0x12, 0xF4], np.uint8), UINT4, 3).tolist() == [2, 1, 4]
    assert unpack(np.array([0b11_10_01_00], np.uint8), INT2, 4).tolist() == [0, 1, -2, -1]
    assert pack(np.array([2, 1, 4], np.uint8), UINT4).tolist() == [0x12, 0x04]


def test_misaligned_constants_are_copied_and_brain_floats_understood():
    raw = np.frombuffer(b"\0" + np.array([1.5, -2], ml_dtypes.bfloat16).tobytes(), np.uint8)[1:]
    assert decode(raw, BFLOAT16, (2,)).tolist() == [1.5, -2]


def test_strings_are_decoded_and_their_offsets_checked():
    array = np.array([b"one", b"", "zwö"], object)
    raw = encode(array, STRING)
    assert decode(raw, STRING, (3,)).tolist() == [b"one", b"", "zwö".encode()]
    with pytest.raises(ModelError, match="says it holds 3 strings, its shape says 2"):
        decode(raw, STRING, (2,))
    with pytest.raises(ModelError, match="needs at least"):
        decode(raw[:8], STRING, (3,))
    damaged = raw.copy()
    damaged[8] = 200
    with pytest.raises(ModelError, match="string offsets must rise"):
        decode(damaged, STRING, (3,))
    with pytest.raises(ModelError, match="cannot be a constant"):
        decode(raw, VARIANT, (1,))


def test_a_constant_of_the_wrong_size_is_refused_with_its_place():
    def change(m):
        m.buffers[1] = buffer(bytes(15))

    e = refused(change, r"float32\[4\] needs 16 bytes, its buffer has 15")
    assert e.where == "op #0 ADD, input 1 'input2', tensor #1 'c'"


def set_tensor(i: int, **fields):
    def change(m):
        for name, value in fields.items():
            setattr(m.subgraphs[0].tensors[i], name, value)

    return change


def set_operator(**fields):
    def change(m):
        for name, value in fields.items():
            setattr(m.subgraphs[0].operators[0], name, value)

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (set_tensor(0, shape=[-1, 4]), "negative dimension"),
        (set_tensor(0, shape=[1] * 9), "rank 9 is above the limit 8"),
        (set_tensor(0, shape=[65536, 65536]), "4294967296 elements, the limit is 2147483647"),
        (set_tensor(0, shape=[0, 65536, 65536]), "4294967296 elements"),
        (set_tensor(0, type=99), "no tensor type 99"),
        (set_tensor(1, buffer=9), "buffer 9 does not exist, the model has 3"),
        (set_tensor(0, externalBuffer=5), "external buffer 5"),
        (set_operator(opcodeIndex=7), "operator code 7 does not exist"),
        (set_operator(inputs=[0, 3]), "input 1 is tensor 3, the graph has tensors 0 to 2"),
        (set_operator(inputs=[0, -2]), "input 1 is tensor -2"),
        (set_operator(outputs=[-1]), "output 0 is tensor -1"),
        (set_operator(intermediates=[8]), "an intermediate is tensor 8"),
        (lambda m: setattr(m, "version", 2), "schema version 2 is unknown"),
        (lambda m: setattr(m, "subgraphs", []), "the model has no graph"),
        (lambda m: setattr(m.subgraphs[0], "inputs", [5]), "graph input is tensor 5"),
        (lambda m: setattr(m.subgraphs[0], "outputs", [-1]), "graph output is tensor -1"),
        (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 4), "graph 4 does not exist"),
        (lambda m: setattr(m.signatureDefs[0].inputs[0], "tensorIndex", 9), "input 'in' is tensor 9"),
        (lambda m: setattr(m.operatorCodes[0], "builtinCode", 32), "has no name"),
        (lambda m: vars(m.operatorCodes[0]).update(deprecatedBuiltinCode=-3, builtinCode=-5), "code -3 is negative"),
    ],
)  # fmt: skip
def test_what_is_refused(change, text: str):
    assert refused(change, text).where


def test_data_of_what_an_operator_writes_are_never_read(caplog: pytest.LogCaptureFixture):
    for data in (bytes(16), bytes(3)):  # the second are too few for the type

        def change(m, data=data):
            m.buffers.append(buffer(data))
            m.subgraphs[0].tensors[2].buffer = len(m.buffers) - 1

        assert read(add_model(change)).main.nodes[0].outputs[0].data is None
        assert "the data of 'y' are ignored" in caplog.text


def test_outputs_of_an_operator_without_results_are_not_written(caplog: pytest.LogCaptureFixture):
    def change(m):
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = 144, 127, 1
        assign = schema.OperatorT()
        assign.opcodeIndex, assign.inputs, assign.outputs = len(m.operatorCodes), [0, 1], [1]
        m.operatorCodes.append(code)
        m.subgraphs[0].operators.append(assign)

    main = read(add_model(change)).main
    assert main.nodes[1].outputs == []
    assert main.tensors[1].data is not None
    assert "the outputs of op #1 ASSIGN_VARIABLE are ignored" in caplog.text


def test_options_out_of_their_enum_are_refused_where_they_mean_something():
    def activation(m):
        m.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 99

    assert read(add_model(activation)).main.nodes[0].attrs.fused_activation_function == "NONE"


def test_absent_or_foreign_options_mean_the_defaults_of_the_format():
    def absent(m):
        m.subgraphs[0].operators[0].builtinOptionsType, m.subgraphs[0].operators[0].builtinOptions = 0, None

    def foreign(m):
        o = m.subgraphs[0].operators[0]
        o.builtinOptionsType, o.builtinOptions = schema.BuiltinOptions.SoftmaxOptions, schema.SoftmaxOptionsT()
        o.builtinOptions.beta = 2.0

    assert read(add_model(absent)).main.nodes[0].attrs.fused_activation_function == "NONE"
    node = read(add_model(foreign)).main.nodes[0]
    assert node.attrs.fused_activation_function == "NONE"
    assert node.extras["foreign_options"] == ("SoftmaxOptions", {"beta": 2.0})


def test_options_stand_in_the_place_that_is_the_operator_s_own():
    def both(m):
        m.operatorCodes[0].builtinCode, m.operatorCodes[0].deprecatedBuiltinCode = 206, 127
        o = m.subgraphs[0].operators[0]
        o.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
        o.builtinOptions2 = schema.StableHLOCompositeOptionsT()
        o.builtinOptions2.name, o.builtinOptions2.decompositionSubgraphIndex = "add", 1
        m.subgraphs.append(copy.deepcopy(m.subgraphs[0]))
        m.subgraphs[1].operators = []
        m.subgraphs[1].outputs = [0]

    (node,) = read(add_model(both)).main.nodes
    assert (node.op.name, node.attrs.decomposition_subgraph_index) == ("STABLEHLO_COMPOSITE", 1)


def custom(m, name: str = "Mystery", options: bytes = b"") -> None:
    m.operatorCodes[0].builtinCode, m.operatorCodes[0].deprecatedBuiltinCode = 32, 32
    m.operatorCodes[0].customCode = name
    o = m.subgraphs[0].operators[0]
    o.builtinOptionsType, o.builtinOptions = 0, None
    o.customOptions = np.frombuffer(options, np.uint8)


def test_unknown_operators_are_kept():
    options = flexbuffer.write({"alpha": 3, "name": "x"})
    node = read(write(read(add_model(lambda m: custom(m, options=options))))).main.nodes[0]
    assert (node.op.name, node.op.known, node.attrs) == ("Mystery", False, {"alpha": 3, "name": "x"})
    assert node.extras["custom_options"] == options
    raw = read(add_model(lambda m: custom(m, options=b"\x07raw bytes"))).main.nodes[0]
    assert raw.extras["custom_options"] == b"\x07raw bytes"

    def future(m):
        m.operatorCodes[0].builtinCode, m.operatorCodes[0].deprecatedBuiltinCode = 4000, 127

    found = read(write(read(add_model(future)))).main.nodes[0]
    assert (found.op.name, found.op.code) == ("BUILTIN_4000", 4000)


def test_large_custom_options_and_buffers_lie_behind_the_flatbuffer():
    def change(m):
        custom(m)
        o = m.subgraphs[0].operators[0]
        o.largeCustomOptionsOffset, o.largeCustomOptionsSize = at, 4
        m.buffers[1] = buffer()
        m.buffers[1].offset, m.buffers[1].size = at + 16, 16

    at = 1 << 20
    at = -(-len(add_model(change)) // 16) * 16
    data = add_model(change).ljust(at, b"\0") + b"abcd" + bytes(12) + np.arange(4, dtype="<f4").tobytes()
    m = read(data)
    assert m.main.nodes[0].extras["custom_options"] == b"abcd"
    assert m.main.tensors[1].data.tolist() == [0, 1, 2, 3]
    with pytest.raises(ModelError, match="lies outside of the file"):
        read(data[:-1])


def test_quantization_of_every_form_is_kept():
    def channels(m):
        m.subgraphs[0].tensors[1] = tensor("c", [4], TYPES.INT8, 1, [0.5, 1, 2, 4], [0, 0, 0, 0])
        m.subgraphs[0].tensors[1].quantization.min = [-1.0]
        m.buffers[1] = buffer(bytes(4))

    t = read(add_model(channels)).main.tensors[1]
    assert t.type.quantization.scale == (0.5, 1, 2, 4)
    assert t.extras["range"] == {"min": [-1.0]}

    def uneven(m):
        m.subgraphs[0].tensors[0] = tensor("x", [1, 4], TYPES.INT8, 0, [0.5, 1], [0])

    refused(uneven, "2 scales and 1 zero points")

    def blocks(m):
        q = m.subgraphs[0].tensors[1].quantization = schema.QuantizationParametersT()
        q.detailsType, q.details = schema.QuantizationDetails.BlockwiseQuantization, schema.BlockwiseQuantizationT()
        q.details.scales, q.details.zeroPoints, q.details.blockSize = 2, -1, 32

    m = read(write(read(add_model(blocks))))
    name, values = m.main.tensors[1].extras["quantization_details"]
    assert (name, values["scales"], values["zero_points"], values["block_size"]) == ("BlockwiseQuantization", 2, -1, 32)
    assert m.main.tensors[1].type.quantization is None


def external_model(name: str) -> bytes:
    def change(m):
        m.subgraphs[0].tensors[1].buffer, m.subgraphs[0].tensors[1].externalBuffer = 0, 7
        group, weights = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
        group.name = name
        weights.id, weights.group, weights.offset, weights.length = 7, 0, 4, 16
        m.externalBufferGroups, m.externalBuffers = [group], [weights]

    return add_model(change)


def test_external_weights_are_found_beside_the_model(tmp_path: Path):
    (tmp_path / "m.tflite").write_bytes(external_model("weights.bin"))
    (tmp_path / "weights.bin").write_bytes(bytes(4) + np.arange(4, dtype="<f4").tobytes())
    m = open_model(tmp_path / "m.tflite")
    assert m.main.tensors[1].data.tolist() == [0, 1, 2, 3]
    assert write(m).count(b"weights.bin") == 1
    (tmp_path / "weights.bin").write_bytes(bytes(8))
    with pytest.raises(ModelError, match="outside of its file"):
        open_model(tmp_path / "m.tflite")
    (tmp_path / "m.tflite").write_bytes(external_model("../weights.bin"))
    with pytest.raises(ModelError, match="must be plain"):
        open_model(tmp_path / "m.tflite")
    with pytest.raises(ModelError, match="weights are in another file"):
        read(external_model("weights.bin"))


def test_limits_are_limits():
    data = add_model()
    for field, value in (("file_bytes", 10), ("tensors", 2), ("operators", 0), ("rank", 1), ("elements", 3)):
        with pytest.raises(LimitError):
            read(data, limits=Limits(**{field: value}))


def test_what_is_no_file_or_no_bytes_is_said_so(tmp_path: Path):
    with pytest.raises(FileMissing, match="cannot open"):
        open_model(tmp_path / "none.tflite")
    (tmp_path / "empty.tflite").write_bytes(b"")
    with pytest.raises(ModelError, match="too few"):
        open_model(tmp_path / "empty.tflite")
    with pytest.raises(InputError, match="must be bytes, got str"):
        read("model")


def test_code_for_accelerators_moves_with_its_model():
    code = b"machine code" * 3

    def change(m):
        place = {"bytecode_offset": at, "bytecode_size": len(code), "name": "part"}
        custom(m, "DISPATCH_OP", flexbuffer.write(place, least_width=8))

    at = 0
    at = len(add_model(change))
    first = read(add_model(change) + code)
    second = read(write(first))
    options = flexbuffer.read(second.main.nodes[0].extras["custom_options"])
    assert second.main.nodes[0].extras["bytecode"].tobytes() == code
    assert (options["name"], options["bytecode_size"]) == ("part", len(code))
    at = 1 << 40
    with pytest.raises(ModelError, match="the bytecode of 36 bytes"):
        read(add_model(change))


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [(-1, 4, "-1 and 4"), (8, -4, "8 and -4"), ("near", 4, "'near' and 4"), (8, None, "8 and None")],
)
def test_the_place_of_code_for_accelerators_is_two_numbers(offset: object, size: object, text: str):
    place = {"bytecode_offset": offset, "bytecode_size": size}
    e = refused(lambda m: custom(m, "DISPATCH_OP", flexbuffer.write(place)), f"bytecode must be two numbers, is {text}")
    assert e.where == "op #0 DISPATCH_OP"


def sparse(shape: list[int], type_: int, size: int):
    """Makes the constant of the model sparse, with every level dense."""

    def change(m):
        t = m.subgraphs[0].tensors[1] = tensor("c", shape, type_, 1)
        t.sparsity = schema.SparsityParametersT()
        t.sparsity.traversalOrder, t.sparsity.dimMetadata = list(range(len(shape))), []
        for n in shape:
            level = schema.DimensionMetadataT()
            level.format, level.denseSize = schema.DimensionType.DENSE, n
            t.sparsity.dimMetadata.append(level)
        m.buffers[1] = buffer(bytes(size))

    return change


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (sparse([4], TYPES.INT4, 2), ModelError, "a sparse constant of type int4 is not defined"),
        (sparse([4], TYPES.STRING, 8), ModelError, "a sparse constant of type string is not defined"),
        (sparse([4], TYPES.FLOAT32, 15), ModelError, "15 bytes are not a whole number of float32 elements"),
        (
            sparse([1 << 15, 1 << 15], TYPES.INT8, 4), LimitError,
            r"int8\[32768, 32768\] is too large for a sparse constant of a file of \d+ bytes",
        ),
    ],
)  # fmt: skip
def test_sparse_constants_that_cannot_be_are_refused(change, kind: type[ModelError], text: str):
    e = refused(change, text)
    assert type(e) is kind
    assert e.where == "op #0 ADD, input 1 'input2', tensor #1 'c'"


class Sampler(Op):
    """A custom operator that takes its options from a flexbuffer map."""

    name = "Sampler"

    @dataclass(frozen=True)
    class Attrs:
        count: int
        scale: float = 1.0
        steps: int = 1
        exact: bool = False


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([1, 2], "the options of Sampler must be a flexbuffer map, are list"),
        ({"scale": 0.5}, "the options of Sampler lack 'count'"),
        ({"count": 1, "scale": "large"}, "option Sampler.scale must be a number, is str"),
        ({"count": 1, "steps": 1.5}, "option Sampler.steps must be an integer, is 1.5"),
        ({"count": 1, "exact": 0.5}, "option Sampler.exact must be an integer, is 0.5"),
    ],
)
def test_options_in_a_map_are_numbers_of_their_kind(options: object, text: str):
    with pytest.raises(ModelError, match=text):
        read_custom(Sampler, flexbuffer.write(options))
    assert read_custom(Sampler, flexbuffer.write({"count": 3, "scale": 2, "steps": 4.0})) == Sampler.Attrs(3, 2.0, 4)


def test_damaged_options_name_their_operator_and_byte():
    options = flexbuffer.write({"max_detections": 10})[:-1] + b"\3"
    e = refused(
        lambda m: custom(m, "TFLite_Detection_PostProcess", options), "damaged flexbuffer: the root has 3 bytes"
    )
    assert e.where == f"op #0 TFLite_Detection_PostProcess, byte {len(options) - 1} of {len(options)}"


def test_a_zip_behind_a_model_gives_its_files(tmp_path: Path):
    path = tmp_path / "m.tflite"
    path.write_bytes(add_model())
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("labels.txt", "cat\ndog\n")
    again = write(open_model(path))
    assert dict(read(again).extras["associated_files"]) == {"labels.txt": b"cat\ndog\n"}
    (tmp_path / "again.tflite").write_bytes(again)
    assert zipfile.ZipFile(tmp_path / "again.tflite").read("labels.txt") == b"cat\ndog\n"
