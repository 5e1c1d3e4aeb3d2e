"""`tune`: every way to write a kernel has the same numbers, and what was measured once is not measured again."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import CompileError, InputError
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module
from lithe.lower import lower
from lithe.lower.schedule import USUAL, choices
from lithe.passes import prepare
from lithe.runtime import tuning
from lithe.runtime.compilation import this_target
from lithe.runtime.delegate import OpResolverType
from lithe.runtime.instance import Options
from lithe.runtime.model import Model
from tests.llvm_backend import run
from tests.passes.graphs import Draft

DATA = Path(lithe.__file__).parent / "data"
INTEGERS, FLOATS = DATA / "digits_int8.tflite", DATA / "digits_float32.tflite"
RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))


def digit(model: Model) -> np.ndarray:
    (info,) = model.inputs.values()
    values = np.random.default_rng(3).uniform(0, 1, (1, 8, 8, 1))
    return info.quantize(values) if info.dtype == "int8" else values.astype(np.float32)


def answer(path: Path, **options: object) -> np.ndarray:
    model = lithe.load(path, **options)
    return model(digit(model))


def never(*_: object) -> None:
    raise AssertionError("nothing was to be measured")


# numbers


def residual_block() -> Graph:
    d = Draft()
    x = d.input((1, 9, 10, 16))
    weights, bias = d.constant(RANDOM.normal(size=(16, 3, 3, 16)) / 12), d.constant(RANDOM.normal(size=16))
    y = d("CONV_2D", x, weights, bias, padding="SAME")
    depthwise = d.constant(RANDOM.normal(size=(1, 3, 3, 16)) / 3)
    z = d("DEPTHWISE_CONV_2D", d("ADD", x, y), depthwise, bias, padding="SAME", depth_multiplier=1)
    joined = d("CONCATENATION", z, y, axis=3)
    return d.graph(d("CONV_2D", joined, d.constant(RANDOM.normal(size=(70, 1, 1, 32))), d.constant(np.zeros(70))))


def sparse_layer() -> Graph:
    d = Draft()
    weights = RANDOM.normal(size=(64, 1, 1, 128)) * (RANDOM.uniform(size=(64, 1, 1, 128)) < 0.05)
    return d.graph(d("CONV_2D", d.input((1, 16, 16, 128)), d.constant(weights), d.constant(np.zeros(64))))


def of_file(path: Path) -> Graph:
    return tflite.read(path.read_bytes()).main


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (lambda: of_file(INTEGERS), True), (lambda: of_file(FLOATS), False), (residual_block, False),
        (sparse_layer, False),
    ],
)  # fmt: skip
def test_every_choice_has_the_same_numbers(make, exact: bool, fast: bool) -> None:
    graph, target = prepare(make()), this_target("fast" if fast else "strict")
    if fast and target.float_dot is None:
        pytest.skip("nothing is faster than float32 here")
    values = [
        (
            RANDOM.integers(-99, 99, t.type.shape) if t.type.dtype.is_integer else RANDOM.normal(size=t.type.shape)
        ).astype(t.type.dtype.numpy)
        for t in graph.inputs
    ]
    heads = tuning.contractions(graph, lower(graph, target)).values()
    want = run(lower(graph, target), values)
    seen = 0
    for choice in list(choices(target, threads=2))[1:]:
        program = lower(graph, target, choices=dict.fromkeys(heads, (choice,)))
        for w, g in zip(want, run(program, values), strict=True):
            if exact:
                assert w.tobytes() == g.tobytes(), choice.name
            else:
                tolerance = 0.02 * np.abs(w).max() if fast else 1e-5 * np.abs(w).max()
                np.testing.assert_allclose(g, w, 0, tolerance, err_msg=choice.name)
        seen += 1
    assert seen >= 8


def test_ways_that_come_out_alike_are_run_once() -> None:
    graph, target = prepare(residual_block()), this_target()
    heads = tuning.contractions(graph, lower(graph, target)).values()
    ways = list(choices(target))
    program = lower(graph, target, choices=dict.fromkeys(heads, ways))
    assert all(len(found) == len(ways) - 1 for found in program.alternatives.values())
    assert [s.source.split()[2] for s in program.steps] == ["CONV_2D", "ADD", "DEPTHWISE_CONV_2D", "CONV_2D"]
    assert len(program.alternatives) == 3, "what is concatenated is written there by all ways"
    fewer = tuning.without_twins(program)
    names = [set(found) for found in fewer.alternatives.values()]
    assert names
    assert all(0 < len(found) < len(ways) - 1 for found in names)
    assert "direct" in names[0] or not target.fma


@pytest.mark.parametrize("threads", [1, 2])
def test_a_tuned_model_has_the_bits_of_an_untuned_one(threads: int) -> None:
    assert (answer(INTEGERS, num_threads=threads, tune=30) == answer(INTEGERS)).all()
    np.testing.assert_allclose(answer(FLOATS, num_threads=threads, tune=30), answer(FLOATS), atol=1e-6)


def test_what_wins_is_what_is_compiled(monkeypatch) -> None:
    taken = []

    def last(self: tuning.Race, step) -> str:
        taken.append(self.lanes[step][-1].name)
        return taken[-1]

    monkeypatch.setattr(tuning.Race, "winner", last)
    lowered = []
    monkeypatch.setattr(
        "lithe.runtime.compilation.lower", lambda *a, **k: lowered.append(k["choices"]) or lower(*a, **k)
    )
    assert (answer(INTEGERS, tune=30) == answer(INTEGERS, cache=False)).all()
    assert {ways[0].name for ways in lowered[0].values()} == set(taken) - {USUAL.name} != set()


# what is kept


def test_a_later_load_takes_what_an_earlier_one_found(monkeypatch) -> None:
    want = answer(FLOATS, tune=30)
    monkeypatch.setattr(tuning, "Race", never)
    assert (answer(FLOATS, tune=30) == want).all(), "the code is kept"
    interpreter = lithe.Interpreter(str(FLOATS), tune=True)
    interpreter.allocate_tensors()
    with pytest.raises(AssertionError, match="measured"):
        answer(FLOATS, num_threads=2, tune=30)  # another number of threads is another question


def test_another_process_does_not_measure_again(tmp_path) -> None:
    """Not even for another model with the same kernels."""
    answer(INTEGERS, tune=30)
    program = """
