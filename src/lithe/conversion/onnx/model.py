"""An ONNX model as a module of graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Conversion
from lithe.conversion.onnx import arrangement as arrangement
from lithe.conversion.onnx import drawing as drawing
from lithe.conversion.onnx import elementwise as elementwise
from lithe.conversion.onnx import flow as flow
from lithe.conversion.onnx import lookups as lookups
from lithe.conversion.onnx import normalization as normalization
from lithe.conversion.onnx import pictures as pictures
from lithe.conversion.onnx import products as products
from lithe.conversion.onnx import quantized as quantized
from lithe.conversion.onnx import recurrent as recurrent
from lithe.conversion.onnx import reductions as reductions
from lithe.conversion.onnx import resize as resize
from lithe.conversion.onnx import sampling as sampling
from lithe.conversion.onnx import signals as signals
from lithe.conversion.onnx import text as text
from lithe.conversion.onnx.call import dtype_of_number, tensor
from lithe.conversion.onnx.graph import DEFAULT, Scope, declared_type
from lithe.conversion.onnx.loading import loaded
from lithe.conversion.signature import InputSpec, input_spec, named_inputs
from lithe.errors import InputError, ModelError, UnsupportedOp
from lithe.passes.writer import Inexpressible
from lithe.types import TensorType

OLDEST = 1


def convert_model(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    """Writes an ONNX model as a graph.

    source  a path, the bytes of a file, or an onnx.ModelProto.
    inputs  shapes of inputs, where they are to be others than the model's: {"x": (1, 3, 224, 224)}. A name or None
            stands for an open dimension.

    Inputs and outputs keep their names and layouts. Dimensions that the model names stay open. Initializers that are
    listed as inputs, too, are constants.

    Raises FileMissing, ModelError for files that are damaged or break ONNX's rules, InputError for inputs that do not
    fit, MissingDependency.
    """
    model, types = loaded(source)
    import onnx.numpy_helper

    graph = model.graph
    b = conversion.graph(graph.name or "main")
    versions = {("" if o.domain in DEFAULT else o.domain): o.version for o in model.opset_import}
    if versions.get("", OLDEST) < OLDEST:
        raise UnsupportedOp(f"operator set {versions['']} is too old", hint=f"convert the model to {OLDEST} or later, "
                            "with onnx.version_converter")  # fmt: skip
    scope = Scope(b, versions, types=types, unroll=conversion.unroll)
    scope.functions.update({(f.domain if f.domain not in DEFAULT else "", f.name): f for f in model.functions})
    scope.look_at(graph.node, [o.name for o in graph.output])
    for initializer in graph.initializer:
        scope.values[initializer.name] = onnx.numpy_helper.to_array(initializer)
    _inputs(scope, graph, inputs)
    named = {t.name: t for t in b.inputs}
    scope.write(graph.node)
    outputs = {}
    for info in graph.output:
        if info.name not in scope.values:
            raise ModelError(f"nothing computes the output '{info.name}'")
        value = scope.values[info.name]
        if value is not None:
            with b.at(f"output '{info.name}'", info.name):
                try:
                    outputs[info.name] = b.output(tensor(b, value), info.name)
                except Inexpressible as cause:
                    b.problem("output", str(cause))
    if conversion.problems:
        _refuse_damaged(model)
    if not outputs and not conversion.problems:
        raise ModelError("the model has no output")
    for node in graph.node:
        for name in node.output:
            b.mark(name, scope.values.get(name), f"node '{node.name or name}' ({node.op_type})")
    marked = list(b.marks)
    conversion.sign(
        key, b, named, outputs, lambda arrays: run(model, arrays), lambda arrays: layers(model, marked, arrays)
    )


def _inputs(scope: Scope, graph: Any, inputs: Any) -> None:
    """The graph's own inputs, of which some are given other shapes."""
    b = scope.b
    own = [i for i in graph.input if i.name not in scope.values]
    wanted = named_inputs(inputs) if isinstance(inputs, Mapping) else _in_order(inputs, own)
    unknown = [name for name in wanted if name not in {i.name for i in own}]
    if unknown:
        raise InputError(f"the model has no input '{unknown[0]}'", hint=f"inputs are {', '.join(i.name for i in own)}")
    for info in own:
        with b.at(f"input '{info.name}'", info.name):
            if not info.type.HasField("tensor_type"):
                raise UnsupportedOp(f"input '{info.name}' is no tensor", hint="take sequences and optionals apart")
            number, dims = declared_type(info)
            try:
                dtype = dtype_of_number(number)
            except Inexpressible as cause:
                raise UnsupportedOp(f"input '{info.name}' cannot be said in a file: {cause}") from cause
            if info.name in wanted:
                spec = input_spec(wanted[info.name], info.name, dtype)
                if dims is not None and len(dims) != len(spec.shape):
                    raise InputError(f"input '{info.name}' has {len(dims)} dimensions, {list(spec.shape)} were given")
            elif dims is None:
                raise InputError(f"the model does not say how many dimensions input '{info.name}' has",
                                 hint=f"give its shape: inputs={{'{info.name}': (1, 3, 224, 224)}}")  # fmt: skip
            else:
                filled = [d if d is not None else f"{info.name}_{axis}" for axis, d in enumerate(dims)]
                spec = InputSpec(tuple(d if isinstance(d, str) or d >= 0 else f"{info.name}_{axis}"
                                       for axis, d in enumerate(filled)), dtype)  # fmt: skip
            kind = TensorType(dtype, spec.type(b.sizes).shape)
            scope.values[info.name] = b.input(info.name, kind.shape, dtype)


def _in_order(inputs: Any, own: Sequence[Any]) -> dict[str, Any]:
    values = list(named_inputs(inputs).values())
    if len(values) > len(own):
        raise InputError(f"{len(values)} inputs were given, the model has {len(own)}")
    return {info.name: v for info, v in zip(own, values, strict=False)}


def _refuse_damaged(model: Any) -> None:
    """Raises ModelError where the model breaks ONNX's own rules, which is why it could not be written."""
    import onnx

    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as cause:
        raise ModelError(f"the model contradicts itself: {_first_lines(str(cause))}") from cause
    except (ValueError, RuntimeError):  # too large to be looked at in one piece
        return


def _first_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.strip().splitlines()[:4])


def run(model: Any, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX's runtime gives for named inputs; without it, ONNX's reference implementation."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return list(ReferenceEvaluator(model).run(None, dict(arrays)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(arrays)))


def layers(model: Any, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the nodes give that make these names."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    own = {o.name for o in model.graph.output}
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in own)
    made = dict(zip((o.name for o in watched.graph.output), run(watched, arrays), strict=True))
    return {name: made[name] for name in names}


def is_model(source: Any) -> bool:
    return type(source).__name__ == "ModelProto" and type(source).__module__.startswith("onnx")
