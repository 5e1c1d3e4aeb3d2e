"""Several threads for an inference: the same bits, errors that end it, and threads that come and go as they should."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.codegen.llvm import threads as texts
from lithe.codegen.llvm.toolchain import Compiler, Settings
from lithe.errors import ExecutionError
from lithe.ir.graph import Graph
from lithe.passes import prepare
from lithe.runtime import workers as module
from lithe.runtime.compilation import build
from lithe.runtime.compiled import CompiledExecutor
from lithe.runtime.loader import Image
from lithe.runtime.workers import RUN, Workers, sync_block
from lithe.targets.host import host
from lithe.types import INT32
from tests.passes.graphs import Draft

pytest.importorskip("llvmlite")

TEAMS = (2, 3, 5)


def layers(rows: int = 256) -> tuple[Graph, int, int]:
    """Element-wise steps, a softmax and a sum: (graph, input, output)."""
    d = Draft()
    x = d.input((rows, 96))
    y = d("LOGISTIC", x, shape=(rows, 96))
    y = d("SOFTMAX", y, shape=(rows, 96))
    y = d("ADD", y, x, shape=(rows, 96))
    y = d("TANH", y, shape=(rows, 96))
    return prepare(d.graph(y)), x.index, y.index


def running() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("lithe-worker")]


def wait_until(condition) -> bool:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(condition())


@pytest.fixture
def alone() -> None:
    gc.collect()
    assert wait_until(lambda: not running())


@pytest.mark.parametrize("threads", TEAMS)
def test_results_have_the_same_bits_for_any_number_of_threads(threads: int) -> None:
    graph, x, y = layers()
    (artifact,) = build([graph])
    assert artifact.layout.is_shared
    one, many = CompiledExecutor(artifact), CompiledExecutor(artifact, None, Workers(threads))
    random = np.random.default_rng(threads)
    for _ in range(200):
        one.array(x)[...] = many.array(x)[...] = random.normal(size=(256, 96))
        one.invoke()
        many.invoke()
        assert one.array(y).tobytes() == many.array(y).tobytes()


def test_only_work_that_is_worth_it_starts_threads(alone: None) -> None:
    d = Draft()
    x = d.input((2, 4))
    (artifact,) = build([prepare(d.graph(d("LOGISTIC", x, shape=(2, 4))))])
    executor = CompiledExecutor(artifact, None, Workers(3))
    executor.invoke()
    assert running() == []


def test_a_failure_in_any_thread_ends_the_run_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    d = Draft()
    x, at = d.input((50, 2000)), d.input((40, 1), INT32)
    gathered = d("GATHER_ND", x, at, shape=(40, 2000))
    y = d("TANH", gathered, shape=(40, 2000))
    (artifact,) = build([prepare(d.graph(y))])
    assert artifact.layout.is_shared
    for threads in TEAMS:
        executor = CompiledExecutor(artifact, None, Workers(threads))
        executor.array(x.index)[...] = np.arange(100_000).reshape(50, 2000) / 1e5
        for wrong in (0, 13, 27, 39, None):
            executor.array(at.index)[...] = np.arange(40).reshape(40, 1)
            if wrong is not None:
                executor.array(at.index)[wrong] = 50
                with pytest.raises(ExecutionError, match=r"indices must lie in \[0, 50\)") as caught:
                    executor.invoke()
                assert caught.value.where.startswith("op #0 GATHER_ND")
        executor.invoke()
        expected = np.tanh(executor.array(x.index)[:40])
        np.testing.assert_allclose(executor.array(y.index), expected, atol=1e-6)


def test_the_first_failure_is_told_whichever_thread_is_the_fastest() -> None:
    image = threads_image()
    fail = image.function("lithe_fail", None, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
    failure = image.function("lithe_failure", ctypes.c_int, ctypes.c_void_p)
    sync = sync_block()
    sync.view(np.int64)[texts.FAILURE // 8] = -1
    assert failure(sync.ctypes.data) == 0
    for thread, code, told in ((2, 7, 7), (1, 9, 9), (3, 4, 9), (0, 12, 12), (1, 9, 12)):
        fail(thread, code, sync.ctypes.data)
        assert failure(sync.ctypes.data) == told


def threads_image(system: str = host().system, text: str = "", link: str | None = None) -> Image:
    """The threads' functions, and those of a text."""
    with Compiler(Settings(host().triple, features=host().feature_string), workers=1) as compiler:
        compiler.submit(texts.print_threads(system, host().architecture))
        if text:
            compiler.submit(text)
        return Image(compiler.results(), link=link)


# Each thread adds its number + 1 to a counter of its own at the arena, many times, and looks at all of them in between.
COUNTING = """
declare void @lithe_barrier(i32, ptr)
define i32 @count(ptr %arena, ptr %constants, i32 %thread, i32 %threads, ptr %sync) {
entry:
  %t = zext i32 %thread to i64
  %place = getelementptr [16 x i32], ptr %arena, i64 %t
  %limit = load i32, ptr %constants
  br label %loop
loop:
  %n = phi i32 [0, %entry], [%m, %next]
  %old = load i32, ptr %place
  %new = add i32 %old, 1
  store i32 %new, ptr %place
  call void @lithe_barrier(i32 %threads, ptr %sync)
  br label %look
look:
  %k = phi i64 [0, %loop], [%l, %fine]
  %other = getelementptr [16 x i32], ptr %arena, i64 %k
  %seen = load i32, ptr %other
  %same = icmp eq i32 %seen, %new
  br i1 %same, label %fine, label %bad
fine:
  %l = add i64 %k, 1
  %count = zext i32 %threads to i64
  %more = icmp ult i64 %l, %count
  br i1 %more, label %look, label %next
bad:
  call void @llvm.trap()
  unreachable
next:
  call void @lithe_barrier(i32 %threads, ptr %sync)
  %m = add i32 %n, 1
  %again = icmp ult i32 %m, %limit
  br i1 %again, label %loop, label %done
done:
  ret i32 77
}
declare void @llvm.trap()
"""