import sys, lithe
from lithe.runtime import tuning
tuning.Race = None                                         # measuring would fail
module = lithe.load(sys.argv[1]).module
module.description = "the same kernels in another file"
from lithe.formats.tflite import save
from pathlib import Path
save(module, Path(sys.argv[2]))
model = lithe.load(sys.argv[2], tune=True)
model.prepare()
print("ready")
"""
    other = str(tmp_path / "other.tflite")
    ended = subprocess.run([sys.executable, "-c", program, str(INTEGERS), other], capture_output=True, text=True)
    assert ended.stdout == "ready\n", ended.stderr


def test_a_form_has_one_name_in_all_processes() -> None:
    program = """
import sys
from pathlib import Path
from hashlib import sha256
from lithe.formats import tflite
from lithe.ir.form import form
from lithe.lower import lower
from lithe.passes import prepare
from lithe.runtime.compilation import this_target
program = lower(prepare(tflite.read(Path(sys.argv[1]).read_bytes()).main), this_target())
print(sha256(repr([form(k) for k in program.kernels()]).encode()).hexdigest())
"""
    found = {
        subprocess.run([sys.executable, "-c", program, str(INTEGERS)], capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1
    assert len(found.pop()) == 65


def test_an_interrupted_tuning_keeps_what_it_measured(monkeypatch) -> None:
    real = tuning.Race.run

    def interrupted(self: tuning.Race, finish: float) -> None:
        real(self, finish)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning.Race, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        answer(INTEGERS, tune=30)
    monkeypatch.setattr(tuning, "Race", never)
    assert (answer(INTEGERS, tune=30) == answer(INTEGERS)).all()


def test_nothing_is_known_of_an_early_interruption(monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tuning.Race, "run", lambda self, finish: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            answer(INTEGERS, tune=30)
    monkeypatch.setattr(tuning, "Race", never)
    with pytest.raises(AssertionError, match="measured"):
        answer(INTEGERS, tune=30)


def test_when_the_time_is_over_the_rest_stays_as_usual_until_the_next_time(monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "Race", never)
        assert (answer(INTEGERS, tune=1e-9) == answer(INTEGERS)).all()
    measured = []
    real = tuning.Race.run
    monkeypatch.setattr(tuning.Race, "run", lambda self, finish: measured.append(real(self, finish)))
    answer(INTEGERS, tune=30)
    assert measured


def test_a_cache_that_cannot_be_used_is_said_and_no_error(tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING, "lithe"):
        assert (answer(INTEGERS, tune=30) == answer(INTEGERS)).all()
    assert [r.message for r in caplog.records if "what tuning finds is not kept" in r.message]


def test_without_the_cache_nothing_is_kept(tmp_path) -> None:
    assert (answer(INTEGERS, tune=30, cache=False) == answer(INTEGERS, cache=False)).all()
    assert not list(tmp_path.rglob("*.lithe"))


def test_a_way_that_does_not_compile_is_not_taken(monkeypatch, caplog) -> None:
    def fails(*_: object) -> None:
        raise CompileError("the compiler hangs")

    monkeypatch.setattr(tuning, "Race", fails)
    with caplog.at_level(logging.WARNING, "lithe"):
        assert (answer(INTEGERS, tune=30) == answer(INTEGERS)).all()
    assert "some kernels are not tuned: the compiler hangs" in caplog.text


# what cannot be asked for


@pytest.mark.parametrize("tune", ["yes", 0, -1.0, None, float("nan")])
def test_what_is_no_time_is_refused(tune: object) -> None:
    for make in (lambda: lithe.load(INTEGERS, tune=tune), lambda: lithe.Interpreter(str(INTEGERS), tune=tune)):
        with pytest.raises(InputError, match="tune is True, False, or the seconds to spend"):
            make()


def test_the_reference_executor_cannot_be_tuned(monkeypatch) -> None:
    kept = lithe.Interpreter(str(INTEGERS), tune=True, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    with pytest.raises(InputError, match="nothing to tune: the reference executor was asked for"):
        kept.allocate_tensors()
    monkeypatch.setenv("LITHE_JIT", "0")
    with pytest.raises(InputError, match="nothing to tune"):
        answer(INTEGERS, tune=True)


def test_a_model_without_compiled_parts_cannot_be_tuned() -> None:
    d = Draft()
    graph = d.graph(d("WHERE", d.input((4,)), shape=(-1, 1), dtype=lithe.types.DTYPES["int64"]))
    with pytest.raises(InputError, match="nothing to tune: no part of the model can be compiled"):
        Model(Module([graph]), Options(tune=5.0)).prepare()


# what is shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar(monkeypatch) -> None:
    monkeypatch.delenv("LITHE_NO_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    answer(INTEGERS, tune=30)
    last = sys.stderr.getvalue().rstrip().rsplit("\r", 1)[1]
    assert last.startswith("tuning ")
    assert last.endswith(f"[{'#' * tuning.WIDTH}] 3 of 3 kernels")
    monkeypatch.setattr(sys, "stderr", Terminal())
    answer(INTEGERS, tune=30)
    assert sys.stderr.getvalue() == ""
