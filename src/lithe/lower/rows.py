"""Contractions that follow each other as one kernel, a band of rows at a time: what lies between them stays in cache.

    for band of rows of the last output:
      local between
      those rows of the first contraction that the band needs -> between
      the rows of the next one, which reads them -> ...

Each contraction is written by its own schedule as if the rows of a band were all there are; then what it reads and
stores is moved to where these rows lie. So nothing here knows of types, tiles or instructions. A row that two bands
need is computed twice, with the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lithe.ir.build import Builder, Convolution, Pixel, Schedule
from lithe.ir.loops import Alloc, Buffer, Expr, Load, Stmt, Store, constant, maximum, minimum, statements
from lithe.lower.panels import flattened
from lithe.lower.vectorize import Copy
from lithe.targets.cpu import Target

MOST = 3  # contractions of a chain: expand, depthwise, project
FEWEST_BANDS = 4  # so that threads have shares
MOST_TWICE = 1 / 8  # of the first contraction that may be computed twice


@dataclass(frozen=True)
class Window:
    """Rows of a buffer [N, H, W, C] from `first` on, counted through all pictures."""

    buffer: Buffer
    first: Expr


@dataclass(frozen=True)
class Need:
    """The rows of a contraction's output that a band needs: `count` of them from band * step - before on.

    after  how many of them the last band would have below the last row of a picture; the first one has `before` above.
    """

    count: int
    step: int
    before: int
    after: int

    @property
    def room(self) -> int:
        """Rows more at either end of the local, for what the first and the last band compute in their place."""
        return max(self.before, self.after)


def needs(chain: Sequence[Convolution], height: int) -> list[Need]:
    """What a band of `height` rows of the last output needs of each output."""
    bands = chain[-1].out.shape[1] // height
    found = [Need(height, height, 0, 0)]
    for c, source in zip(chain[:0:-1], chain[-2::-1], strict=True):
        last = found[-1]
        count = (last.count - 1) * c.strides[0] + (c.w.shape[1] - 1) * c.dilation[0] + 1
        step, before = last.step * c.strides[0], last.before * c.strides[0] + c.padding[0]
        after = (bands - 1) * step - before + count - source.out.shape[1]
        found.append(Need(count, step, before, max(0, after)))
    return found[::-1]


def band_height(chain: Sequence[Convolution], target: Target) -> int:
    """Rows of the last output to take at once; 0 where the chain is better left alone.

    That is where what lies between fits the cache anyway, or a band would not, or too much would be computed twice.
    """
    first, *rest = chain
    if first.out.nbytes < target.cache_bytes or first.out.nbytes <= first.x.nbytes or flattened(first) is first:
        return 0
    if any(c.block for c in chain):
        return 0
    if any(c.x.storage is not f.out.storage or c.x.shape != f.out.shape for f, c in zip(chain, rest, strict=False)):
        return 0
    rows = chain[-1].out.shape[1]
    for bands in range(FEWEST_BANDS, rows + 1, FEWEST_BANDS):
        if rows % bands:
            continue
        found = needs(chain, rows // bands)
        between = zip(found, chain[:-1], strict=False)
        size = sum((n.count + 2 * n.room) * math.prod(c.out.shape[2:]) * c.out.dtype.bytes for n, c in between)
        if size <= 2 * target.cache_bytes:
            twice = found[0].count * bands / first.out.shape[1] - 1
            return rows // bands if twice <= MOST_TWICE and found[0].count <= first.out.shape[1] else 0
    return 0


def write(b: Builder, schedule: Schedule, chain: Sequence[Convolution], height: int) -> None:
    """The chain as one kernel, in bands of `height` rows of the last output, which divides them."""
    n, rows, _, _ = chain[-1].out.shape
    bands = rows // height
    with b.loop(n, "parallel", "batch") as batch, b.loop(bands, "parallel", "band") as band:
        source, available = Window(chain[0].x, constant(0)), 0
        for c, need, following in zip(chain, needs(chain, height), (*chain[1:], None), strict=True):
            above, picture = band * need.step - need.before, c.out.shape[1]
            inside = minimum(maximum(above, 0), picture - need.count) if need.room else above
            first = batch * picture + inside
            if following is None:
                out = Window(c.out, first)
            else:
                size = (1, need.count + 2 * need.room, *c.out.shape[2:])
                between = b.local(c.out.dtype, size, "between")
                down = maximum(0 - above, 0) - maximum(above + (need.count - picture), 0) if need.room else constant(0)
                out = Window(between, down + need.room)
            if not available:  # a pointwise contraction reads the rows that it writes
                source, available = Window(c.x, first), need.count
            _stage(b, schedule, c, source, (out, first), (available, need.count))
            if following is not None:
                ends = (
                    (band < 1, need.room, need.before),
                    (band >= bands - 1, need.room + need.count - need.after, need.after),
                )
                for condition, start, many in ends:
                    if many:
                        with b.when(condition):
                            _fill(b, between, start, many, following.x_zero)
                source, available = Window(between, constant(need.room)), need.count


def _fill(b: Builder, between: Buffer, start: int, many: int, padding: int) -> None:
    """Rows that stand for those above or below a picture."""
    flat = between.viewed((between.shape[1], math.prod(between.shape[2:])))
    with b.loop(many, "parallel", "row") as row, b.loop(flat.shape[1], "parallel", "c") as c:
        b.store(flat, (row + start, c), constant(padding, between.dtype))


def _stage(
    b: Builder, schedule: Schedule, c: Convolution, x: Window, out: tuple[Window, Expr], rows: tuple[int, int]
) -> None:
    """Writes so many rows of a contraction.

    out   where to, and which row of its output the first one is, counted through all pictures.
    rows  of the input, of the output.
    """
    target, first = out
    source, sums = (
        Buffer(t.name, t.dtype, (1, count, *t.shape[2:])) for t, count in zip((c.x, c.out), rows, strict=True)
    )
    _, oh, ow, _ = c.out.shape

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        y = first + pixel.y
        return c.epilogue(total, o, Pixel(y // oh, y % oh, pixel.x, pixel.row + first * ow))

    writer = Builder(b.name, schedule)
    writer.fresh = b.fresh  # type: ignore[method-assign]
    writer.convolution(replace(c, x=source, out=sums, padding=(0, c.padding[1]), epilogue=epilogue))
    body = _Moved({source: (x, rows[0]), sums: (target, rows[1])}).block(writer.kernel().body)
    inside = list(statements(body))
    known = {s.buffer for s in inside if isinstance(s, Alloc)} | {target.buffer.storage}
    for scratch in dict.fromkeys(s.buffer.storage for s in inside if isinstance(s, Store)):
        if scratch not in known:  # a kernel's memory becomes that of a band
            b.emit(Alloc(scratch))
    for s in body:
        b.emit(s)


class _Moved(Copy):
    """Statements in which some buffers stand for so many rows of a window."""

    def __init__(self, windows: dict[Buffer, tuple[Window, int]]) -> None:
        super().__init__({}, {})
        self.windows = windows

    def stmt(self, s: Stmt) -> Stmt:
        if isinstance(s, Store) and s.buffer.storage in self.windows:
            return Store(*self.place(s.buffer, tuple(map(self.expr, s.index))), self.expr(s.value))
        return super().stmt(s)

    def rebuilt(self, x: Expr) -> Expr:
        if isinstance(x, Load) and x.buffer.storage in self.windows:
            return Load(*self.place(x.buffer, tuple(map(self.expr, x.index))))
        return super().rebuilt(x)

    def place(self, view: Buffer, index: tuple[Expr, ...]) -> tuple[Buffer, tuple[Expr, ...]]:
        """A place of a view as one of the window's buffer: rows are counted by the view's first axis of more than 1."""
        window, rows = self.windows[view.storage]
        axis = next((n for n, size in enumerate(view.shape) if size != 1), 0)
        unit, rest = divmod(view.shape[axis], rows)
        assert rest == 0, "a view that has no whole rows"
        whole = math.prod(window.buffer.shape[:2]) * unit
        moved = index[axis] + window.first * unit
        shape = (*view.shape[:axis], whole, *view.shape[axis + 1 :])
        return window.buffer.viewed(shape, view.dtype), (*index[:axis], moved, *index[axis + 1 :])
