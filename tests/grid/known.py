"""Where the official runtime is no oracle: what its kernels misread, do wrong, or leave undefined. Data.

Such cases are still run in every target of ours; their results are not compared with those kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lithe.types import INT64, STRING
from tests.ops.cases import Case


@dataclass(frozen=True)
class Row:
    """ops  names, empty for all. when  which of their cases. sets  the kernel sets, empty for all."""

    ops: frozenset[str]
    when: Callable[[Case], bool]
    reason: str
    sets: frozenset[str] = frozenset()


def known(ops: str, when: Callable[[Case], bool], reason: str, sets: str = "") -> Row:
    return Row(frozenset(ops.split()), when, reason, frozenset(sets.split()))


def first_is(*names: str) -> Callable[[Case], bool]:
    return lambda case: next((t.dtype.name for t in case.inputs if t is not None), "") in names


def takes(name: str) -> Callable[[Case], bool]:
    return lambda case: any(t is not None and t.dtype.name == name for t in case.inputs)


def packed(case: Case) -> bool:
    """Whether an output, or an input that is no constant, has several elements in a byte."""
    given = [t for i, t in enumerate(case.inputs) if t is not None and i not in case.constants]
    return any(t.dtype.stored_bits < 8 for t in (*given, *case.outputs))


def broadcast(case: Case) -> bool:
    return len({t.shape for t in case.inputs if t is not None}) > 1


KNOWN = (
    known("", packed, "its Python package neither packs nor unpacks tensors of several elements a byte"),
    known("TRANSPOSE BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND", lambda case: any(
        t is not None and t.dtype == INT64 for t in case.inputs[1:]), "it reads int64 indices as int32"),
    known("EQUAL NOT_EQUAL", lambda case: takes("string")(case) and broadcast(case), "it broadcasts strings wrongly"),
    known("NOT_EQUAL", takes("int16"), "it compares int16 as something else"),
    known("EXPAND_DIMS FILL RESHAPE", lambda case: (case.outputs[0].dtype == STRING and case.outputs[0].rank == 0)
          or (case.op != "RESHAPE" and case.outputs[0].dtype == STRING), "it gives addresses in the place of strings"),
    known("MATRIX_DIAG MATRIX_SET_DIAG", first_is("uint64"), "it copies half of each uint64"),
    known("EXP LOG", first_is("float16"), "its only kernel for halves computes in halves", "XNNPACK"),
)  # fmt: skip


def exception(case: Case, kernels: str = "") -> str:
    """Why the case is not compared with all kernels, or with this set; empty when it is."""
    for row in KNOWN:
        if (
            (not row.ops or case.op in row.ops)
            and (kernels in row.sets if kernels else not row.sets)
            and row.when(case)
        ):
            return row.reason
    return ""
