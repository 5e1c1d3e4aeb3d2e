"""Tables of the source: filled once with what they hold when it is converted, then looked up."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.tensorflow.resources import held, node
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.tensorflow.values import written
from lithe.ir.graph import Tensor
from lithe.types import INT64, RESOURCE, STRING, DType, TensorType

PAIRS = {(INT64, STRING), (STRING, INT64)}  # that the official runtime has tables of


def _handle(b: Builder, number: int, keys: DType, values: DType) -> Tensor:
    made = Tensor(f"{b.name()}/table{len(b.tensors)}", TensorType(RESOURCE, (1,)))
    node(b, "HASHTABLE", [], [made], table_id=number, key_dtype=keys, value_dtype=values)
    return made


def _table(t: Told, keys: DType, values: DType) -> Tensor:
    """The handle of the table, which the graph that is called once fills."""
    t.require((keys, values) in PAIRS, f"a table from {keys} to {values}; runtimes have int64 to string, and back")
    store, source = t.program.store, held(t, 0)
    if id(source) not in store.tables:
        store.tables[id(source)] = len(store.tables)
        first = store.once(t.b)
        pairs = [first.constant(a, d) for a, d in zip(_content(source, keys, values), (keys, values), strict=True)]
        node(first, "HASHTABLE_IMPORT", [_handle(first, store.tables[id(source)], keys, values), *pairs], [])
    return _handle(t.b, store.tables[id(source)], keys, values)


def _content(source: Any, keys: DType, values: DType) -> list[np.ndarray]:
    import tensorflow as tf

    made = tf.raw_ops.LookupTableExportV2(table_handle=source, Tkeys=keys.name, Tvalues=values.name)
    return [a.numpy().astype(d.numpy) for a, d in zip(made, (keys, values), strict=True)]


@own("LookupTableFindV2")
def find(t: Told) -> Tensor:
    keys, default = (written(t.b, v) for v in t.values[1:])
    table = _table(t, keys.type.dtype, default.type.dtype)
    return t("HASHTABLE_FIND", table, keys, t.b.reshape(default, (1,)), dtype=default.type.dtype)


@own("LookupTableSizeV2")
def size(t: Told) -> Tensor:
    """What a table holds does not change, so it is counted now."""
    import tensorflow as tf

    return t.b.constant(int(tf.raw_ops.LookupTableSizeV2(table_handle=held(t, 0))), INT64)
