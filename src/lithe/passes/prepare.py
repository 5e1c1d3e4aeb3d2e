"""From a graph as a file holds it to one that an executor takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from lithe.errors import ResizeError
from lithe.ir.graph import Graph
from lithe.ops.op import Environment
from lithe.passes.assign_once import assign_once
from lithe.passes.cancel_transposes import cancel_transposes
from lithe.passes.count_loops import counted
from lithe.passes.deflex import as_builtins, refuse_without_tensorflow
from lithe.passes.fold_constants import fold_node
from lithe.passes.infer_shapes import LARGEST_DIMENSION, LARGEST_TENSOR, infer_node
from lithe.passes.inline_graphs import inline_graphs
from lithe.passes.merge_reshapes import drop_identity_reshape, merge_reshapes
from lithe.passes.pipeline import Pass, pipeline, run
from lithe.passes.remove_dead import remove_dead
from lithe.passes.rewrite import rewrite


def infer_and_fold(graph: Graph, environment: Environment | None = None) -> None:
    """Shapes and constants in one walk, because each needs the other: shape operands are often computed."""
    outputs = set(graph.outputs)
    read = outputs.union(t for n in graph.nodes for t in n.inputs if t is not None)
    kept = []

    def prepare_body(body: Graph) -> None:
        run(body, execution(environment))

    for node in (
        part
        for original in graph.nodes
        for builtin in as_builtins(graph, original)
        for part in counted(graph, builtin, environment, read, prepare_body)
    ):
        infer_node(node, environment)
        if not outputs.isdisjoint(node.outputs) or not fold_node(node):
            kept.append(node)
    graph.nodes = kept


def infer_all(graph: Graph, environment: Environment | None = None) -> None:
    """Shapes alone, so that every tensor keeps its place."""
    nodes = []
    for node in (part for original in graph.nodes for part in as_builtins(graph, original)):
        infer_node(node, environment)
        nodes.append(node)
    graph.nodes = nodes


def simplify_reshapes(graph: Graph) -> None:
    """See `merge_reshapes`."""
    rewrite(graph, merge_reshapes, drop_identity_reshape)


def execution(environment: Environment | None = None) -> Sequence[Pass]:
    """What a graph that is to be run goes through."""
    return pipeline(
        Pass(assign_once),
        Pass(partial(inline_graphs, environment=environment)),
        Pass(partial(infer_and_fold, environment=environment), gives=("shapes inferred", "constants folded")),
        Pass(refuse_without_tensorflow, needs=("shapes inferred",)),
        Pass(cancel_transposes, needs=("shapes inferred", "constants folded")),
        Pass(simplify_reshapes, needs=("shapes inferred", "constants folded")),
        Pass(remove_dead, gives=("nothing dead",)),
    )


def watching(environment: Environment | None = None) -> Sequence[Pass]:
    """What a graph goes through of which every tensor is to have a value."""
    return pipeline(
        Pass(assign_once),
        Pass(partial(infer_all, environment=environment), gives=("shapes inferred",)),
        Pass(refuse_without_tensorflow, needs=("shapes inferred",)),
    )


def prepare(graph: Graph, environment: Environment | None = None, *, keep_all: bool = False) -> Graph:
    """Returns a copy of the graph with inferred shapes, folded constants and without dead code.

    environment  of the model that the graph belongs to; without it nothing is known of the graphs that it calls.
    keep_all     only infer shapes: every tensor of the model will have a value.

    Kept tensors keep their index. A dimension that depends on data is None in the tensor's shape.
    Raises ModelError when the model breaks a rule of an operator, LimitError when a tensor is too large.
    """
    return run(graph.copy(), (watching if keep_all else execution)(environment))


def resize_inputs(graph: Graph, shapes: Mapping[int, Sequence[int]]) -> Graph:
    """Returns a copy whose inputs, named by tensor index, have the given shapes (not inferred any further)."""
    resized = graph.copy()
    by_index = {t.index: t for t in resized.inputs}
    for index, shape in shapes.items():
        tensor = by_index.get(index)
        if tensor is None:
            raise ResizeError(f"tensor #{index} is not an input", hint=f"the inputs are tensors {sorted(by_index)}")
        dims = tuple(int(d) for d in shape)
        size = tensor.type.dtype.bytes
        for d in dims:
            size *= d
        if any(not 0 <= d <= LARGEST_DIMENSION for d in dims) or size > LARGEST_TENSOR:
            raise ResizeError(f"shape {list(dims)} is out of range", where=f"tensor {tensor!r}")
        tensor.type = replace(tensor.type, shape=dims)
    return resized
