"""Runs a graph node by node through each operator's `evaluate`: the meaning of a model.

It needs no compiler, handles shapes that depend on data, and can keep every intermediate value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lithe.errors import ExecutionError, LimitError, LitheError, ModelError, UnsupportedOp
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Environment, RuleViolation, Site
from lithe.passes.infer_shapes import BAD_NUMBERS, LARGEST_TENSOR, checked_shape, inferred, is_dynamic
from lithe.types import Shape


class ReferenceExecutor:
    """Executes a prepared graph (see `lithe.passes.prepare`).

    keep_all  every intermediate tensor keeps its value after a run.
    quick     sums of products may be taken in float32.

    Operators that keep state in a variable (recurrent ones) are given the variable's own storage and write into it;
    those with a state of their own find it in `Site.memory`.

    environment  of the model that the graph belongs to.

    Raises UnsupportedOp when an operator of the graph has no `evaluate`.
    """

    def __init__(
        self, graph: Graph, environment: Environment | None = None, *, keep_all: bool = False, quick: bool = False
    ) -> None:
        self._graph, self._environment, self._quick = graph, environment, quick
        self._lasting = _lasting(graph)
        self._by_index = {t.index: t for t in graph.tensors if t.index >= 0}
        for node in graph.nodes:
            if node.refusal is not None:
                raise node.refusal
            if not node.op.known or not hasattr(node.op, "evaluate"):
                raise UnsupportedOp(
                    f"Encountered unresolved custom op: {node.op.name}."
                    if getattr(node.op, "code", None) is None
                    else f"operator {node.op.name} is not supported",
                    where=repr(node),
                    hint="`lithe inspect MODEL` lists the operators; InterpreterWithCustomOps takes your own",
                )
        self._values: dict[Tensor, np.ndarray | None] = {}
        self._memories: list[dict[str, Any]] = []
        self.steps = [Step(node, self._site(node)) for node in graph.nodes]
        self._released = [[] for _ in graph.nodes] if keep_all else self._last_reads()
        for tensor in graph.tensors:
            if tensor.data is not None:
                self._values[tensor] = tensor.data
        for tensor in (*graph.inputs, *graph.outputs):
            if tensor not in self._values and not is_dynamic(tensor.type):
                self._values[tensor] = _filled(tensor, 0)
        self.reset_variables()

    def _site(self, node: Node) -> Site:
        site = replace(Site.of(node, self._environment), quick=self._quick)
        if not node.op.stateful:
            return site
        self._memories.append({})
        return replace(site, memory=self._memories[-1])

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of a tensor; None when it has no value now."""
        tensor = self._by_index.get(index)
        return None if tensor is None else self._values.get(tensor)

    def reset_variables(self) -> None:
        """Variables hold zeros again (int8 ones their zero point, as the format's runtime does), memories nothing."""
        for memory in self._memories:
            memory.clear()
        for tensor in self._graph.tensors:
            if tensor.is_variable and tensor.data is None and not is_dynamic(tensor.type):
                quantization = tensor.type.quantization
                zero = quantization.zero_point[0] if quantization and tensor.type.dtype.name == "int8" else 0
                storage = self._values.get(tensor)
                if storage is None:
                    self._values[tensor] = _filled(tensor, zero)
                else:
                    storage[...] = zero

    def invoke(self) -> None:
        """Runs every node once. Raises ExecutionError with the operator's place when data cannot be used."""
        values = self._values
        for step, released in zip(self.steps, self._released, strict=True):
            node = step.node
            arrays = [None if t is None else values.get(t) for t in node.inputs]
            if any(a is None and t is not None for a, t in zip(arrays, node.inputs, strict=True)):
                raise ExecutionError("reads a tensor that has no value yet", where=repr(node))
            for tensor, result in zip(node.outputs, evaluated(step, arrays), strict=True):
                self._store(tensor, result)
            for tensor in released:
                values.pop(tensor, None)

    def _store(self, tensor: Tensor, result: np.ndarray) -> None:
        """Outputs are copied into their storage: a result may be a view of an input that the caller changes next."""
        storage = self._values.get(tensor)
        if storage is not None and storage.shape == result.shape and storage.dtype == result.dtype:
            storage[...] = result
        elif tensor in self._lasting:
            self._values[tensor] = result.copy()
        else:
            self._values[tensor] = result

    def _last_reads(self) -> list[list[Tensor]]:
        """For each node the tensors whose values are of no use after it."""
        released: list[list[Tensor]] = []
        later = set(self._lasting)
        for node in reversed(self._graph.nodes):
            mentioned = {t for t in (*node.inputs, *node.outputs) if t is not None}
            released.append([t for t in mentioned if t not in later])
            later |= mentioned
        return released[::-1]


