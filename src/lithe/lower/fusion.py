"""Which operators share a kernel: an operator, and elementwise ones that follow it and are read by nobody else.

    x -> CONV -+-> LOGISTIC -> MUL -> y        ->        one kernel: y = f(sum), f(v) = v * logistic(v)
               +---------------^

What is between them is never stored. Rules whose only variable operand has 8 bits become a table of its 256 values,
where the machine looks tables up quickly.

An operator can follow when its lowering is a single `Builder.elementwise`, which is found out by letting it write to
a builder that records; nobody lists such operators. What it follows is another one, or an operator whose results are
the epilogues of a contraction (`Op.contracts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.ir.build import Builder, Convolution, MatrixProduct, Pixel
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.interpret import run_kernel
from lithe.ir.loops import INDEX, Buffer, Expr, constant, nodes
from lithe.ops import Site
from lithe.ops.layout import row_major
from lithe.ops.op import Environment
from lithe.types import Shape

MOST_FOLLOWERS = 8
ENTRIES = 256
CHEAP = 8  # expressions that cost no more than a look-up
REACH = 64  # nodes after the first one among which its followers are looked for


@dataclass(frozen=True)
class Rule:
    """One recorded `Builder.elementwise`: out = value(*elements of operands)."""

    out: Buffer
    value: Callable[..., Any]
    operands: tuple[Buffer, ...]


class Recorder(Builder):
    """Keeps elementwise rules in the place of writing them; everything else is written as ever.

    kernel  the builder of the kernel that the rules are for: names are chosen as if it wrote.
    """

    def __init__(self, kernel: Builder) -> None:
        super().__init__(kernel.name)
        self.fresh = kernel.fresh  # type: ignore[method-assign]
        self.rules: list[Rule] = []

    def elementwise(self, out: Buffer, value: Callable[..., Any], *xs: Buffer) -> None:
        self.rules.append(Rule(out, value, xs))


def rule_of(b: Builder, node: Node, site: Site, xs: Sequence[Buffer | None], y: Buffer) -> Rule | None:
    """The rule that is the whole lowering of a node, or None. `b` is the builder that is to write it."""
    recorder = Recorder(b)
    node.op.lower(recorder, site, tuple(xs), (y,))
    whole = len(recorder.rules) == 1 and not recorder.kernel().body
    return recorder.rules[0] if whole and recorder.rules[0].out is y else None


@dataclass(frozen=True)
class Group:
    """Nodes that can be one kernel: followers of the first one, which is a rule itself or not."""

    nodes: list[Node]
    begins_with_rule: bool = False

    @property
    def name(self) -> str:
        head = self.nodes[0]
        return f"{head.op.name.lower()}_{head.index}" if head.index >= 0 else head.op.name.lower()

    @property
    def source(self) -> str:
        return " + ".join(f"op #{n.index} {n.op.name}" for n in self.nodes)


def groups(graph: Graph, environment: Environment | None) -> list[Group]:
    """The nodes in groups, in an order in which they can run: that of their last nodes."""
    consumers = graph.consumers()
    taken: set[Node] = set()
    found: list[Group] = []
    for place, node in enumerate(graph.nodes):
        if node not in taken:
            group = _grown(graph, place, consumers, taken, environment)
            taken.update(group.nodes)
            found.append(group)
    places = {node: n for n, node in enumerate(graph.nodes)}
    return sorted(found, key=lambda group: places[group.nodes[-1]])


def linked(graph: Graph, consumers: dict[Tensor, list[Node]], found: Sequence[Group]) -> list[Group]:
    """The first groups that are contractions, of which each reads what the one before gives to it alone."""
    chain: list[Group] = []
    for group in found:
        head = group.nodes[0]
        if group.begins_with_rule or not head.op.contracts or not _is_plain(head):
            break
        if chain:
            given = chain[-1].nodes[-1].outputs[0]
            if head.inputs[0] is not given or consumers[given] != [head] or given in graph.outputs:
                break
        chain.append(group)
    return chain


def _grown(
    graph: Graph, place: int, consumers: dict[Tensor, list[Node]], taken: set[Node], environment: Environment | None
) -> Group:
    """The longest group that begins with a node and gives away nothing but its last node's output."""
    head = graph.nodes[place]
    is_rule = _is_plain(head) and _is_rule(head, environment)
    if not _is_plain(head) or not (head.op.contracts or is_rule):
        return Group([head])
    group, inside, outside, length = [head], {head.outputs[0]}, set(graph.outputs), 1
    later: set[Tensor] = set()  # what depends on the group by other ways: nothing in the group may
    for node in graph.nodes[place + 1 : place + 1 + REACH]:
        reads = {t for t in node.inputs if t is not None}
        if not reads & (inside | later):
            continue
        if node in taken or reads & later or not _follows(node, head, inside, environment):
            later.update(node.outputs)
            continue
        group.append(node)
        inside.add(node.outputs[0])
        members = set(group)
        given = [t for t in inside if t in outside or any(n not in members for n in consumers.get(t, ()))]
        if given == [node.outputs[0]] or not given:
            length = len(group)
        if len(group) > MOST_FOLLOWERS:
            break
    return Group(group[:length], is_rule)


