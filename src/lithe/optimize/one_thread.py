"""One thread for numpy's products of matrices.

Those of layers are small. The library that numpy brings along lets all processors wait for one another at the end of
each, and on a machine that has other things to do, that takes many times as long as the product itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = Lock()
_before: list[list[int]] = []  # how many threads each library had, for each of those who want one


@contextmanager
def one_thread() -> Iterator[None]:
    """While inside, the libraries of matrices in this process take one thread.

    The last of several that overlap, in threads of their own, puts back what the first one found.
    """
    with _lock:
        _before.append(_before[0] if _before else [library.num_threads for library in _libraries()])
        for library in _libraries():
            library.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before:
                for library, count in zip(_libraries(), before, strict=True):
                    library.set_num_threads(count)


@cache
def _libraries() -> list[Any]:
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
