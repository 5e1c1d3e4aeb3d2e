"""Programs of one kernel, for tests of everything that runs or prints loops."""

from __future__ import annotations

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ir.program import Program, Step

ALIGNMENT = 64


def single(b: Builder, inputs: list[Buffer], outputs: list[Buffer], name: str = "single") -> Program:
    """What a builder wrote as a program, with every buffer at a place of its own."""
    kernel = b.kernel(name)
    program = Program(name, [Step(kernel, kernel.params, name)], inputs, outputs)
    for buffer in dict.fromkeys(x.storage for x in (*kernel.params, *inputs, *outputs)):
        room = -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        if buffer.data is not None:
            program.constants[buffer] = program.constant_bytes
            program.constant_bytes += room
        else:
            program.arena[buffer] = program.arena_bytes
            program.arena_bytes += room
    return program
