"""One thread for products of matrices, for as long as somebody wants it."""

from __future__ import annotations

import pytest

from lithe.optimize import one_thread as module
from lithe.optimize.one_thread import one_thread


class Library:
    num_threads = 8

    def set_num_threads(self, count: int) -> None:
        self.num_threads = count


def test_threads_come_back_with_the_last_who_wanted_one(monkeypatch):
    library = Library()
    monkeypatch.setattr(module, "_libraries", lambda: [library])
    first, second = one_thread(), one_thread()
    first.__enter__()
    assert library.num_threads == 1
    second.__enter__()
    first.__exit__(None, None, None)
    assert library.num_threads == 1
    second.__exit__(None, None, None)
    assert library.num_threads == 8
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert library.num_threads == 8


def test_numpys_library_is_found():
    (library,) = module._libraries()
    before = library.num_threads
    with one_thread():
        assert library.num_threads == 1
    assert library.num_threads == before
