"""`.tflite` as a source: the same numbers and interface, recurrent layers found again, older releases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.cli.main import main
from lithe.conversion.builder import Conversion
from lithe.conversion.cells import Cell, Walk, step
from lithe.conversion.control import while_loop
from lithe.conversion.recurrent import Recurrent, layer
from lithe.errors import InputError, UnsupportedOp
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Signature, Tensor
from lithe.ops.op import REGISTRY
from lithe.runtime.model import Model
from lithe.types import BOOL, FLOAT32, INT8, INT32, Quantization, TensorType
from tests.conversion.official import run_official

RANDOM = np.random.default_rng(0)
TIME, DEPTH, UNITS = 5, 3, 4
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
CASES = ["lstm", "gru", "gru_after", "rnn"]


def operators(model) -> list[str]:
    return [n.op.name for graph in model.module.graphs for n in graph.nodes]


def unfused(conversion: Conversion) -> Model:
    """A file as somebody else would have written it: nothing is found in it."""
    return Model(tflite.read(tflite.write(conversion.module())))


def cell_of(b, kind: str) -> Cell:
    name, rows = kind.split("_")[0], GATES[kind.split("_")[0]] * UNITS

    def constant(*shape):
        return b.constant(RANDOM.normal(size=shape) / 2, FLOAT32)

    after = {"recurrent_bias": constant(rows), "reset_after": True} if kind == "gru_after" else {}
    return Cell(name, constant(rows, DEPTH), constant(rows, UNITS), constant(rows), **after)


def dense_step(b, cell, x, states):
    """A step that makes its product with the input itself, as frameworks write it."""
    return step(b, b("FULLY_CONNECTED", x, cell.weights, cell.bias), cell, states)


def looped(kind: str, *, reverse: bool = False, batch: int = 2, spoil: str = "") -> Model:
    """A loop over the sequences, [time, batch, depth], with all outputs in a list."""
    c = Conversion("test")
    b = c.graph("main")
    x = b.input("x", (TIME, batch, DEPTH), FLOAT32)
    cell = cell_of(b, kind)
    arrays = {
        f: t.data for f in ("weights", "recurrent", "bias", "recurrent_bias") if (t := getattr(cell, f)) is not None
    }

    def body(inner, values):
        number, outputs, *states, sequence = values
        inside = replace(cell, **{f: inner.constant(a, FLOAT32) for f, a in arrays.items()})
        place = inner("SUB", inner.constant(TIME - 1), number) if reverse else number
        row = inner("GATHER", sequence, place, axis=0)
        if spoil == "input":
            row = inner("SIN", row)
        new = dense_step(inner, inside, row, states)
        if spoil == "state":
            new = [inner("MUL", new[0], inner.constant(0.5, FLOAT32)), *new[1:]]
        begin = inner("PACK", number, inner.constant(0), inner.constant(0), values_count=3, axis=0)
        written = inner("SIN", new[0]) if spoil == "output" else new[0]
        listed = inner("DYNAMIC_UPDATE_SLICE", outputs, inner.reshape(written, (1, batch, UNITS)), begin)
        return [inner("ADD", number, inner.constant(1)), listed, *new, sequence]

    def condition(inner, values):
        return [inner("LESS", values[0], inner.constant(TIME), dtype=BOOL)]

    zeros = [b.constant(np.zeros((batch, UNITS)), FLOAT32) for _ in cell.state_sizes]
    start = [b.constant(0, INT32), b.constant(np.zeros((TIME, batch, UNITS)), FLOAT32), *zeros, x]
    _, y, last, *_ = while_loop(b, condition, body, start)
    outputs = {"all": b.output(y, "all"), "last": b.output(last, "last")}
    c.sign("serving_default", b, {"x": x}, outputs)
    return unfused(c)


def unrolled(kind: str, *, spoil: str = "", start: bool = False) -> Model:
    """Steps one after another over slices, whose outputs are stacked."""
    c = Conversion("test")
    b = c.graph("main")
    x = b.input("x", (2, TIME, DEPTH), FLOAT32)
    cell = cell_of(b, kind)
    states: list[Tensor] = []
    inputs = {"x": x}
    if start:
        inputs |= {f"s{i}": b.input(f"s{i}", (2, n), FLOAT32) for i, n in enumerate(cell.state_sizes)}
        states = list(inputs.values())[1:]
    outputs = []
    for t in range(TIME):
        other = 1 if spoil == "order" and t == 3 else t
        row = b.reshape(b.slice(x, [0, other, 0], [2, 1, DEPTH]), (2, DEPTH))
        used = cell
        if spoil == "weights" and t == 3:
            used = replace(cell, recurrent=b.constant(b.array(cell.recurrent) * 1.5, FLOAT32))
        states = dense_step(b, used, row, states)
        outputs.append(states[0])
    y = b("PACK", *outputs, values_count=TIME, axis=1)
    c.sign("serving_default", b, inputs, {"y": b.output(y, "y")})
    return unfused(c)


def same_numbers(before: Model, after: Model, runs: int = 2) -> None:
    """Also when the model is run again: a loop begins every run from zeros."""
    data = tflite.write(after.module)
    again = lithe.load(data, cache=False)
    assert list(after.inputs) == list(before.inputs) == list(again.inputs)
    for _ in range(runs):
        given = {n: RANDOM.normal(size=i.shape).astype(np.float32) for n, i in before.inputs.items()}
        wanted, made = before(**given), after(**given)
        official = run_official(after, given)
        wanted = wanted if isinstance(wanted, dict) else {"y": wanted}
        made = made if isinstance(made, dict) else {"y": made}
        assert list(made) == list(wanted)
        for name, other in zip(wanted, official, strict=True):
            np.testing.assert_allclose(made[name], wanted[name], rtol=0, atol=2e-6)
            np.testing.assert_allclose(other, wanted[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", CASES)
def test_a_loop_becomes_what_a_layer_is(kind, reverse):
    before = looped(kind, reverse=reverse)
    assert "WHILE" in operators(before)
    after = lithe.convert(before)
    same_numbers(before, after)
    names = operators(after)
    assert "WHILE" not in names
    assert len(after.module.graphs) == 1
    builtin = "UNIDIRECTIONAL_SEQUENCE_LSTM" if kind == "lstm" else "UNIDIRECTIONAL_SEQUENCE_RNN"
    assert names.count(builtin) == (kind in ("lstm", "rnn"))
    if kind not in ("lstm", "rnn"):
        assert names.count("FULLY_CONNECTED") <= 1 + 2 * (TIME - 1)  # the products with the input are made at once


@pytest.mark.parametrize("kind", CASES)
def test_steps_become_what_a_layer_is(kind):
    before = unrolled(kind)
    after = lithe.convert(before)
    same_numbers(before, after)
    assert len(operators(after)) < len(operators(before))
    if kind in ("lstm", "rnn"):
        assert len(operators(after)) <= 3


@pytest.mark.parametrize("kind", CASES)
def test_steps_from_a_given_state_stay_steps(kind):
    before = unrolled(kind, start=True)
    after = lithe.convert(before)
    same_numbers(before, after)
    assert not any("SEQUENCE" in name for name in operators(after))
    assert operators(after).count("FULLY_CONNECTED") < operators(before).count("FULLY_CONNECTED")


@pytest.mark.parametrize("made", [looped, unrolled])
@pytest.mark.parametrize("kind", CASES)
def test_it_is_done_once(made, kind):
    once = lithe.convert(made(kind))
    assert operators(lithe.convert(tflite.write(once.module))) == operators(once)


def test_unrolled_layers_stay_unrolled_where_that_is_asked_for():
    before = looped("lstm")
    after = lithe.convert(before, unroll=True)
    same_numbers(before, after)
    assert not any("SEQUENCE" in name or name == "WHILE" for name in operators(after))


@pytest.mark.parametrize("spoil", ["input", "state", "output"])
@pytest.mark.parametrize("kind", CASES)
def test_a_loop_that_does_something_else_stays(kind, spoil):
    before = looped(kind, spoil=spoil)
    after = lithe.convert(before)
    assert "WHILE" in operators(after)
    same_numbers(before, after, runs=1)


@pytest.mark.parametrize("spoil", ["weights", "order"])
@pytest.mark.parametrize("kind", CASES)
def test_steps_that_differ_are_no_layer(kind, spoil):
    before = unrolled(kind, spoil=spoil)
    after = lithe.convert(before)
    same_numbers(before, after, runs=1)


def test_two_layers_of_which_one_reads_the_other():
    c = Conversion("test")
    b = c.graph("main")
    x = b.input("x", (1, TIME, UNITS), FLOAT32)
    rows = [b.reshape(b.slice(x, [0, t, 0], [1, 1, UNITS]), (1, UNITS)) for t in range(TIME)]
    for _ in range(2):
        weights = [b.constant(RANDOM.normal(size=(4 * UNITS, UNITS)) / 2, FLOAT32) for _ in range(2)]
        cell, states, outputs = Cell("lstm", *weights, b.constant(np.ones(4 * UNITS), FLOAT32)), [], []
        for row in rows:
            states = dense_step(b, cell, row, states)
            outputs.append(states[0])
        rows = outputs
    c.sign("serving_default", b, {"x": x}, {"y": b.output(rows[-1], "y")})
    before = unfused(c)
    after = lithe.convert(before)
    same_numbers(before, after)
    assert operators(after).count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 2
    assert "LOGISTIC" not in operators(after)


def test_a_variable_that_an_operator_sets_is_read_where_another_changes_it():
    """Also where two variables are set to the same value, and the model is run again."""
    after = lithe.convert(looped("lstm"))
    x = RANDOM.normal(size=(TIME, 2, DEPTH)).astype(np.float32)
    first, second = after(x=x), after(x=x)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


# files


def open_model() -> Model:
    c = Conversion("test")
    b = c.graph("main")
    x = b.input("x", (c.sizes.stand_in("batch"), 4, 6), FLOAT32)
    y = b.reshape(x, (c.sizes.stand_in("batch"), 24))
    y = b("FULLY_CONNECTED", y, b.constant(RANDOM.normal(size=(8, 24)), FLOAT32), None)
    y = b("GELU", b("MUL", y, b.constant(RANDOM.normal(size=8), FLOAT32)), approximate=False)
    c.sign("classify", b, {"image": x}, {"score": b.output(y, "score")})
    module = c.module()
    module.metadata["note"] = b"kept"
    module.extras["associated_files"] = {"labels.txt": b"cat\ndog\n"}
    module.description = "a model"
    return Model(tflite.read(tflite.write(module)), name="open")


def interface(module: Module):
    return [
        (s.key, [(n, t.name, t.type, t.shape_signature) for n, t in (*s.inputs.items(), *s.outputs.items())], s.graph)
        for s in module.signatures
    ]


def test_what_a_file_says_beside_its_operators_stays(tmp_path):
    before = open_model()
    before.save(tmp_path / "old.tflite")
    assert main(["convert", str(tmp_path / "old.tflite"), "-o", str(tmp_path / "new.tflite"), "--verify"]) == 0
    old, new = (lithe.load(tmp_path / f"{n}.tflite", cache=False) for n in ("old", "new"))
    assert interface(new.module) == interface(old.module)
    assert new.module.metadata == old.module.metadata
    assert new.module.extras["associated_files"] == old.module.extras["associated_files"]
    assert new.module.description == "a model"
    x = RANDOM.normal(size=(3, 4, 6)).astype(np.float32)
    np.testing.assert_allclose(new(x), old(x), rtol=1e-5, atol=1e-6)


def test_several_signatures_and_graphs_stay():
    c = Conversion("test")
    signed = {}
    for key in ("double", "halve"):
        b = c.graph(key)
        x = b.input("x", (2, 3), FLOAT32)
        y = b("MUL", x, b.constant(1 if key == "double" else 0.25, FLOAT32))
        b.output(b("ADD", y, y), "y")
        signed[key] = (b, x)
    for key, (b, x) in signed.items():
        c.sign(key, b, {"x": x}, {"y": b.outputs[0]})
    before = unfused(c)
    after = lithe.convert(before, verify=True)
    assert interface(after.module) == interface(before.module)
    assert operators(after) == ["ADD", "MUL", "ADD"]
    x = RANDOM.normal(size=(2, 3)).astype(np.float32)
    for key in signed:
        np.testing.assert_allclose(run_official(after, {"x": x}, key)[0], before.signatures[key](x=x)["y"], rtol=1e-6)


def test_a_file_without_signatures_gets_none():
    before = looped("rnn")
    plain = Model(replace_signatures(before.module))
    after = lithe.convert(plain, verify=True)
    assert after.module.signatures == []
    same_numbers(plain, after, runs=1)


def replace_signatures(module: Module) -> Module:
    return Module(module.graphs, [], dict(module.metadata))


def quantized() -> Model:
    """Integers: nothing but copies may go."""
    q = Quantization((0.05,), (3,), 0)

    def tensor(name, shape):
        return Tensor(name, TensorType(INT8, shape, q))

    def shape(*dims):
        return Tensor(f"shape{dims}", TensorType(INT32, (len(dims),)), np.array(dims, np.int32))

    ops = REGISTRY.by_name
    x, b, y, dead = (tensor(name, (2, 6)) for name in ("x", "b", "y", "dead"))
    a = tensor("a", (3, 4))
    reshape, add = ops["RESHAPE"], ops["ADD"]
    nodes = [
        Node(reshape, reshape.Attrs(), [x, shape(3, 4)], [a]), Node(reshape, reshape.Attrs(), [a, shape(2, 6)], [b]),
        Node(add, add.Attrs(), [b, b], [dead]), Node(add, add.Attrs(), [b, x], [y]),
    ]  # fmt: skip
    graph = Graph("main", [x], [y], [x, a, b, y, dead], nodes)
    module = Module([graph], [Signature("serving_default", {"x": x}, {"y": y})])
    return Model(tflite.read(tflite.write(module)))


def test_integers_stay_the_same_bits():
    before = quantized()
    after = lithe.convert(before)
    assert operators(after) == ["ADD"]
    x = RANDOM.integers(-128, 128, (2, 6)).astype(np.int8)
    np.testing.assert_array_equal(before(x), after(x))
    np.testing.assert_array_equal(run_official(after, {"x": x})[0], run_official(before, {"x": x})[0])


def test_numbers_that_order_operators_keep_them():
    before = quantized()
    before.module.metadata["model_control_dependencies"] = b"\1\0\0\0"
    assert operators(lithe.convert(before)) == operators(before)


# older releases


def test_an_operator_that_a_release_lacks_is_spelled_out():
    before = open_model()
    for runtime, has in (("2.9.0", True), ("2.8", False), ("1.15.0", False)):
        after = lithe.convert(before, target_runtime=runtime, verify=True)
        assert ("GELU" in operators(after)) == has
        stated = tflite.read(tflite.write(after.module)).metadata["min_runtime_version"].rstrip(b"\0").decode()
        assert tuple(map(int, stated.split("."))) <= tuple(map(int, runtime.split("."))) or stated == runtime
        x = RANDOM.normal(size=(3, 4, 6)).astype(np.float32)
        np.testing.assert_allclose(run_official(after, {after.module.main.inputs[0].name: x})[0], before(x), atol=2e-6)


def one(op: str, inputs, wanted_dtype=None, **attrs) -> Model:
    c = Conversion("test")
    b = c.graph("main")
    tensors, named = [], {}
    for i, value in enumerate(inputs):
        if isinstance(value, tuple):
            shape, dtype = value
            named[f"x{i}"] = b.input(f"x{i}", shape, dtype)
            tensors.append(named[f"x{i}"])
        else:
            tensors.append(b.constant(value, INT32 if np.asarray(value).dtype.kind == "i" else FLOAT32))
    b.output(b(op, *tensors, dtype=wanted_dtype, **attrs), "y")
    c.sign("serving_default", b, named, {"y": b.outputs[0]})
    return unfused(c)


FLOATS = ((2, 3), FLOAT32)
OLDER = {
    "gelu": ("2.8.0", lambda: one("GELU", [FLOATS], approximate=True)),
    "hard swish": ("1.14.0", lambda: one("HARD_SWISH", [FLOATS])),
    "relu 0 to 1": ("2.9.0", lambda: one("RELU_0_TO_1", [FLOATS])),
    "sign": ("2.10.0", lambda: one("SIGN", [FLOATS])),
    "select": ("2.1.0", lambda: one("SELECT_V2", [((2, 3), BOOL), FLOATS, FLOATS], FLOAT32)),
    "all": ("2.5.0", lambda: one("REDUCE_ALL", [((2, 3), BOOL), [1]], BOOL, keep_dims=False)),
    "broadcast": ("2.4.0", lambda: one("BROADCAST_TO", [((2, 1), FLOAT32), [4, 2, 3]])),
    "product": ("2.2.0", lambda: one("BATCH_MATMUL", [((2, 3), FLOAT32), np.ones((3, 5), np.float32)])),
    "turned product": ("1.14.0", lambda: one("BATCH_MATMUL", [((4, 2, 3), FLOAT32), np.eye(3, dtype=np.float32)],
                                             adj_y=True)),
    "sums": ("2.3.0", lambda: one("CUMSUM", [FLOATS, 1], exclusive=True, reverse=True)),
}  # fmt: skip


@pytest.mark.parametrize("case", OLDER)
def test_older_forms_give_the_same_numbers(case):
    runtime, made = OLDER[case]
    before = made()
    after = lithe.convert(before, target_runtime=runtime)
    assert operators(after) != operators(before)
    given = {
        n: RANDOM.integers(0, 2, i.shape).astype(bool)
        if i.dtype == "bool"
        else RANDOM.normal(size=i.shape).astype("f4")
        for n, i in before.inputs.items()
    }
    np.testing.assert_allclose(after(**given), before(**given), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run_official(after, given)[0], before(**given), rtol=1e-5, atol=1e-6)
    stated = tflite.read(tflite.write(after.module)).metadata["min_runtime_version"].rstrip(b"\0").decode()
    assert tuple(map(int, stated.split("."))) <= tuple(map(int, runtime.split(".")))


def test_what_a_release_lacks_altogether_is_one_error():
    before = one("ATAN2", [FLOATS, FLOATS])
    with pytest.raises(UnsupportedOp, match=r"ATAN2 version 1 of float32, since 2\.10\.0"):
        lithe.convert(before, target_runtime="2.5.0")


def test_the_command_line_writes_nothing_where_a_release_lacks_something(tmp_path):
    one("ATAN2", [FLOATS, FLOATS]).save(tmp_path / "a.tflite")
    made = tmp_path / "b.tflite"
    assert main(["convert", str(tmp_path / "a.tflite"), "-o", str(made), "--target-runtime", "2.5.0"]) != 0
    assert not made.exists()


@pytest.mark.parametrize("runtime", ["new", "2", "2.x.0", "1.4.0", "", 2.5])
def test_a_release_that_is_none(runtime):
    with pytest.raises(InputError, match="no release of the runtime"):
        lithe.convert(one("ABS", [FLOATS]), target_runtime=runtime)


def test_shapes_and_further_functions_are_refused():
    model = one("ABS", [FLOATS])
    with pytest.raises(InputError, match="says itself"):
        lithe.convert(model, inputs={"x0": (1, 3)})
    with pytest.raises(InputError, match="its own signatures"):
        lithe.convert({"a": model, "b": model})


@pytest.mark.parametrize("mask", [None, "zero", "repeat"])
@pytest.mark.parametrize("kind", CASES)
def test_what_is_written_for_a_layer_is_found_as_it_is(kind, mask):
    """A conversion's own steps are not written again, and never fused where the layer could not be."""
    c = Conversion("test")
    b = c.graph("main")
    x = b.input("x", (2, TIME, DEPTH), FLOAT32)
    inputs = {"x": x}
    walk = Walk()
    if mask is not None:
        inputs["mask"] = b.input("mask", (2, TIME), BOOL)
        walk = Walk(mask=inputs["mask"], masked=mask)
    y, _ = layer(b, x, cell_of(b, kind), (), walk, Recurrent(unroll=True))
    c.sign("serving_default", b, inputs, {"y": b.output(y, "y")})
    before = unfused(c)
    after = lithe.convert(before, unroll=True, verify=True)
    assert sorted(operators(after)) == sorted(operators(before))
