"""What is computed at conversion time: constants, and integers that come from shapes.

Stand-ins of open dimensions go through sums, products and rearrangements of small arrays and stay recognisable. They
must not go where a size becomes memory, so what has one in it is computed by the functions here; all else by `onnx`'s
own reference implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.conversion.onnx.call import has_open, sizes

LARGEST = 1 << 16  # elements of what is computed here; larger constants are folded by the builder
Known = Callable[..., Any]


def _axes(axes: Any) -> tuple[int, ...] | None:
    return None if axes is None else tuple(int(a) for a in np.asarray(axes).reshape(-1))


def _unsqueeze(a: Any, x: np.ndarray, axes: Any = None) -> np.ndarray:
    return np.expand_dims(x, _axes(a.get("axes") if axes is None else axes) or ())


def _squeeze(a: Any, x: np.ndarray, axes: Any = None) -> np.ndarray:
    return np.squeeze(x, _axes(a.get("axes") if axes is None else axes))


def _slice(a: Any, x: np.ndarray, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    starts, ends, axes = (a.get(n) if v is None else v for n, v in (("starts", starts), ("ends", ends), ("axes", axes)))
    axes = range(len(np.asarray(starts))) if axes is None else np.asarray(axes)
    steps = [1] * len(np.asarray(starts)) if steps is None else steps
    parts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = int(end)
        parts[int(axis)] = slice(int(start), None if step < 0 and stop < -x.shape[int(axis)] else stop, int(step))
    return x[tuple(parts)]


def _reshape(a: Any, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return x.reshape([x.shape[i] if n == 0 and not a.get("allowzero") else int(n) for i, n in enumerate(shape)])


def _divide(a: Any, x: np.ndarray, y: np.ndarray) -> Any:
    return np.fix(x / y) if x.dtype.kind == "f" else (np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)))


def _cast(a: Any, x: np.ndarray, *_: Any) -> np.ndarray:
    """Sizes keep all of their digits, whatever the type between."""
    return x.astype({1: np.float64, 10: np.float64, 11: np.float64, 9: bool}.get(a.get("to"), np.int64))


# (attributes, *operands) -> the result, for arrays with stand-ins in them
WITH_SIZES: dict[str, Known] = {
    "Add": lambda a, x, y: x + y, "Sub": lambda a, x, y: x - y, "Mul": lambda a, x, y: x * y, "Div": _divide,
    "Mod": lambda a, x, y: np.mod(x, y), "Neg": lambda a, x: -x, "Abs": lambda a, x: np.abs(x),
    "Max": lambda a, *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda a, *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Equal": lambda a, x, y: x == y, "Less": lambda a, x, y: x < y, "Greater": lambda a, x, y: x > y,
    "GreaterOrEqual": lambda a, x, y: x >= y, "LessOrEqual": lambda a, x, y: x <= y,
    "Where": lambda a, c, x, y: np.where(c, x, y), "Identity": lambda a, x: x, "Cast": _cast,
    "Floor": lambda a, x: np.floor(x), "Ceil": lambda a, x: np.ceil(x), "Round": lambda a, x: np.round(x),
    "Gather": lambda a, x, i: np.take(x, i, a.get("axis", 0)),
    "Concat": lambda a, *xs: np.concatenate(xs, a["axis"]), "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Slice": _slice, "Reshape": _reshape,
    "ReduceProd": lambda a, x, axes=None: np.prod(x, _axes(a.get("axes") if axes is None else axes),
                                                  keepdims=bool(a.get("keepdims", 1))),
    "ReduceSum": lambda a, x, axes=None: np.sum(x, _axes(a.get("axes") if axes is None else axes),
                                                keepdims=bool(a.get("keepdims", 1))),
}  # fmt: skip


def with_sizes(op: str, attributes: dict[str, Any], operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The result for arrays of which one holds a stand-in; None where that cannot be computed."""
    if op not in WITH_SIZES:
        return None
    plain = [None if o is None else np.asarray(o) for o in operands]
    made = np.asarray(WITH_SIZES[op](attributes, *plain))
    return [sizes(made.astype(np.int64) if made.dtype.kind in "iu" else made)]


def evaluated(node: Any, version: int, operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """What onnx's reference implementation gives for constants; None where it has none."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    inputs = {name: v for name, v in zip(node.input, operands, strict=False) if name and v is not None}
    if any(has_open(v) or v.size > LARGEST for v in inputs.values()):
        return None
    proto = onnx.NodeProto()
    proto.CopyFrom(node)
    try:
        graph = onnx.helper.make_graph(
            [proto], "one",
            [onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
             for n, v in inputs.items()],
            [onnx.helper.make_empty_tensor_value_info(n) for n in node.output if n],
        )  # fmt: skip
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(node.domain, version)])
        made = ReferenceEvaluator(model).run(None, inputs)
    except Exception:  # whatever it meets: the builder says what is wrong, in its own words
        return None
    if not all(isinstance(m, np.ndarray | np.generic) for m in made):
        return None
    results = iter(np.asarray(m) for m in made)
    return [next(results) if name else np.zeros(0) for name in node.output]
