"""lithe inspect: what a model is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lithe.cli.output import bytes_text, print_json, table, working

LONGEST = 40  # of a layer's name: the end says most


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--sparsity", is_flag=True, help="Say for each layer what it would gain by zeros, and from how many on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, sparsity: bool, as_json: bool) -> None:
    """List MODEL's operators, shapes, weights, working memory, signatures and metadata.

    With --sparsity: the layers, how many of their weights are zero, from which share of zeros on the file gets
    smaller and the layer quicker on this machine, and what 90 % of zeros would give. `lithe prune` makes zeros.
    """
    with working(f"reading {model.name}"):
        facts, operators = describe(model, sparsity=sparsity)
    if as_json:
        print_json("inspect", facts)
        return
    if sparsity:
        click.echo(table(list(_gains(facts["sparsity"])), right=range(2, 8)))
        return
    click.echo(f"{model}, {bytes_text(facts['file_bytes'])}")
    if facts["description"]:
        click.echo(facts["description"])
    click.echo()
    click.echo(operators)
    for key, signature in facts["signatures"].items():
        click.echo(f"signature       {key}({', '.join(signature['inputs'])}) -> {', '.join(signature['outputs'])}")
    about = facts["metadata"]
    if about:
        title = " ".join(about[k] for k in ("name", "version") if about[k])
        click.echo(f"metadata        {title or 'no name'}" + (f", {about['license']}" if about["license"] else ""))
    for file in facts["associated_files"]:
        click.echo(f"file            {file['name']}, {bytes_text(file['bytes'])}")


def _gains(layers: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Rows of a table: what each layer would gain by zeros."""
    yield ("layer", "operator", "bytes", "zeros", "smaller from", "quicker from", "bytes at 90%", "time at 90%",
           "structure")  # fmt: skip
    for r in layers:
        shares = (f"{v:.0%}" if v is not None else "never" for v in (r["smaller_from"], r["quicker_from"]))
        yield (r["layer"][-LONGEST:], r["operator"], bytes_text(r["bytes"]), f"{r['zeros']:.0%}", *shares,
               bytes_text(r["bytes_at_90"]), f"{r['time_at_90']:.0%}", r["structure"] or "-")  # fmt: skip


def describe(path: Path, *, sparsity: bool = False) -> tuple[dict[str, Any], str]:
    """(facts, table of operators for people)."""
    import lithe
    from lithe.formats import metadata

    model = lithe.load(path)
    module = model.module
    summary = model.summary()
    about = metadata.info(module)
    files = module.extras.get("associated_files", {})
    return {
        "model": str(path),
        "file_bytes": path.stat().st_size,
        "description": module.description,
        "graphs": len(module.graphs),
        "operator_counts": summary.counts(),
        **summary.to_dict(),
        "signatures": {
            key: {side: {n: str(t) for n, t in getattr(f, side).items()} for side in ("inputs", "outputs")}
            for key, f in model.signatures.items()
        },
        "metadata": asdict(about) if about else None,
        "associated_files": [{"name": name, "bytes": len(files[name])} for name in files],
        **({"sparsity": [a.to_dict() for a in model.sparsity()]} if sparsity else {}),
    }, str(summary)  # fmt: skip
