"""inspect, benchmark, validate, doctor, cache, demo, completion: on the models that the package carries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lithe.cli import cache, completion, demo, doctor
from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "code"))


def test_inspect(lithe: Command, digits: Path) -> None:
    ended = lithe("inspect", digits / "digits_int8.tflite")
    assert ended.code == 0
    for text in ("CONV_2D", "FULLY_CONNECTED", "int8[1, 8, 8, 1]", "working memory", "serving_default(image)"):
        assert text in ended.out
    facts = lithe("inspect", digits / "digits_int8.tflite", "--json").json
    assert facts["schema"] == "lithe.inspect/1"
    assert facts["operator_counts"]["CONV_2D"] == 2
    assert facts["signatures"] == {
        "serving_default": {"inputs": {"image": "int8[?, 8, 8, 1]"}, "outputs": {"probability": "int8[?, 10]"}}
    }


def test_inspect_shows_metadata_and_files(lithe: Command, corpus: Path) -> None:
    model = corpus / "models" / "classification" / "mobilenet_v2_1.0_224_quant.tflite"
    assert "imagenet_labels.txt" in lithe("inspect", model).out
    facts = lithe("inspect", model, "--json").json
    assert facts["metadata"]["inputs"][0]["normalization"]["mean"]


def test_benchmark(lithe: Command, digits: Path) -> None:
    ended = lithe("benchmark", digits / "digits_float32.tflite", "--num_runs", 5, "--warmup-runs", 1)
    assert ended.code == 0
    assert "inference, median" in ended.out
    facts = lithe("benchmark", digits / "digits_float32.tflite", "--num-runs", 5, "--json").json
    assert facts["schema"] == "lithe.benchmark/1"
    assert facts["runs"] == 5
    assert 0 < facts["min_ms"] <= facts["median_ms"] < facts["first_ms"] * 1000


def test_validate(lithe: Command, digits: Path) -> None:
    good = digits / "digits_int8.tflite"
    assert lithe("validate", good).code == 0
    facts = lithe("validate", good, "--json").json
    assert facts["valid"] is True
    assert facts["operators"] == 4
    bad = digits / "bad.tflite"
    bad.write_bytes(good.read_bytes()[:3000])
    ended = lithe("validate", bad)
    assert ended.code == 4
    assert str(bad) in ended.out
    facts = lithe("validate", bad, "--json").json
    assert facts["valid"] is False
    assert facts["reasons"][0]["problem"]
    assert lithe("validate", digits / "absent.tflite").code == 4


def test_validate_names_operators_without_a_rule(lithe: Command, digits: Path) -> None:
    from lithe.formats import tflite
    from lithe.ops import unknown

    module = tflite.read((digits / "digits_float32.tflite").read_bytes())
    module.main.nodes[3].op, module.main.nodes[3].attrs = unknown("Sparkle", None), {}
    (digits / "odd.tflite").write_bytes(tflite.write(module))
    ended = lithe("validate", digits / "odd.tflite")
    assert ended.code == 4
    assert "Sparkle" in ended.out


def test_doctor(lithe: Command) -> None:
    ended = lithe("doctor")
    assert ended.code == 0, ended.out
    for name in ("python", "processor", "numpy", "llvmlite", "code cache", "compiler", "Pillow"):
        assert name in ended.out
    facts = lithe("doctor", "--json").json
    assert facts["healthy"] is True
    assert {check["status"] for check in facts["checks"]} <= {"ok", "missing"}


def test_doctor_says_what_to_install(lithe: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    ended = lithe("doctor")
    assert ended.code == 0
    assert 'pip install "lithe[image]"' in ended.out


def test_doctor_reports_a_missing_package_and_a_cache_that_is_off(
    lithe: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor.version

    def absent(name: str) -> str:
        if name == "ml_dtypes":
            raise doctor.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "version", absent)
    monkeypatch.setenv("LITHE_CACHE", "0")
    ended = lithe("doctor")
    assert ended.code == 1
    assert "pip install ml_dtypes" in ended.out
    assert "LITHE_CACHE=0" in ended.out


def test_doctor_reports_a_broken_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    import lithe

    def broken(*_: object, **__: object) -> None:
        raise lithe.CompileError("the compiler hung", hint="try again")

    monkeypatch.setattr(lithe, "load", broken)
    check = doctor._compiled()
    assert (check.status, check.value, check.fix) == ("failed", "the compiler hung", "try again")


def test_cache_list_and_clear(lithe: Command, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(digits / "cache"))
    assert lithe("cache", "list").out.startswith("0 entries")
    lithe("run", digits / "digits_int8.tflite", "--input", digits / "seven.npy")
    facts = lithe("cache", "list", "--json").json
    assert facts["schema"] == "lithe.cache/1"
    assert len(facts["entries"]) >= 1
    assert facts["bytes"] == sum(entry["bytes"] for entry in facts["entries"])
    assert facts["entries"][0]["name"] in lithe("cache", "list").out
    assert lithe("cache", "clear", "--json").json["removed"] == len(facts["entries"])
    assert cache.contents()["entries"] == []
    assert lithe("cache", "clear").out.startswith("removed 0 entries")


def test_demo(lithe: Command) -> None:
    ended = lithe("demo", "--number", 3)
    assert ended.code == 0, ended.err
    for text in ("digits_float32", "digits_int8", "accuracy", "Try next:", *demo.next_commands()):
        assert text in ended.out
    assert "@@" in ended.out
    facts = lithe("demo", "--number", 3, "--json").json
    assert facts["schema"] == "lithe.demo/1"
    assert [m["digits"] for m in facts["models"]] == [359, 359]
    assert all(m["right"] >= 350 for m in facts["models"])


def test_demo_works_without_the_official_runtime(lithe: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert "not installed" in lithe("demo").out


def test_demo_saves_what_its_next_commands_use(lithe: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in demo.next_commands():
        ended = lithe(*line.split()[1:])
        assert ended.code == 0, ended.err
    assert sorted(p.name for p in (tmp_path / "digits").iterdir()) == [
        "digit.npy", "digits_float32.tflite", "digits_int8.tflite",
    ]  # fmt: skip
    assert len(lithe("demo", "--save", "digits", "--json").json["saved"]) == 3


def test_demo_names_the_command_as_it_can_be_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo.sys, "executable", str(tmp_path / "env" / "bin" / "python"))
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    assert demo.next_commands()[0].startswith("lithe ")
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "lithe").write_text("")
    assert demo.next_commands()[0].startswith("env/bin/lithe ")


def test_demo_refuses_bad_numbers_and_folders(lithe: Command, tmp_path: Path) -> None:
    assert lithe("demo", "--number", 359).code == 2
    (tmp_path / "file").write_text("")
    assert lithe("demo", "--save", tmp_path / "file").code == 4


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(lithe: Command, shell: str) -> None:
    assert "_LITHE_COMPLETE" in lithe("completion", shell).out
    assert lithe("completion", shell, "--json").json["shell"] == shell


def test_completion_of_an_unknown_shell(lithe: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lithe("completion", "tcsh").code == 2
    monkeypatch.setattr(completion, "get_completion_class", lambda shell: None)
    assert lithe("completion", "bash").code == 2


def test_nothing_is_fetched_from_the_network(digits: Path) -> None:
    code = (
        "import socket, sys\n"
        "def never(*_, **__): raise SystemExit('the network was used')\n"
        "socket.socket.connect = never\n"
        "from lithe.cli.main import main\n"
        f"sys.exit(main(['demo']) or main(['doctor']) or main(['inspect', {str(digits / 'digits_int8.tflite')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_benchmark_shows_every_step(lithe: Command, digits: Path) -> None:
    ended = lithe("benchmark", digits / "digits_int8.tflite", "--layers")
    assert ended.code == 0
    for shown in ("measured peaks of one core", "op #0 CONV_2D", "reached"):
        assert shown in ended.out
    facts = lithe("benchmark", digits / "digits_int8.tflite", "--layers", "--json").json
    assert facts["schema"] == "lithe.layers/1"
    assert facts["layers"][0]["macs"] == 4608


def test_benchmark_against_the_official_runtime(lithe: Command, digits: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    model = digits / "digits_int8.tflite"
    arguments = ("benchmark", model, "--against", "official", "--threads", "1,2", "--seconds", 0.01)
    ended = lithe(*arguments, "--layers")
    assert ended.code == 0
    assert "below 1 lithe is faster" in ended.out
    assert "measured peaks of one core" in ended.out
    facts = lithe(*arguments, "--json").json
    assert facts["schema"] == "lithe.bench/1"
    assert [turns["threads"] for turns in facts["models"][0]["turns"]] == [1, 2]


def test_benchmark_refuses(lithe: Command, digits: Path) -> None:
    model = digits / "digits_int8.tflite"
    assert lithe("benchmark", model, "--against", "nobody").code == 4
    for wrong in (("--threads", "0"), ("--threads", "a"), ("--threads", "1,2"), ("--fresh",)):
        assert lithe("benchmark", model, *wrong).code == 2
