"""The search for a recipe: what it finds, what it leaves when it is interrupted, and what it refuses."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import FileMissing, InputError
from lithe.optimize.batches import MOST
from lithe.optimize.repairs.narrowing import MOST as JUDGED
from lithe.optimize.search import Trial, search
from lithe.optimize.search.choices import Choice, layers
from lithe.optimize.search.door import _follow
from lithe.optimize.search.order import Move, Point, moves
from lithe.optimize.search.outcome import Outcome
from tests.optimize.test_quantization import convolution, floats, model

DATA = Path(lithe.__file__).parent / "data"
FLOAT = DATA / "digits_float32.tflite"
FEW = ("float16", "weights_int4", "weights_int2", "dynamic")


@pytest.fixture(scope="module", autouse=True)
def nothing_is_compiled():
    """A search makes dozens of models; here they are small, and run sooner than they are compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITHE_JIT", "0")
        yield


@pytest.fixture(scope="module")
def digits():
    held_out = np.load(DATA / "digits_held_out.npz")
    return (held_out["image"][:100, ..., None] / 16).astype(np.float32), held_out["label"][:100]


def accuracy(made, images, labels):
    made.reset()
    return float(np.mean([np.argmax(made(i[None])) == label for i, label in zip(images, labels, strict=True)]))


@pytest.fixture(scope="module")
def found(digits):
    seen = []
    outcome = search(FLOAT, keep={"accuracy": 0.99}, labelled=digits, schemes=FEW, progress=lambda *n: seen.append(n))
    return outcome, seen


def test_what_is_found_keeps_the_accuracy_and_is_the_smallest_that_was_seen_to(found, digits):
    outcome, seen = found
    float_accuracy = accuracy(lithe.load(FLOAT), *digits)
    assert outcome.exact.accuracy == float_accuracy
    assert accuracy(outcome.model, *digits) == outcome.chosen.accuracy >= 0.99 * float_accuracy
    assert len(bytes(outcome.model)) == outcome.chosen.bytes < outcome.uniform.bytes
    assert outcome.chosen.bytes == min(t.bytes for t in outcome.kept)
    assert bytes(lithe.quantize(FLOAT, recipe=outcome.recipe)) == bytes(outcome.model)
    assert outcome.complete
    assert outcome.answers == len(digits[1])
    assert [done for done, _ in seen] == list(range(1, len(outcome.trials) + 1))
    assert all(done <= expected for done, expected in seen)


def test_each_scheme_is_tried_on_all_layers_and_on_each_alone(found):
    outcome, _ = found
    tried = {str(t.choice) for t in outcome.trials}
    assert tried >= {"float32", *FEW}
    stored = [s for s in FEW if s != "dynamic"]  # which changes how is computed, and so is no scheme of single layers
    assert tried >= {f"float32 but for {layer}: {s}" for layer in ("conv1_out", "conv2_out", "logits") for s in stored}
    front = [(t.bytes, t.accuracy) for t in outcome.front]
    assert front == sorted(front)
    assert [a for _, a in front] == sorted({a for _, a in front})


def test_the_outcome_says_how_sure_it_is(found):
    outcome, _ = found
    low, high = outcome.gain
    assert low < outcome.chosen.accuracy - outcome.exact.accuracy < high
    text = str(outcome)
    assert f"of which {outcome.chosen.lost} were lost and {outcome.chosen.won} won" in text
    assert f"{outcome.chosen.bytes} bytes" in text


def test_intervals_hold_what_they_promise():
    """Of models that lose 4 and win 2 of a hundred answers, 95 % of intervals contain the loss of 2."""
    random = np.random.default_rng(0)
    exact = Trial(Choice("float32"), 100, accuracy=0.9)
    inside = 0
    for _ in range(2000):
        draw = random.random(400)
        lost, won = int((draw < 0.04).sum()), int((draw > 0.98).sum())
        chosen = Trial(Choice("float16"), 50, accuracy=0.88, lost=lost, won=won)
        low, high = Outcome(None, None, chosen, exact, (), 0.9, "size", 400, True).gain
        inside += low <= -0.02 <= high
    assert 0.93 < inside / 2000 < 0.98


