"""Several samples in one run of a float model that was made for one.

A model whose inputs begin with an axis of 1 mostly computes each place along that axis from that place alone. Whether
it does, its results say: the first and the last sample of the first batch are run on their own too, and every tensor
has to hold for each what it holds for it alone. Steps of Python are then taken once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

from lithe.errors import LitheError
from lithe.ir.graph import Module, Node, Tensor
from lithe.optimize.recipes import WEIGHTS_OPERAND
from lithe.runtime.instance import Instance, Options
from lithe.runtime.session import Session
from lithe.runtime.source import Source

MOST = 64  # samples at once
MOST_BYTES = 1 << 22  # of all results of a batch
CLOSE = 1e-4  # to the largest number: sums are taken in another order
RUN_SECONDS, ELEMENT_SECONDS, PRODUCT_SECONDS = 1e-4, 1e-8, 2e-10  # of an operator, an element, a product, without code


class Batches:
    """Runs several samples at once, as long as that is the same."""

    def __init__(
        self, module: Module, outputs: Sequence[Tensor], single: Callable[[list[Any]], list[np.ndarray]]
    ) -> None:
        """single: gives what the model, which is `module`, computes for one sample: its `outputs`."""
        self._inputs, self._outputs, self._single = module.main.inputs, outputs, single
        self._checked = False
        self._session: Session | None = None
        self.most = 1 if not self._can_be(module) else _fitting(outputs)
        if self.most > 1:
            self._session = Session(Instance(Source(_of_any_count(module)), Options(reference=True)), 0)

    def _can_be(self, module: Module) -> bool:
        """Whether it may be: nothing is kept between runs or hidden, and every input begins with an axis of 1."""
        nodes = module.main.nodes
        plain = not any(n.op.stateful or n.op.calls or n.op.fused is not None for n in nodes)
        kept = any(t is not None and t.is_variable for n in nodes for t in n.inputs)
        return plain and not kept and all(t.type.rank and t.type.shape[0] == 1 for t in self._inputs)

    def run(self, samples: list[list[Any]]) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
        """Returns inputs and outputs, with the samples one after another in the first axis; None where that is not the
        same as one at a time."""
        if self._session is None or not all(self._fits(arrays) for arrays in samples):
            return None
        given = [np.concatenate(arrays) for arrays in zip(*samples, strict=True)]
        try:
            results = self._invoked(given)
            if not self._checked:
                if all(np.array_equal(a, b) for a, b in zip(samples[0], samples[-1], strict=True)):
                    return None  # which says nothing of others
                self._checked = self._agrees(results, samples)
        except LitheError:  # of operators that need the axis as it is
            results = []
        if not self._checked or not results:
            self._session, self.most = None, 1
            return None
        return given, results

    def _fits(self, arrays: list[Any]) -> bool:
        return all(
            isinstance(a, np.ndarray) and a.shape == t.type.shape and a.dtype == t.type.dtype.numpy
            for a, t in zip(arrays, self._inputs, strict=True)
        )

    def _invoked(self, given: list[np.ndarray]) -> list[np.ndarray]:
        session = self._session
        assert session is not None
        for t, array in zip(self._inputs, given, strict=True):
            session.resize(t.index, array.shape)
        session.allocate()
        for t, array in zip(self._inputs, given, strict=True):
            session.put(t.index, array)
        session.invoke()
        return [np.asarray(session.array(t.index)) for t in self._outputs]

    def _agrees(self, results: list[np.ndarray], samples: list[list[Any]]) -> bool:
        count = len(samples)
        ends = self._single(samples[0]), self._single(samples[-1])
        for together, first, last in zip(results, *ends, strict=True):
            if together.shape == first.shape and _close(together, first) and _close(together, last):
                continue  # it depends on no sample
            n = len(first) if first.ndim else 0
            if not first.ndim or together.shape != (n * count, *first.shape[1:]):
                return False
            if not (_close(together[:n], first) and _close(together[-n:], last)):
                return False
        return True


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    return not b.size or bool(np.abs(a - b).max() <= CLOSE * np.abs(b).max())


def _fitting(outputs: Sequence[Tensor]) -> int:
    """A power of two."""
    room = MOST_BYTES // max(1, sum(t.type.nbytes for t in outputs))
    return 1 << min(MOST, max(1, room)).bit_length() - 1


def _of_any_count(module: Module) -> Module:
    """A copy in which shapes that are written down begin with "what is left" in place of 1."""
    made = module.copy()
    for node in made.main.nodes:
        names = [name.rstrip("?*") for name in node.op.operands[0]]
        place = names.index("shape") if "shape" in names else len(node.inputs)
        t = node.inputs[place] if place < len(node.inputs) else None
        shape = node.outputs[0].type.shape
        if t is not None and t.data is not None and t.data.shape == (len(shape),) and shape[:1] == (1,):
            data = np.array((-1, *shape[1:]), t.data.dtype)
            node.inputs[place] = Tensor(t.name, replace(t.type), data)
    made.main.renumber()
    return made


def each_seconds(module: Module, at_once: int) -> float:
    """What a sample takes without code, if some are run at once."""
    return sum(RUN_SECONDS / at_once + sum(map(_seconds, n.outputs, repeat(n))) for n in module.main.nodes)


def _seconds(made: Tensor, node: Node) -> float:
    """What a result takes without code: a contraction multiplies each element of it with its output's weights."""
    weights = node.inputs[WEIGHTS_OPERAND] if node.op.weights_axis is not None else None
    products = weights.type.size / max(1, weights.type.shape[node.op.weights_axis]) if weights else 0
    return made.type.size * (ELEMENT_SECONDS + products * PRODUCT_SECONDS)
