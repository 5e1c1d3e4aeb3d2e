"""A drop-in for `tf.lite.experimental.QuantizationDebugger`: what each quantized layer does to its values.

A debug model computes every quantized layer twice: on integers, and with real numbers on the same inputs. An operator
NumericVerify gives the difference. Metrics are functions of that; `layer_statistics` are their means over the samples.

>>> from lithe.lite import experimental                                                          # doctest: +SKIP
>>> debugger = experimental.QuantizationDebugger(converter=converter, debug_dataset=samples)     # doctest: +SKIP
>>> debugger.run()                                                                               # doctest: +SKIP
>>> debugger.layer_statistics_dump(file)                                                         # doctest: +SKIP
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from lithe.conversion.tflite_converter import TFLiteConverter
from lithe.errors import InputError, StateError
from lithe.formats import tflite
from lithe.ir.graph import Module, Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.optimize.comparison.factors import moved
from lithe.optimize.comparison.grafting import Host, can_become, layer
from lithe.optimize.comparison.matching import matched
from lithe.optimize.quantization import quantize
from lithe.optimize.recipes import FLOAT, RECIPES, Recipe, Rule
from lithe.runtime.model import Model, load
from lithe.types import FLOAT32, Quantization

VERIFY = "NumericVerify"

Metric = Callable[[np.ndarray], Any]  # a number, of Python or of NumPy
METRICS: dict[str, Metric] = {
    "num_elements": lambda differences: differences.size,
    "stddev": lambda differences: np.std(differences),
    "mean_error": lambda differences: np.mean(differences),
    "max_abs_error": lambda differences: np.max(np.abs(differences)),
    "mean_squared_error": lambda differences: np.mean(differences**2),
}
DATASET = "debug_dataset is a function that gives samples, each a list of arrays"


@dataclass
class QuantizationDebugOptions:
    """What a debugger measures, and what is left out of quantization.

    layer_debug_metrics  {name: function of a layer's differences}, beside the usual ones.
    model_debug_metrics  {name: function of (outputs of the float model, outputs of the quantized one)}.
    layer_direct_compare_metrics  {name: function of (float values, stored integers, scale, zero point)}.
    denylisted_ops, denylisted_nodes  names of operators, and of operators' results, that stay float.
    fully_quantize       the model's inputs and outputs become integers, too.
    """

    layer_debug_metrics: Mapping[str, Metric] | None = None
    model_debug_metrics: Mapping[str, Callable[..., float]] | None = None
    layer_direct_compare_metrics: Mapping[str, Callable[..., float]] | None = None
    denylisted_ops: Sequence[str] | None = None
    denylisted_nodes: Sequence[str] | None = None
    fully_quantize: bool = False

    def __post_init__(self) -> None:
        given = (self.layer_debug_metrics, self.model_debug_metrics, self.layer_direct_compare_metrics)
        names = [name for metrics in given for name in metrics or ()]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise InputError(f"Provided metrics have duplicate keys: {', '.join(sorted(twice))}")


@dataclass(frozen=True)
class _Verified:
    """A quantized layer of a debug model: the operator that computes it, its integers, the same in floats, and their
    difference.
    """

    maker: Node
    stored: Tensor
    real: Tensor
    difference: Tensor

    @property
    def name(self) -> str:
        """The result's name in the float model, by which it is denied. Converters make names unique by a last digit."""
        name = self.difference.name.removeprefix(f"{VERIFY}/").rpartition(":")[0]
        alike = name[-1:].isdigit() and self.real.name in (name[:-1], *(name[:-1] + digit for digit in "0123456789"))
        return name[:-1] if alike else name

    @property
    def quantization(self) -> Quantization:
        q = self.stored.type.quantization
        return Quantization((0.0,), (0,)) if q is None else q


class QuantizationDebugger:
    """Runs a debug model on samples, and keeps what its layers' differences say.

    quant_debug_model_path, quant_debug_model_content  a debug model, ours or of TensorFlow's converter; or
    converter           a `TFLiteConverter` with `optimizations` and `representative_dataset`: it makes the model.
    float_model_path, float_model_content  for `model_debug_metrics` without a converter.
    debug_dataset       a function that gives samples, each a list of arrays in the order of the inputs.
    debug_options       a `QuantizationDebugOptions`.

    layer_statistics    {name of a difference: {metric: mean over the samples}}, None before `run`.
    model_statistics    {metric: mean over the samples}.

    Raises InputError where there is no model, or it is none for debugging.
    """

    def __init__(
        self,
        quant_debug_model_path: str | os.PathLike[str] | None = None,
        quant_debug_model_content: bytes | None = None,
        float_model_path: str | os.PathLike[str] | None = None,
        float_model_content: bytes | None = None,
        debug_dataset: Callable[[], Iterable[Sequence[np.ndarray]]] | None = None,
        debug_options: QuantizationDebugOptions | None = None,
        converter: TFLiteConverter | None = None,
    ) -> None:
        self.converter = converter
        self._data = debug_dataset
        self._float: Model | None = None
        self._options = debug_options or QuantizationDebugOptions()
        if converter is not None:
            self._float = Model(_float_module(converter))
            self._debug = self._instrumented()
        else:
            self._debug = _opened("quant_debug_model", quant_debug_model_path, quant_debug_model_content).module
            if self._options.model_debug_metrics:
                self._float = _opened("float_model", float_model_path, float_model_content)
        self._start()

    @property
    def options(self) -> QuantizationDebugOptions:
        """What is measured. Setting it makes the model anew, if a converter does, and forgets the statistics."""
        return self._options

    @options.setter
    def options(self, options: QuantizationDebugOptions) -> None:
        self._options = options
        if self.converter is not None:
            self._debug = self._instrumented()
        self._start()

    def _start(self) -> None:
        self.layer_statistics: dict[str, dict[str, float]] | None = None
        self.model_statistics: dict[str, float] | None = None
        makers = self._debug.main.producers()
        self._layers = [
            _Verified(makers[stored], stored, real, node.outputs[0])
            for node in self._debug.main.nodes
            if node.op.name == VERIFY
            for stored, real in [node.inputs]
            if stored is not None and real is not None and stored in makers
        ]
        if not self._layers:
            raise InputError(f"Please check if the quantized model is in debug mode: it has no {VERIFY}",
                             hint="get_debug_quantized_model() makes one")  # fmt: skip

    # models

    def get_nondebug_quantized_model(self) -> bytes:
        """The quantized model's file, as it would be deployed. Raises StateError without a converter."""
        return tflite.write(self._quantized().module)

    def get_debug_quantized_model(self) -> bytes:
        """The debug model's file. Raises StateError without a converter."""
        self._require_converter()
        return tflite.write(self._debug)

    def _require_converter(self) -> TFLiteConverter:
        if self.converter is None:
            raise StateError("No converter found", hint="QuantizationDebugger(converter=...)")
        return self.converter

    def _quantized(self) -> Model:
        converter, options = self._require_converter(), self._options
        assert self._float is not None
        base = RECIPES[converter.integer_recipe]
        kept = []
        if options.denylisted_ops:
            kept.append(Rule(FLOAT, operators=frozenset(options.denylisted_ops)))
        if options.denylisted_nodes:
            kept.append(Rule(FLOAT, scope=f"^(?:{'|'.join(map(re.escape, options.denylisted_nodes))})$"))
        recipe = Recipe((*base.rules, *kept), base.ranges)
        ends = ("int16" if converter.integer_recipe == "int16x8" else "int8") if options.fully_quantize else "float32"
        return quantize(self._float, converter.samples(), recipe, inputs=ends, outputs=ends)

    def _instrumented(self) -> Module:
        """The quantized model, in which every quantized layer is computed a second time with real numbers."""
        assert self._float is not None
        made, whole = self._quantized().module, self._float.module
        found = matched(whole.main, made.main, dict(zip(whole.main.inputs, made.main.inputs, strict=True)))
        host, factors = Host(made), moved(found)
        for x, y in found.pairs.items():
            part = layer(whole.main, found.a.makers, x, found.pairs) if x in found.a.makers else None
            stored = found.b.root(y)
            if part is None or not part.leaves or stored.type.quantization is None or x.type.dtype != FLOAT32:
                continue
            read = {t: found.b.root(found.pairs[t]) for t in part.leaves}
            read = {t: found.b.stored(there) for t, there in read.items()}
            if not all(can_become(there.type, t.type) for t, there in read.items()):
                continue
            leaves = {t: host.unscaled(host.same[there], factors.of.get(t)) for t, there in read.items()}
            real = host.scaled(host.add(part, leaves, x, "float/"), factors.of.get(x))
            here = host.same[stored]
            name = f"{VERIFY}/{x.name}:{here.index}"
            verified = Tensor(name, x.type, shape_signature=x.shape_signature)
            op = REGISTRY.by_name[VERIFY]
            host.module.main.nodes.append(Node(op, op.Attrs(), [here, real], [verified]))
        host.module.main.renumber()
        return host.module

    # statistics

    def run(self) -> None:
        """Runs the models on the samples, and sets `layer_statistics` and `model_statistics`."""
        wanted = [t for one in self._layers for t in (one.difference, one.stored, one.real)]
        outputs = self._debug.main.outputs
        host = Host(self._debug)
        watch = host.watched([host.same[t] for t in (*wanted, *outputs)])
        usual = {**METRICS, **(self._options.layer_debug_metrics or {})}
        direct = self._options.layer_direct_compare_metrics or {}
        of_model = self._options.model_debug_metrics or {}
        layers: dict[str, dict[str, list[float]]] = {}
        model: dict[str, list[float]] = {}
        for sample in self._samples():
            values = watch(_given(watch.model, sample))
            for one in self._layers:
                differences, stored, real = (values[host.same[t]] for t in (one.difference, one.stored, one.real))
                scale, zero = one.quantization.scale[0], one.quantization.zero_point[0]
                found = {name: metric(differences) for name, metric in usual.items()}
                found |= {name: metric(real, stored, scale, zero) for name, metric in direct.items()}
                for name, value in found.items():
                    layers.setdefault(one.difference.name, {}).setdefault(name, []).append(value)
            if of_model:
                assert self._float is not None
                results = list(self._float.main(*_given(self._float, sample)).values())
                reals = [_real(values[host.same[t]], t) for t in outputs]
                for name, compare in of_model.items():
                    model.setdefault(name, []).append(compare(results, reals))
        if not layers:
            raise InputError("debug_dataset gives no samples", hint=DATASET)
        self.layer_statistics = {
            name: {metric: float(np.nanmean(values)) for metric, values in metrics.items()}
            for name, metrics in layers.items()
        }
        if of_model:
            self.model_statistics = {name: float(np.mean(values)) for name, values in model.items()}

    def _samples(self) -> Iterator[Sequence[np.ndarray]]:
        if not callable(self._data):
            raise InputError(f"there is no {'' if self._data is None else 'callable '}debug_dataset", hint=DATASET)
        yield from self._data()

    def layer_statistics_dump(self, file: IO[str]) -> None:
        """Writes the statistics of the layers as CSV; the head alone before `run`."""
        names = [*METRICS, *(self._options.layer_debug_metrics or ())]
        names += self._options.layer_direct_compare_metrics or ()
        head = ["op_name", "tensor_idx", *dict.fromkeys(names), "scale", "zero_point", "tensor_name"]
        writer = csv.DictWriter(file, head)
        writer.writeheader()
        for one in self._layers if self.layer_statistics else ():
            assert self.layer_statistics is not None
            q = one.quantization
            row = {"op_name": one.maker.op.name, "tensor_idx": one.stored.index, "tensor_name": one.name}
            row |= {"scale": q.scale[0], "zero_point": q.zero_point[0], **self.layer_statistics[one.difference.name]}
            writer.writerow(row)


def _float_module(converter: TFLiteConverter) -> Module:
    """The converter's float model. Raises InputError for attributes that say nothing of integers."""
    if not converter.optimizations:
        raise InputError("converter object must set optimizations", hint="optimizations = [Optimize.DEFAULT]")
    if not converter.representative_dataset:
        raise InputError("converter object must set representative_dataset", hint="it gives samples to calibrate with")
    return converter.float_module()


def _opened(what: str, path: str | os.PathLike[str] | None, content: bytes | None) -> Model:
    given = path if content is None else content
    if given is None or (path is not None and content is not None):
        raise InputError(f"one of {what}_path and {what}_content is needed", hint="or converter=...")
    return load(given, cache=False)


def _given(model: Model, sample: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A sample in the order of the graph's inputs, quantized where these are integers."""
    infos = list(model.inputs.values())
    if not isinstance(sample, list | tuple) or len(sample) != len(infos):
        count = len(sample) if isinstance(sample, list | tuple) else type(sample).__name__
        raise InputError(f"Number of inputs provided ({count}) does not match number of inputs to the model "
                         f"({len(infos)})", hint=DATASET)  # fmt: skip
    arrays = [np.asarray(array) for array in sample]
    return [
        info.quantize(array) if info.quantization is not None and array.dtype.kind == "f" else array
        for info, array in zip(infos, arrays, strict=True)
    ]


def _real(array: np.ndarray, kind: Tensor) -> np.ndarray:
    q = kind.type.quantization
    if q is None or not kind.type.dtype.is_integer:
        return array
    return ((array.astype(np.float32) - q.zero_point[0]) * q.scale[0]).astype(np.float32)