@pytest.mark.parametrize("link", ["own", "llvm"])
@pytest.mark.parametrize("system", ["linux", "elsewhere"])
@pytest.mark.parametrize("threads", TEAMS)
def test_everyone_meets_at_a_barrier(threads: int, system: str, link: str) -> None:
    if link == "own" and host().architecture != "x86_64":
        pytest.skip("the linker here is for x86-64")
    image = threads_image(system, COUNTING, link)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    run = image.function(RUN, number, pointer, pointer, pointer, number, pointer)
    arena, constants = module.aligned(64 * threads), module.aligned(4)
    constants.view(np.int32)[0] = 300 if system == "linux" else 30
    team = Workers(threads)
    for _ in range(10):
        assert team.run(image, run, image.address("count"), arena.ctypes.data, constants.ctypes.data) == 77
    counters = arena.view(np.int32).reshape(threads, 16)[:, 0]
    assert counters.tolist() == [10 * int(constants.view(np.int32)[0])] * threads


def test_threads_start_with_the_first_run_and_end_with_their_owner(alone: None) -> None:
    graph, _, _ = layers()
    (artifact,) = build([graph])
    team = Workers(4)
    executors = [CompiledExecutor(artifact, None, team) for _ in range(2)]
    assert running() == []
    for executor in executors * 3:
        executor.invoke()
    assert [t.daemon for t in running()] == [True] * 3
    del executor, executors, team
    gc.collect()
    assert wait_until(lambda: not running())


def test_a_model_has_one_team_for_all_of_its_calls(alone: None, tmp_path: Path) -> None:
    content = saved(tmp_path)
    model = lithe.load(content, num_threads=2, cache=False)
    single = lithe.load(content, num_threads=1, cache=False)
    x = np.random.default_rng(3).normal(size=(256, 96)).astype(np.float32)
    expected = single(x)
    problems: list[object] = []

    def call() -> None:
        for _ in range(50):
            if model(x).tobytes() != expected.tobytes():
                problems.append("other bits")

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not problems
    assert len(running()) == 1


def saved(folder: Path) -> Path:
    """A model file of the layers."""
    from lithe.formats import tflite
    from lithe.ir.graph import Module

    d = Draft()
    x = d.input((256, 96))
    y = d("TANH", d("SOFTMAX", d("LOGISTIC", x, shape=(256, 96)), shape=(256, 96)), shape=(256, 96))
    path = folder / "layers.tflite"
    tflite.save(Module([d.graph(y)]), path)
    return path


def test_one_kept_artifact_serves_every_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    path, x = saved(tmp_path), np.ones((256, 96), np.float32)
    first = lithe.load(path, num_threads=2)(x)
    monkeypatch.setattr("lithe.runtime.compilation.build", lambda *_: pytest.fail("compiled again"))
    for threads in (1, 2, 5):
        assert lithe.load(path, num_threads=threads)(x).tobytes() == first.tobytes()


def test_a_system_without_threads_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    graph, _, _ = layers()
    executor = CompiledExecutor(build([graph])[0], None, Workers(3))
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name == "lithe-worker-2":
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(ExecutionError, match="no thread for the inference: can't start new thread") as caught:
            executor.invoke()
    assert "num_threads=1" in caught.value.hint
    assert wait_until(lambda: not running())
    executor.invoke()
    assert len(running()) == 2


PROLOGUE = """
import os, sys, threading
import numpy as np, lithe
model = lithe.load(sys.argv[1], num_threads=3, cache=False)
x = np.ones((256, 96), np.float32)
expected = model(x).tobytes()
"""
SCRIPTS = {
    "ends at once": "",
    "ends in the middle of runs": """
def forever():
    while True:
        model(x)
for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
import time
time.sleep(0.2)
""",
    "forks": """
child = os.fork()
if child == 0:
    same = model(x).tobytes() == expected
    names = sorted(t.name for t in threading.enumerate() if t.name.startswith("lithe-worker"))
    os._exit(0 if same and names == ["lithe-worker-1", "lithe-worker-2"] else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert model(x).tobytes() == expected
""",
    "forks while others run": """
stop = False
def forever():
    while not stop:
        model(x)
thread = threading.Thread(target=forever)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        other = lithe.load(sys.argv[1], num_threads=2, cache=False)
        os._exit(0 if other(x).tobytes() == expected else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
stop = True
thread.join()
""",
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_process(case: str, tmp_path: Path) -> None:
    if "fork" in case and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    text = PROLOGUE + SCRIPTS[case] + "\nprint('end')\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text, str(saved(tmp_path))],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_code_stays_until_the_last_thread_has_left_it() -> None:
    graph, x, _ = layers(32)
    (artifact,) = build([graph])
    team = Workers(5)
    for _ in range(100):
        executor = CompiledExecutor(artifact, None, team)
        executor.array(x)[...] = 1.0
        executor.invoke()
        del executor