def test_a_function_may_judge(digits):
    images, labels = digits[0][:60], digits[1][:60]
    how = {"keep": {"accuracy": 0.99}, "schemes": ("float16", "weights_int4")}
    judged = search(FLOAT, images[:, None][:40], evaluate=lambda m: accuracy(m, images, labels), **how)
    labelled = search(FLOAT, images[:, None][:40], labelled=(images, labels), **how)
    assert judged.chosen.choice.key == labelled.chosen.choice.key
    assert judged.chosen.accuracy == labelled.chosen.accuracy
    assert (judged.gain, judged.answers) == (None, None)


def test_latency_is_measured_and_layers_compute_on_integers(digits, monkeypatch):
    monkeypatch.delenv("LITHE_JIT")  # compiled, 8 bits take half the time
    images, labels = digits[0][:60], digits[1][:60]
    outcome = search(FLOAT, images[:, None][:20], keep={"accuracy": 0.95}, labelled=(images, labels), cost="latency",
                     schemes=("float16", "int8"))  # fmt: skip
    assert all(t.latency > 0 for t in outcome.trials if not t.problem)
    assert outcome.chosen.latency == min(t.latency for t in outcome.kept)
    assert "float32 but for conv2_out: int8" in {str(t.choice) for t in outcome.trials}
    assert "int8 but for conv2_out: float32" in {str(t.choice) for t in outcome.trials}


def test_inputs_of_integers_are_given_the_integers_of_real_samples(digits):
    images, labels = digits[0][:60], digits[1][:60]
    made = search(FLOAT, images[:, None][:20], keep={"accuracy": 0.95}, labelled=(images, labels), schemes=("int8",),
                  inputs="int8", outputs="int8")  # fmt: skip
    assert made.model.inputs["image"].dtype == "int8"
    assert made.chosen.noise < 0.01


def test_the_door_is_lithe_quantize(found, digits, tmp_path):
    done = []
    made = lithe.quantize(FLOAT, keep={"accuracy": 0.5}, labelled=(digits[0][:40], digits[1][:40]),
                          progress=done.append, resume=tmp_path / "state.json")  # fmt: skip
    assert len(bytes(made)) < 0.3 * FLOAT.stat().st_size
    assert done[-1] == len(json.loads((tmp_path / "state.json").read_text())["trials"])


# the order


def test_moves_go_along_the_hull_at_rising_prices():
    points = {
        "a": [Point("s", 10, 1), Point("t", 12, 9), Point("u", 8, 5), Point("v", 14, 5)],
        "b": [Point("s", 10, 0.1), Point("t", 5, 4), Point("u", -3, 0), Point("v", 11, float("inf"))],
    }
    found = moves(points)
    assert [(m.layer, m.scheme) for m in found] == [("b", "s"), ("a", "s"), ("a", "v")]
    assert [m.price for m in found] == pytest.approx([0.01, 0.1, 1.0])


@dataclass
class Additive:
    """Trials of a model that keeps its accuracy as long as the noises of its layers come to at most 1."""

    noise: dict[tuple[str, str], float]
    asked: list[Choice] = field(default_factory=list)

    def whole(self, choice):
        self.asked.append(choice)
        return Trial(choice, 1, 0.0, accuracy=1.0 if self.keeps(choice) else 0.0)

    def keeps(self, choice):
        return sum(self.noise[item] for item in choice.layers.items() if item[1] != "float32") <= 1


