"""Repairs of what quantization breaks: what they change in a float model, and what that gives."""

from __future__ import annotations

import numpy as np
import pytest

import lithe
from lithe.errors import InputError
from lithe.formats import tflite
from lithe.ops.op import Site
from lithe.optimize.calibration import calibrated
from lithe.optimize.ranges import MinMax
from lithe.optimize.recipes import BYTES, RECIPES, Recipe, Rule, Scheme
from lithe.optimize.repairs.bias import corrected, real_weights
from lithe.optimize.repairs.equalization import pairs
from lithe.optimize.repairs.folding import folded
from lithe.optimize.repairs.mending import REPAIRS, Mending
from lithe.optimize.repairs.narrowing import Reach, narrowed, samples_judged
from lithe.optimize.repairs.rounding import Products, rounded
from lithe.optimize.repairs.watching import Channels
from lithe.types import FLOAT32, INT4, INT8, INT32
from tests.conversion.official import run_official
from tests.optimize.test_quantization import model

SHAPE = (1, 8, 8, 4)


def draw(seed=0):
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)


def samples(count=20, seed=5):
    floats = draw(seed)
    return [floats(*SHAPE) for _ in range(count)]


def layer(b, x, weights, seed=1, op="CONV_2D", **attrs):
    outputs = weights.shape[3 if op == "DEPTHWISE_CONV_2D" else 0]
    bias = b.constant(draw(seed)(outputs) / 10, FLOAT32)
    return b(op, x, b.constant(weights.astype(np.float32), FLOAT32), bias, **attrs)


def unequal(b, x, activation="RELU", outlier=300.0):
    """A convolution with channels from 1 to 1/1000, a depthwise one, a maximum, one with an outlier, a dense layer."""
    floats, sizes = draw(), np.geomspace(1, 1e-3, 16)
    one = layer(b, x, floats(16, 3, 3, 4) / 6 * sizes[:, None, None, None], fused_activation_function=activation)
    two = layer(b, one, floats(1, 3, 3, 16) / 3 / sizes, 2, "DEPTHWISE_CONV_2D", depth_multiplier=1)
    pooled = b("MAX_POOL_2D", two, padding="VALID", filter_width=2, filter_height=2, stride_w=2, stride_h=2)
    third = floats(12, 1, 1, 16) / 4
    third[3] *= outlier
    three = layer(b, pooled, third, 3, fused_activation_function=activation)
    dense = floats(10, 4 * 4 * 12) / 14
    dense.reshape(10, 16, 12)[..., 3] /= outlier
    return {"y": layer(b, b.reshape(three, (1, 4 * 4 * 12)), dense, 4, "FULLY_CONNECTED")}


def noise(module, made, count=20):
    """Decibels between a model and a smaller one."""
    wanted, got = (np.concatenate([np.ravel(run(x)) for x in samples(count, 9)]) for run in (lithe.Model(module), made))
    return 10 * np.log10((wanted**2).sum() / max(((wanted - got) ** 2).sum(), 1e-30))


def mended(module, names, recipe=RECIPES["int8"]):
    """The float module after repairs, what they were done by, and the ranges."""
    mending = Mending(module.main, recipe.plan(module), names)
    found = calibrated(module, samples(), lambda t: mending.observed(t, MinMax()))
    return mending, *mending.mend(found)


# equalization


def test_channels_come_to_like_ranges_and_the_numbers_stay():
    module, before = model(unequal), model(unequal)
    mending, ranges, _ = mended(module, ["equalization"])
    assert [p.producer.op.name for p in mending.pairs] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert mending.pairs[0].factors is not None
    assert mending.pairs[2].factors is not None
    for x in samples(5, 9):
        want = lithe.Model(before)(x)
        np.testing.assert_allclose(lithe.Model(module)(x), want, atol=2e-6 * np.abs(want).max() * 100)
    for tensor in mending.channels:
        low, high = ranges[tensor]
        seen = mending.channels[tensor]
        assert low == pytest.approx(seen.low.min(), rel=1e-5)
        assert high == pytest.approx(seen.high.max(), rel=1e-5)
    first = mending.channels[mending.pairs[0].result].largest
    assert first.max() / first[first > 0].min() < 3  # from 1000
    again = calibrated(module, samples(), lambda t: MinMax())
    for t, (low, high) in again.items():
        assert ranges[t] == pytest.approx((low, high), rel=1e-4, abs=1e-5)
    assert [t.name for t in module.main.outputs] == [t.name for t in before.main.outputs]


