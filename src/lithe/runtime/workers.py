"""The threads of one inference: the caller's own, and workers that wait in native code for the next run.

Every thread runs the same entry with a number of its own (see `lithe.codegen.llvm.threads`); there is no queue, and
Python is not entered between the start of a run and its end. Workers start with the first run and end with the object
that owns them or with the interpreter. A child of `fork` has none, and starts its own.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable

import numpy as np

from lithe.codegen.llvm.threads import SYNC_BYTES
from lithe.errors import ExecutionError
from lithe.runtime.loader import Image

RUN, ALONE, WORKER, STOP = "lithe_run", "lithe_alone", "lithe_worker", "lithe_stop"
ALIGNMENT = 64
PATIENCE = 1.0  # seconds to wait for a worker that ends

Run = Callable[[int, int, int, int, int], int]


class Workers:
    """`threads` threads for the runs of one model, which take turns."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._forget()
        _living.add(self)

    def _forget(self) -> None:
        self._turn = threading.Lock()
        self._team: _Team | None = None

    def run(self, image: Image, run: Run, entry: int, arena: int, constants: int) -> int:
        """The result of `entry`, run by all threads.

        image, run  where to find the worker's code, and `lithe_run` of the same image.

        Raises ExecutionError when the system has no more threads.
        """
        with self._turn:
            if self._team is None:
                self._team = _Team(image, self.threads)
            team = self._team
            before, team.code[:] = list(team.code), [run]
            result = run(entry, arena, constants, self.threads, team.sync.ctypes.data)
            del before  # all have left that code
            return result


class _Team:
    """Started workers and their synchronisation block.

    code  what keeps the code of the last run in memory: workers may still be at its last instructions.
    """

    def __init__(self, image: Image, threads: int) -> None:
        self.sync = sync_block()
        self.code: list[Run] = []
        work = image.function(WORKER, None, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
        stop = image.function(STOP, None, ctypes.c_void_p)
        # the threads keep code and block alive, and know nothing of their owner
        kept = work, threads, self.sync, self.code
        members = [
            threading.Thread(target=_serve, args=(n, *kept), daemon=True, name=f"lithe-worker-{n}")
            for n in range(1, threads)
        ]
        self.close = weakref.finalize(self, _close, stop, self.sync, members, os.getpid())
        try:
            for member in members:
                member.start()
        except RuntimeError as error:
            self.close()
            raise ExecutionError(
                f"no thread for the inference: {error}", hint="num_threads=1, or raise the limits of this process"
            ) from error


def _serve(number: int, work: Callable[[int, int, int], None], threads: int, sync: np.ndarray, code: list[Run]) -> None:
    work(number, threads, sync.ctypes.data)


def _close(stop: Callable[[int], None], sync: np.ndarray, members: list[threading.Thread], process: int) -> None:
    if os.getpid() != process:
        return  # in a fork the threads are gone
    stop(sync.ctypes.data)
    for member in members:
        if member is not threading.current_thread() and member.ident is not None:
            member.join(PATIENCE)


_living: weakref.WeakSet[Workers] = weakref.WeakSet()


def _after_fork() -> None:
    for workers in list(_living):
        workers._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def sync_block() -> np.ndarray:
    """A synchronisation block as it must be before its first use."""
    return aligned(SYNC_BYTES)


def aligned(size: int) -> np.ndarray:
    """Zeroed bytes that start on a cache line."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -address_of(raw) % ALIGNMENT
    return raw[start : start + size]


def address_of(array: np.ndarray) -> int:
    """Where an array's bytes begin (`array.ctypes` takes a twentieth of a millisecond when it is first used)."""
    address: int = array.__array_interface__["data"][0]
    return address
