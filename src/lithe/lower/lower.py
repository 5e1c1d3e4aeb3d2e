"""A prepared graph to a program of loops: one kernel an operator, then a plan of the memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lithe.errors import LimitError, UnsupportedOp
from lithe.ir.build import Builder, Convolution, MatrixProduct, Schedule, kernel
from lithe.ir.form import form_of, shape_of
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.loops import Alloc, Buffer, Call, For, If, Kernel, Stmt, statements
from lithe.ir.pages import let_go
from lithe.ir.program import Program, Step
from lithe.lower import fusion, rows
from lithe.lower.memory_plan import ALIGNMENT, SLACK, Lifetime, lower_bound, plan
from lithe.lower.movement import without_copies
from lithe.lower.schedule import USUAL, Choice, schedule
from lithe.lower.share_out import share_out
from lithe.lower.vectorize import vectorize
from lithe.ops import Site
from lithe.ops.op import Environment
from lithe.targets.cpu import Target
from lithe.types import UINT8

LARGEST_ARENA = 1 << 31
LARGEST_LOCAL = 1 << 13  # bytes; threads may have small stacks


def lower(
    graph: Graph,
    target: Target | None = None,
    environment: Environment | None = None,
    *,
    largest_arena: int = LARGEST_ARENA,
    each: Callable[[Kernel], object] = lambda kernel: None,
    choices: Mapping[Node, Sequence[Choice]] | None = None,
) -> Program:
    """Returns the program of a graph with fixed shapes.

    target       the CPU whose schedules to use; None for plain loops, as C for any machine wants them.
    environment  of the model, for operators that look into its other graphs.
    each         is called with every kernel of a step as soon as it is made, in the order of the program.
    choices      how contractions are written, by the first node of a kernel; the first choice is taken, the others
                  become steps that could stand in its place (`Program.alternatives`).

    Raises UnsupportedOp when an operator has no lowering or a shape depends on data, LimitError when the
    arena would be larger than `largest_arena` bytes.
    """
    return _Lowering(graph, target, environment, largest_arena, choices or {}).program(each)


class Written(NamedTuple):
    """A kernel in the making. `place`: which kernel of the program it is, itself or in the place of another one."""

    name: str
    body: tuple[Stmt, ...]
    source: str
    place: int
    choice: Choice = USUAL


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        target: Target | None,
        environment: Environment | None,
        largest_arena: int,
        choices: Mapping[Node, Sequence[Choice]],
    ) -> None:
        self.graph, self.target, self.largest_arena = graph, target, largest_arena
        self.environment = environment
        self.choices, self.choice = choices, USUAL
        self.convolve: Schedule | None = None
        self.buffers: dict[Tensor, Buffer] = {}
        self.holders: dict[Buffer, list[Tensor]] = {}  # by storage: what lies there
        self.consumers = graph.consumers()
        self.readers = Counter(t for n in graph.nodes for t in n.inputs if t is not None)  # those still to come
        self.lasting = {*graph.inputs, *graph.outputs, *(t for t in graph.tensors if t.is_variable)}
        self.names: set[str] = set()
        self.written: list[Written] = []
        self.others: list[Written] = []  # what could stand in the place of some of them

    def program(self, each: Callable[[Kernel], object]) -> Program:
        refuse_unsupported(self.graph, self.environment)
        for t in self.graph.inputs:
            self.buffer(t)
        groups = fusion.groups(self.graph, self.environment)
        while groups:
            taken = groups[: max(1, self.by_rows(groups))]
            if len(taken) == 1:
                self.group(taken[0])
            groups = groups[len(taken) :]
            nodes = [n for group in taken for n in group.nodes]
            self.readers.subtract(t for n in nodes for t in n.inputs if t is not None)
            for data in [t.data for n in nodes for t in n.inputs if t is not None and t.data is not None]:
                let_go(data)  # it was packed, or else is read once more
        self.without_copies()
        steps: list[Step] = []
        made: set[Kernel] = set()
        for step in self.steps():
            if len(steps) < len(self.written) and step.kernel not in made:
                each(step.kernel)
            made.add(step.kernel)
            steps.append(step)
        program = Program(
            self.graph.name or "model",
            steps[: len(self.written)],
            [self.buffer(t) for t in self.graph.inputs],
            [self.buffer(t) for t in self.graph.outputs],
            {t: b for t, b in self.buffers.items() if t.is_variable and t.data is None},
            look_up=None if self.target is None else self.target.look_up,
            packs=None if self.target is None else self.target.packs,
        )
        places = {w.place: step for w, step in zip(self.written, program.steps, strict=True)}
        for w, step in zip(self.others, steps[len(self.written) :], strict=True):
            program.alternatives.setdefault(places[w.place], {})[w.choice.name] = step
        self.place(program)
        return program

    # buffers

    def buffer(self, t: Tensor) -> Buffer:
        if t not in self.buffers:
            self.hold(t, Buffer(self.name(t.name), t.type.dtype, t.type.shape, t.data))
        return self.buffers[t]

    def hold(self, t: Tensor, buffer: Buffer) -> None:
        self.buffers[t] = buffer
        self.holders.setdefault(buffer.storage, []).append(t)

    def may_share(self, storage: Buffer, output: Tensor) -> bool:
        """Whether `output` may be another view of a storage: not of what a caller or a later run sees change."""
        if storage.data is not None:
            return False
        seen = [t for t in self.graph.outputs if t is not output]
        lasting = [t for t in self.buffers if t in self.graph.inputs or t.is_variable or t in seen]
        return output not in self.graph.outputs or all(self.buffers[t].storage is not storage for t in lasting)

    def name(self, text: str) -> str:
        """A name like the tensor's that every language accepts, unique in the program."""
        base = re.sub(r"\W+", "_", text.split(";")[0], flags=re.ASCII).strip("_")[-40:] or "tensor"
        base = f"t_{base}" if base[0].isdigit() else base
        name, n = base, 1
        while name in self.names:
            n += 1
            name = f"{base}_{n}"
        self.names.add(name)
        return name

    # kernels

    def group(self, group: fusion.Group) -> None:
        """Writes a group of nodes, as one kernel if that can be, in the ways that were chosen for it."""
        first = len(self.written)
        for choice in self.choices.get(group.nodes[0], (USUAL,)):
            before = len(self.written)
            self.choice = choice
            self.convolve = None if self.target is None else schedule(self.target, choice)
            alone = len(group.nodes) == 1 and not group.begins_with_rule
            if alone or not self.fused(group):
                for node in group.nodes:
                    self.node(node)
            if before > first:  # each kernel is another way to write one that is there
                self.others += [w._replace(place=first + n) for n, w in enumerate(self.written[before:])]
                del self.written[before:]

    def node(self, node: Node) -> None:
        site = Site.of(node, self.environment)
        xs = tuple(None if t is None else self.buffer(t) for t in node.inputs)
        if node.op.alias and xs[0] is not None and self.may_share(xs[0].storage, node.outputs[0]):
            self.hold(node.outputs[0], xs[0].viewed(node.outputs[0].type.shape, node.outputs[0].type.dtype))
            return
        ys = tuple(self.buffer(t) for t in node.outputs)
        source = f"op #{node.index} {node.op.name}"
        name = self.name(f"{node.op.name.lower()}_{node.index}" if node.index >= 0 else node.op.name.lower())
        b = Builder(name, self.convolve)
        if node.op.alias and xs[0] is not None:  # the bytes must be copied after all
            x, y = (t.viewed((t.nbytes,), UINT8) if t.dtype.kind == "complex" else t for t in (xs[0], ys[0]))
            b.elementwise(y.viewed((y.size,)), lambda v: v, x.viewed((x.size,)))
        else:
            node.op.lower(b, site, xs, ys)
        self.finish(b, name, source)

    def by_rows(self, groups: list[fusion.Group]) -> int:
        """Lowers contractions that follow each other to one kernel, where that pays; returns how many groups."""
        linked = fusion.linked(self.graph, self.consumers, groups[: rows.MOST])
        self.choice = USUAL
        if self.target is None or len(linked) < 2:
            return 0
        if linked[0].nodes[-1].outputs[0].type.nbytes < self.target.cache_bytes:
            return 0
        for count in range(len(linked), 1, -1):
            found: list[Convolution | MatrixProduct] = []
            b = Builder(self.name(linked[0].name), _recorded(found))
            for group in linked[:count]:
                self.contract(b, group)
            chain = [c for c in found if isinstance(c, Convolution)]
            whole = len(chain) == len(found) == count and not b.body
            height = rows.band_height(chain, self.target) if whole else 0
            if height:
                rows.write(b, schedule(self.target), chain, height)
                self.finish(b, b.name, " + ".join(group.source for group in linked[:count]))
                return count
            self.names.discard(b.name)
        return 0

    def contract(self, b: Builder, group: fusion.Group) -> Buffer:
        """Writes a contraction and what follows it; returns what its sums would have been stored to."""
        head, *followers = group.nodes
        sums = self.buffer(head.outputs[0])
        if followers:
            rules = self.looked_up(b, [self.rule(b, n) for n in followers], sums)
            b.following[sums] = fusion.followed(rules, sums)
        site = Site.of(head, self.environment)
        head.op.lower(b, site, tuple(None if t is None else self.buffer(t) for t in head.inputs), (sums,))
        return sums

    def fused(self, group: fusion.Group) -> bool:
        """Lowers a group of nodes to one kernel; False when its first node turns out not to be one contraction."""
        name = self.name(group.name)
        b = Builder(name, self.convolve)
        if group.nodes[-1].outputs[0] not in self.buffers:
            self.work_in_place(group)
        if group.begins_with_rule:
            rules = [self.rule(b, n) for n in group.nodes]
            fusion.write(b, self.looked_up(b, rules, fusion.variable_of(rules)))
        else:
            sums = self.contract(b, group)
            if b.following or sums in b.kernel().params:
                self.names.discard(name)
                return False
        self.finish(b, name, group.source)
        return True

    def work_in_place(self, group: fusion.Group) -> None:
        """Puts the result where an operand lies that nobody reads any more: each element is read just before."""
        y, inside = group.nodes[-1].outputs[0], {t for n in group.nodes for t in n.outputs}
        read = Counter(t for n in group.nodes for t in n.inputs if t is not None)
        first = set() if group.begins_with_rule else {self.buffer(t).storage for t in group.nodes[0].inputs if t}
        for t in read:
            same = t.type.shape == y.type.shape and t.type.dtype.bytes == y.type.dtype.bytes
            if t in inside or t.is_constant or not same or self.buffer(t).storage in first:
                continue
            holders = self.holders[self.buffer(t).storage]
            if not any(h in self.lasting or self.readers[h] > read[h] for h in holders):
                self.hold(y, self.buffer(t).viewed(y.type.shape, y.type.dtype))
                return

    def looked_up(self, b: Builder, rules: list[fusion.Rule], x: Buffer | None) -> list[fusion.Rule]:
        """The rules as a table, where the machine looks it up quickly and they can be one."""
        if self.target is None or self.target.look_up is None or x is None:
            return rules
        table = fusion.tabulated(b, rules, x)
        return rules if table is None else [table]

    def rule(self, b: Builder, node: Node) -> fusion.Rule:
        xs, y = [None if t is None else self.buffer(t) for t in node.inputs], self.buffer(node.outputs[0])
        found = fusion.rule_of(b, node, Site.of(node, self.environment), xs, y)
        assert found is not None  # the group was made of such nodes
        return found

    def finish(self, b: Builder, name: str, source: str) -> None:
        """Takes what a builder holds as a kernel."""
        body = located(b.body, source)
        self.written.append(Written(name, body, source, len(self.written), self.choice))

    def without_copies(self) -> None:
        """Takes the copies that need not be made out of what was written."""
        seen = (self.graph.inputs, self.graph.outputs, [t for t in self.buffers if t.is_variable])
        inputs, outputs, variables = ([self.buffer(t).storage for t in tensors] for tensors in seen)
        bodies = [w.body for w in self.written]
        others = [(w.place, w.body) for w in self.others]
        fresh, ways = without_copies(bodies, others, inputs=inputs, outputs=outputs, variables=variables)
        kept = zip(self.written, fresh, strict=True)
        self.written = [w._replace(body=body) for w, body in kept if body or not w.body]
        self.others = [w._replace(body=body) for w, body in zip(self.others, ways, strict=True) if body]

    def steps(self) -> Iterator[Step]:
        """What was written; where there is a target, with vectors and loops for several threads.

        Then bodies of one form are one kernel: what is found for the first of them is true of all.
        """
        written = [*self.written, *self.others]
        if self.target is None:
            for w in written:
                k = _kernel(w, w.body)
                yield Step(k, k.params, w.source)
            return
        shapes = [shape_of(w.body) for w in written]
        alike = Counter(shapes)  # what is alone among them need not be looked at more closely
        groups: dict[Hashable, list[int]] = {}
        storages: list[list[Buffer]] = []
        for n, w in enumerate(written):
            form, found = form_of(w.body) if alike[shapes[n]] > 1 else (n, [])
            groups.setdefault((form, w.choice.away), []).append(n)
            storages.append(found)
        width, first = self.target.vector_bytes, [written[group[0]] for group in groups.values()]
        vectors = (vectorize(w.body, width) for w in first)
        bodies = share_out(vectors, LARGEST_LOCAL, [w.choice.away for w in first], map(len, groups.values()))
        leaders = {n: group[0] for group in groups.values() for n in group}
        kernels: dict[int, Kernel] = {}
        for n, leader in sorted(leaders.items()):
            if n == leader:
                kernels[n] = _kernel(written[n], next(bodies))
            k = kernels[leader]
            arguments = k.params if n == leader else _arguments(k, storages[leader], storages[n], f"_{n}")
            yield Step(k, arguments, written[n].source)

    # memory

    def place(self, program: Program) -> None:
        spans = program.lifetimes()
        private = {p for step in program.every_step() for p in step.kernel.private}
        movable = [b for b in spans if b.data is None and b not in private]
        lifetimes = [Lifetime(b.nbytes, spans[b][0] + 1, spans[b][1] + 1) for b in movable]
        offsets, size = plan(lifetimes)
        program.least_bytes = lower_bound(lifetimes)
        program.arena = dict(zip(movable, offsets, strict=True))
        size = -(-size // ALIGNMENT) * ALIGNMENT
        for step in program.every_step():
            at = size
            for b in step.arguments:
                if b in private:
                    program.arena[b] = at
                    at += -(-b.nbytes // ALIGNMENT) * ALIGNMENT
            program.private_bytes = max(program.private_bytes, at - size)
        size += program.private_bytes
        if size > self.largest_arena:
            raise LimitError(
                f"running needs {size} bytes of working memory, the limit is {self.largest_arena}",
                hint="give the inputs smaller shapes, or raise the limit",
            )
        program.arena_bytes = size + SLACK
        at = 0
        for b in spans:
            if b.data is not None:
                program.constants[b] = at
                at += -(-b.nbytes // ALIGNMENT) * ALIGNMENT
        program.constant_bytes = at + SLACK


def _kernel(w: Written, body: tuple[Stmt, ...]) -> Kernel:
    grids = [s for s in statements(body) if isinstance(s, For) and s.kind == "grid"]
    private = frozenset(b for s in grids for b in large_locals(s.body))
    return kernel(w.name, off_the_stack(body), w.source, private)


def _arguments(k: Kernel, theirs: list[Buffer], own: list[Buffer], suffix: str) -> tuple[Buffer, ...]:
    """What another step calls the kernel with: its own storages in the place of those that the kernel was made of."""
    places = dict(zip(theirs, own, strict=True))
    return tuple(
        p if p in k.private else places[p] if p in places else Buffer(p.name + suffix, p.dtype, p.shape)
        for p in k.params
    )


def _recorded(found: list[Convolution | MatrixProduct]) -> Schedule:
    """A schedule that keeps contractions in the place of writing them."""
    return lambda _, c: found.append(c)


def compiles(node: Node, environment: Environment | None = None) -> bool:
    """Whether the node can become loops: shapes are fixed, its values are numbers, and there is a lowering."""
    types = [t.type for t in (*node.inputs, *node.outputs) if t is not None]
    if not node.has_rules or any(None in t.shape or t.dtype.kind in ("string", "resource") for t in types):
        return False
    return node.op.alias or (node.op.lower is not None and node.op.lowers(Site.of(node, environment)))


def refuse_unsupported(graph: Graph, environment: Environment | None = None) -> None:
    """Raises UnsupportedOp that names every operator of the graph that cannot become loops."""
    missing = [n for n in graph.nodes if not compiles(n, environment)]
    if missing:
        names = ", ".join(sorted({n.op.name for n in missing}))
        raise UnsupportedOp(
            f"{names} cannot be compiled (a shape depends on data, or there is no lowering)",
            where=", ".join(f"op #{n.index} {n.op.name}" for n in missing[:5]),
        )


def large_locals(body: tuple[Stmt, ...]) -> Iterator[Buffer]:
    """What is allocated there and has no room on a stack."""
    for s in body:
        match s:
            case Alloc(buffer) if buffer.nbytes > LARGEST_LOCAL:
                yield buffer
            case For(_, _, inner, kind) if kind != "vector":
                yield from large_locals(inner)
            case If(_, then, otherwise):
                yield from large_locals((*then, *otherwise))


def off_the_stack(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """The statements without the allocation of large locals, which thereby become arena storages of their step.

    Iterations that would share one are not independent any more.
    """

    def one(s: Stmt) -> Stmt:
        match s:
            case For(_, _, inner, kind) if kind != "vector":
                kind = "serial" if kind == "parallel" else kind
                return replace(s, body=off_the_stack(inner), kind=kind) if any(large_locals(inner)) else s
            case If(condition, then, otherwise):
                return If(condition, off_the_stack(then), off_the_stack(otherwise))
        return s

    return tuple(one(s) for s in body if not (isinstance(s, Alloc) and s.buffer.nbytes > LARGEST_LOCAL))


def located(body: tuple[Stmt, ...], source: str) -> tuple[Stmt, ...]:
    """Failure texts with the operator in front."""

    def one(s: Stmt) -> Stmt:
        match s:
            case For(var, extent, inner, kind):
                return For(var, extent, located(inner, source), kind)
            case If(condition, then, otherwise):
                return If(condition, located(then, source), located(otherwise, source))
            case Call(name, args, text):
                return Call(name, args, f"{source}: {text}")
        return s

    return tuple(map(one, body))
