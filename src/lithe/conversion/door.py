"""`lithe.convert`: what kind of source it is, and who converts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lithe.conversion.builder import Conversion
from lithe.conversion.check import Agreement, Given, check
from lithe.conversion.described import describe
from lithe.conversion.fusing import fuse_recurrent
from lithe.conversion.target import write_for
from lithe.errors import FileMissing, InputError
from lithe.ops.verify import verify as verify_module
from lithe.runtime.model import Model

if TYPE_CHECKING:
    from lithe.conversion.layer_check import Layers

LAYERS = "layers"
Verify = bool | Literal["layers"] | Given


@dataclass(frozen=True)
class Front:
    """A front end.

    title    of the framework, for messages.
    takes    whether a value of Python is its kind of source.
    files    endings of files that are; folder: the name of a file that only a folder of its kind holds.
    convert  writes a source into a conversion, for what is said about its inputs, as the function with this key.
    whole    whether `convert` takes all functions by key at once, and what is said about the inputs of each.
    """

    title: str
    takes: Callable[[Any], bool]
    convert: Callable[..., None]
    files: tuple[str, ...] = ()
    folder: str = ""
    whole: bool = False

    def takes_file(self, path: str) -> bool:
        """Whether a path is one of its kind."""
        if os.path.isdir(path):
            return bool(self.folder) and os.path.exists(os.path.join(path, self.folder))
        return bool(self.files) and path.endswith(self.files)


KERAS = {"keras.Layer", "keras.Model"}


def _class_names(source: Any) -> set[str]:
    return {f"{c.__module__.split('.')[0]}.{c.__name__}" for c in type(source).__mro__}


def _keras(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    from lithe.conversion.keras.model import convert_keras, load_keras

    convert_keras(conversion, load_keras(source) if isinstance(source, str) else source, inputs, key)


def _jax(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    from lithe.conversion.jax.function import convert_function

    if not callable(source):
        raise InputError(f"a function of JAX is needed, this is {type(source).__name__}")
    convert_function(conversion, source, inputs, key)


def _torch(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    from lithe.conversion.torch.model import convert_model, load_program

    convert_model(conversion, load_program(source) if isinstance(source, str) else source, inputs, key)


def _onnx(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    from lithe.conversion.onnx.model import convert_model

    convert_model(conversion, source, inputs, key)


def _tensorflow(conversion: Conversion, sources: Mapping[str, Any], described: Mapping[str, Any]) -> None:
    from lithe.conversion.tensorflow.model import convert_source

    convert_source(conversion, sources, described)


def _tflite(conversion: Conversion, source: Any, inputs: Any, key: str) -> None:
    from lithe.conversion.tflite.model import convert_model

    convert_model(conversion, source, inputs, key)


# In the order in which they are asked; a plain function is taken for one of JAX.
FRONTS = {
    "keras": Front(
        "Keras", lambda s: bool(_class_names(s) & {"keras.Layer", "keras.Model"}), _keras, (".keras", ".h5")
    ),
    "torch": Front(
        "PyTorch", lambda s: bool(_class_names(s) & {"torch.Module", "torch.ExportedProgram"}), _torch, (".pt2",)
    ),
    "onnx": Front("ONNX", lambda s: "onnx.ModelProto" in _class_names(s), _onnx, (".onnx",)),
    "tensorflow": Front(
        "TensorFlow",
        lambda s: any(name.split(".")[0] in ("tensorflow", "tf_keras") for name in _class_names(s)),
        _tensorflow,
        (".pb",),
        "saved_model.pb",
        whole=True,
    ),
    "tflite": Front(".tflite", lambda s: isinstance(s, Model | bytes), _tflite, (".tflite",)),
    "jax": Front("JAX", callable, _jax),
}
OTHER_NAMES = {"savedmodel": "tensorflow"}


KEY = "serving_default"  # of a source that is one function


def convert(
    source: Any,
    *,
    inputs: Any = None,
    kind: str = "auto",
    unroll: bool = False,
    signatures: Sequence[str] = (),
    allow_select_tf: bool = False,
    target_runtime: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    verify: Verify = False,
) -> Model:
    """Returns the model of a framework as a Lithe model: call it, or `.save("model.tflite")` it for any runtime.

    source  a Keras 3 model or a `.keras` file; a PyTorch module, exported program or `.pt2` file; a function of JAX;
            an ONNX model or file; a SavedModel, function or frozen graph of TensorFlow; a Model or a `.tflite` file,
            which is cleaned up; or several functions of one framework by name, which become the model's signatures:
            {"prefill": f, "decode": g}. Weights that they share are written once.
    inputs  what the source does not say about its inputs: {name: shape}, {name: (shape, dtype)} or example arrays, one
            or several, by name or in order. None or a name stands for an open dimension: {"x": ("batch", 28, 28)}.
            For several functions: {"prefill": {...}, "decode": {...}}.
    kind    "auto", or the framework: see `lithe convert --help`.
    unroll  write recurrent layers step by step, also where a builtin says the same. The builtins keep their state from
            one run to the next, until the interpreter's variables are reset.
    signatures  the keys of a SavedModel's signatures that are wanted; none: all of them.
    allow_select_tf  what has no builtin stays an operator of TensorFlow ("Flex"), which then has to be there to run it.
    target_runtime  the release of the official runtime that the model is for, as "2.5.0": operators that it does not
            have are written with those that it has. None: what a converter of today would write.
    metadata  what the model says about itself, for `lithe run` and others: {"labels": "labels.txt", "mean": 127.5,
            "std": 127.5, "author": ...}, see `lithe.conversion.described.describe`.
    verify  also run the source and the model, and raise ModelError where they differ by more than a relative 1e-4.
            True: on random inputs; {input: array}, or a list of such: on these; "layers": on random inputs, layer by
            layer, to name the first that differs (Keras, JAX, PyTorch, ONNX).

    Only the framework that the source is in is needed. Operators are builtins that every runtime of the format has.
    Raises InputError when the inputs do not fit, UnsupportedOp with all parts that builtins (of that release) cannot
    say, MissingDependency when the framework is not installed, FileMissing, ModelError when a file cannot be read.

    >>> model = lithe.convert(keras_model)                            # doctest: +SKIP
    >>> model.save("model.tflite")                                    # doctest: +SKIP
    """
    if hasattr(source, "to_lithe"):  # it knows what it is here, as a model that is trained with integers
        source = source.to_lithe()
    layers = isinstance(verify, str)
    if layers and verify != LAYERS:
        raise InputError(f"verify={verify!r} is not known", hint="verify=True, 'layers', or {input: array}")
    model, conversion = converted(
        source, inputs=inputs, kind=kind, unroll=unroll, signatures=signatures, allow_select_tf=allow_select_tf,
        target_runtime=target_runtime,
        metadata=metadata, watch=layers,
    )  # fmt: skip
    if layers:
        differences(model, conversion).require()
    if verify is not None and verify is not False:
        agreement(model, conversion, None if isinstance(verify, bool | str) else verify).require()
    return model


def converted(
    source: Any,
    *,
    inputs: Any = None,
    kind: str = "auto",
    unroll: bool = False,
    signatures: Sequence[str] = (),
    allow_select_tf: bool = False,
    metadata: Mapping[str, Any] | None = None,
    watch: bool = False,
    target_runtime: str | None = None,
) -> tuple[Model, Conversion]:
    """The model, and the conversion that it comes from, in which layers are marked if it is watched."""
    functions, described = _functions(source, inputs)
    fronts = [_front(function, kind) for function in functions.values()]
    if any(front is not fronts[0] for front in fronts):
        titles = ", ".join(f"{key} of {front.title}" for key, front in zip(functions, fronts, strict=True))
        raise InputError(f"the functions are of different frameworks: {titles}", hint="convert each alone")
    conversion = Conversion(fronts[0].title, unroll, tuple(signatures), allow_select_tf, watch=watch)
    if fronts[0].whole:
        fronts[0].convert(conversion, functions, described)
    else:
        for key, function in functions.items():
            fronts[0].convert(conversion, function, described.get(key), key)
    fuse_recurrent(conversion)
    module = conversion.module()
    if metadata is not None:
        describe(module, metadata)
    if target_runtime is not None:
        write_for(module, target_runtime)
    verify_module(module)
    return Model(module, name=_name(source)), conversion


def _functions(source: Any, inputs: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The functions of the source by key, and what is said about the inputs of each."""
    if not isinstance(source, Mapping):
        return {KEY: os.fspath(source) if isinstance(source, os.PathLike) else source}, {KEY: inputs}
    if not source or not all(isinstance(key, str) for key in source):
        raise InputError("several functions are given by name", hint="convert({'prefill': f, 'decode': g}, inputs=...)")
    described = {} if inputs is None else inputs
    if not isinstance(described, Mapping) or not set(described) <= set(source):
        raise InputError(
            f"the inputs of several functions are given by the names of these: {', '.join(source)}",
            hint="inputs={'prefill': {'x': (1, 8)}, 'decode': {'x': (1, 1)}}",
        )
    return dict(source), described


