"""Nodes that can work with the axes of their tensors in another order, and what they become then.

A layout is the order of a tensor's axes: (0, 2, 3, 1) has the third axis at place 1. A node's label is the layout in
which it sees its data; `Turning.layouts` says in which its operands must come and its results are then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.infer_shapes import is_dynamic
from lithe.types import INT32, TensorType

Layout = tuple[int, ...]
Constant = Callable[[Tensor, np.ndarray], Tensor]  # a constant like another one, with these elements


def identity(rank: int) -> Layout:
    return tuple(range(rank))


def inverse(layout: Layout) -> Layout:
    return tuple(layout.index(i) for i in range(len(layout)))


def after(first: Layout, then: Layout) -> Layout:
    """The layout in which a tensor of layout `first` is, turned by `then`."""
    return tuple(first[i] for i in then)


def turned_type(t: TensorType, layout: Layout) -> TensorType:
    q = t.quantization
    if q is not None and q.per_channel:
        q = replace(q, axis=layout.index(q.axis))
    return replace(t, shape=tuple(t.shape[a] for a in layout), quantization=q)


@dataclass(frozen=True)
class Layouts:
    """In which layouts a node's inputs must come (None: it does not matter, or is the node's own affair), and its
    outputs are.

    shuffle  the new order of elements along the last axis of the outputs, where they are mixed.
    """

    inputs: tuple[Layout | None, ...]
    outputs: tuple[Layout, ...]
    shuffle: tuple[int, ...] = ()


class Turning(ABC):
    """A node whose axes may change places."""

    def __init__(self, node: Node, rank: int) -> None:
        self.node, self.rank = node, rank

    @abstractmethod
    def layouts(self, label: Layout) -> Layouts | None:
        """What this label means; None where the node cannot have it."""

    def label_of_input(self, position: int, layout: Layout) -> Layout | None:
        """The label with which the node takes an input in this layout."""
        return layout if len(layout) == self.rank else None

    def label_of_output(self, position: int, layout: Layout) -> Layout | None:
        """The label with which the node gives an output in this layout."""
        return layout if len(layout) == self.rank else None

    def inputs(self, label: Layout, inputs: Sequence[Tensor | None], constant: Constant) -> list[Tensor | None]:
        """All operands, of which those that are turned are given, and others are made."""
        return list(inputs)

    def attrs(self, label: Layout) -> Any:
        return self.node.attrs

    def op(self) -> Any:
        return self.node.op


class Elementwise(Turning):
    """Each element depends on those in its place; operands of fewer axes belong to the last ones."""

    def layouts(self, label: Layout) -> Layouts | None:
        wanted: list[Layout | None] = []
        for t in self.node.inputs:
            if t is None or t.data is not None or t.type.size == 1:
                wanted.append(None)
            elif t.type.rank == self.rank:
                wanted.append(label)
            else:
                fewer = t.type.rank
                if label[self.rank - fewer :] != tuple(range(self.rank - fewer, self.rank)):
                    return None
                wanted.append(None)
        return Layouts(tuple(wanted), (label,) * len(self.node.outputs))

    def inputs(self, label: Layout, inputs: Sequence[Tensor | None], constant: Constant) -> list[Tensor | None]:
        return [
            constant(t, self._turned(t.data, label)) if t is not None and t.data is not None and t.data.size > 1 else t
            for t in inputs
        ]

    def _turned(self, data: np.ndarray, label: Layout) -> np.ndarray:
        """The constant's axes in the new order; axes in front that it did not have are left out again."""
        whole = data.reshape((1,) * (self.rank - data.ndim) + data.shape).transpose(label)
        while data.ndim < self.rank and whole.ndim > 1 and whole.shape[0] == 1:
            whole = whole[0]
        return np.ascontiguousarray(whole)


