"""Models from PyTorch with masks, caches, spectra and loops, in Lithe and in the official runtime."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lithe.conversion.door import agreement, converted  # noqa: E402
from lithe.formats import tflite  # noqa: E402
from tests.conversion.generation import greedy, words_of_both  # noqa: E402
from tests.conversion.torch_check import check  # noqa: E402
from tests.conversion.torch_models import settled  # noqa: E402
from tests.conversion.torch_shown import SHOWN, gpt  # noqa: E402

TOLERANCE = 2e-6
WORDS = (
    torch.randint(0, 20, (2, 7)),
    torch.tensor([[1] * 7, [1] * 5 + [0] * 2]),
    torch.tensor([[0] * 4 + [1] * 3] * 2),
)
EXAMPLES = {"bert": WORDS, "audio net": (torch.randn(2, 512),), "ssd": (torch.rand(1, 3, 32, 32),)}
MOST = {"bert": 105, "audio net": 24, "ssd": 78}  # operators, those of other graphs included


@pytest.mark.parametrize("name", SHOWN)
def test_a_model_agrees_and_is_no_larger_than_it_must_be(name, tmp_path):
    make, inputs = SHOWN[name]
    torch.manual_seed(0)
    checked = check(settled(make()), *EXAMPLES[name], path=tmp_path, tolerance=TOLERANCE, describe=inputs)
    assert checked.operators.total() <= MOST[name]
    assert checked.operators["TRANSPOSE"] <= {"bert": 8, "audio net": 2, "ssd": 1}[name]
    assert not any(op.startswith("Flex") for op in checked.operators)
    if name == "bert":
        counts = {op: checked.operators[op] for op in ("GELU", "SOFTMAX", "BATCH_MATMUL", "BROADCAST_TO")}
        assert counts == {"GELU": 2, "SOFTMAX": 2, "BATCH_MATMUL": 4, "BROADCAST_TO": 0}


def as_torch(module):
    """The module as a function of arrays."""

    def run(**given):
        with torch.no_grad():
            made = module(**{name: torch.from_numpy(np.asarray(a)) for name, a in given.items()})
        return {name: t.numpy() for name, t in made.items()}

    return run


def test_a_language_model_with_a_growing_cache_writes_the_same_words():
    torch.manual_seed(3)
    functions, inputs = gpt()
    model, conversion = converted(functions, inputs=inputs)
    assert agreement(model, conversion).worst <= TOLERANCE
    prompt = np.array([[3, 1, 4, 1, 5]], np.int64)
    expected = greedy(as_torch(functions["prefill"]), as_torch(functions["decode"]), prompt, 5)
    assert len(set(expected)) > 1
    assert words_of_both(model, prompt, 5) == [expected, expected]
    alone, _ = converted(functions["prefill"], inputs=inputs["prefill"])
    weights = sum(p.numel() * 4 for p in functions["prefill"].parameters())
    assert len(tflite.write(model.module)) - len(tflite.write(alone.module)) < weights  # they are in the file once
