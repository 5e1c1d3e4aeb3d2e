"""What a model says about itself: the TensorFlow Lite metadata (names, normalization, labels) as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lithe.errors import ModelError
from lithe.formats import flatbuffer, flatbuffer_write
from lithe.formats.schema import METADATA
from lithe.ir.graph import Module

ENTRY = "TFLITE_METADATA"
LABEL_TYPES = ("TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS")


@dataclass(frozen=True)
class File:
    """A file in the archive behind the model. `type` is a member of the schema's AssociatedFileType."""

    name: str
    description: str = ""
    type: str = "UNKNOWN"
    locale: str = ""
    version: str = ""


@dataclass(frozen=True)
class Image:
    """color_space: "UNKNOWN", "RGB" or "GRAYSCALE"; size: (width, height) for inputs of any size, else None."""

    color_space: str = "UNKNOWN"
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Audio:
    """sample_rate in Hz."""

    sample_rate: int
    channels: int


@dataclass(frozen=True)
class Boxes:
    """type: "BOUNDARIES", "UPPER_LEFT" or "CENTER"; coordinates: "RATIO" or "PIXEL"; order: of the four values."""

    type: str
    coordinates: str
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std, one value for all channels or one for each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TensorInfo:
    """One input or output.

    content        Image, Audio, Boxes, or None for plain features.
    threshold      scores below it are not worth showing; None when not stated.
    minimum, maximum  of the values, one or one a channel; () when not stated.
    process        the other steps as (name, fields), such as tokenizers and score calibration.
    """

    name: str = ""
    description: str = ""
    dimension_names: tuple[str, ...] = ()
    content: Image | Audio | Boxes | None = None
    content_range: tuple[int, int] | None = None
    normalization: Normalization | None = None
    threshold: float | None = None
    process: tuple[tuple[str, dict[str, Any]], ...] = ()
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class ModelInfo:
    """A model's metadata; inputs and outputs are in the order of the main graph's."""

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    output_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    files: tuple[File, ...] = ()
    minimum_parser: str = ""


def parse(data: bytes) -> ModelInfo:
    """The metadata in an entry's bytes; raises ModelError when they are damaged."""
    try:
        record = flatbuffer.read(memoryview(data), METADATA)
    except ModelError as e:
        raise ModelError(e.problem, where=f"metadata '{ENTRY}', {e.where}", hint=e.hint) from None
    graphs = record["subgraph_metadata"] or [METADATA.default("SubGraphMetadata")]
    main = graphs[0]
    return ModelInfo(
        name=record["name"] or "",
        description=record["description"] or "",
        version=record["version"] or "",
        author=record["author"] or "",
        license=record["license"] or "",
        inputs=tuple(_tensor(t) for t in main["input_tensor_metadata"] or ()),
        outputs=tuple(_tensor(t) for t in main["output_tensor_metadata"] or ()),
        output_groups=tuple(
            (g["name"] or "", tuple(g["tensor_names"] or ())) for g in main["output_tensor_groups"] or ()
        ),
        files=_files(record["associated_files"]) + _files(main["associated_files"]),
        minimum_parser=record["min_parser_version"] or "",
    )


def write(info: ModelInfo) -> bytes:
    """The bytes of the entry `ENTRY`; `parse` gives the same information again."""
    main = {
        "input_tensor_metadata": [_tensor_record(t) for t in info.inputs],
        "output_tensor_metadata": [_tensor_record(t) for t in info.outputs],
        "output_tensor_groups": [{"name": name, "tensor_names": names} for name, names in info.output_groups] or None,
    }
    record = {
        "name": info.name or None,
        "description": info.description or None,
        "version": info.version or None,
        "author": info.author or None,
        "license": info.license or None,
        "subgraph_metadata": [main],
        "associated_files": _file_records(info.files),
        "min_parser_version": info.minimum_parser or None,
    }
    return flatbuffer_write.write(record, METADATA)


def info(module: Module) -> ModelInfo | None:
    """The metadata of a model, None when it has none."""
    data = module.metadata.get(ENTRY)
    return None if data is None else parse(data)


