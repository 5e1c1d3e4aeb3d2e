"""The shape that several operands have in common."""

from __future__ import annotations

from lithe.ops.op import Site
from lithe.types import Shape


def broadcast_shape(site: Site, *operands: int) -> Shape:
    """The shape that the operands broadcast to: axes are aligned at the end, and 1 stretches to any size."""
    shapes = [site.input(i).shape for i in operands]
    rank = max(len(s) for s in shapes)
    common = []
    for sizes in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        stretched = {size for size in sizes if size != 1} or {1}
        names = " and ".join(f"{site.operand(i)} {list(s)}" for i, s in zip(operands, shapes, strict=True))
        site.require(len(stretched) == 1, f"{names} do not broadcast to one shape")
        common.append(stretched.pop())
    return tuple(common)


def broadcast_of_all(site: Site) -> list[Shape]:
    """One output with the shape that all inputs broadcast to."""
    return [broadcast_shape(site, *range(len(site.inputs)))]
