"""3 x 3 convolutions in Winograd's form: every edge, against sums in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.ir import interpret
from lithe.ir.graph import Graph
from lithe.ir.verify import verify_program
from lithe.lower import lower, winograd
from lithe.passes import prepare
from lithe.runtime.reference import ReferenceExecutor
from lithe.targets.cpu import Target, x86
from tests.llvm_backend import host_target, run
from tests.passes.graphs import Draft

WIDE = x86(frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"}))


def layer(shape: tuple[int, ...], outputs: int, padding: str, follower: str = "") -> tuple[Graph, np.ndarray]:
    random = np.random.default_rng(shape[1] * outputs)
    d = Draft()
    x = d.input(shape)
    w = d.constant(random.normal(size=(outputs, 3, 3, shape[3])) / np.sqrt(9 * shape[3]))
    y = d("CONV_2D", x, w, d.constant(random.normal(size=outputs)), padding=padding)
    graph = prepare(d.graph(d(follower, y) if follower else y))
    return graph, random.normal(size=shape).astype(np.float32)


def products(graph: Graph, target: Target) -> bool:
    (step,) = lower(graph, target).steps
    weights = [b for b in step.kernel.params if b.data is not None and len(b.shape) == 4]
    return any(b.shape[1] == winograd.PLACES for b in weights)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [((1, 8, 8, 16), 16), ((1, 7, 9, 17), 40), ((2, 6, 7, 24), 33), ((1, 30, 6, 64), 16), ((1, 7, 7, 130), 100)],
)
def test_sums_agree_with_the_definition(shape: tuple[int, ...], outputs: int, padding: str) -> None:
    graph, x = layer(shape, outputs, padding)
    reference = ReferenceExecutor(graph)
    reference.array(graph.inputs[0].index)[...] = x
    reference.invoke()
    want = reference.array(graph.outputs[0].index)
    for target in (host_target(), replace(WIDE, cache_bytes=1 << 15)):  # the second: many bands
        if not target.fma:
            continue
        program = lower(graph, target)
        verify_program(program)
        assert products(graph, target)
        got = [interpret.run(program, [x])] if target is not host_target() else []
        if target.features == host_target().features:
            got.append(run(program, [x]))
        for (result,) in got:
            np.testing.assert_allclose(result.reshape(want.shape), want, atol=4e-6)


def test_an_epilogue_with_more_operators_is_applied_once_to_every_output() -> None:
    graph, x = layer((1, 9, 5, 16), 20, "SAME", "TANH")
    reference = ReferenceExecutor(graph)
    reference.array(graph.inputs[0].index)[...] = x
    reference.invoke()
    want = reference.array(graph.outputs[0].index)
    assert products(graph, WIDE)
    (got,) = interpret.run(lower(graph, WIDE), [x])
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=4e-6)


def test_other_convolutions_keep_their_sums() -> None:
    few, _ = layer((1, 8, 8, 8), 16, "SAME")
    small, _ = layer((1, 3, 3, 16), 16, "SAME")
    same, _ = layer((1, 8, 8, 16), 16, "SAME")
    far, many = (layer((1, size, size, 256), 256, "SAME")[0] for size in (8, 10))  # weights are read for few squares
    assert not products(far, WIDE)
    assert products(many, WIDE)
    assert not products(few, WIDE)
    assert not products(small, WIDE)
    assert products(same, WIDE)
    assert not products(same, x86(frozenset({"sse2"})))
    assert not products(
        same, x86(frozenset(WIDE.features.replace("+", "").split(",")) | {"avx512bf16"}, precision="fast")
    )
