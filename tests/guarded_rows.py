"""Rows of the operator matrix in guarded memory, in a process that may die.

    echo '{"rows": ["GATHER-axis_0"], "trials": 12, "target": "host", "twists": 0}' | python -m tests.guarded_rows

prints one line of JSON when a row begins and one when it ends: {"begin": row}, {"end": row, "problems": [...]}.
`watched` starts such processes and says where they died.
"""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.errors import LitheError
from lithe.ops.op import RuleViolation
from lithe.passes.infer_shapes import BAD_NUMBERS
from lithe.runtime.loader import Image
from lithe.types import TensorType
from tests import guarded_faults
from tests.conftest import CHECKOUT
from tests.guarded import FILLS, PLACES, Outcome, Prepared, Room, compiled, entry_of, targets
from tests.ops.cases import Case, every_case
from tests.ops.test_matrix import agree

TWIST = ", constant "  # in the names of rows that `twisted` has made
DEATHS = 12  # after which no new process is started
FLOATS = (np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 2.0**31, -(2.0**31), 1e9, -1.0)

Arrays = list[np.ndarray | None]


def rows() -> list[Case]:
    """The rows that this machine's code can run."""
    return every_case(lambda case: case.operator.lower is not None and case.operator.lowers(case.site()))


def operands(case: Case, kind: str, constant: bool = False) -> list[int]:
    """Positions of the inputs that a run brings (or the constants): plain integers, which may be places, or floats."""

    def fits(i: int, t: TensorType | None) -> bool:
        if t is None or (i in case.constants) != constant or not t.size:
            return False
        return t.dtype.is_float if kind == "float" else t.dtype.is_integer and t.quantization is None

    return [i for i, t in enumerate(case.inputs) if fits(i, t)]


def extremes(case: Case, t: TensorType) -> list[int]:
    """Values at and beyond the ends of what an index may be."""
    sizes = {n for u in (*case.inputs, *case.outputs) if u is not None for n in (*u.shape, u.size, u.rank)}
    wanted = {-1, 0, 1, 2**15, 2**31 - 1, -(2**31), 2**31, 2**32, 2**63 - 1, -(2**63), t.dtype.minimum, t.dtype.maximum}
    wanted |= {v for n in sizes for v in (n - 1, n, n + 1, -n, -n - 1)}
    return sorted(v for v in wanted if t.dtype.minimum <= v <= t.dtype.maximum)


