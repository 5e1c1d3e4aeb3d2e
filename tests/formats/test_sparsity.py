"""Sparse structures that are made here: what they list, and what they take."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.formats import tflite
from lithe.formats.tflite import sparsity as sparse
from lithe.ir.graph import Graph, Module, Tensor
from lithe.types import DTYPES, TensorType, dtype_of

RANDOM = np.random.default_rng(0)


def drawn(shape, density=0.1, kind=np.float32):
    return (RANDOM.integers(1, 100, shape) * (RANDOM.random(shape) < density)).astype(kind)


@pytest.mark.parametrize(
    "way", [(1, -1, -1), (4, -1, -1), (16, -1, -1), (4, 0, -1), (1, -1, 0), (2, 1, 0), (2, 3, 1), (3, 1, -1)]
)
def test_every_structure_gives_the_elements_back(way):
    dense = drawn((8, 6, 3, 32))
    made = sparse.compressed(dense, *way)
    values = sparse.compress(made, dense)
    np.testing.assert_array_equal(sparse.expand(made, dense.shape, values), dense)
    again = sparse.read(through_a_file(dense, made), dense.shape)
    np.testing.assert_array_equal(sparse.expand(again, dense.shape, values), dense)
    assert sparse.stored_bytes(made, 4) >= values.nbytes
    assert made.block == way[0]


def through_a_file(dense, structure):
    """The record of the structure after a file was written and read."""
    t = Tensor("w", TensorType(dtype_of(dense), dense.shape), dense, index=0, extras={"sparsity": structure})
    (again,) = tflite.read(tflite.write(Module([Graph("main", [], [], [t], [])]))).main.tensors
    np.testing.assert_array_equal(again.data, dense)
    return sparse.write(again.extras["sparsity"])


@pytest.mark.parametrize(
    ("shape", "segments", "indices"),
    [
        ((4, 16), "Uint8Vector", "Uint8Vector"),
        ((40, 256), "Uint16Vector", "Uint8Vector"),
        ((40, 512), "Uint16Vector", "Uint16Vector"),
        ((700, 1000), "Int32Vector", "Uint16Vector"),
        ((1, 70000), "Uint16Vector", "Int32Vector"),
    ],
)
def test_indices_are_as_narrow_as_they_can_be(shape, segments, indices):
    dense = drawn(shape, 0.4 if shape[0] > 1 else 0.1)
    record = sparse.write(sparse.compressed(dense))["dim_metadata"][-1]
    assert [record[k][0] for k in ("array_segments", "array_indices")] == [segments, indices]


def test_the_smallest_structure_is_chosen():
    assert sparse.smallest(np.ones((64, 64), np.float32)) is None
    assert sparse.smallest(np.float32(3.0)) is None
    assert sparse.smallest(np.zeros((0, 4), np.float32)) is None
    dense = drawn((64, 256))
    assert sparse.smallest(dense).block_map == ()
    blocks = np.repeat(drawn((64, 64)), 4, axis=1)
    assert sparse.smallest(blocks).block == 4
    assert sparse.smallest(np.repeat(drawn((16, 256)), 4, axis=0)).block_map == (0,)
    assert sparse.smallest(drawn((64, 250))).block == 1  # others do not divide rows
    deep = drawn((512, 3, 3, 8), 0.2)
    assert sparse.smallest(deep).traversal_order[-1] == 0  # fewer lists


@pytest.mark.parametrize("name", ["float32", "int8"])
@pytest.mark.parametrize("block", [1, 4, 16])
def test_what_is_foretold_of_sizes_holds(name, block):
    kind = DTYPES[name].numpy
    for sparsity in (0.3, 0.6, 0.9):
        dense = np.repeat(drawn((128, 512 // block), 1 - sparsity), block, axis=1).astype(kind)
        share = np.mean((dense.reshape(-1, block) == 0).all(axis=1))
        real = sparse.stored_bytes(sparse.compressed(dense, block), kind.itemsize)
        assert sparse.bytes_at(dense.shape, kind.itemsize, block, share) == pytest.approx(real, rel=0.01)
    pays = sparse.pays_from((128, 512), kind.itemsize, block)
    assert sparse.bytes_at((128, 512), kind.itemsize, block, pays) < 128 * 512 * kind.itemsize
    assert sparse.bytes_at((128, 512), kind.itemsize, block, pays - 0.01) >= 128 * 512 * kind.itemsize


def test_where_no_share_pays():
    assert sparse.pays_from((4, 4), 4, 1) == np.inf
    assert sparse.pays_from((64, 6), 4, 4) == np.inf
    assert sparse.pays_from((), 4, 1) == np.inf
