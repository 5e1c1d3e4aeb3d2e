"""Operators that share a kernel: which do, and that the numbers stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.ir import interpret
from lithe.ir.graph import Graph, Tensor
from lithe.ir.loops import Store, expressions, nodes, statements
from lithe.ir.program import Program
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.passes import prepare
from lithe.runtime.reference import ReferenceExecutor
from lithe.targets.cpu import VPERMI2B
from lithe.types import INT8, Quantization, TensorType
from tests.llvm_backend import host_target, run
from tests.passes.graphs import Draft

RANDOM = np.random.default_rng(7)


def kernels(program: Program) -> list[str]:
    return [step.source for step in program.steps]


def checked(graph: Graph, tolerance: float = 2e-6) -> list[str]:
    """The kernels' sources, after comparing the results with those of `evaluate`: plain loops and machine code."""
    graph = prepare(graph)
    values = []
    for t in graph.inputs:
        value = (
            RANDOM.integers(-128, 128, t.type.shape) if t.type.dtype.is_integer else RANDOM.normal(size=t.type.shape)
        )
        values.append(value.astype(t.type.dtype.numpy))
    reference = ReferenceExecutor(graph)
    for t, value in zip(graph.inputs, values, strict=True):
        reference.array(t.index)[...] = value
    reference.invoke()
    plain, fast = lower(graph), lower(graph, host_target())
    verify_program(plain)
    verify_program(fast)
    for got in (interpret.run(plain, values), run(fast, values)):
        for t, result in zip(graph.outputs, got, strict=True):
            want = reference.array(t.index)
            np.testing.assert_allclose(result.reshape(want.shape), want, tolerance, tolerance if tolerance else 0)
    return kernels(fast)


def filter_of(d: Draft, *shape: int) -> tuple[Tensor, Tensor]:
    return d.constant(RANDOM.normal(size=shape) / 3), d.constant(RANDOM.normal(size=shape[0]))


def test_an_activation_of_several_operators_joins_the_convolution_before_it():
    d = Draft()
    x = d.input((1, 5, 6, 3))
    y = d("CONV_2D", x, *filter_of(d, 20, 3, 3, 3), padding="SAME")
    z = d("MUL", y, d("LOGISTIC", y))
    assert checked(d.graph(z)) == ["op #0 CONV_2D + op #1 LOGISTIC + op #2 MUL"]


@pytest.mark.parametrize("shape", [(1, 4, 4, 7), (7,), (1, 1, 1, 1), (1, 1, 1, 7)])
def test_another_operand_may_be_whole_a_row_of_channels_or_one_number(shape):
    d = Draft()
    x, other = d.input((1, 4, 4, 5)), d.input(shape)
    y = d("ADD", d("CONV_2D", x, *filter_of(d, 7, 1, 1, 5)), other)
    assert checked(d.graph(y)) == ["op #0 CONV_2D + op #1 ADD"]


@pytest.mark.parametrize("channels", [7, 1])
def test_an_operand_of_pixels_is_not_at_hand_where_sums_are_finished(channels):
    d = Draft()
    x, other = d.input((1, 4, 4, 5)), d.input((1, 4, 1, channels))
    y = d("MUL", d("CONV_2D", x, *filter_of(d, channels, 1, 1, 5)), other)
    assert checked(d.graph(y)) == ["op #0 CONV_2D", "op #1 MUL"]


def test_a_column_is_no_row_of_one_channel():
    d = Draft()
    x, y = d.input((2, 3, 2, 4)), d.input((2, 3, 4, 1))
    assert len(checked(d.graph(d("ADD", d("BATCH_MATMUL", x, y), d.constant(RANDOM.normal(size=(2, 1))))))) == 2


