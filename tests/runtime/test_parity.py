"""The same calls on the official interpreter and on ours: same details, shapes, copies, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lithe
import lithe.lite

MODELS = (
    "micro/hello_world_float",
    "micro/hello_world_int8",
    "micro/simple_add_model",
    "micro/split_concat",
    "micro/sin_model",
    "control_state_signature/3in3out_model_swaps_input_2_and_0",
    "control_state_signature/feedback_tensor_test_model",
    "control_state_signature/two_signatures",
    "control_state_signature/test_two_signature_keys_model",
)
DESCRIBED = ("face_hand/hand_landmark_sparse_fp16", "genai/lora_test_model", "classification/mcunetv2_large")


@pytest.fixture(params=MODELS, ids=lambda m: m.split("/")[1])
def model(request, corpus) -> str:
    return str(corpus / "models" / f"{request.param}.tflite")


@pytest.fixture
def hello(corpus) -> str:
    return str(corpus / "models/micro/hello_world_float.tflite")


def theirs(official, path):
    """With its own kernels, because a delegate adds an operator and hides tensors."""
    kind = official.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return official.Interpreter(path, experimental_op_resolver_type=kind)


def same(a: Any, b: Any, where: str = "") -> None:
    """Equal in value, in type, and in the order of keys."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, where)
    else:
        assert a == b, where


def descriptions(it) -> list[Any]:
    ours = [it.get_input_details(), it.get_output_details(), it.get_signature_list(), it._get_full_signature_list()]
    ours += [
        it.num_subgraphs(),
        it._get_ops_details(),
        [it._get_op_details(i) for i in range(len(it._get_ops_details()))],
    ]
    return ours + [it.get_tensor_details(g) for g in range(it.num_subgraphs())]


def test_descriptions_are_equal_before_and_after_allocation(official, model):
    ours, other = lithe.Interpreter(model), theirs(official, model)
    same(descriptions(ours), descriptions(other))
    ours.allocate_tensors()
    other.allocate_tensors()
    same(descriptions(ours), descriptions(other))


@pytest.mark.parametrize("name", DESCRIBED)
def test_descriptions_of_sparse_many_signature_and_per_channel_models_are_equal(official, corpus, name):
    path = str(corpus / "models" / f"{name}.tflite")
    same(descriptions(lithe.Interpreter(path)), descriptions(theirs(official, path)))


def fill(it, seed: int) -> None:
    random = np.random.default_rng(seed)
    for d in it.get_input_details():
        span = random.uniform(-1, 1, d["shape"]) * (1 if np.dtype(d["dtype"]).kind == "f" else 100)
        it.set_tensor(d["index"], span.astype(d["dtype"]))


def test_results_have_the_same_type_shape_and_value(official, model):
    ours, other = lithe.Interpreter(model), theirs(official, model)
    for it in (ours, other):
        it.allocate_tensors()
        fill(it, 0)
        it.invoke()
    for d in other.get_output_details():
        a, b = ours.get_tensor(d["index"]), other.get_tensor(d["index"])
        assert (type(a), a.dtype, a.shape) == (type(b), b.dtype, b.shape)
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-4, atol=1e-5 if a.dtype.kind == "f" else 1)


def test_signature_runners_are_equal(official, model):
    ours, other = lithe.Interpreter(model), theirs(official, model)
    for key in other.get_signature_list():
        a, b = ours.get_signature_runner(key), other.get_signature_runner(key)
        same(a.get_input_details(), b.get_input_details())
        same(a.get_output_details(), b.get_output_details())
        details = b.get_input_details()
        # dimensions that the author left open take another size; the others stay
        shapes = {n: [2 if s == -1 else int(s) for s in d["shape_signature"]] for n, d in details.items()}
        values = {n: np.ones(shapes[n], d["dtype"]) for n, d in details.items()}
        got, want = a(**values), b(**values)
        assert list(got) == list(want)
        for name in want:
            assert type(got[name]) is type(want[name])
            np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)
        same(a.get_input_details(), b.get_input_details())


