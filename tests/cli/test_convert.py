"""lithe convert."""

from __future__ import annotations

import json

import pytest

from lithe.cli.main import main
from lithe.formats import tflite

SOURCE = "import jax\n\n\ndef scores(x):\n    return jax.nn.relu(x) + 1.0\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    pytest.importorskip("jax", reason="JAX is not installed")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nets_to_convert.py").write_text(SOURCE)
    return f"{tmp_path / 'nets_to_convert.py'}:scores"


def test_a_function_becomes_a_file(source, tmp_path, capsys):
    made = tmp_path / "made.tflite"
    assert main(["convert", source, "--shape", "x=batch,3", "-o", str(made), "--verify"]) == 0
    printed = capsys.readouterr()
    assert "2 operators" in printed.out
    assert "x: float32[?, 3]" in printed.out
    assert "agrees with JAX in 2 runs" in printed.err
    assert [n.op.name for n in tflite.read(made.read_bytes()).main.nodes] == ["RELU", "ADD"]
    assert main(["convert", source, "--shape", "x=2,3", "-o", str(made), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["operators"] == {"RELU": 1, "ADD": 1}
    assert facts["difference"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "x:2,3"], "is not understood"),
        ([], "must be described"),
        (["--shape", "x=two words,3", "--from", "keras"], "a model of Keras is needed"),
    ],
)
def test_a_mistake_is_one_error_and_no_file(source, arguments, said, tmp_path, capsys):
    made = tmp_path / "made.tflite"
    assert main(["convert", source, *arguments, "-o", str(made)]) != 0
    assert said in capsys.readouterr().err
    assert not made.exists()


def test_names_that_lead_nowhere(tmp_path, capsys):
    made = str(tmp_path / "made.tflite")
    for name, said in [
        (f"{tmp_path}/nothing.py:net", "there is no file"),
        ("no_such_module_here:net", "cannot be imported"),
        ("json:no_such_name", "has no 'no_such_name'"),
        (str(tmp_path / "nothing.keras"), "there is no file"),
    ]:
        assert main(["convert", name, "-o", made]) != 0
        assert said in capsys.readouterr().err
