"""One thread for numpy's products of matrices.

Those of layers are small. The library that numpy brings along lets all processors wait for one another at the end of
each, and on a machine that has other things to do, that takes many times as long as the product itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

PREFIXES, SUFFIXES = ("scipy_openblas", "openblas"), ("64_", "")

_lock = Lock()
_inside: list[int] = []  # how many threads there were, for each of those who want one


@contextmanager
def one_thread() -> Iterator[None]:
    """While inside, numpy's library of matrices, where it is the one of its wheels, takes one thread."""
    get, put = _threads()
    with _lock:
        _inside.append(_inside[0] if _inside else get())
        put(1)
    try:
        yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                put(before)


@cache
def _threads() -> tuple[Callable[[], int], Callable[[int], None]]:
    """What tells and what sets the number of threads; of another library neither does anything."""
    home = Path(np.__file__).parent
    for path in (*home.parent.glob("numpy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")):
        library = ctypes.CDLL(str(path))  # loaded already
        for prefix, suffix in ((p, s) for p in PREFIXES for s in SUFFIXES):
            get, put = (getattr(library, f"{prefix}_{what}_num_threads{suffix}", None) for what in ("get", "set"))
            if get is not None and put is not None:
                return get, put
    return lambda: 1, lambda count: None
