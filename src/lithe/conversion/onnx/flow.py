"""ONNX's branches and loops: If, Loop, Scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.control import branch, known_inside, loop, moving
from lithe.conversion.onnx.call import Call, Value, rule, stack, tensor
from lithe.conversion.onnx.graph import Missing, Scope, declared_type, free_names
from lithe.conversion.parts import cut, sliced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, INT32, INT64, Shape, TensorType

MOST_UNROLLED = 64  # runs of a loop whose number is known and whose results grow


def inner_scope(b: Builder, c: Call, graph: Any, outside: dict[str, Value | None]) -> Scope:
    """A graph inside of a node, before its nodes are written."""
    import onnx.numpy_helper

    outer = c.scope
    types = {i.name: declared_type(i) for i in [*graph.value_info, *graph.output, *graph.input]}
    scope = Scope(b, outer.versions, types={**outer.types, **types}, uses=Counter(), prefix=outer.prefix,
                  depth=outer.depth, unroll=outer.unroll, functions=outer.functions)  # fmt: skip
    scope.look_at(graph.node, [o.name for o in graph.output])
    scope.values.update(outside)
    for initializer in graph.initializer:
        scope.values[initializer.name] = onnx.numpy_helper.to_array(initializer)
    return scope


def written(
    b: Builder, c: Call, graph: Any, inputs: dict[str, Value | None], outside: dict[str, Value | None]
) -> list[Tensor]:
    """What a graph inside of a node gives."""
    return [tensor(b, v) for v in _values(b, c, graph, inputs, outside)]


def _values(
    b: Builder, c: Call, graph: Any, inputs: dict[str, Value | None], outside: dict[str, Value | None]
) -> list[Value]:
    scope = inner_scope(b, c, graph, outside)
    scope.values.update(inputs)
    before = len(b.conversion.problems)
    scope.write(graph.node)
    if len(b.conversion.problems) > before:
        raise Missing
    made = [scope.values[o.name] for o in graph.output]
    return [m for m in made if m is not None]


def captured_names(c: Call, graphs: Sequence[Any]) -> tuple[dict[str, Value | None], dict[str, Tensor]]:
    """What graphs read from outside: known values, and tensors that must be handed in."""
    names = dict.fromkeys(n for g in graphs for n in free_names(g))
    known: dict[str, Value | None] = {}
    given: dict[str, Tensor] = {}
    for name in names:
        value = c.scope.read(name)
        if isinstance(value, Tensor):
            given[name] = value
        else:
            known[name] = value
    return known, given


@rule("If")
def choice(b: Builder, c: Call) -> list[Value]:
    graphs = [c.attr("then_branch"), c.attr("else_branch")]
    known, given = captured_names(c, graphs)
    which = c.known(0)
    if which is not None:
        return _values(b, c, graphs[0 if bool(which.reshape(-1)[0]) else 1], {}, {**known, **given})
    names, along = list(given), list(given.values())

    def part(graph: Any) -> Any:
        def write(inner: Builder, carried: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
            return written(inner, c, graph, {}, {**known, **dict(zip(names, captured, strict=True))})

        return known_inside(write, 0, along, moving(along))

    condition = b.reshape(c[0], ())
    made = branch(b, condition, part(graphs[0]), part(graphs[1]), moving(along))
    results = []
    for t, g in zip(made, range(len(c.results)), strict=True):
        other = b.conversion.graphs[-1].outputs[g].type.shape
        if other != t.type.shape:  # only a run can tell: what the branches do not agree on is open
            rank = t.type.rank
            b.require(len(other) == rank, "branches that give results of several ranks")
            t.type = TensorType(t.type.dtype, _agreed(b, c, g, t.type.shape, other))
        b.originate(t)
        results.append(t)
    return list(results)


def _agreed(b: Builder, c: Call, i: int, one: Shape, other: Shape) -> Shape:
    declared = c.declared(i, len(one))
    return tuple(n if n == m else d for n, m, d in zip(one, other, declared, strict=True))


@rule("Loop")
def repeated(b: Builder, c: Call) -> list[Value]:
    """Runs of the body are counted, and go on while its condition holds. What it gives for each run is gathered."""
    body = c.attr("body")
    count = None if not c.has(0) else c.known(0)
    start = c.known(1) if c.has(1) else np.asarray(True)
    carried = len(body.input) - 2
    scanned = len(body.output) - 1 - carried
    known, given = captured_names(c, [body])
    values = [c.operands[i + 2] for i in range(carried)]
    runs = int(count.reshape(-1)[0]) if count is not None else MOST_UNROLLED + 1
    begins = start is not None and bool(start.reshape(-1)[0])
    grows = scanned or any(isinstance(v, np.ndarray) for v in values)
    if runs <= MOST_UNROLLED and begins and grows and _goes_on(body):
        return _unrolled_loop(b, c, runs, values, {**known, **given}, carried)
    return list(_loop(b, c, body, values, known, given, scanned))


def _goes_on(body: Any) -> bool:
    """Whether the body's condition is always true: it is what came in, or a constant."""
    name = body.output[0].name
    while True:
        if name == body.input[1].name:
            return True
        maker = next((n for n in body.node if name in n.output), None)
        if maker is not None and maker.op_type == "Identity":
            name = maker.input[0]
            continue
        if maker is not None and maker.op_type == "Constant":
            import onnx.numpy_helper

            value = next((a.t for a in maker.attribute if a.name == "value"), None)
            return value is not None and bool(onnx.numpy_helper.to_array(value).all())
        return False


