"""One operator in the official runtime: an independent writer of the model, and its three kernel sets."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from lithe.targets.host import host
from lithe.types import FLOAT16, STRING, DType, TensorType
from tests.ops.cases import Case

# Operators whose options table is not named after them. Source: schema.fbs, union BuiltinOptions.
OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2D", "MAX_POOL_2D": "Pool2D", "L2_POOL_2D": "Pool2D",
    "L2_NORMALIZATION": "L2Norm", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNN", "CONV_3D_TRANSPOSE": "Conv3D",
    "RANDOM_UNIFORM": "Random", "RANDOM_STANDARD_NORMAL": "Random", "MULTINOMIAL": "Random",
    **dict.fromkeys(
        ("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"), "Reducer"
    ),
}  # fmt: skip
ENUMS = ("ActivationFunctionType", "Padding", "MirrorPadMode", "CombinerType", "FullyConnectedOptionsWeightsFormat",
         "LSTMKernelType", "LSHProjectionType", "ReduceWindowFunction", "RngAlgorithm",
         "StablehloComparisonDirection", "StablehloComparisonType")  # fmt: skip
VERSIONS = {"BROADCAST_TO": 2}  # operators that the official runtime has no version 1 of
SUMS_OF_HALVES = 1e-2  # of the greatest result: some twenty roundings to 11 bits
KERNELS = ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF", "BUILTIN")  # the last one has XNNPACK


def official_tolerance(case: Case) -> float:
    """The tolerance of a case for the official runtime: it adds products in float16 where the processor can, and is
    farther from their sum then."""
    halves = host().has("avx512fp16") and any(t is not None and t.dtype == FLOAT16 for t in case.inputs)
    return max(case.tolerance, SUMS_OF_HALVES) if halves and case.tolerance else case.tolerance


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(w[:1].upper() + w[1:] for w in rest)


def _enum_value(schema: Any, field: str, value: str) -> int:
    """The number of an enumeration's member; the field's name tells which enumeration it is."""
    for enum in ENUMS:
        if enum.lower().removesuffix("type") in field.lower().replace("_", "") and hasattr(
            getattr(schema, enum), value
        ):
            return int(getattr(getattr(schema, enum), value))
    candidates = {getattr(getattr(schema, e), value) for e in ENUMS if hasattr(getattr(schema, e), value)}
    if len(candidates) != 1:
        raise ValueError(f"{field} = {value}: which enumeration?")
    return int(candidates.pop())


def _options(schema: Any, op: str, attrs: Any) -> tuple[int, Any, int, Any]:
    """(union type, table, union-2 type, table) of the operator's options."""
    wanted = (OPTIONS.get(op) or op.replace("_", "")).lower() + "options"
    for union, slot in ((schema.BuiltinOptions, 0), (schema.BuiltinOptions2, 1)):
        for name in vars(union):
            if name.lower() == wanted:
                table = getattr(schema, name + "T")()
                for field, value in attrs.__dict__.items():
                    plain = value
                    if isinstance(value, DType):
                        plain = getattr(schema.TensorType, value.name.upper())
                    elif isinstance(value, str):
                        plain = _enum_value(schema, field, value)
                    if not hasattr(table, _camel(field)):
                        raise ValueError(f"{name} has no field {_camel(field)}")
                    setattr(table, _camel(field), list(plain) if isinstance(plain, tuple) else plain)
                number = getattr(union, name)
                return (number, table, 0, None) if slot == 0 else (0, None, number, table)
    return 0, None, 0, None


def _stored(value: np.ndarray, dtype: DType) -> bytes:
    if dtype == STRING:
        texts = [bytes(text) for text in value.reshape(-1)]
        ends = np.cumsum([4 * len(texts) + 8, *map(len, texts)], dtype=np.int32)
        return np.int32(len(texts)).tobytes() + ends.tobytes() + b"".join(texts)
    if dtype.stored_bits < 8:
        bits, many = dtype.stored_bits, 8 // dtype.stored_bits
        fields = value.reshape(-1).astype(np.int64) & ((1 << bits) - 1)
        rows = np.append(fields, np.zeros(-fields.size % many, np.int64)).reshape(-1, many)
        return (rows << (np.arange(many) * bits)).sum(axis=1).astype(np.uint8).tobytes()
    return np.ascontiguousarray(value).tobytes()


