"""Whole C files: statements, memory, names, messages, and what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lithe.codegen.c import print_header, print_program
from lithe.codegen.c.spelling import Names, comment, identifier, quoted, real
from lithe.errors import ExecutionError
from lithe.ir import interpret
from lithe.ir.arithmetic import requantize
from lithe.ir.build import Builder, Convolution
from lithe.ir.graph import Tensor
from lithe.ir.loops import (
    INDEX,
    Barrier,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    Instruction,
    Intrinsic,
    Stmt,
    Unary,
    maximum,
    minimum,
)
from lithe.ir.program import Program, Step
from lithe.ir.verify import verify_program
from lithe.types import BOOL, COMPLEX128, FLOAT16, FLOAT32, FLOAT64, INT8, INT32, INT64, UINT8, Quantization, TensorType
from tests import c_backend
from tests.programs import single

needs_compiler = pytest.mark.skipif(c_backend.compiler() is None, reason="no C compiler")
Golden = Callable[[str, str], None]


def agree(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of the C program, equal to the interpreter's, without and with sanitizers."""
    verify_program(program)
    expected = interpret.run(program, inputs)
    for got in (c_backend.run(program, inputs), *_sanitized(program, inputs)):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    return expected


def _sanitized(program: Program, inputs: list[np.ndarray]) -> list[list[np.ndarray]]:
    return [c_backend.run_sanitized(program, inputs)] if c_backend.has_sanitizers() else []


def convolution() -> tuple[Program, list[np.ndarray]]:
    r = np.random.default_rng(7)
    x, y = Buffer("image", INT8, (1, 5, 6, 2)), Buffer("conv1/output:0", INT8, (1, 3, 3, 4))
    w = Buffer("conv1/weights", INT8, (4, 3, 3, 2), r.integers(-128, 128, (4, 3, 3, 2)).astype(np.int8))
    bias = Buffer("conv1/bias", INT32, (4,), r.integers(-999, 999, 4).astype(np.int32))
    b = Builder("conv1")

    def epilogue(total: Expr, o: Expr, pixel: tuple[Expr, ...]) -> Expr:
        return requantize(total, Const(0.0078125, FLOAT32), 3, -128, 127, INT8)

    b.convolution(Convolution(x, w, bias, y, (2, 2), (1, 1), (1, 1), 1, INT32, epilogue, x_zero=-5))
    return single(b, [x], [y], "CONV_2D -> conv1/output:0"), [r.integers(-128, 128, x.shape).astype(np.int8)]


def statements() -> tuple[Program, list[np.ndarray]]:
    """If with an else, a check, locals of both ranks, a view of a local, nested conditions, a lane-private table."""
    x, index = Buffer("x", FLOAT32, (6,)), Buffer("index", INT32, (6,))
    y, bits, sums = Buffer("y", FLOAT32, (6,)), Buffer("bits", UINT8, (6, 4)), Buffer("sums", INT32, (2, 3))
    flags = Buffer("flags", BOOL, (6,))
    b = Builder("statements")
    with b.loop(6, name="k") as k:
        b.fail_unless((index[k] >= 0) & (index[k] < 6), 'an index is "outside"? Really??')
    with b.loop(6, "parallel") as i:
        at = index[i].to(INDEX)
        b.store(flags, i, x[at] < x[i])
        with b.when(x[at] > 0.5):
            b.store(y, i, x[at] * 2.0)
        with b.otherwise():
            with b.when(i < 3):
                b.store(y, i, -x[at])
            with b.otherwise():
                b.store(y, i, 9.0)
    with b.loop(6, "parallel", "row") as i:
        scratch = b.local(FLOAT32, (2,), "scratch")
        b.store(scratch, 0, x[i])
        b.store(scratch, 1, 1.0)
        total = b.variable(0.0, "total")
        with b.loop(2) as j:
            b.store(total, (), total[()] + scratch[j])
        b.store(scratch.viewed((2,), INT32), 1, Const(7, INT32))
        with b.loop(4, "unrolled") as j:
            b.store(bits, (i, j), scratch.viewed((8,), UINT8)[j + 4] + total.viewed((4,), UINT8)[j])
    with b.loop(2, "parallel", "g") as g, b.loop(3, "vector", "lane") as lane:
        square = b.variable((g * 3 + lane).to(INT32), "square")
        b.store(square, (), square[()] * square[()])
        b.store(sums, (g, lane), square[()] + b.reduce(0, (4,), lambda t, j: t + j.to(INT32), INT32))
    program = single(b, [x, index], [y, bits, sums, flags])
    return program, [np.linspace(-1, 2, 6).astype(np.float32), np.array([5, 0, 4, 1, 3, 2], np.int32)]


@needs_compiler
def test_a_convolution_in_c() -> None:
    agree(*convolution())


