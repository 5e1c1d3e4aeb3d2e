"""`tile` loops as LLVM text and as machine code: one configuration, every register by its number."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from lithe.codegen.llvm.emit import print_kernel
from lithe.codegen.llvm.toolchain import Settings, compile_modules
from lithe.ir.build import Builder, Convolution
from lithe.ir.interpret import run_kernel
from lithe.ir.loops import INDEX, Buffer, Expr, Intrinsic, Kernel, minimum
from lithe.ir.verify import verify_kernel
from lithe.lower import lower
from lithe.lower.schedule import schedule
from lithe.runtime.compilation import modules
from lithe.targets.cpu import TDPBSSD, x86
from lithe.types import INT8, INT32
from tests.llvm_backend import graph_of
from tests.tiled import TILES, WIDE, pointwise, window

Golden = Callable[[str, str], None]
TARGET = x86(WIDE | TILES)
# VEX-coded, map 0F38, 128 bits: opcode 49 with no prefix, and with it the configuration of memory, or the release.
CONFIGURES, RELEASES = rb"\xc4[\x02\x22\x42\x62\x82\xa2\xc2\xe2]\x78\x49[\x00-\x3f\x80-\xbf]", rb"\xc4\xe2\x78\x49\xc0"


def product(rows: int = 16, words: int = 16, tiles: int = 1) -> Builder:
    """sums = left * right, in `tiles` sets of registers at once."""
    b = Builder("product")
    left, right = Buffer("a", INT8, (rows, 4 * words)), Buffer("b", INT32, (words, 16))
    sums = Buffer("c", INT32, (tiles, rows, 16))

    def move(to: Buffer, at: Callable[..., tuple], of: Buffer, place: Callable[..., tuple], shape: tuple) -> None:
        with b.loop(shape[0], "tile", "r") as r, b.loop(shape[1], "vector", "l") as l:
            b.store(to, at(r, l), of[place(r, l)])

    def same(r: Expr, l: Expr) -> tuple[Expr, Expr]:
        return r, l

    for n in range(tiles):
        total, a, w = (b.local(t.dtype, t.shape[-2:], t.name) for t in (sums, left, right))
        for tile, memory in ((a, left), (w, right)):
            move(tile, same, memory, same, tile.shape)
        move(total, same, sums, lambda r, l, n=n: (n, r, l), total.shape)
        with b.loop(rows, "tile", "r") as r, b.loop(16, "vector", "l") as l, b.loop(words, "serial", "d") as d:
            word = a.viewed((rows, words), INT32)[r, d]
            b.store(total, (r, l), Intrinsic(TDPBSSD.instruction, (total[r, l], word, w[d, l])))
        move(sums, lambda r, l, n=n: (n, r, l), total, same, total.shape)
    return b


def test_llvm_text_of_a_convolution_over_tiles(golden: Golden) -> None:
    random = np.random.default_rng(3)
    b = Builder("tiled", schedule(TARGET))
    weights = b.constant(random.integers(-9, 10, (20, 1, 1, 64), np.int8))
    x, out = Buffer("x", INT8, (1, 70, 1, 64)), Buffer("out", INT32, (1, 70, 1, 20))
    b.convolution(Convolution(x, weights, None, out, (1, 1), (1, 1), (0, 0), 1, INT32, lambda total, o, pixel: total))
    golden(print_kernel(b.kernel("tiled"), "tiled", {}) + "\n", "tiled.ll")


def test_a_product_is_what_its_loops_say() -> None:
    kernel: Kernel = product(7, 5).kernel()
    verify_kernel(kernel)
    random = np.random.default_rng(1)
    a, w = random.integers(-128, 128, (7, 20), np.int8), random.integers(-128, 128, (20, 16), np.int8)
    c = random.integers(-999, 999, (1, 7, 16), np.int32)
    want = c + a.astype(np.int32) @ w.astype(np.int32)
    packed = np.ascontiguousarray(w.reshape(5, 4, 16).transpose(0, 2, 1)).view(np.int32)[..., 0]
    run_kernel(kernel, dict(zip(kernel.params, (a, packed, c), strict=True)))
    np.testing.assert_array_equal(c, want)


def test_registers_are_described_once_by_their_shapes() -> None:
    text = print_kernel(product(7, 5).kernel(), "k", {})
    (described,) = re.findall(r'@k_tiles = internal constant \[64 x i8\] c"(.*)", align 64', text)
    numbers = [int(byte, 16) for byte in described.split("\\")[1:]]
    assert numbers[:16] == [1] + [0] * 15
    assert numbers[16:32] == [64, 0, 20, 0, 64, 0] + [0] * 10
    assert numbers[32:] == [0] * 16 + [7, 7, 5] + [0] * 13
    assert text.count("call void @llvm.x86.ldtilecfg") == text.count("call void @llvm.x86.tilerelease") == 1
    assert "call void @llvm.x86.tdpbssd(i8 0, i8 1, i8 2)" in text


def test_a_function_that_fails_releases_the_unit_too() -> None:
    b = product()
    b.fail_unless(Buffer("x", INT32, (1,))[0] > 0, "must be positive")
    text = print_kernel(b.kernel(), "k", {"must be positive": 4})
    assert "fail4:\n  call void @llvm.x86.tilerelease()\n  ret i32 4" in text
    assert text.count("call void @llvm.x86.tilerelease()") == 2


def test_a_function_without_tiles_knows_nothing_of_the_unit() -> None:
    assert "tile" not in print_kernel(Builder("empty").kernel(), "k", {})


def test_registers_are_free_again_behind_their_loop() -> None:
    b = Builder("twice")
    for _ in range(3):
        with b.scope():
            for statement in product().kernel().body:
                b.emit(statement)
    assert print_kernel(b.kernel(), "k", {}).count("call void @llvm.x86.tdpbssd(i8 0, i8 1, i8 2)") == 3


def test_more_shapes_than_registers_are_configured_one_group_after_the_other() -> None:
    b = Builder("chain")
    sizes = ((16, 16), (16, 15), (16, 14), (16, 13))  # left and right of their own, sums of one shape: nine
    for rows, words in sizes:
        with b.scope():
            for statement in product(rows, words).kernel().body:
                b.emit(statement)
    text = print_kernel(b.kernel(), "k", {})
    found = re.findall(r'@(k_tiles\d*) = internal constant \[64 x i8\] c"(.*)", align 64', text)
    assert len({described for _, described in found}) == len(sizes)
    used = re.findall(r"call void @llvm.x86.ldtilecfg\(ptr @(\w+)\)", text)
    assert used == ["k_tiles", "k_tiles1", "k_tiles2", "k_tiles3"]
    assert text.count("call void @llvm.x86.tilerelease") == 1


def test_rows_may_begin_at_any_number() -> None:
    b = product()
    loops = b.kernel().body
    b, x, n = Builder("clamped"), Buffer("x", INT32, (99, 16)), Buffer("n", INT32, (1,))
    for statement in loops:
        b.emit(statement)
    with b.scope():
        a, w, c = (b.local(INT32, (16, 16), name) for name in "awc")
        with b.loop(16, "tile", "r") as r, b.loop(16, "vector", "l") as l:
            b.store(a, (r, l), x[minimum(n[0].to(INDEX), 83) + r, l])
        with b.loop(16, "tile", "r") as r, b.loop(16, "vector", "l") as l, b.loop(16, "serial", "d") as d:
            b.store(c, (r, l), Intrinsic(TDPBSSD.instruction, (c[r, l], a[r, d], w[d, l])))
    assert re.search(r"tileloadd64\(i8 \d, ptr %\w+, i64 64\)", print_kernel(b.kernel(), "k", {}))


def odd_rows() -> Builder:
    b, x, y = product(), Buffer("x", INT32, (64,)), Buffer("y", INT32, (64,))
    with b.loop(4, "tile", "r") as r, b.loop(16, "vector", "l") as l:
        b.store(y, r * 16 + l, x[r * 16 + l])
    return b


def scattered() -> Builder:
    b = Builder("scattered")
    a, w, c = (b.local(INT32, (16, 16), name) for name in "awc")
    x = Buffer("x", INT32, (256,))
    with b.loop(16, "tile", "r") as r, b.loop(16, "vector", "l") as l:
        b.store(a, (r, l), x[r + l * 16])
    with b.loop(16, "tile", "r") as r, b.loop(16, "vector", "l") as l, b.loop(16, "serial", "d") as d:
        b.store(c, (r, l), Intrinsic(TDPBSSD.instruction, (c[r, l], a[r, d], w[d, l])))
    return b


def clamped_rows() -> Builder:
    b = Builder("clamped")
    a, w, c = (b.local(INT32, (16, 16), name) for name in "awc")
    x = Buffer("x", INT32, (16, 16))
    with b.loop(16, "tile", "r") as r, b.loop(16, "vector", "l") as l:
        b.store(a, (r, l), x[minimum(r, 9), l])
    with b.loop(16, "tile", "r") as r, b.loop(16, "vector", "l") as l, b.loop(16, "serial", "d") as d:
        b.store(c, (r, l), Intrinsic(TDPBSSD.instruction, (c[r, l], a[r, d], w[d, l])))
    return b


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda: product(tiles=3), "no register is left for"),
        (lambda: product(rows=17), "no register is left for .*, or none is that large"),
        (lambda: product(words=17), "no register is left for .*, or none is that large"),
        (odd_rows, "no rule for this tile loop"),
        (clamped_rows, "the rows of a tile do not lie at one distance in x"),
        (scattered, "the rows of a tile do not lie at one distance in x"),
    ],
)
def test_what_no_instruction_does_is_refused(made: Callable[[], Builder], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        print_kernel(made().kernel(), "k", {})


@pytest.mark.parametrize("case", [pointwise("uint8", 200, 96, 40), window("int8", (20, 20), 64, (3, 3), 40)], ids=str)
def test_llvm_adds_no_configuration_and_moves_no_tile(case) -> None:
    """The instructions of the machine code are those of the text."""
    (text, *_) = [text for _, text in modules(lower(graph_of(case), TARGET))]
    (machine,) = compile_modules([text], Settings("x86_64-unknown-linux-gnu", features=TARGET.features), workers=1)
    assert text.count("call void @llvm.x86.ldtilecfg") == len(re.findall(CONFIGURES, machine)) == 1
    assert text.count("call void @llvm.x86.tilerelease") == len(re.findall(RELEASES, machine)) == 1
    for name, last in (("tileloadd64", rb"\x7b\x4b"), ("tilestored64", rb"\x7a\x4b"), ("tdpb", rb".\x5e")):
        found = re.findall(rb"\xc4[\x02\x22\x42\x62\x82\xa2\xc2\xe2]" + last, machine, re.DOTALL)
        assert text.count(f"call void @llvm.x86.{name}") == len(found) > 0, name
