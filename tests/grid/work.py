"""Cases checked in processes of their own, because a runtime may take its process with it.

A worker says what it does next before it does it; when it ends or falls silent, what it said last is the
culprit, and another worker takes over the task without that.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from tests.grid.cells import Cell
from tests.grid.official import SETS

Wanted = list[tuple[Cell, int]]
SILENCE = 240.0  # seconds after which a worker counts as hanging
TASKS_A_WORKER = 25  # compiled code is never unloaded: a worker ends and gives back its memory
MOST_LOSSES = 3  # processes that one kernel set may cost a task before it is left out of it


@dataclass
class Worker:
    process: Any
    connection: Connection
    task: int = -1
    doing: tuple[str, str] = ("", "")
    asked: tuple[str, str] = ("", "")  # the official kernel set that ran last
    done: int = 0


@dataclass
class Task:
    wanted: Wanted
    skipped: dict[tuple[str, str], str] = field(default_factory=dict)

    def lose(self, case: str, stage: str, how: str) -> None:
        """What is not to be done again; after some losses, not for the other cases either."""
        self.skipped[case, stage] = how
        if Counter(s for _, s in self.skipped)[stage] >= MOST_LOSSES and stage in SETS:
            self.skipped |= {(f"{cell}#{n}", stage): f"{how} with other cases" for cell, n in self.wanted
                             if (f"{cell}#{n}", stage) not in self.skipped}  # fmt: skip


def serve(connection: Connection) -> None:
    """The life of a worker: takes tasks, says what it does, answers with records."""
    from tests.grid.check import check

    warnings.simplefilter("ignore")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # the official runtime announces each delegate
    while True:
        try:
            wanted, skipped = connection.recv()
        except EOFError:
            return
        try:
            findings = check(wanted, skipped, lambda case, stage: connection.send(("at", case, stage)))
        except Exception:  # a mistake of the grid itself: the parent ends with it
            connection.send(("mistake", traceback.format_exc(), ""))
            return
        connection.send(("done", [f.record() for f in findings], ""))


def records(tasks: Sequence[Wanted], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """The records of each task, in the order in which they are finished."""
    context = multiprocessing.get_context("spawn")
    waiting = list(range(len(tasks)))[::-1]
    known = [Task(w) for w in tasks]
    workers: list[Worker] = []

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,))
        process.start()
        theirs.close()
        workers.append(Worker(process, ours))

    def give(worker: Worker) -> None:
        worker.task, worker.doing, worker.asked = waiting.pop(), ("", "start"), ("", "")
        worker.connection.send((known[worker.task].wanted, known[worker.task].skipped))

    def lost(worker: Worker, how: str) -> None:
        case, stage = worker.doing
        if worker.process.is_alive():
            worker.process.kill()
        worker.process.join()
        workers.remove(worker)
        if how == "crash":
            how = f"ends the process ({worker.process.exitcode})"
        if stage == "start":
            raise RuntimeError(f"a worker {how} before it starts")
        task = known[worker.task]
        if stage not in SETS and worker.asked != ("", "") and worker.asked not in task.skipped:
            case, stage = worker.asked  # a kernel that writes where it may not: the process ends later
        if (case, stage) in task.skipped:
            raise RuntimeError(f"a worker {how} again and again at {stage} of {case}")
        if not case:  # a program of many cases: the halves, to find the one
            middle = len(task.wanted) // 2
            if not middle:
                raise RuntimeError(f"a worker {how} at {stage} of {task.wanted[0][0]}")
            for half in (task.wanted[:middle], task.wanted[middle:]):
                known.append(Task(half, dict(task.skipped)))
                waiting.append(len(known) - 1)
            return
        task.lose(case, stage, how)
        waiting.append(worker.task)

    try:
        while waiting or any(w.task >= 0 for w in workers):
            while len(workers) < min(jobs, len(waiting) + sum(w.task >= 0 for w in workers)):
                start()
            for worker in workers:
                if worker.task < 0 and waiting:
                    give(worker)
            busy = {w.connection: w for w in workers if w.task >= 0}
            ready = wait(list(busy), SILENCE)
            if not ready:
                for worker in busy.values():
                    lost(worker, f"hangs for {SILENCE:.0f} s")
            for connection in ready:
                worker = busy[connection]
                try:
                    kind, what, stage = connection.recv()
                except (EOFError, ConnectionResetError):
                    lost(worker, "crash")
                    continue
                if kind == "mistake":
                    raise RuntimeError(f"{worker.doing[0]}: {what}")
                if kind == "at":
                    worker.doing = (what, stage)
                    worker.asked = worker.doing if stage in SETS else worker.asked
                    continue
                worker.task, worker.done = -1, worker.done + 1
                yield what
                if worker.done >= TASKS_A_WORKER:
                    connection.close()
                    worker.process.join()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.connection.close()
            if worker.task >= 0:
                worker.process.kill()
            worker.process.join()
