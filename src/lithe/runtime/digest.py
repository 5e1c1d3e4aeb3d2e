"""SHA-256 of something large: of its blocks, each by itself, and then of their digests.

So several cores can share it: every start takes the digest of the model and of its code (see `lithe.runtime.cache`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from hashlib import sha256
from threading import Thread

from lithe.targets.host import usable_cores

BLOCK = 1 << 18
MOST_THREADS = 4
WORTH_A_THREAD = 8 << 20  # bytes; hashing them takes 4 ms, which a busy machine can lose by waiting for a thread


def digest(data: bytes | bytearray | memoryview | mmap.mmap) -> bytes:
    """The digest of bytes that lie in one piece."""
    view = memoryview(data)
    count = -(-len(view) // BLOCK)
    digests, numbers = [b""] * count, iter(range(count))

    def work() -> None:
        for n in numbers:  # shared: each takes the next
            digests[n] = sha256(view[n * BLOCK : (n + 1) * BLOCK]).digest()

    helpers = min(usable_cores(), MOST_THREADS, len(view) // WORTH_A_THREAD) - 1
    threads = [Thread(target=work, daemon=True) for _ in range(helpers)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    return sha256(b"".join(digests)).digest()


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
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return digest(file.read())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            return digest(view)
