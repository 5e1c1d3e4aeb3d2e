"""Recurrent layers, loops and branches on integers, in Lithe and in the official runtime."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.conversion.builder import Conversion
from lithe.conversion.control import branch, while_loop
from lithe.errors import InputError
from lithe.formats import tflite
from lithe.ir.graph import Node, Tensor
from lithe.ops import REGISTRY
from lithe.ops.official_table import UNANSWERED
from lithe.optimize.recipes import BYTES, FLOAT, Recipe, Rule
from lithe.types import BOOL, FLOAT32, INT8, INT16, TensorType
from tests.conversion.official import official_runs
from tests.grid import document

RANDOM = np.random.default_rng(0)
START = RANDOM.bit_generator.state
STEPS, DEPTH, UNITS, OUTPUTS = 6, 5, 8, 4
LOOP = {"int8": 8, "int16x8": 40}  # steps by which the runtimes may differ: one an operator, and on in the next round


@pytest.fixture(autouse=True)
def _from_the_start():
    """Every test draws the same numbers, whichever ran before it."""
    RANDOM.bit_generator.state = START


def floats(*shape, scale=1.0):
    return (RANDOM.standard_normal(shape) * scale).astype(np.float32)


def model(build, shape=(1, STEPS, DEPTH)):
    conversion = Conversion("test")
    b = conversion.graph("main")
    x = b.input("x", shape, FLOAT32)
    outputs = {name: b.output(t, name) for name, t in build(b, x).items()}
    conversion.sign("serving_default", b, {"x": x}, outputs)
    return conversion.module()


def samples(count=100, shape=(1, STEPS, DEPTH)):
    return [RANDOM.uniform(-1.5, 1.5, shape).astype(np.float32) for _ in range(count)]


def graphs(made):
    return [n for g in made.module.graphs for n in g.nodes]


def kinds(made, graph=None):
    return [n.op.name for n in (graphs(made) if graph is None else made.module.graphs[graph].nodes)]


def signal(wanted, got):
    """The ratio of signal to noise, in dB."""
    return 10 * np.log10((wanted**2).sum() / max(((wanted - got) ** 2).sum(), 1e-30))


def judged(module, recipe="int8", least=25.0, steps=1, shape=(1, STEPS, DEPTH)):
    """Quantized: near the float model on six runs one after another; both runtimes differ by `steps` at most."""
    made = lithe.quantize(module, samples(shape=shape), recipe)
    steps = steps[recipe] if isinstance(steps, dict) else steps
    whole, official = lithe.Model(module), official_runs(made)
    wanted, ours = [], []
    for x in samples(6, shape):
        wanted.append(whole(x))
        ours.append(made(x))
        (theirs,) = official({"x": x})
        (output,) = [n for n in made.module.main.nodes if made.module.main.outputs[0] in n.outputs]
        step = output.inputs[0].type.quantization.scale[0] if output.op.name == "DEQUANTIZE" else 1e-3
        assert np.abs(ours[-1] - theirs).max() <= steps * step * 1.001
    assert signal(np.concatenate(wanted), np.concatenate(ours)) > least
    return made


def variable(b, size, batch=1):
    return Tensor(
        f"state{len(b.tensors)}_{size}_{RANDOM.integers(1 << 30)}", TensorType(FLOAT32, (batch, size)), is_variable=True
    )


def lstm(b, x, op="UNIDIRECTIONAL_SEQUENCE_LSTM", coupled=False, peephole=False, normalized=False, outputs=0,
         scale=0.5, **attrs):  # fmt: skip
    depth, size = x.type.shape[-1], outputs or UNITS

    def some(*shape, scale=scale):
        return b.constant(floats(*shape, scale=scale), FLOAT32)

    operands = [*(some(UNITS, depth) for _ in range(4)), *(some(UNITS, size) for _ in range(4))]
    operands += [some(UNITS) if peephole else None for _ in range(3)] + [some(UNITS, scale=0.1) for _ in range(4)]
    operands += [some(size, UNITS), some(size, scale=0.1)] if outputs else [None, None]
    operands += [variable(b, size), variable(b, UNITS)]
    operands += [b.constant(1 + floats(UNITS, scale=0.1), FLOAT32) if normalized else None for _ in range(4)]
    if coupled:
        for i in (0, 4, 8, 11, 19):
            operands[i] = None
    return b(op, x, *operands, **{"fused_activation_function": "TANH", **attrs})


def dense(b, x, outputs=OUTPUTS):
    rows = int(np.prod(x.type.shape[:-1]))
    return b(
        "FULLY_CONNECTED",
        b.reshape(x, (rows, x.type.shape[-1])),
        b.constant(floats(outputs, x.type.shape[-1]), FLOAT32),
        None,
    )


KINDS = {
    "plain": {},
    "clipped": {"cell_clip": 0.8},
    "coupled": {"coupled": True},
    "peephole": {"peephole": True},
    "coupled peephole": {"coupled": True, "peephole": True},
    "normalized": {"normalized": True},
    "projected": {"outputs": OUTPUTS},
    "projected and clipped": {"outputs": OUTPUTS, "proj_clip": 0.4},
    "everything": {"normalized": True, "peephole": True, "outputs": UNITS},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_lstm_is_one_operator_on_integers(kind):
    made = judged(model(lambda b, x: {"y": lstm(b, x, **KINDS[kind])}), least=18 if "outputs" in KINDS[kind] else 22)
    assert kinds(made) == ["QUANTIZE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "DEQUANTIZE"]
    node = made.module.main.nodes[1]
    assert [t.type.dtype for t in node.inputs if t is not None and t.is_variable] == [INT8, INT16]
    fraction, _ = np.frexp(node.inputs[19].type.quantization.scale[0])
    assert fraction == 0.5
    assert len(node.intermediates) == 5
    assert node.intermediates[4].quantization is not None


def test_the_layers_around_an_lstm_are_integers_too():
    made = judged(model(lambda b, x: {"y": dense(b, lstm(b, lstm(b, x)))}))
    assert kinds(made).count("QUANTIZE") == kinds(made).count("DEQUANTIZE") == 1


@pytest.mark.parametrize(("recipe", "activation"), [("int8", "RELU6"), ("int16x8", "NONE")])
def test_an_lstm_with_another_activation_is_a_loop(recipe, activation):
    made = judged(
        model(lambda b, x: {"y": lstm(b, x, scale=0.2, fused_activation_function=activation)}), recipe, 18, LOOP
    )
    assert "WHILE" in kinds(made, 0)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in kinds(made)


@pytest.mark.parametrize("kind", ["plain", "clipped", "coupled peephole", "projected and clipped"])
def test_with_values_of_sixteen_bits_an_lstm_is_a_loop(kind):
    made = judged(model(lambda b, x: {"y": lstm(b, x, **KINDS[kind])}), "int16x8", 32, LOOP)
    assert "WHILE" in kinds(made, 0)
    assert not [n for n in graphs(made) if n.op.name not in ("QUANTIZE", "DEQUANTIZE") and has_reals(n)]


def has_reals(node):
    return any(t is not None and t.type.dtype == FLOAT32 for t in (*node.inputs, *node.outputs))


def test_one_step_of_an_lstm_keeps_its_state():
    made = judged(model(lambda b, x: {"y": lstm(b, x, "LSTM")}, (1, DEPTH)), shape=(1, DEPTH))
    assert kinds(made) == ["QUANTIZE", "LSTM", "DEQUANTIZE"]


def basic(b, x):
    depth = x.type.shape[1]
    weights, bias = floats(4 * UNITS, depth + UNITS, scale=0.4), floats(4 * UNITS, scale=0.1)
    operands = [variable(b, UNITS), b.constant(weights, FLOAT32), b.constant(bias, FLOAT32), variable(b, UNITS)]
    return b.several("LSTM", x, *operands, dtypes=[None] * 4, kernel_type="BASIC")


def test_the_basic_kernel_becomes_the_full_one():
    made = judged(model(lambda b, x: {"y": basic(b, x)[0]}, (1, DEPTH)), shape=(1, DEPTH))
    assert kinds(made) == ["QUANTIZE", "LSTM", "DEQUANTIZE"]
    with pytest.raises(InputError, match="nothing in the model can be quantized"):  # what the full one does not give
        lithe.quantize(model(lambda b, x: {"y": basic(b, x)[1]}, (1, DEPTH)), samples(shape=(1, DEPTH)))


def rnn(b, x, op="UNIDIRECTIONAL_SEQUENCE_RNN", activation="TANH", **attrs):
    batch = x.type.shape[0 if not attrs.get("time_major") else 1]
    operands = [b.constant(floats(UNITS, n, scale=0.3), FLOAT32) for n in (x.type.shape[-1], UNITS)]
    operands += [b.constant(floats(UNITS, scale=0.1), FLOAT32), variable(b, UNITS, batch)]
    return b(op, x, *operands, fused_activation_function=activation, **attrs)


@pytest.mark.parametrize(
    ("recipe", "batch", "major"),
    [("int8", 1, False), ("int8", 2, True), ("int16x8", 2, False)],
)
def test_a_simple_layer_is_a_loop(recipe, batch, major):
    shape = (STEPS, batch, DEPTH) if major else (batch, STEPS, DEPTH)
    made = judged(model(lambda b, x: {"y": rnn(b, x, time_major=major)}, shape), recipe,
                  32 if recipe == "int16x8" else 22, LOOP, shape)  # fmt: skip
    assert "WHILE" in kinds(made, 0)
    assert not [n for n in graphs(made) if n.op.name not in ("QUANTIZE", "DEQUANTIZE") and has_reals(n)]


def test_one_step_of_a_simple_layer():
    made = judged(model(lambda b, x: {"y": rnn(b, x, "RNN")}, (2, DEPTH)), shape=(2, DEPTH), steps=LOOP["int8"])
    assert "WHILE" not in kinds(made)
    assert [t.type.dtype for t in made.module.main.tensors if t.is_variable] == [INT8]


def pair(b, x, merged, of="LSTM"):
    names = {"LSTM": lstm, "RNN": rnn}
    inner = Conversion("inner").graph("inner")
    given = inner.input("x", x.type.shape, FLOAT32)
    for _ in range(2):
        names[of](inner, given)
    first, second = ([*n.inputs[1:]] for n in inner.nodes)
    if of == "LSTM":
        operands = [*first[:17], *second[:17], *first[17:19], *second[17:19], *[None] * 9]
    else:
        operands = [*first, *second, None, None, None]
    return b.several(f"BIDIRECTIONAL_SEQUENCE_{of}", x, *operands, dtypes=[None] * (2 - merged), merge_outputs=merged,
                     time_major=False, fused_activation_function="TANH")  # fmt: skip


@pytest.mark.parametrize(
    ("of", "merged", "recipe"),
    [("LSTM", False, "int8"), ("LSTM", True, "int16x8"), ("RNN", True, "int8")],
)
def test_two_directions_are_two_layers(of, merged, recipe):
    def build(b, x):
        made = pair(b, x, merged, of)
        return {"y": made[0] if merged else b("CONCATENATION", *made, axis=2)}

    made = judged(model(build), recipe, 32 if recipe == "int16x8" else 22, LOOP)
    assert kinds(made).count("REVERSE_V2") == 2
    assert not [n for n in graphs(made) if n.op.name not in ("QUANTIZE", "DEQUANTIZE") and has_reals(n)]


def test_a_gru_operator_is_a_loop_that_the_official_runtime_knows():
    def build(b, x):
        shapes = ((2 * UNITS, DEPTH + UNITS), (2 * UNITS,), (UNITS, DEPTH + UNITS), (UNITS,))
        state = b.constant(np.zeros((1, UNITS)), FLOAT32)
        operands = [b.constant(floats(*shape, scale=0.4), FLOAT32) for shape in shapes]
        return {"y": b.several("UNIDIRECTIONAL_SEQUENCE_GRU", x, state, *operands, dtypes=[None] * 2)[0]}

    made = judged(model(build, (STEPS, 1, DEPTH)), least=22, steps=LOOP, shape=(STEPS, 1, DEPTH))
    assert "WHILE" in kinds(made, 0)
    assert not [n for n in graphs(made) if n.op.name not in ("QUANTIZE", "DEQUANTIZE") and has_reals(n)]


def svdf(b, x, activation="RELU", rank=2):
    filters, memory = rank * UNITS, 5
    operands = [b.constant(floats(filters, n, scale=0.5), FLOAT32) for n in (x.type.shape[1], memory)]
    operands += [b.constant(floats(UNITS, scale=0.1), FLOAT32), variable(b, filters * memory)]
    cls, y = REGISTRY.by_name["SVDF"], Tensor("y", TensorType(FLOAT32, (1, UNITS)))
    b.add(Node(cls, cls.Attrs(rank, activation), [x, *operands], [y]))
    return y


@pytest.mark.parametrize("activation", ["RELU", "NONE", "RELU6"])
def test_a_thin_layer_over_steps(activation):
    made = judged(model(lambda b, x: {"y": svdf(b, x, activation)}, (1, DEPTH)), least=20, shape=(1, DEPTH))
    assert kinds(made) == ["QUANTIZE", "SVDF", "DEQUANTIZE"]
    node = made.module.main.nodes[1]
    assert np.abs(node.inputs[2].data).max() == 511  # ten bits
    assert node.inputs[4].type.dtype == INT16


def test_what_cannot_be_integers_stays():
    module = model(lambda b, x: {"y": dense(b, svdf(b, x, "TANH"))}, (1, DEPTH))
    assert "SVDF" in kinds(judged(module, shape=(1, DEPTH)))
    module = model(lambda b, x: {"y": dense(b, lstm(b, x, normalized=True))})
    made = judged(module, "int16x8", 40)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in kinds(made)


def test_steps_whose_number_is_open_stay():
    module = model(lambda b, x: {"y": rnn(b, x)})
    module.main.inputs[0].shape_signature = (1, -1, DEPTH)
    with pytest.raises(InputError, match="nothing in the model can be quantized"):
        lithe.quantize(module, samples())
    module = model(lambda b, x: {"y": lstm(b, x)})
    module.main.inputs[0].shape_signature = (1, -1, DEPTH)
    made = judged(module)
    assert kinds(made) == ["QUANTIZE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "DEQUANTIZE"]
    assert made.module.main.inputs[0].shape_signature == (1, -1, DEPTH)


def test_intermediates_outlive_what_is_done_to_the_model_next():
    mixed = Recipe((Rule(BYTES), Rule(FLOAT, operators=frozenset({"FULLY_CONNECTED"}))))
    half = lithe.quantize(model(lambda b, x: {"y": dense(b, lstm(b, x))}), samples(), mixed)
    made = lithe.quantize(lithe.Model(tflite.read(tflite.write(half.module))), recipe="float16")
    x = samples(1)[0]
    np.testing.assert_allclose(official_runs(made)({"x": x})[0], half(x), atol=0.03)


# loops and branches


def looped(b, x):
    """A GRU-like loop: three values are carried, one of them counted."""
    weights = [floats(UNITS, n, scale=0.5) for n in (UNITS, UNITS)]

    def condition(b, values):
        return [b("LESS", values[0], b.constant(STEPS), dtype=BOOL)]

    def body(b, values):
        number, h, ahead = values
        step = b("GATHER", ahead, number, axis=0)
        gate = b("LOGISTIC", b("ADD", step, b("FULLY_CONNECTED", h, b.constant(weights[0], FLOAT32), None)))
        new = b("TANH", b("ADD", step, b("FULLY_CONNECTED", h, b.constant(weights[1], FLOAT32), None)))
        h = b("ADD", b("MUL", gate, h), b("MUL", b("SUB", b.constant(1, FLOAT32), gate), new))
        return [b("ADD", number, b.constant(1)), h, ahead]

    ahead = b.reshape(dense(b, x, UNITS), (STEPS, 1, UNITS))
    start = [b.constant(0), b.constant(np.zeros((1, UNITS)), FLOAT32), ahead]
    return {"y": while_loop(b, condition, body, start)[1]}


@pytest.mark.parametrize(("recipe", "least"), [("int8", 22), ("int16x8", 40)])
def test_the_graphs_of_a_loop_are_integers(recipe, least):
    made = judged(model(looped), recipe, least, LOOP)
    (loop,) = [n for n in made.module.main.nodes if n.op.name == "WHILE"]
    condition, body = (made.module.graphs[i] for i in (loop.attrs.cond_subgraph_index, loop.attrs.body_subgraph_index))
    for i, t in enumerate(loop.inputs):
        assert {t.type, loop.outputs[i].type, body.inputs[i].type, body.outputs[i].type, condition.inputs[i].type} == {
            t.type
        }
    assert not [n for n in body.nodes if has_reals(n)]


def test_a_value_that_no_integers_touch_stays_real_in_a_loop():
    def build(b, x):
        def condition(b, values):
            return [b("LESS", values[0], b.constant(3), dtype=BOOL)]

        def body(b, values):
            number, h, angle = values
            weights = b.constant(floats(UNITS, UNITS, scale=0.3), FLOAT32)
            return [b("ADD", number, b.constant(1)), b("FULLY_CONNECTED", h, weights, None), b("SIN", angle)]

        start = [b.constant(0), dense(b, x, UNITS), b.constant(floats(1, 2), FLOAT32)]
        _, h, angle = while_loop(b, condition, body, start)
        return {"y": h, "angle": angle}

    module = model(build)
    made = lithe.quantize(module, samples())
    (loop,) = [n for n in made.module.main.nodes if n.op.name == "WHILE"]
    assert [t.type.dtype.name for t in loop.outputs] == ["int32", "int8", "float32"]
    x = floats(1, STEPS, DEPTH)
    _, angle = official_runs(made)({"x": x})
    np.testing.assert_allclose(made(x)["angle"], lithe.Model(module)(x)["angle"], rtol=1e-6)
    np.testing.assert_allclose(angle, made(x)["angle"], rtol=1e-5)
    assert signal(lithe.Model(module)(x)["y"], made(x)["y"]) > 12


def chosen(b, x):
    h = dense(b, x, UNITS)

    def part(scale):
        weights = floats(UNITS, UNITS, scale=scale)
        return lambda b, values: [b("TANH", b("FULLY_CONNECTED", values[0], b.constant(weights, FLOAT32), None))]

    total = b("SUM", x, b.constant([0, 1, 2]), rank=0)
    positive = b("GREATER", total, b.constant(0, FLOAT32), dtype=BOOL)
    return {"y": branch(b, positive, part(0.2), part(0.5), [h])[0]}


def test_the_graphs_of_a_branch_are_integers():
    made = judged(model(chosen), least=22, steps=2)
    assert all("FULLY_CONNECTED" in kinds(made, i) and "QUANTIZE" not in kinds(made, i) for i in (1, 2))


def test_a_branch_that_no_sample_takes_stays_real():
    module = model(chosen)
    always = [np.abs(floats(1, STEPS, DEPTH)) for _ in range(20)]
    made = lithe.quantize(module, always)
    taken, other = (made.module.graphs[i] for i in (1, 2))
    assert not [n for n in taken.nodes if has_reals(n)]
    assert [n for n in other.nodes if n.op.name == "FULLY_CONNECTED" and has_reals(n)]
    x = always[0]
    assert signal(lithe.Model(module)(x), made(x)) > 22
    np.testing.assert_allclose(official_runs(made)({"x": x})[0], made(x), atol=0.02)


def test_a_graph_that_is_a_door_of_its_own_stays_as_it_is():
    module = model(chosen)
    inner = module.graphs[1]
    module.signatures.append(replace(module.signatures[0], key="inner", inputs={"a": inner.inputs[0]},
                                     outputs={"b": inner.outputs[0]}, graph=1))  # fmt: skip
    made = lithe.quantize(module, samples())
    assert not [n for n in made.module.graphs[1].nodes if has_integers(n)]
    assert [n for n in made.module.graphs[2].nodes if has_integers(n)]
    assert made.signatures["inner"].inputs["a"].dtype == "float32"


def has_integers(node):
    return any(t.type.quantization is not None for t in (*node.inputs, *node.outputs) if t is not None)


def test_a_state_that_begins_each_run_with_zeros():
    def build(b, x):
        y = lstm(b, x)
        node = b.nodes[-1]
        for i in (18, 19):
            state = node.inputs[i]
            zeros = b.constant(np.zeros(state.type.shape), FLOAT32)
            cls = REGISTRY.by_name["ZEROS_LIKE"]
            b.nodes.insert(len(b.nodes) - 1, type(node)(cls, cls.Attrs(), [zeros], [state]))
        return {"y": y}

    module = model(build)
    made = judged(module)
    assert kinds(made).count("QUANTIZE") == 3
    x = floats(1, STEPS, DEPTH)
    official = official_runs(made)
    first = official({"x": x})[0]
    np.testing.assert_array_equal(first, official({"x": x})[0])
    np.testing.assert_array_equal(made(x), made(x))


@pytest.mark.parametrize(
    ("value", "message"), [(3e38, r"infinity in 'forget_sum' of op #0"), (-np.nan, "NaN in 'forget_sum' of op #0")],
)  # fmt: skip
def test_what_is_not_finite_inside_is_said(value, message):
    module = model(lambda b, x: {"y": lstm(b, x)})
    weights = module.main.nodes[0].inputs[2]
    weights.data = np.full(weights.type.shape, value, np.float32)
    with pytest.raises(InputError, match=f"sample 0 gives {message}"):
        lithe.quantize(module, samples())


def test_constants_that_are_not_finite_stay():
    module = model(lambda b, x: {"y": lstm(b, x)})
    module.main.nodes[0].inputs[13].data = np.full(UNITS, np.inf, np.float32)
    with pytest.raises(InputError, match="nothing in the model can be quantized"):
        lithe.quantize(module, samples())


# operators without a form


@pytest.mark.parametrize(
    ("op", "recipe", "instead"),
    [
        ("SQUARE", "int8", ["MUL"]), ("SQUARE", "int16x8", ["MUL"]), ("NEG", "int8", ["SUB"]),
        ("HARD_SWISH", "int8", ["HARD_SWISH"]), ("HARD_SWISH", "int16x8", ["MUL", "ADD", "RELU6", "MUL"]),
        ("RELU_N1_TO_1", "int16x8", ["MAXIMUM", "MINIMUM"]), ("RELU_0_TO_1", "int16x8", ["MAXIMUM", "MINIMUM"]),
    ],
)  # fmt: skip
def test_an_operator_without_a_form_is_written_in_others(op, recipe, instead):
    made = judged(model(lambda b, x: {"y": b(op, x)}), recipe, 28, 2)
    inside = [k for k in kinds(made) if k not in ("QUANTIZE", "DEQUANTIZE")]
    assert sorted(inside) == sorted(instead)


def test_a_difference_of_two_values_squared():
    made = judged(
        model(lambda b, x: {"y": b("SQUARED_DIFFERENCE", x, b.constant(floats(DEPTH), FLOAT32))}), "int16x8", 40, 2
    )
    assert [k for k in kinds(made) if "QUANTIZE" not in k] == ["SUB", "MUL"]


def test_what_only_lithe_computes_is_not_written():
    made = lithe.quantize(model(lambda b, x: {"y": dense(b, b("ELU", x))}), samples(), "int16x8")
    (elu,) = [n for n in graphs(made) if n.op.name == "ELU"]
    assert has_reals(elu)


def test_the_table_of_what_the_official_runtime_lacks_is_that_of_the_grid():
    rows = re.search(r'ROWS = """\n(.*)\n"""', document.unanswered(document.rows()), re.DOTALL)[1]
    assert {n: frozenset(t.split()) for n, t in (row.split(": ") for row in rows.splitlines())} == UNANSWERED
    assert document.TABLE.read_text() == document.unanswered(document.rows())
    assert "int16q" in UNANSWERED["HARD_SWISH"]