def test_what_is_alike_stays_as_it_is_and_a_second_time_changes_nothing():
    module = model(unequal)
    mended(module, ["equalization"])
    once = tflite.write(module)
    mending, _, _ = mended(module, ["equalization"])
    assert all(p.factors is None for p in mending.pairs)
    assert tflite.write(module) == once


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
def test_a_broken_model_is_repaired_in_both_runtimes(recipe):
    module = model(unequal)
    plain = lithe.quantize(module, samples(), recipe, repairs=())
    made = lithe.quantize(module, samples(), recipe)
    assert noise(module, made) > noise(module, plain) + 10
    assert noise(module, made) > 30
    x = samples(1, 9)[0]
    step = made.module.main.tensors[made.module.main.tensors.index(made.module.main.outputs[0])]
    ours, official = made(x), run_official(made, {"x": x})[0]
    source = next(n for n in made.module.main.nodes if step in n.outputs).inputs[0]
    assert np.abs(ours - official).max() <= 4 * source.type.quantization.scale[0]
    assert list(made.inputs) == ["x"]
    assert list(made.outputs) == ["y"]


def test_channels_below_a_bound_stay_below_it():
    module, before = (model(lambda b, x: unequal(b, x, "RELU6", 1.0)) for _ in range(2))
    mending, ranges, _ = mended(module, ["equalization"])
    pair = mending.pairs[0]
    assert pair.factors is not None
    assert ranges[pair.result][1] <= 6
    for x in samples(20):
        want = lithe.Model(before)(x)
        np.testing.assert_allclose(lithe.Model(module)(x), want, atol=1e-4 * np.abs(want).max())


def test_channels_that_reach_a_bound_keep_their_scale():
    def clipped(b, x):
        sizes = np.append(3, np.geomspace(0.1, 1e-2, 15))
        weights = draw()(16, 3, 3, 4) * sizes[:, None, None, None]
        one = layer(b, x, weights, fused_activation_function="RELU6")
        return {"y": layer(b, one, draw(2)(1, 3, 3, 16), 2, "DEPTHWISE_CONV_2D", depth_multiplier=1)}

    module, before = model(clipped), model(clipped)
    mending, _, _ = mended(module, ["equalization"])
    (pair,) = mending.pairs
    assert pair.factors[0] == 1
    assert pair.factors[-1] > 10
    for x in samples(5):
        np.testing.assert_allclose(lithe.Model(module)(x), lithe.Model(before)(x), atol=1e-3)


@pytest.mark.parametrize(
    "between",
    [
        lambda b, t: b("SOFTMAX", t, beta=1.0),
        lambda b, t: b("ADD", t, t),
        lambda b, t: b("TRANSPOSE", t, b.constant(np.int32([0, 3, 1, 2]), _int32())),
        lambda b, t: b("MEAN", t, b.constant(np.int32([3]), _int32()), keep_dims=True),
    ],
)
def test_scales_do_not_move_through_what_is_not_the_same_for_all_scales(between):
    def build(b, x):
        first = layer(b, x, draw()(6, 1, 1, 4))
        middle = between(b, first)
        return {"y": layer(b, middle, draw(2)(4, 1, 1, middle.type.shape[3]), 2)}

    module = model(build)
    assert pairs(module.main, RECIPES["int8"].plan(module)) == []


def _int32():
    from lithe.types import INT32

    return INT32


