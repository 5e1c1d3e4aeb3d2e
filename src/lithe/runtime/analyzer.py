"""A drop-in for `tf.lite.experimental.Analyzer`."""

from __future__ import annotations

import os

from lithe.errors import InputError
from lithe.runtime.model import load


class Analyzer:
    """Tells what a model is made of."""

    @staticmethod
    def analyze(
        model_path: str | os.PathLike[str] | None = None,
        model_content: bytes | None = None,
        gpu_compatibility: bool = False,
    ) -> None:
        """Prints operators, shapes, weights and signatures of the model in a file or in bytes.

        Raises InputError when not exactly one of both is given, and for `gpu_compatibility`, of which nothing is known.
        """
        if (model_path is None) == (model_content is None):
            raise InputError("`model_path` or `model_content` must be specified, and not both")
        if gpu_compatibility:
            raise InputError("which operators a GPU's delegate takes is not known here", hint="leave it False")
        given = model_content if model_path is None else model_path
        assert given is not None
        model = load(given)
        print(model.summary())
        for key, function in model.signatures.items():
            print(f"signature '{key}': {function!r}")
