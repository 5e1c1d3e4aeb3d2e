"""From ONNX: files and models. `onnx` itself is imported when a model is converted."""

from __future__ import annotations

from lithe.conversion.onnx.model import convert

__all__ = ["convert"]
