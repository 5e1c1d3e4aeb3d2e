"""Which version of an operator a node needs, and which runtime a model needs.

The official runtime refuses a model whose operator versions are newer than it knows, so a writer states the
least version that covers the element types and options in use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from lithe.formats.tflite.runtime_table import RUNTIMES
from lithe.ir.graph import Node, Tensor
from lithe.types import FLOAT32, DType

# One line an operator: "version=condition ...", the first that holds counts, else 1 (or the bare number at the end).
# A condition joins terms by "&":  0:int8/uint8  type of input 0     o0:int16  type of output 0
#     name  an option that is set      name!  an option that is not      r0>4  rank of input 0      n2  two inputs
#     pc1   input 1 is per channel     q0 u0  input 0 is quantized, is not      <word>  a rule of its own, below
# Source: the official converter's operator versions (2.23).
_RULES = """
CONV_2D: 8=0:int16&1:int8&quantized_bias_type 6=<grouped> 3=0:int8&1:int8 7=0:int8&1:int4 5=0:float32&1:int8&pc1
    2=0:float32&1:int8
DEPTHWISE_CONV_2D: 6=0:float32&1:int8&pc1 4=0:float32&1:int8 3=0:int8&1:int8 7=0:int8&1:int4 2=<dilated>
EMBEDDING_LOOKUP: 4=1:int4 4=pc1 5=1:int2
FAKE_QUANT: 2=narrow_range
FULLY_CONNECTED: 14=1:int2 13=0:int16&1:int4 12=0:float32&1:int8&pc1 11=0:int16&1:int8&quantized_bias_type 8=<sparse>
    7=0:int16&1:int16 6=n2 5=keep_num_dims 4=0:int8&1:int8 10=0:int8&1:int4
    9=0:float32&1:int8&asymmetric_quantize_inputs 3=0:float32&1:int8 2=<shuffled>
GATHER: 8=0:float8 7=0:int4 6=1:int16 5=batch_dims 4=0:int16 3=0:bool 2=0:int8
SVDF: 3=0:int8 4=0:float32&1:int8&asymmetric_quantize_inputs 2=0:float32&1:int8
SIGN: 2=0:int32
SIN COS: 2=0:float16
MUL: 8=0:float16 7=0:int16&u0 7=0:uint32 6=0:complex64 5=0:int64 4=0:int16 3=<large_product> 2=0:int8
MAX_POOL_2D AVERAGE_POOL_2D: 3=0:int16 2=0:int8
TRANSPOSE: 9=0:float16 8=r0>6 8=0:bfloat16 7=0:int4 6=r0>5 5=0:int16 4=r0>4 3=0:bool 2=0:int8
TRANSPOSE_CONV: 5=0:int16&1:int8&quantized_bias_type 4=fused_activation_function 3=n4 2=1:int8
LSTM: 5=<full>&0:int16&2:int8 4=<full>&0:float32&2:int8&asymmetric_quantize_inputs 3=<full>&0:float32&2:int8 2=<basic>
SPLIT: 5=1:float8 4=1:int16 3=1:int32 2=1:int8
SPARSE_TO_DENSE: 3=2:int8/uint8 2=2:int64
SLICE: 8=0:float16 7=0:int4 6=0:uint32 5=r0>4 4=0:int16 3=0:string 2=0:int8
UNPACK: 6=0:float8 2=0:int8/uint8 3=0:bool 4=0:int16 5=0:float16/bfloat16
DEQUANTIZE: 9=0:float8 8=0:uint4 7=0:int2 6=0:int4 3=0:int16/float16 5=0:int8&pc0 2=0:int8
QUANTIZE: 5=0:uint4 5=o0:uint4 4=0:int4 4=o0:int4 3=<channel_output> 2=o0:int16
FLOOR_DIV: 3=0:int16/int8 2=0:float32
FLOOR_MOD: 2=0:int16/int8
L2_NORMALIZATION: 2=o0:int8
ABS: 5=0:int32 3=0:int16&q0 4=0:int16 2=0:int8/uint8
RELU: 3=0:int16 2=0:int8/uint8
STRIDED_SLICE: 8=offset 7=0:uint32 6=ellipsis_mask 6=new_axis_mask 5=0:string 4=r0>4 3=0:bool 2=0:int8
REVERSE_V2: 4=0:float8 3=0:int8 2=0:bool
RESIZE_BILINEAR: 4=0:int16 3=half_pixel_centers 2=0:int8
RESIZE_NEAREST_NEIGHBOR: 4=0:int16 3=half_pixel_centers 3=align_corners 2=0:int8
MAXIMUM MINIMUM: 4=0:int16 3=<broadcast> 2=0:int8
PACK: 5=0:float8 2=0:int8 3=0:int16 4=0:uint32
TILE: 3=0:int8 2=0:string
SQUEEZE: 2=0:string
SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND: 4=0:int16 3=<not_rank_4> 2=0:int8
ADD: 6=0:float16 5=0:int16&u0 4=0:int64 3=0:int16&pot_scale_int16! 2=0:int8
SUB: 5=0:int16&pot_scale_int16! 4=0:int64 3=<broadcast> 2=0:int8
GATHER_ND: 6=0:float8 5=0:bool 4=1:int16 3=0:int16 2=0:string
DIV: 2=<broadcast>
FILL: 5=1:float8 4=1:float16 3=1:int8/int16 2=1:bool/string
EQUAL: 5=0:int16 3=0:string 2=0:int8
NOT_EQUAL: 4=0:int16 3=0:string 2=0:int8
LEAKY_RELU: 2=0:int16
RANGE: 2=0:int64
BATCH_MATMUL: 3=0:int16 2=0:int8 4=0:float32&1:int8&asymmetric_quantize_inputs
PAD PADV2: 6=0:float8 5=0:bool 4=r0>4 3=0:int16 2=0:int8
CONCATENATION: 7=0:float8 6=0:float16 5=0:int4 4=0:uint32 3=0:int16 2=0:int8
SOFTMAX: 4=0:float16 3=0:int16 2=0:int8
TANH LOGISTIC MEAN MIRROR_PAD REDUCE_MAX REDUCE_MIN RELU6 RSQRT LESS GREATER_EQUAL: 3=0:int16 2=0:int8
RNN UNIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_LSTM:
    3=1:int8&o0:float32&asymmetric_quantize_inputs 2=1:int8&o0:float32
