"""Rows of the operator test matrix: one operator, its types, its attributes, its data.

Each family keeps its rows in `cases_<family>.py` beside this file, as a list named CASES; `test_matrix.py`
runs every row against the official runtime, the loop interpreter and the code generators.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lithe.ir.graph import Graph
from lithe.ops import REGISTRY, Op, Site
from lithe.types import BOOL, FLOAT32, INT8, INT16, INT32, STRING, UINT8, DType, Quantization, TensorType
from tests.ops.bodies import Model


@dataclass(frozen=True)
class Case:
    """One row.

    op, name         the operator's name, and what is special about this row.
    inputs           a type each, None for an absent optional operand.
    outputs          the types as a model would declare them.
    attrs            fields of the operator's Attrs that differ from the author's defaults.
    constants        inputs that are constants of the model, by position.
    values           data of other inputs, where random data would not do.
    low, high        range of random data. Default: -3..3 for floats, all values for quantized integers,
                     -100..100 (0..100) for other integers.
    official         False when the official runtime has no kernel for this; `reason` then says so.
    tolerance        allowed |difference| relative to the largest magnitude of the expected output (floats).
    steps            allowed difference of integer outputs from the official runtime.
    variables        positions of inputs that are variables: changed in place, random at the start.
    intermediates    types of the operator's intermediate tensors.
    custom_options   bytes of a custom operator's options, for the official runtime.
    graphs           other graphs of the model, which the attributes number from 1.
    resources        what the model's resources hold before the run.
    """

    op: str
    name: str
    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    values: dict[int, np.ndarray] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    official: bool = True
    reason: str = ""
    tolerance: float = 1e-5
    steps: int = 1
    custom_options: bytes | None = None
    variables: tuple[int, ...] = ()
    intermediates: tuple[TensorType, ...] = ()
    graphs: tuple[Graph, ...] = ()
    resources: dict[Hashable, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op}-{self.name}".replace(" ", "_")

    @property
    def operator(self) -> type[Op]:
        return REGISTRY.by_name[self.op]

    def arrays(self) -> list[np.ndarray | None]:
        """A value for each input: the same on every call."""
        random = np.random.default_rng(zlib.crc32(str(self).encode()))
        given = {**self.values, **self.constants}
        found: list[np.ndarray | None] = []
        for i, t in enumerate(self.inputs):
            if t is None:
                found.append(None)
            elif i in given:
                found.append(np.array(given[i], t.dtype.numpy).reshape(t.shape))
            else:
                found.append(self._random(random, t))
        return found

    def _random(self, random: np.random.Generator, t: TensorType) -> np.ndarray:
        if t.dtype == BOOL:
            return random.integers(0, 2, t.shape).astype(np.bool_)
        if t.dtype == STRING:
            return np.array(
                [random.integers(97, 123, (n + 1) % 4, np.uint8).tobytes() for n in range(t.size)], object
            ).reshape(t.shape)
        if t.dtype.is_float or t.dtype.kind == "complex":
            low, high = (-3.0 if self.low is None else self.low), (3.0 if self.high is None else self.high)
            real = np.asarray(random.uniform(low, high, t.shape), np.float32).astype(t.dtype.numpy)
            return real if t.dtype.is_float else real + np.array(1j, t.dtype.numpy) * random.uniform(low, high)
        if t.quantization is not None and self.low is None:
            least, most = t.dtype.minimum, t.dtype.maximum
        else:
            least = int(max(t.dtype.minimum, -100 if self.low is None else self.low))
            most = int(min(t.dtype.maximum, 100 if self.high is None else self.high))
        return random.integers(least, most + 1, t.shape, dtype=np.int64).astype(t.dtype.numpy)

    def site(self) -> Site:
        """The operator's site as in a verified model."""
        arrays = self.arrays()
        constants = tuple(arrays[i] if i in self.constants else None for i in range(len(self.inputs)))
        op = self.operator
        return Site(
            op.Attrs(**self.attrs), self.inputs, self.outputs, constants, op.operands[0], self.model(),
            intermediates=self.intermediates, memory={} if op.stateful else None,
        )  # fmt: skip

    def model(self) -> Model | None:
        """What surrounds the operator, where it calls other graphs."""
        return Model(self.graphs, dict(self.resources)) if self.graphs or self.operator.stateful else None


def tensor(dtype: DType, *shape: int, scale: float | None = None, zero_point: int = 0) -> TensorType:
    """A tensor's type, quantized as a whole when a scale is given."""
    quantization = None if scale is None else Quantization((scale,), (zero_point,))
    return TensorType(dtype, shape, quantization)


def f32(*shape: int) -> TensorType:
    return TensorType(FLOAT32, shape)


def i32(*shape: int) -> TensorType:
    return TensorType(INT32, shape)


def i8(*shape: int, scale: float = 0.05, zero_point: int = 3) -> TensorType:
    return tensor(INT8, *shape, scale=scale, zero_point=zero_point)


def u8(*shape: int, scale: float = 0.05, zero_point: int = 128) -> TensorType:
    return tensor(UINT8, *shape, scale=scale, zero_point=zero_point)


def i16(*shape: int, scale: float = 0.001) -> TensorType:
    return tensor(INT16, *shape, scale=scale)


def per_channel(dtype: DType, *shape: int, scales: tuple[float, ...], axis: int) -> TensorType:
    """A tensor with one scale for each slice of `axis`, all zero points 0."""
    return TensorType(dtype, shape, Quantization(scales, (0,) * len(scales), axis))


def every_case(keep: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """The rows of all families."""
    here = Path(__file__).parent
    families = sorted(p.stem for p in here.glob("cases_*.py"))
    modules = [importlib.import_module(f"{__package__}.{family}") for family in families]
    return [case for module in modules for case in module.CASES if keep(case)]
