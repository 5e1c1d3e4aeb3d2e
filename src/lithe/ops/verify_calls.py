"""The rules between graphs: calls name graphs that exist and fit them, and never come back to their caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from lithe.errors import LimitError, ModelError
from lithe.ir.graph import Graph, Module, Node


def called_graphs(node: Node) -> list[tuple[str, int]]:
    """(option, graph index) of every graph that an operator's options refer to."""
    attrs = node.attrs if isinstance(node.attrs, dict) else dict(_fields(node.attrs))
    calls: list[tuple[str, int]] = []
    for name, value in attrs.items():
        if name == "branch_subgraph_indices" and value is not None:
            calls += [(name, int(v)) for v in value]
        elif (name == "subgraph" or name.endswith("_subgraph_index")) and isinstance(value, int):
            calls.append((name, value))
    return calls


def _fields(attrs: Any) -> Iterator[tuple[str, Any]]:
    for f in dataclasses.fields(attrs):
        yield f.name, getattr(attrs, f.name)


def verify(module: Module, most: int) -> None:
    """Raises ModelError for a call that cannot be, LimitError for calls nested deeper than `most`.

    What is wrong in a graph beside the main one is that graph's refusal.
    """
    callees: list[dict[int, str]] = []  # called graph: the place of the call
    for i, g in enumerate(module.graphs):
        found: dict[int, str] = {}
        try:
            for n in g.nodes if g.refusal is None else ():
                for option, target in called_graphs(n) if n.op.code is not None else ():
                    where = f"{'' if i == 0 else f'graph #{i} '}{n!r}, {option}"
                    if not 0 <= target < len(module.graphs):
                        count = len(module.graphs)
                        raise ModelError(f"graph {target} does not exist, the model has {count}", where=where)
                    if module.graphs[target].refusal is None:
                        _verify_call(n, option, module.graphs[target], where)
                    found.setdefault(target, where)
        except ModelError as cause:
            if i == 0:
                raise
            g.refusal = cause
        callees.append(found)
    depth: dict[int, int] = {}
    for start in range(len(callees)):
        _call_depth(start, callees, depth, (), most)


def _call_depth(i: int, callees: list[dict[int, str]], depth: dict[int, int], path: tuple[int, ...], limit: int) -> int:
    where = callees[path[-1]][i] if path else f"graph #{i}"
    if i in path:
        raise ModelError(f"graphs call one another in a circle: {' -> '.join(map(str, (*path, i)))}", where=where)
    if len(path) >= limit:
        raise LimitError(f"calls are nested deeper than {limit}", where=where)
    if i not in depth:
        depth[i] = 1 + max((_call_depth(c, callees, depth, (*path, i), limit) for c in sorted(callees[i])), default=0)
    if depth[i] + len(path) > limit:
        raise LimitError(f"calls are nested deeper than {limit}", where=where)
    return depth[i]


def _verify_call(n: Node, option: str, callee: Graph, where: str) -> None:
    """The numbers of inputs and outputs of a called graph."""
    call = n.op.calls.get(option)
    if call is None:
        return
    expected = (len(n.inputs) - call.first, len(n.outputs) if call.results else 1)
    got = (len(callee.inputs), len(callee.outputs))
    if got != expected:
        raise ModelError(f"the graph must have {expected[0]} inputs and {expected[1]} outputs, has {got}", where=where)


def give_types(n: Node, option: str, callee: Graph, verify_callee: Callable[[], None]) -> None:
    """A graph that is called takes element types as it is given them, and what it makes of them are the results'."""
    call = n.op.calls.get(option)
    if call is None or callee.refusal is not None:
        return
    for theirs, ours in zip(callee.inputs, n.inputs[call.first :], strict=True):
        if ours is not None and not theirs.is_constant and theirs.type.dtype != ours.type.dtype:
            theirs.type = dataclasses.replace(theirs.type, dtype=ours.type.dtype)
    verify_callee()
    for made, ours in zip(callee.outputs, n.outputs, strict=True) if call.results and callee.refusal is None else ():
        if ours.type.dtype != made.type.dtype:
            ours.type = dataclasses.replace(ours.type, dtype=made.type.dtype)
