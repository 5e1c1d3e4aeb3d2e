"""Measures what zeros and few numbers give: bytes of files, and milliseconds in Lithe and in the official runtime.

    python benchmarks/smaller.py [--seconds 20] [--only NAME] [--output FILE]

Networks are a MobileNet of version 1 at full size with random weights, and single products of matrices of int8. A
network's forms run in turns, in both runtimes, on one thread. Needs Keras, JAX and the official runtime. The result is
one JSON file, and a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks import application, chain, drawn_weights

import lithe
from lithe.bench.machine import commit, machine, versions
from lithe.bench.peers import LITHE, PEERS
from lithe.bench.turns import random_inputs
from lithe.optimize import cluster, compact, prune

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results" / "smaller"
SCHEMA = "lithe.smaller/1"
RUNTIMES = (LITHE, PEERS["official"])
TURN_S = 0.01  # a runtime's turn takes at least
Forms = dict[str, lithe.Model]


def mobilenet() -> Forms:
    with drawn_weights():
        dense = lithe.convert(application("MobileNet"))
    return {
        "dense": dense,
        "80% zeros": prune(dense, 0.8),
        "90% zeros": prune(dense, 0.9),
        "16 clusters, table": cluster(dense, 16, start="density"),
        "16 clusters, rows": cluster(dense, 16, start="density", form="rows"),
    }


def product(rows: int, size: int) -> Callable[[], Forms]:
    """A product of int8 with size x size weights, stored as is smallest, whoever reads it."""

    def forms() -> Forms:
        with drawn_weights():
            real = lithe.convert(chain((size,), lambda k: [k.Dense(size)], rows))
        random = np.random.default_rng(0)
        samples = [random.standard_normal((rows, size)).astype(np.float32) for _ in range(4)]

        def quantized(model: lithe.Model) -> lithe.Model:
            return lithe.quantize(model, samples, inputs="int8", outputs="int8")

        return {
            "dense": quantized(real),
            "2:4": compact(quantized(prune(real, 0.5, "2:4")), reader="lithe"),
            "unstructured, 80%": compact(quantized(prune(real, 0.8)), reader="lithe"),
            "1x4, 80%": compact(quantized(prune(real, 0.8, "1x4")), reader="lithe"),
            "1x16, 80%": compact(quantized(prune(real, 0.8, "1x16")), reader="lithe"),
        }

    return forms


NETWORKS: dict[str, Callable[[], Forms]] = {
    "mobilenet_v1 float32": mobilenet,
    "product int8 1 x 1024 x 1024": product(1, 1024),
    "product int8 64 x 1024 x 1024": product(64, 1024),
}


def measured(forms: Forms, seconds: float, folder: Path) -> Iterator[dict[str, Any]]:
    """One entry for each form: its bytes, and milliseconds of each runtime, the median of turns; None: it refuses."""
    paths = {name: folder / f"{n}.tflite" for n, name in enumerate(forms)}
    for name, model in forms.items():
        model.save(paths[name])
    runs: dict[tuple[str, str], tuple[Callable[[], object], int]] = {}
    for name, path in paths.items():
        arrays, _ = random_inputs(path)
        for runtime in RUNTIMES:
            try:
                loaded = runtime.load(path, 1)
                loaded.feed(arrays)
                loaded.run()
                started = time.perf_counter()
                loaded.run()
                runs[name, runtime.name] = loaded.run, max(1, round(TURN_S / (time.perf_counter() - started)))
            except (RuntimeError, ValueError) as error:
                print(f"{name}: {runtime.title} refuses it: {str(error).splitlines()[0]}", file=sys.stderr)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    finish = time.perf_counter() + seconds
    while time.perf_counter() < finish or min(map(len, times.values())) < 5:
        for key, (run, calls) in runs.items():
            started = time.perf_counter()
            for _ in range(calls):
                run()
            times[key].append((time.perf_counter() - started) / calls * 1e3)
    first = next(iter(forms))
    for name, path in paths.items():
        entry: dict[str, Any] = {"form": name, "bytes": path.stat().st_size}
        entry["bytes_of_dense"] = entry["bytes"] / paths[first].stat().st_size
        for runtime in (r.name for r in RUNTIMES):
            own, dense = times.get((name, runtime)), times.get((first, runtime))
            entry[runtime] = None if own is None else {
                "ms": statistics.median(own),
                "of_dense": None if dense is None else statistics.median(
                    a / b for a, b in zip(own, dense, strict=False)
                ),
                "turns": len(own),
            }  # fmt: skip
        yield entry


def line(entry: dict[str, Any]) -> str:
    cells = [f"{entry['form']:28}", f"{entry['bytes']:>12,}", f"{entry['bytes_of_dense']:6.3f}"]
    for runtime in (r.name for r in RUNTIMES):
        t = entry[runtime]
        cells.append("   refused      " if t is None else f"{t['ms']:9.3f} {t['of_dense']:6.2f}")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each network's turns")
    parser.add_argument("--only", default="", help="networks with this in their name")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = {}
    for name, forms in NETWORKS.items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found[name] = list(measured(forms(), options.seconds, Path(folder)))
        print(f"\n{name:28}  {'bytes':>12}  {'':6}  {'Lithe ms':>9} {'':6}  {'official':>9}")
        print("\n".join(map(line, found[name])), flush=True)
    result = {"schema": SCHEMA, "date": date.today().isoformat(), "commit": commit(), "machine": machine(),
              "versions": versions(RUNTIMES[1:]), "networks": found}  # fmt: skip
    path = options.output or RESULTS / f"{result['date']}-{(result['commit'] or 'none')[:10]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{path}")


if __name__ == "__main__":
    main()
