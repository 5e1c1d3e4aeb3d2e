"""Several samples in one run of a float model that was made for one, by the definitions of its operators.

Steps of Python are taken once for all samples, operator by operator. Each operator is given them all in one of these
ways, the first that is right:

    joined   one after another along the first axis: an operator that computes each place along it alone
    stacked  along an axis of their own, before all others: what is broadcast, works along the last axes or names axes
    each     one by one: whatever keeps something from one sample to the next, or runs other graphs

Which is right, results say, where the operator's class does not: the first and the last sample are computed on their
own too, from the same operands, and have to be what they are among the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np

from lithe.errors import LitheError
from lithe.ir.graph import Module, Node, Tensor
from lithe.ops.op import Axes, RuleViolation, Site
from lithe.optimize.inside import Seen, Surroundings, evaluated_inside, hides
from lithe.optimize.recipes import WEIGHTS_OPERAND
from lithe.passes.infer_shapes import BAD_NUMBERS, inferred, is_dynamic
from lithe.passes.inline_graphs import inline_graphs
from lithe.passes.prepare import prepare
from lithe.runtime.reference import ReferenceExecutor, Step, evaluated
from lithe.types import INT32, TensorType

MOST = 64  # samples at once
MOST_BYTES = 1 << 24  # of what an operator reads and writes
CLOSE = 1e-4  # to the largest number: sums are taken in another order
RUN_SECONDS, ELEMENT_SECONDS, PRODUCT_SECONDS = 1e-4, 1e-8, 2e-10  # of an operator, an element, a product, without code
QUICK = 0.2  # of the last two, where sums are taken in float32
JOINED, STACKED, EACH = "joined", "stacked", "each"

Show = Callable[[Seen, np.ndarray, int, int], None]  # what holds what, of how many samples, the number of the first


@dataclass
class _Part:
    """A step of the run.

    seen      its results in the module; None: nobody wants to see them.
    node      the operator in the module, where it has something inside to be seen.
    varying   for each operand, whether it has a value for each sample.
    released  what is not read any more.
    """

    step: Step
    seen: list[Tensor | None]
    node: Node | None
    varying: list[bool]
    released: list[Tensor] = field(default_factory=list)
    way: str = ""
    sites: dict[tuple[str, int], Site] = field(default_factory=dict)

    @property
    def is_alone(self) -> bool:
        op = self.step.node.op
        keeps = any(t is not None and t.is_variable for t in self.step.node.inputs)
        return bool(op.stateful or op.calls or keeps or self.node is not None)


class Batches:
    """Runs samples, several at once, and shows what the tensors of a model hold."""

    def __init__(
        self, module: Module, watched: Sequence[Tensor], known: int | None = None, ways: Sequence[str] = ()
    ) -> None:
        """watched: the tensors to be shown; known: how many samples there are; ways: if a model of the same operators
        ran on the same samples before, what was right there."""
        self._module, self._inputs = module, module.main.inputs
        self._surroundings = Surroundings(module)
        self.most = 1
        self.is_able = not _shares(module)
        if not self.is_able:
            return
        made = module.main.copy()
        same = dict(zip(module.main.tensors, made.tensors, strict=True))
        nodes = dict(zip(made.nodes, module.main.nodes, strict=True))
        makers = {t: nodes[n] for n in made.nodes for t in n.outputs if hides(module, nodes[n])}
        inline_graphs(made, self._surroundings)
        made.renumber()
        graph = prepare(made, self._surroundings, keep_all=True)
        at = {t.index: t for t in graph.tensors}
        shown = {at[same[t].index]: t for t in watched if same[t].index in at}
        hidden = {at[t.index]: n for t, n in makers.items()}
        self._at = [at[same[t].index] for t in self._inputs]
        self._executor = ReferenceExecutor(graph, self._surroundings, keep_all=True, quick=True)
        self._known = {t: t.data for t in graph.tensors if t.data is not None}
        self._parts: list[_Part] = []
        varying = set(self._at)
        for step in self._executor.steps:
            n = step.node
            given = [t in varying for t in n.inputs]
            part = _Part(
                step, [shown.get(t) for t in n.outputs], hidden.get(n.outputs[0]) if n.outputs else None, given
            )
            if any(given) or part.is_alone:
                varying.update(n.outputs)
            part.way = JOINED if _is_by_places(part) else ""
            self._parts.append(part)
        for part, way in zip(self._parts, ways, strict=False):
            part.way = way
        later: set[Tensor] = set()
        for part in reversed(self._parts):
            mentioned = {t for t in (*part.step.node.inputs, *part.step.node.outputs) if t is not None}
            part.released = [t for t in mentioned if t not in later]
            later |= mentioned
        self.is_able = not any(is_dynamic(t.type) for t in graph.tensors)
        self.most = _fitting(graph.nodes, varying, known) if self.is_able else 1

    @property
    def ways(self) -> list[str]:
        """The way in which each operator was run, "" where that is not known."""
        return [part.way for part in self._parts]

    def fits(self, arrays: list[Any]) -> bool:
        """Whether a sample can be run: its arrays are what the model declares."""
        return self.is_able and all(
            isinstance(a, np.ndarray) and a.shape == t.type.shape and a.dtype == t.type.dtype.numpy
            for a, t in zip(arrays, self._inputs, strict=True)
        )

    def run(self, samples: list[list[Any]], show: Show) -> None:
        """Runs samples that fit. Raises LitheError where an operator cannot be computed."""
        count = len(samples)
        values: dict[Tensor, np.ndarray] = dict(self._known)
        for t, own, several in zip(self._at, self._inputs, zip(*samples, strict=True), strict=True):
            values[t] = np.stack(several) if count > 1 else several[0][None]
            _show(show, own, values[t], count)
        for part in self._parts:
            node = part.step.node
            arrays = [None if t is None else values[t] if t in values else self._variable(t) for t in node.inputs]
            if any(part.varying) or part.is_alone:
                values |= zip(node.outputs, self._results(part, arrays, count, show), strict=True)
            elif any(t not in values for t in node.outputs):
                self._known |= zip(node.outputs, evaluated(part.step, arrays), strict=True)
                values |= self._known
            for t, seen in zip(node.outputs, part.seen, strict=True):
                if seen is not None and t in self._known:
                    show(seen, values[t], 1, 0)
                elif seen is not None:
                    _show(show, seen, values[t], count)
            for t in part.released:
                if t not in self._known:
                    values.pop(t, None)

    def _variable(self, t: Tensor) -> np.ndarray:
        array = self._executor.array(t.index)
        assert array is not None, t
        return array

    def _results(self, part: _Part, arrays: list[np.ndarray | None], count: int, show: Show) -> list[np.ndarray]:
        """The results, with an axis for the samples before all others."""
        if part.is_alone or count <= (1 if part.way else 2) or part.way == EACH:  # of two, each would be tried alone
            made = [self._one(part, arrays, n, show) for n in range(count)]
            return [np.stack(several) if count > 1 else several[0][None] for several in zip(*made, strict=True)]
        if part.way:
            return _together(part, arrays, count, part.way)
        given = [a for a, v in zip(arrays, part.varying, strict=True) if v and a is not None]
        differ = not all(np.array_equal(a[0], a[-1]) for a in given)
        ends = self._one(part, arrays, 0, show), self._one(part, arrays, count - 1, show)
        for way in (JOINED, STACKED):
            try:
                found = _together(part, arrays, count, way)
            except (LitheError, RuleViolation, *BAD_NUMBERS):
                continue
            if all(_close(f[0], a) and _close(f[-1], b) for f, a, b in zip(found, *ends, strict=True)):
                part.way = way if differ else ""
                return found
        part.way = EACH if differ else ""
        return self._results(replace(part, way=EACH), arrays, count, show)

    def _one(self, part: _Part, arrays: list[np.ndarray | None], n: int, show: Show) -> list[np.ndarray]:
        """What the operator makes of one sample."""
        own = [a[n] if v and a is not None else a for a, v in zip(arrays, part.varying, strict=True)]
        if part.is_alone:
            self._surroundings.begin()
            self._surroundings.show = lambda seen, value: show(seen, value, 1, n)
        if part.node is not None and part.node.op.inside is not None and _is_real(part.node):
            return evaluated_inside(part.node, self._surroundings, own, self._surroundings.show)
        return evaluated(part.step, own)


def _is_by_places(part: _Part) -> bool:
    """Whether an operator is known to compute each place along the first axis alone: elements, and sums of products
    with constant weights."""
    node, varying = part.step.node, part.varying
    if not node.has_rules or part.is_alone or not any(varying):
        return False
    types = [None if t is None else t.type for t in node.inputs]
    shape = next(t.shape for t, v in zip(types, varying, strict=True) if v and t is not None)
    if node.op.factors is not None:
        return varying[0] and not any(varying[1:])
    if not node.op.elementwise or not shape or any(t.type.shape != shape for t in node.outputs):
        return False
    for t, v in zip(types, varying, strict=True):
        same = t is None or t.shape == shape
        repeated = node.op.broadcasts and not node.op.row_aligned
        wide = t is None or (repeated and (t.rank < len(shape) or (t.rank == len(shape) and t.shape[0] == 1)))
        if not (same if v else wide):
            return False
    return True


def _is_real(node: Node) -> bool:
    """Whether it computes with real numbers alone; what is inside of others is not to be seen."""
    return all(t is None or t.type.dtype.is_float for t in (*node.inputs, *node.outputs))


def _show(show: Show, tensor: Tensor, values: np.ndarray, count: int) -> None:
    """Shows samples one after another along the first axis."""
    show(tensor, values.reshape(count * values.shape[1], *values.shape[2:]) if values.ndim > 1 else values, count, 0)


def _together(part: _Part, arrays: list[np.ndarray | None], count: int, way: str) -> list[np.ndarray]:
    """The results of all samples in one run of the operator; an error, perhaps, where that is not the way."""
    node = part.step.node
    if (way, count) not in part.sites:
        part.sites[way, count] = _site(part, arrays, count, way)
    site = part.sites[way, count]
    given = list(site.constants)
    for i, (a, v) in enumerate(zip(arrays, part.varying, strict=True)):
        given[i] = _laid(a, way) if v and a is not None else given[i]
    with np.errstate(all="ignore"):
        results = [np.asarray(r) for r in node.op.evaluate(site, *given)]
    return [r.reshape(count, *t.type.shape) for r, t in zip(results, node.outputs, strict=True)]


def _laid(values: np.ndarray, way: str) -> np.ndarray:
    return values.reshape(-1, *values.shape[2:]) if way == JOINED and values.ndim > 1 else values


def _site(part: _Part, arrays: list[np.ndarray | None], count: int, way: str) -> Site:
    """The operator's site in a run of several samples. Operands that are the same for all are in `constants`."""
    node, declared = part.step.node, part.step.declared
    constants = [None if v else a for a, v in zip(arrays, part.varying, strict=True)]
    names = [name.rstrip("?*") for name in node.op.operands[0]]
    inputs = [
        None if t is None or a is None else replace(t, shape=_laid(a, way).shape if v else np.shape(a))
        for t, a, v in zip(declared.inputs, arrays, part.varying, strict=True)
    ]
    place = next((i for i, name in enumerate(names[: len(constants) + 1]) if name.endswith("shape")), None)
    if place is not None:  # what is written down there is of one sample
        shape = node.outputs[0].type.shape
        wide = (count * shape[0], *shape[1:]) if way == JOINED and shape else (count, *shape)
        constants[place : place + 1] = [np.array(wide, np.int32)]
        inputs[place : place + 1] = [TensorType(INT32, (len(wide),))]
    attrs = declared.attrs
    if way == STACKED and node.op.named_axes is not None:
        attrs = _behind_samples(node, node.op.named_axes, constants, count)
        inputs = [
            t if c is None or t is None else replace(t, shape=c.shape) for t, c in zip(inputs, constants, strict=True)
        ]
    site = replace(declared, attrs=attrs, inputs=tuple(inputs), constants=tuple(constants))
    made = zip(declared.outputs, inferred(node, site), strict=True)
    return replace(site, outputs=tuple(replace(t, shape=s) for t, s in made))


