"""SavedModels of TensorFlow: several signatures, training, tables; judged by TensorFlow and the official runtime."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import agreement, convert, converted
from lithe.errors import FileMissing, InputError, ModelError, UnsupportedOp
from lithe.formats import tflite
from tests.conversion.official import run_official

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

RANDOM = np.random.default_rng(0)
PICTURES, LABELS = tf.TensorSpec((None, 8, 8, 1), tf.float32, "x"), tf.TensorSpec((None,), tf.int32, "label")


def variable(name: str, *shape: int, scale: float = 0.3):
    return tf.Variable(RANDOM.standard_normal(shape).astype(np.float32) * scale, name=name)


class Net(tf.Module):
    """A small net with a normalization that learns, trained with momentum."""

    def __init__(self):
        super().__init__()
        self.filter, self.bias = variable("filter", 3, 3, 1, 4), variable("bias", 4)
        self.scale, self.offset = tf.Variable(tf.ones(4), name="scale"), tf.Variable(tf.zeros(4), name="offset")
        self.mean, self.spread = tf.Variable(tf.zeros(4), name="mean"), tf.Variable(tf.ones(4), name="spread")
        self.dense = variable("dense", 64, 3)
        self.trained = [self.filter, self.bias, self.scale, self.offset, self.dense]
        self.speeds = [tf.Variable(tf.zeros_like(v), name="speed") for v in self.trained]
        self.steps = tf.Variable(0, dtype=tf.int64, name="steps")

    def logits(self, x, training):
        x = tf.nn.bias_add(tf.nn.conv2d(x, self.filter, 1, "SAME"), self.bias)
        given = {} if training else {"mean": self.mean, "variance": self.spread}
        x, mean, spread = tf.compat.v1.nn.fused_batch_norm(x, self.scale, self.offset, is_training=training, **given)
        if training:
            self.mean.assign(self.mean * 0.9 + mean * 0.1)
            self.spread.assign(self.spread * 0.9 + spread * 0.1)
        x = tf.nn.max_pool2d(tf.nn.relu(x), 2, 2, "VALID")
        return tf.matmul(tf.reshape(x, [-1, 64]), self.dense)

    @tf.function(input_signature=[PICTURES, LABELS])
    def train(self, x, label):
        with tf.GradientTape() as tape:
            logits = self.logits(x, True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits))
        for weight, speed, change in zip(self.trained, self.speeds, tape.gradient(loss, self.trained), strict=True):
            speed.assign(0.9 * speed + change)
            weight.assign_sub(0.1 * speed)
        self.steps.assign_add(1)
        return {"loss": loss, "steps": self.steps.read_value()}

    @tf.function(input_signature=[PICTURES])
    def infer(self, x):
        return {"y": tf.nn.softmax(self.logits(x, False))}

    @tf.function(input_signature=[])
    def save(self):
        return {"dense": self.dense.read_value(), "filter": self.filter.read_value()}

    @tf.function(input_signature=[tf.TensorSpec((64, 3), tf.float32, "dense"),
                                  tf.TensorSpec((3, 3, 1, 4), tf.float32, "filter")])  # fmt: skip
    def restore(self, dense, filter):
        self.dense.assign(dense)
        self.filter.assign(filter)
        return {"done": tf.constant(True)}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path, made = tmp_path_factory.mktemp("net") / "saved", Net()
    functions = {key: getattr(made, key) for key in ("train", "infer", "save", "restore")}
    tf.saved_model.save(made, str(path), signatures=functions)
    return path


def test_training_on_the_device_goes_as_in_tensorflow(net):
    """Four steps; then what was learnt is read, changed back and used, in Lithe and in the official runtime."""
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    model = convert(net)
    assert list(model.signatures) == ["train", "infer", "save", "restore"]
    source = tf.saved_model.load(str(net)).signatures
    interpreter = official.Interpreter(model_content=tflite.write(model.module))

    def everywhere(key, **given):
        wanted = {name: v.numpy() for name, v in source[key](**{n: tf.constant(v) for n, v in given.items()}).items()}
        ours = model.signatures[key](**given)
        theirs = interpreter.get_signature_runner(key)(**given)
        for name, value in wanted.items():
            assert relative_difference(value, np.asarray(ours[name] if isinstance(ours, dict) else ours)) <= 1e-4
            assert relative_difference(value, np.asarray(theirs[name])) <= 1e-4
        return wanted

    x, label = RANDOM.standard_normal((6, 8, 8, 1)).astype(np.float32), np.array([0, 1, 2, 2, 1, 0], np.int32)
    before = everywhere("save")
    losses = [everywhere("train", x=x, label=label)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    learnt = everywhere("infer", x=x)["y"]
    everywhere("restore", **before)
    assert relative_difference(learnt, everywhere("infer", x=x)["y"]) > 1e-2


def test_chosen_signatures_alone_are_written(net):
    model, conversion = converted(net, signatures=["infer"])
    assert list(model.signatures) == ["infer"]
    assert not {"VAR_HANDLE", "CALL_ONCE"} & {n.op.name for g in model.module.graphs for n in g.nodes}
    assert agreement(model, conversion).worst <= 1e-5
    with pytest.raises(InputError, match="there is no signature 'test'"):
        convert(net, signatures=["test"])
    with pytest.raises(InputError, match="has no signatures to choose from"):
        convert(tf.function(lambda x: x), inputs={"x": (1,)}, signatures=["infer"])


def test_weights_are_written_once(net):
    infer, both = (len(tflite.write(convert(net, signatures=keys).module)) for keys in (["save"], ["save", "restore"]))
    assert both < infer + 2 * 64 * 3 * 4


def test_functions_by_name_share_their_variables():
    made = Net()
    model = convert({"train": made.train, "save": made.save})
    x, label = RANDOM.standard_normal((2, 8, 8, 1)).astype(np.float32), np.array([0, 1], np.int32)
    model.signatures["train"](x=x, label=label)
    made.train(tf.constant(x), tf.constant(label))
    assert relative_difference(made.dense.numpy(), model.signatures["save"]()["dense"]) <= 1e-4


def test_a_module_with_signatures_is_a_source(net):
    assert list(convert(tf.saved_model.load(str(net)), signatures=["save"]).signatures) == ["save"]


def test_the_recipe_that_writes_files_needs_tensorflow():
    v = variable("v", 2)

    @tf.function(input_signature=[tf.TensorSpec((), tf.string, "path")])
    def save(path):
        tf.raw_ops.Save(filename=path, tensor_names=["v"], data=[v.read_value()])
        return {"path": path}

    with pytest.raises(UnsupportedOp, match="Save at Save"):
        convert(save)
    model = convert(save, allow_select_tf=True)
    assert "FlexSave" in [n.op.name for n in model.module.main.nodes]


def test_a_saved_file_is_read_back(tmp_path):
    v = variable("v", 2)
    path = np.array(str(tmp_path / "weights").encode(), object)

    @tf.function(input_signature=[tf.TensorSpec((), tf.string, "path")])
    def save(path):
        tf.raw_ops.Save(filename=path, tensor_names=["v"], data=[v.read_value()])
        return {"path": path}

    @tf.function(input_signature=[tf.TensorSpec((), tf.string, "path")])
    def restore(path):
        v.assign(tf.ensure_shape(tf.raw_ops.Restore(file_pattern=path, tensor_name="v", dt=tf.float32), [2]))
        return {"v": v.read_value()}

    @tf.function(input_signature=[])
    def clear():
        v.assign(tf.zeros(2))
        return {"v": v.read_value()}

    model = convert({"save": save, "restore": restore, "clear": clear}, allow_select_tf=True)
    model.signatures["save"](path=path)
    assert not model.signatures["clear"]()["v"].any() if isinstance(model.signatures["clear"](), dict) else True
    made = model.signatures["restore"](path=path)
    np.testing.assert_array_equal(made["v"] if isinstance(made, dict) else made, v.numpy())


def test_rows_of_a_table_are_trained():
    """The gradient by rows names some of them twice."""
    rows = variable("rows", 5, 2)

    @tf.function(input_signature=[tf.TensorSpec((4,), tf.int32, "places")])
    def train(places):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(rows, places) - 1.0))
        change = tape.gradient(loss, rows)
        rows.scatter_sub(tf.IndexedSlices(0.1 * change.values, change.indices))
        return {"loss": loss, "rows": rows.read_value()}

    model = convert(train)
    for places in ([0, 1, 1, 4], [4, 4, 2, 0]):
        wanted, made = train(tf.constant(places)), model(places=np.int32(places))
        for name, value in wanted.items():
            assert relative_difference(value.numpy(), np.asarray(made[name])) <= 1e-5


def test_a_variable_keeps_its_shape():
    v = tf.Variable(tf.zeros(2), shape=tf.TensorShape([None]))
    f = tf.function(lambda x: v.assign(x))
    with pytest.raises(UnsupportedOp, match="is assigned float32"):
        convert(f, inputs={"x": (3,)})


def test_inputs_are_described_for_each_signature_or_for_all(net):
    model = convert(net, signatures=["train", "infer"], inputs={"x": (1, 8, 8, 1), "label": (1,)})
    assert model.signatures["infer"].inputs["x"].shape == (1, 8, 8, 1)
    model = convert(net, signatures=["save", "infer"], inputs={"infer": {"x": (2, 8, 8, 1)}})
    assert model.signatures["infer"].inputs["x"].shape == (2, 8, 8, 1)
    with pytest.raises(InputError, match="there is no input 'z'"):
        convert(net, signatures=["train", "infer"], inputs={"z": (1,)})


# tables


class Words(tf.Module):
    def __init__(self, keys, values, default):
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.constant(values))
        self.table = tf.lookup.StaticHashTable(pairs, default)
        self.rows, self.weights = variable("rows", 4, 8), variable("weights", 8, 2)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.string, "words")])
    def judge(self, words):
        places = self.table.lookup(words)
        mean = tf.reduce_mean(tf.nn.embedding_lookup(self.rows, places), 1)
        return {"score": tf.nn.softmax(mean @ self.weights), "size": self.table.size()}


def test_words_are_looked_up(tmp_path):
    made = Words(["good", "bad", "film"], np.int64([1, 2, 3]), 0)
    tf.saved_model.save(made, str(tmp_path / "saved"), signatures=made.judge)
    model = convert(tmp_path / "saved")
    words = np.array([["good", "film", "unknown"], ["bad", "bad", "film"]], object)
    wanted = made.judge(tf.constant(words))
    words = np.array([[w.encode() for w in row] for row in words], object)
    score, size = run_official(model, {"words": words})
    ours = model(words=words)
    for got in (score, ours["score"]):
        assert relative_difference(wanted["score"].numpy(), got) <= 1e-5
    assert size == ours["size"] == 3


def test_a_table_that_runtimes_do_not_have_is_refused():
    made = Words(["good", "bad"], np.int32([1, 2]), 0)
    with pytest.raises(UnsupportedOp, match="a table from string to int32"):
        convert(made.judge)


# what is wrong with a folder


def test_folders_that_are_no_saved_model(tmp_path):
    with pytest.raises(InputError, match="of no kind that is known"):
        convert(tmp_path)
    with pytest.raises(FileMissing):
        convert(tmp_path / "nowhere")
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="TensorFlow cannot load"):
        convert(tmp_path)
