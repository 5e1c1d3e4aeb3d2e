"""Compile processes: how one is started, and one that starts before anybody knows what to compile.

Starting Python and loading LLVM take as long as importing what reads a model, so `start_ahead` does it meanwhile; the
next `Compiler` takes that process over. Where none comes, it ends by itself after `worker.IDLE_SECONDS`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from typing import IO, NamedTuple

from lithe.codegen.llvm import worker as protocol
from lithe.codegen.llvm.installed import llvm_folder
from lithe.errors import MissingDependency

_WORKER = protocol.__file__


class Started(NamedTuple):
    """A process and what it prints: the reason when it dies."""

    process: subprocess.Popen
    messages: IO[bytes] | None
    command: list[str]
    owner: int  # the process that started it

    def end(self) -> None:
        if self.owner == os.getpid():  # in a fork it is the parent's
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.messages):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def command(folder: str) -> list[str]:
    """What starts a process that loads the llvmlite of a folder. Raises FileNotFoundError."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise FileNotFoundError("there is no Python interpreter to start (a bundled application?)")
    return [sys.executable, "-I", "-S", str(_WORKER), folder]


def start(words: list[str]) -> Started:
    """A process. Raises OSError where there can be none."""
    messages = _scratch_file()
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages if messages is not None else subprocess.DEVNULL,
            bufsize=0,
        )
    except OSError:
        if messages is not None:
            messages.close()
        raise
    return Started(process, messages, words, os.getpid())


def _scratch_file() -> IO[bytes] | None:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # no writable folder for temporary files
        return None


_ahead: list[Started] = []  # at most one
_lock = threading.Lock()


def start_ahead() -> None:
    """Starts a process for the next compiler, where none is ready. What cannot be started is said by the compiler."""
    with _lock, contextlib.suppress(OSError, MissingDependency):
        if _ahead and _is_alive(_ahead[0]):
            return
        while _ahead:
            _ahead.pop().end()
        _ahead.append(start(command(llvm_folder())))


def take(folder: str) -> Started:
    """The process that was started ahead, or else a fresh one. Raises OSError where there can be none."""
    wanted = command(folder)
    with _lock:
        found = _ahead.pop() if _ahead else None
    if found is not None:
        if found.command == wanted and _is_alive(found):
            return found
        found.end()
    return start(wanted)


def _is_alive(started: Started) -> bool:
    return started.owner == os.getpid() and started.process.poll() is None


@atexit.register
def end_ahead() -> None:
    """Ends the process that was started ahead, if nobody has taken it."""
    with _lock:
        while _ahead:
            _ahead.pop().end()
