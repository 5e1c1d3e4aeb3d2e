"""Formulas that are one builtin, recognised in the operators that spell them out.

A pattern is a name of an operator with patterns of its operands, a number, or a letter that stands for any tensor:

    P("MUL", "x", P("LOGISTIC", "x"))          x * logistic(x), in either order

A letter that occurs again must be the same tensor; a number matches a constant whose elements all are (nearly) it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.rewrite import Neighbours
from lithe.types import FLOAT32

COMMUTES = {"ADD", "MUL", "MAXIMUM", "MINIMUM"}
NEAR = 1e-4  # relative difference at which a constant is taken for a number: 0.7979 is written for sqrt(2 / pi)


@dataclass(frozen=True)
class P:
    """An operator with these operands."""

    op: str
    operands: tuple[Any, ...]

    def __init__(self, op: str, *operands: Any) -> None:
        object.__setattr__(self, "op", op)
        object.__setattr__(self, "operands", operands)


@dataclass(frozen=True)
class Formula:
    """A builtin of one operand, x, and how it is spelled out."""

    op: str
    spelled: Any
    attrs: dict[str, Any] = field(default_factory=dict, hash=False)


def _gelu(core: Any) -> list[Any]:
    """x / 2 * core in the orders in which frameworks write it."""
    return [P("MUL", P("MUL", "x", core), 0.5), P("MUL", P("MUL", "x", 0.5), core), P("MUL", "x", P("MUL", core, 0.5))]


CUBE = [P("MUL", P("MUL", "x", "x"), "x"), P("MUL", "x", P("SQUARE", "x")), P("POW", "x", 3)]
ROOT = math.sqrt(2 / math.pi)
INNER = [
    spelled
    for cube in CUBE
    for spelled in (
        P("MUL", P("ADD", "x", P("MUL", cube, 0.044715)), ROOT),
        P("ADD", P("MUL", "x", ROOT), P("MUL", cube, 0.044715 * ROOT)),
    )
] + [P("MUL", P("MUL", "x", ROOT), P("ADD", P("MUL", P("SQUARE", "x"), 0.044715), 1.0))]
SHIFTED = P("ADD", "x", 3.0)
HARD = [P("MUL", P("RELU6", SHIFTED), 1 / 6), P("RELU_0_TO_1", P("ADD", P("MUL", "x", 1 / 6), 0.5)),
        P("RELU_0_TO_1", P("MUL", SHIFTED, 1 / 6))]  # fmt: skip
POSITIVE = P("GREATER", "x", 0.0)

FORMULAS = (
    *(Formula("GELU", s) for s in _gelu(P("ADD", P("Erf", P("MUL", "x", math.sqrt(0.5))), 1.0))),
    *(Formula("GELU", s) for s in _gelu(P("Erfc", P("MUL", "x", -math.sqrt(0.5))))),
    *(Formula("GELU", s) for s in _gelu(P("Erfc", P("MUL", P("NEG", "x"), math.sqrt(0.5))))),
    *(Formula("GELU", s, {"approximate": True})
      for inner in INNER for s in _gelu(P("ADD", P("TANH", inner), 1.0))),
    *(Formula("HARD_SWISH", P("MUL", "x", hard)) for hard in HARD),
    Formula("HARD_SWISH", P("MUL", P("MUL", "x", P("RELU6", SHIFTED)), 1 / 6)),
    Formula("LOGISTIC", P("DIV", 1.0, P("ADD", P("EXP", P("NEG", "x")), 1.0))),
    Formula("LOGISTIC", P("DIV", 1.0, P("ADD", P("EXP", P("MUL", "x", -1.0)), 1.0))),
    Formula("SQUARE", P("MUL", "x", "x")),
    Formula("RSQRT", P("DIV", 1.0, P("SQRT", "x"))),
    Formula("ABS", P("MAXIMUM", "x", P("NEG", "x"))),
    Formula("ELU", P("SELECT_V2", POSITIVE, "x", P("ELU", P("SELECT_V2", POSITIVE, 0.0, "x")))),
)  # fmt: skip
BY_OP: dict[str, list[Formula]] = {}
for _formula in FORMULAS:
    BY_OP.setdefault(_formula.spelled.op, []).append(_formula)


def as_formula(around: Neighbours, node: Node) -> Node | None:
    """MUL(x, RELU6(x + 3) / 6)  ->  HARD_SWISH(x), and all that `FORMULAS` lists."""
    for formula in BY_OP.get(node.op.name, ()):
        found = matched(around, node, formula.spelled)
        if found is None:
            continue
        x, y = found["x"], node.outputs[0]
        if x.data is not None or x.type != y.type or y.type.dtype != FLOAT32:
            continue
        cls = REGISTRY.by_name[formula.op]
        return Node(cls, cls.Attrs(**formula.attrs), [x], node.outputs, node.index, node.extras)
    return None


def matched(around: Neighbours, node: Node | None, pattern: P) -> dict[str, Tensor] | None:
    """What the letters of a pattern stand for, if the node is such a pattern."""
    return None if node is None else next(_matches(around, node, pattern, {}), None)


def _matches(around: Neighbours, node: Node, pattern: P, found: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """What the letters stand for, in every way in which the node is such a pattern."""
    if node.op.name != pattern.op or len(node.inputs) != len(pattern.operands):
        return
    if getattr(node.attrs, "fused_activation_function", "NONE") != "NONE":
        return
    orders = permutations(node.inputs) if pattern.op in COMMUTES else [tuple(node.inputs)]
    for operands in orders:
        yield from _all_match(around, list(zip(operands, pattern.operands, strict=True)), found)


def _all_match(
    around: Neighbours, pairs: list[tuple[Tensor | None, Any]], found: dict[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    if not pairs:
        yield found
        return
    (tensor, pattern), *rest = pairs
    for more in _one_matches(around, tensor, pattern, found):
        yield from _all_match(around, rest, more)


def _one_matches(
    around: Neighbours, tensor: Tensor | None, pattern: Any, found: dict[str, Tensor]
) -> Iterator[dict[str, Tensor]]:
    if tensor is None:
        return
    if isinstance(pattern, P):
        maker = around.producer(tensor)
        if maker is not None:
            yield from _matches(around, maker, pattern, found)
    elif isinstance(pattern, str):
        if found.get(pattern, tensor) is tensor:
            yield {**found, pattern: tensor}
    elif tensor.data is not None and tensor.data.size and np.allclose(tensor.data, pattern, NEAR, 0):
        yield found


# patterns with axes


REDUCES = {"SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "MEAN", "REDUCE_ANY", "REDUCE_ALL"}


def keep_reduced_axes(around: Neighbours, node: Node) -> Node | None:
    """RESHAPE(SUM(x, axes), shape with 1 for the axes)  ->  SUM(x, axes, keep_dims)"""
    maker = around.producer(node.inputs[0]) if node.op.name == "RESHAPE" else None
    if maker is None or maker.op.name not in REDUCES or maker.attrs.keep_dims or not around.read_once(node.inputs[0]):
        return None
    x, axes = maker.inputs
    if x is None or axes is None or axes.data is None:
        return None
    over = {int(a) % x.type.rank for a in axes.data.reshape(-1)}
    if node.outputs[0].type.shape != tuple(1 if i in over else n for i, n in enumerate(x.type.shape)):
        return None
    return Node(maker.op, type(maker.attrs)(keep_dims=True), maker.inputs, node.outputs, maker.index, maker.extras)


def as_mean(around: Neighbours, node: Node) -> Node | None:
    """MUL(SUM(x, axes), 1 / count)  ->  MEAN(x, axes)"""
    if node.op.name not in ("MUL", "DIV") or len(node.inputs) != 2 or node.outputs[0].type.dtype != FLOAT32:
        return None
    if getattr(node.attrs, "fused_activation_function", "NONE") != "NONE":
        return None
    total, c = node.inputs if node.inputs[1] is not None and node.inputs[1].data is not None else node.inputs[::-1]
    maker = around.producer(total)
    if maker is None or maker.op.name != "SUM" or c is None or c.data is None or not around.read_once(total):
        return None
    x, axes = maker.inputs
    if x is None or axes is None or axes.data is None or node.outputs[0].type.shape != maker.outputs[0].type.shape:
        return None
    count = math.prod(x.type.shape[int(a)] for a in axes.data.reshape(-1))
    factor = 1 / count if node.op.name == "MUL" else count
    if not count or (node.op.name == "DIV" and total is not node.inputs[0]) or not np.allclose(c.data, factor, 1e-6, 0):
        return None
    cls = REGISTRY.by_name["MEAN"]
    attrs = cls.Attrs(keep_dims=maker.attrs.keep_dims)
    return Node(cls, attrs, maker.inputs, node.outputs, node.index, node.extras)


def as_softmax(around: Neighbours, node: Node) -> Node | None:
    """EXP(x) / SUM(EXP(x))  ->  SOFTMAX(x)        along the last axis"""
    if node.op.name != "DIV" or node.outputs[0].type.dtype != FLOAT32:
        return None
    power, total = node.inputs
    exponential, summed = around.producer(power), around.producer(total)
    if exponential is None or exponential.op.name != "EXP" or not _over_last(summed, "SUM", power):
        return None
    shifted = exponential.inputs[0]
    if shifted is None or shifted.type != node.outputs[0].type:
        return None
    cls = REGISTRY.by_name["SOFTMAX"]
    return Node(cls, cls.Attrs(beta=1.0), [shifted], node.outputs, node.index, node.extras)


def _over_last(node: Node | None, op: str, x: Tensor | None) -> bool:
    """Whether the node reduces x along its last axis, which is kept."""
    if node is None or x is None or node.op.name != op or node.inputs[0] is not x or not node.attrs.keep_dims:
        return False
    axes = node.inputs[1]
    return (
        axes is not None
        and axes.data is not None
        and [int(a) % x.type.rank for a in axes.data.reshape(-1)] == [x.type.rank - 1]
    )


def as_logits(around: Neighbours, node: Node) -> Node | None:
    """x - LOG(SUM(EXP(x)))  ->  LOG_SOFTMAX(x)        along the last axis"""
    if node.op.name != "SUB" or node.outputs[0].type.dtype != FLOAT32:
        return None
    z, log = node.inputs[0], around.producer(node.inputs[1])
    summed = None if log is None or log.op.name != "LOG" else around.producer(log.inputs[0])
    power = None if summed is None else around.producer(summed.inputs[0])
    if (
        power is None
        or power.op.name != "EXP"
        or power.inputs[0] is not z
        or not _over_last(summed, "SUM", power.outputs[0])
    ):
        return None
    if z is None or z.type != node.outputs[0].type:
        return None
    cls = REGISTRY.by_name["LOG_SOFTMAX"]
    return Node(cls, cls.Attrs(), [z], node.outputs, node.index, node.extras)


def drop_shift(around: Neighbours, node: Node) -> Node | None:
    """SOFTMAX(x - max x)  ->  SOFTMAX(x)        and whatever else is taken from all elements of a row alike"""
    if node.op.name not in ("SOFTMAX", "LOG_SOFTMAX"):
        return None
    maker = around.producer(node.inputs[0])
    if maker is None or maker.op.name != "SUB" or maker.attrs.fused_activation_function != "NONE":
        return None
    x, shift = maker.inputs
    if x is None or shift is None or x.type != node.outputs[0].type or shift.type.shape[-1:] not in ((1,), ()):
        return None
    return Node(node.op, node.attrs, [x], node.outputs, node.index, node.extras)
