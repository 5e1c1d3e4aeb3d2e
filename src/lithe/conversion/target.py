"""Models for older releases of the official runtime: what a release does not have is written with what it has.

    GELU(x)  ->  x / 2 * (1 + erf(x / sqrt 2)), and erf in its builtins        for releases before 2.9.0

Which release first had which version of an operator is the table of `lithe.formats.tflite.versions`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lithe.errors import InputError, ModelError, UnsupportedOp
from lithe.formats.tflite.versions import first_runtime, operator_version, release
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.passes.deflex.arithmetic import FORMULAS
from lithe.passes.infer_shapes import infer_node
from lithe.passes.writer import Inexpressible, Value, Writer
from lithe.types import BOOL, FLOAT32, INT32

FIRST = (1, 5, 0)
STATED = "min_runtime_version"  # metadata: what is written says it anew


class _Older(Writer):
    """Writes what stands for one operator."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node

    def name(self) -> str:
        return self.node.outputs[0].name

    def infer(self, node: Node, rank: int) -> None:
        infer_node(node)

    def fixed(self) -> None:
        """Shapes must be those that are declared."""
        tensors = (*self.node.inputs, *self.node.outputs)
        self.require(all(-1 not in (t.shape_signature or ()) for t in tensors if t is not None))


Older = Callable[[_Older, Node], Tensor]


def write_for(module: Module, runtime: str) -> None:
    """Changes a model so that this release of the official runtime has all of its operators.

    Raises InputError where `runtime` is no release, UnsupportedOp with everything that has no older form.
    """
    parts = runtime.split(".") if isinstance(runtime, str) else []
    if len(parts) not in (2, 3) or not all(p.isdecimal() for p in parts) or release(runtime) < FIRST:
        raise InputError(
            f"{runtime!r} is no release of the runtime", hint='releases are written as "2.5.0"; the first is "1.5.0"'
        )
    left: Counter[str] = Counter()
    for graph in module.graphs:
        _write_graph(graph, release(runtime), left)
    if left:
        listed = "".join(f"\n  - {what}" + (f" ({n} times)" if n > 1 else "") for what, n in sorted(left.items()))
        kinds = f"{len(left)} kind{'s' * (len(left) > 1)} of operators"
        raise UnsupportedOp(
            f"the runtime {runtime} lacks {kinds} of this model that have no older form:{listed}",
            hint="convert for a later runtime",
        )
    module.metadata.pop(STATED, None)


def _write_graph(graph: Graph, target: tuple[int, ...], left: Counter[str]) -> None:
    nodes: list[Node] = []
    for node in graph.nodes:
        written = [node] if _has(node, target) else _older(node, target)
        if written is None:
            version = operator_version(node)
            since = first_runtime(node.op.name, version)
            types = ", ".join(dict.fromkeys(t.type.dtype.name for t in node.inputs if t is not None))
            known = f"since {since}" if since else "of which no release is known"
            left[f"{node.op.name} version {version} of {types}, {known}"] += 1
            continue
        nodes += written
    graph.nodes = nodes
    mentioned = (t for n in nodes for t in (*n.inputs, *n.outputs) if t is not None)
    graph.tensors = list(dict.fromkeys((*graph.tensors, *mentioned)))
    for i, t in enumerate(graph.tensors):
        t.index = i


def _has(node: Node, target: tuple[int, ...]) -> bool:
    if node.op.code is None:  # a custom operator is whoever registers it
        return True
    since = first_runtime(node.op.name, operator_version(node))
    return since is not None and release(since) <= target


def _older(node: Node, target: tuple[int, ...]) -> list[Node] | None:
    """Operators that the target has, in place of one that it does not have; None where there are none."""
    rule = RULES.get(node.op.name)
    tensors = [t for t in (*node.inputs, *node.outputs) if t is not None]
    if rule is None or not node.has_rules or any(t.type.quantization is not None for t in tensors):
        return None
    writer = _Older(node)
    try:
        made = rule(writer, node)
    except (Inexpressible, ModelError):
        return None
    (output,) = node.outputs
    for n in writer.nodes:
        n.outputs = [output if t is made else t for t in n.outputs]
        n.inputs = [output if t is made else t for t in n.inputs]
        for t in n.outputs:
            if t is not output and t.type.shape == output.type.shape:
                t.shape_signature = output.shape_signature
    if not any(output in n.outputs for n in writer.nodes):
        return None
    found: list[Node] = []
    for n in writer.nodes:
        part = [n] if _has(n, target) else _older(n, target)
        if part is None:
            return None
        found += part
    return found


# older forms


def _value(w: _Older, node: Node, i: int = 0) -> Value:
    t = node.inputs[i]
    w.require(t is not None and t.type.dtype == FLOAT32)
    assert t is not None
    return Value(w, t)


