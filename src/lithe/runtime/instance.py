"""A loaded model at work: what its graphs share, and how they run one another.

Sessions and functions of one model stand on one instance. It is the environment of the model's operators (see
`lithe.ops.op.Environment`): resources live here, and control flow calls other graphs through it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lithe.errors import ExecutionError, InputError, LimitError, ModelError
from lithe.ir.graph import Graph, Tensor
from lithe.runtime.compiled import cached
from lithe.runtime.executors import (
    Executor,
    bound_executor,
    cache_key,
    kept_executor,
    make_executor,
    may_compile,
    nothing_to_tune,
)
from lithe.runtime.source import Source
from lithe.runtime.workers import Workers
from lithe.types import Shape, TensorType

if TYPE_CHECKING:
    from lithe.passes.bind_variables import Bound
    from lithe.runtime.tuning import Tuning

SHAPES_COMPILED = 4  # of a graph that is called with ever new shapes; the others run on the reference executor
SHAPES_KEPT = 16
TUNING_SECONDS = 60.0  # that a model may take where nobody says how many
PRECISIONS = ("strict", "bf16x3", "fast")  # of products of floats, from the most exact


class Options(NamedTuple):
    """How the graphs of a model are run (see `make_executor`). `keep`: compiled code may be kept on disk;
    `num_threads`: threads that share an inference; `precision`: one of `PRECISIONS`, of products of floats;
    `tune`: seconds to look for the quickest code, 0 for none."""

    reference: bool = False
    num_threads: int = 1
    preserve_all: bool = False
    keep: bool = True
    precision: str = "strict"
    tune: float = 0.0

    def tuned_for(self) -> int:
        """For how many threads code is tuned; 0: it is not."""
        return self.num_threads if self.tune else 0

    def may_keep(self) -> bool:
        return self.keep and not self.preserve_all and may_compile(self.reference)


def checked_precision(precision: str) -> str:
    """The precision. Raises InputError when there is no such one."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def checked_tune(tune: bool | float) -> float:
    """Seconds to tune; 0 for none. Raises InputError for what is neither a bool nor a number above 0."""
    if isinstance(tune, bool):
        return TUNING_SECONDS if tune else 0.0
    if not isinstance(tune, int | float) or not tune > 0:
        raise InputError(f"tune is True, False, or the seconds to spend, got {tune!r}")
    return float(tune)