def test_depthwise_and_fully_connected_sums_go_on_too():
    d = Draft()
    x = d.input((1, 6, 6, 18))
    y = d("DEPTHWISE_CONV_2D", x, d.constant(RANDOM.normal(size=(1, 3, 3, 18))), None, padding="SAME")
    y = d("HARD_SWISH", y)
    z = d("FULLY_CONNECTED", y, *filter_of(d, 9, 18))
    assert checked(d.graph(d("TANH", z))) == ["op #0 DEPTHWISE_CONV_2D + op #1 HARD_SWISH",
                                              "op #2 FULLY_CONNECTED + op #3 TANH"]  # fmt: skip


@pytest.mark.parametrize("last", ["NEG", "GELU"])
def test_products_of_computed_matrices_go_on_too(last):
    d = Draft()
    x, y, mask, other = d.input((2, 3, 20, 9)), d.input((2, 3, 18, 9)), d.input((1, 1, 1, 18)), d.input((2, 3, 20, 18))
    scores = d("MUL", d("BATCH_MATMUL", x, y, adj_y=True), d.constant(0.3))
    z = d(last, d("ADD", d("ADD", scores, mask), other))
    (whole,) = checked(d.graph(z), 1e-5)
    assert whole == f"op #0 BATCH_MATMUL + op #1 MUL + op #2 ADD + op #3 ADD + op #4 {last}"


def test_what_somebody_else_reads_is_stored():
    d = Draft()
    x = d.input((1, 4, 4, 5))
    y = d("CONV_2D", x, *filter_of(d, 7, 1, 1, 5))
    z = d("RELU", y)
    assert checked(d.graph(z, y)) == ["op #0 CONV_2D", "op #1 RELU"]


def test_what_depends_on_the_whole_result_does_not_join():
    d = Draft()
    x = d.input((1, 4, 4, 5))
    y = d("CONV_2D", x, *filter_of(d, 8, 1, 1, 5))
    gate = d("LOGISTIC", d("MEAN", y, d.constant([1, 2], np.int32), keep_dims=True))
    assert checked(d.graph(d("MUL", y, gate))) == ["op #0 CONV_2D", "op #1 MEAN", "op #2 LOGISTIC", "op #3 MUL"]


def test_a_residual_that_is_made_later_is_waited_for():
    d = Draft()
    x = d.input((1, 4, 4, 5))
    y = d("CONV_2D", x, *filter_of(d, 5, 1, 1, 5))
    other = d("MAX_POOL_2D", x, filter_height=3, filter_width=3, stride_h=1, stride_w=1, padding="SAME")
    assert checked(d.graph(d("ADD", y, other))) == ["op #1 MAX_POOL_2D", "op #0 CONV_2D + op #2 ADD"]


def test_elementwise_operators_become_one_pass_with_broadcasting():
    d = Draft()
    x, row, pixels = d.input((2, 3, 5)), d.input((5,)), d.input((2, 3, 1))
    y = d("TANH", d("SUB", d("MUL", x, row), pixels))
    assert checked(d.graph(y)) == ["op #0 MUL + op #1 SUB + op #2 TANH"]


def test_an_operand_that_is_spread_begins_a_pass_of_its_own():
    d = Draft()
    row, x = d.input((5,)), d.input((2, 3, 5))
    y = d("ADD", x, d("EXP", row))
    assert checked(d.graph(y)) == ["op #0 EXP", "op #1 ADD"]


def test_quantized_results_keep_their_bits():
    def kind(shape, scale, zero=0):
        return TensorType(INT8, shape, Quantization((scale,), (zero,)))

    d = Draft()
    x, other = d.input((1, 6, 6, 8), INT8), d.input((1, 6, 6, 20), INT8)
    x.type, other.type = kind((1, 6, 6, 8), 0.02, 3), kind((1, 6, 6, 20), 0.05, -7)
    w = d.constant(RANDOM.integers(-127, 128, (20, 3, 3, 8)), np.int8)
    w.type = TensorType(INT8, w.type.shape, Quantization((0.01,), (0,)))
    y = d("CONV_2D", x, w, None, padding="SAME")
    y.type = kind((1, 6, 6, 20), 0.1, 5)
    z = d("ADD", y, other)
    z.type = kind((1, 6, 6, 20), 0.12, 1)
    a = d("HARD_SWISH", z)
    a.type = kind((1, 6, 6, 20), 0.09, -100)
    assert checked(d.graph(a), 0) == ["op #0 CONV_2D + op #1 ADD + op #2 HARD_SWISH"]


