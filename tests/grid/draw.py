"""Random shapes, quantizations and values, with a liking for ones, odd sizes, ends, and what is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from lithe.errors import LitheError
from lithe.ops import REGISTRY
from lithe.ops.op import RuleViolation, dtype_named
from lithe.types import BOOL, DType, Quantization, Shape, TensorType
from tests.grid.cells import Cell
from tests.ops.cases import Case

SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65)  # around the vectors' widths
MOST_ELEMENTS = 400
T = TypeVar("T")


@dataclass(frozen=True)
class Operand:
    """An input: its type, its value, and whether the value is a constant of the model."""

    type: TensorType
    value: np.ndarray
    constant: bool = False


@dataclass(frozen=True)
class Trial:
    """A random case and how to compare it: differences relative to each element, or to the tensor's greatest one;
    and to no less than `floor`, where results come from terms of that size that cancel."""

    case: Case
    each: bool = False
    floor: float = 0.0


@dataclass
class Draw:
    """One random case in the making."""

    cell: Cell
    number: int
    random: np.random.Generator = field(init=False)
    inputs: tuple[str, ...] = field(init=False)
    outputs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.cell.seed(self.number))
        words = self.cell.combinations
        self.inputs, self.outputs = words[self.number % len(words)] if words else ((), ())

    @property
    def op(self) -> str:
        return self.cell.op

    def has_attribute(self, name: str) -> bool:
        return name in {f.name for f in fields(REGISTRY.by_name[self.op].Attrs)}

    # choices

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def choice(self, options: Sequence[T]) -> T:
        return options[int(self.random.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """low..high, both included."""
        return int(self.random.integers(low, high + 1))

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        return float(np.float32(np.exp(self.random.uniform(np.log(low), np.log(high)))))

    # shapes

    def shape(self, least: int = 0, most: int = 6, elements: int = MOST_ELEMENTS, empty: bool = True) -> Shape:
        """A shape of rank least..most with at most `elements`; now and then one axis is empty."""
        rank = self.integer(least, most)
        sizes: list[int] = []
        room = elements
        for _ in range(rank):
            fitting = [s for s in SIZES if s <= room]
            sizes.append(self.choice(fitting[: 5 + len(fitting) // rank]) if rank > 1 else self.choice(fitting))
            room //= sizes[-1]
        self.random.shuffle(sizes)
        if empty and sizes and self.chance(0.03):
            sizes[self.integer(0, rank - 1)] = 0
        return tuple(sizes)

    def broadcast(self, shape: Shape) -> Shape:
        """A shape that is broadcast to `shape`: some axes 1, some leading ones absent."""
        kind = self.choice(("same", "same", "leading", "ones", "both", "scalar"))
        if kind == "same":
            return shape
        if kind == "scalar":
            return self.choice(((), (1,)))
        made = shape[self.integer(0, len(shape)) if kind in ("leading", "both") else 0 :]
        return tuple(1 if kind in ("ones", "both") and self.chance(0.5) else s for s in made)

    def subset(self, count: int, most: int | None = None, least: int = 0) -> tuple[int, ...]:
        """Some of 0..count-1, in order."""
        size = self.integer(min(least, count), min(count, count if most is None else most))
        return tuple(sorted(int(a) for a in self.random.permutation(count)[:size]))

    def signed(self, axis: int, rank: int) -> int:
        """The axis, or the same counted from the end."""
        return axis - rank if self.chance(0.3) else axis

    # types

    def type(self, word: str, shape: Shape, like: TensorType | None = None, **given: Any) -> TensorType:
        """The tensor type of a signature's word; quantized ("q") at random, as given, or like another."""
        dtype = dtype_named(word)
        if not word.rstrip("?*").endswith("q"):
            return TensorType(dtype, shape)
        if like is not None and like.quantization is not None:
            return TensorType(dtype, shape, like.quantization)
        scale = given.get("scale") or self.log_uniform(0.002, 0.2)
        if dtype.bits > 8 and not given.get("scale"):
            scale /= 100
        return TensorType(
            dtype, shape, Quantization((float(np.float32(scale)),), (given.get("zero", self.zero(dtype)),))
        )

    def zero(self, dtype: DType) -> int:
        """A zero point: symmetric for int4, int16 and wider; else anything, now and then an end."""
        if dtype.bits > 8 or dtype.stored_bits < 8:
            return 0
        return self.choice((self.integer(dtype.minimum, dtype.maximum),) * 3 + (dtype.minimum, dtype.maximum, 0))

    def channels(self, word: str, shape: Shape, axis: int, scale: float = 0.02) -> TensorType:
        """Quantized by channel, zero points 0."""
        scales = tuple(self.log_uniform(scale / 4, scale) for _ in range(shape[axis]))
        return TensorType(dtype_named(word), shape, Quantization(scales, (0,) * len(scales), axis))

    # values

    def values(self, t: TensorType, low: float = -3, high: float = 3, special: bool = False) -> np.ndarray:
        """Random data: floats low..high (with `special`, now and then what is huge, tiny or not finite); integers of
        the whole range when quantized, else low..high; now and then only the ends of the range."""
        dtype = t.dtype
        if dtype == BOOL:
            return self.random.random(t.shape) < self.choice((0.5, 0.5, 0.1, 0.9))
        if dtype.kind == "string":
            texts = np.array([b"", b"a", b"lithe", "grün".encode(), b"a b", bytes(range(1, 250))], object)
            return self.random.choice(texts, t.shape)
        if dtype.kind == "complex":
            return (self.real(t.shape, low, high, False) + 1j * self.real(t.shape, low, high, False)).astype(
                dtype.numpy
            )
        if dtype.is_float:
            with np.errstate(over="ignore"):
                return self.real(t.shape, low, high, special).astype(dtype.numpy)
        if t.quantization is not None:
            least, most = dtype.minimum, dtype.maximum
        else:
            least, most = max(dtype.minimum, int(low)), min(dtype.maximum, int(high))
        if self.chance(0.1):
            return self.random.choice(np.array([least, most], dtype.numpy), t.shape)
        return self.random.integers(least, most, t.shape, dtype=dtype.numpy, endpoint=True)

    def any_values(self, t: TensorType) -> np.ndarray:
        """Any bits that the type has, for operators that only move them."""
        if t.dtype.is_integer:
            return self.random.integers(t.dtype.minimum, t.dtype.maximum, t.shape, dtype=t.dtype.numpy, endpoint=True)
        return self.values(t, special=True)

    def real(self, shape: Shape, low: float, high: float, special: bool) -> np.ndarray:
        drawn = self.random.uniform(low, high, shape)
        if not special or self.chance(0.5):
            return np.asarray(drawn.astype(np.float32))
        kind = self.choice(("huge", "tiny", "special", "ends", "whole"))
        match kind:
            case "huge":
                drawn = drawn * 10.0 ** self.random.integers(0, 36, shape)
            case "tiny":
                drawn = drawn * 10.0 ** -self.random.integers(0, 36, shape)
            case "ends":
                drawn = self.random.choice(np.array([low, high]), shape)
            case "whole":
                drawn = np.round(drawn * 2) / 2
            case "special":
                few = np.array(
                    [np.inf, -np.inf, np.nan, 0.0, -0.0, 3.4028235e38, -3.4028235e38, 1.1754944e-38, 1.0, -1.0]
                )
                drawn = np.where(self.random.random(shape) < 0.4, self.random.choice(few, shape), drawn)
        return np.asarray(drawn, np.float32)

    # the case

    def operand(self, t: TensorType, value: Any, constant: bool | float = False) -> Operand:
        """An input; a float is the probability that it is a constant."""
        fixed = constant if isinstance(constant, bool) else self.chance(constant)
        return Operand(t, np.asarray(value, t.dtype.numpy).reshape(t.shape), fixed)

    def index(self, word: str, value: Any, constant: bool | float = True) -> Operand:
        """Indices, axes, sizes: a tensor of the value's shape."""
        array = np.asarray(value, dtype_named(word).numpy)
        return self.operand(TensorType(dtype_named(word), array.shape), array, constant)

    def data(self, word: str, shape: Shape, constant: bool | float = False, **how: Any) -> Operand:
        """Data of a random type for the word."""
        t = self.type(word, shape)
        return self.operand(t, self.values(t, **how), constant)

    def moved(self, word: str, shape: Shape, constant: bool | float = False) -> Operand:
        t = self.type(word, shape)
        return self.operand(t, self.any_values(t), constant)

    def trial(
        self,
        inputs: Sequence[Operand | None],
        outputs: Sequence[TensorType],
        attrs: dict[str, Any] | None = None,
        *,
        each: bool = False,
        floor: float = 0.0,
        steps: int | None = None,
        tolerance: float = 1e-5,
        inferred: bool = False,
        **more: Any,
    ) -> Trial:
        """The finished case.

        steps     by default one for quantized outputs, none for plain integers.
        inferred  the shapes of the outputs are those that the operator infers, or that its results have.
        """
        quantized = any(t.quantization is not None and t.dtype.is_integer for t in outputs)
        case = Case(
            self.op,
            f"{self.cell.types}#{self.number}",
            tuple(None if x is None else x.type for x in inputs),
            tuple(outputs),
            attrs or {},
            constants={i: x.value for i, x in enumerate(inputs) if x is not None and x.constant},
            values={i: x.value for i, x in enumerate(inputs) if x is not None and not x.constant},
            tolerance=tolerance,
            steps=int(quantized) if steps is None else steps,
            **more,
        )
        return Trial(_with_shapes(case) if inferred else case, each, floor)


def _with_shapes(case: Case) -> Case:
    """The case with the shapes of its outputs; as it is when the operator refuses it."""
    site = case.site()
    try:
        shapes = case.operator.infer(site)
        if any(s is None or None in s for s in shapes):
            shapes = [r.shape for r in case.operator.evaluate(site, *case.arrays())]
    except (RuleViolation, LitheError):
        return case
    outputs = tuple(replace(t, shape=tuple(s)) for t, s in zip(case.outputs, shapes, strict=True))
    return replace(case, outputs=outputs)
