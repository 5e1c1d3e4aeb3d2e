"""Start-up and memory in processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lithe.bench import fresh
from lithe.bench.fresh import FROM_CACHE, FROM_NOTHING, measure_fresh, peak_bytes
from lithe.bench.peers import PEERS, Peer
from lithe.errors import ExecutionError

DIGITS = Path(__file__).resolve().parents[2] / "src" / "lithe" / "data" / "digits_int8.tflite"


def test_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Peer("other format", "", "", "", PEERS["official"].load, ".missing")
    found = measure_fresh(DIGITS, [other], rounds=1)
    assert set(found) == {FROM_NOTHING, FROM_CACHE}
    for facts in found.values():
        assert 0 < facts.first_ms < facts.process_ms
        assert (facts.above_file_bytes is not None) == (sys.platform == "linux")


def test_a_peer_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_child", child_without_official)
    assert set(measure_fresh(DIGITS, [PEERS["official"]], rounds=2)) == {FROM_NOTHING, FROM_CACHE}


def child_without_official(arguments: list[str], cache: str) -> dict[str, float]:
    if arguments[0] == "official" and len(arguments) > 1:
        raise ExecutionError("no kernel")
    return {"peak": 5e6 if len(arguments) == 1 else 9e6, "first_ms": 1.0, "process_ms": 2.0}


def test_memory_is_that_above_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "_child", child_without_official)
    assert measure_fresh(DIGITS, [], rounds=1)[FROM_CACHE].above_file_bytes == 4_000_000 - DIGITS.stat().st_size


def test_a_child_may_write_byte_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    seen: dict[str, str] = {}

    def run(command: list[str], *, env: dict[str, str], **_: object) -> SimpleNamespace:
        seen.update(env)
        return SimpleNamespace(returncode=0, stdout='{"peak": 1}')

    monkeypatch.setattr(fresh.subprocess, "run", run)
    assert fresh._child(["lithe"], str(tmp_path))["peak"] == 1
    assert "PYTHONDONTWRITEBYTECODE" not in seen
    assert seen["LITHE_CACHE_DIR"] == str(tmp_path)
    first = Path(seen["PYTHONPATH"].split(os.pathsep)[0])
    assert first.name == "site-packages"
    assert (first / "lithe" / "__init__.py").exists()


def test_what_a_child_says_last_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="missing"):
        fresh._child(["lithe", str(tmp_path / "missing.tflite"), "1"], str(tmp_path))


def test_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        assert peak_bytes() > 1_000_000
    monkeypatch.setattr(fresh, "STATUS", tmp_path / "status")
    assert peak_bytes() is None
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t     12 kB\n")
    assert peak_bytes() == 12288
