"""Operators of TensorFlow with values for them, and what they give: stated in numpy, or worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.types import FLOAT32, INT32, INT64
from tests.formats.node_defs import Sizes

RANDOM = np.random.default_rng(5)


@dataclass(frozen=True)
class Row:
    """One operator at work. `expected` takes the inputs and gives one array or a list of them.

    constants  positions of inputs that the model holds.
    relative   the tolerance for floats.
    """

    op: str
    inputs: tuple[np.ndarray, ...]
    expected: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    relative: float = 1e-5
    name: str = ""

    def __str__(self) -> str:
        return f"{self.op} {self.name}".strip()

    def results(self) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            made = self.expected(*(a.astype(np.float64) if a.dtype == np.float32 else a for a in self.inputs))
        made = made if isinstance(made, list) else [made]
        return [np.asarray(m, np.float32) if np.asarray(m).dtype == np.float64 else np.asarray(m) for m in made]


def row(op: str, expected: Callable[..., Any], *inputs: Any, constants: Sequence[int] = (), relative: float = 1e-5,
        name: str = "", **attributes: Any) -> Row:  # fmt: skip
    arrays = tuple(np.asarray(x) if isinstance(x, np.ndarray | np.generic) else np.asarray(x, np.int32) for x in inputs)
    return Row(op, arrays, expected, {"T": FLOAT32, **attributes}, tuple(constants), relative, name)


def floats(*shape: int, low: float = -3.0, high: float = 3.0) -> np.ndarray:
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def integers(*shape: int, low: int = -9, high: int = 9, dtype: Any = np.int32) -> np.ndarray:
    return RANDOM.integers(low, high, shape).astype(dtype)


X = np.concatenate([floats(40), f32(0, 1e-6, -1e-6, 1e-3, -1e-3, 0.5, -0.5, 1, -1, 5, -5, 12, -12)])
UNIT = np.concatenate([floats(40, low=-1, high=1), f32(0, 1e-6, -1e-6, 0.999999, -0.999999)])
LARGE = np.concatenate([X, f32(30, -30, 80, -80, 88, -88)])
OFF = X + np.float32(0.003)  # not in the middle between two steps of 1 / 51
POSITIVE = np.abs(X) + np.float32(1e-3)
SPECIAL = f32(1, -0.0, math.inf, -math.inf, math.nan)
A, B = floats(2, 3, 4), floats(2, 3, 4, low=0.5)
FLAGS, OTHERS = RANDOM.integers(0, 2, (3, 4)) == 1, RANDOM.integers(0, 2, (3, 4)) == 1
I, J = integers(3, 4), integers(3, 4, low=1)
LONG = integers(3, 4, dtype=np.int64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.expm1(x), x)


UNARY = [
    row("Abs", np.abs, X), row("Ceil", np.ceil, X), row("Floor", np.floor, X), row("Round", np.rint, X),
    row("Rint", np.rint, X), row("Neg", np.negative, X), row("Sign", np.sign, X), row("Square", np.square, X),
    row("Exp", np.exp, X), row("Log", np.log, POSITIVE), row("Sqrt", np.sqrt, POSITIVE),
    row("Rsqrt", lambda x: 1 / np.sqrt(x), POSITIVE), row("Sin", np.sin, X, relative=1e-4),
    row("Cos", np.cos, X, relative=1e-4), row("Tan", np.tan, X, relative=1e-4),
    row("Sinh", np.sinh, LARGE), row("Cosh", np.cosh, LARGE), row("Tanh", np.tanh, LARGE),
    row("Asin", np.arcsin, UNIT), row("Acos", np.arccos, UNIT), row("Atan", np.arctan, LARGE),
    row("Asinh", np.arcsinh, np.concatenate([LARGE, f32(1e20, -1e20)])),
    row("Acosh", np.arccosh, np.concatenate([POSITIVE + 1, f32(1, 1e20)])), row("Atanh", np.arctanh, UNIT),
    row("Log1p", np.log1p, np.concatenate([POSITIVE, UNIT, f32(1e20)])), row("Expm1", np.expm1, LARGE),
    row("Erf", np.vectorize(math.erf), LARGE), row("Sigmoid", sigmoid, LARGE), row("Elu", elu, LARGE),
    row("Selu", lambda x: 1.05070098735548 * np.where(x < 0, 1.67326324235437 * np.expm1(x), x), LARGE),
    row("Softplus", lambda x: np.logaddexp(0, x), LARGE), row("Softsign", lambda x: x / (1 + np.abs(x)), LARGE),
    row("Relu", lambda x: np.maximum(x, 0), X), row("Relu6", lambda x: np.clip(x, 0, 6), X),
    row("LeakyRelu", lambda x: np.where(x < 0, np.float32(0.3) * x, x), X, alpha=0.3),
    row("Reciprocal", np.reciprocal, POSITIVE), row("Inv", np.reciprocal, POSITIVE),
    row("IsNan", np.isnan, SPECIAL), row("IsInf", np.isinf, SPECIAL), row("IsFinite", np.isfinite, SPECIAL),
    row("LogicalNot", np.logical_not, FLAGS), row("Invert", np.invert, I, T=INT32),
    row("ZerosLike", np.zeros_like, A), row("OnesLike", np.ones_like, A), row("L2Loss", lambda x: (x * x).sum() / 2, A),
    row("Softmax", softmax, A), row("LogSoftmax", lambda x: np.log(softmax(x)), A),
    row("ComplexAbs", np.abs, np.array([3 + 4j, -1j], np.complex64)),
    row("Real", np.real, np.array([3 + 4j, -1j], np.complex64)),
    row("Imag", np.imag, np.array([3 + 4j, -1j], np.complex64)),
    row("Cast", lambda x: x.astype(np.int32), X, SrcT=FLOAT32, DstT=INT32, Truncate=False),
    row("Bucketize", lambda x: np.digitize(x, [-1.0, 0.25, 2.0]).astype(np.int32), X, boundaries=(-1.0, 0.25, 2.0)),
    row("FakeQuantWithMinMaxArgs", lambda x: np.clip(np.rint(x * 51 + 128), 0, 255) / 51 - 128 / 51, OFF,
        min=-128 / 51, max=127 / 51, num_bits=8, narrow_range=False),
    row("FakeQuantWithMinMaxVars", lambda x, a, b: np.clip(np.rint(x * 51 + 128), 0, 255) / 51 - 128 / 51, OFF,
        np.float32(-128 / 51), np.float32(127 / 51), constants=(1, 2), num_bits=8, narrow_range=False),
]  # fmt: skip
BINARY = [
    row("Add", np.add, A, B), row("AddV2", np.add, A, floats(4)),
    row("AddV2", np.add, LONG, LONG, T=INT64, name="int64"),
    row("Sub", np.subtract, A, B), row("Sub", np.subtract, LONG, np.int64(3), T=INT64, name="int64"),
    row("Mul", np.multiply, A, B), row("Mul", np.multiply, LONG, LONG, T=INT64, name="int64"),
    row("RealDiv", np.divide, A, B), row("Div", np.divide, A, B),
    row("Div", lambda x, y: np.trunc(x / y).astype(np.int32), I, J, T=INT32, name="int32"),
    row("TruncateDiv", lambda x, y: np.trunc(x / y).astype(np.int32), I, J, T=INT32),
    row("TruncateMod", np.fmod, I, J, T=INT32), row("Mod", np.fmod, I, J, T=INT32),
    row("FloorDiv", np.floor_divide, I, J, T=INT32), row("FloorMod", np.mod, I, J, T=INT32),
    row("Maximum", np.maximum, A, B), row("Minimum", np.minimum, A, B), row("Pow", np.power, B, A),
    row("SquaredDifference", lambda x, y: (x - y) ** 2, A, B), row("Atan2", np.arctan2, A, B),
    row("Equal", np.equal, I, J, T=INT32), row("NotEqual", np.not_equal, I, J, T=INT32),
    row("Less", np.less, A, B), row("LessEqual", np.less_equal, A, B), row("Greater", np.greater, A, B),
    row("GreaterEqual", np.greater_equal, A, B), row("LogicalAnd", np.logical_and, FLAGS, OTHERS),
    row("LogicalOr", np.logical_or, FLAGS, OTHERS),
    row("BitwiseXor", np.bitwise_xor, I, J, T=INT32), row("RightShift", np.right_shift, I, np.abs(J) % 8, T=INT32),
    row("DivNoNan", lambda x, y: np.where(y == 0, 0, x / y), f32(1, 2, 0, -3), f32(0, 4, 0, 2)),
    row("MulNoNan", lambda x, y: np.where(y == 0, 0, x * y), f32(math.inf, 2, math.nan, -3), f32(0, 4, 0, 2)),
    row("Xdivy", lambda x, y: np.where(x == 0, 0, x / y), f32(0, 2, 0, -3), f32(0, 4, 1, 2)),
    row("Xlogy", lambda x, y: np.where(x == 0, 0, x * np.log(y)), f32(0, 2, 0, -3), f32(0, 4, 1, 2)),
    row("Xlog1py", lambda x, y: np.where(x == 0, 0, x * np.log1p(y)), f32(0, 2, 0, -3), f32(-1, 4, 1, 1e-4)),
    row("ApproximateEqual", lambda x, y: np.abs(x - y) < 0.01, f32(1, 2, 3), f32(1.001, 2.1, 3), tolerance=0.01),
    row("AddN", lambda *x: sum(x), A, B, A, N=3),
    row("ClipByValue", lambda x, a, b: np.clip(x, a, b), A, np.float32(-1), np.float32(2)),
    row("Select", np.where, FLAGS, floats(3, 4), floats(3, 4)),
    row("SelectV2", np.where, FLAGS, floats(3, 4), floats(4)),
    row("BiasAdd", np.add, A, floats(4), data_format=b"NHWC"), row("BiasAddV1", np.add, A, floats(4)),
    row("BiasAdd", lambda x, b: x + b[:, None, None], floats(2, 3, 4, 5), floats(3), data_format=b"NCHW", name="NCHW"),
]  # fmt: skip


def _band(x: np.ndarray, lower: int, upper: int) -> np.ndarray:
    return np.tril(np.triu(x, -lower), upper)


def _scatter(indices: np.ndarray, updates: np.ndarray, shape: np.ndarray) -> np.ndarray:
    out = np.zeros(shape, updates.dtype)
    np.add.at(out, tuple(np.moveaxis(indices, -1, 0)), updates)
    return out


def _segments(function: Any, start: float) -> Any:
    def run(data: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
        out = np.full((count, *data.shape[1:]), start, data.dtype)
        for n, p in zip(data, places, strict=True):
            out[p] = function(out[p], n)
        return out

    return run


PLACES = np.array([0, 1, 1, 3])
GIVEN = integers(4, 3)
SQUARE = floats(2, 4, 4)
INDICES = np.array([[0, 1], [2, 3], [0, 1]], np.int32)
ARRAYS = [
    row("Sum", lambda x, a: x.sum(1), A, [1], constants=(1,), keep_dims=False),
    row("Sum", lambda x, a: x.sum((0, 2)), A, np.array([0, 2], np.int64), constants=(1,), Tidx=INT64,
        name="int64 axes"),
    row("Mean", lambda x, a: x.mean(-1, keepdims=True), A, [-1], constants=(1,), keep_dims=True),
    row("Max", lambda x, a: x.max(0), A, 0, constants=(1,)), row("Min", lambda x, a: x.min(0), A, 0, constants=(1,)),
    row("Prod", lambda x, a: x.prod(2), A, [2], constants=(1,)),
    row("Any", lambda x, a: x.any(1), FLAGS, [1], constants=(1,)),
    row("All", lambda x, a: x.all(1), FLAGS, [1], constants=(1,)),
    row("EuclideanNorm", lambda x, a: np.sqrt((x * x).sum(1)), A, [1], constants=(1,)),
    row("ArgMax", lambda x, a: x.argmax(1), A, 1, constants=(1,), output_type=INT64),
    row("ArgMin", lambda x, a: x.argmin(2).astype(np.int32), A, 2, constants=(1,), output_type=INT32),
    row("Cumsum", lambda x, a: x.cumsum(1), A, 1, constants=(1,)),
    row("Cumsum", lambda x, a: x[::-1].cumsum(0)[::-1] - x, LONG, 0, constants=(1,), T=INT64, exclusive=True,
        reverse=True, name="int64"),
    row("Reshape", lambda x, s: x.reshape(4, 6), A, [4, -1], constants=(1,)),
    row("Squeeze", lambda x: x.reshape(2, 3), floats(2, 1, 3, 1), squeeze_dims=(1, 3)),
    row("ExpandDims", lambda x, a: x[:, None], A, 1, constants=(1,)),
    row("Transpose", lambda x, p: x.transpose(2, 0, 1), A, [2, 0, 1], constants=(1,)),
    row("ConcatV2", lambda x, y, a: np.concatenate([x, y], 1), A, B, 1, constants=(2,), N=2),
    row("Concat", lambda a, x, y: np.concatenate([x, y], 2), 2, A, B, constants=(0,), N=2),
    row("Pack", lambda x, y: np.stack([x, y], 1), A, B, axis=1, N=2),
    row("Unpack", lambda x: [x[:, 0], x[:, 1], x[:, 2]], A, axis=1, num=3),
    row("Split", lambda a, x: np.split(x, 2, 2), 2, A, constants=(0,), num_split=2),
    row("SplitV", lambda x, s, a: np.split(x, [1], 1), A, [1, 2], 1, constants=(1, 2), num_split=2),
    row("StridedSlice", lambda x, *_: x[1, ::2, None, 1:], A, [1, 0, 0, 1], [2, 3, 0, 0], [1, 2, 1, 1], constants=(1,
        2, 3),
        begin_mask=0, end_mask=8, new_axis_mask=4, shrink_axis_mask=1, ellipsis_mask=0),
    row("Slice", lambda x, *_: x[:, 1:3, :2], A, [0, 1, 0], [2, 2, 2], constants=(1, 2)),
    row("Gather", lambda x, i: x[i], A, [1, 0, 1], constants=(1,)),
    row("GatherV2", lambda x, i, a: x[:, i], A, [[2, 0], [1, 1]], 1, constants=(2,), batch_dims=0),
    row("GatherNd", lambda x, i: x[[0, 1], [2, 0]], A, [[0, 2], [1, 0]]),
    row("ReverseV2", lambda x, a: x[:, ::-1], A, [1], constants=(1,)),
    row("ReverseSequence", lambda x, n: np.stack([x[0][[1, 0, 2]], x[1][[2, 1, 0]]]), A, [2, 3], seq_dim=1,
        batch_dim=0),
    row("Roll", lambda x, s, a: np.roll(x, (1, -2), (0, 2)), A, [1, -2], [0, 2], constants=(1, 2)),
    row("Tile", lambda x, n: np.tile(x, (1, 2, 1)), A, [1, 2, 1], constants=(1,)),
    row("BroadcastTo", lambda x, s: np.broadcast_to(x, (3, 2, 3)), floats(2, 1), [3, 2, 3], constants=(1,)),
    row("BroadcastArgs", lambda x, y: np.array([3, 2, 4], np.int32), [3, 1, 4], [2, 1], T=INT32),
    row("Fill", lambda s, v: np.full((2, 3), v), [2, 3], np.float32(1.5), constants=(0,)),
    row("Pad", lambda x, p: np.pad(x, [(0, 0), (1, 0), (0, 2)]), A, [[0, 0], [1, 0], [0, 2]], constants=(1,)),
    row("PadV2", lambda x, p, v: np.pad(x, [(0, 0), (1, 0), (0, 2)], constant_values=v), A, [[0, 0], [1, 0], [0, 2]],
        np.float32(9), constants=(1, 2)),
    row("MirrorPad", lambda x, p: np.pad(x, [(0, 0), (1, 0), (0, 2)], "symmetric"), A, [[0, 0], [1, 0], [0, 2]],
        constants=(1,), mode=b"SYMMETRIC"),
    row("DepthToSpace", lambda x: x.reshape(1, 2, 2, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 4, 1),
        floats(1, 2, 2, 4), block_size=2, data_format=b"NHWC"),
    row("SpaceToDepth", lambda x: x.reshape(1, 2, 2, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 2, 4),
        floats(1, 4, 4, 1), block_size=2),
    row("SpaceToBatchND", lambda x, *_: x.reshape(2, 2, 1).transpose(1, 0, 2), floats(1, 4, 1), [2], [[0, 0]],
        constants=(1, 2)),
    row("BatchToSpaceND", lambda x, *_: x.transpose(1, 0, 2).reshape(1, 4, 1), floats(2, 2, 1), [2], [[0, 0]],
        constants=(1, 2)),
    row("Identity", lambda x: x, A), row("StopGradient", lambda x: x, A), row("Snapshot", lambda x: x, A),
    row("PreventGradient", lambda x: x, A),
    row("IdentityN", lambda x, y: [x, y], A, I),
    row("Bitcast", lambda x: x.astype(np.float32).view(np.int32), A, type=INT32),
    row("Shape", lambda x: np.array([2, 3, 4]), A, out_type=INT64),
    row("Size", lambda x: np.int32(24), A, out_type=INT32),
    row("ShapeN", lambda x, y: [np.array(x.shape, np.int32), np.array(y.shape, np.int32)], A, B[0], N=2,
        out_type=INT32),
    row("Rank", lambda x: np.int32(3), A),
    row("Range", lambda *_: np.arange(2, 11, 3, dtype=np.int32), 2, 11, 3, T=INT32, constants=(0, 1, 2)),
    row("LinSpace", lambda *_: np.linspace(-1, 2, 7), np.float32(-1), np.float32(2), 7, constants=(2,)),
    row("OneHot", lambda i, d, a, b: np.where(np.arange(4) == i[:, None], a, b), [1, 3, 7], 4, np.float32(5),
        np.float32(-1),
        constants=(1,), axis=-1, TI=INT32),
    row("ScatterNd", _scatter, INDICES, floats(3), [3, 4], constants=(2,)),
    row("TensorScatterAdd", lambda x, i, u: x + _scatter(i, u, x.shape), floats(3, 4), INDICES, floats(3)),
    row("TensorScatterSub", lambda x, i, u: x - _scatter(i, u, x.shape), floats(3, 4), INDICES, floats(3)),
    row("InvertPermutation", lambda x: np.argsort(x).astype(np.int32), [2, 0, 3, 1], T=INT32),
    row("SparseToDense", lambda i, s, v, z: np.array([0, 5, 0, 6], np.int32), [1, 3], [4], [5, 6], 0, T=INT32,
        constants=(1,)),
    row("SegmentSum", lambda x, p: _segments(np.add, 0)(x, p, 4), GIVEN, PLACES, T=INT32, constants=(1,)),
    row("UnsortedSegmentSum", _segments(np.add, 0), GIVEN, PLACES, 5, T=INT32, constants=(2,)),
    row("UnsortedSegmentMax", _segments(np.maximum, -(1 << 31)), GIVEN, PLACES, 5, T=INT32, constants=(2,)),
    row("UnsortedSegmentMin", _segments(np.minimum, (1 << 31) - 1), GIVEN, PLACES, 5, T=INT32, constants=(2,)),
    row("UnsortedSegmentProd", _segments(np.multiply, 1), GIVEN, PLACES, 5, T=INT32, constants=(2,)),
    row("TopKV2", lambda x, k: [-np.sort(-x)[..., :2], np.argsort(-x)[..., :2].astype(np.int32)], A, 2, constants=(1,)),
    row("Unique", lambda x: [np.array([4, 1, 7], np.int32), np.array([0, 1, 0, 2], np.int32)], [4, 1, 4, 7], T=INT32,
        out_idx=INT32),
    row("Where", lambda x: np.argwhere(x), FLAGS),
    row("MatrixDiag", lambda x: x[..., None] * np.eye(4), floats(3, 4)),
    row("MatrixSetDiag", lambda x, v: np.where(np.eye(4) == 1, v[..., None], x), SQUARE, floats(2, 4)),
    row("MatrixDiagPart", lambda x: np.diagonal(x, 0, -2, -1), floats(2, 3, 4)),
    *(row(f"MatrixDiag{v}", lambda x, *_: x[..., None] * np.eye(4), floats(3, 4), 0, -1, -1, np.float32(0),
          constants=(1, 2, 3, 4)) for v in ("V2", "V3")),
    *(row(f"MatrixSetDiag{v}", lambda x, u, k: np.where(np.eye(4) == 1, u[..., None], x), SQUARE, floats(2, 4), [0],
          constants=(2,)) for v in ("V2", "V3")),
    *(row(f"MatrixDiagPart{v}", lambda x, *_: np.diagonal(x, 0, -2, -1), floats(2, 3, 4), [0, 0], np.float32(0),
          constants=(1, 2)) for v in ("V2", "V3")),
    row("EnsureShape", lambda x: x, A, shape=Sizes((2, -1, 4))),
    row("MatrixBandPart", lambda x, *_: _band(x, 1, 4), SQUARE, 1, -1, constants=(1, 2), Tindex=INT32),
    row("MatrixBandPart", lambda x, *_: _band(x, 2, 0), SQUARE, 2, 0, constants=(1, 2), Tindex=INT32, name="lower"),
]  # fmt: skip


def _convolved(x: np.ndarray, w: np.ndarray, stride: int = 1, pad: int = 0) -> np.ndarray:
    """VALID convolution after a padding, by definition: x[n, h, w, c], w[kh, kw, c, o]."""
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    kh, kw = w.shape[:2]
    rows, columns = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    return np.stack([
        np.stack([
            np.einsum("nhwc,hwco->no", x[:, i * stride : i * stride + kh, j * stride : j * stride + kw], w)
            for j in range(columns)], 1)
        for i in range(rows)], 1)  # fmt: skip


def _depthwise(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    parts = [_convolved(x[..., i : i + 1], w[:, :, i : i + 1, :]) for i in range(w.shape[2])]
    return np.concatenate(parts, -1)


def _back(x: np.ndarray, w: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """What a VALID convolution of stride 2 spreads back: w[kh, kw, out, in]."""
    out = np.zeros((x.shape[0], rows, columns, w.shape[2]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, 2 * i : 2 * i + w.shape[0], 2 * j : 2 * j + w.shape[1]] += np.einsum("nc,hwoc->nhwo", x[:, i, j], w)
    return out


IMAGE = floats(2, 5, 6, 3)
MEANS, SPREADS = floats(3), floats(3, low=0.5)
STRIDE = (1, 1, 1, 1)


def _einsum(equation: str, *arrays: np.ndarray) -> Row:
    return row("Einsum", lambda *x: np.einsum(equation, *x), *arrays, equation=equation, N=len(arrays), name=equation)


def _boxes(*more: Any, op: str, expected: Any, **attributes: Any) -> Row:
    boxes = np.array([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 5, 1, 6]], np.float32)
    return row(op, expected, boxes, f32(0.9, 0.75, 0.6), 3, np.float32(0.5), np.float32(0.1), *more, constants=(2,),
               **attributes)  # fmt: skip


LAYERS = [
    row("MatMul", lambda x, y: x @ y, floats(3, 4), floats(4, 5), constants=(1,), name="weights"),
    row("MatMul", lambda x, y: x @ y.T, floats(3, 4), floats(5, 4), constants=(1,), transpose_b=True, name="turned"),
    row("MatMul", lambda x, y: x.T @ y, floats(4, 3), floats(4, 5), transpose_a=True, transpose_b=False),
    row("BatchMatMul", np.matmul, floats(2, 3, 4), floats(2, 4, 5)),
    row("BatchMatMulV2", lambda x, y: x @ y.swapaxes(-1, -2), floats(2, 3, 4), floats(2, 5, 4), adj_y=True),
    row("BatchMatMulV3", np.matmul, floats(2, 3, 4), floats(4, 5), Ta=FLOAT32, Tb=FLOAT32, Tout=FLOAT32),
    _einsum("abc,cd->abd", floats(2, 3, 4), floats(4, 5)),
    _einsum("BTNH,BFNH->BNFT", floats(2, 3, 4, 5), floats(2, 6, 4, 5)),
    _einsum("BNFT,BTNH->BFNH", floats(2, 4, 6, 3), floats(2, 3, 4, 5)), _einsum("abc,cde->abde", A, floats(4, 2, 3)),
    _einsum("i,j->ij", floats(3), floats(4)), _einsum("abc->ca", A), _einsum("ij->ji", floats(3, 4)),
    row("Conv2D", _convolved, IMAGE, floats(3, 2, 3, 4), constants=(1,), strides=STRIDE, padding=b"VALID"),
    row("Conv2D", lambda x, w: _convolved(x, w, 2), IMAGE, floats(2, 2, 3, 4), strides=(1, 2, 2, 1), padding=b"VALID",
        data_format=b"NHWC", dilations=STRIDE, name="computed filter"),
    row("Conv2D", lambda x, w: _convolved(x, w, 1, 1), IMAGE, floats(3, 3, 3, 4), constants=(1,), strides=STRIDE,
        padding=b"EXPLICIT", explicit_paddings=(0, 0, 1, 1, 1, 1, 0, 0), name="padded"),
    row("DepthwiseConv2dNative", _depthwise, IMAGE, floats(3, 2, 3, 2), constants=(1,), strides=STRIDE,
        padding=b"VALID"),
    row("Conv2DBackpropInput", lambda s, w, x: _back(x, w, 9, 7), [2, 9, 7, 4], floats(3, 3, 4, 2), floats(2, 4, 3, 2),
        constants=(0, 1), strides=(1, 2, 2, 1), padding=b"VALID"),
    row("Conv3D", lambda x, w: _convolved(x[0], w[0])[None], floats(1, 2, 5, 6, 3), floats(1, 3, 2, 3, 4),
        constants=(1,),
        strides=(1, 1, 1, 1, 1), padding=b"VALID"),
    row("MaxPool", lambda x: x[:, :4].reshape(2, 2, 2, 3, 2, 3).max((2, 4)), IMAGE, ksize=(1, 2, 2, 1),
        strides=(1, 2, 2, 1), padding=b"VALID"),
    row("AvgPool", lambda x: x[:, :4].reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), IMAGE, ksize=(1, 2, 2, 1),
        strides=(1, 2, 2, 1), padding=b"VALID", data_format=b"NHWC"),
    *(row(op, lambda x, s, o, m, v: [(x - m) / np.sqrt(v + 1e-3) * s + o, m, v], IMAGE, floats(3), floats(3), MEANS,
        SPREADS,
          constants=(1, 2, 3, 4), epsilon=1e-3, is_training=False, U=FLOAT32)
      for op in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")),
    row("LRN", lambda x: x / np.sqrt(2 + 0.5 * (x * x).sum(-1, keepdims=True)), floats(1, 2, 2, 3), depth_radius=5,
        bias=2.0, alpha=0.5, beta=0.5),
    row("ResizeNearestNeighbor", lambda x, s: x.repeat(2, 1).repeat(3, 2), floats(1, 2, 3, 2), [4, 9], constants=(1,)),
    row("ResizeBilinear", lambda x, s: np.stack([x[:, 0], x.mean(1), x[:, 1]], 1), floats(1, 2, 3, 2), [3, 3],
        constants=(1,),
        align_corners=True),
    row("RFFT", lambda x, n: np.fft.rfft(x).astype(np.complex64), floats(3, 8), [8], constants=(1,), Treal=FLOAT32,
        relative=1e-4),
    row("RFFT2D", lambda x, n: np.fft.rfft2(x).astype(np.complex64), floats(4, 8), [4, 8], constants=(1,),
        relative=1e-4),
    _boxes(op="NonMaxSuppressionV3", expected=lambda *_: np.array([0, 2], np.int32)),
    _boxes(op="NonMaxSuppressionV4", expected=lambda *_: [np.array([0, 2, 0], np.int32), np.int32(2)],
           pad_to_max_output_size=True),
    _boxes(np.float32(0), op="NonMaxSuppressionV5", pad_to_max_output_size=False,
           expected=lambda *_: [np.array([0, 2], np.int32), f32(0.9, 0.6), np.int32(2)]),
]  # fmt: skip


# gradients: what the operator's own definition gives, differentiated by hand


def _first_largest(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The gradient of the largest of each 2 x 2 window, to the first of them."""
    made = np.zeros_like(x)
    for n, i, j, c in np.ndindex(dy.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        a, b = np.unravel_index(window.argmax(), window.shape)
        made[n, 2 * i + a, 2 * j + b, c] = dy[n, i, j, c]
    return made


def _largest(x: np.ndarray) -> np.ndarray:
    batch, rows, columns, channels = x.shape
    even = x[:, : rows // 2 * 2, : columns // 2 * 2]
    return even.reshape(batch, rows // 2, 2, columns // 2, 2, channels).max((2, 4))


def _by_filter(x: np.ndarray, dy: np.ndarray, shape: Sequence[int], stride: int, dilation: int, before: int) -> Any:
    """Each element of the filter: what it was multiplied with, times what came of it."""
    height, width, *_ = shape
    rows, columns = dy.shape[1:3]
    padded = np.pad(x, [(0, 0), (before, 9), (before, 9), (0, 0)])
    made = np.zeros(shape)
    for i, j in np.ndindex(height, width):
        seen = padded[:, i * dilation :, j * dilation :][:, : rows * stride : stride, : columns * stride : stride]
        made[i, j] = np.einsum("nhwi,nhwo->io", seen, dy)
    return made


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _cross_entropy(x: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    return [-(labels * np.log(_softmax(x))).sum(-1), _softmax(x) - labels]


def _by_normalized(dy: np.ndarray, x: np.ndarray, scale: np.ndarray, mean: np.ndarray, variance: np.ndarray, *_: Any,
                   training: bool = True) -> list[np.ndarray]:  # fmt: skip
    root, count = 1 / np.sqrt(variance + 1e-3), x.size / x.shape[-1]
    normal = (x - mean) * root
    by_scale, by_offset = (dy * normal).sum((0, 1, 2)), dy.sum((0, 1, 2))
    by_x = dy - by_offset / count - normal * by_scale / count if training else dy
    return [by_x * scale * root, by_scale, by_offset]


def _normalized(x: np.ndarray, scale: np.ndarray, offset: np.ndarray, *_: Any) -> list[np.ndarray]:
    mean, variance, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size / x.shape[-1]
    return [(x - mean) / np.sqrt(variance + 1e-3) * scale + offset, mean, variance * count / (count - 1)]


SLOPE, PICTURE, LOGITS = floats(3, 4), floats(2, 5, 6, 3), floats(4, 5)
SHARES = _softmax(floats(4, 5)).astype(np.float32)
WINDOWS: dict[str, Any] = {"ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": b"VALID"}
OF_PICTURE = (PICTURE.mean((0, 1, 2)), PICTURE.var((0, 1, 2)))
NOTHING = np.zeros(0, np.float32)
GRADIENTS = [
    row("ReluGrad", lambda dy, x: dy * (x > 0), SLOPE, floats(3, 4)),
    row("Relu6Grad", lambda dy, x: dy * ((x > 0) & (x < 6)), SLOPE, floats(3, 4, high=9)),
    row("LeakyReluGrad", lambda dy, x: np.where(x > 0, dy, dy * 0.1), SLOPE, floats(3, 4), alpha=0.1),
    row("EluGrad", lambda dy, y: np.where(y < 0, dy * (y + 1), dy), SLOPE, floats(3, 4, low=-1)),
    row("SeluGrad", lambda dy, y: np.where(y < 0, dy * (y + 1.7580993408473768), dy * 1.0507009873554805), SLOPE,
        floats(3, 4, low=-1)),
    row("SoftplusGrad", lambda dy, x: dy / (1 + np.exp(-x)), SLOPE, floats(3, 4)),
    row("SoftsignGrad", lambda dy, x: dy / (1 + np.abs(x)) ** 2, SLOPE, floats(3, 4)),
    row("SigmoidGrad", lambda y, dy: dy * y * (1 - y), floats(3, 4, low=0, high=1), SLOPE),
    row("TanhGrad", lambda y, dy: dy * (1 - y * y), floats(3, 4, low=-1, high=1), SLOPE),
    row("SqrtGrad", lambda y, dy: dy / (2 * y), floats(3, 4, low=0.5), SLOPE),
    row("RsqrtGrad", lambda y, dy: -dy * y**3 / 2, floats(3, 4, low=0.5), SLOPE),
    *(row(op, lambda y, dy: -dy * y * y, floats(3, 4), SLOPE) for op in ("ReciprocalGrad", "InvGrad")),
    row("BiasAddGrad", lambda dy: dy.sum((0, 1, 2)), PICTURE, data_format=b"NHWC"),
    row("SoftmaxCrossEntropyWithLogits", _cross_entropy, LOGITS, SHARES),
    row("SparseSoftmaxCrossEntropyWithLogits", lambda x, i: _cross_entropy(x, np.eye(5)[i]), LOGITS, [0, 4, 2, 2]),
    row("BroadcastGradientArgs", lambda a, b: [np.array([1], np.int32), np.array([0, 2], np.int32)], [2, 1, 3, 4],
        [3, 1, 4], constants=(0, 1), T=INT32),
    row("MaxPoolGrad", lambda x, y, dy: _first_largest(x, dy), PICTURE, _largest(PICTURE), floats(2, 2, 3, 3),
        **WINDOWS),
    row("AvgPoolGrad", lambda s, dy: np.pad(dy.repeat(2, 1).repeat(2, 2) / 4, [(0, 0), (0, 1), (0, 0), (0, 0)]),
        [2, 5, 6, 3], floats(2, 2, 3, 3), constants=(0,), **WINDOWS),
    row("Conv2DBackpropFilter", lambda x, s, dy: _by_filter(x, dy, s, 1, 1, 1), PICTURE, [3, 3, 3, 4],
        floats(2, 5, 6, 4), constants=(1,), strides=(1, 1, 1, 1), padding=b"SAME", relative=1e-4),
    row("Conv2DBackpropFilter", lambda x, s, dy: _by_filter(x, dy, s, 2, 1, 0), PICTURE, [2, 3, 3, 4],
        floats(2, 2, 2, 4), constants=(1,), strides=(1, 2, 2, 1), padding=b"VALID", relative=1e-4, name="in steps"),
    *(row(op, _normalized, PICTURE, floats(3), floats(3), NOTHING, NOTHING, epsilon=1e-3,
          is_training=True, U=FLOAT32, relative=1e-4, name="of a batch")
      for op in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")),
    row("FusedBatchNormV3", lambda x, s, o, *_: [np.moveaxis(_normalized(np.moveaxis(x, 1, 3), s, o)[0], 3, 1)],
        PICTURE, floats(5), floats(5), NOTHING, NOTHING, epsilon=1e-3, is_training=True, U=FLOAT32, data_format=b"NCHW",
        relative=1e-4, name="of channels that come first"),
    *(row(op, _by_normalized, floats(2, 5, 6, 3), PICTURE, floats(3), *OF_PICTURE, *more, epsilon=1e-3,
          is_training=True, U=FLOAT32, relative=1e-4)
      for op, more in (("FusedBatchNormGrad", ()), ("FusedBatchNormGradV2", ()),
                       ("FusedBatchNormGradV3", (NOTHING,)))),
    row("FusedBatchNormGradV3", lambda *x: _by_normalized(*x, training=False), floats(2, 5, 6, 3), PICTURE, floats(3),
        *OF_PICTURE, NOTHING, epsilon=1e-3, is_training=False, U=FLOAT32, relative=1e-4, name="of given"),
    row("Conv2D", lambda x, w: np.einsum("nhwcm,cm->nhwcm", x[..., None], w[0, 0].reshape(3, 2)).reshape(2, 5, 6, 6),
        PICTURE, floats(1, 1, 1, 6), constants=(1,), strides=STRIDE, padding=b"VALID", name="of one channel each"),
]  # fmt: skip

ROWS = [*UNARY, *BINARY, *ARRAYS, *LAYERS, *GRADIENTS]
