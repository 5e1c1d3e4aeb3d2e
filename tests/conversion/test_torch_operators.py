"""Every rule for an operator of ATen, against PyTorch."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")

from lithe.conversion.sizes import Sizes  # noqa: E402
from lithe.conversion.torch.program import exported, name_of  # noqa: E402
from lithe.conversion.torch.rules import RULES  # noqa: E402
from tests.conversion.torch_check import check  # noqa: E402
from tests.conversion.torch_operators import CASES, ELSEWHERE  # noqa: E402


class Function(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *xs):
        return self.function(*xs)


def in_core_operators(name):
    """The case as a program that its author has taken apart already."""
    function, *inputs = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(Function(function), tuple(inputs)).run_decompositions()


@pytest.mark.parametrize("name", CASES)
def test_an_operator_gives_what_torch_gives(name, tmp_path):
    function, *inputs = CASES[name]
    check(Function(function), *inputs, path=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_operator_that_was_taken_apart_gives_what_torch_gives(name, tmp_path):
    check(in_core_operators(name), *CASES[name][1:], path=tmp_path)


@pytest.mark.slow
def test_every_rule_is_used_by_a_case():
    seen = set(ELSEWHERE)
    for name, (function, *inputs) in CASES.items():
        programs = exported(Function(function), tuple(inputs), Sizes())[0], in_core_operators(name)
        names = {name_of(n.target) for p in programs for n in p.graph.nodes if hasattr(n.target, "_schema")}
        seen |= {n if n in RULES else n.split(".")[0] for n in names}
    assert set(RULES) <= seen
