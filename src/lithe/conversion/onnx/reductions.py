"""What ONNX's operators are in builtins: sums, extremes, norms and orders along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import RULES, Call, Rule, cast, computed, converted, full, rule, widened
from lithe.conversion.parts import line, non_negative, sliced
from lithe.conversion.reductions import along_last
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value
from lithe.types import BOOL, FLOAT32, INT32, INT64, UINT64, DType


def axes_of(b: Builder, c: Call, i: int = 1) -> list[int] | None:
    """The axes of a reduction; None where they are computed."""
    rank = len(c.shape(0))
    given = c.attr("axes")
    if c.has(i):
        known = c.known(i)
        if known is None:
            return None
        given = [int(a) for a in known.reshape(-1)]
    if not given:
        return [] if c.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [int(a) % max(rank, 1) for a in given]


OF_TRUTH = {"REDUCE_MAX": "REDUCE_ANY", "REDUCE_MIN": "REDUCE_ALL"}


def reduced(b: Builder, builtin: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    """A reduction; of no axes it is the tensor itself."""
    if not axes or not x.type.rank:
        return x
    if any(x.type.shape[a] == 0 for a in axes) and builtin in OF_TRUTH:
        shape = [1 if i in axes else n for i, n in enumerate(x.type.shape) if keep or i not in axes]
        return b.filled(_of_nothing(builtin, x.type.dtype), x.type.dtype, shape)
    if x.type.dtype == BOOL:
        return b(OF_TRUTH[builtin], x, b.constant(list(axes)), keep_dims=keep)
    top = x.type.dtype == UINT64 and builtin in ("REDUCE_MAX", "REDUCE_MIN")
    wide = b("ADD", converted(b, x, INT64), b.constant(-(1 << 63), INT64)) if top else widened(b, x, builtin)
    made = b(builtin, wide, b.constant(list(axes)), keep_dims=keep)
    if top:
        made = b("ADD", made, b.constant(-(1 << 63), INT64))
    return converted(b, made, x.type.dtype)


def _of_nothing(builtin: str, dtype: DType) -> float:
    """The largest or smallest of no elements."""
    low = builtin == "REDUCE_MAX"
    if dtype == BOOL:
        return not low
    if dtype.is_float:
        return -np.inf if low else np.inf
    return dtype.minimum if low else dtype.maximum


def _at_run_time(b: Builder, c: Call, builtin: str, x: Tensor) -> Tensor:
    """Axes that are computed; where none are given at all, they are all."""
    keep = bool(c.attr("keepdims", 1))
    given = c[1]
    if 0 in x.type.shape and builtin in OF_TRUTH:
        return b.filled(_of_nothing(builtin, x.type.dtype), x.type.dtype, c.declared(0, None))
    if given.type.shape == (0,):
        return x if c.attr("noop_with_empty_axes", 0) else reduced(b, builtin, x, list(range(x.type.rank)), keep)
    truth = x.type.dtype == BOOL
    wide = x if truth else widened(b, x, builtin)
    rank = x.type.rank if keep else x.type.rank - given.type.shape[0]
    made = c.found(OF_TRUTH[builtin] if truth else builtin, [wide, b.int32(given)], c.declared(0, rank),
                   wide.type.dtype, keep_dims=keep)  # fmt: skip
    return b.cast(made, x.type.dtype)


def _apply(b: Builder, c: Call, builtin: str, x: Tensor) -> Tensor:
    axes = axes_of(b, c)
    if axes is None:
        return _at_run_time(b, c, builtin, x)
    return reduced(b, builtin, x, axes, bool(c.attr("keepdims", 1)))


def _reduction(builtin: str) -> Rule:
    return lambda b, c: _apply(b, c, builtin, c[0])


def _extreme(builtin: str) -> Rule:
    """A largest or smallest element that is compared with infinity. The official kernel begins with the largest finite
    number, and so never gives an infinite one."""
    limit = float(np.finfo(np.float32).max)

    def write(b: Builder, c: Call) -> Tensor:
        made = _apply(b, c, builtin, c[0])
        if made.type.dtype != FLOAT32 or not any(n.op_type in COMPARED for n in c.scope.readers.get(c.results[0], ())):
            return made
        low = builtin == "REDUCE_MAX"
        most = b.constant(-limit if low else limit, FLOAT32)
        end = b("LESS_EQUAL" if low else "GREATER_EQUAL", made, most, dtype=BOOL)
        return b("SELECT_V2", end, b.constant(-np.inf if low else np.inf, FLOAT32), made, dtype=FLOAT32)

    return write


COMPARED = {"Equal", "IsInf"}


def _around(before: Callable[[Value], Value], builtin: str, after: Callable[[Value], Value]) -> Rule:
    """after(reduction(before(x)))"""

    def write(b: Builder, c: Call) -> Tensor:
        x = Value(b, widened(b, c[0], "REDUCE_WINDOW" if c.dtype(0).is_integer else ""))
        made = after(Value(b, _apply(b, c, builtin, before(x).tensor))).tensor
        return b.cast(made, c[0].type.dtype)

    return write


def _floating(function: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """A function of floats; integers are converted to them and back."""

    def write(x: Value) -> Value:
        made = function(Value(x.writer, x.writer.cast(x.tensor, FLOAT32)))
        return Value(x.writer, x.writer.cast(made.tensor, x.tensor.type.dtype))

    return write


def _same(x: Value) -> Value:
    return x


RULES.update({
    "ReduceSum": _reduction("SUM"), "ReduceMax": _extreme("REDUCE_MAX"),
    "ReduceMin": _extreme("REDUCE_MIN"), "ReduceProd": _reduction("REDUCE_PROD"), "ReduceMean": _reduction("MEAN"),
    "ReduceL1": _around(abs, "SUM", _same), "ReduceSumSquare": _around(lambda x: x * x, "SUM", _same),
    "ReduceL2": _around(lambda x: x * x, "SUM", _floating(formulas.sqrt)),
    "ReduceLogSum": _around(_same, "SUM", _floating(formulas.log)),
})  # fmt: skip


@rule("ReduceLogSumExp")
def log_sum_exp(b: Builder, c: Call) -> Tensor:
    """The largest element is taken out of the sum, which may overflow."""
    x = b.cast(c[0], FLOAT32)
    axes = axes_of(b, c)
    if axes is None:
        return b.cast(formulas.log(Value(b, _apply(b, c, "SUM", b("EXP", x)))).tensor, c[0].type.dtype)
    top = reduced(b, "REDUCE_MAX", x, axes, True)
    finite = b("SELECT_V2", formulas.is_finite(Value(b, top)).tensor, top, b.constant(0.0, FLOAT32), dtype=FLOAT32)
    total = reduced(b, "SUM", b("EXP", b("SUB", x, finite)), axes, True)
    made = b("ADD", b("LOG", total), finite)
    if not c.attr("keepdims", 1):
        made = b.reshape(made, [n for i, n in enumerate(x.type.shape) if i not in axes])
    return b.cast(made, c[0].type.dtype)


@rule("ArgMax", "ArgMin")
def place_of_extreme(b: Builder, c: Call) -> Tensor:
    """The last one of equal elements is the first one from the end."""
    x, word = widened(b, c[0]), c.op[3:].upper()
    axis = c.attr("axis", 0) % x.type.rank
    last = bool(c.attr("select_last_index", 0))
    n = x.type.shape[axis]
    if last:
        x = b("REVERSE_V2", x, b.constant([axis]))
        b.require(not is_open(n), "the last of equal elements of an open dimension")
    made = b(f"ARG_{word}", x, b.constant(axis), dtype=INT64, output_type=INT64)
    if last:
        made = b("SUB", b.constant(n - 1, INT64), made)
    if not c.attr("keepdims", 1):
        return made
    return b.reshape(made, [1 if i == axis else n for i, n in enumerate(x.type.shape)])


@rule("CumSum")
def running_sum(b: Builder, c: Call) -> Tensor:
    x = c[0]
    wide = widened(b, x)
    axis = c.known(1)
    at = b.reshape(b.int32(c[1]), ()) if axis is None else b.constant(int(axis.reshape(-1)[0]) % x.type.rank)
    made = b("CUMSUM", wide, at, exclusive=bool(c.attr("exclusive", 0)), reverse=bool(c.attr("reverse", 0)))
    return b.cast(made, x.type.dtype)


@rule("CumProd")
def running_product(b: Builder, c: Call) -> Tensor:
    """Along an axis that is computed: along each, and the one is chosen."""
    x = widened(b, c[0])
    known = c.known(1)
    if known is not None:
        return b.cast(_running_product(b, c, x, int(known.reshape(-1)[0]) % x.type.rank), c[0].type.dtype)
    made = along_one_of(b, c[1], x.type.rank, range(x.type.rank), lambda axis: _running_product(b, c, x, axis))
    return b.cast(made, c[0].type.dtype)


def along_one_of(b: Builder, at: Tensor, rank: int, axes: Sequence[int], write: Callable[[int], Tensor]) -> Tensor:
    """What is written for an axis that a run tells: for each, and the one is chosen."""
    at = b.reshape(non_negative(b, at, rank), ())
    made: Tensor | None = None
    for axis in axes:
        one = write(axis)
        if made is None:
            made = one
        else:
            made = b("SELECT_V2", b("EQUAL", at, b.constant(axis), dtype=BOOL), one, made, dtype=one.type.dtype)
    b.require(made is not None, "an axis that is computed")
    assert made is not None
    return made


def _running_product(b: Builder, c: Call, x: Tensor, axis: int) -> Tensor:
    """Doubling steps: after step i each element holds the product of 2**i elements before it."""
    n = x.type.shape[axis]
    b.require(not is_open(n), "running products along an open dimension")
    if c.attr("reverse", 0):
        x = b("REVERSE_V2", x, b.constant([axis]))
    if c.attr("exclusive", 0):
        ones = b.filled(1, x.type.dtype, [1 if i == axis else m for i, m in enumerate(x.type.shape)])
        x = b("CONCATENATION", ones, sliced(b, x, axis, 0, n - 1), axis=axis) if n > 1 else ones
    step = 1
    while step < n:
        head, moved, rest = sliced(b, x, axis, 0, step), sliced(b, x, axis, 0, n - step), sliced(b, x, axis, step, n)
        x, step = b("CONCATENATION", head, b("MUL", rest, moved), axis=axis), step * 2
    if c.attr("reverse", 0):
        x = b("REVERSE_V2", x, b.constant([axis]))
    return x


@rule("TopK")
def top(b: Builder, c: Call) -> Sequence[Tensor]:
    x = c[0]
    axis = c.attr("axis", -1) % x.type.rank
    largest = bool(c.attr("largest", 1))
    turn = list(range(x.type.rank))
    turn[axis], turn[-1] = turn[-1], turn[axis]
    last = b.transpose(widened(b, x), turn)
    count = c.known(1) if c.version >= 10 else np.asarray(c.attr("k"))
    work = last if largest else b("NEG", last)
    if count is None:
        shape = [c.declared(0, x.type.rank)[i] for i in turn]
        values, places = _found_top(b, c, work, shape)
    else:
        k = int(count.reshape(-1)[0])
        b.require(not is_open(k), "an order of an open dimension")
        values, places = b.several("TOPK_V2", work, b.constant(k), dtypes=[None, INT32])
    values = values if largest else b("NEG", values)
    return [converted(b, b.transpose(values, turn), x.type.dtype), b.cast(b.transpose(places, turn), INT64)]


def _found_top(b: Builder, c: Call, work: Tensor, shape: Sequence[int]) -> list[Tensor]:
    made = [Tensor(f"{b.name()}/{len(b.tensors) + i}", type(work.type)(d, tuple(shape)))
            for i, d in enumerate((work.type.dtype, INT32))]  # fmt: skip
    b.add(b._node("TOPK_V2", [work, b.reshape(b.int32(c[1]), ())], made))
    for t in made:
        b.originate(t)
    return made


@rule("Softmax", "LogSoftmax")
def softmax(b: Builder, c: Call) -> Tensor:
    """Before operator set 13 it is over all axes from one on."""
    x = b.cast(c[0], FLOAT32)
    builtin = "SOFTMAX" if c.op == "Softmax" else "LOG_SOFTMAX"
    if c.version >= 13:
        return b.cast(along_last(b, builtin, x, c.attr("axis", -1)), c[0].type.dtype)
    axis = c.attr("axis", 1) % max(x.type.rank, 1)
    if axis == x.type.rank - 1:
        return b.cast(along_last(b, builtin, x, axis), c[0].type.dtype)
    rest = int(np.prod([1, *x.type.shape[axis:]]))
    flat = b(builtin, b.reshape(x, (*x.type.shape[:axis], rest)))
    return b.cast(b.reshape(flat, x.type.shape), c[0].type.dtype)


@rule("Hardmax")
def hardmax(b: Builder, c: Call) -> Tensor:
    """1 at the first of the largest elements."""
    x = b.cast(c[0], FLOAT32)
    axis = c.attr("axis", -1 if c.version >= 13 else 1) % x.type.rank
    shape = x.type.shape
    if c.version < 13:
        x, axis = b.reshape(x, (*shape[:axis], int(np.prod(shape[axis:])))), axis
    n = x.type.shape[axis]
    place = b("ARG_MAX", x, b.constant(axis), dtype=INT32, output_type=INT32)
    wide = b.reshape(place, [1 if i == axis else m for i, m in enumerate(x.type.shape)])
    along = b.reshape(line(b, n), [n if i == axis else 1 for i in range(x.type.rank)])
    made = b.reshape(b.cast(b("EQUAL", along, wide, dtype=BOOL), FLOAT32), shape)
    return b.cast(made, c[0].type.dtype)


@rule("LpNormalization")
def lp_normalization(b: Builder, c: Call) -> Tensor:
    """Rows of nothing stay so."""
    x = b.cast(c[0], FLOAT32)
    axis = c.attr("axis", -1) % x.type.rank
    value = Value(b, x)
    if c.attr("p", 2) == 1:
        size = Value(b, reduced(b, "SUM", b("ABS", x), [axis], True))
    else:
        size = formulas.sqrt(Value(b, reduced(b, "SUM", b("SQUARE", x), [axis], True)))
    return b.cast(formulas.divide_no_nan(value, size).tensor, c[0].type.dtype)


@rule("MeanVarianceNormalization")
def standardized(b: Builder, c: Call) -> Tensor:
    x = Value(b, b.cast(c[0], FLOAT32))
    axes = [a % len(c.shape(0)) for a in c.attr("axes", [0, 2, 3])]
    centred = x - Value(b, reduced(b, "MEAN", x.tensor, axes, True))
    square = Value(b, reduced(b, "MEAN", (centred * centred).tensor, axes, True))
    return b.cast((centred / (formulas.sqrt(square) + 1e-9)).tensor, c[0].type.dtype)


@rule("OneHot")
def one_hot(b: Builder, c: Call) -> Tensor:
    """Negative indices count from the end."""
    depth = c.known(1)
    values = c[2]
    indices = c[0]
    axis = c.attr("axis", -1)
    rank = indices.type.rank + 1
    axis = axis % rank
    off, on = (b.reshape(b.slice(full(b, values), [i], [1]), ()) for i in (0, 1))
    places = b.cast(indices, INT32)
    n = b.reshape(b.cast(c[1], INT32), ()) if depth is None else b.constant(int(depth.reshape(-1)[0]))
    wrapped = b("SELECT_V2", b("LESS", places, b.constant(0), dtype=BOOL), b("ADD", places, n), places, dtype=INT32)
    if depth is not None:
        made = b("ONE_HOT", wrapped, n, on, off, dtype=on.type.dtype, axis=-1 if axis == rank - 1 else axis)
    else:
        made = c.found("ONE_HOT", [wrapped, n, on, off], c.declared(0, rank), on.type.dtype,
                       axis=-1 if axis == rank - 1 else axis)  # fmt: skip
    return b.cast(made, values.type.dtype)


@rule("NonZero")
def places_of_others(b: Builder, c: Call) -> Tensor:
    x = c[0]
    mask = cast(b, x, BOOL) if x.type.dtype != BOOL else x
    n = c.declared(0, 2)[1]
    rank = x.type.rank
    found = c.found("WHERE", [mask], (n, rank), INT64)
    return b.transpose(found, (1, 0))


@rule("Compress")
def compress(b: Builder, c: Call) -> Tensor:
    """The places along an axis where the condition holds; of all elements where there is no axis."""
    x, condition = c[0], c[1]
    axis = c.attr("axis")
    if axis is None:
        x, axis = b.reshape(x, (x.type.size,)), 0
    axis %= x.type.rank
    m = condition.type.shape[0]
    n = c.declared(0, x.type.rank)[axis]
    places = b.reshape(c.found("WHERE", [condition], (n, 1), INT64), (n,))
    b.require(is_open(m) or is_open(x.type.shape[axis]) or m <= x.type.shape[axis], "a condition that is too long")
    return b("GATHER", x, b.cast(places, INT32), axis=axis)


@rule("Det")
def determinant(b: Builder, c: Call) -> Tensor:
    """By the first row, which is much for large matrices."""
    x = c[0]
    n = x.type.shape[-1]
    b.require(n <= 5, "the determinant of a large matrix")
    return _determinant(b, x)


def _determinant(b: Builder, x: Tensor) -> Tensor:
    n, last = x.type.shape[-1], x.type.rank - 1
    if n == 1:
        return b.reshape(x, x.type.shape[:-2])
    total: Tensor | None = None
    rest = sliced(b, x, last - 1, 1, n)
    for j in range(n):
        first = b.reshape(sliced(b, sliced(b, x, last - 1, 0, 1), last, j, j + 1), x.type.shape[:-2])
        parts = [sliced(b, rest, last, 0, j)] * (j > 0) + [sliced(b, rest, last, j + 1, n)] * (j < n - 1)
        minor = parts[0] if len(parts) == 1 else b("CONCATENATION", *parts, axis=last)
        term = computed(b, "MUL", first, _determinant(b, minor))
        total = term if total is None else b("SUB" if j % 2 else "ADD", total, term)
    assert total is not None
    return total