def _name(source: Any) -> str:
    return Path(source).stem if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "") or "")


def agreement(model: Model, conversion: Conversion, given: Given = None) -> Agreement:
    """How well the model agrees with what it was made of, on the given inputs, or on random ones."""
    if any(entry.reference is None for entry in conversion.entries):
        raise InputError(f"a {conversion.source} source cannot be run here, so there is nothing to compare with")
    return check(model, conversion, given)


def differences(model: Model, conversion: Conversion, given: Given = None) -> Layers:
    """How well the model agrees with what it was made of, layer by layer."""
    from lithe.conversion.layer_check import check_layers

    return check_layers(model, conversion, given)


def _front(source: Any, kind: str) -> Front:
    kind = OTHER_NAMES.get(kind, kind)
    if kind != "auto":
        if kind not in FRONTS:
            raise InputError(f"there is no kind of source {kind!r}", hint=f"kinds are auto, {', '.join(FRONTS)}")
        return FRONTS[kind]
    if isinstance(source, str):
        if not os.path.exists(source):
            raise FileMissing(f"there is no file {source}")
        for front in FRONTS.values():
            if front.takes_file(source):
                return front
        endings = ", ".join(e for f in FRONTS.values() for e in f.files)
        raise InputError(f"the file {source} is of no kind that is known by its ending", hint=f"endings are {endings}")
    for front in FRONTS.values():
        if front.takes(source):
            return front
    known = ", ".join(f.title for f in FRONTS.values())
    raise InputError(f"a {type(source).__name__} is no model that can be converted", hint=f"sources are of {known}")
