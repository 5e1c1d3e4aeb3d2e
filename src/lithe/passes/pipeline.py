"""Pipelines are lists of passes; what a pass needs must be given by one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lithe.ir.graph import Graph


@dataclass(frozen=True)
class Pass:
    """A change of a graph in place.

    needs, gives  properties of a graph, in words. `needs` is checked when the pipeline is made.
    """

    run: Callable[[Graph], object]
    needs: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()


def pipeline(*passes: Pass) -> tuple[Pass, ...]:
    """The passes as given; a TypeError when one needs what none before it gives."""
    have: set[str] = set()
    for p in passes:
        missing = [need for need in p.needs if need not in have]
        if missing:
            raise TypeError(f"pass {p.run.__name__} needs {missing[0]!r}, which no pass before it gives")
        have.update(p.gives)
    return tuple(passes)


def run(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """Applies the passes to the graph itself, in order."""
    for p in passes:
        p.run(graph)
    return graph
