"""Which executor runs a graph: compiled where that is possible, else the reference one, which says so."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lithe.errors import CompileError, InputError, MissingDependency, UnsupportedOp, warn
from lithe.ir.graph import Graph
from lithe.runtime import compiled
from lithe.runtime.compiled import Artifact, CompiledExecutor, cached, part_key, store
from lithe.runtime.workers import Workers
from lithe.types import Shape

if TYPE_CHECKING:
    from lithe.ops.op import Environment
    from lithe.passes.bind_variables import Bound
    from lithe.runtime.tuning import Tuning


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


def kept_executor(
    artifact: Artifact, environment: Environment | None = None, workers: Workers | None = None
) -> Executor | None:
    """The executor of code kept on disk, None when it is of no use."""
    try:
        return CompiledExecutor(artifact, environment, workers)
    except CompileError as cause:
        warn("kept code is of no use, compiling again: %s", cause.problem)
        return None


def cache_key(source: bytes, graph: int, shapes: dict[int, Shape]) -> bytes | None:
    """The key of a graph's code: of the model with this digest, for these input shapes."""
    try:
        return compiled.cache_key(source, graph, shapes)
    except (MissingDependency, CompileError):  # said when the code is to be made
        return None


def make_executor(
    graph: Graph,
    environment: Environment | None = None,
    *,
    reference: bool = False,
    preserve_all: bool = False,
    name: bytes | None = None,
    outline: bytes = b"",
    workers: Workers | None = None,
    precision: str = "strict",
    tuning: Tuning | None = None,
) -> Executor:
    """Returns an executor of a prepared graph: all of it compiled, or those parts of it that can be.

    environment   of the model that the graph belongs to.
    reference     use the reference executor alone (see `may_compile`).
    preserve_all  intermediate tensors keep their values; only the reference executor can do that.
    name          keep compiled code on disk under this key, for the next start; `outline` goes with it.
    workers       the threads that share an inference, where it is compiled.
    precision, tuning  see `lithe.runtime.compilation.build`; what is not tuned to the end is not kept.
    """
    from lithe.runtime.reference import ReferenceExecutor

    if preserve_all or not may_compile(reference):
        return ReferenceExecutor(graph, environment, keep_all=preserve_all)
    try:
        return _compiled(graph, environment, name, outline, workers, precision, tuning)
    except (UnsupportedOp, MissingDependency, CompileError) as cause:
        _say_once(f"{cause.problem} ({cause.where})" if cause.where else cause.problem)
        return ReferenceExecutor(graph, environment)


def bound_executor(
    bound: Bound,
    environment: Environment,
    *,
    name: bytes | None = None,
    outline: bytes = b"",
    workers: Workers | None = None,
    precision: str = "strict",
    tuning: Tuning | None = None,
) -> Executor | None:
    """The executor of a prepared graph whose variables are bound; None when it cannot be compiled as a whole."""
    from lithe.lower.lower import compiles
    from lithe.runtime.compilation import build

    if not has_places(bound.graph) or not all(compiles(n, environment) for n in bound.graph.nodes):
        return None
    try:
        (artifact,) = build([bound.graph], environment, bound.variables, bound.once, precision=precision, tuning=tuning)
    except (MissingDependency, CompileError) as cause:
        _say_once(cause.problem)
        return None
    return _kept(artifact._replace(first=bound.first), environment, _finished(name, tuning), outline, workers)


def has_places(graph: Graph) -> bool:
    """Whether all inputs and outputs can lie in memory of a fixed size."""
    tensors = (*graph.inputs, *graph.outputs)
    return not any(None in t.type.shape or t.type.dtype.kind in ("string", "resource") for t in tensors)


def _compiled(
    graph: Graph,
    environment: Environment | None,
    name: bytes | None,
    outline: bytes,
    workers: Workers | None,
    precision: str,
    tuning: Tuning | None,
) -> Executor:
    from lithe.lower.lower import compiles
    from lithe.runtime.compilation import build
    from lithe.runtime.parts import grouped, is_light, part_of, with_parts
    from lithe.runtime.reference import ReferenceExecutor

    able = {n: compiles(n, environment) for n in graph.nodes}
    if has_places(graph) and all(able.values()):
        (artifact,) = build([graph], environment, precision=precision, tuning=tuning)
        return _kept(artifact, environment, _finished(name, tuning), outline, workers)
    runs = grouped(graph, able.__getitem__)
    parts = {i: part_of(graph, run) for i, run in enumerate(runs) if able[run[0]] and not is_light(run)}
    if tuning is not None and not parts:
        raise nothing_to_tune("no part of the model can be compiled")
    names = {i: None if name is None else part_key(name, i) for i in parts}
    artifacts = {i: None if key is None else cached(key) for i, key in names.items()}
    ready = {i: kept_executor(artifact, None, workers) for i, artifact in artifacts.items() if artifact is not None}
    missing = [i for i in parts if ready.get(i) is None]
    if missing:
        made = build([parts[i][0] for i in missing], environment, precision=precision, tuning=tuning)
        names = {i: _finished(key, tuning) for i, key in names.items()}
        ready.update({i: _kept(a, None, names[i], b"", workers) for i, a in zip(missing, made, strict=True)})
    for i, (_, node) in parts.items():
        node.attrs = ready[i]
    return ReferenceExecutor(with_parts(graph, runs, {i: node for i, (_, node) in parts.items()}), environment)


def _kept(
    artifact: Artifact, environment: Environment | None, name: bytes | None, outline: bytes, workers: Workers | None
) -> CompiledExecutor:
    executor = CompiledExecutor(artifact, environment, workers)
    if name is not None:
        store(name, artifact._replace(outline=outline))
    return executor


def _finished(name: bytes | None, tuning: Tuning | None) -> bytes | None:
    """The key to keep code under; none for code that is not tuned to the end."""
    return name if tuning is None or tuning.complete else None


def nothing_to_tune(reason: str) -> InputError:
    return InputError(f"there is nothing to tune: {reason}", hint="leave tune=True out")


@cache
def _say_once(reason: str) -> None:
    warn("not compiled, runs on the reference executor, which is slow: %s", reason)
