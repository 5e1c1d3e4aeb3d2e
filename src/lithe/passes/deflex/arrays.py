"""Operators that arrange elements, reduce along axes, look up and count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lithe.ir.graph import Tensor
from lithe.passes.deflex.draft import RULES, Draft, rule
from lithe.passes.writer import Value, where
from lithe.types import BOOL, FLOAT32, INT32, INT64, DType

REDUCTIONS = {
    "Sum": "SUM", "Mean": "MEAN", "Max": "REDUCE_MAX", "Min": "REDUCE_MIN", "Prod": "REDUCE_PROD", "Any": "REDUCE_ANY",
    "All": "REDUCE_ALL",
}  # fmt: skip


MOST_PLACES = 1 << 22  # elements of a constant that a rule makes


def _reduction(builtin: str) -> Callable[[Draft], Tensor]:
    def write(d: Draft) -> Tensor:
        x, axes = d.inputs
        return d(builtin, x, d.int32(axes), rank=d.type_of_output().rank, keep_dims=d.attribute("keep_dims", False))

    return write


RULES.update({name: _reduction(builtin) for name, builtin in REDUCTIONS.items()})


@rule("EuclideanNorm")
def euclidean_norm(d: Draft) -> Tensor:
    x, axes = d.inputs
    squares = d("SQUARE", x)
    return d("SQRT", d("SUM", squares, d.int32(axes), rank=d.type_of_output().rank,
                       keep_dims=d.attribute("keep_dims", False)))  # fmt: skip


@rule("ArgMax", "ArgMin")
def place_of_extreme(d: Draft) -> Tensor:
    builtin = "ARG_MAX" if d.definition.op == "ArgMax" else "ARG_MIN"
    dtype = d.attribute("output_type", INT64)
    return d(builtin, *d.inputs, dtype=dtype, rank=d.type_of_output().rank, output_type=dtype)


@rule("Cumsum")
def running_sum(d: Draft) -> Tensor:
    x, axis = d.inputs
    flags = {name: d.attribute(name, False) for name in ("exclusive", "reverse")}
    return d("CUMSUM", x, d.int32(axis), **flags)


# the same elements in another arrangement


@rule("Identity", "Snapshot", "StopGradient", "PreventGradient", "IdentityN")
def identity(d: Draft) -> Sequence[Tensor]:
    return d.inputs


@rule("EnsureShape")
def ensured(d: Draft) -> Tensor:
    """The same, where the shape is known to be the wanted one."""
    (x,) = d.inputs
    wanted = d.attribute("shape", ())
    d.require(len(wanted) == x.type.rank and all(w in (-1, n) for w, n in zip(wanted, d.shape(x), strict=True)))
    return x


@rule("Reshape")
def reshape(d: Draft) -> Tensor:
    x, shape = d.inputs
    rank = int(d.shape(shape)[0])
    new_shape = () if shape.data is None else tuple(int(n) for n in shape.data)
    return d("RESHAPE", x, d.int32(shape), rank=rank, new_shape=new_shape)


@rule("Squeeze")
def squeeze(d: Draft) -> Tensor:
    axes = tuple(int(a) for a in d.attribute("squeeze_dims", ()))
    return d("SQUEEZE", d.inputs[0], rank=d.type_of_output().rank, squeeze_dims=axes)


@rule("ExpandDims")
def expand_dims(d: Draft) -> Tensor:
    return d("EXPAND_DIMS", *d.inputs, rank=d.type_of_output().rank)


@rule("ConcatV2", "Concat")
def concatenate(d: Draft) -> Tensor:
    *values, axis = d.inputs if d.definition.op == "ConcatV2" else [*d.inputs[1:], d.inputs[0]]
    return d("CONCATENATION", *values, axis=int(d.array(axis)), fused_activation_function="NONE")


@rule("Pack")
def pack(d: Draft) -> Tensor:
    return d("PACK", *d.inputs, values_count=len(d.inputs), axis=d.attribute("axis", 0))


@rule("Unpack")
def unpack(d: Draft) -> Sequence[Tensor]:
    count = len(d.node.outputs)
    return d.several("UNPACK", d.inputs[0], dtypes=[None] * count, num=count, axis=d.attribute("axis", 0))


@rule("Split")
def split(d: Draft) -> Sequence[Tensor]:
    axis, x = d.inputs
    count = len(d.node.outputs)
    return d.several("SPLIT", d.int32(axis), x, dtypes=[x.type.dtype] * count, rank=x.type.rank, num_splits=count)


@rule("SplitV")
def split_in_sizes(d: Draft) -> Sequence[Tensor]:
    x, sizes, axis = d.inputs
    count = len(d.node.outputs)
    return d.several("SPLIT_V", x, sizes, d.int32(axis), dtypes=[None] * count, rank=x.type.rank, num_splits=count)


@rule("StridedSlice")
def strided_slice(d: Draft) -> Tensor:
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = {name: d.attribute(name, 0) for name in names}
    return d("STRIDED_SLICE", *d.inputs, rank=d.type_of_output().rank, **masks)


@rule("Gather", "GatherV2")
def gather(d: Draft) -> Tensor:
    x, indices, *axis = d.inputs
    attrs = {"axis": int(d.array(axis[0])) if axis else 0, "batch_dims": d.attribute("batch_dims", 0)}
    return d("GATHER", x, indices, rank=d.type_of_output().rank, **attrs)


@rule("ReverseV2")
def reverse(d: Draft) -> Tensor:
    return d("REVERSE_V2", *d.inputs)


@rule("ReverseSequence")
def reverse_sequence(d: Draft) -> Tensor:
    return d("REVERSE_SEQUENCE", *d.inputs, seq_dim=d.attribute("seq_dim", 0), batch_dim=d.attribute("batch_dim", 0))


@rule("Roll")
def roll(d: Draft) -> Tensor:
    """x cut in two at -shift, put together the other way round, axis by axis."""
    x, shifts, axes = d.inputs
    shape = d.shape(x)
    for shift, axis in zip(d.array(shifts).reshape(-1).tolist(), d.array(axes).reshape(-1).tolist(), strict=True):
        cut = -shift % shape[axis] if shape[axis] else 0
        if cut:
            sizes = d.constant([cut, shape[axis] - cut])
            head, tail = d.several("SPLIT_V", x, sizes, d.constant(axis), dtypes=[None] * 2, num_splits=2)
            x = d("CONCATENATION", tail, head, axis=axis, fused_activation_function="NONE")
    return x


@rule("MirrorPad")
def mirror_pad(d: Draft) -> Tensor:
    return d("MIRROR_PAD", *d.inputs, mode=d.attribute("mode", "REFLECT"))


@rule("DepthToSpace", "SpaceToDepth")
def blocks(d: Draft) -> Tensor:
    d.require(d.attribute("data_format", "NHWC") == "NHWC")
    builtin = "DEPTH_TO_SPACE" if d.definition.op == "DepthToSpace" else "SPACE_TO_DEPTH"
    return d(builtin, d.inputs[0], block_size=d.attribute("block_size", 2))


@rule("Bitcast")
def bitcast(d: Draft) -> Tensor:
    return d("BITCAST", d.inputs[0], dtype=d.type_of_output().dtype, rank=d.type_of_output().rank)


# shapes


def _shape_of(d: Draft, x: Tensor, dtype: DType) -> Tensor:
    return d("SHAPE", x, dtype=dtype, out_type=dtype)


@rule("Shape", "ShapeN")
def shape_of(d: Draft) -> Sequence[Tensor]:
    return [_shape_of(d, x, d.attribute("out_type", INT32)) for x in d.inputs]


@rule("Size")
def size(d: Draft) -> Tensor:
    shape = _shape_of(d, d.inputs[0], INT32)
    return d.cast(d("REDUCE_PROD", shape, d.constant([0]), keep_dims=False), d.attribute("out_type", INT32))


@rule("Rank")
def rank(d: Draft) -> Tensor:
    return d("RANK", d.inputs[0], dtype=INT32)


@rule("LinSpace")
def linear_space(d: Draft) -> Tensor:
    """start + i (stop - start) / (n - 1), ending at `stop` itself."""
    start, stop, count = d.inputs
    n = int(d.array(count))
    d.require(start.type.dtype == FLOAT32 and 2 <= n <= MOST_PLACES)
    steps = Value(d, d.constant(np.arange(n - 1), FLOAT32))
    first, last = Value(d, d.reshape(start, [1])), Value(d, d.reshape(stop, [1]))
    inner = first + steps * ((last - first) / (n - 1))
    return d("CONCATENATION", inner.tensor, last.tensor, axis=0, fused_activation_function="NONE")


# look-up, counting, sets of places


@rule("OneHot")
def one_hot(d: Draft) -> Tensor:
    indices, depth, on, off = d.inputs
    return d("ONE_HOT", indices, d.int32(depth), on, off, dtype=on.type.dtype, rank=indices.type.rank + 1,
             axis=d.attribute("axis", -1))  # fmt: skip


@rule("ScatterNd")
def scatter(d: Draft) -> Tensor:
    indices, updates, shape = d.inputs
    return d("SCATTER_ND", d.int32(indices), updates, d.int32(shape), dtype=updates.type.dtype,
             rank=d.type_of_output().rank)  # fmt: skip


@rule("TensorScatterAdd", "TensorScatterSub")
def scatter_sum(d: Draft) -> Tensor:
    x, indices, updates = d.inputs
    made = d("SCATTER_ND", d.int32(indices), updates, _shape_of(d, x, INT32), dtype=x.type.dtype, rank=x.type.rank)
    return d("ADD" if d.definition.op == "TensorScatterAdd" else "SUB", x, made, fused_activation_function="NONE")


@rule("InvertPermutation")
def invert_permutation(d: Draft) -> Tensor:
    (x,) = d.inputs
    (count,) = d.shape(x)
    d.require(count <= MOST_PLACES)
    places, order = d.reshape(d.int32(x), [count, 1]), d.constant(np.arange(count), x.type.dtype)
    return d("SCATTER_ND", places, order, d.constant([count]), dtype=x.type.dtype)


@rule("SparseToDense")
def sparse_to_dense(d: Draft) -> Tensor:
    indices, shape, values, default = d.inputs
    return d("SPARSE_TO_DENSE", indices, shape, values, default, dtype=values.type.dtype,
             rank=d.type_of_output().rank, validate_indices=d.attribute("validate_indices", True))  # fmt: skip


@rule("SegmentSum")
def segment_sum(d: Draft) -> Tensor:
    data, places = d.inputs
    return d("SEGMENT_SUM", data, d.int32(places), rank=data.type.rank)


@rule("UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd")
def unsorted_segments(d: Draft) -> Tensor:
    data, places, count = d.inputs
    builtin = f"UNSORTED_SEGMENT_{d.definition.op.removeprefix('UnsortedSegment').upper()}"
    return d(builtin, data, d.int32(places), d.int32(count), rank=d.type_of_output().rank)


@rule("TopKV2")
def top(d: Draft) -> Sequence[Tensor]:
    x, k = d.inputs
    return d.several("TOPK_V2", x, d.int32(k), dtypes=[None, d.type_of_output(1).dtype], rank=x.type.rank)


@rule("Unique")
def unique(d: Draft) -> Sequence[Tensor]:
    dtype = d.attribute("out_idx", INT32)
    return d.several("UNIQUE", d.inputs[0], dtypes=[None, dtype], rank=1, idx_out_type=dtype)


@rule("MatrixBandPart")
def band(d: Draft) -> Tensor:
    """Keeps what lies at most `lower` below the diagonal and `upper` above it; all of a side where negative."""
    x, lower, upper = d.inputs
    rows, columns = d.shape(x)[-2:]
    d.require(rows * columns <= MOST_PLACES)
    below, above = int(d.array(lower)), int(d.array(upper))
    distance = np.arange(columns) - np.arange(rows)[:, None]
    kept = ((distance >= -below) | (below < 0)) & ((distance <= above) | (above < 0))
    return where(Value(d, d.constant(kept, BOOL)), Value(d, x), 0).tensor


def _main_diagonal(d: Draft, k: Tensor) -> None:
    """The later versions take any diagonals, the builtins the main one."""
    d.require(d.array(k).tolist() in (0, [0], [0, 0]))


@rule("MatrixDiagV2", "MatrixDiagV3")
def diagonal_matrix(d: Draft) -> Tensor:
    x, k, rows, columns, padding = d.inputs
    _main_diagonal(d, k)
    d.require(d.array(rows) == d.array(columns) == -1 and not d.array(padding))
    return d("MATRIX_DIAG", x)


@rule("MatrixSetDiagV2", "MatrixSetDiagV3")
def set_diagonal(d: Draft) -> Tensor:
    x, values, k = d.inputs
    _main_diagonal(d, k)
    return d("MATRIX_SET_DIAG", x, values)


@rule("MatrixDiagPart", "MatrixDiagPartV2", "MatrixDiagPartV3")
def diagonal(d: Draft) -> Tensor:
    x, *others = d.inputs
    if others:
        _main_diagonal(d, others[0])
    *batch, rows, columns = d.shape(x)
    d.require(min(rows, columns) <= MOST_PLACES)
    places = d.constant(np.arange(min(rows, columns)) * (columns + 1))
    flat = d.reshape(x, [*batch, rows * columns])
    return d("GATHER", flat, places, axis=len(batch), batch_dims=0)


@rule("NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5")
def suppress(d: Draft) -> Sequence[Tensor | None]:
    """The builtin gives as many places as may be chosen, and how many were; TensorFlow gives those that were."""
    soft = d.definition.op == "NonMaxSuppressionV5"
    types = [INT32, FLOAT32, INT32] if soft else [INT32, INT32]
    made = d.several(f"NON_MAX_SUPPRESSION_V{5 if soft else 4}", *d.inputs, dtypes=types)
    *lists, count = made
    if d.definition.op == "NonMaxSuppressionV3" or not d.attribute("pad_to_max_output_size", False):
        chosen = d.reshape(count, [1])
        lists = [d("SLICE", t, d.constant([0]), chosen, rank=1) for t in lists]
    return [*lists, count][: len(d.node.outputs)]


@rule("Multinomial", "RandomUniform", "RandomStandardNormal")
def random_numbers(d: Draft) -> Tensor:
    """The builtins draw from the same generator; without a seed both draw as they like."""
    builtin = {"Multinomial": "MULTINOMIAL", "RandomUniform": "RANDOM_UNIFORM"}.get(
        d.definition.op, "RANDOM_STANDARD_NORMAL"
    )
    first, *others = d.inputs
    operands = [first, *map(d.int32, others)] if builtin == "MULTINOMIAL" else [d.int32(first)]
    seeds = {name: d.attribute(name, 0) for name in ("seed", "seed2")}
    return d(builtin, *operands, dtype=d.type_of_output().dtype, rank=d.type_of_output().rank, **seeds)
