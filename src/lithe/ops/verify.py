"""The rules of a model that no reader of bytes can see: structure, quantization, and each operator's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a model may ask for; raise one by `dataclasses.replace`.

    file_bytes, constant_bytes, arena_bytes  bytes          tensors, operators  in all graphs
    rank, dimension, elements                of one tensor  call_depth          graphs that call graphs
    """

    file_bytes: int = 2 << 30
    constant_bytes: int = 2 << 30
    arena_bytes: int = 2 << 30
    tensors: int = 100_000
    operators: int = 100_000
    rank: int = 8
    dimension: int = (1 << 31) - 1
    elements: int = (1 << 31) - 1
    call_depth: int = 16
