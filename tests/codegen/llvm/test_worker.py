"""Modules compile in worker processes; a worker that hangs or dies costs one job and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from lithe.codegen.llvm import installed, processes, toolchain, worker
from lithe.codegen.llvm.installed import llvm_folder, llvm_stamp
from lithe.codegen.llvm.toolchain import Compiler, Settings, compile_modules
from lithe.errors import CompileError, MissingDependency, StateError
from lithe.targets.host import host

pytest.importorskip("llvmlite")

HERE = Settings(host().triple, features=host().feature_string)
ONE = """
define i32 @one(i32 %x) {
  %place = alloca i32
  store i32 %x, ptr %place
  %value = load i32, ptr %place
  %sum = add i32 %value, 1
  ret i32 %sum
}
"""
# Code generation has no rule for this on a machine without AMX: LLVM ends the process.
FATAL = """
declare void @llvm.x86.tilezero(i8)
define void @fatal() {
  call void @llvm.x86.tilezero(i8 1)
  ret void
}
"""
# Stands in for LLVM: does what the text says.
PRETENDER = """
import os, struct, sys, time
sys.path.insert(0, {folder!r})
import worker
while worker.read_block(sys.stdin.buffer) is not None:
    text = worker.read_block(sys.stdin.buffer).decode()
    if text == "hang":
        time.sleep(1000)
    if text == "die":
        print("the reason", file=sys.stderr, flush=True)
        os.abort()
    if text == "leave":
        sys.exit(3)
    if text == "half":
        sys.stdout.buffer.write(struct.pack("<BI", 0, 100) + b"x")
        sys.exit(0)
    sys.stdout.buffer.write(struct.pack("<BI", 0, len(text)) + text.encode())
    sys.stdout.buffer.flush()
    if text == "then die":
        sys.exit(4)
"""


@pytest.fixture
def pretender(tmp_path, monkeypatch):
    """A worker that misbehaves when told to."""
    script = tmp_path / "pretender.py"
    script.write_text(PRETENDER.format(folder=str(Path(worker.__file__).parent)))
    monkeypatch.setattr(processes, "_WORKER", script)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No child, no thread and no descriptor survives a test (other tests of this process may keep a compiler)."""
    processes.end_ahead()  # which another test may have left
    before = _descriptors(), _children(), _threads()
    yield
    assert (_descriptors(), _children(), _threads()) == before


