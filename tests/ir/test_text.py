"""The printed form of both languages, and the page that explains them."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from lithe.ir.build import Builder
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.loops import FMA, INDEX, Barrier, Binary, Buffer, Call, Const, Expr, Intrinsic, Kernel, Stmt, Var, select
from lithe.ir.text import print_graph, print_kernel, print_program, print_statement
from lithe.types import BOOL, FLOAT32, INT8, INT32, Quantization, TensorType
from tests.codegen.c.test_programs import convolution, statements

PAGE = Path(__file__).resolve().parents[2] / "docs" / "languages.md"
Golden = Callable[[str, str], None]


def test_every_example_on_the_page_about_languages_runs() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 20
    assert failed == 0


def test_text_of_programs(golden: Golden) -> None:
    golden(print_program(convolution()[0]) + "\n", "convolution.txt")
    golden(print_program(statements()[0]) + "\n", "statements.txt")


def test_operators_bind_as_in_python() -> None:
    a, b, c = (Var(name, INT32) for name in "abc")

    def shown(e: Expr) -> str:
        builder = Builder()
        builder.store(Buffer("y", e.dtype, ()), (), e)
        (s,) = builder.kernel().body
        return print_statement(s).removeprefix("y[] = ")

    assert shown(a + b * c) == "a + b * c"
    assert shown((a + b) * c) == "(a + b) * c"
    assert shown(a - (b - c)) == "a - (b - c)"
    assert shown(a - b - c) == "a - b - c"
    assert shown((a < b) & (b < c)) == "(a < b) & (b < c)"
    assert shown((a < b) & (b < c) & (c < a)) == "(a < b) & (b < c) & (c < a)"
    assert shown(a & (b + 1)) == "a & b + int32(1)"
    assert shown(a << (b | c)) == "a << (b | c)"
    assert shown(select(a < b, a.to(FLOAT32), Const(float("nan"), FLOAT32))) == "select(a < b, float32(a), nan)"
    assert shown(Intrinsic(FMA, (Const(1.0, FLOAT32),) * 3)) == "fma(1.0, 1.0, 1.0)"
    assert shown(a.to(INDEX) + 1) == "index(a) + 1"
    assert shown(Binary("min", a, ~b)) == "min(a, not(b))"
    assert shown(Const(True, BOOL)) == "True"


class Strange(Expr, Stmt):
    dtype = INT32


def test_what_has_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown statement Strange"):
        print_kernel(Kernel("odd", (), (), (Strange(),)))
    with pytest.raises(TypeError, match="unknown expression Strange"):
        print_kernel(Kernel("odd", (), (), (Call("f", (Strange(),)),)))
    assert print_statement(Call("print", (Const(1, INT32),))) == "print(int32(1))"
    assert print_statement(Barrier()) == "barrier"


@dataclass(frozen=True)
class _Attrs:
    kept: int
    padding: str = "SAME"
    stride: int = 1


class _Operator:
    name = "CONV_2D"


def test_text_of_a_graph(golden: Golden) -> None:
    one = Quantization((0.5,), (3,))
    x = Tensor("image", TensorType(INT8, (1, 4, 4, 1), one), index=0)
    w = Tensor(
        "w", TensorType(INT8, (2, 1, 1, 1), Quantization((0.5, 0.25), (0, 0))), np.array([[[[1]]], [[[2]]]], np.int8)
    )
    bias = Tensor("", TensorType(INT32, (2,)), np.array([7, -7], np.int32), index=5)
    large = Tensor("w", TensorType(FLOAT32, (9,)), np.zeros(9, np.float32))
    state, unset = Tensor("state", TensorType(FLOAT32, ()), is_variable=True), Tensor("", TensorType(INT8, (1,)))
    y, z = Tensor("y", TensorType(INT8, (1, 4, 4, 2), one)), Tensor("y", TensorType(INT8, (1, 4, 4, 2)))
    nodes = [
        Node(_Operator, _Attrs(4, stride=2), [x, w, bias], [y]),
        Node(_Operator, {"axis": 1}, [y, None, large], [z]),
        Node(_Operator, None, [state, unset], []),
    ]
    golden(print_graph(Graph("", [x], [z], [], nodes)) + "\n", "graph.txt")
