"""The code cache gives back what was put in, and nothing else whatever is done to its files."""

from __future__ import annotations

import hmac
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lithe.errors import InputError
from lithe.runtime import cache as cache_module
from lithe.runtime import private_folder
from lithe.runtime.cache import SECRET, SUFFIX, Cache, Entry, key, numbered
from lithe.targets.host import Host

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes are those of POSIX")

NAME = key("model", "code")
USER = os.getuid() if hasattr(os, "getuid") else 0
PARTS = {"weights": bytes(range(256)) * 3, **numbered("object", [b"first", b"second!"]), "empty": b""}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("LITHE_CACHE", "LITHE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_authentication_code_is_hmac():
    for secret in (bytes(32), bytes(range(32)), bytes(range(224, 256))):
        for text in (b"", b"text", bytes(range(256)) * 3):
            assert cache_module._mac(secret, text) == hmac.digest(secret, text, "sha256")


@pytest.fixture
def cache(tmp_path):
    made = Cache(tmp_path / "lithe")
    assert made.put(NAME, PARTS), made.reason
    return made


def file_of(cache: Cache, name: bytes = NAME) -> Path:
    return cache.directory / (name.hex() + SUFFIX)


def contents(entry: Entry) -> dict[str, bytes]:
    return {name: bytes(view) for name, view in entry.parts.items()}


def assert_refused(cache: Cache) -> None:
    """Not returned, removed, and a fresh entry takes its place."""
    assert cache.get(NAME) is None
    assert not os.path.lexists(file_of(cache))
    assert cache.put(NAME, PARTS), cache.reason
    assert contents(cache.get(NAME)) == PARTS


def test_an_entry_comes_back_as_it_was_put(cache):
    entry = cache.get(NAME)
    assert contents(entry) == PARTS
    assert [bytes(o) for o in entry.sequence("object")] == [b"first", b"second!"]
    assert entry.part("weights").readonly
    again = Cache(cache.directory)  # another process would see the same
    assert contents(again.get(NAME)) == PARTS
    assert again.get(key("other")) is None


def test_parts_are_aligned_and_outlive_the_entry(cache):
    array = np.frombuffer(cache.get(NAME).part("weights"), np.uint8)
    cache.clear()
    assert array.ctypes.data % 64 == 0
    assert array.tobytes() == PARTS["weights"]


def test_arrays_can_be_put(cache):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "none": np.zeros((0, 3), np.int8)}
    assert cache.put(NAME, arrays)
    assert contents(cache.get(NAME)) == {"a": arrays["a"].tobytes(), "none": b""}


def test_directory_and_files_are_this_users_alone(tmp_path):
    old = os.umask(0)
    try:
        cache = Cache(tmp_path / "new" / "lithe")
        assert cache.put(NAME, PARTS)
    finally:
        os.umask(old)
    for place in (cache.directory, cache.directory.parent):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in cache.directory.iterdir()} == {0o600}


def test_every_flipped_bit_is_noticed(cache):
    good = file_of(cache).read_bytes()
    places = [*range(64 + 32), *random.Random(1).sample(range(96, len(good)), 200)]
    for at in places:
        damaged = bytearray(good)
        damaged[at] ^= 1 << (at % 8)
        file_of(cache).write_bytes(damaged)
        assert cache.get(NAME) is None, at
        assert not file_of(cache).exists()
        file_of(cache).touch(mode=0o600)  # the next write_bytes keeps this mode
    file_of(cache).write_bytes(good)
    assert contents(cache.get(NAME)) == PARTS


def test_every_length_but_the_right_one_is_noticed(cache):
    good = file_of(cache).read_bytes()
    for length in [*range(0, 130), *range(130, len(good), 37), len(good) - 1]:
        file_of(cache).touch(mode=0o600)
        file_of(cache).write_bytes(good[:length])
        assert cache.get(NAME) is None, length
    file_of(cache).touch(mode=0o600)
    file_of(cache).write_bytes(good + b"\0")
    assert_refused(cache)


