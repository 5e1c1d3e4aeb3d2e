"""Memory of a mapped model file, given back while nobody needs it."""

from __future__ import annotations

import mmap

import numpy as np


def let_go(data: np.ndarray) -> None:
    """Takes the pages of an array out of this process's memory, if they are those of a file that it can be read from.

    The array stays as it is: a page that is touched again comes back from the system's copy of the file.
    """
    owner: object = data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    mapped = owner.obj if isinstance(owner, memoryview) else owner
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    whole = np.frombuffer(mapped, np.uint8)
    if whole.flags.writeable:  # changes of one's own would be lost
        return
    first = data.ctypes.data - whole.ctypes.data
    start, end = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, (first + data.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if data.flags.c_contiguous and start < end:
        mapped.madvise(mmap.MADV_DONTNEED, start, end - start)