def _behind_samples(node: Node, axes: Axes, constants: list[np.ndarray | None], count: int) -> Any:
    """The attributes of an operator that names axes, and what it names them in, with the samples' axis before all."""
    attrs = node.attrs
    if axes.attribute and getattr(attrs, axes.attribute) >= 0:
        attrs = replace(attrs, **{axes.attribute: getattr(attrs, axes.attribute) + 1})
    attrs = replace(attrs, **{mask: getattr(attrs, mask) << 1 for mask in axes.masks})
    numbers = None if axes.numbers is None else constants[axes.numbers]
    if axes.numbers is not None and numbers is not None:
        constants[axes.numbers] = np.where(numbers < 0, numbers, numbers + 1).astype(numbers.dtype)
    whole = [0, count, 1] if len(axes.rows) > 1 else [1]  # of a slice: from where, how far, in which steps
    for place, entry in zip(axes.rows, whole, strict=False):
        rows = constants[place] if place < len(constants) else None
        if rows is not None:
            first = np.full((1, *rows.shape[1:]), entry if rows.ndim == 1 else 0, rows.dtype)
            constants[place] = np.concatenate([first, rows])
    return attrs


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind not in "fc":
        return a.dtype == b.dtype and np.array_equal(a, b)
    with np.errstate(invalid="ignore"):  # infinity is close to nothing
        return not b.size or bool(np.abs(a - b).max() <= CLOSE * np.abs(b).max())


