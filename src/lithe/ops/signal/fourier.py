"""The fast Fourier transform, once for numpy and for loops, in float32 and in fixed point.

A transform of n = r0 r1 r2 ... numbers puts its input in the order of `Plan.order`, then combines groups of r numbers,
the last factor first: a group's members are turned by a root of unity each and then summed in r ways (a butterfly).
A transform of real numbers packs two neighbours into a complex number, transforms these, and takes the result apart.

Fixed point: numbers of [-1, 1); a product is rounded, halves up, every sum wraps, and every stage divides its input by
its radix, so that a forward transform gives 1/n of the sum. Each step is that of kissfft 130 (behaviour, not text),
which TensorFlow Lite Micro's signal library uses: the results are equal, bit for bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import cast
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, Expr, constant
from lithe.types import FLOAT32, INT16, INT32, INT64, DType

Pair = tuple[Any, Any]  # real and imaginary part
RADICES = (4, 2, 3, 5)
LONGEST = 1 << 20  # real numbers of a transform whose tables are made here, one root after the other


@dataclass(frozen=True)
class Numbers:
    """How numbers are stored and multiplied. `fraction` bits of a stored integer are behind the point; 0: floats."""

    stored: DType
    wide: DType
    fraction: int = 0

    def kept(self, x: Any) -> Any:
        """x as it comes out of memory."""
        return cast(cast(x, self.stored), self.wide) if self.fraction else x

    def rounded(self, x: Any) -> Any:
        """A product, or a sum of them."""
        return self.kept((x + (1 << (self.fraction - 1))) >> self.fraction) if self.fraction else x

    def share(self, x: Pair, n: int) -> Pair:
        """x / n in fixed point, where sums would not fit; x itself in floats."""
        if not self.fraction:
            return x
        part = self.stored.maximum // n
        return self.rounded(x[0] * part), self.rounded(x[1] * part)

    def product(self, a: Pair, b: Pair) -> Pair:
        return self.rounded(a[0] * b[0] - a[1] * b[1]), self.rounded(a[0] * b[1] + a[1] * b[0])

    def half(self, x: Any) -> Any:
        """x / 2; a sum in fixed point has 32 bits here."""
        return cast(cast(x, INT32), self.wide) >> 1 if self.fraction else x * np.float32(0.5)

    def sum(self, a: Pair, b: Pair) -> Pair:
        return self.kept(a[0] + b[0]), self.kept(a[1] + b[1])

    def difference(self, a: Pair, b: Pair) -> Pair:
        return self.kept(a[0] - b[0]), self.kept(a[1] - b[1])

    def root(self, angle: float) -> list[float]:
        """The point on the unit circle, as it is stored."""
        point = math.cos(angle), math.sin(angle)
        return [math.floor(0.5 + self.stored.maximum * v) for v in point] if self.fraction else list(point)


FLOATS = Numbers(FLOAT32, FLOAT32)
NUMBERS = {"float32": FLOATS, "int16": Numbers(INT16, INT32, 15), "int32": Numbers(INT32, INT64, 31)}


@dataclass(frozen=True)
class Plan:
    """The transform of n complex numbers."""

    numbers: Numbers
    n: int
    inverse: bool = False

    @property
    def factors(self) -> list[int]:
        return factors(self.n)

    @property
    def stages(self) -> list[tuple[int, int, int]]:
        """(radix, distance of a group's members, number of blocks of such groups), in the order of work."""
        found, blocks = [], 1
        for radix in self.factors:
            found.append((radix, self.n // (blocks * radix), blocks))
            blocks *= radix
        return found[::-1]

    @property
    def order(self) -> np.ndarray:
        """Which input stands at each place before the first stage."""
        places = np.arange(self.n, dtype=np.int32).reshape(self.factors[::-1])
        return places.transpose().reshape(-1).copy()

    @property
    def roots(self) -> np.ndarray:
        """[n, 2]: the n-th roots of unity."""
        turn = 2 * math.pi if self.inverse else -2 * math.pi
        return np.array([self.numbers.root(turn * i / self.n) for i in range(self.n)], self.numbers.stored.numpy)

    @property
    def halves(self) -> np.ndarray:
        """[n / 2, 2]: by what the parts of a real transform of 2n numbers are turned when put together."""
        turn = math.pi if self.inverse else -math.pi
        angles = (turn * ((i + 1) / self.n + 0.5) for i in range(self.n // 2))
        return np.array([self.numbers.root(a) for a in angles], self.numbers.stored.numpy).reshape(-1, 2)

    def butterfly(self, members: Sequence[Pair], roots: Callable[[int], Pair]) -> list[Pair]:
        """The sums of a group whose members are turned; roots(i) is the root number i of the radix."""
        return _BUTTERFLIES[len(members)](self, members, roots)


@functools.lru_cache(64)
def _factors(n: int) -> tuple[int, ...]:
    found = []
    for radix in RADICES:
        while n % radix == 0 and n > 1:
            found.append(radix)
            n //= radix
    return (*found, n) if n > 1 else tuple(found)


def factors(n: int) -> list[int]:
    """The radices of a transform of n numbers; one that is not in RADICES cannot be used.

    >>> factors(120)
    [4, 2, 3, 5]
    """
    return list(_factors(n))


def _two(p: Plan, t: Sequence[Pair], roots: Any) -> list[Pair]:
    return [p.numbers.sum(t[0], t[1]), p.numbers.difference(t[0], t[1])]


def _four(p: Plan, t: Sequence[Pair], roots: Any) -> list[Pair]:
    n = p.numbers
    even, odd = n.sum(t[0], t[2]), n.sum(t[1], t[3])
    across, turned = n.difference(t[0], t[2]), n.difference(t[1], t[3])
    turned = (turned[1], -turned[0]) if not p.inverse else (-turned[1], turned[0])
    return [n.sum(even, odd), n.sum(across, turned), n.difference(even, odd), n.difference(across, turned)]


def _three(p: Plan, t: Sequence[Pair], roots: Callable[[int], Pair]) -> list[Pair]:
    n = p.numbers
    total, apart = n.sum(t[1], t[2]), n.difference(t[1], t[2])
    middle = n.difference(t[0], (n.half(total[0]), n.half(total[1])))
    height = roots(1)[1]
    turned = -n.rounded(apart[1] * height), n.rounded(apart[0] * height)
    return [n.sum(t[0], total), n.sum(middle, turned), n.difference(middle, turned)]


def _five(p: Plan, t: Sequence[Pair], roots: Callable[[int], Pair]) -> list[Pair]:
    n, (first, second) = p.numbers, (roots(1), roots(2))
    outer, inner = (n.sum(t[1], t[4]), n.difference(t[1], t[4])), (n.sum(t[2], t[3]), n.difference(t[2], t[3]))

    def along(a: Any, b: Any) -> Pair:
        """t0 + outer sum * a + inner sum * b, for real factors."""
        return tuple(t[0][i] + n.rounded(outer[0][i] * a) + n.rounded(inner[0][i] * b) for i in (0, 1))

    def across(a: Any, b: Any, sign: int) -> Pair:
        """The differences turned by a right angle: (imaginary, -real) of outer * a, and inner * b with its sign."""
        parts = [(n.rounded(outer[1][i] * a), n.rounded(inner[1][i] * b)) for i in (1, 0)]
        (x, u), (y, v) = parts
        return (x + u, -y - v) if sign > 0 else (u - x, y - v)

    straight, turned = along(first[0], second[0]), across(first[1], second[1], 1)
    bent, twisted = along(second[0], first[0]), across(second[1], first[1], -1)
    return [
        n.sum(n.sum(t[0], outer[0]), inner[0]),
        n.difference(straight, turned),
        n.sum(bent, twisted),
        n.difference(bent, twisted),
        n.sum(straight, turned),
    ]


_BUTTERFLIES: dict[int, Callable[..., list[Pair]]] = {2: _two, 3: _three, 4: _four, 5: _five}


def taken_apart(n: Numbers, here: Pair, mirror: Pair, root: Pair) -> tuple[Pair, Pair]:
    """Numbers k and n - k of the transform of 2n real numbers, from those of the n packed ones."""
    here, mirror = n.share(here, 2), n.share((mirror[0], n.kept(-mirror[1])), 2)
    same = n.sum(here, mirror)
    turned = n.product(n.difference(here, mirror), root)
    high = n.half(same[0] + turned[0]), n.half(same[1] + turned[1])
    return high, (n.half(same[0] - turned[0]), n.half(turned[1] - same[1]))


def put_together(n: Numbers, here: Pair, mirror: Pair, root: Pair) -> tuple[Pair, Pair]:
    """The other way round: the packed numbers k and n - k, ready for the inverse transform."""
    here, mirror = n.share(here, 2), n.share((mirror[0], n.kept(-mirror[1])), 2)
    even = n.sum(here, mirror)
    odd = n.product(n.difference(here, mirror), root)
    low = n.difference(even, odd)
    return n.sum(even, odd), (low[0], -low[1])


def parted(n: Numbers, packed: Pair) -> Pair:
    """The real numbers 0 and n of the transform, from the packed number 0."""
    a, b = n.share(packed, 2)
    return n.kept(a + b), n.kept(a - b)


def joined(n: Numbers, first: Any, last: Any) -> Pair:
    """The packed number 0 for the inverse transform, from the real parts of numbers 0 and n."""
    return n.share((n.kept(first + last), n.kept(first - last)), 2)


# In numpy: arrays [batch, n, 2].


def _pair(x: np.ndarray) -> Pair:
    return x[..., 0], x[..., 1]


def _filled(y: np.ndarray, places: Any, pair: Pair) -> None:
    y[:, places, 0], y[:, places, 1] = pair


def transformed(plan: Plan, x: np.ndarray) -> np.ndarray:
    """The transform of x [batch, n, 2], numbers of the wide type."""
    n, (real, imaginary) = plan.numbers, _pair(plan.roots.astype(plan.numbers.wide.numpy))
    y = x[:, plan.order]
    for radix, apart, blocks in plan.stages:
        groups = y.reshape(-1, blocks, radix, apart, 2)
        members = [n.share(_pair(groups[:, :, q]), radix) for q in range(radix)]
        for q in range(1, radix):
            turn = np.arange(apart) * q * blocks
            members[q] = n.product(members[q], (real[turn], imaginary[turn]))
        unit = real[:: apart * blocks], imaginary[:: apart * blocks]
        sums = plan.butterfly(members, lambda i, unit=unit: (unit[0][i], unit[1][i]))
        y = np.stack([n.kept(np.stack(s, -1)) for s in sums], 2).reshape(x.shape)
    return y


def real_transformed(numbers: Numbers, x: np.ndarray) -> np.ndarray:
    """[batch, length / 2 + 1, 2] from x [batch, length], an even number of real numbers."""
    plan = Plan(numbers, x.shape[1] // 2)
    wide, n = numbers.wide.numpy, plan.n
    packed = transformed(plan, x.astype(wide).reshape(len(x), n, 2))
    y, k = np.zeros((len(x), n + 1, 2), wide), np.arange(1, n // 2 + 1)
    y[:, 0, 0], y[:, n, 0] = parted(numbers, _pair(packed[:, 0]))
    high, low = taken_apart(numbers, _pair(packed[:, k]), _pair(packed[:, n - k]), _pair(plan.halves.astype(wide)))
    _filled(y, k, high)
    _filled(y, n - k, low)
    return y.astype(numbers.stored.numpy)


def real_restored(numbers: Numbers, x: np.ndarray) -> np.ndarray:
    """The inverse, without a factor: [batch, length] from x [batch, length / 2 + 1, 2]."""
    plan = Plan(numbers, x.shape[1] - 1, inverse=True)
    wide, n = numbers.wide.numpy, plan.n
    x, k = x.astype(wide), np.arange(1, n // 2 + 1)
    packed = np.zeros((len(x), n, 2), wide)
    _filled(packed, 0, joined(numbers, x[:, 0, 0], x[:, n, 0]))
    high, low = put_together(numbers, _pair(x[:, k]), _pair(x[:, n - k]), _pair(plan.halves.astype(wide)))
    _filled(packed, k, high)
    _filled(packed, n - k, low)
    return transformed(plan, numbers.kept(packed)).astype(numbers.stored.numpy).reshape(len(x), 2 * n)


# In loops.


def _loaded(n: Numbers, x: Buffer, *place: Any) -> Pair:
    return x[(*place, 0)].to(n.wide), x[(*place, 1)].to(n.wide)


def _stored(b: Builder, y: Buffer, place: tuple[Any, ...], pair: Pair) -> None:
    for part, value in enumerate(pair):
        b.store(y, (*place, part), cast(value, y.dtype))


def _held(b: Builder, pair: Pair) -> Pair:
    return b.variable(pair[0], "real")[()], b.variable(pair[1], "imaginary")[()]


def lower_transform(b: Builder, plan: Plan, load: Callable[[Expr], Pair], work: Buffer) -> None:
    """work [n, 2] = the transform of load(i), a pair of the wide type, for i = 0..n-1."""
    n, order, roots = plan.numbers, b.constant(plan.order, "order"), plan.roots
    table = b.constant(roots, "roots")
    with b.loop(plan.n) as i:
        _stored(b, work, (i,), load(order[i].to(INDEX)))
    for radix, apart, blocks in plan.stages:
        unit = [tuple(Const(v, n.wide) for v in root) for root in roots[:: apart * blocks].tolist()]
        with b.nest((blocks, apart), name="group") as (block, u):
            places = [block * (radix * apart) + u + q * apart for q in range(radix)]
            members = [n.share(_loaded(n, work, p), radix) for p in places]
            for q in range(1, radix):
                members[q] = n.product(members[q], _loaded(n, table, u * (q * blocks)))
            sums = plan.butterfly([_held(b, m) for m in members], unit.__getitem__)
            for place, value in zip(places, sums, strict=True):
                _stored(b, work, (place,), value)


def lower_real(
    b: Builder, n: Numbers, length: int, load: Callable[[Expr], Expr], y: Buffer, row: tuple[Expr, ...], work: Buffer
) -> None:
    """y[row] [length / 2 + 1, 2] = the transform of load(i), numbers as they are stored; work: [length / 2, 2]."""
    plan = Plan(n, length // 2)
    lower_transform(b, plan, lambda i: (load(i * 2).to(n.wide), load(i * 2 + 1).to(n.wide)), work)
    zero = constant(0, n.wide)
    for place, value in zip((0, plan.n), parted(n, _loaded(n, work, 0)), strict=True):
        _stored(b, y, (*row, place), (value, zero))
    halves = b.constant(plan.halves, "halves")
    with b.loop(plan.n // 2) as i:
        here, mirror = _loaded(n, work, i + 1), _loaded(n, work, plan.n - 1 - i)
        high, low = taken_apart(n, here, mirror, _loaded(n, halves, i))
        _stored(b, y, (*row, i + 1), high)
        _stored(b, y, (*row, plan.n - 1 - i), low)


def lower_restored(b: Builder, n: Numbers, x: Buffer, row: tuple[Expr, ...], packed: Buffer, work: Buffer) -> None:
    """work [length / 2, 2] = pairs of neighbours of the inverse of x[row] [length / 2 + 1, 2], without a factor."""
    plan = Plan(n, work.shape[0], inverse=True)
    _stored(b, packed, (0,), joined(n, x[(*row, 0, 0)].to(n.wide), x[(*row, plan.n, 0)].to(n.wide)))
    halves = b.constant(plan.halves, "halves")
    with b.loop(plan.n // 2) as i:
        here, mirror = _loaded(n, x, *row, i + 1), _loaded(n, x, *row, plan.n - 1 - i)
        high, low = put_together(n, here, mirror, _loaded(n, halves, i))
        _stored(b, packed, (i + 1,), high)
        _stored(b, packed, (plan.n - 1 - i,), low)
    lower_transform(b, plan, lambda i: _loaded(n, packed, i), work)
