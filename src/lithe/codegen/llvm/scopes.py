"""What is known at a place of a kernel: values by key, and what was loaded. It is forgotten where its scope ends."""

from __future__ import annotations

from collections.abc import Iterable

from lithe.ir.loops import Buffer


class Scopes:
    """The kernel, and the loop bodies and branches that are open, each with a place for lines that are hoisted there.

    values  by key; the same key is never kept in two scopes that are open.
    """

    def __init__(self, prologue: list[str]) -> None:
        self.prologues = [prologue]
        self.values: dict[object, str] = {}
        self._loads: dict[Buffer, dict[object, str]] = {}  # by storage
        self._kept: list[list[object]] = [[]]
        self._loaded: list[list[tuple[Buffer, object]]] = [[]]

    @property
    def depth(self) -> int:
        """The number of the innermost one; the kernel is 0."""
        return len(self.prologues) - 1

    def open(self, prologue: list[str]) -> None:
        self.prologues.append(prologue)
        self._kept.append([])
        self._loaded.append([])

    def close(self) -> None:
        self.prologues.pop()
        for key in self._kept.pop():
            del self.values[key]
        for storage, key in self._loaded.pop():
            self._loads.get(storage, {}).pop(key, None)

    def keep(self, key: object, text: str, depth: int = -1) -> None:
        self.values[key] = text
        self._kept[depth].append(key)

    def loaded(self, storage: Buffer, key: object) -> str | None:
        """The value of a place that was loaded before and is still the same."""
        return self._loads.get(storage, {}).get(key)

    def keep_loaded(self, storage: Buffer, key: object, text: str) -> None:
        self._loads.setdefault(storage, {})[key] = text
        self._loaded[-1].append((storage, key))

    def forget(self, storages: Iterable[Buffer]) -> None:
        """Drops what was loaded from memory that is written."""
        for storage in storages:
            self._loads.pop(storage, None)
