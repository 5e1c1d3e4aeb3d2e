"""Padding around and between elements, which may also cut: STABLEHLO_PAD and DILATE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.layout import PLAIN, Movement, fill, integers, known_integers
from lithe.ops.op import Site, register
from lithe.ops.pad import pad
from lithe.types import Shape

MOST = 1 << 28  # elements with border and gaps, of tensors that are spread out only to be reduced


@dataclass(frozen=True)
class Spread:
    """How the elements along each axis are moved apart: element i goes to place before + i * step.

    before, after  padding at the ends; negative: as many places are cut off.
    """

    before: Shape
    after: Shape
    step: Shape

    def shape(self, shape: Shape) -> Shape:
        """The shape of the result; a size is negative where more is cut than there is."""
        lengths = zip(shape, self.before, self.after, self.step, strict=True)
        return tuple(low + (max(d - 1, 0) * step + (d > 0)) + high for d, low, high, step in lengths)

    def require(self, site: Site, shape: Shape) -> None:
        """The rule for a tensor that is spread out in memory."""
        size = math.prod(max(d, 0) for d in self.shape(shape))
        site.require(size <= MOST, f"the input has {size} elements with its border and gaps, more than {MOST}", 0)

    def kept(self, shape: Shape) -> list[range]:
        """The elements of each axis that are not cut off."""
        found = []
        for d, size, low, step in zip(shape, self.shape(shape), self.before, self.step, strict=True):
            first = -(min(low, 0) // step)
            found.append(range(first, max(first, min(d, (size - 1 - low) // step + 1))))
        return found

    def evaluate(self, x: np.ndarray, value: Any) -> np.ndarray:
        y = np.full(self.shape(x.shape), value, x.dtype)
        kept = self.kept(x.shape)
        if all(kept):
            target = tuple(
                slice(low + k[0] * step, low + k[-1] * step + 1, step)
                for low, step, k in zip(self.before, self.step, kept, strict=True)
            )
            y[target] = x[tuple(slice(k[0], k[-1] + 1) for k in kept)]
        return y

    def lower(self, b: Builder, x: Buffer, y: Buffer, value: Any) -> None:
        if set(self.step) <= {1} and min((*self.before, *self.after), default=0) >= 0:
            pad(b, x, y, list(zip(self.before, self.after, strict=True)), value)
            return
        fill(b, y, value)
        kept = self.kept(x.shape)
        with b.nest(tuple(map(len, kept)), "parallel") as i:
            source = tuple(v + k.start for v, k in zip(i, kept, strict=True))
            places = zip(source, self.before, self.step, strict=True)
            b.store(y, tuple(v * step + low for v, low, step in places), x[source])


@register
class StablehloPad(Movement):
    """x with a value around and between its elements; negative padding cuts. Source: StableHLO, pad."""

    name, code = "STABLEHLO_PAD", 195
    operands = (("operand", "padding_value"), ("output",))
    types = f"T T -> T: {PLAIN}"

    @dataclass(frozen=True)
    class Attrs:
        edge_padding_low: tuple[int, ...] = ()
        edge_padding_high: tuple[int, ...] = ()
        interior_padding: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x, a = site.input(0), site.attrs
        for name in ("edge_padding_low", "edge_padding_high", "interior_padding"):
            given = getattr(a, name)
            site.require(len(given) == x.rank, f"{name} must have one element for each axis of {x}, is {given}")
        site.require(min(a.interior_padding, default=0) >= 0, "interior_padding must not be negative")
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        shape = _spread(site).shape(x.shape)
        site.require(min(shape, default=0) >= 0, f"the padding cuts more than there is of {x}")
        return [shape]

    def evaluate(site: Site, x: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        return [_spread(site).evaluate(x, value.reshape(())[()])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        _spread(site).lower(b, xs[0], ys[0], xs[1].viewed((1,))[0])


def _spread(site: Site) -> Spread:
    a = site.attrs
    return Spread(a.edge_padding_low, a.edge_padding_high, tuple(n + 1 for n in a.interior_padding))


@register
class Dilate(Movement):
    """y[i * dilations] = x[i], the padding value elsewhere; neighbours are `dilations` apart."""

    name, code = "DILATE", 203
    operands = (("input", "dilations", "padding_value"), ("output",))
    types = f"T int32 T -> T: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(site.rank(1, 1).size == x.rank, f"must have one element for each axis of {x}", 1)
        site.require(site.input(2).size == 1, f"must have one element, is {site.input(2)}", 2)
        steps = known_integers(site, 1)
        if steps is None:
            return [(None,) * x.rank]
        site.require(min(steps, default=1) >= 1, f"must be at least 1, are {steps}", 1)
        return [_apart(steps).shape(x.shape)]

    def evaluate(site: Site, x: np.ndarray, dilations: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
        steps = integers(dilations)
        if min(steps, default=1) < 1:
            raise ExecutionError(f"dilations must be at least 1, are {steps}")
        return [_apart(steps).evaluate(x, value.reshape(())[()])]

    def lowers(site: Site) -> bool:
        return site.known(1) is not None and Movement.lowers(site)

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        _apart(integers(site.constant(1))).lower(b, xs[0], ys[0], xs[2].viewed((1,))[0])


def _apart(steps: list[int]) -> Spread:
    none = (0,) * len(steps)
    return Spread(none, none, tuple(steps))
