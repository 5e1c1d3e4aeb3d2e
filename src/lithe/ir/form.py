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

from lithe.ir.affine import sum_of
from lithe.ir.loops import (
    INDEX,
    Binary,
    Buffer,
    Const,
    Expr,
    For,
    Instruction,
    Kernel,
    Load,
    Stmt,
    Store,
    Var,
    nodes,
    statements,
)
from lithe.types import DType

PLAIN = ("str", "int", "Kind", "tuple[int, int, int]")  # types of fields that are compared as they stand
NAMES = {Kernel: ("name", "source", "private"), Var: ("name",), Buffer: ("name",)}


def form(kernel: Kernel) -> Hashable:
    """Equal for two kernels only if they are the same function of their parameters."""
    found = _Form()
    found.of(kernel)
    return tuple(found.rows)


def form_of(body: tuple[Stmt, ...]) -> tuple[Hashable, list[Buffer]]:
    """(the same of statements, their storages by first appearance): bodies of equal forms differ in these alone.

    Passes look at the elements of constants where an index is read from memory: such bodies share no form with others.
    """
    found = _Form()
    top = found.of(body)
    return (top, tuple(found.rows), id(body) if found.reads_indices else None), found.storages


def shape_of(body: tuple[Stmt, ...]) -> Hashable:
    """Loops and stores without what is computed: differs for bodies of different forms alone, and is found quickly."""
    return tuple(
        (s.extent, s.kind) if isinstance(s, For)
        else (s.buffer.dtype.name, s.buffer.shape) if isinstance(s, Store)
        else type(s)
        for s in statements(body)
    )  # fmt: skip


class _Form:
    """Numbers nodes by their contents, and variables and storages by their first appearance."""

    def __init__(self) -> None:
        self.rows: dict[Hashable, int] = {}
        self.seen: dict[int, int] = {}  # id of a node -> its number; the kernel keeps the nodes alive
        self.storages: list[Buffer] = []
        self.reads_indices = False

    def of(self, x: Any) -> Hashable:
        """The number of a node; a tuple of them for a tuple, and what is no node is itself."""
        known = self.seen.get(id(x))
        if known is not None:
            return known
        kind: Any = type(x)
        row: Hashable
        if kind is Binary:  # first come those that most nodes are, without asking for their fields
            row = kind, x.op, self.of(x.a), self.of(x.b)
        elif kind is Load:
            row = kind, self.of(x.buffer), *map(self.index, x.index)
        elif kind is Store:
            row = kind, self.of(x.buffer), self.of(x.value), *map(self.index, x.index)
        elif kind is Const:
            row = kind, self.of(x.value), self.of(x.dtype)
        elif kind is Var:
            row = kind, len(self.seen)
        elif kind is tuple:
            return tuple(map(self.of, x))
        elif kind is float:
            return struct.pack("<d", x)  # tells zeros, and values that are no numbers, apart
        elif kind is DType:
            return "index" if x is INDEX else x.name
        elif kind is Instruction:
            row = kind, x.name  # no two instructions have one name
        elif kind is Buffer:
            row = kind, *self.buffer(x)
        elif isinstance(x, _NODES):
            plain, parts = _parts(kind)
            row = kind, plain(x), *map(self.of, parts(x))
        else:
            return x
        number = self.seen[id(x)] = self.rows.setdefault(row, len(self.rows))
        return number

    def buffer(self, x: Buffer) -> tuple[Hashable, ...]:
        mark = len(self.seen) if x.base is None else None  # each storage is itself
        if x.base is None:
            self.storages.append(x)
        return mark, x.dtype.name, x.shape, x.data is None, self.of(x.base)

    def index(self, x: Expr) -> Hashable:
        """An index is what it is the sum of, however that is written."""
        found = sum_of(x)
        if found is None:
            self.reads_indices = self.reads_indices or any(isinstance(y, Load) for y in nodes((x,)))
            return self.of(x)
        terms, constant = found
        return constant, *[(self.of(v), factor) for v, factor in terms.items()]


_NODES = (Expr, Stmt, Kernel)


@lru_cache(None)
def _parts(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], tuple[Any, ...]]]:
    """The fields of a node that say what it does: those that say it themselves, and those that hold other nodes."""
    found = [f for f in fields(kind) if f.name not in NAMES.get(kind, ())]
    plain = [f.name for f in found if f.type in PLAIN]
    others = [f.name for f in found if f.type not in PLAIN]
    many = attrgetter(*others) if len(others) > 1 else lambda x: tuple([getattr(x, name) for name in others])
    return attrgetter(*plain) if plain else lambda x: None, many
