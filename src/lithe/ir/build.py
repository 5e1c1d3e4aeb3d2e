"""Writing loops: what an operator's `lower` is given.

A Builder collects statements. Operators say *what* is computed; how a contraction is tiled is up to
the schedule that the builder was made with (`plain_convolution` here, which every target understands, or
the packed ones of `lithe.lower`).

>>> from lithe.types import FLOAT32
>>> x, y = Buffer("x", FLOAT32, (2, 3)), Buffer("y", FLOAT32, (2, 3))
>>> b = Builder("double")
>>> b.elementwise(y, lambda v: v + v, x)
>>> [type(s).__name__ for s in b.kernel().body]
['For']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lithe.ir.affine import computed
from lithe.ir.loops import (
    Alloc,
    Buffer,
    Call,
    Expr,
    For,
    If,
    Kernel,
    Kind,
    Load,
    Stmt,
    Store,
    Var,
    all_of,
    constant,
    indices,
    statements,
)
from lithe.types import INT32, DType, Shape, dtype_of


class Pixel(NamedTuple):
    """A place in an output: batch, row and column, and their number when all pixels are counted in order."""

    batch: Expr
    y: Expr
    x: Expr
    row: Expr


@dataclass(frozen=True, eq=False)
class Convolution:
    """out[n, y, x, o] = epilogue(bias[o] + sum over (ky, kx, i) of
    (x[n, y*sy + ky*dy - top, x*sx + kx*dx - left, g*I + i] - x_zero) * (w[o, ky, kx, i] - w_zero), o, pixel)

    x      [N, H, W, C]; outside of it the term is zero.
    w      [O, KH, KW, I] with C = I * groups and O divisible by groups; group g = o // (O / groups).
           Depthwise is groups = C, I = 1. A fully connected layer is H = W = KH = KW = 1.
    bias   [O] of the accumulator's type, or None.
    out    [N, OH, OW, O].
    x_zero, w_zero  zero points (0 for float).
    accumulator     FLOAT32, INT32 or INT64.
    epilogue        (sum, output channel, pixel) -> value of out's dtype.
    block, scales   when block is not 0, each `block` neighbours in a row of w have a scale [O, I / block] of their own:
                    the sum is that of the blocks' integer sums as float32, each times its scale. KH = KW = groups = 1.
    """

    x: Buffer
    w: Buffer
    bias: Buffer | None
    out: Buffer
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]  # rows above, columns to the left
    groups: int
    accumulator: DType
    epilogue: Callable[[Expr, Expr, Pixel], Expr]
    x_zero: int = 0
    w_zero: int = 0
    block: int = 0
    scales: Buffer | None = None


@dataclass(frozen=True, eq=False)
class MatrixProduct:
    """out[..., m, o] = epilogue(sum over k of (x[..., m, k] - x_zero) * (y[..., k, o] - y_zero), o, (..., m))

    x, y   neither needs to be constant; the axes before the last two broadcast to out's.
    turned whether x is [..., k, m], and y is [..., o, k].
    accumulator  FLOAT32, INT32 or INT64: the type of the sum, which elements are cast to.
    """

    x: Buffer
    y: Buffer
    out: Buffer
    turned: tuple[bool, bool]
    accumulator: DType
    epilogue: Callable[[Expr, Expr, tuple[Expr, ...]], Expr]
    zeros: tuple[int, int] = (0, 0)

    @property
    def depth(self) -> int:
        return self.x.shape[-2 if self.turned[0] else -1]

    def left(self, batch: tuple[Expr, ...], m: Expr, k: Expr) -> Expr:
        """The element of x less its zero point, in its own type where that is 0."""
        return self._element(self.x, batch, (k, m) if self.turned[0] else (m, k), self.zeros[0])

    def right(self, batch: tuple[Expr, ...], k: Expr, o: Expr) -> Expr:
        return self._element(self.y, batch, (o, k) if self.turned[1] else (k, o), self.zeros[1])

    def _element(self, t: Buffer, batch: tuple[Expr, ...], place: tuple[Expr, Expr], zero: int) -> Expr:
        own = batch[len(batch) - (len(t.shape) - 2) :]
        at = tuple(constant(0) if size == 1 else i for size, i in zip(t.shape, own, strict=False))
        return t[(*at, *place)].to(self.accumulator) - zero if zero else t[(*at, *place)]


Schedule = Callable[["Builder", Convolution | MatrixProduct], None]
PARTS = 16  # partial results of `Builder.combined`


class Builder:
    """Collects the statements of one kernel.

    convolve   the schedule for contractions, None for the plain ones.
    following  by storage, what changes the contraction that writes it: its results go on to other operators.
    """

    def __init__(self, name: str = "kernel", convolve: Schedule | None = None) -> None:
        self.following: dict[Buffer, Callable[[Any], Any]] = {}
        self.name = name
        self._blocks: list[list[Stmt]] = [[]]
        self._names: dict[str, int] = {}
        self._convolve = convolve or plain

    # names and blocks

    def fresh(self, name: str) -> str:
        """A name that this kernel has not used."""
        count = self._names.get(name, -1) + 1
        self._names[name] = count
        return f"{name}_{count}" if count else name

    def emit(self, statement: Stmt) -> None:
        self._blocks[-1].append(statement)

    @contextmanager
    def _block(self) -> Iterator[list[Stmt]]:
        self._blocks.append([])
        try:
            yield self._blocks[-1]
        finally:
            self._blocks.pop()

    @property
    def body(self) -> tuple[Stmt, ...]:
        """What was written."""
        return tuple(self._blocks[0])

    def kernel(self, source: str = "") -> Kernel:
        """What was written, as a kernel."""
        return kernel(self.name, self.body, source)

    # statements

    @contextmanager
    def loop(self, extent: int, kind: Kind = "serial", name: str = "i") -> Iterator[Expr]:
        """`with b.loop(10) as i:` - a loop of one pass is no loop."""
        if extent == 1:
            yield constant(0)
            return
        var = Var(self.fresh(name))
        with self._block() as body:
            yield var
        if body and extent > 0:
            self.emit(For(var, extent, tuple(body), kind))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The locals of the statements inside are theirs alone: a loop of one pass that stays one."""
        with self._block() as body:
            yield
        self.emit(For(Var(self.fresh("scope")), 1, tuple(body)))

    @contextmanager
    def nest(self, shape: Shape, kind: Kind = "serial", name: str = "i") -> Iterator[tuple[Expr, ...]]:
        """Loops over every index of a shape."""
        if not shape:
            yield ()
            return
        with self.loop(shape[0], kind, name) as first, self.nest(shape[1:], kind, name) as rest:
            yield (first, *rest)

    @contextmanager
    def when(self, *conditions: Expr) -> Iterator[None]:
        """The statements inside run when every condition holds (always, when there is none)."""
        if not conditions:
            yield
            return
        with self._block() as body:
            yield
        if body:
            self.emit(If(all_of(*conditions), tuple(body)))

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """Directly after `when`: the statements inside run when its condition does not hold."""
        with self._block() as body:
            yield
        before = self._blocks[-1].pop() if self._blocks[-1] else None
        if not isinstance(before, If) or before.otherwise:
            raise TypeError("otherwise() follows when()")
        self.emit(If(before.condition, before.then, tuple(body)))

    def store(self, buffer: Buffer, index: Any, value: Any) -> None:
        value = constant(value, buffer.dtype)
        if value.dtype != buffer.dtype:
            raise TypeError(f"{buffer!r} cannot take a value of type {value.dtype}: cast it")
        self.emit(Store(buffer, indices(index), value))

    def local(self, dtype: DType, shape: Shape = (), name: str = "local") -> Buffer:
        """Memory private to the enclosing iteration; undefined until stored to."""
        buffer = Buffer(self.fresh(name), dtype, shape)
        self.emit(Alloc(buffer))
        return buffer

    def scratch(self, dtype: DType, shape: Shape, name: str = "scratch") -> Buffer:
        """Memory for the whole kernel, too large for the stack: the memory plan gives it a place in the arena."""
        return Buffer(self.fresh(name), dtype, shape)

    def variable(self, initial: Any, name: str = "value", dtype: DType | None = None) -> Buffer:
        """A local scalar that holds `initial`: read it as v[()], change it with b.store(v, (), ...)."""
        initial = constant(initial, dtype)
        buffer = self.local(initial.dtype, (), name)
        self.store(buffer, (), initial)
        return buffer

    def fail_unless(self, condition: Expr, text: str) -> None:
        """Ends the inference with an error that says `text` when the condition is false."""
        self.emit(Call("fail_unless", (condition,), text))

    def constant(self, values: np.ndarray, name: str = "constant") -> Buffer:
        """A constant array that travels with the program."""
        values = np.ascontiguousarray(values)
        return Buffer(self.fresh(name), dtype_of(values), values.shape, values)

    # patterns

    def compute(self, out: Buffer, value: Callable[..., Any]) -> None:
        """out[i] = value(*i) for every index; the iterations are independent."""
        with self.nest(out.shape, "parallel") as i:
            self.store(out, i, value(*i))

    def elementwise(self, out: Buffer, value: Callable[..., Any], *xs: Buffer) -> None:
        """out = value(*elements of xs), each x broadcast to out's shape; neighbouring axes are merged if possible."""
        shape, strides = broadcast_axes(out.shape, tuple(x.shape for x in xs))
        flat = [x.viewed((x.size,)) for x in xs]
        target = out.viewed(shape)

        def element(i: tuple[Expr, ...]) -> Any:
            loads = []
            for x, steps in zip(flat, strides, strict=True):
                at = constant(0)
                for v, s in zip(i, steps, strict=True):
                    at = at + v * s
                loads.append(x[at])
            return value(*loads)

        self.compute(target, lambda *i: element(i))

    def reduce(self, initial: Any, extents: Shape, step: Callable[..., Any], dtype: DType | None = None) -> Expr:
        """The value after `total = step(total, *index)` for every index in order."""
        total = self.variable(initial, "total", dtype)
        with self.nest(extents) as i:
            self.store(total, (), step(total[()], *i))
        return total[()]

    def combined(
        self,
        initial: Any,
        extents: Shape,
        value: Callable[..., Any],
        by: Callable[[Any, Any], Any],
        dtype: DType | None = None,
    ) -> Expr:
        """initial, value(i0), value(i1) ... for every index, joined by an operation that takes them in any order.

        initial  changes nothing, however often it is joined: 0 for sums.

        Each of PARTS partial results joins every PARTS-th value of the last axis, so that they lie in a vector; in the
        end halves are joined, down to one. The order is the same on every machine, and that of a sum of n floats has
        smaller errors than one after another: no value goes through more than n / PARTS + 5 roundings.
        """
        *outer, size = extents
        if size < PARTS:
            return self.reduce(initial, extents, lambda total, *i: by(total, value(*i)), dtype)
        first = constant(initial, dtype)
        parts = self.local(first.dtype, (PARTS,), "parts")

        def join(start: Any, width: int, other: Callable[[Expr], Any]) -> None:
            with self.loop(width, "vector", "part") as p:
                self.store(parts, p, by(parts[p], other(p + start)))

        with self.loop(PARTS, "vector", "part") as p:
            self.store(parts, p, first)
        whole, rest = divmod(size, PARTS)
        with self.nest(tuple(outer)) as o:
            with self.loop(whole) as n:
                join(n * PARTS, PARTS, lambda i: value(*o, i))
            join(whole * PARTS, rest, lambda i: value(*o, i))
        width = PARTS
        while width > 1:
            width //= 2
            join(width, width, lambda i: parts[i])
        return parts[0]

    def convolution(self, c: Convolution) -> None:
        """A contraction, by the schedule of the target that this builder writes for."""
        follow = self.following.pop(c.out.storage, None)
        self._convolve(self, follow(c) if follow else c)

    def product(self, p: MatrixProduct) -> None:
        """A product of two matrices, likewise."""
        follow = self.following.pop(p.out.storage, None)
        self._convolve(self, follow(p) if follow else p)