@pytest.mark.parametrize(
    ("between", "places"),
    [
        (lambda b, t: b("RELU", t), 6),
        (lambda b, t: b("LEAKY_RELU", t, alpha=0.1), 6),
        (lambda b, t: b("MEAN", t, b.constant(np.int32([1, 2]), _int32()), keep_dims=True), 6),
        (lambda b, t: b("PAD", t, b.constant(np.int32([[0, 0], [1, 1], [1, 1], [0, 0]]), _int32())), 6),
        (lambda b, t: b("SPACE_TO_DEPTH", t, block_size=2), 24),
    ],
)
def test_scales_move_through_what_is_the_same_for_all_scales(between, places):
    def build(b, x):
        middle = between(b, layer(b, x, draw()(6, 1, 1, 4)))
        return {"y": layer(b, middle, draw(2)(4, 1, 1, middle.type.shape[3]), 2)}

    module = model(build)
    (pair,) = pairs(module.main, RECIPES["int8"].plan(module))
    last = list(pair.places.values())[-1]
    np.testing.assert_array_equal(last, np.arange(places) % 6)


def test_what_others_read_or_the_model_gives_out_is_left_alone():
    def build(b, x):
        first = layer(b, x, draw()(6, 1, 1, 4))
        return {"y": layer(b, first, draw(2)(4, 1, 1, 6), 2), "z": first}

    module = model(build)
    assert pairs(module.main, RECIPES["int8"].plan(module)) == []
    alone = model(unequal)
    assert pairs(alone.main, Recipe((Rule(Scheme()),)).plan(alone)) == []


def test_each_channel_is_seen_in_parts_as_in_one():
    arrays = [a * 3 - 1 for a in samples(4)]
    whole, first, later, nothing = Channels(), Channels(), Channels(), Channels()
    for n, a in enumerate(arrays):
        whole.see(a)
        (first if n < 2 else later).see(a)
    first.merge(later)
    first.merge(nothing)
    every = np.concatenate(arrays).reshape(-1, 4)
    for c in (whole, first):
        np.testing.assert_array_equal(c.low, every.min(0))
        np.testing.assert_array_equal(c.high, every.max(0))
        np.testing.assert_allclose(c.mean, every.mean(0), rtol=1e-5)
        np.testing.assert_allclose(c.mean_square, (every**2).mean(0), rtol=1e-5)


# narrowing


def test_a_narrow_range_leaves_out_what_is_rare():
    random = np.random.default_rng(0)
    seen = {name: (Reach(), Reach()) for name in ("flat", "tail", "far")}
    for name, halves in seen.items():
        for ends in halves:
            ends.see(random.uniform(-1, 3, (60, 60)) if name == "flat" else random.standard_normal((60, 60)))
    seen["far"][1].see(np.float32([40]))  # is worth its place
    for first, second in seen.values():
        first.merge(second)
    flat, tail, far = (first for first, _ in seen.values())
    assert flat.narrow() == flat.range()
    assert np.ptp(tail.range()) * 0.7 < np.ptp(tail.narrow()) < np.ptp(tail.range()) * 0.98
    assert far.narrow() == far.range()
    ranges = {"tail": tail.range()}
    assert narrowed({"tail": tail}, ranges) == {"tail": tail.narrow()}
    assert narrowed({"flat": flat, "far": far}, {"flat": flat.range(), "far": far.range()}) is None
    assert narrowed({"tail": tail}, dict.fromkeys(range(99), (0.0, 1.0)) | ranges) is None, "one of many"


def test_ranges_are_narrow_where_results_come_nearer_by_it():
    def summed(b, x):
        return {"y": b("ADD", x, x)}

    def largest(b, x):
        return {"y": b("REDUCE_MAX", x, b.constant(np.int32([1, 2]), INT32), keep_dims=True)}

    shape, floats = (1, 32, 32, 8), draw()
    given = [floats(*shape) for _ in range(64)]
    for build, gains in ((summed, True), (largest, False)):
        module = model(build, shape)
        plain, made = (lithe.quantize(module, given, repairs=r) for r in ((), ("narrowing",)))
        assert (bytes(plain) != bytes(made)) == gains
        assert bytes(lithe.quantize(module, iter(given), repairs=["narrowing"])) == bytes(made)
        assert bytes(lithe.quantize(module, given, ranges="min_max")) == bytes(plain)


