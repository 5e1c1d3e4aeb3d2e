"""Objects from LLVM link and run; damaged ones are refused with an error, never with a crash."""

from __future__ import annotations

import ctypes
import gc
import math
import random
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lithe.codegen.llvm.threads import MEMORY, SYNC_BYTES, print_alone, print_threads
from lithe.codegen.llvm.toolchain import Compiler, Settings, compile_modules
from lithe.errors import CompileError, StateError
from lithe.runtime import elf, loader
from lithe.runtime.loader import Image, c_function, links_here
from lithe.targets.host import host

pytest.importorskip("llvmlite")

MAIN = """
@table = constant [4 x i32] [i32 10, i32 20, i32 30, i32 40]
@pointer = constant ptr @table
@local = internal constant [3 x float] [float 1.5, float 2.5, float 3.5]
@state = global i32 5
@zeros = global [5000 x i32] zeroinitializer
declare i32 @second(i32)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare float @expf(float)
define i32 @first(i32 %index, ptr %out, i64 %count) {
  call void @llvm.memset.p0.i64(ptr %out, i8 7, i64 %count, i1 false)
  %indirect = load ptr, ptr @pointer
  %place = getelementptr i32, ptr %indirect, i32 %index
  %value = load i32, ptr %place
  %old = load i32, ptr @state
  %new = add i32 %old, 1
  store i32 %new, ptr @state
  %zero = load i32, ptr getelementptr ([5000 x i32], ptr @zeros, i32 0, i32 4999)
  %called = call i32 @second(i32 %value)
  %sum = add i32 %called, %old
  %end = add i32 %sum, %zero
  ret i32 %end
}
define float @third(float %x, i32 %index) {
  %exp = call float @expf(float %x)
  %place = getelementptr [3 x float], ptr @local, i32 0, i32 %index
  %factor = load float, ptr %place
  %scaled = fmul float %exp, %factor
  %end = fmul float %scaled, 3.25
  ret float %end
}
define i32 @choose(i32 %x) {
  switch i32 %x, label %other [i32 0, label %a
    i32 1, label %b
    i32 2, label %c
    i32 3, label %d
    i32 4, label %e]
a:
  ret i32 11
b:
  ret i32 -12
c:
  ret i32 130
d:
  ret i32 7
e:
  ret i32 99
other:
  ret i32 0
}
"""
OTHER = """
@table = external constant [4 x i32]
@weak = weak constant i32 1
define weak i32 @either() { ret i32 1 }
define i32 @second(i32 %x) {
  %first = load i32, ptr @table
  %sum = add i32 %x, %first
  ret i32 %sum
}
"""
STRONG = """
define i32 @either() { ret i32 2 }
declare i32 @outside(i32)
define i32 @twice(i32 %x) {
  %once = call i32 @outside(i32 %x)
  %again = call i32 @outside(i32 %once)
  ret i32 %again
}
"""
PLAIN = "define i32 @answer() { ret i32 42 }"
BOTH = pytest.mark.parametrize("link", ["own", "llvm"])
own_only = pytest.mark.skipif(not links_here(), reason="the linker of this module knows Linux on x86-64")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings(host().triple, features=host().feature_string)


@pytest.fixture(scope="module")
def objects(settings) -> list[bytes]:
    return compile_modules([MAIN, OTHER, STRONG, PLAIN], settings)


@pytest.fixture(scope="module")
def externals() -> dict[str, int]:
    library = ctypes.CDLL("libm.so.6")
    return {"expf": ctypes.cast(library.expf, ctypes.c_void_p).value}


def linked(objects, externals, link="own") -> Image:
    if link == "own" and not links_here():
        pytest.skip("the linker of this module knows Linux on x86-64")
    return Image(objects, externals, link=link)


@BOTH
def test_functions_constants_variables_and_calls_work(objects, externals, link):
    image = linked(objects[:2], externals, link)
    first = image.function("first", ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
    out = ctypes.create_string_buffer(100)
    assert [first(2, out, 50), first(1, out, 0)] == [30 + 10 + 5, 20 + 10 + 6]
    assert out.raw == b"\x07" * 50 + bytes(50)
    third = image.function("third", ctypes.c_float, ctypes.c_float, ctypes.c_int)
    assert third(1.0, 2) == pytest.approx(math.e * 3.5 * 3.25, rel=1e-6)
    choose = image.function("choose", ctypes.c_int, ctypes.c_int)
    assert [choose(n) for n in range(6)] == [11, -12, 130, 7, 99, 0]
    table = (ctypes.c_int * 4).from_address(image.address("table"))
    assert list(table) == [10, 20, 30, 40]
    state = ctypes.c_int.from_address(image.address("state"))
    assert state.value == 7


@BOTH
def test_a_strong_definition_wins_and_outside_functions_are_called(objects, externals, link):
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: 3 * x)
    outside = {**externals, "outside": ctypes.cast(callback, ctypes.c_void_p).value}
    # LLVM's loader takes the first definition it sees
    order = objects[:3] if link == "own" else [objects[2], *objects[:2]]
    image = linked(order, outside, link)
    assert image.function("either", ctypes.c_int)() == 2
    assert image.function("twice", ctypes.c_int, ctypes.c_int)(5) == 45


