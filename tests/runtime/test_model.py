"""The friendly door: calls by position and by name, checked; figures, timing, saving."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import lithe
from lithe.errors import FileMissing, InputError
from lithe.formats.tflite import write
from lithe.ir.graph import Module, Signature
from lithe.runtime.benchmark import measure
from lithe.runtime.function import SHAPES_KEPT
from lithe.runtime.summary import macs, readable, summarize, working_bytes
from lithe.types import FLOAT32, INT4, INT8, STRING, UINT8, Quantization, TensorType
from tests.passes.graphs import Draft

F = np.float32


def two_inputs() -> lithe.Model:
    """total = joined x and y, and x's logistic, under a signature's names."""
    d = Draft()
    x, y = d.input((1, 2)), d.input((1, 3))
    joined = d("CONCATENATION", x, y, shape=(1, 5), axis=1)
    squashed = d("LOGISTIC", x, shape=(1, 2))
    graph = d.graph(joined, squashed)
    names = Signature("serve", {"left": x, "right": y}, {"joined": joined, "squashed": squashed})
    return lithe.load(write(Module([graph], [names])))


PLAIN = TensorType(FLOAT32, (1, 2, 4, 3))


def one_input(type_: TensorType = PLAIN, signature=None) -> lithe.Model:
    """The input `image` is the output."""
    d = Draft()
    x = d.input(type_.shape, type_.dtype)
    x.type, x.name, x.shape_signature = type_, "image", signature
    return lithe.load(write(Module([d.graph(x)])))


def test_one_output_is_an_array_and_several_are_named():
    x = np.ones((1, 2, 4, 3), F)
    np.testing.assert_array_equal(one_input()(x), x)
    got = two_inputs()(np.zeros((1, 2), F), np.ones((1, 3), F))
    assert list(got) == ["joined", "squashed"]
    assert got["joined"].tolist() == [[0, 0, 1, 1, 1]]
    assert got["squashed"].tolist() == [[0.5, 0.5]]


def test_arrays_go_in_by_position_by_name_or_as_a_dictionary():
    model, x, y = two_inputs(), np.zeros((1, 2), F), np.ones((1, 3), F)
    want = model(x, y)["joined"]
    for got in (
        model(x, right=y),
        model(right=y, left=x),
        model({"left": x, "right": y}),
        model([[0, 0]], [[1, 1, 1]]),
    ):
        np.testing.assert_array_equal(got["joined"], want)


def test_any_name_is_a_name():
    d = Draft()
    x = d.input((1,))
    x.name = "self"
    content = write(Module([d.graph(x)], [Signature("f", {"self": x}, {"self": x})]))
    model, runner = lithe.load(content), lithe.Interpreter(model_content=content).get_signature_runner()
    assert model(self=F([3])) == model.signatures["f"](self=F([3]))["self"] == runner(self=F([3]))["self"] == 3


def test_results_are_the_callers_own():
    model = one_input()
    first = model(np.ones((1, 2, 4, 3), F))
    model(np.zeros((1, 2, 4, 3), F))
    assert first.all()


@pytest.mark.parametrize(
    ("arguments", "named", "text"),
    [
        ((1, 2, 3), {}, "takes 2 arrays, got 3"),
        ((), {"left": 1}, "input 'right' is missing"),
        ((1,), {"left": 1}, "input 'left' is given by position and by name"),
        ((), {"middle": 1}, "there is no input 'middle'\n.*\n  try: the inputs are left, right"),
    ],
)
def test_arguments_that_do_not_fit_the_inputs(arguments, named, text):
    with pytest.raises(InputError, match=text):
        two_inputs()(*arguments, **named)


QUANTIZED = TensorType(UINT8, (1, 2, 4, 3), Quantization((0.5,), (10,)))


@pytest.mark.parametrize(
    ("type_", "value", "got", "hint"),
    [
        (PLAIN, np.zeros((1, 2, 4, 3)), "float64[1, 2, 4, 3]", "x.astype(np.float32)"),
        (PLAIN, np.zeros((2, 4, 3), F), "float32[2, 4, 3]", "np.expand_dims(x, 0)"),
        (PLAIN, np.zeros((1, 3, 2, 4), F), "float32[1, 3, 2, 4]", "np.transpose(x, (0, 2, 3, 1))"),
        (PLAIN, np.zeros(24, F), "float32[24]", "x.reshape([1, 2, 4, 3])"),
        (PLAIN, np.zeros((1, 5, 5, 3), F), "float32[1, 5, 5, 3]", "the dimensions are fixed"),
        (QUANTIZED, np.zeros((1, 2, 4, 3), F), "float32[1, 2, 4, 3]", "model.inputs['image'].quantize(x)"),
        (QUANTIZED, [[[[300]]]], "int64[1, 1, 1, 1]", "x.astype(np.uint8)"),
        (TensorType(STRING, (1,)), np.zeros(1, F), "float32[1]", "an array of str or bytes"),
        (PLAIN, np.array(["a"]), "string[1]", ""),
    ],
)
def test_a_wrong_array_is_told_both_sides_and_the_way_out(type_, value, got, hint):
    model = one_input(type_)
    with pytest.raises(InputError) as caught:
        model(image=value)
    assert caught.value.problem == f"input 'image' expects {model.inputs['image']}, got {got}"
    assert caught.value.where == "tensor #0"
    assert caught.value.hint.startswith(hint) or hint in caught.value.hint


def test_real_numbers_and_stored_ones():
    info = one_input(QUANTIZED).inputs["image"]
    assert str(info) == "uint8[1, 2, 4, 3]"
    assert info.quantize([-100, 0, 1.0, 500]).tolist() == [0, 10, 12, 255]
    assert info.dequantize([10, 12]).tolist() == [0, 1]
    with pytest.raises(InputError, match="is not quantized with one scale"):
        one_input().inputs["image"].quantize(1.0)


def test_packed_integers_and_strings_are_taken():
    assert one_input(TensorType(INT4, (2,)))(np.array([-8, 7], np.int8)).tolist() == [-8, 7]
    assert one_input(TensorType(INT8, (2,)))([1, 2]).tolist() == [1, 2]
    assert one_input(TensorType(STRING, (1,)))(["a"]).tolist() == [b"a"]


def test_open_dimensions_take_any_size_and_few_shapes_are_kept():
    model = one_input(TensorType(FLOAT32, (1, 2)), (-1, 2))
    assert str(model.inputs["image"]) == "float32[?, 2]"
    for n in (*range(SHAPES_KEPT + 2), 1):
        assert model(np.ones((n, 2), F)).shape == (n, 2)
    assert len(model._main._sessions) == SHAPES_KEPT


def test_a_call_that_fits_does_not_let_through_the_next_that_does_not():
    model, x, y = two_inputs(), np.zeros((1, 2), F), np.ones((1, 3), F)
    want = model(x, y)["joined"]
    for wrong in ((x, y.astype(np.float64)), (x, y[0]), (y, x), (x,), (x, y, y)):
        with pytest.raises(InputError):
            model(*wrong)
    for same in ((x.tolist(), y), (x, y[:, ::-1]), (x, np.asfortranarray(y)), (x.astype(">f4"), y.astype(">f4"))):
        np.testing.assert_array_equal(model(*same)["joined"], want)
    packed = one_input(TensorType(INT4, (2,)))
    assert packed(np.array([-8, 7], np.int8)).tolist() == [-8, 7]
    with pytest.raises(InputError, match="int4 holds -8 to 7, got 8 to 8"):
        packed(np.array([8, 8], np.int8))


def test_signatures_are_functions():
    model = two_inputs()
    (key,) = model.signatures
    assert repr(model.signatures[key]) == (
        "serve(left: float32[1, 2], right: float32[1, 3]) -> (joined: float32[1, 5], squashed: float32[1, 2])"
    )
    got = model.signatures["serve"](left=np.zeros((1, 2), F), right=np.ones((1, 3), F))
    assert got["squashed"].tolist() == [[0.5, 0.5]]


def test_two_signatures_of_a_real_model(corpus):
    model = lithe.load(corpus / "models/control_state_signature/two_signatures.tflite")
    assert list(model.signatures) == ["add", "multiply"]
    x = F([1, 2])
    assert model.signatures["add"](x=x)["add_result"].tolist() == [11, 12]
    product = model.signatures["multiply"](x=x)["multiply_result"]
    assert product.shape == (2,)
    assert product[1] == 2 * product[0]


def test_calls_from_many_threads_do_not_mix():
    model, wrong = two_inputs(), []

    def work(n: int) -> None:
        for _ in range(50):
            got = model(np.full((1, 2), n, F), np.full((1, 3), n, F))["joined"]
            wrong.extend(v for v in got.ravel() if v != n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_reset_forgets_the_state():
    model = two_inputs()
    model(np.zeros((1, 2), F), np.zeros((1, 3), F))
    model.reset()


def test_a_model_shows_what_it_is(corpus):
    model = lithe.load(corpus / "models/micro/hello_world_float.tflite")
    assert repr(model) == (
        "<lithe.Model 'hello_world_float.tflite' (dense_input: float32[?, 1]) -> (dense_2: float32[?, 1]), 3 operators>"
    )
    assert "min_runtime_version" in model.metadata
    assert model.labels() is None


def test_labels_come_from_the_models_own_file(corpus):
    labels = lithe.load(corpus / "models/classification/mobilenet_v1_0.25_224_quant.tflite").labels()
    assert len(labels) == 1001


def test_summary_counts_weights_work_and_memory(corpus):
    summary = lithe.load(corpus / "models/micro/hello_world_float.tflite").summary()
    assert summary.counts() == {"FULLY_CONNECTED": 3}
    assert summary.macs == 16 + 16 * 16 + 16
    assert summary.parameters == 16 + 16 + 256 + 16 + 16 + 1
    assert summary.weight_bytes == 4 * summary.parameters
    assert summary.working_bytes == 4 * (16 + 16)
    assert summary.to_dict()["operators"][1]["macs"] == 256
    text = str(summary)
    assert "FULLY_CONNECTED" in text
    assert "weights         1.3 kB" in text


def test_macs_of_contractions():
    d = Draft()
    image, weights = d.tensor((1, 4, 4, 3)), d.tensor((8, 3, 3, 3))
    sizes = d.constant([1, 8, 8, 3], np.int32)
    cases = {
        "CONV_2D": (d("CONV_2D", image, weights, None, shape=(1, 4, 4, 8)), 128 * 27),
        "DEPTHWISE_CONV_2D": (d("DEPTHWISE_CONV_2D", image, d.tensor((1, 3, 3, 3)), None, shape=(1, 4, 4, 3)), 48 * 9),
        "BATCH_MATMUL": (d("BATCH_MATMUL", d.tensor((2, 3)), d.tensor((3, 4)), shape=(2, 4)), 24),
        "TRANSPOSE_CONV": (
            d("TRANSPOSE_CONV", sizes, d.tensor((3, 2, 2, 8)), d.tensor((1, 4, 4, 8)), shape=(1,)),
            1536,
        ),
        "LOGISTIC": (d("LOGISTIC", image, shape=(None, 4)), None),
        "RELU": (d("RELU", image, shape=(1, 4, 4, 3)), 0),
    }
    for node in d.nodes:
        assert macs(node) == cases[node.op.name][1], node


def test_working_bytes_is_the_worst_moment():
    d = Draft()
    x = d.input((100,))
    y = d("LOGISTIC", d("LOGISTIC", d("LOGISTIC", x, shape=(50,)), shape=(200,)), shape=(1,))
    assert working_bytes(d.graph(y)) == 4 * 250
    assert summarize(d.graph(y)).working_bytes == 1000
    d.nodes[1].outputs[0].type = TensorType(y.type.dtype, (None,))
    assert working_bytes(d.graph(y)) == 4 * 150


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3_000_000_000, "3.0 GB")]
)
def test_sizes_for_people(size, text):
    assert readable(size) == text


def test_benchmark_measures():
    timing = two_inputs().benchmark(runs=5, warmup=1)
    assert timing.runs == 5
    assert 0 < timing.min_ms <= timing.p10_ms <= timing.median_ms <= timing.p90_ms
    assert "5 runs" in str(timing)
    assert timing.to_dict()["warmup"] == 1
    assert measure(lambda: None, runs=10**9, seconds=0.01).runs >= 1


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"warmup": -1}, {"seconds": 0}, {"seconds": float("nan")}])
def test_benchmark_refuses_nonsense(wrong):
    with pytest.raises(InputError, match="at least 1, 0 and more than 0 are needed"):
        two_inputs().benchmark(**wrong)


def test_a_saved_model_is_the_model(tmp_path):
    two_inputs().save(tmp_path / "m.tflite")
    again = lithe.load(tmp_path / "m.tflite")
    assert list(again.inputs) == ["left", "right"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    again.save(tmp_path / "m.tflite")
    assert again.name == "m.tflite"


def test_saving_where_nothing_can_be_saved_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        two_inputs().save(tmp_path / "missing" / "m.tflite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        two_inputs().save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("threads", [0, -1, "2", 1.5])
def test_load_refuses_nonsense(threads):
    with pytest.raises(InputError, match="num_threads is an integer of at least 1"):
        lithe.load("model.tflite", num_threads=threads)


def test_load_of_a_missing_file():
    with pytest.raises(FileMissing, match="Could not open"):
        lithe.load("/nonexistent/model.tflite")


def test_code_is_kept_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    content = write(two_inputs().module)
    for cache in (False, True):
        lithe.load(content, cache=cache)(np.zeros((1, 2), F), np.zeros((1, 3), F))
        assert (tmp_path / "cache").exists() == cache


def test_tensors_of_one_name_are_told_apart():
    d = Draft()
    x, y = d.input((1,)), d.input((2,))
    x.name = y.name = "x"
    assert list(lithe.load(write(Module([d.graph(x, y)]))).inputs) == ["x", "x#1"]


def test_importing_lithe_is_cheap_and_names_come_when_used():
    program = (
        "import sys, lithe\n"
        "heavy = {'llvmlite', 'click', 'rich', 'numpy'} & set(sys.modules); assert not heavy, heavy\n"
        "assert 'load' in dir(lithe) and lithe.__version__[0].isdigit()\n"
        "assert lithe.lite.Interpreter is lithe.Interpreter\n"
        "assert not {'llvmlite', 'click', 'rich'} & set(sys.modules)\n"
        "assert issubclass(lithe.ModelError, lithe.LitheError) and all(hasattr(lithe, n) for n in lithe.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="module 'lithe' has no attribute 'nothing'"):
        lithe.nothing  # noqa: B018
