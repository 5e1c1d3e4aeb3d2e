"""Digests are the same whoever computes them, and in however many pieces the bytes come."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

from lithe.runtime import digest as module
from lithe.runtime.digest import BLOCK, digest, digest_of_chunks, digest_of_file

SIZES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 9 * BLOCK + 3)


def expected(data: bytes) -> bytes:
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    return sha256(b"".join(sha256(block).digest() for block in blocks)).digest()


@pytest.mark.parametrize("size", SIZES)
def test_pieces_files_and_threads_give_one_digest(size, tmp_path, monkeypatch):
    data, file = os.urandom(size), tmp_path / "data"
    file.write_bytes(data)
    assert digest(data) == digest(memoryview(data)) == digest_of_file(file) == expected(data)
    for step in (1 + size // 7, BLOCK, 1 << 30):
        assert digest_of_chunks(data[at : at + step] for at in range(0, size, step)) == expected(data)
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    assert digest(data) == expected(data)


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 5 * BLOCK - 1])
def test_every_byte_counts(at):
    data = bytearray(5 * BLOCK)
    before = digest(data)
    data[at] ^= 1
    assert digest(data) != before
    assert digest(bytes(5 * BLOCK - 1)) != before != digest(bytes(5 * BLOCK + 1))


def test_helpers_that_never_run_are_not_waited_for(monkeypatch):
    data = os.urandom(20 * BLOCK)
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    started: list[object] = []
    monkeypatch.setattr(module, "start_new_thread", lambda work, arguments: started.append(work))
    assert digest(data) == expected(data)
    assert len(started) == 3


def test_blocks_that_a_helper_does_not_finish_are_done_again(monkeypatch):
    data = os.urandom(20 * BLOCK)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)

    def takes_one(work, arguments):
        numbers = work.__closure__[work.__code__.co_freevars.index("numbers")].cell_contents
        next(numbers)

    monkeypatch.setattr(module, "start_new_thread", takes_one)
    assert digest(data) == expected(data)


def test_no_more_threads_is_no_error(monkeypatch):
    def refuse(work, arguments):
        raise RuntimeError("can't start new thread")

    data = os.urandom(20 * BLOCK)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    monkeypatch.setattr(module, "start_new_thread", refuse)
    assert digest(data) == expected(data)
