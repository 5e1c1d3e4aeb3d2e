"""Measures quantizing side by side with other quantizers: how near to the float model, how long it takes.

    python benchmarks/quantization.py [MODEL ...] [--corpus FOLDER] [--peer-python PYTHON] [--without PEER]

Without models: every float model of the corpus (LITHE_CORPUS, or ../shared/corpus), where there is one. Each model gets
the same samples from all: pictures from the corpus where it takes pictures, else numbers from a seeded generator, those
that look up rows of a table from all of its rows. Each quantizer runs in a process of its own, from the model's file to
the file that it writes; imports are not counted. All results are judged in the official runtime: signal-to-noise in dB
at each float output against the float model, on samples that were not calibrated with, averaged over outputs. Results
of quantizers that are left out stay in the file.

    ai-edge-quantizer    its recipes static_wi8_ai8 and dynamic_wi8_afp32; run by --peer-python, where it is installed
    tensorflow           the converter's calibrator and quantizer, on the float model's file
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results" / "quantization"
RECIPES = ("int8", "dynamic")
CALIBRATED, JUDGED = 100, 32
MOST_DB = 120.0  # of results that are the same
LEAST_PICTURE = 32
LESS_THAN = 10  # integers that nothing else is known of
Samples = list[list[np.ndarray]]


# what the models are given


def samples(path: Path, pictures: list[Path], count: int) -> Samples:
    """Arrays in the order of the model's inputs, `count` times; the same ones each time."""
    import lithe
    from lithe.tasks.described import wanted_inputs

    model = lithe.load(path, cache=False)
    wanted = list(wanted_inputs(model, model.inputs).values())
    rows = _rows_looked_up(model.module.main)
    limits = [rows.get(t, LESS_THAN) for t in model.module.main.inputs]
    random = np.random.default_rng(0)
    made = [
        [_given(random, tuple(max(1, d) for d in info.shape), info.dtype, limit, w, pictures)
         for info, limit, w in zip(model.inputs.values(), limits, wanted, strict=True)]
        for _ in range(count)
    ]  # fmt: skip
    model(*made[0])
    return made


def _rows_looked_up(graph: Any) -> dict[Any, int]:
    """How many rows the smallest table has that the integers of a tensor are places in."""
    rows: dict[Any, int] = {}

    def at_most(t: Any, count: int) -> None:
        if count > 0:
            rows[t] = min(rows.get(t, count), count)

    for node in reversed(graph.nodes):
        if node.op.name == "GATHER":
            table, places = node.inputs
            at_most(places, table.type.shape[node.attrs.axis])
        elif node.op.name == "EMBEDDING_LOOKUP":
            places, table = node.inputs
            at_most(places, table.type.shape[0])
        elif (node.op.keeps_scale or node.op.name == "CAST") and node.outputs[0] in rows:
            for t in node.inputs:
                at_most(t, rows[node.outputs[0]])
    return rows


def _given(
    random: np.random.Generator, shape: tuple[int, ...], dtype: str, limit: int, wanted: Any, pictures: list[Path]
) -> Any:
    if not dtype.startswith("float"):
        return random.integers(0, 2 if dtype == "bool" else limit, shape).astype(dtype)
    if pictures and len(shape) == 4 and shape[3] == 3 and min(shape[1:3]) >= LEAST_PICTURE:
        shown = np.stack([_crop(random, pictures[random.integers(len(pictures))], shape[1:3]) for _ in range(shape[0])])
        mean, std = (np.asarray(v, np.float32) for v in (wanted.mean or (0.0,), wanted.std or (255.0,)))
        return ((shown - mean) / std).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def _crop(random: np.random.Generator, file: Path, size: tuple[int, int]) -> np.ndarray:
    """A part of a picture in float32, 0 to 255."""
    from PIL import Image

    picture = Image.open(file).convert("RGB")
    share = random.uniform(0.5, 1)
    width, height = int(picture.width * share), int(picture.height * share)
    left, top = random.integers(picture.width - width + 1), random.integers(picture.height - height + 1)
    part = picture.crop((int(left), int(top), int(left) + width, int(top) + height))
    return np.asarray(part.resize((size[1], size[0])), np.float32)