def test_a_check_that_can_fail_stays_an_operator_of_its_own():
    d = Draft()
    x, y = d.input((4,)), d.input((4,))
    x.type = y.type = TensorType(Draft().constant([1], np.int32).type.dtype, (4,))
    z = d("NEG", d("DIV", x, y))
    assert kernels(lower(prepare(d.graph(z)), host_target())) == ["op #0 DIV", "op #1 NEG"]


def test_variables_are_read_in_their_place():
    d = Draft()
    x, state = d.input((4,)), d.tensor((4,), is_variable=True)
    y = d("MUL", d("ADD", x, state), x)
    assert kernels(lower(prepare(d.graph(y)), host_target())) == ["op #0 ADD", "op #1 MUL"]


def test_rules_of_one_byte_become_a_table_where_tables_are_quick():
    d = Draft()
    x = d.input((1, 3, 50), INT8)
    x.type = TensorType(INT8, (1, 3, 50), Quantization((0.05,), (3,)))
    gate = d("LOGISTIC", x)
    gate.type = TensorType(INT8, (1, 3, 50), Quantization((1 / 256,), (-128,)))
    y = d("MUL", x, gate)
    y.type = TensorType(INT8, (1, 3, 50), Quantization((0.03,), (-90,)))
    graph = d.graph(y)
    assert checked(graph, 0) == ["op #0 LOGISTIC + op #1 MUL"]
    for look_up, work in ((VPERMI2B, range(12)), (None, range(20, 99))):
        (step,) = lower(prepare(graph), replace(host_target(), look_up=look_up)).steps
        stores = [s for s in statements(step.kernel.body) if isinstance(s, Store)]
        assert len([*nodes(expressions(stores[0]))]) in work


def test_a_result_lies_where_an_operand_lay_that_nobody_reads_any_more():
    d = Draft()
    x = d.input((1, 4, 4, 5))
    skip = d("MAX_POOL_2D", x, filter_height=3, filter_width=3, stride_h=1, stride_w=1, padding="SAME")
    y = d("ADD", d("CONV_2D", x, *filter_of(d, 5, 1, 1, 5)), skip)
    z = d("MAX_POOL_2D", d("MUL", y, skip), filter_height=2, filter_width=2, stride_h=1, stride_w=1, padding="SAME")
    graph = d.graph(z)
    assert checked(graph) == ["op #0 MAX_POOL_2D", "op #1 CONV_2D + op #2 ADD + op #3 MUL", "op #4 MAX_POOL_2D"]
    program = lower(prepare(graph), host_target())
    (pooled,) = (b for b, w in zip(program.steps[0].arguments, program.steps[0].kernel.writes, strict=True) if w)
    assert pooled in program.steps[1].arguments
    assert len(program.arena) == 3  # input, output, and one between
    assert program.arena_bytes >= program.least_bytes == 3 * 320


def test_an_operand_that_the_sums_read_too_keeps_its_place():
    d = Draft()
    x = d("MAX_POOL_2D", d.input((1, 4, 4, 5)), filter_height=1, filter_width=1, stride_h=1, stride_w=1)
    y = d("ADD", d("CONV_2D", x, *filter_of(d, 5, 3, 3, 5), padding="SAME"), x)
    z = d("MAX_POOL_2D", y, filter_height=1, filter_width=1, stride_h=1, stride_w=1)
    assert checked(d.graph(z)) == ["op #0 MAX_POOL_2D", "op #1 CONV_2D + op #2 ADD", "op #3 MAX_POOL_2D"]
