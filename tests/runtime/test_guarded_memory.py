"""Compiled code stays within its memory, whatever the data: no byte outside of a storage is touched, inputs and
constants are only read, and nothing is read that nobody wrote. Each row runs in a process that may die."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.guarded_faults import CASES as FAULTS
from tests.guarded_faults import EXPECTED
from tests.guarded_rows import operands, rows, watched
from tests.llvm_backend import smaller_targets
from tests.lower.test_schedules import CONTRACTIONS
from tests.ops.cases import Case

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are forbidden through POSIX calls")

ROWS = rows()
INDEXED = [case for case in ROWS if operands(case, "integer")]
SMALLER = [name for name in smaller_targets() if name != "host"]
SHARES = 8
WAYS = ("together-upper-165", "together-lower-0", "apart-upper-0", "apart-lower-255")
QUICK_MODELS = ("classification/mobilenet_v1_0.25_128_quant", "wake_word/mww_v2_okay_nabu")
MODELS = (
    "wake_word/mww_v1_alexa",
    "rnn/keras_lstm_mnist_ptq",
    "rnn/mnist_lstm_float",
    "pose/movenet_single_pose_lightning_ptq",
    "detection/yolox_nano_with_post_float16",
    "detection/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29",
)


def one_an_operator() -> list[Case]:
    """The first row of each operator, where there is one with an integer that may index memory."""
    return list({case.op: case for case in (*reversed(ROWS), *reversed(INDEXED))}.values())


def check(cases: list[Case], trials: int, target: str = "host", twists: int = 0) -> None:
    problems = watched(cases, trials, target, twists)
    assert not problems, "\n".join(problems)


def test_mistakes_are_found() -> None:
    found = watched(FAULTS, 8, "plain")
    by_row = {str(case): [p for p in found if p.startswith(f"{case}: ")] for case in FAULTS}
    for case in FAULTS:
        mine, expected = by_row[str(case)], EXPECTED[case.op]
        assert bool(mine) == bool(expected)
        assert all(expected in p for p in mine), mine


@pytest.mark.parametrize("share", range(2))
def test_an_example_of_every_operator_stays_within_its_memory(share: int) -> None:
    check(one_an_operator()[share::2], trials=8)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_every_row_stays_within_its_memory(share: int) -> None:
    check(ROWS[share::SHARES], trials=40)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_every_row_with_hostile_constants_stays_within_its_memory(share: int) -> None:
    check(ROWS[share::SHARES], trials=4, twists=10)


@pytest.mark.slow
@pytest.mark.parametrize("share", range(SHARES))
def test_locals_of_every_row_are_written_before_they_are_read(share: int) -> None:
    check(ROWS[share::SHARES], trials=8, target="plain")


@pytest.mark.slow
@pytest.mark.parametrize("target", SMALLER)
def test_contractions_stay_within_their_memory_on_smaller_targets(target: str) -> None:
    check(CONTRACTIONS, trials=0, target=target)


def outputs(path: str, way: str) -> str:
    """A digest of the model's outputs."""
    command = [sys.executable, "-m", "tests.guarded_models", path, way]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert ran.returncode == 0, f"{way}: ended with {ran.returncode}: {ran.stderr[-2000:]}"
    return ran.stdout


@pytest.mark.parametrize("name", [*QUICK_MODELS, *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS)])
def test_models_stay_within_their_memory(name: str, corpus) -> None:
    path = str(corpus / "models" / f"{name}.tflite")
    expected = outputs(path, "plain")
    assert {way: outputs(path, way) for way in WAYS} == dict.fromkeys(WAYS, expected)
