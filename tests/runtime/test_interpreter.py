"""The Interpreter's own promises: what the official one leaves open, crashes on, or says in other words."""

from __future__ import annotations

import gc
import pathlib
import sys

import numpy as np
import pytest

import lithe
from lithe.errors import FileMissing, InputError, ModelError, ResizeError, StateError, UnsupportedOp
from lithe.formats.tflite import write
from lithe.ir.graph import Module, Node
from lithe.lite import (
    CustomOps,
    Delegate,
    Interpreter,
    InterpreterWithCustomOps,
    OpResolverType,
    SignatureRunner,
    load_delegate,
)
from lithe.ops import Op, unknown
from lithe.types import INT4, INT8, INT32, STRING, Quantization, TensorType
from tests.passes.graphs import Draft

F = np.float32


def content() -> bytes:
    """A model of one reshape: float32[2, 3] -> float32[3, 2]."""
    d = Draft()
    x = d.input((2, 3))
    y = d("RESHAPE", x, d.constant([3, 2], np.int32), shape=(3, 2))
    return write(Module([d.graph(y)]))


@pytest.fixture
def ready() -> Interpreter:
    interpreter = Interpreter(model_content=content())
    interpreter.allocate_tensors()
    return interpreter


def test_the_drop_in_is_the_same_class_everywhere():
    assert lithe.Interpreter is lithe.lite.Interpreter is Interpreter


def test_bytes_in_any_form_are_a_model(ready):
    for form in (bytes, bytearray, memoryview):
        assert Interpreter(model_content=form(content())).get_input_details()[0]["name"] == "t0"
    with pytest.raises(InputError, match="`model_content` must be bytes, got str"):
        Interpreter(model_content="TFL3")


