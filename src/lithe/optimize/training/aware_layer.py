"""A graph of integers as a layer of Keras, with the real numbers that its constants stand for as weights.

What it gives are the deployed integers, times their scale. What its gradients follow are the real numbers: rounding
counts as if it were not there, and where a value is cut off its gradient is zero ("straight through").
Source: Bengio, Leonard, Courville, Estimating or propagating gradients through stochastic neurons, 2013; Jacob et al.,
Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from lithe.ir.graph import Module, Node, Tensor
from lithe.ops.op import Site
from lithe.optimize.training.aware_exact import Exact, bounds, hosted, is_stored, looked_up, summed, table_of
from lithe.optimize.training.aware_exact import parts_needed as parts_of_sum
from lithe.optimize.training.aware_rules import PRODUCTS, moves, rule_of
from lithe.runtime.model import load
from lithe.types import Quantization, TensorType

PACKAGE = "lithe"


@keras.saving.register_keras_serializable(PACKAGE)
class IntegerGraph(keras.layers.Layer):  # type: ignore[misc, name-defined, unused-ignore]
    """Runs a graph of integers on real numbers.

    graph     a `.tflite` file in base64.
    masters   of each trained constant: the "places" where it is an operand, (node, operand) each; its "shape"; whether
              it is "trainable"; and what it "keeps": "", its "zeros", or its "clusters" of equal values, so many.
              And its "source": a place in the converted model, where it has one.
    original  the model of which it was made, for `lithe.optimize.strip`.
    shapes    of the inputs with which that was converted.
    """

    def __init__(self, graph: str, masters: list[dict[str, Any]], original: Any, shapes: dict[str, list[int | None]],
                 **options: Any) -> None:  # fmt: skip
        super().__init__(**options)
        self.masters, self.original, self.shapes = masters, original, shapes
        self.described = json.dumps(keras.saving.serialize_keras_object(original))  # with what of it is to be trained
        original.trainable = False
        self.become(graph, [m["places"] for m in masters])
        self.supports_jit = not any(step.on_host for step in self._nodes) or keras.backend.backend() == "jax"
        self.values: list[Any] = []
        self.kept: list[Any] = []

    def become(self, graph: str, places: Sequence[Any]) -> None:
        """Runs another graph from now on, in which the same constants are operands at these places."""
        self.graph = graph
        self.module = load(base64.b64decode(graph), cache=False).module
        for m, its in zip(self.masters, places, strict=True):
            m["places"] = [list(p) for p in its]
        self._places = {tuple(p): i for i, m in enumerate(self.masters) for p in m["places"]}
        self._nodes = [_Step(n) for n in self.module.main.nodes]

    def build(self, *shapes: Any) -> None:
        for i, m in enumerate(self.masters):
            shape = (m["keeps"],) if isinstance(m["keeps"], int) else tuple(m["shape"])
            self.values.append(
                self.add_weight(shape=shape, initializer="zeros", trainable=m["trainable"], name=f"value{i}")
            )
            kind = "int32" if isinstance(m["keeps"], int) else "float32"
            self.kept.append(
                self.add_weight(
                    shape=tuple(m["shape"]), initializer="ones", dtype=kind, trainable=False, name=f"kept{i}"
                )
                if m["keeps"]
                else None
            )
        self.built = True

    def set_masters(self, arrays: Sequence[np.ndarray]) -> None:
        """Gives the constants their values, among which zeros and equal ones are kept where that was said."""
        for m, value, kept, array in zip(self.masters, self.values, self.kept, arrays, strict=True):
            if isinstance(m["keeps"], int):
                table, places = np.unique(array, return_inverse=True)
                value.assign(table)
                kept.assign(
                    np.where(array == 0, -1, places.reshape(array.shape)).astype(np.int32)
                )  # zeros learn nothing
            else:
                value.assign(array)
                if m["keeps"]:
                    kept.assign((array != 0).astype(np.float32))

    def master(self, i: int) -> Any:
        """The real numbers of a constant."""
        kept, value = self.kept[i], self.values[i]
        if kept is None:
            return ops.convert_to_tensor(value)
        if not isinstance(self.masters[i]["keeps"], int):
            return value * kept
        shared = ops.take(value, ops.maximum(kept, 0), axis=0)
        return ops.where(ops.less(kept, 0), ops.zeros_like(shared), shared)

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        made = [
            keras.KerasTensor((None, *t.type.shape[1:]), "float32" if t.type.dtype.is_float else t.type.dtype.name)
            for t in self.module.main.outputs
        ]
        return made if len(made) > 1 else made[0]

    def call(self, inputs: Any, training: bool = False) -> Any:
        graph = self.module.main
        given = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        values: dict[Tensor, Any] = dict(zip(graph.inputs, given, strict=True))
        for number, step in enumerate(self._nodes):
            operands = [self._operand(number, i, t, values) for i, t in enumerate(step.node.inputs)]
            values.update(zip(step.node.outputs, step(operands, training), strict=True))
        results = [values[t] for t in graph.outputs]
        return results if len(results) > 1 else results[0]

    def _operand(self, number: int, i: int, t: Tensor | None, values: dict[Tensor, Any]) -> Any:
        if t is None or t in values:
            return None if t is None else values[t]
        master = self._places.get((number, i))
        if master is not None:
            real = self.master(master)
            return constant_steps(real, t.type) if is_stored(t.type) else real
        if t.data is not None and is_stored(t.type):
            return ops.convert_to_tensor(_less_zero(t))
        return t.data

    def integers(self) -> Module:
        """A copy of the module with the constants as they are now."""
        module = self.module.copy()
        for (number, i), master in self._places.items():
            node = module.main.nodes[number]
            t = node.inputs[i]
            assert t is not None
            array = self.master(master)
            steps = constant_steps(array, t.type) if is_stored(t.type) else array
            data = np.asarray(ops.convert_to_numpy(steps))
            if is_stored(t.type):
                data = np.rint(data).astype(np.int64) + (
                    t.type.quantization.zero_point[0] if t.type.quantization else 0
                )
            t.data = data.astype(t.type.dtype.numpy)
        return module

    def plain(self) -> Any:
        """A copy of the model of which it was made, with the weights of then."""
        from lithe.optimize.training.aware_weights import take_weights

        copy = keras.saving.deserialize_keras_object(json.loads(self.described))
        take_weights(copy, self.original)
        return copy

    @property
    def plain_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The shapes of `plain`'s inputs, as `lithe.convert` takes them."""
        return {t.name: tuple(s) for t, s in zip(self.original.inputs, self.shapes.values(), strict=True)}

    def trained(self) -> dict[tuple[int, int], np.ndarray]:
        """The real numbers of constants that are trained, by their place in the converted model."""
        return {
            tuple(m["source"]): np.asarray(ops.convert_to_numpy(self.master(i)), np.float64)
            for i, m in enumerate(self.masters)
            if m["trainable"] and m["source"]
        }

    def save_own_variables(self, store: Any) -> None:
        """Weights are worth little without the scales that they were trained with, so that the graph is with them."""
        super().save_own_variables(store)
        text = json.dumps([self.graph, [m["places"] for m in self.masters]])
        store["graph"] = np.frombuffer(text.encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables({key: store[key] for key in store.keys() if key != "graph"})  # noqa: SIM118
        self.become(*json.loads(np.asarray(store["graph"]).tobytes()))

    def get_config(self) -> dict[str, Any]:
        own = {"graph": self.graph, "masters": self.masters, "shapes": self.shapes}
        return {**super().get_config(), **own, "original": json.loads(self.described)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**{**config, "original": keras.saving.deserialize_keras_object(config["original"])})


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizeAware(keras.Model):  # type: ignore[misc, name-defined, unused-ignore]
    """A model whose results are those of its integers, to be trained further; see `lithe.optimize.quantize_aware`."""

    @property
    def integer_graph(self) -> IntegerGraph:
        (layer,) = [layer for layer in self.layers if isinstance(layer, IntegerGraph)]
        return layer

    def to_lithe(self) -> Any:
        """The model of integers, as a `lithe.Model`: what `lithe.convert` gives for this one."""
        from lithe.runtime.model import Model

        return Model(self.integer_graph.integers(), name=self.name)

    def stripped(self) -> Any:
        """The plain model with the trained weights, a copy; what `lithe.optimize.strip` gives."""
        from lithe.optimize.training.aware_weights import solved

        layer = self.integer_graph
        plain = layer.plain()
        solved(plain, layer.plain_shapes, layer.trained())
        return plain

    def renew_ranges(self, samples: Any, recipe: Any = "int8", *, ranges: str = "") -> None:
        """Finds the ranges of values, and the scales of weights, for the weights as they are now.

        Where training goes far, values leave the ranges of its beginning, and what is cut off learns nothing. Call this
        between two calls of `fit`, or in a callback at the end of an epoch. The optimizer goes on as it was; what was
        compiled is compiled anew.

        samples, recipe, ranges   as in `lithe.optimize.quantize_aware`, of which the recipe has to be the same.

        Raises InputError when the recipe is another one, or samples do not fit.
        """
        from lithe.optimize.training.aware import renew

        renew(self, samples, recipe, ranges)

    def load_weights(self, *args: Any, **options: Any) -> None:
        """As `keras.Model.load_weights`; the scales that the weights were saved with are those of the model then."""
        super().load_weights(*args, **options)
        self.compile_anew()

    def compile_anew(self) -> None:
        """Forgets what was compiled for the graph as it was, also while `fit` runs."""
        self.train_step = partial(keras.Model.train_step, self)  # JAX knows what it compiled by the function
        self.test_function = self.predict_function = None
        if self.train_function is not None:
            self.make_train_function(force=True)


class _Step:
    """A node, and the ways in which it is computed."""

    def __init__(self, node: Node) -> None:
        self.node, self.rule = node, rule_of(node)
        self.moves = moves(node, Site.of(node))
        self.sums = not self.moves and parts_of_sum(node) > 0
        table = None if self.moves or self.sums else table_of(node)
        self.ends = node.op.name in ("QUANTIZE", "DEQUANTIZE") and table is None
        self.on_host = not (self.moves or self.sums or self.ends or table is not None)
        self.exact: Exact = hosted(node) if table is None else looked_up(node, table)

    def __call__(self, operands: list[Any], training: bool) -> list[Any]:
        node = self.node
        if self.moves:
            assert self.rule is not None
            return _listed(self.rule(node, *operands))
        if self.sums:
            return [self._summed(operands)]
        if self.ends:
            return [_end(node, operands[0])]
        exact = self.exact([x if x is None or isinstance(x, np.ndarray) else ops.stop_gradient(x) for x in operands])
        if not training or self.rule is None:
            return exact
        reals = [
            real(x, t.type) if t is not None and x is not None else None
            for x, t in zip(operands, node.inputs, strict=True)
        ]
        return [
            _followed(e, s, t) for e, s, t in zip(exact, _listed(self.rule(node, *reals)), node.outputs, strict=True)
        ]

    def _summed(self, operands: list[Any]) -> Any:
        node = self.node
        total = PRODUCTS[node.op.name](node, operands[0], operands[1])
        exact = summed(node, ops.stop_gradient(total), [None if x is None else ops.stop_gradient(x) for x in operands])
        whole = total + operands[2] if len(operands) > 2 and operands[2] is not None else total
        return straight(exact, whole * _factor(node), *bounds(node))


def _factor(node: Node) -> Any:
    from lithe.ops.contraction import multipliers

    site = Site.of(node)
    return ops.convert_to_tensor(multipliers(site, site.outputs[0].shape[-1]))


def _listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, list | tuple) else [results]


