"""Ways to run a program of loops. A backend is a function `run(program, inputs) -> outputs`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ir.program import Program, Step
from tests.ops.cases import Case

Backend = Callable[[Program, list[np.ndarray]], list[np.ndarray]]
ALIGNMENT = 64


def one_step_program(case: Case) -> Program:
    """The operator alone as one kernel, with no schedule, no fusion and no sharing of memory."""
    site, arrays = case.site(), case.arrays()
    xs: list[Buffer | None] = []
    for i, t in enumerate(case.inputs):
        data = np.ascontiguousarray(arrays[i]).reshape(t.shape) if t is not None and i in case.constants else None
        xs.append(None if t is None else Buffer(f"x{i}", t.dtype, t.shape, data))
    ys = tuple(Buffer(f"y{i}", t.dtype, t.shape) for i, t in enumerate(case.outputs))
    builder = Builder("operator")
    assert case.operator.lower is not None
    case.operator.lower(builder, site, tuple(xs), ys)
    kernel = builder.kernel(str(case))
    inputs = [x for x in xs if x is not None and x.data is None]
    program = Program("one", [Step(kernel, kernel.params, str(case))], inputs, list(ys))
    for buffer in dict.fromkeys([*kernel.params, *inputs, *ys]):
        if buffer.data is not None:
            program.constants[buffer] = program.constant_bytes
            program.constant_bytes += -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        else:
            program.arena[buffer] = program.arena_bytes
            program.arena_bytes += -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
    return program


def interpreted(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    from lithe.ir import interpret

    return interpret.run(program, inputs)


# Backends by name, and the module that each needs.
_KNOWN: dict[str, tuple[str, Backend]] = {"interpreter": ("lithe.ir.interpret", interpreted)}
BACKENDS: dict[str, Backend] = {
    name: run for name, (module, run) in _KNOWN.items() if importlib.util.find_spec(module) is not None
}
