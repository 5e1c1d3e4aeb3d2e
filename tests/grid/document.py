"""docs/operators.md: a row for each cell, from what the grid found; rows of cells that were not run stay."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path

from lithe.ops import REGISTRY
from tests.grid.cells import Cell, cells
from tests.grid.check import COMPILED, INTERPRETED, LARGE
from tests.grid.families import GENERATORS, WITHOUT, has_cases
from tests.grid.official import SETS
from tests.grid.tally import CellTally, Sum

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
PENDING = "not run yet"
HEAD = """# Operators

Every operator that Lithe has, in every element type that it takes, and what the grid of random tests found there. This
page is written by `make grid`, which runs it all (in 19 minutes on two cores that had other work too);
`make grid ONLY=ADD` runs one operator and renews its rows, `make grid ONLY=ADD/int8q` one cell, `make grid
ONLY=ADD/int8q#17` one case.

- **types**: the element types that the cell is named after. A `q` says that the tensors carry scales and zero points;
  `a+b` are different operands, `a-to-b` an input and an output. Types of indices, axes and biases take turns.
- **cases**: random shapes (axes of size 1 and 0, sizes off the vectors' widths, up to six axes), attributes, scales,
  zero points and values (the ends of the range, what is huge, tiny or not finite), from seeds that do not change.
- **official**: the worst difference of `evaluate`, the meaning of the operator in numpy, from the official runtime
  (ai-edge-litert {version}), as the closest of its kernel sets has it; then each set that has the operator, with how
  many cases it answered and its own worst difference. XNNPACK is named where it takes the operator, *optimized* are the
  builtin kernels, *reference* the reference kernels. Integers differ in steps of one; real numbers by a fraction of the
  element, or of the greatest element where sums are made. *none* says why no kernel answers.
- **LLVM**, **C**: the worst difference of the compiled operator from `evaluate` (machine code with this processor's
  vectors and instructions; C99 compiled without optimization), in that many cases: the first {compiled}, of
  recurrent layers {large}. The interpreter of the loops runs the first {interpreted}. Integers must be equal. *-*
  stands where an operator is evaluated only: its results have shapes that depend on data, or hold strings or resources.
- **disagree**: cases outside of what is allowed: for integers one step where they are quantized, else none; for float32
  1e-5, with transcendental functions 1e-4.

{summary}

| operator | types | cases | official | LLVM | C | disagree |
|---|---|---|---|---|---|---|
"""
TAIL = """
## Held by other tests

{without}

## Data of rows only

These operators have no generator of shapes and attributes: their cases are the rows of the operator tests with random
data. {from_rows}.
"""
TABLE = Path(__file__).parents[2] / "src" / "lithe" / "ops" / "official_table.py"
TABLE_TEXT = '''"""Generated: the types of values for which no kernel of the official runtime answers, by operator.

Source: the rows of docs/operators.md that say "none"; `make grid` writes both.
"""

ROWS = """
{rows}
"""
UNANSWERED = {{op: frozenset(types.split()) for op, types in (row.split(": ") for row in ROWS.strip().splitlines())}}
'''
VALUES = ("int8", "int8q", "int16", "int16q")  # types in which values are quantized
ROW = re.compile(r"^\| (\S+) \| (\S+) \| (.*) \|$")


def rows() -> dict[tuple[str, str], str]:
    """The rest of each row of the page as it stands, by operator and types."""
    if not PAGE.exists():
        return {}
    found = map(ROW.match, PAGE.read_text().splitlines())
    return {(m[1], m[2]): m[3] for m in found if m and m[1] in REGISTRY.by_name}


def update(found: Mapping[str, CellTally]) -> None:
    """Writes the page: the cells found anew, the others as they were."""
    kept = rows()
    table: dict[tuple[str, str], str] = {}
    for cell in cells():
        key = (cell.op, cell.types)
        if cell.op in WITHOUT:
            table[key] = " | ".join(("-", "held by other tests", "-", "-", "-"))
        elif not has_cases(cell):
            table[key] = " | ".join(("0", "no row of the operator tests has these types", "-", "-", "-"))
        elif str(cell) in found:
            table[key] = row(found[str(cell)])
        else:
            table[key] = kept.get(key, " | ".join(("0", PENDING, "-", "-", "-")))
    TABLE.write_text(unanswered(table))
    PAGE.write_text(
        HEAD.format(
            version=importlib.metadata.version("ai-edge-litert"),
            compiled=COMPILED,
            large=LARGE,
            interpreted=INTERPRETED,
            summary=summary(table),
        )
        + "".join(f"| {op} | {types} | {rest} |\n" for (op, types), rest in table.items())
        + TAIL.format(without=_without(), from_rows=_from_rows(cells()))
    )


def unanswered(table: Mapping[tuple[str, str], str]) -> str:
    """The text of the module that says in which types of values the official runtime lacks an operator."""
    lacking: dict[str, dict[str, bool]] = {}
    for (op, types), rest in table.items():
        first = re.split(r"\+|-to-", types)[0]
        here = lacking.setdefault(op, {})
        here[first] = here.get(first, True) and rest.split(" | ")[1].startswith("none")
    lines = [(op, " ".join(t for t in VALUES if found.get(t))) for op, found in lacking.items()]
    return TABLE_TEXT.format(rows="\n".join(f"{op}: {types}" for op, types in lines if types))


def row(cell: CellTally) -> str:
    columns = [str(cell.cases), official(cell)]
    columns += [f"{s.cases}: {_sum(s)}" if (s := cell.targets.get(t)) else "-" for t in ("LLVM", "C")]
    return " | ".join([*columns, str(len(cell.failed) or "-")])


def official(cell: CellTally) -> str:
    """The closest set's worst difference, and each set with its own."""
    if not cell.official:
        reason = cell.reasons.most_common(1)[0][0] if cell.reasons else "refused"
        return f"none: {_plain(reason)}"
    each = [
        f"{name} {cell.official[name].cases}: {_sum(cell.official[name])}" for name in SETS if name in cell.official
    ]
    return f"{_sum(cell.closest)} ({', '.join(each)})"


def _plain(reason: str) -> str:
    """The official runtime's words without places in its source, and short enough for a table."""
    text = re.sub(r"\S+\.(cc|h):\d+ ?", "", reason).replace("|", "/")
    text = re.sub(r"Node number \d+.*", "", text).strip()
    return text if len(text) <= 90 else f"{text[:87]}..."


def _sum(s: Sum) -> str:
    """The worst difference in words."""
    if s.steps and s.relative:
        return f"{s.steps} steps, {s.relative:.0e}"
    if s.steps:
        return f"{s.steps} step{'s' * (s.steps > 1)}"
    return f"{s.relative:.0e}" if s.relative else "equal"


def summary(table: Mapping[tuple[str, str], str]) -> str:
    parts = [rest.split(" | ") for rest in table.values()]
    counts = [int(p[0]) for p in parts if p[0].isdigit()]
    answered = sum(not p[1].startswith(("none", PENDING, "held")) for p in parts)
    wrong = [int(p[4]) for p in parts if p[4].isdigit()]
    return (
        f"{len({op for op, _ in table})} operators, {len(table)} cells, {sum(counts)} cases; the official runtime "
        f"answers in {answered} of the cells; {sum(wrong)} cases in {len(wrong)} cells disagree."
    )


def _without() -> str:
    reasons: dict[str, list[str]] = {}
    for op, reason in WITHOUT.items():
        if op in REGISTRY.by_name:
            reasons.setdefault(reason, []).append(op)
    return "\n".join(f"- {', '.join(ops)}: {reason}." for reason, ops in reasons.items())


def _from_rows(found: list[Cell]) -> str:
    return ", ".join(dict.fromkeys(c.op for c in found if c.op not in GENERATORS and c.op not in WITHOUT))
