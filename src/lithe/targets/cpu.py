"""CPUs as data: vector width, registers, dot products of vectors and of tiles, with what they compute."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from lithe.ir.loops import Instruction
from lithe.ir.program import Packs
from lithe.types import BFLOAT16, FLOAT32, INT8, INT16, INT32, UINT8, DType


@dataclass(frozen=True)
class Dot:
    """An instruction that adds `group` products in each 32-bit lane.

    accumulates  whether it adds them to its first operand; otherwise the schedule writes the addition.
    left, right  element types of the two groups, each packed into one 32-bit word, first element lowest.
    """

    instruction: Instruction
    group: int
    left: DType
    right: DType
    accumulates: bool = True


@dataclass(frozen=True)
class Tiles:
    """A unit that multiplies matrices of words: sums [rows, columns] += left [rows, depth] * right [depth, columns].

    A word of `left` holds neighbours in a row, one of `right` neighbours in a column; sums have 32 bits.

    rows, words  most rows of a tile, and words of a row.
    registers    tiles that it holds.
    dots         what a word of `left` and one of `right` add to a sum, for each pair of types that it multiplies.
    """

    rows: int
    words: int
    registers: int
    dots: tuple[Dot, ...]

    def dot(self, left: DType, right: DType) -> Dot | None:
        """The product of these types, None where the unit has none."""
        return next((d for d in self.dots if (d.left, d.right) == (left, right)), None)


@dataclass(frozen=True)
class Target:
    """What schedules and generators may know of a machine.

    vector_bytes  bytes of the widest vector that pays.
    registers     vector registers.
    fma           fused multiply-add of floats.
    dot           the dot product of bytes, None where there is none worth using.
    words         the dot product of 16-bit values, likewise.
    halves        whether one instruction makes vectors of float32 from float16.
    tiles         the unit that multiplies tiles, None where there is none.
    splits        whether floats meet tiles as sums of two bfloat16 numbers each, not as one.
    across        how many vectors a tile of sums may be wide; empty: the schedules choose.
    triple, features  for LLVM; features is a comma-separated list such as "+avx2,+fma".
    """

    name: str
    triple: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool
    dot: Dot | None
    words: Dot | None = None
    float_dot: Dot | None = None  # products of floats at less precision, None where they are float32
    look_up: Instruction | None = None  # looks bytes up in a table of 128 of them
    packs: Packs | None = None  # narrow vectors
    cache_bytes: int = 1 << 19  # share of the second-level cache that one block of rows may take
    halves: bool = False
    tiles: Tiles | None = None
    splits: bool = False
    across: tuple[int, ...] = ()

    @property
    def lanes(self) -> int:
        """32-bit values in a vector."""
        return self.vector_bytes // 4


def _packed(words: np.ndarray, dtype: DType) -> np.ndarray:
    """The packed elements of 32-bit words, along a new last axis."""
    flat = np.ascontiguousarray(words, np.int32)
    return flat.reshape(*flat.shape, 1).view(dtype.numpy)


def _dot(left: DType, right: DType):  # type: ignore[no-untyped-def]
    def meaning(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total, a, b = np.broadcast_arrays(total, a, b)
        products = _packed(a, left).astype(np.int64) * _packed(b, right).astype(np.int64)
        sums = total.astype(np.int64) + products.sum(-1)
        return sums.astype(np.uint64).astype(np.uint32).view(np.int32).reshape(total.shape)

    return meaning


# Intel's "vpdpbusd": four products of an unsigned and a signed byte, no saturation.
VPDPBUSD = Dot(
    Instruction(
        "vpdpbusd", (INT32, INT32, INT32), INT32, _dot(UINT8, INT8),
        {"llvm": {
            16: ("llvm.x86.avx512.vpdpbusd.512", ("<16 x i32>", "<64 x i8>", "<64 x i8>")),
            8: ("llvm.x86.avx512.vpdpbusd.256", ("<8 x i32>", "<32 x i8>", "<32 x i8>")),
            4: ("llvm.x86.avx512.vpdpbusd.128", ("<4 x i32>", "<16 x i8>", "<16 x i8>")),
        }},
    ),
    4, UINT8, INT8,
)  # fmt: skip

PMADDWD = Instruction(
    "pmaddwd", (INT32, INT32), INT32, lambda a, b: _dot(INT16, INT16)(np.int32(0), a, b),
    {"llvm": {
        16: ("llvm.x86.avx512.pmaddw.d.512", ("<32 x i16>", "<32 x i16>")),
        8: ("llvm.x86.avx2.pmadd.wd", ("<16 x i16>", "<16 x i16>")),
        4: ("llvm.x86.sse2.pmadd.wd", ("<8 x i16>", "<8 x i16>")),
    }},
)  # fmt: skip

# Two products of 16-bit values; the addition is written by the schedule (see `dot_step`).
WORD_PAIRS = Dot(PMADDWD, 2, INT16, INT16, False)


def _brain_pairs(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total, a, b = np.broadcast_arrays(total, a, b)
    left, right = (_packed(w, BFLOAT16).astype(np.float32) for w in (a, b))
    return (total + left[..., 1] * right[..., 1]) + left[..., 0] * right[..., 0]


# Two products of bfloat16 values, added to a float32.
VDPBF16PS = Dot(
    Instruction(
        "vdpbf16ps", (FLOAT32, INT32, INT32), FLOAT32, _brain_pairs,
        {"llvm": {
            16: ("llvm.x86.avx512bf16.dpbf16ps.512", ("<16 x float>", "<32 x bfloat>", "<32 x bfloat>")),
            8: ("llvm.x86.avx512bf16.dpbf16ps.256", ("<8 x float>", "<16 x bfloat>", "<16 x bfloat>")),
            4: ("llvm.x86.avx512bf16.dpbf16ps.128", ("<4 x float>", "<8 x bfloat>", "<8 x bfloat>")),
        }},
    ),
    2, BFLOAT16, BFLOAT16,
)  # fmt: skip

# A byte of two vectors side by side for each of 64 places, whose highest bit is ignored.
VPERMI2B = Instruction(
    "vpermi2b", (UINT8, UINT8, UINT8), UINT8,
    lambda low, place, high: np.concatenate((low, high))[place & 127],
    {"llvm": "llvm.x86.avx512.vpermi2var.qi.512"},
)  # fmt: skip

# Intel's "vpdpwssd": two products of signed 16-bit values, no saturation.
VPDPWSSD = Dot(
    Instruction(
        "vpdpwssd", (INT32, INT32, INT32), INT32, _dot(INT16, INT16),
        {"llvm": {
            16: ("llvm.x86.avx512.vpdpwssd.512", ("<16 x i32>", "<32 x i16>", "<32 x i16>")),
            8: ("llvm.x86.avx512.vpdpwssd.256", ("<8 x i32>", "<16 x i16>", "<16 x i16>")),
            4: ("llvm.x86.avx512.vpdpwssd.128", ("<4 x i32>", "<8 x i16>", "<8 x i16>")),
        }},
    ),
    2, INT16, INT16,
)  # fmt: skip


def _tile_dot(name: str, left: DType, right: DType) -> Dot:
    """A product of Intel's AMX. One of bfloat16 values takes denormal ones as zero, and adds in an order of its own."""
    floats = left == BFLOAT16
    sums, meaning = (FLOAT32, _brain_pairs) if floats else (INT32, _dot(left, right))
    instruction = Instruction(name, (sums, INT32, INT32), sums, meaning, {"llvm": f"llvm.x86.{name}"})
    return Dot(instruction, 2 if floats else 4, left, right)