def kernel(name: str, body: tuple[Stmt, ...], source: str = "", private: frozenset[Buffer] = frozenset()) -> Kernel:
    """A kernel whose parameters are the storages that the body uses and does not allocate."""
    order: dict[Buffer, bool] = {}
    local = {s.buffer for s in statements(body) if isinstance(s, Alloc)}
    for s in statements(body):
        for x in computed(s):
            if type(x) is Load and x.buffer.storage not in local:
                order.setdefault(x.buffer.storage, False)
        if isinstance(s, Store) and s.buffer.storage not in local:
            order[s.buffer.storage] = True
    return Kernel(name, tuple(order), tuple(order.values()), body, source, private)


def broadcast_axes(out: Shape, shapes: tuple[Shape, ...]) -> tuple[Shape, list[tuple[int, ...]]]:
    """The iteration shape and, for each operand, its stride along each axis (0 where it is broadcast).

    >>> broadcast_axes((2, 3, 4), ((2, 3, 4), (4,)))
    ((6, 4), [(4, 1), (0, 1)])
    """
    rank = len(out)
    full = []
    for shape in shapes:
        padded = (1,) * (rank - len(shape)) + tuple(shape)
        stride, steps = 1, []
        for size, of in zip(reversed(padded), reversed(out), strict=True):
            steps.append(stride if size == of and size > 1 else 0)
            stride *= size
        full.append(tuple(reversed(steps)))
    merged: list[int] = []
    columns: list[list[int]] = []  # for each merged axis, the stride of each operand
    for axis in range(rank - 1, -1, -1):
        size = out[axis]
        if size == 1:
            continue
        steps = [s[axis] for s in full]
        if merged and all(s == c * merged[-1] for s, c in zip(steps, columns[-1], strict=True)):
            merged[-1] *= size
        else:
            merged.append(size)
            columns.append(list(steps))
    merged.reverse()
    columns.reverse()
    if not merged:
        merged, columns = [math.prod(out)], [[0] * len(shapes)]
    return tuple(merged), [tuple(c[k] for c in columns) for k in range(len(shapes))]


