"""Text and things made into numbers by hashing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from operator import or_

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Expr, select
from lithe.ops.farm_hash import UNROLLED, fingerprint, fingerprint64
from lithe.ops.fill import MOST_ELEMENTS
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT64, INT32, INT64, UINT8, UINT64, Shape

MOST_BITS = 32
SEED_BYTES = 4
MOST_BYTES = 1 << 16  # of a seed and an item
HASHED_AT_ONCE = 1 << 22


@register
class LshProjection(Op):
    """Bits that are alike for inputs that are alike: the sign of a weighted sum of hashes of the input's items.

    bit(seed) = sum over items i of weight[i] * int64(fingerprint64(bytes of seed + bytes of item i)) > 0, in float64.

    hash   float32 [functions, bits]: the seeds.     weight  float32 [items], 1 where it is absent.
    DENSE  the bits one by one.     SPARSE  each function's bits as one number, plus function * 2**bits.
    Source: TensorFlow Lite, kernels/lsh_projection.cc (behaviour).
    """

    name, code = "LSH_PROJECTION", 15
    operands = (("hash", "input", "weight?"), ("output",))
    types = "float32 T float32? -> int32: T= float32 float16 float64 int8 uint8 int16 int32 uint32 int64 bool"

    @dataclass(frozen=True)
    class Attrs:
        type: str = "SPARSE"

    def infer(site: Site) -> list[Shape]:
        functions, bits = site.rank(0, 2).shape
        site.require(bits <= MOST_BITS, f"must have at most {MOST_BITS} bits, is {site.input(0)}", 0)
        items = site.input(1)
        site.require(items.rank > 0 and items.size > 0, f"must have items, is {items}", 1)
        width = SEED_BYTES + _item_bytes(site)
        site.require(width <= MOST_BYTES, f"an item must have at most {MOST_BYTES - SEED_BYTES} bytes, is {items}", 1)
        total = functions * bits * items.shape[0] * width
        site.require(total <= MOST_ELEMENTS, f"{total} bytes are to be hashed, more than {MOST_ELEMENTS}", 1)
        if site.has(2):
            site.require(site.rank(2, 1).size == items.shape[0], f"must have one for each item of {items}", 2)
        site.require(site.attrs.type in ("SPARSE", "DENSE"), f"type must be SPARSE or DENSE, is {site.attrs.type}")
        return [(functions,) if site.attrs.type == "SPARSE" else (functions * bits,)]

    def evaluate(
        site: Site, seeds: np.ndarray, items: np.ndarray, weight: np.ndarray | None = None
    ) -> list[np.ndarray]:
        functions, bits = seeds.shape
        rows = np.ascontiguousarray(items).reshape(len(items), -1).view(np.uint8)
        weights = np.ones(len(items)) if weight is None else weight.astype(np.float64)
        at_once = max(1, HASHED_AT_ONCE // (rows.size + SEED_BYTES * len(rows)))
        groups = range(0, seeds.size, at_once)
        flat = seeds.reshape(-1)
        signs = np.concatenate([np.zeros(0, np.int64), *(_signs(flat[i : i + at_once], rows, weights) for i in groups)])
        if site.attrs.type == "DENSE":
            return [signs.astype(np.int32)]
        places = np.left_shift(1, np.arange(bits, dtype=np.int64)[::-1])
        whole = signs.reshape(functions, bits) @ places + (np.arange(functions, dtype=np.int64) << bits)
        return [whole.astype(np.int32)]

    def lowers(site: Site) -> bool:
        return SEED_BYTES + _item_bytes(site) <= UNROLLED

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        functions, bits = xs[0].shape
        if site.attrs.type == "DENSE":
            with b.loop(functions * bits, "parallel", "bit") as k:
                b.store(ys[0], k, _lowered_sign(b, site, xs, k))
            return
        with b.loop(functions, "parallel", "function") as f:
            signature = b.variable(0, "signature", INT32)
            with b.loop(bits, name="bit") as k:
                b.store(signature, (), signature[()] << 1 | _lowered_sign(b, site, xs, f * bits + k))
            b.store(ys[0], f, ((f << bits) + signature[()].to(INDEX)).to(INT32))


def _signs(seeds: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """int64, 0 or 1 for each seed."""
    heads = np.repeat(np.ascontiguousarray(seeds).view(np.uint8).reshape(-1, SEED_BYTES), len(rows), axis=0)
    hashes = fingerprint64(np.concatenate([heads, np.tile(rows, (len(seeds), 1))], axis=1)).view(np.int64)
    shares = weights * hashes.astype(np.float64).reshape(len(seeds), len(rows))
    return (np.cumsum(shares, axis=1)[:, -1] > 0).astype(np.int64)


def _item_bytes(site: Site) -> int:
    items = site.input(1)
    return items.nbytes // items.shape[0]


def _lowered_sign(b: Builder, site: Site, xs: tuple[Buffer | None, ...], bit: Expr) -> Expr:
    """1 or 0: the sign for one seed."""
    width, rows = _item_bytes(site), xs[1].shape[0]
    seeds, items = xs[0].viewed((xs[0].size, SEED_BYTES), UINT8), xs[1].viewed((rows, width), UINT8)
    score = b.variable(0.0, "score", FLOAT64)
    with b.loop(rows, name="item") as i:

        @cache
        def byte(j: int) -> Expr:
            return (seeds[bit, j] if j < SEED_BYTES else items[i, j - SEED_BYTES]).to(UINT64)

        @cache
        def fetch(place: int, size: int) -> Expr:
            return reduce(or_, (byte(place + j) << 8 * j if j else byte(place) for j in range(size)))

        value = fingerprint(fetch, SEED_BYTES + width).to(INT64).to(FLOAT64)
        share = value if not site.has(2) else xs[2][i].to(FLOAT64) * value
        b.store(score, (), score[()] + share)
    return select(score[()] > 0.0, 1, 0).to(INT32)
