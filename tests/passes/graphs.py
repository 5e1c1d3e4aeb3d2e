"""Small graphs, written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops import REGISTRY
from lithe.types import FLOAT32, DType, Shape, TensorType, dtype_of


class Draft:
    """Collects tensors and nodes: `d = Draft(); y = d("LOGISTIC", d.input((2, 3))); graph = d.graph(y)`."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.nodes: list[Node] = []
        self.inputs: list[Tensor] = []

    def tensor(self, shape: Shape, dtype: DType = FLOAT32, data: np.ndarray | None = None, **fields: Any) -> Tensor:
        tensor = Tensor(f"t{len(self.tensors)}", TensorType(dtype, shape), data, index=len(self.tensors), **fields)
        self.tensors.append(tensor)
        return tensor

    def input(self, shape: Shape, dtype: DType = FLOAT32, **fields: Any) -> Tensor:
        self.inputs.append(self.tensor(shape, dtype, **fields))
        return self.inputs[-1]

    def constant(self, value: Any, dtype: type = np.float32) -> Tensor:
        array = np.array(value, dtype)
        return self.tensor(array.shape, dtype_of(array), array)

    def __call__(
        self, op: Any, *inputs: Tensor | None, shape: Shape = (1,), dtype: DType | None = None, **attrs: Any
    ) -> Tensor:
        """Adds a node; `shape` is what the file would declare, which need not be true."""
        cls = REGISTRY.by_name[op] if isinstance(op, str) else op
        first = next((t.type.dtype for t in inputs if t is not None), FLOAT32)
        output = self.tensor(shape, dtype or first)
        self.nodes.append(Node(cls, cls.Attrs(**attrs), list(inputs), [output], len(self.nodes)))
        return output

    def graph(self, *outputs: Tensor) -> Graph:
        return Graph("main", self.inputs, list(outputs), self.tensors, self.nodes)
