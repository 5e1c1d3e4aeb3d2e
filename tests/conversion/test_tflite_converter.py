"""The drop-in for TensorFlow's converter: attributes, what becomes of weights, and the official runtime as a judge."""

from __future__ import annotations

import os

import numpy as np
import pytest

import lithe
from lithe.errors import InputError, UnsupportedOp
from lithe.formats import tflite
from lithe.lite import OpsSet, Optimize, RepresentativeDataset, TargetSpec, TFLiteConverter, experimental
from tests.conversion.official import run_official

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def of_jax(**attributes) -> TFLiteConverter:
    """The converter of a function of JAX whose weights are worth a scale."""
    pytest.importorskip("jax", reason="JAX is not installed")
    weights = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    made = TFLiteConverter.experimental_from_jax([lambda x: x @ weights], [[("x", np.zeros((2, 64), np.float32))]])
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def ratio(expected: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise in decibels."""
    return float(10 * np.log10((expected.astype(np.float64) ** 2).sum() / max(((expected - got) ** 2).sum(), 1e-30)))


def narrow_types(data: bytes) -> list[str]:
    return [t.type.dtype.name for t in tflite.read(data).constants() if t.type.size > 64]


HALVES = TargetSpec(supported_types=[np.float16])


@pytest.mark.parametrize(
    ("attributes", "types"),
    [
        ({}, ["float32"]),
        ({"optimizations": []}, ["float32"]),
        ({"optimizations": [Optimize.DEFAULT]}, ["int8"]),
        ({"optimizations": {Optimize.OPTIMIZE_FOR_SIZE}}, ["int8"]),
        ({"optimizations": [Optimize.OPTIMIZE_FOR_LATENCY], "target_spec": HALVES}, ["float16"]),
        ({"optimizations": [Optimize.DEFAULT], "target_spec": TargetSpec(supported_types=["float16"])}, ["float16"]),
        ({"target_spec": HALVES}, ["float32"]),
        ({"allow_custom_ops": True, "experimental_new_quantizer": False, "exclude_conversion_metadata": True},
         ["float32"]),
        ({"inference_input_type": np.float32, "inference_output_type": "float32"}, ["float32"]),
    ],
)  # fmt: skip
def test_attributes_decide_on_weights(attributes, types):
    assert narrow_types(of_jax(**attributes).convert()) == types


BUILTINS = OpsSet.TFLITE_BUILTINS
WIDE = OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
DEFAULT = {"optimizations": [Optimize.DEFAULT]}


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"representative_dataset": RepresentativeDataset(lambda: iter(())), **DEFAULT}, "samples"),
        ({"representative_dataset": 3, **DEFAULT}, "a function that gives samples, got int"),
        ({"inference_input_type": np.int8}, "inference_input_type = int8 needs samples"),
        ({"inference_output_type": "uint8"}, "inference_output_type = uint8 needs samples"),
        ({"target_spec": TargetSpec([OpsSet.TFLITE_BUILTINS_INT8])}, "without TFLITE_BUILTINS needs samples"),
        ({"target_spec": TargetSpec([WIDE])}, "without TFLITE_BUILTINS needs samples"),
        ({"target_spec": TargetSpec([BUILTINS, OpsSet.EXPERIMENTAL_STABLEHLO_OPS])}, "EXPERIMENTAL_STABLEHLO_OPS"),
        ({"target_spec": TargetSpec(["ALL_OPS"])}, "ALL_OPS"),
        ({"target_spec": TargetSpec([])}, "no set"),
        ({"target_spec": TargetSpec(supported_types=["int4"])}, "int4"),
        ({"target_spec": TargetSpec(supported_types=[3])}, "no element type"),
        ({"target_spec": TargetSpec(supported_types=[np.int8]), **DEFAULT}, "needs samples"),
        ({"optimizations": ["FASTER"]}, "FASTER"),
        ({"unfold_batchmatmul": True}, "unfold_batchmatmul"),
        ({"experimental_new_converter": False}, "experimental_new_converter"),
    ],
)
def test_what_cannot_be_done_is_one_error(attributes, said):
    with pytest.raises(InputError) as caught:
        of_jax(**attributes).convert()
    assert said in str(caught.value)


def test_tables_are_stored_in_8_bits_too():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    table = np.random.default_rng(0).standard_normal((100, 32)).astype(np.float32)
    look = TFLiteConverter.experimental_from_jax(
        [lambda i: jax.numpy.take(table, i, axis=0, mode="clip")], [[("i", np.zeros(3, np.int32))]]
    )
    plain = look.convert()
    look.optimizations = [Optimize.DEFAULT]
    data = look.convert()
    assert narrow_types(data) == ["int8"]
    assert integers(data)[1][-2:] == ["GATHER", "DEQUANTIZE"]
    assert len(data) < 0.45 * len(plain)
    i = np.array([7, 0, 99], np.int32)
    model = lithe.load(data)
    for got in (model(i), run_official(model, {"i": i}, "serving_default")[0]):
        assert np.abs(got - table[i]).max() <= np.abs(table).max() / 254 * 1.0001


def samples():
    random = np.random.default_rng(2)
    for _ in range(20):
        yield [random.standard_normal((2, 64)).astype(np.float32)]


def integers(data: bytes) -> tuple[list[str], list[str]]:
    """Types of the ends, and the operators."""
    graph = tflite.read(data).main
    return [t.type.dtype.name for t in (*graph.inputs, *graph.outputs)], [n.op.name for n in graph.nodes]


def test_calibrated_models_compute_on_integers():
    """The attributes as a user of TensorFlow sets them for a microcontroller; the result as it runs officially."""
    converter = of_jax(representative_dataset=samples, **DEFAULT)
    ends, operators = integers(converter.convert())
    assert (ends, operators) == (["float32"] * 2, ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"])
    converter.target_spec.supported_ops = [OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = np.int8, np.int8
    data = converter.convert()
    assert integers(data) == (["int8"] * 2, ["FULLY_CONNECTED"])
    model, (x,) = lithe.load(data), next(iter(samples()))
    expected = lithe.load(of_jax().convert())(x)
    stored = model.inputs["x"].quantize(x)
    for got in (model(stored), run_official(model, {"x": stored}, "serving_default")[0]):
        assert ratio(expected, next(iter(model.outputs.values())).dequantize(got)) > 30
    converter.inference_input_type = converter.inference_output_type = np.float32
    converter.target_spec.supported_ops = [WIDE]
    converter.representative_dataset = RepresentativeDataset(samples)
    assert "int16" in {t.type.dtype.name for t in tflite.read(converter.convert()).main.tensors}


def test_integers_alone_are_refused_where_an_operator_has_no_such_form():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    weights = np.ones((64, 32), np.float32)
    inputs = [[("x", np.zeros((2, 64), np.float32))]]
    converter = TFLiteConverter.experimental_from_jax([lambda x: jax.numpy.floor(x @ weights)], inputs)
    converter.representative_dataset = samples
    converter.optimizations = [Optimize.DEFAULT]
    assert "FLOOR" in integers(converter.convert())[1]
    converter.target_spec.supported_ops = [OpsSet.TFLITE_BUILTINS_INT8]
    with pytest.raises(UnsupportedOp, match="no form on integers: FLOOR"):
        converter.convert()


def test_names_and_values():
    assert str(Optimize.DEFAULT) == "DEFAULT"
    assert "SELECT_TF_OPS" in OpsSet.get_options()
    assert TargetSpec().supported_ops == {OpsSet.TFLITE_BUILTINS}
    converter = of_jax()
    with pytest.raises(AttributeError, match="no attribute 'optimisations'; it has optimizations"):
        converter.optimisations = [Optimize.DEFAULT]
    with pytest.raises(InputError, match=r"tags \['train'\]"):
        TFLiteConverter.from_saved_model("somewhere", tags=["train"])
    with pytest.raises(InputError, match="one concrete function is needed, got 2"):
        TFLiteConverter.from_concrete_functions([abs, abs])
    with pytest.raises(InputError, match="one function with its inputs"):
        TFLiteConverter.experimental_from_jax([abs], [])
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = lithe.lite.Nothing


def test_analyzer_prints(capsys):
    experimental.Analyzer.analyze(model_content=of_jax().convert())
    printed = capsys.readouterr().out
    assert "FULLY_CONNECTED" in printed
    assert "serving_default(x: float32[2, 64])" in printed
    with pytest.raises(InputError, match="must be specified"):
        experimental.Analyzer.analyze()
    with pytest.raises(InputError, match="GPU"):
        experimental.Analyzer.analyze(model_content=b"", gpu_compatibility=True)


def keras_nets():
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    layers = keras.layers
    pictures = keras.Sequential([
        layers.Input((16, 16, 3), batch_size=1), layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.DepthwiseConv2D(7, padding="same"), layers.BatchNormalization(), layers.Conv2D(64, 3, dilation_rate=2),
        layers.Conv2DTranspose(32, 3), layers.GlobalAveragePooling2D(), layers.Dense(64, "relu"), layers.Dense(10),
    ])  # fmt: skip
    texts = keras.Sequential([
        layers.Input((12,), batch_size=1, dtype="int32"), layers.Embedding(500, 32),
        layers.LSTM(48, return_sequences=True), layers.GRU(32), layers.Dense(64), layers.LayerNormalization(),
        layers.Dense(3),
    ])  # fmt: skip
    x = keras.Input((16, 64), batch_size=1)
    attention = keras.Model(x, layers.SeparableConv1D(64, 5)(layers.MultiHeadAttention(4, 16)(x, x)))
    random = np.random.default_rng(0)
    return {
        "pictures": (pictures, random.standard_normal((1, 16, 16, 3)).astype(np.float32)),
        "texts": (texts, random.integers(0, 500, (1, 12)).astype(np.int32)),
        "attention": (attention, random.standard_normal((1, 16, 64)).astype(np.float32)),
    }


@pytest.mark.parametrize("name", ["pictures", "texts", "attention"])
def test_models_of_keras_in_both_runtimes(name):
    net, x = keras_nets()[name]
    converter = TFLiteConverter.from_keras_model(net)
    sizes = {}
    for kind, least in (("float32", 100), ("float16", 55), ("int8", 25)):
        converter.optimizations = [] if kind == "float32" else [Optimize.DEFAULT]
        converter.target_spec.supported_types = [np.float16] if kind == "float16" else []
        data = converter.convert()
        sizes[kind] = len(data)
        model = lithe.load(data)
        expected = np.asarray(net(x))
        assert kind in narrow_types(data)
        assert ratio(expected, model(x)) > least
        (official,) = run_official(model, {next(iter(t.name for t in model.module.main.inputs)): x})
        assert ratio(expected, official) > least
    assert sizes["float16"] < 0.65 * sizes["float32"]
    assert sizes["int8"] < 0.5 * sizes["float32"]


def test_sources_of_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    weights = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([2, 64], tf.float32, name="x")])
        def product(self, x):
            return {"y": tf.matmul(x, weights)}

        @tf.function(input_signature=[tf.TensorSpec([2, 64], tf.float32, name="x")])
        def double(self, x):
            return {"y": x * 2}

    net = Net()
    tf.saved_model.save(net, str(tmp_path), {"product": net.product, "double": net.double})
    x = np.random.default_rng(1).standard_normal((2, 64)).astype(np.float32)
    both = TFLiteConverter.from_saved_model(tmp_path)
    assert sorted(lithe.load(both.convert()).signatures) == ["double", "product"]
    one = TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["product"], tags={"serve"})
    one.optimizations = [tf.lite.Optimize.DEFAULT]
    one.target_spec = tf.lite.TargetSpec()
    one.target_spec.supported_types = [tf.float16]
    data = one.convert()
    assert narrow_types(data) == ["float16"]
    model = lithe.load(data)
    assert list(model.signatures) == ["product"]
    assert ratio(x @ weights, model(x)) > 60
    concrete = TFLiteConverter.from_concrete_functions([net.double.get_concrete_function()], net)
    concrete.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    assert np.array_equal(lithe.load(concrete.convert())(x), 2 * x)


def test_weights_are_stored_without_their_zeros():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    random = np.random.default_rng(0)
    weights = random.standard_normal((256, 64)).astype(np.float32) * (random.random((256, 64)) < 0.1)
    x = random.standard_normal((1, 256)).astype(np.float32)

    def converted(*optimizations):
        made = TFLiteConverter.experimental_from_jax([lambda x: jax.numpy.dot(x, weights)], [[("x", x)]])
        made.optimizations = list(optimizations)
        return made.convert()

    dense, data = converted(), converted(Optimize.EXPERIMENTAL_SPARSITY)
    assert len(data) < 0.3 * len(dense)
    assert any("sparsity" in t.extras for t in lithe.load(data).module.main.tensors)
    for got in (lithe.load(data)(x), run_official(lithe.load(data), {"x": x}, "serving_default")[0]):
        np.testing.assert_allclose(got, lithe.load(dense)(x), atol=1e-5)
    both = converted(
        Optimize.DEFAULT, Optimize.EXPERIMENTAL_SPARSITY
    )  # the official runtime takes no such int8 weights
    assert narrow_types(both) == ["int8"]
    assert len(both) < 0.5 * len(dense)