def _is_plain(node: Node) -> bool:
    """Whether a node has one output, and its inputs cannot change before a later node runs."""
    variable = any(t is not None and t.is_variable for t in (*node.inputs, *node.outputs))
    return len(node.outputs) == 1 and not variable and not node.op.stateful


def _follows(node: Node, head: Node, inside: set[Tensor], environment: Environment | None) -> bool:
    """Whether the node works on the head's output element by element, with operands that are at hand there."""
    shape = head.outputs[0].type.shape
    if not _is_plain(node) or node.outputs[0].type.shape != shape:
        return False
    for t in node.inputs:
        if t is None or (t in inside and t.type.shape != shape):
            return False
        if t not in inside and head.op.contracts and not _at_hand(t.type.shape, shape):
            return False
    return _is_rule(node, environment)


def _is_rule(node: Node, environment: Environment | None) -> bool:
    """Whether the node's lowering is one rule; asked of elementwise operators only, for others it costs too much."""
    if not node.op.elementwise:
        return False
    xs, y = [None if t is None else _stand_in(t) for t in node.inputs], _stand_in(node.outputs[0])
    return rule_of(Builder("probe"), node, Site.of(node, environment), xs, y) is not None


def _stand_in(t: Tensor) -> Buffer:
    return Buffer("probe", t.type.dtype, t.type.shape, t.data)


def _at_hand(shape: Shape, out: Shape) -> bool:
    """Whether an epilogue reaches a broadcast operand by its pixel and channel alone."""
    one_line = all(n == 1 for n in shape[:-1])
    return shape == out or (one_line and shape[-1:] in ((), (1,), out[-1:]))


def chained(rules: Sequence[Rule], values: dict[Buffer, Expr], load: Callable[[Buffer], Expr]) -> Expr:
    """The last rule's value, where `values` holds the elements that are known, by storage."""
    for rule in rules:
        elements = [values[x.storage] if x.storage in values else load(x) for x in rule.operands]
        value = constant(rule.value(*elements), rule.out.dtype)
        if value.dtype != rule.out.dtype:
            raise TypeError(f"{rule.out!r} cannot take a value of type {value.dtype}: cast it")
        values[rule.out.storage] = value
    return values[rules[-1].out.storage]


def operands_of(rules: Sequence[Rule]) -> list[Buffer]:
    """What the rules read and have not made before; the last one may write where one of these lies."""
    made: set[Buffer] = set()
    read: dict[Buffer, None] = {}
    for rule in rules:
        read.update(dict.fromkeys(x for x in rule.operands if x.storage not in made))
        made.add(rule.out.storage)
    return list(read)


def variable_of(rules: Sequence[Rule]) -> Buffer | None:
    """The only operand that is not constant, if there is just one."""
    variable = [x for x in operands_of(rules) if x.values is None]
    return variable[0] if len(variable) == 1 else None


def tabulated(b: Builder, rules: Sequence[Rule], x: Buffer) -> Rule | None:
    """The rules as a look-up of x, where x has 8 bits, everything else is constant, and it saves work."""
    out, others = rules[-1].out, [y for y in operands_of(rules) if y.storage is not x.storage]
    bytes_only = all(y.dtype.is_integer and y.dtype.stored_bits == 8 for y in (x, out))
    if not bytes_only or any(y.values is None or y.size != 1 for y in others):
        return None
    values = Buffer("values", x.dtype, (ENTRIES,)), Buffer("entries", out.dtype, (ENTRIES,))
    writer = Builder("table")
    with writer.loop(ENTRIES, "parallel") as i:
        value = chained(rules, {x.storage: values[0][i]}, lambda y: y.viewed((1,))[0])
        writer.store(values[1], i, value)
    if len([*nodes((value,))]) <= CHEAP:
        return None
    least = x.dtype.minimum
    arrays = {
        values[0]: np.arange(least, least + ENTRIES).astype(x.dtype.numpy),
        values[1]: np.empty(ENTRIES, out.dtype.numpy),
    }
    run_kernel(writer.kernel(), arrays)
    table = b.constant(arrays[values[1]], "table")
    return Rule(out, lambda v: table[v.to(INDEX) - least], (x,))


def write(b: Builder, rules: Sequence[Rule]) -> None:
    """Elementwise operators one after the other as one pass."""
    read = operands_of(rules)

    def value(*elements: Expr) -> Expr:
        loaded = dict(zip(read, elements, strict=True))
        return chained(rules, {}, loaded.__getitem__)

    b.elementwise(rules[-1].out, value, *read)


def followed(rules: Sequence[Rule], source: Buffer) -> Callable[[Any], Any]:
    """What turns the contraction that writes `source` (either kind) into one that writes the last rule's output."""
    out = rules[-1].out

    def change(c: Convolution | MatrixProduct) -> Convolution | MatrixProduct:
        *outer, channels = c.out.shape

        def epilogue(total: Expr, o: Expr, place: Any) -> Expr:
            row = place.row if isinstance(place, Pixel) else row_major(place, tuple(outer))

            def load(x: Buffer) -> Expr:
                if x.size == 1:
                    return x.viewed((1,))[0]
                if x.size == out.size:
                    return x.viewed((x.size // channels, channels))[row, o]
                return x.viewed((channels,))[o]

            return chained(rules, {source.storage: constant(c.epilogue(total, o, place), source.dtype)}, load)

        return replace(c, out=out.viewed(c.out.shape), epilogue=epilogue)

    return change