class Instance:
    """One copy of a model in memory, with its state.

    resources  variables and tables by key; the same for every graph.
    workers    the threads that share an inference, None where there is one.
    """

    def __init__(self, source: Source, options: Options | None = None) -> None:
        self.source, self.options = source, options or Options()
        self.resources: dict[Hashable, Any] = {}
        self.workers = Workers(self.options.num_threads) if self.options.num_threads > 1 else None
        self._once: set[int] = set()
        self._callees: dict[int, OrderedDict[tuple[Shape, ...], Executor]] = {}
        self._prepared: OrderedDict[tuple[int, tuple[tuple[int, Shape], ...]], Graph] = OrderedDict()
        self._compiled_shapes: dict[int, int] = {}
        self._work: dict[int, int] = {}
        self._spent = 0
        self._tuner: Tuning | None = None

    # executors

    def prepared(self, number: int, shapes: dict[int, Shape]) -> Graph:
        """A graph ready to be run, for input shapes that differ from the declared ones."""
        from lithe.passes import prepare, resize_inputs

        key = (number, tuple(sorted(shapes.items())))
        if key not in self._prepared:
            graph = self.graph(number)
            resized = resize_inputs(graph, shapes) if shapes else graph
            self._prepared[key] = prepare(resized, self, keep_all=self.options.preserve_all)
            if len(self._prepared) > SHAPES_KEPT:
                self._prepared.popitem(last=False)
        return self._prepared[key]

    def executor(self, number: int, shapes: dict[int, Shape], *, outline: bytes = b"") -> Executor:
        """An executor of a graph: from code kept on disk, or made now; `outline` is kept with the code."""
        options, name = self.options, self._name(number, shapes)
        kept = None if name is None else cached(name)
        found = None if kept is None else kept_executor(kept, self, self.workers)
        tuning = None if found is not None else self._tuning()
        if found is None and not options.preserve_all and may_compile(options.reference):
            bound = self._bound(number, shapes)
            if bound is not None:
                found = bound_executor(
                    bound,
                    self,
                    name=name,
                    outline=outline,
                    workers=self.workers,
                    precision=self.options.precision,
                    tuning=tuning,
                )
        return found or make_executor(
            self.prepared(number, shapes),
            self,
            reference=options.reference,
            preserve_all=options.preserve_all,
            name=name,
            outline=outline,
            workers=self.workers,
            precision=self.options.precision,
            tuning=tuning,
        )

    def _tuning(self) -> Tuning | None:
        """What looks for the quickest code, None where it was not asked for."""
        options = self.options
        if not options.tune:
            return None
        if options.preserve_all or not may_compile(options.reference):
            raise nothing_to_tune("the reference executor was asked for")
        from lithe.runtime.tuning import Tuning

        if self._tuner is None:  # one for all graphs and shapes, which share the time
            self._tuner = Tuning(self.workers, options.tune, keep=options.may_keep())
        return self._tuner

    def _bound(self, number: int, shapes: dict[int, Shape]) -> Bound | None:
        """The graph with its variables in place of their handles, None where there are none or that cannot be."""
        from dataclasses import replace

        from lithe.passes import bind_variables, prepare, resize_inputs

        graph = self.graph(number)
        bound = bind_variables(resize_inputs(graph, shapes) if shapes else graph, self)
        if bound is None or not bound.variables:
            return None
        try:
            return replace(bound, graph=prepare(bound.graph, self))
        except ModelError:  # the graph as it stands says it, if it is the model's fault
            return None

    def _name(self, number: int, shapes: dict[int, Shape]) -> bytes | None:
        """The key under which a graph's code is kept, None when it is not."""
        digest = self.source.digest if self.options.may_keep() else None
        return None if digest is None else cache_key(digest, number, shapes)

    # the environment of operators

    def graph(self, number: int) -> Graph:
        graph = self.source.whole().graphs[number]
        if graph.refusal is not None:
            raise graph.refusal
        return graph

    def call(self, number: int, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        graph = self.graph(number)
        for tensor, array in zip(graph.inputs, arrays, strict=True):
            if array.dtype != tensor.type.dtype.numpy:
                raise ExecutionError(f"graph #{number} takes {tensor.type}, is given {array.dtype}{list(array.shape)}")
        executor = self._callee(number, tuple(a.shape for a in arrays))
        for tensor, array in zip(graph.inputs, arrays, strict=True):
            storage = executor.array(tensor.index)
            assert storage is not None  # shapes are fixed now
            storage[...] = array
        executor.invoke()
        results = [executor.array(t.index) for t in graph.outputs]
        if any(r is None for r in results):
            raise ExecutionError(f"an output of graph #{number} has no value")
        return [np.array(r) for r in results]

    def _callee(self, number: int, shapes: tuple[Shape, ...]) -> Executor:
        known = self._callees.setdefault(number, OrderedDict())
        if shapes not in known:
            graph = self.graph(number)
            sizes = {t.index: s for t, s in zip(graph.inputs, shapes, strict=True)}
            compiled = self._compiled_shapes[number] = self._compiled_shapes.get(number, 0) + 1
            if compiled <= SHAPES_COMPILED and not self._is_light(number):
                known[shapes] = self.executor(number, sizes)
            else:
                known[shapes] = make_executor(self.prepared(number, sizes), self, reference=True)
            if len(known) > SHAPES_KEPT:
                known.popitem(last=False)
        known.move_to_end(shapes)
        return known[shapes]

    def _is_light(self, number: int) -> bool:
        """Whether entering compiled code would cost as much as evaluating the graph's few operators."""
        from lithe.runtime.parts import is_light

        return is_light(self.graph(number).nodes)

    def call_once(self, number: int, leaves: Mapping[str, np.ndarray] | None = None) -> None:
        if number in self._once:
            return
        self._once.add(number)
        if leaves is not None:
            self.resources.update({key: value.copy() for key, value in leaves.items()})
            return
        try:
            make_executor(self.prepared(number, {}), self, reference=True).invoke()
        except BaseException:
            self._once.discard(number)
            raise

    def shapes(self, number: int, inputs: Sequence[TensorType]) -> list[Shape]:
        graph = self.graph(number)
        sizes = {t.index: given.shape for t, given in zip(graph.inputs, inputs, strict=True)}
        if any(None in s for s in sizes.values()):
            return [_open(t) for t in graph.outputs]
        return [t.type.shape for t in self.prepared(number, sizes).outputs]

    def begin(self) -> None:
        """A run of the model starts: it may spend anew."""
        self._spent = 0

    def spend(self, iterations: int, number: int) -> None:
        if number not in self._work:
            from lithe.ops.repeat import work

            self._work[number] = work(self.graph(number))
        self._spent += iterations * self._work[number]
        limit = self.source.limits.loop_work
        if self._spent > limit:
            raise LimitError(
                f"loops did {self._spent} units of work in one run, the limit is {limit}",
                hint="does the loop end? if it only takes long: LITHE_LOOP_WORK=... or Limits(loop_work=...)",
            )

    def affords(self, work: int) -> bool:
        return work <= self.source.limits.loop_work

    def reset(self) -> None:
        """Forgets resources; what is run once runs again."""
        self.resources.clear()
        self._once.clear()
        for executors in self._callees.values():
            for executor in executors.values():
                executor.reset_variables()


def _open(t: Tensor) -> Shape:
    from lithe.passes.infer_shapes import unknown_shape

    return unknown_shape(t.type.rank)
