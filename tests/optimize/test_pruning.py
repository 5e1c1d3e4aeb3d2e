"""Pruning and clustering without training, in Lithe and in the official runtime."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import InputError
from lithe.formats import tflite
from lithe.ops.op import Site
from lithe.optimize import cluster, prune
from lithe.optimize.clustering import fitted
from lithe.optimize.clusters import clustered
from lithe.optimize.moments import Layer, layers
from lithe.optimize.pruning import least_squares
from lithe.optimize.storage import unfolded
from lithe.types import FLOAT32
from tests.conversion.official import official_runs, run_official
from tests.optimize.test_quantization import floats, model

DATA = Path(lithe.__file__).parent / "data"
FLOAT, BYTES = DATA / "digits_float32.tflite", DATA / "digits_int8.tflite"
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    held_out = np.load(DATA / "digits_held_out.npz")
    return (held_out["image"][..., None] / 16).astype(np.float32), held_out["label"]


def accuracy(made, digits):
    """In Lithe and in the official runtime, on digits that were no samples."""
    images, labels = digits[0][150:], digits[1][150:]
    official = official_runs(made)
    found = [(np.argmax(made(x[None])), np.argmax(official({"image": x[None]})[0])) for x in images]
    return tuple(np.mean(np.array(found) == labels[:, None], axis=0))


def network(b, x):
    """Every kind of layer: 3x3, grouped, pointwise, depthwise, dense."""
    y = b("CONV_2D", x, b.constant(floats(32, 3, 3, 8) / 8, FLOAT32), b.constant(floats(32), FLOAT32),
          fused_activation_function="RELU", stride_h=2)  # fmt: skip
    y = b("CONV_2D", y, b.constant(floats(32, 3, 3, 16) / 12, FLOAT32), b.constant(floats(32), FLOAT32))
    y = b("DEPTHWISE_CONV_2D", y, b.constant(floats(1, 7, 7, 32) / 3, FLOAT32), b.constant(floats(32), FLOAT32))
    y = b(
        "CONV_2D",
        y,
        b.constant(floats(48, 1, 1, 32) / 5, FLOAT32),
        b.constant(floats(48), FLOAT32),
        fused_activation_function="RELU6",
    )
    y = b("MEAN", y, b.constant(np.int32([1, 2])))
    return {"y": b("FULLY_CONNECTED", y, b.constant(floats(24, 48) / 7, FLOAT32), b.constant(floats(24), FLOAT32))}


SHAPE = (1, 6, 6, 8)


@pytest.fixture(scope="module")
def whole():
    return model(network, SHAPE)


def weights_of(made):
    return [layer.weights.data for layer in layers(unfolded(made.module), integers=True)]


def test_the_products_of_a_layer_are_what_it_computes(whole):
    module = unfolded(whole)
    for node in module.main.nodes:
        if node.op.factors is None:
            continue
        x, w = node.inputs[0], node.inputs[1]
        given = floats(*x.type.shape)
        site = Site.of(node)
        factors = node.op.factors(site, given)
        layer = Layer(node, w, factors.shape[0])
        sums = np.einsum("gri,goi->rgo", factors, layer.matrix).reshape(node.outputs[0].type.shape)
        plain = Site.of(node).__class__(type(node.attrs)(**{**vars(node.attrs), "fused_activation_function": "NONE"}),
                                        site.inputs, site.outputs, site.constants)  # fmt: skip
        wanted = node.op.evaluate(plain, given, w.data, None)[0]
        np.testing.assert_allclose(sums, wanted, atol=1e-4)
        np.testing.assert_array_equal(layer.store(layer.matrix).data, w.data)


@pytest.mark.parametrize(
    ("structure", "sparsity", "block"),
    [
        ("unstructured", 0.8, (1, 1)),
        ("1x4", 0.7, (1, 4)),
        ("1x16", 0.5, (1, 16)),
        ("4x1", 0.7, (4, 1)),
        ("2:4", 0.5, 0),
    ],
)
@pytest.mark.parametrize("with_samples", [True, False])
def test_zeros_lie_where_the_structure_says(whole, structure, sparsity, block, with_samples):
    samples = [floats(*SHAPE) for _ in range(20)] if with_samples else None
    made = prune(whole, sparsity, structure, samples)
    found = weights_of(made)
    assert len(found) == 4  # the depthwise filters stay
    for data in found:
        rows = data.reshape(len(data), -1)
        if not block:
            assert (np.count_nonzero(rows.reshape(-1, 4), axis=1) <= 2).all()
        elif rows.shape[0] % block[0] == 0 and rows.shape[1] % block[1] == 0:
            tiles = rows.reshape(rows.shape[0] // block[0], block[0], -1, block[1])
            filled = (tiles != 0).any(axis=(1, 3))
            assert np.mean(~filled) == pytest.approx(sparsity, abs=0.5 / filled.size + 1e-9)
    x = floats(*SHAPE)
    np.testing.assert_allclose(made(x), run_official(made, {"x": x})[0], atol=2e-4)


def test_what_is_left_makes_up_for_what_is_lost(whole):
    samples, x = [floats(*SHAPE) for _ in range(60)], floats(*SHAPE)
    reference = lithe.Model(whole)
    for how in (
        lambda s: prune(whole, 0.6, samples=s),
        lambda s: prune(whole, 0.5, "2:4", s),
        lambda s: prune(whole, 0.6, samples=s, together=True),
        lambda s: cluster(whole, 4, s),
    ):
        lost = [
            np.mean([(how_made(x) - reference(x)) ** 2 for x in samples[:10]]) for how_made in (how(samples), how(None))
        ]
        assert lost[0] < 0.5 * lost[1]
        assert np.isfinite(how(samples)(x)).all()


def test_ranked_together_some_layers_lose_more(whole):
    alone, together = prune(whole, 0.7), prune(whole, 0.7, together=True)
    shares = [[np.mean(w == 0) for w in weights_of(made)] for made in (alone, together)]
    assert max(shares[0]) - min(shares[0]) < 0.01 < max(shares[1]) - min(shares[1])
    zeros = [sum(np.count_nonzero(w == 0) for w in weights_of(made)) for made in (alone, together)]
    assert zeros[0] == pytest.approx(zeros[1], abs=4)


def test_the_least_squares_are_the_least():
    x, w = RANDOM.standard_normal((200, 30)), RANDOM.standard_normal((5, 30))
    x[:, 1:] += 0.7 * x[:, :-1]
    kept = RANDOM.random((5, 30)) < 0.4
    h = x.T @ x / 200
    found = w
    for _ in range(20):  # each goes on from the last
        found = least_squares(w, kept, h, found)
    for o in range(5):
        best = np.linalg.lstsq(x[:, kept[o]], x @ w[o], rcond=None)[0]
        np.testing.assert_allclose(found[o, kept[o]], best, atol=1e-3)
        assert not found[o, ~kept[o]].any()


def test_clusters_fitted_to_samples_lose_less_and_keep_zeros():
    x = RANDOM.standard_normal((300, 40))
    x[:, 1:] += 0.8 * x[:, :-1]
    w = RANDOM.standard_normal((1, 20, 40)) * (RANDOM.random((1, 20, 40)) < 0.7)
    first = clustered(w[0], 8, "kmeans++", rounds=20)
    found = fitted(w, first, (x.T @ x / 300)[None])
    assert len(np.unique(found)) <= 8
    np.testing.assert_array_equal(found == 0, w == 0)
    assert ((x @ (found - w)[0].T) ** 2).mean() < 0.9 * ((x @ (first.weights - w[0]).T) ** 2).mean()


def test_digits_stay_recognised_with_zeros(digits):
    samples = [x[None] for x in digits[0][:150]]
    plain = lithe.load(FLOAT)
    size = FLOAT.stat().st_size
    before = accuracy(plain, digits)
    for sparsity, structure, most, largest in (
        (0.7, "unstructured", 0.02, 0.5), (0.5, "2:4", 0.01, 0.72), (0.6, "1x4", 0.03, 0.55),
    ):  # fmt: skip
        made = prune(FLOAT, sparsity, structure, samples)
        after = accuracy(made, digits)
        assert after[0] == after[1]
        assert after[0] > before[0] - most
        assert len(tflite.write(made.module)) < largest * size
        assert min(np.mean(w == 0) for w in weights_of(made)) > sparsity - 0.01


@pytest.mark.parametrize("form", ["table", "rows"])
def test_digits_stay_recognised_with_few_numbers(digits, form):
    samples = [x[None] for x in digits[0][:150]]
    before = accuracy(lithe.load(FLOAT), digits)
    made = cluster(FLOAT, 16, samples, form=form)
    after = accuracy(made, digits)
    assert after[0] == after[1] > before[0] - 0.01
    assert all(len(np.unique(w)) <= 16 for w in weights_of(made))
    if form == "table":
        assert len(tflite.write(made.module)) <= 0.35 * FLOAT.stat().st_size


def test_a_pruned_model_is_clustered_and_quantized(digits):
    samples = [x[None] for x in digits[0][:150]]
    pruned = prune(FLOAT, 0.6, samples=samples)
    both = cluster(pruned, 16, samples)
    for before, after in zip(weights_of(pruned), weights_of(both), strict=True):
        np.testing.assert_array_equal(before == 0, after == 0)
    small = lithe.quantize(both, samples)
    assert min(np.mean(w == 0) for w in weights_of(small)) > 0.59
    assert accuracy(small, digits)[0] > 0.95
    assert lithe.optimize.compact(small).module.main.nodes  # what is left of it in a file


def test_weights_of_integers_are_pruned_by_magnitude(digits):
    made = prune(BYTES, 0.3)
    dense = weights_of(lithe.load(BYTES))
    for before, after in zip(dense, weights_of(made), strict=True):
        assert np.mean(after == 0) >= 0.3
        np.testing.assert_array_equal(after[after != 0], before[after != 0])
    x = (digits[0][:1] * 255 - 128).astype(np.int8)
    np.testing.assert_allclose(made(x).astype(int), run_official(made, {"image": x})[0].astype(int), atol=1)


def test_a_scope_names_layers(whole):
    name = next(n.outputs[0].name for n in whole.main.nodes if n.op.name == "FULLY_CONNECTED")
    shares = [np.mean(w == 0) for w in weights_of(prune(whole, 0.9, scope=f"^{re.escape(name)}$"))]
    assert [s > 0.8 for s in shares].count(True) == 1
    counts = [len(np.unique(w)) for w in weights_of(cluster(whole, 4, scope=f"^{re.escape(name)}$"))]
    assert sorted(counts)[:2] == [4, sorted(counts)[1]]
    assert sorted(counts)[1] > 100


def odd(value):
    x = floats(*SHAPE)
    x[0, 0, 0, 0] = value
    return x


GOOD = [floats(*SHAPE)]
BAD_CALLS = [
    (lambda m: prune(m, 0.0), "a sparsity of 0.0 is no share of weights"),
    (lambda m: prune(m, 1), "a sparsity of 1 is no share"),
    (lambda m: prune(m, True), "a sparsity of True is no share"),
    (lambda m: prune(m, "half"), "a sparsity of 'half' is no share"),
    (lambda m: prune(m, float("nan")), "a sparsity of nan is no share"),
    (lambda m: prune(m, 0.5, "diagonal"), "there is no structure 'diagonal'"),
    (lambda m: prune(m, 0.8, "2:4"), "2:4 leaves out 0.5 of the weights, and 0.8 is asked for"),
    (lambda m: prune(m, 0.5, samples=[]), "there are no samples"),
    (lambda m: prune(m, 0.5, samples=[odd(np.nan)]), "sample 0 gives NaN or infinity"),
    (lambda m: prune(m, 0.5, samples=[*GOOD, odd(np.inf)]), "sample 1 gives NaN or infinity"),
    (lambda m: prune(m, 0.5, samples=[floats(1, 2)]), "expects float32[1, 6, 6, 8], got float32[1, 2]"),
    (lambda m: prune(m, 0.5, samples=[(GOOD[0], GOOD[0])]), "sample 0 has 2 arrays; the model takes 1"),
    (lambda m: prune(m, 0.5, scope="nowhere"), "the model has no layer with 'nowhere' in the name"),
    (lambda m: prune(m, 0.5, scope="("), "'(' is no regular expression"),
    (lambda m: prune(None, 0.5), "a model is a lithe.Model, a file or bytes, this is NoneType"),
    (lambda m: cluster(m, 1), "there cannot be 1 clusters"),
    (lambda m: cluster(m, 1000), "there cannot be 1000 clusters"),
    (lambda m: cluster(m, 16, start="middle"), "clusters do not start 'middle'"),
    (lambda m: cluster(m, 16, form="zip"), "clusters cannot be stored as 'zip'"),
    (lambda m: cluster(BYTES, 16), "the model has no layer of 1024 weights"),
    (lambda m: cluster(m, 16, []), "there are no samples"),
]


@pytest.mark.parametrize(("call", "said"), BAD_CALLS, ids=[said for _, said in BAD_CALLS])
def test_bad_calls_get_one_error(whole, call, said):
    with pytest.raises(InputError, match=re.escape(said)):
        call(whole)


def test_other_names_are_no_part_of_the_room():
    with pytest.raises(AttributeError, match="has no attribute 'sparsify'"):
        _ = lithe.optimize.sparsify
    assert "compact" in dir(lithe.optimize)