@needs_compiler
def test_every_statement_in_c() -> None:
    y, bits, sums, flags = agree(*statements())
    assert y.tolist() == pytest.approx([4.0, 1.0, 2.8, 9.0, 1.6, 9.0], rel=1e-6)
    assert sums.tolist() == [[6, 7, 10], [15, 22, 31]]
    assert bits.shape == (6, 4)
    assert flags.dtype == np.bool_


def test_in_c_one_thread_does_what_is_shared_out() -> None:
    x, y, z = (Buffer(name, INT32, (8,)) for name in ("x", "y", "z"))
    b = Builder("shared")
    with b.loop(8, "grid") as i:
        b.store(y, i, x[i] + 1)
    b.emit(Barrier())
    with b.loop(8, "grid") as i:
        b.store(z, i, y[7 - i] * 2)
    (got,) = agree(single(b, [x], [z]), [np.arange(8, dtype=np.int32)])
    assert got.tolist() == [16, 14, 12, 10, 8, 6, 4, 2]


def test_c_text_of_a_convolution(golden: Golden) -> None:
    program, _ = convolution()
    golden(print_program(program, name="digits"), "convolution.c")
    golden(print_header(program, name="digits"), "convolution.h")


def test_c_text_of_every_statement(golden: Golden) -> None:
    program, _ = statements()
    golden(print_program(program), "statements.c")


@needs_compiler
def test_a_failed_check_returns_its_message() -> None:
    program, (x, index) = statements()
    index = index.copy()
    index[3] = 6
    for run in (interpret.run, c_backend.run):
        with pytest.raises(ExecutionError, match=r'an index is "outside"\? Really\?\?'):
            run(program, [x, index])


@needs_compiler
def test_steps_share_kernels_and_memory() -> None:
    x, y = Buffer("x", FLOAT32, (4,)), Buffer("y", FLOAT32, (4,))
    scale = Buffer("scale", FLOAT32, (1,), np.array([3.0], np.float32))
    b = Builder("scaled")
    b.compute(y, lambda i: x[i] * scale[0])
    kernel = b.kernel()
    first, middle, last = (Buffer(n, FLOAT32, (4,)) for n in ("first", "middle", "last"))
    other = Buffer("scale", FLOAT32, (1,), np.array([0.1], np.float32))
    order = {x: first, y: middle, scale: scale}, {x: middle, y: last, scale: other}
    steps = [Step(kernel, tuple(o[p] for p in kernel.params), f"MUL */ {i}") for i, o in enumerate(order)]
    program = Program("two steps", steps, [first], [last, other, middle.viewed((2, 2))])
    program.arena, program.arena_bytes = {first: 0, middle: 64, last: 128}, 192
    program.constants, program.constant_bytes = {scale: 0, other: 64}, 128
    got = agree(program, [np.arange(4, dtype=np.float32)])
    np.testing.assert_allclose(got[0], np.arange(4) * 0.3, rtol=1e-6)
    assert print_program(program).count("static void two_steps_scaled") == 1


@needs_compiler
def test_state_starts_at_its_zero_point() -> None:
    x, state, count = Buffer("x", INT8, (3,)), Buffer("state", INT8, (3,)), Buffer("count", INT32, ())
    y = Buffer("y", INT32, (3,))
    b = Builder("stateful")
    b.store(count, (), count[()] + 1)
    with b.loop(3, "parallel") as i:
        b.store(state, i, state[i] + x[i])
        b.store(y, i, state[i].to(INT32) + count[()])
    program = single(b, [x], [y])
    held = TensorType(INT8, (3,), Quantization((0.5,), (-7,)))
    program.variables = {Tensor("state", held): state, Tensor("count", TensorType(INT32, ())): count}
    assert agree(program, [np.array([1, 2, 3], np.int8)])[0].tolist() == [-5, -4, -3]
    assert "void single_reset(uint8_t *arena);" in print_header(program)


@needs_compiler
def test_awkward_names_become_legal() -> None:
    names = ["float", "NAN", "x/y:0", "7", "", "x_y_0", "sqrtf", "arena", "lithe_index", "größe", "v"]
    xs = [Buffer(n, FLOAT32, (2,)) for n in names]
    y = Buffer("main", FLOAT32, (2,))
    b = Builder("int")
    b.compute(y, lambda i: sum((x[i] * x[i] for x in xs[1:]), xs[0][i] * xs[0][i]))
    program = single(b, xs, [y], "tricky */ /* ??/\n name")
    agree(program, [np.full(2, k, np.float32) for k in range(len(xs))])


@needs_compiler
def test_deep_expressions_are_split() -> None:
    x, y = Buffer("x", FLOAT32, (3,)), Buffer("y", FLOAT32, (3,))
    b = Builder("deep")

    def value(i: Expr) -> Expr:
        total: Expr = x[i]
        for k in range(300):
            total = minimum(total * 1.0009765625, float(k + 1))
        return total

    b.compute(y, value)
    agree(single(b, [x], [y]), [np.array([1.0, 2.0, -3.0], np.float32)])


