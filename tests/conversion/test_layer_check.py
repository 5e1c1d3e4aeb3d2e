"""Verification on given inputs and layer by layer: what differs is found where it begins."""

from __future__ import annotations

import os

import numpy as np
import pytest

from lithe.cli.main import BAD_INPUT, main
from lithe.conversion import layer_check
from lithe.conversion.check import check
from lithe.conversion.door import agreement, convert, converted, differences
from lithe.errors import InputError, ModelError

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def keras_net():
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 3), name="x"),
            layers.Conv2D(4, 3, name="first"),
            layers.BatchNormalization(name="merged"),
            layers.ReLU(name="second"),
            layers.Conv2D(4, 3, activation="relu", name="third"),
            layers.Flatten(name="flat"),
            layers.Dense(5, name="last"),
        ]
    )


def torch_net():
    nn = pytest.importorskip("torch", reason="PyTorch is not installed").nn
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Hardswish(),
                         nn.Flatten(), nn.Linear(64, 5)).eval()  # fmt: skip


def onnx_net():
    onnx = pytest.importorskip("onnx", reason="ONNX is not installed")
    make, random = onnx.helper, np.random.default_rng(0)
    arrays = {"w": random.standard_normal((4, 3, 3, 3)), "v": random.standard_normal((4, 4, 3, 3))}
    weights = [onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    nodes = [make.make_node("Conv", ["x", "w"], ["a"], name="first"), make.make_node("Relu", ["a"], ["b"]),
             make.make_node("Conv", ["b", "v"], ["c"], name="second"), make.make_node("Sigmoid", ["c"], ["d"]),
             make.make_node("GlobalAveragePool", ["d"], ["y"], name="last")]  # fmt: skip
    x = make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 8, 8])
    y = make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4, 1, 1])
    return make.make_model(make.make_graph(nodes, "g", [x], [y], weights), ir_version=9,
                           opset_imports=[make.make_opsetid("", 17)])  # fmt: skip


def jax_net():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)

    @jax.jit
    def inner(x):
        return jax.numpy.tanh(x @ weights)

    return lambda x: jax.numpy.exp(inner(x)) * 2 + x


# source, its inputs, layers that are compared, and those that went into others
NETS = {
    "keras": (keras_net, None, ["second", "third", "flat", "last"], ["first", "merged"]),
    "torch": (torch_net, {"input": ("batch", 3, 8, 8)}, ["2 (ReLU)", "4 (Hardswish)", "6 (Linear)"], ["1 (Batch"]),
    "onnx": (onnx_net, None, ["(Relu)", "'second'", "(Sigmoid)", "'last'"], ["'first'"]),
    "jax": (jax_net, {"x": ("batch", 8)}, ["dot_general", "tanh", "exp", "mul", "add"], []),
}


@pytest.mark.parametrize("kind", NETS)
def test_layers_agree(kind):
    make, inputs, seen, merged = NETS[kind]
    found = differences(*converted(make(), inputs=inputs, watch=True))
    places = [layer.where for layer in found.compared]
    for part in seen:
        assert any(part in place for place in places), (part, places)
    for part in merged:
        assert not any(part in place for place in places), (part, places)
    assert found.merged >= len(merged)
    assert max(layer.difference for layer in found.compared) < 1e-5
    assert found.first() is None
    found.require()


def weights_of(model, number: int) -> np.ndarray:
    """The weights of a convolution of the converted model."""
    nodes = [n for n in model.module.main.nodes if n.op.name == "CONV_2D"]
    return nodes[number].inputs[1].data