TDPBSSD, TDPBUSD = _tile_dot("tdpbssd", INT8, INT8), _tile_dot("tdpbusd", UINT8, INT8)
TDPBF16PS = _tile_dot("tdpbf16ps", BFLOAT16, BFLOAT16)


def _packing(name: str, operand: DType, result: DType, forms: dict[int, str]) -> Instruction:
    """Two vectors as one of narrower elements; the meaning leaves the order within the result aside."""

    def meaning(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        both = np.concatenate((a, b))
        return np.clip(both, result.minimum, result.maximum).astype(result.numpy)

    return Instruction(name, (operand, operand), result, meaning, {"llvm": forms})


@functools.cache
def packs(lanes: int) -> Packs:
    """Intel's packing instructions for vectors of at most so many lanes of 32 bits."""

    def made(name: str, operand: DType, result: DType) -> Instruction:
        forms = {4: f"sse2.{name}.128", 8: f"avx2.{name}", 16: f"avx512.{name}.512"}
        spelling = {n: f"llvm.x86.{form}" for n, form in forms.items() if n <= lanes}
        return _packing(name, operand, result, spelling)

    return Packs(made("packssdw", INT32, INT16), made("packsswb", INT16, INT8), made("packuswb", INT16, UINT8))


# Its processors leave such products to their tiles: one of vectors takes longer than those of float32 in its place
# (measured on Emerald Rapids without tiles: MobileNet v1 took 1.65 times as long).
SLOW_BRAIN_DOT = "GenuineIntel"

GENERIC = Target("generic", "", "", 16, 16, False, None)


def x86(
    features: frozenset[str],
    triple: str = "x86_64-unknown-linux-gnu",
    *,
    precision: str = "strict",
    vendor: str = "",
) -> Target:
    """The schedules' view of an x86-64 CPU with these LLVM feature names (no plus signs).

    precision  of products of floats: "strict"; "fast": factors may be rounded to bfloat16; "bf16x3": they may be split
               into two such numbers.
    vendor     as CPUID names it, for what is quick on one processor and slow on another with the same features.
    """
    wide = {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= features
    middle = {"avx2", "fma"} <= features
    text = ",".join(f"+{f}" for f in sorted(features))
    if wide:
        dot, words = (VPDPBUSD, VPDPWSSD) if "avx512vnni" in features else (WORD_PAIRS, WORD_PAIRS)
        look_up = VPERMI2B if "avx512vbmi" in features else None
        tiles = amx(features, rounds=precision in ("fast", "bf16x3"))
        pays = vendor != SLOW_BRAIN_DOT or tiles is not None
        float_dot = VDPBF16PS if precision == "fast" and "avx512bf16" in features and pays else None
        return Target(
            "avx512", triple, text, 64, 32, True, dot, words, float_dot, look_up, packs(16), halves=True, tiles=tiles,
            splits=precision == "bf16x3",
        )  # fmt: skip
    if middle:
        halves = "f16c" in features
        return Target("avx2", triple, text, 32, 16, True, WORD_PAIRS, WORD_PAIRS, packs=packs(8), halves=halves)
    return Target("x86_64", triple, text, 16, 16, False, WORD_PAIRS, WORD_PAIRS, packs=packs(4))


def amx(features: frozenset[str], *, rounds: bool) -> Tiles | None:
    """The tiles of a CPU with these features, of which the system lets this process use those that it names."""
    if "amx-tile" not in features:
        return None
    bytes_ = (TDPBSSD, TDPBUSD) if "amx-int8" in features else ()
    floats = (TDPBF16PS,) if rounds and "amx-bf16" in features else ()
    return Tiles(16, 16, 8, (*bytes_, *floats)) if bytes_ or floats else None
