"""Lithe against the official runtime, on this machine, fairly: interleaved, outputs compared first.

    python benchmarks/compare.py [MODEL ...] [--threads 1] [--seconds 4] [--json FILE] [--no-start-up]

Inference: both runtimes live in one process and take turns (A B A B ...), a few milliseconds each, so
that a change of the clock or a noisy neighbour hits both. The ratio is the median over the turns of
lithe's time by the official runtime's time in the same turn; below 1.0 lithe is faster.

Start-up: fresh processes take turns too. "cold" is lithe with an empty code cache (it compiles),
"cached" is lithe with its code in the cache; both are load + first inference without the import.

Without models: the two of the demo, and MobileNet v2 int8 where the corpus of real models is present.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[1]
TURN_S = 0.01
START_UP_ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """One model, milliseconds; ratios are lithe / official."""

    model: str
    threads: int
    turns: int
    lithe_ms: float
    official_ms: float
    ratio: float
    ratio_10_percent: float
    ratio_90_percent: float
    greatest_difference: float
    agrees: bool
    start_up: dict[str, float] | None = None


def interpreter(runtime: str, model: str, threads: int) -> Any:
    """An interpreter with its tensors allocated; both runtimes have the same interface."""
    if runtime == "lithe":
        from lithe import Interpreter
    else:
        from ai_edge_litert.interpreter import Interpreter
    made = Interpreter(model_path=model, num_threads=threads)
    made.allocate_tensors()
    return made


def fill(one: Any, seed: int = 0) -> None:
    """Random inputs: floats in -1..1, integers over their range (wide ones 0..9)."""
    rng = np.random.default_rng(seed)
    for detail in one.get_input_details():
        shape, dtype = tuple(detail["shape"]), np.dtype(detail["dtype"])
        if dtype.kind == "f":
            value = rng.uniform(-1, 1, shape).astype(dtype)
        elif dtype.itemsize == 1 and dtype.kind in "iu":
            value = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
        else:
            value = rng.integers(0, 2 if dtype.kind == "b" else 10, shape).astype(dtype)
        one.set_tensor(detail["index"], value)


def difference(ours: Any, theirs: Any) -> tuple[float, bool]:
    """(greatest difference of the outputs, whether it is within one step or 1e-4 of the greatest value)."""
    greatest, agrees = 0.0, True
    for mine, other in zip(ours.get_output_details(), theirs.get_output_details(), strict=True):
        a, b = (r.get_tensor(d["index"]) for r, d in ((ours, mine), (theirs, other)))
        if a.shape != b.shape:
            return float("inf"), False
        if not a.size:
            continue
        apart = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
        allowed = 1.0 if a.dtype.kind in "iu" else 1e-5 + 1e-4 * float(np.abs(b).max())
        greatest, agrees = max(greatest, apart), agrees and apart <= allowed
    return greatest, agrees


def per_call(run: Callable[[], None], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def measure(model: str, threads: int, seconds: float, start_up: bool) -> Timing:
    """Interleaved timing of one model."""
    ours, theirs = interpreter("lithe", model, threads), interpreter("official", model, threads)
    for one in (ours, theirs):
        fill(one)
        one.invoke()
    greatest, agrees = difference(ours, theirs)
    calls = [max(1, round(TURN_S / max(per_call(one.invoke, 3), 1e-7))) for one in (ours, theirs)]
    samples: list[tuple[float, float]] = []
    finish = time.perf_counter() + seconds
    while time.perf_counter() < finish or len(samples) < 5:
        samples.append((per_call(ours.invoke, calls[0]), per_call(theirs.invoke, calls[1])))
    ratios = sorted(a / b for a, b in samples)
    return Timing(
        model=Path(model).name,
        threads=threads,
        turns=len(samples),
        lithe_ms=statistics.median(a for a, _ in samples) * 1e3,
        official_ms=statistics.median(b for _, b in samples) * 1e3,
        ratio=statistics.median(ratios),
        ratio_10_percent=ratios[len(ratios) // 10],
        ratio_90_percent=ratios[-1 - len(ratios) // 10],
        greatest_difference=greatest,
        agrees=agrees,
        start_up=measure_start_up(model, threads) if start_up else None,
    )


def first_inference(runtime: str, model: str, threads: int) -> float:
    """Milliseconds from a name to the first result, after the import. Runs in a process of its own."""
    if runtime == "lithe":
        import lithe

        _ = lithe.Interpreter
    else:
        pass
    started = time.perf_counter()
    one = interpreter(runtime, model, threads)
    fill(one)
    one.invoke()
    return (time.perf_counter() - started) * 1e3


def measure_start_up(model: str, threads: int) -> dict[str, float]:
    """Medians of fresh processes that take turns, milliseconds; "_process" includes Python and the import."""
    samples: dict[str, list[float]] = {}

    def child(label: str, runtime: str, cache: str) -> None:
        command = [sys.executable, __file__, model, "--threads", str(threads), "--first-inference", runtime]
        started = time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, "LITHE_CACHE_DIR": cache}, capture_output=True, text=True, check=False
        )
        whole = (time.perf_counter() - started) * 1e3
        if done.returncode:
            sys.exit(f"{label}: {done.stderr.strip()}")
        samples.setdefault(label, []).append(float(done.stdout))
        samples.setdefault(label + "_process", []).append(whole)

    with tempfile.TemporaryDirectory() as warm:
        for turn in range(START_UP_ROUNDS):
            with tempfile.TemporaryDirectory() as empty:
                child("cold", "lithe", empty)
            if turn == 0:
                child("filling", "lithe", warm)
            child("cached", "lithe", warm)
            child("official", "official", warm)
    medians = {label: statistics.median(values) for label, values in samples.items() if not label.startswith("filling")}
    return {**medians, "cached_by_official": medians["cached"] / medians["official"]}


def default_models() -> list[str]:
    models = [str(path) for path in sorted((CHECKOUT / "src" / "lithe" / "data").glob("*.tflite"))]
    corpus = Path(os.environ.get("LITHE_CORPUS") or CHECKOUT.parent / "shared" / "corpus")
    mobilenet = corpus / "models" / "classification" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    return [*models, str(mobilenet)] if mobilenet.is_file() else models


def show(timing: Timing) -> None:
    print(f"{timing.model}, {timing.threads} thread(s), {timing.turns} turns each")
    word = "agree" if timing.agrees else "DIFFER"
    print(f"  outputs    {word}, greatest difference {timing.greatest_difference:.3g}")
    print(f"  inference  lithe {timing.lithe_ms:.4f} ms, official {timing.official_ms:.4f} ms")
    spread = f"{timing.ratio_10_percent:.3f} .. {timing.ratio_90_percent:.3f}"
    print(f"  ratio      {timing.ratio:.3f}  (80 % of turns: {spread}; below 1.0 lithe is faster)")
    if timing.start_up:
        s = timing.start_up
        print(
            f"  start-up   cold {s['cold']:.0f} ms (compiles), cached {s['cached']:.1f}, official {s['official']:.1f}"
        )
        print(f"  processes  cold {s['cold_process']:.0f} ms, cached {s['cached_process']:.0f} ms, official ", end="")
        print(f"{s['official_process']:.0f} ms  (Python and the import included)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long the turns last, for each model")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--no-start-up", action="store_true", help="measure inference only")
    parser.add_argument("--first-inference", choices=("lithe", "official"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_inference:
        print(first_inference(options.first_inference, options.models[0], options.threads))
        return 0
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except ImportError:
        print("the official runtime is needed for a comparison: pip install ai-edge-litert", file=sys.stderr)
        return 3
    timings = []
    for model in options.models or default_models():
        timings.append(measure(model, options.threads, options.seconds, not options.no_start_up))
        show(timings[-1])
    if options.json:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        options.json.write_text(json.dumps({**machine, "timings": [asdict(t) for t in timings]}, indent=2) + "\n")
    return 0 if all(t.agrees for t in timings) else 1


if __name__ == "__main__":
    sys.exit(main())
