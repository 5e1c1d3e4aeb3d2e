"""Whole models from PyTorch, in Lithe and in the official runtime."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.conversion.torch_check import check  # noqa: E402
from tests.conversion.torch_models import MODELS, settled  # noqa: E402

TOLERANCE = 1e-4


QUICK = ("mobilenet_v3", "convnext", "vision transformer", "u-net", "gpt with a cache", "conformer")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def test_a_model_agrees_and_has_few_transposes(name, tmp_path):
    make, inputs, transposes = MODELS[name]
    torch.manual_seed(0)
    checked = check(settled(make()), *inputs, path=tmp_path, tolerance=TOLERANCE)
    assert checked.operators["TRANSPOSE"] <= transposes, checked.operators


@pytest.mark.parametrize("name", ["mobilenet_v3", "vision transformer"])
def test_the_batch_may_be_open(name, tmp_path):
    make, inputs, transposes = MODELS[name]
    torch.manual_seed(0)
    describe = tuple(("batch", *x.shape[1:]) for x in inputs)
    checked = check(settled(make()), *inputs, path=tmp_path, tolerance=TOLERANCE, describe=describe)
    assert checked.operators["TRANSPOSE"] <= transposes, checked.operators
