"""One graph of a model with its current input shapes and its executor: what both doors stand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy import ndarray

from lithe.errors import ModelError, ResizeError, StateError
from lithe.ir.graph import Graph, Tensor
from lithe.runtime.compiled import CompiledExecutor
from lithe.runtime.executors import Executor, kept_executor
from lithe.runtime.instance import Instance
from lithe.runtime.outline import outline_of
from lithe.runtime.values import is_plain
from lithe.types import Shape


class Session:
    """Runs one graph; `resize` and `allocate` come before `invoke`.

    instance  the loaded model; it is read when something is asked that its outline cannot tell.
    number    the graph's place in the model.
    """

    def __init__(self, instance: Instance, number: int = 0) -> None:
        self._instance, self._source, self._number = instance, instance.source, number
        self.ready = False
        self._shapes: dict[int, Shape] = {}
        self._unset: set[int] = set()
        self._executor: Executor | None = None
        self._direct: Callable[[], int] | None = None
        self._plain: dict[int, ndarray] = {}  # storage of the inputs that `put` serves
        self._index(instance.source.module.graphs[number])

    def _index(self, graph: Graph) -> None:
        self._tensors = {t.index: t for t in graph.tensors}
        self._inputs = {t.index: t for t in graph.inputs}
        self._indexed_whole = self._source.is_whole

    @property
    def graph(self) -> Graph:
        """The graph as the file holds it; its tensors keep their declared shapes."""
        graph = self._source.whole().graphs[self._number]
        if not self._indexed_whole:
            self._index(graph)
        return graph

    def tensor(self, index: int) -> Tensor | None:
        if index not in self._tensors and not self._indexed_whole:
            return next((t for t in self.graph.tensors if t.index == index), None)
        return self._tensors.get(index)

    def shape(self, index: int) -> Shape:
        """The shape now: of the value if there is one, else inferred, else declared."""
        if index in self._shapes:
            return self._shapes[index]
        declared = self._tensors[index].type.shape
        value = self.array(index)
        if value is not None and self._executor is not None:
            return value.shape
        known = self._inferred().get(index, declared) if self._executor is not None else declared
        if len(known) != len(declared):
            return tuple(-1 if n is None else n for n in known)
        return tuple(d if n is None else n for n, d in zip(known, declared, strict=True))

    def resize(self, index: int, shape: Sequence[int]) -> None:
        """Gives an input another shape. Nothing is computed before `allocate`."""
        dims = tuple(int(d) for d in shape)
        if index in self._inputs and self.shape(index) == dims:
            return
        from lithe.passes import resize_inputs

        resize_inputs(self.graph, {index: dims})
        self._shapes[index] = dims
        self._unset.add(index)
        self._plain, self._direct = {}, None
        self.ready = False

    def allocate(self) -> None:
        """Prepares the graph for its input shapes; does nothing when that is done."""
        if self.ready:
            return
        executor = self._kept_executor()
        if executor is None:
            outline = outline_of(self._source.whole()) if self._is_plain() else b""
            with self._blamed_on_shapes():
                executor = self._instance.executor(self._number, self._shapes, outline=outline)
        before, self._executor = self._executor, executor
        self._unset.clear()
        if before is not None:
            self._carry_inputs_over(before, executor)
        storages = {i: executor.array(i) for i, t in self._inputs.items() if is_plain(t.type.dtype)}
        self._plain = {i: s for i, s in storages.items() if s is not None and not self._inputs[i].is_constant}
        self._direct = executor.direct if isinstance(executor, CompiledExecutor) else None
        self.ready = True

    def _is_plain(self) -> bool:
        """Whether this is the main graph at its declared shapes, whose code is kept with the model's outline."""
        return self._number == 0 and not self._shapes

    def _kept_executor(self) -> Executor | None:
        """The executor of the code that was found with the model's outline."""
        kept = self._source.kept if self._is_plain() and self._instance.options.may_keep() else None
        return None if kept is None else kept_executor(kept, self._instance, self._instance.workers)

    @contextmanager
    def _blamed_on_shapes(self) -> Iterator[None]:
        """What is wrong with a model whose inputs were resized is probably their shapes."""
        try:
            yield
        except ModelError as cause:
            if not self._shapes:
                raise
            wanted = ", ".join(f"#{i} {list(s)}" for i, s in self._shapes.items())
            raise ResizeError(
                f"the model cannot take inputs of these shapes ({wanted}): {cause.problem}",
                where=cause.where,
                hint="dimensions that may change are -1 in `shape_signature`",
            ) from cause

    def _inferred(self) -> dict[int, Shape]:
        with self._blamed_on_shapes():
            return {t.index: t.type.shape for t in self._instance.prepared(self._number, self._shapes).tensors}

    def _carry_inputs_over(self, before: Executor, after: Executor) -> None:
        for index, tensor in self._inputs.items():
            old, new = before.array(index), after.array(index)
            if old is not None and new is not None and old.shape == new.shape and not tensor.is_constant:
                new[...] = old

    def invoke(self) -> None:
        if self._direct is not None:  # a small model takes less time than a few steps of Python
            failure = self._direct()
            if failure and isinstance(self._executor, CompiledExecutor):
                self._executor.fail(failure)
            return
        if not self.ready or self._executor is None:
            raise StateError("Invoke called on model that is not ready.", hint="call allocate_tensors() first")
        self._instance.begin()
        self._executor.invoke()

    def put(self, index: int, value: object) -> bool:
        """Copies an array into an input, if it has exactly its type and shape; whether it did.

        The quick way, for what nearly every call brings; `lithe.runtime.values.set_value` knows the others.
        """
        storage = self._plain.get(index)
        if storage is None or type(value) is not ndarray:
            return False
        if value.dtype != storage.dtype or value.shape != storage.shape:
            return False
        storage[...] = value
        return True

    def reset_variables(self) -> None:
        if self._executor is not None:
            self._executor.reset_variables()

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of a tensor, a constant's data, or None."""
        if index in self._unset:
            return None
        value = self._executor.array(index) if self._executor is not None else None
        return self._tensors[index].data if value is None and index in self._tensors else value
