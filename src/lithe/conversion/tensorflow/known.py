"""Integers that come from shapes, computed while the graph is written, as Python's integers.

Stand-ins of open dimensions go through sums, products and rearrangements and stay recognisable. Comparisons are left
to the running model: no stand-in is of a size that an input will have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.passes.writer import Inexpressible

Attributes = dict[str, Any]


def _axes(axes: np.ndarray) -> tuple[int, ...]:
    return tuple(int(a) for a in axes.reshape(-1))


def _larger(x: np.ndarray, y: np.ndarray) -> Any:
    """An open size is 1 at least; against anything larger it is compared when the model runs."""
    if not (np.all(x <= 1) or np.all(y <= 1)):
        raise Inexpressible("the larger of two open sizes")
    return np.maximum(x, y)


def _truncated(x: np.ndarray, y: np.ndarray) -> Any:
    return np.sign(x) * np.sign(y) * (abs(x) // abs(y))


def _sliced(a: Attributes, x: np.ndarray, begin: np.ndarray, end: np.ndarray, step: np.ndarray) -> Any:
    """Of a vector, which is all that sizes are sliced from."""
    if x.ndim != 1 or begin.size != 1 or a.get("ellipsis_mask") or a.get("new_axis_mask"):
        raise Inexpressible("a slice of sizes of this kind")
    first = None if a.get("begin_mask") else int(begin[0])
    if a.get("shrink_axis_mask"):
        return x[first]
    return x[first : None if a.get("end_mask") else int(end[0]) : int(step[0])]


def _squeezed(a: Attributes, x: np.ndarray) -> Any:
    return np.squeeze(x, tuple(a.get("squeeze_dims") or ()) or None)


def _slice(a: Attributes, x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> Any:
    starts, sizes = begin.tolist(), size.tolist()
    return x[tuple(slice(b, None if n == -1 else b + n) for b, n in zip(starts, sizes, strict=True))]


# (attributes, *operands) -> the result; operands are arrays of Python's integers
KNOWN: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("Add", "AddV2"), lambda a, x, y: x + y), "Sub": lambda a, x, y: x - y,
    "Mul": lambda a, x, y: x * y, "Neg": lambda a, x: -x, "FloorDiv": lambda a, x, y: x // y,
    "FloorMod": lambda a, x, y: x % y, "Div": lambda a, x, y: _truncated(x, y),
    "TruncateDiv": lambda a, x, y: _truncated(x, y),
    "Maximum": lambda a, x, y: _larger(x, y),
    "Prod": lambda a, x, axes: np.prod(x, _axes(axes), keepdims=bool(a.get("keep_dims"))),
    "Sum": lambda a, x, axes: np.sum(x, _axes(axes), keepdims=bool(a.get("keep_dims"))),
    "Pack": lambda a, *xs: np.stack(xs, a.get("axis") or 0),
    "ConcatV2": lambda a, *xs: np.concatenate([x.astype(object) for x in xs[:-1]], int(xs[-1])),
    "StridedSlice": _sliced, "Slice": _slice, "Squeeze": _squeezed,
    **dict.fromkeys(("Gather", "GatherV2"), lambda a, x, i, axis=0: np.take(x, i.astype(np.int64), int(axis))),
    "ExpandDims": lambda a, x, axis: np.expand_dims(x, int(axis)),
    "Reshape": lambda a, x, shape: x.reshape([int(n) for n in shape]),
    "ReverseV2": lambda a, x, axes: np.flip(x, _axes(axes)),
    "Tile": lambda a, x, times: np.tile(x, [int(n) for n in times]),
    "Cast": lambda a, x: x,
}  # fmt: skip