def _lasting(graph: Graph) -> frozenset[Tensor]:
    """Tensors whose value outlives a run."""
    kept = (t for t in graph.tensors if t.is_variable or t.is_constant)
    return frozenset((*graph.inputs, *graph.outputs, *kept))


def _filled(tensor: Tensor, value: int) -> np.ndarray:
    if tensor.type.nbytes > LARGEST_TENSOR:
        raise LimitError(f"{tensor.type} needs more than {LARGEST_TENSOR} bytes", where=f"tensor {tensor!r}")
    if tensor.type.dtype.kind == "string":
        return np.full(tensor.type.shape, b"", object)
    try:
        return np.full(tensor.type.shape, value, tensor.type.dtype.numpy)
    except (ValueError, MemoryError) as cause:
        raise ExecutionError(f"no memory for {tensor.type}: {cause}", where=f"tensor {tensor!r}") from cause


class Step:
    """One node in this executor, with what is known of it before the run."""

    def __init__(self, node: Node, site: Site) -> None:
        self.node, self.declared = node, site
        self._is_dynamic = any(is_dynamic(t.type) for t in (*node.inputs, *node.outputs) if t is not None)
        self._seen: tuple[list[Shape | None], Site] | None = None  # the last shapes, when these decide all others
        self._by_values = False  # they do not

    def site(self, arrays: list[np.ndarray | None]) -> Site:
        """The site with the shapes that operands have in this run, and with their values where these decide shapes."""
        if not self._is_dynamic:
            return self.declared
        shapes = [None if a is None else a.shape for a in arrays]
        if self._seen is not None and not self._by_values and self._seen[0] == shapes:
            return self._seen[1]
        if not self._by_values:
            try:
                site = self._shaped(shapes, self.declared.constants)
            except ModelError:  # a value that the model computes has to be known
                self._by_values = True
            else:
                self._by_values = any(is_dynamic(t) for t in site.outputs)
                self._seen = shapes, site
        return self._shaped(shapes, tuple(arrays)) if self._by_values else site

    def _shaped(self, shapes: list[Shape | None], constants: tuple[np.ndarray | None, ...]) -> Site:
        node = self.node
        inputs = tuple(
            None if t is None or shape is None else replace(t.type, shape=shape)
            for t, shape in zip(node.inputs, shapes, strict=True)
        )
        site = replace(self.declared, inputs=inputs, constants=constants)
        made = zip(node.outputs, inferred(node, site), strict=True)
        return replace(site, outputs=tuple(replace(t.type, shape=checked_shape(node, t.type, s)) for t, s in made))


def evaluated(step: Step, arrays: list[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of a node. Whatever numbers raise becomes an ExecutionError that names the node."""
    node = step.node
    try:
        site = step.site(arrays)
        with np.errstate(all="ignore"):
            results = [np.asarray(r) for r in node.op.evaluate(site, *arrays)]
    except RuleViolation as violation:
        raise ExecutionError(violation.rule, where=f"{node!r}, {violation.operand}".rstrip(", ")) from violation
    except LitheError as cause:
        if cause.where and not isinstance(cause, ModelError):
            raise
        kind = LimitError if isinstance(cause, LimitError) else ExecutionError
        raise kind(cause.problem, where=cause.where or repr(node), hint=cause.hint) from cause
    except BAD_NUMBERS as cause:
        raise ExecutionError(f"cannot be computed: {cause or type(cause).__name__}", where=repr(node)) from cause
    for tensor, expected, result in zip(node.outputs, site.outputs, results, strict=True):
        unknown = all(d is None for d in expected.shape) and is_dynamic(expected)
        fits = unknown or (
            len(expected.shape) == result.ndim
            and all(d is None or d == n for d, n in zip(expected.shape, result.shape, strict=True))
        )
        if not fits or result.dtype != expected.dtype.numpy:
            raise ExecutionError(
                f"made {result.dtype}{list(result.shape)} where {expected} was expected",
                where=f"{node!r}, tensor {tensor!r}",
            )
    return results