def _shares(module: Module) -> bool:
    """Whether operators leave something to one another, so that a sample has to go through all before the next."""
    if any(
        t.type.dtype.kind == "resource" for g in module.graphs for n in g.nodes for t in (*n.inputs, *n.outputs) if t
    ):
        return True
    main = [t for n in module.main.nodes for t in (*n.inputs, *n.outputs) if t is not None and t.is_variable]
    return len(main) != len(set(main))


def _fitting(nodes: Sequence[Node], varying: set[Tensor], known: int | None) -> int:
    """How many samples at once: as fit in the cache, in runs of the same length."""
    largest = max((sum(t.type.nbytes for t in (*n.inputs, *n.outputs) if t in varying) for n in nodes), default=0)
    most = min(MOST, max(1, MOST_BYTES // max(1, largest)))
    return -(-known // -(-known // most)) if known else most


def each_seconds(module: Module, at_once: int, quick: bool = False) -> float:
    """What a sample takes without code, if some are run at once."""
    nodes = module.main.nodes
    computed = sum(sum(map(_seconds, n.outputs, repeat(n))) for n in nodes)
    return len(nodes) * RUN_SECONDS / at_once + computed * (QUICK if quick else 1)


def _seconds(made: Tensor, node: Node) -> float:
    """What a result takes without code: a contraction multiplies each element of it with its output's weights."""
    weights = node.inputs[WEIGHTS_OPERAND] if node.op.weights_axis is not None else None
    products = weights.type.size / max(1, weights.type.shape[node.op.weights_axis]) if weights else 0
    return made.type.size * (ELEMENT_SECONDS + products * PRODUCT_SECONDS)
