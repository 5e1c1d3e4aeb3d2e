"""Read, write, run by the official runtime: real models give the same bytes as their original files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lithe.formats.tflite import open_model, read, save
from lithe.ir.graph import Module, Tensor
from tests.conftest import corpus_folder

SAMPLE = (
    "micro/hello_world_int8", "micro/split_concat", "control_state_signature/two_signatures", "seanet_int16/add0",
    "control_state_signature/feedback_tensor_test_model", "rnn/mnist_lstm_int8", "mlperf_tiny/kws_ref_model",
    "classification/mobilenet_v1_0.25_128_quant", "ops/simple_composite", "text/movie_review",
)  # fmt: skip

# Runs both files with the official builtin kernels on the same seeded input; exit 3: it refuses the original.
COMPARE = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
def draw(d, rng):
    if d["dtype"] in (bytes, str, np.bytes_, np.object_): return np.full(d["shape"], b"hello world", object)
    dtype = np.dtype(d["dtype"])
    if dtype.kind == "f": return rng.uniform(-1, 1, d["shape"]).astype(dtype)
    if dtype.kind == "b": return rng.integers(0, 2, d["shape"]).astype(bool)
    info = np.iinfo(dtype)
    low, high = (info.min, info.max + 1) if dtype.itemsize <= 2 else (0, 2)
    return rng.integers(low, high, d["shape"]).astype(dtype)
def run(path):
    it = Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    it.allocate_tensors()
    found = [it.get_signature_list()]
    for step in range(2):
        rng = np.random.default_rng(step)
        for d in it.get_input_details(): it.set_tensor(d["index"], draw(d, rng))
        it.invoke()
        for d in it.get_output_details():
            y = it.get_tensor(d["index"])
            found.append((d["name"], y.shape, str(y.dtype), repr(y.tolist()) if y.dtype.kind in "OSU" else y.tobytes()))
    return found
try: want = run(sys.argv[1])
except (RuntimeError, ValueError): sys.exit(3)
sys.exit(0 if run(sys.argv[2]) == want else 4)
"""


def contents(t: Tensor) -> object:
    if t.data is None:
        return None
    return t.data.tolist() if t.data.dtype == object else t.data.tobytes()


def kept(module: Module) -> list[object]:
    """What must not change, except for the versions that a writer computes."""
    graphs = []
    for g in module.graphs:
        tensors = [(t.name, t.type, t.is_variable, t.shape_signature, contents(t)) for t in g.tensors]
        nodes = [(n.op.name, n.attrs, [t and t.index for t in n.inputs], [t.index for t in n.outputs]) for n in g.nodes]
        graphs.append((g.name, tensors, nodes, [t.index for t in (*g.inputs, *g.outputs)]))
    signatures = [
        (s.key, s.graph, *({k: t.index for k, t in side.items()} for side in (s.inputs, s.outputs)))
        for s in module.signatures
    ]
    entries = {k: v for k, v in module.metadata.items() if k not in ("min_runtime_version", "buffer_location")}
    return [graphs, signatures, entries, dict(module.extras.get("associated_files", {})), module.description]


def official_verdict(original: Path, written: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, original, written], capture_output=True, timeout=300, check=False
    )
    if done.returncode < 0:  # the official runtime crashes; on the original alone as well?
        alone = subprocess.run(
            [sys.executable, "-c", COMPARE, original, original], capture_output=True, timeout=300, check=False
        )
        return "refused" if alone.returncode < 0 else "crash"
    return {0: "same", 3: "refused", 4: "different"}.get(done.returncode, done.stderr.decode()[-300:])


def check(path: Path, tmp_path: Path) -> str:
    module = open_model(path)
    save(module, tmp_path / "written.tflite")
    assert kept(read((tmp_path / "written.tflite").read_bytes())) == kept(module)
    return official_verdict(path, tmp_path / "written.tflite")


@pytest.mark.parametrize("name", SAMPLE)
def test_real_models_survive(name: str, corpus: Path, official: object, tmp_path: Path):
    assert check(corpus / "models" / f"{name}.tflite", tmp_path) == "same"


@pytest.mark.slow
def test_the_whole_corpus_survives(corpus: Path, official: object, tmp_path: Path):
    verdicts = {p.name: check(p, tmp_path) for p in sorted((corpus / "models").rglob("*.tflite"))}
    assert {k: v for k, v in verdicts.items() if v not in ("same", "refused")} == {}
    assert sum(v == "same" for v in verdicts.values()) >= 184
    assert len(verdicts) == 200


def malformed() -> list[Path]:
    folder = corpus_folder()
    return (
        []
        if folder is None
        else sorted(p for p in (folder / "runtime_testdata").rglob("*") if p.suffix in (".tflite", ".bin"))
    )


def test_small_and_malformed_files_are_read_or_refused(corpus: Path):
    from lithe.errors import ModelError

    outcomes = {"read": 0, "refused": 0}
    for path in malformed():
        try:
            open_model(path)
        except ModelError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert outcomes["read"] >= 185
    assert outcomes["read"] + outcomes["refused"] == len(malformed()) > 200


def test_signed_zero_and_special_floats_are_kept_bit_for_bit(tmp_path: Path):
    from tests.formats.models import add_model, buffer

    values = np.array([-0.0, np.nan, np.inf, 1e-45], "<f4")
    data = add_model(lambda m: m.buffers.__setitem__(1, buffer(values.tobytes())))
    save(read(data), tmp_path / "m.tflite")
    assert open_model(tmp_path / "m.tflite").main.tensors[1].data.tobytes() == values.tobytes()
