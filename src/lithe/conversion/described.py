"""What a converted model says about itself: names, labels, how its inputs are filled. Written as TFLite metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lithe.errors import FileMissing, InputError
from lithe.formats import metadata
from lithe.formats.metadata import Audio, File, Image, ModelInfo, Normalization, TensorInfo
from lithe.ir.graph import Module, Signature, Tensor

OF_MODEL = ("name", "description", "version", "author", "license")
OF_INPUTS = ("mean", "std", "input_kind", "sample_rate")
FIELDS = (*OF_MODEL, *OF_INPUTS, "labels")
KINDS = ("image", "audio", "features")
PIXELS = 255.0
OLDEST_PARSER, PARSER_OF_AUDIO = "1.0.0", "1.3.0"


def describe(module: Module, facts: Mapping[str, Any]) -> None:
    """Puts metadata into the module: an entry of the file, and label files behind it.

    name, description, version, author, license  texts.
    labels       class names, or the path of a file with one a line; for an output, {output: names}.
    mean, std    a stored value is (x - mean) / std of a pixel (0..255) or sample: a number, one for each channel, or
                 {input: numbers}.
    input_kind   "image", "audio" or "features", or {input: kind}. Without it, what has a mean or std is a picture.
    sample_rate  of a sound, in Hz, or {input: rate}.

    What is said without a name is meant for the only input of the main graph, or its only output.
    Raises InputError for anything else, and where numbers do not fit the tensor; FileMissing.
    """
    for name in facts:
        if name not in FIELDS:
            raise InputError(f"metadata have no '{name}'", hint=f"they have {', '.join(FIELDS)}")
    for name in OF_MODEL:
        if not isinstance(facts.get(name, ""), str):
            raise InputError(f"the {name} of a model is a text, got {facts[name]!r}")
    signature = next((s for s in module.signatures if s.graph == 0), None) or Signature("", {}, {})
    inputs, outputs = (
        _names(tensors, signed)
        for tensors, signed in ((module.main.inputs, signature.inputs), (module.main.outputs, signature.outputs))
    )
    told = {field: _by_tensor(facts[field], inputs, "input", field) for field in OF_INPUTS if field in facts}
    takes = tuple(
        _input(name, t, {field: values[name] for field, values in told.items() if name in values})
        for name, t in inputs.items()
    )
    labels = _by_tensor(facts["labels"], outputs, "output", "labels") if "labels" in facts else {}
    files = {name: _lines(value, outputs[name], name) for name, value in labels.items()}
    titles = {name: "labels.txt" if len(files) == 1 else f"labels_{i}.txt" for i, name in enumerate(files)}
    gives = tuple(
        TensorInfo(name, files=(File(titles[name], "class names", "TENSOR_AXIS_LABELS"),) if name in files else ())
        for name in outputs
    )
    parser = PARSER_OF_AUDIO if any(isinstance(t.content, Audio) for t in takes) else OLDEST_PARSER
    texts = {name: facts.get(name, "") for name in OF_MODEL}
    entry = ModelInfo(**texts, inputs=takes, outputs=gives, minimum_parser=parser)
    module.metadata[metadata.ENTRY] = metadata.write(entry)
    if files:
        module.extras["associated_files"] = {titles[name]: text for name, text in files.items()}


def _names(tensors: Sequence[Tensor], signed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{name: tensor} in the graph's order, which is that of the metadata."""
    names = {t: name for name, t in signed.items()}
    return {names.get(t, t.name): t for t in tensors}


def _by_tensor(value: Any, tensors: Mapping[str, Tensor], what: str, field: str) -> dict[str, Any]:
    """{tensor: value}, of a value for the only one, or of a dict by name."""
    hint = f"the {what}s are {', '.join(tensors)}"
    if not isinstance(value, Mapping):
        if len(tensors) != 1:
            raise InputError(f"for which {what} is the metadata's '{field}'? There are {len(tensors)}", hint=hint)
        return {next(iter(tensors)): value}
    for name in value:
        if name not in tensors:
            raise InputError(f"the metadata's '{field}' is for '{name}', which is no {what}", hint=hint)
    return dict(value)


