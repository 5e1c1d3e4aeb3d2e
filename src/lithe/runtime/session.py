"""One graph of a model with its current input shapes and its executor: what both doors stand on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from lithe.errors import FileMissing, InputError, ModelError, ResizeError, StateError
from lithe.formats.tflite import open_model, read
from lithe.ir.graph import Graph, Module, Tensor
from lithe.ops.verify import Limits, verify
from lithe.passes import prepare, resize_inputs
from lithe.runtime.executors import Executor, cache_key, kept_executor, make_executor, may_compile
from lithe.types import Shape


@dataclass(frozen=True)
class Options:
    """How the graphs of a model are run (see `make_executor`).

    source  digest of the model's bytes, under which compiled code is kept on disk; None: it is not kept.
    """

    reference: bool = False
    num_threads: int = 1
    preserve_all: bool = False
    source: bytes | None = None


def open_module(source: str | os.PathLike[str] | bytes, limits: Limits | None = None) -> tuple[Module, bytes | None]:
    """Reads and verifies a model from a path (mapped into memory) or from its bytes: (module, digest).

    The digest is None when the file does not hold the whole model, or changed while it was read.
    Raises FileMissing when the path cannot be opened, ModelError when the content is not a sound model.
    """
    limits = limits or Limits()
    digest: bytes | None
    if isinstance(source, bytes):
        module, digest = read(source, limits=limits), sha256(source).digest()
    else:
        path = _existing(source)
        before = _identity(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, sha256).digest()
        module = open_model(path, limits=limits)
        digest = digest if _identity(path) == before else None
    verify(module, limits)
    return module, None if "external_buffers" in module.extras else digest


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _existing(path: str | os.PathLike[str]) -> Path:
    try:
        found = Path(os.fspath(path))
    except TypeError as cause:
        raise InputError(f"a model is a path or bytes: {cause}") from cause
    if "\0" in str(found) or not found.is_file():
        raise FileMissing(f"Could not open '{found}'.", hint="check the path: there is no such file")
    if not os.access(found, os.R_OK):
        raise FileMissing(f"Could not open '{found}'.", hint="check the permissions")
    return found


class Session:
    """Runs one graph; `resize` and `allocate` come before `invoke`.

    graph   as the file holds it; its tensors keep their declared shapes.
    number  the graph's place in the model.
    """

    def __init__(self, graph: Graph, options: Options, number: int = 0) -> None:
        self.graph = graph
        self._number = number
        self.ready = False
        self._options = options
        self._tensors = {t.index: t for t in graph.tensors}
        self._inputs = {t.index: t for t in graph.inputs}
        self._shapes: dict[int, Shape] = {}
        self._unset: set[int] = set()
        self._executor: Executor | None = None
        self._prepared: Graph | None = None

    def tensor(self, index: int) -> Tensor | None:
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
        kept = options.source if not options.preserve_all and may_compile(options.reference) else None
        name = None if kept is None else cache_key(kept, self._number, self._shapes)
        executor = None if name is None else kept_executor(name)
        if executor is None:
            executor = make_executor(
                self._prepare(), reference=options.reference, preserve_all=options.preserve_all, name=name
            )
        before, self._executor = self._executor, executor
        self._unset.clear()
        if before is not None:
            self._carry_inputs_over(before, executor)
        self.ready = True

    def _prepare(self) -> Graph:
        """The prepared graph for the current shapes, made once."""
        if self._prepared is None:
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
