"""Lithe: on-device machine learning. Trained models made small, fast and correct.

>>> import lithe                                      # doctest: +SKIP
>>> model = lithe.load("digits.tflite")               # doctest: +SKIP
>>> model(image)                                      # doctest: +SKIP

Names are imported when they are first used, so that `import lithe` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lithe import lite as lite
    from lithe import optimize as optimize
    from lithe.conversion.door import convert
    from lithe.errors import (
        CompileError,
        ExecutionError,
        FileMissing,
        InputError,
        LimitError,
        LitheError,
        MissingDependency,
        ModelError,
        ResizeError,
        StateError,
        UnsupportedOp,
    )
    from lithe.ops.op import Op
    from lithe.ops.registration import register_op, unregister_op
    from lithe.optimize.comparison.comparing import compare
    from lithe.optimize.quantization import quantize
    from lithe.runtime.deflexed import deflex
    from lithe.runtime.interpreter import Interpreter
    from lithe.runtime.model import Model, load

    __version__: str

_HOME = {
    "Interpreter": "lithe.runtime.interpreter",
    "Model": "lithe.runtime.model",
    "Op": "lithe.ops.op",
    "compare": "lithe.optimize.comparison.comparing",
    "convert": "lithe.conversion.door",
    "deflex": "lithe.runtime.deflexed",
    "quantize": "lithe.optimize.quantization",
    "register_op": "lithe.ops.registration",
    "unregister_op": "lithe.ops.registration",
    "load": "lithe.runtime.model",
    **dict.fromkeys(
        (
            "CompileError",
            "ExecutionError",
            "FileMissing",
            "InputError",
            "LimitError",
            "LitheError",
            "MissingDependency",
            "ModelError",
            "ResizeError",
            "StateError",
            "UnsupportedOp",
        ),
        "lithe.errors",
    ),
}

__all__ = [
    "CompileError",
    "ExecutionError",
    "FileMissing",
    "InputError",
    "Interpreter",
    "LimitError",
    "LitheError",
    "MissingDependency",
    "Model",
    "ModelError",
    "Op",
    "ResizeError",
    "StateError",
    "UnsupportedOp",
    "__version__",
    "compare",
    "convert",
    "deflex",
    "lite",
    "load",
    "optimize",
    "quantize",
    "register_op",
    "unregister_op",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in ("lite", "optimize"):
        value = importlib.import_module(f"lithe.{name}")
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("lithe")
    else:
        raise AttributeError(f"module 'lithe' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
