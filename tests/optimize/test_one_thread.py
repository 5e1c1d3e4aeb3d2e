"""One thread for products of matrices, for as long as somebody wants it."""

from __future__ import annotations

import pytest

from lithe.optimize import one_thread as module
from lithe.optimize.one_thread import one_thread


def test_threads_come_back_with_the_last_who_wanted_one(monkeypatch):
    count = [8]
    monkeypatch.setattr(module, "_threads", lambda: (lambda: count[0], lambda n: count.__setitem__(0, n)))
    first, second = one_thread(), one_thread()
    first.__enter__()
    assert count == [1]
    second.__enter__()
    first.__exit__(None, None, None)
    assert count == [1]
    second.__exit__(None, None, None)
    assert count == [8]
    with pytest.raises(ValueError, match="inside"), one_thread():
        raise ValueError("inside")
    assert count == [8]


def test_the_library_of_numpy_tells_how_many_it_takes():
    get, _ = module._threads()
    before = get()
    with one_thread():
        assert get() == 1
    assert get() == before