def _end(node: Node, x: Any) -> Any:
    """QUANTIZE of real numbers, or DEQUANTIZE."""
    before, after = node.inputs[0], node.outputs[0]
    assert before is not None
    if is_stored(before.type):
        return real(x, before.type)
    assert after.type.quantization is not None
    scaled = x * float(np.float32(1) / np.float32(after.type.quantization.scale[0]))
    low, high = bounds(node)
    return straight(ops.round(ops.clip(scaled, low, high)), scaled, low, high)


def _followed(exact: Any, soft: Any, t: Tensor) -> Any:
    """An exact result with the gradient of a real one."""
    if not is_stored(t.type):
        return _instead(ops.stop_gradient(exact), soft) if t.type.dtype.is_float else exact
    assert t.type.quantization is not None
    zero = t.type.quantization.zero_point[0]
    low, high = t.type.dtype.minimum - zero, t.type.dtype.maximum - zero
    return straight(exact, soft / t.type.quantization.scale[0], float(low), float(high))


def straight(exact: Any, soft: Any, low: float, high: float) -> Any:
    """`exact`, with the gradient of `soft` where that is between two bounds."""
    return _instead(ops.stop_gradient(exact), ops.clip(soft, low, high))


@ops.custom_gradient
def _instead(exact: Any, soft: Any) -> Any:
    """`exact`, with the gradient of `soft`, which need not be computed where nobody wants that."""

    def gradient(*given: Any, upstream: Any = None) -> Any:
        (of_result,) = given if upstream is None else (upstream,)
        return ops.zeros_like(of_result), apart(of_result)

    return apart(exact), gradient


