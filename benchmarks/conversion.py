"""Measures `lithe.convert` against TensorFlow's converter: time, memory, operators, and how fast the files run.

    python benchmarks/conversion.py [NETWORK ...] [--rounds 3] [--all] [--output FILE]

Needs Keras, JAX, TensorFlow and the official runtime in one environment. Networks: `benchmarks/networks.py`. What is
measured and how: docs/benchmarks.md. The result is one JSON file, and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks import FULL_SIZE, MORE, NETWORKS, SMALL, build, chain, weight_bytes

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results" / "conversion"  # not among those of runtimes, which a page shows
SCHEMA = "lithe.conversion/1"
LITHE, ON_TENSORFLOW, PEER = "lithe", "lithe on tensorflow", "tensorflow"
BACKENDS = {LITHE: "jax", ON_TENSORFLOW: "tensorflow", PEER: "tensorflow"}
TURN_S, LEAST_TURNS = 0.01, 11


# in a process of its own


def converter(tool: str) -> Callable[[Any, Path], None]:
    """What converts a Keras model and writes the file; importing what it needs is not part of it."""
    if tool == PEER:
        import tensorflow

        def by_tensorflow(model: Any, path: Path) -> None:
            path.write_bytes(tensorflow.lite.TFLiteConverter.from_keras_model(model).convert())

        return by_tensorflow
    import lithe
    import lithe.conversion.door

    return lambda model, path: lithe.convert(model).save(str(path))


def memory(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def convert_one(tool: str, name: str, path: Path, warm: bool) -> dict[str, float]:
    """Converts in this process.

    warm  after a conversion of one layer, so that code is loaded and memory shows what the model takes.
    """
    started = time.perf_counter()
    convert = converter(tool)
    import keras  # noqa: F401

    imported = time.perf_counter()
    if warm:
        convert(chain((4,), lambda k: [k.Dense(4), k.LayerNormalization()]), path)
    model = build(name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, began = memory("VmRSS"), time.perf_counter()
    convert(model, path)
    return {
        "import_s": imported - started,
        "convert_s": time.perf_counter() - began,
        "growth_bytes": memory("VmHWM") - before,
        "weight_bytes": weight_bytes(model),
    }


def convert_many(tool: str, names: Sequence[str], folder: Path) -> dict[str, str]:
    """Converts small networks, one after the other; why not, for those where it failed."""
    import keras

    convert, problems = converter(tool), {}
    for name in names:
        try:
            convert(build(name), folder / file_name(name, tool))
        except Exception as error:  # whatever a converter raises for what it does not take
            problems[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
        keras.backend.clear_session()
    return problems


def latency(ours: Path, theirs: Path, seconds: float) -> dict[str, float]:
    """Both files in the official runtime with one thread, in turns; and how far their outputs are apart."""
    import numpy as np

    from lithe.bench.turns import random_inputs

    runs, outputs = [], []
    arrays = list(random_inputs(ours)[0].values())
    for path in (ours, theirs):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
        runs.append(interpreter.invoke)
    calls = [max(1, round(TURN_S / per_call(run, 5))) for run in runs]
    samples: list[list[float]] = [[], []]
    finish = time.perf_counter() + seconds
    while time.perf_counter() < finish or len(samples[0]) < LEAST_TURNS:
        order = (0, 1) if len(samples[0]) % 2 else (1, 0)
        for i in order:
            samples[i].append(per_call(runs[i], calls[i]))
    apart = max(
        float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in zip(*outputs, strict=True) if a.size
    )
    return {
        "lithe_ms": statistics.median(samples[0]) * 1e3,
        "tensorflow_ms": statistics.median(samples[1]) * 1e3,
        "ratio": statistics.median(a / b for a, b in zip(*samples, strict=True)),
        "turns": len(samples[0]),
        "difference": apart,
    }


def per_call(run: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return max((time.perf_counter() - started) / calls, 1e-7)


# here


def file_name(name: str, tool: str) -> str:
    return f"{name}.{tool.replace(' ', '_')}.tflite"


def in_a_child(task: str, *arguments: object, backend: str = "") -> tuple[Any, float]:
    """What a function of this file gives in a process of its own, and how long that process lived."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path[1:])}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    command = [sys.executable, __file__, "--child", task, json.dumps(arguments, default=str)]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(f"{task} {arguments}: {lines[-1] if lines else done.returncode}")
    return json.loads(done.stdout.splitlines()[-1]), taken


def child(task: str, arguments: list[Any]) -> Any:
    match task:
        case "one":
            tool, name, path, warm = arguments
            return convert_one(tool, name, Path(path), warm)
        case "many":
            tool, names, folder = arguments
            return convert_many(tool, names, Path(folder))
        case "latency":
            ours, theirs, seconds = arguments
            return latency(Path(ours), Path(theirs), seconds)
    raise SystemExit(f"no task {task}")


