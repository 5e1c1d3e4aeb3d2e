"""StableHLO operators in model files, with the graphs that they call: read, written, and run by both executors."""

from __future__ import annotations

import pytest

from lithe.formats.tflite import read, write
from lithe.runtime.interpreter import Interpreter
from tests.ops.cases import Case, every_case
from tests.ops.official import model_bytes
from tests.ops.test_matrix import agree, evaluated


def first_rows() -> list[Case]:
    """One row of each operator; rows with strings in their options are not written by the official schema's tools."""
    rows: dict[str, Case] = {}
    for case in every_case(lambda case: case.op.startswith("STABLEHLO") or case.op in ("DILATE", "REDUCE_WINDOW")):
        if case.op != "STABLEHLO_CUSTOM_CALL" and case.operator.lower is not None:
            rows.setdefault(case.op, case)
    return list(rows.values())


@pytest.mark.parametrize("case", first_rows(), ids=lambda case: case.op)
@pytest.mark.parametrize("compiled", [True, False])
def test_a_model_runs_as_its_operator_means(case: Case, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert.schema_py_generated", reason="the official schema is not installed")
    monkeypatch.setenv("LITHE_JIT", "1" if compiled else "0")
    module = read(model_bytes(case))
    attrs = module.main.nodes[0].attrs
    assert attrs == case.operator.Attrs(**case.attrs)
    content = write(module)
    assert read(content).main.nodes[0].attrs == attrs
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    values = [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    got = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    problem = agree(case, got, evaluated(case), 0, max(case.tolerance, 2e-6))
    assert not problem, problem
    (session,) = interpreter._sessions.values()
    assert type(session._executor).__name__ == ("CompiledExecutor" if compiled else "ReferenceExecutor")
