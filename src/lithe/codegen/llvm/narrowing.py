"""Stores of bytes that were computed in 32-bit lanes: vectors wait until four of them leave as one.

Narrowing vectors one by one takes an instruction or two for each, and stores a quarter of a vector. The machines'
packing instructions take two vectors each and saturate, so that what bounds a value in the end costs nothing. Only
stores whose values are sure to fit are kept back; they are written before any other statement that could see them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lithe.codegen.llvm.tables import is_table
from lithe.codegen.llvm.values import literal, vector
from lithe.ir.loops import ROUND_INT, Binary, Cast, Const, Expr, Intrinsic, Load, Store, Var, nodes
from lithe.ir.program import Packs
from lithe.types import INT8, INT16, INT32, UINT8

if TYPE_CHECKING:
    from lithe.codegen.llvm.emit import KernelWriter
    from lithe.codegen.llvm.expressions import Place, Value

TOGETHER = 4  # vectors of 32-bit lanes that make one of bytes


class Narrow(NamedTuple):
    """A cast to bytes as what packing does: low <= inner + zero <= high of values that saturate."""

    cast: Cast
    inner: Expr
    zero: int
    low: int
    high: int


def narrow(x: Cast) -> Narrow | None:
    """How a cast is packed; None where it is not to bytes, or may wrap.

    The zero point is added to 16-bit values, which saturate: that is the same, as a rounded number is never so large
    that the sum would wrap in 32 bits (see `lithe.ir.arithmetic.requantize`).
    """
    if x.dtype not in (INT8, UINT8) or x.x.dtype != INT32:
        return None
    least, most = x.dtype.minimum, x.dtype.maximum
    match x.x:
        case Binary("min", Binary("max", inner, Const(low, _)), Const(high, _)) if least <= low and high <= most:
            match inner:
                case Binary("add", Intrinsic(instruction, _) as rounded, Const(zero, _)) if instruction is ROUND_INT:
                    if least <= zero <= most:
                        return Narrow(x, rounded, int(zero), int(low), int(high))
            return Narrow(x, inner, 0, int(low), int(high))
        case Binary("add", Intrinsic(instruction, (real,)) as rounded, Const(zero, _)) if instruction is ROUND_INT:
            match real:
                case Binary("min", Binary("max", _, Const(low, _)), Const(high, _)):
                    if least <= low + zero and high + zero <= most:
                        return Narrow(x, rounded, int(zero), least, most)
    return None


def is_sure(x: Expr) -> bool:
    """Whether a cast to bytes keeps every value, so that a wider one after it need not look at them again."""
    return isinstance(x, Cast) and narrow(x) is not None


def _path(x: Expr) -> tuple[Narrow, tuple[object, ...]] | None:
    """(the cast to bytes, what is done with the bytes) of a value that is one, or is looked up by one."""
    match x:
        case Cast(a, _):
            found = narrow(x)
            if found is not None:
                return found, ()
            below = _path(a)
            return None if below is None else (below[0], (x.dtype, *below[1]))
        case Binary(op, a, Const(value, _)):
            below = _path(a)
            return None if below is None else (below[0], (op, value, *below[1]))
        case Load(buffer, index) if is_table(buffer, index):
            below = _path(index[0])
            return None if below is None else (below[0], (buffer.storage, *below[1]))
    return None


class Kept(NamedTuple):
    """A store that waits: its statement, the cast inside, the vector to be narrowed, where it goes, the loop's lane."""

    store: Store
    cast: Cast
    value: Value
    place: Place
    lane: Var | None


