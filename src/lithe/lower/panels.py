"""How a product of matrices is cut: output channels into panels of vectors, pixels into tiles, rows into bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lithe.ir.build import Convolution, Pixel
from lithe.ir.loops import Expr, constant, nodes
from lithe.lower.costs import A_LOAD, A_NARROW_VECTOR, MOST_PIXELS

LARGEST_EPILOGUE = 40  # expressions of an epilogue that is written out for every pixel of a tile


def is_heavy(c: Convolution) -> bool:
    """Whether the epilogue is too much to be written out for every pixel of a tile."""
    origin = Pixel(*[constant(0)] * 4)
    return len([*nodes((c.epilogue(constant(0, c.accumulator), constant(0), origin),))]) > LARGEST_EPILOGUE


def flattened(c: Convolution) -> Convolution:
    """A pointwise convolution as one of M x 1 pixels of one picture; any other as it is."""
    n, oh, ow, columns = c.out.shape
    _, h, w, channels = c.x.shape
    if c.w.shape[1:3] != (1, 1) or c.strides != (1, 1) or (oh, ow) != (h, w) or c.padding != (0, 0):
        return c
    rows = n * oh * ow

    def epilogue(total: Expr, o: Expr, pixel: Pixel) -> Expr:
        row = pixel.row
        return c.epilogue(total, o, Pixel(row // (oh * ow), row // ow % oh, row % ow, row))

    return replace(c, x=c.x.viewed((1, rows, 1, channels)), out=c.out.viewed((1, rows, 1, columns)), epilogue=epilogue)


@dataclass(frozen=True)
class Panel:
    """Neighbouring panels of one width: `count` panels of `used` columns, in vectors of these `widths`."""

    first: int
    count: int
    used: int
    widths: tuple[int, ...]

    @property
    def room(self) -> int:
        return sum(self.widths)

    def vectors(self) -> Iterator[tuple[int, int]]:
        """(first column, lanes) of each vector."""
        at = 0
        for lanes in self.widths:
            yield at, lanes
            at += lanes


def widths(columns: int, lanes: int) -> tuple[int, ...]:
    """Vectors that hold so many columns; the last one may be narrower.

    >>> widths(40, 16), widths(3, 16)
    ((16, 16, 8), (4,))
    """
    whole, rest = divmod(columns, lanes)
    narrow = next((n for n in (4, 8) if rest <= n < lanes), lanes)
    return (lanes,) * whole + ((narrow,) if rest else ())


def panels(columns: int, width: int, lanes: int) -> list[Panel]:
    """Output channels cut into panels.

    >>> panels(100, 32, 16)
    [Panel(first=0, count=3, used=32, widths=(16, 16)), Panel(first=96, count=1, used=4, widths=(4,))]
    """
    whole, rest = divmod(columns, width)
    result = [Panel(0, whole, width, widths(width, lanes))] if whole else []
    if rest:
        result.append(Panel(whole * width, 1, rest, widths(rest, lanes)))
    return result


def heights(rows: int, most: int) -> list[tuple[int, int]]:
    """Rows shared out to tiles of at most two neighbouring heights: [(height, how many)].

    >>> heights(49, 12)
    [(10, 4), (9, 1)]
    """
    tiles = -(-rows // most)
    low, extra = divmod(rows, tiles)
    return [(h, n) for h, n in ((low + 1, extra), (low, tiles - extra)) if n]


def equal_bands(rows: int, most: int) -> int:
    """Rows of a band: at most so many, and where there are several bands, such that threads have equal shares of them.

    >>> equal_bands(112, 40), equal_bands(112, 112), equal_bands(113, 40)
    (28, 112, 40)
    """
    least = -(-rows // most)
    equal = (n for n in range(least, 2 * least + 4) if n % 4 == 0 and rows % n == 0)
    count = next(equal, 1) if least > 1 else 1
    return rows // count if count > 1 else most


def rectangles(rows: int, columns: int, most: int) -> list[tuple[int, int, int]]:
    """Tiles of at most so many pixels that cover rows x columns of them: [(rows, columns, how many)].

    >>> rectangles(7, 7, 14), rectangles(4, 28, 12)
    ([(2, 7, 3), (1, 7, 1)], [(1, 10, 4), (1, 9, 8)])
    """
    if columns > most:
        return [(1, w, n * rows) for w, n in heights(columns, most)]
    return [(h, columns, n) for h, n in heights(rows, most // columns)]


def tile_shape(
    rows: int, columns: int, n: int, lanes: int, registers: int, across: tuple[int, ...] = ()
) -> tuple[int, int]:
    """(pixels, output channels) of the tile with the least padded work whose sums fit the registers.

    across  how many vectors it may be wide; empty: what usually pays.
    """
    best, least = (1, lanes), float("inf")
    for vectors in across or ((1, 2, 3, 4) if rows * columns > 1 else (1, 2, 4, 8)):
        most = min((registers - vectors - 2) // vectors, MOST_PIXELS)
        if most < 1:
            continue
        cost = 0.0
        for p in panels(n, vectors * lanes, lanes):
            wide = sum(max(w / lanes, A_NARROW_VECTOR) for w in p.widths)
            for h, w, count in rectangles(rows, columns, most):
                cost += count * p.count * (h * w * wide + A_LOAD * (h * w + len(p.widths)))
        if cost < least:
            best, least = (most, vectors * lanes), cost
    return best