def model_bytes(case: Case) -> bytes:
    """The case as a model file, written with the official schema."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    code = schema.OperatorCodeT()
    builtin = case.operator.code
    if builtin is None:
        code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, case.op.encode()
        operator.customOptions = list(case.custom_options or b"")
    else:
        code.builtinCode = builtin
        (operator.builtinOptionsType, operator.builtinOptions,
         operator.builtinOptions2Type, operator.builtinOptions2) = _options(
            schema, case.op, case.site().attrs
        )  # fmt: skip
    code.deprecatedBuiltinCode = min(int(code.builtinCode), 127)
    code.version = VERSIONS.get(case.op, 1)
    model.version, model.operatorCodes, model.buffers = 3, [code], [schema.BufferT()]
    graph.tensors = []

    def add(t: TensorType, name: str, data: np.ndarray | None, variable: bool = False, graph: Any = graph) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = name.encode(), list(t.shape)
        tensor.type = getattr(schema.TensorType, t.dtype.name.upper())
        tensor.buffer, tensor.isVariable = 0, variable
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = list(_stored(data, t.dtype))
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if t.quantization is not None:
            q = schema.QuantizationParametersT()
            q.scale, q.zeroPoint = list(t.quantization.scale), list(t.quantization.zero_point)
            q.quantizedDimension = t.quantization.axis
            tensor.quantization = q
        if t.quantization is not None and t.quantization.block:
            scales = np.array(t.quantization.scale, np.float16).reshape(-1, t.shape[-1] // t.quantization.block)
            q.scale = q.zeroPoint = None
            q.detailsType, q.details = schema.QuantizationDetails.BlockwiseQuantization, schema.BlockwiseQuantizationT()
            q.details.scales = add(TensorType(FLOAT16, scales.shape), f"{name}_scales", scales)
            q.details.zeroPoints, q.details.blockSize = -1, t.quantization.block
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    arrays = case.arrays()
    operator.inputs, graph.inputs = [], []
    for i, t in enumerate(case.inputs):
        if t is None:
            operator.inputs.append(-1)
            continue
        number = add(t, f"input{i}", arrays[i] if i in case.constants else None, i in case.variables)
        operator.inputs.append(number)
        if i not in case.constants and i not in case.variables:
            graph.inputs.append(number)
    operator.outputs = [add(t, f"output{i}", None) for i, t in enumerate(case.outputs)]
    operator.intermediates = [add(t, f"intermediate{i}", None) for i, t in enumerate(case.intermediates)]
    graph.outputs, graph.operators = list(operator.outputs), [operator]
    model.subgraphs = [graph]
    for called in case.graphs:
        inner = schema.SubGraphT()
        inner.tensors, inner.operators = [], []
        numbers = {t: add(t.type, t.name, t.data, graph=inner) for t in called.tensors}
        inner.inputs, inner.outputs = [numbers[t] for t in called.inputs], [numbers[t] for t in called.outputs]
        for node in called.nodes:
            step, kind = schema.OperatorT(), schema.OperatorCodeT()
            kind.builtinCode, kind.deprecatedBuiltinCode, kind.version = node.op.code, min(node.op.code, 127), 1
            step.opcodeIndex = len(model.operatorCodes)
            step.inputs = [-1 if t is None else numbers[t] for t in node.inputs]
            step.outputs = [numbers[t] for t in node.outputs]
            (step.builtinOptionsType, step.builtinOptions,
             step.builtinOptions2Type, step.builtinOptions2) = _options(schema, node.op.name, node.attrs)  # fmt: skip
            model.operatorCodes.append(kind)
            inner.operators.append(step)
        model.subgraphs.append(inner)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def given_to_official(value: np.ndarray) -> np.ndarray:
    """The value as its Python package takes it: floats of 8 bits as int8; of a string without axes that is an object it
    would store the address, and numpy's own way to such an array makes one zero byte of an empty string."""
    if value.dtype.name.startswith("float8"):
        return value.view(np.int8)
    if value.dtype != np.object_ or value.ndim:
        return value
    text = value.item()
    return np.ndarray((), f"S{len(text)}", text)


def given_by_official(value: np.ndarray, dtype: DType) -> np.ndarray:
    """A result in its own type: the Python package gives floats of 8 bits as int8."""
    return value.view(dtype.numpy).copy() if dtype.name.startswith("float8") else value.copy()


def official_outputs(case: Case) -> dict[str, list[np.ndarray]]:
    """The outputs of each kernel set that has the operator, by the kernel set's name; a refusal is a str."""
    runtime = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    content = model_bytes(case)
    results: dict[str, Any] = {}
    values = case.arrays()
    arrays = [v for i, v in enumerate(values) if v is not None and i not in case.constants and i not in case.variables]
    numbers = [None if t is None else sum(u is not None for u in case.inputs[:i]) for i, t in enumerate(case.inputs)]
    for kernels in KERNELS:
        try:
            interpreter = runtime.Interpreter(
                model_content=content, experimental_op_resolver_type=runtime.OpResolverType[kernels], num_threads=1
            )
            interpreter.allocate_tensors()
            for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
                interpreter.set_tensor(detail["index"], given_to_official(array))
            for i in case.variables:
                interpreter.set_tensor(numbers[i], values[i])
            interpreter.invoke()
            results[kernels] = [
                given_by_official(interpreter.get_tensor(d["index"]), t.dtype)
                for d, t in zip(interpreter.get_output_details(), case.outputs, strict=True)
            ]
        except (RuntimeError, ValueError) as refusal:
            results[kernels] = re.sub(r"\s+", " ", str(refusal))[:300]
    return results
