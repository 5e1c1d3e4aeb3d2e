"""Products with constants move towards the weights that can take them.

    MUL(RESHAPE(CONV_2D(x, w, b)), c)               ->  RESHAPE(MUL(CONV_2D(x, w, b), c))
    MUL(BATCH_MATMUL(FULLY_CONNECTED(x), k), 0.5)   ->  BATCH_MATMUL(MUL(FULLY_CONNECTED(x), 0.5), k)

Folding then makes them part of the weights. Sums with constants move past reshapes, too. A number for each channel
passes where the last axis stays or is split into several; one number alone passes everything that is linear.
"""

from __future__ import annotations

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.rewrite import Neighbours
from lithe.types import FLOAT32, TensorType

PASSED = {"ADD": ("RESHAPE",), "MUL": ("RESHAPE", "TRANSPOSE", "BATCH_MATMUL")}


def move_scales(graph: Graph) -> None:
    """Applies it to the graph itself, as often as something moves."""
    while _moved_once(graph):
        pass


def _moved_once(graph: Graph) -> bool:
    around = Neighbours(graph)
    for node in graph.nodes:
        passed = _passed(around, node)
        if passed is None:
            continue
        constant = next(t for t in node.inputs if t is not None and t.data is not None)
        source = passed.inputs[0]
        assert source is not None
        assert constant.data is not None
        values = constant.data.reshape(-1 if constant.data.size > 1 else ())
        scaled = Tensor(f"{node.outputs[0].name}/scaled", source.type)
        factor = Tensor(f"{scaled.name}/factor", TensorType(FLOAT32, values.shape), values)
        before = Node(node.op, node.attrs, [source, factor], [scaled])
        after = Node(passed.op, passed.attrs, [scaled, *passed.inputs[1:]], node.outputs)
        graph.nodes = [before if n is passed else after if n is node else n for n in graph.nodes]
        graph.tensors = [*graph.tensors, scaled, factor]
        return True
    return False


def _passed(around: Neighbours, node: Node) -> Node | None:
    """The operator that the product or sum can pass, on its way to weights."""
    allowed = PASSED.get(node.op.name, ())
    if not allowed or len(node.inputs) != 2 or getattr(node.attrs, "fused_activation_function", "NONE") != "NONE":
        return None
    variable = [t for t in node.inputs if t is not None and t.data is None]
    constants = [t for t in node.inputs if t is not None and t.data is not None]
    if len(variable) != 1 or len(constants) != 1 or node.outputs[0].type != variable[0].type:
        return None
    passed, data = around.producer(variable[0]), constants[0].data
    if passed is None or passed.op.name not in allowed or node.outputs[0].type.dtype != FLOAT32 or data is None:
        return None
    source = passed.inputs[0]
    if source is None or not around.read_once(variable[0]) or not _from_weights(around, source, allowed):
        return None
    if data.size == 1:
        return passed
    tail = data.shape[next(i for i, n in enumerate(data.shape) if n > 1) :]
    kept = passed.op.name == "RESHAPE" and variable[0].type.shape[-len(tail) :] == tail
    return passed if kept and data.size == source.type.shape[-1] else None


def _from_weights(around: Neighbours, tensor: Tensor, through: tuple[str, ...]) -> bool:
    """Whether operators that can be passed lead from constant weights to the tensor."""
    maker = around.producer(tensor)
    if maker is None or not around.read_once(tensor):
        return False
    if maker.op.weights_axis is None:
        return (
            maker.op.name in through and maker.inputs[0] is not None and _from_weights(around, maker.inputs[0], through)
        )
    weights = maker.inputs[maker.op.operands[0].index("filter" if "filter" in maker.op.operands[0] else "weights")]
    plain = getattr(maker.attrs, "fused_activation_function", "NONE") == "NONE"
    return plain and weights is not None and weights.data is not None
