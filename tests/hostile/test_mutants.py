"""Five hundred damaged models through the interpreter: a result or an error of ours, never anything else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from lithe.errors import LitheError
from lithe.formats.tflite import read, write
from lithe.ops.verify import verify
from tests.hostile.mutants import mutant, seeds

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits and signals")

COUNT = 500
ROOT = Path(__file__).resolve().parents[2]


def outcomes(first: int, last: int) -> dict[int, list[str]]:
    """{number: [seconds, verdict, detail]}; a process that dies takes only one mutant with it."""
    found: dict[int, list[str]] = {}
    while first < last:
        command = [sys.executable, "-m", "tests.hostile.mutants", str(first), str(last)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            word, n, *rest = line.split(" ", 4)
            if word == "end":
                found[int(n)] = rest
        first = max([*(n + 1 for n in found), first])
        if first < last:
            found[first] = ["0", "died", f"status {done.returncode} {done.stderr[-300:]}"]
            first += 1
    return found


def test_no_mutant_crashes_hangs_or_raises_a_foreign_error():
    found = outcomes(0, COUNT)
    assert len(found) == COUNT
    assert {n: r for n, r in found.items() if r[1] not in ("accept", "reject")} == {}
    verdicts = [r[1] for r in found.values()]
    assert verdicts.count("accept") > COUNT // 10  # refusing everything would be no feat


def test_the_seeds_themselves_run():
    for seed in seeds():
        verify(read(seed))
        assert read(write(read(seed))).signatures


def test_rejections_are_quick_and_what_is_read_can_be_written():
    slowest = 0.0
    for n in range(1000, 2500):
        data = mutant(n)
        start = time.perf_counter()
        try:
            module = read(data)
            write(module)
            verify(module)
        except LitheError as e:
            assert str(e)  # noqa: PT017
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 1.0
