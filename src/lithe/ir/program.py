"""A model as loops: kernels, the order in which they run, and where every buffer lies.

    Program = Step*  placements        what a code generator turns into one callable
    Step    = kernel  arguments        arguments are storages, one for each of the kernel's parameters

Storages lie in the arena (activations, at `arena[storage]` bytes from its start, 64-byte aligned) or among
the constants (`constants[storage]` bytes from the start of the constant block). Two steps may share one
kernel with other arguments. Scratch memory of kernels is local (`Alloc`) or an arena storage of its own.

The last `private_bytes` of the arena are for buffers of which each thread has its own (see `Kernel.private`). Those
of thread 0 are there; more threads need as many bytes each behind the arena, and find theirs further on by that much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lithe.ir.graph import Tensor
from lithe.ir.loops import Buffer, Call, Instruction, Kernel, statements

ALIGNMENT = 64  # bytes


@dataclass(frozen=True, eq=False)
class Step:
    kernel: Kernel
    arguments: tuple[Buffer, ...]
    source: str = ""  # the operator it came from, for comments, profiles and error messages


class Packs(NamedTuple):
    """Instructions that narrow two vectors to one and saturate; each 128 bits of the result hold those of both.

    words, signed, unsigned  int32 to int16, int16 to int8, int16 to uint8. Their spellings are by the lanes of int32.
    """

    words: Instruction
    signed: Instruction
    unsigned: Instruction


@dataclass(eq=False)
class Program:
    """inputs, outputs  storages (or views of them) in the order of the graph's inputs and outputs.

    look_up  the machine's instruction that looks bytes up in 128 of them at once, where there is one: generators
             may use it for loads from constant tables.
    packs    those that narrow vectors, likewise.
    """

    name: str
    steps: list[Step]
    inputs: list[Buffer]
    outputs: list[Buffer]
    variables: dict[Tensor, Buffer] = field(default_factory=dict)  # graph tensors that keep their value between runs
    arena: dict[Buffer, int] = field(default_factory=dict)
    arena_bytes: int = 0
    least_bytes: int = 0  # of the arena, that live together at the worst step: no plan could do with less
    constants: dict[Buffer, int] = field(default_factory=dict)
    constant_bytes: int = 0
    look_up: Instruction | None = None
    packs: Packs | None = None
    private_bytes: int = 0  # a multiple of 64
    alternatives: dict[Step, dict[str, Step]] = field(default_factory=dict)  # that could stand in its place, by name

    @property
    def is_shared(self) -> bool:
        """Whether more than one thread has something to do."""
        return any(k.is_shared for k in self.kernels())

    def every_step(self) -> list[Step]:
        """The steps, each followed by those that could stand in its place."""
        return [s for step in self.steps for s in (step, *self.alternatives.get(step, {}).values())]

    def kernels(self) -> list[Kernel]:
        """Each kernel once, in order of first use."""
        return list(dict.fromkeys(s.kernel for s in self.steps))

    def lifetimes(self) -> dict[Buffer, tuple[int, int]]:
        """The first and the last step at which each storage holds something; -1 and the number of steps: around a run.

        Two storages share bytes of the arena only where they do not live at one time. A value that lies in another
        one's storage has none of its own: it is a view.
        """
        last = len(self.steps)
        spans: dict[Buffer, tuple[int, int]] = {}

        def alive(b: Buffer, first: int, until: int) -> None:
            known = spans.get(b.storage, (first, until))
            spans[b.storage] = min(known[0], first), max(known[1], until)

        for b in (*self.inputs, *self.variables.values()):
            alive(b, -1, last)
        for n, step in enumerate(self.steps):
            for way in (step, *self.alternatives.get(step, {}).values()):
                for b in way.arguments:
                    alive(b, n, n)
        for b in self.outputs:
            alive(b, spans[b.storage][0] if b.storage in spans else -1, last)
        return spans

    def messages(self) -> list[str]:
        """Texts of the failures that a run can end with; a run returns 0, or 1 + the place in this list."""
        return list(dict.fromkeys(text for k in self.kernels() for text in failures(k)))

    def constant_pieces(self) -> list[tuple[int, np.ndarray]]:
        """The constants and their offsets."""
        return [(offset, buffer.data) for buffer, offset in self.constants.items() if buffer.data is not None]

    def constant_block(self) -> np.ndarray:
        """The constants as bytes, in their places."""
        return joined(self.constant_pieces(), self.constant_bytes)


def joined(pieces: list[tuple[int, np.ndarray]], size: int) -> np.ndarray:
    """Constants as one block, which begins on a cache line, as the code expects it to.

    They are taken out of the list one by one: what nobody else holds is freed before the next one is copied.
    """
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    block = memory[start : start + size]
    while pieces:
        offset, data = pieces.pop()
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        block[offset : offset + raw.size] = raw
    return block


def failures(kernel: Kernel) -> list[str]:
    """Texts of the failures that a kernel can end with."""
    return [s.text for s in statements(kernel.body) if isinstance(s, Call) and s.name == "fail_unless"]


def start_value(t: Tensor) -> int:
    """What every element of a variable holds after a reset: zero, an int8 one its zero point."""
    q = t.type.quantization
    return q.zero_point[0] if q is not None and t.type.dtype.name == "int8" else 0
