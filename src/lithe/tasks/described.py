"""What a model says about its tensors, in the words of this room: how to fill an input, what a class is called."""

from __future__ import annotations

from collections.abc import Mapping

from lithe.formats import metadata
from lithe.runtime.function import TensorInfo
from lithe.runtime.model import Model
from lithe.tasks.answers import parse_labels
from lithe.tasks.fitting import Wanted
from lithe.types import DTYPES, TensorType


def wanted_inputs(model: Model, inputs: Mapping[str, TensorInfo]) -> dict[str, Wanted]:
    """{name: what the input takes}, with the normalization and sample rate that the metadata state."""
    module = model.module
    told = metadata.info(module)
    facts = {t.index: i for t, i in zip(module.main.inputs, told.inputs, strict=False)} if told else {}
    wanted = {}
    for name, info in inputs.items():
        type = TensorType(DTYPES[info.dtype], tuple(1 if n == -1 else n for n in info.shape), info.quantization)
        fact = facts.get(info.index)
        normalization = fact.normalization if fact else None
        content = fact.content if fact else None
        wanted[name] = Wanted(
            name,
            type,
            info.shape,
            normalization.mean if normalization and normalization.mean else None,
            normalization.std if normalization and normalization.std else None,
            content.sample_rate if isinstance(content, metadata.Audio) and content.sample_rate else None,
        )
    return wanted


def class_names(model: Model, output: int, classes: int) -> list[str]:
    """The names of an output's classes: from the metadata, else from the only text file behind the model that fits."""
    found = metadata.labels(model.module, output)
    if found:
        return found
    files: Mapping[str, bytes] = model.module.extras.get("associated_files", {})
    texts = [parse_labels(files[name].decode("utf-8", "replace")) for name in files if name.endswith(".txt")]
    fitting = [lines for lines in texts if len(lines) == classes]
    return fitting[0] if len(fitting) == 1 else []
