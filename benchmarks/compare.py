"""Measures a set of models against other runtimes, and writes one result file.

    python benchmarks/compare.py [MODEL ...] [--against official,openvino] [--threads 1,2] [--seconds 2] [--resume]

Without models: the two of the demo; of the corpus of real models those of CORPUS, where it is present; and what
`benchmarks/make_models.py` made, where it did. What is measured and how: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lithe.bench.peers import PEERS, Peer, peers
from lithe.bench.report import Plan, file_name, heading, measure_model, text
from lithe.bench.turns import Comparison
from lithe.errors import ExecutionError, LitheError, MissingDependency

CHECKOUT = Path(__file__).resolve().parents[1]
RESULTS = CHECKOUT / "benchmarks" / "results"
MADE = CHECKOUT / "benchmarks" / "models"
USUAL = ("official", "openvino", "onnxruntime")
CORPUS = {  # folder -> models
    "classification": [
        "mobilenet_v1_0.25_224_float", "mobilenet_v1_0.25_224_quant", "mobilenet_v2_1.0_224_quant",
        "tf2_mobilenet_v2_1.0_224_ptq", "mcunetv2_large",
    ],
    "detection": [
        "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29", "salad1_automl", "traffic_model_recurrent_ssd",
        "yolox_nano_with_post_float32", "mcunet_person_detection",
    ],
    "segmentation": [
        "deeplabv3_mnv2_dm05_pascal_quant", "deeplabv3_257_float_metadata",
    ],
    "pose": [
        "movenet_single_pose_lightning_ptq", "posenet_mobilenet_v1_100_257_int8", "pose_landmark_lite",
        "pose_detection_224_sparse_fp16",
    ],
    "face_hand": [
        "face_detection_front_128_float", "face_landmark_192_float", "face_landmark_192_full_integer_quant",
        "hand_landmark_lite", "hand_landmark_sparse_fp16",
    ],
    "image2image": [
        "style_transfer_quantized_384",
    ],
    "rnn": [
        "mnist_lstm_float", "mnist_lstm_int8", "keras_lstm_mnist_ptq",
    ],
    "audio": [
        "yamnet_audio_classifier_with_metadata", "dtln_model_1_float", "dtln_model_quant_1", "torchaudio_conformer",
        "keyword_scrambled_8bit", "micro_speech_quantized",
    ],
    "mlperf_tiny": [
        "ad01_int8", "kws_ref_model", "pretrainedResnet_quant", "vww_96_int8", "ad01_fp32", "kws_ref_model_float32",
        "pretrainedResnet", "vww_96_float",
    ],
    "wake_word": [
        "mww_v1_alexa", "mww_v2_okay_nabu",
    ],
    "micro": [
        "hello_world_float", "hello_world_int8",
    ],
    "genai": [
        "qwen_fc_blockwise_quantized",
    ],
    "text": [
        "movie_review",
    ],
}  # fmt: skip
LAYERED = {  # models whose steps are measured too
    "tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v2_float32", "mobilenet_v2_int8", "resnet50_float32", "resnet50_int8",
    "mobilenet_v3_small_float32", "efficientnet_b0_int8", "lstm_float32", "lstm_int8", "vit_tiny_float32",
}  # fmt: skip


def default_models(made: Path) -> list[Path]:
    corpus = Path(os.environ.get("LITHE_CORPUS") or CHECKOUT.parent / "shared" / "corpus") / "models"
    found = [corpus / folder / f"{name}.tflite" for folder, names in CORPUS.items() for name in names]
    demo = sorted((CHECKOUT / "src" / "lithe" / "data").glob("*.tflite"))
    return [*demo, *(path for path in found if path.is_file()), *sorted(made.glob("*.tflite"))]


def installed() -> list[Peer]:
    """The usual peers that are installed."""
    found = []
    for name in USUAL:
        try:
            found += peers([name])
        except MissingDependency as error:
            print(f"without {error.where}: {error.hint}", file=sys.stderr)
    return found


def rounded(value: Any) -> Any:
    """Floats with five significant digits: more is noise, and result files are kept."""
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [rounded(item) for item in value]
    return value


def in_a_child(path: Path, plan: Plan, names: list[str]) -> dict[str, Any] | None:
    """The entry of a model, measured in a process of its own; None when that process crashed, as runtimes can."""
    command = [sys.executable, __file__, str(path), "--child", "--against", ",".join(names)]
    command += ["--threads", ",".join(map(str, plan.threads)), "--seconds", str(plan.seconds)]
    command += ["--fresh-rounds", str(plan.fresh_rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode < 0:
        return None
    if done.returncode:
        raise ExecutionError(f"measuring ended with status {done.returncode}", where=path.name)
    entry: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return entry


def measured(path: Path, plan: Plan) -> dict[str, Any]:
    """The entry of a model; a peer that crashes is named in it, and the others are measured without it."""
    names = [peer.name for peer in plan.peers]
    entry = in_a_child(path, plan, names)
    if entry is not None:
        return entry
    once = replace(plan, threads=plan.threads[:1], seconds=0.0, fresh_rounds=0)
    crashing = [name for name in names if in_a_child(path, once, [name]) is None]
    entry = in_a_child(path, plan, [name for name in names if name not in crashing])
    if entry is None:
        raise ExecutionError("the process crashed", where=path.name)
    for turns in entry["turns"]:
        turns["comparisons"] += [asdict(Comparison(name, note="crashes")) for name in crashing]
    return entry


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".part").replace(path)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def child(path: Path, plan: Plan) -> int:
    """Prints the entry of one model as a line of JSON; what Lithe refuses is a note in it."""
    try:
        entry = measure_model(path, plan)
    except LitheError as error:
        entry = {"model": path.name, "note": str(error), "turns": []}
    print(json.dumps(entry))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--against", help=f"of {', '.join(PEERS)}; by default what is installed")
    parser.add_argument("--threads", type=numbers, default=(1, 2), help="numbers of threads, 1,2 by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the turns last, for each model and number")
    parser.add_argument("--fresh-rounds", type=int, default=3, help="processes for start-up and memory; 0: none")
    parser.add_argument("--made", type=Path, default=MADE, help="the folder that make_models.py wrote into")
    parser.add_argument("--output", type=Path, help="the result file; by default its name says date, commit and CPU")
    parser.add_argument("--resume", action="store_true", help="measure what the result file has not, and add it")
    parser.add_argument(
        "--stop-after", type=float, default=float("inf"), metavar="SECONDS", help="end early, see --resume"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        against = [name for name in (options.against or "").split(",") if name]
        found = installed() if options.against is None else peers(against)
    except LitheError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, MissingDependency) else 2
    if options.child:
        (path,) = options.models
        layered = path.stem in LAYERED and options.seconds > 0
        plan = Plan(tuple(found), options.threads, options.seconds, options.fresh_rounds, layered)
        return child(path, plan)
    result = heading(found)
    output = options.output or RESULTS / file_name(result)
    if options.resume and output.exists():
        result = json.loads(output.read_text(encoding="utf-8"))
    models = options.models or default_models(options.made)
    known, started = {entry["model"] for entry in result["models"]}, time.monotonic()
    failed = 0
    for number, path in enumerate(p for p in models if p.name not in known):
        if number and time.monotonic() - started > options.stop_after:
            print("stopped early; --resume goes on", file=sys.stderr)
            return 4
        plan = Plan(tuple(found), options.threads, options.seconds, options.fresh_rounds)
        try:
            entry = measured(path, plan)
        except LitheError as error:
            entry = {"model": path.name, "note": str(error), "turns": []}
        if "note" in entry:
            failed += 1
            print(f"{path.name}: {entry['note']}", file=sys.stderr)
        else:
            print(text(entry), flush=True)
        result["models"].append(entry)
        write(output, result)
    print(output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