class ByAxes(Turning):
    """The operator says how it names axes (`Op.named_axes`)."""

    @property
    def data(self) -> list[int]:
        axes = self.node.op.named_axes
        return list(range(len(self.node.inputs))) if axes.joins else [axes.data]

    def layouts(self, label: Layout) -> Layouts | None:
        if self.node.op.named_axes.last and label[-1] != self.rank - 1:
            return None
        out = tuple(label)
        dropped = self.dropped()
        if dropped:
            kept = [a for a in range(self.rank) if a not in dropped]
            out = tuple(kept.index(a) for a in label if a not in dropped)
        inputs: list[Layout | None] = [None] * len(self.node.inputs)
        for i in self.data:
            t = self.node.inputs[i]
            inputs[i] = label if t is not None and t.data is None else None
        return Layouts(tuple(inputs), (out,) * len(self.node.outputs))

    def dropped(self) -> list[int]:
        axes = self.node.op.named_axes
        if not axes.dropped or getattr(self.node.attrs, "keep_dims", False):
            return []
        return [int(a) % self.rank for a in np.ravel(_data(self.node, axes.numbers))]

    def label_of_output(self, position: int, layout: Layout) -> Layout | None:
        if not self.dropped():
            return layout if len(layout) == self.rank else None
        return identity(self.rank) if layout == identity(len(layout)) else None

    def inputs(self, label: Layout, inputs: Sequence[Tensor | None], constant: Constant) -> list[Tensor | None]:
        made, axes = list(inputs), self.node.op.named_axes
        for i in self.data:
            t = made[i]
            if t is not None and t.data is not None:
                made[i] = constant(t, np.ascontiguousarray(t.data.transpose(label)))
        for i in axes.rows:
            t = made[i]
            assert t is not None
            assert t.data is not None
            made[i] = constant(t, t.data[list(label)])
        if axes.numbers is not None:
            t = made[axes.numbers]
            assert t is not None
            assert t.data is not None
            places = [label.index(int(a) % self.rank) for a in np.ravel(t.data)]
            made[axes.numbers] = constant(t, np.sort(np.array(places, t.data.dtype)).reshape(t.data.shape))
        return made

    def attrs(self, label: Layout) -> Any:
        axes, attrs = self.node.op.named_axes, self.node.attrs
        if axes.attribute:
            attrs = replace(attrs, **{axes.attribute: label.index(getattr(attrs, axes.attribute) % self.rank)})
        for name in axes.masks:
            mask = getattr(attrs, name)
            attrs = replace(attrs, **{name: sum(1 << i for i, a in enumerate(label) if mask >> a & 1)})
        return attrs


class Regrouping(Turning):
    """A reshape: neighbouring axes become one, or one becomes several.

    absorbed  whether all who read the result let its last axis be mixed.
    """

    def __init__(self, node: Node, rank: int, absorbed: bool) -> None:
        super().__init__(node, rank)
        assert node.inputs[0] is not None
        self.shapes = node.inputs[0].type.shape, node.outputs[0].type.shape
        self.absorbed = absorbed

    def layouts(self, label: Layout) -> Layouts | None:
        found = regrouped(*self.shapes, label, self.absorbed)
        if found is None:
            return None
        output, shuffle = found
        return Layouts((label, *(None for _ in self.node.inputs[1:])), (output,), shuffle)

    def label_of_output(self, position: int, layout: Layout) -> Layout | None:
        found = regrouped(*self.shapes[::-1], layout, False)
        return found[0] if found else None

    def inputs(self, label: Layout, inputs: Sequence[Tensor | None], constant: Constant) -> list[Tensor | None]:
        found = self.layouts(label)
        assert found is not None
        shape = self.node.inputs[1] if len(self.node.inputs) > 1 and self.node.op.name == "RESHAPE" else None
        old = np.array(self.shapes[1], np.int64) if shape is None or shape.data is None else shape.data
        like = shape or Tensor(f"{self.node.outputs[0].name}/shape", TensorType(INT32, (len(old),)))
        return [inputs[0], constant(like, np.array([old[a] for a in found.outputs[0]], np.int32))]

    def attrs(self, label: Layout) -> Any:
        return self.op().Attrs()

    def op(self) -> Any:
        return REGISTRY.by_name["RESHAPE"]


