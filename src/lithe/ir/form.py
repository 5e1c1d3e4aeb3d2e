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
        self.loading: set[Hashable] = set()  # numbers of expressions that read memory
        self.reads_indices = False

    def number(self, row: Hashable) -> int:
        return self.rows.setdefault(row, len(self.rows))

    def of(self, x: Any) -> Hashable:
        known = self.seen.get(id(x))
        if known is not None:
            return known
        kind = type(x)
        if kind is Binary:  # more than all others, and quicker without asking for its fields
            number = self.binary(x)
        elif kind is tuple:
            return tuple([self.of(y) for y in x])
        elif kind is float:
            return struct.pack("<d", x)  # tells zeros, and values that are no numbers, apart
        elif kind is DType:
            return "index" if x is INDEX else x.name
        elif not isinstance(x, _NODES):
            return x
        else:
            number = self.node(kind, x)
        self.seen[id(x)] = number
        return number

    def binary(self, x: Binary) -> int:
        a, b = self.of(x.a), self.of(x.b)
        number = self.number((Binary, x.op, a, b))
        if a in self.loading or b in self.loading:
            self.loading.add(number)
        return number

    def node(self, kind: type, x: Any) -> int:
        if kind is Instruction:
            return self.number((kind, x.name))  # no two instructions have one name
        if kind is Buffer:
            mark = len(self.seen) if x.base is None else None  # each storage is itself
            if x.base is None:
                self.storages.append(x)
            return self.number((kind, mark, x.dtype.name, x.shape, x.data is None, self.of(x.base)))
        if kind is Var:
            return self.number((kind, len(self.seen)))
        if kind is Const:
            return self.number((kind, self.of(x.value), self.of(x.dtype)))
        plain, parts = _parts(kind)
        inner = [self.of(y) for y in parts(x)]
        number = self.number((kind, plain(x), *inner))
        if kind is Load or kind is Store:
            self.reads_indices = self.reads_indices or not self.loading.isdisjoint(inner[1])  # type: ignore[arg-type]
        if kind is Load or any(_is_within(y, self.loading) for y in inner):
            self.loading.add(number)
        return number


def _is_within(part: Hashable, numbers: set[Hashable]) -> bool:
    return not numbers.isdisjoint(part) if type(part) is tuple else part in numbers


_NODES = (Expr, Stmt, Buffer, Kernel, Instruction)


@lru_cache(None)
def _parts(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], tuple[Any, ...]]]:
    """The fields of a node that say what it does: those that say it themselves, and those that hold other nodes."""
    found = [f for f in fields(kind) if f.name not in NAMES.get(kind, ())]
    plain = [f.name for f in found if f.type in PLAIN]
    others = [f.name for f in found if f.type not in PLAIN]
    many = attrgetter(*others) if len(others) > 1 else lambda x: tuple([getattr(x, name) for name in others])
    return attrgetter(*plain) if plain else lambda x: None, many
