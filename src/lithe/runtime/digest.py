"""SHA-256 of something large: of its blocks, each by itself, and then of their digests.

So several cores can share it: every start takes the digest of the model and of its code (see `lithe.runtime.cache`).
"""

from __future__ import annotations

import contextlib
import mmap
import os
from _thread import start_new_thread  # which, unlike a Thread, does not wait for the new one to begin
from collections.abc import Iterable
from hashlib import sha256

from lithe.targets.host import usable_cores

BLOCK = 1 << 18
MOST_THREADS = 4
WORTH_A_THREAD = 1 << 20  # bytes; hashing them takes half a millisecond, starting a thread a twentieth of one


def digest(data: bytes | bytearray | memoryview | mmap.mmap) -> bytes:
    """The digest of bytes that lie in one piece.

    Nobody waits for a helper, which may not get a core on a busy machine: what it has not finished is done again.
    """
    view = memoryview(data)
    if len(view) <= BLOCK:
        return sha256(sha256(view).digest() if view else b"").digest()
    count = -(-len(view) // BLOCK)
    digests, numbers = [b""] * count, iter(range(count))

    def work() -> None:
        for n in numbers:  # shared: each takes the next
            digests[n] = of_block(n)

    def of_block(n: int) -> bytes:
        return sha256(view[n * BLOCK : (n + 1) * BLOCK]).digest()

    with contextlib.suppress(RuntimeError):  # no more threads
        threads = min(MOST_THREADS, len(view) // WORTH_A_THREAD)
        for _ in range(min(usable_cores(), threads) - 1 if threads > 1 else 0):
            start_new_thread(work, ())
    work()
    return sha256(b"".join([found or of_block(n) for n, found in enumerate(digests)])).digest()


def digest_of_chunks(chunks: Iterable[bytes | memoryview]) -> bytes:
    """The same of bytes that lie in several pieces, which are not copied together for it."""
    digests: list[bytes] = []
    current, room = sha256(), BLOCK
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            part, view = view[:room], view[room:]
            current.update(part)
            room -= len(part)
            if not room:
                digests.append(current.digest())
                current, room = sha256(), BLOCK
    return sha256(b"".join(digests) + (current.digest() if room < BLOCK else b"")).digest()


def digest_of_file(path: str | os.PathLike[str]) -> bytes:
    """The same of a file's bytes."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(file).st_size
        if size < BLOCK:  # mapping it takes as long as copying that
            return digest(os.read(file, size + 1))
        return digest(mmap.mmap(file, 0, access=mmap.ACCESS_READ))  # unmapped when the last helper is done
    finally:
        os.close(file)
