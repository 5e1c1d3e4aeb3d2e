"""A graph of a model as a function of named arrays: it checks what it is given and says what it wants."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Tensor
from lithe.runtime.instance import Instance
from lithe.runtime.session import Session
from lithe.runtime.values import as_given, given_type, set_value
from lithe.types import DTYPES, STRING, Quantization, Shape

SHAPES_KEPT = 4  # compiled graphs that a function with open dimensions holds on to


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as the caller sees it.

    shape            -1 where the dimension is open.
    quantization     real = scale * (stored - zero_point), or None.
    index            the tensor's number in the model file.
    """

    name: str
    dtype: str
    shape: Shape
    quantization: Quantization | None
    index: int

    def __str__(self) -> str:
        dims = ", ".join("?" if d == -1 else str(d) for d in self.shape)
        return f"{self.dtype}[{dims}]"

    def quantize(self, real: Any) -> np.ndarray:
        """The stored integers of real numbers, clamped to what fits. Raises InputError when it is not quantized."""
        from lithe.ir.arithmetic import quantize_real

        scale, zero_point = self._pair()
        dtype = DTYPES[self.dtype]
        scaled = np.asarray(real, np.float32) / np.float32(scale)
        return quantize_real(scaled, zero_point, dtype.minimum, dtype.maximum, dtype)

    def dequantize(self, stored: Any) -> np.ndarray:
        """The real numbers of stored integers."""
        scale, zero_point = self._pair()
        return (np.asarray(stored, np.float32) - np.float32(zero_point)) * np.float32(scale)

    def _pair(self) -> tuple[float, int]:
        q = self.quantization
        if q is None or len(q.scale) != 1:
            raise InputError(f"'{self.name}' ({self}) is not quantized with one scale", where=f"tensor #{self.index}")
        return q.scale[0], q.zero_point[0]

    @staticmethod
    def of(name: str, tensor: Tensor) -> TensorInfo:
        shape = tensor.type.shape if tensor.shape_signature is None else tensor.shape_signature
        return TensorInfo(name, tensor.type.dtype.name, tuple(shape), tensor.type.quantization, tensor.index)


