"""Compiled code that refuses its data: the message and the operator come back as an error, and the next run works."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.passes import prepare
from lithe.runtime.compilation import build, uncollected
from lithe.runtime.compiled import CompiledExecutor
from lithe.types import INT32
from tests.passes.graphs import Draft

pytest.importorskip("llvmlite")


def test_data_that_cannot_be_used_end_the_run_with_their_operator() -> None:
    d = Draft()
    x, at = d.input((4, 2)), d.input((1, 1), INT32)
    y = d("GATHER_ND", x, at, shape=(1, 2))
    executor = CompiledExecutor(build([prepare(d.graph(y))])[0])
    executor.array(x.index)[...] = np.arange(8).reshape(4, 2)
    for wrong in (4, -1):
        executor.array(at.index)[...] = wrong
        with pytest.raises(ExecutionError, match=r"indices must lie in \[0, 4\) on axis 0") as caught:
            executor.invoke()
        assert caught.value.where.startswith("op #0 GATHER_ND")
    executor.array(at.index)[...] = 3
    executor.invoke()
    assert executor.array(y.index).tolist() == [[6, 7]]


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was_after_compiling(on: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if on else gc.disable()
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is on
        with pytest.raises(ValueError, match="inside"), uncollected():
            raise ValueError("inside")
        assert gc.isenabled() is on
    finally:
        gc.enable() if before else gc.disable()
