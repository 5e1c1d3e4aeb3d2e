"""An interpreter of loops in numpy: the living definition of the loop language, and a memory checker.

Every index is checked, uninitialized memory holds a pattern, and a division by zero or a shift by too many
bits is an error. The iterations of `parallel`, `vector` and `grid` loops run side by side as numpy lanes, one
statement at a time, so a loop that is marked so and is not independent shows as a wrong result. There is one
thread, for which a barrier means nothing.

>>> from lithe.ir.build import Builder
>>> from lithe.types import FLOAT32
>>> x, y = Buffer("x", FLOAT32, (3,)), Buffer("y", FLOAT32, (3,))
>>> b = Builder("double")
>>> b.elementwise(y, lambda v: v + v, x)
>>> out = np.zeros(3, np.float32)
>>> run_kernel(b.kernel(), {x: np.arange(3, dtype=np.float32), y: out})
>>> out.tolist()
[0.0, 2.0, 4.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError, InputError
from lithe.ir.intervals import Scope
from lithe.ir.loops import (
    Alloc,
    Barrier,
    Binary,
    Buffer,
    Call,
    Cast,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Load,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    nodes,
    operands,
    statements,
)
from lithe.ir.meaning import BINARY_MEANING, UNARY_MEANING, convert
from lithe.ir.program import Program, start_value
from lithe.types import UINT8

PATTERN = 0xCD  # bytes of memory that nobody wrote: a large negative float, a negative integer
MOST_LANES = 1 << 20
MOST_LOCAL_BYTES = 1 << 26  # private memory of all lanes together

Value = Any  # a numpy scalar, or an array with an axis for each enclosing lane loop, innermost first


@dataclass
class Frame:
    """What a running kernel knows: memory by slot, loop variables by slot, and the lanes that are awake."""

    arrays: list[Any]
    values: list[Any]
    mask: Any = None


Action = Callable[[Frame], None]
Operation = Callable[[Frame, list[Value]], Value]


def run_kernel(kernel: Kernel, arrays: dict[Buffer, np.ndarray], pattern: int = PATTERN) -> None:
    """Runs a kernel on arrays, one for each parameter without data of its own; results are stored into them.

    Raises ExecutionError when a `fail_unless` fails or the kernel leaves its memory, InputError when an
    array is missing or doesn't fit.
    """
    with np.errstate(all="ignore"):
        Executable(kernel, pattern)(arrays)


def run(program: Program, inputs: list[np.ndarray], pattern: int = PATTERN) -> list[np.ndarray]:
    """Runs a program once and returns copies of its outputs. The arena is filled with `pattern` before,
    and variables hold their start values."""
    if len(inputs) != len(program.inputs):
        raise InputError(f"{program.name} takes {len(program.inputs)} inputs, got {len(inputs)}")
    room = np.full(program.arena_bytes + 64, pattern, np.uint8)
    start = -room.ctypes.data % 64
    arena = room[start : start + program.arena_bytes]

    def array_of(b: Buffer) -> np.ndarray:
        s = b.storage
        if s in program.arena:
            at = program.arena[s]
            raw = arena[at : at + s.nbytes]
        elif s.data is not None:
            raw = np.ascontiguousarray(s.data).reshape(-1).view(np.uint8)
        else:
            raise InputError(f"{b!r} has no place in program {program.name}")
        return raw[: b.nbytes].view(b.dtype.numpy).reshape(b.shape)

    for b, x in zip(program.inputs, inputs, strict=True):
        if x.shape != b.shape or x.dtype != b.dtype.numpy:
            raise InputError(f"input {b.name} expects {b!r}, got {x.dtype}{list(x.shape)}")
        array_of(b)[...] = x
    for t, b in program.variables.items():
        array_of(b)[...] = start_value(t)
    ready: dict[Kernel, Executable] = {}
    with np.errstate(all="ignore"):
        for step in program.steps:
            if step.kernel not in ready:
                ready[step.kernel] = Executable(step.kernel, pattern)
            ready[step.kernel](dict(zip(step.kernel.params, map(array_of, step.arguments), strict=True)))
    return [array_of(b).copy() for b in program.outputs]


class Executable:
    """A kernel as Python closures, compiled once."""

    def __init__(self, kernel: Kernel, pattern: int = PATTERN) -> None:
        self.kernel, self.pattern = kernel, pattern
        self.slots: dict[Buffer, int] = {}
        self.views: dict[Buffer, list[Buffer]] = {}  # storage -> its views in use
        self.variables: dict[Var, int] = {}
        self.depth: dict[Buffer, int] = {}  # local storage -> lane loops around its Alloc
        self.axes: list[np.ndarray] = []  # lane numbers of the enclosing lane loops, outermost first
        self.lane_of: dict[Var, np.ndarray] = {}
        self.actions = self.block(kernel.body, Scope())

    def __call__(self, arrays: dict[Buffer, np.ndarray]) -> None:
        frame = Frame([None] * len(self.slots), [None] * len(self.variables))
        for b in self.kernel.params:
            x = arrays.get(b, b.data)
            if x is None:
                raise InputError(f"kernel {self.kernel.name}: no array for {b!r}")
            if x.nbytes != b.nbytes or not x.flags.c_contiguous:
                raise InputError(f"kernel {self.kernel.name}: {b!r} cannot be an array {x.dtype}{list(x.shape)}")
            self.place(frame, b, x.reshape(-1).view(np.uint8), ())
        for act in self.actions:
            act(frame)

    def place(self, frame: Frame, storage: Buffer, raw: np.ndarray, lanes: tuple[int, ...]) -> None:
        """Puts the bytes of a storage, one row for each lane, where its views are looked up."""
        for view in self.views.get(storage, ()):
            part = raw[..., : view.nbytes].view(view.dtype.numpy)
            frame.arrays[self.slots[view]] = part.reshape((*lanes, *view.shape))

    def slot(self, b: Buffer) -> int:
        if b not in self.slots:
            self.slots[b] = len(self.slots)
            self.views.setdefault(b.storage, []).append(b)
        return self.slots[b]

    # statements

    def block(self, body: tuple[Stmt, ...], scope: Scope) -> list[Action]:
        return [self.statement(s, scope) for s in body]

    def statement(self, s: Stmt, scope: Scope) -> Action:
        match s:
            case Alloc(buffer):
                return self.allocation(buffer)
            case Store():
                return self.store(s, scope)
            case For():
                return self.loop(s, scope)
            case If():
                return self.branch(s, scope)
            case Call("fail_unless", (condition,), text):
                return self.check(condition, text, scope)
            case Barrier():
                return lambda frame: None
            case Call(name):
                raise TypeError(f"the interpreter has no rule for a call of {name}")
        raise TypeError(f"the interpreter has no rule for {type(s).__name__}")

    def allocation(self, b: Buffer) -> Action:
        self.depth[b] = len(self.axes)
        lanes = tuple(a.size for a in reversed(self.axes))

        def act(frame: Frame) -> None:
            self.place(frame, b, np.full((*lanes, b.nbytes), self.pattern, np.uint8), lanes)

        return act

    def loop(self, s: For, scope: Scope) -> Action:
        inside = scope.loop(s.var, s.extent)
        private = self.private_of(s)
        if s.kind in ("parallel", "vector", "grid", "tile") and s.extent > 1 and not private and self.fits(s):
            lanes = np.arange(s.extent, dtype=np.int64).reshape((s.extent,) + (1,) * len(self.axes))
            self.lane_of[s.var] = lanes
            self.axes.append(lanes)
            body = self.block(s.body, inside)
            self.axes.pop()

            def together(frame: Frame) -> None:
                for act in body:
                    act(frame)

            return together
        slot = self.variables.setdefault(s.var, len(self.variables))
        body = self.block(s.body, inside)
        numbers = list(np.arange(s.extent, dtype=np.int64))

        def one_by_one(frame: Frame) -> None:
            for i in numbers:
                frame.values[slot] = i
                for memory in private:
                    frame.arrays[memory].fill(self.pattern)
                for act in body:
                    act(frame)

        return one_by_one

    def private_of(self, s: For) -> list[int]:
        """The slots of private memory that iterations of a grid loop use; each of them finds it undefined."""
        if s.kind != "grid":
            return []
        used = {b.buffer.storage for b in statements(s.body) if isinstance(b, Store)}
        return [self.slot(b.viewed((b.nbytes,), UINT8)) for b in self.kernel.private if b in used]

    def fits(self, s: For) -> bool:
        lanes = math.prod(a.size for a in self.axes) * s.extent
        local = sum(x.buffer.nbytes for x in statements(s.body) if isinstance(x, Alloc))
        return lanes <= MOST_LANES and lanes * local <= MOST_LOCAL_BYTES

    def branch(self, s: If, scope: Scope) -> Action:
        evaluate, (condition,) = self.evaluation((s.condition,), scope)
        then, otherwise = self.block(s.then, scope), self.block(s.otherwise, scope)

        def act(frame: Frame) -> None:
            c = evaluate(frame)[condition]
            if c.ndim == 0:
                for a in then if c else otherwise:
                    a(frame)
                return
            outer = frame.mask
            for awake, body in ((c, then), (~c, otherwise)):
                mask = awake if outer is None else outer & awake
                if body and mask.any():
                    frame.mask = mask
                    for a in body:
                        a(frame)
            frame.mask = outer

        return act

    def check(self, condition: Expr, text: str, scope: Scope) -> Action:
        evaluate, (place,) = self.evaluation((condition,), scope)
        where = self.kernel.source or self.kernel.name

        def act(frame: Frame) -> None:
            bad = ~evaluate(frame)[place]
            if (bad if frame.mask is None else bad & frame.mask).any():
                raise ExecutionError(text, where=where)

        return act

    def store(self, s: Store, scope: Scope) -> Action:
        evaluate, (*places, value) = self.evaluation((*s.index, s.value), scope)
        slot = self.slot(s.buffer)
        lanes = self.lanes(s.buffer)
        check = self.range_check(s.buffer, s.index, places, scope)
        if not s.index and len(lanes) == len(self.axes) and s.buffer.storage in self.depth:

            def set_all(frame: Frame) -> None:
                x = evaluate(frame)[value]
                np.copyto(frame.arrays[slot], x, where=True if frame.mask is None else frame.mask)

            return set_all

        def act(frame: Frame) -> None:
            v = evaluate(frame)
            index, x, mask = check(frame, [v[p] for p in places]), v[value], frame.mask
            index = [*lanes, *index]
            target = frame.arrays[slot]
            sizes = [*map(np.shape, index), np.shape(x), np.shape(mask)]
            shape = np.broadcast_shapes(*sizes)
            if mask is None and np.broadcast_shapes(*sizes[:-2], ()) == shape:
                target[tuple(index)] = x
                return
            awake = np.broadcast_to(True if mask is None else mask, shape)
            target[tuple(np.broadcast_to(i, shape)[awake] for i in index)] = np.broadcast_to(x, shape)[awake]

        return act

    # expressions

    def lanes(self, b: Buffer) -> list[np.ndarray]:
        """The leading indices that pick each lane's own copy of a local."""
        return list(reversed(self.axes[: self.depth.get(b.storage, 0)]))

    def evaluation(self, roots: tuple[Expr, ...], scope: Scope) -> tuple[Callable[[Frame], list[Value]], list[int]]:
        """A function that computes every node under the roots once, and the roots' places in its result."""
        order = list(nodes(roots))
        place = {x: k for k, x in enumerate(order)}
        known: list[Value] = []
        steps: list[tuple[int, Operation]] = []
        for k, x in enumerate(order):
            value = self.fixed(x)
            if value is None:
                steps.append((k, self.operation(x, [place[y] for y in operands(x)], scope)))
            known.append(value)

        def evaluate(frame: Frame) -> list[Value]:
            v = known.copy()
            for k, step in steps:
                v[k] = step(frame, v)
            return v

        return evaluate, [place[r] for r in roots]

    def fixed(self, x: Expr) -> Value | None:
        if isinstance(x, Const):
            return np.asarray(x.value).astype(x.dtype.numpy)[()]
        return self.lane_of.get(x) if isinstance(x, Var) else None

    def operation(self, x: Expr, at: list[int], scope: Scope) -> Operation:
        match x:
            case Var():
                slot = self.variables[x]
                return lambda frame, v: frame.values[slot]
            case Load(buffer, index):
                return self.load(buffer, index, at, scope)
            case Unary(op, _):
                function, (a,) = UNARY_MEANING[op], at
                return lambda frame, v: function(v[a])
            case Binary(op, _, _):
                meaning, (a, b) = BINARY_MEANING[op], at
                if op in ("div", "mod", "shl", "shr") and x.dtype.is_integer:
                    return lambda frame, v: meaning(v[a], v[b], frame.mask)
                return lambda frame, v: meaning(v[a], v[b])
            case Select():
                c, a, b = at

                def select(frame: Frame, v: list[Value]) -> Value:
                    return (v[a] if v[c] else v[b]) if v[c].ndim == 0 else np.where(v[c], v[a], v[b])

                return select
            case Cast(_, dtype):
                (a,) = at
                return lambda frame, v: convert(v[a], dtype)
        assert isinstance(x, Intrinsic)  # `nodes` has refused any other
        instruction = x.instruction
        return lambda frame, v: np.asarray(instruction.meaning(*(v[a] for a in at)))[()]

    def load(self, b: Buffer, index: tuple[Expr, ...], at: list[int], scope: Scope) -> Operation:
        slot, lanes = self.slot(b), self.lanes(b)
        check = self.range_check(b, index, at, scope)
        if not index:
            return lambda frame, v: frame.arrays[slot][()]
        return lambda frame, v: frame.arrays[slot][(*lanes, *check(frame, [v[a] for a in at]))]

    def range_check(
        self, b: Buffer, index: tuple[Expr, ...], at: list[int], scope: Scope
    ) -> Callable[[Frame, list[Value]], list[Value]]:
        """A function that returns the index values (0 for sleeping lanes), or raises when one is out of range."""
        if len(index) != len(b.shape):
            raise TypeError(f"{self.kernel.name}: {b!r} has an index of rank {len(index)}")
        open_axes = []
        for axis, (i, size) in enumerate(zip(index, b.shape, strict=True)):
            low, high = scope.interval(i)
            if low < 0 or high >= size:
                open_axes.append((axis, size))
        if not open_axes:
            return lambda frame, values: values

        def check(frame: Frame, values: list[Value]) -> list[Value]:
            for axis, size in open_axes:
                i = values[axis]
                if i.ndim and frame.mask is not None:
                    values[axis] = i = np.where(frame.mask, i, 0)
                if i.size and (i.min() < 0 or i.max() >= size):
                    bad = i.min() if i.min() < 0 else i.max()
                    raise ExecutionError(
                        f"{b!r} is used with index {bad} on axis {axis}, outside of 0..{size - 1}",
                        where=f"kernel {self.kernel.name} {self.kernel.source}".rstrip(),
                    )
            return values

        return check
