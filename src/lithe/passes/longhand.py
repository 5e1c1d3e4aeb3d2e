"""What takes several builtins, in fewer of them: rules whose results are more than one node."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.patterns import POSITIVE, P, matched
from lithe.passes.rewrite import Neighbours
from lithe.types import FLOAT32, TensorType

MOST_RANK = 4  # of operands that SQUARED_DIFFERENCE repeats, in the official kernels


def _chain(node: Node, steps: list[tuple[str, list[Any]]]) -> tuple[Node, ...]:
    """Nodes that take the node's place. An operand is a tensor, or the number of the step that makes it."""
    output = node.outputs[0]
    made: list[Node] = []
    for i, (op, operands) in enumerate(steps):
        cls = REGISTRY.by_name[op]
        inputs: list[Tensor | None] = [made[t].outputs[0] if isinstance(t, int) else t for t in operands]
        last = i == len(steps) - 1
        outputs = node.outputs if last else [Tensor(f"{output.name}/{op.lower()}", output.type)]
        made.append(Node(cls, cls.Attrs(), inputs, outputs, node.index, node.extras if last else {}))
    return tuple(made)


def known_choice(around: Neighbours, node: Node) -> Tensor | None:
    """SELECT_V2(true, x, y)  ->  x"""
    if node.op.name not in ("SELECT", "SELECT_V2"):
        return None
    condition, yes, no = node.inputs
    if condition is None or condition.data is None or not condition.data.size:
        return None
    chosen = yes if condition.data.all() else no if not condition.data.any() else None
    return chosen if chosen is not None and chosen.type == node.outputs[0].type else None


def as_squared_difference(around: Neighbours, node: Node) -> Node | None:
    """SQUARE(SUB(x, y))  ->  SQUARED_DIFFERENCE(x, y)        where nobody else reads the difference"""
    maker = around.producer(node.inputs[0]) if node.op.name == "SQUARE" else None
    if maker is None or maker.op.name != "SUB" or maker.attrs.fused_activation_function != "NONE":
        return None
    output = node.outputs[0].type
    if output.dtype != FLOAT32 or output.rank > MOST_RANK or not around.read_once(node.inputs[0]):
        return None
    cls = REGISTRY.by_name["SQUARED_DIFFERENCE"]
    return Node(cls, cls.Attrs(), maker.inputs, node.outputs, node.index, node.extras)


def subtract_product(around: Neighbours, node: Node) -> tuple[Node, ...] | None:
    """ADD(MUL(NEG(x), y), z)  ->  SUB(z, MUL(x, y))"""
    found = matched(around, node, P("ADD", P("MUL", P("NEG", "x"), "y"), "z"))
    if found is None or node.outputs[0].type.dtype != FLOAT32:
        return None
    x, y, z = found["x"], found["y"], found["z"]
    product = next(t for t in node.inputs if t is not z)
    if product is None or not around.read_once(product):
        return None
    cls = REGISTRY.by_name["MUL"]
    positive = Tensor(f"{product.name}/positive", product.type)
    subtraction = REGISTRY.by_name["SUB"]
    return (
        Node(cls, cls.Attrs(), [x, y], [positive]),
        Node(subtraction, subtraction.Attrs(), [z, positive], node.outputs, node.index, node.extras),
    )


def as_prelu(around: Neighbours, node: Node) -> Node | None:
    """ADD(RELU(x), MUL(RELU(NEG(x)), c))  ->  PRELU(x, -c)"""
    found = matched(around, node, P("ADD", P("RELU", "x"), P("MUL", P("RELU", P("NEG", "x")), "c")))
    if found is None or found["c"].data is None or found["x"].type != node.outputs[0].type:
        return None
    alpha = np.asarray(-found["c"].data, np.float32)
    while alpha.ndim >= found["x"].type.rank and alpha.ndim > 1 and alpha.shape[0] == 1:
        alpha = alpha[0]
    slope = Tensor(f"{node.outputs[0].name}/alpha", TensorType(FLOAT32, alpha.shape), alpha)
    cls = REGISTRY.by_name["PRELU"]
    return Node(cls, cls.Attrs(), [found["x"], slope], node.outputs, node.index, node.extras)


PLUS = P("ADD", P("RELU", "x"), P("Log1p", P("EXP", P("NEG", P("ABS", "x")))))
SHORT = P("SUB", P("RELU", "x"), P("LOG", P("LOGISTIC", P("ABS", "x"))))


def as_softplus(around: Neighbours, node: Node) -> Tensor | tuple[Node, ...] | None:
    """RELU(x) + log1p(e**-|x|)  ->  RELU(x) - LOG(LOGISTIC(|x|)), which is the same        (and NaN for NaN)"""
    careful = matched(around, node, P("SELECT_V2", P("NOT_EQUAL", "x", "x"), "x", SHORT))
    if careful is not None:
        return node.inputs[2]
    found = matched(around, node, PLUS)
    if found is None or found["x"].type != node.outputs[0].type:
        return None
    x = found["x"]
    return _chain(node, [("ABS", [x]), ("LOGISTIC", [0]), ("LOG", [1]), ("RELU", [x]), ("SUB", [3, 2])])


def as_tanh_of_softplus(around: Neighbours, node: Node) -> tuple[Node, ...] | None:
    """TANH(softplus(x))  ->  TANH(LOG(EXP(x) + 1)), which an infinite e**x does not hurt"""
    found = matched(around, node, P("TANH", SHORT))
    if found is None or not around.read_once(node.inputs[0]):
        return None
    one = Tensor(f"{node.outputs[0].name}/one", TensorType(FLOAT32, ()), np.array(1, np.float32))
    return _chain(node, [("EXP", [found["x"]]), ("ADD", [0, one]), ("LOG", [1]), ("TANH", [2])])


def as_elu(around: Neighbours, node: Node) -> Node | None:
    """e**x - 1  ->  ELU(x)        where x is chosen to be at most 0"""
    if node.op.name != "Expm1" or node.inputs[0] is None:
        return None
    if matched(around, around.producer(node.inputs[0]), P("SELECT_V2", POSITIVE, 0.0, "x")) is None:
        return None
    cls = REGISTRY.by_name["ELU"]
    return Node(cls, cls.Attrs(), node.inputs, node.outputs, node.index, node.extras)


def as_scaled_elu(around: Neighbours, node: Node) -> tuple[Node, ...] | None:
    """SELECT_V2(x > 0, y, MUL(c, ELU(x where not)))  ->  SELECT_V2(x > 0, y, MUL(c, ELU(x)))"""
    scaled = P("MUL", "c", P("ELU", P("SELECT_V2", POSITIVE, 0.0, "x")))
    found = matched(around, node, P("SELECT_V2", POSITIVE, "y", scaled))
    if found is None or found["x"].type != node.outputs[0].type:
        return None
    return _chain(node, [("ELU", [found["x"]]), ("MUL", [0, found["c"]]), ("SELECT_V2", [*node.inputs[:2], 1])])
