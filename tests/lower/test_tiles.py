"""Contractions on a unit of tiles: their loops against their meaning on every machine, and their machine code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lithe.codegen.llvm.emit import print_kernel
from lithe.ir import interpret
from lithe.ir.build import Builder, Convolution
from lithe.ir.graph import Graph
from lithe.ir.interpret import run_kernel
from lithe.ir.loops import Buffer, For, Intrinsic, expressions, nodes, statements
from lithe.ir.program import Program
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.lower.schedule import choices, schedule
from lithe.passes import prepare
from lithe.targets.cpu import TDPBF16PS, TDPBSSD, TDPBUSD, x86
from lithe.types import INT8, INT32
from tests import emulated
from tests.llvm_backend import graph_of
from tests.lower.test_movement import convolved
from tests.lower.test_rows import Block, typed, values
from tests.ops.cases import Case, every_case
from tests.passes.graphs import Draft
from tests.tiled import CHOSEN, TILES, WIDE, is_tiled, pointwise, target, window, without_tiles

FACTORS = {"fast": 2.0**-8, "bf16x3": 2.0**-17}  # what of a factor is rounded away, relative
FLOATS = [c for c in CHOSEN if c.outputs[0].dtype.is_float and c.inputs[1].dtype.is_float]
INTEGERS = [c for c in CHOSEN if c not in FLOATS]


def used(program: Program) -> set[str]:
    found = (x for k in program.kernels() for s in statements(k.body) for x in nodes(expressions(s)))
    return {x.instruction.name for x in found if isinstance(x, Intrinsic)}


def outputs(case: Case, program: Program) -> np.ndarray:
    verify_program(program)
    given = [a.reshape(b.shape) for a, b in zip([case.arrays()[0]], program.inputs, strict=True)]
    (got,) = interpret.run(program, given)
    return got.reshape(case.outputs[0].shape)


@pytest.mark.parametrize("case", INTEGERS, ids=str)
def test_loops_over_tiles_of_bytes_are_exact(case: Case) -> None:
    program = lower(graph_of(case), target())
    assert used(program) & {TDPBSSD.instruction.name, TDPBUSD.instruction.name}
    (want,) = case.operator.evaluate(case.site(), *case.arrays())
    np.testing.assert_allclose(outputs(case, program), want, rtol=0, atol=2e-6 if want.dtype.kind == "f" else 0)


@pytest.mark.parametrize("precision", FACTORS)
@pytest.mark.parametrize("case", FLOATS, ids=str)
def test_loops_over_tiles_of_rounded_factors_are_as_close_as_these(case: Case, precision: str) -> None:
    program = lower(graph_of(case), target(precision))
    assert TDPBF16PS.instruction.name in used(program)
    (want,) = case.operator.evaluate(case.site(), *case.arrays())
    sizes = [None if a is None else np.abs(a) for a in case.arrays()]
    bare = replace(case, attrs={**case.attrs, "fused_activation_function": "NONE"})
    (most,) = bare.operator.evaluate(bare.site(), *sizes)
    assert (np.abs(outputs(case, program) - want) <= 2.1 * FACTORS[precision] * most + 1e-6).all()


def test_strict_floats_never_meet_tiles() -> None:
    floats = every_case(lambda c: c.operator.lower is not None and c.operator.lowers(c.site()) and "float" in str(c))
    for case in (*FLOATS, *floats):
        assert TDPBF16PS.instruction.name not in used(lower(graph_of(case), target(), case.model())), str(case)


@pytest.mark.parametrize(
    "case",
    [
        pointwise("int8", 1, 512, 64), pointwise("int8", 7, 512, 64),  # few pixels
        window("int8", (5, 3), 64, (3, 3), 64),  # short strips
        pointwise("int8", 64, 16, 64), window("int8", (20, 20), 3, (3, 3), 16),  # short runs
        pointwise("int16", 64, 64, 64),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fill_tiles_stays_with_vectors(case: Case) -> None:
    assert not is_tiled(lower(graph_of(case), target()))


def test_tiles_need_their_features() -> None:
    assert x86(WIDE).tiles is None
    assert x86(WIDE | {"amx-tile"}).tiles is None
    assert x86(WIDE | {"amx-int8"}).tiles is None
    assert x86(TILES).tiles is None  # the rest of the code has vectors of 64 bytes
    assert x86(WIDE | {"amx-tile", "amx-bf16"}).tiles is None  # nobody asked for it
    found = x86(WIDE | TILES, precision="fast").tiles
    assert found is not None
    assert found.dots == (TDPBSSD, TDPBUSD, TDPBF16PS)
    assert without_tiles(x86(WIDE | TILES)) == replace(x86(WIDE), features=x86(WIDE | TILES).features)


@pytest.mark.parametrize(("height", "width", "taps"), [(1, 50, 1), (50, 1, 1), (9, 20, 3), (7, 7, 3), (1, 300, 1)])
def test_every_output_is_finished_once(height: int, width: int, taps: int) -> None:
    """Pixels that two strips sum are one's to finish: the result may lie where an operand did, and add to it."""
    random = np.random.default_rng(4)
    x = Buffer("x", INT8, (1, height + taps - 1, width + taps - 1, 32))
    out = Buffer("out", INT32, (1, height, width, 20))
    b, flat = Builder("adds", schedule(target())), out.viewed((height * width, 20))
    weights = random.integers(-9, 10, (20, taps, taps, 32), np.int8)
    b.convolution(
        Convolution(
            x, b.constant(weights), None, out, (1, 1), (1, 1), (0, 0), 1, INT32,
            lambda total, o, pixel: total + flat[pixel.row, o],
        )
    )  # fmt: skip
    kernel = b.kernel()
    assert any(isinstance(s, For) and s.kind == "tile" for s in statements(kernel.body))
    given, before = random.integers(-9, 10, x.shape, np.int8), random.integers(-99, 99, out.shape, np.int32)
    got = before.copy()
    run_kernel(kernel, {x: given, out: got})
    windows = np.lib.stride_tricks.sliding_window_view(given[0].astype(np.int32), (taps, taps), (0, 1))
    want = np.einsum("hwcyx,oyxc->hwo", windows, weights.astype(np.int32))
    np.testing.assert_array_equal(got[0] - before[0], want)