def _threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "lithe-compile"}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def _children() -> list[str]:
    """Processes that this one started, dead ones that nobody waited for too."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid():
                found.append(f"{file.parent.name} {state}")
    return found


def test_objects_come_in_the_order_of_submission():
    modules = [ONE.replace("@one", f"@name_{n}") for n in range(7)]
    objects = compile_modules(modules, HERE)
    for n, data in enumerate(objects):
        assert data[:4] == b"\x7fELF"
        assert f"name_{n}".encode() in data


def test_the_text_is_forgotten_when_there_is_an_answer():
    with Compiler(HERE) as compiler:
        jobs = [compiler.submit(ONE), compiler.submit("nonsense")]
        assert jobs[0].result()
        with pytest.raises(CompileError, match="LLVM refused"):
            jobs[1].result()
        assert [job.text for job in jobs] == ["", ""]


def test_the_named_passes_run():
    with Compiler(HERE, workers=1) as compiler:
        plain = compiler.submit(ONE, settings=Settings(HERE.triple, opt=0, passes=()))
        clean = compiler.submit(ONE, settings=Settings(HERE.triple, opt=0, passes=("sroa",)))
        assert len(clean.result()) < len(plain.result())


def test_other_machines_are_served_too():
    with Compiler(Settings("aarch64-unknown-linux-gnu", features="+dotprod"), workers=1) as compiler:
        machine = struct.unpack_from("<H", compiler.submit(ONE).result(), 18)
        again = compiler.submit(ONE, settings=Settings("riscv64-unknown-elf", features="+m")).result()
    assert (machine, struct.unpack_from("<H", again, 18)) == ((183,), (243,))


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("this is no IR", HERE, "expected top-level entity"),
        ("define i32 @f() { ret i64 1 }", HERE, "value doesn't match"),
        (ONE, Settings("nowhere-unknown-none"), "nowhere"),
        (ONE, Settings(HERE.triple, passes=("nothing",)), "LLVM pass 'nothing' is not known"),
        (ONE, Settings(HERE.triple, opt=9), "AssertionError"),
    ],
)
def test_what_llvm_refuses_is_an_error_with_its_words(text, settings, words):
    with Compiler(HERE, workers=1) as compiler:
        bad, good = compiler.submit(text, "conv #3", settings), compiler.submit(ONE)
        with pytest.raises(CompileError, match=words) as caught:
            bad.result()
        assert caught.value.where == "conv #3"
        assert good.result()


@pytest.mark.skipif(host().architecture != "x86_64", reason="an instruction of x86-64")
def test_a_machine_that_llvm_does_not_know_is_named_each_time():
    with Compiler(HERE, workers=1) as compiler:
        for name in ("nowhere", "elsewhere"):
            with pytest.raises(CompileError, match=name):
                compiler.submit(ONE, settings=Settings(f"{name}-unknown-none")).result()
        assert compiler.submit(ONE).result()[:4] == b"\x7fELF"


def test_an_abort_inside_llvm_costs_one_job():
    with Compiler(Settings(HERE.triple), workers=1) as compiler:
        jobs = [compiler.submit(text) for text in (ONE, FATAL, ONE)]
        assert jobs[0].result()
        with pytest.raises(CompileError, match=r"(?s)ended with signal 6.*Cannot select"):
            jobs[1].result()
        assert jobs[2].result()
        with pytest.raises(CompileError):
            compiler.results()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hang", "did not finish within 0.7 seconds"),
        ("die", r"signal 6: the reason"),
        ("leave", "status 3"),
        ("half", "status 0"),
    ],
)
def test_a_worker_that_fails_is_replaced(pretender, text, words):
    with Compiler(HERE, workers=2, timeout=0.7) as compiler:
        jobs = [compiler.submit(t, t) for t in ("a", text, "b", text, "c")]
        for job in jobs:
            if job.name == text:
                with pytest.raises(CompileError, match=words) as caught:
                    job.result()
                assert caught.value.hint
            else:
                assert job.result().decode() == job.name
            assert job.done()


def test_a_worker_that_died_while_idle_is_replaced_unnoticed(pretender):
    with Compiler(HERE, workers=1) as compiler:
        assert compiler.submit("then die").result() == b"then die"
        time.sleep(0.3)
        assert compiler.submit("fine").result() == b"fine"


def test_a_process_started_ahead_serves_the_next_compiler(pretender):
    processes.start_ahead()
    (started,) = processes._ahead
    processes.start_ahead()
    assert processes._ahead == [started]
    with Compiler(HERE, workers=1) as compiler:
        assert compiler.submit("x").result() == b"x"
        assert compiler._children[0].process is started.process
    assert processes._ahead == []


@pytest.mark.parametrize("reason", ["dead", "another command", "a fork"])
def test_a_process_started_ahead_that_is_of_no_use_is_replaced(pretender, monkeypatch, tmp_path, reason):
    processes.start_ahead()
    (started,) = processes._ahead
    if reason == "dead":
        started.process.kill()
        started.process.wait()
    if reason == "another command":
        other = tmp_path / "other.py"
        other.write_text((tmp_path / "pretender.py").read_text())
        monkeypatch.setattr(processes, "_WORKER", other)
    if reason == "a fork":
        processes._ahead[:] = [started._replace(owner=started.owner + 1)]
    with Compiler(HERE, workers=1) as compiler:
        assert compiler.submit("x").result() == b"x"
        assert compiler._children[0].process is not started.process
    # a fork leaves it alone, and here takes its own end of the pipe away
    assert started.process.wait(30) == (0 if reason == "a fork" else -signal.SIGKILL)


def test_a_process_that_cannot_be_started_ahead_is_nobodys_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    processes.start_ahead()
    assert processes._ahead == []


def test_a_worker_that_gets_no_job_ends_by_itself():
    text = Path(worker.__file__).read_text().replace("IDLE_SECONDS = 20", "IDLE_SECONDS = 1")
    with subprocess.Popen([sys.executable, "-c", text, llvm_folder()], stdin=subprocess.PIPE) as child:
        assert child.wait(30) == -signal.SIGALRM


def test_closing_ends_a_hanging_worker_and_tells_who_waits(pretender):
    with Compiler(HERE, workers=1) as compiler:
        hanging, waiting = compiler.submit("hang"), compiler.submit("after")
        time.sleep(0.2)
    for job in (hanging, waiting):
        with pytest.raises(CompileError, match="closed before"):
            job.result()
    with pytest.raises(StateError, match="closed"):
        compiler.submit("more")
    compiler.close()


def test_a_forgotten_compiler_cleans_up(pretender):
    compiler = Compiler(HERE, workers=2)
    assert compiler.submit("x").result() == b"x"
    del compiler


def test_a_forked_process_cannot_use_the_compiler_of_its_parent(pretender):
    with Compiler(HERE, workers=1) as compiler:
        real = compiler._process
        compiler._process = real + 1  # what a fork sees
        with pytest.raises(StateError, match="in the process that opened it"):
            compiler.submit("x")
        compiler._process = real
        assert compiler.submit("x").result() == b"x"


def test_many_threads_may_submit(pretender):
    found: list[bool] = []
    with Compiler(HERE, workers=2) as compiler:

        def use(number: int) -> None:
            for n in range(20):
                text = f"{number} {n}"
                found.append(compiler.submit(text).result().decode() == text)

        threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 160


def test_large_modules_pass_through_the_pipes(pretender):
    text = "x" * 5_000_000
    with Compiler(HERE, workers=1) as compiler:
        assert compiler.submit(text).result().decode() == text


def test_without_llvmlite_the_command_is_named(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="llvmlite") as caught:
        Compiler(HERE)
    assert caught.value.hint == "pip install llvmlite"


@pytest.mark.parametrize("executable", ["/nowhere/python", "", "/dev/null"])
def test_without_an_interpreter_to_start_it_is_an_error(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    with Compiler(HERE, workers=1) as compiler:
        with pytest.raises(CompileError, match="cannot be started"):
            compiler.submit(ONE).result()


def test_without_threads_it_is_an_error(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(CompileError, match="no thread for the compiler"):
            Compiler(HERE)


def test_without_a_watchdog_nobody_waits_for_ever(pretender, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with Compiler(HERE, workers=1) as compiler:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Timer, "start", refuse)
            with pytest.raises(CompileError, match="no room to compile"):
                compiler.submit("x").result()
        assert compiler.submit("x").result() == b"x"


def test_without_temporary_files_the_last_words_are_missing_only(pretender, monkeypatch):
    def refuse():
        raise OSError("read-only file system")

    monkeypatch.setattr(processes.tempfile, "TemporaryFile", refuse)
    with Compiler(HERE, workers=1) as compiler:
        with pytest.raises(CompileError, match=r"signal 6\n"):
            compiler.submit("die").result()


@pytest.mark.parametrize("text", ["soon", "0", "-3", "nan", "1e9"])
def test_a_time_limit_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("LITHE_COMPILE_TIMEOUT", text)
    with pytest.raises(CompileError, match="LITHE_COMPILE_TIMEOUT"):
        Compiler(HERE)


def test_the_time_limit_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("LITHE_COMPILE_TIMEOUT", "2.5")
    assert toolchain.timeout_from_environment() == 2.5
    monkeypatch.delenv("LITHE_COMPILE_TIMEOUT")
    assert toolchain.timeout_from_environment() == 60


def test_the_stamp_changes_with_the_installed_llvm(tmp_path, monkeypatch):
    assert llvm_stamp() == llvm_stamp()
    package = tmp_path / "llvmlite"
    (package / "binding").mkdir(parents=True)
    (package / "_version.py").write_text("version_version = '1'")
    library = package / installed.LIBRARY
    library.touch()
    monkeypatch.setattr("lithe.codegen.llvm.installed.llvm_folder", lambda: tmp_path)
    first = llvm_stamp()
    (package / "_version.py").write_text("version_version = '1.1'")
    second = llvm_stamp()
    library.write_text("library")
    assert len({first, second, llvm_stamp()}) == 3
    (package / "_version.py").unlink()
    with pytest.raises(CompileError, match="cannot be read"):
        llvm_stamp()


SCRIPT = """
import os, resource, sys
{setup}
from lithe.codegen.llvm.toolchain import *
from lithe.targets.host import host
ok = len(compile_modules([{one!r}] * 3, Settings(host().triple))) == 3 and "llvmlite" not in sys.modules
os._exit(7 if ok else 1) if {at_once} else sys.exit(7 if ok else 1)
"""


@pytest.mark.skipif(os.name == "nt", reason="descriptors and limits are those of POSIX")
@pytest.mark.parametrize(
    "setup",
    [
        "",
        "os.close(0); os.close(1); os.close(2)",
        "os.close(0)",
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))",
        "sys.modules['numpy'] = None",
    ],
)
def test_compiles_in_odd_processes(setup):
    code = SCRIPT.format(setup=setup, one=ONE, at_once="close" in setup)
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_compiles_in_a_forked_process_with_little_memory():
    setup = (
        "child = os.fork()\n"
        "if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))"
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(setup=setup, one=ONE, at_once=True)], capture_output=True
    )
    assert (done.returncode, done.stderr) == (7, b"")


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_the_worker_ends_with_its_parent_and_ignores_the_terminal():
    command = [sys.executable, "-I", "-S", worker.__file__, str(llvm_folder())]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    with child:
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        child.stdin.close()
        assert child.wait(20) == 0


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no alarm on this system")
def test_a_worker_whose_parent_is_gone_does_not_compile_for_ever():
    command = [sys.executable, "-I", "-S", worker.__file__, str(llvm_folder())]
    head = json.dumps({**asdict(HERE), "seconds": -4}).encode()  # ends itself after -4 + 5 seconds
    text = "".join(ONE.replace("@one", f"@name_{n}") for n in range(60_000)).encode()
    message = struct.pack("<I", len(head)) + head + struct.pack("<I", len(text)) + text
    done = subprocess.run(command, input=message, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGALRM, b"")


def test_blocks_that_end_early_are_none():
    block = struct.pack("<I", 5) + b"hello"
    assert worker.read_block(io.BytesIO(block)) == b"hello"
    for length in range(len(block)):
        assert worker.read_block(io.BytesIO(block[:length])) is None
