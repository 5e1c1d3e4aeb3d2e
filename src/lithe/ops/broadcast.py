"""The shape that several operands have in common."""

from __future__ import annotations

import numpy as np

from lithe.ops.op import Site
from lithe.types import Shape


def broadcast_shape(site: Site, *operands: int) -> Shape:
    """The shape that the operands broadcast to: axes are aligned at the end, and 1 stretches to any size."""
    shapes = [site.input(i).shape for i in operands]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        names = " and ".join(f"{site.operand(i)} {list(s)}" for i, s in zip(operands, shapes, strict=True))
        site.require(False, f"{names} do not broadcast to one shape")
        raise  # not reached: require raises


def broadcast_of_all(site: Site) -> list[Shape]:
    """One output with the shape that all inputs broadcast to."""
    return [broadcast_shape(site, *range(len(site.inputs)))]
