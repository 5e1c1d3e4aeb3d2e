"""Graphs to programs: refusals, limits, names, memory that is shared, and programs that verify."""

from __future__ import annotations

import pytest

from lithe.errors import LimitError, UnsupportedOp
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.ops import REGISTRY, NoAttrs, unknown
from lithe.types import FLOAT32, TensorType
from tests.llvm_backend import graph_of, host_target
from tests.ops.cases import Case, every_case

CASES = every_case(lambda case: case.operator.lower is not None and case.operator.lowers(case.site()))


def chain(*names: str, shape: tuple[int, ...] = (4, 8)) -> Graph:
    kind = TensorType(FLOAT32, shape)
    tensors = [Tensor("x", kind, index=0)]
    nodes = []
    for n, name in enumerate(names):
        tensors.append(Tensor("conv/Relu;other", kind, index=n + 1))
        op = REGISTRY.by_name.get(name) or unknown(name, None)
        nodes.append(Node(op, op.Attrs() if op.known else NoAttrs(), [tensors[-2]], [tensors[-1]], n))
    return Graph("chain", [tensors[0]], [tensors[-1]], tensors, nodes)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_program_keeps_the_rules_of_the_loop_language(case: Case) -> None:
    verify_program(lower(graph_of(case), host_target(), case.model()))


def test_equal_tensor_names_become_different_buffers() -> None:
    program = lower(chain("SOFTMAX", "LOG_SOFTMAX", "SOFTMAX"))
    names = {b.name for s in program.steps for b in s.arguments}
    assert names == {"x", "conv_Relu", "conv_Relu_2", "conv_Relu_3"}


def test_intermediate_values_share_memory_and_inputs_keep_theirs() -> None:
    program = lower(chain(*["SOFTMAX"] * 6, shape=(1024,)))
    places = sorted(program.arena.values())
    assert program.arena[program.inputs[0]] not in [v for b, v in program.arena.items() if b is not program.inputs[0]]
    assert len(set(places)) == 3  # the input, and two that take turns


def test_every_operator_without_a_lowering_is_named() -> None:
    with pytest.raises(UnsupportedOp, match=r"Fancy, Strange cannot be compiled[\s\S]*op #0 Strange, op #2 Fancy"):
        lower(chain("Strange", "LOGISTIC", "Fancy"))


def test_too_large_an_arena_is_refused_before_any_code() -> None:
    with pytest.raises(LimitError, match="running needs 2097152 bytes of working memory, the limit is 1000000"):
        lower(chain("LOGISTIC", shape=(1 << 18,)), largest_arena=1_000_000)


def test_kernels_are_given_in_order_as_they_are_made() -> None:
    found: list = []
    program = lower(chain("SOFTMAX", "LOG_SOFTMAX", "SOFTMAX"), host_target(), each=found.append)
    assert found == program.kernels()
    assert [step.kernel for step in program.steps] == [found[0], found[1], found[0]]  # which is made once
    assert [step.source for step in program.steps] == ["op #0 SOFTMAX", "op #1 LOG_SOFTMAX", "op #2 SOFTMAX"]
    first, _, last = (step.arguments for step in program.steps)
    assert first == found[0].params
    assert not set(first) & set(last)


def test_large_locals_lie_in_the_arena_and_small_ones_on_the_stack() -> None:
    from lithe.ir.build import Builder
    from lithe.ir.loops import Alloc, statements
    from lithe.lower.lower import LARGEST_LOCAL, off_the_stack

    b = Builder()
    with b.loop(4) as i:
        small = b.local(FLOAT32, (4,), "small")
        large = b.local(FLOAT32, (LARGEST_LOCAL,), "large")
        b.store(small, i, 0.0)
        b.store(large, i, 0.0)
    body = off_the_stack(b.kernel().body)
    assert [s.buffer for s in statements(body) if isinstance(s, Alloc)] == [small]


def reshaped(outputs: int) -> Graph:
    """x -> RESHAPE -> y, twice over when two outputs are wanted."""
    kind, flat = TensorType(FLOAT32, (4, 8)), TensorType(FLOAT32, (32,))
    x = Tensor("x", kind, index=0)
    op = REGISTRY.by_name["RESHAPE"]
    ys = [Tensor(f"y{n}", flat, index=1 + n) for n in range(outputs)]
    nodes = [Node(op, op.Attrs(new_shape=(32,)), [x], [y], n) for n, y in enumerate(ys)]
    return Graph("reshape", [x], ys, [x, *ys], nodes)


@pytest.mark.parametrize("outputs", [1, 2])
def test_an_output_never_shares_memory_with_an_input_or_another_output(outputs: int) -> None:
    program = lower(reshaped(outputs))
    storages = [b.storage for b in (*program.inputs, *program.outputs)]
    assert len(set(storages)) == 1 + outputs
    assert len(program.steps) == outputs
