"""Compile LLVM IR in worker processes, several modules at a time, under a watchdog.

    with Compiler(Settings(triple, features=features)) as compiler:    # workers start now, in the background
        jobs = [compiler.submit(text, name) for name, text in modules]
        objects = [job.result() for job in jobs]

LLVM is never loaded into this process. A worker that hangs or dies takes one job with it: the job raises
CompileError, and a fresh worker goes on with the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import subprocess
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import IO

from lithe.codegen.llvm import processes
from lithe.codegen.llvm import worker as protocol
from lithe.codegen.llvm.installed import llvm_folder
from lithe.errors import CompileError, StateError

DEFAULT_TIMEOUT = 60.0
WORTH_A_PROCESS = 200_000  # characters that take LLVM about as long as a process takes to start: 70 ms
_STOP = None


@dataclass(frozen=True)
class Settings:
    """What the target machine is told. An empty `cpu` is the baseline of the architecture, which `features` extends.

    opt     0-3, of code generation alone; the passes run before it are named.
    passes  names of LLVM module passes as llvmlite spells them: "sroa" is `add_sroa_pass`.
    """

    triple: str
    cpu: str = ""
    features: str = ""
    opt: int = 2
    passes: tuple[str, ...] = ("sroa",)
    reloc: str = "pic"
    codemodel: str = "small"
    abi: str = ""


def timeout_from_environment() -> float:
    """Seconds that one module may take: LITHE_COMPILE_TIMEOUT, or 60."""
    text = os.environ.get("LITHE_COMPILE_TIMEOUT", "")
    if not text:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise CompileError(
            f"LITHE_COMPILE_TIMEOUT={text!r} is not a number of seconds", hint="set it to 60, or unset it"
        )
    return seconds


class Job:
    """One module on its way through a worker."""

    def __init__(self, name: str, text: str, settings: Settings) -> None:
        self.name, self.text, self.settings = name, text, settings
        self._finished = threading.Event()
        self._object = b""
        self._error: CompileError | None = None

    def done(self) -> bool:
        return self._finished.is_set()

    def result(self) -> bytes:
        """The object file, as soon as it is there. Raises CompileError."""
        self._finished.wait()
        if self._error is not None:
            raise self._error
        return self._object

    def _finish(self, answer: bytes | CompileError) -> None:
        if isinstance(answer, CompileError):
            self._error = answer
        else:
            self._object = answer
        self.text = ""  # megabytes, for a model
        self._finished.set()


class Compiler:
    """Compiles modules in up to `workers` processes; a context manager that ends them.

    workers  two by default: modules are few and the machine has other work to do. The first starts at once, another one
             when so much waits that it is worth its start.
    timeout  seconds for one module; LITHE_COMPILE_TIMEOUT or 60 when not given.

    Raises MissingDependency at once where llvmlite is not installed.
    """

    def __init__(self, settings: Settings, *, workers: int = 2, timeout: float | None = None) -> None:
        self.settings = settings
        folder = llvm_folder()
        seconds = timeout_from_environment() if timeout is None else timeout
        self._process = os.getpid()
        self._jobs: list[Job] = []
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._children = [_Child(folder, seconds) for _ in range(max(1, workers))]
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, _close, self._queue, self._children, self._threads, self._process)
        try:
            self._serve(self._children[0])
        except RuntimeError as error:
            self.close()
            raise CompileError(
                f"no thread for the compiler: {error}", hint="raise the limits of this process"
            ) from error

    def _serve(self, child: _Child) -> None:
        thread = threading.Thread(target=child.serve, args=(self._queue,), daemon=True, name="lithe-compile")
        thread.start()
        self._threads.append(thread)

    def submit(self, text: str, name: str = "", settings: Settings | None = None) -> Job:
        """Queues one module, given as IR text. `name` is what errors call it."""
        if not self._close.alive or os.getpid() != self._process:
            raise StateError(
                "this compiler is closed", hint="submit inside the `with` block, in the process that opened it"
            )
        job = Job(name or f"module {len(self._jobs)}", text, settings or self.settings)
        with self._lock:
            self._jobs.append(job)
            self._queue.put(job)
            started, waiting = len(self._threads), sum(len(other.text) for other in self._jobs)
            if started < len(self._children) and waiting > WORTH_A_PROCESS * started:
                with contextlib.suppress(RuntimeError):  # no thread left: the others go on alone
                    self._serve(self._children[started])
        return job

    def results(self) -> list[bytes]:
        """The objects of all modules submitted so far, in order of submission."""
        return [job.result() for job in self._jobs]

    def close(self) -> None:
        """Ends the workers; jobs that are not done raise CompileError."""
        self._close()

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compile_modules(texts: Iterable[str], settings: Settings, *, workers: int = 2) -> list[bytes]:
    """The objects of several modules, in order."""
    with Compiler(settings, workers=workers) as compiler:
        for text in texts:
            compiler.submit(text)
        return compiler.results()


def _close(jobs: queue.SimpleQueue, children: list[_Child], threads: list[threading.Thread], process: int) -> None:
    # A plain function: a finalizer that knew the compiler would keep it alive.
    if os.getpid() != process:
        return  # in a fork the threads are gone and the workers are the parent's
    for child in children:
        child.close()
    for job in _drain(jobs):
        job._finish(_closed(job))
    for _ in threads:
        jobs.put(_STOP)
    for thread in threads:
        if thread is not threading.current_thread() and thread.ident is not None:
            thread.join()


def _drain(jobs: queue.SimpleQueue) -> Iterator[Job]:
    with contextlib.suppress(queue.Empty):
        while True:
            if (job := jobs.get_nowait()) is not _STOP:
                yield job


def _closed(job: Job) -> CompileError:
    return CompileError("the compiler was closed before this was compiled", where=job.name, hint="compile it again")


class _Child:
    """One worker process at a time, and the thread in this process that talks to it."""

    def __init__(self, folder: str, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.process: subprocess.Popen | None = None
        self.messages: IO[bytes] | None = None  # what the worker prints: the reason when it dies
        self.timed_out = False
        self.closed = False
        # Over `process` and `closed`, since the watchdog and close() end the process from outside.
        # Reentrant: the garbage collector may call close() in the thread that holds it.
        self.lock = threading.RLock()

    def serve(self, jobs: queue.SimpleQueue) -> None:
        """Works through the queue until it is told to stop."""
        try:
            # Started before there is anything to do: loading LLVM takes as long as writing the IR.
            # A failure is told to the first job, which starts the process anew.
            with contextlib.suppress(OSError):
                self.start()
            while (job := jobs.get()) is not _STOP:
                try:
                    answer = self.compile(job)
                except (RuntimeError, MemoryError) as error:  # no thread or memory left: somebody waits for this job
                    answer = CompileError(
                        f"no room to compile: {error!r}", where=job.name, hint="raise the limits of this process"
                    )
                job._finish(answer)
        finally:
            self.kill()
            self.reap()

    def start(self) -> None:
        with self.lock:
            if self.closed:
                return
            self.process, self.messages, *_ = processes.take(self.folder)

    def compile(self, job: Job) -> bytes | CompileError:
        try:
            if self.process is not None and self.process.poll() is not None:
                self.reap()  # died while idle, which is not the fault of this job
                self.forget_messages()
            if self.process is None:
                self.start()
        except OSError as error:
            return CompileError(
                f"the compile process cannot be started: {error}",
                where=job.name,
                hint="check that sys.executable is a Python interpreter and that processes may be started",
            )
        process = self.process
        if self.closed or process is None:
            return _closed(job)
        self.timed_out = False
        watchdog = threading.Timer(self.seconds, self.expire)
        watchdog.daemon = True
        watchdog.start()
        try:
            answer = self.converse(process, job)
        except OSError:
            answer = None
        finally:
            watchdog.cancel()
            watchdog.join()  # or it might still end the process, in the middle of the next job
        if answer is None or self.timed_out:
            return self.post_mortem(job)
        status, body = answer
        if status == protocol.OBJECT:
            return body
        return CompileError(f"LLVM refused the module: {body.decode(errors='replace')}", where=job.name, hint=_REPORT)

    def converse(self, process: subprocess.Popen, job: Job) -> tuple[int, bytes] | None:
        """One job out, one answer back; None when the worker is gone."""
        if process.stdin is None or process.stdout is None:
            return None
        head = json.dumps({**asdict(job.settings), "seconds": self.seconds}).encode()
        text = job.text.encode()
        message = b"".join([struct.pack("<I", len(head)), head, struct.pack("<I", len(text)), text])
        view = memoryview(message)
        while view:
            view = view[process.stdin.write(view) :]
        status = protocol.read_exactly(process.stdout, 1)
        body = protocol.read_block(process.stdout) if status else None
        return None if body is None else (status[0], body)

    def post_mortem(self, job: Job) -> CompileError:
        """Why there is no answer. The worker is ended and cleared away; the next job starts a fresh one."""
        self.kill()
        code = self.reap()
        said = self.last_words()
        self.forget_messages()
        if self.closed:
            return _closed(job)
        if self.timed_out:
            return CompileError(
                f"LLVM did not finish within {self.seconds:g} seconds",
                where=job.name,
                hint="set LITHE_COMPILE_TIMEOUT to more seconds, or run on the reference executor",
            )
        ended = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return CompileError(f"the compile process ended with {ended}{said}", where=job.name, hint=_REPORT)

    def last_words(self) -> str:
        if self.messages is None:
            return ""
        size = self.messages.seek(0, os.SEEK_END)
        self.messages.seek(max(0, size - 2000))
        text = self.messages.read().decode(errors="replace").strip()
        return f": {text}" if text else ""

    def expire(self) -> None:
        self.timed_out = True
        self.kill()

    def close(self) -> None:
        with self.lock:
            self.closed = True
        self.kill()

    def kill(self) -> None:
        with self.lock:
            if self.process is not None:
                self.process.kill()  # does nothing to a process that was already waited for

    def reap(self) -> int | None:
        """Waits for the ended process and closes its pipes."""
        with self.lock:
            process, self.process = self.process, None
        if process is None:
            self.forget_messages()
            return None
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if self.closed:
            self.forget_messages()
        return code

    def forget_messages(self) -> None:
        if self.messages is not None:
            self.messages.close()
            self.messages = None


_REPORT = "report this module as a bug of Lithe; the reference executor runs the model meanwhile"
