"""One graph of a model with its current input shapes and its executor: what both doors stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithe.errors import ModelError, ResizeError, StateError
from lithe.ir.graph import Graph, Tensor
from lithe.runtime.compiled import cached
from lithe.runtime.executors import Executor, cache_key, kept_executor, make_executor, may_compile
from lithe.runtime.outline import outline_of
from lithe.runtime.source import Source
from lithe.types import Shape


@dataclass(frozen=True)
class Options:
    """How the graphs of a model are run (see `make_executor`). `keep`: compiled code may be kept on disk."""

    reference: bool = False
    num_threads: int = 1
    preserve_all: bool = False
    keep: bool = True

    def may_keep(self) -> bool:
        return self.keep and not self.preserve_all and may_compile(self.reference)


class Session:
    """Runs one graph; `resize` and `allocate` come before `invoke`.

    source  the model; it is read when something is asked that its outline cannot tell.
    number  the graph's place in the model.
    """

    def __init__(self, source: Source, options: Options, number: int = 0) -> None:
        self._source, self._options, self._number = source, options, number
        self.ready = False
        self._shapes: dict[int, Shape] = {}
        self._unset: set[int] = set()
        self._executor: Executor | None = None
        self._prepared: Graph | None = None
        self._index(source.module.graphs[number])

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
        self.ready = False

    def allocate(self) -> None:
        """Prepares the graph for its input shapes; does nothing when that is done."""
        if self.ready:
            return
        self._prepared = None
        options = self._options
        executor = self._kept_executor()
        if executor is None:
            executor = make_executor(
                self._prepare(),
                reference=options.reference,
                preserve_all=options.preserve_all,
                name=self._name(),
                outline=outline_of(self._source.whole()) if self._is_plain() else b"",
            )
        before, self._executor = self._executor, executor
        self._unset.clear()
        if before is not None:
            self._carry_inputs_over(before, executor)
        self.ready = True

    def _is_plain(self) -> bool:
        """Whether this is the main graph at its declared shapes, whose code is kept with the model's outline."""
        return self._number == 0 and not self._shapes

    def _name(self) -> bytes | None:
        """The key under which this graph's code is kept, None when it is not."""
        digest = self._source.digest if self._options.may_keep() else None
        return None if digest is None else cache_key(digest, self._number, self._shapes)

    def _kept_executor(self) -> Executor | None:
        if not self._options.may_keep():
            return None
        if self._is_plain() and self._source.kept is not None:
            return kept_executor(self._source.kept)
        name = self._name()
        found = None if name is None else cached(name)
        return None if found is None else kept_executor(found)

    def _prepare(self) -> Graph:
        """The prepared graph for the current shapes, made once."""
        if self._prepared is None:
            from lithe.passes import prepare, resize_inputs

            graph = resize_inputs(self.graph, self._shapes) if self._shapes else self.graph
            try:
                self._prepared = prepare(graph, keep_all=self._options.preserve_all)
            except ModelError as cause:
                if not self._shapes:
                    raise
                wanted = ", ".join(f"#{i} {list(s)}" for i, s in self._shapes.items())
                raise ResizeError(
                    f"the model cannot take inputs of these shapes ({wanted}): {cause.problem}",
                    where=cause.where,
                    hint="dimensions that may change are -1 in `shape_signature`",
                ) from cause
        return self._prepared

    def _inferred(self) -> dict[int, Shape]:
        return {t.index: t.type.shape for t in self._prepare().tensors}

    def _carry_inputs_over(self, before: Executor, after: Executor) -> None:
        for index, tensor in self._inputs.items():
            old, new = before.array(index), after.array(index)
            if old is not None and new is not None and old.shape == new.shape and not tensor.is_constant:
                new[...] = old

    def invoke(self) -> None:
        if not self.ready or self._executor is None:
            raise StateError("Invoke called on model that is not ready.", hint="call allocate_tensors() first")
        self._executor.invoke()

    def reset_variables(self) -> None:
        if self._executor is not None:
            self._executor.reset_variables()

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of a tensor, a constant's data, or None."""
        if index in self._unset:
            return None
        value = self._executor.array(index) if self._executor is not None else None
        return self._tensors[index].data if value is None and index in self._tensors else value