def _unrolled_loop(b: Builder, c: Call, count: int, values: list[Value | None], outside: dict[str, Value | None],
                   carried: int) -> list[Value]:  # fmt: skip
    body = c.attr("body")
    names = [i.name for i in body.input]
    gathered: list[list[Value]] = [[] for _ in body.output[1 + carried :]]
    for i in range(count):
        inputs = dict(zip(names, [np.asarray(i, np.int64), np.asarray(True), *values], strict=True))
        made = _values(b, c, body, inputs, outside)
        values = list(made[1 : 1 + carried])
        for rows, row in zip(gathered, made[1 + carried :], strict=True):
            rows.append(row)
    stacked = [stack(b, [tensor(b, r) for r in rows], 0) if rows
               else np.zeros((0,), np.float32) for rows in gathered]  # fmt: skip
    return [*(v for v in values if v is not None), *stacked]


def _loop(b: Builder, c: Call, body: Any, values: list[Value | None], known: dict[str, Value | None],
          given: dict[str, Tensor], scanned: int) -> list[Tensor]:  # fmt: skip
    names, along = list(given), list(given.values())
    limit = b.cast(b.reshape(c[0], ()), INT32) if c.has(0) else b.constant((1 << 31) - 1)
    condition = b.reshape(c[1], ()) if c.has(1) else b.constant(True, BOOL)
    start = [tensor(b, v) for v in values if v is not None]
    start = [_as_declared(b, c, body, i, t) for i, t in enumerate(start)]
    carried = len(start)
    trial = _trial(b, c, body, start, known, given) if scanned else []
    rows = [_room(b, c, body, i, trial[1 + carried + i].type) for i in range(scanned)]

    def test(inner: Builder, values: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        number, going = values[:2]
        return [inner("LOGICAL_AND", inner("LESS", number, captured[0], dtype=BOOL), going, dtype=BOOL)]

    def run(inner: Builder, values: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        number, going, *rest = values
        inputs = dict(zip((i.name for i in body.input), [inner.cast(number, INT64), going, *rest[:carried]],
                          strict=True))  # fmt: skip
        made = written(inner, c, body, inputs, {**known, **dict(zip(names, captured[1:], strict=True))})
        made[1 : 1 + carried] = [
            _as_before(inner, t, before.type.shape, declared_type(body.output[1 + i])[1])
            for i, (t, before) in enumerate(zip(made[1 : 1 + carried], rest, strict=False))
        ]
        whole = []
        for row, before in zip(made[1 + carried :], rest[carried:], strict=True):
            shape = before.type.shape[1:]
            one = inner.reshape(_as_before(inner, row, shape, list(shape)), (1, *shape))
            if is_open(before.type.shape[0]):
                whole.append(_grown(inner, before, one))
                continue
            begin = inner("PACK", number, *[inner.constant(0)] * len(shape), values_count=len(shape) + 1, axis=0)
            whole.append(inner("DYNAMIC_UPDATE_SLICE", before, one, begin))
        return [inner("ADD", number, inner.constant(1)), inner.reshape(made[0], ()), *made[1 : 1 + carried], *whole]

    found = loop(b, [b.constant(0), condition, *start, *rows], [limit, *along], test, run)
    for t in found:
        b.originate(t)
    return [*found[2 : 2 + carried], *(_without_first(b, t) for t in found[2 + carried :])]


def _without_first(b: Builder, rows: Tensor) -> Tensor:
    """What grew, without the row with which it began."""
    count, *shape = rows.type.shape
    return cut(b, rows, [1, *[0] * len(shape)], [count - 1, *shape]) if is_open(count) else rows


def _grown(b: Builder, before: Tensor, one: Tensor) -> Tensor:
    """Rows of all runs so far, and one more."""
    made = Tensor(f"{b.name()}/{len(b.tensors)}", before.type)
    b.add(b._node("CONCATENATION", [before, one], [made], axis=0))
    return made


def _as_before(b: Builder, t: Tensor, shape: Shape, dims: Sequence[Any] | None) -> Tensor:
    """A value that goes into the next run: its shape stays, as the model declares it where it cannot be seen."""
    if t.type.shape == shape:
        return t
    promised = dims is not None and tuple(dims) == shape
    b.require(promised, "a value that changes its shape from run to run of a loop")
    return b.sized("RESHAPE", [t, b.constant(list(shape))], shape, new_shape=())


def _trial(b: Builder, c: Call, body: Any, start: Sequence[Tensor], known: dict[str, Value | None],
           given: dict[str, Tensor]) -> list[Tensor]:  # fmt: skip
    """What a run gives, for its types alone: written into a graph that is not kept."""
    graphs = b.conversion.graphs
    before = len(graphs)
    inner = Builder(b.conversion, f"{b.title}/trial", before)
    inner.where, inner.scope = b.where, b.scope

    def seen(name: str, t: Tensor) -> Tensor:
        return inner.input(name, t.type.shape, t.type.dtype) if t.data is None else inner.constant(t.data, t.type.dtype)

    values = [inner.input("number", (), INT64), inner.input("going", (), BOOL), *(seen("value", t) for t in start)]
    inputs: dict[str, Value | None] = dict(zip((i.name for i in body.input), values, strict=True))
    outside = {**known, **{name: seen(name, t) for name, t in given.items()}}
    made = written(inner, c, body, inputs, outside)
    del graphs[before:]
    return made


def _as_declared(b: Builder, c: Call, body: Any, i: int, t: Tensor) -> Tensor:
    dims = declared_type(body.input[i + 2])[1]
    b.require(dims is None or len(dims) == t.type.rank, "a value that changes its rank in a loop")
    return t


def _room(b: Builder, c: Call, body: Any, i: int, row: TensorType) -> Tensor:
    """Room for what the runs give: zeros where their number is known, else a tensor that grows."""
    dims = declared_type(body.output[len(body.input) - 1 + i])[1]
    shape = row.shape
    if not is_fixed(shape) and dims is not None and all(isinstance(d, int) for d in dims):
        shape = tuple(int(d) for d in dims if isinstance(d, int))
    b.require(is_fixed(shape), "results of runs whose shape is not known")
    count = c.known(0) if c.has(0) else None
    if count is not None and not is_open(int(count.reshape(-1)[0])) and _goes_on(body):
        return b.filled(0, row.dtype, (int(count.reshape(-1)[0]), *shape))
    runs = b.sizes.stand_in(f"{b.scope}_runs{i}")
    one = b.constant(np.zeros((1, *shape)), row.dtype)  # the official runtime's loops do not begin with none
    return c.found("RESHAPE", [one, b.constant([1, *shape])], (runs, *shape), row.dtype)


@rule("Scan")
def scan(b: Builder, c: Call) -> list[Value]:
    """Each run takes the next part of the scanned inputs. The runs are written one by one."""
    body, count = c.attr("body"), c.attr("num_scan_inputs")
    operands = list(c.operands)
    if c.version < 9:
        return _scan_of_batches(b, c)
    states = len(operands) - count
    axes = c.attr("scan_input_axes", [0] * count)
    backwards = c.attr("scan_input_directions", [0] * count)
    known, given = captured_names(c, [body])
    inputs = [c[states + i] for i in range(count)]
    lengths = [t.type.shape[a % t.type.rank] for t, a in zip(inputs, axes, strict=True)]
    b.require(not is_open(lengths[0]), "a scan along an open dimension")
    values: list[Value | None] = operands[:states]
    gathered: list[list[Value]] = [[] for _ in range(len(body.output) - states)]
    for step in range(lengths[0]):
        parts: list[Value | None] = []
        for t, a, back in zip(inputs, axes, backwards, strict=True):
            axis = a % t.type.rank
            at = lengths[0] - 1 - step if back else step
            part = sliced(b, t, axis, at, at + 1)
            parts.append(b.reshape(part, [n for i, n in enumerate(t.type.shape) if i != axis]))
        names = [i.name for i in body.input]
        made = _values(b, c, body, dict(zip(names, [*values, *parts], strict=True)), {**known, **given})
        values = list(made[:states])
        for rows, row in zip(gathered, made[states:], strict=True):
            rows.append(row)
    out_axes = c.attr("scan_output_axes", [0] * len(gathered))
    reverse = c.attr("scan_output_directions", [0] * len(gathered))
    stacked = []
    for rows, axis, back in zip(gathered, out_axes, reverse, strict=True):
        own = [tensor(b, r) for r in (rows[::-1] if back else rows)]
        stacked.append(stack(b, own, axis % (own[0].type.rank + 1)))
    return [*(v for v in values if v is not None), *stacked]


def _scan_of_batches(b: Builder, c: Call) -> list[Value]:
    """Operator set 8: a batch before all else, of which each is scanned on its own."""
    operands = c.operands[1:]
    b.require(not c.has(0), "a scan over sequences of several lengths")
    batch = c.shape(1)[0]
    b.require(not is_open(batch), "a scan of an open batch")
    columns: list[list[Tensor]] = []
    for i in range(batch):
        own = [b.reshape(sliced(b, t, 0, i, i + 1), t.type.shape[1:])
               for t in (tensor(b, v) for v in operands if v is not None)]  # fmt: skip
        call = Call(c.op, 9, {**c.attributes}, list(own), c.results, c.scope, b)
        columns.append([tensor(b, v) for v in scan(b, call)])
    return [stack(b, rows, 0) for rows in zip(*columns, strict=True)]
