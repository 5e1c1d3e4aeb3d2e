"""A file while it is read: its records, the bytes that they point at, and the words for what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.formats.tflite.tables import Table
from lithe.ir.graph import Tensor
from lithe.ops.op import Op
from lithe.ops.verify import Limits
from lithe.types import DType, Shape

External = Callable[[str], memoryview]


@dataclass
class File:
    """What is shared by the parts of one read."""

    data: memoryview
    model: dict[str, Any]
    classes: list[type[Op]]
    limits: Limits
    external: External
    tables: list[dict[int, Table]]  # for each graph, the tensors that are stored as indices into a table
    unpacked: dict[tuple[int, DType, Shape], np.ndarray] = field(default_factory=dict)

    def region(self, offset: int, size: int, what: str) -> np.ndarray:
        """Bytes of the file at an absolute position."""
        if offset + size > len(self.data):
            raise ModelError(f"{what} of {size} bytes at {offset} lies outside of the file's {len(self.data)} bytes")
        return np.frombuffer(self.data, np.uint8, size, offset)

    def buffer(self, index: int) -> np.ndarray | None:
        """The bytes of buffer `index`, None when it has none."""
        if index == 0:
            return None  # the sentinel of tensors without data
        buffers = self.model["buffers"] or []
        if not 0 <= index < len(buffers):
            raise ModelError(f"buffer {index} does not exist, the model has {len(buffers)}")
        record = buffers[index]
        if record["offset"] > 1 and record["size"] > 1:
            return self.region(record["offset"], record["size"], f"buffer {index}")
        data: np.ndarray | None = record["data"]
        return data

    def external_bytes(self, identity: int) -> np.ndarray:
        """The bytes of an external buffer."""
        found = [e for e in self.model["external_buffers"] or [] if e["id"] == identity]
        groups = self.model["external_buffer_groups"] or []
        if not found or found[0]["group"] >= len(groups):
            raise ModelError(f"external buffer {identity} or its group does not exist")
        offset, size = found[0]["offset"], found[0]["length"]
        data = self.external(groups[found[0]["group"]]["name"] or "")
        if offset + size > len(data):
            raise ModelError(f"external buffer {identity} lies outside of its file's {len(data)} bytes")
        return np.frombuffer(data, np.uint8, size, offset)


def indices(vector: Any) -> list[int]:
    return [] if vector is None else vector.tolist()


def at(tensors: list[Tensor], index: int, where: str, what: str) -> Tensor:
    if not 0 <= index < len(tensors):
        raise ModelError(f"{what} is tensor {index}, the graph has tensors 0 to {len(tensors) - 1}", where=where)
    return tensors[index]


def placed(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `function`; the place of a ModelError of it begins with this one."""
    try:
        return function(*arguments)
    except ModelError as e:
        raise type(e)(e.problem, where=", ".join(filter(None, (where, e.where))), hint=e.hint) from None
