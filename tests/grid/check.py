"""Random cases checked: `evaluate` against the official runtime; loops, machine code and C against `evaluate`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lithe.errors import LitheError
from lithe.ir import interpret
from lithe.ir.graph import Graph
from lithe.lower import lower
from lithe.ops.op import RuleViolation
from tests import c_backend, llvm_backend
from tests.grid.cells import Cell
from tests.grid.compare import Difference, difference
from tests.grid.draw import Draw, Trial
from tests.grid.families import generator
from tests.grid.known import exception
from tests.grid.official import SETS, answers
from tests.ops.backends import given, program_of, shared_out
from tests.ops.cases import Case
from tests.ops.official import official_tolerance

BATCH = 50  # cases in one program
COMPILED = 40  # cases of a cell that are compiled
INTERPRETED = 12  # cases of a cell that the interpreter of loops runs
LARGE = 8  # the same of operators that take a second to compile
LARGE_OPERATORS = {
    "LSTM",
    "SVDF",
    *(f"{way}DIRECTIONAL_SEQUENCE_{kind}" for way in ("UNI", "BI") for kind in ("LSTM", "RNN")),
}
TARGETS = ("loops", "LLVM", "C")
EPSILON = {"float16": 2.0**-9, "bfloat16": 2.0**-6}  # what two roundings cost
EVERY_SET = "every kernel set"
RULE = "rule: "  # before what evaluate refuses on purpose
BETWEEN = 2e-6  # relative difference allowed between targets


@dataclass
class Finding:
    """What one case showed.

    official  by kernel set: the difference of `evaluate` from it; refused: why it has no answer.
    targets   by target: the difference from `evaluate`. problem: why the case fails, empty when it does not.
    """

    cell: str
    number: int
    official: dict[str, Difference] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    targets: dict[str, Difference] = field(default_factory=dict)
    raised: str = ""

    @property
    def name(self) -> str:
        return f"{self.cell}#{self.number}"

    @property
    def problems(self) -> list[str]:
        found = [f"{target}: {d.problem}" for target, d in self.targets.items() if d.problem]
        both_refuse = (
            self.raised.startswith(RULE) and self.refused and not self.official and EVERY_SET not in self.refused
        )
        if self.raised and not both_refuse:
            found.append(f"evaluate: {self.raised}")
        if self.official and all(d.problem for d in self.official.values()):
            found += [f"{name}: {d.problem}" for name, d in self.official.items()]
        return found

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "problems": self.problems}


def drawn(cell: Cell, number: int) -> Trial:
    return generator(cell.op)(Draw(cell, number))


def check(
    wanted: Sequence[tuple[Cell, int]],
    skipped: dict[tuple[str, str], str] | None = None,
    at: Callable[[str, str], None] = lambda name, stage: None,
) -> list[Finding]:
    """The findings of these cases.

    skipped  (case, kernel set or target) that took a process with it, and how. at  is told what comes next.
    """
    skipped = skipped or {}
    findings, trials = [], []
    meanings: list[list[np.ndarray]] = []
    for cell, number in wanted:
        finding = Finding(str(cell), number)
        findings.append(finding)
        at(finding.name, "draw")
        try:
            trial = drawn(cell, number)
        except Exception as mistake:  # of the grid itself: a finding too, not the end of the run
            finding.raised = f"no case can be drawn: {type(mistake).__name__}: {mistake}"
            continue
        lost = {stage: how for (name, stage), how in skipped.items() if name == finding.name}
        finding.refused |= {stage: how for stage, how in lost.items() if stage in SETS}
        got = _meaning(trial.case, finding)
        no_oracle = trial.case.reason if not trial.case.official else exception(trial.case)
        if no_oracle:
            finding.refused[EVERY_SET] = no_oracle
        results = {} if no_oracle else answers(trial.case, lost, functools.partial(at, finding.name))
        finding.refused |= {k: r for k, r in results.items() if isinstance(r, str)}
        for name, expected in results.items():
            if exception(trial.case, name):
                finding.refused[name] = exception(trial.case, name)
            elif not isinstance(expected, str):
                finding.official[name] = _against_official(trial, got, expected)
        if got is not None and number < compiled(cell.op) and _lowered(trial.case):
            lost_targets = {stage: how for stage, how in lost.items() if stage in TARGETS}
            finding.targets |= {stage: Difference(problem=how) for stage, how in lost_targets.items()}
            trials.append((finding, trial))
            meanings.append(got)
    for start in range(0, len(trials), BATCH):
        _targets(trials[start : start + BATCH], meanings[start : start + BATCH], at)
    return findings


def _meaning(case: Case, finding: Finding) -> list[np.ndarray] | None:
    """The results of `evaluate`, None when it refuses the case."""
    try:
        site = case.site()
        shapes = case.operator.infer(site)
        declared = [None if s is None else tuple(s) for s in shapes]
        results = case.operator.evaluate(site, *case.arrays())
    except RuleViolation as refusal:
        finding.raised = f"{RULE}{refusal.operand} {refusal.rule}"
    except LitheError as refusal:
        finding.raised = f"{RULE}{refusal}"
    except Exception as mistake:  # any other error is a finding, not the end of the run
        finding.raised = f"{type(mistake).__name__}: {mistake}"
    else:
        for t, shape, result in zip(case.outputs, declared, results, strict=True):
            if result.dtype != t.dtype.numpy:
                finding.raised = f"an output of {result.dtype} where {t.dtype} is declared"
            if shape is not None and not _fits(shape, result.shape):
                finding.raised = f"an output of shape {list(result.shape)} where {list(shape)} is inferred"
        return None if finding.raised else [np.asarray(r) for r in results]
    return None


def compiled(op: str) -> int:
    """How many cases of a cell of the operator are compiled."""
    return LARGE if op in LARGE_OPERATORS else COMPILED


def _lowered(case: Case) -> bool:
    return case.operator.lower is not None and case.operator.lowers(case.site())


def _fits(inferred: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(inferred) == len(shape) and all(i in (None, s) for i, s in zip(inferred, shape, strict=True))


def _tolerance(trial: Trial) -> float:
    return max([trial.case.tolerance, *(EPSILON.get(t.dtype.name, 0) for t in trial.case.outputs)])


def _against_official(trial: Trial, got: list[np.ndarray] | None, expected: list[np.ndarray]) -> Difference:
    case = trial.case
    if got is None:
        return Difference(problem="it answers where evaluate raises")
    exact = 0 if case.tolerance == 0 else max(_tolerance(trial), official_tolerance(case))
    return difference(case, got, expected, case.steps, exact, trial.each, trial.floor)


def _targets(
    trials: list[tuple[Finding, Trial]], meanings: list[list[np.ndarray]], at: Callable[[str, str], None]
) -> None:
    pairs = list(zip(trials, meanings, strict=True))
    runners: dict[str, Callable[[list[Case]], list[list[np.ndarray]]]] = {"LLVM": _machine_code, "loops": _interpreted}
    if c_backend.compiler() is not None:
        runners["C"] = _c
    for target, run in runners.items():
        rest = [p for p in pairs if target not in p[0][0].targets]
        rest = [p for p in rest if target != "loops" or p[0][0].number < INTERPRETED]
        _run(target, run, rest, at)


def _run(
    target: str,
    run: Callable[[list[Case]], list[list[np.ndarray]]],
    pairs: list[tuple[tuple[Finding, Trial], list[np.ndarray]]],
    at: Callable[[str, str], None],
) -> None:
    """Runs all cases in one program; where that fails, the halves, down to the case that is the reason."""
    if not pairs:
        return
    cases = [trial.case for (_, trial), _ in pairs]
    at(pairs[0][0][0].name if len(pairs) == 1 else "", target)
    try:
        results = run(cases)
    except Exception as mistake:  # any error is a finding, not the end of the run
        if len(pairs) == 1:
            text = " ".join(str(mistake).split())[:300]
            pairs[0][0][0].targets[target] = Difference(problem=f"{type(mistake).__name__}: {text}")
            return
        middle = len(pairs) // 2
        _run(target, run, pairs[:middle], at)
        _run(target, run, pairs[middle:], at)
        return
    for ((finding, trial), expected), got in zip(pairs, results, strict=True):
        tolerance = max(_tolerance(trial), BETWEEN) if trial.case.tolerance else 0
        finding.targets[target] = difference(trial.case, got, expected, 0, tolerance, trial.each, trial.floor)


def _interpreted(cases: list[Case]) -> list[list[np.ndarray]]:
    return [
        outputs for case in cases for _, outputs in shared_out([case], interpret.run(program_of([case]), given(case)))
    ]


def _c(cases: list[Case]) -> list[list[np.ndarray]]:
    outputs = c_backend.run(program_of(cases), [x for case in cases for x in given(case)], ("-O0",))
    return [own for _, own in shared_out(cases, outputs)]


def _machine_code(cases: list[Case]) -> list[list[np.ndarray]]:
    """With the schedules, vectors and instructions of this machine; those that call other graphs one by one."""
    target = llvm_backend.host_target()
    if any(case.model() for case in cases):
        shapes = [[t.shape for t in case.outputs] for case in cases]
        results = [llvm_backend.run_case(case, target) for case in cases]
        return [
            [np.asarray(g).reshape(s) for g, s in zip(*pair, strict=True)] for pair in zip(results, shapes, strict=True)
        ]
    outputs = llvm_backend.run(
        lower(graph_of(cases), target), [x for case in cases for x in given(case)], target.features
    )
    return [own for _, own in shared_out(cases, outputs)]


def graph_of(cases: Sequence[Case]) -> Graph:
    """One graph of many operators that have nothing to do with each other."""
    whole = Graph("cases", [], [], [], [])
    for number, case in enumerate(cases):
        graph = llvm_backend.graph_of(case)
        for t in graph.tensors:
            t.index += 1000 * number
        (node,) = graph.nodes
        node.index = number
        whole.nodes.append(node)
        whole.inputs += graph.inputs
        whole.outputs += graph.outputs
        whole.tensors += [*graph.tensors]
    return whole
