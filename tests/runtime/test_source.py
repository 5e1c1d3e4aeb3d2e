"""A kept model starts from its outline, is read only when it must be, and gives the same answers."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import FileMissing, InputError, ModelError
from lithe.ir.graph import Graph, Module, Tensor
from lithe.runtime.outline import module_of, outline_of
from lithe.runtime.source import Source
from lithe.types import FLOAT32, TensorType

IMAGE = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1) / 64


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "digits.tflite"
    path.write_bytes((files("lithe.data") / "digits_float32.tflite").read_bytes())
    return path


def test_the_second_start_reads_nothing_and_says_the_same(model: Path) -> None:
    first, second = lithe.load(model), None
    expected = first(IMAGE)
    second = lithe.load(model)
    assert not second._source.is_whole
    np.testing.assert_array_equal(second(IMAGE), expected)
    assert (dict(second.inputs), dict(second.outputs)) == (dict(first.inputs), dict(first.outputs))
    assert not second._source.is_whole
    assert len(second.module.main.nodes) == len(first.module.main.nodes)


def test_the_interpreter_gives_equal_details_from_the_outline(model: Path) -> None:
    def details() -> tuple[str, bool]:
        interpreter = lithe.Interpreter(model_path=str(model))
        interpreter.allocate_tensors()
        shown = [interpreter.get_input_details(), interpreter.get_output_details(), interpreter.get_signature_list()]
        return repr(shown), interpreter._source.is_whole

    first, second = details(), details()
    assert first[0] == second[0]
    assert (first[1], second[1]) == (True, False)


def test_what_the_outline_does_not_hold_is_read(model: Path) -> None:
    lithe.load(model)(IMAGE)
    interpreter = lithe.Interpreter(model_path=str(model))
    count = len(lithe.Interpreter(model_content=model.read_bytes()).get_tensor_details())
    assert not interpreter._source.is_whole
    assert len(interpreter.get_tensor_details()) == count
    assert interpreter._source.is_whole
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [2, 8, 8, 1])
    interpreter.allocate_tensors()
    assert interpreter.get_output_details()[0]["shape"].tolist() == [2, 10]


def test_a_kept_model_starts_without_compiler_operators_or_formats(model: Path) -> None:
    lithe.load(model)(IMAGE)
    code = f"""
import sys, numpy, lithe
lithe.load({str(model)!r})(numpy.zeros((1, 8, 8, 1), numpy.float32))
rooms = ("llvmlite", "lithe.ops", "lithe.formats", "lithe.lower", "lithe.passes")
bad = [m for m in sys.modules if m.startswith(rooms)]
assert not bad, bad
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_changed_is_another_model(model: Path) -> None:
    lithe.load(model)(IMAGE)
    kept = lithe.load(model)
    model.write_bytes((files("lithe.data") / "digits_int8.tflite").read_bytes())
    with pytest.raises(ModelError, match="changed after it was opened"):
        kept.summary()
    assert next(iter(lithe.load(model).inputs.values())).dtype == "int8"


def test_nothing_is_kept_when_that_is_not_wanted(model: Path) -> None:
    for _ in range(2):
        loaded = lithe.load(model, cache=False)
        loaded(IMAGE)
        assert loaded._source.is_whole
    assert not (model.parent / "cache").exists()


def test_a_damaged_file_is_refused_even_when_its_original_is_kept(model: Path) -> None:
    lithe.load(model)(IMAGE)
    content = bytearray(model.read_bytes())
    content[4:8] = b"XXXX"
    model.write_bytes(content)
    with pytest.raises(ModelError):
        lithe.load(model)


@pytest.mark.parametrize(("path", "error"), [("missing.tflite", FileMissing), (3.5, InputError), ("a\0b", FileMissing)])
def test_what_is_no_file_is_said(path: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Source(path)  # type: ignore[arg-type]


def test_an_outline_keeps_every_field_of_the_interface() -> None:
    kind = TensorType(FLOAT32, (1, 2))
    x, y = Tensor("x", kind, shape_signature=(-1, 2), index=3, extras={"block_size": 32}), Tensor("y", kind, index=5)
    module = Module([Graph("main", [x], [y], [x, y], [])])
    copy = module_of(outline_of(module)).main
    for a, b in zip(copy.tensors, [x, y], strict=True):
        assert (a.name, a.type, a.shape_signature, a.index, a.extras) == (
            b.name, b.type, b.shape_signature, b.index, b.extras,
        )  # fmt: skip


def test_an_output_that_is_a_constant_has_no_outline() -> None:
    y = Tensor("y", TensorType(FLOAT32, (1,)), np.ones(1, np.float32), index=0)
    assert outline_of(Module([Graph("main", [], [y], [y], [])])) == b""


def kept_file(model: Path) -> Path:
    (file,) = (model.parent / "cache").glob("*.lithe")
    return file


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def test_damaged_kept_code_is_made_again_and_the_result_is_the_same(model: Path) -> None:
    """The file of the code cache, damaged in its header, layout, code, constants, or cut short."""
    expected = lithe.load(model)(IMAGE)
    sound = kept_file(model).read_bytes()
    places = [0, 9, 20, 60, 100, *np.linspace(128, len(sound) - 1, 12).astype(int).tolist()]
    damaged = [flipped(sound, at) for at in places] + [sound[:-1], sound[: len(sound) // 2], b""]
    for content in damaged:
        kept_file(model).write_bytes(content)
        loaded = lithe.load(model)
        assert loaded._source.is_whole, "damaged code was taken for sound"
        np.testing.assert_array_equal(loaded(IMAGE), expected)
        assert kept_file(model).read_bytes() != content
        assert not lithe.load(model, cache=True)._source.is_whole


def test_kept_code_of_another_processor_or_open_to_others_is_not_used(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lithe.load(model)(IMAGE)
    kept_file(model).chmod(0o666)
    loaded = lithe.load(model)
    assert loaded._source.is_whole
    np.testing.assert_array_equal(loaded(IMAGE), expected)
    monkeypatch.setattr("lithe.runtime.compiled.machine_stamp", lambda: "another processor")
    assert lithe.load(model)._source.is_whole


def test_own_limits_are_applied_to_a_kept_model_too(model: Path) -> None:
    from lithe.errors import LimitError
    from lithe.ops.verify import Limits

    lithe.load(model)(IMAGE)
    with pytest.raises(LimitError):
        lithe.load(model, limits=Limits(operators=2))
