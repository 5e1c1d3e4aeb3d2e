"""Reading ONNX files, and what their graphs declare."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from lithe.conversion.onnx.graph import declared_type, graphs_of
from lithe.errors import FileMissing, InputError, MissingDependency, ModelError

LARGEST = (1 << 31) - (1 << 20)  # bytes: what protobuf takes in one piece

# Operators that nobody knows are listed with all others that have no builtin; outputs may leave their shapes open.
TOLERATED = (
    "No Op registered", "No opset import", "is not a registered function", "Field 'shape' of 'type' is required",
)  # fmt: skip

Types = dict[str, tuple[int, "list[int | str | None] | None"]]


def loaded(source: Any) -> tuple[Any, Types]:
    """The model, checked, and the declared and inferred types by name. Raises FileMissing, ModelError, InputError."""
    try:
        import onnx
    except ImportError as cause:
        raise MissingDependency("ONNX models are read by the package onnx", hint="pip install 'lithe[onnx]'") from cause
    model = _read(source)
    if not model.graph.node and not model.graph.output:
        raise ModelError("this is no ONNX model: there is no graph in it")
    if not model.opset_import:
        raise ModelError("the model does not say which operators it uses: it imports no operator set")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as cause:
        if not any(text in str(cause) for text in TOLERATED):
            raise ModelError(f"the model breaks ONNX's rules: {_short(cause)}") from cause
    except ValueError:  # too large to be checked in one piece
        pass
    return model, _types(model)


def _read(source: Any) -> Any:
    import onnx

    if isinstance(source, onnx.ModelProto):
        return source
    try:
        if isinstance(source, bytes | bytearray):
            return onnx.load_from_string(bytes(source))
        if isinstance(source, str | os.PathLike):
            if not os.path.exists(source):
                raise FileMissing(f"there is no file {os.fspath(source)}")
            return onnx.load(os.fspath(source))
    except onnx.checker.ValidationError as cause:
        raise ModelError(f"weights beside the file cannot be read: {_short(cause)}") from cause
    except FileMissing:
        raise
    except OSError as cause:
        raise ModelError(f"weights beside the file cannot be read: {_short(cause)}") from cause
    except ValueError as cause:
        raise ModelError(f"the file cannot be read: {_short(cause)}") from cause
    except Exception as cause:
        if type(cause).__name__ != "DecodeError":  # of protobuf, whose modules have no types
            raise
        raise ModelError("this is no ONNX model, or a part of it is missing") from cause
    raise InputError(f"a path, bytes or an onnx.ModelProto is needed, this is {type(source).__name__}")


def _short(cause: BaseException) -> str:
    return " ".join(str(cause).split())[:300]


def _types(model: Any) -> Types:
    """Declared types of all names, and those that ONNX's own inference finds."""
    import onnx

    with suppress(onnx.shape_inference.InferenceError, ValueError, RuntimeError):  # then what is declared must do
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    found: Types = {}
    _collect(model.graph, found)
    return found


def _collect(graph: Any, found: Types) -> None:
    for info in [*graph.value_info, *graph.output, *graph.input]:
        found.setdefault(info.name, declared_type(info))
    for node in graph.node:
        for a in node.attribute:
            for inner in graphs_of(a):
                _collect(inner, found)