def test_a_path_may_be_a_path_object(tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(content())
    assert Interpreter(file).num_subgraphs() == Interpreter(str(file)).num_subgraphs() == 1


@pytest.mark.parametrize("path", ["/nonexistent/m.tflite", pathlib.Path("/"), "a\0b"])
def test_a_file_that_cannot_be_opened(path):
    with pytest.raises(FileMissing, match="Could not open"):
        Interpreter(path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    file = tmp_path / "model.tflite"
    file.write_bytes(content())
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(FileMissing, match="check the permissions"):
        Interpreter(file)


def test_a_path_that_is_none():
    with pytest.raises(InputError, match=r"a model is a path or bytes: .*int"):
        Interpreter(5)


def test_a_damaged_model_is_a_model_error():
    with pytest.raises(ModelError):
        Interpreter(model_content=content()[:80])


def test_constants_cannot_be_set(ready):
    with pytest.raises(InputError, match="it is a constant of the model\n  at: tensor #1"):
        ready.set_tensor(1, np.array([3, 2], np.int32))


def test_an_index_must_be_an_integer(ready):
    assert ready.get_tensor(np.int64(0)).shape == (2, 3)
    for call in (lambda: ready.get_tensor("a"), lambda: ready.set_tensor(1.0, 1)):
        with pytest.raises(InputError, match="a tensor index is an integer"):
            call()
    ready.set_tensor(np.int64(0), np.ones((2, 3), F))
    assert ready.get_tensor(0).sum() == 6
    with pytest.raises(InputError, match="Invalid node index 9: the model has 1 operators"):
        ready._get_op_details(9)


def test_rows_of_different_length_are_no_array(ready):
    with pytest.raises(InputError, match="the value is not an array"):
        ready.set_tensor(0, [[1.0], [1.0, 2.0]])


def test_get_tensor_is_a_copy_and_a_result_does_not_change_with_the_next_input():
    ready = Interpreter(model_content=content(), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    ready.allocate_tensors()
    x = np.arange(6, dtype=F).reshape(2, 3)
    ready.set_tensor(0, x)
    ready.invoke()
    y = ready.get_tensor(2)
    ready.set_tensor(0, x + 1)
    np.testing.assert_array_equal(ready.get_tensor(2), x.reshape(3, 2))
    y[...] = 0
    np.testing.assert_array_equal(ready.get_tensor(2), x.reshape(3, 2))
    np.testing.assert_array_equal(ready.get_tensor(0), x + 1)


def test_arrays_of_any_layout_and_byte_order_are_taken(ready):
    x = np.arange(6, dtype=F).reshape(2, 3)
    for form in (x, np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x.astype(">f4")):
        ready.set_tensor(0, form)
        np.testing.assert_array_equal(ready.get_tensor(0), x)


def test_allocating_again_keeps_the_inputs(ready):
    x = np.ones((2, 3), F)
    ready.set_tensor(0, x)
    ready.allocate_tensors()
    ready.invoke()
    assert (ready.get_tensor(2) == 1).all()


def test_a_shape_that_the_model_cannot_take_says_which(ready):
    ready.resize_tensor_input(0, [2, 4])
    with pytest.raises(
        ResizeError, match=r"cannot take inputs of these shapes \(#0 \[2, 4\]\): .*cannot be given"
    ) as e:
        ready.allocate_tensors()
    assert isinstance(e.value, RuntimeError)
    assert isinstance(e.value, ValueError)
    assert e.value.where.startswith("op #0 RESHAPE")
    ready.resize_tensor_input(0, [6, 1])
    ready.allocate_tensors()
    assert ready.get_input_details()[0]["shape"].tolist() == [6, 1]


@pytest.mark.parametrize("shape", ["x", [1 << 31, 1], [None], {}])
def test_shapes_that_are_no_numbers(ready, shape):
    with pytest.raises(ResizeError):
        ready.resize_tensor_input(0, shape)


def test_resizing_what_is_no_input(ready):
    with pytest.raises(ResizeError, match="tensor #1 is not an input"):
        ready.resize_tensor_input(1, [3])
    with pytest.raises(ResizeError, match="tensor #99 does not exist"):
        ready.resize_tensor_input(99, [3])


def test_strict_resizing_needs_open_dimensions(ready):
    with pytest.raises(ResizeError, match="strict=True allows only"):
        ready.resize_tensor_input(0, [1, 6], strict=True)


def test_invoke_before_allocation():
    with pytest.raises(StateError, match="Invoke called on model that is not ready"):
        Interpreter(model_content=content()).invoke()


def test_a_view_of_any_result_blocks_until_it_is_gone(ready):
    ready.invoke()
    out = ready.tensor(2)
    total = out().sum()
    ready.invoke()
    held = [out()[1:], out().T, out().reshape(-1)]
    with pytest.raises(StateError, match="at least 1 reference to internal data"):
        ready.invoke()
    held.clear()
    ready.invoke()
    assert total == 0


def test_operators_that_lithe_does_not_know_are_refused_by_name():
    d = Draft()
    y = d(unknown("Mystery", None), d.input((2,)), shape=(2,))
    d.nodes[0].extras["custom_options"] = b""
    interpreter = Interpreter(model_content=write(Module([d.graph(y)])))
    with pytest.raises(UnsupportedOp, match="Encountered unresolved custom op: Mystery") as caught:
        interpreter.allocate_tensors()
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.where == "op #0 Mystery"


class Tripled(Op):
    """y = times * x, with one option byte."""

    name = "Tripled"

    class Attrs:
        times = 3

    def infer(site):
        return [site.input(0).shape]

    def evaluate(site, x):
        return [x * F(site.attrs.times)]

    def parse_options(data):
        attrs = Tripled.Attrs()
        attrs.times = data[0]
        return attrs


def test_operators_of_the_caller_run():
    d = Draft()
    y = d(unknown("Tripled", None), d.input((2,)), shape=(2,))
    d.nodes[0] = Node(d.nodes[0].op, {}, d.nodes[0].inputs, d.nodes[0].outputs, 0, {"custom_options": b"\x05"})

    def register(ops: CustomOps) -> None:
        ops.add(Tripled)

    interpreter = InterpreterWithCustomOps([register], model_content=write(Module([d.graph(y)])))
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, F([1, 2]))
    interpreter.invoke()
    assert interpreter.get_tensor(y.index).tolist() == [5, 10]


def test_a_registerer_must_be_a_function():
    with pytest.raises(InputError, match="a custom op registerer is a Python function, got 'TfLiteRegister'"):
        InterpreterWithCustomOps(["TfLiteRegister"], model_content=content())


def test_delegates_are_devices_by_name():
    assert repr(load_delegate("cpu", {"threads": 2})) == "Delegate('cpu')"
    Interpreter(model_content=content(), experimental_delegates=[Delegate("cpu")])
    with pytest.raises(ValueError, match=r"Failed to load delegate from edgetpu\.so\n"):
        load_delegate("edgetpu.so")
    with pytest.raises(InputError, match=r"a delegate is a lithe\.lite\.Delegate, got object"):
        Interpreter(model_content=content(), experimental_delegates=[object()])


def test_there_is_no_native_handle(ready):
    with pytest.raises(NotImplementedError, match="no native interpreter"):
        ready._native_handle()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((), "None interpreter"), ((1, ""), "None signature_key"), ((1, "zz"), "Invalid signature_key")],
)
def test_a_signature_runner_needs_an_interpreter_and_a_key(ready, arguments, text):
    arguments = tuple(ready if a == 1 else a for a in arguments)
    with pytest.raises(InputError, match=text):
        SignatureRunner(*arguments)