def test_what_is_found_is_near_the_best_of_all_mixtures():
    random = np.random.default_rng(5)
    ratios = []
    for _ in range(30):
        names, kinds = [f"layer{i}" for i in range(6)], ("half", "few", "least")
        savings = {(n, k): random.uniform(1, 5) * (i + 1) for n in names for i, k in enumerate(kinds)}
        noise = {(n, k): random.lognormal(-3 + i, 1) for n in names for i, k in enumerate(kinds)}
        trials = Additive(noise)
        order = moves({n: [Point(k, savings[n, k], noise[n, k]) for k in kinds] for n in names})
        _follow(trials, Choice("rest", dict.fromkeys(names, "float32")), order, lambda t: t.accuracy == 1.0)

        def saved(choice, savings=savings):
            return sum(savings[item] for item in choice.layers.items() if item[1] != "float32")

        kept = max(saved(c) for c in trials.asked if trials.keeps(c))
        best = 0.0
        for each in itertools.product(("float32", *kinds), repeat=len(names)):
            choice = Choice("rest", dict(zip(names, each, strict=True)))
            best = max(best, saved(choice) if trials.keeps(choice) else 0.0)
        ratios.append(kept / best)
    assert min(ratios) > 0.85
    assert np.mean(ratios) > 0.95


def test_all_moves_or_none():
    order = [Move("a", "s", 1.0), Move("b", "s", 2.0)]
    for noise, asked in (({("a", "s"): 0, ("b", "s"): 0}, 2), ({("a", "s"): 2, ("b", "s"): 2}, 4)):
        trials = Additive(noise)
        _follow(trials, Choice("rest", {"a": "float32", "b": "float32"}), order, lambda t: t.accuracy == 1.0)
        assert len(trials.asked) == asked
    trials = Additive({})
    _follow(trials, Choice("rest"), [], lambda t: True)
    assert not trials.asked


def test_layers_are_operators_with_weights():
    module = model(lambda b, x: {"y": b("TANH", convolution(b, convolution(b, x)))})
    assert len(layers(module)) == 2


# interruption


class Counting:
    """Judges, and stops the search at a call."""

    def __init__(self, data, stop=None):
        self.data, self.calls, self.stop = data, 0, stop

    def __call__(self, made):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return accuracy(made, *self.data)


def test_an_interrupted_search_goes_on_where_it_was(digits, tmp_path):
    data = digits[0][:50], digits[1][:50]
    how = {"keep": {"accuracy": 0.98}, "schemes": FEW}
    samples = digits[0][:20, None]
    whole = Counting(data)
    wanted = search(FLOAT, samples, evaluate=whole, **how)
    state = tmp_path / "state.json"
    stopped = Counting(data, stop=4)
    with pytest.raises(KeyboardInterrupt):
        search(FLOAT, samples, evaluate=stopped, resume=state, **how)
    kept = json.loads(state.read_text())["trials"]
    assert 3 <= len(kept) < len(wanted.trials)
    again = Counting(data)
    got = search(FLOAT, samples, evaluate=again, resume=state, **how)
    assert [t.choice.key for t in got.trials] == [t.choice.key for t in wanted.trials]
    assert [(t.bytes, t.accuracy) for t in got.trials] == [(t.bytes, t.accuracy) for t in wanted.trials]
    assert got.trials[: len(kept)] == tuple(map(Trial.of_json, kept))
    assert bytes(got.model) == bytes(wanted.model)
    assert again.calls == whole.calls - (stopped.calls - 1) + 1  # the float model is judged once more
    third = Counting(data)
    assert bytes(search(FLOAT, samples, evaluate=third, resume=state, **how).model) == bytes(wanted.model)
    assert third.calls == 1
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


KILLED = """
import os, signal, sys
import numpy as np
import lithe
calls = 0
def judge(model):
    global calls
    calls += 1
    if calls == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0
path, state, out = sys.argv[1:]
samples = [np.full((1, 8, 8, 1), shade, np.float32) for shade in (0, 0.5, 1)]
lithe.quantize(path, samples, keep={"accuracy": 0.99}, evaluate=judge, resume=state).save(out)
"""