@BOTH
def test_a_function_keeps_the_code_alive(objects, link):
    image = linked([objects[3]], {}, link)
    answer = image.function("answer", ctypes.c_int)
    image.close()
    gc.collect()
    assert answer() == 42
    with pytest.raises(StateError, match="closed"):
        image.address("answer")
    with pytest.raises(StateError, match="closed"):
        image.function("answer", ctypes.c_int)
    image.close()


@BOTH
def test_an_absent_name_is_an_error(objects, externals, link):
    image = linked(objects[:2], externals, link)
    with pytest.raises(CompileError, match="no symbol 'nothing'"):
        image.address("nothing")
    with pytest.raises(CompileError, match="no function 'nothing'"):
        image.function("nothing", None)


@own_only
def test_a_constant_is_not_a_function(objects, externals):
    with pytest.raises(CompileError, match="no function 'table'"):
        Image(objects[:2], externals, link="own").function("table", None)


@BOTH
def test_a_name_that_nobody_defines_is_an_error(objects, externals, link):
    with pytest.raises(CompileError, match="'second', which is not defined"):
        linked(objects[:1], externals, link)


@BOTH
def test_a_name_that_two_define_is_an_error(objects, link):
    with pytest.raises(CompileError, match="'answer' is defined by object 0 too"):
        linked([objects[3], objects[3]], {}, link)


def test_nothing_links_to_nothing():
    with pytest.raises(CompileError, match="no symbol"):
        Image([]).address("answer")


ALONE = """
define i32 @entry(ptr %arena, ptr %constants, i32 %thread, i32 %threads, ptr %sync) {
  %word = load i32, ptr %constants
  store i32 %word, ptr %arena
  %sum = add i32 %thread, %threads
  ret i32 %sum
}
"""


@BOTH
def test_a_run_by_one_thread_finds_its_memory_by_name(settings, link):
    texts = [ALONE, print_threads(host().system, host().architecture) + print_alone("entry")]
    arena, constants, sync = ctypes.c_int32(0), ctypes.c_int32(77), ctypes.create_string_buffer(SYNC_BYTES)
    memory = dict(zip(MEMORY, map(ctypes.addressof, (arena, constants, sync)), strict=True))
    image = linked(compile_modules(texts, settings), memory, link)
    assert image.function("lithe_alone", ctypes.c_int)() == 1
    assert arena.value == 77
    with pytest.raises(CompileError, match="'lithe_arena', which is not defined"):
        linked(compile_modules(texts, settings), {}, link)


def test_only_functions_that_code_may_call_are_looked_up():
    assert c_function("memcpy")
    assert c_function("lithe_sleep")
    assert c_function("system") is None


@own_only
def test_no_memory_can_be_written_and_executed(objects, externals):
    image = Image(objects[:2], externals, link="own")
    places = {name: _permissions(image.address(name)) for name in ("first", "table", "state")}
    assert places == {"first": "r-xp", "table": "r--p", "state": "rw-p"}


def _permissions(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(x, 16) for x in line.split()[0].split("-"))
        if low <= address < high:
            return line.split()[1]
    return "none"


@own_only
def test_closed_images_leave_no_mapping(objects, externals):
    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    Image(objects[:2], externals, link="own").close()
    gc.collect()
    before = mappings()
    for _ in range(300):
        Image(objects[:2], externals, link="own").function("choose", ctypes.c_int, ctypes.c_int)(1)
    gc.collect()
    assert mappings() <= before + 2


@own_only
def test_a_view_of_a_larger_file_is_enough(objects):
    padded = memoryview(b"x" * 7 + objects[3] + b"y" * 9)[7 : 7 + len(objects[3])]
    assert Image([padded]).function("answer", ctypes.c_int)() == 42


