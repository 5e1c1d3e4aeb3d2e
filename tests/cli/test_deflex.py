"""lithe deflex."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lithe.cli.main import main
from lithe.formats import tflite
from tests.formats.node_defs import flex_module


@pytest.mark.parametrize(("op", "code"), [("Tan", 0), ("Lgamma", 4)])
def test_a_model_is_rewritten_as_far_as_that_goes(op, code, tmp_path, capsys):
    given, made = tmp_path / "given.tflite", tmp_path / "made.tflite"
    tflite.save(flex_module(op, [np.zeros(3, np.float32)], [(np.float32, (3,))], {}), given)
    assert main(["deflex", str(given), "-o", str(made)]) == code
    printed = capsys.readouterr().out
    assert ("FlexTan rewritten" in printed) == (code == 0)
    assert ("still operators of TensorFlow: FlexLgamma" in printed) == (code == 4)
    assert tflite.read(made.read_bytes()).main.nodes
    assert main(["deflex", str(given), "-o", str(made), "--json"]) == code
    facts = json.loads(capsys.readouterr().out)
    assert facts["remaining"] == ({"FlexLgamma": 1} if code else {})
    assert facts["rewritten"] == ({} if code else {"FlexTan": 1})