def test_a_killed_search_leaves_its_state_and_no_model(tmp_path):
    state, out = tmp_path / "state.json", tmp_path / "out.tflite"
    run = [sys.executable, "-c", KILLED, FLOAT, state, out]
    assert subprocess.run(run, check=False).returncode == -signal.SIGKILL
    assert len(json.loads(state.read_text())["trials"]) == 3
    assert not out.exists()
    samples = [np.full((1, 8, 8, 1), shade, np.float32) for shade in (0, 0.5, 1)]
    lithe.quantize(FLOAT, samples, keep={"accuracy": 0.99}, evaluate=lambda m: 1.0, resume=state).save(out)
    assert out.stat().st_size < FLOAT.stat().st_size


def test_a_state_is_of_one_search(digits, tmp_path):
    data = digits[0][:10], digits[1][:10]
    how = {"keep": {"accuracy": 0.9}, "schemes": ("float16",)}
    state = tmp_path / "state.json"
    search(FLOAT, labelled=data, resume=state, **how)
    before = state.read_bytes()

    def refused(error, message, model=FLOAT, **changed):
        with pytest.raises(error, match=message):
            search(model, **{"labelled": data, "resume": state, **how, **changed})

    refused(InputError, "of another search: of other keep", keep={"accuracy": 0.8})
    refused(InputError, "of another search: of other labels", labelled=(data[0], data[1][::-1]))
    refused(InputError, "of another search: of other samples", labelled=(data[0] / 2, data[1]))
    other = lithe.quantize(FLOAT, recipe="float16")
    refused(InputError, "of another search: of other model", model=other)
    refused(InputError, "accuracy is 0.5, and was", labelled=None, evaluate=lambda m: 0.5, samples=data[0][:, None],
            resume=_with(lambda m: 1.0, data, how, tmp_path / "function.json"))  # fmt: skip
    assert state.read_bytes() == before
    for content in (b"", b"{", b"[]", b'{"schema": "lithe.search/1"}', before[:-20], b"\xff\xfe",
                    b'{"schema": "other", "settings": {}, "trials": []}'):  # fmt: skip
        state.write_bytes(content)
        refused(InputError, "is not the state of a search, or is damaged")
        assert state.read_bytes() == content
    held = json.loads(before)
    held["trials"][0].pop("bytes")
    held["trials"][0]["colour"] = 1
    state.write_text(json.dumps(held))
    refused(InputError, "is not the state of a search, or is damaged")
    refused(InputError, "cannot be written", resume=tmp_path / "nowhere" / "state.json")
    refused(FileMissing, "cannot be opened", resume=tmp_path)


def _with(judge, data, how, state):
    search(FLOAT, data[0][:, None], evaluate=judge, resume=state, **how)
    return state