def test_the_reference_resolver_runs_definitions():
    interpreter = Interpreter(
        model_content=content(), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=2
    )
    interpreter.allocate_tensors()
    assert type(interpreter._session(0)._executor).__name__ == "ReferenceExecutor"


def test_int4_tensors_are_given_and_got_as_int8():
    d = Draft()
    x = d.input((4,), INT4)
    interpreter = Interpreter(model_content=write(Module([d.graph(x)])))
    assert interpreter.get_input_details()[0]["dtype"] is np.int8
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([-8, 7, 0, 1], np.int8))
    interpreter.invoke()
    assert interpreter.get_tensor(0).tolist() == [-8, 7, 0, 1]
    with pytest.raises(InputError, match="int4 holds -8 to 7, got 0 to 8"):
        interpreter.set_tensor(0, np.array([0, 8, 0, 0], np.int8))
    with pytest.raises(InputError, match="Got value of type UINT8 but expected type INT4"):
        interpreter.set_tensor(0, np.zeros(4, np.uint8))


def test_string_tensors_hold_bytes():
    d = Draft()
    x = d.input((2,), STRING)
    interpreter = Interpreter(model_content=write(Module([d.graph(x)])))
    assert interpreter.get_input_details()[0]["dtype"] is np.bytes_
    interpreter.allocate_tensors()
    for given in (["a", "é"], np.array([b"a", "é".encode()]), np.array(["a", b"\xc3\xa9"], object)):
        interpreter.set_tensor(0, given)
        interpreter.invoke()
        assert interpreter.get_tensor(0).tolist() == [b"a", "é".encode()]
    assert interpreter.tensor(0)().tolist() == [b"a", "é".encode()]
    with pytest.raises(InputError, match=r"takes str or bytes, got int\n  at: tensor #0, element \[1\]"):
        interpreter.set_tensor(0, np.array([b"a", 3], object))


def test_a_dropped_interpreter_leaves_views_alive(ready):
    view = ready.tensor(0)()
    del ready
    gc.collect()
    view[...] = 1
    assert view.sum() == 6
    assert sys.getrefcount(view) == 2


def test_shapes_that_depend_on_data_follow_the_data():
    d = Draft()
    x, target = d.input((2, 6)), d.input((2,), INT32)
    y = d("RESHAPE", x, target, shape=(1, 1))
    interpreter = Interpreter(model_content=write(Module([d.graph(y)])))
    interpreter.allocate_tensors()
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 1]
    for shape in ([3, 4], [12, 1]):
        interpreter.set_tensor(x.index, np.zeros((2, 6), F))
        interpreter.set_tensor(target.index, np.array(shape, np.int32))
        interpreter.invoke()
        assert interpreter.get_tensor(y.index).shape == tuple(shape)
        assert interpreter.get_output_details()[0]["shape"].tolist() == shape
    interpreter.set_tensor(target.index, np.array([5, 5], np.int32))
    with pytest.raises(lithe.ExecutionError, match="cannot be given the shape"):
        interpreter.invoke()


def test_declared_shapes_that_do_not_fit_are_a_fault_of_the_model_until_they_are_changed():
    d = Draft()
    x, y = d.input((1, 4)), d.input((1, 3), shape_signature=(1, -1))
    total = d("ADD", x, y, shape=(1, 4))
    interpreter = Interpreter(model_content=write(Module([d.graph(total)])))
    with pytest.raises(ModelError, match="do not broadcast to one shape") as caught:
        interpreter.allocate_tensors()
    assert not isinstance(caught.value, ResizeError)
    assert caught.value.where == "op #0 ADD"
    interpreter.resize_tensor_input(y.index, [1, 4])
    interpreter.allocate_tensors()
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, 4]


def test_quantization_is_described_as_the_format_has_it():
    d = Draft()
    x = d.input((2, 3), INT8)
    for quantization in (Quantization((0.5,), (-3,)), Quantization((0.5, 0.25), (0, 0), 0)):
        x.type = TensorType(INT8, (2, 3), quantization)
        details = Interpreter(model_content=write(Module([d.graph(x)]))).get_input_details()[0]
        assert details["quantization"] == ((0.0, 0) if quantization.per_channel else (0.5, -3))
        assert details["quantization_parameters"]["scales"].tolist() == list(quantization.scale)
        assert details["quantization_parameters"]["zero_points"].tolist() == list(quantization.zero_point)


def test_bad_inputs_name_their_type_and_the_way_out(ready):
    with pytest.raises(InputError) as caught:
        ready.set_tensor(0, np.zeros((2, 3)))
    assert caught.value.hint == "np.asarray(value, np.float32)"
