"""Pages of a mapped file leave the process's memory and come back when they are touched."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from lithe.formats.tflite import open_model, write
from lithe.ir.pages import let_go
from lithe.lower.lower import lower
from lithe.passes import prepare
from tests.passes.graphs import Draft

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc how much of a file is in memory")
SIZE = 1 << 20


def resident(path: Path) -> int:
    """Bytes of a file's mappings that are in this process's memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "numbers"
    np.arange(SIZE // 4, dtype=np.int32).tofile(found)
    return found


@linux
def test_pages_of_a_file_go_and_come_back(path: Path) -> None:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole = np.frombuffer(memoryview(mapped), np.int32)
    assert whole.sum() == sum(range(SIZE // 4))
    assert resident(path) == SIZE
    let_go(whole[1000:100_000].reshape(99, 1000))
    assert resident(path) == SIZE - ((400_000 // 4096) - -(-4000 // 4096)) * 4096
    assert whole.sum() == sum(range(SIZE // 4))
    let_go(whole[10:20])  # less than a page
    let_go(whole[::2])  # not in one piece
    assert resident(path) == SIZE


def test_what_belongs_to_the_process_stays(path: Path) -> None:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    numbers = np.frombuffer(mapped, np.int32)
    numbers[:] = 7
    own = np.full(SIZE // 4, 7, np.int32)
    for array in (numbers, own, np.frombuffer(own.tobytes(), np.int32)):
        let_go(array)
        assert (array == 7).all()


@linux
def test_weights_that_were_packed_are_not_kept_in_memory(tmp_path: Path) -> None:
    d = Draft()
    x = d.input((1, 512))
    weights = d.constant(np.random.default_rng(0).standard_normal((512, 512)), np.float32)
    y = d("FULLY_CONNECTED", x, weights, None, shape=(1, 512))
    path = tmp_path / "dense.tflite"
    from lithe.ir.graph import Module
    from lithe.runtime.compilation import this_target

    path.write_bytes(write(Module([d.graph(y)])))
    module = open_model(path)
    stored = module.main.nodes[0].inputs[1]
    assert stored is not None
    assert stored.data is not None
    np.testing.assert_array_equal(stored.data, weights.data)
    assert resident(path) >= SIZE
    lower(prepare(module.main), this_target())
    assert resident(path) < SIZE // 4
    np.testing.assert_array_equal(stored.data, weights.data)