def labels(module: Module, output: int = 0, locale: str = "") -> list[str] | None:
    """The class names of an output, None when the model has none.

    locale  "en", "de-CH" ...: that language's file if there is one, else the first.
    """
    found = info(module)
    if found is None or not 0 <= output < len(found.outputs):
        return None
    files = [f for f in found.outputs[output].files if f.type in LABEL_TYPES]
    archive: Mapping[str, bytes] = module.extras.get("associated_files", {})
    chosen = next((f for f in files if f.locale == locale and f.name in archive), None)
    chosen = chosen or next((f for f in files if f.name in archive), None)
    if chosen is None:
        return None
    return lines(archive[chosen.name])


def lines(data: bytes) -> list[str]:
    """The lines of a label file, without the empty ones at its end."""
    text = [line.strip() for line in data.decode("utf-8", "replace").split("\n")]
    while text and not text[-1]:
        text.pop()
    return text


def _floats(vector: Any) -> tuple[float, ...]:
    return () if vector is None else tuple(vector.tolist())


def _files(records: list[dict[str, Any]] | None) -> tuple[File, ...]:
    return tuple(
        File(
            r["name"] or "",
            r["description"] or "",
            r["type"] if isinstance(r["type"], str) else "UNKNOWN",
            r["locale"] or "",
            r["version"] or "",
        )
        for r in records or ()
    )


def _content(union: tuple[str, dict[str, Any]] | None) -> Image | Audio | Boxes | None:
    match union:
        case ("ImageProperties", p):
            size = p["default_size"]
            return Image(str(p["color_space"]), None if size is None else (size["width"], size["height"]))
        case ("AudioProperties", p):
            return Audio(p["sample_rate"], p["channels"])
        case ("BoundingBoxProperties", p):
            order = () if p["index"] is None else tuple(p["index"].tolist())
            return Boxes(str(p["type"]), str(p["coordinate_type"]), order)
        case _:
            return None


def _tensor(r: dict[str, Any]) -> TensorInfo:
    content = r["content"] or METADATA.default("Content")
    span, stats = content["range"], r["stats"] or METADATA.default("Stats")
    normalization, threshold, process = None, None, []
    for unit in r["process_units"] or ():
        match unit["options"]:
            case ("NormalizationOptions", p):
                normalization = Normalization(_floats(p["mean"]), _floats(p["std"]))
            case ("ScoreThresholdingOptions", p):
                threshold = p["global_score_threshold"]
            case (name, p):
                process.append((name, p))
    return TensorInfo(
        name=r["name"] or "",
        description=r["description"] or "",
        dimension_names=tuple(r["dimension_names"] or ()),
        content=_content(content["content_properties"]),
        content_range=None if span is None else (span["min"], span["max"]),
        normalization=normalization,
        threshold=threshold,
        process=tuple(process),
        minimum=_floats(stats["min"]),
        maximum=_floats(stats["max"]),
        files=_files(r["associated_files"]),
    )


def _file_records(files: tuple[File, ...]) -> list[dict[str, Any]] | None:
    return [{k: v or None if k != "type" else v for k, v in vars(f).items()} for f in files] or None


def _content_record(content: Image | Audio | Boxes | None) -> tuple[str, dict[str, Any]]:
    match content:
        case Image():
            size = None if content.size is None else {"width": content.size[0], "height": content.size[1]}
            return "ImageProperties", {"color_space": content.color_space, "default_size": size}
        case Audio():
            return "AudioProperties", {"sample_rate": content.sample_rate, "channels": content.channels}
        case Boxes():
            order = list(content.order) or None
            return "BoundingBoxProperties", {
                "type": content.type, "coordinate_type": content.coordinates, "index": order,
            }  # fmt: skip
        case _:
            return "FeatureProperties", {}


def _tensor_record(t: TensorInfo) -> dict[str, Any]:
    span = None if t.content_range is None else {"min": t.content_range[0], "max": t.content_range[1]}
    units: list[dict[str, Any]] = []
    if t.normalization is not None:
        numbers = {"mean": t.normalization.mean, "std": t.normalization.std}
        units.append({"options": ("NormalizationOptions", numbers)})
    if t.threshold is not None:
        units.append({"options": ("ScoreThresholdingOptions", {"global_score_threshold": t.threshold})})
    units += [{"options": step} for step in t.process]
    stats = {"max": t.maximum or None, "min": t.minimum or None}
    return {
        "name": t.name or None,
        "description": t.description or None,
        "dimension_names": list(t.dimension_names) or None,
        "content": {"content_properties": _content_record(t.content), "range": span},
        "process_units": units or None,
        "stats": stats if t.maximum or t.minimum else None,
        "associated_files": _file_records(t.files),
    }