@needs_compiler
def test_a_kernel_without_statements() -> None:
    x, y = Buffer("x", FLOAT32, (8, 0)), Buffer("y", FLOAT32, (8, 0))
    (got,) = agree(single(Builder("nothing"), [x], [y]), [np.zeros((8, 0), np.float32)])
    assert got.shape == (8, 0)


@needs_compiler
def test_empty_and_scalar_buffers() -> None:
    empty, scalar, y = Buffer("empty", INT8, (0,)), Buffer("scalar", INT64, ()), Buffer("y", INT64, ())
    nothing = Buffer("nothing", INT8, (0, 3), np.zeros((0, 3), np.int8))
    b = Builder("scalars")
    b.store(y, (), maximum(scalar[()], -3) * 2)
    program = single(b, [empty, scalar], [y, nothing])
    program.constants[nothing] = 0
    assert agree(program, [np.zeros(0, np.int8), np.array(-7, np.int64)])[0] == -6


@needs_compiler
def test_an_instruction_with_its_own_spelling() -> None:
    helper = "static inline int32_t lithe_twice(int32_t x) { return (int32_t)((uint32_t)x * 2u); }"
    spelling = {"c": "lithe_twice({0})", "c_helper": helper}
    twice = Instruction("twice", (INT32,), INT32, lambda x: x * np.int32(2), spelling)
    x, y = Buffer("x", INT32, (3,)), Buffer("y", INT32, (3,))
    b = Builder("instruction")
    b.compute(y, lambda i: Intrinsic(twice, (x[i],)) + 1)
    assert agree(single(b, [x], [y]), [np.array([1, -5, 2**31 - 1], np.int32)])[0].tolist() == [3, -9, -1]


@needs_compiler
def test_the_header_fits_the_file(tmp_path: Path) -> None:
    program, _ = statements()
    (tmp_path / "model.h").write_text(print_header(program, name="model"))
    (tmp_path / "model.c").write_text('#include "model.h"\n' + print_program(program, name="model"))
    command = [str(c_backend.compiler()), *c_backend.WARNINGS, "-c", "model.c", "-o", "model.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _printed(*body: Stmt, value: Expr | None = None) -> None:
    b = Builder("refused")
    y = Buffer("y", value.dtype if value is not None else INT32, (1,))
    if value is not None:
        b.store(y, 0, value)
    for s in body:
        b.emit(s)
    print_program(single(b, [], [y]))


class Strange(Expr, Stmt):
    """A node that no rule knows."""

    dtype = INT32


ONE = Const(1.0, FLOAT32)
REFUSED = {
    "a node": lambda: _printed(value=Strange()),
    "a half sum": lambda: _printed(value=Binary("add", ONE.to(FLOAT16), ONE.to(FLOAT16))),
    "a half minimum": lambda: _printed(value=Binary("min", ONE.to(FLOAT16), ONE.to(FLOAT16))),
    "a half root": lambda: _printed(value=Unary("sqrt", ONE.to(FLOAT16))),
    "a root of an integer": lambda: _printed(value=Unary("sqrt", Const(4, INT32))),
    "bits of a float": lambda: _printed(value=Binary("xor", ONE, ONE)),
    "an operation": lambda: _printed(value=Binary("pow", Const(1, INT32), Const(2, INT32))),
    "a cast": lambda: _printed(value=Cast(Const(1.0, FLOAT64), FLOAT16)),
    "a complex number": lambda: _printed(value=Const(0, COMPLEX128)),
    "an instruction": lambda: _printed(value=Intrinsic(Instruction("odd", (), INT32, lambda: np.int32(0)), ())),
    "a statement": lambda: _printed(Strange()),
    "a call": lambda: _printed(Call("print", ())),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_rule_is_refused(case: str) -> None:
    with pytest.raises(TypeError, match=r"C printer has no|unknown"):
        REFUSED[case]()


def test_a_buffer_without_a_place_is_refused() -> None:
    program, _ = convolution()
    program.arena.clear()
    with pytest.raises(TypeError, match="has no place in program"):
        print_program(program)


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, 0.1, 1e-45, 3.4028235e38, -7.25e-12, 16777217.0, 1e6, 0.001])
def test_float_literals_read_back(value: float) -> None:
    single_bits = np.float32(value)
    for dtype, want in ((FLOAT32, float(single_bits)), (FLOAT64, value)):
        text = real(value, dtype).removesuffix("f")
        got = float.fromhex(text) if "x" in text else float(text)
        assert np.float64(got).tobytes() == np.float64(want).tobytes(), text


def test_texts_cannot_break_out() -> None:
    assert comment("a */ b /* c\n??/") == "a * / b / * c? ? ?/"
    assert quoted('a"b\\c\n?é') == '"a\\"b\\\\c\\012\\?\\303\\251"'
    assert identifier("weights/Read:0") == "weights_Read_0"
    names = Names()
    assert [names.fresh("x"), names.fresh("x"), names.of(names, "x"), names.of(names, "z")] == [
        "x",
        "x_2",
        "x_3",
        "x_3",
    ]