class Function:
    """Runs a graph: `function(x)`, `function(image=x)`, returns {name: array}.

    Arrays may be given by position, in the order of `inputs`, or by name. Calls from several threads take turns.
    An input with open dimensions takes arrays of any size there; each new shape is prepared once.
    """

    def __init__(
        self,
        key: str,
        instance: Instance,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        number: int = 0,
    ) -> None:
        self.key = key
        self.inputs = {name: TensorInfo.of(name, t) for name, t in inputs.items()}
        self.outputs = {name: TensorInfo.of(name, t) for name, t in outputs.items()}
        self._declared = dict(inputs)
        self._instance, self._number = instance, number
        self._sessions: OrderedDict[tuple[Shape, ...], Session] = OrderedDict()
        self._last: Session | None = None  # the one that was used last
        self._places = tuple(info.index for info in self.inputs.values())
        self._results = tuple((name, info.index) for name, info in self.outputs.items())
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        takes = ", ".join(f"{name}: {info}" for name, info in self.inputs.items())
        gives = ", ".join(f"{name}: {info}" for name, info in self.outputs.items())
        return f"{self.key}({takes}) -> ({gives})"

    def __call__(self, /, *arrays: Any, **named: Any) -> dict[str, np.ndarray]:
        with self._lock:
            session = self._run(arrays, named)
            return {name: np.array(session.array(index)) for name, index in self._results}

    def shown(self, *arrays: Any) -> list[np.ndarray]:
        """The outputs where they lie: the next call writes over them, and it is for the caller that none comes."""
        with self._lock:
            session = self._run(arrays, {})
            return [np.asarray(session.array(index)) for _, index in self._results]

    def _run(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> Session:
        session = self._last
        quick = session is not None and not named and len(arrays) == len(self._places)
        if session is None or not quick or not all(map(session.put, self._places, arrays)):
            session = self._given(self.bound(arrays, named))
        session.invoke()
        return session

    def _given(self, arrays: Mapping[str, np.ndarray]) -> Session:
        """The session for arrays of these shapes, with the arrays as its inputs."""
        session = self._session({name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            info, storage = self.inputs[name], session.array(self.inputs[name].index)
            assert storage is not None  # shapes are fixed now
            set_value(storage, DTYPES[info.dtype], array, info.index, name)
        return session

    def bound(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """{name: checked array} of a call's arguments. Raises InputError that says both sides."""
        names = list(self.inputs)
        wanted = f"{self!r}"
        if not named and len(arrays) == 1 and isinstance(arrays[0], Mapping):
            return self.bound((), arrays[0])
        if len(arrays) > len(names):
            raise InputError(f"takes {len(names)} arrays, got {len(arrays)}", where=wanted)
        values = dict(zip(names, arrays, strict=False))
        for name, value in named.items():
            if name not in self.inputs:
                raise InputError(
                    f"there is no input '{name}'", where=wanted, hint=f"the inputs are {', '.join(names) or 'none'}"
                )
            if name in values:
                raise InputError(f"input '{name}' is given by position and by name", where=wanted)
            values[name] = value
        missing = [name for name in names if name not in values]
        if missing:
            raise InputError(f"input '{missing[0]}' is missing", where=wanted, hint=f"{missing[0]}=array")
        return {name: checked(self.inputs[name], values[name]) for name in names}

    def session(self) -> Session:
        """The allocated session of the declared shapes."""
        with self._lock:
            return self._session({name: t.type.shape for name, t in self._declared.items()})

    def reset(self) -> None:
        """Forgets what the model keeps between calls."""
        with self._lock:
            for session in self._sessions.values():
                session.reset_variables()

    def _session(self, shapes: Mapping[str, Shape]) -> Session:
        key = tuple(shapes.values())
        session = self._sessions.get(key)
        if session is None:
            session = Session(self._instance, self._number)
            for name, shape in shapes.items():
                session.resize(self.inputs[name].index, shape)
            session.allocate()
            self._sessions[key] = session
            if len(self._sessions) > SHAPES_KEPT:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(key)
        self._last = session
        return session


def checked(info: TensorInfo, value: Any) -> np.ndarray:
    """The value as an array of the input's dtype and shape. Lists of numbers take the dtype; arrays must have it."""
    array = as_given(value)
    dtype = DTYPES[info.dtype]
    plain = (
        not hasattr(value, "dtype") and array.dtype.kind in "biuf" and dtype.kind in ("int", "uint", "float", "bool")
    )
    if plain and np.can_cast(array.dtype, dtype.numpy, "same_kind"):
        fits = dtype.is_float or array.size == 0 or (array.min() >= dtype.minimum and array.max() <= dtype.maximum)
        array = array.astype(dtype.numpy) if fits else array
    given = given_type(array)
    same_type = given is dtype or (given is not None and given.bits == dtype.bits and dtype.stored_bits < 8)
    fits = array.ndim == len(info.shape) and all(d in (-1, n) for d, n in zip(info.shape, array.shape, strict=True))
    if same_type and fits:
        return array
    raise InputError(
        f"input '{info.name}' expects {info}, got {given or array.dtype}{list(array.shape)}",
        where=f"tensor #{info.index}",
        hint=_shape_hint(info, array) if same_type else _type_hint(info, array),
    )


def _type_hint(info: TensorInfo, array: np.ndarray) -> str:
    dtype = DTYPES[info.dtype]
    if dtype is STRING:
        return "an array of str or bytes"
    if (
        array.dtype.kind == "f"
        and dtype.is_integer
        and info.quantization is not None
        and len(info.quantization.scale) == 1
    ):
        scale, zero_point = info.quantization.scale[0], info.quantization.zero_point[0]
        return (
            f"model.inputs[{info.name!r}].quantize(x): this input stores real numbers as "
            f"x / {scale:g} + {zero_point}, rounded; an 8-bit image goes in as it is"
        )
    if array.dtype.kind not in "OSU" and dtype.kind != "resource":
        return f"x.astype(np.{dtype.numpy.name})"
    return ""


def _shape_hint(info: TensorInfo, array: np.ndarray) -> str:
    wanted, got = info.shape, array.shape
    if wanted[:1] in ((1,), (-1,)) and len(wanted) == len(got) + 1:
        return "np.expand_dims(x, 0)"
    if len(wanted) == len(got) == 4 and (got[0], *got[2:], got[1]) == (got[0], *wanted[1:]):
        return "np.transpose(x, (0, 2, 3, 1)): the model takes channels last"
    if array.size == np.prod(wanted) and -1 not in wanted:
        return f"x.reshape({list(wanted)})"
    return "give an array of that shape; the dimensions are fixed in the model"
