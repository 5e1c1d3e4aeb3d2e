"""Hash tables: filled once, then looked up; and look-ups in tables that lie open as tensors.

A table is a resource of the loaded model, so that a graph which is called once may fill it. Its handle is a tensor of
one element, the table's key among the resources. Source: TensorFlow Lite, kernels/hashtable*.cc (behaviour).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, select
from lithe.ops.layout import PLAIN, Movement, zero, zeros
from lithe.ops.op import Op, Site, register
from lithe.types import BOOL, FLOAT32, INT32, INT64, STRING, UINT8, DType, Shape

# Types of keys and of values. The official runtime has tables of int64 and string, one to the other.
KEYS = (INT32, INT64, STRING)
VALUES = (FLOAT32, INT32, INT64, STRING, BOOL)
_TYPES = f"K= {' '.join(map(str, KEYS))}; V= {' '.join(map(str, VALUES))}"


@dataclass
class Table:
    """One table. `entries` is None until it has been filled, which happens once."""

    key_dtype: DType
    value_dtype: DType
    entries: dict[Any, Any] | None = None


def table_key(table_id: int) -> str:
    """What a table is called among the model's resources."""
    return f"table:{table_id}"


@register
class Hashtable(Op):
    """The handle of the table with this number, which is made when it does not exist yet."""

    name, code = "HASHTABLE", 136
    operands = ((), ("table",))
    types = "-> resource"
    stateful = True

    @dataclass(frozen=True)
    class Attrs:
        table_id: int = 0
        key_dtype: DType = INT64
        value_dtype: DType = STRING

    def infer(site: Site) -> list[Shape]:
        a = site.attrs
        site.require(a.key_dtype in KEYS, f"keys must be one of {', '.join(map(str, KEYS))}, are {a.key_dtype}")
        site.require(
            a.value_dtype in VALUES, f"values must be one of {', '.join(map(str, VALUES))}, are {a.value_dtype}"
        )
        return [(1,)]

    def evaluate(site: Site) -> list[np.ndarray]:
        a = site.attrs
        site.surroundings().resources.setdefault(table_key(a.table_id), Table(a.key_dtype, a.value_dtype))
        return [np.full(1, table_key(a.table_id), object)]


def _handle(site: Site) -> None:
    site.require(site.rank(0, 1).shape in ((1,), (None,)), f"must have one element, is {site.input(0)}", 0)


def _table(site: Site, handle: np.ndarray) -> Table:
    found = site.surroundings().resources.get(handle.reshape(-1)[0])
    if not isinstance(found, Table):
        raise ExecutionError("the handle names no table")
    return found


def _checked(table: Table, key_dtype: DType, value_dtype: DType) -> Table:
    if (table.key_dtype, table.value_dtype) != (key_dtype, value_dtype):
        raise ExecutionError(
            f"the table maps {table.key_dtype} to {table.value_dtype}, the operator {key_dtype} to {value_dtype}"
        )
    return table