@own_only
def test_every_truncation_is_refused(objects, externals):
    data = objects[1]
    for length in range(len(data)):  # the section headers stand at the end
        with pytest.raises(CompileError):
            Image([objects[0], data[:length]], externals, link="own")


@own_only
def test_random_damage_is_refused_or_harmless_to_link(objects, externals):
    draw = random.Random(7)
    refused = 0
    for _ in range(1500):
        data = bytearray(objects[0])
        for _ in range(draw.choice([1, 1, 2, 8])):
            at = draw.randrange(len(data))
            data[at] = draw.choice([0, 1, 255, 128, data[at] ^ (1 << draw.randrange(8))])
        try:
            Image([data, objects[1]], externals, link="own")
        except CompileError:
            refused += 1
    assert refused > 100


def parsed(data: bytes) -> elf.ObjectFile:
    return elf.read_object(data)


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into(form, copy, at, value)
    return bytes(copy)


def header_of(data: bytes, kind: int, name: str = "") -> int:
    """Where the header of the first section of this kind stands."""
    (table,) = struct.unpack_from("<Q", data, 40)
    for index, section in enumerate(parsed(data).sections):
        if section.kind == kind and name in section.name:
            return table + 64 * index
    raise LookupError(kind)


def in_section(data: bytes, kind: int, offset: int, name: str = "") -> int:
    """Where a byte of a section stands in the file."""
    (start,) = struct.unpack_from("<Q", data, header_of(data, kind, name) + 24)
    return start + offset


def second_table(data: bytes) -> bytes:
    """The header of the symbol table in the place of another section's, too."""
    copy, table = bytearray(data), header_of(data, elf.SYMTAB)
    other = header_of(data, elf.PROGBITS, ".rodata")
    copy[other : other + 64] = data[table : table + 64]
    return bytes(copy)


def damage() -> dict[str, tuple]:
    """One damage for each check, with the words of its error."""
    header, symbols, relocations, text = (
        lambda d, k=k, n=n: header_of(d, k, n)
        for k, n in ((elf.PROGBITS, ".text"), (elf.SYMTAB, ""), (elf.RELA, ".rela.text"), (3, ""))
    )
    return {
        "magic": (lambda d: changed(d, 0, "<B", 0), "not an ELF file"),
        "class": (lambda d: changed(d, 4, "<B", 1), "not an ELF file"),
        "empty": (lambda d: b"", "shorter than its header"),
        "type": (lambda d: changed(d, 16, "<H", 3), "expected 1"),
        "machine": (lambda d: changed(d, 18, "<H", 40), "for machine 40"),
        "entry size": (lambda d: changed(d, 58, "<H", 40), "section headers of 40 bytes"),
        "table": (lambda d: changed(d, 40, "<Q", 1 << 60), "section headers lie at bytes"),
        "names": (lambda d: changed(d, 62, "<H", 200), "section names in section 200"),
        "section name": (lambda d: changed(d, header(d), "<I", 1 << 30), "has no end"),
        "section bytes": (lambda d: changed(d, header(d) + 24, "<Q", 1 << 40), "the bytes of a section lie"),
        "alignment": (lambda d: changed(d, header(d) + 48, "<Q", 48), "aligned to 48"),
        "large alignment": (lambda d: changed(d, header(d) + 48, "<Q", 1 << 20), "aligned to 1048576"),
        "writable code": (lambda d: changed(d, header(d) + 8, "<Q", 7), "code that can be written"),
        "thread-local": (lambda d: changed(d, header(d) + 8, "<Q", 0x406), "thread-local"),
        "odd kind": (lambda d: changed(d, header_of(d, elf.PROGBITS, ".rodata") + 4, "<I", 14), "has kind 14"),
        "huge zeros": (lambda d: changed(d, header_of(d, elf.NOBITS) + 32, "<Q", 1 << 40), "exceed"),
        "symbols size": (lambda d: changed(d, symbols(d) + 32, "<Q", 25), "not a multiple of 24"),
        "symbol names": (lambda d: changed(d, symbols(d) + 40, "<I", 99), "symbol names in section 99"),
        "symbol name": (lambda d: changed(d, in_section(d, elf.SYMTAB, 24), "<I", 1 << 31), "has no end"),
        "symbol section": (lambda d: changed(d, in_section(d, elf.SYMTAB, 30), "<H", 999), "in section 999"),
        "common symbol": (lambda d: changed(d, in_section(d, elf.SYMTAB, 30), "<H", 0xFFF2), "common symbol"),
        "a table of another kind": (lambda d: changed(d, text(d) + 4, "<I", elf.SYMTAB), "not a multiple|symbol"),
        "two tables": (second_table, "two symbol tables"),
        "relocated section": (lambda d: changed(d, relocations(d) + 44, "<I", 77), "relocations of section 77"),
        "relocation symbol": (
            lambda d: changed(d, in_section(d, elf.RELA, 12, ".rela.text"), "<I", 5000),
            "names a symbol that is not there",
        ),
        "no symbol": (
            lambda d: changed(d, in_section(d, elf.RELA, 12, ".rela.text"), "<I", 0),
            "a relocation without a symbol",
        ),
        "relocation place": (
            lambda d: changed(d, in_section(d, elf.RELA, 0, ".rela.text"), "<Q", 1 << 50),
            "a relocation at byte",
        ),
        "relocation type": (
            lambda d: changed(d, in_section(d, elf.RELA, 8, ".rela.text"), "<I", 5),
            "relocation type 5 is not known",
        ),
        "far addend": (
            lambda d: changed(d, in_section(d, elf.RELA, 16, ".rela.text"), "<q", 1 << 40),
            "out of reach",
        ),
        "absolute address in 32 bits": (
            lambda d: changed(d, in_section(d, elf.RELA, 8, ".rela.text"), "<I", 10),
            "out of reach",
        ),
        "unloaded symbol": (
            lambda d: changed(d, header_of(d, elf.PROGBITS, ".rodata") + 8, "<Q", 0),
            "not loaded",
        ),
    }


