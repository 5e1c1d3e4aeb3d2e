"""Workers: the same function on many items, on this machine or on several.

    with opened("dask://scheduler:8786") as workers:
        common = workers.share(model_bytes)             # sent once
        for result in workers.map(function, items, common): ...

`function(item, common)` is importable or, like all that it is given, can be pickled. Results come in the order of the
items, which are taken a few ahead of them and never held together.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from lithe.errors import InputError, MissingDependency, StateError

AHEAD = 2  # items that wait for each worker
NAMES = "dask, dask://host:port, ray, ray://host:port"


class Workers(Protocol):
    """What items are spread over."""

    def share(self, value: Any) -> Any:
        """Brings a value to all workers; what is returned stands for it in `map`."""

    def map(self, function: Callable[[Any, Any], Any], items: Iterable[Any], common: Any) -> Iterator[Any]:
        """The results of `function(item, common)`, in the order of the items. Errors come out as they are."""

    def close(self) -> None:
        """Ends what was started for it."""


class Here:
    """No workers: the items are done here, one after another."""

    def share(self, value: Any) -> Any:
        return value

    def map(self, function: Callable[[Any, Any], Any], items: Iterable[Any], common: Any) -> Iterator[Any]:
        return (function(item, common) for item in items)

    def close(self) -> None:
        pass


class Dask:
    """Workers of Dask: those of a scheduler, or, without an address, threads of this process."""

    def __init__(self, address: str = "") -> None:
        try:
            from distributed import Client, LocalCluster
        except ImportError as cause:
            raise MissingDependency(f"Dask cannot be imported: {cause}", hint="pip install 'lithe[dask]'") from cause
        self._cluster = None if address else LocalCluster(processes=False, n_workers=1, dashboard_address=":0")
        try:
            self._client = Client(self._cluster or f"tcp://{address}", timeout=PATIENCE_S)
        except OSError as cause:
            raise _unreached("dask", address) from cause

    def share(self, value: Any) -> Any:
        (shared,) = self._client.scatter([value], broadcast=True, hash=False)
        return shared

    def map(self, function: Callable[[Any, Any], Any], items: Iterable[Any], common: Any) -> Iterator[Any]:
        def submit(item: Any) -> Any:
            (sent,) = self._client.scatter([item], hash=False)  # large arguments of a task would be copied twice
            return self._client.submit(function, sent, common, pure=False)

        most = AHEAD * max(1, sum(self._client.nthreads().values()))
        return _in_turn(submit, lambda future: future.result(), items, most)

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


class Ray:
    """Workers of Ray: those of a cluster, or, without an address, processes on this machine."""

    def __init__(self, address: str = "") -> None:
        try:
            import ray
        except ImportError as cause:
            raise MissingDependency(f"Ray cannot be imported: {cause}", hint="pip install 'lithe[ray]'") from cause
        self._ray = ray
        self._started = not ray.is_initialized()
        if self._started:
            how = {"address": f"ray://{address}"} if address else {"address": "local", "include_dashboard": False}
            try:
                ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError as cause:
                raise _unreached("ray", address) from cause

    def share(self, value: Any) -> Any:
        return self._ray.put(value)

    def map(self, function: Callable[[Any, Any], Any], items: Iterable[Any], common: Any) -> Iterator[Any]:
        remote = self._ray.remote(function)
        most = AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return _in_turn(lambda item: remote.remote(item, common), self._result, items, most)

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()


PATIENCE_S = 30.0  # for a scheduler to answer
KINDS: dict[str, Callable[[str], Workers]] = {"dask": Dask, "ray": Ray}


@contextmanager
def opened(given: str | Workers | None) -> Iterator[Workers]:
    """The workers of this name for as long as the block lasts: "dask", "dask://host:port", "ray", "ray://host:port".

    Workers that are given stay open. None: no workers.
    Raises InputError for another name, MissingDependency where the package is not installed, StateError where nobody
    answers at the address.
    """
    if given is not None and not isinstance(given, str):
        yield given
        return
    workers = Here() if given is None else _named(given)
    try:
        yield workers
    finally:
        workers.close()


def _named(given: str) -> Workers:
    kind, separator, address = given.partition("://")
    if kind not in KINDS or bool(separator) != bool(address):
        raise InputError(f"there are no workers {given!r}", hint=f"workers are {NAMES}")
    return KINDS[kind](address)


def _unreached(kind: str, address: str) -> StateError:
    return StateError(f"nobody answers at {kind}://{address}", hint="start the cluster there, or check the address")


def _in_turn(
    submit: Callable[[Any], Any], result: Callable[[Any], Any], items: Iterable[Any], most: int
) -> Iterator[Any]:
    """Results in the order of the items, of which at most so many are under way."""
    under_way: deque[Any] = deque()
    for item in items:
        under_way.append(submit(item))
        if len(under_way) >= most:
            yield result(under_way.popleft())
    while under_way:
        yield result(under_way.popleft())