def _gelu(w: _Older, node: Node) -> Tensor:
    x = _value(w, node)
    if node.attrs.approximate:
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return (x * 0.5 * (inner.apply("TANH") + 1.0)).tensor
    return (x * 0.5 * (FORMULAS["Erf"](x * math.sqrt(0.5)) + 1.0)).tensor


def _hard_swish(w: _Older, node: Node) -> Tensor:
    x = _value(w, node)
    return (x * (x + 3.0).apply("RELU6") * (1 / 6)).tensor


def _relu_0_to_1(w: _Older, node: Node) -> Tensor:
    return _value(w, node).apply("RELU").apply("MINIMUM", 1.0).tensor


def _sign(w: _Older, node: Node) -> Tensor:
    x = _value(w, node)
    return w("SUB", w.cast((x > 0.0).tensor, FLOAT32), w.cast((x < 0.0).tensor, FLOAT32))


def _select(w: _Older, node: Node) -> Tensor:
    """SELECT has no broadcasting."""
    tensors = [t for t in node.inputs if t is not None]
    w.require(len({(t.type.shape, t.shape_signature) for t in tensors}) == 1)
    return w("SELECT", *tensors, dtype=node.outputs[0].type.dtype)


def _reduce_all(w: _Older, node: Node) -> Tensor:
    x, axes = node.inputs
    w.fixed()
    assert x is not None
    some = w("REDUCE_ANY", w("LOGICAL_NOT", x, dtype=BOOL), axes, dtype=BOOL, keep_dims=node.attrs.keep_dims)
    return w("LOGICAL_NOT", some, dtype=BOOL)


def _broadcast_to(w: _Older, node: Node) -> Tensor:
    """TILE repeats each axis."""
    w.fixed()
    x, shape = node.inputs[0], node.outputs[0].type.shape
    w.require(x is not None and x.type.dtype.name in ("float32", "int32", "int64", "uint8", "bool"))
    assert x is not None
    own = (1,) * (len(shape) - x.type.rank) + x.type.shape
    if own != x.type.shape:
        x = w.reshape(x, own)
    counts = [n if m == 1 else 1 for n, m in zip(shape, own, strict=True)]
    return w("TILE", x, w.constant(counts, INT32))


def _fully_connected(w: _Older, node: Node) -> Tensor:
    """With a bias, and with rows only."""
    x, weights, *more = node.inputs
    w.require(node.attrs.fused_activation_function in ("NONE", "RELU", "RELU6") and weights is not None)
    _value(w, node)
    assert x is not None
    assert weights is not None
    bias = more[0] if more and more[0] is not None else w.constant(np.zeros(weights.type.shape[0]), FLOAT32)
    plain = replace(node.attrs, keep_num_dims=False)
    if not node.attrs.keep_num_dims:
        return w("FULLY_CONNECTED", x, weights, bias, **vars(plain))
    rows = w("FULLY_CONNECTED", w.reshape(x, (-1, x.type.shape[-1])), weights, bias, **vars(plain))
    w.fixed()
    return w.reshape(rows, node.outputs[0].type.shape)


def _batch_matmul(w: _Older, node: Node) -> Tensor:
    """A product with a constant matrix is a fully connected layer."""
    x, y = node.inputs
    _value(w, node)
    w.require(y is not None and y.data is not None and y.type.rank == 2 and not node.attrs.adj_x)
    assert y is not None
    data = w.array(y)
    weights = w.constant(data if node.attrs.adj_y else np.ascontiguousarray(data.T), FLOAT32)
    bias = w.constant(np.zeros(len(w.array(weights))), FLOAT32)
    return w("FULLY_CONNECTED", x, weights, bias, keep_num_dims=True)


def _cumsum(w: _Older, node: Node) -> Tensor:
    """Along the last axis, a product with a triangle of ones."""
    x, axis = _value(w, node), node.inputs[1]
    shape = x.tensor.type.shape
    w.require(axis is not None and axis.data is not None)
    assert axis is not None
    w.require(int(w.array(axis).reshape(())) % len(shape) == len(shape) - 1 and shape[-1] <= 1 << 10)
    ones = np.tril(np.ones((shape[-1], shape[-1])), -1 if node.attrs.exclusive else 0)
    weights = w.constant(ones[::-1, ::-1] if node.attrs.reverse else ones, FLOAT32)
    bias = w.constant(np.zeros(shape[-1]), FLOAT32)
    return w("FULLY_CONNECTED", x.tensor, weights, bias, keep_num_dims=True)


RULES: dict[str, Older] = {
    "GELU": _gelu, "HARD_SWISH": _hard_swish, "RELU_0_TO_1": _relu_0_to_1, "SIGN": _sign, "SELECT_V2": _select,
    "REDUCE_ALL": _reduce_all, "BROADCAST_TO": _broadcast_to, "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul, "CUMSUM": _cumsum,
}  # fmt: skip
