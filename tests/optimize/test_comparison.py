"""Where smaller models leave their float models, and why: models that are broken in a known way."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.errors import InputError, ModelError
from lithe.formats import tflite
from lithe.optimize.comparison.agreement import MOST, Agreement, real
from lithe.optimize.integers import as_weights, weights_scale
from lithe.types import FLOAT32, INT4, INT8, Quantization, TensorType
from tests.conversion.official import official_runs
from tests.optimize.test_quantization import convolution, floats, model, network

SHAPE = (1, 8, 8, 4)
SAMPLES = list(np.random.default_rng(1).standard_normal((12, *SHAPE)).astype(np.float32))


def conv(b, x, weights, bias=0.1, op="CONV_2D", **attrs):
    outputs = weights.shape[3 if op == "DEPTHWISE_CONV_2D" else 0]
    bias = floats(outputs) * np.float32(bias)
    return b(op, x, b.constant(weights.astype(np.float32), FLOAT32), b.constant(bias, FLOAT32), **attrs)


def outlier_channel(b, x):
    """One of sixteen channels is 400 times as large; what reads it makes up for that."""
    first, then = floats(16, 3, 3, 4) / 6, floats(8, 1, 1, 16) / 4
    first[5] *= 400
    then[..., 5] /= 400
    return {"y": conv(b, conv(b, x, first, fused_activation_function="RELU"), then)}


def depthwise_ranges(b, x):
    """The channels of a depthwise convolution have ranges from 1 to 1000."""
    sizes = np.logspace(0, 3, 16)
    deep = convolution(b, x, 16, fused_activation_function="RELU6")
    deep = conv(b, deep, floats(1, 3, 3, 16) * sizes, op="DEPTHWISE_CONV_2D", depth_multiplier=1)
    return {"y": conv(b, deep, floats(8, 1, 1, 16) / 4 / sizes)}


def two(b, x):
    return {"y": convolution(b, convolution(b, x))}


def of(found, name):
    return next(layer for layer in found.layers if layer.name == name)


def only(module, op):
    (node,) = [n for n in module.main.nodes if n.op.name == op]
    return node


# healthy models


@pytest.mark.parametrize("ends", [("float32", "float32"), ("uint8", "int8")])
def test_a_good_model_has_no_wrong_layer_and_its_figures_are_those_of_numpy(ends):
    module = model(network)
    made = lithe.quantize(module, SAMPLES, inputs=ends[0], outputs=ends[1])
    found = lithe.compare(module, made, SAMPLES)
    assert found.first is None
    assert "no layer goes wrong" in found.verdict
    assert (found.samples, found.unmatched) == (12, ())
    wanted, got = [], []
    for x in SAMPLES:
        wanted.append(lithe.Model(module)(x))
        y = made(x if ends[0] == "float32" else made.inputs["x"].quantize(x))
        got.append(y if ends[1] == "float32" else made.outputs["y"].dequantize(y))
    a, b = np.concatenate(wanted).astype(float), np.concatenate(got).astype(float)
    y = of(found, "y")
    assert y.is_output
    assert y.snr == pytest.approx(10 * np.log10((a**2).sum() / ((b - a) ** 2).sum()), abs=1e-3)
    assert y.rmse == pytest.approx(np.sqrt(((b - a) ** 2).mean()), rel=1e-4)
    assert y.cosine == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), abs=1e-6)
    assert y.largest == pytest.approx(np.abs(a - b).max(), rel=1e-4)
    step = next(t for t in made.module.main.tensors if t.name == y.partner).type.quantization.scale[0]
    assert y.rmse_steps == pytest.approx(y.rmse / step, rel=1e-6)
    of_samples = 10 * np.log10((a**2).sum((1, 2, 3)) / ((b - a) ** 2).sum((1, 2, 3)))
    assert y.quarter == pytest.approx(np.quantile(of_samples, 0.25), abs=0.5)
    assert 4 < y.bits <= 8
    assert y.saturated == 0


def test_a_model_is_exactly_itself():
    module = model(network)
    found = lithe.compare(module, module.copy(), SAMPLES[:2])
    assert {layer.snr for layer in found.layers} == {MOST}
    assert {layer.own for layer in found.layers} == {MOST, None}
    assert "exact" in str(found)


@pytest.mark.parametrize(("recipe", "least"), [("float16", 50), ("dynamic", 20), ("int16x8", 30)])
def test_every_recipe_can_be_compared(recipe, least):
    module = model(lambda b, x: {"y": convolution(b, convolution(b, x, 32), 64)})
    samples = SAMPLES if recipe == "int16x8" else None
    found = lithe.compare(module, lithe.quantize(module, samples, recipe), SAMPLES)
    assert found.first is None
    assert least < of(found, "y").snr < MOST
    assert (of(found, "y").saturated is None) == (recipe != "int16x8")


def test_what_the_next_operator_cuts_off_is_no_loss():
    module = model(lambda b, x: {"y": b("RELU", b("NEG", convolution(b, x, scale=100)))})
    found = lithe.compare(module, lithe.quantize(module, SAMPLES), SAMPLES)
    assert found.first is None
    assert [layer.low for layer in found.layers[2:]] == [0, 0]
    assert found.layers[2].saturated == 0


def test_what_a_layer_inherits_is_not_its_own():
    module = model(lambda b, x: {"y": b("RELU", b("NEG", convolution(b, x, scale=100)))})
    made = lithe.quantize(module, SAMPLES, repairs=())
    weights = only(made.module, "CONV_2D").inputs[1]
    weights.data = weights.data[::-1].copy()  # of other channels: all wrong from here on
    found = lithe.compare(module, made, SAMPLES)  # the values below 0 in front of the RELU are left out by both
    assert [(layer.wrong, layer.snr < 3) for layer in found.layers] == [
        (False, False), (True, True), (False, True), (False, True),
    ]  # fmt: skip
    assert found.first.operator == "CONV_2D"
    assert all(layer.own > 25 for layer in found.layers[2:])


# broken ones


def test_an_outlier_channel_is_named_though_the_whole_tensor_looks_well():
    module = model(outlier_channel)
    found = lithe.compare(module, lithe.quantize(module, SAMPLES, repairs=()), SAMPLES)
    first = found.first
    assert (first.operator, first.causes[0].name) == ("CONV_2D", "outlier channel")
    assert first.snr > 30
    assert first.own_quarter < 5
    assert "channel 5 reaches" in first.causes[0].evidence
    assert first.causes[0].tries[0] == 'repairs="equalization"'
    assert f"first to go wrong: '{first.name}' (CONV_2D)" in found.verdict
    assert of(found, "y").snr < 10


def test_depthwise_ranges_of_a_thousand_to_one_are_named():
    module = model(depthwise_ranges)
    found = lithe.compare(module, lithe.quantize(module, SAMPLES, repairs=()), SAMPLES, least=15)
    assert found.first.operator == "DEPTHWISE_CONV_2D"
    assert found.first.causes[0].name == "channels of very different ranges"
    assert of(found, "y").causes[0].name == "weights of very different sizes"
    repaired = lithe.compare(module, lithe.quantize(module, SAMPLES, "int16x8"), SAMPLES)
    assert of(repaired, "y").snr > of(found, "y").snr
    assert not of(repaired, found.first.name).wrong


@pytest.mark.parametrize("build", [outlier_channel, depthwise_ranges])
def test_what_is_named_is_what_repairs_it(build):
    module = model(build)
    broken, repaired = (
        lithe.compare(module, lithe.quantize(module, SAMPLES, repairs=repairs), SAMPLES)
        for repairs in ((), ["equalization"])
    )
    assert 'repairs="equalization"' in broken.first.causes[0].tries
    assert repaired.first is None
    assert of(repaired, "y").snr > of(broken, "y").snr + 10


def test_a_clipped_range_is_named():
    module = model(two)
    found = lithe.compare(module, lithe.quantize(module, [x / 20 for x in SAMPLES]), SAMPLES)
    assert (found.first.name, found.first.causes[0].name) == ("x", "clipped range")
    assert found.first.saturated > 0.5
    assert "calibrate with samples like these" in found.first.causes[0].tries


@pytest.mark.parametrize("times", [40, 4000])
def test_a_scale_for_values_that_do_not_come_is_named(times):
    module = model(two)
    found = lithe.compare(module, lithe.quantize(module, [*SAMPLES, SAMPLES[0] * times]), SAMPLES, least=15)
    assert "unlucky scale" in [c.name for c in found.first.causes]
    assert ("constant tensor" in [c.name for c in found.first.causes]) == (times == 4000)


def test_rare_large_values_are_named():
    rare = [x.copy() for x in SAMPLES]
    for x in rare:
        x[0, 0, 0, 0] = 1000  # one of 256, in one channel of four
    module = model(lambda b, x: {"y": b("LEAKY_RELU", x)})
    found = lithe.compare(module, lithe.quantize(module, rare), rare, least=20)
    assert "outlier channel" in [c.name for c in found.first.causes]
    once = [x.copy() for x in SAMPLES]
    once[0][0, 0, 0, 0] = 1000
    found = lithe.compare(module, lithe.quantize(module, once), once, least=20)
    (unlucky,) = [c for c in found.first.causes if c.name == "unlucky scale"]
    assert 'ranges="percentile"' in unlucky.tries


def weighed(made, module, dtype, *, one_scale):
    """The model with the weights of its convolution stored anew, and its bias in the scale that follows."""
    node = only(made.module, "CONV_2D")
    data = only(module, "CONV_2D").inputs[1].data
    if one_scale:
        rows = data.reshape(1, -1)
        flat = weights_scale(rows, 0, dtype)
        q, values = Quantization(flat.scale, (0,)), as_weights(rows, flat, dtype).reshape(data.shape)
    else:
        q = weights_scale(data, 0, dtype)
        values = as_weights(data, q, dtype)
    node.inputs[1].data, node.inputs[1].type = values, replace(node.inputs[1].type, dtype=dtype, quantization=q)
    bias, real_bias = node.inputs[2], only(module, "CONV_2D").inputs[2].data
    steps = np.float64(node.inputs[0].type.quantization.scale[0]) * np.asarray(q.scale)
    bias.data = np.rint(real_bias / steps).astype(bias.data.dtype)
    bias.type = replace(bias.type, quantization=Quantization(tuple(map(float, steps)), (0,) * len(steps)))
    return made


def test_weights_with_one_scale_for_very_different_channels_are_named():
    sizes = np.logspace(0, 3.5, 16).reshape(16, 1, 1, 1)
    module = model(lambda b, x: {"y": b("NEG", conv(b, x, floats(16, 3, 3, 4) * sizes))})
    made = lithe.quantize(module, SAMPLES, "int16x8")
    assert lithe.compare(module, made, SAMPLES).first is None
    found = lithe.compare(module, weighed(made, module, INT8, one_scale=True), SAMPLES)
    assert found.first.causes[0].name == "weights with one scale for very different channels"
    assert "with one scale: channel 1" in found.first.causes[0].evidence


def test_coarse_weights_are_named():
    module = model(lambda b, x: {"y": conv(b, x, floats(16, 3, 3, 4) ** 5)})
    found = lithe.compare(module, weighed(lithe.quantize(module, SAMPLES), module, INT4, one_scale=False), SAMPLES,
                          least=25)  # fmt: skip
    assert found.first.causes[0].name == "coarse weights"
    assert "in int4 have" in found.first.causes[0].evidence


def test_a_bias_that_does_not_fit_is_named():
    module = model(lambda b, x: {"y": convolution(b, x)})
    made = lithe.quantize(module, SAMPLES, outputs="int8")
    only(module, "CONV_2D").inputs[2].data = np.float32([0, 0, 0, 1e7, 0, 0, 0, 0])
    bias = only(made.module, "CONV_2D").inputs[2]
    bias.data = np.int32([0, 0, 0, 2**31 - 1, 0, 0, 0, 0])
    found = lithe.compare(module, made, SAMPLES, least=200)
    (cause,) = [c for c in found.layers[-1].causes if c.name == "bias overflow"]
    assert "[3] is 1e+07, and" in cause.evidence


def test_overflow_is_named():
    def build(factor):
        return model(lambda b, x: {"y": b("MUL", x, b.constant(np.float32([factor]), FLOAT32))})

    found = lithe.compare(build(2), build(3e38), [x * 9 for x in SAMPLES])
    assert found.first.causes[0].name == "overflow"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["first"] == "y"


def test_coarse_steps_are_named_and_what_cannot_be_explained_is_said():
    found = lithe.compare(model(two), lithe.quantize(model(two), SAMPLES), SAMPLES, least=90)
    assert "coarse steps" in [c.name for c in found.layers[0].causes]
    found = lithe.compare(*(model(lambda b, x, f=f: {"y": b("MUL", x, b.constant(np.float32([f]), FLOAT32))})
                            for f in (2, 3)), SAMPLES)  # fmt: skip
    assert [c.name for c in found.first.causes] == ["not known"]


def test_noise_that_adds_up_is_said_to():
    def build(b, x):
        for _ in range(6):
            x = convolution(b, x, 4)
        return {"y": x}

    module = model(build)
    made = lithe.quantize(module, SAMPLES)
    found = lithe.compare(module, made, SAMPLES)
    least = (of(found, "y").snr + min(layer.level for layer in found.layers)) / 2
    again = lithe.compare(module, made, SAMPLES, least=least)
    assert again.first is None
    assert "the noise adds up" in again.verdict
    assert again.worst(1)[0].causes


# data


def test_small_channels_count_where_weights_may_make_much_of_them():
    wanted = np.float64([[100, 1, 1, 1]] * 8)
    each, whole = Agreement(), Agreement(by_channel=False)
    for agreement in (each, whole):
        agreement.see(wanted, np.float64([[100, 0, 0, 0]] * 8))
    assert (each.snr, each.quarter) == (pytest.approx(35.2, abs=0.1), 0)
    assert whole.level == pytest.approx(35.2, abs=0.1)


def test_shares_that_are_next_to_nothing_are_not_missed():
    module = model(lambda b, x: {"y": b("MUL", b("SOFTMAX", x, beta=9.0), x)})
    found = lithe.compare(module, lithe.quantize(module, SAMPLES), SAMPLES)
    assert not found.layers[1].wrong


def test_numbers_of_stored_types():
    per_channel = TensorType(INT8, (2, 2), Quantization((1.0, 2.0), (0, 1), axis=1))
    np.testing.assert_array_equal(real(np.int8([[1, 2], [3, 4]]), per_channel), [[1, 2], [3, 6]])
    blocks = TensorType(INT8, (1, 4), Quantization((1.0, 10.0), (0, 0), block=2))
    np.testing.assert_array_equal(real(np.int8([[1, 2, 3, 4]]), blocks), [[1, 2, 30, 40]])


def test_agreement_of_changing_and_silent_channels():
    silent = Agreement()
    silent.see(np.zeros((1, 3)), np.zeros((1, 3)))
    assert (silent.snr, silent.cosine, silent.rmse) == (MOST, 1.0, 0.0)
    lost = Agreement()
    lost.see(np.zeros((1, 3)), np.ones((1, 3)))
    assert lost.snr == -MOST
    changing = Agreement()
    changing.see(np.ones((1, 3)), np.ones((1, 3)))
    changing.see(np.ones((1, 4)), np.full((1, 4), 2.0))
    assert changing.of_channels == pytest.approx(changing.snr)


def test_sequences_of_any_length_stream():
    module = model(lambda b, x: {"y": b("TANH", x)}, (1, 4))
    for t in module.main.tensors:
        t.shape_signature = (1, -1)
    made = lithe.quantize(module, [floats(1, 4)])
    seen = []
    found = lithe.compare(module, made, (floats(1, 3 + n) / 3 for n in range(5)), progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]
    assert (found.samples, of(found, "y").spreads[0].counts and sum(of(found, "y").spreads[0].counts)) == (5, 25)


def test_the_other_model_is_judged_by_its_own_runtime_too():
    """The figures hold for what the official runtime gives, not for what we compute alone."""
    module = model(network)
    made = lithe.quantize(module, SAMPLES)
    run = official_runs(made)
    theirs = np.concatenate([run({"x": x})[0] for x in SAMPLES]).astype(float)
    wanted = np.concatenate([lithe.Model(module)(x) for x in SAMPLES]).astype(float)
    snr = 10 * np.log10((wanted**2).sum() / ((theirs - wanted) ** 2).sum())
    assert of(lithe.compare(module, made, SAMPLES), "y").snr == pytest.approx(snr, abs=1.0)


# mistakes


def test_a_mistake_is_one_clear_error():
    module = model(two)
    made = lithe.quantize(module, SAMPLES, inputs="int8", outputs="int8")
    smaller = model(two, (1, 8, 8, 3))
    x = SAMPLES[0]
    nan = np.full(SHAPE, np.nan, np.float32)
    for a, b, samples, message in (
        (module, smaller, [x], "different inputs: x: float32"),
        (made, module, [x], "different inputs"),
        (made, made, [made.inputs["x"].quantize(x)], "no computed tensor of real numbers in common"),
        (module, made, [], "there are no samples"),
        (module, made, [nan], "sample 0 gives NaN or infinity in"),
        (module, made, [x, x.astype(np.float64)], "sample 1: .*float64"),
        (module, made, [x[..., :3]], r"8, 8, 3"),
        (module, made, [{"image": x}], "there is no input 'image'"),
        (module, made, [(x, x)], "takes 1 arrays, got 2"),
    ):
        with pytest.raises(InputError, match=message):
            lithe.compare(a, b, samples)
    data = tflite.write(module)
    with pytest.raises(ModelError):
        lithe.compare(data, data[: len(data) // 2], [x])


def test_outputs_of_other_shapes_are_not_compared():
    a = model(lambda b, x: {"y": b("NEG", x)})
    b = model(lambda b, x: {"y": b.reshape(b("ABS", x), (4, 64))})
    with pytest.raises(InputError, match="no computed tensor"):
        lithe.compare(a, b, SAMPLES[:1])
