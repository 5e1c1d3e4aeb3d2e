"""Operators between DequantizeLinear and QuantizeLinear, written as quantized builtins.

    Q(Conv(DQ(x), DQ(w), DQ(b)))  ->  CONV_2D on int8, with the scales and zero points of x, w and the result

A value of floats that stands for integers keeps the integer tensor beside it (`Scope.integers`). Where all of a node's
operands have one and its result goes to QuantizeLinear alone, the node is written on these. Tensors of uint8 become
int8 with their zero point moved, because that is what the kernels take; what the graph gives out is uint8 again.
Whatever does not fit is written as floats between DEQUANTIZE and QUANTIZE, which gives the same numbers, slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import RULES, Call, attribute
from lithe.conversion.onnx.pictures import window_of
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY, Site
from lithe.ops.verify import has_rule
from lithe.passes.infer_shapes import inferred
from lithe.passes.writer import Inexpressible
from lithe.types import FLOAT32, INT8, INT32, UINT8, DType, Quantization, TensorType

if TYPE_CHECKING:
    from lithe.conversion.onnx.graph import Scope

SHIFT = 128  # what separates the zero points of uint8 and int8
FIXED = {"SOFTMAX": (1 / 256, -128), "LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}  # the kernels' result scales


@dataclass(frozen=True)
class Parameters:
    """Scales and zero points of one tensor, or of each slice of an axis."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int

    @property
    def whole(self) -> bool:
        return self.scale.size == 1


def parameters(c: Call, scale: int, zero: int, axis: int, dtype: DType) -> Parameters | None:
    """Those of a QuantizeLinear or DequantizeLinear to int8 or uint8, as int8; None where they are computed."""
    given = c.known(scale)
    if given is None or dtype not in (INT8, UINT8) or given.ndim > 1 or c.attr("block_size", 0):
        return None
    points = c.known(zero) if c.has(zero) else np.zeros(given.shape, np.int64)
    if points is None:
        return None
    moved = points.astype(np.int64) - (SHIFT if dtype == UINT8 else 0)
    scales = np.asarray(given, np.float64).reshape(-1)
    if not np.all(np.isfinite(scales) & (scales > 0)):
        return None
    return Parameters(scales, np.broadcast_to(moved.reshape(-1), scales.shape), axis)


def quantization(p: Parameters, rank: int) -> Quantization:
    axis = p.axis % max(rank, 1)
    return Quantization(tuple(float(s) for s in p.scale), tuple(int(z) for z in p.zero), 0 if p.whole else axis)


def made(b: Builder, op: str, inputs: Sequence[Tensor | None], kind: Quantization | None, dtype: DType = INT8,
         **attrs: Any) -> Tensor:  # fmt: skip
    """The result of a builtin on quantized tensors."""
    cls = REGISTRY.by_name[op]
    result = Tensor(f"{b.name()}/{len(b.tensors)}", TensorType(dtype, (), kind))
    node = Node(cls, cls.Attrs(**attrs), list(inputs), [result])
    b.require(has_rule(node), f"{op} of {', '.join(str(t.type) for t in inputs if t is not None)}")
    (shape,) = inferred(node, Site.of(node))
    result.type = replace(result.type, shape=tuple(int(n) for n in shape))
    b.nodes.append(node)
    b.tensors.append(result)
    return result


def requantized(b: Builder, x: Tensor, kind: Quantization, dtype: DType = INT8) -> Tensor:
    """The same numbers by another scale."""
    return x if x.type.quantization == kind and x.type.dtype == dtype else made(b, "QUANTIZE", [x], kind, dtype)


