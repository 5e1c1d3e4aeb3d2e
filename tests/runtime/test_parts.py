"""Graphs of which a part is compiled and the rest evaluated."""

from __future__ import annotations

import logging

import numpy as np

import lithe
from lithe.ir.graph import Module, Tensor
from lithe.runtime.instance import Instance
from lithe.runtime.parts import grouped
from lithe.runtime.reference import ReferenceExecutor
from lithe.runtime.source import Source
from lithe.types import BOOL, INT32
from tests.passes.graphs import Draft
from tests.runtime.test_control import F, agree, graph


def test_only_what_must_be_is_evaluated(caplog):
    """A shape that depends on data stands between two compiled parts."""

    def main(d: Draft) -> Tensor:
        x = d.input((64, 64))
        y = d("TANH", d("BATCH_MATMUL", x, x, shape=(64, 64)), shape=(64, 64))
        z = d("EXP", d("LOGISTIC", y, shape=(64, 64)), shape=(64, 64))
        places = d("WHERE", d("GREATER", z, d.constant(1.7), shape=(64, 64), dtype=BOOL), shape=(1, 2), dtype=INT32)
        places.type = lithe.types.TensorType(lithe.types.INT64, (1, 2))
        return d("SHAPE", places, shape=(2,), dtype=INT32, out_type=INT32)

    module = Module([graph(main)])
    instance = Instance(Source(module))
    executor = instance.executor(0, {})
    assert isinstance(executor, ReferenceExecutor)
    assert [step.node.op.name for step in executor.steps] == ["PART", "WHERE", "SHAPE"]
    with caplog.at_level(logging.WARNING, "lithe"):
        agree(module, [np.random.default_rng(1).standard_normal((64, 64)).astype(F)])
    assert not caplog.records


def test_nodes_are_grouped_in_few_runs_that_keep_what_depends_on_what():
    d = Draft()
    x = d.input((2,))
    able = []
    last = x
    for _ in range(4):
        a, b = d("NEG", last, shape=(2,)), d("ABS", x, shape=(2,))
        last = d("ADD", a, b, shape=(2,))
        able += ["NEG", "ADD"]
    made = d.graph(last)
    runs = grouped(made, lambda n: n.op.name != "ABS")
    assert sum(map(len, runs)) == len(made.nodes)
    assert [{n.op.name for n in run} for run in runs] == [{"NEG"}, {"ABS"}, {"ADD", "NEG"}]
    order = [n for run in runs for n in run]
    for n in order:
        producers = [made.producers()[t] for t in n.inputs if t in made.producers()]
        assert all(order.index(p) < order.index(n) for p in producers)
