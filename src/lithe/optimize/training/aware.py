"""`lithe.optimize.quantize_aware`: a model of Keras is trained on with the integers that will be deployed."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lithe.errors import InputError, ModelError, UnsupportedOp
from lithe.ir.graph import Module, Node, Tensor
from lithe.ops.verify import verify
from lithe.optimize.calibration import calibrated
from lithe.optimize.ranges import observer
from lithe.optimize.recipes import Given, Recipe
from lithe.optimize.recipes import recipe as named
from lithe.optimize.rewriting import Ends, as_integer_graphs
from lithe.optimize.spelling import spell_out
from lithe.optimize.training.aware_layer import IntegerGraph, QuantizeAware  # known to Keras from here on
from lithe.optimize.training.aware_rules import rule_of
from lithe.optimize.training.aware_weights import converted, depends, take_weights, tensors_of
from lithe.runtime.model import Model
from lithe.types import FLOAT32

SHARED = 0.25  # of a constant: with so many zeros these are kept; with so few different values, too
CHECKED = 8  # samples
ADDED = ("QUANTIZE", "DEQUANTIZE")  # what stands between integers and the rest


def quantize_aware(
    model: Any,
    samples: Iterable[Any],
    recipe: Given = "int8",
    *,
    ranges: str = "",
    inputs: Any = None,
) -> Any:
    """Returns a Keras model that computes what the integers of `model` will, to be compiled and trained like any other.

    model    a trained model of Keras 3, on any backend.
    samples  what the model is called with, an iterable of arrays (tuples, dicts) with a batch of one each; a hundred
             do. The ranges of values come from these, as in `lithe.quantize`, and stay as they are in training, until
             `aware.renew_ranges(samples)` finds them anew.
    recipe, ranges   as in `lithe.quantize`.
    inputs   what is open in the inputs' shapes, as in `lithe.convert`: with {"x": (1, 24, 16)} an LSTM is the builtin
             operator.

    `lithe.convert(aware)` gives the integers that it computes with, bit for bit; `strip(aware)` the plain Keras model
    with the trained weights. Batch normalizations are parts of the weights before them, and dropout is gone. Weights
    with many zeros keep these, and weights with few different values stay clustered.

    Raises InputError when the model is none of Keras, UnsupportedOp where an operator has no gradient here.

    >>> aware = lithe.optimize.quantize_aware(model, images[:100, None])        # doctest: +SKIP
    >>> aware.compile("adam", "sparse_categorical_crossentropy")                # doctest: +SKIP
    >>> aware.fit(images, labels)                                               # doctest: +SKIP
    >>> lithe.convert(aware).save("small.tflite")                               # doctest: +SKIP
    """
    if hasattr(model, "stripped"):  # pruned or clustered before
        from lithe.optimize.training.strip import strip

        model = strip(model)
    keras = keras_of(model)
    whole = converted(model, inputs)
    trained = depends(model, inputs, whole)
    first: list[Any] = []
    small, found = _integers(whole, _remembered(samples, first), named(recipe), ranges)
    sources = {t: list(place) for place, t in reversed(tensors_of(whole).items())}
    masters: list[dict[str, Any]] = [
        {
            "places": places,
            "source": sources.get(tensor),
            "shape": list(tensor.type.shape),
            "trainable": tensor in trained,
            "keeps": _keeps(tensor),
        }
        for tensor, places in found.items()
    ]
    _require_gradients(small.module, {tuple(p) for m in masters if m["trainable"] for p in m["places"]})
    copy = keras.models.clone_model(model)
    take_weights(copy, model)
    layer = IntegerGraph(_file(small), masters, copy, _shapes(whole), name="integers")
    aware = _assembled(keras, model, layer, list(small.outputs), QuantizeAware)
    layer.set_masters([np.asarray(t.data) for t in found])
    _agree(aware, first)
    return aware


def renew(aware: QuantizeAware, samples: Iterable[Any], recipe: Given, ranges: str) -> None:
    """`QuantizeAware.renew_ranges`."""
    layer = aware.integer_graph
    if hasattr(aware, "jax_state_sync"):  # while it is trained, JAX has its own copies of weights
        aware.jax_state_sync()
    whole = converted(layer.plain(), layer.plain_shapes)
    constants = tensors_of(whole)
    for place, array in layer.trained().items():
        constants[place].data = array.astype(np.float32)
    first: list[Any] = []
    small, found = _integers(whole, _remembered(samples, first), named(recipe), ranges)
    if _kinds(small.module) != _kinds(layer.module):
        raise InputError(
            "the recipe makes other integers than those that are trained",
            hint="give the recipe that quantize_aware was given",
        )
    layer.become(_file(small), list(found.values()))
    aware.compile_anew()
    _agree(aware, first)


def _kinds(module: Module) -> list[Any]:
    """What computes which integers, whatever their scales."""
    nodes = [n for n in module.main.nodes if n.op.name not in ADDED]
    return [(n.op.name, [t.type.dtype for t in (*n.inputs, *n.outputs) if t is not None]) for n in nodes]


def _integers(
    whole: Model, samples: Iterable[Any], recipe: Recipe, ranges: str
) -> tuple[Model, dict[Tensor, list[list[int]]]]:
    """The float model as one of integers, before any repair of its weights, as training is to repair them; and each
    constant of real numbers, with the places where it is an operand now: numbers of a node and of its operand."""
    module = whole.module.copy()
    own = dict(zip(module.main.tensors, whole.module.main.tensors, strict=True))
    plan = recipe.plan(module)
    if not plan.has_integers:
        raise InputError("the recipe computes with real numbers", hint="recipes for training are int8 and int16x8")
    if any(n.op.name in ADDED for n in module.main.nodes):
        raise InputError("the model is quantized already", hint="give the float model")
    plan = spell_out(module, plan)
    before = [(n.op.name, list(n.inputs)) for n in module.main.nodes]
    make = observer(ranges or recipe.ranges)
    seen = calibrated(module, samples, lambda seen: make())
    became = as_integer_graphs(module, seen, plan, Ends())
    for s in module.signatures:
        s.inputs = {name: became.get(t, t) for name, t in s.inputs.items()}
        s.outputs = {name: became.get(t, t) for name, t in s.outputs.items()}
    verify(module)
    after = [(i, n) for i, n in enumerate(module.main.nodes) if n.op.name not in ADDED]
    found: dict[Tensor, list[list[int]]] = {}
    for (name, inputs), (number, node) in zip(before, after, strict=True):
        for i, t in enumerate(inputs):
            if t is not None and t.data is not None and t.type.dtype == FLOAT32 and name == node.op.name:
                found.setdefault(own.get(t, t), []).append([number, i])
    return Model(module), found


def keras_of(model: Any) -> Any:
    """Keras, of which the model is one."""
    import keras

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise InputError(
            f"a functional or sequential model of Keras 3 is needed, this is {type(model).__name__}",
            hint="a subclassed model can be wrapped: keras.Model(x, model(x)) with x = keras.Input(...)",
        )
    return keras


def _keeps(t: Tensor) -> str | int:
    """What of a constant stays as it is in training: its zeros, its clusters (so many), or nothing."""
    assert t.data is not None
    if t.data.ndim < 2 or t.data.size < 16:
        return ""
    different = len(np.unique(t.data))
    if different <= min(256, t.data.size * SHARED):
        return different
    return "zeros" if (t.data == 0).mean() >= SHARED else ""


def _require_gradients(module: Module, trained: set[tuple[int, int]]) -> None:
    reached: set[Tensor] = set()
    missing: list[Node] = []
    for number, node in enumerate(module.main.nodes):
        if node.op.calls:  # what it runs has weights of its own
            missing.append(node)
        if not any(t in reached or (number, i) in trained for i, t in enumerate(node.inputs) if t is not None):
            continue
        real = [t for t in node.outputs if t.type.dtype.is_float or t.type.quantization is not None]
        reached.update(real)
        if real and rule_of(node) is None and node not in missing:
            missing.append(node)
    if missing:
        names = ", ".join(sorted({n.op.name for n in missing}))
        raise UnsupportedOp(
            f"there is no gradient for {names}",
            hint="give loops a fixed length, or train without it and use lithe.quantize",
        )


def _assembled(keras: Any, model: Any, layer: Any, names: list[str], kind: Any) -> Any:
    """A functional model around the layer, with the inputs and outputs of another one."""
    given = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs]
    made = layer(given if len(given) > 1 else given[0])
    results = made if isinstance(made, list) else [made]
    taken = {t.name for t in given} | {layer.name}
    results = [
        keras.layers.Identity(name=n if n not in taken else f"{n}_result")(t)
        for n, t in zip(names, results, strict=True)
    ]
    outputs = results if len(results) > 1 else results[0]
    return kind(given if len(given) > 1 else given[0], outputs, name=f"{model.name}_aware")


def _shapes(model: Model) -> dict[str, list[int | None]]:
    """The inputs' shapes as they were converted."""
    tensors = model.module.main.inputs
    shapes = [t.shape_signature or t.type.shape for t in tensors]
    return {name: [None if n == -1 else n for n in s] for name, s in zip(model.inputs, shapes, strict=True)}