def hostile(case: Case, trials: int) -> Iterator[tuple[str, Arrays]]:
    """(what was changed, values for all inputs): integers that index memory are at or beyond their ends."""
    draw = np.random.default_rng(zlib.crc32(str(case).encode()))
    chosen = operands(case, "integer")
    if not chosen:
        return
    values = {i: extremes(case, case.inputs[i]) for i in chosen}  # type: ignore[arg-type]
    every = [(i, v, whole) for i in chosen for v in values[i] for whole in (True, False)]
    for k in draw.permutation(len(every))[:trials]:
        i, v, whole = every[k]
        arrays = case.arrays()
        flat = arrays[i].reshape(-1)  # type: ignore[union-attr]
        at = slice(None) if whole else int(draw.integers(flat.size))
        flat[at] = v
        arrays[i] = flat.reshape(case.inputs[i].shape)  # type: ignore[union-attr]
        yield f"input {i}{'' if whole else f' at {at}'} = {v}", arrays
    for n in range(-(-trials // 4)):
        arrays = case.arrays()
        for i in chosen:
            t = case.inputs[i]
            assert t is not None
            mixed = draw.choice(np.array(values[i], t.dtype.numpy), t.shape)
            arrays[i] = np.where(draw.random(t.shape) < 0.5, mixed, arrays[i]).astype(t.dtype.numpy)
        yield f"mixture {n}", arrays


def strange(case: Case, trials: int) -> Iterator[tuple[str, Arrays]]:
    """(what was changed, values for all inputs): floats, of which some operators make places, are no usual numbers."""
    draw = np.random.default_rng(zlib.crc32(str(case).encode()))
    chosen = operands(case, "float")
    for n in range(-(-trials // 4) if chosen else 0):
        arrays = case.arrays()
        for i in chosen:
            t = case.inputs[i]
            assert t is not None
            with np.errstate(over="ignore"):
                mixed = draw.choice(np.array(FLOATS).astype(t.dtype.numpy), t.shape)
            arrays[i] = np.where(draw.random(t.shape) < 0.5, mixed, arrays[i]).astype(t.dtype.numpy)
        yield f"strange floats {n}", arrays


def twisted(case: Case, trials: int) -> list[Case]:
    """Rows with another integer in a constant, where the operator's rules let that pass.

    Integers that a run brings are made constants, too: for those the operators may write other loops.
    """
    draw = np.random.default_rng(zlib.crc32(str(case).encode()))
    chosen = operands(case, "integer", constant=True)
    chosen += [i for i in operands(case, "integer") if i not in case.variables]
    values = {i: extremes(case, case.inputs[i]) for i in chosen}  # type: ignore[arg-type]
    every = [(i, v) for i in chosen for v in values[i]]
    found = []
    for k in draw.permutation(len(every))[:trials]:
        i, v = every[k]
        array = np.array(case.arrays()[i])
        at = int(draw.integers(array.size))
        array.reshape(-1)[at] = v
        made = replace(case, name=f"{case.name}{TWIST}{i} at {at} = {v}", constants={**case.constants, i: array})
        if passes(made):
            found.append(made)
    return found


def passes(case: Case) -> bool:
    """Whether the operator takes the row, and gives outputs of the declared shapes."""
    site = case.site()
    try:
        shapes = case.operator.infer(site)
    except (RuleViolation, *BAD_NUMBERS):
        return False
    return [t.shape for t in case.outputs] == shapes and case.operator.lowers(site)


class Row:
    """One row with its rooms."""

    def __init__(self, prepared: Prepared, image: Image) -> None:
        self.prepared, self.case, self.rooms = prepared, prepared.case, []
        for place in PLACES:
            entry = entry_of(image, prepared.entries[place])
            self.rooms.append(Room(prepared.programs[place], entry, prepared.variables()))

    def runs(self, arrays: Arrays) -> tuple[Outcome, str]:
        """(outcome, problem): once beside each forbidden page, with each filling."""
        inputs = self.prepared.inputs(arrays)
        found = []
        for room in self.rooms:
            found += [room.run(inputs, fill) for fill in FILLS]
        same = all(found[0].equals(other) for other in found[1:])
        return found[0], "" if same else "what memory held before changes the result"

    def check(self, arrays: Arrays, compare: bool) -> str:
        """What is wrong with a run on these values; `compare` it with the operator's meaning."""
        outcome, problem = self.runs(arrays)
        if problem or not compare:
            return problem
        try:
            expected = self.case.operator.evaluate(self.case.site(), *[None if a is None else a.copy() for a in arrays])
        except LitheError as refusal:
            return "" if outcome.failure else f"loops have a result, the meaning refuses: {refusal.problem}"
        except Exception as escaped:
            return f"the meaning ends with {type(escaped).__name__}: {escaped}"
        if outcome.failure:
            return f"the meaning has a result, loops refuse: {self.prepared.messages[outcome.failure - 1]}"
        got = [a.reshape(t.shape) for a, t in zip(outcome.arrays, self.case.outputs, strict=False)]
        return agree(self.case, got, expected, 0, max(self.case.tolerance, 2e-6))

    def problems(self, trials: int) -> list[str]:
        found = {"given": self.check(self.case.arrays(), compare=True)}
        found |= {what: self.check(arrays, compare=True) for what, arrays in hostile(self.case, trials)}
        found |= {what: self.check(arrays, compare=False) for what, arrays in strange(self.case, trials)}
        return [f"{what}: {problem}" for what, problem in found.items() if problem]

    def close(self) -> None:
        for room in self.rooms:
            room.close()


def main(order: dict[str, Any]) -> None:
    warnings.simplefilter("error")
    if order["target"] == "plain":  # what would lie on the stack gets pages of its own too
        importlib.import_module("lithe.lower.lower").LARGEST_LOCAL = -1  # type: ignore[attr-defined]
    known = {str(case): case for case in (*rows(), *guarded_faults.CASES)}
    if order["twists"]:
        known = {str(made): made for case in known.values() for made in twisted(case, order["twists"])}
    for group, image in compiled((known[name] for name in order["rows"]), targets()[order["target"]]):
        for prepared in group:
            print(json.dumps({"begin": str(prepared.case)}), flush=True)
            row = Row(prepared, image)
            problems = row.problems(order["trials"])
            row.close()
            print(json.dumps({"end": str(prepared.case), "problems": problems[:3]}), flush=True)


def watched(cases: Sequence[Case], trials: int, target: str = "host", twists: int = 0) -> list[str]:
    """Runs rows in processes of their own, and returns what is wrong with them, deaths among it.

    trials  how many changes of their integers to try.
    target  the name of one of `tests.guarded.targets`.
    twists  not the rows themselves, but what `twisted` makes of each with so many trials.
    """
    chosen = [made for case in cases for made in twisted(case, twists)] if twists else cases
    rest, found, deaths = [str(case) for case in chosen], [], 0
    while rest and deaths < DEATHS:
        order = json.dumps({"rows": rest, "trials": trials, "target": target, "twists": twists})
        ran = subprocess.run(
            [sys.executable, "-m", __spec__.name], input=order, capture_output=True, text=True, cwd=CHECKOUT
        )
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        done = [line["end"] for line in lines if "end" in line]
        found += [f"{line['end']}: {problem}" for line in lines for problem in line.get("problems", ())]
        if ran.returncode == 0:
            return found
        deaths += 1
        last = lines[-1].get("begin") if lines else None
        if ran.returncode >= 0 or last is None:
            return [*found, f"after {done[-1:]}: {ran.stderr[-2000:]}"]
        found.append(f"{last}: ended by {signal.Signals(-ran.returncode).name}")
        rest = rest[rest.index(last) + 1 :]
    return [*found, *([f"{len(rest)} rows were not run"] if rest else [])]


if __name__ == "__main__":
    main(json.loads(sys.stdin.read()))
