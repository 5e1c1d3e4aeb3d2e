"""Workers of Dask and Ray, embedded on this machine: what they find is what is found without."""

from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import InputError, MissingDependency, StateError
from lithe.optimize.calibration import SPREAD
from lithe.optimize.search import search
from lithe.optimize.workers import Here, opened

FLOAT = Path(lithe.__file__).parent / "data" / "digits_float32.tflite"
KINDS = {"dask": "distributed", "ray": "ray"}


@pytest.fixture(scope="module")
def digits():
    held_out = np.load(FLOAT.parent / "digits_held_out.npz")
    return (held_out["image"][..., None] / 16).astype(np.float32), held_out["label"]


@pytest.fixture(scope="module", params=KINDS)
def workers(request):
    pytest.importorskip(KINDS[request.param], reason=f"{request.param} is not installed")
    with opened(request.param) as team:
        yield team


def _scaled(item, common):
    if item < 0:
        raise InputError("less than 0")
    return item * common


def test_results_come_in_order_and_items_are_taken_a_few_ahead(workers):
    taken = []

    def items():
        for n in range(200):
            taken.append(n)
            yield n

    results = workers.map(_scaled, items(), workers.share(3))
    assert next(results) == 0
    assert len(taken) < 100
    assert list(results) == [3 * n for n in range(1, 200)]


def test_errors_come_out_as_they_are(workers):
    with pytest.raises(InputError, match=r"^less than 0$"):
        list(workers.map(_scaled, [1, -1], workers.share(3)))


@pytest.mark.parametrize(
    ("ranges", "repairs"),
    [("min_max", ()), ("entropy", ()), ("moving_average", ()), ("min_max", None)],
)
def test_samples_are_shared(workers, digits, ranges, repairs):
    samples = [digits[0][i : i + 1] for i in range(2 * SPREAD + 7)]
    seen: list[int] = []
    how = {"ranges": ranges, "repairs": repairs}
    shared = bytes(lithe.quantize(FLOAT, iter(samples), workers=workers, progress=seen.append, **how))
    assert seen == [SPREAD, 2 * SPREAD, 2 * SPREAD + 7]
    made = lithe.load(shared, cache=False)
    alone = lithe.quantize(FLOAT, samples, **how)
    in_any_order = ranges != "moving_average" and repairs == ()  # sums of parts are rounded otherwise than those of all
    assert shared == bytes(alone) or not in_any_order
    for image in digits[0][:20]:
        np.testing.assert_allclose(made(image[None]), alone(image[None]), atol=0.01)


def test_a_sample_that_does_not_fit_is_named_by_its_number(workers, digits):
    samples = [digits[0][i : i + 1] for i in range(SPREAD)] + [np.full((1, 8, 8, 1), np.nan, np.float32)]
    with pytest.raises(InputError, match=f"sample {SPREAD} gives NaN"):
        lithe.quantize(FLOAT, samples, workers=workers)


def test_a_search_finds_the_same(workers, digits):
    how = {"keep": {"accuracy": 0.99}, "labelled": (digits[0][:300], digits[1][:300]),
           "schemes": ("float16", "weights", "dynamic")}  # fmt: skip
    shared = search(FLOAT, workers=workers, **how)
    alone = search(FLOAT, **how)
    assert bytes(shared.model) == bytes(alone.model)
    known = {t.choice.key: t for t in alone.trials}
    assert {t.choice.key for t in shared.trials} == set(known)
    for t in shared.trials:
        other = known[t.choice.key]
        assert (t.bytes, t.lost, t.won) == (other.bytes, other.lost, other.won)
        assert t.noise == pytest.approx(other.noise, rel=1e-6)


def test_a_function_judges_on_a_worker(workers):
    wanted = search(FLOAT, [np.zeros((1, 8, 8, 1), np.float32)], keep={"accuracy": 0.99}, evaluate=lambda model: 0.5,
                    schemes=("float16",), workers=workers)  # fmt: skip
    assert wanted.chosen.accuracy == 0.5


def test_a_scheduler_is_reached_by_its_address(digits):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(processes=False, n_workers=1, dashboard_address=":0", protocol="tcp",
                                  host="127.0.0.1") as cluster:  # fmt: skip
        address = cluster.scheduler_address.removeprefix("tcp://")
        samples = [digits[0][i : i + 1] for i in range(9)]
        shared = lithe.quantize(FLOAT, samples, repairs=(), workers=f"dask://{address}")
        assert bytes(shared) == bytes(lithe.quantize(FLOAT, samples, repairs=()))


def test_where_nobody_answers_that_is_said(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("lithe.optimize.workers.PATIENCE_S", 0.5)
    with pytest.raises(StateError, match=r"nobody answers at dask://127.0.0.1:9"), opened("dask://127.0.0.1:9"):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_named(kind, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == KINDS[kind]:
            raise ImportError(f"no {name}")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=rf"lithe\[{kind}\]"), opened(kind):
        pass


def test_nobody_is_a_worker_too():
    with opened(None) as team:
        assert isinstance(team, Here)
        assert list(team.map(_scaled, [1, 2], team.share(2))) == [2, 4]
