"""Drop-ins under the names that users of `tf.lite` and `ai_edge_litert` know.

>>> from lithe.lite import Interpreter            # was: from ai_edge_litert.interpreter import Interpreter
>>> from lithe.lite import TFLiteConverter        # was: tf.lite.TFLiteConverter
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lithe.runtime.analyzer import Analyzer as Analyzer
from lithe.runtime.delegate import Delegate as Delegate
from lithe.runtime.delegate import OpResolverType as OpResolverType
from lithe.runtime.delegate import load_delegate as load_delegate
from lithe.runtime.interpreter import CustomOps as CustomOps
from lithe.runtime.interpreter import Interpreter as Interpreter
from lithe.runtime.interpreter import InterpreterWithCustomOps as InterpreterWithCustomOps
from lithe.runtime.signature import SignatureRunner as SignatureRunner

if TYPE_CHECKING:
    from lithe.conversion.tflite_converter import OpsSet as OpsSet
    from lithe.conversion.tflite_converter import Optimize as Optimize
    from lithe.conversion.tflite_converter import RepresentativeDataset as RepresentativeDataset
    from lithe.conversion.tflite_converter import TargetSpec as TargetSpec
    from lithe.conversion.tflite_converter import TFLiteConverter as TFLiteConverter

OF_CONVERTER = ("OpsSet", "Optimize", "RepresentativeDataset", "TargetSpec", "TFLiteConverter")


class _Lazy(type):
    """Of a class whose attributes are partly imported when they are first used."""

    def __getattr__(cls, name: str) -> Any:
        if name not in OF_DEBUGGER:
            raise AttributeError(f"lithe.lite.experimental has no attribute {name!r}")
        return getattr(importlib.import_module("lithe.conversion.quantization_debugger"), name)


OF_DEBUGGER = ("QuantizationDebugger", "QuantizationDebugOptions")


class experimental(metaclass=_Lazy):
    """Names under `tf.lite.experimental`."""

    Analyzer = Analyzer

    if TYPE_CHECKING:
        from lithe.conversion.quantization_debugger import QuantizationDebugger as QuantizationDebugger
        from lithe.conversion.quantization_debugger import QuantizationDebugOptions as QuantizationDebugOptions


def __getattr__(name: str) -> Any:
    """The converter's names, when they are first used: who runs models does not wait for it."""
    if name not in OF_CONVERTER:
        raise AttributeError(f"module 'lithe.lite' has no attribute {name!r}")
    return getattr(importlib.import_module("lithe.conversion.tflite_converter"), name)
