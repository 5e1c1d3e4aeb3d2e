"""A part of a model that is not traced: the caller says what it becomes.

results = opaque(write, what, shapes, x, y)     while a function is traced; `write(b, x, y)` writes the builtins
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.opaque import Part, Write, number_of, part
from lithe.conversion.torch.rules import Call, rule
from lithe.ir.graph import Tensor

NAME = "lithe::opaque"


@lru_cache(None)
def _operator() -> Any:
    import torch

    def computed(tensors: list[torch.Tensor], number: int) -> list[torch.Tensor]:
        return [tensors[0].new_empty(shape) for shape in part(number).shapes(*(t.shape for t in tensors))]

    computed.__annotations__ = {"tensors": list[torch.Tensor], "number": int, "return": list[torch.Tensor]}
    operator = torch.library.custom_op(NAME, computed, mutates_args=())
    operator.register_fake(computed)
    return operator


def opaque(write: Write, what: str, shapes: Callable[..., Any], *tensors: Any) -> list[Any]:
    """Stands for a part of the model being traced, whose results have the type of the first tensor.

    what    it is, for messages.
    shapes  the results' shapes, from those of the tensors.
    """
    made: list[Any] = _operator()(list(tensors), number_of(Part(write, what, shapes)))
    return made


@rule(NAME)
def written(b: Builder, c: Call, tensors: Sequence[Tensor], number: int) -> Tensor | Sequence[Tensor]:
    return part(number).write(b, *tensors)
