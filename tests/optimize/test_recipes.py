"""Recipes: names, rules and files; and what weights alone become, in Lithe and in the official runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.errors import FileMissing, InputError
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops.op import REGISTRY
from lithe.optimize.integers import as_weights, weights_scale
from lithe.optimize.ranges import within_reach
from lithe.optimize.recipe_files import as_record
from lithe.optimize.recipes import BYTES, DYNAMIC, FLOAT, RECIPES, WORDS, Recipe, Rule, Scheme, recipe
from lithe.types import FLOAT16, FLOAT32, INT2, INT4, INT8, INT32, TensorType
from tests.conversion.official import run_official
from tests.optimize.test_quantization import floats, kinds_of, model


def dense(b, x, outputs=64, **attrs):
    return b("FULLY_CONNECTED", x, b.constant(floats(outputs, x.type.shape[-1]), FLOAT32), **attrs)


def convolution(b, x, outputs=32):
    return b(
        "CONV_2D", x, b.constant(floats(outputs, 3, 3, x.type.shape[3]), FLOAT32), b.constant(floats(outputs), FLOAT32)
    )


def depthwise(b, x):
    channels = x.type.shape[3]  # with a bias: the official runtime ends the process where there is none
    return b(
        "DEPTHWISE_CONV_2D", x, b.constant(floats(1, 3, 3, channels), FLOAT32), b.constant(floats(channels), FLOAT32)
    )


def network(b, x):
    """Every kind of weights: [1, 8, 8, 128] -> [1, 64]"""
    y = depthwise(b, convolution(b, depthwise(b, x), 128))
    return {"y": dense(b, b("MEAN", y, b.constant(np.int32([1, 2]))))}


SHAPE = (1, 8, 8, 128)


def lookup(operator: str) -> Module:
    """y = table[x], 3 rows of 100."""
    x, table = Tensor("x", TensorType(INT32, (3,))), Tensor("table", TensorType(FLOAT32, (100, 64)), floats(100, 64))
    y, op = Tensor("y", TensorType(FLOAT32, (3, 64))), REGISTRY.by_name[operator]
    node = Node(op, op.Attrs(), [x, table] if operator == "EMBEDDING_LOOKUP" else [table, x], [y])
    graph = Graph("main", [x], [y], [], [node])
    graph.renumber()
    return Module([graph], [Signature("serving_default", {"x": x}, {"y": y})])


def decibels(wanted, got) -> float:
    return float(10 * np.log10((wanted**2).sum() / max(((wanted - got) ** 2).sum(), 1e-30)))


def both(module: Module, x, how) -> tuple[lithe.Model, float]:
    """The smaller model, and how near to the float one it is; the official runtime gives what Lithe does."""
    made = lithe.quantize(module, recipe=how)
    wanted, ours, theirs = lithe.Model(module)(x), made(x), run_official(made, {"x": x})[0]
    assert abs(decibels(wanted, ours) - decibels(wanted, theirs)) < 1.0
    assert tflite.write(lithe.load(tflite.write(made.module)).module) == tflite.write(made.module)
    return made, decibels(wanted, ours)


def weights_of(made: lithe.Model, operator: str) -> Tensor:
    return next(n for n in made.module.main.nodes if n.op.name == operator).inputs[1]


# weights alone


@pytest.mark.parametrize(
    ("name", "least", "share"),
    [
        ("weights", 35, 0.28), ("weights_int4", 10, 0.16), ("weights_int2", 0, 0.10),
        ("weights_int8_block32", 35, 0.29), ("weights_int4_block32", 11, 0.17), ("weights_int2_block64", 0, 0.10),
        ("dynamic", 30, 0.28), ("dynamic_int4", 10, 0.16),
    ],
)  # fmt: skip
def test_weights_alone(name, least, share):
    module = model(network, SHAPE)
    made, near = both(module, floats(*SHAPE), name)
    assert near > least
    assert len(tflite.write(made.module)) < share * len(tflite.write(module))
    assert {t.type.dtype for t in made.module.main.tensors if t.data is None} - {FLOAT32} == set()


def test_fewer_bits_have_the_scale_of_least_error():
    module = model(lambda b, x: {"y": dense(b, x)}, (64, 256))
    x = floats(64, 256)
    (node,) = module.main.nodes
    weights = node.inputs[1].data
    for name, dtype in (("weights_int4", INT4), ("weights_int2", INT2)):
        plain = weights_scale(weights, 0, dtype)
        wide = as_weights(weights, plain, dtype) * np.float32(plain.scale)[:, None]
        _, near = both(module, x, name)
        assert near > decibels(x @ weights.T, x @ wide.T) + 0.5


def test_blocks_are_nearer_than_channels():
    module = model(lambda b, x: {"y": dense(b, x)}, (2, 256))
    weights = module.main.nodes[0].inputs[1].data
    weights[:, :32] *= 30  # one block of each row needs a scale of its own
    x = floats(2, 256) * np.where(np.arange(256) < 32, 1 / 30, 1).astype(np.float32)
    near = {name: both(module, x, name)[1] for name in ("weights_int4", "weights_int4_block32", "dynamic_int4_block32")}
    assert min(near["weights_int4_block32"], near["dynamic_int4_block32"]) > near["weights_int4"] + 6


def test_an_operator_that_takes_blocks_has_them_inside():
    module = model(lambda b, x: {"y": dense(b, x)}, (2, 256))
    made, _ = both(module, floats(2, 256), "dynamic_int4_block32")
    q = weights_of(made, "FULLY_CONNECTED").type.quantization
    assert (q.block, len(q.scale)) == (32, 64 * 8)
    assert kinds_of(made) == {"FULLY_CONNECTED": 1}
    alone, _ = both(module, floats(2, 256), "weights_int4_block32")
    assert kinds_of(alone) == {"DEQUANTIZE": 2, "MUL": 1, "RESHAPE": 1, "FULLY_CONNECTED": 1}


def test_what_cannot_follow_the_last_rule_follows_one_before():
    made, _ = both(model(network, SHAPE), floats(*SHAPE), "dynamic_int4_block64")
    dense_weights = weights_of(made, "FULLY_CONNECTED").type
    assert (dense_weights.dtype, dense_weights.quantization.block) == (INT4, 64)
    assert weights_of(made, "CONV_2D").type.dtype == INT4
    assert weights_of(made, "CONV_2D").type.quantization.block == 0
    assert weights_of(made, "DEPTHWISE_CONV_2D").type.dtype == INT8
    uneven = model(lambda b, x: {"y": dense(b, x)}, (2, 100))
    made, _ = both(uneven, floats(2, 100), "dynamic_int4_block32")
    assert weights_of(made, "FULLY_CONNECTED").type.quantization.block == 0


@pytest.mark.parametrize("operator", ["EMBEDDING_LOOKUP", "GATHER"])
@pytest.mark.parametrize(
    ("name", "least"), [("weights", 38), ("weights_int4", 15), ("weights_int2_block32", 2), ("dynamic", 36)]
)
def test_tables(operator, name, least):
    made, near = both(lookup(operator), np.int32([3, 99, 0]), name)
    assert near > least
    assert len(tflite.write(made.module)) < 0.4 * len(tflite.write(lookup(operator)))


def test_one_scale_for_all_is_written_for_each_channel():
    one = Recipe((Rule(replace(DYNAMIC, channels=False)),))
    module = model(lambda b, x: {"y": depthwise(b, x)}, SHAPE)
    made, near = both(module, floats(*SHAPE), one)
    scale = weights_of(made, "DEPTHWISE_CONV_2D").type.quantization.scale
    assert (len(scale), len(set(scale))) == (128, 1)
    assert near < both(module, floats(*SHAPE), "dynamic")[1]
    static = lithe.quantize(module, [floats(*SHAPE)], Recipe((Rule(replace(BYTES, channels=False)),)))
    assert len(set(weights_of(static, "DEPTHWISE_CONV_2D").type.quantization.scale)) == 1


def test_small_weights_stay_unless_a_recipe_wants_them():
    module = model(lambda b, x: {"y": dense(b, x, 4)}, (2, 16))
    with pytest.raises(InputError, match="nothing in the model can be quantized"):
        lithe.quantize(module, recipe="weights")
    made, _ = both(module, floats(2, 16), Recipe((Rule(replace(DYNAMIC, least=0)),)))
    assert weights_of(made, "FULLY_CONNECTED").type.dtype == INT8


@pytest.mark.parametrize("name", ["weights_int4", "dynamic", "dynamic_int4"])
def test_a_half_quantized_model_keeps_what_it_has(name):
    """Weights of int8 stay these, halves and floats become as few bits as are asked for."""
    module = model(lambda b, x: {"y": dense(b, dense(b, dense(b, x)))}, (2, 64))
    first, second, _ = module.main.nodes
    q = weights_scale(first.inputs[1].data, 0, INT8)
    stored = as_weights(first.inputs[1].data, q, INT8)
    first.inputs[1] = Tensor("bytes", TensorType(INT8, stored.shape, q), stored)
    halves = Tensor("halves", TensorType(FLOAT16, (64, 64)), second.inputs[1].data.astype(np.float16))
    second.inputs[1] = Tensor("whole", TensorType(FLOAT32, (64, 64)))
    module.main.nodes.insert(
        1, Node(REGISTRY.by_name["DEQUANTIZE"], REGISTRY.by_name["DEQUANTIZE"].Attrs(), [halves], [second.inputs[1]])
    )
    module.main.renumber()
    made, near = both(module, floats(2, 64), name)
    np.testing.assert_array_equal(weights_of(made, "FULLY_CONNECTED").data, stored)
    assert not any(t.type.dtype == FLOAT16 for t in made.module.main.tensors)
    assert near > 10


# rules


def test_mixed_recipes_follow_scopes_and_operators():
    def build(b, x):
        first = dense(b, x)
        return {"y": b("SOFTMAX", dense(b, first))}

    module = model(build, (2, 64))
    names = [n.outputs[0].name for n in module.main.nodes]
    samples = [floats(2, 64) for _ in range(5)]
    rules = (Rule(BYTES), Rule(FLOAT, operators=frozenset({"SOFTMAX"})), Rule(WORDS, scope=f"^{names[0]}$"))
    made = lithe.quantize(module, samples, Recipe(rules))
    kinds = [
        (n.op.name, str(n.outputs[0].type.dtype))
        for n in made.module.main.nodes
        if n.op.name in ("FULLY_CONNECTED", "SOFTMAX")
    ]
    assert kinds == [("FULLY_CONNECTED", "int16"), ("FULLY_CONNECTED", "int8"), ("SOFTMAX", "float32")]
    x = samples[0]
    np.testing.assert_allclose(made(x), run_official(made, {"x": x})[0], atol=0.02)


@pytest.mark.parametrize(("name", "least"), [("int8x4", 12.0), ("int16x4", 12.0)])
def test_integers_on_weights_of_four_bits(name, least):
    module = model(lambda b, x: {"y": dense(b, x)}, (2, 64))
    x = floats(2, 64)
    made = lithe.quantize(module, [x], name)
    assert weights_of(made, "FULLY_CONNECTED").type.dtype == INT4
    wanted = lithe.Model(module)(x)
    assert decibels(wanted, made(x)) > least
    np.testing.assert_allclose(made(x), run_official(made, {"x": x})[0], atol=0.3)


def test_numbers_that_stand_for_infinity_take_no_steps():
    """A mask before a softmax: the official runtime ends the process at a sum of such scales."""
    mask = np.where(np.arange(16) % 2, 0, -3.4e38).astype(np.float32)[None]
    module = model(lambda b, x: {"y": b("SOFTMAX", b("ADD", x, b.constant(mask, FLOAT32)))}, (1, 16))
    x = floats(1, 16)
    made = lithe.quantize(module, [floats(1, 16) for _ in range(10)])
    wanted = lithe.Model(module)(x)
    assert np.abs(made(x) - wanted).max() < 0.05
    assert np.abs(run_official(made, {"x": x})[0] - wanted).max() < 0.05


def test_reach_keeps_other_numbers():
    np.testing.assert_array_equal(within_reach(np.float32([1, 2])), np.float32([1, 2]))
    np.testing.assert_array_equal(within_reach(np.array([-100.0, 100, 1e9, -1e30])), [-100, 100, 300, -300])
    np.testing.assert_array_equal(within_reach(np.array([-1e9])), [-32])


# names and files


def test_every_name_says_what_it_does():
    for name in RECIPES:
        bits = name.split("int")[-1].split("_")[0] if "int" in name else ""
        scheme = recipe(name).rules[-1].scheme
        assert scheme.dynamic == name.startswith("dynamic")
        assert str(scheme.block or "") == (name.split("_block")[1] if "_block" in name else "")
        if name.startswith(("weights", "dynamic")):
            assert (scheme.values, str(scheme.weights)) == (None, f"int{bits or 8}")
        assert str(scheme.weights) in str(recipe(name))
    assert len(RECIPES) == 5 + 2 * 3 * 5


@pytest.mark.parametrize(
    ("theirs", "scheme"),
    [
        ("dynamic_wi8_afp32", replace(DYNAMIC, least=0)),
        ("dynamic_legacy_wi8_afp32", DYNAMIC),
        ("dynamic_wi4c_afp32", Scheme(weights=INT4, dynamic=True, least=0)),
        ("dynamic_wi4b32_afp32", Scheme(weights=INT4, dynamic=True, block=32, least=0)),
        ("weight_only_wi8_afp32", Scheme(weights=INT8, least=0)),
        ("weight_only_wi4_afp32", Scheme(weights=INT4, least=0)),
        ("static_wi8_ai8", BYTES),
        ("static_wi8_ai16", WORDS),
    ],
)
def test_names_of_ai_edge_quantizer(theirs, scheme):
    assert recipe(theirs).rules == (Rule(scheme),)


@pytest.mark.parametrize("name", [*RECIPES, "static_wi8_ai16"])
def test_a_recipe_is_saved_and_read(name, tmp_path):
    kept = recipe(name)
    kept.save(tmp_path / "kept.json")
    assert recipe(tmp_path / "kept.json") == kept
    assert recipe(str(tmp_path / "kept.json")) == kept
    assert recipe(json.loads((tmp_path / "kept.json").read_text())) == kept
    assert list(tmp_path.iterdir()) == [tmp_path / "kept.json"]


def test_what_has_its_default_is_left_out():
    rule = Rule(Scheme(INT8, INT8), "head", frozenset({"SOFTMAX", "ADD"}))
    assert as_record(Recipe((rule, Rule(FLOAT)), "entropy")) == {
        "ranges": "entropy",
        "rules": [{"scope": "head", "operators": ["ADD", "SOFTMAX"], "values": "int8", "weights": "int8"}, {}],
    }


def foreign(regex=".*", operation="*", algorithm="min_max_uniform_quantize", values=0, precision="INTEGER", **weights):
    given = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT", **weights}
    config = {
        "weight_tensor_config": given,
        "compute_precision": precision,
        "explicit_dequantize": precision == "FLOAT",
    }
    if values:
        config["activation_tensor_config"] = {
            "num_bits": values,
            "symmetric": False,
            "granularity": "TENSORWISE",
            "dtype": "INT",
        }
    return {"regex": regex, "operation": operation, "algorithm_key": algorithm, "op_config": config}


def test_recipes_of_ai_edge_quantizer_are_read_as_they_are():
    least = 0
    read = recipe([
        foreign(),
        foreign("head|tail", "FULLY_CONNECTED", num_bits=4, granularity="BLOCKWISE_32"),
        foreign("stem", "CONV_2D_TRANSPOSE", values=8, granularity="TENSORWISE"),
        foreign("stem", "CONV_2D", "MSE", precision="FLOAT", num_bits=4),
        foreign("halves", algorithm="float_casting", precision="FLOAT", num_bits=16, dtype="FLOAT"),
        {"regex": "keep", "operation": "SOFTMAX", "algorithm_key": "no_quantize"},
        {"regex": ".*", "operation": "INPUT", "algorithm_key": "no_quantize"},
    ])  # fmt: skip
    assert read.rules == (
        Rule(Scheme(weights=INT8, dynamic=True, least=least)),
        Rule(FLOAT, operators=frozenset({"INPUT"})),
        Rule(Scheme(weights=INT4, dynamic=True, block=32, least=least), "head|tail", frozenset({"FULLY_CONNECTED"})),
        Rule(Scheme(INT8, INT8, channels=False), "stem", frozenset({"TRANSPOSE_CONV"})),
        Rule(Scheme(weights=INT4, least=least), "stem", frozenset({"CONV_2D"})),
        Rule(Scheme(weights=FLOAT16), "halves"),
        Rule(FLOAT, "keep", frozenset({"SOFTMAX"})),
    )


def test_their_rules_count_in_their_order():
    """A scope counts from where it came first, and a rule for all operators clears those of its scope before it."""
    cleared = recipe([foreign(operation="ADD"), foreign("a"), foreign(num_bits=4)])
    assert [(r.scope, str(r.scheme.weights), r.operators) for r in cleared.rules] == [
        ("", "int4", frozenset()),
        ("a", "int8", frozenset()),
    ]
    again = recipe([foreign("a", "ADD"), foreign("a", "ADD", num_bits=4)])
    assert [str(r.scheme.weights) for r in again.rules] == ["int4"]


def test_their_scopes_choose_operators_here():
    module = model(lambda b, x: {"y": dense(b, dense(b, x))}, (2, 64))
    first = module.main.nodes[0].outputs[0].name
    made = lithe.quantize(module, recipe=[foreign(), foreign(first, "FULLY_CONNECTED", num_bits=4)])
    assert [str(n.inputs[1].type.dtype) for n in made.module.main.nodes] == ["int4", "int8"]


def test_their_rounding_is_ours():
    module = model(lambda b, x: {"y": dense(b, x)}, (8, 64))
    given = [floats(8, 64) for _ in range(20)]

    def weights(rules, **how):
        made = lithe.quantize(module, given, rules, **how)
        return next(n for n in made.module.main.nodes if n.op.name == "FULLY_CONNECTED").inputs[1].data

    for values in (8, 0):
        rules, plain = [foreign(values=values, algorithm="GPTQ")], [foreign(values=values)]
        assert np.array_equal(weights(rules), weights(plain, repairs=["rounding"]))
        assert not np.array_equal(weights(rules), weights(plain))
        assert recipe(as_record(recipe(rules))) == recipe(rules)
        with pytest.raises(InputError, match="the recipe needs samples"):
            lithe.quantize(module, None, rules)


BAD = [
    ("dynamic_wi4c_hr_afp32", "there is no recipe"),
    ("static_wi8_afp32", "there is no recipe"),
    (5, "is no recipe"),
    ({}, "is no recipe"),
    ({"a": [foreign()], "b": []}, "holds recipes for 2 models: a, b"),
    ([5], "rule 0 is int"),
    ([{"regex": ".*"}], "has no 'operation'"),
    ([foreign(algorithm="OSCAR")], "there is no algorithm 'OSCAR'"),
    ([foreign(algorithm="GPTQ", granularity="TENSORWISE")], "GPTQ with one scale"),
    ({"rules": [{"weights": "int8", "rounding": True, "channels": False}]}, "'rounding' goes with a scale"),
    ({"rules": [{"weights": "int8", "rounding": 1}]}, "rounding is 1"),
    ([foreign(algorithm="DECOMPOSED_HADAMARD_ROTATION")], "there is no algorithm"),
    ([foreign(algorithm="float_casting", num_bits=8)], "float weights of 8 bits"),
    ([foreign(regex="(")], "no regular expression"),
    ([foreign(operation="CONV_3")], "there is no operator 'CONV_3'"),
    ([foreign(operation="OUTPUT", values=8)], "about the model's outputs"),
    ([foreign(num_bits=3)], "the type of weights is 'int3'"),
    ([foreign(values=4)], "the type of values is 'int4'"),
    ([foreign(granularity="BLOCKWISE_48")], "granularity is 'BLOCKWISE_48'"),
    ([foreign(block_size=48)], "block_size is 48"),
    ([foreign(values=8, granularity="BLOCKWISE_32")], "in blocks beside integer values"),
    ([foreign(precision="DOUBLE")], "compute_precision is 'DOUBLE'"),
    ([{**foreign(), "op_config": None}], "op_config is NoneType"),
    ({"rules": "int8"}, "rules are str, not a list"),
    ({"rules": [], "range": "entropy"}, "did you mean 'ranges'"),
    ({"rules": [], "ranges": "median"}, "ranges is 'median'"),
    ({"rules": [{"weigths": "int8"}]}, "did you mean 'weights'"),
    ({"rules": [{"weights": "int7"}]}, "the type of weights is 'int7'"),
    ({"rules": [{"values": "int8", "weights": "int8", "block": 32}]}, "integer values go with neither"),
    ({"rules": [{"weights": "int4", "block": 33}]}, "block is 33"),
    ({"rules": [{"weights": "int4", "dynamic": 1}]}, "dynamic is 1"),
    ({"rules": [{"weights": "int4", "least": -1}]}, "least is -1"),
    ({"rules": [{"operators": "ADD"}]}, "not a list of names"),
    ({"rules": [{"operators": ["SOFTMACKS"]}]}, "did you mean 'SOFTMAX'"),
    ({"rules": [{"scope": "["}]}, "no regular expression"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message for _, message in BAD])
def test_a_mistake_in_a_recipe_is_one_clear_error(given, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        recipe(given)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(FileMissing, match="cannot open the recipe"):
        recipe(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        recipe(tmp_path / "bad.json")
    (tmp_path / "deep.json").write_text("[" * 200000)
    with pytest.raises(InputError, match="is no"):
        recipe(tmp_path / "deep.json")
    with pytest.raises(InputError, match="cannot write"):
        recipe("int8").save(tmp_path / "none" / "kept.json")


def test_the_benchmark_runs_without_peers(tmp_path):
    from pathlib import Path

    script = Path(__file__).resolve().parents[2] / "benchmarks" / "quantization.py"
    pytest.importorskip("ai_edge_litert", reason="the official runtime is not installed")
    lithe.Model(model(lambda b, x: {"y": dense(b, x)}, (2, 64))).save(tmp_path / "dense.tflite")
    places = ["--corpus", str(tmp_path), "--json", str(tmp_path / "found.json")]
    command = [sys.executable, str(script), str(tmp_path / "dense.tflite"), "--without", "tensorflow", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "found.json").read_text())["models"]
    assert entry["int8"]["lithe"]["decibels"] > 30
    assert entry["dynamic"]["lithe"]["decibels"] > 30
