"""Result files: what is in them, what kind a model is of, and the page made from them."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lithe.bench import kind, machine
from lithe.bench.charts import Mark, Row, Scale, dots, number, scale_for
from lithe.bench.dashboard import dashboard, main, read_results
from lithe.bench.kind import kind_of
from lithe.bench.machine import commit
from lithe.bench.report import Plan, file_name, heading, measure_model, text
from lithe.errors import FileMissing, InputError

DATA = Path(__file__).resolve().parents[2] / "src" / "lithe" / "data"
DIGITS = DATA / "digits_int8.tflite"


def comparison(peer: str, ratio: float | None, agrees: bool = True, note: str = "") -> dict[str, Any]:
    known = ratio is not None
    return {
        "peer": peer, "ms": 2.0 if known else None, "ratio": ratio, "ratio_10": ratio and ratio * 0.9,
        "ratio_90": ratio and ratio * 1.2, "agrees": agrees if known else None, "difference": 0.0 if known else None,
        "note": note,
    }  # fmt: skip


def result(date: str = "2026-02-03T04:05:06+00:00", ratio: float = 0.5) -> dict[str, Any]:
    steps = [
        {"number": 0, "source": "op #0 CONV_2D", "output": "int8[1, 8]", "us": 10.0, "macs": 1_000_000, "bytes": 5000,
         "floor_us": 7.0, "limit": "int8", "gmacs": 100.0, "fraction": 0.7},
        {"number": 1, "source": "op #1 SOFTMAX", "output": "int8[1, 8]", "us": 0.0, "macs": 0, "bytes": 16,
         "floor_us": 0.0, "limit": "", "gmacs": 0.0, "fraction": 0.0},
    ]  # fmt: skip
    peaks = {"macs": {"int8": 2e11}, "levels": [{"name": "L1", "capacity": 32768, "bytes_a_second": 1e11}]}
    turns = {"threads": 1, "turns": 9, "lithe_ms": 1.0, "lithe_10_ms": 0.9, "lithe_90_ms": 1.1}
    models = [
        {"model": "fast<b>.tflite", "bytes": 1000, "kind": "int8 CNN",
         "turns": [{**turns, "comparisons": [comparison("official", ratio), comparison("openvino", 1.5, False)]}],
         "fresh": {"lithe from cache": {"first_ms": 3.0, "process_ms": 50.0, "above_file_bytes": -100},
                   "official": {"first_ms": 5.0, "process_ms": 60.0, "above_file_bytes": None}},
         "layers": {"model": "fast<b>.tflite", "whole_us": 10.0, "peaks": peaks, "layers": steps}},
        {"model": "odd.tflite", "bytes": 1000, "load": 9.5, "kind": "small",
         "layers": {"note": "not compiled as a whole"},
         "turns": [{**turns, "comparisons": [comparison("onnxruntime", None, note="not applicable: no .onnx")]}]},
        {"model": "broken.tflite", "note": "damaged", "turns": []},
    ]  # fmt: skip
    return {
        "schema": "lithe.bench/1", "date": date, "commit": "abc", "versions": {"lithe": "0"}, "models": models,
        "machine": {"name": "A CPU (R) 9", "vendor": "", "family": 1, "model": 2, "cores": 2, "caches": {"L1": 32768},
                    "features": ["avx2"], "system": "Linux"},
    }  # fmt: skip


class Strict(HTMLParser):
    """Fails for an end tag that closes another than the innermost open element."""

    EMPTY = frozenset({"meta", "line", "circle", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.EMPTY

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words_of(page: str) -> str:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return " ".join(parser.words)


def test_the_page_shows_wins_losses_and_notes() -> None:
    page = dashboard([result()])
    words = words_of(page)
    for shown in (
        "fast<b>",
        "0.500",
        "1.500",
        "not applicable: no .onnx",
        "damaged",
        "op #0 CONV_2D",
        "70%",
        "9.5 programs at once",
    ):
        assert shown in words
    assert "class='n loss'>1.500" in page
    assert "class='n win'>0.500" in page
    assert "This needs two result files" in words
    assert "http" not in page
    assert "<script" not in page


def test_a_result_is_compared_with_the_one_before() -> None:
    page = dashboard([result("2026-01-01T00:00:00+00:00", 0.8), result()])
    assert "ratio 0.800 before, 0.500 now" in words_of(page)
    other = copy.deepcopy(result())
    other["models"] = other["models"][1:]
    assert "no model in common" in dashboard([other, result()])


def test_read_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileMissing, match="make bench"):
        read_results(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(result("2026-03-01T00:00:00+00:00")))
    (tmp_path / "b.json").write_text(json.dumps(result("2026-02-01T00:00:00+00:00")))
    assert [r["date"][:7] for r in read_results(tmp_path)] == ["2026-02", "2026-03"]
    assert main([str(tmp_path), str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(InputError, match="schema"):
        read_results(tmp_path)
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InputError, match="not a result file"):
        read_results(tmp_path)


def test_the_results_that_are_kept_make_a_page() -> None:
    folder = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
    if not list(folder.glob("*.json")):
        pytest.skip("no result files")
    words_of(dashboard(read_results(folder)))


def test_charts_keep_what_lies_beyond_their_reach() -> None:
    chart = dots([Row("far", (Mark(1e-9, 1e-9, 1e9, "blue", "far"),))], str, line=1.0)
    assert 'cx="' in chart
    assert scale_for([], 0, 10).low > 0
    scale = Scale(1, 100, 0, 10)
    assert (scale(1), scale(10), scale(1000)) == (0, 5, 10)
    assert scale.ticks() == [1, 2, 5, 10, 20, 50, 100]


def test_numbers() -> None:
    assert [number(x) for x in (0, 0.001234, 1.5, 12.345, 1234.5)] == ["0", "0.00123", "1.5", "12.3", "1,234"]


def test_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind_of(DIGITS) == "small"
    monkeypatch.setattr(kind, "SMALL", 0)
    assert kind_of(DIGITS) == "int8 CNN"
    assert kind_of(DATA / "digits_float32.tflite") == "float32 CNN"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("classification/mobilenet_v2_1.0_224_quant", "uint8 CNN"),
        ("classification/mobilenet_v2_035_96_embedder_with_metadata", "dynamic range CNN"),
        ("pose/pose_landmark_lite", "float16 weights CNN"),
        ("face_hand/hand_landmark_sparse_fp16", "sparse float16 weights CNN"),
        ("rnn/mnist_lstm_int8", "int8 recurrent"),
        ("audio/torchaudio_conformer", "float32 encoder"),
    ],
)
def test_kinds_of_real_models(corpus: Path, name: str, expected: str) -> None:
    assert kind_of(corpus / "models" / f"{name}.tflite") == expected


def test_measure_model(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = measure_model(DIGITS, Plan(seconds=0.0, fresh_rounds=1, layers=True))
    assert set(entry) - {"load"} == {"model", "bytes", "kind", "turns", "fresh", "layers"}
    shown = text(entry)
    assert "1 thread(s)" in shown
    assert "lithe from cache" in shown


def test_text_shows_what_differs_and_what_cannot_run() -> None:
    shown = text(result()["models"][0])
    assert "ratio 0.500 (0.450 .. 0.600; below 1 lithe is faster), outputs agree" in shown
    assert "outputs DIFFER" in shown
    assert "onnxruntime: not applicable" in text(result()["models"][1])


def test_a_model_that_is_not_compiled_as_a_whole_says_so(corpus: Path) -> None:
    path = corpus / "models" / "control_state_signature" / "two_signatures.tflite"
    entry = measure_model(path, Plan(seconds=0.0, layers=True))
    assert "layers" in entry["layers"] or entry["layers"]["note"].startswith("not compiled as a whole")


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="there is no file"):
        measure_model(tmp_path / "missing.tflite", Plan())
    for threads in ((), (0,)):
        with pytest.raises(InputError, match="threads"):
            measure_model(DIGITS, Plan(threads=threads))


def test_heading_and_file_name() -> None:
    facts = heading([])
    assert facts["schema"] == "lithe.bench/1"
    assert "lithe" in facts["versions"]
    assert file_name(result()) == "2026-02-03-abc-a-cpu-r-9.json"
    assert file_name({**result(), "commit": ""}) == "2026-02-03-unknown-a-cpu-r-9.json"


def test_a_commit_is_known_only_where_git_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == ""
    monkeypatch.setenv("PATH", "")
    assert commit() == ""
