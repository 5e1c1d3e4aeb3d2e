"""Functions, SavedModels and frozen graphs of TensorFlow: judged by TensorFlow, and by the official runtime."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from lithe.cli.convert import command
from lithe.conversion.check import relative_difference
from lithe.conversion.door import agreement, convert, converted
from lithe.errors import InputError, MissingDependency, ModelError, UnsupportedOp
from tests.conversion.official import run_official

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

RANDOM = np.random.default_rng(0)
BATCH = 3  # where a dimension is open


def weights(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def agrees(source, inputs=None, *, official: bool = True, tolerance: float = 1e-5, **given):
    """Converts a source of one function; source, Lithe and the official runtime give the same."""
    model, conversion = converted(source, inputs=inputs, **given)
    assert agreement(model, conversion).worst <= tolerance
    (entry,) = conversion.entries
    arrays = {
        name: RANDOM.standard_normal([BATCH if n > 1e7 else n for n in t.shape]).astype(t.dtype.numpy)
        for name, t in entry.input_types.items()
    }
    if official:
        for wanted, made in zip(entry.reference(arrays), run_official(model, arrays), strict=True):
            assert relative_difference(wanted, made) <= tolerance
    return model


def operators(model) -> list[str]:
    return [n.op.name for g in model.module.graphs for n in g.nodes]


# functions


FUNCTIONS = {
    "flattened": (lambda x: tf.reshape(x, [tf.shape(x)[0] * tf.shape(x)[1], -1]), (None, None, 8)),
    "two open sizes": (lambda x: tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], 2, -1]), (None, None, 8)),
    "halves": (lambda x: tf.concat([x[:, tf.shape(x)[1] // 2 :], x[:, : tf.shape(x)[1] // 2]], 1), (None, 8, 3)),
    "last": (lambda x: x[:, -1], (None, None, 3)),
    "all but the end": (lambda x: x[:, : tf.shape(x)[1]], (None, None, 3)),
    "places": (lambda x: x + tf.cast(tf.range(tf.shape(x)[1]), tf.float32)[:, None], (None, None, 3)),
    "places from 1": (lambda x: x + tf.cast(tf.range(1, tf.shape(x)[1] + 1), tf.float32)[:, None], (None, None, 3)),
    "zeros": (lambda x: tf.concat([tf.zeros([tf.shape(x)[0], 2]), x], 1), (None, 3)),
    "size as a number": (lambda x: x / tf.cast(tf.shape(x)[1], tf.float32), (None, None, 3)),
    "mean of a batch": (lambda x: x - tf.reduce_mean(x, 0), (None, 3)),
    "moments": (lambda x: tf.nn.moments(x, [0, 1]), (None, 4, 3)),
    "gelu": (lambda x: tf.nn.gelu(x, approximate=False), (None, 3)),
    "pictures": (lambda x: tf.image.resize(x, [8, 8]), (None, 4, 4, 3)),
    "volumes": (lambda x: tf.nn.max_pool3d(x, 2, 2, "SAME"), (1, 5, 4, 4, 2)),
    "average volumes": (lambda x: tf.nn.avg_pool3d(x, 2, 2, "VALID"), (1, 4, 4, 4, 2)),
    "einsum": (lambda x: tf.einsum("btc,bsc->bts", x, x), (None, 4, 3)),
    "rows times weights": (lambda x: tf.tensordot(x, tf.constant(weights(3, 5)), 1), (None, 4, 3)),
    "batches of matrices": (lambda x: tf.matmul(x, x, transpose_b=True), (2, 4, 3)),
    "spread": (lambda x: tf.broadcast_to(x[:, :1], tf.shape(x)), (None, 4)),
    "dropped axes": (lambda x: tf.squeeze(tf.expand_dims(x, 1), [1]), (None, 4)),
    "list": (lambda x: tf.stack(tf.unstack(x, axis=1), 0), (2, 4, 3)),
    "called": (tf.function(lambda x: tf.function(lambda y: y * 2 + 1)(x)), (None, 4)),
    "mel": (
        lambda x: tf.math.log(
            tf.abs(tf.signal.stft(x, 64, 32)) @ tf.signal.linear_to_mel_weight_matrix(10, 33, 16000, 20.0, 8000.0) + 1
        ),
        (1, 256),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_the_same(name):
    function, shape = FUNCTIONS[name]
    agrees(tf.function(function), {"x": shape})


def test_no_operator_is_wasted_on_an_open_batch():
    model = agrees(tf.function(FUNCTIONS["flattened"][0]), {"x": (None, None, 8)})
    assert operators(model) == ["RESHAPE"]
    model = agrees(tf.function(FUNCTIONS["rows times weights"][0]), {"x": (None, 4, 3)})
    assert operators(model) == ["FULLY_CONNECTED"]


def test_boxes_that_overlap_are_suppressed():
    """How many are left is open, and stays so behind it."""

    def best(boxes, scores):
        kept = tf.image.non_max_suppression(boxes, scores, 5, 0.5)
        return tf.gather(boxes, kept), tf.gather(scores, kept) * 2

    agrees(tf.function(best), {"boxes": (8, 4), "scores": (8,)})


def test_names_are_those_of_arguments_and_results():
    f = tf.function(lambda left, right: {"sum": left + right, "product": left * right})
    model = agrees(f, {"left": (2, 3), "right": (2, 3)})
    assert (list(model.inputs), list(model.outputs)) == (["left", "right"], ["product", "sum"])


def test_a_concrete_function_brings_its_shapes():
    f = tf.function(lambda x: tf.nn.relu(x)).get_concrete_function(tf.TensorSpec((None, 3), tf.float32, "x"))
    assert agrees(f).inputs["x"].shape == agrees(f, {"x": ("rows", 3)}).inputs["x"].shape
    with pytest.raises(InputError, match="has the shape"):
        convert(f, inputs={"x": (1, 4)})
    with pytest.raises(InputError, match="there is no input 'y'"):
        convert(f, inputs={"y": (1, 3)})


# loops and branches


def test_a_loop_runs_as_often():
    f = tf.function(lambda x: tf.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, y * 0.5 + x), (0, x))[1])
    assert "WHILE" in operators(agrees(f, {"x": (None, 3)}))


def test_branches_are_taken():
    f = tf.function(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1))
    model = agrees(f, {"x": (2, 3)})
    for x in (np.ones((2, 3), np.float32), -np.ones((2, 3), np.float32)):
        np.testing.assert_array_equal(run_official(model, {"x": x})[0], f(x))
        np.testing.assert_array_equal(model(x), f(x))


def test_one_of_many_branches_is_taken():
    f = tf.function(lambda x: tf.switch_case(tf.cast(x[0], tf.int32), [lambda: x * 2, lambda: x - 1, lambda: x * x]))
    model = agrees(f, {"x": (3,)})
    for first in (-1, 0, 1, 2, 7):
        x = np.array([first, 5, 6], np.float32)
        np.testing.assert_array_equal(run_official(model, {"x": x})[0], f(x))
        np.testing.assert_array_equal(model(x), f(x))


def test_a_branch_that_is_known_is_the_only_one():
    f = tf.function(lambda x: tf.raw_ops.If(
        cond=tf.constant(True), input=[x], Tout=[tf.float32],
        then_branch=tf.function(lambda y: y * 2).get_concrete_function(tf.TensorSpec((2,))),
        else_branch=tf.function(lambda y: y - 1).get_concrete_function(tf.TensorSpec((2,))),
    )[0])  # fmt: skip
    assert operators(agrees(f, {"x": (2,)})) == ["MUL"]


def loop_of_steps(x, w):
    """A recurrent layer by hand: its results are a list of tensors."""
    steps = tf.shape(x)[1]
    made = tf.TensorArray(tf.float32, steps)
    state = tf.zeros([tf.shape(x)[0], 4])
    rows = tf.TensorArray(tf.float32, steps).unstack(tf.transpose(x, [1, 0, 2]))
    for i in tf.range(steps):
        state = tf.tanh(rows.read(i) @ w + state)
        made = made.write(i, state)
    return tf.transpose(made.stack(), [1, 0, 2])


@pytest.mark.parametrize("shape", [(2, 5, 3), (None, 5, 3), (None, None, 3)], ids=str)
def test_a_loop_that_keeps_lists(shape):
    w = tf.constant(weights(3, 4))
    agrees(tf.function(lambda x: loop_of_steps(x, w)), {"x": shape})


def test_lists_outside_of_loops():
    def f(x):
        handle = tf.raw_ops.EmptyTensorList(element_shape=[3], max_num_elements=4, element_dtype=tf.float32)
        handle = tf.raw_ops.TensorListPushBack(input_handle=handle, tensor=x[0])
        handle = tf.raw_ops.TensorListPushBack(input_handle=handle, tensor=x[1] * 2)
        rest, last = tf.raw_ops.TensorListPopBack(input_handle=handle, element_shape=[3], element_dtype=tf.float32)
        return last, tf.raw_ops.TensorListStack(input_handle=rest, element_shape=[3], element_dtype=tf.float32)

    agrees(tf.function(f), {"x": (2, 3)})


SOME = tf.Variable(tf.zeros((3, 3)))


def given_to_branches(x):
    handle = tf.raw_ops.TensorListReserve(element_shape=[3], num_elements=2, element_dtype=tf.float32)

    def first():
        return tf.raw_ops.TensorListSetItem(input_handle=handle, index=0, item=x[0])

    handle = tf.cond(x[0, 0] > 0, first, lambda: tf.identity(handle))
    return tf.raw_ops.TensorListStack(input_handle=handle, element_shape=[3], element_dtype=tf.float32)


REFUSED = {
    "a list that nobody wrote to": (
        lambda x: tf.raw_ops.TensorListStack(
            input_handle=tf.raw_ops.TensorListReserve(element_shape=-1, num_elements=2, element_dtype=tf.float32),
            element_shape=-1, element_dtype=tf.float32),
        "the shape of the items of a list is not known",
    ),
    "a shape from data": (lambda x: tf.reshape(x, tf.cast(x[0], tf.int32)), "a shape that is computed from data"),
    "a loop that grows": (
        lambda x: tf.while_loop(lambda y: tf.shape(y)[0] < 9, lambda y: [tf.concat([y, x], 0)], [x],
                                shape_invariants=[tf.TensorShape([None, 3])])[0],
        "a loop in which",
    ),
    "no builtin": (lambda x: tf.linalg.det(x[:, :3]), "MatrixDeterminant at .*test_tensorflow.py:"),
    "a list of a length from data": (
        lambda x: tf.raw_ops.TensorListLength(input_handle=tf.raw_ops.TensorListReserve(
            element_shape=[2], num_elements=tf.cast(x[0, 0], tf.int32), element_dtype=tf.float32)),
        "the number of items is computed from data",
    ),
    "a list of which branches know nothing": (lambda x: given_to_branches(x), "a list of tensors of which no item"),
    "a resource as a result": (lambda x: (x, SOME.handle), "a resource where a tensor is needed"),
    "branches of two shapes": (
        lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: x[:1]), "branches that give"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_named(name):
    function, words = REFUSED[name]
    with pytest.raises(UnsupportedOp, match=words) as caught:
        convert(tf.function(function), inputs={"x": (3, 3)})
    assert "cannot express 1 part" in str(caught.value)


# sources


def test_inputs_must_be_described():
    with pytest.raises(InputError, match="must be described"):
        convert(tf.function(lambda x: x))
    with pytest.raises(InputError, match="does not take x"):
        convert(tf.function(lambda x: tf.matmul(x, tf.zeros((5, 5)))), inputs={"x": (2, 3)})
    with pytest.raises(InputError, match="how many dimensions"):
        convert(tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec(None, tf.float32, "x")))


def test_tensorflow_must_be_there(monkeypatch, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependency, match="TensorFlow is not installed"):
        convert(tmp_path)


def test_tensors_of_another_graph_are_refused():
    with tf.Graph().as_default():
        other = tf.compat.v1.placeholder(tf.float32, (3,))
        f = tf.function(lambda x: x + other).get_concrete_function(tf.TensorSpec((3,), tf.float32, "x"))
    with pytest.raises(InputError, match="a tensor of another graph"):
        convert(f)


def test_types_that_files_cannot_hold_are_named():
    f = tf.function(lambda x: tf.quantization.dequantize(tf.quantization.quantize(x, 0.0, 1.0, tf.qint8)[0], 0.0, 1.0))
    with pytest.raises(ModelError, match="has the element type qint8"):
        convert(f, inputs={"x": (3,)})


def test_other_objects_are_no_source():
    with pytest.raises(InputError, match="cannot be called"):
        convert(3, kind="tensorflow")


def frozen(function):
    with tf.Graph().as_default() as graph:
        function(tf.compat.v1.placeholder(tf.float32, (None, 4), "x"))
    return graph.as_graph_def()


def test_a_frozen_graph(tmp_path):
    w = weights(4, 3)
    graph = frozen(lambda x: tf.nn.softmax(tf.nn.relu(tf.matmul(x, w), name="middle"), name="y"))
    agrees(graph)
    path = tmp_path / "net.pb"
    path.write_bytes(graph.SerializeToString())
    model = agrees(path)
    assert (list(model.inputs), list(model.outputs)) == (["x"], ["y"])
    assert operators(agrees(path, {"middle": (None, 3)})) == ["SOFTMAX"]
    with pytest.raises(InputError, match="the graph has no 'z'"):
        convert(path, inputs={"z": (1, 3)})


def test_files_that_are_no_graph(tmp_path):
    for content in (b"", b"\xff\xff not a graph"):
        (tmp_path / "bad.pb").write_bytes(content)
        with pytest.raises(ModelError, match="holds no graph"):
            convert(tmp_path / "bad.pb")
    with pytest.raises(InputError, match="no placeholders"):
        convert(frozen_constant())
    graph = frozen(lambda x: tf.nn.relu(x, name="y"))
    graph.node[-1].op = "NoSuchOperator"
    with pytest.raises(ModelError, match="cannot read the graph"):
        convert(graph)


def frozen_constant():
    with tf.Graph().as_default() as graph:
        tf.constant(1.0)
    return graph.as_graph_def()


def test_control_flow_of_the_first_kind_is_refused():
    tf.compat.v1.disable_control_flow_v2()
    try:
        graph = frozen(lambda x: tf.compat.v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (0, x)))
    finally:
        tf.compat.v1.enable_control_flow_v2()
    with pytest.raises(UnsupportedOp, match="control flow of TensorFlow 1"):
        convert(graph)


# TensorFlow's own operators


def test_operators_that_are_left_to_tensorflow():
    f = tf.function(lambda x: tf.linalg.det(x) + tf.math.lgamma(x)[:, 0, 0])
    with pytest.raises(UnsupportedOp, match="cannot express 2 parts"):
        convert(f, inputs={"x": (None, 3, 3)})
    model = agrees(f, {"x": (None, 3, 3)}, official=False, allow_select_tf=True)
    assert operators(model)[:2] == ["FlexMatrixDeterminant", "FlexLgamma"]


NOT_LEFT = {
    "functions": (REFUSED["a loop that grows"][0], "it calls functions"),
    "Python": (lambda x: tf.numpy_function(lambda y: y, [x], tf.float32), "it calls a function of Python"),
    "resources": (
        lambda x: SOME.scatter_nd_update([[0]], x[:1]),
        "a list of tensors or a resource",
    ),
    "a shape that is not known at all": (
        lambda x: tf.raw_ops.Restore(file_pattern="a", tensor_name="b", dt=tf.float32) + x,
        "not even the number of dimensions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_LEFT)
def test_what_is_not_left_to_tensorflow(name):
    function, words = NOT_LEFT[name]
    with pytest.raises(UnsupportedOp, match=words):
        convert(tf.function(function), inputs={"x": (3, 3)}, allow_select_tf=True)


# the command


def test_the_command_takes_a_saved_model(tmp_path):
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x * 2}, input_signature=[tf.TensorSpec((None, 3), tf.float32, "x")])
    module.g = tf.function(lambda x: {"y": tf.linalg.det(x)}, input_signature=[tf.TensorSpec((3, 3), tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"double": module.f, "other": module.g})
    given = [str(tmp_path / "saved"), "-o", str(tmp_path / "m.tflite"), "--json"]
    for kind in ([], ["--from", "savedmodel"], ["--from", "tensorflow"]):
        made = CliRunner().invoke(command, [*given, *kind, "--signature", "double", "--verify"])
        assert made.exit_code == 0, made.output
        assert json.loads(made.stdout)["operators"] == {"MUL": 1}
    made = CliRunner().invoke(command, [*given, "--allow-select-tf"])
    assert json.loads(made.stdout)["operators"] == {"MUL": 1, "FlexMatrixDeterminant": 1}
    assert isinstance(CliRunner().invoke(command, given).exception, UnsupportedOp)
