"""Cases in the official runtime, with each of its kernel sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any

import numpy as np

from tests.ops.cases import Case
from tests.ops.official import KERNELS, given_by_official, given_to_official, model_bytes

NAMES = {"BUILTIN": "XNNPACK", "BUILTIN_WITHOUT_DEFAULT_DELEGATES": "optimized", "BUILTIN_REF": "reference"}
SETS = tuple(NAMES[k] for k in KERNELS)
Answers = dict[str, list[np.ndarray] | str]


def answers(case: Case, skipped: Container[str] = (), before: Callable[[str], None] = lambda name: None) -> Answers:
    """The outputs by kernel set, or why it refuses. XNNPACK is there only where it takes the operator.

    skipped  kernel sets not to run. before  is told the kernel set that comes next: it may take the process with it.
    """
    from ai_edge_litert import interpreter as runtime

    try:
        content = model_bytes(case)
    except (AttributeError, ValueError) as problem:  # an operator or option that its schema does not have
        return {name: f"no model can be written: {problem}" for name in SETS}
    values = case.arrays()
    numbers = [None if t is None else sum(u is not None for u in case.inputs[:i]) for i, t in enumerate(case.inputs)]
    found: Answers = {}
    for kernels in KERNELS:
        name = NAMES[kernels]
        if name in skipped:
            continue
        before(name)
        try:
            interpreter = runtime.Interpreter(
                model_content=content, experimental_op_resolver_type=runtime.OpResolverType[kernels], num_threads=1
            )
            interpreter.allocate_tensors()
            if name == "XNNPACK" and not _delegated(interpreter):
                continue
            for i, value in enumerate(values):
                if value is not None and i not in case.constants:
                    interpreter.set_tensor(numbers[i], given_to_official(value))
            interpreter.invoke()
            found[name] = [
                given_by_official(interpreter.get_tensor(d["index"]), t.dtype)
                for d, t in zip(interpreter.get_output_details(), case.outputs, strict=True)
            ]
        except (RuntimeError, ValueError) as refusal:
            found[name] = re.sub(r"\s+", " ", str(refusal))[:200]
    return found


def _delegated(interpreter: Any) -> bool:
    return any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
