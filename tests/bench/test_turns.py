"""Runtimes in turns: outputs are compared, and a peer that cannot take part says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from lithe.bench import turns
from lithe.bench.peers import LITHE, PEERS, Loaded, ONNXSession, Peer, peers
from lithe.bench.turns import difference, measure_turns, random_inputs
from lithe.errors import InputError, MissingDependency
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops import REGISTRY
from lithe.runtime.model import Model
from lithe.types import STRING, TensorType

DATA = Path(__file__).resolve().parents[2] / "src" / "lithe" / "data"
DIGITS = DATA / "digits_int8.tflite"


class Biased:
    """Lithe's own results, some steps off."""

    def __init__(self, loaded: Loaded, by: int) -> None:
        self.loaded, self.by, self.run = loaded, by, loaded.run

    def feed(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.loaded.feed(arrays)

    def results(self, names: Sequence[str]) -> list[np.ndarray]:
        return [result.astype(np.int64) + self.by for result in self.loaded.results(names)]


def biased(by: int) -> Callable[[Path, int], Loaded]:
    return lambda path, threads: Biased(LITHE.load(path, threads), by)


def refuses(path: Path, threads: int) -> Loaded:
    raise RuntimeError("details\n\nno kernel for this")


def test_difference() -> None:
    steps, reals = np.array([1, 2, 3], np.int8), np.array([1.0, -2.0], np.float32)
    assert difference([steps], [steps + 1]) == (1.0, True)
    assert difference([steps], [steps + 2]) == (2.0, False)
    assert difference([reals], [reals + np.float32(1e-4)])[1]
    assert not difference([reals], [reals + np.float32(1e-3)])[1]
    assert not difference([reals], [np.array([1.0, np.nan], np.float32)])[1]
    assert difference([steps], [steps[:2]]) == (float("inf"), False)
    assert difference([steps[:0]], [steps[:0]]) == (0.0, True)


def test_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TURN_S", 1e-5)
    others = [
        Peer("same", "", "", "", biased(1)),
        Peer("far", "", "", "", biased(2)),
        Peer("refuses", "", "", "", refuses),
        Peer("other format", "", "", "", refuses, ".missing"),
    ]
    result = measure_turns(DIGITS, others, seconds=0.0)
    same, far, refused, other = result.comparisons
    assert result.turns == turns.LEAST_TURNS
    assert same.agrees is True
    assert far.agrees is False
    assert far.difference == 2
    for found in (same, far):
        assert found.ratio_10 <= found.ratio <= found.ratio_90
        assert found.ms > 0
    assert refused.ratio is None
    assert refused.note == "cannot run it: no kernel for this"
    assert other.note == "not applicable: there is no digits_int8.missing beside the model"
    assert result.to_dict()["comparisons"][1]["peer"] == "far"


def test_ratios_are_those_of_a_turn() -> None:
    samples = {"lithe": [1.0, 4.0, 9.0], "peer": [2.0, 2.0, 3.0]}
    found = turns._compared(turns.Comparison("peer"), samples)
    assert (found.ratio, found.ratio_10, found.ratio_90) == (2.0, 0.5, 3.0)
    assert found.ms == 2000.0


def test_random_inputs() -> None:
    arrays, outputs = random_inputs(DIGITS)
    assert arrays["image"].dtype == np.int8
    assert arrays["image"].min() < -100
    assert outputs == ["probability"]
    again, _ = random_inputs(DIGITS)
    assert np.array_equal(arrays["image"], again["image"])


def test_no_random_text(tmp_path: Path) -> None:
    x = Tensor("x", TensorType(STRING, (1,)))
    reshape = REGISTRY.by_name["RESHAPE"]
    y = Tensor("y", TensorType(STRING, (1, 1)))
    graph = Graph("main", [x], [y], [x, y], [Node(reshape, reshape.Attrs(new_shape=(1, 1)), [x], [y])])
    path = tmp_path / "text.tflite"
    Model(Module([graph])).save(path)
    with pytest.raises(InputError, match="no random string"):
        random_inputs(path)


def test_unknown_peer() -> None:
    with pytest.raises(InputError, match="no peer 'tvm'"):
        peers(["tvm"])


def test_missing_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "absent", Peer("absent", "A runtime", "absent-runtime", "absent_runtime", refuses))
    with pytest.raises(MissingDependency, match="pip install absent-runtime"):
        peers(["absent"])


# Peers that the fast tests do not install; `make test-slow` does.
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("onnxruntime", "openvino", "openvino-strict")]


def test_every_peer_is_tried() -> None:
    assert {"official", "lithe-fast", *(p.values[0] for p in LARGE)} == set(PEERS)


@pytest.mark.parametrize("name", ["official", "lithe-fast", *LARGE])
def test_peer_runs_the_demo(name: str) -> None:
    try:
        (peer,) = peers([name])
    except MissingDependency:
        pytest.skip(f"{name} is not installed")
    if peer.suffix != ".tflite":
        assert peer.file(DIGITS) is None
        return
    arrays, outputs = random_inputs(DIGITS)
    found = []
    for one in (LITHE, peer):
        loaded = one.load(DIGITS, 1)
        loaded.feed(arrays)
        loaded.run()
        found.append(loaded.results(outputs))
    assert difference(*found)[1]


class FakeSession:
    """As much of onnxruntime.InferenceSession as is used."""

    class Input:
        name, shape = "x", [1, 2]

    def get_inputs(self) -> list[Input]:
        return [self.Input()]

    def run(self, names: None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [feeds["x"] + 1]


def test_onnx_session() -> None:
    session = ONNXSession(FakeSession())
    session.feed({"other name": np.zeros((1, 2), np.float32)})
    session.run()
    assert session.results(["y"])[0].tolist() == [[1, 1]]
    with pytest.raises(InputError, match=r"the .onnx takes \[\(1, 2\)\], the .tflite \[\(1, 3\)\]"):
        session.feed({"x": np.zeros((1, 3), np.float32)})
