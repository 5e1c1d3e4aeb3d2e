"""Which tensors of two models are the same: with other names, fused activations, and scales that were moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.optimize.comparison.agreement import MOST
from lithe.optimize.comparison.matching import matched
from lithe.types import BOOL, FLOAT32
from tests.optimize.test_comparison import SAMPLES, SHAPE, of
from tests.optimize.test_quantization import convolution, model, network


def renamed(module):
    for i, t in enumerate(module.main.tensors):
        t.name = f"t{i}" if t not in module.main.inputs else t.name
    return module


def test_tensors_are_matched_without_names():
    module = model(network)
    made = lithe.quantize(module, SAMPLES)
    by_name = lithe.compare(module, made, SAMPLES[:3])
    by_structure = lithe.compare(module, renamed(made.module), SAMPLES[:3])
    assert [(x.name, x.snr, x.own) for x in by_structure.layers] == [(x.name, x.snr, x.own) for x in by_name.layers]


def test_names_that_were_given_anew_mislead_nobody():
    """As Keras numbers layers: the name of one is another's in the other model."""
    module = model(lambda b, x: {"y": convolution(b, convolution(b, convolution(b, x, 4), 4), 4)})
    other = module.copy()
    first, second, third = (n.outputs[0] for n in other.main.nodes)
    first.name, second.name, third.name = second.name, "elsewhere", first.name
    assert {layer.snr for layer in lithe.compare(module, other, SAMPLES[:1]).layers} == {MOST}


@pytest.mark.parametrize("named", [True, False])
def test_outputs_are_matched_by_name_or_in_order(named):
    module = model(lambda b, x: {"y": b("NEG", x), "z": b("EXP", x)})
    other = module.copy()
    for node in other.main.nodes:
        node.op = REGISTRY.by_name["ABS"]  # nothing is alike but the ends
    if named:
        other.main.outputs.reverse()
    else:
        renamed(other)
    found = matched(module.main, other.main, dict(zip(module.main.inputs, other.main.inputs, strict=True)))
    assert [found.pairs[t] for t in module.main.outputs] == other.main.outputs[:: -1 if named else 1]


def fused(b, x):
    return {"y": convolution(b, convolution(b, x, fused_activation_function="RELU"))}


def apart(module):
    """The model with the activation of its first convolution in a node of its own."""
    made = module.copy()
    first, last = made.main.nodes
    before = replace(first.outputs[0], name="before")
    relu = Node(REGISTRY.by_name["RELU"], NoAttrs(), [before], first.outputs)
    first.attrs, first.outputs = replace(first.attrs, fused_activation_function="NONE"), [before]
    made.main.nodes = [first, relu, last]
    made.main.renumber()
    return made


@pytest.mark.parametrize("turned", [False, True])
def test_an_activation_may_be_fused_in_one_of_them(turned):
    module = model(fused)
    sides = (module, renamed(apart(module))) if turned else (apart(module), renamed(module))
    found = lithe.compare(*sides, SAMPLES[:2])
    assert {layer.snr for layer in found.layers} == {MOST}
    assert {layer.own for layer in found.layers} == {MOST, None}
    assert found.unmatched == (() if turned else ("before",))
    assert len(found.layers) == 3
    assert ("not in b: before" in str(found)) != turned


def test_twins_are_told_apart_by_their_weights():
    def build(b, x):
        return {"y": b("SUB", convolution(b, x), convolution(b, x))}

    module = model(build)
    other = renamed(lithe.quantize(module, SAMPLES).module)
    place = [n.op.name for n in other.main.nodes].index("CONV_2D")
    nodes = other.main.nodes
    nodes[place], nodes[place + 1] = nodes[place + 1], nodes[place]
    found = matched(module.main, other.main, dict(zip(module.main.inputs, other.main.inputs, strict=True)))
    for x, y in zip(module.main.nodes[2].inputs, next(n for n in nodes if n.op.name == "SUB").inputs, strict=True):
        assert found.pairs[x] is y


def test_inputs_are_matched_by_name_or_in_order():
    def build(first, second):
        def made(b, x):
            z = b.input("z", SHAPE, FLOAT32)
            return {"y": b("SUB", *((x, z) if first == "x" else (z, x)))}

        module = model(made)
        z = next(t for t in module.main.inputs if t.name == "z")
        module.signatures[0].inputs["z"] = z
        return module

    module = build("x", "z")
    turned = build("x", "z")
    turned.main.inputs.reverse()
    turned.signatures[0].inputs = dict(reversed(turned.signatures[0].inputs.items()))
    x, z = SAMPLES[:2]
    for sample in ((x, z), {"z": z, "x": x}):
        assert of(lithe.compare(module, turned, [sample]), "y").snr == MOST


def test_truth_values_are_no_real_numbers():
    def build(b, x):
        return {"y": b("GREATER", x, b.constant(np.float32([0]), FLOAT32), dtype=BOOL), "z": b("NEG", x)}

    module = model(build)
    found = lithe.compare(module, module.copy(), SAMPLES[:1])
    assert [layer.name for layer in found.layers] == ["x", "z"]
    assert module.main.outputs[0].type.dtype == BOOL


# scales that were moved


def equalized(module, factors):
    """The model with the channels between its first and its last convolution scaled, which the last undoes."""
    made = module.copy()
    first, last = (n for n in made.main.nodes if n.op.name == "CONV_2D")
    for node, place, by in ((first, 1, factors[:, None, None, None]), (first, 2, factors), (last, 1, 1 / factors)):
        t = node.inputs[place]
        node.inputs[place] = Tensor(t.name, t.type, (t.data * by).astype(np.float32))
    made.main.renumber()
    return made


def between(b, x):
    deep = convolution(b, x, 16, fused_activation_function="RELU")
    pool = {"filter_width": 2, "filter_height": 2, "stride_w": 2, "stride_h": 2, "padding": "VALID"}
    return {"y": convolution(b, b("MAX_POOL_2D", deep, **pool))}


@pytest.mark.parametrize("recipe", ["int8", "float16"])
def test_scales_that_were_moved_between_layers_are_no_errors(recipe):
    module = model(between)
    other = equalized(module, np.geomspace(0.3, 30, 16))
    made = lithe.quantize(other, None if recipe == "float16" else SAMPLES, recipe)
    found, direct = lithe.compare(module, made, SAMPLES), lithe.compare(other, made, SAMPLES)
    assert found.first is None or recipe == "int8"
    for one, two in zip(found.layers, direct.layers, strict=True):
        assert (one.name, one.wrong) == (two.name, two.wrong)
        assert one.snr == pytest.approx(two.snr, abs=2.0)
        assert (one.own is None) == (two.own is None)
        assert one.own is None or one.own == pytest.approx(two.own, abs=2.0) or min(one.own, two.own) > 100
        assert [c.name for c in one.causes] == [c.name for c in two.causes]


def test_weights_that_are_others_are_no_factors():
    module = model(between)
    other = module.copy()
    first = other.main.nodes[0]
    first.inputs[1].data = -2 * first.inputs[1].data
    found = lithe.compare(module, other, SAMPLES)
    assert found.first.operator == "CONV_2D"
    assert found.first.snr < 0
    assert [c.name for c in found.first.causes] == ["other weights"]