def test_an_entry_under_another_key_is_refused(cache):
    file_of(cache).rename(file_of(cache, key("other")))
    assert cache.get(key("other")) is None
    assert not file_of(cache, key("other")).exists()


def test_an_entry_of_another_machine_has_another_key(cache):
    here = Host("x86_64", "linux", "GenuineIntel", 6, 143, features=frozenset({"avx2", "amx-int8"}))
    there = Host("x86_64", "linux", "GenuineIntel", 6, 143, features=frozenset({"avx2"}))
    ours, foreign = key("model", here.fingerprint()), key("model", there.fingerprint())
    assert cache.put(foreign, PARTS)
    assert cache.get(ours) is None
    file_of(cache, foreign).rename(file_of(cache, ours))
    assert cache.get(ours) is None


def test_an_entry_made_with_another_secret_is_refused(cache, tmp_path):
    other = Cache(tmp_path / "backup")
    assert other.put(NAME, PARTS)
    assert file_of(other).read_bytes() != file_of(cache).read_bytes()
    file_of(other).replace(file_of(cache))
    assert_refused(cache)


@pytest.mark.parametrize("secret", [b"", b"x" * 31, b"x" * 33])
def test_a_damaged_secret_is_replaced_and_voids_the_entries(cache, secret):
    (cache.directory / SECRET).write_bytes(secret)
    assert_refused(cache)
    assert len((cache.directory / SECRET).read_bytes()) == 32


def test_a_secret_that_others_could_read_is_replaced(cache):
    before = (cache.directory / SECRET).read_bytes()
    (cache.directory / SECRET).chmod(0o644)
    assert_refused(cache)
    assert (cache.directory / SECRET).read_bytes() != before


def test_a_linked_secret_is_replaced(cache, tmp_path):
    (tmp_path / "known").write_bytes(b"k" * 32)
    (tmp_path / "known").chmod(0o600)
    (cache.directory / SECRET).unlink()
    (cache.directory / SECRET).symlink_to(tmp_path / "known")
    assert_refused(cache)
    assert not (cache.directory / SECRET).is_symlink()
    assert (tmp_path / "known").read_bytes() == b"k" * 32


def test_a_linked_file_is_refused_and_its_target_left_alone(cache, tmp_path):
    outside = tmp_path / "outside"
    file_of(cache).rename(outside)
    file_of(cache).symlink_to(outside)
    assert_refused(cache)
    assert outside.exists()


def test_a_file_with_a_second_name_is_refused(cache, tmp_path):
    os.link(file_of(cache), tmp_path / "second")
    assert_refused(cache)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o640, 0o666])
def test_a_file_open_to_others_is_refused(cache, mode):
    file_of(cache).chmod(mode)
    assert_refused(cache)


def test_a_file_that_was_replaced_while_it_was_opened_is_read(cache, monkeypatch):
    good = file_of(cache).read_bytes()
    real = os.fstat

    def replaced_first(descriptor):
        if stat.S_ISREG(real(descriptor).st_mode) and file_of(cache).stat().st_ino == real(descriptor).st_ino:
            (cache.directory / "new").touch(mode=0o600)
            (cache.directory / "new").write_bytes(good)
            (cache.directory / "new").replace(file_of(cache))
            assert real(descriptor).st_nlink == 0
        return real(descriptor)

    monkeypatch.setattr(private_folder.os, "fstat", replaced_first)
    assert contents(cache.get(NAME)) == PARTS
    assert file_of(cache).exists()


def test_a_pipe_in_the_place_of_a_file_does_not_block(cache):
    file_of(cache).unlink()
    os.mkfifo(file_of(cache), 0o600)
    assert_refused(cache)