def as_int8(b: Builder, x: Tensor, p: Parameters) -> Tensor:
    """An integer tensor of the model as int8 with its scale; constants are moved at once."""
    kind = quantization(p, x.type.rank)
    if x.data is not None:
        data = x.data.astype(np.int64) - (SHIFT if x.type.dtype == UINT8 else 0)
        return Tensor(f"{b.name()}/integers{len(b.tensors)}", TensorType(INT8, data.shape, kind), data.astype(np.int8))
    if x.type.dtype == INT8:
        x.type = replace(x.type, quantization=kind)
        return x
    x.type = replace(x.type, quantization=replace(kind, zero_point=tuple(z + SHIFT for z in kind.zero_point)))
    return made(b, "QUANTIZE", [x], kind)


# the rules: (builder, call, operands as int8 or None, the result's quantization, fused activation) -> int8


Integer = Callable[[Builder, Call, Sequence["Tensor | None"], Quantization, str], Tensor]


def _symmetric(t: Tensor | None) -> bool:
    return t is not None and t.data is not None and t.type.quantization is not None and not any(
        t.type.quantization.zero_point)  # fmt: skip


def _bias(b: Builder, c: Call, i: int, x: Tensor, weights: Quantization) -> Tensor | None:
    """int32 with the product of the scales of input and weights."""
    if not c.has(i):
        return None
    value = c.array(i, "the bias").astype(np.float64).reshape(-1)
    kind = _bias_scale(x, weights)
    data = np.clip(np.rint(value / np.asarray(kind.scale)), -(2**31), 2**31 - 1).astype(np.int32)
    return Tensor(f"{b.name()}/bias{len(b.tensors)}", TensorType(INT32, data.shape, kind), data)


def _bias_scale(x: Tensor, weights: Quantization) -> Quantization:
    assert x.type.quantization is not None
    scale = np.asarray(weights.scale) * x.type.quantization.scale[0]
    return Quantization(tuple(map(float, scale)), (0,) * len(scale))


def _turned(b: Builder, x: Tensor, order: Sequence[int]) -> Tensor:
    if list(order) == sorted(order):
        return x
    return made(b, "TRANSPOSE", [x, b.constant(list(order))], x.type.quantization)


def _last(b: Builder, x: Tensor) -> Tensor:
    return _turned(b, x, [0, *range(2, x.type.rank), 1])


def _first(b: Builder, x: Tensor) -> Tensor:
    return _turned(b, x, [0, x.type.rank - 1, *range(1, x.type.rank - 1)])


