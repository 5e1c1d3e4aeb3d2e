"""Contractions for the unit of tiles: chosen shapes, with every tail, stride, padding and pair of types."""

from __future__ import annotations

from dataclasses import replace

from lithe.ir.loops import For, statements
from lithe.ir.program import Program
from lithe.targets.cpu import Target, x86
from lithe.targets.host import host
from tests.ops.cases import Case, every_case
from tests.ops.cases_convolution import convolution

TILES = frozenset({"amx-tile", "amx-int8", "amx-bf16"})
WIDE = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "fma"})
Shape = tuple[int, ...]


def target(precision: str = "strict") -> Target:
    """This machine, or a plain one where it has no vectors of AVX-512, with tiles."""
    features = host().features if host().has(*WIDE) else WIDE
    return x86(features | TILES, host().triple, precision=precision)


def without_tiles(t: Target) -> Target:
    return replace(t, tiles=None)


def is_tiled(program: Program) -> bool:
    return any(isinstance(s, For) and s.kind == "tile" for k in program.kernels() for s in statements(k.body))


def pointwise(kind: str, rows: int, depth: int, columns: int, **more: object) -> Case:
    return convolution(
        f"{rows}x{depth}x{columns}", kind, (1, 1, rows, depth), (columns, 1, 1, depth), (1, 1, rows, columns), **more
    )


def window(kind: str, size: Shape, channels: int, taps: Shape, columns: int, **more: object) -> Case:
    """One whose output has the size that SAME padding, or VALID, makes it."""
    strides = more.get("stride_h", 1), more.get("stride_w", 1)
    grown = more.get("dilation_h_factor", 1), more.get("dilation_w_factor", 1)
    if more.get("padding") == "VALID":
        made = [(s - (t - 1) * d - 1) // step + 1 for s, t, d, step in zip(size, taps, grown, strides, strict=True)]
    else:
        made = [-(-s // step) for s, step in zip(size, strides, strict=True)]
    name = f"{size} {channels} by {taps} {columns} {sorted(more.items())}"
    return convolution(name, kind, (2, *size, channels), (columns, *taps, channels), (2, *made, columns), **more)


KINDS = ("int8", "uint8", "dynamic", "float")
CHOSEN = [
    *(pointwise(kind, 49, 96, 40) for kind in KINDS),  # a strip that begins early, a panel of 8 columns
    *(pointwise(kind, 33, 68, 33) for kind in KINDS),  # steps that overlap
    *(pointwise(kind, 10, 40, 70) for kind in KINDS),  # one strip, which is not whole, and four tiles across
    *(pointwise(kind, 150, 64, 9) for kind in KINDS),  # four strips, one tile across
    pointwise("int8", 64, 64, 64), pointwise("int8", 65, 320, 32), pointwise("int8", 16, 64, 16),
    pointwise("int8", 3000, 256, 24),  # several bands
    pointwise("int8", 17, 37, 5), pointwise("uint8", 47, 67, 17), pointwise("float", 34, 35, 50),  # no whole words
    pointwise("int8", 31, 1000, 31), pointwise("float", 31, 250, 31),
    *(window(kind, (7, 7), 32, (3, 3), 48) for kind in KINDS),
    *(window(kind, (9, 20), 16, (3, 3), 20, stride_h=2, stride_w=2) for kind in KINDS),
    window("int8", (14, 14), 24, (3, 3), 32, padding="VALID"), window("int8", (5, 40), 12, (1, 5), 17),
    window("int8", (40, 1), 28, (5, 1), 33, padding="VALID"), window("uint8", (6, 18), 9, (2, 3), 16, stride_w=2),
    window("int8", (12, 33), 32, (3, 3), 16, dilation_h_factor=2, dilation_w_factor=3),
    window("float", (6, 18), 13, (2, 3), 16, fused_activation_function="RELU"),
    window("float", (8, 8), 32, (3, 3), 40, dilation_w_factor=2, padding="VALID"),
]  # fmt: skip


def all_cases() -> list[Case]:
    """The chosen ones, and every operator's own."""
    return [*CHOSEN, *every_case(lambda case: case.operator.lower is not None and case.operator.lowers(case.site()))]