@own_only
@pytest.mark.parametrize("name", damage())
def test_each_check_names_its_damage(objects, externals, name):
    change, words = damage()[name]
    with pytest.raises(CompileError, match=words):
        Image([change(objects[0]), objects[1]], externals, link="own")


def test_a_symbol_beyond_its_section_is_refused(objects):
    data = objects[3]
    count = len(parsed(data).symbols)
    at = in_section(data, elf.SYMTAB, 24 * (count - 1) + 8)
    with pytest.raises(CompileError, match="a symbol at byte 4096"):
        Image([changed(data, at, "<Q", 4096)])


def test_llvms_loader_refuses_objects_of_other_machines(objects):
    with pytest.raises(CompileError, match="for machine 40"):
        Image([changed(objects[3], 18, "<H", 40)], link="llvm")


def test_what_llvms_loader_refuses_is_an_error(objects, monkeypatch):
    import llvmlite.binding as llvm

    def refuse(data):
        raise RuntimeError("The file was not recognized as a valid object file")

    monkeypatch.setattr(llvm.ObjectFileRef, "from_data", refuse)
    with pytest.raises(CompileError, match="LLVM cannot load the object: The file was not"):
        Image([objects[3]], link="llvm")


def test_llvms_loader_is_asked_for_politely(objects, monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    with pytest.raises(CompileError, match="needs llvmlite") as caught:
        Image([objects[3]], link="llvm")
    assert caught.value.hint == "pip install llvmlite"


@own_only
@pytest.mark.parametrize(("call", "words"), [("_map", "no memory for"), ("_protect", "become executable")])
def test_a_system_that_refuses_is_an_error(objects, monkeypatch, call, words):
    real = loader._system()
    refusing = {"_map": (lambda *_: ctypes.c_void_p(-1).value, *real[1:]), "_protect": (*real[:2], lambda *_: -1)}
    monkeypatch.setattr(loader, "_system", lambda: refusing[call])
    with pytest.raises(CompileError, match=words):
        Image([objects[3]], link="own")


@own_only
def test_absolute_addresses_of_the_large_code_model_link_too(settings):
    with Compiler(replace(settings, codemodel="large", reloc="static"), workers=1) as compiler:
        large = compiler.submit(
            PLAIN + "\n@c = constant double 2.5\ndefine double @get() { %v = load double, ptr @c\n ret double %v }"
        )
        assert Image([large.result()]).function("get", ctypes.c_double)() == 2.5


@own_only
def test_linking_imports_neither_numpy_nor_llvm(objects, tmp_path):
    (tmp_path / "code.o").write_bytes(objects[3])
    code = (
        "import sys, ctypes, pathlib; from lithe.runtime.loader import Image\n"
        "image = Image([pathlib.Path(sys.argv[1]).read_bytes()])\n"
        "print(image.function('answer', ctypes.c_int)(), 'numpy' in sys.modules, 'llvmlite' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "code.o")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [
        "42",
        "False",
        "False",
    ]