def test_models_that_are_slow_or_say_too_little_are_not_judged():
    assert samples_judged(model(lambda b, x: {"y": b("ADD", x, x)}, (1, 64))) == 32
    assert samples_judged(model(lambda b, x: {"y": b("ADD", x, x)}, (1, 16))) == 0
    assert samples_judged(model(lambda b, x: {"y": b("ADD", x, x)}, (1, 1 << 13))) == 8
    assert samples_judged(model(lambda b, x: {"y": b("ADD", x, x)}, (1, 1 << 26))) == 0


# folding


def test_what_comes_next_bounds_a_range():
    def build(b, x):
        joined = b("CONCATENATION", x, x, axis=3)
        return {"y": b("RELU6", joined), "z": b("RELU", b("NEG", x)), "w": b("NEG", joined)}

    module = model(build)
    (joined,) = module.main.nodes[0].outputs
    negated = next(n for n in module.main.nodes if n.op.name == "NEG" and n.inputs[0] is not joined).outputs[0]
    ranges = {joined: (-3.0, 9.0), negated: (-3.0, 9.0)}
    plan = RECIPES["int8"].plan(module)
    assert folded(module.main, ranges, plan) == {negated: (0.0, 9.0)}  # NEG reads the other one too
    module.main.nodes = [n for n in module.main.nodes if not (n.op.name == "NEG" and n.inputs[0] is joined)]
    assert folded(module.main, ranges, plan) == {joined: (0.0, 6.0), negated: (0.0, 9.0)}
    assert folded(module.main, {joined: (1.0, 2.0), negated: (-2.0, -1.0)}, plan) == {negated: (0.0, 0.0)}


def test_a_range_ends_where_results_no_longer_change():
    def build(b, x):
        sums = b("ADD", x, x)
        return {"y": b("LOGISTIC", b("RESHAPE", sums, b.constant(np.int32([256]), INT32))), "z": b("NEG", x)}

    module = model(build)
    (sums,), plan = module.main.nodes[0].outputs, RECIPES["int8"].plan(module)

    def found(low, high, by=plan):
        return folded(module.main, {sums: (low, high)}, by).get(sums, (low, high))

    assert found(-50.0, 40.0) == pytest.approx((-7, 7), abs=0.1)
    assert found(-1.0, 1.0) == pytest.approx((-1, 1), abs=0.01)
    assert found(30.0, 40.0) == (30.0, 40.0)  # one integer, whichever range
    assert found(-50.0, 40.0, Recipe((Rule(Scheme()),)).plan(module)) == (-50.0, 40.0)


def test_a_range_ends_where_no_value_is_taken_from():
    def build(b, x):
        begin, size, flat = (b.constant(np.int32(v), INT32) for v in ([0] * 4, SHAPE, [256]))
        return {"y": b("RESHAPE", b("SLICE", b("ADD", x, x), begin, size), flat)}

    module = model(build)
    added, taken = (n.outputs[0] for n in module.main.nodes[:2])
    given = {added: (-9.0, 9.0), taken: (-3.0, 4.0)}
    assert folded(module.main, given, RECIPES["int8"].plan(module)) == {added: (-3.0, 4.0)}


def test_a_folded_range_has_finer_steps():
    def build(b, x):
        large = b("MUL", x, b.constant(np.float32([30] * 4), FLOAT32))
        return {"y": b("RELU6", b("CONCATENATION", x, large, axis=3))}

    module = model(build)
    plain, made = (lithe.quantize(module, samples(), repairs=r) for r in ((), ("folding",)))
    assert noise(module, made) > noise(module, plain) + 4


# bias


