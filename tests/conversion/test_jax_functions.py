"""What JAX has beside layers: integers that wrap around, random numbers, look-ups, transforms, control flow; and Flax
and Equinox, whose models are functions."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import converted
from lithe.errors import UnsupportedOp
from tests.conversion.official import run_official

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp, lax = jax.numpy, jax.lax
RANDOM = np.random.default_rng(5)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


X, LINE = floats(3, 4), floats(6)
BITS, OTHER = (RANDOM.integers(0, 2**32, 8).astype(np.uint32) for _ in range(2))
SHIFTS, PLACES = np.array([0, 1, 7, 31, 32, 40, 2, 3], np.uint32), np.array([2, 0, 2], np.int32)
KEY = np.array([3, 7], np.uint32)


def of_key(function):
    return lambda key: function(jax.random.wrap_key_data(key))


def nested(x):
    def row(carry, v):
        total = lax.fori_loop(0, 3, lambda i, t: t * 0.5 + v * i, carry)
        return lax.switch(jnp.int32(total > 0), [lambda t: -t, lambda t: t * 2], total), total

    return lax.scan(row, 0.0, x, reverse=True)


CASES = {
    "unsigned sums": (lambda a, b: (a + b, a - b, a * b, -a), [BITS, OTHER]),
    "bits": (lambda a, b: (a & b, a | b, a ^ b, ~a), [BITS, OTHER]),
    "signed bits": (lambda a, b: (a & b, a | b), [BITS.view(np.int32), OTHER.view(np.int32)]),
    "shifts": (lambda a, n: (a << n, lax.shift_right_logical(a, n)), [BITS, SHIFTS]),
    "logical shift of signed": (lambda a: lax.shift_right_logical(a, jnp.int32(3)), [BITS.view(np.int32)]),
    "narrow": (lambda a, b: (a.astype("uint8") + b.astype("uint8"), a.astype("int8") * b.astype("int8")),
               [BITS, OTHER]),
    "unsigned order": (lambda a, b: (a < b, jnp.maximum(a, b), jnp.sort(a), a.sum()), [BITS, OTHER]),
    "unsigned remainder": (lambda a, b: (a % b, a // 4), [BITS, OTHER]),
    "counts of bits": (lambda a: (lax.population_count(a), lax.clz(a)), [BITS]),
    "same bits": (lambda x: lax.bitcast_convert_type(x, jnp.int32), [X]),
    "division by zero": (lambda a, b: (lax.div(a, b), lax.rem(a, b)), [np.int32([7, -7, 5]), np.int32([2, 2, 0])]),
    "uniform": (of_key(lambda k: jax.random.uniform(k, (5,))), [KEY]),
    "normal of a part": (of_key(lambda k: jax.random.normal(jax.random.split(k)[1], (5,))), [KEY]),
    "folded in": (of_key(lambda k: jax.random.key_data(jax.random.fold_in(k, 9))), [KEY]),
    "randint": (of_key(lambda k: jax.random.randint(k, (6,), 0, 10)), [KEY]),
    "along": (lambda x, i: jnp.take_along_axis(x, i[:, None], 1), [X, PLACES]),
    "windows": (lambda x, i: jax.vmap(lambda r, n: lax.dynamic_slice(r, (n,), (2,)))(x, i), [X, PLACES]),
    "put": (lambda x, i: (x.at[i].set(1.0), x.at[i].add(x), x.at[i].max(0.1), x.at[:, i].multiply(2.0)), [X, PLACES]),
    "put outside": (lambda x, i: x.at[i].set(1.0), [X, np.int32([9, 1, -1])]),
    "put one": (lambda x, i: (x.at[i[0]].set(1.0), x.at[1, 2].set(5.0)), [X, PLACES]),
    "where": (lambda x: jnp.nonzero(x > 0, size=4), [LINE]),
    "sorts": (lambda x, y: (jnp.sort(x, 0), jnp.lexsort((jnp.sign(y[0]), y[1])), jnp.argsort(-x)), [X, X + 1]),
    "diagonal": (lambda x: (jnp.diagonal(x), jnp.einsum("ii->i", x[:, :3])), [X]),
    "running": (lambda x: (jnp.cumprod(x, 1), lax.cummax(x, reverse=True), lax.cumlogsumexp(x)), [X]),
    "select": (lambda x: jnp.select([x > 1, x > 0], [x, 2 * x], -1.0), [X]),
    "integer product": (lambda a: a @ a.T, [np.arange(6, dtype=np.int32).reshape(2, 3)]),
    "inverse of erf": (lambda x: jax.scipy.special.erfinv(jnp.tanh(x)), [X]),
    "transforms": (lambda x: (jnp.abs(jnp.fft.fft(x)), jnp.fft.irfft(jnp.fft.rfft(x) * (1 + 2j)), jnp.fft.ifft(x).real),
                   [floats(2, 12)]),
    "spectrum": (lambda x: (jnp.abs(jnp.fft.rfft(x)), jnp.fft.rfft(x).imag, jnp.exp(1j * x).real), [floats(2, 16)]),
    "quotient": (lambda x: ((x + 1j) / (2 - x * 1j)).imag, [X]),
    "nested loops": (nested, [LINE]),
    "kept for later": (jax.checkpoint(lambda x: jnp.sin(x) * 2), [X]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_function_gives_the_same(name):
    function, arrays = CASES[name]
    given = {f"x{i}": a for i, a in enumerate(arrays)}
    model, _ = converted(function, inputs=given)
    expected = [np.asarray(e) for e in jax.tree_util.tree_leaves(function(*map(jnp.asarray, arrays)))]
    made = model(**given)
    here = [made[n] for n in model.outputs] if isinstance(made, dict) else [made]
    for results in (here, run_official(model, given)):
        for got, wanted in zip(results, expected, strict=True):
            assert np.asarray(got).dtype == wanted.dtype
            exact = wanted.dtype.kind in "iub"
            assert relative_difference(wanted, np.asarray(got)) <= (0 if exact else 1e-5)


@pytest.mark.parametrize(("function", "reason"), [
    (lambda x: jnp.linalg.inv(x), "no builtin"),
    (lambda x: lax.bitcast_convert_type(x, jnp.uint32) // lax.bitcast_convert_type(x, jnp.uint32), "div"),
    (lambda x: x.at[jnp.array([7])].get(mode="fill", fill_value=0.0), "a value for places outside"),
    (lambda x: jnp.fft.fft2(x).real, "several dimensions"),
    (lambda x: jax.random.uniform(jax.random.key(0, impl="rbg"), (3,)) + x[0, 0], "key<rbg>"),
])  # fmt: skip
def test_what_builtins_cannot_say_has_a_reason(function, reason):
    with pytest.raises(UnsupportedOp, match=reason):
        converted(function, inputs={"x": (3, 3)})


def agrees(function, shape):
    from lithe.conversion.door import agreement

    model, conversion = converted(function, inputs={"x": shape})
    assert agreement(model, conversion).worst <= 1e-5
    given = {"x": floats(*(2 if isinstance(n, str) else n for n in shape))}
    (wanted,) = conversion.entries[0].reference(given)
    assert relative_difference(np.asarray(wanted), run_official(model, given)[0]) <= 1e-5
    return [n.op.name for n in model.module.main.nodes]


def test_a_model_of_flax_nnx():
    nnx = pytest.importorskip("flax.nnx", reason="Flax is not installed")
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.BatchNorm(8, use_running_average=True, rngs=rngs), nnx.relu,
        lambda x: x.mean((1, 2)), nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 4, rngs=rngs), nnx.gelu,
    )  # fmt: skip
    assert agrees(lambda x: net(x), ("batch", 6, 6, 3))[0] == "CONV_2D"
    attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
    assert agrees(lambda x: attend(x), ("batch", 5, 8)).count("SOFTMAX") == 1


def test_a_model_of_flax_linen():
    linen = pytest.importorskip("flax.linen", reason="Flax is not installed")
    net = linen.Sequential([linen.Dense(8), linen.LayerNorm(), linen.gelu, linen.Dense(3)])
    weights = net.init(jax.random.key(0), jnp.zeros((1, 5)))
    assert "GELU" in agrees(lambda x: net.apply(weights, x), ("batch", 5))


def test_a_model_of_equinox():
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    keys = jax.random.split(jax.random.key(0), 3)
    net = eqx.nn.Sequential([
        eqx.nn.Conv2d(3, 4, 3, key=keys[0]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(64, 5, key=keys[1]), eqx.nn.LayerNorm(5),
    ])  # fmt: skip
    assert "FULLY_CONNECTED" in agrees(jax.vmap(net), ("batch", 3, 6, 6))
    assert "FULLY_CONNECTED" in agrees(jax.vmap(eqx.nn.MLP(5, 2, 8, 1, key=keys[2])), ("batch", 5))
