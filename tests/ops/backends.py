"""Operators as programs of loops, without schedule and fusion; and what runs them here."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ir.program import Program, Step
from tests.ops.cases import Case

ALIGNMENT = 64


def program_of(cases: Iterable[Case]) -> Program:
    """Each operator alone as one kernel, one after the other, with inputs, outputs and memory of its own."""
    program = Program("cases", [], [], [])

    def place(buffer: Buffer) -> None:
        size = -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        if buffer.data is not None and buffer not in program.constants:
            program.constants[buffer] = program.constant_bytes
            program.constant_bytes += size
        elif buffer.data is None and buffer not in program.arena:
            program.arena[buffer] = program.arena_bytes
            program.arena_bytes += size

    for case in cases:
        arrays = case.arrays()
        xs: list[Buffer | None] = []
        for i, t in enumerate(case.inputs):
            data = np.ascontiguousarray(arrays[i]).reshape(t.shape) if t is not None and i in case.constants else None
            xs.append(None if t is None else Buffer(f"x{i}", t.dtype, t.shape, data))
        ys = tuple(Buffer(f"y{i}", t.dtype, t.shape) for i, t in enumerate(case.outputs))
        builder = Builder("operator")
        assert case.operator.lower is not None
        case.operator.lower(builder, case.site(), tuple(xs), ys)
        kernel = builder.kernel(str(case))
        program.steps.append(Step(kernel, kernel.params, str(case)))
        program.inputs += [x for x in xs if x is not None and x.data is None]
        program.outputs += ys
        for buffer in (*kernel.params, *program.inputs, *ys):
            place(buffer)
    return program


def given(case: Case) -> list[np.ndarray]:
    """The values of the inputs that are no constants."""
    return [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]


def shared_out(cases: Iterable[Case], outputs: list[np.ndarray]) -> list[tuple[Case, list[np.ndarray]]]:
    """The outputs of `program_of(cases)`, for each case those that are its own."""
    rest = iter(outputs)
    return [(case, [np.asarray(next(rest)).reshape(t.shape) for t in case.outputs]) for case in cases]
