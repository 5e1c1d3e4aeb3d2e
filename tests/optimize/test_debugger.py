"""The drop-in for TensorFlow's QuantizationDebugger, on models that need no framework."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import lithe
from lithe import lite
from lithe.errors import InputError, StateError
from lithe.formats import tflite
from lithe.lite import OpsSet, Optimize, TFLiteConverter, experimental
from tests.optimize.test_quantization import convolution, floats, model

USUAL = ["num_elements", "stddev", "mean_error", "max_abs_error", "mean_squared_error"]


def build(b, x):
    first = convolution(b, x, fused_activation_function="RELU")
    return {"y": b("LOGISTIC", convolution(b, first))}


SAMPLES = [[floats(1, 8, 8, 4)] for _ in range(6)]
MODULE = model(build)


def data():
    yield from SAMPLES


def converter(**attributes):
    made = TFLiteConverter(tflite.write(MODULE))
    made.optimizations, made.representative_dataset = [Optimize.DEFAULT], data
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def debugger(given=None, **options):
    return experimental.QuantizationDebugger(
        converter=given or converter(),
        debug_dataset=data,
        debug_options=experimental.QuantizationDebugOptions(**options),
    )


def rows(made):
    file = io.StringIO()
    made.layer_statistics_dump(file)
    file.seek(0)
    return list(csv.DictReader(file))


def operators(content):
    return [n.op.name for n in lithe.load(content).module.main.nodes]


def test_names_are_those_of_tensorflow():
    assert lite.experimental.QuantizationDebugger is experimental.QuantizationDebugger
    assert lite.experimental.Analyzer is lite.Analyzer
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = experimental.Other


def test_each_quantized_layer_has_statistics():
    made = debugger()
    assert made.layer_statistics is None
    assert rows(made) == []
    made.run()
    found = rows(made)
    assert list(found[0]) == ["op_name", "tensor_idx", *USUAL, "scale", "zero_point", "tensor_name"]
    assert [row["op_name"] for row in found] == ["CONV_2D", "CONV_2D", "LOGISTIC"]
    assert [row["tensor_name"] for row in found] == [n.outputs[0].name for n in MODULE.main.nodes]
    for row in found:
        rmse = float(row["mean_squared_error"]) ** 0.5 / float(row["scale"])
        assert 0.1 < rmse < 1
    assert len(made.layer_statistics) == 3
    assert made.model_statistics is None


def test_differences_are_those_of_a_layer_alone():
    made = debugger()
    made.run()
    whole = lithe.compare(MODULE, made.get_nondebug_quantized_model(), [s[0] for s in SAMPLES])
    for row, layer in zip(rows(made), whole.layers[1:], strict=True):
        assert row["tensor_name"] == layer.name
        assert float(row["mean_squared_error"]) <= layer.rmse**2 * 1.05  # without what is inherited


def test_a_debug_model_computes_what_the_other_does():
    made = debugger()
    debug, plain = made.get_debug_quantized_model(), made.get_nondebug_quantized_model()
    assert operators(debug).count("NumericVerify") == 3
    assert "NumericVerify" not in operators(plain)
    x = SAMPLES[0][0]
    np.testing.assert_array_equal(lithe.load(debug)(x), lithe.load(plain)(x))
    again = experimental.QuantizationDebugger(quant_debug_model_content=debug, debug_dataset=data)
    again.run()
    made.run()
    assert again.layer_statistics == made.layer_statistics
    assert rows(again) == rows(made)


def test_models_come_from_files(tmp_path):
    made = debugger()
    (tmp_path / "debug.tflite").write_bytes(made.get_debug_quantized_model())
    (tmp_path / "float.tflite").write_bytes(tflite.write(MODULE))
    options = experimental.QuantizationDebugOptions(
        model_debug_metrics={"largest": lambda a, b: float(np.abs(a[0] - b[0]).max())}
    )
    again = experimental.QuantizationDebugger(
        str(tmp_path / "debug.tflite"),
        float_model_path=str(tmp_path / "float.tflite"),
        debug_dataset=data,
        debug_options=options,
    )
    again.run()
    assert 0 < again.model_statistics["largest"] < 0.1


def test_metrics_of_the_caller():
    def direct(real, stored, scale, zero):
        return float(np.abs(real - (stored.astype(np.int32) - zero) * np.float32(scale)).max())

    made = debugger(
        layer_debug_metrics={"l1": lambda d: np.abs(d).mean(), "stddev": lambda d: -1.0},
        layer_direct_compare_metrics={"direct": direct},
        model_debug_metrics={"outputs": lambda a, b: len(a) + len(b)},
    )
    made.run()
    assert made.model_statistics == {"outputs": 2}
    for row in rows(made):
        assert list(row)[2:-3] == [*USUAL, "l1", "direct"]
        assert float(row["direct"]) == pytest.approx(float(row["max_abs_error"]), rel=1e-4)
        assert 0 < float(row["l1"]) < float(row["max_abs_error"])
        assert float(row["stddev"]) == -1


def test_what_is_denied_stays_float():
    made = debugger(denylisted_ops=["LOGISTIC"])
    assert operators(made.get_nondebug_quantized_model()) == [
        "QUANTIZE",
        "CONV_2D",
        "CONV_2D",
        "DEQUANTIZE",
        "LOGISTIC",
    ]
    first = MODULE.main.nodes[0].outputs[0].name
    made.options = experimental.QuantizationDebugOptions(denylisted_nodes=[first])
    assert operators(made.get_nondebug_quantized_model())[0] == "CONV_2D"
    made.run()
    assert first not in [row["tensor_name"] for row in rows(made)]
    assert len(made.layer_statistics) == 2


@pytest.mark.parametrize(
    ("sets", "dtype"),
    [([OpsSet.TFLITE_BUILTINS], "int8"),
     ([OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8], "int16")],
)  # fmt: skip
def test_inputs_and_outputs_may_be_integers(sets, dtype):
    given = converter()
    given.target_spec.supported_ops = sets
    made = debugger(given, fully_quantize=True)
    plain = lithe.load(made.get_nondebug_quantized_model())
    assert {info.dtype for info in (*plain.inputs.values(), *plain.outputs.values())} == {dtype}
    made.run()
    assert [row["op_name"] for row in rows(made)] == ["CONV_2D", "CONV_2D", "LOGISTIC"]
    made.options = experimental.QuantizationDebugOptions(
        fully_quantize=True, model_debug_metrics={"largest": lambda a, b: float(np.abs(a[0] - b[0]).max())}
    )
    made.run()
    assert made.model_statistics["largest"] < 0.1
    assert given.optimizations == [Optimize.DEFAULT]


def of_content(content=None, **how):
    how = {"debug_dataset": data, **how}
    return experimental.QuantizationDebugger(quant_debug_model_content=content, **how)


def test_a_mistake_is_one_clear_error(tmp_path):
    debug = debugger().get_debug_quantized_model()
    plain = tflite.write(MODULE)
    metrics = experimental.QuantizationDebugOptions(model_debug_metrics={"m": lambda a, b: 0.0})
    for act, error, message in (
        (lambda: of_content(), InputError, "one of quant_debug_model_path and quant_debug_model_content"),
        (lambda: of_content(plain), InputError, "in debug mode"),
        (lambda: of_content(debug, debug_options=metrics), InputError, "one of float_model_path"),
        (lambda: of_content(debug, debug_dataset=None).run(), InputError, "there is no debug_dataset"),
        (lambda: of_content(debug, debug_dataset=SAMPLES).run(), InputError, "no callable debug_dataset"),
        (lambda: of_content(debug, debug_dataset=lambda: iter(())).run(), InputError, "gives no samples"),
        (lambda: of_content(debug, debug_dataset=lambda: [SAMPLES[0] * 2]).run(), InputError, r"provided \(2\)"),
        (lambda: of_content(debug, debug_dataset=lambda: [1]).run(), InputError, r"provided \(int\)"),
        (lambda: of_content(debug).get_nondebug_quantized_model(), StateError, "No converter found"),
        (lambda: of_content(debug).get_debug_quantized_model(), StateError, "No converter found"),
        (lambda: debugger(converter(optimizations=[])), InputError, "must set optimizations"),
        (lambda: debugger(converter(representative_dataset=None)), InputError, "must set representative_dataset"),
        (lambda: debugger(layer_debug_metrics={"a": np.std}, model_debug_metrics={"a": np.std}), InputError,
         "duplicate keys: a"),
        (lambda: debugger(denylisted_ops=["CONV_2D", "LOGISTIC"]), InputError, "nothing in the model"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            act()
