"""Copies that fall away: which do, which must not, and that the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.errors import CompileError
from lithe.ir import interpret
from lithe.ir.build import Builder, kernel
from lithe.ir.graph import Graph, Tensor
from lithe.ir.loops import Buffer, Stmt
from lithe.ir.program import Program, Step
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.lower.movement import move_of, place, without_copies
from lithe.lower.place import Place, moved
from lithe.passes import prepare
from lithe.runtime.reference import ReferenceExecutor
from lithe.types import FLOAT32, UINT8, Quantization, TensorType
from tests.llvm_backend import host_target, run
from tests.passes.graphs import Draft

RANDOM = np.random.default_rng(11)


def checked(graph: Graph, *, machine: bool = True) -> Program:
    """The program, after comparing its results with those of `evaluate`: plain loops and machine code."""
    graph = prepare(graph)
    values = [RANDOM.uniform(-2, 2, t.type.shape).astype(t.type.dtype.numpy) for t in graph.inputs]
    reference = ReferenceExecutor(graph)
    for t, value in zip(graph.inputs, values, strict=True):
        reference.array(t.index)[...] = value
    reference.invoke()
    plain, fast = lower(graph), lower(graph, host_target())
    for program in (plain, fast):
        verify_program(program)
    results = [interpret.run(plain, values), *([run(fast, values)] if machine else [])]
    for got in results:
        for t, result in zip(graph.outputs, got, strict=True):
            want = reference.array(t.index)
            np.testing.assert_allclose(result.reshape(want.shape), want, 2e-5, 2e-5)
    return fast


def copies(program: Program) -> int:
    """Statements of the program that only copy from one storage to another."""
    return sum(move_of(s) is not None for step in program.steps for s in step.kernel.body)


def operators(program: Program) -> list[str]:
    return [step.source.split()[2] for step in program.steps]


def convolved(d: Draft, x: Tensor, outputs: int, inputs: int) -> Tensor:
    weights = d.constant(RANDOM.normal(size=(outputs, 1, 1, inputs)) / 3)
    return d("CONV_2D", x, weights, d.constant(RANDOM.normal(size=outputs)))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_what_is_concatenated_is_written_side_by_side(axis: int) -> None:
    d = Draft()
    x = d.input((1, 4, 6, 5))
    parts = [convolved(d, x, 8, 5), d("RELU", convolved(d, x, 8, 5))]
    joined = d("CONCATENATION", *parts, axis=axis)
    assert operators(checked(d.graph(convolved(d, joined, 4, 16 if axis == 3 else 8)))) == ["CONV_2D"] * 3


def test_parts_of_a_split_are_read_where_they_lie() -> None:
    d = Draft()
    x = convolved(d, d.input((1, 3, 5, 4)), 24, 4)
    first = d("SLICE", x, d.constant([0, 0, 0, 0], np.int32), d.constant([-1, -1, -1, 16], np.int32))
    second = d("SLICE", x, d.constant([0, 0, 0, 16], np.int32), d.constant([-1, -1, -1, 8], np.int32))
    outputs = convolved(d, first, 3, 16), d("SUM", second, d.constant([1], np.int32))
    assert operators(checked(d.graph(*outputs))) == ["CONV_2D", "CONV_2D", "SUM"]


def test_the_middle_of_a_padding_is_written_by_who_makes_it() -> None:
    d = Draft()
    x = convolved(d, d.input((1, 7, 5, 4)), 16, 4)
    padded = d("PAD", x, d.constant([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32))
    weights = d.constant(RANDOM.normal(size=(6, 3, 3, 16)))
    y = d("CONV_2D", padded, weights, d.constant(np.zeros(6)), padding="VALID")
    program = checked(d.graph(y))
    assert operators(program) == ["CONV_2D", "PAD", "CONV_2D"]
    assert copies(program) == 0


def test_several_pictures_are_padded_in_place_too() -> None:
    d = Draft()
    x = d("ABS", d.input((3, 4, 5, 8)))
    assert copies(checked(d.graph(d("NEG", d("PAD", x, d.constant([[0, 0], [1, 1], [1, 0], [0, 0]], np.int32)))))) == 0


def test_heads_are_written_apart() -> None:
    d = Draft()
    x = convolved(d, d.input((1, 1, 6, 5)), 32, 5)
    heads = d("TRANSPOSE", d("RESHAPE", x, d.constant([6, 2, 16], np.int32)), d.constant([1, 0, 2], np.int32))
    assert operators(checked(d.graph(d("ABS", heads)))) == ["CONV_2D", "ABS"]


def test_a_part_may_have_other_readers_before_and_after() -> None:
    d = Draft()
    x = convolved(d, d.input((1, 4, 4, 3)), 8, 3)
    early = d("ABS", x)
    joined = d("CONCATENATION", x, early, axis=3)
    program = checked(d.graph(convolved(d, joined, 4, 16), convolved(d, x, 4, 8)))
    assert "CONCATENATION" not in operators(program)


def test_what_is_joined_twice_is_copied_once() -> None:
    d = Draft()
    x = convolved(d, d.input((1, 4, 4, 3)), 8, 3)
    program = checked(d.graph(convolved(d, d("CONCATENATION", x, x, axis=3), 4, 16)))
    assert operators(program) == ["CONV_2D", "CONCATENATION", "CONV_2D"]


@pytest.mark.parametrize("kind", ["input", "output", "constant"])
def test_what_others_see_is_copied(kind: str) -> None:
    d = Draft()
    x = d.input((1, 4, 4, 8))
    part = {"input": x, "output": d("ABS", x), "constant": d.constant(RANDOM.normal(size=(1, 4, 4, 8)))}[kind]
    joined = convolved(d, d("CONCATENATION", part, d("NEG", x), axis=3), 4, 16)
    program = checked(d.graph(joined, *([part] if kind == "output" else [])))
    assert "CONCATENATION" in operators(program)


def test_an_output_may_be_made_of_parts() -> None:
    d = Draft()
    x = d.input((1, 4, 4, 8))
    assert operators(checked(d.graph(d("CONCATENATION", d("ABS", x), d("NEG", x), axis=3)))) == ["ABS", "NEG"]


def test_rows_that_are_too_short_are_copied() -> None:
    d = Draft()
    x = d.input((1, 4, 4, 3))
    program = checked(d.graph(d("RELU", d("CONCATENATION", d("ABS", x), d("NEG", x), axis=3))))
    assert "CONCATENATION" in operators(program)


def test_a_part_that_is_used_while_the_whole_is_written_over_is_copied() -> None:
    d = Draft()
    x = d.input((1, 4, 4, 8))
    part = d("ABS", x)
    joined = d("CONCATENATION", part, d("NEG", x), axis=3)
    over = d("EXP", joined)  # in place
    checked(d.graph(convolved(d, over, 4, 16), d("MUL", part, x)))


def test_a_slice_that_is_used_while_its_source_is_written_over_is_copied() -> None:
    d = Draft()
    x = d("ABS", d.input((1, 4, 4, 16)))
    part = d("SLICE", x, d.constant([0, 0, 0, 0], np.int32), d.constant([-1, -1, -1, 8], np.int32))
    over = d("EXP", x)  # in place
    checked(d.graph(convolved(d, over, 4, 16), d("NEG", part)))


def test_another_quantization_is_no_copy() -> None:
    d = Draft()
    x = d.input((1, 3, 3, 16), UINT8)
    x.type = TensorType(UINT8, x.type.shape, Quantization((0.5,), (10,)))
    x2 = d("RELU", x, dtype=UINT8)
    x2.type = TensorType(UINT8, x.type.shape, Quantization((0.5,), (10,)))
    y = d("CONCATENATION", x2, x2, axis=3)
    y.type = TensorType(UINT8, (1, 3, 3, 32), Quantization((0.25,), (3,)))
    program = lower(prepare(d.graph(y)), host_target())
    assert operators(program)[-1] == "CONCATENATION"
    assert copies(program) == 0


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_of_movement_keep_their_numbers(seed: int) -> None:
    """Concatenations, slices, paddings, sums and in-place functions in any order, with any readers."""
    random = np.random.default_rng(seed)
    d = Draft()
    known = [(d.input((1, 4, 4, 8)), (4, 4, 8)), (d.input((1, 4, 4, 4)), (4, 4, 4))]
    for _ in range(int(random.integers(4, 14))):
        x, (h, w, c) = known[int(random.integers(len(known)))]
        match int(random.integers(7)):
            case 0:
                same = [(t, s) for t, s in known if s[:2] == (h, w)]
                y, other = same[int(random.integers(len(same)))]
                known.append((d("CONCATENATION", x, y, axis=3), (h, w, c + other[2])))
            case 1:
                same = [(t, s) for t, s in known if s[1:] == (w, c)]
                y, other = same[int(random.integers(len(same)))]
                known.append((d("CONCATENATION", y, x, axis=1), (h + other[0], w, c)))
            case 2 if c % 8 == 0:
                begin = d.constant([0, 0, 0, int(random.integers(2)) * c // 2], np.int32)
                known.append((d("SLICE", x, begin, d.constant([-1, -1, -1, c // 2], np.int32)), (h, w, c // 2)))
            case 3 if h > 1:
                at = int(random.integers(h))
                size = d.constant([-1, h - at, w, -1], np.int32)
                known.append((d("SLICE", x, d.constant([0, at, 0, 0], np.int32), size), (h - at, w, c)))
            case 4 if h < 9:
                known.append((d("PAD", x, d.constant([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32)), (h + 1, w + 2, c)))
            case 5:
                same = [t for t, s in known if s == (h, w, c)]
                known.append((d("ADD", x, same[int(random.integers(len(same)))]), (h, w, c)))
            case _:
                known.append((d(("ABS", "NEG", "RELU6")[int(random.integers(3))], x), (h, w, c)))
    made = [t for t, _ in known[2:]]
    last = made[-1:] + [t for t in made[:-1] if random.integers(6) == 0]
    checked(d.graph(*last), machine=seed % 6 == 0)


# places


def kernel_of(*stores: tuple[Buffer, Buffer, int, int]) -> tuple[Stmt, ...]:
    """y[r, k + to] = x[r, k + from] for each (y, x, to, from), k over what is common."""
    b = Builder()
    for y, x, to, start in stores:
        with b.nest((y.shape[0], min(y.shape[1] - to, x.shape[1] - start)), "parallel") as (r, k):
            b.store(y, (r, k + to), x[r, k + start])
    return b.kernel().body


def test_a_place_is_found_from_the_loops() -> None:
    x, y = Buffer("x", FLOAT32, (6, 8)), Buffer("y", FLOAT32, (6, 20))
    (s,) = kernel_of((y, x, 10, 0))
    move = move_of(s)
    assert move is not None
    assert place(move.reads, move.writes, x.nbytes) == Place((6, 32), (80, 1), 40)
    assert place(move.writes, move.reads, y.nbytes) is None, "the rest of y is not written"


def test_what_is_a_constant_or_computed_is_no_move() -> None:
    x, y = Buffer("x", FLOAT32, (6, 8)), Buffer("y", FLOAT32, (6, 8))
    b = Builder()
    with b.nest((6, 8)) as (r, k):
        b.store(y, (r, k), x[r, k] + 1.0)
    with b.nest((6, 8)) as (r, k):
        b.store(y, (r, k), b.constant(np.zeros((6, 8), np.float32))[r, k])
    assert [move_of(s) for s in b.kernel().body] == [None, None]


def test_a_loop_over_rows_and_columns_becomes_two() -> None:
    x, y, z = Buffer("x", FLOAT32, (6, 8)), Buffer("y", FLOAT32, (6, 20)), Buffer("z", FLOAT32, (48,))
    b = Builder()
    with b.loop(48, "parallel") as i:
        b.store(x.viewed((48,)), i, z[i] * 2.0)
    body = moved(b.kernel().body, x, y, Place((6, 32), (80, 1), 40))
    assert body is not None
    arrays = {z: np.arange(48, dtype=np.float32), y: np.zeros((6, 20), np.float32)}
    interpret.run_kernel(kernel("moved", body), arrays)
    assert (arrays[y][:, 10:18] == 2 * np.arange(48).reshape(6, 8)).all()
    assert (arrays[y][:, :10] == 0).all()


def test_lanes_that_would_cross_rows_cannot_be_moved() -> None:
    x, y, z = Buffer("x", FLOAT32, (6, 8)), Buffer("y", FLOAT32, (6, 20)), Buffer("z", FLOAT32, (48,))
    b = Builder()
    with b.loop(3) as i, b.loop(16, "vector") as l:
        b.store(x.viewed((48,)), i * 16 + l, z[i * 16 + l])
    assert moved(b.kernel().body, x, y, Place((6, 32), (80, 1), 40)) is None


def test_more_memory_is_no_price_for_a_copy_less() -> None:
    """A small slice of a large storage would keep it alive beside another large one."""
    w, x, y, z, out = (Buffer(n, FLOAT32, (64, size)) for n, size in zip("wxyzo", (4, 64, 4, 64, 4), strict=True))

    def widened(large: Buffer, small: Buffer) -> tuple[Stmt, ...]:
        b = Builder()
        b.compute(large, lambda r, k: small[r, k % 4] * 2.0)
        return b.kernel().body

    def summed(part: Buffer) -> tuple[Stmt, ...]:
        b = Builder()
        b.compute(out, lambda r, k: z[r, k] + part[r, k])
        return b.kernel().body

    slicing = [widened(x, w), kernel_of((y, x, 0, 8))]
    found, _ = without_copies([*slicing, widened(z, w), summed(y)], inputs=[w], outputs=[out], variables=[])
    assert [bool(body) for body in found] == [True] * 4
    found, _ = without_copies([*slicing, summed(y)], inputs=[w, z], outputs=[out], variables=[])
    assert [bool(body) for body in found] == [True, False, True]


def test_living_buffers_may_not_share_bytes() -> None:
    x, y = Buffer("x", FLOAT32, (4, 4)), Buffer("y", FLOAT32, (4, 4))
    b = Builder("copied")
    b.elementwise(y, lambda v: v, x)
    kernel = b.kernel()
    program = Program("both", [Step(kernel, kernel.params)], [x], [y], arena={x: 0, y: 0}, arena_bytes=128)
    with pytest.raises(CompileError, match=r"x: float32\[4, 4\] and y: float32\[4, 4\] share bytes of the arena"):
        verify_program(program)
    program.arena[y] = 64
    verify_program(program)