def operators(path: Path, steps: int) -> dict[str, int]:
    """in_file: of all graphs. run: where what lies in a loop counts once for each step."""
    from lithe.formats import tflite

    graphs = tflite.read(path.read_bytes()).graphs
    inner = sum(len(g.nodes) for g in graphs[1:])
    return {"in_file": len(graphs[0].nodes) + inner, "run": len(graphs[0].nodes) + steps * inner}


def timed(name: str, folder: Path, rounds: int, tools: Sequence[str]) -> dict[str, Any]:
    """Times of conversion in fresh processes that take turns, and the memory of one more process each."""
    samples: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    for _ in range(rounds):
        for tool in tools:
            found, whole = in_a_child("one", tool, name, folder / file_name(name, tool), False, backend=BACKENDS[tool])
            samples[tool].append(found | {"process_s": whole})
    entry: dict[str, Any] = {}
    for tool, found in samples.items():
        warm, _ = in_a_child("one", tool, name, folder / file_name(name, tool), True, backend=BACKENDS[tool])
        entry[tool] = {k: statistics.median(s[k] for s in found) for k in ("import_s", "convert_s", "process_s")}
        entry[tool] |= {"memory_of_weights": warm["growth_bytes"] / warm["weight_bytes"],
                        "first_memory_of_weights": found[0]["growth_bytes"] / found[0]["weight_bytes"]}  # fmt: skip
    return entry


def compared(name: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Operators and speed of the two files."""
    paths = [folder / file_name(name, tool) for tool in (LITHE, PEER)]
    steps = NETWORKS[name].steps
    entry: dict[str, Any] = {
        "operators": {tool: operators(p, steps) for tool, p in zip((LITHE, PEER), paths, strict=True)}
    }
    entry["latency"], _ = in_a_child("latency", *paths, seconds)
    return entry


def line(name: str, entry: dict[str, Any]) -> str:
    text = f"{name:24}"
    if "operators" in entry:
        ours, theirs = (entry["operators"][tool] for tool in (LITHE, PEER))
        text += f" operators {ours['in_file']:4} / {theirs['in_file']:4} (run {ours['run']:4} / {theirs['run']:5})"
        found = entry["latency"]
        text += f"  speed {found['lithe_ms']:8.3f} / {found['tensorflow_ms']:8.3f} ms = {found['ratio']:.3f}"
        text += f"  apart {found['difference']:.0e}"
    for tool, found in entry.get("conversion", {}).items():
        text += f"\n    {tool:20} converts in {found['convert_s']:6.2f} s, with imports"
        text += f" {found['convert_s'] + found['import_s']:6.2f} s; memory {found['memory_of_weights']:5.1f} x weights"
        text += f" (in a new process {found['first_memory_of_weights']:5.1f} x)"
    return text + f"{'  ' + entry['note'] if 'note' in entry else ''}"


def summary(result: dict[str, Any]) -> str:
    entries = {k: v for k, v in result["networks"].items() if "latency" in v}
    ratios = [entry["latency"]["ratio"] for entry in entries.values()]
    more = [name for name, e in entries.items() if e["operators"][LITHE]["in_file"] > e["operators"][PEER]["in_file"]]
    run = [name for name, e in entries.items() if e["operators"][LITHE]["run"] > e["operators"][PEER]["run"]]
    return (
        f"{len(entries)} networks: median ratio of speed {statistics.median(ratios):.3f}, largest {max(ratios):.3f};"
        f" more operators in the file: {', '.join(more) or 'none'}; more run: {', '.join(run) or 'none'}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", choices=[[], *NETWORKS], metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--all", action="store_true", help=f"also {', '.join(MORE)}")
    parser.add_argument("--rounds", type=int, default=3, help="processes for the time of each conversion")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long both files take turns")
    parser.add_argument("--output", type=Path, help="the result file; by default its name says date, commit and CPU")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, arguments = options.child
        print(json.dumps(child(task, json.loads(arguments))))
        return 0
    from lithe.bench.machine import versions
    from lithe.bench.report import file_name as result_name
    from lithe.bench.report import heading

    result: dict[str, Any] = heading([]) | {"schema": SCHEMA, "networks": {}}
    result["versions"] = versions([]) | packages("keras", "jax", "tensorflow", "ai-edge-litert")
    output = options.output or RESULTS / result_name(result)
    names = options.networks or [*FULL_SIZE, *(MORE if options.all else ()), *SMALL]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        small = [name for name in names if not NETWORKS[name].timed]
        problems: dict[str, str] = {}
        for tool in (LITHE, PEER) if small else ():
            found, _ = in_a_child("many", tool, small, folder, backend=BACKENDS[tool])
            problems |= {name: f"{tool}: {why}" for name, why in found.items()}
        for name in names:
            entry: dict[str, Any] = {}
            if NETWORKS[name].timed:
                rounds = options.rounds if name in list(FULL_SIZE)[:2] else 1
                entry["conversion"] = timed(name, folder, rounds, (LITHE, ON_TENSORFLOW, PEER))
            entry |= {"note": problems[name]} if name in problems else compared(name, folder, options.seconds)
            result["networks"][name] = entry
            print(line(name, entry), flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    result.pop("models", None)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(summary(result))
    print(output)
    return 0


def packages(*names: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