def test_a_directory_in_the_place_of_a_file_only_costs_the_entry(cache):
    file_of(cache).unlink()
    file_of(cache).mkdir()
    assert cache.get(NAME) is None
    assert not cache.put(NAME, PARTS)
    assert cache.reason.startswith("nothing was stored")
    assert cache.put(key("other"), PARTS)


def test_a_file_of_another_owner_is_refused(cache, monkeypatch):
    real = os.fstat

    def foreign(descriptor):
        found = real(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return found
        fields = list(found)
        fields[stat.ST_UID] += 1
        return os.stat_result(fields)

    with monkeypatch.context() as patch:
        patch.setattr(private_folder.os, "fstat", foreign)
        assert cache.get(NAME) is None
        assert not cache.put(NAME, PARTS)
    assert_refused(cache)


def test_a_directory_of_another_owner_is_not_used(cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(private_folder, "_check_parent", lambda path: None)
        patch.setattr(private_folder.os, "getuid", lambda: USER + 1)
        assert cache.get(NAME) is None
        assert "belongs to user" in cache.reason
        assert not cache.put(NAME, PARTS)
    assert contents(cache.get(NAME)) == PARTS
    assert cache.reason == ""


def test_a_parent_of_another_owner_is_not_used(cache, monkeypatch):
    if cache.directory.parent.stat().st_uid == 0:
        fields = list(cache.directory.parent.stat())
        fields[stat.ST_UID] = 12345
        monkeypatch.setattr(private_folder.os, "stat", lambda path: os.stat_result(fields))
    else:
        monkeypatch.setattr(private_folder.os, "getuid", lambda: USER + 1)
    assert cache.get(NAME) is None
    assert "belongs to user" in cache.reason


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701, 0o1777])
def test_a_directory_open_to_others_is_not_used(cache, mode):
    cache.directory.chmod(mode)
    assert cache.get(NAME) is None
    assert "open to other users" in cache.reason
    assert not cache.put(key("more"), PARTS)
    assert cache.entries() == []
    assert cache.clear() == 0
    cache.directory.chmod(0o700)
    assert contents(cache.get(NAME)) == PARTS


def test_a_linked_directory_is_not_used(cache, tmp_path):
    (tmp_path / "link").symlink_to(cache.directory)
    linked = Cache(tmp_path / "link")
    assert linked.get(NAME) is None
    assert "link" in linked.reason
    assert not linked.put(NAME, PARTS)


