"""Bytes that leave together, and words made of bytes: the text that is printed, and what it computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lithe.codegen.llvm.emit import print_kernel
from lithe.ir.arithmetic import clamp, quantize_real, requantize, round_to_int
from lithe.ir.build import Builder
from lithe.ir.interpret import run_kernel
from lithe.ir.loops import INDEX, Buffer, Expr
from lithe.targets.cpu import VPERMI2B, packs
from lithe.types import FLOAT32, INT8, INT32, UINT8, DType
from tests.llvm_backend import host_target, run, smaller_targets
from tests.programs import single

ROWS = 7  # a whole vector of bytes, and three that are left
RNG = np.random.default_rng(0)
X = RNG.integers(-(2**31), 2**31, (ROWS, 16)).astype(np.int32)
X[0, :8] = [-(2**31), 2**31 - 1, 0, -1, 127, -128, 255, 256]
SMALL = RNG.integers(-300, 300, (ROWS, 16)).astype(np.int32)


def narrowed(
    dtype: DType, value: Callable[[Expr], Expr], lanes: int = 16, kind: str = "unrolled"
) -> tuple[Builder, Buffer, Buffer]:
    """y[r, l] = value(x[r, l]), vectors of `lanes` after one another."""
    b, x, y = Builder("narrowed"), Buffer("x", INT32, (ROWS, 16)), Buffer("y", dtype, (ROWS, 16))
    with b.loop(ROWS, kind, "r") as r, b.loop(lanes, "vector", "l") as l:  # type: ignore[arg-type]
        b.store(y, (r, l), value(x[r, l]))
    return b, x, y


def agrees(b: Builder, x: Buffer, y: Buffer, given: np.ndarray) -> None:
    """Machine code gives what the interpreter gives, with the packing instructions of every target of this machine."""
    expected = np.zeros(y.shape, y.dtype.numpy)
    run_kernel(b.kernel(), {x: given, y: expected})
    for target in smaller_targets().values():
        program = single(b, [x], [y])
        program.packs, program.look_up = target.packs, target.look_up
        (got,) = run(program, [given], target.features)
        assert np.array_equal(got, expected), target.name


def text_of(b: Builder) -> str:
    return print_kernel(b.kernel(), "narrowed", {}, packs=packs(16))


FORMS = {
    "a clamp": lambda dtype: lambda v: clamp(v, dtype.minimum, dtype.maximum).to(dtype),
    "a narrower clamp": lambda dtype: lambda v: clamp(v, dtype.minimum + 5, dtype.maximum - 9).to(dtype),
    "a small multiplier": lambda dtype: lambda v: requantize(v, 0.003, dtype.minimum + 7, 3, 90, dtype),
    "a multiplier above 1": lambda dtype: lambda v: requantize(v, 2.5, dtype.maximum, 0, 99, dtype),
    "real numbers": lambda dtype: lambda v: quantize_real(v.to(FLOAT32) * 3e-7, 5, dtype.minimum, dtype.maximum, dtype),
}


@pytest.mark.parametrize("dtype", [INT8, UINT8], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_four_vectors_leave_as_one(form: str, dtype: DType) -> None:
    b, x, y = narrowed(dtype, FORMS[form](dtype))
    text = text_of(b)
    assert text.count("store <64 x i8>") == 1
    assert text.count("store <48 x i8>") == 1, "three rows are left"
    assert "trunc <" not in text
    for given in (X, SMALL):
        agrees(b, x, y, given)


@pytest.mark.parametrize("lanes", [4, 8])
def test_vectors_that_are_not_neighbours_leave_one_by_one(lanes: int) -> None:
    b, x, y = narrowed(INT8, FORMS["a clamp"](INT8), lanes)
    assert text_of(b).count(f"store <{lanes} x i8>") == ROWS
    expected = np.zeros(y.shape, np.int8)
    run_kernel(b.kernel(), {x: X, y: expected})
    program = single(b, [x], [y])
    program.packs = host_target().packs
    (got,) = run(program, [X])
    assert np.array_equal(got[:, :lanes], expected[:, :lanes])


def test_what_may_wrap_is_not_packed() -> None:
    b, x, y = narrowed(INT8, lambda v: v.to(INT8))
    assert "pack" not in text_of(b)
    agrees(b, x, y, X)
    b, x, y = narrowed(INT8, lambda v: clamp(v, -128, 128).to(INT8))
    assert "pack" not in text_of(b)
    agrees(b, x, y, X)
    b, x, y = narrowed(INT8, lambda v: (round_to_int(v.to(FLOAT32) * 1e-7) + 3).to(INT8))
    assert "pack" not in text_of(b)
    agrees(b, x, y, X)


def test_a_loop_that_is_not_unrolled_leaves_nothing_behind() -> None:
    b, x, y = narrowed(UINT8, FORMS["a clamp"](UINT8), kind="serial")
    assert text_of(b).index("store <16 x i8>") < text_of(b).index("br i1")
    agrees(b, x, y, X)


def test_bytes_are_looked_up_together() -> None:
    table = RNG.integers(-128, 128, 256).astype(np.int8)

    def value(b: Builder) -> Callable[[Expr], Expr]:
        entries = b.constant(table, "table")
        return lambda v: entries[clamp(v, -128, 127).to(INT8).to(INDEX) + 128]

    b, x, y = Builder("narrowed"), Buffer("x", INT32, (4, 16)), Buffer("y", INT8, (4, 16))
    rule = value(b)
    with b.loop(4, "unrolled", "r") as r, b.loop(16, "vector", "l") as l:
        b.store(y, (r, l), rule(x[r, l]))
    text = print_kernel(b.kernel(), "narrowed", {}, VPERMI2B, packs(16))
    assert text.count("call <64 x i8> @llvm.x86.avx512.vpermi2var.qi.512") == 2, "two halves of a table, once"
    agrees(b, x, y, SMALL[:4])


def test_a_store_is_written_before_it_is_read() -> None:
    b, x = Builder("read"), Buffer("x", INT32, (3, 16))
    y = Buffer("y", INT8, (3, 16))
    with b.loop(16, "vector", "l") as l:
        b.store(y, (0, l), clamp(x[0, l], -128, 127).to(INT8))
    with b.loop(16, "vector", "l") as l:  # another place, of which it is known
        b.store(y, (1, l), clamp(y[2, l].to(INT32) * 0 + x[1, l], -128, 127).to(INT8))
    with b.loop(16, "vector", "l") as l:  # the place of the first store
        b.store(y, (2, l), clamp(y[0, l].to(INT32) + x[2, l], -128, 127).to(INT8))
    text = text_of(b)
    assert text.count("store <32 x i8>") == 1, "the first two wait, until the third reads"
    agrees(b, x, y, SMALL[:3])


def test_stores_to_one_place_stay_in_order() -> None:
    b, x, y = Builder("order"), Buffer("x", INT32, (2, 16)), Buffer("y", INT8, (16,))
    for row, high in ((0, 127), (1, 99)):  # narrowed in two ways: they would wait apart
        with b.loop(16, "vector", "l") as l:
            b.store(y, l, clamp(x[row, l], -128, high).to(INT8))
    agrees(b, x, y, SMALL[:2])
    b = Builder("order")
    with b.loop(16, "vector", "l") as l:
        b.store(y, l, clamp(x[0, l], -128, 127).to(INT8))
    with b.loop(16, "vector", "l") as l:
        b.store(y, l, x[1, l].to(INT8))
    agrees(b, x, y, SMALL[:2])


@pytest.mark.parametrize("rows", [(0, 1, 2, 3), (1, 2, 3), (0, 1, 2), (0, 2)])
def test_words_of_bytes(rows: tuple[int, ...]) -> None:
    b, x, y = Builder("words"), Buffer("x", UINT8, (4, 16)), Buffer("y", INT32, (16,))
    with b.loop(16, "vector", "l") as l:
        word: Expr = x[0, l].to(INT32) * 0 ^ 0x00800080 if 0 not in rows else x[0, l].to(INT32) ^ 0x00800080
        for row in rows:
            if row:
                word = word ^ (x[row, l].to(INT32) << (8 * row))
        b.store(y, l, word)
    shuffles = "<64 x i8> %" in text_of(b)
    assert shuffles == (0 in rows and len(rows) > 2)
    agrees(b, x, y, RNG.integers(0, 256, (4, 16)).astype(np.uint8))