def test_the_mean_of_each_channel_stays():
    def build(b, x):
        return {"y": layer(b, b("ABS", x), draw()(16, 1, 1, 4), fused_activation_function="NONE")}

    module = model(build)
    plain, made = (lithe.quantize(module, samples(), repairs=r) for r in ((), ("bias",)))
    given = samples()

    def means(run):
        return np.mean([run(x) for x in given], axis=(0, 1, 2, 3))

    wanted = means(lithe.Model(module))
    assert np.abs(means(made) - wanted).max() < 0.4 * np.abs(means(plain) - wanted).max()


def test_what_stays_real_keeps_its_bias():
    """Weights of few elements are not narrowed, and the sine has no integers."""

    def build(b, x):
        wide = layer(b, b.reshape(b("RELU", x), (64, 4)), draw()(256, 4), op="FULLY_CONNECTED")
        return {
            "y": layer(b, layer(b, wide, draw(2)(32, 256), 2, "FULLY_CONNECTED"), draw(3)(4, 32), 3, "FULLY_CONNECTED")
        }

    module = model(build)
    for recipe in ("dynamic_int4", "weights_int4"):
        made = lithe.quantize(module, samples(), recipe)
        layers = [n for n in made.module.main.nodes if n.op.name == "FULLY_CONNECTED"]
        before = [n for n in module.main.nodes if n.op.name == "FULLY_CONNECTED"]
        same = [bool((a.inputs[2].data == b.inputs[2].data).all()) for a, b in zip(layers, before, strict=True)]
        assert same == [True, False, True]


def test_a_bias_makes_up_for_its_weights():
    module = model(lambda b, x: {"y": layer(b, x, draw()(8, 3, 3, 4))})
    (node,) = module.main.nodes
    mean, stored = np.float64([1, -2, 0.5, 0]), rounded(node, BYTES, np.tile(np.eye(36), (1, 1, 1)))
    weights, bias = node.inputs[1].data, node.inputs[2].data
    x = np.broadcast_to(np.tile(mean, 9), (1, 36))
    shift = (real_weights(stored) - weights).reshape(8, 36) @ x[0]
    made = corrected(node, BYTES, mean, node.inputs[1], stored)
    np.testing.assert_allclose(made.data, bias - shift, atol=1e-6)
    usual = np.sqrt((shift**2).mean() * 12 * node.outputs[0].type.size / 8)  # the step whose rounding adds as much
    assert corrected(node, BYTES, mean, node.inputs[1], stored, usual * 0.99) is not None
    assert corrected(node, BYTES, mean, node.inputs[1], stored, usual * 1.01) is None


# rounding


@pytest.mark.parametrize(("alike", "is_better"), [(True, True), (False, False)])
def test_eight_bits_are_rounded_by_sums_where_that_pays(alike, is_better):
    """Neighbours that go together are what a depthwise filter's rounding can make use of."""

    def build(b, x):
        return {"y": layer(b, x, draw()(1, 3, 3, 4), op="DEPTHWISE_CONV_2D", depth_multiplier=1, padding="SAME")}

    def smooth(x):
        return sum(np.roll(x, (i, k), (1, 2)) for i in range(4) for k in range(4)) + np.float32(40)

    module = model(build, (1, 24, 24, 4))
    floats = draw(8)
    given = [floats(1, 24, 24, 4) for _ in range(12)]
    given = [smooth(x) for x in given] if alike else given
    mending = Mending(module.main, RECIPES["int8"].plan(module))
    found = calibrated(module, given, lambda t: mending.observed(t, MinMax()))
    _, made = mending.mend(found)
    assert bool(made) == is_better
    few = Mending(module.main, RECIPES["int8"].plan(module))
    _, made = few.mend(calibrated(module, given[:1], lambda t: few.observed(t, MinMax())))
    assert not made  # one sample says too little
    assert not Mending(module.main, RECIPES["dynamic"].plan(module)).wants_samples


