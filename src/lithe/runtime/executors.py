"""Which executor runs a graph: compiled where that is possible, else the reference one, which says so."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import cache
from typing import Protocol

import numpy as np

from lithe.errors import CompileError, MissingDependency, UnsupportedOp
from lithe.ir.graph import Graph
from lithe.runtime import compiled
from lithe.runtime.compiled import Artifact, CompiledExecutor, store
from lithe.types import Shape

log = logging.getLogger("lithe")


class Executor(Protocol):
    """Runs one prepared graph of fixed shapes. Tensors are named by their index in the model file."""

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of an input, output or variable; None when the tensor has no value (any more)."""

    def invoke(self) -> None:
        """Runs the graph once on what the inputs' storage holds."""

    def reset_variables(self) -> None:
        """Puts every variable tensor back to its first value."""


def may_compile(reference: bool = False) -> bool:
    """Whether compiled code is wanted: not by the caller's choice, nor with LITHE_JIT=0 in the environment."""
    return not reference and os.environ.get("LITHE_JIT") != "0"


def kept_executor(artifact: Artifact) -> Executor | None:
    """The executor of code kept on disk, None when it is of no use."""
    try:
        return CompiledExecutor(artifact)
    except CompileError as cause:
        log.warning("kept code is of no use, compiling again: %s", cause.problem)
        return None


def cache_key(source: bytes, graph: int, shapes: dict[int, Shape]) -> bytes | None:
    """The key of a graph's code: of the model with this digest, for these input shapes."""
    try:
        return compiled.cache_key(source, graph, shapes)
    except (MissingDependency, CompileError):  # said when the code is to be made
        return None


def make_executor(
    graph: Graph,
    *,
    reference: bool = False,
    preserve_all: bool = False,
    name: bytes | None = None,
    outline: bytes = b"",
) -> Executor:
    """Returns an executor of a prepared graph.

    reference     use the reference executor (see `may_compile`).
    preserve_all  intermediate tensors keep their values; only the reference executor can do that.
    name          keep compiled code on disk under this key, for the next start; `outline` goes with it.
    """
    from lithe.runtime.reference import ReferenceExecutor

    if preserve_all or not may_compile(reference):
        return ReferenceExecutor(graph, keep_all=preserve_all)
    from lithe.runtime.compilation import build

    reason = not_compilable(graph)
    if reason:
        _say_once(reason)
        return ReferenceExecutor(graph)
    try:
        artifact = build(graph)
        executor = CompiledExecutor(artifact)
    except (UnsupportedOp, MissingDependency, CompileError) as cause:
        _say_once(f"{cause.problem} ({cause.where})" if cause.where else cause.problem)
        return ReferenceExecutor(graph)
    if name is not None:
        store(name, replace(artifact, outline=outline))
    return executor


def not_compilable(graph: Graph) -> str:
    """Why no code can be made for the graph whatever its operators are; empty if nothing speaks against it."""
    from lithe.passes import is_dynamic

    for tensor in (*graph.inputs, *graph.outputs, *(t for node in graph.nodes for t in node.outputs)):
        if is_dynamic(tensor.type):
            return f"a shape depends on data (tensor {tensor!r})"
        if tensor.type.dtype.kind in ("string", "resource"):
            return f"{tensor.type.dtype} values have no place in memory (tensor {tensor!r})"
    return ""


@cache
def _say_once(reason: str) -> None:
    log.warning("not compiled, runs on the reference executor, which is slow: %s", reason)