def outcome(call) -> tuple[type | None, str]:
    """The builtin class and the first words of what a call raises."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        return kind, str(getattr(error, "problem", error))
    return None, ""


F = np.float32
ALLOCATED = {
    "float64 array": lambda it: it.set_tensor(0, np.zeros((1, 1))),
    "list": lambda it: it.set_tensor(0, [[1.0]]),
    "int list": lambda it: it.set_tensor(0, [[1]]),
    "string": lambda it: it.set_tensor(0, np.array([["x"]])),
    "objects": lambda it: it.set_tensor(0, np.array([[None]], object)),
    "None": lambda it: it.set_tensor(0, None),
    "date": lambda it: it.set_tensor(0, np.zeros((1, 1), "M8[s]")),
    "long double": lambda it: it.set_tensor(0, np.zeros((1, 1), np.longdouble)),
    "uint16": lambda it: it.set_tensor(0, np.zeros((1, 1), np.uint16)),
    "complex": lambda it: it.set_tensor(0, np.zeros((1, 1), np.complex64)),
    "bool": lambda it: it.set_tensor(0, np.zeros((1, 1), bool)),
    "half": lambda it: it.set_tensor(0, np.zeros((1, 1), np.float16)),
    "rank 0": lambda it: it.set_tensor(0, F(1)),
    "rank 1": lambda it: it.set_tensor(0, np.zeros(1, F)),
    "rank 3": lambda it: it.set_tensor(0, np.zeros((1, 1, 1), F)),
    "wrong dimension 0": lambda it: it.set_tensor(0, np.zeros((2, 1), F)),
    "wrong dimension 1": lambda it: it.set_tensor(0, np.zeros((1, 3), F)),
    "right": lambda it: it.set_tensor(0, np.zeros((1, 1), F)),
    "fortran order": lambda it: it.set_tensor(0, np.zeros((1, 1), F, order="F")),
    "set -1": lambda it: it.set_tensor(-1, np.zeros((1, 1), F)),
    "set 999": lambda it: it.set_tensor(999, np.zeros((1, 1), F)),
    "get -1": lambda it: it.get_tensor(-1),
    "get 999": lambda it: it.get_tensor(999),
    "get of graph 3": lambda it: it.get_tensor(0, 3),
    "get of graph -1": lambda it: it.get_tensor(0, -1),
    "view of 999": lambda it: it.tensor(999)(),
    "intermediate": lambda it: it.get_tensor(7),
    "details 999": lambda it: it._get_tensor_details(999, 0),
    "details -1": lambda it: it._get_tensor_details(-1, 0),
    "details of graph 4": lambda it: it.get_tensor_details(4),
    "unknown signature": lambda it: it.get_signature_runner("x"),
    "empty signature": lambda it: it.get_signature_runner(""),
    "too few inputs": lambda it: it.get_signature_runner()(),
    "unknown input": lambda it: it.get_signature_runner()(q=np.zeros((1, 1), F)),
    "float64 input": lambda it: it.get_signature_runner()(dense_input=np.zeros((1, 1))),
    "2-D shape": lambda it: it.resize_tensor_input(0, [[4, 1]]),
    "scalar shape": lambda it: it.resize_tensor_input(0, 4),
    "same shape": lambda it: (it.resize_tensor_input(0, [1, 1]), it.invoke()),
    "resized": lambda it: (it.resize_tensor_input(0, [4, 1]), it.set_tensor(0, np.zeros((4, 1), F))),
    "resized, get": lambda it: (it.resize_tensor_input(0, [4, 1]), it.get_tensor(0)),
    "resized, invoke": lambda it: (it.resize_tensor_input(0, [4, 1]), it.invoke()),
    "strict": lambda it: (it.resize_tensor_input(0, [4, 1], strict=True), it.allocate_tensors(), it.invoke()),
    "empty batch": lambda it: (it.resize_tensor_input(0, [0, 1]), it.allocate_tensors(), it.invoke()),
}


@pytest.mark.parametrize("case", ALLOCATED)
def test_errors_are_equal(official, hello, case):
    def run(it):
        it.allocate_tensors()
        return outcome(lambda: ALLOCATED[case](it))

    # as it comes, with XNNPACK: its own kernels add temporary tensors, which counts in messages show
    assert run(lithe.Interpreter(hello)) == run(official.Interpreter(hello))


UNALLOCATED = {
    "set": lambda it: it.set_tensor(0, np.zeros((1, 1), F)),
    "get input": lambda it: it.get_tensor(0),
    "get output": lambda it: it.get_tensor(9),
    "view": lambda it: it.tensor(0)(),
    "invoke": lambda it: it.invoke(),
    "reset": lambda it: it.reset_all_variables(),
    "constant": lambda it: it.get_tensor(1),
}


@pytest.mark.parametrize("case", UNALLOCATED)
def test_errors_before_allocation_are_equal(official, hello, case):
    ours, other = lithe.Interpreter(hello), theirs(official, hello)
    assert outcome(lambda: UNALLOCATED[case](ours)) == outcome(lambda: UNALLOCATED[case](other))


def test_errors_of_two_signatures_are_equal(official, corpus):
    path = str(corpus / "models/control_state_signature/two_signatures.tflite")
    ours, other = lithe.Interpreter(path), theirs(official, path)
    assert outcome(ours.get_signature_runner) == outcome(other.get_signature_runner)


# Refused by both; the texts of the official runtime name lines of its source there, ours say what is wrong.
REFUSED = {
    "strict rank": lambda it: it.resize_tensor_input(0, [4, 1, 1], strict=True),
    "negative": lambda it: it.resize_tensor_input(0, [-4, 1]),
    "no such input": lambda it: it.resize_tensor_input(99, [4, 1]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_shapes_raise_the_same_class(official, hello, case):
    for it in (lithe.Interpreter(hello), theirs(official, hello)):
        it.allocate_tensors()
        with pytest.raises(RuntimeError):
            REFUSED[case](it)


CONSTRUCTED = {
    "nothing": {},
    "both": {"model_path": "x", "model_content": b"y"},
    "empty": {"model_content": b""},
    "no threads": {"model_path": "x", "num_threads": 0},
    "text threads": {"model_path": "x", "num_threads": "2"},
    "resolver": {"model_path": "x", "experimental_op_resolver_type": 7},
    "text resolver": {"model_path": "x", "experimental_op_resolver_type": "AUTO"},
}


@pytest.mark.parametrize("case", CONSTRUCTED)
def test_errors_of_the_constructor_are_equal(official, case):
    arguments = CONSTRUCTED[case]
    ours, other = (outcome(lambda cls=c: cls(**arguments)) for c in (lithe.Interpreter, official.Interpreter))
    assert ours == other


def test_a_missing_file_is_a_value_error_of_the_same_words_and_a_file_not_found_error(official):
    kind, text = outcome(lambda: official.Interpreter("/nonexistent/x.tflite"))
    with pytest.raises(kind, match=r"Could not open '/nonexistent/x\.tflite'") as caught:
        lithe.Interpreter("/nonexistent/x.tflite")
    assert text.startswith(str(caught.value.problem))
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("content", [b"xxxxxxxxxxxxxxxxxxxxxxxxxx", b"TFL3", bytes(100)])
def test_bytes_that_are_no_model_raise_the_same_class(official, content):
    for interpreter in (official.Interpreter, lithe.Interpreter):
        with pytest.raises(ValueError, match=r"."):
            interpreter(model_content=content)


def test_a_held_view_blocks_both_with_the_same_words(official, hello):
    said = []
    for it in (lithe.Interpreter(hello), theirs(official, hello)):
        it.allocate_tensors()
        get = it.tensor(0)
        get()[...] = 0.5
        it.invoke()
        assert it.get_tensor(0) == 0.5
        view = get()
        it.set_tensor(0, np.zeros((1, 1), F))
        assert view[0, 0] == 0
        row = view[0]
        del view
        calls = (it.invoke, it.allocate_tensors, lambda it=it: it.resize_tensor_input(0, [2, 1]))
        said.append([outcome(call) for call in calls])
        assert said[-1][0][0] is RuntimeError
        del row
        it.invoke()
    assert said[0] == said[1]


def test_preserving_all_tensors_warns_and_keeps_the_same_values(official, hello):
    with pytest.warns(UserWarning, match="Enabling `experimental_preserve_all_tensors`") as ours_said:
        ours = lithe.Interpreter(hello, experimental_preserve_all_tensors=True)
    with pytest.warns(UserWarning, match="Enabling `experimental_preserve_all_tensors`") as other_said:
        other = official.Interpreter(hello, experimental_preserve_all_tensors=True)
    assert str(ours_said[0].message) == str(other_said[0].message)
    for it in (ours, other):
        it.allocate_tensors()
        it.set_tensor(0, F([[0.7]]))
        it.invoke()
    for d in ours.get_tensor_details():
        np.testing.assert_allclose(ours.get_tensor(d["index"]), other.get_tensor(d["index"]), rtol=1e-4, atol=1e-5)


def test_the_official_resolver_names_are_understood(official, hello):
    for resolver in official.OpResolverType:
        assert lithe.Interpreter(hello, experimental_op_resolver_type=resolver).num_subgraphs() == 1
    assert [r.value for r in lithe.lite.OpResolverType] == [r.value for r in official.OpResolverType]
