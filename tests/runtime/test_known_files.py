"""Digests of files that have not changed are not computed again; those of others are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lithe.runtime import known_files
from lithe.runtime.cache import Cache
from lithe.runtime.digest import digest
from lithe.runtime.known_files import WORTH_KEEPING, known_digest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="keeps digests where ctime is the time of the last change")


class Counter:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        original = known_files.digest_of_file

        def counted(path: str | os.PathLike[str]) -> bytes:
            self.paths.append(os.fspath(path))
            return original(path)

        monkeypatch.setattr(known_files, "digest_of_file", counted)

    def __len__(self) -> int:
        return len(self.paths)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "model"
    found.write_bytes(os.urandom(WORTH_KEEPING))
    return found


def at_rest(monkeypatch: pytest.MonkeyPatch, seconds: float = 3) -> None:
    """As if so much time had gone by."""
    now = known_files.time.time_ns
    monkeypatch.setattr(known_files.time, "time_ns", lambda: now() + int(seconds * 1e9))


def test_a_file_at_rest_is_hashed_once(path: Path, cache: Cache, hashed: Counter, monkeypatch) -> None:
    at_rest(monkeypatch)
    expected = digest(path.read_bytes())
    assert [known_digest(path, cache) for _ in range(3)] == [expected] * 3
    assert len(hashed) == 1
    moved = path.rename(path.with_name("moved"))  # its ctime may change, its digest does not
    assert known_digest(moved, cache) == expected


@pytest.mark.parametrize("keep_mtime", [False, True])
def test_a_changed_file_is_hashed_again(path: Path, cache: Cache, hashed: Counter, monkeypatch, keep_mtime) -> None:
    at_rest(monkeypatch)
    known_digest(path, cache)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"changed")
    if keep_mtime:  # as programs do that want to hide it
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert known_digest(path, cache) == digest(path.read_bytes())
    assert len(hashed) == 2


def test_a_file_that_takes_the_place_of_another_is_hashed(path: Path, cache: Cache, monkeypatch) -> None:
    at_rest(monkeypatch)
    known_digest(path, cache)
    other = path.with_name("other")
    other.write_bytes(os.urandom(WORTH_KEEPING))
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert known_digest(path, cache) == digest(path.read_bytes())


def test_a_file_that_was_just_written_is_not_trusted(path: Path, cache: Cache, hashed: Counter) -> None:
    for _ in range(2):
        assert known_digest(path, cache) == digest(path.read_bytes())
    assert len(hashed) == 2
    assert cache.entries() == []


def test_a_file_that_changes_meanwhile_is_not_kept(path: Path, cache: Cache, monkeypatch) -> None:
    at_rest(monkeypatch)

    def changing(path: Path) -> bytes:
        os.utime(path)
        return bytes(32)

    monkeypatch.setattr(known_files, "digest_of_file", changing)
    assert known_digest(path, cache) == bytes(32)
    assert cache.entries() == []


def test_small_files_are_hashed_each_time(path: Path, cache: Cache, hashed: Counter, monkeypatch) -> None:
    at_rest(monkeypatch)
    path.write_bytes(bytes(WORTH_KEEPING - 1))
    for _ in range(2):
        assert known_digest(path, cache) == digest(bytes(WORTH_KEEPING - 1))
    assert len(hashed) == 2


def test_a_damaged_entry_is_not_used(path: Path, cache: Cache, hashed: Counter, monkeypatch) -> None:
    at_rest(monkeypatch)
    expected = known_digest(path, cache)
    assert cache.directory is not None
    (entry,) = cache.directory.glob("*.lithe")
    raw = bytearray(entry.read_bytes())
    raw[raw.index(expected)] ^= 1
    entry.write_bytes(raw)
    assert known_digest(path, cache) == expected
    assert len(hashed) == 2


def test_without_a_cache_it_is_hashed_each_time(path: Path, hashed: Counter, monkeypatch) -> None:
    at_rest(monkeypatch)
    monkeypatch.setenv("LITHE_CACHE", "0")
    for _ in range(2):
        assert known_digest(path) == digest(path.read_bytes())
    assert len(hashed) == 2