def test_a_dangling_link_is_not_followed_to_make_a_directory(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert not Cache(tmp_path / "link").put(NAME, PARTS)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_place_of_the_directory_is_not_used(tmp_path):
    (tmp_path / "lithe").write_text("here I am")
    cache = Cache(tmp_path / "lithe")
    assert not cache.put(NAME, PARTS)
    assert "not a directory" in cache.reason


def test_a_parent_that_others_can_write_is_refused_unless_sticky(cache):
    parent = cache.directory.parent
    for mode, used in ((0o777, False), (0o1777, True), (0o703, False)):
        parent.chmod(mode)
        assert (cache.get(NAME) is not None) == used
    assert "can be written by other users" in cache.reason
    parent.chmod(0o700)


def test_a_parent_of_the_users_own_group_is_fine(cache, monkeypatch):
    cache.directory.parent.chmod(0o770)
    monkeypatch.setattr(private_folder, "_is_own_group", lambda group: False)
    assert cache.get(NAME) is None
    monkeypatch.setattr(private_folder, "_is_own_group", lambda group: True)
    assert cache.get(NAME) is not None


def test_a_full_disk_is_no_error(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_folder.os, "replace", full)
    assert not cache.put(key("more"), PARTS)
    assert "No space left" in cache.reason
    assert [f for f in os.listdir(cache.directory) if f.endswith(".part")] == []
    assert contents(cache.get(NAME)) == PARTS


def test_lack_of_descriptors_does_not_cost_an_entry(cache, monkeypatch):
    def none_left(*_):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_read", none_left)
        assert cache.get(NAME) is None
    assert contents(cache.get(NAME)) == PARTS


def test_the_least_recently_used_go_first(tmp_path):
    cache = Cache(tmp_path / "lithe", limit=3500)
    names = [key(str(n)) for n in range(4)]
    for n, name in enumerate(names[:3]):
        assert cache.put(name, {"weights": bytes(900)})
        os.utime(file_of(cache, name), (1000 + n, 1000 + n))
    assert cache.get(names[0]) is not None  # used just now
    assert cache.put(names[3], {"weights": bytes(900)})
    assert [cache.get(name) is not None for name in names] == [True, False, True, True]
    assert cache.size() <= 3500
    assert not cache.put(key("large"), {"weights": bytes(4000)})
    assert len(cache.entries()) == 3


def test_clear_removes_everything_of_the_cache(cache):
    (cache.directory / "left.part").write_bytes(b"killed while writing")
    assert cache.size() == file_of(cache).stat().st_size
    assert cache.clear() == 1
    assert os.listdir(cache.directory) == []
    assert cache.get(NAME) is None


def test_what_killed_processes_left_is_swept(cache):
    left, fresh = cache.directory / "left.part", cache.directory / "fresh.part"
    left.touch()
    fresh.touch()
    os.utime(left, (0, 0))
    assert cache.put(key("more"), PARTS)
    assert not left.exists()
    assert fresh.exists()


def test_the_environment_chooses_the_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache().directory == tmp_path / ".cache" / "lithe"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert Cache().directory == tmp_path / ".cache" / "lithe"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache().directory == tmp_path / "xdg" / "lithe"
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "mine"))
    assert Cache().directory == tmp_path / "mine"
    monkeypatch.setenv("LITHE_CACHE", "0")
    off = Cache(tmp_path / "given")
    assert "LITHE_CACHE=0" in off.reason
    assert not off.put(NAME, PARTS)
    assert off.get(NAME) is None
    assert off.entries() == []
    assert off.clear() == 0
    assert os.listdir(tmp_path) == []


def test_without_a_home_the_cache_is_off(monkeypatch):
    monkeypatch.setattr(cache_module.os.path, "expanduser", lambda path: path)
    cache = Cache()
    assert "no home directory" in cache.reason
    assert cache.get(NAME) is None


def test_a_directory_that_cannot_be_made_is_no_error(tmp_path):
    cache = Cache("/proc/nowhere/lithe")
    assert not cache.put(NAME, PARTS)
    assert cache.reason


def test_keys_keep_their_parts_apart():
    assert key("ab", "c") != key("a", "bc") != key("abc")
    assert key("a", b"b") == key(b"a", "b")
    assert len(key()) == 32


@pytest.mark.parametrize("name", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_the_callers_error(cache, name):
    with pytest.raises(InputError, match="32 bytes"):
        cache.get(name)
    with pytest.raises(InputError, match="32 bytes"):
        cache.put(name, PARTS)


WRITER = """
import sys
from lithe.runtime.cache import Cache, key
cache = Cache(sys.argv[1])
for n in range(60):
    name = key(str(n % 3))
    text = (str(n % 3) * 20000).encode()
    entry = cache.get(name)
    if entry is not None and bytes(entry.part("weights")) != text:
        sys.exit(f"torn entry {n}")
    if n % 2:
        if not cache.put(name, {"weights": text}):
            sys.exit(cache.reason)
    elif n > 6 and entry is None:
        sys.exit(f"lost entry {n}")
"""


def test_processes_that_write_at_once_tear_nothing(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "lithe")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [writer.communicate(timeout=60)[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, said
    assert len(Cache(tmp_path / "lithe").entries()) == 3
    assert not list((tmp_path / "lithe").glob("*.part"))


def test_the_cache_needs_neither_numpy_nor_llvm():
    code = "import sys, lithe.runtime.cache; print([m for m in ('numpy', 'llvmlite') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
