"""A drop-in for `tf.lite.TFLiteConverter`: its constructors and attributes, with `lithe.convert` behind them.

>>> from lithe.lite import Optimize, TFLiteConverter                  # was: tf.lite.TFLiteConverter
>>> converter = TFLiteConverter.from_keras_model(model)               # doctest: +SKIP
>>> converter.optimizations = [Optimize.DEFAULT]                      # doctest: +SKIP
>>> data = converter.convert()                                        # doctest: +SKIP
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lithe.errors import InputError, UnsupportedOp

if TYPE_CHECKING:
    from lithe.ir.graph import Module, Node


class Optimize(enum.Enum):
    """What the converter may do to make a model smaller and faster. Those for size and latency are DEFAULT, too."""

    DEFAULT = "DEFAULT"
    OPTIMIZE_FOR_SIZE = "OPTIMIZE_FOR_SIZE"
    OPTIMIZE_FOR_LATENCY = "OPTIMIZE_FOR_LATENCY"
    EXPERIMENTAL_SPARSITY = "EXPERIMENTAL_SPARSITY"

    def __str__(self) -> str:
        return self.value


class OpsSet(enum.Enum):
    """Operators that a converted model may have."""

    TFLITE_BUILTINS = "TFLITE_BUILTINS"
    SELECT_TF_OPS = "SELECT_TF_OPS"
    TFLITE_BUILTINS_INT8 = "TFLITE_BUILTINS_INT8"
    EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8 = (
        "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
    )
    EXPERIMENTAL_STABLEHLO_OPS = "EXPERIMENTAL_STABLEHLO_OPS"

    def __str__(self) -> str:
        return self.value

    @staticmethod
    def get_options() -> list[str]:
        return [str(option) for option in OpsSet]


@dataclass
class TargetSpec:
    """What the model's device has.

    supported_ops    an iterable of OpsSet; left out: the builtins.
    supported_types  of weights and constants; {float16} makes them float16. Of TensorFlow, NumPy, or by name.
    """

    supported_ops: Iterable[Any] | None = None
    supported_types: Iterable[Any] | None = None
    experimental_select_user_tf_ops: Iterable[str] | None = None
    experimental_supported_backends: Iterable[str] | None = None

    def __post_init__(self) -> None:
        self.supported_ops = {OpsSet.TFLITE_BUILTINS} if self.supported_ops is None else self.supported_ops
        self.supported_types = set() if self.supported_types is None else self.supported_types


@dataclass
class RepresentativeDataset:
    """Samples for calibration: a function that gives an iterator of them."""

    input_gen: Callable[[], Iterable[Any]]


@dataclass
class _Attributes:
    """The attributes of a converter, with their values at first."""

    optimizations: Sequence[Any] = ()
    representative_dataset: Any = None
    target_spec: TargetSpec = field(default_factory=TargetSpec)
    inference_input_type: Any = "float32"
    inference_output_type: Any = "float32"
    allow_custom_ops: bool = False
    exclude_conversion_metadata: bool = False
    unfold_batchmatmul: bool = False
    serialize_debug_metadata: bool = False
    legalize_custom_tensor_list_ops: bool = False
    canonicalizing_inf_as_min_max_float: bool = True
    experimental_new_converter: bool = True
    experimental_new_quantizer: bool = True
    experimental_new_dynamic_range_quantizer: bool = True
    experimental_enable_resource_variables: bool = True
    experimental_lower_tensor_list_ops: bool = True


# Attributes that would change what is written, as this converter does not: they must keep their values.
FIXED = ("unfold_batchmatmul", "serialize_debug_metadata", "experimental_new_converter")


class TFLiteConverter(_Attributes):
    """Makes the bytes of a `.tflite` file of a model, with the attributes that `tf.lite.TFLiteConverter` has.

    optimizations           [Optimize.DEFAULT]: weights of 8 bits for the operators that take them, or of float16.
                            Optimize.EXPERIMENTAL_SPARSITY: weights without their zeros, where these take fewer bytes.
    target_spec             see TargetSpec. OpsSet.SELECT_TF_OPS lets operators of TensorFlow into the model.
    allow_custom_ops, exclude_conversion_metadata, experimental_new_quantizer, legalize_custom_tensor_list_ops,
    canonicalizing_inf_as_min_max_float, experimental_enable_resource_variables, experimental_lower_tensor_list_ops,
    experimental_new_dynamic_range_quantizer: taken, and without effect.

    representative_dataset  a function that gives samples, each a list of arrays or {input: array}: values become
                            integers of 8 bits, too, or of 16 with the set of operators that says so.
    inference_input_type, inference_output_type  float32, or the integers themselves.

    Setting another attribute raises AttributeError.
    """

    _source: Any
    _options: dict[str, Any]

    def __init__(self, source: Any, **options: Any) -> None:
        super().__init__()
        object.__setattr__(self, "_source", source)
        object.__setattr__(self, "_options", options)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            known = ", ".join(self.__dataclass_fields__)
            raise AttributeError(f"TFLiteConverter has no attribute '{name}'; it has {known}")
        object.__setattr__(self, name, value)

    @classmethod
    def from_saved_model(
        cls,
        saved_model_dir: str | os.PathLike[str],
        signature_keys: Sequence[str] | None = None,
        tags: Iterable[str] | None = None,
    ) -> TFLiteConverter:
        """For a SavedModel: the signatures with these keys, or all. `tags` must be {"serve"}, or left out."""
        if tags is not None and set(tags) != {"serve"}:
            raise InputError(f"the SavedModel's graph with the tags {sorted(tags)} is asked for", hint='tags={"serve"}')
        return cls(os.fspath(saved_model_dir), kind="tensorflow", signatures=tuple(signature_keys or ()))

    @classmethod
    def from_keras_model(cls, model: Any) -> TFLiteConverter:
        """For a Keras model."""
        return cls(model)

    @classmethod
    def from_concrete_functions(cls, funcs: Sequence[Any], trackable_obj: Any = None) -> TFLiteConverter:
        """For one concrete function of TensorFlow; `trackable_obj` is what its variables belong to."""
        if not isinstance(funcs, Sequence) or len(funcs) != 1:
            count = len(funcs) if isinstance(funcs, Sequence) else type(funcs).__name__
            raise InputError(
                f"a list of one concrete function is needed, got {count}", hint="lithe.convert({'a': f, 'b': g})"
            )
        made = cls(funcs[0], kind="tensorflow")
        made._options["alive"] = trackable_obj
        return made

    @classmethod
    def experimental_from_jax(cls, serving_funcs: Sequence[Any], inputs: Sequence[Any]) -> TFLiteConverter:
        """For a function of JAX, with its inputs [[(name, array), ...]]."""
        if len(serving_funcs) != 1 or len(inputs) != 1:
            raise InputError(f"one function with its inputs is needed, got {len(serving_funcs)} and {len(inputs)}",
                             hint="experimental_from_jax([f], [[('x', array)]])")  # fmt: skip
        return cls(serving_funcs[0], kind="jax", inputs=dict(inputs[0]))

    def convert(self) -> bytes:
        """The bytes of the `.tflite` file.

        Raises InputError for attributes that contradict each other or cannot be followed, and what `lithe.convert` and
        `lithe.quantize` raise.
        """
        narrow, sparse = self._narrow(), str(Optimize.EXPERIMENTAL_SPARSITY) in map(_name, self.optimizations or ())
        from lithe.formats import tflite

        small = narrow(self.float_module())
        return tflite.write(_without_zeros(small) if sparse else small)

    def float_module(self) -> Module:
        """The model before anything is made smaller."""
        from lithe.conversion.door import convert

        options = {name: value for name, value in self._options.items() if name != "alive" and value}
        return convert(self._source, **options, allow_select_tf="SELECT_TF_OPS" in self._sets()).module

    @property
    def integer_recipe(self) -> str:
        """The recipe by which values become integers."""
        return "int16x8" if WIDE in self._sets() else "int8"

    def _sets(self) -> set[str]:
        """The sets of operators that the model may have, by name."""
        return {_name(s) for s in self.target_spec.supported_ops or ()}

    def _narrow(self) -> Callable[[Module], Module]:
        """What becomes of the float model. Raises InputError for what cannot be done."""
        usual = _Attributes()
        for name in FIXED:
            if getattr(self, name) != getattr(usual, name):
                raise InputError(f"{name} = {getattr(self, name)} has no counterpart here", hint="leave it out")
        sets, types = self._sets(), {_type_name(t) for t in self.target_spec.supported_types or ()}
        _refuse_others("target_spec.supported_ops", sets, OpsSet.get_options())
        _refuse_others("target_spec.supported_types", types, ("float32", "float16", "int8"))
        wanted = {_name(o) for o in self.optimizations or ()}
        _refuse_others("optimizations", wanted, list(map(str, Optimize)))
        if not sets or "EXPERIMENTAL_STABLEHLO_OPS" in sets:
            raise InputError(f"operators of {', '.join(sets) or 'no set'} cannot be written",
                             hint="supported_ops = [OpsSet.TFLITE_BUILTINS]")  # fmt: skip
        wanted.discard(str(Optimize.EXPERIMENTAL_SPARSITY))
        ends = {end: _type_name(getattr(self, f"inference_{end}_type")) for end in ("input", "output")}
        integers = [f"inference_{end}_type = {kind}" for end, kind in ends.items() if kind != "float32"]
        integers += [f"supported_ops without {BUILTINS}"] if sets.isdisjoint({BUILTINS, "SELECT_TF_OPS"}) else []
        integers += ["supported_types = {int8}"] if "int8" in types and wanted else []
        if integers and self.representative_dataset is None:
            raise InputError(f"{integers[0]} needs samples to calibrate with", hint="set representative_dataset")
        if self.representative_dataset is not None and (wanted or integers) and "float16" not in types:
            return self._quantized(ends, only="TFLITE_BUILTINS_INT8" in sets and BUILTINS not in sets)
        recipe = "float16" if "float16" in types else "dynamic"
        return partial(_smaller, recipe=recipe) if wanted else lambda module: module

    def _quantized(self, ends: Mapping[str, str], only: bool) -> Callable[[Module], Module]:
        """Values and weights become integers, after calibration; `only`: whatever has no integer form is an error."""

        def quantized(module: Module) -> Module:
            from lithe.optimize.quantization import quantize

            made = quantize(
                module, self.samples(), self.integer_recipe, inputs=ends["input"], outputs=ends["output"]
            ).module
            left = {n.op.name for g in made.graphs for n in g.nodes if n.op.name not in BORDER and _is_real(n)}
            if only and left:
                raise UnsupportedOp(f"these operators have no form on integers: {', '.join(sorted(left))}",
                                    hint="supported_ops = [OpsSet.TFLITE_BUILTINS]")  # fmt: skip
            return made

        return quantized

    def samples(self) -> Iterator[Any]:
        """The samples of the representative data set, as `lithe.quantize` takes them."""
        make = getattr(self.representative_dataset, "input_gen", self.representative_dataset)
        if not callable(make):
            raise InputError(f"representative_dataset is a function that gives samples, got {type(make).__name__}")
        for sample in make():
            yield tuple(sample) if isinstance(sample, list) else sample


BUILTINS, WIDE = map(str, (OpsSet.TFLITE_BUILTINS, OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8))
BORDER = ("QUANTIZE", "DEQUANTIZE")  # between real numbers and integers


def _smaller(module: Module, recipe: str) -> Module:
    """The model with smaller weights; as it was where it has none."""
    from lithe.optimize.recipes import RECIPES
    from lithe.optimize.weights import halve_constants, narrow_weights

    plan = RECIPES[recipe].plan(module)
    halve_constants(module, plan)
    narrow_weights(module, plan)
    return module


def _without_zeros(module: Module) -> Module:
    """The model with sparse weights, where these take fewer bytes."""
    from lithe.optimize.storage import compact

    return compact(module, ("sparse",)).module


def _is_real(node: Node) -> bool:
    return any(t is not None and t.type.dtype.is_float for t in (*node.inputs, *node.outputs))


def _refuse_others(attribute: str, given: set[str], known: Iterable[str]) -> None:
    unknown = given - set(known)
    if unknown:
        raise InputError(f"{attribute} has {', '.join(sorted(unknown))}", hint=f"it may have {', '.join(known)}")


def _name(member: Any) -> str:
    """A member of an enum by name: ours, or TensorFlow's."""
    return str(getattr(member, "name", member))


def _type_name(dtype: Any) -> str:
    """An element type by name, whoever it is of."""
    import numpy as np

    name = getattr(dtype, "name", None) or dtype
    try:
        return name if isinstance(name, str) else np.dtype(name).name
    except TypeError as cause:
        raise InputError(f"{dtype!r} is no element type", hint="numpy.float16, 'float16' or tf.float16") from cause
