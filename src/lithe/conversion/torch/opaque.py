"""A part of a model that is not traced: the caller says what it becomes.

results = opaque(write, what, shapes, x, y)     while a function is traced; `write(b, x, y)` writes the builtins
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.torch.rules import Call, rule
from lithe.ir.graph import Tensor

NAME = "lithe::opaque"
Write = Callable[..., Tensor | Sequence[Tensor]]


@dataclass(frozen=True)
class Part:
    """What is known of a part: who writes it, and the shapes of its results from those of its tensors."""

    write: Write
    what: str
    shapes: Callable[..., Any]


class Parts:
    """The parts of one function, by the number that their operators hold."""

    current: Parts | None = None

    def __init__(self) -> None:
        self.parts: list[Part] = []

    @contextmanager
    def known(self) -> Iterator[None]:
        """Inside, numbers are those of these parts."""
        before, Parts.current = Parts.current, self
        try:
            yield
        finally:
            Parts.current = before


def _part(number: int) -> Part:
    assert Parts.current is not None
    return Parts.current.parts[number]


@lru_cache(None)
def _operator() -> Any:
    import torch

    def computed(tensors: list[torch.Tensor], number: int) -> list[torch.Tensor]:
        return [tensors[0].new_empty(shape) for shape in _part(number).shapes(*(t.shape for t in tensors))]

    computed.__annotations__ = {"tensors": list[torch.Tensor], "number": int, "return": list[torch.Tensor]}
    operator = torch.library.custom_op(NAME, computed, mutates_args=())
    operator.register_fake(computed)
    return operator


def opaque(write: Write, what: str, shapes: Callable[..., Any], *tensors: Any) -> list[Any]:
    """Stands for a part of the model being traced, whose results have the type of the first tensor.

    what    it is, for messages.
    shapes  the results' shapes, from those of the tensors.
    """
    assert Parts.current is not None
    Parts.current.parts.append(Part(write, what, shapes))
    made: list[Any] = _operator()(list(tensors), len(Parts.current.parts) - 1)
    return made


@rule(NAME)
def written(b: Builder, c: Call, tensors: Sequence[Tensor], number: int) -> Tensor | Sequence[Tensor]:
    return _part(number).write(b, *tensors)
