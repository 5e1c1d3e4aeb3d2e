"""Runs the grid: `python -m tests.grid [OP[/types[#number]] ...]`; see `make grid`."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.grid import document
from tests.grid.cells import Cell, cells
from tests.grid.families import WITHOUT
from tests.grid.work import Wanted, records

FOLDER = Path(__file__).parents[2] / ".grid"
LOG, FAILURES = FOLDER / "log.jsonl", FOLDER / "failures.txt"
CASES_A_TASK = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.grid", description=__doc__)
    parser.add_argument("only", nargs="*", help="OP, OP/types or OP/types#number: run only these; all without")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--cases", type=int, default=None, help="cases a cell (default: as many as the grid has)")
    parser.add_argument("--document", action="store_true", help="write docs/operators.md from the log")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    wanted = [pair for one in arguments.only or [""] for pair in chosen(one, arguments.cases)]
    if not wanted:
        print(f"no cell is called {' '.join(arguments.only)}; cells are named like ADD/int8q", file=sys.stderr)
        return 2
    started = time.monotonic()
    found = run(wanted, arguments.jobs)
    print(f"{len(found)} cases in {time.monotonic() - started:.0f} s; log: {LOG}")
    if arguments.document:
        document.update(found)
    return summarize(found)


def chosen(text: str, cases: int | None) -> Wanted:
    """The cases that a name means."""
    name, _, number = text.partition("#")
    op, _, types = name.partition("/")
    named = [c for c in cells({op} if op else None) if c.op not in WITHOUT and types in ("", c.types)]
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
    return tasks


def run(wanted: Wanted, jobs: int) -> list[dict[str, Any]]:
    """The records of all cases, written to the log as they come."""
    found: list[dict[str, Any]] = []
    started, told = time.monotonic(), 0.0
    with LOG.open("w") as log:
        for part in records(tasks_of(wanted), jobs):
            found += part
            log.writelines(json.dumps(record) + "\n" for record in part)
            if time.monotonic() - told > 20:
                told = time.monotonic()
                failed = sum(bool(r["problems"]) for r in found)
                print(f"{told - started:6.0f} s  {len(found)} of {len(wanted)} cases, {failed} disagree", flush=True)
    return found


def summarize(found: list[dict[str, Any]]) -> int:
    """Prints what disagrees, a line a cell with its first cases; the exit status."""
    failed = sorted((r for r in found if r["problems"]), key=lambda r: (r["cell"], r["number"]))
    FAILURES.write_text(
        "".join(f"make grid ONLY='{r['cell']}#{r['number']}'  {' | '.join(r['problems'])}\n" for r in failed)
    )
    counts, totals = Counter(r["cell"] for r in failed), Counter(r["cell"] for r in found)
    silent = [cell for cell in totals if not any(r["official"] for r in found if r["cell"] == cell)] if failed else []
    for cell, count in counts.items():
        first = next(r for r in failed if r["cell"] == cell)
        print(f"{cell}: {count} of {totals[cell]} disagree; make grid ONLY='{cell}#{first['number']}'")
        print("".join(f"    {problem[:300]}\n" for problem in first["problems"]), end="")
    answered = sum(bool(r["official"]) for r in found)
    print(f"{len(totals)} cells, {len(found)} cases, {answered} answered by the official runtime; "
          f"{len(failed)} disagree in {len(counts)} cells (no official answer in {len(silent)} of all)")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
