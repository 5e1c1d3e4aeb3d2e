"""A model with builtins in place of TensorFlow's operators."""

from __future__ import annotations

import os

from lithe.ir.graph import Module
from lithe.runtime.model import Model, load


def deflex(model: Model | Module | str | os.PathLike[str] | bytes) -> Model:
    """Returns a copy of the model in which builtins stand for TensorFlow's operators ("select-TF", "Flex").

    An operator that the builtins cannot say stays as it is; `lithe inspect` shows it, and it runs where TensorFlow is
    installed. The copy gives the same numbers as the model, and `.save(path)` writes it for any runtime.

    >>> lithe.deflex("converted.tflite").save("plain.tflite")             # doctest: +SKIP
    """
    from lithe.ops.verify import verify
    from lithe.passes.deflex import deflex_module

    if not isinstance(model, Model | Module):
        model = load(model, cache=False)
    name = model.name if isinstance(model, Model) else ""
    plain = deflex_module(model.module if isinstance(model, Model) else model)
    verify(plain)
    return Model(plain, name=name)