# who quantizes: each is imported before its time is taken


def ours(recipe: str, ranges: str = "") -> Callable[[Path, Samples], bytes]:
    import flatbuffers  # noqa: F401
    import llvmlite.binding  # noqa: F401
    import numpy.random  # noqa: F401

    import lithe.optimize.recipe_files  # noqa: F401
    from lithe import ops
    from lithe.formats import tflite
    from lithe.optimize.quantization import quantize

    for family in ops.FAMILIES:  # which are imported when a model has one of them
        importlib.import_module(f"lithe.ops.{family}")
    return lambda path, given: tflite.write(quantize(path, list(map(tuple, given)), recipe, ranges=ranges).module)


def ai_edge_quantizer(recipe: str) -> Callable[[Path, Samples], bytes]:
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]
    from ai_edge_quantizer import quantizer  # type: ignore[import-not-found]
    from ai_edge_quantizer import recipe as recipes

    chosen = {"int8": recipes.static_wi8_ai8, "dynamic": recipes.dynamic_wi8_afp32}[recipe]()

    def quantize(path: Path, given: Samples) -> bytes:
        made = quantizer.Quantizer(str(path), chosen)
        seen = None
        if made.need_calibration:
            official = Interpreter(str(path))
            signatures = official.get_signature_list()
            key = next(iter(signatures), None)
            runner = official.get_signature_runner(key)  # it takes only models with signatures to calibrate
            names = [n for n, d in sorted(runner.get_input_details().items(), key=lambda item: item[1]["index"])]
            order = np.argsort(np.argsort([d["index"] for d in official.get_input_details()]))
            data = [{name: sample[i] for name, i in zip(names, np.argsort(order), strict=True)} for sample in given]
            seen = made.calibrate({key or "serving_default": data})
        return bytes(made.quantize(seen).quantized_model)

    return quantize


def tensorflow(recipe: str) -> Callable[[Path, Samples], bytes]:
    """Of its recipes, it does on a file only the one with ranges."""
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    def quantize(path: Path, given: Samples) -> bytes:
        return bytes(mlir_quantize(Calibrator(path.read_bytes()).calibrate(lambda: iter(given))))

    return quantize


def ours_guarded(recipe: str) -> Callable[[Path, Samples], bytes]:
    return ours(recipe, "guarded_error")


NOT_DONE = {("tensorflow", "dynamic"), ("lithe guarded_error", "dynamic")}
QUANTIZERS = {
    "lithe": ours,
    "lithe guarded_error": ours_guarded,
    "ai-edge-quantizer": ai_edge_quantizer,
    "tensorflow": tensorflow,
}


PEERS = ("ai-edge-quantizer", "tensorflow")
PAIRS = [(mine, peer) for mine in QUANTIZERS if mine not in PEERS for peer in PEERS]


def quantized(name: str, recipe: str, path: Path, given: Path, out: Path) -> dict[str, Any]:
    """What one quantizer made of a model, in this process."""
    quantize = QUANTIZERS[name](recipe)
    arrays = _loaded(given)[:CALIBRATED]
    begun = time.perf_counter()
    data = quantize(path, arrays)
    seconds = time.perf_counter() - begun
    out.write_bytes(data)
    return {"seconds": seconds, "bytes": len(data)}


def _loaded(file: Path) -> Samples:
    with np.load(file) as arrays:
        count = 1 + max(int(key.split("_")[0]) for key in arrays)
        inputs = 1 + max(int(key.split("_")[1]) for key in arrays)
        return [[arrays[f"{i}_{k}"] for k in range(inputs)] for i in range(count)]


# who judges


