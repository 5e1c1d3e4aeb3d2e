"""Loops whose end is known before the run become code: WHILE with a counter of constants -> REPEAT.

    while i < 3:  y = f(x[i], w) + h;  h = g(y);  list = concatenation(list[:i], [h], list[i + 1:]);  i = i + 1
->
    z = f(x, w);  repeat 3 times, step = 0, 1, 2:  y = z[step] + h;  h = g(y);  list[step] = h

What depends on constants alone (counters, places in lists) is computed here, for every round of the loop. What
depends on the round but not on what rounds leave to one another is computed ahead (see `lithe.passes.ahead_of_loops`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lithe.errors import LitheError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops import REGISTRY
from lithe.ops.op import Environment, RuleViolation, Site
from lithe.ops.repeat import Repeat, work
from lithe.passes.ahead_of_loops import ahead_of_loop
from lithe.passes.assign_once import assign_once
from lithe.passes.infer_shapes import BAD_NUMBERS, checked_shape, inferred, is_dynamic
from lithe.passes.remove_dead import has_effect, remove_dead
from lithe.types import INT32, DType, Shape, TensorType

LONGEST = 1 << 12  # rounds
SMALL = 64  # elements of a value that is followed through all rounds

Values = dict[Tensor, np.ndarray]
Prepare = Callable[[Graph], object]


def counted(
    graph: Graph, node: Node, environment: Environment | None, read: Collection[Tensor], prepare: Prepare
) -> list[Node]:
    """The nodes in the place of a WHILE whose end is known; the node itself when it is not, or is no loop.

    read     tensors that somebody reads.
    prepare  what graphs go through before they are run.
    """
    if environment is None or "body_subgraph_index" not in node.op.calls or not node.has_rules:
        return [node]
    try:
        with np.errstate(all="ignore"):
            return _counted(graph, node, environment, read, prepare) or [node]
    except (*BAD_NUMBERS, RuleViolation, LitheError):  # the loop says it in the run, if it is the model's fault
        return [node]


def _counted(
    graph: Graph, node: Node, environment: Environment, read: Collection[Tensor], prepare: Prepare
) -> list[Node] | None:
    condition = environment.graph(node.attrs.cond_subgraph_index).copy()
    body = environment.graph(node.attrs.body_subgraph_index).copy()
    assign_once(condition)
    assign_once(body)
    if not fits(node, condition, body):
        return None
    count = len(node.inputs)
    given = [t for t in node.inputs if t is not None]
    same = [k for k in range(count) if body.outputs[k] is body.inputs[k]]
    for k in same:
        body.inputs[k].data = condition.inputs[k].data = given[k].data
    rounds = rounds_of(condition, body, {k: given[k].data for k in range(count) if k not in same})
    if rounds is None or not 1 <= rounds.count <= LONGEST:
        return None
    ends = [_without_cast(body, t) for t in body.outputs]
    carried = [
        k for k in range(count) if (k not in same and k not in rounds.counters) or node.outputs[k] in read
    ]  # fmt: skip
    if not carried:
        return None
    for k in range(count):
        body.inputs[k].type = replace(body.inputs[k].type, shape=given[k].type.shape)
    fixed = [k for k in same if k not in carried and not given[k].is_constant]
    step = Tensor("step", TensorType(INT32, ()))
    start = [body.inputs[k] for k in carried]
    body.inputs = [step, *(body.inputs[k] for k in fixed), *start]
    body.outputs = [ends[k] for k in carried]
    body.tensors.append(step)
    body.nodes = [n for n in body.nodes if n not in rounds.nodes]
    updates = with_updates(body, rounds)
    remove_dead(body)
    _with_known(body, rounds, step)
    prepare(body)
    if any(t.type.shape != shape for t, shape in updates) or not _is_code(body, start, environment):
        return None
    repeat = Node(
        Repeat, Repeat.Attrs(body, rounds.count), [given[k] for k in (*fixed, *carried)],
        [node.outputs[k] for k in carried], node.index,
    )  # fmt: skip
    before = ahead_of_loop(graph, repeat)
    return [*before, repeat] if environment.affords(rounds.count * work(body)) else None


def fits(node: Node, condition: Graph, body: Graph) -> bool:
    """Whether the graphs take and give what the loop carries, in tensors of their own."""
    types = [None if t is None else t.type for t in node.inputs]
    if any(t is None or is_dynamic(t) or t.dtype.kind in ("string", "resource") for t in types):
        return False
    for inner in (condition, body):
        if len(inner.inputs) != len(types) or len(set(inner.inputs)) != len(types):
            return False
        if any(t.is_variable for t in inner.tensors) or any(t.is_constant for t in inner.inputs):
            return False
        if any(t.type.dtype != of.dtype for t, of in zip(inner.inputs, types, strict=True) if of is not None):
            return False
    return len(body.outputs) == len(types) == len(node.outputs) and len(condition.outputs) == 1


# what is known of every round


@dataclass
class Rounds:
    """What the rounds of a loop compute from constants alone.

    counters  positions of the loop's values that do.
    nodes     the operators of the body that do; values: what they give, in every round.
    """

    count: int
    counters: list[int]
    nodes: list[Node]
    values: dict[Tensor, list[np.ndarray]] = field(default_factory=dict)

    def of(self, t: Tensor | None) -> list[np.ndarray] | None:
        """The value of a tensor in each round, None when it is not known."""
        if t is None:
            return None
        return [t.data] * self.count if t.data is not None else self.values.get(t)


def rounds_of(condition: Graph, body: Graph, start: dict[int, np.ndarray | None]) -> Rounds | None:
    """Runs the loop as far as it depends on constants alone; None when its end does not."""
    counters = [k for k, data in start.items() if data is not None and data.size <= SMALL]
    while True:
        nodes, known = _known_nodes(body, [body.inputs[k] for k in counters])
        left = [k for k in counters if body.outputs[k] in known or body.outputs[k].is_constant]
        if left == counters:
            break
        counters = left
    deciding, known = _known_nodes(condition, [condition.inputs[k] for k in counters])
    (end,) = condition.outputs
    if end not in known and not end.is_constant:
        return None
    ends = [body.outputs[k] for k in counters]
    counting = _leading_to(nodes, ends)
    starts = [[np.asarray(start[k]) for k in counters]]
    while len(starts) <= LONGEST + 1:
        decided = _run(deciding, {condition.inputs[k]: v for k, v in zip(counters, starts[-1], strict=True)})
        go_on = end.data if end.data is not None else decided[end]
        if go_on.size != 1 or go_on.dtype != np.bool_:
            return None
        if not go_on.item():
            break
        found = _run(counting, {body.inputs[k]: v for k, v in zip(counters, starts[-1], strict=True)})
        values = [np.asarray(t.data if t.data is not None else found[t]) for t in ends]
        if all(map(_alike, values, starts[-1])):
            return None  # it would not end
        starts.append(values)
    else:
        return None
    rounds = Rounds(len(starts) - 1, counters, nodes)
    for values in starts[:-1]:
        for t, value in _run(nodes, {body.inputs[k]: v for k, v in zip(counters, values, strict=True)}).items():
            rounds.values.setdefault(t, []).append(value)
    return rounds


def _leading_to(nodes: Sequence[Node], ends: Sequence[Tensor]) -> list[Node]:
    """Those of the nodes on which some tensors depend."""
    wanted, kept = set(ends), []
    for n in reversed(nodes):
        if not wanted.isdisjoint(n.outputs):
            kept.append(n)
            wanted.update(t for t in n.inputs if t is not None)
    return kept[::-1]


def _known_nodes(graph: Graph, given: Sequence[Tensor]) -> tuple[list[Node], set[Tensor]]:
    """(nodes that depend on these tensors and constants alone, what they make), as long as all of it is small."""
    known, nodes = set(given), []
    for n in graph.nodes:
        if has_effect(n) or n.op.calls or not n.has_rules or not hasattr(n.op, "evaluate"):
            continue
        if all(t is None or t in known or (t.data is not None and t.data.size <= SMALL) for t in n.inputs):
            nodes.append(n)
            known.update(n.outputs)
    return nodes, known


def _run(nodes: Sequence[Node], given: Values) -> Values:
    """What the nodes make, and what they are given."""
    values = dict(given)
    for n in nodes:
        arrays = [None if t is None else values.get(t, t.data) for t in n.inputs]
        shaped = tuple(
            None if t is None or a is None else replace(t.type, shape=a.shape)
            for t, a in zip(n.inputs, arrays, strict=True)
        )
        site = replace(Site.of(n), inputs=shaped, constants=tuple(arrays))
        shapes = [checked_shape(n, t.type, s) for t, s in zip(n.outputs, inferred(n, site), strict=True)]
        types = tuple(replace(t.type, shape=s) for t, s in zip(n.outputs, shapes, strict=True))
        results = [np.asarray(r) for r in n.op.evaluate(replace(site, outputs=types), *arrays)]
        if any(r.size > SMALL for r in results):
            raise RuleViolation("is too large to be followed through all rounds")
        values.update(zip(n.outputs, results, strict=True))
    return values


# the body in terms of the step


def _without_cast(body: Graph, t: Tensor) -> Tensor:
    """The tensor that is given out as t, where nothing but a cast to its own type lies between."""
    made = body.producers().get(t)
    source = made.inputs[0] if made is not None and made.op is REGISTRY.by_name["CAST"] else None
    return t if source is None or source.type.dtype != t.type.dtype else source


def with_updates(body: Graph, rounds: Rounds) -> list[tuple[Tensor, Shape]]:
    """concatenation(x[:i], y, x[i + k:]) with known i  ->  dynamic_update_slice(x, y, [i, 0 ...])

    Returns the tensors y, with the shapes that they must turn out to have.
    """
    makers, found = body.producers(), []
    update = REGISTRY.by_name["DYNAMIC_UPDATE_SLICE"]
    for n in body.nodes:
        if n.op is not REGISTRY.by_name["CONCATENATION"] or len(n.inputs) != 3:
            continue
        first, y, last = n.inputs
        parts = [_slices(makers.get(t), rounds) if t is not None else None for t in (first, last)]
        if parts[0] is None or parts[1] is None or y is None or parts[0].of is not parts[1].of:
            continue
        x, rank = parts[0].of, parts[0].of.type.rank
        if n.attrs.axis not in (0, -rank) or n.attrs.fused_activation_function != "NONE":
            continue
        pairs = list(zip(parts[0].ranges, parts[1].ranges, strict=True))
        gaps = {after.start - before.stop for before, after in pairs}
        ends = all(before.start == 0 and after.stop == x.type.shape[0] for before, after in pairs)
        if not ends or len(gaps) != 1:
            continue
        place = Tensor("place", TensorType(INT32, (rank,)))
        rounds.values[place] = [np.array([r.stop] + [0] * (rank - 1), np.int32) for r in parts[0].ranges]
        body.tensors.append(place)
        n.op, n.attrs, n.inputs = update, update.Attrs(), [x, y, place]
        found.append((y, (gaps.pop(), *x.type.shape[1:])))
    return found


@dataclass(frozen=True)
class _Slices:
    """Rows of a tensor that carries its shape, in each round; all of what lies in a row."""

    of: Tensor
    ranges: list[range]


def _slices(node: Node | None, rounds: Rounds) -> _Slices | None:
    if node is None or node.op is not REGISTRY.by_name["SLICE"]:
        return None
    x, begins, sizes = node.inputs[0], rounds.of(node.inputs[1]), rounds.of(node.inputs[2])
    if x is None or x.type.rank < 1 or begins is None or sizes is None:
        return None
    ranges: list[range] = []
    if any(v.shape != (x.type.rank,) for v in (*begins, *sizes)) or is_dynamic(x.type):
        return None
    for begin, size in zip(begins, sizes, strict=True):
        stop = [d if s == -1 else b + s for b, s, d in zip(begin.tolist(), size.tolist(), x.type.shape, strict=True)]
        whole = not any(begin[1:]) and tuple(stop[1:]) == x.type.shape[1:]
        if not whole or not 0 <= begin[0] <= stop[0] <= x.type.shape[0]:
            return None
        ranges.append(range(int(begin[0]), int(stop[0])))
    return _Slices(x, ranges)


def _with_known(body: Graph, rounds: Rounds, step: Tensor) -> None:
    """Puts what is known in place of the tensors: constants, the step, or the step's entry of a constant table."""
    gather = REGISTRY.by_name["GATHER"]
    steps = [np.array(n, np.int32) for n in range(rounds.count)]
    before: list[Node] = []
    instead: dict[Tensor, Tensor] = {}

    def constant(data: np.ndarray, like: Tensor) -> Tensor:
        made = Tensor(like.name, replace(like.type, shape=data.shape), data)
        body.tensors.append(made)
        return made

    def known(t: Tensor | None) -> Tensor | None:
        if t is None or t in instead or t not in rounds.values:
            return instead.get(t, t) if t is not None else None
        values = rounds.values[t]
        if all(_alike(v, values[0]) for v in values):
            instead[t] = constant(values[0], t)
        elif t.type.dtype == INT32 and all(map(_alike, values, steps)):
            instead[t] = step
        else:
            made = Tensor(t.name, replace(t.type, shape=values[0].shape))
            body.tensors.append(made)
            before.append(Node(gather, gather.Attrs(), [constant(np.stack(values), t), step], [made]))
            instead[t] = made
        return instead[t]

    for n in body.nodes:
        n.inputs = [known(t) for t in n.inputs]
    body.outputs = [t if (k := known(t)) is None else k for t in body.outputs]
    body.nodes = [*before, *body.nodes]


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _is_code(body: Graph, start: list[Tensor], environment: Environment) -> bool:
    """Whether every operator of a prepared body has loops and no effect, and a round ends as the next one begins."""
    for n in body.nodes:
        tensors = [t for t in (*n.inputs, *n.outputs) if t is not None]
        if has_effect(n) or not n.has_rules or any(is_dynamic(t.type) or _has_no_loops(t.type.dtype) for t in tensors):
            return False
        if not n.op.alias and (n.op.lower is None or not n.op.lowers(Site.of(n, environment))):
            return False
    pairs = zip(body.outputs, start, strict=True)
    return all(end.type.shape == begin.type.shape and end.type.dtype == begin.type.dtype for end, begin in pairs)


def _has_no_loops(dtype: DType) -> bool:
    return dtype.kind in ("string", "resource")