def plain(b: Builder, c: Convolution | MatrixProduct) -> None:
    """The schedules without packing, tiles or instructions."""
    if isinstance(c, Convolution):
        plain_convolution(b, c)
    else:
        plain_product(b, c)


def plain_product(b: Builder, p: MatrixProduct) -> None:
    """Direct loops in the order of the definition."""
    wide = p.accumulator
    with b.nest(p.out.shape, "parallel") as (*batch, m, o):
        total = b.variable(0, "total", wide)
        with b.loop(p.depth) as k:
            left, right = p.left(tuple(batch), m, k), p.right(tuple(batch), k, o)
            b.store(total, (), total[()] + left.to(wide) * right.to(wide))
        b.store(p.out, (*batch, m, o), p.epilogue(total[()], o, (*batch, m)))


def plain_convolution(b: Builder, c: Convolution) -> None:
    """Direct loops in the order of the definition: the schedule without packing, tiles or instructions."""
    if c.block:
        _plain_blocks(b, c)
        return
    n, oh, ow, channels = c.out.shape
    _, h, w, _ = c.x.shape
    _, kh, kw, per_group = c.w.shape
    per_output = channels // c.groups
    (sy, sx), (dy, dx), (top, left) = c.strides, c.dilation, c.padding
    wide = c.accumulator
    border = top > 0 or left > 0 or (oh - 1) * sy + (kh - 1) * dy >= h or (ow - 1) * sx + (kw - 1) * dx >= w
    with b.nest((n, oh, ow, channels), "parallel") as (batch, y, x, o):
        total = b.variable(c.bias[o] if c.bias else constant(0, wide), "total")
        with b.nest((kh, kw)) as (ky, kx):
            row, column = y * sy + ky * dy - top, x * sx + kx * dx - left
            inside = (row >= 0, row < h, column >= 0, column < w) if border else ()
            with b.when(*inside):
                with b.loop(per_group) as i:
                    a = c.x[batch, row, column, (o // per_output) * per_group + i].to(wide)
                    k = c.w[o, ky, kx, i].to(wide)
                    a = a - c.x_zero if c.x_zero else a
                    k = k - c.w_zero if c.w_zero else k
                    b.store(total, (), total[()] + a * k)
        pixel = Pixel(batch, y, x, (batch * oh + y) * ow + x)
        b.store(c.out, (batch, y, x, o), c.epilogue(total[()], o, pixel))


def _plain_blocks(b: Builder, c: Convolution) -> None:
    """Pixels times weights that have a scale for each block."""
    assert c.scales is not None
    scales, (_, oh, ow, _) = c.scales, c.out.shape
    with b.nest(c.out.shape, "parallel") as (n, y, x, o):
        total = b.variable(c.bias[o] if c.bias else constant(0, c.accumulator), "total")
        with b.loop(c.w.shape[3] // c.block) as j:
            part = b.variable(0, "part", INT32)
            with b.loop(c.block) as k:
                i = j * c.block + k
                term = (c.x[n, y, x, i].to(INT32) - c.x_zero) * (c.w[o, 0, 0, i].to(INT32) - c.w_zero)
                b.store(part, (), part[()] + term)
            b.store(total, (), total[()] + part[()].to(c.accumulator) * scales[o, j])
        b.store(c.out, (n, y, x, o), c.epilogue(total[()], o, Pixel(n, y, x, (n * oh + y) * ow + x)))