def judged(path: Path, other: Path, given: Path) -> dict[str, Any]:
    """How near a quantized model is to the float one in the official runtime."""
    arrays = _loaded(given)[CALIBRATED:]
    wanted, got = list(_run(path, arrays)), list(_run(other, arrays))
    decibels = []
    for outputs in zip(zip(*wanted, strict=True), zip(*got, strict=True), strict=True):
        want, have = (np.concatenate([np.ravel(a) for a in side]) for side in outputs)
        if want.dtype.kind != "f" or want.shape != have.shape or not np.isfinite(want).all():
            continue
        signal, noise = ((a.astype(np.float64) ** 2).sum() for a in (want, want - have))
        if signal:
            decibels.append(min(MOST_DB, float(10 * np.log10(signal / max(noise, 1e-300)))))
    if not _has_integers(other):
        return {"error": "nothing was quantized"}
    return {"decibels": statistics.fmean(decibels) if decibels else None, "outputs": decibels}


def _has_integers(path: Path) -> bool:
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(str(path)).get_tensor_details()
    return any(len(d["quantization_parameters"]["scales"]) and d["dtype"] in (np.int8, np.int16) for d in details)


def _run(path: Path, arrays: Samples) -> Iterator[list[np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    details = interpreter.get_input_details()
    for d, array in zip(details, arrays[0], strict=True):
        interpreter.resize_tensor_input(d["index"], array.shape)
    interpreter.allocate_tensors()
    for sample in arrays:
        for d, array in zip(interpreter.get_input_details(), sample, strict=True):
            interpreter.set_tensor(d["index"], _stored(array, d))
        interpreter.invoke()
        yield [_real(interpreter.get_tensor(d["index"]), d) for d in interpreter.get_output_details()]


def _stored(array: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    if not scale or array.dtype.kind != "f":
        return array.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def _real(array: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    scale, zero = details["quantization"]
    return np.float32(scale) * (array.astype(np.float32) - zero) if scale and array.dtype.kind in "iu" else array


# the whole


def in_a_child(python: str, arguments: list[str], limit: int) -> dict[str, Any]:
    """What this file prints in a process of its own; {"error": ...} where that does not end well."""
    try:
        done = subprocess.run(
            [python, __file__, "--child", *arguments], capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {limit} s"}
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return {"error": f"status {done.returncode}" if done.returncode < 0 else "".join(last)[:300] or "no result"}
    return dict(json.loads(lines[-1]))


def measured(
    path: Path, names: list[str], recipes: list[str], pictures: list[Path], peer: str, limit: int
) -> dict[str, Any]:
    """The entry of one model: for each recipe and quantizer, decibels, seconds and bytes, or what went wrong."""
    entry: dict[str, Any] = {"model": path.stem, "bytes": path.stat().st_size}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "samples.npz"
        try:
            made = samples(path, pictures, CALIBRATED + JUDGED)
        except Exception as error:
            return entry | {"error": f"{type(error).__name__}: {error}"[:300]}
        np.savez(given, **{f"{i}_{k}": a for i, sample in enumerate(made) for k, a in enumerate(sample)})
        for recipe in recipes:
            for name in [n for n in names if (n, recipe) not in NOT_DONE]:
                out = Path(folder) / f"{name}.tflite"
                out.unlink(missing_ok=True)
                python = peer if name == "ai-edge-quantizer" else sys.executable
                found = in_a_child(python, ["quantize", name, recipe, str(path), str(given), str(out)], limit)
                if "error" not in found:
                    found |= in_a_child(sys.executable, ["judge", str(path), str(out), str(given)], limit)
                entry.setdefault(recipe, {})[name] = found
    return entry


def is_float(path: Path) -> bool:
    """Whether a model computes with real numbers alone: none is stored as integers, weights neither."""
    import lithe

    try:
        module = lithe.load(path, cache=False).module
    except lithe.LitheError:
        return False
    tensors = [t for g in module.graphs for n in g.nodes for t in (*n.inputs, *n.outputs) if t is not None]
    reals = any(t.type.dtype.is_float for g in module.graphs for n in g.nodes for t in n.outputs)
    return reals and not any(t.type.quantization is not None and t.type.dtype.is_integer for t in tensors)


def summary(entries: list[dict[str, Any]]) -> list[str]:
    """Lines that compare with each peer: how many models, medians, the worst losses."""
    lines = []
    for recipe in RECIPES:
        for mine, name in PAIRS:
            found = [(e["model"], e[recipe]) for e in entries if {mine, name} <= e.get(recipe, {}).keys()]
            pairs = [(model, made[mine], made[name]) for model, made in found]
            both = [(m, a, b) for m, a, b in pairs if a.get("decibels") is not None and b.get("decibels") is not None]
            if not both:
                continue
            gains = sorted((a["decibels"] - b["decibels"], m) for m, a, b in both)
            ratios = sorted((a["seconds"] / b["seconds"], m) for m, a, b in both)
            alone = sum("decibels" in a and "decibels" not in b for _, a, b in pairs)
            typical, lost = statistics.median(g for g, _ in gains), sum(g < -0.5 for g, _ in gains)
            worst = ", ".join(f"{m} {g:+.2f}" for g, m in gains[:5])
            typical_time, longest = statistics.median(r for r, _ in ratios), ratios[-1]
            title = f"{recipe}: {mine} against {name}"
            lines += [
                f"{title}: {len(both)} models, median {typical:+.2f} dB, {lost} lower by over 0.5 dB",
                f"  least {worst}",
                f"  time {typical_time:.2f} of theirs, at most {longest[0]:.2f} ({longest[1]})",
                f"  {alone} more models that it does not do",
            ]
    return lines


def _child(arguments: list[str]) -> int:
    kind, *rest = arguments
    if kind == "quantize":
        name, recipe, *files = rest
        print(json.dumps(quantized(name, recipe, *map(Path, files))))
    else:
        print(json.dumps(judged(*map(Path, rest))))
    return 0


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return _child(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument(
        "--corpus", type=Path, default=os.environ.get("LITHE_CORPUS") or CHECKOUT.parent / "shared" / "corpus"
    )
    parser.add_argument("--peer-python", default="", help="a Python in which ai-edge-quantizer is installed")
    parser.add_argument("--without", default="", help="quantizers to be left out, as a,b")
    parser.add_argument("--recipes", default=",".join(RECIPES), help="recipes to be measured, as a,b")
    parser.add_argument("--most-megabytes", type=float, default=1000.0, help="larger models are left out")
    parser.add_argument("--limit", type=int, default=300, help="seconds that one step of one model may take")
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "corpus.json", help="where results are written; kept ones stay"
    )
    given = parser.parse_args()
    corpus = Path(given.corpus)
    models = given.models or sorted((corpus / "models").rglob("*.tflite"), key=lambda path: path.stat().st_size)
    if not models:
        print(f"no models: '{corpus}' has none; name some, or set LITHE_CORPUS", file=sys.stderr)
        return 0
    pictures = sorted(p for p in (corpus / "data" / "images").glob("*") if p.suffix in (".jpg", ".bmp"))
    names = [
        n for n in QUANTIZERS if n not in given.without.split(",") and (given.peer_python or n != "ai-edge-quantizer")
    ]
    given.json.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(given.json.read_text())["models"] if given.json.exists() else []
    entries = {e["model"]: e for e in kept}
    for path in models:
        if path.stat().st_size > given.most_megabytes * 1e6 or (not given.models and path.stem in entries):
            continue
        if not is_float(path):
            continue
        entry = measured(path, names, given.recipes.split(","), pictures, given.peer_python, given.limit)
        before = entries.get(path.stem, {})
        entries[path.stem] = entry | {r: before.get(r, {}) | entry[r] for r in RECIPES if r in entry}
        print(json.dumps(entries[path.stem]), flush=True)
        written = {"samples": CALIBRATED, "judged_on": JUDGED, "models": list(entries.values())}
        given.json.write_text(json.dumps(written, indent=1) + "\n")
    for line in summary(list(entries.values())):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
