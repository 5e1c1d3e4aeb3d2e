"""Start-up and memory, each measured in a process of its own.

    python -m lithe.bench.fresh PEER MODEL THREADS     one JSON object: what this process took
    python -m lithe.bench.fresh PEER                   the same for a process that only imports the runtime

first_ms   from a path to the first result, imports apart. Inputs are zeros; making them does not count.
peak       the most memory that the process ever had (VmHWM of Linux), in bytes.

"from nothing" is Lithe with an empty code cache: it compiles. "from cache" is Lithe with its code in the cache.
Lithe is measured as it is where it was installed: children import a copy.
Memory above the file is the peak, less that of a process which only imported the runtime, less the size of the
model's file: what running a model costs beyond having it.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import lithe
from lithe.bench.peers import LITHE, PEERS, Peer
from lithe.errors import ExecutionError

STATUS = Path("/proc/self/status")
FROM_NOTHING, FROM_CACHE = "lithe from nothing", "lithe from cache"


@dataclass(frozen=True)
class Fresh:
    """Medians over processes. process_ms: all of it, from the start of Python to its end. above_file_bytes is None
    where the system does not tell a process's peak."""

    first_ms: float
    process_ms: float
    above_file_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_fresh(path: Path, peers: Sequence[Peer], threads: int = 1, rounds: int = 5) -> dict[str, Fresh]:
    """Start-up and memory of Lithe (twice, see above) and of the peers that can run the model, by name; in turns."""
    able = {peer.name: file for peer in peers if (file := peer.file(path)) is not None}
    samples: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as full:
        bases = {name: _child([name], full).get("peak") for name in (LITHE.name, *able)}
        _child([LITHE.name, str(path), str(threads)], full)
        for turn in range(rounds):
            if turn < max(1, rounds // 2):
                with tempfile.TemporaryDirectory() as empty:
                    samples.setdefault(FROM_NOTHING, []).append(_child([LITHE.name, str(path), str(threads)], empty))
            samples.setdefault(FROM_CACHE, []).append(_child([LITHE.name, str(path), str(threads)], full))
            for name, file in list(able.items()):
                try:
                    samples.setdefault(name, []).append(_child([name, str(file), str(threads)], full))
                except ExecutionError:  # a model that this peer does not take; the comparison in turns says why
                    del able[name], samples[name]
    sizes = {name: file.stat().st_size for name, file in able.items()}
    return {
        name: _median(found, bases[name if name in able else LITHE.name], sizes.get(name, path.stat().st_size))
        for name, found in samples.items()
    }


def _median(samples: list[dict[str, float]], base: float | None, size: int) -> Fresh:
    peaks = [s["peak"] for s in samples if s.get("peak")]
    above = None if base is None or not peaks else round(statistics.median(peaks) - base - size)
    first, process = (statistics.median(s[key] for s in samples) for key in ("first_ms", "process_ms"))
    return Fresh(first, process, above)


def _child(arguments: list[str], cache: str) -> dict[str, Any]:
    """What a process printed. Raises ExecutionError with its last words when it failed."""
    # an installed package has its byte code on disk: the first child writes it where it is not
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
        "LITHE_CACHE_DIR": cache,
        "PYTHONPATH": os.pathsep.join(filter(None, (installed(), os.environ.get("PYTHONPATH")))),
    }
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lithe.bench.fresh", *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    taken = (time.perf_counter() - started) * 1e3
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ExecutionError(lines[-1] if lines else f"exit status {done.returncode}", where=" ".join(arguments))
    return {**json.loads(done.stdout.splitlines()[-1]), "process_ms": taken}


@cache
def installed() -> str:
    """A folder that holds a copy of this package as an installer puts it there, which is what users have.

    In a checkout each start asks for the dates of all source files, which takes a millisecond (see `compiler_stamp`).
    """
    from lithe.runtime.compiled import INSTALLED  # here, because children that measure others do not need it

    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = Path(folder) / INSTALLED[0]
    shutil.copytree(Path(lithe.__file__).parent, place / "lithe", ignore=shutil.ignore_patterns("__pycache__"))
    return str(place)


def peak_bytes() -> int | None:
    """The most memory that this process ever had; None where the system does not tell."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """The work of the child process."""
    peer = LITHE if arguments[0] == LITHE.name else PEERS[arguments[0]]
    importlib.import_module(peer.entry)
    if len(arguments) == 1:
        return {"peak": peak_bytes()}
    started = time.perf_counter()
    loaded = peer.load(Path(arguments[1]), int(arguments[2]))
    loaded.run()
    return {"first_ms": (time.perf_counter() - started) * 1e3, "peak": peak_bytes()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
