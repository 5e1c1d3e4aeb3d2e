"""From PyTorch: modules and exported programs. `torch` itself is imported when a model is converted."""

from __future__ import annotations

from lithe.conversion.torch.model import convert

__all__ = ["convert"]
