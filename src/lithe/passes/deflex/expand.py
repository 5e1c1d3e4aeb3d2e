"""TensorFlow's operators in a graph ("Flex") become builtins, where these can say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lithe.errors import ModelError, UnsupportedOp
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.flex.operators import INSTALL, NodeDef, is_flex, tensorflow_is_installed
from lithe.passes.deflex import arithmetic as arithmetic
from lithe.passes.deflex import arrays as arrays
from lithe.passes.deflex import gradients as gradients
from lithe.passes.deflex import layers as layers
from lithe.passes.deflex.draft import RULES, Draft
from lithe.passes.fold_constants import fold_node
from lithe.passes.infer_shapes import BAD_NUMBERS, infer_node, is_dynamic
from lithe.passes.writer import Inexpressible
from lithe.types import INT32, Shape, TensorType

# What a rule meets in operands and attributes that TensorFlow would not take either.
BAD_OPERANDS = (*BAD_NUMBERS, TypeError, LookupError)
WAYS_OUT = f"`{INSTALL}` runs them, or convert the model without select-TF operators (see lithe.deflex)"


def as_builtins(graph: Graph, node: Node) -> Sequence[Node]:
    """y = FlexTan(x)  ->  s = SIN(x); c = COS(x); y = DIV(s, c)

    The node itself where it is no operator of TensorFlow, or where the builtins cannot say it with these operands.
    The shapes of its inputs must be inferred. What is made on the way joins the graph's tensors.
    """
    if not is_flex(node.op):
        return (node,)
    found = RULES.get(node.attrs.op)
    types = [t.type for t in (*node.inputs, *node.outputs) if t is not None]
    if found is None or None in node.inputs or any(t.quantization is not None for t in types):
        return (node,)
    draft = Draft(node)
    try:
        made = found(draft)
        results: list[Tensor | None] = [made] if isinstance(made, Tensor) else list(made)
        draft.require(len(results) == len(node.outputs))
        nodes = _ending_in_outputs(graph, draft, results)
    except (Inexpressible, *BAD_OPERANDS):
        return (node,)
    known = set(graph.tensors)
    mentioned = dict.fromkeys(t for n in nodes for t in (*n.inputs, *n.outputs) if t is not None)
    graph.tensors += [t for t in mentioned if t not in known]
    for n in nodes:
        n.index = node.index
    return nodes


def _ending_in_outputs(graph: Graph, draft: Draft, results: list[Tensor | None]) -> list[Node]:
    """The builtins, the last of which write the node's own outputs in place of what they were drafted to write."""
    outputs = draft.node.outputs
    folded = [n for n in draft.nodes if set(results).isdisjoint(n.outputs) and fold_node(n)]
    nodes = [n for n in draft.nodes if n not in folded]
    made = {t for n in nodes for t in n.outputs}
    for result, output in zip(results, outputs, strict=True):
        if result is None:
            draft.require(output not in set(graph.outputs).union(*(n.inputs for n in graph.nodes)))
            continue
        draft.require(result.type.dtype == output.type.dtype)
        if result in made and results.count(result) == 1:
            output.type = replace(output.type, shape=result.type.shape)
            _rename(nodes, result, output)
        else:
            nodes.append(_copy(draft, result, output))
    return nodes


def _rename(nodes: list[Node], old: Tensor, new: Tensor) -> None:
    for n in nodes:
        n.inputs = [new if t is old else t for t in n.inputs]
        n.outputs = [new if t is old else t for t in n.outputs]


def _copy(draft: Draft, source: Tensor, output: Tensor) -> Node:
    """output = source: a reshape to the shape that it has."""
    before = len(draft.nodes)
    if is_dynamic(source.type):
        shape = draft("SHAPE", source, dtype=INT32, out_type=INT32)
    else:
        shape = draft.constant(list(source.type.shape))
    draft("RESHAPE", source, shape, rank=source.type.rank, new_shape=())
    *_, last = draft.nodes[before:]
    last.outputs = [output]
    output.type = replace(output.type, shape=source.type.shape)
    return last


def refuse_without_tensorflow(graph: Graph) -> None:
    """What is left of TensorFlow's operators cannot run where it is not installed: one error names them all."""
    left = [n for n in graph.nodes if is_flex(n.op)]
    if left and not tensorflow_is_installed():
        error = UnsupportedOp(
            f"the model needs TensorFlow for {_listed(left)}, and it is not installed",
            where=repr(left[0]),
            hint=WAYS_OUT,
        )
        for node in left:
            node.refusal = error


def _listed(nodes: Sequence[Node]) -> str:
    counts = Counter(n.op.name for n in nodes)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(counts.items()))


def remaining(module: Module) -> list[str]:
    """The names of the operators of a model that are still TensorFlow's, one for each use."""
    return [n.op.name for graph in module.graphs for n in graph.nodes if isinstance(n.attrs, NodeDef)]


def deflex_module(module: Module) -> Module:
    """Returns a copy of a model in which builtins stand for TensorFlow's operators, as far as they can."""
    plain = module.copy()
    for graph in plain.graphs:
        deflex_graph(graph)
    return plain


def deflex_graph(graph: Graph) -> None:
    """The same for one graph, in place. Declared shapes stay; what may change is open while rules are applied."""
    declared = {t: t.type for t in graph.tensors}
    for t in graph.inputs:
        open_shape = tuple(None if d == -1 else d for d in t.shape_signature or t.type.shape)
        t.type = replace(t.type, shape=open_shape)  # type: ignore[arg-type]
    nodes: list[Node] = []
    for node in graph.nodes:
        for part in as_builtins(graph, node):
            nodes.append(part)
            _infer_as_far_as_possible(part)
    graph.nodes = nodes
    for t in graph.tensors:
        if t in declared:
            t.type = declared[t]
        elif is_dynamic(t.type):
            t.shape_signature = tuple(-1 if d is None else d for d in t.type.shape)
            t.type = replace(t.type, shape=tuple(1 if d is None else d for d in t.type.shape))


def _infer_as_far_as_possible(node: Node) -> None:
    """Shapes of operators that need the whole model, or other values than they have, stay as declared, but open."""
    try:
        infer_node(node)
    except ModelError:
        for t in node.outputs:
            t.type = _opened(t.type)


def _opened(type_: TensorType) -> TensorType:
    open_shape: Shape = (None,) * type_.rank  # type: ignore[assignment]
    return replace(type_, shape=open_shape)
