"""What ONNX's operators are in builtins: the same elements in another arrangement, parts, new tensors, and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, Value, cast, dtype_of_number, full, has_open, rule, sizes, widened
from lithe.conversion.parts import line, non_negative, sliced
from lithe.conversion.parts import pad as padded
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, DTYPES, INT32, TensorType

SMALL = 1 << 10  # elements of a constant that is made here


# shapes are known when the model is converted


@rule("Shape")
def shape(b: Builder, c: Call) -> np.ndarray:
    whole = np.array(c.shape(0), np.int64)
    return sizes(whole[c.attr("start", 0) : c.attr("end", None)])


@rule("Size")
def size(b: Builder, c: Call) -> np.ndarray:
    return sizes(np.asarray(math.prod(c.shape(0)), np.int64))


@rule("Constant")
def constant(b: Builder, c: Call) -> np.ndarray:
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
                             "value_ints": np.int64, "value_string": object, "value_strings": object}  # fmt: skip
    if "value" in c.attributes:
        return np.asarray(c.attr("value"))
    name = next((n for n in c.attributes if n in kinds), None)
    b.require(name is not None, "a constant of such a kind")
    return np.asarray(c.attributes[name or ""], kinds[name or ""])


@rule("ConstantOfShape")
def constant_of_shape(b: Builder, c: Call) -> Value:
    value = np.asarray(c.attr("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return filled(b, c, 0, value)


def filled(b: Builder, c: Call, i: int, value: Any) -> Value:
    """One number everywhere, of the shape that operand i holds."""
    dtype = DTYPES[np.asarray(value).dtype.name]
    given = c.known(i)
    if given is None:
        wanted = c.declared(0, c.shape(i)[0])
        if not is_fixed(wanted):
            return c.found("FILL", [b.int32(c[i]), b.constant(value, dtype)], wanted, dtype)
        given = np.asarray(wanted)
    shape = [int(n) for n in given]
    if is_fixed(shape) and math.prod(shape) <= SMALL:
        return np.full(shape, value)
    return b.filled(value, dtype, shape)


@rule("Range")
def count(b: Builder, c: Call) -> Value:
    known = [c.known(i) for i in range(3)]
    start, limit, delta = known
    if start is not None and limit is not None and delta is not None:
        if (
            int(np.size(limit))
            and has_open(np.asarray(limit))
            and float(delta) == 1
            and not has_open(np.asarray(start))
        ):
            n = int(limit) - int(start)
            whole = b.sized("RANGE", [b.constant(int(start)), b.reshape(b.size(int(limit)), ()), b.constant(1)], (n,))
            return b.cast(whole, c.dtype(0))
        if not any(has_open(v) for v in (start, limit, delta)):
            return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)
    ends = [widened(b, b.reshape(c[i], ())) for i in range(3)]
    made = c.found("RANGE", ends, c.declared(0, 1), ends[0].type.dtype)
    return b.cast(made, c.dtype(0))


@rule("EyeLike")
def eye(b: Builder, c: Call) -> np.ndarray:
    rows, columns = c.shape(0)
    b.require(is_fixed((rows, columns)), "a unit matrix of an open dimension")
    dtype = dtype_of_number(c.attr("dtype")) if "dtype" in c.attributes else c.dtype(0)
    return np.eye(rows, columns, c.attr("k", 0)).astype(dtype.numpy)


# another shape


@rule("Reshape")
def reshape(b: Builder, c: Call) -> Value:
    x = c[0]
    given = c.known(1) if c.has(1) else np.asarray(c.attr("shape"))
    if given is None:
        wanted = c.declared(0, c.shape(1)[0])
        if is_fixed(wanted):
            return b.reshape(x, wanted)
        return c.found("RESHAPE", [x, b.int32(c[1])], wanted, x.type.dtype)
    return b.reshape(x, whole_shape(b, x, [int(n) for n in given], bool(c.attr("allowzero", 0))))


def whole_shape(b: Builder, x: Tensor, wanted: Sequence[int], zero_is_zero: bool = False) -> list[int]:
    """A shape without 0 (as before) and -1 (what is left)."""
    whole = [x.type.shape[i] if n == 0 and not zero_is_zero else n for i, n in enumerate(wanted)]
    if -1 in whole:
        rest = math.prod(n for n in whole if n != -1)
        have = math.prod(x.type.shape)
        b.require(rest > 0 and have % rest == 0, f"{list(x.type.shape)} as {list(wanted)}")
        whole[whole.index(-1)] = have // rest
    b.require(math.prod(whole) == math.prod(x.type.shape), f"{list(x.type.shape)} as {list(wanted)}")
    return whole


def _axes(c: Call, i: int, rank: int) -> list[int] | None:
    given = c.attr("axes")
    if c.has(i):
        given = c.ints(i, "the axes")
    return None if given is None else [int(a) % max(rank, 1) for a in given]


@rule("Squeeze")
def squeeze(b: Builder, c: Call) -> Tensor:
    x = c[0]
    if c.has(1) and c.known(1) is None:
        return b.reshape(x, c.declared(0))
    axes = _axes(c, 1, x.type.rank)
    gone = [i for i, n in enumerate(x.type.shape) if n == 1] if axes is None else axes
    return b.reshape(x, [n for i, n in enumerate(x.type.shape) if i not in gone])


@rule("Unsqueeze")
def unsqueeze(b: Builder, c: Call) -> Tensor:
    x = c[0]
    if c.has(1) and c.known(1) is None:
        return b.reshape(x, c.declared(0))
    given = c.attr("axes") if not c.has(1) else c.ints(1)
    axes = _axes(c, 1, x.type.rank + len(given)) or []
    sizes = iter(x.type.shape)
    return b.reshape(x, [1 if i in axes else next(sizes) for i in range(x.type.rank + len(axes))])


@rule("Flatten")
def flatten(b: Builder, c: Call) -> Tensor:
    x, axis = c[0], c.attr("axis", 1)
    axis = axis + x.type.rank if axis < 0 else axis
    return b.reshape(x, (math.prod(x.type.shape[:axis]), math.prod(x.type.shape[axis:])))


@rule("Transpose")
def transpose(b: Builder, c: Call) -> Tensor:
    x = c[0]
    return b.transpose(x, c.attr("perm") or list(range(x.type.rank))[::-1])


@rule("Expand")
def expand(b: Builder, c: Call) -> Tensor:
    x = c[0]
    given = c.known(1)
    if given is None:
        rank = max(c.shape(1)[0], x.type.rank)
        wanted = c.declared(0, rank)
        if is_fixed(wanted):
            return b.broadcast(b.reshape(x, (*[1] * (rank - x.type.rank), *x.type.shape)), wanted)
        own = b.vector(x.type.shape)
        target = b("BROADCAST_ARGS", own, b.int32(c[1])) if x.type.rank else b.int32(c[1])
        return c.found("BROADCAST_TO", [x, target], wanted, x.type.dtype)
    shape = broadcast_shape(x.type.shape, [int(n) for n in given])
    return b.broadcast(b.reshape(x, (*[1] * (len(shape) - x.type.rank), *x.type.shape)), shape)


def broadcast_shape(x: Sequence[int], y: Sequence[int]) -> list[int]:
    rank = max(len(x), len(y))
    pairs = zip([1] * (rank - len(x)) + list(x), [1] * (rank - len(y)) + list(y), strict=True)
    return [m if n == 1 else n for n, m in pairs]


@rule("Tile")
def tile(b: Builder, c: Call) -> Tensor:
    x = c[0]
    given = c.known(1)
    if given is None:
        return c.found("TILE", [x, b.int32(c[1])], c.declared(0, x.type.rank), x.type.dtype)
    counts = [int(n) for n in given]
    shape = [n * k for n, k in zip(x.type.shape, counts, strict=True)]
    return b.sized("TILE", [x, b.vector(counts)], shape)


@rule("Concat")
def concatenate(b: Builder, c: Call) -> Tensor:
    parts = [p for p in c.tensors() if p.type.size] or c.tensors()[:1]
    axis = c.attr("axis") % parts[0].type.rank
    return parts[0] if len(parts) == 1 else b("CONCATENATION", *parts, axis=axis)


@rule("Split")
def split(b: Builder, c: Call) -> Sequence[Tensor]:
    x = c[0]
    axis, count = c.attr("axis", 0) % x.type.rank, len(c.results)
    n = x.type.shape[axis]
    if c.has(1) and c.known(1) is None:
        return _split_at_run_time(b, c, x, axis)
    parts = c.ints(1) if c.has(1) else c.attr("split")
    if parts is None:
        each = -(-n // count)
        parts = [each] * (count - 1) + [n - each * (count - 1)]
    if len(parts) == 1:
        return [x]
    b.require(sum(parts) == n, f"parts {parts} of {n}")
    if len(set(parts)) == 1 and parts[0]:
        return b.several("SPLIT", b.constant(axis), x, dtypes=[x.type.dtype] * count, num_splits=count)
    starts = np.cumsum([0, *parts])
    return [sliced(b, x, axis, int(s), int(s + k)) for s, k in zip(starts, parts, strict=False)]


def _split_at_run_time(b: Builder, c: Call, x: Tensor, axis: int) -> list[Tensor]:
    """SPLIT_V with sizes that are computed."""
    made = []
    for i in range(len(c.results)):
        along = c.declared(i, x.type.rank)[axis]
        shape = tuple(along if a == axis else n for a, n in enumerate(x.type.shape))
        made.append(Tensor(f"{b.name()}/{len(b.tensors) + i}", TensorType(x.type.dtype, shape)))
    b.add(b._node("SPLIT_V", [x, b.int32(c[1]), b.constant(axis)], made, num_splits=len(made)))
    for t in made:
        b.originate(t)
    return made


@rule("Slice")
def part(b: Builder, c: Call) -> Tensor:
    x = c[0]
    starts, ends = c.attr("starts"), c.attr("ends")
    axes, steps = c.attr("axes"), None
    if c.version >= 10:
        if any(c.has(i) and c.known(i) is None for i in range(1, 5)):
            return _part_at_run_time(b, c, x)
        starts, ends = c.ints(1), c.ints(2)
        axes, steps = (c.ints(i) if c.has(i) else None for i in (3, 4))
    axes = list(range(len(starts))) if axes is None else axes
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        x = one_part(b, x, axis % x.type.rank, start, end, step)
    return x


def one_part(b: Builder, x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """x[start:end:step] along an axis. Backwards it is a part of the reversed axis."""
    n = x.type.shape[axis]
    if step > 0:
        return sliced(b, x, axis, start, end, step)
    b.require(not is_open(n) or (start in (-1,) or start >= n), "a part, backwards, of an open dimension")
    first = min(start + n if start < 0 else start, n - 1)
    last = max(end + n if end < 0 else end, -1) if end > -(1 << 31) and end + n >= 0 else -1
    turned = b("REVERSE_V2", x, b.constant([axis]))
    return sliced(b, turned, axis, n - 1 - first, max(n - 1 - last, 0), -step)


def _part_at_run_time(b: Builder, c: Call, x: Tensor) -> Tensor:
    """Bounds that are computed: STRIDED_SLICE over all axes."""
    rank, limit, count = x.type.rank, 1 << 30, c.shape(1)[0]
    axes = c[3] if c.has(3) else b.constant(np.arange(count))
    bounds = [b.cast(_within(b, c[i], limit), INT32) for i in (1, 2)]
    steps = b.int32(c[4]) if c.has(4) else b.constant([1] * count)
    defaults = ([0] * rank, list(x.type.shape), [1] * rank)
    begin, end, strides = (spread(b, axes, v, d) for v, d in zip((*bounds, steps), defaults, strict=True))
    return c.found("STRIDED_SLICE", [x, begin, end, strides], c.declared(0, rank), x.type.dtype)


def _within(b: Builder, x: Tensor, limit: int) -> Tensor:
    dtype = x.type.dtype
    return b("MAXIMUM", b("MINIMUM", x, b.constant(limit, dtype)), b.constant(-limit, dtype))


def spread(b: Builder, axes: Tensor, values: Tensor, defaults: Sequence[int]) -> Tensor:
    """A number for each axis of a tensor: the value where the axis is among `axes`, else the default."""
    rank, count = len(defaults), values.type.shape[0]
    if axes.data is not None and [int(a) % rank for a in axes.data] == list(range(rank)):
        return values
    places = b.reshape(non_negative(b, axes, rank), (count, 1))

    def put(values: Tensor) -> Tensor:
        made = b.sized("SCATTER_ND", [places, values, b.constant([rank])], (rank,))
        made.type = TensorType(INT32, (rank,))
        return made

    hit = b("GREATER", put(b.constant([1] * count)), b.constant(0), dtype=BOOL)
    return b("SELECT_V2", hit, put(values), b.vector(defaults), dtype=INT32)


@rule("Pad")
def pad(b: Builder, c: Call) -> Tensor:
    x, mode = c[0], c.attr("mode", "constant")
    rank = x.type.rank
    if c.version >= 11 and (c.known(1) is None or (c.has(3) and c.known(3) is None)):
        return _padded_at_run_time(b, c, x)
    flat = c.ints(1) if c.version >= 11 else list(c.attr("pads"))
    value = (c.get(2) if c.has(2) else None) if c.version >= 11 else b.constant(c.attr("value", 0.0), x.type.dtype)
    axes = [a % rank for a in c.ints(3, "the axes")] if c.has(3) else list(range(rank))
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pairs[axis] = (flat[i], flat[i + len(axes)])
    if mode == "constant":
        return constant_pad(b, x, pairs, value)
    x = padded(b, x, [(min(lo, 0), min(hi, 0)) for lo, hi in pairs])
    more = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
    if mode == "reflect" and all(lo < n and hi < n for (lo, hi), n in zip(more, x.type.shape, strict=True)):
        return b("MIRROR_PAD", x, b.constant([list(p) for p in more]), mode="REFLECT")
    for axis, (lo, hi) in enumerate(more):
        n = x.type.shape[axis]
        if lo or hi:
            b.require(not is_open(n), f"padding of an open dimension by '{mode}'")
            places = PLACES[mode](np.arange(-lo, n + hi), n)
            x = b("GATHER", x, b.constant(places), axis=axis, batch_dims=0)
    return x


def _reflected(i: np.ndarray, n: int) -> np.ndarray:
    period = max(2 * (n - 1), 1)
    j = np.mod(i, period)
    return np.where(j < n, j, period - j)


PLACES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "edge": lambda i, n: np.clip(i, 0, n - 1),
    "wrap": np.mod,
    "reflect": _reflected,
}


def constant_pad(b: Builder, x: Tensor, pairs: Sequence[tuple[int, int]], value: Tensor | None) -> Tensor:
    if x.type.dtype == BOOL:
        whole = constant_pad(b, b.cast(x, INT32), pairs, None if value is None else b.cast(value, INT32))
        return cast(b, whole, BOOL)
    if value is None or value.data is not None:
        return padded(b, x, pairs, 0 if value is None else b.array(value).reshape(-1)[0].item())
    b.require(all(lo >= 0 and hi >= 0 for lo, hi in pairs), "padding that cuts off, with a computed value")
    return b("PADV2", x, b.constant([list(p) for p in pairs]), b.reshape(value, ()))


def _padded_at_run_time(b: Builder, c: Call, x: Tensor) -> Tensor:
    """Constants by PADV2; other modes look each place up where it comes from."""
    rank, mode, count = x.type.rank, c.attr("mode", "constant"), c.shape(1)[0] // 2
    axes = c[3] if c.has(3) else b.constant(np.arange(rank))
    flat = b.int32(c[1])
    low, high = (spread(b, axes, b.slice(flat, [i * count], [count]), [0] * rank) for i in (0, 1))
    shape = c.declared(0, rank)
    if mode == "constant":
        value = b.reshape(c[2], ()) if c.has(2) else b.constant(0, x.type.dtype)
        zero = b.constant([0] * rank)
        pairs = b("PACK", *(b("MAXIMUM", t, zero) for t in (low, high)), values_count=2, axis=1)
        wide = c.found("PADV2", [x, pairs, value], shape, x.type.dtype)
        begin, size = b("NEG", b("MINIMUM", low, zero)), b.vector(shape)
        return b.sized("SLICE", [wide, begin, size], shape) if is_fixed(shape) else wide
    for axis in range(rank):
        lo, hi = (b.reshape(b.slice(t, [axis], [1]), ()) for t in (low, high))
        n = b.constant(x.type.shape[axis])
        line_ = c.found("RANGE", [b("NEG", lo), b("ADD", n, hi), b.constant(1)], (shape[axis],), INT32)
        x = b("GATHER", x, _looked_up(b, line_, x.type.shape[axis], mode), axis=axis, batch_dims=0)
    return x


def _looked_up(b: Builder, places: Tensor, n: int, mode: str) -> Tensor:
    """Where the place of a padded axis comes from."""
    if mode == "edge":
        return b("MAXIMUM", b("MINIMUM", places, b.constant(n - 1)), b.constant(0))
    if mode == "wrap":
        return b("FLOOR_MOD", places, b.constant(n))
    period = max(2 * (n - 1), 1)
    inside = b("FLOOR_MOD", places, b.constant(period))
    return b("MINIMUM", inside, b("SUB", b.constant(period), inside))


@rule("DepthToSpace")
def depth_to_space(b: Builder, c: Call) -> Tensor:
    """[.., r r C (or C r r), H, W] to [.., C, H r, W r]"""
    x, r = c[0], c.attr("blocksize")
    batch, channels, height, width = x.type.shape
    last = b.transpose(x, (0, 2, 3, 1))
    if c.attr("mode", "DCR") == "CRD" and channels != r * r:
        parted = b.reshape(last, (batch, height, width, channels // (r * r), r * r))
        last = b.reshape(b.transpose(parted, (0, 1, 2, 4, 3)), last.type.shape)
    return b.transpose(b("DEPTH_TO_SPACE", last, block_size=r), (0, 3, 1, 2))


@rule("SpaceToDepth")
def space_to_depth(b: Builder, c: Call) -> Tensor:
    x, r = c[0], c.attr("blocksize")
    last = b("SPACE_TO_DEPTH", b.transpose(x, (0, 2, 3, 1)), block_size=r)
    channels = x.type.shape[1]
    if c.attr("mode", "DCR") == "CRD" and channels != 1:
        batch, height, width, _ = last.type.shape
        parted = b.reshape(last, (batch, height, width, r * r, channels))
        last = b.reshape(b.transpose(parted, (0, 1, 2, 4, 3)), last.type.shape)
    return b.transpose(last, (0, 3, 1, 2))


@rule("Trilu")
def triangle(b: Builder, c: Call) -> Tensor:
    x, upper = c[0], bool(c.attr("upper", 1))
    rows, columns = x.type.shape[-2:]
    shift = b.reshape(b.int32(c[1]), ()) if c.has(1) else b.constant(0)
    down = b("ADD", b.reshape(line(b, rows), (rows, 1)), shift)
    across = b.reshape(line(b, columns), (1, columns))
    mask = b("GREATER_EQUAL" if upper else "LESS_EQUAL", across, down, dtype=BOOL)
    return b("SELECT_V2", mask, x, b.constant(np.zeros((), x.type.dtype.numpy), x.type.dtype), dtype=x.type.dtype)


@rule("ReverseSequence")
def reverse_sequence(b: Builder, c: Call) -> Tensor:
    x = full(b, c[0])
    turned = b("REVERSE_SEQUENCE", x, c[1], seq_dim=c.attr("time_axis", 0), batch_dim=c.attr("batch_axis", 1))
    return b.cast(turned, c.dtype(0))


@rule("CenterCropPad")
def centre(b: Builder, c: Call) -> Tensor:
    """Cut off or padded on both sides; the odd one after."""
    x = c[0]
    axes = [a % x.type.rank for a in c.attr("axes", list(range(x.type.rank)))]
    wanted = c.ints(1, "the size") if c.known(1) is not None else [c.declared(0)[a] for a in axes]
    pairs = [(0, 0)] * x.type.rank
    for axis, m in zip(axes, wanted, strict=True):
        n = x.type.shape[axis]
        less = (n - m) // 2 if n > m else (m - n) // 2
        pairs[axis] = (-less, -(n - m - less)) if n > m else (less, m - n - less)
    return constant_pad(b, x, pairs, None)
