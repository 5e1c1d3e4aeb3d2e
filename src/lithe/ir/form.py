"""What a kernel does, whatever its variables and buffers are called: kernels of one form are one function.

Found without printing the kernels, which takes several times as long: unrolled loops are not written out here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from lithe.ir.loops import INDEX, Buffer, Expr, Instruction, Kernel, Stmt, Var
from lithe.types import DType

PLAIN = ("str", "int", "Kind", "tuple[int, int, int]")  # types of fields that are compared as they stand
NAMES = {Kernel: ("name", "source", "private"), Var: ("name",), Buffer: ("name",)}


def form(kernel: Kernel) -> Hashable:
    """Equal for two kernels only if they are the same function of their parameters."""
    found = _Form()
    found.of(kernel)
    return tuple(found.rows)


class _Form:
    """Numbers nodes by their contents, and variables and storages by their first appearance."""

    def __init__(self) -> None:
        self.rows: dict[Hashable, int] = {}
        self.seen: dict[int, int] = {}  # id of a node -> its number; the kernel keeps the nodes alive

    def number(self, row: Hashable) -> int:
        return self.rows.setdefault(row, len(self.rows))

    def of(self, x: Any) -> Hashable:
        known = self.seen.get(id(x))
        if known is not None:
            return known
        kind = type(x)
        if kind is tuple:
            return tuple([self.of(y) for y in x])
        if kind is float:
            return struct.pack("<d", x)  # tells zeros, and values that are no numbers, apart
        if kind is DType:
            return "index" if x is INDEX else x.name
        if not isinstance(x, _NODES):
            return x
        number = self.seen[id(x)] = self.node(kind, x)
        return number

    def node(self, kind: type, x: Any) -> int:
        if kind is Instruction:
            return self.number((kind, x.name))  # no two instructions have one name
        if kind is Var or (kind is Buffer and x.base is None):  # each is itself
            mark: Hashable = len(self.seen)
        else:
            mark = None
        if kind is Buffer:
            return self.number((kind, mark, x.dtype.name, x.shape, x.data is None, self.of(x.base)))
        plain, parts = _parts(kind)
        return self.number((kind, mark, plain(x), *[self.of(y) for y in parts(x)]))


_NODES = (Expr, Stmt, Buffer, Kernel, Instruction)


@lru_cache(None)
def _parts(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], tuple[Any, ...]]]:
    """The fields of a node that say what it does: those that say it themselves, and those that hold other nodes."""
    found = [f for f in fields(kind) if f.name not in NAMES.get(kind, ())]
    plain = [f.name for f in found if f.type in PLAIN]
    others = [f.name for f in found if f.type not in PLAIN]
    many = attrgetter(*others) if len(others) > 1 else lambda x: tuple([getattr(x, name) for name in others])
    return attrgetter(*plain) if plain else lambda x: None, many