@register
class HashtableImport(Op):
    """Fills a table with pairs; of equal keys the first counts. A table that is filled stays as it is."""

    name, code = "HASHTABLE_IMPORT", 138
    operands = (("table", "keys", "values"), ())
    types = f"resource K V ->: {_TYPES}"
    stateful = True

    def infer(site: Site) -> list[Shape]:
        _handle(site)
        keys, values = site.input(1), site.input(2)
        site.require(keys.shape == values.shape, f"{keys} are the keys, {values} the values", 2)
        return []

    def evaluate(site: Site, handle: np.ndarray, keys: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
        table = _checked(_table(site, handle), site.input(1).dtype, site.input(2).dtype)
        if table.entries is None:
            table.entries = {}
            for key, value in zip(keys.reshape(-1).tolist(), values.reshape(-1).tolist(), strict=True):
                table.entries.setdefault(key, value)
        return []


@register
class HashtableFind(Op):
    """The value of each key, or the default for keys that the table does not hold."""

    name, code = "HASHTABLE_FIND", 137
    operands = (("table", "keys", "default"), ("values",))
    types = f"resource K V -> V: {_TYPES}"
    stateful = True

    def infer(site: Site) -> list[Shape]:
        _handle(site)
        site.require(site.input(2).size > 0, f"must have an element, is {site.input(2)}", 2)
        return [site.input(1).shape]

    def evaluate(site: Site, handle: np.ndarray, keys: np.ndarray, default: np.ndarray) -> list[np.ndarray]:
        table = _checked(_table(site, handle), site.input(1).dtype, site.outputs[0].dtype)
        if table.entries is None:
            raise ExecutionError("the table is looked up before anything was put into it")
        otherwise = default.reshape(-1)[0]
        found = np.empty(keys.size, default.dtype)
        found[:] = [table.entries.get(key, otherwise) for key in keys.reshape(-1).tolist()]
        return [found.reshape(keys.shape)]


@register
class HashtableSize(Op):
    """The number of keys that a table holds."""

    name, code = "HASHTABLE_SIZE", 139
    operands = (("table",), ("size",))
    types = "resource -> int64"
    stateful = True

    def infer(site: Site) -> list[Shape]:
        _handle(site)
        return [(1,)]

    def evaluate(site: Site, handle: np.ndarray) -> list[np.ndarray]:
        return [np.array([len(_table(site, handle).entries or ())], np.int64)]


@register
class HashtableLookup(Movement):
    """The rows of `values` whose keys are looked up, and whether each key was there; rows of other keys are 0.

    keys  int32, sorted in ascending order: they are searched by halving.
    """

    name, code = "HASHTABLE_LOOKUP", 10
    operands = (("lookup", "keys", "values"), ("output", "hits"))
    types = f"int32 int32 T -> T uint8: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        lookup, keys, values = site.rank(0, 1), site.rank(1, 1), site.input(2)
        site.require(values.rank >= 1, f"must have rows, is {values}", 2)
        site.require(values.shape[0] == keys.shape[0], f"must have a row for each of {keys}, is {values}", 2)
        return [(lookup.shape[0], *values.shape[1:]), lookup.shape]

    def evaluate(site: Site, lookup: np.ndarray, keys: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
        places = np.array([_place(keys, key) for key in lookup], np.int64)
        hits = places >= 0
        result = zeros((len(lookup), *values.shape[1:]), values.dtype)
        result[hits] = values[places[hits]]
        return [result, hits.astype(np.uint8)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        lookup, keys, values = xs
        output, hits = ys
        rows, count = lookup.size, keys.size
        width = output.size // rows if rows else 0
        table, result = values.viewed((count, width)), output.viewed((rows, width))
        with b.loop(rows, "parallel", "row") as row:
            low, high = b.variable(0, "low", INDEX), b.variable(count, "high", INDEX)
            place = b.variable(-1, "place", INDEX)
            with b.loop(count.bit_length()), b.when(low[()] < high[()]):
                middle = b.variable((low[()] + high[()]) >> 1, "middle", INDEX)
                key = b.variable(keys[middle[()]], "key")
                with b.when(key[()].equals(lookup[row])):
                    b.store(place, (), middle[()])
                    b.store(low, (), high[()])
                with b.otherwise():
                    with b.when(key[()] < lookup[row]):
                        b.store(low, (), middle[()] + 1)
                    with b.otherwise():
                        b.store(high, (), middle[()])
            b.store(hits, row, select(place[()] >= 0, 1, 0).to(UINT8))
            with b.when(place[()] >= 0), b.loop(width, "parallel") as k:
                b.store(result, (row, k), table[place[()], k])
            with b.otherwise(), b.loop(width, "parallel") as k:
                b.store(result, (row, k), zero(result.dtype))


def _place(keys: np.ndarray, wanted: int) -> int:
    """Where a key stands, -1 when it does not."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] == wanted:
            return middle
        if keys[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return -1
