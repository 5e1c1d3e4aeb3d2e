"""The work in loops is counted, peaks are measured by sound loops, and every step has its floor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lithe.bench import layers
from lithe.bench.layers import floor_us, measure_layers
from lithe.bench.peaks import Bandwidth, Peaks, _arithmetic, _levels, _reader, measured_peaks
from lithe.bench.report import layer_rows
from lithe.bench.work import Work, kernel_macs, operator_macs, work_of
from lithe.errors import InputError, UnsupportedOp
from lithe.formats import tflite
from lithe.ir.build import Builder
from lithe.ir.loops import FMA, Buffer, Intrinsic
from lithe.ir.program import Program, Step
from lithe.ir.verify import verify_kernel
from lithe.lower.lower import lower
from lithe.passes import prepare
from lithe.targets.cpu import GENERIC, x86
from lithe.types import FLOAT32, INT8, INT16, INT32, DType
from tests.tiled import TILES, WIDE

DATA = Path(__file__).resolve().parents[2] / "src" / "lithe" / "data"
# 8x8 pixels of 8 channels from 3x3x1, 4x4 of 16 from 3x3x8, 10 of 256
DIGITS_MACS = 8 * 8 * 8 * 9 + 4 * 4 * 16 * 9 * 8 + 10 * 256
PEAKS = Peaks(
    {"float32": 1e9, "int8": 4e9},
    (Bandwidth("L1", 1000, 1e10), Bandwidth("L2", 10_000, 1e9), Bandwidth("memory", None, 1e8)),
)


def product_kernel(left: DType, right: DType, fused: bool = False):
    """A 4 x 5 matrix by a vector of 5, in loops."""
    total = FLOAT32 if left.is_float else INT32
    a, x, y = Buffer("a", left, (4, 5)), Buffer("x", right, (5,)), Buffer("y", total, (4,))
    b = Builder("product")
    with b.loop(4, "parallel") as i:
        b.store(y, i, b.variable(0, dtype=total)[()])
        with b.loop(5) as k:
            p, q = a[i, k].to(total), x[k].to(total)
            b.store(y, i, Intrinsic(FMA, (p, q, y[i])) if fused else y[i] + p * q)
    return b.kernel("op #7 PRODUCT")


@pytest.mark.parametrize(
    ("left", "right", "name"), [(FLOAT32, FLOAT32, "float32"), (INT8, INT8, "int8"), (INT16, INT8, "int16")], ids=str
)
def test_products_are_counted(left: DType, right: DType, name: str) -> None:
    assert kernel_macs(product_kernel(left, right)) == {name: 20}


def test_fused_products_are_counted() -> None:
    assert kernel_macs(product_kernel(FLOAT32, FLOAT32, fused=True)) == {"float32": 20}


def test_sums_are_no_products() -> None:
    x, y = Buffer("x", FLOAT32, (6,)), Buffer("y", FLOAT32, (1,))
    b = Builder("sum")
    with b.loop(6) as i:
        b.store(y, 0, y[0] + x[i])
    b.store(y, 0, y[0] * y[0])
    assert kernel_macs(b.kernel()) == {}


@pytest.mark.parametrize("name", ["digits_float32", "digits_int8"])
def test_work_of_the_demo(name: str) -> None:
    graph = prepare(tflite.read((DATA / f"{name}.tflite").read_bytes()).main)
    macs = operator_macs(lower(graph, None))
    assert sum(count.total() for count in macs.values()) == DIGITS_MACS
    assert {kind for count in macs.values() for kind in count} == {name.removeprefix("digits_")}


def test_fused_steps_have_the_work_of_all_their_operators() -> None:
    x, w = Buffer("x", INT8, (10,)), Buffer("w", INT8, (4, 10))
    kernel = product_kernel(FLOAT32, FLOAT32)
    step = Step(kernel, (x, x.viewed((2, 5)), w), "op #1 CONV_2D + op #12 ADD")
    work = work_of(step, {"op #1": Counter(int8=5), "op #12": Counter(int8=2), "op #2": Counter(int8=100)})
    assert work.total_macs == 7
    assert work.activation_bytes == 50
    assert work.constant_bytes == 0


def test_floor() -> None:
    assert floor_us(Work(Counter(int8=8000), 100, 100), 200, PEAKS) == (2.0, "int8")
    assert floor_us(Work(Counter(), 9000, 100), 9900, PEAKS) == pytest.approx((9.01, "L2"))
    assert floor_us(Work(Counter(), 100, 20_000), 20_100, PEAKS) == pytest.approx((201.0, "memory"))
    assert floor_us(Work(Counter(other=5)), 0, Peaks({}, ())) == (0, "")


def test_the_levels_of_memory() -> None:
    assert [PEAKS.holding(size).name for size in (1000, 1001, 10_001)] == ["L1", "L2", "memory"]
    assert Peaks({}, ()).holding(5) is None
    assert Peaks({}, PEAKS.levels[:1]).holding(10**9).name == "L1"


@pytest.mark.parametrize(
    "target",
    [
        GENERIC,
        x86(frozenset()),
        x86(frozenset({"avx2", "fma"})),
        x86(WIDE),
        x86(WIDE | TILES),
    ],
    ids=["generic", "x86_64", "avx2", "avx512", "amx"],
)
def test_loops_for_peaks(target) -> None:
    kernels, work = _arithmetic(target)
    assert set(kernels) == set(work) == {"float32", "int8", "int16"}
    for kernel in kernels.values():
        verify_kernel(kernel)
    kernel, read = _reader(target, 1 << 16)
    verify_kernel(kernel)
    assert read >= 1 << 16


def test_peaks_of_this_machine() -> None:
    peaks = measured_peaks()
    assert min(peaks.macs.values()) > 1e8
    assert [level.name for level in peaks.levels] == list(_levels())
    assert all(level.bytes_a_second > 1e8 for level in peaks.levels)


@pytest.mark.parametrize("name", ["digits_float32", "digits_int8"])
def test_layers_of_the_demo(name: str) -> None:
    found = measure_layers(DATA / f"{name}.tflite", rounds=3)
    assert sum(layer.macs for layer in found.layers) == DIGITS_MACS
    assert found.layers[0].source.startswith("op #0 CONV_2D")
    assert found.whole_us > 0
    facts = found.to_dict()
    assert facts["layers"][0]["limit"] == name.removeprefix("digits_")
    rows = layer_rows(facts)
    assert len(rows) == len(found.layers) + 2
    assert len({len(row) for row in rows}) == 1


def test_no_rounds() -> None:
    with pytest.raises(InputError, match="rounds=0"):
        measure_layers(DATA / "digits_int8.tflite", rounds=0)


def test_a_model_that_is_not_compiled_as_a_whole(corpus: Path) -> None:
    with pytest.raises(UnsupportedOp):
        measure_layers(corpus / "models" / "text" / "whitespace_tokenizer_to_tensor.tflite")


def test_a_short_call_is_repeated() -> None:
    calls = [0, 0]

    def run(n: int) -> int:
        calls[n] += 1
        return 0

    layers._best([lambda: run(0), lambda: run(1)], rounds=3, seconds=1.0)
    assert all(count > 3 for count in calls)


def test_programs_without_steps_can_be_linked() -> None:
    runs = layers._runs(Program("empty", [], [], []))
    assert [run() for run in runs] == [0, 0]
