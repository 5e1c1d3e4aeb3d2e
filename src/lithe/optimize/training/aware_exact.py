"""What operators do to integers, bit for bit, in operations of Keras.

Quantized values are tensors of float32 that hold steps: stored integer - zero point, always a whole number. An operator
is computed on them in the first of these ways that it can be:

moved    it chooses among elements: the operation of Keras does the same to steps
table    it is elementwise on few values: what `Op.evaluate` makes of all of them is looked up
summed   it is a sum of products with constant weights: float32 holds the sums exactly, in parts if need be
hosted   `Op.evaluate` itself, as a call from the accelerator to the host
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from lithe.errors import ModelError
from lithe.ir.arithmetic import activation_range
from lithe.ir.graph import Node
from lithe.ops.contraction import multipliers
from lithe.ops.op import Site
from lithe.optimize.training.aware_rules import PRODUCTS
from lithe.passes.infer_shapes import inferred
from lithe.types import BOOL, FLOAT32, INT32, TensorType

LARGEST_TABLE = 1 << 16
EXACT = 1 << 24  # float32 holds every whole number up to this one
PART = 16  # weights are 16 * high + low where sums could pass `EXACT`
Exact = Callable[[Sequence[Any]], list[Any]]


def is_stored(t: TensorType | None) -> bool:
    """Whether a tensor's values are steps here."""
    return t is not None and t.quantization is not None and t.dtype.is_integer


def zero_of(t: TensorType) -> int:
    return t.quantization.zero_point[0] if t.quantization is not None and t.quantization.zero_point else 0


# tables


def table_of(node: Node) -> np.ndarray | None:
    """The result for all stored values of the operands, the last one's running fastest; as it is stored, which
    compiles faster than steps of float32: a table is a constant of the program.

    None where there are too many, or the operator is not elementwise on quantized values.
    """
    site = Site.of(node)
    types = [t for t in site.inputs if t is not None]
    if not node.op.elementwise or len(types) != len(site.inputs) or not all(map(is_stored, (*types, *site.outputs))):
        return None
    sizes = [1 << t.dtype.bits for t in types]
    if math.prod(sizes) > LARGEST_TABLE or any(
        t.quantization is not None and t.quantization.per_channel for t in types
    ):
        return None
    values = [np.arange(t.dtype.minimum, t.dtype.maximum + 1).astype(t.dtype.numpy) for t in types]
    grid = [v.ravel() for v in np.meshgrid(*values, indexing="ij")]
    (result,) = node.op.evaluate(_sited(node, [v.shape for v in grid], [None] * len(grid)), *grid)
    return result


def looked_up(node: Node, table: np.ndarray) -> Exact:
    types = [t.type for t in node.inputs if t is not None]
    zero = float(zero_of(node.outputs[0].type))

    def exact(steps: Sequence[Any]) -> list[Any]:
        place: Any = 0.0
        for x, t in zip(steps, types, strict=True):
            place = place * (1 << t.dtype.bits) + (x + float(zero_of(t) - t.dtype.minimum))
        return [ops.cast(_entries(ops.convert_to_tensor(table), ops.cast(place, "int32")), "float32") - zero]

    return exact


def _entries(table: Any, places: Any) -> Any:
    """Where all places are in the table. JAX's own look-up minds others, which XLA compiles ten times as long: it goes
    through all look-ups before to know whether they were such."""
    if keras.backend.backend() == "jax":
        return table.at[places].get(mode="promise_in_bounds")
    return ops.take(table, places, axis=0)


# sums of products


