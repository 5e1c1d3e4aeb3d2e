"""What a model is made of: operators, shapes, weights, work, memory."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes import is_dynamic


@dataclass(frozen=True)
class OperatorRow:
    """One operator.

    macs          multiply-accumulates of an inference, 0 where the operator is no contraction, None where unknown.
    weight_bytes  bytes of its constant operands in memory.
    """

    index: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    weight_bytes: int
    macs: int | None


@dataclass(frozen=True)
class Summary:
    """A graph in figures. `working_bytes` is the most that activations take at one time, node after node."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: tuple[OperatorRow, ...]
    parameters: int
    weight_bytes: int
    macs: int
    working_bytes: int

    def counts(self) -> dict[str, int]:
        """{operator name: how often}, the most frequent first."""
        found: dict[str, int] = {}
        for row in self.operators:
            found[row.name] = found.get(row.name, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        head = ("#", "operator", "output", "parameters", "MACs")
        rows = [
            (str(r.index), r.name, ", ".join(r.outputs), f"{r.parameters:,}" if r.parameters else "",
             f"{r.macs:,}" if r.macs else "")
            for r in self.operators
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        right = (True, False, False, True, True)

        def line(cells: tuple[str, ...]) -> str:
            padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
            return "  ".join(padded).rstrip()

        return "\n".join(
            [
                line(head),
                line(tuple("-" * w for w in widths)),
                *map(line, rows),
                "",
                *(f"input           {text}" for text in self.inputs),
                *(f"output          {text}" for text in self.outputs),
                f"operators       {len(self.operators)}",
                f"parameters      {self.parameters:,}",
                f"weights         {readable(self.weight_bytes)}",
                f"working memory  {readable(self.working_bytes)}",
                f"MACs            {self.macs:,}",
            ]
        )


def readable(size: int) -> str:
    """A number of bytes for people, with one digit after the point: 1.5 MB (powers of 1000)."""
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def summarize(graph: Graph) -> Summary:
    """The figures of a graph; shapes as they are in it (a prepared graph has inferred ones)."""
    rows = tuple(_row(i, node) for i, node in enumerate(graph.nodes))
    constants = [
        d for d in {t: t.data for n in graph.nodes for t in n.inputs if t is not None}.values() if d is not None
    ]
    return Summary(
        tuple(f"{t.name}: {t.type}" for t in graph.inputs),
        tuple(f"{t.name}: {t.type}" for t in graph.outputs),
        rows,
        sum(d.size for d in constants),
        sum(d.nbytes for d in constants),
        sum(r.macs or 0 for r in rows),
        working_bytes(graph),
    )


def _row(position: int, node: Node) -> OperatorRow:
    constants = [t.data for t in node.inputs if t is not None and t.data is not None]
    return OperatorRow(
        node.index if node.index >= 0 else position,
        node.op.name,
        tuple("-" if t is None else str(t.type) for t in node.inputs),
        tuple(str(t.type) for t in node.outputs),
        sum(c.size for c in constants),
        sum(c.nbytes for c in constants),
        macs(node),
    )


def macs(node: Node) -> int | None:
    """Multiply-accumulates of one run of the node; None when a shape depends on data."""
    types = [t.type for t in (*node.inputs, *node.outputs) if t is not None]
    if any(map(is_dynamic, types)):
        return None
    shapes = [() if t is None else t.type.shape for t in node.inputs]
    match node.op.name:
        case "CONV_2D" | "CONV_3D" | "FULLY_CONNECTED":
            filter_ = shapes[1]
            inner = math.prod(filter_[:-1]) if node.op.name == "CONV_3D" else math.prod(filter_[1:])
            return node.outputs[0].type.size * inner
        case "DEPTHWISE_CONV_2D":
            return node.outputs[0].type.size * math.prod(shapes[1][1:3])
        case "TRANSPOSE_CONV":
            filter_ = shapes[1]
            return math.prod(shapes[2]) * math.prod(filter_[:3])
        case "BATCH_MATMUL":
            inner = shapes[0][-2] if getattr(node.attrs, "adj_x", False) else shapes[0][-1]
            return node.outputs[0].type.size * inner
    return 0


def working_bytes(graph: Graph) -> int:
    """The most bytes that live activations take together, when each node's operands are alive while it runs."""
    last: dict[Tensor, int] = {}
    for i, node in enumerate(graph.nodes):
        last.update({t: i for t in (*node.inputs, *node.outputs) if t is not None and not t.is_constant})
    end = len(graph.nodes)
    kept = {t for t in graph.tensors if t.is_variable}
    last.update({t: end for t in (*graph.outputs, *kept) if not t.is_constant})
    alive = {t for t in (*graph.inputs, *kept) if not t.is_constant}
    most = now = sum(map(_bytes, alive))
    for i, node in enumerate(graph.nodes):
        born = set(node.outputs) - alive
        alive |= born
        now += sum(map(_bytes, born))
        most = max(most, now)
        gone = {t for t in (*node.inputs, *node.outputs) if t in alive and last[t] == i}
        alive -= gone
        now -= sum(map(_bytes, gone))
    return most


def _bytes(tensor: Tensor) -> int:
    return 0 if is_dynamic(tensor.type) else tensor.type.nbytes