def test_time_ends_a_search(digits, tmp_path):
    data = digits[0][:10], digits[1][:10]
    how = {"keep": {"accuracy": 0.5}, "labelled": data}
    with pytest.raises(InputError, match="that was tried in the time given"):
        search(FLOAT, seconds=1e-9, **how)
    state = tmp_path / "state.json"
    made = search(FLOAT, resume=state, schemes=("float16", "weights_int4", "dynamic"), **how)
    held = json.loads(state.read_text())
    held["trials"] = held["trials"][:3]
    state.write_text(json.dumps(held))
    ended = search(FLOAT, resume=state, seconds=1e-9, schemes=("float16", "weights_int4", "dynamic"), **how)
    assert made.complete
    assert not ended.complete
    assert "its time had gone" in str(ended)
    assert len(ended.trials) == 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"keep": {"accuracy": 1.5}}, "keep is"),
        ({"keep": {"accuracy": 0}}, "keep is"),
        ({"keep": {"speed": 0.9}}, "keep is"),
        ({"keep": {"accuracy": "much"}}, "keep is"),
        ({"keep": 0.9}, "keep is 0.9"),
        ({"labelled": None}, "judged by a function or on labelled data"),
        ({"evaluate": len}, "judged by a function or on labelled data"),
        ({"labelled": [1]}, "labelled data are a pair"),
        ({"labelled": (np.zeros((2, 8, 8, 1), np.float32), [1])}, "2 samples and 1 labels"),
        ({"labelled": ([], [])}, "no samples and 0 labels"),
        ({"labelled": ((x for x in "ab"), [1, 2])}, "can be run through once"),
        ({"labelled": (np.zeros((1, 8, 8, 1), np.float32), [11])}, "is no label"),
        ({"labelled": (np.zeros((1, 8, 8, 1), np.float32), [0.5])}, "is no label"),
        ({"labelled": (np.zeros((1, 8, 8, 1), np.float32), [[1, 2]])}, "has 2 labels, and the model gives 1"),
        ({"labelled": (np.zeros((1, 8, 8, 2), np.float32), [1])}, "8, 8, 2"),
        ({"labelled": None, "evaluate": lambda m: "good"}, "gave 'good', and a number is needed"),
        ({"labelled": None, "evaluate": lambda m: float("nan")}, "the evaluation gave nan"),
        ({"labelled": None, "evaluate": lambda m: 0.0}, "no share of it can be kept"),
        ({"labelled": None, "evaluate": lambda m: 1.0, "samples": None}, "no samples on which to see"),
        ({"cost": "money"}, "there is no cost 'money'"),
        ({"schemes": ("int7",)}, "there is no scheme 'int7'"),
        ({"seconds": 0}, "seconds is 0"),
        ({"workers": "slurm"}, "there are no workers 'slurm'"),
        ({"workers": "dask://"}, "there are no workers 'dask://'"),
    ],
)
def test_a_mistake_is_one_clear_error(how, message):
    given = {"keep": {"accuracy": 0.9}, "labelled": (np.zeros((1, 8, 8, 1), np.float32), [1]),
             "samples": [np.zeros((1, 8, 8, 1), np.float32)], **how}  # fmt: skip
    with pytest.raises(InputError, match=message):
        search(FLOAT, **given)


class Fewer:
    """Samples that do not say how many they are."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(np.zeros((self.count, 8, 8, 1), np.float32))


@pytest.mark.parametrize(("count", "message"), [(1, "fewer samples than the 2 labels"), (3, "more samples than the 2")])
def test_every_sample_has_a_label(count, message):
    with pytest.raises(InputError, match=message):
        search(FLOAT, keep={"accuracy": 0.9}, labelled=(Fewer(count), [1, 2]))


def test_answers_are_of_one_output():
    two = model(lambda b, x: {"y": b("TANH", x), "z": b("LOGISTIC", x)})
    with pytest.raises(InputError, match="labels are for one output"):
        search(two, keep={"accuracy": 0.9}, labelled=([floats(1, 8, 8, 4)], [1]))


def test_a_search_belongs_to_keep():
    with pytest.raises(InputError, match="labelled belong to a search"):
        lithe.quantize(FLOAT, labelled=([], []))
    with pytest.raises(InputError, match="keep searches for a recipe, and one is given"):
        lithe.quantize(FLOAT, recipe="float16", keep={"accuracy": 0.9})


def test_where_nothing_keeps_the_nearest_is_named(digits):
    float_bytes = FLOAT.stat().st_size

    def judge(made):
        return 1.0 if len(bytes(made)) >= float_bytes else len(bytes(made)) / 1e6

    with pytest.raises(InputError, match=r"nothing cheaper than the float model keeps 0.9 .*nearest is float16"):
        search(FLOAT, digits[0][:4, None], keep={"accuracy": 0.9}, evaluate=judge, schemes=("float16", "dynamic"))


# streams


def test_ten_thousand_samples_are_never_held():
    alive: set[int] = set()
    most = 0

    def samples():
        nonlocal most
        for number in range(10_000):
            sample = np.full((1, 8, 8, 4), number % 7, np.float32)
            alive.add(number)
            weakref.finalize(sample, alive.discard, number)
            most = max(most, len(alive))
            yield sample

    counted = []
    lithe.quantize(model(lambda b, x: {"y": b("MUL", x, x)}), samples(), progress=counted.append)
    assert counted[-1] == 10_000
    assert most <= 2 * MOST + JUDGED, "those that are run together, the next ones, and those that ranges are judged on"
