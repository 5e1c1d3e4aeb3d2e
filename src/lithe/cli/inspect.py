"""lithe inspect: what a model is made of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lithe.cli.output import bytes_text, print_json, working


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: Path, as_json: bool) -> None:
    """List MODEL's operators, shapes, weights, working memory, signatures and metadata."""
    with working(f"reading {model.name}"):
        facts, table = describe(model)
    if as_json:
        print_json("inspect", facts)
        return
    click.echo(f"{model}, {bytes_text(facts['file_bytes'])}")
    if facts["description"]:
        click.echo(facts["description"])
    click.echo()
    click.echo(table)
    for key, signature in facts["signatures"].items():
        click.echo(f"signature       {key}({', '.join(signature['inputs'])}) -> {', '.join(signature['outputs'])}")
    about = facts["metadata"]
    if about:
        title = " ".join(about[k] for k in ("name", "version") if about[k])
        click.echo(f"metadata        {title or 'no name'}" + (f", {about['license']}" if about["license"] else ""))
    for file in facts["associated_files"]:
        click.echo(f"file            {file['name']}, {bytes_text(file['bytes'])}")


def describe(path: Path) -> tuple[dict[str, Any], str]:
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
    }, str(summary)  # fmt: skip
