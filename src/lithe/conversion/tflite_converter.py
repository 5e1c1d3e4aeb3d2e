"""A drop-in for `tf.lite.TFLiteConverter`: its constructors and attributes, with `lithe.convert` behind them.

>>> from lithe.lite import Optimize, TFLiteConverter                  # was: tf.lite.TFLiteConverter
>>> converter = TFLiteConverter.from_keras_model(model)               # doctest: +SKIP
>>> converter.optimizations = [Optimize.DEFAULT]                      # doctest: +SKIP
>>> data = converter.convert()                                        # doctest: +SKIP
"""

from __future__ import annotations

import enum
import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lithe.errors import InputError

LATER = "weights of 8 bits (optimizations=[Optimize.DEFAULT]) or float16 need no samples"


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
    target_spec             see TargetSpec. OpsSet.SELECT_TF_OPS lets operators of TensorFlow into the model.
    allow_custom_ops, exclude_conversion_metadata, experimental_new_quantizer, legalize_custom_tensor_list_ops,
    canonicalizing_inf_as_min_max_float, experimental_enable_resource_variables, experimental_lower_tensor_list_ops,
    experimental_new_dynamic_range_quantizer: taken, and without effect.

    Setting another attribute raises AttributeError. What needs calibration
    (representative_dataset, integer inputs and outputs, activations of 16 bits) raises InputError in `convert`.
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

        Raises InputError for what needs calibration or is contradictory, and what `lithe.convert` raises.
        """
        narrow = self._narrow()
        options = {name: value for name, value in self._options.items() if name != "alive" and value}
        from lithe.conversion.door import convert
        from lithe.formats import tflite

        if self._operators()[1]:
            if "allow_select_tf" not in inspect.signature(convert).parameters:
                raise InputError("operators of TensorFlow cannot be kept (OpsSet.SELECT_TF_OPS)",
                                 hint="supported_ops = [OpsSet.TFLITE_BUILTINS]")  # fmt: skip
            options["allow_select_tf"] = True
        module = convert(self._source, **options).module
        if narrow is not None:
            narrow(module)
        return tflite.write(module)

    def _operators(self) -> tuple[set[str], bool]:
        """The sets of operators by name, and whether those of TensorFlow are among them."""
        sets = {_name(s) for s in self.target_spec.supported_ops or ()}
        return sets, "SELECT_TF_OPS" in sets

    def _narrow(self) -> Callable[[Any], int] | None:
        """What becomes of the weights. Raises InputError for what cannot be done."""
        usual = _Attributes()
        for name in FIXED:
            if getattr(self, name) != getattr(usual, name):
                raise InputError(f"{name} = {getattr(self, name)} has no counterpart here", hint="leave it out")
        for name in ("inference_input_type", "inference_output_type"):
            if _type_name(getattr(self, name)) != "float32":
                raise _needs_calibration(f"{name} = {_type_name(getattr(self, name))}")
        if self.representative_dataset is not None:
            raise _needs_calibration("representative_dataset")
        sets, _ = self._operators()
        unknown = sets - set(OpsSet.get_options())
        if unknown or not sets:
            raise InputError(f"target_spec.supported_ops has {', '.join(sorted(unknown)) or 'nothing'}",
                             hint=f"sets are {', '.join(OpsSet.get_options())}")  # fmt: skip
        if "EXPERIMENTAL_STABLEHLO_OPS" in sets:
            raise InputError("operators of StableHLO are not written", hint="supported_ops = [OpsSet.TFLITE_BUILTINS]")
        if "TFLITE_BUILTINS" not in sets and sets != {"SELECT_TF_OPS"}:
            raise _needs_calibration(f"supported_ops without OpsSet.TFLITE_BUILTINS ({', '.join(sorted(sets))})")
        types = {_type_name(t) for t in self.target_spec.supported_types or ()}
        wrong = types - {"float32", "float16", "int8"}
        if wrong:
            raise InputError(f"target_spec.supported_types has {', '.join(sorted(wrong))}", hint="float16")
        return self._of_optimizations(types)

    def _of_optimizations(self, types: set[str]) -> Callable[[Any], int] | None:
        wanted = {_name(o) for o in self.optimizations or ()}
        unknown = wanted - {str(o) for o in Optimize}
        if unknown:
            raise InputError(f"optimizations has {', '.join(sorted(unknown))}",
                             hint="optimizations = [Optimize.DEFAULT]")  # fmt: skip
        if str(Optimize.EXPERIMENTAL_SPARSITY) in wanted:
            raise InputError("sparse weights are not encoded here", hint="optimizations = [Optimize.DEFAULT]")
        if not wanted:
            return None
        if "int8" in types:
            raise _needs_calibration("supported_types = {int8}")
        from lithe.optimize.weights import float16_weights, int8_weights

        return float16_weights if "float16" in types else int8_weights


def _needs_calibration(what: str) -> InputError:
    return InputError(f"{what} asks for activations in integers, which the converter does not make yet", hint=LATER)


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
