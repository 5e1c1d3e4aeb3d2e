"""A measurement of models as one object, which result files and `--json` hold; and as text for a person.

{"schema": "lithe.bench/1", "date", "commit", "machine", "versions", "models": [...]}
model = {"model", "bytes", "turns": [...], "fresh": {...}, "layers": {...}}
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lithe.bench.fresh import measure_fresh
from lithe.bench.kind import kind_of
from lithe.bench.layers import measure_layers
from lithe.bench.machine import commit, machine, versions
from lithe.bench.peers import Peer
from lithe.bench.turns import measure_turns
from lithe.errors import FileMissing, InputError, UnsupportedOp

SCHEMA = "lithe.bench/1"


@dataclass(frozen=True)
class Plan:
    """What is measured of each model. threads: turns with each of these numbers; fresh rounds 0: no start-up, no
    memory; layers: every step against the floor."""

    peers: tuple[Peer, ...] = ()
    threads: tuple[int, ...] = (1,)
    seconds: float = 4.0
    fresh_rounds: int = 0
    layers: bool = False


def heading(peers: Sequence[Peer]) -> dict[str, Any]:
    """What a result is about: everything but the models."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "schema": SCHEMA, "date": now, "commit": commit(), "machine": machine(), "versions": versions(peers),
        "models": [],
    }  # fmt: skip


def measure_model(path: str | os.PathLike[str], plan: Plan) -> dict[str, Any]:
    """One model's entry. Raises what loading the model raises, InputError for a plan that makes no sense."""
    model = Path(path)
    if not model.is_file():
        raise FileMissing(f"there is no file {model}")
    if not plan.threads or min(plan.threads) < 1:
        raise InputError(f"threads={list(plan.threads)}, expected numbers from 1")
    entry: dict[str, Any] = {"model": model.name, "bytes": model.stat().st_size, "kind": kind_of(model)}
    if hasattr(os, "getloadavg"):  # where more runs than there are cores, ratios on several threads mean little
        entry["load"] = os.getloadavg()[0]
    entry["turns"] = [measure_turns(model, plan.peers, n, plan.seconds).to_dict() for n in plan.threads]
    if plan.fresh_rounds:
        fresh = measure_fresh(model, plan.peers, plan.threads[0], plan.fresh_rounds)
        entry["fresh"] = {name: facts.to_dict() for name, facts in fresh.items()}
    if plan.layers:
        try:
            entry["layers"] = measure_layers(model).to_dict()
        except UnsupportedOp as error:
            entry["layers"] = {"note": f"not compiled as a whole: {error.problem}"}
    return entry


def file_name(result: dict[str, Any]) -> str:
    """<date>-<commit>-<cpu>.json"""
    cpu = re.sub(r"[^a-z0-9]+", "-", result["machine"]["name"].lower()).strip("-")
    return f"{result['date'][:10]}-{result['commit'].removesuffix('+changes') or 'unknown'}-{cpu}.json"


def text(entry: dict[str, Any]) -> str:
    """An entry for a person."""
    lines = [entry["model"]]
    for turns in entry["turns"]:
        spread = f"{turns['lithe_10_ms']:.3f} .. {turns['lithe_90_ms']:.3f}"
        lines.append(
            f"  {turns['threads']} thread(s), {turns['turns']} turns: lithe {turns['lithe_ms']:.3f} ms ({spread})"
        )
        lines += [f"    {comparison_text(c)}" for c in turns["comparisons"]]
    for name, facts in entry.get("fresh", {}).items():
        above = facts["above_file_bytes"]
        memory = "" if above is None else f", {above / 1e6:.1f} MB above the file"
        times = f"first inference {facts['first_ms']:.1f} ms, process {facts['process_ms']:.0f} ms"
        lines.append(f"  {name + ':':20} {times}{memory}")
    return "\n".join(lines)


def comparison_text(c: dict[str, Any]) -> str:
    if c["ratio"] is None:
        return f"{c['peer']}: {c['note']}"
    spread = f"{c['ratio_10']:.3f} .. {c['ratio_90']:.3f}"
    outputs = "outputs agree" if c["agrees"] else f"outputs DIFFER by {c['difference']:.3g}"
    return f"{c['peer']} {c['ms']:.3f} ms, ratio {c['ratio']:.3f} ({spread}; below 1 lithe is faster), {outputs}"


def layer_rows(layers: dict[str, Any], top: int | None = None) -> list[list[str]]:
    """Rows of a table, the longest steps first."""
    rows = [["step", "output", "us", "MMAC", "GMAC/s", "kB", "floor us", "limit", "reached"]]
    whole = sum(step["us"] for step in layers["layers"]) or 1.0
    for step in sorted(layers["layers"], key=lambda s: -s["us"])[:top]:
        figures = (step["macs"] / 1e6, step["gmacs"], step["bytes"] / 1e3, step["floor_us"])
        reached = f"{step['fraction']:.0%}" if step["limit"] else ""
        row = [step["source"], step["output"], f"{step['us']:.1f}", *(f"{x:.1f}" for x in figures)]
        rows.append([*row, step["limit"], reached])
    floor, macs = (sum(step[key] for step in layers["layers"]) for key in ("floor_us", "macs"))
    total = [f"{whole:.1f}", f"{macs / 1e6:.1f}", f"{macs / whole / 1e3:.1f}", "", f"{floor:.1f}"]
    rows.append(["all", "", *total, "", f"{floor / whole:.0%}"])
    return rows
