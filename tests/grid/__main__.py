"""Runs the grid: `python -m tests.grid [OP[/types[#number]] ...]`; see `make grid`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from tests.grid import document
from tests.grid.cells import Cell, cells
from tests.grid.families import has_cases
from tests.grid.tally import CellTally, tally
from tests.grid.work import Wanted, records

FOLDER = Path(__file__).parents[2] / ".grid"
LOG, FAILURES = FOLDER / "log.jsonl", FOLDER / "failures.txt"
CASES_A_TASK = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.grid", description=__doc__)
    parser.add_argument("only", nargs="*", help="OP, OP/types or OP/types#number: run only these; all without")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--cases", type=int, default=None, help="cases a cell (default: as many as the grid has)")
    parser.add_argument("--document", action="store_true", help="renew the rows of docs/operators.md")
    parser.add_argument("--again", action="store_true", help="run nothing: the findings of the last run's log")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if arguments.again:
        with LOG.open() as log:
            found = tally(map(json.loads, log))
        document.update(found)
        return summarize(found)
    wanted = [pair for one in arguments.only or [""] for pair in chosen(one, arguments.cases)]
    if not wanted:
        print(f"no cell is called {' '.join(arguments.only)}; cells are named like ADD/int8q", file=sys.stderr)
        return 2
    started = time.monotonic()
    found = run(wanted, arguments.jobs)
    print(f"{len(wanted)} cases in {time.monotonic() - started:.0f} s; log: {LOG}")
    if arguments.document and not any("#" in one for one in arguments.only):
        document.update(found)
    return summarize(found)


def chosen(text: str, cases: int | None) -> Wanted:
    """The cases that a name means."""
    name, _, number = text.partition("#")
    op, _, types = name.partition("/")
    named = [c for c in cells({op} if op else None) if types in ("", c.types) and has_cases(c)]
    return [(c, n) for c in named for n in ([int(number)] if number else range(cases or c.size))]


def tasks_of(wanted: Wanted) -> list[Wanted]:
    """Cases of one cell, at most CASES_A_TASK together; small cells share a task."""
    tasks: list[Wanted] = []
    last: Cell | None = None
    for cell, number in wanted:
        new = not tasks or len(tasks[-1]) >= CASES_A_TASK or (cell != last and len(tasks[-1]) > CASES_A_TASK // 2)
        if new:
            tasks.append([])
        tasks[-1].append((cell, number))
        last = cell
    random.Random(0).shuffle(tasks)  # what is slow is spread over the run
    return sorted(tasks, key=lambda task: min(number for _, number in task))  # the first cases of every cell first


def run(wanted: Wanted, jobs: int) -> dict[str, CellTally]:
    """The sums by cell; the records of all cases go to the log as they come."""
    cells: dict[str, CellTally] = {}
    started, told, done = time.monotonic(), 0.0, 0
    with LOG.open("w") as log:
        for part in records(tasks_of(wanted), jobs):
            for record in part:
                cells.setdefault(record["cell"], CellTally()).add(record)
                log.write(json.dumps(record) + "\n")
            log.flush()
            done += len(part)
            if time.monotonic() - told > 20:
                told = time.monotonic()
                failed = sum(len(c.failed) for c in cells.values())
                print(f"{told - started:6.0f} s  {done} of {len(wanted)} cases, {failed} disagree", flush=True)
    return cells


def summarize(found: dict[str, CellTally]) -> int:
    """Prints what disagrees, a line a cell with its first case; the exit status."""
    failed = {name: sorted(cell.failed) for name, cell in sorted(found.items()) if cell.failed}
    with FAILURES.open("w") as file:
        for name, cases in failed.items():
            file.writelines(f"make grid ONLY='{name}#{n}'  {' | '.join(problems)}\n" for n, problems in cases)
    for name, cases in failed.items():
        number, problems = cases[0]
        print(f"{name}: {len(cases)} of {found[name].cases} disagree; make grid ONLY='{name}#{number}'")
        print("".join(f"    {problem[:300]}\n" for problem in problems), end="")
    cases = sum(c.cases for c in found.values())
    answered = sum(c.cases - c.silent for c in found.values())
    wrong = sum(map(len, failed.values()))
    silent = sum(not c.official for c in found.values())
    print(f"{len(found)} cells, {cases} cases, {answered} answered by the official runtime (none in {silent} cells); "
          f"{wrong} disagree in {len(failed)} cells")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