class Waiting:
    """The stores of a kernel that wait, together those that are narrowed alike.

    packs  None where the machine has no such instructions: then no store waits.
    """

    def __init__(self, writer: KernelWriter, packs: Packs | None) -> None:
        self.writer, self.packs = writer, packs
        self.kept: dict[tuple[object, ...], list[Kept]] = {}
        self.loads: dict[int, tuple[Load, ...]] = {}

    def take(self, s: Store) -> bool:
        """Whether the store waits. Those before it that it may depend on are written first."""
        if not self.kept and s.buffer.dtype not in (INT8, UINT8):
            return False
        if any(self._may_see(x, k) for group in self.kept.values() for k in group for x in self._loads(s)):
            self.write()
        found = self._packable(s)
        if found is None:
            if any(k.store.buffer.storage is s.buffer.storage for group in self.kept.values() for k in group):
                self.write()
            return False
        kind, kept = found
        others = [k for other, group in self.kept.items() if other != kind for k in group]
        if any(_overlap(kept, k) for k in others):
            self.write()
        group = self.kept.setdefault(kind, [])
        group.append(kept)
        if len(group) == TOGETHER:
            del self.kept[kind]
            self._write(kind, group)
        return True

    def write(self) -> None:
        """Nothing waits any longer."""
        kept, self.kept = self.kept, {}
        for kind, group in kept.items():
            self._write(kind, group)

    def _loads(self, s: Store) -> tuple[Load, ...]:
        if id(s) not in self.loads:
            self.loads[id(s)] = tuple(x for x in nodes((s.value, *s.index)) if isinstance(x, Load))
        return self.loads[id(s)]

    def _may_see(self, x: Load, kept: Kept) -> bool:
        """Whether an element lies where a store that waits goes to."""
        if x.buffer.storage is not kept.store.buffer.storage:
            return False
        if x.dtype.bytes != kept.store.buffer.dtype.bytes:
            return True
        place = self.writer.place(x.buffer, x.index)
        return place.step not in (0, 1) or _may_meet(place, self.writer.lanes, kept.place, kept.value.lanes)

    def _packable(self, s: Store) -> tuple[tuple[object, ...], Kept] | None:
        w = self.writer
        if (
            self.packs is None
            or w.lanes not in self.packs.words.spelling["llvm"]
            or s.buffer.dtype not in (INT8, UINT8)
        ):
            return None
        if not w.pointers[s.buffer.storage].startswith("%p"):  # a local one may be another one the next time
            return None
        path = _path(s.value)
        if path is None:
            return None
        found, steps = path
        value, place = w.value(found.inner), w.place(s.buffer, s.index)
        if value.lanes != w.lanes or place.step != 1:
            return None
        kind = (w.lanes, found.cast.dtype, *found[2:], *steps)
        return kind, Kept(s, found.cast, value, place, w.lane)

    def _write(self, kind: tuple[object, ...], group: list[Kept]) -> None:
        w, first = self.writer, group[0]
        before = w.memo, w.lane, w.lanes
        lanes = first.value.lanes
        found = narrow(first.cast)
        assert found is not None
        w.lane, w.lanes = first.lane, TOGETHER * lanes
        w.memo = {first.cast: self._packed(found, [k.value for k in group])}
        result = w.value(first.store.value)
        w.memo, w.lane, w.lanes = before
        start = 0
        for end in range(1, len(group) + 1):
            if end < len(group) and _is_next(group[end - 1], group[end]):
                continue
            count = (end - start) * lanes
            part, whole = result.text, vector("i8", result.lanes)
            if count < result.lanes:
                mask = ", ".join(f"i32 {start * lanes + n}" for n in range(count))
                part = w.let(f"shufflevector {whole} {part}, {whole} poison, <{count} x i32> <{mask}>")
            w.do(f"store {vector('i8', count)} {part}, ptr {group[start].place.pointer}, align 1")
            start = end

    def _packed(self, found: Narrow, values: list[Value]) -> Value:
        """The bytes of up to four vectors, one after the other."""
        assert self.packs is not None
        w, lanes, dtype = self.writer, values[0].lanes, found.cast.dtype
        long, short, bytes_ = (vector(f"i{32 >> n}", lanes << n) for n in range(3))
        words = []
        for n in range(0, len(values), 2):
            pair = (values[n].text, values[min(n + 1, len(values) - 1)].text)
            word = w.call(short, self.packs.words.spelling["llvm"][lanes], [(long, x) for x in pair])
            if found.zero:
                offset = literal(found.zero, INT16, 2 * lanes)
                word = w.call(short, f"llvm.sadd.sat.v{2 * lanes}i16", [(short, word), (short, offset)])
            words.append(word)
        instruction = self.packs.signed if dtype == INT8 else self.packs.unsigned
        packed = w.call(bytes_, instruction.spelling["llvm"][lanes], [(short, words[0]), (short, words[-1])])
        # each 128 bits hold four lanes of every vector
        order = ", ".join(f"i32 {TOGETHER * n + j}" for j in range(TOGETHER) for n in range(lanes // TOGETHER))
        quads = w.let(f"bitcast {bytes_} {packed} to {long}")
        turned = w.let(f"shufflevector {long} {quads}, {long} poison, <{lanes} x i32> <{order}>")
        text = w.let(f"bitcast {long} {turned} to {bytes_}")
        result = values[0]._replace(text=text, dtype=dtype, lanes=TOGETHER * lanes, number=None)
        if found.low > dtype.minimum:
            result = w.binary("max", result, result._replace(text=str(found.low), lanes=1, number=found.low))
        if found.high < dtype.maximum:
            result = w.binary("min", result, result._replace(text=str(found.high), lanes=1, number=found.high))
        return result


def _distance(a: Place, b: Place) -> int | None:
    """How many elements the second place is behind the first one; None where that is not known."""
    if a.key is None or b.key is None or a.key[:-1] != b.key[:-1]:
        return None
    return int(b.key[-1]) - int(a.key[-1])


def _may_meet(a: Place, a_lanes: int, b: Place, b_lanes: int) -> bool:
    """Whether vectors at two places of one storage may have an element in common."""
    distance = _distance(a, b)
    return distance is None or -b_lanes < distance < a_lanes


def _overlap(a: Kept, b: Kept) -> bool:
    same = a.store.buffer.storage is b.store.buffer.storage
    return same and _may_meet(a.place, a.value.lanes, b.place, b.value.lanes)


def _is_next(a: Kept, b: Kept) -> bool:
    """Whether the second store goes to the place behind the first one's."""
    same = a.store.buffer.storage is b.store.buffer.storage
    return same and _distance(a.place, b.place) == a.value.lanes
