"""Digests of large model files, kept so that a start need not read a file again that has not changed.

A file is known by its device, its number there, its size, and the times of its last change to nanoseconds. The last of
them, ctime, is set by the kernel at every change of the content and by no program. A change in the same tick of the
kernel's clock as the one before could hide; so a digest is kept only if the file has been at rest for a while before.
(A program that goes on changing pages it has mapped is not seen either until they are written back, within a minute.)
"""

from __future__ import annotations

import os
import time

from lithe.runtime.cache import Cache, key
from lithe.runtime.digest import digest_of_file

WORTH_KEEPING = 1 << 19  # bytes; hashing them takes half a millisecond, looking a digest up a third of one
AT_REST = 2_000_000_000  # nanoseconds; file systems tick every 10 ms at most, old ones every second or two


def known_digest(path: str | os.PathLike[str], cache: Cache | None = None) -> bytes:
    """The digest of a file (see `lithe.runtime.digest`), from the cache if it holds that of the file as it is now."""
    before = os.stat(path)
    if before.st_size < WORTH_KEEPING or os.name != "posix":  # elsewhere, ctime is when the file was made
        return digest_of_file(path)
    cache = cache or Cache()
    name = _name(before)
    kept = cache.get(name)
    if kept is not None:
        return bytes(kept.part("digest"))
    begun = time.time_ns()
    found = digest_of_file(path)
    if before.st_ctime_ns < begun - AT_REST and _name(os.stat(path)) == name:
        cache.put(name, {"digest": found})
    return found


def _name(facts: os.stat_result) -> bytes:
    parts = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return key("digest of a file", *map(str, parts))
