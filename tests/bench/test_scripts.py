"""The scripts under benchmarks/: they find models, go on where they stopped, and say what is missing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from lithe.bench.peers import PEERS
from lithe.errors import ExecutionError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DATA = BENCHMARKS.parent / "src" / "lithe" / "data"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_files_that_would_be_made_are_listed() -> None:
    listed = run(BENCHMARKS / "make_models.py", "--list").stdout.split()
    assert len(listed) == len(set(listed)) > 30
    for name in (
        "mobilenet_v2_int16x8",
        "resnet50_int8",
        "vit_tiny_dynamic",
        "gru_float32",
        "mobilenet_v1_pruned_sparse",
    ):
        assert f"{name}.tflite" in listed


def test_making_models_needs_tensorflow(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed")
    ended = run(BENCHMARKS / "make_models.py", tmp_path / "models")
    assert ended.returncode == 3
    assert "pip install tensorflow tf_keras" in ended.stderr


def test_pictures_have_the_spectrum_of_photographs() -> None:
    import numpy as np

    picture = next(script("make_models").pictures(64, 0.0, 255.0))
    assert picture.shape == (1, 64, 64, 3)
    assert 0 <= picture.min() < picture.max() <= 255
    grey = picture[0].mean(-1)
    assert np.abs(np.diff(grey, axis=0)).mean() < 0.7 * grey.std()  # neighbours are alike: 1.13 in white noise


def test_compare_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    compare = [BENCHMARKS / "compare.py", "--output", tmp_path / "r.json", "--against", "official"]
    compare += ["--threads", "1", "--seconds", "0.01", "--fresh-rounds", "0", "--resume"]
    both = sorted(DATA.glob("*.tflite"))
    first = run(*compare, "--stop-after", "0", *both)
    assert first.returncode == 4, first.stderr
    assert len(json.loads((tmp_path / "r.json").read_text())["models"]) == 1
    assert run(*compare, *both).returncode == 0
    models = json.loads((tmp_path / "r.json").read_text())["models"]
    assert [m["model"] for m in models] == [path.name for path in both]
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"nothing")
    assert run(*compare, damaged).returncode == 1
    assert "note" in json.loads((tmp_path / "r.json").read_text())["models"][-1]


def test_a_peer_that_crashes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = script("compare")
    plan = compare.Plan(tuple(PEERS.values()))

    def in_a_child(path: Path, plan: object, names: list[str]) -> dict[str, object] | None:
        return None if "official" in names else {"model": path.name, "turns": [{"comparisons": [{"peer": "openvino"}]}]}

    monkeypatch.setattr(compare, "in_a_child", in_a_child)
    (turns,) = compare.measured(Path("a.tflite"), plan)["turns"]
    assert [(c["peer"], c.get("note")) for c in turns["comparisons"]] == [("openvino", None), ("official", "crashes")]
    monkeypatch.setattr(compare, "in_a_child", lambda *_: None)
    with pytest.raises(ExecutionError, match="the process crashed"):
        compare.measured(Path("a.tflite"), plan)


def test_what_a_child_ends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = script("compare")
    plan = compare.Plan()
    ended = {"returncode": -6, "stdout": ""}
    monkeypatch.setattr(compare.subprocess, "run", lambda *_, **__: SimpleNamespace(**ended))
    assert compare.in_a_child(Path("a.tflite"), plan, []) is None
    ended["returncode"] = 2
    with pytest.raises(ExecutionError, match="status 2"):
        compare.in_a_child(Path("a.tflite"), plan, [])
    ended.update(returncode=0, stdout='something\n{"model": "a"}\n')
    assert compare.in_a_child(Path("a.tflite"), plan, []) == {"model": "a"}


def test_compare_refuses_an_unknown_peer() -> None:
    ended = run(BENCHMARKS / "compare.py", "--against", "nobody")
    assert ended.returncode == 2
    assert "there is no peer 'nobody'" in ended.stderr


def test_models_that_are_there_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = script("compare")
    (tmp_path / "made.tflite").touch()
    monkeypatch.setenv("LITHE_CORPUS", str(tmp_path / "no corpus"))
    assert [path.name for path in compare.default_models(tmp_path)] == [
        "digits_float32.tflite", "digits_int8.tflite", "made.tflite",
    ]  # fmt: skip


def test_every_model_of_the_corpus_list_is_there(corpus: Path) -> None:
    compare = script("compare")
    named = [corpus / "models" / f / f"{n}.tflite" for f, names in compare.CORPUS.items() for n in names]
    assert [path.name for path in named if not path.is_file()] == []


def test_figures_are_rounded() -> None:
    assert script("compare").rounded({"a": [1.234567, 3, "x", (0.00001234567,)]}) == {
        "a": [1.2346, 3, "x", [1.2346e-05]]
    }


def test_forms_of_a_model_are_measured_in_turns(tmp_path: Path) -> None:
    import lithe
    from lithe.optimize import compact, prune

    smaller = script("smaller")
    plain = lithe.load(DATA / "digits_float32.tflite")
    forms = {"dense": plain, "half": prune(plain, 0.5), "alone": compact(prune(plain, 0.5), reader="lithe")}
    found = list(smaller.measured(forms, 0.0, tmp_path))
    assert [entry["form"] for entry in found] == list(forms)
    assert found[0]["bytes_of_dense"] == 1
    assert found[1]["bytes"] == (tmp_path / "1.tflite").stat().st_size < found[0]["bytes"]
    assert all(entry["lithe"]["turns"] >= 5 for entry in found)
    assert all(smaller.line(entry) for entry in found)