def _file(model: Model) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.tflite")
        model.save(path)
        with open(path, "rb") as file:
            return base64.b64encode(file.read()).decode("ascii")


def _remembered(samples: Iterable[Any], first: list[Any]) -> Iterator[Any]:
    for sample in samples:
        if len(first) < CHECKED:
            first.append(sample)
        yield sample


def _agree(aware: Any, samples: Sequence[Any]) -> None:
    """The layer and the model of integers give the same bits on the samples, or it is no use to train."""
    from keras import ops, tree

    small = aware.to_lithe()
    if not exact(small.module):
        return
    for sample in samples:
        arrays = list(sample.values()) if isinstance(sample, dict) else sample
        arrays = list(arrays) if isinstance(arrays, list | tuple) else [arrays]
        small.reset()
        wanted = small(*arrays)
        wanted = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
        found = tree.flatten(aware(arrays if len(arrays) > 1 else arrays[0], training=True))
        for w, f in zip(wanted, found, strict=True):
            if not np.array_equal(w, ops.convert_to_numpy(f)):
                difference = float(np.abs(w - ops.convert_to_numpy(f)).max())
                raise ModelError(
                    f"in training the model would differ from its integers by {difference}",
                    hint="sums of float32 must be exact: switch off TF32 and other short forms of the accelerator",
                )


def exact(module: Module) -> bool:
    """Whether all of a model but its ends is computed on integers, so that every bit is known."""
    return all(not t.type.dtype.is_float for n in module.main.nodes if n.op.name not in ADDED for t in n.outputs)
