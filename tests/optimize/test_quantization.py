"""Float models on integers, in Lithe and in the official runtime."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.conversion.builder import Conversion
from lithe.errors import InputError
from lithe.formats import tflite
from lithe.ir.graph import Module, Tensor
from lithe.ops import REGISTRY
from lithe.optimize.integers import as_weights, integer_form, stored_scale, weights_scale
from lithe.optimize.recipes import BYTES, WORDS
from lithe.types import DTYPES, FLOAT32, INT8, INT16, INT32, UINT8, TensorType
from tests.conversion.official import run_official
from tests.ops.cases import every_case

RANDOM = np.random.default_rng(0)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(build, shape=(1, 8, 8, 4)) -> Module:
    """A model of one input x; `build` gives its outputs by name."""
    conversion = Conversion("test")
    b = conversion.graph("main")
    x = b.input("x", shape, FLOAT32)
    made = build(b, x)
    outputs = {name: b.output(t, name) for name, t in made.items()}
    conversion.sign("serving_default", b, {"x": x}, outputs)
    return conversion.module()


def convolution(b, x, outputs=8, scale=1.0, bias=0.1, **attrs):
    weights = b.constant(floats(outputs, 3, 3, x.type.shape[3]) * np.float32(scale / 6), FLOAT32)
    return b("CONV_2D", x, weights, b.constant(floats(outputs) * np.float32(bias), FLOAT32), **attrs)


def kinds_of(made: lithe.Model):
    return Counter(n.op.name for n in made.module.main.nodes)


def agree(module, shape=(1, 8, 8, 4), least=25.0, **how):
    """Quantized on samples: near the float model in both runtimes, which differ by a step at most."""
    samples = [floats(*shape) for _ in range(20)]
    made = lithe.quantize(module, samples, **how)
    x = floats(*shape)
    wanted = lithe.Model(module)(x)
    got = made(x)
    official = run_official(made, {"x": x})
    wanted, got = ([*y.values()] if isinstance(y, dict) else [y] for y in (wanted, got))
    for want, ours, theirs in zip(wanted, got, official, strict=True):
        noise = ((want - ours) ** 2).sum()
        assert 10 * np.log10((want**2).sum() / max(noise, 1e-30)) > least
        step = max(t.type.quantization.scale[0] for t in made.module.main.tensors if len(_scales(t)) == 1)
        assert np.abs(ours - theirs).max() <= step * 1.001
    return made


def _scales(t):
    return () if t.type.quantization is None or t.is_constant else t.type.quantization.scale


def test_the_digits_stay_recognised(digits):
    images, labels, path = digits
    for recipe, ranges in (("int8", ""), ("int8", "mean_squared_error"), ("int8", "entropy"), ("int16x8", "")):
        made = lithe.quantize(path, (images[i : i + 1] for i in range(100)), recipe, ranges=ranges)
        right = [int(np.argmax(made(image[None]))) == label for image, label in zip(images, labels, strict=True)]
        assert np.mean(right) >= 0.99  # the float model: 358 of 359
        assert len(tflite.write(made.module)) < 0.45 * path.stat().st_size
        assert kinds_of(made) == {
            "QUANTIZE": 1, "CONV_2D": 2, "FULLY_CONNECTED": 1, "SOFTMAX": 1, "DEQUANTIZE": 1,
        }  # fmt: skip


def test_what_is_put_beside_far_larger_numbers_keeps_its_scale_for_others():
    def build(b, x):
        small, large = b("TANH", convolution(b, x, scale=0.01)), convolution(b, x, scale=30)
        tiny = b("MUL", small, b.constant(np.float32([0.01]), FLOAT32))
        return {"y": b("ADD", tiny, tiny), "z": b("CONCATENATION", tiny, large, axis=3)}

    made = agree(model(build))
    tiny = next(n for n in made.module.main.nodes if n.op.name == "MUL").outputs[0]
    joined = next(n for n in made.module.main.nodes if n.op.name == "CONCATENATION")
    assert tiny.type.quantization.scale[0] * 100 < joined.outputs[0].type.quantization.scale[0]
    assert {t.type.quantization for t in joined.inputs} == {joined.outputs[0].type.quantization}
    assert tiny not in joined.inputs


def test_what_boxes_are_chosen_by_stays_real_as_far_as_the_last_weights():
    def build(b, x):
        both = convolution(b, x, outputs=5)
        parts = [
            b("SLICE", both, b.constant(np.int32([0, 0, 0, k]), INT32), b.constant(np.int32([1, 8, 8, n]), INT32))
            for k, n in ((0, 4), (4, 1))
        ]
        boxes, scores = b.reshape(b("EXP", parts[0]), (64, 4)), b.reshape(b("LOGISTIC", parts[1]), (64,))
        limits = [b.constant(np.asarray(v, d.numpy), d) for v, d in ((4, INT32), (0.5, FLOAT32), (0.1, FLOAT32))]
        chosen, _ = b.several("NON_MAX_SUPPRESSION_V4", boxes, scores, *limits, dtypes=[INT32, INT32])
        return {"y": b("GATHER", boxes, chosen)}

    made = lithe.quantize(model(build), [floats(1, 8, 8, 4) for _ in range(20)])
    stored = [n.op.name for n in made.module.main.nodes if any(t.type.quantization for t in n.outputs)]
    assert "CONV_2D" in stored
    assert not {"EXP", "LOGISTIC"}.intersection(stored)


@pytest.fixture(scope="module")
def digits():
    from pathlib import Path

    data = Path(lithe.__file__).parent / "data"
    held_out = np.load(data / "digits_held_out.npz")
    images = (held_out["image"][..., None] / 16).astype(np.float32)
    return images, held_out["label"], data / "digits_float32.tflite"


def network(b, x):
    left = convolution(b, x, fused_activation_function="RELU6")
    right = b(
        "MAX_POOL_2D",
        convolution(b, x, scale=3),
        padding="SAME",
        filter_width=3,
        filter_height=3,
        stride_w=1,
        stride_h=1,
    )
    joined = b("CONCATENATION", left, right, axis=3)
    gate = b("LOGISTIC", b("MEAN", joined, b.constant(np.int32([1, 2])), keep_dims=True))
    return {"y": b("ADD", b("MUL", joined, gate), b.constant(floats(16), FLOAT32))}


@pytest.mark.parametrize(("recipe", "least"), [("int8", 25.0), ("int16x8", 40.0)])
def test_a_network_is_computed_on_integers(recipe, least):
    made = agree(model(network), recipe=recipe, least=least)
    reals = [n for n in made.module.main.nodes if any(t and t.type.dtype == FLOAT32 for t in n.inputs)]
    assert [n.op.name for n in reals] == ["QUANTIZE"]


def test_what_is_joined_has_one_scale():
    made = agree(model(network))
    (joined,) = [n for n in made.module.main.nodes if n.op.name == "CONCATENATION"]
    assert len({t.type.quantization for t in (*joined.inputs, *joined.outputs)}) == 1


def test_a_result_with_a_scale_of_its_own_is_quantized_anew_where_others_reach_further():
    made = agree(
        model(lambda b, x: {"y": b("CONCATENATION", b("TANH", x), b("MUL", x, b.constant(floats(4), FLOAT32)), axis=3)})
    )
    (tanh,) = [n for n in made.module.main.nodes if n.op.name == "TANH"]
    assert tanh.outputs[0].type.quantization.scale == (1 / 128,)
    assert kinds_of(made)["QUANTIZE"] == 2
    alone = agree(model(lambda b, x: {"y": b.reshape(b("TANH", x), (1, 256))}))
    assert kinds_of(alone)["QUANTIZE"] == 1


def test_operators_without_an_integer_form_stay_between():
    made = agree(model(lambda b, x: {"y": convolution(b, b("SIN", convolution(b, x)))}))
    assert [n.op.name for n in made.module.main.nodes] == [
        "QUANTIZE", "CONV_2D", "DEQUANTIZE", "SIN", "QUANTIZE", "CONV_2D", "DEQUANTIZE",
    ]  # fmt: skip


@pytest.mark.parametrize("ends", [("int8", "int8"), ("uint8", "uint8"), ("float32", "uint8")])
def test_inputs_and_outputs_may_be_integers(ends):
    module = model(network)
    samples = [floats(1, 8, 8, 4) for _ in range(10)]
    made = lithe.quantize(module, samples, inputs=ends[0], outputs=ends[1])
    x = samples[0]
    given = x if ends[0] == "float32" else made.inputs["x"].quantize(x)
    assert (made.inputs["x"].dtype, made.outputs["y"].dtype) == ends
    y = made.outputs["y"].dequantize(made(given))
    np.testing.assert_allclose(y, lithe.Model(module)(x), atol=0.3)
    np.testing.assert_allclose(made(given), run_official(made, {"x": given})[0], atol=1)
    assert list(made.signatures["serving_default"].outputs) == ["y"]
    assert [t.name for t in made.module.main.outputs] == ["y"]


def test_sixteen_bits_have_ends_of_sixteen():
    made = lithe.quantize(model(network), [floats(1, 8, 8, 4)], "int16x8", inputs="int16")
    assert made.inputs["x"].dtype == "int16"


def test_weights_that_are_integers_already_keep_theirs():
    module = model(lambda b, x: {"y": convolution(b, x)})
    (node,) = module.main.nodes
    weights = node.inputs[1]
    q = weights_scale(weights.data, 0, INT8)
    weights.data, weights.type = as_weights(weights.data, q, INT8), weights.type.__class__(INT8, weights.type.shape, q)
    made = agree(module)
    kept = next(n for n in made.module.main.nodes if n.op.name == "CONV_2D").inputs[1]
    np.testing.assert_array_equal(kept.data, weights.data)
    assert kept.type.quantization == q


def test_a_large_bias_widens_the_scale_of_its_weights():
    module = model(lambda b, x: {"y": convolution(b, x, scale=1e-9, bias=1.0)})
    made = agree(module)
    node = next(n for n in made.module.main.nodes if n.op.name == "CONV_2D")
    assert np.abs(node.inputs[2].data.astype(np.int64)).max() <= (1 << 30) * (1 + 1e-6)  # scales are float32


def test_samples_come_in_every_form():
    module = model(network)
    x = floats(1, 8, 8, 4)
    made = [lithe.quantize(module, [s]) for s in (x, (x,), [x], {"x": x})]
    assert len({tflite.write(m.module) for m in made}) == 1
    seen = []
    lithe.quantize(module, (x for _ in range(3)), progress=seen.append)
    assert seen == [1, 2, 3]


def nothing(b, x):
    return {"y": b("SIN", x)}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"samples": None}, "needs samples"),
        ({"samples": []}, "there are no samples"),
        ({"samples": [np.full((1, 8, 8, 4), np.nan, np.float32)]}, "sample 0 gives NaN in"),
        ({"samples": [np.full((1, 8, 8, 4), np.inf, np.float32)]}, "sample 0 gives infinity in"),
        ({"samples": [np.full((1, 8, 8, 4), 1e30, np.float32)] * 2, "build": lambda b, x: {"y": b("MUL", x, x)}},
         "sample 0 gives infinity in"),
        ({"samples": [(np.zeros((1, 8, 8, 4), np.float32),) * 2]}, "sample 0 has 2 arrays; the model takes 1: x"),
        ({"samples": [{"image": np.zeros((1, 8, 8, 4), np.float32)}]}, "sample 0 has image; the model takes x"),
        ({"samples": [np.zeros((1, 8, 8, 3), np.float32)]}, r"8, 8, 3"),
        ({"samples": [np.zeros((1, 8, 8, 4), np.float64)]}, "float64"),
        ({"recipe": "int7"}, "there is no recipe 'int7'"),
        ({"ranges": "median"}, "no ranges called 'median'"),
        ({"inputs": "int16"}, "inputs cannot be 'int16'"),
        ({"outputs": "int8", "recipe": "int16x8"}, "outputs cannot be 'int8' with the recipe 'int16x8'"),
        ({"inputs": "int8", "recipe": "dynamic"}, "inputs cannot be 'int8' with the recipe 'dynamic'"),
        ({"build": nothing, "recipe": "float16"}, "can be quantized with the recipe 'float16'"),
        ({"build": nothing, "recipe": "dynamic"}, "can be quantized with the recipe 'dynamic'"),
        ({"build": nothing}, "nothing in the model can be quantized"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_error(how, message):
    how = {"samples": [floats(1, 8, 8, 4)], **how}
    module = model(how.pop("build", network))
    before = tflite.write(module)
    with pytest.raises(InputError, match=message):
        lithe.quantize(module, **how)
    assert tflite.write(module) == before


# the facts that operators state


def test_scales_reach_the_ends_and_zero_exactly():
    for low, high in ((-1, 3), (0.5, 2), (-4, -1), (0, 0), (-1e-12, 1e-12)):
        for dtype in (INT8, UINT8, INT16):
            q = stored_scale(low, high, dtype)
            (scale,), (zero,) = q.scale, q.zero_point
            assert dtype.minimum <= zero <= dtype.maximum
            assert (dtype.minimum - zero) * scale <= min(low, 0) + scale / 2
            assert (dtype.maximum - zero) * scale >= max(high, 0) - scale / 2


def test_a_division_by_constants_is_a_product_and_others_stay_real():
    """A kernel on integers ends the run where a divisor is stored as zero."""

    def build(b, x):
        rows = b.reshape(b("EXP", convolution(b, x)), (1, 64, 8))
        return {"y": b("DIV", b.reshape(convolution(b, x), (1, 64, 8)), rows)}

    module = model(build)
    made = agree(module, least=15)
    assert kinds_of(made)["DIV"] == 1
    reals = {n.op.name for n in made.module.main.nodes if n.outputs[0].type.dtype == FLOAT32}
    assert reals - {"RESHAPE"} == {"DEQUANTIZE", "EXP", "DIV"}
    (division,) = [n for n in module.main.nodes if n.op.name == "DIV"]
    division.inputs[1] = Tensor("c", TensorType(FLOAT32, (8,)), np.float32([1, 2, 3, 4, 5, 6, 7, 8]))
    assert "DIV" not in kinds_of(agree(module))
    division.inputs[1].data[0] = 0
    assert integer_form(division, BYTES) is None


def test_a_layer_of_zeros_runs():
    """Official kernels do not run products whose scale is more than 256 times that of their sum."""

    def build(b, x):
        nothing = b("FULLY_CONNECTED", x, b.constant(np.zeros((8, 16), np.float32), FLOAT32))
        return {"y": b("ADD", nothing, b("FULLY_CONNECTED", x, b.constant(floats(8, 16), FLOAT32)))}

    agree(model(build, (4, 16)), (4, 16))


def test_results_with_a_scale_have_a_form_in_that_type():
    declared = [(op, name) for op in REGISTRY.by_name.values() for name in op.result_scales]
    assert {op.name for op, _ in declared} >= {"LOGISTIC", "TANH", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"}
    for op, name in declared:
        results = {words[0] for s in op.signatures for _, words in s.expanded()}
        assert f"{name}q" in results
        scale, zero = op.result_scales[name]
        assert 0 < scale < 1
        assert DTYPES[name].minimum <= zero <= DTYPES[name].maximum


def moves(case):
    """Whether a case puts real numbers elsewhere; a look-up may also make real numbers of integers."""
    reals = case.outputs and case.outputs[0].dtype == FLOAT32
    return case.operator.keeps_scale and reals and not any(t is not None and t.quantization for t in case.inputs)


MOVING = [c for c in every_case() if moves(c)]


def test_every_operator_that_keeps_scales_is_tested():
    assert {c.op for c in MOVING} == {op.name for op in REGISTRY.by_name.values() if op.keeps_scale}


@pytest.mark.parametrize("case", MOVING, ids=str)
def test_what_keeps_its_scale_gives_nothing_beyond_its_inputs(case):
    arrays = case.arrays()
    values = np.concatenate([a.ravel() for a in arrays if a is not None and a.dtype == np.float32] or [np.zeros(1)])
    (result, *_) = case.operator.evaluate(case.site(), *arrays)
    finite = result[np.isfinite(result)]
    values = values[np.isfinite(values)]
    if finite.size and values.size:
        assert finite.min() >= min(values.min(), 0) - 1e-6
        assert finite.max() <= max(values.max(), 0) + 1e-6


def test_operators_say_which_parts_their_operands_play():
    module = model(lambda b, x: {"y": convolution(b, x)})
    (node,) = module.main.nodes
    form = integer_form(node, BYTES)
    assert (form.inputs, form.outputs) == (("stored", "weights", "bias"), ("stored",))
    assert integer_form(node, WORDS) == replace(form, scheme=WORDS)
    node.inputs[2].type = node.inputs[2].type.__class__(INT32, (8,))
    assert integer_form(node, BYTES).inputs == ("stored", "weights", "other")