@pytest.mark.parametrize(("bits", "block"), [(INT4, 0), (INT8, 0), (INT4, 32)])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_rounding_by_sums_loses_less_of_them(kind, bits, block):
    floats = draw(3)
    depth = 64
    mix = floats(depth, depth) / 8  # inputs go together
    x = np.maximum(floats(1, 12, 12, depth) @ mix, 0).astype(np.float32)

    def build(b, given):
        if kind == "FULLY_CONNECTED":
            return {"y": layer(b, given, draw()(8, depth), op=kind)}
        weights = draw()(1, 3, 3, depth) if kind == "DEPTHWISE_CONV_2D" else draw()(8, 3, 3, depth)
        return {"y": layer(b, given, weights, op=kind)}

    module = model(build, x.shape)
    (node,) = module.main.nodes
    products = Products(node)
    products.see(x)
    scheme = Scheme(weights=bits, block=block)
    made, nearest = (rounded(node, scheme, sums) for sums in (products.sums, _unrelated(products.sums)))
    for t in (made, nearest):
        assert t.type.dtype == bits
        assert np.abs(t.data.astype(int)).max() <= bits.maximum
        q = t.type.quantization
        if block and kind != "DEPTHWISE_CONV_2D":
            assert (q.block, len(q.scale)) == (block, node.inputs[1].type.size // block)
        else:
            assert (q.block, len(q.scale), q.axis) == (0, t.type.shape[node.op.weights_axis], node.op.weights_axis)
    wanted, *others = (_sums(node, x, w) for w in (node.inputs[1].data, real_weights(made), real_weights(nearest)))
    lost, usual = (((wanted - y) ** 2).sum() for y in others)
    assert lost < (0.92 if kind == "DEPTHWISE_CONV_2D" else 0.75) * usual


def _unrelated(sums):
    """With the same sizes of inputs that do not go together, weights are rounded to the nearest."""
    return np.stack([np.diag(np.diag(s)) for s in sums])


def _sums(node, x, weights):
    bare = [x, weights.astype(np.float32)]
    site = Site.of(node)
    (y,) = node.op.evaluate(site, *bare, np.zeros_like(node.inputs[2].data))
    return y.astype(np.float64)


def test_parts_of_the_samples_add_up():
    module = model(lambda b, x: {"y": layer(b, x, draw()(8, 3, 3, 4))})
    whole, first, later, nothing = (Products(module.main.nodes[0]) for _ in range(4))
    for n, x in enumerate(samples(4)):
        whole.see(x)
        (first if n < 2 else later).see(x)
    nothing.merge(first)
    nothing.merge(later)
    nothing.merge(Products(module.main.nodes[0]))
    np.testing.assert_allclose(nothing.sums, whole.sums, rtol=1e-5)


def test_weights_of_four_bits_are_rounded_by_default_where_there_are_samples():
    def build(b, x):
        flat = b.reshape(b("RELU", x), (64, 4))
        wide = layer(b, flat, draw()(128, 4), op="FULLY_CONNECTED", fused_activation_function="RELU")
        return {"y": layer(b, wide, draw(2)(32, 128) / 11, 2, "FULLY_CONNECTED")}

    module = model(build)
    for recipe in ("weights_int4_block32", "dynamic_int4", "int8x4"):
        with_samples = lithe.quantize(module, samples(), recipe)
        without = lithe.quantize(module, samples(), recipe, repairs=())
        assert noise(module, with_samples) > noise(module, without) + 1


def test_names_choose_repairs():
    module = model(unequal)
    made = {name: bytes(lithe.quantize(module, samples(), repairs=[name])) for name in REPAIRS}
    made |= {
        "none": bytes(lithe.quantize(module, samples(), repairs=())),
        "all": bytes(lithe.quantize(module, samples())),
    }
    assert bytes(lithe.quantize(module, samples(), repairs="bias")) == made["bias"]
    different = {made[name] for name in ("none", "equalization", "bias", "rounding", "all")}
    assert len(different) == 5
    for wrong in ("median", ["bias", "median"]):
        with pytest.raises(
            InputError, match=r"no repair 'median'[^|]*folding, equalization, bias, rounding; \(\) is none"
        ):
            lithe.quantize(module, samples(), repairs=wrong)
