"""Compiled code that refuses its data: the message and the operator come back as an error, and the next run works."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from lithe.codegen.llvm.emit import print_kernel
from lithe.codegen.llvm.threads import FLUSHES, print_alone
from lithe.errors import ExecutionError
from lithe.ir.program import joined
from lithe.lower.lower import lower
from lithe.passes import prepare
from lithe.runtime import compiled
from lithe.runtime.compilation import ModuleWriter, build, lowered, modules, this_target, uncollected
from lithe.runtime.compiled import COMPILER_ROOMS, ENTRY, CompiledExecutor
from lithe.targets.host import host
from lithe.types import INT32
from tests.passes.graphs import Draft

pytest.importorskip("llvmlite")


def test_data_that_cannot_be_used_end_the_run_with_their_operator() -> None:
    d = Draft()
    x, at = d.input((4, 2)), d.input((1, 1), INT32)
    y = d("GATHER_ND", x, at, shape=(1, 2))
    executor = CompiledExecutor(build([prepare(d.graph(y))])[0])
    executor.array(x.index)[...] = np.arange(8).reshape(4, 2)
    for wrong in (4, -1):
        executor.array(at.index)[...] = wrong
        with pytest.raises(ExecutionError, match=r"indices must lie in \[0, 4\) on axis 0") as caught:
            executor.invoke()
        assert caught.value.where.startswith("op #0 GATHER_ND")
    executor.array(at.index)[...] = 3
    executor.invoke()
    assert executor.array(y.index).tolist() == [[6, 7]]


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was_after_compiling(on: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if on else gc.disable()
        with uncollected():
            assert not gc.isenabled()
        assert gc.isenabled() is on
        with pytest.raises(ValueError, match="inside"), uncollected():
            raise ValueError("inside")
        assert gc.isenabled() is on
    finally:
        gc.enable() if before else gc.disable()


def test_a_printed_kernel_is_freed_without_the_collector() -> None:
    d = gathers()
    program = lower(prepare(d.graph(d.nodes[-1].outputs[0])), this_target())
    kernel = program.kernels()[0]
    seen = weakref.ref(kernel)
    codes = {text: n + 1 for n, text in enumerate(program.messages())}
    with uncollected():
        assert "define i32 @kernel(" in print_kernel(kernel, "kernel", codes, program.look_up, program.packs)
        del kernel, program
        assert seen() is None


@pytest.mark.parametrize(("parent", "sees_edits"), [("src", True), ("site-packages", False), ("dist-packages", False)])
def test_the_stamp_of_the_compiler_follows_files_in_a_checkout_and_installers_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: str, sees_edits: bool
) -> None:
    package = tmp_path / parent / "lithe"
    for room in COMPILER_ROOMS:
        (package / room).mkdir(parents=True, exist_ok=True)
    file = package / "lower" / "lower.py"
    file.write_text("x = 1")
    monkeypatch.setattr(compiled, "__file__", str(package / "runtime" / "compiled.py"))
    stamp = compiled.compiler_stamp.__wrapped__
    first = stamp()
    assert stamp() == first
    file.write_text("x = 100")
    second = stamp()
    assert (second != first) == sees_edits
    (package / "__init__.py.part").write_text("y = 1")
    (package / "__init__.py.part").replace(package / "__init__.py")
    assert stamp() != second


def test_the_stamp_tells_copies_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for parent in ("one/site-packages", "two/site-packages", "three"):
        for room in COMPILER_ROOMS:
            (tmp_path / parent / "lithe" / room).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(compiled, "__file__", str(tmp_path / parent / "lithe" / "runtime" / "compiled.py"))
        found.add(compiled.compiler_stamp.__wrapped__())
    assert len(found) == 3


def gathers() -> Draft:
    d = Draft()
    x, at, on = d.input((4, 2)), d.input((1, 1), INT32), d.input((1, 1), INT32)
    first = d("GATHER_ND", x, at, shape=(1, 2))
    d("GATHER_ND", x, on, shape=(1, 2))
    d("ADD", first, d.nodes[-1].outputs[0], shape=(1, 2))
    return d


def test_modules_are_the_same_in_a_stream_and_of_a_whole_program() -> None:
    d = gathers()
    graph = prepare(d.graph(d.nodes[-1].outputs[0]))
    program = lower(graph, this_target())
    assert len(program.messages()) == 2

    class Recorder:
        def __init__(self) -> None:
            self.texts: list[tuple[str, str]] = []

        def submit(self, text: str, name: str) -> str:
            self.texts.append((name, text))
            return name

    recorder, jobs = Recorder(), []
    lowered(graph, this_target(), None, recorder, jobs)
    *kernels, entry, threads = modules(program)
    assert recorder.texts[1:] == [*kernels, entry]
    assert recorder.texts[0] == (threads[0], threads[1] + print_alone(ENTRY))
    assert jobs == [name for name, _ in (*kernels, entry, threads)]


def test_kernels_are_printed_before_the_program_ends() -> None:
    d = gathers()
    program = lower(prepare(d.graph(d.nodes[-1].outputs[0])), this_target())
    writer = ModuleWriter(program.look_up, program.packs, size=10)
    first, *others = program.kernels()
    ((name, text),) = writer.add(first)
    assert name == first.source
    assert "define i32 @lithe_kernel0" in text
    for kernel in others:
        [*writer.add(kernel)]
    assert [name for name, _ in writer.rest({"it": program})] == ["the last kernels", "the entry it"]


def test_pieces_are_joined_and_given_up() -> None:
    pieces = [(0, np.array([1, 2], np.int16)), (64, np.array([[3.5], [4.5]], np.float32).T)]
    block = joined(pieces, 128)
    assert pieces == []
    assert block.ctypes.data % 64 == 0
    assert block[:4].view(np.int16).tolist() == [1, 2]
    assert block[64:72].view(np.float32).tolist() == [3.5, 4.5]
    assert not block[4:64].any()


def test_what_is_too_small_for_a_normal_float_is_zero_and_only_while_the_model_runs() -> None:
    d = Draft()
    x = d.input((4,))
    y = d("MUL", x, x, shape=(4,))
    executor = CompiledExecutor(build([prepare(d.graph(y))])[0])
    small = np.float32([1e-20, 1e-19, 2e-19, 1])  # the second's square is no normal number
    executor.array(x.index)[...] = small
    executor.invoke()
    kept = host().architecture not in FLUSHES
    assert executor.array(y.index).tolist() == (small * small * [kept, kept, True, True]).tolist()
    assert 0 < small[1] * small[1] < np.finfo(np.float32).tiny, "numpy keeps it, in the same thread"