UNIDIRECTIONAL_SEQUENCE_LSTM: 5=0:int16&2:int8 4=diagonal_recurrent_tensors
    3=0:float32&2:int8&asymmetric_quantize_inputs 2=0:float32&2:int8
ARG_MAX ARG_MIN: 3=0:bool 2=0:int8
SELECT: 4=0:uint32 3=<rank_5> 2=0:int8
SELECT_V2: 2=0:uint32
SPLIT_V: 3=0:float8 2=0:int8
SPACE_TO_DEPTH SUM LOG_SOFTMAX GREATER LESS_EQUAL SQUARED_DIFFERENCE DEPTH_TO_SPACE: 2=0:int8
TOPK_V2: 3=0:int16 3=1:int16 3=o1:int16 2=0:int8
EXP LOG REDUCE_PROD SQRT: 2=0:int8/int16
DYNAMIC_UPDATE_SLICE: 6=0:bfloat16 5=0:int4 4=0:int16 3=0:float16 2=2:int64
BROADCAST_TO: 4=0:float8 3=0:int8/int16 2
CAST: 9=0:float8 9=o0:float8 8=0:int2/uint4 8=o0:int2/uint4 7=0:bfloat16 7=o0:bfloat16 6=0:int4&o0:float32
    5=0:float64/float16 5=o0:float64/float16 4=0:uint16 4=o0:uint16 3=0:int8 3=o0:int8 2=0:uint32 2=o0:uint32
