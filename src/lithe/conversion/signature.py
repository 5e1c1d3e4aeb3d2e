"""What a caller says about a model's inputs: names, shapes, open dimensions, element types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.conversion.sizes import Sizes
from lithe.errors import InputError
from lithe.types import DTYPES, FLOAT32, DType, TensorType

FORMS = "a shape (1, 224, 224, 3) with None or a name for an open dimension, (shape, dtype), or an array"


@dataclass(frozen=True)
class InputSpec:
    """One input: a dimension is a number, or a name where it is open."""

    shape: tuple[int | str, ...]
    dtype: DType = FLOAT32

    def type(self, sizes: Sizes) -> TensorType:
        """The type with stand-ins for open dimensions."""
        return TensorType(self.dtype, tuple(sizes.stand_in(d) if isinstance(d, str) else d for d in self.shape))


def input_spec(value: Any, name: str, dtype: DType | None = None) -> InputSpec:
    """What a caller wrote for an input, in any of the forms. Raises InputError.

    None (or -1) for a dimension: the first one is "batch", others are named after the input and their place.
    """
    if isinstance(value, InputSpec):
        return value
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = getattr(value.dtype, "name", None) or str(value.dtype).rsplit(".", 1)[-1]
        return InputSpec(_dimensions(value.shape, name), _dtype(kind, name))
    if (
        isinstance(value, Sequence)
        and len(value) == 2
        and isinstance(value[0], Sequence)
        and not isinstance(value[0], str)
    ):
        shape, kind = value
        return InputSpec(_dimensions(shape, name), _dtype(kind, name))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return InputSpec(_dimensions(value, name), dtype or FLOAT32)
    raise InputError(f"input '{name}' is described by {value!r}", hint=f"give {FORMS}")


def _dtype(kind: Any, name: str) -> DType:
    text = kind if isinstance(kind, str) else getattr(kind, "name", None) or np.dtype(kind).name
    if text not in DTYPES:
        raise InputError(f"input '{name}' has the element type {text!r}", hint=f"types are {', '.join(DTYPES)}")
    return DTYPES[text]


def _dimensions(shape: Sequence[Any], name: str) -> tuple[int | str, ...]:
    found: list[int | str] = []
    for axis, d in enumerate(shape):
        if d is None or (isinstance(d, int | np.integer) and d == -1):
            found.append("batch" if axis == 0 else f"{name}_{axis}")
        elif isinstance(d, str):
            found.append(d)
        elif isinstance(d, int | np.integer) and d >= 0:
            found.append(int(d))
        else:
            raise InputError(f"dimension {axis} of input '{name}' is {d!r}", hint=f"give {FORMS}")
    return tuple(found)


def named_inputs(inputs: Any) -> dict[str, Any]:
    """What the caller gave as `inputs`, by name; unnamed ones are x0, x1, ... or x where there is one."""
    if inputs is None:
        return {}
    if isinstance(inputs, Mapping):
        return {str(name): value for name, value in inputs.items()}
    many = isinstance(inputs, list) or (isinstance(inputs, tuple) and bool(inputs) and not _is_shape(inputs))
    values = list(inputs) if many else [inputs]
    return {"x" if len(values) == 1 else f"x{i}": value for i, value in enumerate(values)}


def _is_shape(value: tuple[Any, ...]) -> bool:
    plain = all(d is None or isinstance(d, int | str | np.integer) for d in value)
    return plain or (len(value) == 2 and isinstance(value[0], tuple | list) and not hasattr(value[1], "shape"))