@pytest.mark.parametrize(
    ("kind", "place", "before"),
    [("keras", "third", "second"), ("torch", "3 (Conv2d", "2 (ReLU"), ("onnx", "'second'", "(Relu)")],
)  # fmt: skip
def test_the_first_layer_that_differs_is_named(kind, place, before):
    """The second convolution's weights are wrong in the converted model; what comes before it agrees."""
    make, inputs, _, _ = NETS[kind]
    model, conversion = converted(make(), inputs=inputs, watch=True)
    node = [n for n in model.module.main.nodes if n.op.name == "CONV_2D"][1]
    node.inputs[1].data = node.inputs[1].data * np.float32(1.01)
    found = differences(model, conversion)
    assert place in found.first().where
    assert 1e-4 < found.first().difference < 0.1
    with pytest.raises(ModelError) as caught:
        found.require()
    assert place in caught.value.where
    assert before in caught.value.problem
    with pytest.raises(ModelError, match="differs from the source by"):
        agreement(model, conversion).require()


def test_the_first_of_all_layers_may_differ():
    model, conversion = converted(jax_net(), inputs={"x": (2, 8)}, watch=True)
    model.module.main.nodes[0].inputs[1].data = model.module.main.nodes[0].inputs[1].data + 1
    with pytest.raises(ModelError, match="it is the first one"):
        differences(model, conversion).require()


def test_given_inputs(tmp_path, monkeypatch, capsys):
    """A function that differs for large numbers alone: random inputs do not find it."""
    pytest.importorskip("jax", reason="JAX is not installed")
    x = np.full((2, 3), 7, np.float32)
    model, conversion = converted(lambda x: x + 1, inputs={"x": ("batch", 3)})
    original = conversion.entries[0].reference
    wrong = type(conversion.entries[0])(
        conversion.entries[0].signature, conversion.entries[0].input_types,
        lambda arrays: [np.where(arrays["x"] > 6, 0, y) for y in original(arrays)],
    )  # fmt: skip
    conversion.entries[:] = [wrong]
    assert check(model, conversion).worst < 1e-6
    assert (
        check(model, conversion, {"x": x}).worst == pytest.approx(float("inf"))
        or check(model, conversion, {"x": x}).worst > 1
    )
    assert check(model, conversion, [{"x": x[:1] * 0}, {"x": x}]).runs == 2
    with pytest.raises(InputError, match="there is no input 'y'"):
        check(model, conversion, {"y": x})


def test_given_inputs_of_several_signatures():
    pytest.importorskip("jax", reason="JAX is not installed")
    inputs = {"double": {"x": (2,)}, "square": {"x": ("n",)}}
    pair = {"double": lambda x: x * 2, "square": lambda x: x * x}
    x = np.array([1, 2], np.float32)
    model, conversion = converted(pair, inputs=inputs, watch=True)
    agreed = check(model, conversion, {"double": {"x": x}, "square": [{"x": x}, {"x": x[:1]}]})
    assert (sorted(agreed.differences), agreed.runs) == (["double/output", "square/output"], 3)
    with pytest.raises(InputError, match="several signatures: double, square"):
        check(model, conversion, {"x": x})
    assert [layer.where.split(":")[0] for layer in differences(model, conversion).compared] == ["double", "square"]


def test_what_has_no_layers_says_so():
    pytest.importorskip("jax", reason="JAX is not installed")
    model, conversion = converted(lambda x: x + 1, inputs={"x": (2,)})  # nothing is marked where nobody asks
    with pytest.raises(InputError, match="cannot be compared one by one"):
        differences(model, conversion)


def test_through_the_doors(tmp_path, capsys, monkeypatch):
    net = keras_net()
    assert convert(net, verify="layers").inputs
    assert convert(net, verify={"x": np.ones((2, 8, 8, 3), np.float32)}).inputs
    net.save(tmp_path / "net.keras")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 8, 8, 3), np.float32))
    made = tmp_path / "net.tflite"
    arguments = ["convert", str(tmp_path / "net.keras"), "-o", str(made)]
    assert main([*arguments, "--verify-layers", "--verify-data", str(tmp_path / "x.npz")]) == 0
    assert "layers agree to" in capsys.readouterr().err
    made.unlink()
    monkeypatch.setattr(layer_check, "relative_difference", lambda expected, got: 0.5)
    assert main([*arguments, "--verify-layers"]) == BAD_INPUT
    assert "differs from the source by 0.5" in capsys.readouterr().err
    assert not made.exists()