def joined() -> Graph:
    d = Draft()
    x = d.input((1, 8, 10, 32))
    both = d("CONCATENATION", convolved(d, x, 64, 32), convolved(d, x, 32, 32), axis=3)
    part = d("SLICE", both, d.constant([0, 0, 0, 32], np.int32), d.constant([-1, -1, -1, 64], np.int32))
    return d.graph(convolved(d, both, 40, 96), convolved(d, part, 16, 64))


def verified(graph: Graph, *, fast: bool) -> Program:
    """The program of a graph that has several kernels with tiles, each of which can be written."""
    program = lower(graph, target("fast" if fast else "strict"))
    verify_program(program)
    assert sum(any(isinstance(s, For) and s.kind == "tile" for s in statements(k.body)) for k in program.kernels()) > 1
    for kernel in program.kernels():
        print_kernel(kernel, "k", {})  # or it raises an error
    return program


def test_copies_fall_away_around_tiles() -> None:
    graph = prepare(joined())
    program = verified(graph, fast=True)
    assert [step.source.split()[2] for step in program.steps] == ["CONV_2D"] * 4
    given = [np.random.default_rng(1).uniform(-1, 1, t.type.shape).astype(np.float32) for t in graph.inputs]
    for got, want in zip(interpret.run(program, given), interpret.run(lower(graph), given), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=0.01 * np.abs(want).max())


def test_rows_of_a_tile_stay_at_one_distance() -> None:
    """Whoever reads all pixels in a row does not find them in the middle of the padding at one distance."""
    block = Block(INT8, size=7, channels=32)
    x = block.made("CONV_2D", block.x, block.weights(32, 1, 1, 32), 32)
    pads = block.d.constant([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32)
    wide = typed(block.d("PAD", x, pads, shape=(1, 10, 11, 32), dtype=INT8), INT8, 0.05, 7)
    weights, shape = block.weights(20, 3, 3, 32), (1, 8, 9, 20)
    around = typed(block.d("CONV_2D", wide, weights, None, shape=shape, dtype=INT8, padding="VALID"), INT8, 0.05, 7)
    graph = prepare(block.d.graph(around, block.made("CONV_2D", x, block.weights(24, 1, 1, 32), 24)))
    given = values(graph)
    want = interpret.run(lower(graph, without_tiles(target())), given)
    for a, b in zip(interpret.run(verified(graph, fast=False), given), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_choice_has_the_same_bits() -> None:
    random = np.random.default_rng(4)
    x, out = Buffer("x", INT8, (1, 40, 1, 64)), Buffer("out", INT32, (1, 40, 1, 24))
    given, weights = random.integers(-128, 128, x.shape, np.int8), random.integers(-127, 128, (24, 1, 1, 64), np.int8)
    want = given[0, :, 0].astype(np.int32) @ weights[:, 0, 0].astype(np.int32).T
    tiled = set()
    for choice in choices(target("fast"), threads=2):
        b = Builder("chosen", schedule(target("fast"), choice))
        b.convolution(
            Convolution(
                x, b.constant(weights), None, out, (1, 1), (1, 1), (0, 0), 1, INT32, lambda total, o, pixel: total
            )
        )
        kernel, got = b.kernel(), np.zeros(out.shape, np.int32)
        run_kernel(kernel, {x: given, out: got})
        np.testing.assert_array_equal(got[0, :, 0], want, choice.name)
        if any(isinstance(s, For) and s.kind == "tile" for s in statements(kernel.body)):
            tiled.add(choice.name)
    assert tiled == {c.name for c in choices(target("fast"), threads=2)} - {"vectors", "float32"}
    assert "vectors" not in {c.name for c in choices(without_tiles(target()))}


needs_code = pytest.mark.skipif(bool(emulated.missing()), reason=emulated.missing())


@needs_code
def test_machine_code_has_the_bits_of_the_meaning_and_of_vectors() -> None:
    problems, products, configurations, threads = emulated.in_child("cases")
    assert {str(c) for c in CHOSEN} <= {name.rsplit(" ", 1)[0] for name in problems}
    assert {name: problem for name, problem in problems.items() if problem} == {}
    if not emulated.host().has("amx-tile"):
        assert products > 1000
        assert configurations >= len(problems)
        assert threads > len(CHOSEN) // 2  # each run has a second thread of its own


@needs_code
def test_chains_of_contractions_configure_the_unit_for_each() -> None:
    problems, _, configurations, threads = emulated.in_child("chains")
    assert len(problems) == 4
    assert set(problems.values()) == {""}
    if not emulated.host().has("amx-tile"):
        assert configurations > 4 * len(problems)
        assert threads == 1 + len(problems)  # every run with two threads has a second one that computes


@needs_code
@pytest.mark.parametrize(
    "name",
    [
        "mlperf_tiny/pretrainedResnet_quant", "classification/mobilenet_v1_0.25_128_quant",
        "classification/tf2_mobilenet_v2_1.0_224_ptq",
    ],
)  # fmt: skip
def test_models_have_the_bits_of_vectors(corpus: Path, name: str) -> None:
    problems, *_ = emulated.in_child("model", str(corpus / "models" / f"{name}.tflite"))
    assert list(problems.values()) == [""]