def apart(x: Any) -> Any:
    """The same tensor, which XLA computes once: it would write what several operators read into each of them, and
    what these read in turn, which is without end in recurrent layers."""
    if keras.backend.backend() != "jax":
        return x
    import jax

    return jax.lax.optimization_barrier(x)


# real numbers and steps


def scales(t: TensorType) -> Any:
    """The scale of a tensor, in the shape in which it meets the elements."""
    q = t.quantization
    assert q is not None
    if not q.per_channel:
        return float(np.float32(q.scale[0]))
    shape = [1] * t.rank
    shape[q.axis] = -1
    return ops.convert_to_tensor(np.asarray(q.scale, np.float32).reshape(shape))


def real(x: Any, t: TensorType) -> Any:
    """The real numbers that steps stand for; what is no step stays as it is."""
    return x * scales(t) if is_stored(t) else x


def constant_steps(x: Any, t: TensorType) -> Any:
    """The steps of a constant's real numbers."""
    low, high = constant_bounds(t)
    scaled = ops.divide(x, scales(t))
    return straight(ops.round(ops.clip(scaled, low, high)), scaled, low, high)


def constant_bounds(t: TensorType) -> tuple[float, float]:
    q: Quantization | None = t.quantization
    assert q is not None
    zero = q.zero_point[0]
    symmetric = t.dtype.bits == 8 and not any(q.zero_point)
    low = -t.dtype.maximum if symmetric else t.dtype.minimum
    return float(low - zero), float(t.dtype.maximum - zero)


def _less_zero(t: Tensor) -> np.ndarray:
    assert t.data is not None
    assert t.type.quantization is not None
    return t.data.astype(np.float32) - np.float32(t.type.quantization.zero_point[0])
