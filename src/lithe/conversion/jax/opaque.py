"""A part of a function that is not traced: the caller says what it becomes.

results = opaque(write, what, shapes, x, y)     while a function is traced; `write(b, x, y)` writes the builtins
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, rule
from lithe.conversion.opaque import Write
from lithe.ir.graph import Tensor

NAME = "lithe_opaque"


@lru_cache(None)
def _primitive() -> Any:
    from jax.core import ShapedArray
    from jax.extend.core import Primitive

    def results(*arrays: Any, write: Write, what: str, shapes: Callable[..., Any]) -> list[Any]:
        return [ShapedArray(shape, arrays[0].dtype) for shape in shapes(*(a.shape for a in arrays))]

    primitive = Primitive(NAME)
    primitive.multiple_results = True
    primitive.def_abstract_eval(results)
    return primitive


def opaque(write: Write, what: str, shapes: Callable[..., Any], *arrays: Any) -> list[Any]:
    """Stands for a part of the function being traced, whose results have the type of the first array.

    what    it is, for messages.
    shapes  the results' shapes, from those of the arrays.
    """
    made: list[Any] = _primitive().bind(*arrays, write=write, what=what, shapes=shapes)
    return made


@rule(NAME)
def written(b: Builder, e: Equation, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
    return e["write"](b, *inputs)