def parts_needed(node: Node) -> int:
    """In how many parts weights have to be split for exact sums; 0: there is no such sum here."""
    site = Site.of(node)
    if node.op.name not in PRODUCTS or not is_stored(site.outputs[0]) or len(site.outputs) > 1:
        return 0
    x, w = site.input(0), site.input(1)
    axis, terms = node.op.weights_axis, 1
    if x.dtype.bits != 8 or w.dtype.bits != 8 or getattr(node.attrs, "weights_format", "DEFAULT") != "DEFAULT":
        return 0
    terms = math.prod(n for a, n in enumerate(w.shape) if a != axis)
    for parts, largest in ((1, w.dtype.maximum), (2, PART // 2)):
        if terms * (1 << x.dtype.bits) * largest < EXACT:
            return parts
    return 0


def summed(node: Node, total: Any, steps: Sequence[Any]) -> Any:
    """The steps of the result.

    total  the product as one sum of float32, which is exact where one part is enough.
    """
    site = Site.of(node)
    if parts_needed(node) == 1:
        whole = ops.cast(ops.round(total), "int32")
    else:
        x, w = steps[0], steps[1]
        high = ops.round(w / PART)
        halves = (PRODUCTS[node.op.name](node, x, half) for half in (high, w - PART * high))
        first, second = (ops.cast(ops.round(half), "int32") for half in halves)
        whole = first * PART + second
    if len(steps) > 2 and steps[2] is not None:
        whole = whole + ops.cast(steps[2], "int32")
    low, high = bounds(node)
    factor = ops.convert_to_tensor(multipliers(site, site.outputs[0].shape[-1]))
    return ops.round(ops.clip(ops.cast(whole, "float32") * factor, low, high))


def bounds(node: Node) -> tuple[float, float]:
    """The least and the greatest steps that the first result of a node may have."""
    y = node.outputs[0].type
    assert y.quantization is not None
    scale, zero = y.quantization.scale[0], zero_of(y)
    fused = getattr(node.attrs, "fused_activation_function", "NONE")
    known = fused in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")
    low, high = activation_range(fused if known else "NONE", scale, zero, y.dtype)
    return float(low - zero), float(high - zero)


# the host


def _sited(node: Node, shapes: Sequence[Any], values: Sequence[Any]) -> Site:
    """The node's site for operands of these shapes."""
    site = Site.of(node)
    inputs = tuple(None if t is None else replace(t, shape=tuple(s)) for t, s in zip(site.inputs, shapes, strict=True))
    site = replace(site, inputs=inputs, constants=tuple(values), memory={} if node.op.stateful else None)
    made = zip(site.outputs, inferred(node, site), strict=True)
    return replace(site, outputs=tuple(replace(t, shape=tuple(s)) for t, s in made))


def hosted(node: Node) -> Exact:
    """The node by `Op.evaluate`. What it keeps from run to run begins with zeros in each.

    A whole batch at a time, or one example after another where a constant says that there is one.
    """

    def exact(operands: Sequence[Any]) -> list[Any]:
        given = [i for i, x in enumerate(operands) if x is not None and not isinstance(x, np.ndarray)]
        constants = [x if isinstance(x, np.ndarray) else None for x in operands]
        known = [None if t is None else t.data for t in node.inputs]
        computed = [i for i in given if node.inputs[i].data is None and operands[i].shape]  # type: ignore[union-attr]
        batch = operands[computed[0]].shape[0] if computed else 1
        shapes = [
            None if t is None else _with_batch(t.type, batch) if t.is_variable else x.shape
            for x, t in zip(operands, node.inputs, strict=True)
        ]

        def once(arrays: dict[int, np.ndarray], count: int) -> list[np.ndarray]:
            values = [arrays.get(i, x) for i, x in enumerate(constants)]
            stored = [_as_stored(v, t, count) for v, t in zip(values, node.inputs, strict=True)]
            now = [None if k is None else v for v, k in zip(stored, known, strict=True)]
            site = _sited(node, [None if v is None else v.shape for v in stored], now)
            with np.errstate(all="ignore"):
                made = node.op.evaluate(site, *stored)
            return [_as_steps(np.asarray(y), t.type) for y, t in zip(made, node.outputs, strict=True)]

        def run(*tensors: Any) -> list[np.ndarray]:
            arrays = {i: np.asarray(a) for i, a in zip(given, tensors, strict=True)}
            count = arrays[computed[0]].shape[0] if computed else 1
            if together:
                return once(arrays, count)
            rows = (once({i: a[n : n + 1] if i in computed else a for i, a in arrays.items()}, 1) for n in range(count))
            return [np.concatenate(parts) for parts in zip(*rows, strict=True)]

        results, together = _results(node, shapes, known, batch)
        kinds = [_kind(t.type) for t in node.outputs]
        return on_host(run, results, kinds, [ops.stop_gradient(operands[i]) for i in given])

    return exact


def _results(node: Node, shapes: Sequence[Any], known: Sequence[Any], batch: int | None) -> tuple[list[Any], bool]:
    """The shapes of the results for a batch, and whether the operator takes it as a whole."""
    declared = [_with_batch(t.type, batch) if t.type.shape[:1] == (1,) else t.type.shape for t in node.outputs]
    tried = [None if s is None else tuple(2 if n is None else n for n in s) for s in shapes]
    try:
        found = [t.shape for t in _sited(node, tried, known).outputs]
    except ModelError:
        return declared, False
    return (declared, True) if any(None in s for s in shapes if s is not None) else (found, True)


def _with_batch(t: TensorType, batch: int | None) -> tuple[int | None, ...]:
    return (batch, *t.shape[1:])


def _as_stored(value: Any, t: Any, batch: int) -> np.ndarray | None:
    """An operand as `Op.evaluate` takes it."""
    if t is None:
        return None
    if t.is_variable and value is None:
        zero = zero_of(t.type) if t.type.dtype.bits == 8 and is_stored(t.type) else 0
        return np.full((batch, *t.type.shape[1:]), zero, t.type.dtype.numpy)
    if not is_stored(t.type):
        return np.asarray(value, t.type.dtype.numpy)
    return (np.rint(value) + zero_of(t.type)).astype(t.type.dtype.numpy)


def _as_steps(value: np.ndarray, t: TensorType) -> np.ndarray:
    return (value.astype(np.float32) - np.float32(zero_of(t))) if is_stored(t) else value.astype(_kind(t))


def _kind(t: TensorType) -> np.dtype:
    """The element type in which Keras holds a tensor."""
    if is_stored(t) or t.dtype.is_float:
        return FLOAT32.numpy
    return BOOL.numpy if t.dtype == BOOL else INT32.numpy


def on_host(run: Callable[..., list[np.ndarray]], shapes: Sequence[Any], kinds: Sequence[np.dtype],
            tensors: Sequence[Any]) -> list[Any]:  # fmt: skip
    """What a function of numpy makes of tensors, in whatever backend Keras runs on."""
    match keras.backend.backend():
        case "jax":
            import jax

            types = [jax.ShapeDtypeStruct(s, k) for s, k in zip(shapes, kinds, strict=True)]
            return list(jax.pure_callback(run, types, *tensors))
        case "tensorflow":
            import tensorflow

            made = tensorflow.numpy_function(run, list(tensors), [tensorflow.as_dtype(k) for k in kinds])
            made = made if isinstance(made, list | tuple) else [made]
            for y, shape in zip(made, shapes, strict=True):
                y.set_shape(shape)
            return list(made)
        case "torch":
            device = tensors[0].device if tensors else "cpu"
            made = run(*(x.detach().cpu().numpy() for x in tensors))
            return [ops.convert_to_tensor(y).to(device) for y in made]
        case _:
            return [ops.convert_to_tensor(y) for y in run(*map(np.asarray, tensors))]