WHERE: 1=0:bool 2
GELU: 3=0:float16 2=0:int8/uint8
"""


def _tensor(tensors: list[Tensor] | list[Tensor | None], i: int) -> Tensor | None:
    return tensors[i] if i < len(tensors) else None


def _option(node: Node, name: str) -> Any:
    if isinstance(node.attrs, dict):
        return node.attrs.get(name)
    return getattr(node.attrs, name, node.extras.get("options", {}).get(name))


def _is_set(value: Any) -> bool:
    """Whether an option differs from 0, as the format stores it."""
    if isinstance(value, DType):
        return value != FLOAT32
    return value not in (None, 0, False, "NONE", "FLOAT32", ())


def _scale(t: Tensor | None) -> float:
    return t.type.quantization.scale[0] if t is not None and t.type.quantization else 0.0


def _rank(t: Tensor | None) -> int:
    return t.type.rank if t is not None else 0


def _broadcast(node: Node) -> bool:
    a, b = _tensor(node.inputs, 0), _tensor(node.inputs, 1)
    return a is not None and b is not None and a.type.shape != b.type.shape and max(a.type.rank, b.type.rank) > 4


def _grouped(node: Node) -> bool:
    x, w = _tensor(node.inputs, 0), _tensor(node.inputs, 1)
    return x is not None and w is not None and x.type.rank == w.type.rank == 4 and x.type.shape[3] != w.type.shape[3]


def _large_product(node: Node) -> bool:
    a, b, y = (_scale(t) for t in (_tensor(node.inputs, 0), _tensor(node.inputs, 1), _tensor(node.outputs, 0)))
    return bool(a and b and y and math.isfinite(a * b) and a * b / y >= 1)


def _channels(t: Tensor | None) -> bool:
    return t is not None and t.type.quantization is not None and t.type.quantization.per_channel


_WORDS: dict[str, Callable[[Node], bool]] = {
    "grouped": _grouped,
    "dilated": lambda n: (_option(n, "dilation_w_factor"), _option(n, "dilation_h_factor")) != (1, 1),
    "sparse": lambda n: (t := _tensor(n.inputs, 1)) is not None and "sparsity" in t.extras,
    "shuffled": lambda n: _option(n, "weights_format") == "SHUFFLED4x16INT8",
    "large_product": _large_product,
    "full": lambda n: _option(n, "kernel_type") == "FULL",
    "basic": lambda n: _option(n, "kernel_type") == "BASIC",
    "channel_output": lambda n: _channels(_tensor(n.outputs, 0)),
    "broadcast": _broadcast,
    "not_rank_4": lambda n: _rank(_tensor(n.inputs, 0)) != 4,
    "rank_5": lambda n: any(_rank(t) == 5 for t in n.inputs),
}


def _holds(term: str, node: Node) -> bool:
    if term.startswith("<"):
        return _WORDS[term[1:-1]](node)
    if ":" in term:
        place, _, types = term.partition(":")
        t = _tensor(node.outputs, int(place[1:])) if place.startswith("o") else _tensor(node.inputs, int(place))
        return t is not None and any(
            t.type.dtype.name == w or w == t.type.dtype.name[:6] == "float8" for w in types.split("/")
        )
    if term[0] == "r" and term[1].isdigit():
        i, _, least = term[1:].partition(">")
        return _rank(_tensor(node.inputs, int(i))) > int(least)
    if term[0] in "qun" and term[1:].isdigit():
        if term[0] == "n":
            return len(node.inputs) == int(term[1:]) and node.inputs[-1] is not None
        t = _tensor(node.inputs, int(term[1:]))
        return t is not None and (t.type.quantization is not None) == (term[0] == "q")
    if term.startswith("pc") and term[2:].isdigit():
        return _channels(_tensor(node.inputs, int(term[2:])))
    return not _is_set(_option(node, term[:-1])) if term.endswith("!") else _is_set(_option(node, term))


def _parse(text: str) -> dict[str, list[tuple[int, list[str]]]]:
    rules: dict[str, list[tuple[int, list[str]]]] = {}
    names: list[str] = []
    for line in text.strip().splitlines():
        if not line.startswith(" "):
            head, _, line = line.partition(":")
            names = head.split()
        for word in line.split():
            version, _, condition = word.partition("=")
            for name in names:
                rules.setdefault(name, []).append((int(version), condition.split("&") if condition else []))
    return rules


_PARSED = _parse(_RULES)


def operator_version(node: Node) -> int:
    """The least version of the operator that covers this node; operators without a rule keep what was read."""
    if node.op.code is None or (not node.op.known and node.op.name not in _PARSED):
        return int(node.extras.get("version", 1))
    for version, terms in _PARSED.get(node.op.name, ()):
        if all(_holds(term, node) for term in terms):
            return version
    return 1


def _runtimes() -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    name = ""
    for line in RUNTIMES.strip().splitlines():
        if not line.startswith(" "):
            name, _, line = line.partition(":")
        rows.setdefault(name, []).extend(line.split())
    return rows


_FIRST_RUNTIME = _runtimes()


def release(text: str) -> tuple[int, ...]:
    """A release as numbers to compare; what is no number counts as 0."""
    return tuple(int(p) if p.isdigit() else 0 for p in text.split("."))


def first_runtime(name: str, version: int) -> str | None:
    """The first official runtime that has this version of an operator; None where that is not known."""
    row = _FIRST_RUNTIME.get(name, [])
    return row[version - 1] if 0 < version <= len(row) and row[version - 1] != "-" else None


def minimum_runtime(versions: Iterable[tuple[str, int]]) -> str:
    """The first official runtime that runs these (operator, version) pairs."""
    found = "1.5.0"
    for name, version in versions:
        needed = first_runtime(name, version)
        if needed is not None and release(needed) > release(found):
            found = needed
    return found