def groups_of(given: Sequence[int], wanted: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Runs of axes before and after a reshape with the same elements; those of size 1 may stand alone."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(given) or j < len(wanted):
        if i < len(given) and given[i] == 1:
            groups.append(([i], []))
            i += 1
        elif j < len(wanted) and wanted[j] == 1:
            groups.append(([], [j]))
            j += 1
        elif i == len(given) or j == len(wanted):
            return None
        else:
            left, right, n, m = [i], [j], given[i], wanted[j]
            i, j = i + 1, j + 1
            while n != m:
                if n < m and i < len(given):
                    n, i = n * given[i], i + 1
                    left.append(i - 1)
                elif m < n and j < len(wanted):
                    m, j = m * wanted[j], j + 1
                    right.append(j - 1)
                else:
                    return None
            groups.append((left, right))
    return groups


def regrouped(
    given: Sequence[int], wanted: Sequence[int], layout: Layout, absorbed: bool
) -> tuple[Layout, tuple[int, ...]] | None:
    """The layout of a reshape's result for one of its operand, and how its last axis is mixed; None where none is."""
    groups = groups_of(given, wanted) if 0 not in given else None
    if groups is None:
        return None
    number = {a: g for g, (left, _) in enumerate(groups) for a in left}
    real = [a for a in layout if given[a] != 1]
    order = list(dict.fromkeys(number[a] for a in real))
    shuffle: tuple[int, ...] = ()
    at = 0
    for g in order:
        members = [a for a in groups[g][0] if given[a] != 1]
        seen = real[at : at + len(members)]
        at += len(members)
        if seen == members:
            continue
        if not absorbed or sorted(seen) != members or groups[g][1] != [len(wanted) - 1] or g != order[-1]:
            return None
        sizes = [given[a] for a in members]
        places = np.arange(int(np.prod(sizes))).reshape(sizes)
        shuffle = tuple(places.transpose([members.index(a) for a in seen]).ravel().tolist())
    out: list[int] = []
    loose: dict[int, list[int]] = {}  # axes of size 1 that are new, by the group before them
    before = -1
    for g, (left, right) in enumerate(groups):
        if any(given[a] != 1 for a in left):
            before = g
        elif right:
            loose.setdefault(before, []).extend(right)
    out += loose.get(-1, [])
    for g in order:
        out += groups[g][1] + loose.get(g, [])
    return tuple(out), shuffle


def turning_of(node: Node, absorbed: Callable[[Tensor], bool]) -> Turning | None:
    """How a node's axes may change places; None where they may not."""
    tensors = [t for t in (*node.inputs, *node.outputs) if t is not None]
    if not node.has_rules or node.op.stateful or not node.outputs or any(t.is_variable for t in tensors):
        return None
    if any(is_dynamic(t.type) or _in_blocks(t) for t in tensors):
        return None
    rank = node.outputs[0].type.rank
    if node.op.alias and len(node.outputs) == 1 and node.inputs[0] is not None and _known_shape(node):
        return Regrouping(node, node.inputs[0].type.rank, absorbed(node.outputs[0]))
    if node.op.elementwise:
        ranks = {t.type.rank for t in node.inputs if t is not None}
        fits = len(ranks) == 1 if node.op.row_aligned else True
        return Elementwise(node, rank) if fits and rank > 1 else None
    if node.op.named_axes is None:
        return None
    return _by_axes(node)


def _by_axes(node: Node) -> Turning | None:
    axes = node.op.named_axes
    data = node.inputs[axes.data]
    if data is None or data.type.rank < 2:
        return None
    rank = data.type.rank
    if any(t.type.rank != rank for t in node.outputs) and not axes.dropped:
        return None
    if axes.joins and any(t is None or t.type.rank != rank for t in node.inputs):
        return None
    if axes.weights is not None and any(t.type.shape[:-1] != data.type.shape[:-1] for t in node.outputs):
        return None
    if axes.numbers is not None and _data(node, axes.numbers) is None:
        return None
    if any(_data(node, i) is None or len(_data(node, i)) != rank for i in axes.rows):
        return None
    names = [n for n in vars(node.attrs) if n.endswith("_mask") and n not in axes.masks]
    if getattr(node.attrs, "batch_dims", 0) or any(getattr(node.attrs, n) for n in names):
        return None
    return ByAxes(node, rank)


def _data(node: Node, position: int | None) -> Any:
    t = node.inputs[position] if position is not None and position < len(node.inputs) else None
    return None if t is None else t.data


def _known_shape(node: Node) -> bool:
    """Whether the shape that a reshape is to give is a constant."""
    return all(t is not None and t.data is not None for t in node.inputs[1:])


def _in_blocks(t: Tensor) -> bool:
    return t.type.quantization is not None and bool(t.type.quantization.block)
