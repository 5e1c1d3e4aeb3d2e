"""A part of a function that is not traced: the caller says what it becomes.

results = opaque(write, types, x, y)        while a function is traced; `write(b, x, y)` writes the builtins
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, rule
from lithe.ir.graph import Tensor

NAME = "lithe_opaque"
Write = Callable[..., Tensor | Sequence[Tensor]]


@lru_cache(None)
def _primitive() -> Any:
    from jax.extend.core import Primitive

    primitive = Primitive(NAME)
    primitive.multiple_results = True
    primitive.def_abstract_eval(lambda *arrays, write, what, results: list(results))
    return primitive


def opaque(write: Write, what: str, results: Sequence[Any], *arrays: Any) -> list[Any]:
    """Stands for a part of the function being traced.

    what     it is, for messages.
    results  what it gives, as jax.ShapeDtypeStruct.
    """
    from jax.core import ShapedArray

    types = tuple(ShapedArray(r.shape, r.dtype) for r in results)
    made: list[Any] = _primitive().bind(*arrays, write=write, what=what, results=types)
    return made


@rule(NAME)
def written(b: Builder, e: Equation, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
    return e["write"](b, *inputs)
