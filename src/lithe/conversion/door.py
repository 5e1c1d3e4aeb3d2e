"""`lithe.convert`: what kind of source it is, and who converts it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithe.conversion.builder import Conversion
from lithe.conversion.check import Agreement, check
from lithe.errors import FileMissing, InputError
from lithe.ops.verify import verify as verify_module
from lithe.runtime.model import Model


@dataclass(frozen=True)
class Front:
    """A front end.

    title    of the framework, for messages.
    takes    whether a value of Python is its kind of source.
    files    endings of files that are.
    convert  writes a source into a conversion.
    """

    title: str
    takes: Callable[[Any], bool]
    convert: Callable[[Conversion, Any, Any], None]
    files: tuple[str, ...] = ()


KERAS = {"keras.Layer", "keras.Model"}


def _class_names(source: Any) -> set[str]:
    return {f"{c.__module__.split('.')[0]}.{c.__name__}" for c in type(source).__mro__}


def _keras(conversion: Conversion, source: Any, inputs: Any) -> None:
    from lithe.conversion.keras.model import convert_keras, load_keras

    convert_keras(conversion, load_keras(source) if isinstance(source, str) else source, inputs)


def _jax(conversion: Conversion, source: Any, inputs: Any) -> None:
    from lithe.conversion.jax.function import convert_function

    if not callable(source):
        raise InputError(f"a function of JAX is needed, this is {type(source).__name__}")
    convert_function(conversion, source, inputs)


def _torch(conversion: Conversion, source: Any, inputs: Any) -> None:
    from lithe.conversion.torch.model import convert_model

    convert_model(conversion, source, inputs)


def _onnx(conversion: Conversion, source: Any, inputs: Any) -> None:
    from lithe.conversion.onnx.model import convert_model

    convert_model(conversion, source, inputs)


# In the order in which they are asked; a plain function is taken for one of JAX.
FRONTS = {
    "keras": Front(
        "Keras", lambda s: bool(_class_names(s) & {"keras.Layer", "keras.Model"}), _keras, (".keras", ".h5")
    ),
    "torch": Front("PyTorch", lambda s: bool(_class_names(s) & {"torch.Module", "torch.ExportedProgram"}), _torch),
    "onnx": Front("ONNX", lambda s: "onnx.ModelProto" in _class_names(s), _onnx, (".onnx",)),
    "jax": Front("JAX", callable, _jax),
}


def convert(source: Any, *, inputs: Any = None, kind: str = "auto", verify: bool = False) -> Model:
    """Returns the model of a framework as a Lithe model: call it, or `.save("model.tflite")` it for any runtime.

    source  a Keras 3 model or a `.keras` file; a PyTorch module or exported program; a function of JAX.
    inputs  what the source does not say about its inputs: {name: shape}, {name: (shape, dtype)} or example arrays, one
            or several, by name or in order. None or a name stands for an open dimension: {"x": ("batch", 28, 28)}.
    kind    "auto", or the framework: see `lithe convert --help`.
    verify  also run the source and the model on random inputs, and raise ModelError where they differ by more
            than a relative 1e-4.

    Only the framework that the source is in is needed. Operators are builtins that every runtime of the format has.
    Raises InputError when the inputs do not fit, UnsupportedOp with all parts that builtins cannot say,
    MissingDependency when the framework is not installed, FileMissing, ModelError when a file cannot be read.

    >>> model = lithe.convert(keras_model)                            # doctest: +SKIP
    >>> model.save("model.tflite")                                    # doctest: +SKIP
    """
    model, conversion = converted(source, inputs=inputs, kind=kind)
    if verify:
        agreement(model, conversion).require()
    return model


def converted(source: Any, *, inputs: Any = None, kind: str = "auto") -> tuple[Model, Conversion]:
    """The model, and the conversion that it comes from."""
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    front = _front(source, kind)
    conversion = Conversion(front.title)
    front.convert(conversion, source, inputs)
    module = conversion.module()
    verify_module(module)
    name = Path(source).stem if isinstance(source, str) else str(getattr(source, "name", "") or "")
    return Model(module, name=name), conversion


def agreement(model: Model, conversion: Conversion) -> Agreement:
    """How well the model agrees with what it was made of, on random inputs."""
    if conversion.reference is None:
        raise InputError(f"a {conversion.source} source cannot be run here, so there is nothing to compare with")
    return check(model, conversion)


def _front(source: Any, kind: str) -> Front:
    if kind != "auto":
        if kind not in FRONTS:
            raise InputError(f"there is no kind of source {kind!r}", hint=f"kinds are auto, {', '.join(FRONTS)}")
        return FRONTS[kind]
    if isinstance(source, str):
        if not os.path.exists(source):
            raise FileMissing(f"there is no file {source}")
        for front in FRONTS.values():
            if source.endswith(front.files) and front.files:
                return front
        endings = ", ".join(e for f in FRONTS.values() for e in f.files)
        raise InputError(f"the file {source} is of no kind that is known by its ending", hint=f"endings are {endings}")
    for front in FRONTS.values():
        if front.takes(source):
            return front
    known = ", ".join(f.title for f in FRONTS.values())
    raise InputError(f"a {type(source).__name__} is no model that can be converted", hint=f"sources are of {known}")
