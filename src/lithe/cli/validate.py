"""lithe validate: is this file a sound model, and can every operator in it run?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lithe.cli.output import print_json


@click.command("validate")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(context: click.Context, model: Path, as_json: bool) -> None:
    """Check a model file against every rule of the format; exit code 4 and the reasons if it breaks one."""
    facts = check(model)
    if as_json:
        print_json("validate", facts)
    elif facts["valid"]:
        click.echo(f"{model}: ok, {facts['operators']} operators in {facts['graphs']} graph(s), all of them can run")
    else:
        for reason in facts["reasons"]:
            click.echo(f"{model}: {reason['problem']}" + (f"\n  at: {reason['where']}" if reason["where"] else ""))
    context.exit(0 if facts["valid"] else 4)


def check(path: Path) -> dict[str, Any]:
    """{"valid", "reasons": [{"kind", "problem", "where"}], "operators", "graphs"}."""
    from lithe.errors import LitheError
    from lithe.formats import tflite
    from lithe.ops.verify import verify
    from lithe.passes.deflex import deflex_module, refuse_without_tensorflow, remaining

    facts: dict[str, Any] = {"model": str(path), "valid": False, "reasons": [], "operators": 0, "graphs": 0}

    def reason(kind: str, problem: str, where: str) -> None:
        facts["reasons"].append({"kind": kind, "problem": problem, "where": where})

    from lithe.cli.files import read_bytes

    try:
        module = tflite.read(read_bytes(path))
        facts["graphs"] = len(module.graphs)
        facts["operators"] = sum(len(graph.nodes) for graph in module.graphs)
        for graph in module.graphs:
            for node in graph.nodes:
                if not node.op.known:
                    reason("unsupported", f"no rule for operator {node.op.name}", f"{graph.name}: {node}")
        verify(module)
        for graph in module.graphs:
            if graph.refusal is not None:
                reason(type(graph.refusal).__name__, graph.refusal.problem, graph.refusal.where)
        plain = deflex_module(module) if remaining(module) else module
        for graph in (g for g in plain.graphs if g.refusal is None):
            refuse_without_tensorflow(graph)
            for refusal in dict.fromkeys(node.refusal for node in graph.nodes if node.refusal is not None):
                reason("unsupported", refusal.problem, refusal.where)
    except LitheError as error:
        reason(type(error).__name__, error.problem, error.where)
    facts["valid"] = not facts["reasons"]
    return facts