def convolution(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
    x, weights = xs[0], xs[1]
    b.require(x is not None and _symmetric(weights) and x.type.rank == 4, "such a convolution")
    assert x is not None
    assert weights is not None
    assert weights.data is not None
    window, groups = window_of(c, weights.type.shape[2:], x.type.shape[2:]), c.attr("group", 1)
    scales = weights.type.quantization
    assert scales is not None
    bias = _bias(b, c, 2, x, scales)
    picture = _last(b, x)
    padding = "VALID"
    if any(a or z for a, z in window.padding):
        padding = "SAME" if window.is_same(picture.type.shape[1:-1]) else "VALID"
        if padding == "VALID":
            b.require(all(a >= 0 and z >= 0 for a, z in window.padding), "padding that cuts off")
            pairs = [[0, 0], *(list(p) for p in window.padding), [0, 0]]
            picture = made(b, "PAD", [picture, b.constant(pairs)], picture.type.quantization)
    (stride_h, stride_w), (dilation_h, dilation_w) = window.strides, window.dilations
    channels, outputs = picture.type.shape[-1], weights.type.shape[0]
    depthwise = groups == channels and weights.type.shape[1] == 1 and groups > 1
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    data = np.ascontiguousarray(weights.data.transpose(order))
    own = replace(scales, axis=axis if scales.per_channel else 0)
    turned = Tensor(weights.name, TensorType(INT8, data.shape, own), data)
    attrs: dict[str, Any] = {"padding": padding, "stride_h": stride_h, "stride_w": stride_w,
                             "dilation_h_factor": dilation_h, "dilation_w_factor": dilation_w,
                             "fused_activation_function": activation}  # fmt: skip
    if bias is None:
        bias = _no_bias(b, outputs, x, scales)
    if depthwise:
        y = made(b, "DEPTHWISE_CONV_2D", [picture, turned, bias], kind, depth_multiplier=outputs // channels, **attrs)
    else:
        y = made(b, "CONV_2D", [picture, turned, bias], kind, **attrs)
    return _first(b, y)


def _no_bias(b: Builder, outputs: int, x: Tensor, weights: Quantization) -> Tensor:
    kind = _bias_scale(x, weights)
    return Tensor(f"{b.name()}/bias{len(b.tensors)}", TensorType(INT32, (outputs,), kind), np.zeros(outputs, np.int32))


def product(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
    """Constant weights by FULLY_CONNECTED, computed ones by BATCH_MATMUL."""
    x, weights = xs[0], xs[1]
    assert x is not None
    assert weights is not None
    gemm = c.op == "Gemm"
    plain = not gemm or (c.attr("alpha", 1.0) == 1 and c.attr("beta", 1.0) == 1 and not c.attr("transA", 0))
    b.require(plain and x.type.rank >= 2, "such a product")
    if weights.data is None:
        b.require(not gemm and not activation.startswith("RELU"), "such a product")
        return made(b, "BATCH_MATMUL", [x, weights], kind)
    b.require(_symmetric(weights) and weights.type.rank == 2, "weights with a zero point")
    scales = weights.type.quantization
    assert scales is not None
    rows_first = gemm and bool(c.attr("transB", 0))
    b.require(not scales.per_channel or scales.axis == (0 if rows_first else 1), "scales along the summed axis")
    data = weights.data if rows_first else np.ascontiguousarray(weights.data.T)
    turned = Tensor(weights.name, TensorType(INT8, data.shape, replace(scales, axis=0)), data)
    bias = _bias(b, c, 2, x, scales) if gemm else None
    if bias is None:
        bias = _no_bias(b, data.shape[0], x, scales)
    b.require(bias.type.shape == (data.shape[0],), "such a bias")
    return made(b, "FULLY_CONNECTED", [x, turned, bias], kind, keep_num_dims=x.type.rank > 2,
                fused_activation_function=activation)  # fmt: skip


def _binary(op: str) -> Integer:
    def write(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
        return made(b, op, list(xs[:2]), kind, fused_activation_function=activation)

    return write


def _unary(op: str, **attrs: Any) -> Integer:
    def write(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
        x = xs[0]
        assert x is not None
        if op == "SOFTMAX":
            b.require(c.attr("axis", -1) % x.type.rank == x.type.rank - 1, "such a softmax")
        given = {"alpha": float(c.attr("alpha", 0.01))} if op == "LEAKY_RELU" else attrs
        own = Quantization((FIXED[op][0],), (FIXED[op][1],)) if op in FIXED else kind
        return requantized(b, made(b, op, [x], own, **given), kind)

    return write


def mean(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
    x = xs[0]
    assert x is not None
    return made(b, "MEAN", [x, b.constant(list(range(2, x.type.rank)))], kind, keep_dims=True)


def pooled(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
    x = xs[0]
    assert x is not None
    window = window_of(c, c.attr("kernel_shape"), x.type.shape[2:])
    largest = c.op == "MaxPool"
    padded = any(a or z for a, z in window.padding)
    fits = len(window.size) == 2 and set(window.dilations) == {1} and not c.attr("ceil_mode", 0)
    same = padded and window.is_same(x.type.shape[2:])
    b.require(fits and (not padded or (same and (largest or not c.attr("count_include_pad", 0)))), "such a pooling")
    (height, width), (stride_h, stride_w) = window.size, window.strides
    y = made(b, "MAX_POOL_2D" if largest else "AVERAGE_POOL_2D", [_last(b, x)], x.type.quantization,
             padding="SAME" if same else "VALID", filter_height=height, filter_width=width, stride_h=stride_h,
             stride_w=stride_w)  # fmt: skip
    return requantized(b, _first(b, y), kind)


def concatenation(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
    parts = [requantized(b, x, kind) for x in xs if x is not None]
    return made(b, "CONCATENATION", parts, kind, axis=c.attr("axis") % parts[0].type.rank)


def transposed(b: Builder, c: Call, xs: Sequence[Tensor | None], kind: Quantization, activation: str) -> Tensor:
    """The whole result, of which the padding is cut off."""
    x, weights = xs[0], xs[1]
    b.require(x is not None and _symmetric(weights) and x.type.rank == 4, "such a transposed convolution")
    assert x is not None
    assert weights is not None
    assert weights.data is not None
    scales = weights.type.quantization
    assert scales is not None
    plain = c.attr("group", 1) == 1 and c.attr("auto_pad", "NOTSET") == "NOTSET" and c.attr("output_shape") is None
    plain = plain and set(c.attr("dilations", [1])) == {1} and (not scales.per_channel or scales.axis == 1)
    strides, pads, more = c.attr("strides", [1, 1]), c.attr("pads", [0] * 4), c.attr("output_padding", [0, 0])
    b.require(plain and min(pads) >= 0 and all(m <= p for m, p in zip(more, pads[2:], strict=True)),
              "such a transposed convolution")  # fmt: skip
    data = np.ascontiguousarray(weights.data.transpose(1, 2, 3, 0))
    turned = Tensor(weights.name, TensorType(INT8, data.shape, replace(scales, axis=0)), data)
    bias = _bias(b, c, 2, x, scales) or _no_bias(b, data.shape[0], x, scales)
    picture = _last(b, x)
    places = zip(picture.type.shape[1:3], strides, data.shape[1:3], strict=True)
    shape = [picture.type.shape[0], *((n - 1) * s + k for n, s, k in places), data.shape[0]]
    y = made(b, "TRANSPOSE_CONV", [b.shape_operand(shape), turned, picture, bias], kind, padding="VALID",
             stride_h=strides[0], stride_w=strides[1], fused_activation_function=activation)  # fmt: skip
    size = [n - lo - hi + m for n, lo, hi, m in zip(shape[1:3], pads[:2], pads[2:], more, strict=True)]
    if size != shape[1:3]:
        begin, wanted = [0, *pads[:2], 0], [shape[0], *size, shape[3]]
        y = made(b, "SLICE", [y, b.constant(begin), b.shape_operand(wanted)], kind)
    return _first(b, y)


# operators that look at no element: the rule for floats, on the integers
MOVED = {
    "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


def moved(b: Builder, c: Call, x: Tensor) -> list[Tensor]:
    """The results, by the scale of the operand."""
    more = c.operands[1:]
    if c.op == "Pad" and c.attr("mode", "constant") == "constant":
        value = c.known(2) if c.has(2) else np.asarray(c.attr("value", 0.0))
        b.require(value is not None and not value.any(), "padding with another number than zero")
        more = [None if i == 1 else v for i, v in enumerate(more)]  # the builtin pads with what stands for zero
    before = len(b.nodes)
    results = RULES[c.op](b, replace(c, operands=[x, *more]))
    for node in b.nodes[before:]:
        for t in node.outputs:
            if t.type.dtype == INT8:
                t.type = replace(t.type, quantization=x.type.quantization)
        integers = not any(t.type.dtype.is_float for t in node.outputs)
        b.require(integers and has_rule(node), f"{node.op.name} of integers")
    return [results] if isinstance(results, Tensor) else list(results)


INTEGERS: dict[str, Integer] = {
    "Conv": convolution, "Gemm": product, "MatMul": product, "Add": _binary("ADD"), "Sub": _binary("SUB"),
    "Mul": _binary("MUL"), "GlobalAveragePool": mean, "AveragePool": pooled, "MaxPool": pooled,
    "Sigmoid": _unary("LOGISTIC"), "Tanh": _unary("TANH"), "Softmax": _unary("SOFTMAX", beta=1.0),
    "Relu": _unary("RELU"), "LeakyRelu": _unary("LEAKY_RELU"), "HardSwish": _unary("HARD_SWISH"),
    "Concat": concatenation, "ConvTranspose": transposed,
}  # fmt: skip
MORE_THAN_ONE = {"Concat": None, **dict.fromkeys(("Add", "Sub", "Mul", "Conv", "ConvTranspose", "Gemm", "MatMul"), 2)}
FUSED = {"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul"}


def written(scope: Scope, c: Call, node: Any) -> list[Tensor] | None:
    """The node on integers: its results as floats, with the integers beside them. None where it does not fit."""
    try:
        with scope.b.trial():
            if node.op_type in MOVED:
                return _moved(scope, c, node)
            return _computed(scope, c, node) if node.op_type in INTEGERS else None
    except Inexpressible:
        return None


def _moved(scope: Scope, c: Call, node: Any) -> list[Tensor] | None:
    x = scope.integers.get(node.input[0])
    if x is None or x.data is not None or x.type.quantization is None or x.type.quantization.per_channel:
        return None
    results = moved(scope.b, c, x)
    scope.integers.update(zip(node.output, results, strict=True))
    return [made(scope.b, "DEQUANTIZE", [y], None, FLOAT32) for y in results]


def _computed(scope: Scope, c: Call, node: Any) -> list[Tensor] | None:
    if len([o for o in node.output if o]) != 1:
        return None
    count = MORE_THAN_ONE.get(node.op_type, 1)
    names = list(node.input) if count is None else list(node.input)[:count]
    xs = [scope.integers.get(name) for name in names]
    if any(x is None for x in xs) or all(x is None or x.data is not None for x in xs):
        return None
    end, activation = _end(scope, node)
    if end is None:
        return None
    wanted = parameters(end, 1, 2, end.attr("axis", 1), _stored_dtype(end))
    if wanted is None or not wanted.whole:
        return None
    result = INTEGERS[node.op_type](scope.b, c, xs, quantization(wanted, 1), activation)
    for name in (node.output[0], end.origin["node"].input[0]):
        scope.integers[name] = result
    if activation != "NONE":
        scope.done.add(end.origin["node"].input[0])
    return [made(scope.b, "DEQUANTIZE", [result], None, FLOAT32)]


def _end(scope: Scope, node: Any) -> tuple[Call | None, str]:
    """The QuantizeLinear that alone reads a node's result, perhaps after an activation."""
    reader, activation = _only_reader(scope, node.output[0]), "NONE"
    if reader is not None and node.op_type in FUSED and _activation(scope, reader):
        activation, reader = _activation(scope, reader), _only_reader(scope, reader.output[0])
    if reader is None or reader.op_type != "QuantizeLinear":
        return None, "NONE"
    operands = [scope.values.get(name) if name else None for name in reader.input]
    attributes = {a.name: attribute(a) for a in reader.attribute}
    call = Call("QuantizeLinear", 0, attributes, operands, list(reader.output), scope, scope.b, {"node": reader})
    return call, activation


def _only_reader(scope: Scope, name: str) -> Any:
    readers = scope.readers.get(name, [])
    return readers[0] if len(readers) == 1 and scope.uses[name] == 1 else None


def _activation(scope: Scope, node: Any) -> str:
    """The fused activation that a node is, or nothing."""
    if node.op_type == "Relu":
        return "RELU"
    if node.op_type != "Clip" or len(node.input) != 3:
        return ""
    bounds = [scope.values.get(n) for n in node.input[1:]]
    if not all(isinstance(v, np.ndarray) for v in bounds):
        return ""
    ends = tuple(float(np.asarray(v).reshape(-1)[0]) for v in bounds)
    names: dict[tuple[float, ...], str] = {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
    return names.get(ends, "")


def _stored_dtype(c: Call) -> DType:
    """The type that QuantizeLinear gives."""
    if c.has(2):
        return c.dtype(2)
    return UINT8
