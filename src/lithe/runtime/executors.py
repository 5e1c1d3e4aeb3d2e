"""Which executor runs a graph: compiled where that is possible, else the reference one, which says so."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Protocol

import numpy as np

from lithe.errors import CompileError, MissingDependency, UnsupportedOp
from lithe.ir.graph import Graph
from lithe.runtime.reference import ReferenceExecutor

log = logging.getLogger("lithe")


class Executor(Protocol):
    """Runs one prepared graph of fixed shapes. Tensors are named by their index in the model file."""

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of an input, output or variable; None when the tensor has no value (any more)."""

    def invoke(self) -> None:
        """Runs the graph once on what the inputs' storage holds."""

    def reset_variables(self) -> None:
        """Puts every variable tensor back to its first value."""


def make_executor(
    graph: Graph,
    *,
    reference: bool = False,
    preserve_all: bool = False,
    cached: bool = True,
    name: bytes | None = None,
) -> Executor:
    """Returns an executor of a prepared graph.

    reference     use the reference executor; so does the environment's LITHE_JIT=0.
    preserve_all  intermediate tensors keep their values; only the reference executor can do that.
    cached, name  keep compiled code on disk for the next start, under this key.
    """
    if reference or preserve_all or os.environ.get("LITHE_JIT") == "0":
        return ReferenceExecutor(graph, keep_all=preserve_all)
    from lithe.runtime.compiled import CompiledExecutor, build, store

    try:
        artifact = build(graph)
        if cached and name is not None:
            store(name, artifact)
        return CompiledExecutor(artifact)
    except (UnsupportedOp, MissingDependency, CompileError) as cause:
        reason = f"{cause.problem} ({cause.where})" if cause.where else cause.problem
        _say_once(reason)
        return ReferenceExecutor(graph)


@cache
def _say_once(reason: str) -> None:
    log.warning("not compiled, runs on the reference executor, which is slow: %s", reason)