def _input(name: str, t: Tensor, told: Mapping[str, Any]) -> TensorInfo:
    normalized = "mean" in told or "std" in told
    kind = told.get("input_kind", "audio" if "sample_rate" in told else "image" if normalized else "features")
    if kind not in KINDS:
        raise InputError(f"input '{name}' is of kind {kind!r}", hint=f"kinds are {', '.join(KINDS)}")
    if kind != "audio" and "sample_rate" in told:
        raise InputError(f"input '{name}' is of kind {kind!r}, which has no sample rate", hint="input_kind='audio'")
    if kind == "audio":
        rate = told.get("sample_rate", 0)
        if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
            raise InputError(f"the sample rate of input '{name}' is {rate!r}", hint="sample_rate=16000")
        return TensorInfo(name, content=Audio(rate, 1), normalization=_normalization(name, 1, told))
    if kind == "features":
        return TensorInfo(name, normalization=_normalization(name, t.type.shape[-1] if t.type.rank else 1, told))
    channels = _channels(name, t)
    found = _normalization(name, channels, told)
    least: tuple[float, ...] = ()
    greatest: tuple[float, ...] = ()
    if found is not None:
        width = max(len(found.mean), len(found.std))
        means, stds = (numbers * (width // len(numbers)) for numbers in (found.mean, found.std))
        least = tuple(-m / s for m, s in zip(means, stds, strict=True))
        greatest = tuple((PIXELS - m) / s for m, s in zip(means, stds, strict=True))
    space = {1: "GRAYSCALE", 3: "RGB"}.get(channels, "UNKNOWN")
    return TensorInfo(name, content=Image(space), normalization=found, minimum=least, maximum=greatest)


def _channels(name: str, t: Tensor) -> int:
    """Of a picture: the last axis has them, or the one after the batch."""
    shape = t.type.shape
    if len(shape) == 2:
        return 1
    places = (shape[-1], shape[-3]) if len(shape) in (3, 4) else ()
    found = next((n for n in places if n in (1, 3, 4)), None)
    if found is None:
        raise InputError(f"input '{name}' {t.type} is no picture: no axis has 1, 3 or 4 channels")
    return found


def _normalization(name: str, channels: int, told: Mapping[str, Any]) -> Normalization | None:
    if "mean" not in told and "std" not in told:
        return None
    mean, std = (_numbers(told.get(field, default), f"{field} of input '{name}'")
                 for field, default in (("mean", 0.0), ("std", 1.0)))  # fmt: skip
    if 0 in std:
        raise InputError(f"the std of input '{name}' is 0, and nothing can be divided by it")
    for field, numbers in (("mean", mean), ("std", std)):
        if len(numbers) not in (1, channels):
            raise InputError(f"the {field} of input '{name}' has {len(numbers)} numbers for {channels} channels")
    return Normalization(mean, std)


def _numbers(value: Any, what: str) -> tuple[float, ...]:
    try:
        made = tuple(float(v) for v in value) if isinstance(value, Sequence) else (float(value),)
    except (TypeError, ValueError) as cause:
        raise InputError(f"the {what} is {value!r}", hint="give a number, or one for each channel") from cause
    if not made or not all(abs(v) < float("inf") for v in made):
        raise InputError(f"the {what} is {value!r}", hint="give a number, or one for each channel")
    return made


def _lines(value: Any, t: Tensor, name: str) -> bytes:
    """The label file of an output: as many lines as it has classes."""
    if isinstance(value, str | os.PathLike):
        try:
            data = Path(value).read_bytes()
        except OSError as cause:
            raise FileMissing(f"'{value}' cannot be opened: {cause.strerror}", hint="check the name") from cause
        names = metadata.lines(data)
    else:
        names = [str(v) for v in value] if isinstance(value, Sequence) else []
        if any("\n" in n for n in names):
            raise InputError(f"a class name of output '{name}' has more than one line")
    classes = t.type.shape[-1] if t.type.rank else 1
    if len(names) != classes:
        raise InputError(f"{len(names)} labels for output '{name}' {t.type}, which has {classes} classes")
    return "".join(f"{n}\n" for n in names).encode()
