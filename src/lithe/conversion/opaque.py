"""Parts of a function that a framework does not trace: the caller says what they become.

A front end has `opaque(write, what, shapes, *tensors)`, which stands for a part while a function is traced. Frameworks
whose operators hold nothing but numbers hold that of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lithe.ir.graph import Tensor

Write = Callable[..., Tensor | Sequence[Tensor]]


@dataclass(frozen=True)
class Part:
    """What is known of a part.

    write   (b, *tensors): writes it.
    what    it is, for messages.
    shapes  of its results, from those of its tensors. Results have the type of the first tensor.
    """

    write: Write
    what: str
    shapes: Callable[..., Any]


class Parts:
    """The parts of one function, by number."""

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


def part(number: int) -> Part:
    """The part with this number, of the function that is being traced or written."""
    assert Parts.current is not None
    return Parts.current.parts[number]


def number_of(part: Part) -> int:
    """The number of a part that is met while a function is traced."""
    assert Parts.current is not None
    Parts.current.parts.append(part)
    return len(Parts.current.parts) - 1
