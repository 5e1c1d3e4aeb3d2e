"""Functions of JAX: what they give as they are, as graphs here, and in the official runtime."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import agreement, convert, converted
from lithe.errors import InputError, UnsupportedOp
from tests.conversion.official import run_official

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp, lax = jax.numpy, jax.lax
RANDOM = np.random.default_rng(3)
TOLERANCE = 1e-5


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


W, B, KERNEL = floats(5, 7), floats(7), floats(3, 3, 4, 8)
TABLE = floats(11, 6)


def norm(x):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def attention(x):
    q, k, v = (x @ floats_of(i) for i in range(3))
    weights = jax.nn.softmax(jnp.einsum("btd,bsd->bts", q, k) / np.sqrt(4), axis=-1)
    return jnp.einsum("bts,bsd->btd", weights, v)


@functools.cache
def floats_of(seed):
    return np.random.default_rng(seed).standard_normal((5, 4)).astype(np.float32)


def convolve(x, **options):
    return lax.conv_general_dilated(x, KERNEL, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


def scanned(x, reverse=False):
    def step(carry, row):
        carry = jnp.tanh(carry * 0.5 + row)
        return carry, carry.sum()

    return lax.scan(step, jnp.zeros(5), x, reverse=reverse)


UNARY = {f.__name__: f for f in (
    jnp.abs, jnp.exp, jnp.tanh, jnp.sin, jnp.cos, jnp.sign, jnp.floor, jnp.ceil, jnp.square, jnp.sinh, jnp.cosh,
    jnp.tan, jnp.arctan, jnp.arcsinh, jnp.expm1,
)}  # fmt: skip
POSITIVE = {"log": jnp.log, "sqrt": jnp.sqrt, "rsqrt": lax.rsqrt, "log1p": jnp.log1p, "cbrt": jnp.cbrt}
ACTIVATIONS = {f.__name__: f for f in (
    jax.nn.relu, jax.nn.relu6, jax.nn.sigmoid, jax.nn.silu, jax.nn.softplus, jax.nn.soft_sign, jax.nn.elu, jax.nn.selu,
    jax.nn.celu, jax.nn.gelu, jax.nn.leaky_relu, jax.nn.hard_sigmoid, jax.nn.hard_swish, jax.nn.hard_tanh,
    jax.nn.log_sigmoid, jax.nn.mish, jax.nn.log_softmax, jax.nn.softmax, jax.nn.standardize, jax.nn.squareplus,
)}  # fmt: skip

CASES = {
    **{name: (f, [(3, 5)]) for name, f in UNARY.items()},
    **{name: (lambda x, f=f: f(jnp.abs(x) + 0.1), [(3, 5)]) for name, f in POSITIVE.items()},
    **{name: (f, [(3, 5)]) for name, f in ACTIVATIONS.items()},
    "erf": (jax.scipy.special.erf, [(3, 5)]),
    "binary": (lambda x, y: jnp.maximum(x, y) - jnp.minimum(x, y) * x / (jnp.abs(y) + 1) + x**3, [(3, 5), (5,)]),
    "power": (lambda x: jnp.power(jnp.abs(x), 1.7) + x**-2, [(3, 5)]),
    "remainder": (lambda x, y: lax.rem(x, jnp.abs(y) + 0.5), [(3, 5), (3, 5)]),
    "round": (lambda x: jnp.round(x * 3), [(3, 5)]),
    "clamp": (lambda x: jnp.clip(x, -0.5, 0.7), [(3, 5)]),
    "compare": (lambda x, y: jnp.where((x > y) & ~(x <= 0) | (y == x), x, y), [(3, 5), (5,)]),
    "dense": (lambda x: jax.nn.relu(x @ W + B), [("batch", 5)]),
    "dense of many axes": (lambda x: x @ W + B, [("batch", 3, 5)]),
    "product": (lambda x, y: x @ y, [(2, 3, 4), (2, 4, 5)]),
    "product of the turned": (lambda x, y: x @ y.swapaxes(1, 2), [(2, 3, 4), (2, 5, 4)]),
    "outer": (jnp.outer, [(3,), (4,)]),
    "dot": (jnp.dot, [(3,), (3,)]),
    "einsum": (lambda x, y: jnp.einsum("abcd,becd->abe", x, y), [(2, 3, 4, 5), (3, 6, 4, 5)]),
    "norm": (norm, [("batch", 4, 5)]),
    "attention": (attention, [("batch", 6, 5)]),
    "convolution": (lambda x: convolve(x, window_strides=(2, 1), padding="SAME"), [("batch", 9, 8, 4)]),
    "convolution, explicit padding": (
        lambda x: convolve(x, window_strides=(1, 2), padding=((2, 1), (0, 3)), rhs_dilation=(2, 1)), [(1, 9, 8, 4)]),
    "less than nothing padded": (
        lambda x: lax.pad(x, 0.0, ((0, 0, 0), (-1, 1, 0), (0, -2, 0), (0, 0, 1))), [(1, 9, 8, 4)]),
    "groups": (lambda x: lax.conv_general_dilated(
        x, KERNEL[:, :, :2], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2),
        [(1, 9, 8, 4)]),
    "depthwise": (lambda x: lax.conv_general_dilated(
        x, KERNEL[:, :, :1], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4),
        [(1, 9, 8, 4)]),
    "channels first": (lambda x: lax.conv(x, KERNEL.transpose(3, 2, 0, 1), (1, 1), "SAME"), [(1, 4, 9, 8)]),
    "transposed convolution": (lambda x: lax.conv_transpose(x, KERNEL, (2, 2), "SAME"), [(1, 5, 6, 4)]),
    "transposed convolution, valid": (lambda x: lax.conv_transpose(x, KERNEL, (3, 2), "VALID"), [(1, 5, 6, 4)]),
    "one dimension": (lambda x: lax.conv_general_dilated(
        x, KERNEL[0], (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")), [("batch", 9, 4)]),
    "three dimensions": (lambda x: lax.conv_general_dilated(
        x, KERNEL[None], (1, 2, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")), [(1, 3, 9, 8, 4)]),
    "pooling": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), "SAME"), [(2, 9, 8, 4)]),
    "mean pooling": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "VALID") / 9,
                     [("batch", 9, 8, 4)]),
    "mean pooling, padding left out": (lambda x: lax.reduce_window(
        x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME") / lax.reduce_window(
        jnp.ones_like(x), 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"), [("batch", 9, 8, 4)]),
    "reductions": (lambda x: (x.sum(1), x.max(0), x.min((0, 2)), jnp.prod(x, 1), x.mean(), x.var(1)), [(3, 4, 5)]),
    "places": (lambda x: (x.argmax(1), x.argmin(-1)), [(3, 4, 5)]),
    "truth": (lambda x: ((x > 0).all(1), (x > 0).any()), [(3, 4)]),
    "cumsum": (lambda x: (jnp.cumsum(x, 1), lax.cumsum(x, reverse=True)), [(3, 4)]),
    "sort": (lambda x: jnp.sort(x, -1), [(3, 4)]),
    "top": (lambda x: lax.top_k(x, 2), [(3, 4)]),
    "arrange": (lambda x: jnp.flip(x.transpose(2, 0, 1).reshape(5, 12)[1:4, ::2], (0, 1)), [(3, 4, 5)]),
    "pad": (lambda x: jnp.pad(x, ((1, 2), (0, 3)), constant_values=2.0), [(3, 4)]),
    "join": (lambda x, y: jnp.split(jnp.concatenate([x, y], 1), [2, 5], 1), [(3, 4), (3, 4)]),
    "stack": (lambda x, y: jnp.stack([x, y], 1), [(3, 4), (3, 4)]),
    "repeat": (lambda x: jnp.tile(x, (2, 3)) + jnp.arange(12.0), [(3, 4)]),
    "roll": (lambda x: jnp.roll(x, 2, 1), [(3, 4)]),
    "diagonal mask": (lambda x: jnp.where(jnp.tril(jnp.ones((4, 4))) > 0, x, -1e9), [(4, 4)]),
    "scan": (scanned, [(6, 5)]),
    "scan from the end": (functools.partial(scanned, reverse=True), [(6, 5)]),
    "long scan": (scanned, [(200, 5)]),
    "open scan": (scanned, [("time", 5)]),
    "loop": (lambda x: lax.while_loop(lambda v: jnp.sum(v * v) < 100, lambda v: v * 1.5 + 0.1, x), [(4,)]),
    "counted loop": (lambda x: lax.fori_loop(0, 5, lambda i, v: v * 0.9 + i, x), [(4,)]),
    "branch": (lambda x: lax.cond(x.sum() > 0, lambda v: v * 2, lambda v: -v, x), [(4,)]),
    "open batch, reshaped": (lambda x: (x.reshape(-1, 4) @ floats_of(0)[:4]).reshape(x.shape[0], -1), [("n", 6, 4)]),
    "two open sizes": (lambda x: x.reshape(x.shape[0] * x.shape[1], 5) @ W, [("batch", "time", 5)]),
    "map": (jax.vmap(lambda x: jnp.dot(x, W)), [(3, 5)]),
    "gradient": (jax.grad(lambda x: jnp.sum(jnp.tanh(x @ W) ** 2)), [(3, 5)]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_function_gives_the_same(name):
    function, shapes = CASES[name]
    model, conversion = converted(function, inputs={f"x{i}": shape for i, shape in enumerate(shapes)})
    assert agreement(model, conversion).worst <= TOLERANCE
    given = {f"x{i}": floats(*(2 if isinstance(n, str) else n for n in shape)) for i, shape in enumerate(shapes)}
    expected = conversion.entries[0].reference(given)
    for got, wanted in zip(run_official(model, given), expected, strict=True):
        assert relative_difference(np.asarray(wanted), got) <= TOLERANCE


def test_look_ups_and_integers():
    def f(i, x):
        return jnp.take(TABLE, i, axis=0, mode="clip").sum(1) + x[jnp.array([1, 0])].sum()

    model, conversion = converted(f, inputs={"i": (("batch", 3), "int32"), "x": (2, 4)})
    assert agreement(model, conversion).worst <= TOLERANCE


def test_names_of_arguments_and_results_are_kept():
    model = convert(lambda a, b: {"sum": a + b, "parts": [a, b * 2]}, inputs={"a": (3,), "b": (3,)})
    assert list(model.inputs) == ["a", "b"]
    assert sorted(model.outputs) == ["parts/0", "parts/1", "sum"]
    assert [s.key for s in model.module.signatures] == ["serving_default"]


def test_an_open_dimension_stays_open(tmp_path):
    model = convert(lambda x: jax.nn.relu(x @ W), inputs={"x": ("batch", 5)})
    assert model.inputs["x"].shape == (-1, 5)
    for n in (1, 4):
        assert model(floats(n, 5)).shape == (n, 7) if not isinstance(model(floats(n, 5)), dict) else True


def test_what_builtins_cannot_say_is_listed_with_its_place():
    def f(x):
        return jnp.linalg.svd(x)[1] + lax.nextafter(x, x)

    with pytest.raises(UnsupportedOp, match="2 parts") as caught:
        convert(f, inputs={"x": (8, 8)})
    assert "test_jax.py" in str(caught.value)
    assert "nextafter" in str(caught.value)


def test_a_size_that_is_computed_with_must_be_a_number():
    with pytest.raises(UnsupportedOp, match="size of 'batch'"):
        convert(lambda x: x / x.shape[0], inputs={"x": ("batch", 3)})


def test_inputs_must_be_described_and_fit():
    with pytest.raises(InputError, match="must be described"):
        convert(lambda x: x)
    with pytest.raises(InputError, match=r"does not take x: float32\[3, 4\]"):
        convert(lambda x: x @ W, inputs={"x": (3, 4)})
    with pytest.raises(InputError, match="is described by 'text'"):
        convert(lambda x: x, inputs={"x": "text"})
    with pytest.raises(InputError, match="element type 'float3'"):
        convert(lambda x: x, inputs={"x": ((3,), "float3")})
    with pytest.raises(InputError, match=r"dimension 1 of input 'x' is -2"):
        convert(lambda x: x, inputs={"x": (3, -2)})


def test_a_value_that_is_no_model_is_refused():
    with pytest.raises(InputError, match="a int is no model"):
        convert(3)
    with pytest.raises(InputError, match="there is no kind of source 'pytorch'"):
        convert(lambda x: x, kind="pytorch")
    with pytest.raises(InputError, match="a function of JAX is needed"):
        convert(3, kind="jax")


def test_several_functions_become_signatures_that_share_their_weights(tmp_path):
    weights = floats(64, 64)
    path = tmp_path / "two.tflite"
    functions = {"grow": lambda x: x @ weights, "shrink": lambda y: y @ weights - 1}
    inputs = {"grow": {"x": (2, 64)}, "shrink": {"y": ("batch", 64)}}
    model, conversion = converted(functions, inputs=inputs)
    agreed = agreement(model, conversion)
    assert agreed.worst <= TOLERANCE
    assert list(agreed.differences) == ["grow/output", "shrink/output"]
    model.save(path)
    assert path.stat().st_size < weights.nbytes * 1.5
    y = floats(3, 64)
    assert relative_difference(y @ weights - 1, run_official(model, {"y": y}, "shrink")[0]) <= TOLERANCE


def test_several_functions_are_described_by_name():
    f = lambda x: x + 1  # noqa: E731
    for functions, inputs in (({"f": f}, {"x": (1,)}), ({}, None), ({1: f}, None)):
        with pytest.raises(InputError, match=r"by (the )?name"):
            convert(functions, inputs=inputs)
